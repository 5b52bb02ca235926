//! `rcc run [--] CMD…`: a command in the sandbox; and the one place where a prepared session is started.

use std::ffi::OsString;

use rcc_native::{Early, Expected};
use rcc_spec::FilesMode;

use crate::cli::RunFlags;
use crate::cow::direct;
use crate::detach::{Begun, Side, begin};
use crate::error::CliError;
use crate::handed::Handed;
use crate::output;
use crate::record::Record;
use crate::session::{Session, What, prepare};

pub(crate) fn run(flags: RunFlags, command: Vec<OsString>) -> Result<u8, CliError> {
    match begin(&flags)? {
        Side::Front(code) => Ok(code),
        Side::Supervisor(begun) => start(begun, prepare(&flags, None, What::Command(command))?),
    }
}

/// Starts the processes that need no plan. What the flags refuse no policy can allow.
pub(crate) fn early(flags: &RunFlags) -> Early {
    Early::start(if flags.no_internet {
        Expected::NoNetwork
    } else {
        Expected::Network
    })
}

/// Starts a session in the processes that were started before it was known, and waits for its end; the result is the exit code of rcc.
pub(super) fn start(begun: Begun, mut session: Session) -> Result<u8, CliError> {
    for warning in &session.plan.warnings {
        output::warn(&rcc_plan::escape(warning));
    }
    let mut record = session.record.take();
    if let Some(taking) = &record
        && let Err(stopped) = direct::begin(&session, taking)
    {
        record.into_iter().for_each(Record::discard);
        drop(begun);
        return Err(stopped.pass_on());
    }
    // A detached run has let go of the caller's streams by then, and its agent never had them.
    let handed = begun.detached.is_none().then(Handed::note);
    let result = crate::run::execute(begun, &mut session, record.as_mut());
    if let Some(handed) = handed {
        handed.restore();
    }
    // What a copy-on-write run left is not in the project; whatever is new there was not the agent's doing.
    if session.policy.files.mode.value == FilesMode::Direct {
        crate::leftovers::tell(&session);
    }
    session.before.state.tell();
    if let Some(record) = &record {
        crate::cow::end(record);
        direct::end(record);
    }
    let Some(record) = record else { return result };
    let recorded = match &result {
        Ok(code) => record.finish(*code),
        Err(error) => record.fail(error.exit().into()),
    };
    if let Err(error) = recorded {
        // The command has ended; how it ended is what the caller waits for.
        output::warn(&rcc_plan::escape(error.to_string()));
    }
    result
}
