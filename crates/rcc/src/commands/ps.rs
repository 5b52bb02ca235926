//! `rcc ps`: the runs that are under way, and those that have ended.

use std::time::Duration;

use crate::cli::PsArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::record::{DESCRIPTION, now_ms};
use crate::runs::{Found, State, all, unreadable};

const HEADINGS: [&str; 7] = ["ID", "NAME", "STATE", "SINCE", "PID", "AGENT", "PROJECT"];

pub(crate) fn run(args: &PsArgs) -> Result<u8, CliError> {
    let state = Context::load()?.directories.state;
    let runs = all(&state);
    let runs: Vec<Found> = runs
        .into_iter()
        .filter(|run| args.all || run.is_live)
        .collect();
    let text: String = if args.json {
        runs.iter().map(|run| format!("{}\n", json(run))).collect()
    } else if args.quiet {
        let ids = runs.iter().map(|run| rcc_plan::escape(&run.description.id));
        ids.map(|id| id + "\n").collect()
    } else {
        table(&runs)
    };
    for record in unreadable(&state) {
        output::warn(&format!(
            "{} cannot be read: another version of rcc wrote it, or it is damaged; to lose it with all that may wait in it: rm -r {}",
            rcc_plan::escape(record.join(DESCRIPTION)),
            rcc_plan::escape(record)
        ));
    }
    if runs.is_empty() && !args.json && !args.quiet {
        output::note("nothing runs");
    }
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

/// One run for machines. Other versions may add fields.
pub(super) fn json(run: &Found) -> serde_json::Value {
    let told = &run.description;
    let pid = run.is_live.then_some(told.supervisor_pid);
    serde_json::json!({"id": told.id, "name": told.name, "project": told.project, "agent": told.agent,
        "argv": told.argv, "network": told.network, "state": run.state().word(), "supervisor_pid": pid,
        "started_at_ms": told.started_at_ms, "ended_at_ms": told.ended_at_ms, "exit_code": told.exit_code,
        "end_reason": told.end_reason,
        "version": told.version})
}

fn table(runs: &[Found]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let now = now_ms();
    let rows = runs.iter().map(|run| {
        let told = &run.description;
        let state = match (run.state(), told.exit_code, &told.end_reason) {
            (State::Ended, Some(code), Some(reason)) => {
                format!("ended ({code}, {})", rcc_plan::escape(reason))
            }
            (State::Ended, Some(code), None) => format!("ended ({code})"),
            (state, _, _) => state.word().to_owned(),
        };
        let pid = match run.is_live {
            true => told.supervisor_pid.to_string(),
            false => "-".to_owned(),
        };
        let begun = Duration::from_millis(now.saturating_sub(told.started_at_ms));
        let shown =
            |text: &Option<String>| text.as_deref().map_or("-".to_owned(), rcc_plan::escape);
        [
            rcc_plan::escape(&told.id),
            shown(&told.name),
            state,
            ago(begun),
            pid,
            shown(&told.agent),
            rcc_plan::escape(told.project.as_os_str()),
        ]
    });
    let rows: Vec<[String; 7]> = [HEADINGS.map(str::to_owned)]
        .into_iter()
        .chain(rows)
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// An age as people say it.
pub(super) fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6000 => format!("{} min", seconds / 60),
        6000..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, expected) in [
            (0, "0 s"),
            (99, "99 s"),
            (100, "1 min"),
            (5999, "99 min"),
            (6000, "1 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), expected);
        }
    }
}
