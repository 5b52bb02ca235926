//! What an attack needs around it on the host's side: services to be reached, keys to be found, files to be opened.
//!
//! Must not be part of a verdict by itself: these set a scene, or list what a walk finds.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use rcc_sys::probe::{Argument, raw_syscall};
use rustix::fs::OFlags;
use serde_json::json;

use crate::files::{name_of, number, walk};
use crate::{Arguments, Attempt, Probe, Refusal, Step as _};

pub(crate) const PROBES: &[Probe] = &[
    (
        "unix-serve",
        "ADDRESS…   (PATH, dgram:PATH, @ABSTRACT; prints `ready`, answers `from the host` until killed)",
        serve,
    ),
    (
        "with-session-key",
        "NAME PROGRAM [ARGUMENTS]   (runs it in a new session keyring that holds a key of this name)",
        with_session_key,
    ),
    (
        "default-signals",
        "PROGRAM [ARGUMENTS]   (runs it with the default action for 32 and 33, which the C library keeps to itself)",
        default_signals,
    ),
    (
        "flip",
        "A B STOP   (exchanges two names as fast as it can, until a file STOP exists; the count of exchanges)",
        flip,
    ),
    (
        "writable-below",
        "ROOT…   (opens every file for writing and writes nothing; process directories of /proc are left out)",
        writable_below,
    ),
];

fn serve(arguments: &Arguments) -> Attempt {
    for index in 0..arguments.count() {
        let address = arguments.text(index)?;
        if let Some(path) = address.strip_prefix("dgram:") {
            // A bound datagram socket takes what is sent without anybody reading.
            std::mem::forget(UnixDatagram::bind(path).step(address)?);
            continue;
        }
        let listener = match address.strip_prefix('@') {
            Some(name) => UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?),
            None => UnixListener::bind(address),
        };
        let listener = listener.step(address)?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"from the host\n");
            }
        });
    }
    crate::print("ready");
    loop {
        std::thread::park();
    }
}

fn with_session_key(arguments: &Arguments) -> Attempt {
    let name = std::ffi::CString::new(arguments.text(0)?)
        .map_err(|_| Refusal::Usage("a zero byte".to_owned()))?;
    // KEYCTL_JOIN_SESSION_KEYRING is 1; a null name makes an anonymous one.
    let mut words = [Argument::Number(1), Argument::Number(0)];
    raw_syscall(number("keyctl")?, &mut words).step("keyctl")?;
    let mut words = [
        Argument::Text(c"user"),
        Argument::Text(&name),
        Argument::Bytes(b"secret of the session"),
        Argument::Number(21),
        // KEY_SPEC_SESSION_KEYRING.
        Argument::Number((-3i64).cast_unsigned()),
    ];
    raw_syscall(number("add_key")?, &mut words).step("add_key")?;
    use std::os::unix::process::CommandExt as _;
    Err(Command::new(arguments.path(1)?)
        .args(arguments.rest(2))
        .exec())
    .step("exec")
}

/// Whoever was started by `posix_spawn(3)` of glibc ignores them, and so do all that it executes: its functions refuse to change that.
fn default_signals(arguments: &Arguments) -> Attempt {
    for signal in [32, 33] {
        // `struct sigaction` of the kernel: SIG_DFL, no flags, no restorer, an empty mask; and the size of the mask.
        let mut words = [
            Argument::Number(signal),
            Argument::Bytes(&[0; 32]),
            Argument::Number(0),
            Argument::Number(8),
        ];
        raw_syscall(number("rt_sigaction")?, &mut words).step("rt_sigaction")?;
    }
    use std::os::unix::process::CommandExt as _;
    Err(Command::new(arguments.path(0)?)
        .args(arguments.rest(1))
        .exec())
    .step("exec")
}

fn flip(arguments: &Arguments) -> Attempt {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let (a, b, stop) = (arguments.path(0)?, arguments.path(1)?, arguments.path(2)?);
    crate::print("ready");
    let mut count = 0u64;
    while !stop.exists() {
        // Something else may hold one of them for a moment; what counts is that they move.
        for _ in 0..100 {
            count += u64::from(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok());
        }
    }
    Ok(json!(count))
}

fn writable_below(arguments: &Arguments) -> Attempt {
    let mut opened = Vec::new();
    let mut refused = std::collections::BTreeMap::<String, usize>::new();
    let mut attempt = |path: &Path, kind: &std::fs::FileType| {
        if kind.is_dir() || kind.is_symlink() || kind.is_fifo() || kind.is_socket() {
            return;
        }
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        match OpenOptions::new()
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
        {
            Ok(_) => opened.push(path.display().to_string()),
            Err(error) => *refused.entry(name_of(&error)).or_default() += 1,
        }
    };
    for index in 0..arguments.count() {
        for root in children_if_kernel(arguments.path(index)?) {
            match root.symlink_metadata() {
                Ok(data) if data.is_dir() => walk(&root, &mut attempt),
                Ok(data) => attempt(&root, &data.file_type()),
                Err(_) => {}
            }
        }
    }
    opened.sort();
    let detail = json!({ "opened": opened, "refused": refused });
    if opened.is_empty() {
        Err(Refusal::Other(detail))
    } else {
        Ok(detail)
    }
}

/// `walk` does not enter `/proc` and `/sys` from above; as roots of a walk their children are visited one by one,
/// without those of processes.
fn children_if_kernel(root: &Path) -> Vec<std::path::PathBuf> {
    if root != Path::new("/proc") && root != Path::new("/sys") {
        return vec![root.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !(root == Path::new("/proc")
                && (name == "self"
                    || name == "thread-self"
                    || name.bytes().all(|byte| byte.is_ascii_digit())))
        })
        .collect()
}
