//! Kills a program at the very system call that a test names: no timing, and no stop at any other call.
//!
//! # Theory of operation
//! The program starts under a seccomp filter that hands one call, and nothing else, to its tracer (`SECCOMP_RET_TRACE`,
//! `seccomp(2)`), which counts them and lets them through; the one that is meant is never made. strace stops at every call of
//! the program, which takes five times as long, and with its own filter it injects no signals.
//!
//! Children are followed, because without a tracer such a call would fail for them, and never counted. What the killed
//! process leaves running is waited for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rcc_sys::probe::{Argument, raw_syscall};
use rcc_sys::process::{Alone, exit_now, fork};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use serde_json::json;

use crate::files::number;
use crate::filter::instruction;
use crate::{Arguments, Attempt, Probe, Refusal, Step as _};

pub(crate) const PROBES: &[Probe] = &[(
    "kill-at",
    "CALL NUMBER PROGRAM [ARGUMENTS]   (runs it and kills it when it comes to a call for the so-manieth time; of `openat` only those that may create count)",
    kill_at,
)];

/// Requests of `ptrace(2)`.
const PTRACE_TRACEME: u64 = 0;
const PTRACE_CONT: u64 = 7;
const PTRACE_SETOPTIONS: u64 = 0x4200;
/// Options: `TRACEFORK`, `TRACEVFORK`, `TRACECLONE`, `TRACEEXEC` (without it an exec is a `SIGTRAP`), `TRACESECCOMP`, `EXITKILL`.
const OPTIONS: u64 = 2 | 4 | 8 | 0x10 | 0x80 | 0x10_0000;
/// A stop by the filter.
const PTRACE_EVENT_SECCOMP: i32 = 7;
/// Code of a program that could not be started.
const NOT_STARTED: i32 = 127;

/// Offset of the low half of the third argument in `struct seccomp_data`.
#[cfg(target_endian = "little")]
const FLAGS: u32 = 32;
#[cfg(target_endian = "big")]
const FLAGS: u32 = 36;

/// `if it is this call { TRACE } else { ALLOW }`.
fn program(call: u32, is_openat: bool) -> Vec<u8> {
    // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JSET|BPF_K, BPF_RET|BPF_K.
    let (load, equal, any_bit, answer) = (0x20, 0x15, 0x45, 0x06);
    let mut all = vec![instruction(load, 0, 0, 0)];
    if is_openat {
        all.push(instruction(equal, 0, 3, call));
        all.push(instruction(load, 0, 0, FLAGS));
        all.push(instruction(any_bit, 0, 1, OFlags::CREATE.bits()));
    } else {
        all.push(instruction(equal, 0, 1, call));
    }
    all.push(instruction(answer, 0, 0, 0x7ff0_0000));
    all.push(instruction(answer, 0, 0, 0x7fff_0000));
    all.concat()
}

/// Installs the filter; where that takes it, the program gains no privileges any more.
fn install(instructions: &[u8]) -> Result<(), Errno> {
    // struct sock_fprog: number of instructions, padding, pointer.
    let count = u16::try_from(instructions.len() / 8).unwrap_or_default();
    let mut header = vec![0u8; 8];
    header[..2].copy_from_slice(&count.to_ne_bytes());
    header.extend_from_slice(&(instructions.as_ptr().addr() as u64).to_ne_bytes());
    let call = rcc_testkit::syscalls::number("seccomp").ok_or(Errno::NOSYS)?;
    // SECCOMP_SET_MODE_FILTER is 1.
    let install = || {
        let mut words = [
            Argument::Number(1),
            Argument::Number(0),
            Argument::Bytes(&header),
        ];
        raw_syscall(call, &mut words).map(drop)
    };
    match install() {
        Err(Errno::ACCESS) => {
            rustix::thread::set_no_new_privs(true)?;
            install()
        }
        other => other,
    }
}

fn ptrace(request: u64, pid: u64, data: u64) -> Result<(), Errno> {
    let call = rcc_testkit::syscalls::number("ptrace").ok_or(Errno::NOSYS)?;
    let words = [request, pid, 0, data];
    raw_syscall(call, &mut words.map(Argument::Number)).map(drop)
}

fn raw(pid: Pid) -> u64 {
    u64::from(pid.as_raw_nonzero().get().unsigned_abs())
}

/// Becomes the program, with a tracer and the filter.
fn start(program: &[u8], words: &[OsString]) -> Errno {
    let prepared = ptrace(PTRACE_TRACEME, 0, 0).and_then(|()| install(program));
    let (Ok(()), Some((name, rest))) = (prepared, words.split_first()) else {
        return prepared.err().unwrap_or(Errno::INVAL);
    };
    let error = Command::new(name).args(rest).exec();
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}

fn kill_at(arguments: &Arguments) -> Attempt {
    let name = arguments.text(0)?;
    let call = u32::try_from(number(name)?).map_err(|_| Refusal::Usage("no call".to_owned()))?;
    let wanted = arguments.number::<u64>(1)?;
    arguments.path(2)?;
    let filter = program(call, name == "openat");
    let alone = Alone::prove().map_err(|error| Refusal::Other(json!(error.to_string())))?;
    let forked = fork(&alone).map_err(|error| Refusal::Other(json!(error.to_string())))?;
    let Some(child) = forked else {
        let errno = start(&filter, arguments.rest(2));
        crate::print(&format!("cannot start it: {errno}"));
        exit_now(NOT_STARTED);
    };
    let mut known = BTreeSet::from([raw(child)]);
    let (mut is_ready, mut calls, mut code) = (false, 0, None);
    loop {
        let (pid, status) = match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some(found)) => found,
            Ok(None) | Err(Errno::INTR) => continue,
            Err(Errno::CHILD) => break,
            Err(errno) => return Err(errno).step("wait"),
        };
        if !status.stopped() {
            if pid == child {
                // As a shell says it.
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                code = status.exit_status().or(signal);
            }
            continue;
        }
        let is_new = known.insert(raw(pid));
        let mut signal = status.stopping_signal().unwrap_or_default();
        let event = status.as_raw() >> 16;
        if pid == child && !is_ready {
            // Its exec(2).
            ptrace(PTRACE_SETOPTIONS, raw(pid), OPTIONS).step("options")?;
            is_ready = true;
            signal = 0;
        } else if event == PTRACE_EVENT_SECCOMP && pid == child {
            calls += 1;
            if calls == wanted {
                rustix::process::kill_process(pid, Signal::KILL).step("kill")?;
                continue;
            }
        }
        // A new one begins stopped.
        if event != 0 || (is_new && signal == Signal::STOP.as_raw()) {
            signal = 0;
        }
        // It may have been killed meanwhile; then its end comes next.
        let data = u64::from(signal.unsigned_abs());
        match ptrace(PTRACE_CONT, raw(pid), data) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno).step("continue"),
        }
    }
    Ok(json!({ "killed": calls >= wanted, "calls": calls, "code": code }))
}
