//! `rcc-world`: the processes inside a test world. Started by the testkit's library, never by hand.
//!
//! Must not be run outside namespaces of its own: `init` refuses to when it is not pid 1.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    reason = "development only: a world whose invariants break must die loudly, its log reaches the test"
)]

mod archive;
mod ask;
mod control;
mod counters;
mod git;
mod host;
mod http;
mod inet;
mod init;
mod job;
mod messages;
mod network;
mod processes;
mod quic;
mod registry;
mod services;
mod sockets;
mod strange_dns;
mod streams;
mod tls;
mod unix;
mod wiretap;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Any error; its text goes to the world's log.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let path = || PathBuf::from(rest.first().cloned().unwrap_or_default());
    let result = match command.to_str() {
        Some("init") => init::run(&path()),
        Some("inet") => inet::run(&path()),
        Some("host") => host::run(&path()),
        Some("hold") => init::hold(),
        Some("job") => return job::run(&rest),
        Some("ask") => ask::run(&rest),
        _ => Err("usage: rcc-world init|inet|host|hold|job|ask …".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("{}: {error}", command.to_string_lossy()));
            ExitCode::FAILURE
        }
    }
}

/// Writes one line to the world's log, which is every process' stderr.
pub(crate) fn log(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("rcc-world {text}\n").as_bytes());
}
