//! The command line inside, and what the program in it needs from the host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rcc_host::Project;
use rcc_spec::{AgentPreset, Policy};

use super::{Purpose, What};
use crate::agents::{self, Consent};
use crate::cli::RunFlags;
use crate::context::Context;
use crate::error::{CliError, Kind};

/// The command line inside.
pub(super) fn argv(
    context: &Context,
    project: &Project,
    policy: &Policy,
    preset: Option<&AgentPreset>,
    what: What,
    consent: Consent,
    needs: &mut Needs,
) -> Result<Vec<OsString>, CliError> {
    let program = |needs: &mut Needs, preset: &AgentPreset, consent| {
        let found = agents::program(context, project, preset, consent)?;
        needs.toolchains.extend(found.toolchains);
        needs.path.extend(found.path);
        Ok::<PathBuf, CliError>(found.program)
    };
    match (what, preset) {
        (What::Agent(arguments), Some(preset)) => {
            let mut argv = vec![program(needs, preset, consent)?.into_os_string()];
            argv.extend(
                policy
                    .agent
                    .args
                    .iter()
                    .map(|argument| argument.value.clone().into()),
            );
            argv.extend(arguments);
            Ok(argv)
        }
        (What::Agent(_), None) => Err(CliError::new(
            Kind::Internal,
            "an agent was planned without a preset",
        )),
        (What::Shell(arguments), preset) => {
            // The agent's own environment, so its program should be there; a shell is useful without it too.
            if let Some(preset) = preset {
                let _ = program(needs, preset, Consent::Never);
            }
            let mut argv = vec![visible_shell(&context.account.user.shell)];
            argv.extend(arguments);
            Ok(argv)
        }
        (What::Command(argv), _) => Ok(argv),
    }
}

/// The caller's shell if every sandbox has it, else the one that every system has.
fn visible_shell(shell: &Path) -> OsString {
    let visible = agents::VISIBLE.iter().any(|root| shell.starts_with(root));
    if visible {
        shell.into()
    } else {
        "/bin/sh".into()
    }
}

pub(super) fn consent(flags: &RunFlags, purpose: Purpose) -> Consent {
    match purpose {
        Purpose::Show => Consent::Never,
        Purpose::Run if flags.yes => Consent::Given,
        Purpose::Run => Consent::Ask,
    }
}

/// What the program itself adds to the facts.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) toolchains: Vec<rcc_plan::PathToolchain>,
    pub(super) path: Vec<PathBuf>,
}
