//! `cargo xtask test`: builds rcc and runs every test of the workspace.
//!
//! It lists what the machine lacks before it starts and counts what was skipped after it ends, so that a skip is never
//! silent. It must not install anything, and must not choose which tests run.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{packages, process, workspace::Workspace};

/// The variable by which the tests are told where to note a skip; `rcc-testkit` reads it.
const SKIP_LOG: &str = "RCC_TEST_SKIP_LOG";

/// What libtest said, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// What the failed tests printed: libtest's blocks between the first `failures:` of a program and its list of names.
#[derive(Debug, Default)]
struct Failures {
    lines: Vec<String>,
    inside: bool,
    shown: usize,
}

/// Lines of one failed test that are shown a second time.
const LINES_PER_FAILURE: usize = 60;

impl Failures {
    fn add(&mut self, line: &str) {
        if line == "failures:" {
            self.inside = !self.inside;
            self.shown = 0;
        } else if line.starts_with("test result: ") {
            self.inside = false;
        } else if self.inside && !line.is_empty() {
            if line.starts_with("---- ") {
                self.shown = 0;
            }
            self.shown += 1;
            if self.shown <= LINES_PER_FAILURE {
                self.lines.push(line.to_owned());
            }
        }
    }
}

/// Builds the binary, then runs `cargo test --workspace` with the given arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    missing_tools(workspace)?;
    // The tests start the real binary, and `cargo test` builds no program of another package. The testkit's programs
    // are built apart: in one command their features would reach the shipped binary.
    let programs: [&[&str]; 2] = [
        &["--package", "rcc"],
        &[
            "--package",
            "rcc-testkit",
            "--bins",
            "--features",
            "servers,probe",
        ],
    ];
    for program in programs {
        if !process::passes(workspace.cargo(&["build", "--locked"]).args(program))? {
            bail!("cannot build {}", program[1]);
        }
    }
    let own_log = workspace.target_directory().join("skipped-tests.log");
    let log = std::env::var_os(SKIP_LOG).map_or(own_log, Into::into);
    let before = lines(&log);

    let mut command = workspace.cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    command
        .args(arguments)
        .env(SKIP_LOG, &log)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo test")?;
    let mut count = Count::default();
    let mut failures = Failures::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read the output of cargo test")?;
            count.add(&line);
            failures.add(&line);
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;

    let skipped = lines(&log).split_off(before.len());
    println!("\nskips at run time: {}", skipped.len());
    for line in &skipped {
        println!("  {line}");
    }
    if !failures.lines.is_empty() {
        // Again at the end: in a long log nobody finds them. `.ci/run` repeats what stands between these two lines.
        println!("failed tests:");
        for line in &failures.lines {
            println!("  {line}");
        }
    }
    // A test that skips itself returns, so libtest has counted it among the passed.
    println!(
        "tests: {} passed, {} failed, {} skipped",
        count.passed.saturating_sub(skipped.len()),
        count.failed,
        count.ignored + skipped.len()
    );
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the optional programs that are not on PATH, and what each is for.
fn missing_tools(workspace: &Workspace) -> Result<()> {
    let missing: Vec<_> = packages::read(workspace)?
        .into_iter()
        .filter(|package| package.is_missing())
        .collect();
    if missing.is_empty() {
        println!("every optional tool is here");
        return Ok(());
    }
    println!(
        "{} optional tools are missing; tests that need them are skipped and counted:",
        missing.len()
    );
    for package in &missing {
        println!("  {:<22} {}", package.name, package.reason);
    }
    let names: Vec<&str> = missing
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    println!("to have them: apt-get install {}\n", names.join(" "));
    Ok(())
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

impl Count {
    /// Adds a `test result:` line; any other is left alone.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in rest.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (
                words.next().and_then(|word| word.parse::<usize>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_tests_printed_is_kept() {
        let output = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\npanicked at x\nleft: 1\n\n\n\
            failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored;\ntest c ... ok\nfailures:\n\n\
            ---- d stdout ----\nlong";
        let mut failures = Failures::default();
        for line in output.lines() {
            failures.add(line);
        }
        assert_eq!(
            failures.lines,
            [
                "---- b stdout ----",
                "panicked at x",
                "left: 1",
                "---- d stdout ----",
                "long"
            ]
        );
        for _ in 0..2 * LINES_PER_FAILURE {
            failures.add("more");
        }
        assert_eq!(failures.lines.len(), 3 + LINES_PER_FAILURE);
    }

    #[test]
    fn results_are_added_up() {
        let mut count = Count::default();
        count.add("test result: ok. 20 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.09s");
        count.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.00s");
        count.add("running 9 tests");
        assert_eq!(
            count,
            Count {
                passed: 23,
                failed: 2,
                ignored: 1
            }
        );
    }
}
