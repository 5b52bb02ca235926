//! `rcc attach` and `rcc wait`: be there while a run lasts, or until it has ended.

use std::io::IsTerminal as _;
use std::time::Duration;

use rcc_native::{Left, attach, window_size};

use crate::cli::{AttachArgs, WaitArgs};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::record::keep_for_waiting;
use crate::runs::{Found, named, named_live};
use crate::{desk, output};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// Shows a detached run here and passes keys on.
pub(crate) fn run(args: &AttachArgs) -> Result<u8, CliError> {
    let keys = keys(&args.detach_keys)?;
    let context = Context::load()?;
    let run = named_live(&context, &args.run)?;
    let id = &run.description.id;
    let _kept = keep_for_waiting(&run.record);
    let (socket, has_terminal) = desk::reach(&run)?
        .attach(window_size())
        .map_err(|error| desk::failed(&run, error))?;
    let uses_terminal = has_terminal && std::io::stdin().is_terminal() && !args.no_stdin;
    match attach(&socket, uses_terminal, &keys)? {
        // The agent's own code, while rcc may have ended it: for a limit, or because its network was lost. The record tells.
        Left::Ended(code) => Ok(desk::wait_for_record(&run, desk::END_LIMIT)
            .and_then(|()| code_of(&named(&context, id)?))
            .unwrap_or_else(|_| u8::try_from(code).unwrap_or(u8::MAX))),
        Left::Detached => {
            output::note(&format!("detached; rcc attach {id} shows the run again"));
            Ok(Exit::Success.into())
        }
        Left::LetGo => {
            let text = format!("the supervisor of the run {id} let go of this terminal");
            Err(CliError::new(Kind::User, text).hint(
                "it ended, or what the agent wrote was not taken for five seconds; rcc logs has it",
            ))
        }
    }
}

/// Waits until runs have ended and prints their exit codes.
pub(crate) fn wait(args: &WaitArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let runs: Vec<_> = args
        .runs
        .iter()
        .map(|word| named(&context, word))
        .collect::<Result<_, _>>()?;
    // With --rm a record goes when nobody keeps it any more: each code is read as soon as it is there.
    let mut kept: Vec<_> = runs
        .iter()
        .map(|run| keep_for_waiting(&run.record))
        .collect();
    let mut codes = vec![None; runs.len()];
    while codes.contains(&None) {
        for ((run, kept), code) in runs.iter().zip(&mut kept).zip(&mut codes) {
            if code.is_none() && !run.still_lives() {
                *code = Some(code_of(&named(&context, &run.description.id)?)?);
                *kept = None;
            }
        }
        if codes.contains(&None) {
            std::thread::sleep(EVERY);
        }
    }
    let text: String = codes
        .iter()
        .flatten()
        .map(|code| format!("{code}\n"))
        .collect();
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

/// The exit code of a run that has ended.
fn code_of(ended: &Found) -> Result<u8, CliError> {
    ended.description.exit_code.ok_or_else(|| {
        let text = format!("how the run {} ended is not known", ended.description.id);
        CliError::new(Kind::User, text).hint(
            "its supervisor was killed, or it could not write the record: a full disk, a read-only one",
        )
    })
}

/// Reads `ctrl-p,ctrl-q`: keys with commas between; nothing means no keys.
fn keys(text: &str) -> Result<Vec<u8>, CliError> {
    let key = |word: &str| {
        let one = |text: &str| match text.as_bytes() {
            [byte] => Some(*byte),
            _ => None,
        };
        match word.strip_prefix("ctrl-") {
            Some(rest) => match one(rest)? {
                letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_') => {
                    Some(letter & 0x1f)
                }
                _ => None,
            },
            None => one(word).filter(u8::is_ascii_graphic),
        }
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(key)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| {
            let text = format!("{} are no keys", rcc_plan::escape(text));
            CliError::new(Kind::User, text).hint("as in ctrl-p,ctrl-q or ctrl-a,d")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_and_control_characters() {
        assert_eq!(keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(keys("ctrl-a,d").unwrap(), [1, b'd']);
        assert!(keys("").unwrap().is_empty());
        for bad in ["ctrl-", "ctrl-pp", "ab", ",", "ctrl-1", "\u{e4}"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }
}
