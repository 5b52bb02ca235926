//! Probes of the terminal: pushing input into it, and reaching another one.
//!
//! Must use the controlling terminal where there is one, else stdin; both are in the record.

use rcc_sys::probe::{Argument, number_of, raw_syscall};
use serde_json::{Value, json};

use crate::files::number;
use crate::{Arguments, Attempt, Probe, Step as _};

pub(crate) const PROBES: &[Probe] = &[
    ("tiocsti", "  (pushes one `x`)", tiocsti),
    (
        "tiocsti-high-bits",
        "  (the same request with bits above the 32nd set)",
        tiocsti_high,
    ),
    (
        "tioclinux",
        "  (TIOCL_GETSHIFTSTATE, harmless; the pasting ones share its number)",
        tioclinux,
    ),
    ("tioclinux-high-bits", "", tioclinux_high),
    ("tiocsctty", "  (steals a controlling terminal)", tiocsctty),
    ("tiocnotty", "", tiocnotty),
    ("open-tty", "  (/dev/tty)", open_tty),
    (
        "terminal-of-parent",
        "  (writes nothing to /proc/PPID/fd/0, opens it)",
        terminal_of_parent,
    ),
];

/// ioctl numbers of asm-generic/ioctls.h.
const TIOCSTI: u64 = 0x5412;
const TIOCSCTTY: u64 = 0x540e;
const TIOCNOTTY: u64 = 0x5422;
const TIOCLINUX: u64 = 0x541c;
/// The kernel takes the request as an `unsigned int`; a filter that compares 64 bits misses this.
const HIGH: u64 = 0x1_0000_0000;

fn terminal() -> Argument<'static> {
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
    {
        Ok(file) => {
            let number = number_of(&file);
            // Kept open until the end of the process, which is near.
            std::mem::forget(file);
            number
        }
        Err(_) => Argument::Number(0),
    }
}

fn request(request: u64, bytes: &[u8]) -> Attempt {
    let mut bytes = bytes.to_vec();
    let mut words = [
        terminal(),
        Argument::Number(request),
        Argument::Buffer(&mut bytes),
    ];
    raw_syscall(number("ioctl")?, &mut words)?;
    Ok(Value::Null)
}

fn tiocsti(_: &Arguments) -> Attempt {
    request(TIOCSTI, b"x")
}

fn tiocsti_high(_: &Arguments) -> Attempt {
    request(TIOCSTI | HIGH, b"x")
}

fn tioclinux(_: &Arguments) -> Attempt {
    request(TIOCLINUX, &[6])
}

fn tioclinux_high(_: &Arguments) -> Attempt {
    request(TIOCLINUX | HIGH, &[6])
}

fn tiocsctty(_: &Arguments) -> Attempt {
    raw_syscall(
        number("ioctl")?,
        &mut [
            Argument::Number(0),
            Argument::Number(TIOCSCTTY),
            Argument::Number(1),
        ],
    )?;
    Ok(Value::Null)
}

fn tiocnotty(_: &Arguments) -> Attempt {
    request(TIOCNOTTY, &[0])
}

fn open_tty(_: &Arguments) -> Attempt {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")?;
    Ok(Value::Null)
}

fn terminal_of_parent(_: &Arguments) -> Attempt {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let path = format!("/proc/{parent}/fd/0");
    let target = std::fs::read_link(&path).step("readlink")?;
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .step("open")?;
    Ok(json!(target))
}
