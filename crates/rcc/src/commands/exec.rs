//! `rcc exec RUN CMD…`: one more process in a sandbox that runs, confined as its agent.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rcc_native::{NativeError, Outcome};
use rcc_plan::{Plan, SafeBytes, Streams};

use crate::cli::ExecArgs;
use crate::context::Context;
use crate::desk;
use crate::error::{CliError, Kind};
use crate::run::not_executed;
use crate::runs::named_live;

pub(crate) fn run(args: ExecArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let run = named_live(&context, &args.run)?;
    let (sandbox, mut plan, group) = desk::reach(&run)?
        .join()
        .map_err(|error| desk::failed(&run, error))?;
    plan.argv = args.command.into_iter().map(SafeBytes::from).collect();
    plan.streams = Streams {
        stdin_terminal: std::io::stdin().is_terminal(),
        stdout_terminal: std::io::stdout().is_terminal(),
        stderr_terminal: std::io::stderr().is_terminal(),
    };
    if let Some(directory) = &args.workdir {
        plan.cwd = workdir(directory)?;
    }
    if plan.streams.wants_terminal() {
        set(
            &mut plan,
            OsStr::new("TERM"),
            context.environment.get(OsStr::new("TERM")),
        );
    }
    for setting in &args.env {
        let text = setting.as_bytes();
        match text.iter().position(|byte| *byte == b'=') {
            Some(0) => {
                let text = format!("--env {} names no variable", rcc_plan::escape(setting));
                return Err(CliError::new(Kind::User, text));
            }
            Some(end) => {
                let (name, value) = text.split_at(end);
                let value = OsStr::from_bytes(value.get(1..).unwrap_or_default()).to_owned();
                set(&mut plan, OsStr::from_bytes(name), Some(&value));
            }
            None => set(&mut plan, setting, context.environment.get(setting)),
        }
    }
    let running =
        rcc_native::exec(&sandbox, &plan, group.as_ref()).map_err(|error| match &error {
            NativeError::Supervisor { .. } if !run.still_lives() => {
                CliError::new(Kind::User, error).hint("the run has ended meanwhile")
            }
            _ => error.into(),
        })?;
    match running.relay(None, None, || Ok(()))? {
        Outcome::Exited(code) | Outcome::HungUp(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Outcome::NotExecuted { errno, code } => Err(not_executed(&plan, errno, code)),
        Outcome::GatewayLost => Err(CliError::new(Kind::Internal, "there is no gateway here")),
    }
}

/// Sets a variable, or takes it out.
fn set(plan: &mut Plan, name: &OsStr, value: Option<&OsString>) {
    plan.environment
        .retain(|(known, _)| known.as_os_str() != name);
    if let Some(value) = value {
        plan.environment.push((name.into(), value.clone().into()));
    }
}

fn workdir(directory: &Path) -> Result<SafeBytes, CliError> {
    if directory.is_absolute() {
        return Ok(directory.into());
    }
    let text = format!("{} is not an absolute path", rcc_plan::escape(directory));
    Err(CliError::new(Kind::User, text).hint("--workdir names a directory as it is called inside"))
}
