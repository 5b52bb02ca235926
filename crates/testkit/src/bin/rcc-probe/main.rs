//! `rcc-probe NAME [ARGUMENTS]`: tries one thing and prints one JSON line that says how it ended.
//!
//! The line is `{"probe": NAME, "ok": bool, "errno": "EPERM" or null, "detail": …}` and the exit code is 0, whatever
//! the kernel said. A wrong name or argument is exit code 2 and no line, so that a typing error in a test can never
//! look like a denial. `rcc-probe list` prints all names with their arguments.
//!
//! Must not hide an error behind another: the errno is that of the call that the probe is about.
#![forbid(unsafe_code)]

mod arguments;
mod datagrams;
mod files;
mod filter;
mod hunt;
mod kernel;
mod kill;
mod mounts;
mod namespaces;
mod net;
mod posture;
mod privileges;
mod process;
mod quic;
mod sockets;
mod staging;
mod sweep;
mod terminal;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use rustix::io::Errno;
use serde_json::{Value, json};

pub(crate) use arguments::Arguments;

/// Why something did not work.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The kernel said no.
    Errno(Errno, Value),
    /// It failed in a way that has no errno: a signal, a timeout, an answer of a peer.
    Other(Value),
    /// The probe was called wrongly.
    Usage(String),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno, Value::Null)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Errno(Errno::from_raw_os_error(number), Value::Null),
            None => Self::Other(json!(error.to_string())),
        }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step(self, name: &str) -> Result<T, Refusal>;
}

impl<T, E: Into<Refusal>> Step<T> for Result<T, E> {
    fn step(self, name: &str) -> Result<T, Refusal> {
        self.map_err(|error| match error.into() {
            Refusal::Errno(errno, Value::Null) => Refusal::Errno(errno, json!({ "step": name })),
            other => other,
        })
    }
}

/// What a probe gives.
pub(crate) type Attempt = Result<Value, Refusal>;

/// One probe: name, arguments for people, and the function.
pub(crate) type Probe = (&'static str, &'static str, fn(&Arguments) -> Attempt);

fn tables() -> impl Iterator<Item = &'static Probe> {
    let own = [
        datagrams::PROBES,
        files::PROBES,
        filter::PROBES,
        hunt::PROBES,
        kernel::PROBES,
        kill::PROBES,
        mounts::PROBES,
        namespaces::PROBES,
        net::PROBES,
        posture::PROBES,
        privileges::PROBES,
        process::PROBES,
        quic::PROBES,
        sockets::PROBES,
        staging::PROBES,
        sweep::PROBES,
        terminal::PROBES,
    ];
    own.into_iter().flatten()
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let name = words.next().unwrap_or_default();
    let arguments = Arguments::new(words.collect::<Vec<OsString>>());
    let Some(name) = name.to_str() else {
        return usage("the name is not text");
    };
    if name == "list" && arguments.count() == 0 {
        let mut lines: Vec<String> = tables()
            .map(|(name, usage, _)| format!("{name} {usage}"))
            .collect();
        lines.extend(
            kernel::SHORT_FORMS
                .iter()
                .map(|(name, words)| format!("{name}   (= syscall {})", words.join(" "))),
        );
        print(&lines.join("\n"));
        return ExitCode::SUCCESS;
    }
    let found = tables().find(|(known, ..)| *known == name);
    let result = match (
        found,
        kernel::SHORT_FORMS.iter().find(|(known, _)| *known == name),
    ) {
        (Some((_, _, probe)), _) => probe(&arguments),
        (None, Some((_, words))) => {
            kernel::syscall(&Arguments::new(words.iter().map(OsString::from).collect()))
        }
        (None, None) => return usage(&format!("no probe is called `{name}`")),
    };
    let (ok, errno, detail) = match result {
        Ok(detail) => (true, None, detail),
        Err(Refusal::Errno(errno, detail)) => {
            (false, Some(rcc_sys::errno_name(errno).into_owned()), detail)
        }
        Err(Refusal::Other(detail)) => (false, None, detail),
        Err(Refusal::Usage(text)) => return usage(&format!("{name}: {text}")),
    };
    print(&json!({ "probe": name, "ok": ok, "errno": errno, "detail": detail }).to_string());
    ExitCode::SUCCESS
}

fn print(text: &str) {
    // A reader that has gone away is its own business.
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}

fn usage(text: &str) -> ExitCode {
    let _ = std::io::stderr().write_all(format!("rcc-probe: {text}\n").as_bytes());
    ExitCode::from(2)
}

/// Bytes as text for a detail, at most `limit` of them.
pub(crate) fn shorten(bytes: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(bytes.get(..limit).unwrap_or(bytes)).into_owned()
}
