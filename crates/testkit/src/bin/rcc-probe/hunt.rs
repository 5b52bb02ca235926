//! Lies in wait for processes that appear, and tries at each what is said to work in the moment before they execute their
//! program (CVE-2019-5736, CVE-2024-21626): its program, its memory, its environment, its directory, its descriptors, a trace.
//!
//! Must let go at once of whatever it gets hold of.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rcc_sys::probe::{Argument, raw_syscall};
use rustix::io::Errno;
use serde_json::json;

use crate::files::number;
use crate::{Arguments, Attempt, Probe};

pub(crate) const PROBES: &[Probe] = &[(
    "hunt",
    "STOP MARK   (until the file STOP exists: what could be got of other processes, by attempt; MARK is looked for in their environment)",
    hunt,
)];

/// `PTRACE_SEIZE` of `ptrace(2)`.
const PTRACE_SEIZE: u64 = 0x4206;

fn hunt(arguments: &Arguments) -> Attempt {
    let (stop, mark) = (arguments.path(0)?, arguments.text(1)?);
    let own = std::process::id();
    let mut seen = BTreeSet::new();
    let mut got: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut rounds = 0_u64;
    crate::print("hunting");
    while stop.symlink_metadata().is_err() {
        rounds += 1;
        for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if pid == own {
                continue;
            }
            seen.insert(pid);
            look(&entry.path(), pid, mark, &mut got);
        }
    }
    Ok(json!({ "rounds": rounds, "seen": seen.len(), "got": got }))
}

fn look(process: &Path, pid: u32, mark: &str, got: &mut BTreeMap<&str, BTreeSet<String>>) {
    let mut note = |what, value: String| {
        got.entry(what).or_default().insert(value);
    };
    let link =
        |name: &str| std::fs::read_link(process.join(name)).map(|path| path.display().to_string());
    if let Ok(program) = link("exe") {
        note("exe", program);
    }
    // Asked after an attempt that worked: what hides its program even then was caught in the moment that matters. What has ended
    // meanwhile has no program, which is ENOENT (or ESRCH) and no refusal, and no memory that the descriptor could reach.
    let ended = [Errno::NOENT, Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
    let shown = || match link("exe") {
        Ok(program) => program,
        Err(error) if ended.contains(&error.raw_os_error()) => "gone".to_owned(),
        Err(_) => "unknown".to_owned(),
    };
    for name in ["cwd", "root"] {
        if let Ok(target) = link(name) {
            note(name, target);
        }
    }
    if std::fs::OpenOptions::new()
        .write(true)
        .open(process.join("exe"))
        .is_ok()
    {
        note("writable exe", shown());
    }
    let memory = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(process.join("mem"));
    if memory.is_ok() {
        note("mem", shown());
    }
    if let Ok(environment) = std::fs::read(process.join("environ")) {
        let holds = environment
            .windows(mark.len())
            .any(|part| part == mark.as_bytes());
        note(
            "environ",
            if holds {
                "the mark".to_owned()
            } else {
                "no mark".to_owned()
            },
        );
    }
    for entry in std::fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue;
        };
        // Pipes and the like have numbers that differ.
        let bytes = target.as_os_str().as_bytes();
        let kind = bytes.split(|byte| *byte == b':').next().unwrap_or(bytes);
        note("fd", String::from_utf8_lossy(kind).into_owned());
    }
    // Whoever is traced ends for its parent only when the tracer has seen it; so this is tried once, for the control. The right
    // to trace is the right to open the memory, `ptrace(2)`.
    if !shown().ends_with("/sleep") {
        return;
    }
    let Ok(trace) = number("ptrace") else { return };
    let mut words = [
        Argument::Number(PTRACE_SEIZE),
        Argument::Number(u64::from(pid)),
        Argument::Number(0),
        Argument::Number(0),
    ];
    if raw_syscall(trace, &mut words).is_ok() {
        note("trace", shown());
        // `PTRACE_DETACH` wants a stopped process: it is let go when this one ends.
    }
}
