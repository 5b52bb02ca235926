//! `cargo xtask fuzz`: builds the fuzz targets of `fuzz/` and runs them, each for a while.
//!
//! libFuzzer works with the stable compiler: coverage comes from a pass of LLVM, and what is looked for are panics, broken
//! promises (assertions), overflows, hangs and memory, which need no sanitizer in code without `unsafe`.
//! The corpus of a target is `fuzz/corpus/NAME.tar.gz`; `--keep` adds what a run found, as few inputs as cover the same.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{process, workspace::Workspace};

/// What `cargo fuzz` asks of the compiler, without a sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";
/// Where the targets are built; named, so that build scripts are not instrumented.
#[cfg(target_arch = "x86_64")]
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// Seconds for each target when nobody says otherwise.
const SECONDS: u64 = 20;
/// Longest input in bytes: above the limits of the parsers for what one message holds, so that these are met, too.
const LONGEST_INPUT: &str = "4096";
/// One input may take this many seconds.
const SLOWEST_INPUT: &str = "10";
/// One target may use this much memory, in MiB.
const MOST_MEMORY: &str = "1024";

/// Runs the named targets, or all: `[TARGET…] [--seconds N] [--parallel N] [--keep]`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let all = targets(workspace)?;
    let (mut chosen, mut seconds, mut parallel, mut keep) = (Vec::new(), SECONDS, 1, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let word = words.next().context("a number is missing")?;
            word.parse()
                .with_context(|| format!("`{word}` is no number"))
        };
        match word.as_str() {
            "--seconds" => seconds = number()?,
            "--parallel" => parallel = usize::try_from(number()?)?.max(1),
            "--keep" => keep = true,
            name if all.iter().any(|target| target == name) => chosen.push(name.to_owned()),
            other => bail!(
                "no such fuzz target: {other} (there are: {})",
                all.join(", ")
            ),
        }
    }
    if chosen.is_empty() {
        chosen = all;
    }
    let place = Place::new(workspace);
    place.build()?;
    let mut failed = Vec::new();
    for group in chosen.chunks(parallel) {
        let started: Vec<_> = group
            .iter()
            .map(|target| place.start(target, seconds).map(|child| (target, child)))
            .collect::<Result<_>>()?;
        for (target, child) in started {
            if !place.finish(target, child)? {
                failed.push(target.as_str());
            } else if keep {
                place.keep(target)?;
            }
        }
    }
    println!(
        "fuzz: {} targets, {seconds} s each, failed: {}",
        chosen.len(),
        if failed.is_empty() {
            "none".to_owned()
        } else {
            failed.join(", ")
        }
    );
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The names of the targets: their files.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let files = workspace.files()?;
    let names = files.iter().filter(|path| path.starts_with("fuzz/targets"));
    Ok(names
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect())
}

/// Where everything is.
struct Place {
    sources: PathBuf,
    output: PathBuf,
}

impl Place {
    fn new(workspace: &Workspace) -> Self {
        Self {
            sources: workspace.root.join("fuzz"),
            output: workspace.target_directory().join("fuzz"),
        }
    }

    fn build(&self) -> Result<()> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.sources)
            .args([
                "build",
                "--locked",
                "--release",
                "--quiet",
                "--target",
                TRIPLE,
                "--target-dir",
            ])
            .arg(&self.output)
            .env("RUSTFLAGS", FLAGS);
        if !process::passes(&mut command)? {
            bail!("the fuzz targets do not build (libFuzzer needs g++)");
        }
        Ok(())
    }

    fn program(&self, target: &str) -> PathBuf {
        self.output.join(TRIPLE).join("release").join(target)
    }

    /// Where a run works: `found` takes new inputs, `kept` is the unpacked corpus.
    fn scratch(&self, target: &str) -> PathBuf {
        self.output.join("runs").join(target)
    }

    fn archive(&self, target: &str) -> PathBuf {
        self.sources
            .join("corpus")
            .join(target)
            .with_extension("tar.gz")
    }

    fn start(&self, target: &str, seconds: u64) -> Result<(Child, Instant)> {
        let scratch = self.scratch(target);
        if scratch.exists() {
            fs::remove_dir_all(&scratch)
                .with_context(|| format!("cannot remove {}", scratch.display()))?;
        }
        for name in ["found", "kept", "failures"] {
            let path = scratch.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let archive = self.archive(target);
        if archive.exists() {
            tar(&["-x", "-z", "-f"], &archive, &scratch.join("kept"), &[])?;
        }
        let log_path = scratch.join("log");
        let log = fs::File::create(&log_path)
            .with_context(|| format!("cannot create {}", log_path.display()))?;
        let child = Command::new(self.program(target))
            .current_dir(&scratch)
            .args([
                "found",
                "kept",
                "-artifact_prefix=failures/",
                "-print_final_stats=1",
            ])
            .args([
                format!("-max_total_time={seconds}"),
                format!("-max_len={LONGEST_INPUT}"),
                format!("-timeout={SLOWEST_INPUT}"),
                format!("-rss_limit_mb={MOST_MEMORY}"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {target}"))?;
        Ok((child, Instant::now()))
    }

    /// Waits for a run and says how it went.
    fn finish(&self, target: &str, (mut child, started): (Child, Instant)) -> Result<bool> {
        let status = child
            .wait()
            .with_context(|| format!("cannot wait for {target}"))?;
        let scratch = self.scratch(target);
        let log = fs::read(scratch.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let executed = log
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units: "))
            .unwrap_or("an unknown number of");
        let found = fs::read_dir(scratch.join("found")).map_or(0, Iterator::count);
        let took: Duration = started.elapsed();
        println!(
            "fuzz {target}: {executed} inputs in {} s, {found} new ones, {status}",
            took.as_secs()
        );
        if !status.success() {
            // The panic stands before libFuzzer's own report.
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            for line in tail.iter().rev() {
                println!("  {line}");
            }
            println!("  the input is in {}", scratch.join("failures").display());
        }
        Ok(status.success())
    }

    /// Packs as few inputs as reach everything that corpus and run reached.
    fn keep(&self, target: &str) -> Result<()> {
        let scratch = self.scratch(target);
        let fewest = scratch.join("fewest");
        fs::create_dir_all(&fewest)
            .with_context(|| format!("cannot create {}", fewest.display()))?;
        let mut merge = Command::new(self.program(target));
        merge
            .current_dir(&scratch)
            .args(["-merge=1", "fewest", "found", "kept"])
            .arg(format!("-max_len={LONGEST_INPUT}"));
        if !process::capture(&mut merge)?.status.success() {
            bail!("cannot merge the corpus of {target}");
        }
        let archive = self.archive(target);
        if let Some(directory) = archive.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        // Nothing of the machine: the same inputs give the same archive.
        let plain = [
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
            "--mode=644",
            "-c",
            "-z",
            "-f",
        ];
        tar(&plain, &archive, &fewest, &["--transform=s,^\\./,,", "."])
    }
}

fn tar(mode: &[&str], archive: &Path, directory: &Path, rest: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .args(mode)
        .arg(archive)
        .arg("-C")
        .arg(directory)
        .args(rest);
    if !process::passes(&mut command)? {
        bail!("`{}` failed", process::describe(&command));
    }
    Ok(())
}
