//! Calls every system call number once and says which the kernel answers at all.
//!
//! All arguments are -1: no descriptor, no address, no flag word, no id is that. Each call has a child of its own, so
//! whatever it does to its caller ends there.
//!
//! Must not make a call that could act on something else, or that never returns: those are in [`SKIPPED`].

use std::time::Duration;

use rcc_sys::probe::{Argument, in_child, raw_syscall};
use rcc_testkit::syscalls;
use serde_json::{Map, Value, json};

use crate::namespaces::word;
use crate::{Arguments, Attempt, Probe};

pub(crate) const PROBES: &[Probe] = &[(
    "sweep",
    "[FIRST LAST]   (every number, 0 to 500; the record is name to errno, ok or signal)",
    sweep,
)];

const LIMIT: Duration = Duration::from_secs(2);

/// Calls that are not made, with the reason.
pub(crate) const SKIPPED: &[(&str, &str)] = &[
    ("exit", "ends the child without an answer"),
    ("exit_group", "ends the child without an answer"),
    (
        "fork",
        "makes a second child that would answer too; tried by `clone`",
    ),
    ("vfork", "makes a second child in this one's memory"),
    ("clone", "may make a second child; tried by `clone`"),
    ("pause", "never returns"),
    (
        "rt_sigreturn",
        "restores registers from the stack, of which there are none",
    ),
    ("rt_sigsuspend", "may never return"),
    (
        "sync",
        "slow on a machine with much to write, and harms nobody",
    ),
    ("restart_syscall", "only the kernel makes it"),
    ("uretprobe", "kills a caller that is no trampoline"),
    ("uprobe", "kills a caller that is no trampoline"),
    ("map_shadow_stack", "maps memory"),
];

/// Calls whose answer to -1 would be ENOSYS although they exist, or that filters look into: with better arguments.
const BETTER: &[(&str, [u64; 6])] = &[
    // FUTEX_WAKE of an address that cannot be: EFAULT or EINVAL instead of ENOSYS for an unknown operation.
    ("futex", [1, 1, 1, 0, 0, 0]),
    // AF_UNIX, SOCK_STREAM: filters tell families apart.
    ("socket", [1, 1, 0, 0, 0, 0]),
    ("socketpair", [1, 1, 0, u64::MAX, 0, 0]),
    // PR_GET_DUMPABLE.
    ("prctl", [3, 0, 0, 0, 0, 0]),
    // TCGETS of no descriptor.
    ("ioctl", [u64::MAX, 0x5401, 0, 0, 0, 0]),
    // F_GETFD of no descriptor.
    ("fcntl", [u64::MAX, 1, 0, 0, 0, 0]),
    // Asks only.
    ("personality", [0xffff_ffff, 0, 0, 0, 0, 0]),
    // Ids of nobody, signal 0.
    ("kill", [0x7fff_ffff, 0, 0, 0, 0, 0]),
    ("tgkill", [0x7fff_ffff, 0x7fff_ffff, 0, 0, 0, 0]),
    ("tkill", [0x7fff_ffff, 0, 0, 0, 0, 0]),
    // Reads nothing; an unknown function is ENOSYS.
    ("modify_ldt", [0, 0, 0, 0, 0, 0]),
    // MEMBARRIER_CMD_QUERY.
    ("membarrier", [0, 0, 0, 0, 0, 0]),
    // SECCOMP_GET_ACTION_AVAIL with a bad pointer.
    ("seccomp", [2, 0, u64::MAX, 0, 0, 0]),
];

fn sweep(arguments: &Arguments) -> Attempt {
    let first = arguments.number_or(0, 0i64)?;
    let last = arguments.number_or(1, 500i64)?;
    let mut record = Map::new();
    for number in first..=last {
        let name = syscalls::name(number);
        if let Some((_, reason)) = SKIPPED.iter().find(|(skipped, _)| *skipped == name) {
            record.insert(name, json!(format!("skipped: {reason}")));
            continue;
        }
        let words = BETTER
            .iter()
            .find(|(better, _)| *better == name)
            .map_or([u64::MAX; 6], |(_, words)| *words);
        let outcome = in_child(LIMIT, || {
            // A new session has no terminal that a call could hang up or signal.
            let _ = rustix::process::setsid();
            raw_syscall(number, &mut words.map(Argument::Number))
        });
        record.insert(name, json!(word(outcome)));
    }
    Ok(Value::Object(record))
}
