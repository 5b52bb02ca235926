//! What an idle run costs: the proportional set size of everything but the agent.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Setting,
    measure::{Better, Sample, table},
};
use crate::process;

/// The most that supervisor, helper and process 1 may take together.
const BAR_MIB: f64 = 8.0;

/// How long a sandbox may take to show its agent.
const PATIENCE: Duration = Duration::from_secs(20);

/// One idle run of rcc, and of bubblewrap for comparison.
pub(super) fn run(setting: &Setting) -> Result<()> {
    let sleep = ["sleep", "60"];
    let mut rcc = setting.rcc(&[
        "--network",
        "allowlist",
        "--allow",
        "example.com",
        "run",
        "--",
    ]);
    rcc.args(sleep);
    let mut samples = vec![idle("rcc run, allowlist", rcc)?];
    if process::find_program("bwrap").is_some() {
        let mut bwrap = Command::new("bwrap");
        bwrap.args([
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]);
        bwrap.args(sleep);
        samples.push(idle("bwrap (no network)", bwrap)?);
    }
    table(
        "Proportional set size of an idle run, without the agent",
        "MiB",
        Better::Lower,
        &samples,
        &[],
    );
    let taken = samples.first().map_or(f64::NAN, Sample::median);
    println!(
        "bar: {taken:.2} MiB of {BAR_MIB} MiB: {}",
        if taken <= BAR_MIB { "met" } else { "MISSED" }
    );
    Ok(())
}

/// Starts the command, waits for its `sleep`, and adds up what the others take.
fn idle(name: &str, mut command: Command) -> Result<Sample> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{}`", process::describe(&command)))?;
    let outcome = measure(name, &mut child);
    child.kill().context("cannot end the sandbox")?;
    child.wait().context("cannot wait for the sandbox")?;
    outcome
}

fn measure(name: &str, child: &mut Child) -> Result<Sample> {
    let start = Instant::now();
    let all = loop {
        if let Some(status) = child.try_wait().context("cannot look at the sandbox")? {
            bail!("{name} ended early: {status}");
        }
        let all = descendants(child.id());
        if all.iter().any(|id| program(*id) == "sleep") {
            break all;
        }
        if start.elapsed() > PATIENCE {
            bail!(
                "{name} did not start its command within {} s",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // Whatever start-up did lazily is over when nothing changes any more.
    let mut parts = sizes(&all)?;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let again = sizes(&all)?;
        if again == parts || start.elapsed() > PATIENCE {
            break;
        }
        parts = again;
    }
    println!("\n{name}:");
    for (program, kib) in &parts {
        println!("  {program:<16} {:>8.2} MiB", mib(*kib));
    }
    let total = parts
        .iter()
        .filter(|(program, _)| program != "sleep")
        .map(|(_, kib)| kib)
        .sum();
    Ok(Sample::new(name, vec![mib(total)]))
}

fn mib(kib: u32) -> f64 {
    f64::from(kib) / 1024.0
}

fn sizes(all: &[u32]) -> Result<Vec<(String, u32)>> {
    all.iter()
        .map(|id| Ok((program(*id), pss_kib(*id)?)))
        .collect()
}

/// A process and all below it, by `/proc/PID/task/*/children` (CONFIG_PROC_CHILDREN).
fn descendants(id: u32) -> Vec<u32> {
    let mut all = vec![id];
    let mut next = 0;
    while let Some(id) = all.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{id}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|word| word.parse::<u32>().ok()),
            );
        }
    }
    all
}

fn program(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn pss_kib(id: u32) -> Result<u32> {
    let path = format!("/proc/{id}/smaps_rollup");
    let text =
        fs::read_to_string(Path::new(&path)).with_context(|| format!("cannot read {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .with_context(|| format!("no Pss in {path}"))?;
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .with_context(|| format!("odd Pss in {path}"))
}
