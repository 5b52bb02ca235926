//! `cargo xtask check`: every rule of the repository that a machine can hold, in one table.
//!
//! A gate reads the tree and reports problems; it must not change a file. A gate that cannot run because a tool is
//! missing is a skip, printed and counted, and a failure when `RCC_TEST_REQUIRE=all`.

mod deny;
mod documents;
mod edges;
mod files;
mod generated;
mod hygiene;
mod shell;
mod toolchain;
mod tools;
mod unsafety;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// What a gate found.
#[derive(Default)]
pub(crate) struct Report {
    /// Broken rules, each with its place.
    pub(crate) problems: Vec<String>,
    /// Facts worth printing although nothing is wrong.
    pub(crate) notes: Vec<String>,
    /// Why the gate could not run.
    pub(crate) skipped: Option<String>,
}

impl Report {
    /// Adds a problem.
    pub(crate) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

struct Gate {
    name: &'static str,
    run: fn(&Workspace) -> Result<Report>,
}

/// The cheap ones first, so that a small mistake is told before the compiler runs.
const GATES: &[Gate] = &[
    Gate {
        name: "format",
        run: toolchain::format,
    },
    Gate {
        name: "edges",
        run: edges::check,
    },
    Gate {
        name: "unsafe",
        run: unsafety::check,
    },
    Gate {
        name: "files",
        run: files::check,
    },
    Gate {
        name: "hygiene",
        run: hygiene::check,
    },
    Gate {
        name: "tools",
        run: tools::check,
    },
    Gate {
        name: "shell",
        run: shell::check,
    },
    Gate {
        name: "deny",
        run: deny::check,
    },
    Gate {
        name: "clippy",
        run: toolchain::clippy,
    },
    Gate {
        name: "rustdoc",
        run: toolchain::rustdoc,
    },
    Gate {
        name: "docs",
        run: documents::check,
    },
    Gate {
        name: "generated",
        run: generated::check,
    },
];

/// The names of all gates, in the order they run.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    GATES.iter().map(|gate| gate.name)
}

/// Runs all gates, or the named ones, and prints a report.
pub(crate) fn run(workspace: &Workspace, only: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = only
        .iter()
        .find(|name| !names().any(|known| known == name.as_str()))
    {
        bail!(
            "no such gate: {unknown} (there are: {})",
            names().collect::<Vec<_>>().join(", ")
        );
    }
    let required = std::env::var("RCC_TEST_REQUIRE").is_ok_and(|value| value == "all");
    let (mut passed, mut failed, mut skipped) = (0_usize, 0_usize, 0_usize);
    for gate in GATES
        .iter()
        .filter(|gate| only.is_empty() || only.iter().any(|name| name == gate.name))
    {
        let start = Instant::now();
        let mut report = (gate.run)(workspace).unwrap_or_else(|error| Report {
            problems: vec![format!("cannot run: {error:#}")],
            ..Report::default()
        });
        if let (true, Some(reason)) = (required, report.skipped.take_if(|_| required)) {
            report.problem(format!("required by RCC_TEST_REQUIRE=all: {reason}"));
        }
        let word = if !report.problems.is_empty() {
            failed += 1;
            "FAIL"
        } else if report.skipped.is_some() {
            skipped += 1;
            "skip"
        } else {
            passed += 1;
            "ok"
        };
        println!(
            "{word:<5} {:<10} {:>6.1} s",
            gate.name,
            start.elapsed().as_secs_f64()
        );
        for line in report
            .notes
            .iter()
            .chain(&report.skipped)
            .chain(&report.problems)
        {
            println!("      {}", line.replace('\n', "\n      "));
        }
    }
    println!("gates: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
