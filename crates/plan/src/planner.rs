//! From policy, facts and request to the plan.

use rcc_spec::{AgentPreset, NetworkMode, PathBase, PathSpec, Policy, SeccompChoice};

use crate::facts::HostFacts;
use crate::oci::allowed_names;
use crate::plan::{Hardening, MINIMUM_KERNEL, Network, Plan, PlanError, SeccompProfile};
use crate::request::Request;
use crate::{SafeBytes, environment, files, limits};

/// Hostname inside every sandbox.
pub(crate) const HOSTNAME: &str = "rcc";

/// Makes the plan of a run. Pure: equal inputs give equal plans. What an agent preset brings must have been merged into
/// the policy ([`Policy::apply_preset`]).
///
/// # Errors
/// See [`PlanError`]; nothing is ever weakened to avoid an error.
pub fn plan(
    policy: &Policy,
    preset: Option<&AgentPreset>,
    facts: &HostFacts,
    request: &Request,
) -> Result<Plan, PlanError> {
    if facts.kernel < MINIMUM_KERNEL {
        return Err(PlanError::KernelTooOld {
            major: facts.kernel.0,
            minor: facts.kernel.1,
        });
    }
    if request.argv.is_empty() {
        return Err(PlanError::NoCommand);
    }
    let files = files::files(policy, preset, facts)?;
    let environment = environment::environment(policy, facts, &request.run_id, &files.visible);
    refuse_nul_bytes(request, &environment)?;
    let (limits, unenforced) = limits::limits(&policy.limits, &facts.groups)?;
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
        hardening: Hardening {
            landlock: files.landlock,
            ..hardening(policy, facts)?
        },
        network: match policy.network.mode {
            NetworkMode::None => Network::None,
            NetworkMode::Internet | NetworkMode::Allowlist => Network::Gateway { ipv6: facts.ipv6 },
        },
        publish: policy
            .publish
            .iter()
            .map(|publish| publish.value.clone())
            .collect(),
        limits,
        warnings: policy
            .dangers()
            .into_iter()
            .map(|danger| format!("{} is set by {}", danger.value, danger.origin))
            .chain(unenforced)
            .collect(),
    })
}

fn hardening(policy: &Policy, facts: &HostFacts) -> Result<Hardening, PlanError> {
    if facts.landlock_abi == 0 && !policy.hardening.dangerously_without_landlock.value {
        return Err(PlanError::LandlockMissing);
    }
    let seccomp = match &policy.hardening.seccomp.value {
        SeccompChoice::Default => SeccompProfile::Default,
        SeccompChoice::Strict => SeccompProfile::Strict,
        SeccompChoice::Profile(path) => own_profile(path, facts)?,
    };
    Ok(Hardening {
        seccomp,
        landlock_abi: facts.landlock_abi,
        landlock: Vec::new(),
    })
}

/// Reads the user's own profile. One in the project would be the agent's to change.
fn own_profile(path: &PathSpec, facts: &HostFacts) -> Result<SeccompProfile, PlanError> {
    let setting = "hardening.seccomp";
    let shown = || SafeBytes::from(path.as_str());
    if path.base() == PathBase::Project {
        return Err(PlanError::PathForbidden {
            path: shown(),
            setting,
            reason: "a profile in the project could be changed by the agent; keep it elsewhere and name it by `/` or `~/`",
        });
    }
    let text = facts
        .seccomp_profile
        .as_ref()
        .ok_or_else(|| PlanError::PathMissing {
            path: shown(),
            setting,
        })?;
    let allowed = allowed_names(text).map_err(|source| PlanError::Profile {
        path: shown(),
        source,
    })?;
    Ok(SeccompProfile::Own { allowed })
}

fn refuse_nul_bytes(
    request: &Request,
    environment: &[(SafeBytes, SafeBytes)],
) -> Result<(), PlanError> {
    let has_nul = |text: &std::ffi::OsStr| text.as_encoded_bytes().contains(&0);
    if request.argv.iter().any(|argument| has_nul(argument)) {
        return Err(PlanError::NulByte {
            what: "an argument of the command",
        });
    }
    if environment
        .iter()
        .any(|(name, value)| has_nul(name.as_os_str()) || has_nul(value.as_os_str()))
    {
        return Err(PlanError::NulByte {
            what: "a variable of the environment",
        });
    }
    Ok(())
}
