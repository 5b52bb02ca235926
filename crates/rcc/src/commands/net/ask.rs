//! `rcc net ask`: the questions of a run, as a list or one after the other on the terminal.
//!
//! Must not take silence for an answer: a question that nobody answers is refused by the gateway.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::BufRead as _;

use rcc_gateway::{Answer, Question, Request, Response};

use super::change::{Direction, add_to_project, change, choice_of};
use super::client::Client;
use crate::cli::NetAskArgs;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::runs::{Found, one_live};

/// Nobody is there to be asked.
#[derive(Debug, thiserror::Error)]
#[error("questions can be asked on a terminal only")]
struct NoTerminal;

/// What somebody said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Once,
    Run,
    Project,
    No,
    Never,
    /// Nothing more will be said.
    End,
}

pub(super) fn run(args: &NetAskArgs) -> Result<u8, CliError> {
    let found = one_live(&args.run)?;
    if args.watch {
        return watch(&found);
    }
    let (_, questions) = questions(&mut Client::connect(&found)?, None)?;
    let mut text = String::new();
    for question in &questions {
        // Writing to a text cannot fail.
        let _ = match args.json {
            true => writeln!(text, "{}", serde_json::json!(question)),
            false => writeln!(
                text,
                "{}  {} waiting, {} s left; to allow it: rcc net allow {}",
                rcc_plan::escape(&question.rule),
                question.waiting,
                question.left_ms / 1000,
                rcc_plan::escape(&question.rule),
            ),
        };
    }
    if questions.is_empty() && !args.json {
        output::note("no question waits");
    }
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

fn questions(client: &mut Client, seen: Option<u64>) -> Result<(u64, Vec<Question>), CliError> {
    match client.ask(&Request::Questions { seen })? {
        Response::Questions { serial, questions } => Ok((serial, questions)),
        _ => Err(client.confused()),
    }
}

fn watch(found: &Found) -> Result<u8, CliError> {
    if !output::can_ask() {
        return Err(CliError::new(Kind::User, NoTerminal)
            .hint("rcc net ask lists them, rcc net allow RULE answers"));
    }
    let choice = choice_of(found);
    let mut client = Client::connect(found)?;
    output::note(&format!(
        "waiting for questions of {}; end with Ctrl-C",
        rcc_plan::escape(&found.description.id)
    ));
    let mut told = BTreeSet::new();
    let mut seen = None;
    loop {
        let (serial, waiting) = match questions(&mut client, seen) {
            Ok(heard) => heard,
            Err(_) if !found.still_lives() => {
                output::note("the run has ended");
                return Ok(Exit::Success.into());
            }
            Err(error) => return Err(error),
        };
        seen = Some(serial);
        for question in waiting {
            if !told.insert(question.number) {
                continue;
            }
            let said = prompt(&question);
            // The conversation may have been idle for longer than the gateway waits.
            client = Client::connect(&one_live(&choice)?)?;
            match said {
                Said::End => return Ok(Exit::Success.into()),
                said => carry_out(&mut client, found, &question, said)?,
            }
        }
    }
}

fn prompt(question: &Question) -> Said {
    let rule = rcc_plan::escape(&question.rule);
    let many = match question.waiting {
        0 | 1 => String::new(),
        count => format!(" ({count} connections)"),
    };
    loop {
        output::say(&format!(
            "{rule}{many}: [y] once, [r] this run, [p] the project, [n] no, [never]? "
        ));
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(1..) => {}
            Ok(_) | Err(_) => return Said::End,
        }
        match said(&line) {
            Some(said) => return said,
            None => output::say("y, r, p, n or never\n"),
        }
    }
}

fn said(line: &str) -> Option<Said> {
    match line.trim() {
        "y" => Some(Said::Once),
        "r" => Some(Said::Run),
        "p" => Some(Said::Project),
        "n" => Some(Said::No),
        "never" => Some(Said::Never),
        _ => None,
    }
}

fn carry_out(
    client: &mut Client,
    found: &Found,
    question: &Question,
    said: Said,
) -> Result<(), CliError> {
    let rules = vec![question.rule.clone()];
    let answer = match said {
        Said::Once => Answer::Once,
        Said::No | Said::End => Answer::No,
        Said::Run => return change(client, &rules, Direction::Allow),
        Said::Never => return change(client, &rules, Direction::Deny),
        Said::Project => {
            add_to_project(Some(found), &rules, Direction::Allow)?;
            return change(client, &rules, Direction::Allow);
        }
    };
    let request = Request::Answer {
        question: question.number,
        answer,
    };
    match client.ask(&request)? {
        Response::Answered { was_waiting: true } => Ok(()),
        Response::Answered { was_waiting: false } => {
            output::note("too late: nobody waits for this answer any more");
            Ok(())
        }
        _ => Err(client.confused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_is_an_answer() {
        assert_eq!(said("y\n"), Some(Said::Once));
        assert_eq!(said(" never \n"), Some(Said::Never));
        for unclear in ["", "\n", "yes", "Y", "no", "yr"] {
            assert_eq!(said(unclear), None, "{unclear}");
        }
    }
}
