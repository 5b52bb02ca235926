//! What a sandbox uses, read from `/proc`: for runs without a group, and what no group counts.
//!
//! Its processes are those in the pid namespace of its first process, whoever started them. The reader must be the run's own user (or
//! root) outside of the sandbox. Must not trust what it reads for more than a number: names of processes are the agent's words.

use std::ffi::CString;
use std::fs;
use std::io::Read as _;

use rustix::fs::CWD;
use rustix::process::Pid;

/// Clock ticks in a second for user space (`USER_HZ`, fixed on every architecture that rcc supports; `proc_pid_stat(5)`).
const TICK_US: u64 = 10_000;
/// Interface of the agent's end of the link.
const INTERFACE: &str = rcc_plan::network::AGENT_INTERFACE;
/// Most bytes read of one file of a process.
const FILE_LIMIT: u64 = 64 << 10;

/// What the processes of a sandbox use together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcUsage {
    /// Memory in bytes, shared pages divided among those who share them (PSS).
    pub memory: Option<u64>,
    /// Processor time in microseconds, with that of children that have ended and were waited for.
    pub cpu_us: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes read from disks, counted as the processor time is.
    pub io_read: Option<u64>,
    /// Bytes written to disks.
    pub io_written: Option<u64>,
}

/// Bytes on the agent's end of the link, headers included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// To the agent.
    pub received: u64,
    /// From the agent.
    pub sent: u64,
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Processor time and number alone: cheap enough for every second.
    Quick,
    /// Memory and disk, too.
    Whole,
}

/// Lists the processes of the sandbox whose first process is `init`; empty when it has ended.
#[must_use]
pub(crate) fn processes(init: Pid) -> Vec<Pid> {
    let Some(own) = pid_namespace(init) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| pid_namespace(*pid).as_ref() == Some(&own))
        .collect()
}

/// Finds the first process of the sandbox that a supervisor has: its only child in another pid namespace. None before it is
/// made and after it ended.
#[must_use]
pub fn sandbox_of(supervisor: Pid) -> Option<Pid> {
    let own = pid_namespace(supervisor)?;
    let entries = fs::read_dir("/proc").ok()?;
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| parent(*pid) == Some(supervisor))
        .find(|pid| pid_namespace(*pid).is_some_and(|namespace| namespace != own))
}

fn pid_namespace(pid: Pid) -> Option<CString> {
    let path = format!("/proc/{}/ns/pid", pid.as_raw_nonzero());
    rustix::fs::readlinkat(CWD, path, Vec::new()).ok()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = read(pid, "stat")?;
    Pid::from_raw(stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?)
}

/// Sums what the processes of a sandbox use; none when it has ended.
#[must_use]
pub fn usage(init: Pid, detail: Detail) -> Option<ProcUsage> {
    let pids = processes(init);
    if pids.is_empty() {
        return None;
    }
    let mut sum = ProcUsage::default();
    for pid in pids {
        // One that ends meanwhile is left out; its parent has its time then.
        let Some((cpu_us, threads)) = read(pid, "stat").and_then(|text| times(&text)) else {
            continue;
        };
        sum.cpu_us += cpu_us;
        sum.pids += threads;
        if detail == Detail::Quick {
            continue;
        }
        let kib = read(pid, "smaps_rollup").and_then(|text| field(&text, "Pss:"));
        add(&mut sum.memory, kib.map(|kib| kib * 1024));
        let io = read(pid, "io");
        let value = |key| field(io.as_deref()?, key);
        add(&mut sum.io_read, value("read_bytes:"));
        add(&mut sum.io_written, value("write_bytes:"));
    }
    Some(sum)
}

/// Reads the counters of the agent's network; none without a link.
#[must_use]
pub fn network(init: Pid) -> Option<NetworkUsage> {
    counters(&read(init, "net/dev")?)
}

/// The name of a process as it gave it itself, and its memory in bytes; none when it is gone.
pub(crate) fn name_and_memory(pid: Pid) -> Option<(String, u64)> {
    let stat = read(pid, "stat")?;
    let name = stat.split_once('(')?.1.rsplit_once(')')?.0.to_owned();
    let pages: u64 = read(pid, "statm")?.split(' ').nth(1)?.parse().ok()?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    Some((name, pages * page))
}

/// Whether a process has ended, or is about to by SIGKILL.
pub(crate) fn is_dying(pid: Pid) -> bool {
    let Some(status) = read(pid, "status") else {
        return true;
    };
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    let ended = state.is_none_or(|state| state.trim_start().starts_with(['Z', 'X']));
    let killed = ["SigPnd:", "ShdPnd:"].iter().any(|key| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // Signal 9 is bit 8.
        mask.is_some_and(|mask| mask & 0x100 != 0)
    });
    ended || killed
}

fn add(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

fn read(pid: Pid, file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{}/{file}", pid.as_raw_nonzero()))
        .ok()?
        .take(FILE_LIMIT)
        .read_to_end(&mut bytes)
        .ok()?;
    // Names of processes are any bytes.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Processor time in microseconds and number of threads from `proc_pid_stat(5)`. The name may hold spaces and brackets.
fn times(stat: &str) -> Option<(u64, u64)> {
    let after = stat.rsplit_once(") ")?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    // Field 3 of the page is the first here: utime, stime, cutime, cstime are 14 to 17, num_threads is 20.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some((ticks * TICK_US, number(20)?))
}

/// The number behind a key.
fn field(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// The agent's interface in `proc_net(5)` `dev`: bytes received are the first number, bytes sent the ninth.
fn counters(text: &str) -> Option<NetworkUsage> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(INTERFACE)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    Some(NetworkUsage {
        received: *numbers.first()?,
        sent: *numbers.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let rest = "S 1 1 1 0 -1 4194304 100 0 0 0 7 3 2 1 20 0 5 0 100 1000 10";
        for name in ["sh", "a) R 9 9", "(((", ""] {
            assert_eq!(
                times(&format!("42 ({name}) {rest}")),
                Some((130_000, 5)),
                "{name}"
            );
        }
        assert_eq!(times("42 (sh"), None);
        assert_eq!(times(""), None);
    }

    #[test]
    fn the_counters_of_the_link_are_found() {
        let text = format!(
            "Inter-| Receive\n face |bytes\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  {INTERFACE}: 1234 3 0 0 0 0 0 0 567 2 0 0 0 0 0 0\n"
        );
        assert_eq!(
            counters(&text),
            Some(NetworkUsage {
                received: 1234,
                sent: 567
            })
        );
        assert_eq!(counters("    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n"), None);
    }

    #[test]
    fn this_process_is_in_its_own_namespace() {
        let own = rustix::process::getpid();
        assert!(processes(own).contains(&own));
        let usage = usage(own, Detail::Whole).unwrap();
        assert!(
            usage.pids >= 1 && usage.memory.is_some_and(|memory| memory > 0),
            "{usage:?}"
        );
        assert!(!is_dying(own));
        assert!(name_and_memory(own).unwrap().1 > 0);
    }
}
