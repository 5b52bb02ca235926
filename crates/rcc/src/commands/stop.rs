//! `rcc stop` and `rcc kill`: end runs, or send their agents a signal.

use std::time::{Duration, Instant};

use rcc_native::{DeskClient, DeskError};
use rustix::process::Signal;

use crate::cli::{KillArgs, StopArgs};
use crate::context::Context;
use crate::desk;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output::{self, Style};
use crate::runs::{Found, State, named_live};

/// Longest time that a supervisor takes to end a run whose agent was killed.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long the supervisor may stay silent before it is killed itself.
const SILENCE: Duration = Duration::from_secs(5);

/// Ends runs: first asks the agents to end, then kills those that do not.
pub(crate) fn stop(args: &StopArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let mut asked = Vec::new();
    let mut outcome = Outcome::default();
    for word in &args.runs {
        let sent = named_live(&context, word).and_then(|run| {
            let client = desk::reach(&run)?;
            wake(&run, &client);
            tell(&run, &client, Signal::TERM).map(|()| (run, client))
        });
        match sent {
            Ok(sent) => asked.push(sent),
            Err(error) => outcome.note(error),
        }
    }
    let latest = Instant::now() + Duration::from_secs(args.time.into());
    for (run, client) in asked {
        let left = latest.saturating_duration_since(Instant::now());
        let ended = match client.wait_for_end(left) {
            true => Ok(()),
            false => end(&run, &client),
        };
        let ended = match ended {
            Ok(()) => desk::wait_for_record(&run, desk::END_LIMIT),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            outcome.note(error);
        }
    }
    outcome.result()
}

/// Sends a signal to agents; `KILL` ends the runs.
pub(crate) fn kill(args: &KillArgs) -> Result<u8, CliError> {
    let signal = signal(&args.signal)?;
    let context = Context::load()?;
    let mut outcome = Outcome::default();
    for word in &args.runs {
        let done = named_live(&context, word).and_then(|run| {
            let client = desk::reach(&run)?;
            wake(&run, &client);
            if signal == Signal::KILL {
                end(&run, &client)?;
                desk::wait_for_record(&run, desk::END_LIMIT)
            } else {
                tell(&run, &client, signal)
            }
        });
        if let Err(error) = done {
            outcome.note(error);
        }
    }
    outcome.result()
}

/// What became of several runs: every failure is told, and one of them is the result.
#[derive(Default)]
pub(super) struct Outcome(Option<CliError>);

impl Outcome {
    pub(super) fn note(&mut self, error: CliError) {
        if let Some(earlier) = self.0.replace(error) {
            output::say(&earlier.render(Style::stderr()));
        }
    }

    pub(super) fn result(self) -> Result<u8, CliError> {
        match self.0 {
            None => Ok(Exit::Success.into()),
            Some(error) => Err(error),
        }
    }
}

/// Continues a supervisor that is stopped (Ctrl-Z): it could neither hear nor tidy up.
fn wake(run: &Found, client: &DeskClient) {
    if run.state() == State::Stopped
        && let Ok(supervisor) = client.supervisor()
    {
        let _ = rustix::process::pidfd_send_signal(supervisor, Signal::CONT);
    }
}

fn tell(run: &Found, client: &DeskClient, signal: Signal) -> Result<(), CliError> {
    match client.signal(signal.as_raw()) {
        // It ended just now, or will not hear anything any more: ending it is the next step.
        Ok(()) => Ok(()),
        Err(DeskError::Gone) => desk::wait_for_record(run, desk::GONE_LIMIT),
        Err(DeskError::Silent) if signal == Signal::TERM => Ok(()),
        Err(error) => Err(desk::failed(run, error)),
    }
}

/// Kills everything of a run: the sandbox, and if its supervisor does not answer, that one.
fn end(run: &Found, client: &DeskClient) -> Result<(), CliError> {
    let failed = |error| desk::failed(run, error);
    match client.signal(Signal::KILL.as_raw()) {
        Ok(()) if client.wait_for_end(END_LIMIT) => return Ok(()),
        Err(DeskError::Gone) => return Ok(()),
        Ok(()) | Err(DeskError::Silent) => {}
        Err(error) => return Err(failed(error)),
    }
    output::warn(&format!(
        "the supervisor of {} does not answer and is killed; look at what the agent left yourself",
        rcc_plan::escape(&run.description.id)
    ));
    let supervisor = match client.supervisor() {
        Ok(supervisor) => supervisor,
        Err(DeskError::Gone) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let _ = rustix::process::pidfd_send_signal(supervisor, Signal::KILL);
    match client.wait_for_end(SILENCE) {
        true => Ok(()),
        false => Err(failed(DeskError::Silent)),
    }
}

/// Reads `TERM`, `SIGTERM` or `15`.
fn signal(text: &str) -> Result<Signal, CliError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = SIGNALS.iter().find(|(known, _)| *known == name);
    let signal = match number {
        Some((_, signal)) => Some(*signal),
        None => text.parse().ok().and_then(Signal::from_named_raw),
    };
    signal.ok_or_else(|| {
        let text = format!("{} is no signal that can be sent", rcc_plan::escape(text));
        CliError::new(Kind::User, text).hint("as in TERM, SIGTERM or 15; kill -l lists them")
    })
}

/// Names of signals, `signal(7)`. Those that only the kernel sends can be sent by number.
const SIGNALS: [(&str, Signal); 14] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ABRT", Signal::ABORT),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("WINCH", Signal::WINCH),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(signal(text).unwrap(), Signal::TERM);
        }
        for bad in ["", "SIG", "0", "-9", "65", "TERMS", "9x"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
