//! The table of tasks: one definition for dispatch, for `--help`, and for the gate that checks the documentation.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{bench, demo, fuzz, gates, suite, workspace::Workspace};

/// One task of `cargo xtask`.
pub(crate) struct Task {
    /// The word after `cargo xtask`.
    pub(crate) name: &'static str,
    /// How its arguments are written in the help.
    pub(crate) arguments: &'static str,
    /// One line for the help.
    pub(crate) summary: &'static str,
    run: fn(&Workspace, &[String]) -> Result<ExitCode>,
}

/// Every task, in the order of the help.
pub(crate) const TASKS: &[Task] = &[
    Task {
        name: "check",
        arguments: "[GATE…]",
        summary: "run all gates, or the named ones; what CI runs",
        run: gates::run,
    },
    Task {
        name: "test",
        arguments: "[ARGUMENTS OF cargo test…]",
        summary: "build rcc and run every test; missing optional tools are listed and counted",
        run: suite::run,
    },
    Task {
        name: "bench",
        arguments: "[startup|memory|tcp|connections]… [--rounds N] [--rcc PATH]",
        summary: "rcc and its peers side by side; ratios and the bars of the design",
        run: bench::run,
    },
    Task {
        name: "fuzz",
        arguments: "[TARGET…] [--seconds N] [--parallel N] [--keep]",
        summary: "run the fuzz targets; --keep adds what they found to the corpus",
        run: fuzz::run,
    },
    Task {
        name: "demo",
        arguments: "",
        summary: "write the demo of README.md anew from what its commands print",
        run: demo::run,
    },
];

/// Runs the task named by the first argument.
pub(crate) fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", help());
        return Ok(ExitCode::from(2));
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        print!("{}", help());
        return Ok(ExitCode::SUCCESS);
    }
    match name.as_str() {
        bench::INSIDE => return bench::inside(rest),
        bench::CLIENT => return bench::client(rest),
        _ => {}
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        bail!("no such task: {name}\n\n{}", help());
    };
    (task.run)(&Workspace::find()?, rest)
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask TASK [ARGUMENTS]\n\n");
    for task in TASKS {
        text.push_str(&format!(
            "  {} {}\n      {}\n",
            task.name, task.arguments, task.summary
        ));
    }
    text.push_str(&format!(
        "\ngates of check: {}\n",
        gates::names().collect::<Vec<_>>().join(", ")
    ));
    text
}
