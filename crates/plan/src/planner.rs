//! From policy, facts and request to the plan.

use rcc_spec::{AgentPreset, NetworkMode, Policy};

use crate::facts::HostFacts;
use crate::plan::{MINIMUM_KERNEL, Network, Plan, PlanError};
use crate::request::Request;
use crate::{SafeBytes, environment, files};

/// Hostname inside every sandbox.
const HOSTNAME: &str = "rcc";

/// Makes the plan of a run. Pure: equal inputs give equal plans.
///
/// # Errors
/// See [`PlanError`]; nothing is ever weakened to avoid an error.
pub fn plan(policy: &Policy, preset: Option<&AgentPreset>, facts: &HostFacts, request: &Request) -> Result<Plan, PlanError> {
    if facts.kernel < MINIMUM_KERNEL {
        return Err(PlanError::KernelTooOld { major: facts.kernel.0, minor: facts.kernel.1 });
    }
    if request.argv.is_empty() {
        return Err(PlanError::NoCommand);
    }
    let environment = environment::environment(policy, preset, facts);
    refuse_nul_bytes(request, &environment)?;
    let files = files::files(policy, preset, facts)?;
    Ok(Plan {
        run_id: request.run_id.clone(),
        argv: request.argv.iter().cloned().map(SafeBytes::from).collect(),
        environment,
        cwd: facts.cwd.clone().into(),
        hostname: HOSTNAME.to_owned(),
        uid: facts.user.uid,
        gid: facts.user.gid,
        streams: request.streams,
        mounts: files.mounts,
        hardening: hardening(policy, facts, files.landlock)?,
        network: match policy.network.mode {
            NetworkMode::None => Network::None,
            NetworkMode::Internet | NetworkMode::Allowlist => Network::Gateway { ipv6: facts.ipv6 },
        },
        warnings: warnings(policy),
    })
}

fn refuse_nul_bytes(request: &Request, environment: &[(SafeBytes, SafeBytes)]) -> Result<(), PlanError> {
    let has_nul = |text: &std::ffi::OsStr| text.as_encoded_bytes().contains(&0);
    if request.argv.iter().any(|argument| has_nul(argument)) {
        return Err(PlanError::NulByte { what: "an argument of the command" });
    }
    if environment.iter().any(|(name, value)| has_nul(name.as_os_str()) || has_nul(value.as_os_str())) {
        return Err(PlanError::NulByte { what: "a variable of the environment" });
    }
    Ok(())
}
