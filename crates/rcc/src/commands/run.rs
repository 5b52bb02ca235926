//! `rcc run [--] CMD…`: a command in the sandbox; and the one place where a prepared session is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use rcc_native::{Early, Expected};
use rcc_plan::{GroupPlace, Manager, Plan};
use rcc_spec::FilesMode;

use crate::cli::RunFlags;
use crate::cow::direct;
use crate::detach::{Begun, Side, begin};
use crate::error::{CliError, with_causes};
use crate::handed::Handed;
use crate::output;
use crate::record::Record;
use crate::session::{Session, What, prepare};

pub(crate) fn run(
    flags: RunFlags,
    command: Vec<OsString>,
    foreseen: Option<Early>,
) -> Result<u8, CliError> {
    match begin(&flags, foreseen)? {
        Side::Front(code) => Ok(code),
        Side::Supervisor(begun) => start(begun, prepare(&flags, None, What::Command(command))?),
    }
}

/// Starts the processes that need no plan when the words after the program's name look like `rcc run`: parsing them takes as
/// long as a fork. Nothing depends on the guess. A wrong one starts processes that are ended at once.
pub(crate) fn foresee(words: impl Iterator<Item = OsString>) -> Option<Early> {
    guess(words).map(Early::start)
}

fn guess(words: impl Iterator<Item = OsString>) -> Option<Expected> {
    let mut named = false;
    let mut expected = Expected::Network;
    // A word after an option may be its value.
    let mut after_option = false;
    for word in words {
        let bytes = word.as_bytes();
        let is_option = bytes.starts_with(b"-");
        if word == "--" {
            break;
        }
        // These processes would be children of the wrong one.
        if word == "--detach" || (is_option && !bytes.starts_with(b"--") && bytes.contains(&b'd')) {
            return None;
        }
        if word == "-n" || word == "--no-internet" {
            expected = Expected::NoNetwork;
        }
        named |= word == OsStr::new("run");
        // Another command, or the one that is to be run.
        if !is_option && !after_option && word != "run" {
            break;
        }
        after_option = is_option;
    }
    named.then_some(expected)
}

/// Starts the processes that need no plan. What the flags refuse no policy can allow.
pub(crate) fn early(flags: &RunFlags) -> Early {
    Early::start(if flags.no_internet {
        Expected::NoNetwork
    } else {
        Expected::Network
    })
}

/// Whether the user's own systemd, which ends with the last session, makes the group of the run.
fn is_users_scope(plan: &Plan) -> bool {
    let group = plan.limits.group.as_ref();
    group.is_some_and(|group| {
        let manager = Manager::User;
        group.place == GroupPlace::Scope { manager }
    })
}

/// Starts a session in the processes that were started before it was known, and waits for its end; the result is the exit code of rcc.
pub(super) fn start(begun: Begun, mut session: Session) -> Result<u8, CliError> {
    for warning in &session.plan.warnings {
        output::warn(&rcc_plan::escape(warning));
    }
    let lingers = || rcc_host::lingers(&session.facts.user.name);
    if begun.detached.is_some() && is_users_scope(&session.plan) && !lingers() {
        output::warn(
            "your systemd ends this run when you log out, and with it the detached agent; to keep both: loginctl enable-linger",
        );
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
        crate::leftovers::tell(&mut session);
    }
    session.before.state.tell();
    let Some(record) = record else { return result };
    if record.is_gone() {
        output::warn(&format!(
            "the record of this run was removed while it lasted, with all that it kept: {}",
            rcc_plan::escape(record.path())
        ));
        return result;
    }
    crate::cow::end(&record);
    direct::end(&record);
    let recorded = match &result {
        Ok(code) if session.sources.flags.rm => record.finish_for_good(*code),
        Err(error) if session.sources.flags.rm => record.finish_for_good(error.exit().into()),
        Ok(code) => record.finish(*code),
        Err(error) => record.fail(error.exit().into()),
    };
    if let Err(error) = recorded {
        // The command has ended; how it ended is what the caller waits for.
        output::warn(&format!(
            "how this run ended is not recorded: {}",
            with_causes(&error)
        ));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_foreseen_and_other_commands_are_not() {
        let network = Some(Expected::Network);
        for (line, expected) in [
            ("run -- true", network),
            ("run true -n", network),
            (
                "--network allowlist --allow example.com run -- true",
                network,
            ),
            ("--stats run true", network),
            ("-n run -- true", Some(Expected::NoNetwork)),
            ("run --no-internet true", Some(Expected::NoNetwork)),
            ("", None),
            ("-- run", None),
            ("plan run", None),
            ("exec x run", None),
            ("--home x shell run", None),
            ("run --detach true", None),
            ("-nd run true", None),
            ("-d run true", None),
        ] {
            let words = line.split_ascii_whitespace().map(OsString::from);
            assert_eq!(guess(words), expected, "{line}");
        }
    }
}
