//! Files that the caller handed in as standard streams: their mode is the caller's.
//!
//! With `rcc run … > FILE` the agent has a descriptor of the file and may change its mode (`fchmod(2)`), to make it a program
//! of the caller's or writable for everyone. Must not touch what the caller does not own, nor anything but the mode.

use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{FileType, Mode, fchmod, fstat};

use crate::output;

/// The modes before the run, of standard input, output and error in this order; none for what is no regular file.
#[derive(Debug)]
pub(crate) struct Handed([Option<u32>; 3]);

const NAMES: [&str; 3] = ["input", "output", "error"];

fn mode(stream: BorrowedFd<'_>) -> Option<u32> {
    let status = fstat(stream).ok()?;
    (FileType::from_raw_mode(status.st_mode) == FileType::RegularFile)
        .then_some(status.st_mode & 0o7777)
}

impl Handed {
    /// Notes the modes.
    pub(crate) fn note() -> Self {
        Self([
            mode(stdin().as_fd()),
            mode(stdout().as_fd()),
            mode(stderr().as_fd()),
        ])
    }

    /// Gives the files the modes that they had, and tells about those that had another.
    pub(crate) fn restore(&self) {
        let (input, output, error) = (stdin(), stdout(), stderr());
        let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
        for ((stream, before), name) in streams.into_iter().zip(self.0).zip(NAMES) {
            let Some(before) = before else { continue };
            // What became of a set-user-id bit when the file was written to is no act of the agent.
            let now = mode(stream).unwrap_or(before);
            if now == before || now == before & !0o6000 {
                continue;
            }
            match fchmod(stream, Mode::from_raw_mode(before)) {
                Ok(()) => output::warn(&format!(
                    "the agent changed the mode of the file that is its standard {name} to {now:04o}; it is {before:04o} again"
                )),
                Err(errno) => output::warn(&format!(
                    "the agent changed the mode of the file that is its standard {name} to {now:04o}, and it cannot be changed back: {}",
                    rcc_sys::describe_errno(errno)
                )),
            }
        }
    }
}
