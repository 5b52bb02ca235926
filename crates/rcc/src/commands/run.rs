//! `rcc run [--] CMD…`: a command in the sandbox; and the one place where a prepared session is started.

use std::ffi::OsString;

use crate::cli::RunFlags;
use crate::error::CliError;
use crate::output;
use crate::session::{Session, What, prepare};

pub(crate) fn run(flags: RunFlags, command: Vec<OsString>) -> Result<u8, CliError> {
    start(prepare(&flags, None, What::Command(command))?)
}

/// Starts a session and waits for its end; the result is the exit code of rcc.
pub(super) fn start(mut session: Session) -> Result<u8, CliError> {
    for warning in &session.plan.warnings {
        output::warn(&rcc_plan::escape(warning));
    }
    let record = session.record.take();
    match crate::run::execute(&session, record.as_ref()) {
        Ok(code) => {
            if let Some(record) = record
                && let Err(error) = record.finish(code)
            {
                // The command has ended; its code is what the caller waits for.
                output::warn(&error.to_string());
            }
            Ok(code)
        }
        Err(error) => {
            if let Some(record) = record {
                record.discard();
            }
            Err(error)
        }
    }
}
