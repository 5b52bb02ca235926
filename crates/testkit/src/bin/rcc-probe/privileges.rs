//! Probes of ids, capabilities and what executing a file gives.
//!
//! Must change only its own process: each attempt runs in a child or ends with the probe.

use std::time::Duration;

use rcc_sys::probe::{Argument, in_child, raw_syscall};
use serde_json::{Value, json};

use crate::files::number;
use crate::namespaces::attempt;
use crate::{Arguments, Attempt, Probe};

pub(crate) const PROBES: &[Probe] = &[
    (
        "whoami",
        "  (ids, capabilities, no_new_privs of this process: run it setuid or with file capabilities)",
        whoami,
    ),
    ("setuid", "UID", setuid),
    ("setgid", "GID", setgid),
    ("setgroups", "GID", setgroups),
    ("setresuid", "UID", setresuid),
    ("setfsuid", "UID", setfsuid),
    ("capset-all", "  (asks for every capability)", capset_all),
    ("ambient-raise", "CAPABILITY   (number)", ambient_raise),
    (
        "clear-no-new-privs",
        "  (prctl PR_SET_NO_NEW_PRIVS 0)",
        clear_no_new_privs,
    ),
    ("securebits", "BITS   (sets them)", securebits),
    (
        "add-seccomp-filter",
        "  (an allow-all filter, needs no_new_privs: nested sandboxes use it)",
        add_filter,
    ),
    (
        "raise-limit",
        "RESOURCE   (number: sets the hard limit to infinity)",
        raise_limit,
    ),
];

const LIMIT: Duration = Duration::from_secs(5);

fn whoami(_: &Arguments) -> Attempt {
    Ok(crate::posture::credentials())
}

/// Makes a call of numbers in a child.
fn call(name: &str, words: &[u64]) -> Attempt {
    let nr = number(name)?;
    let mut words: Vec<Argument<'_>> = words.iter().copied().map(Argument::Number).collect();
    attempt(in_child(LIMIT, || raw_syscall(nr, &mut words)))
}

fn setuid(arguments: &Arguments) -> Attempt {
    call("setuid", &[arguments.number(0)?])
}

fn setgid(arguments: &Arguments) -> Attempt {
    call("setgid", &[arguments.number(0)?])
}

fn setgroups(arguments: &Arguments) -> Attempt {
    let group = arguments.number::<u32>(0)?.to_ne_bytes();
    let nr = number("setgroups")?;
    attempt(in_child(LIMIT, || {
        raw_syscall(nr, &mut [Argument::Number(1), Argument::Bytes(&group)])
    }))
}

fn setresuid(arguments: &Arguments) -> Attempt {
    let uid = arguments.number(0)?;
    call("setresuid", &[uid, uid, uid])
}

fn setfsuid(arguments: &Arguments) -> Attempt {
    let wanted = arguments.number::<u64>(0)?;
    let nr = number("setfsuid")?;
    // setfsuid(2) reports no error: the second call gives what is in force.
    attempt(in_child(LIMIT, || {
        raw_syscall(nr, &mut [Argument::Number(wanted)])?;
        let now = raw_syscall(nr, &mut [Argument::Number(u64::MAX)])?;
        if now.unsigned_abs() == wanted {
            Ok(now)
        } else {
            Err(rustix::io::Errno::PERM)
        }
    }))
}

fn capset_all(_: &Arguments) -> Attempt {
    // Header: version 3, pid 0. Data: effective, permitted, inheritable, twice 32 bits (capget(2)).
    let header = [0x2008_0522u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
    // Bits 0 to 40 are the capabilities of Linux 5.9 and later.
    let low = [0xffu8; 12];
    let high = [0xff, 1, 0, 0].repeat(3);
    let data = [&low[..], &high].concat();
    let nr = number("capset")?;
    attempt(in_child(LIMIT, || {
        raw_syscall(nr, &mut [Argument::Bytes(&header), Argument::Bytes(&data)])
    }))
}

fn ambient_raise(arguments: &Arguments) -> Attempt {
    // PR_CAP_AMBIENT 47, PR_CAP_AMBIENT_RAISE 2 (prctl(2)).
    call("prctl", &[47, 2, arguments.number(0)?, 0, 0])
}

fn clear_no_new_privs(_: &Arguments) -> Attempt {
    // PR_SET_NO_NEW_PRIVS is 38; anything but 1 is EINVAL by design (prctl(2)).
    call("prctl", &[38, 0, 0, 0, 0])
}

fn securebits(arguments: &Arguments) -> Attempt {
    // PR_SET_SECUREBITS is 28.
    call("prctl", &[28, arguments.number(0)?])
}

fn add_filter(_: &Arguments) -> Attempt {
    // One instruction, BPF_RET | BPF_K with SECCOMP_RET_ALLOW (seccomp(2)): code, jt, jf, k.
    let instruction: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
    // struct sock_fprog: length, padding, pointer.
    let mut program = vec![1u8, 0, 0, 0, 0, 0, 0, 0];
    program.extend_from_slice(&(instruction.as_ptr().addr() as u64).to_ne_bytes());
    let nr = number("seccomp")?;
    attempt(in_child(LIMIT, || {
        rustix::thread::set_no_new_privs(true)?;
        // SECCOMP_SET_MODE_FILTER is 1.
        raw_syscall(
            nr,
            &mut [
                Argument::Number(1),
                Argument::Number(0),
                Argument::Bytes(&program),
            ],
        )
    }))
}

fn raise_limit(arguments: &Arguments) -> Attempt {
    let resource = arguments.number(0)?;
    let infinity = [0xffu8; 16];
    let nr = number("prlimit64")?;
    attempt(in_child(LIMIT, || {
        let mut words = [
            Argument::Number(0),
            Argument::Number(resource),
            Argument::Bytes(&infinity),
            Argument::Number(0),
        ];
        raw_syscall(nr, &mut words)
    }))
}

/// Capabilities by number, for records (capability.h).
pub(crate) fn capability_names(bits: u64) -> Value {
    const NAMES: &[&str] = &[
        "chown",
        "dac_override",
        "dac_read_search",
        "fowner",
        "fsetid",
        "kill",
        "setgid",
        "setuid",
        "setpcap",
        "linux_immutable",
        "net_bind_service",
        "net_broadcast",
        "net_admin",
        "net_raw",
        "ipc_lock",
        "ipc_owner",
        "sys_module",
        "sys_rawio",
        "sys_chroot",
        "sys_ptrace",
        "sys_pacct",
        "sys_admin",
        "sys_boot",
        "sys_nice",
        "sys_resource",
        "sys_time",
        "sys_tty_config",
        "mknod",
        "lease",
        "audit_write",
        "audit_control",
        "setfcap",
        "mac_override",
        "mac_admin",
        "syslog",
        "wake_alarm",
        "block_suspend",
        "audit_read",
        "perfmon",
        "bpf",
        "checkpoint_restore",
    ];
    let names = (0..64)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit: usize| {
            NAMES
                .get(bit)
                .map_or_else(|| format!("cap_{bit}"), |name| (*name).to_owned())
        });
    json!(names.collect::<Vec<_>>())
}
