//! Probes of new and foreign namespaces. Each attempt runs in a child: success would change the prober.
//!
//! Must try one flag at a time as well as all: filters have let combinations through.

use std::time::Duration;

use rcc_sys::probe::{
    Argument, Outcome, clone_with_flags, clone3_with_flags, in_child, number_of, raw_syscall,
};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use crate::files::number;
use crate::{Arguments, Attempt, Probe, Refusal, Step as _};

pub(crate) const PROBES: &[Probe] = &[
    (
        "unshare",
        "FLAG   (user, mount, net, pid, ipc, uts, cgroup, time, all, or a number)",
        unshare,
    ),
    ("clone", "FLAG", clone),
    ("clone3", "FLAG", clone3),
    (
        "namespaces-sweep",
        "  (unshare, clone and clone3 with every flag; ok = any worked)",
        sweep,
    ),
    ("setns", "PATH [FLAG]", setns),
    ("setns-pidfd", "PID FLAG", setns_pidfd),
    (
        "nested-user-namespace",
        "  (unshare user, then every other)",
        nested,
    ),
];

/// Flags of `clone(2)`.
const FLAGS: &[(&str, u64)] = &[
    ("user", 0x1000_0000),
    ("mount", 0x0002_0000),
    ("net", 0x4000_0000),
    ("pid", 0x2000_0000),
    ("ipc", 0x0800_0000),
    ("uts", 0x0400_0000),
    ("cgroup", 0x0200_0000),
    ("time", 0x80),
];

const LIMIT: Duration = Duration::from_secs(5);

fn flag(arguments: &Arguments, index: usize) -> Result<u64, Refusal> {
    let word = arguments.text(index)?;
    if word == "all" {
        return Ok(FLAGS.iter().map(|(_, flag)| flag).sum());
    }
    match FLAGS.iter().find(|(name, _)| *name == word) {
        Some((_, flag)) => Ok(*flag),
        None => arguments.number(index),
    }
}

/// Turns what happened to a child into an attempt.
pub(crate) fn attempt(outcome: Outcome) -> Attempt {
    match outcome {
        Outcome::Returned(value) => Ok(json!(value)),
        Outcome::Failed(errno) => Err(errno.into()),
        Outcome::Killed(signal) => Err(Refusal::Other(json!({ "signal": signal }))),
        Outcome::TimedOut => Err(Refusal::Other(json!("timed out"))),
        Outcome::NoChild(errno) => Err(errno).step("fork"),
    }
}

/// A word for an outcome, in records of many.
pub(crate) fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Returned(_) => "ok".to_owned(),
        Outcome::Failed(errno) => rcc_sys::errno_name(errno).into_owned(),
        Outcome::Killed(31) => "SIGSYS".to_owned(),
        Outcome::Killed(signal) => format!("signal {signal}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::NoChild(errno) => format!("no child: {}", rcc_sys::errno_name(errno)),
    }
}

fn try_unshare(flags: u64) -> Outcome {
    in_child(LIMIT, || {
        raw_syscall(
            number("unshare").unwrap_or(-1),
            &mut [Argument::Number(flags)],
        )
    })
}

fn try_clone(flags: u64) -> Outcome {
    in_child(LIMIT, || clone_with_flags(flags))
}

fn try_clone3(flags: u64) -> Outcome {
    in_child(LIMIT, || clone3_with_flags(flags))
}

fn unshare(arguments: &Arguments) -> Attempt {
    attempt(try_unshare(flag(arguments, 0)?))
}

fn clone(arguments: &Arguments) -> Attempt {
    attempt(try_clone(flag(arguments, 0)?))
}

fn clone3(arguments: &Arguments) -> Attempt {
    attempt(try_clone3(flag(arguments, 0)?))
}

/// A way to ask for new namespaces: name and function of the flags.
type Way = (&'static str, fn(u64) -> Outcome);

fn sweep(_: &Arguments) -> Attempt {
    let ways: [Way; 3] = [
        ("unshare", try_unshare),
        ("clone", try_clone),
        ("clone3", try_clone3),
    ];
    let mut record = Map::new();
    let mut worked = false;
    for (way, function) in ways {
        for (name, flag) in FLAGS {
            // Alone, and with a user namespace, which is how an unprivileged caller gets the rest.
            for (suffix, flags) in [("", *flag), ("+user", *flag | FLAGS[0].1)] {
                let outcome = function(flags);
                worked |= matches!(outcome, Outcome::Returned(_));
                record.insert(format!("{way} {name}{suffix}"), json!(word(outcome)));
            }
        }
    }
    if worked {
        Ok(Value::Object(record))
    } else {
        Err(Refusal::Other(Value::Object(record)))
    }
}

fn setns(arguments: &Arguments) -> Attempt {
    let file = std::fs::File::open(arguments.path(0)?).step("open")?;
    let flags = if arguments.count() > 1 {
        flag(arguments, 1)?
    } else {
        0
    };
    let call = number("setns")?;
    attempt(in_child(LIMIT, || {
        raw_syscall(call, &mut [number_of(&file), Argument::Number(flags)])
    }))
}

fn setns_pidfd(arguments: &Arguments) -> Attempt {
    let pid = arguments.number::<u64>(0)?;
    let flags = flag(arguments, 1)?;
    let (open, enter) = (number("pidfd_open")?, number("setns")?);
    attempt(in_child(LIMIT, || {
        let fd = raw_syscall(open, &mut [Argument::Number(pid), Argument::Number(0)])?;
        raw_syscall(
            enter,
            &mut [Argument::Number(fd.unsigned_abs()), Argument::Number(flags)],
        )
    }))
}

fn nested(_: &Arguments) -> Attempt {
    let call = number("unshare")?;
    let flags: u64 = FLAGS.iter().map(|(_, flag)| flag).sum();
    attempt(in_child(LIMIT, || {
        raw_syscall(call, &mut [Argument::Number(FLAGS[0].1)])?;
        raw_syscall(call, &mut [Argument::Number(flags & !FLAGS[0].1)]).or(Err(Errno::PERM))
    }))
}
