//! Probes of other processes: seeing, signalling, tracing, reading and writing their memory and descriptors.
//!
//! Must let go of what it has got hold of, and must leave a target as it was wherever the attempt succeeds: a positive
//! control is aimed at a process that the test has started itself, never at one of the machine's.

use rcc_sys::probe::{Argument, raw_syscall};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

use crate::files::number;
use crate::{Arguments, Attempt, Probe, Refusal, Step as _, shorten};

pub(crate) const PROBES: &[Probe] = &[
    (
        "pids",
        "  (all process ids in /proc, with their names)",
        pids,
    ),
    ("signal", "PID SIGNAL   (0 only asks)", signal),
    ("ptrace-attach", "PID", ptrace_attach),
    ("ptrace-seize", "PID", ptrace_seize),
    (
        "memory-read",
        "PID   (process_vm_readv of its first mapping)",
        memory_read,
    ),
    (
        "memory-write",
        "PID   (process_vm_writev of one byte, which keeps its value)",
        memory_write,
    ),
    (
        "proc-mem",
        "PID   (opens /proc/PID/mem for writing)",
        proc_mem,
    ),
    ("pidfd-open", "PID", open_pidfd),
    ("pidfd-getfd", "PID FD", getfd),
    ("pidfd-signal", "PID SIGNAL", pidfd_signal),
    ("environ-of", "PID", environ_of),
    ("prlimit", "PID   (reads RLIMIT_NOFILE)", prlimit),
    ("kcmp", "PID PID", kcmp),
    (
        "set-priority",
        "PID   (to what it is: nothing changes where it is allowed)",
        set_priority,
    ),
];

/// Requests of `ptrace(2)`.
const PTRACE_ATTACH: u64 = 16;
const PTRACE_DETACH: u64 = 17;
const PTRACE_SEIZE: u64 = 0x4206;

fn pid(arguments: &Arguments, index: usize) -> Result<Pid, Refusal> {
    let number = arguments.number::<i32>(index)?;
    Pid::from_raw(number).ok_or_else(|| Refusal::Usage("0 is no process id".to_owned()))
}

fn raw(pid: Pid) -> Argument<'static> {
    Argument::Number(u64::from(pid.as_raw_nonzero().get().unsigned_abs()))
}

fn pids(_: &Arguments) -> Attempt {
    let mut found = serde_json::Map::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.insert(name, json!(comm.trim_end()));
        }
    }
    Ok(Value::Object(found))
}

fn signal(arguments: &Arguments) -> Attempt {
    let mut words = [
        Argument::Number(arguments.number::<i64>(0)?.cast_unsigned()),
        Argument::Number(arguments.number(1)?),
    ];
    raw_syscall(number("kill")?, &mut words)?;
    Ok(Value::Null)
}

fn ptrace(request: u64, pid: Pid) -> Result<i64, Refusal> {
    let mut words = [
        Argument::Number(request),
        raw(pid),
        Argument::Number(0),
        Argument::Number(0),
    ];
    Ok(raw_syscall(number("ptrace")?, &mut words)?)
}

fn ptrace_attach(arguments: &Arguments) -> Attempt {
    let pid = pid(arguments, 0)?;
    ptrace(PTRACE_ATTACH, pid)?;
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).step("wait")?;
    ptrace(PTRACE_DETACH, pid).step("detach")?;
    Ok(Value::Null)
}

fn ptrace_seize(arguments: &Arguments) -> Attempt {
    // The end of this process detaches.
    ptrace(PTRACE_SEIZE, pid(arguments, 0)?)?;
    Ok(Value::Null)
}

/// Bytes of `struct iovec`: an address and a length.
fn iovec(address: usize, length: usize) -> Vec<u8> {
    [address.to_ne_bytes(), length.to_ne_bytes()].concat()
}

/// The address of a mapping of the target with these rights; some address when its maps cannot be read.
fn mapping(pid: Pid, rights: &str) -> usize {
    let maps =
        std::fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero())).unwrap_or_default();
    let line = maps.lines().find(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|found| found.starts_with(rights))
    });
    let start = line
        .and_then(|line| line.split('-').next())
        .and_then(|start| usize::from_str_radix(start, 16).ok());
    start.unwrap_or(0x40_0000)
}

fn memory_read(arguments: &Arguments) -> Attempt {
    let pid = pid(arguments, 0)?;
    let mut bytes = vec![0u8; 16];
    let local = iovec(bytes.as_mut_ptr().addr(), bytes.len());
    let remote = iovec(mapping(pid, "r"), bytes.len());
    let one = || Argument::Number(1);
    let mut words = [
        raw(pid),
        Argument::Bytes(&local),
        one(),
        Argument::Bytes(&remote),
        one(),
        Argument::Number(0),
    ];
    let count = raw_syscall(number("process_vm_readv")?, &mut words)?;
    Ok(json!({ "bytes": count, "start": shorten(&bytes, 4) }))
}

fn memory_write(arguments: &Arguments) -> Attempt {
    let pid = pid(arguments, 0)?;
    // The lowest byte of a writable mapping is written with what it holds: nothing changes. Where it cannot be read, an
    // address that is never mapped is written: EFAULT then means that the right to write was there.
    let mut byte = vec![0u8; 1];
    let local = iovec(byte.as_mut_ptr().addr(), 1);
    let remote = iovec(mapping(pid, "rw"), 1);
    let nowhere = iovec(1, 1);
    let one = || Argument::Number(1);
    let words = |remote| {
        [
            raw(pid),
            Argument::Bytes(&local),
            one(),
            Argument::Bytes(remote),
            one(),
            Argument::Number(0),
        ]
    };
    let is_known = raw_syscall(number("process_vm_readv")?, &mut words(&remote)).is_ok();
    let target = if is_known { &remote } else { &nowhere };
    let count = raw_syscall(number("process_vm_writev")?, &mut words(target))?;
    drop(byte);
    Ok(json!({ "bytes": count }))
}

fn proc_mem(arguments: &Arguments) -> Attempt {
    let path = format!("/proc/{}/mem", arguments.text(0)?);
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)?;
    Ok(Value::Null)
}

fn open_pidfd(arguments: &Arguments) -> Attempt {
    pidfd_open(pid(arguments, 0)?, PidfdFlags::empty())?;
    Ok(Value::Null)
}

fn getfd(arguments: &Arguments) -> Attempt {
    let target = pidfd_open(pid(arguments, 0)?, PidfdFlags::empty()).step("pidfd_open")?;
    pidfd_getfd(&target, arguments.number(1)?, PidfdGetfdFlags::empty()).step("pidfd_getfd")?;
    Ok(Value::Null)
}

fn pidfd_signal(arguments: &Arguments) -> Attempt {
    let target = pidfd_open(pid(arguments, 0)?, PidfdFlags::empty()).step("pidfd_open")?;
    let signal = Signal::from_named_raw(arguments.number(1)?)
        .ok_or_else(|| Refusal::Usage("no such signal".to_owned()))?;
    rustix::process::pidfd_send_signal(&target, signal).step("pidfd_send_signal")?;
    Ok(Value::Null)
}

fn environ_of(arguments: &Arguments) -> Attempt {
    let bytes = std::fs::read(format!("/proc/{}/environ", arguments.text(0)?))?;
    let words = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    Ok(json!(
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect::<Vec<_>>()
    ))
}

fn prlimit(arguments: &Arguments) -> Attempt {
    // RLIMIT_NOFILE is 7 (getrlimit(2)).
    let mut old = [0u8; 16];
    let mut words = [
        Argument::Number(arguments.number(0)?),
        Argument::Number(7),
        Argument::Number(0),
        Argument::Buffer(&mut old),
    ];
    raw_syscall(number("prlimit64")?, &mut words)?;
    Ok(Value::Null)
}

fn kcmp(arguments: &Arguments) -> Attempt {
    // KCMP_VM is 1 (kcmp(2)).
    let mut words = [
        Argument::Number(arguments.number(0)?),
        Argument::Number(arguments.number(1)?),
        Argument::Number(1),
    ];
    let order = raw_syscall(number("kcmp")?, &mut words)?;
    Ok(json!(order))
}

fn set_priority(arguments: &Arguments) -> Attempt {
    // setpriority(2) checks the caller's rights before it looks at the value.
    let pid = pid(arguments, 0)?;
    let now = rustix::process::getpriority_process(Some(pid)).step("getpriority")?;
    rustix::process::setpriority_process(Some(pid), now).step("setpriority")?;
    Ok(json!(now))
}
