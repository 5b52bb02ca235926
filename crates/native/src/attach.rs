//! `rcc attach`'s side: the caller's terminal on one side, a detached run on the other, until the run ends or the keys to
//! detach are typed.
//!
//! Must give the terminal back as it was.

use std::os::fd::{AsFd as _, OwnedFd};

use rcc_sys::process::SignalSet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::{OptionalActions, Termios};

use crate::desk::FRAME;
use crate::error::{NativeError, on_step, on_step_call};

const STEP: &str = "attach to the run";

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The run ended with this exit code.
    Ended(i32),
    /// The keys were typed, or the caller's terminal or whoever read the output is gone; the run goes on.
    Detached,
    /// The supervisor let go: it ended, or we were too slow.
    LetGo,
}

/// Shows a run on the caller's terminal, or its output on the caller's streams.
///
/// # Errors
/// A system call failed. The terminal is restored.
pub fn attach(socket: &OwnedFd, has_terminal: bool, keys: &[u8]) -> Result<Left, NativeError> {
    let wanted = [libc::SIGWINCH, libc::SIGHUP, libc::SIGINT, libc::SIGTERM];
    let wanted = SignalSet::of(&wanted);
    wanted.block_only_these().map_err(on_step(STEP))?;
    let signals = wanted.descriptor().map_err(on_step(STEP))?;
    let raw = if has_terminal { Raw::take() } else { None };
    let mut held = 0;
    loop {
        let mut events = vec![
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        let stdin = rustix::stdio::stdin();
        if raw.is_some() {
            events.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut events, None))
            .map_err(on_step_call(STEP, "poll(2)"))?;
        let ready: Vec<bool> = events
            .iter()
            .map(|event| !event.revents().is_empty())
            .collect();
        drop(events);
        if ready.get(1) == Some(&true) {
            while let Some(number) = signals.next().map_err(on_step(STEP))? {
                if number != libc::SIGWINCH {
                    return Ok(Left::Detached);
                }
                let size = window_size();
                let mut frame = vec![b'w'];
                frame.extend(size.0.to_le_bytes());
                frame.extend(size.1.to_le_bytes());
                let _ = rustix::net::send(socket, &frame, SendFlags::NOSIGNAL);
            }
        }
        if ready.first() == Some(&true) {
            let mut bytes = [0; FRAME];
            let count = match rustix::net::recv(socket, &mut bytes, RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(Errno::INTR) => continue,
                Err(_) => 0,
            };
            match bytes.get(..count).unwrap_or_default() {
                [b'o', output @ ..] => {
                    if !write_all(rustix::stdio::stdout(), output) {
                        return Ok(Left::Detached);
                    }
                }
                [b'e', output @ ..] => {
                    // Whoever closed it still wants the other.
                    write_all(rustix::stdio::stderr(), output);
                }
                [b'x', a, b, c, d] => return Ok(Left::Ended(i32::from_le_bytes([*a, *b, *c, *d]))),
                _ => return Ok(Left::LetGo),
            }
        }
        if ready.get(2) == Some(&true) {
            let mut bytes = [0; 4096];
            let count = match rustix::io::read(stdin, &mut bytes) {
                Ok(0) | Err(Errno::IO) => return Ok(Left::Detached),
                Ok(count) => count,
                Err(_) => continue,
            };
            let mut frame = vec![b'i'];
            for &byte in bytes.get(..count).unwrap_or_default() {
                if keys.get(held) == Some(&byte) {
                    held += 1;
                    if held == keys.len() {
                        let _ = rustix::net::send(socket, &frame, SendFlags::NOSIGNAL);
                        return Ok(Left::Detached);
                    }
                    continue;
                }
                frame.extend(keys.get(..held).unwrap_or_default());
                held = usize::from(keys.first() == Some(&byte));
                if held == 0 {
                    frame.push(byte);
                }
            }
            if frame.len() > 1 {
                let _ = rustix::net::send(socket, &frame, SendFlags::NOSIGNAL);
            }
        }
    }
}

/// Writes everything; whether somebody still takes it.
fn write_all(stream: std::os::fd::BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(
                    &mut [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT)],
                    None,
                );
            }
            Err(_) => return false,
        }
    }
    true
}

/// Rows and columns of the caller's terminal; zeros when there is none.
#[must_use]
pub fn window_size() -> (u16, u16) {
    rustix::termios::tcgetwinsize(rustix::stdio::stdin())
        .map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// The caller's terminal in raw mode.
struct Raw(Termios);

impl Raw {
    fn take() -> Option<Self> {
        let settings = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = settings.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw).ok()?;
        Some(Self(settings))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0);
    }
}
