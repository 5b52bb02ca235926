//! Moves the bytes of one stream from where they come to where they go, through a small buffer.
//!
//! For `rcc exec`, which hands no descriptor of its caller's into the sandbox: only pipes, and these pumps at their other ends.
//! A full buffer stops the reading, so a slow reader slows its writer, and nothing is lost. When the reader goes away the
//! source is closed too: the writer learns it as from any pipe.
//!
//! Must not change a byte, nor block while the run lasts.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use rcc_sys::process::SignalDescriptor;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes taken from the source before the other side must have taken them.
const BUFFER: usize = 64 * 1024;
/// Bytes written at once: what a pipe that `poll(2)` calls writable takes without blocking (`PIPE_BUF`, `pipe(7)`).
const PIECE: usize = 4096;

/// One direction of one stream.
#[derive(Debug)]
pub(crate) struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    held: VecDeque<u8>,
    /// Whether the source is the caller's, and what is left in it nobody's here.
    is_input: bool,
}

impl Pump {
    pub(crate) fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            held: VecDeque::new(),
            is_input: false,
        }
    }

    /// One that brings the caller's input into the sandbox.
    pub(crate) fn of_input(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            is_input: true,
            ..Self::new(from, to)
        }
    }

    fn reads(&self) -> bool {
        self.from.is_some() && self.to.is_some() && self.held.len() < BUFFER
    }

    fn writes(&self) -> bool {
        self.to.is_some() && !self.held.is_empty()
    }

    /// What to wait for; [`Pump::serve`] takes the answers to exactly these.
    pub(crate) fn interests<'fd>(&'fd self, events: &mut Vec<PollFd<'fd>>) {
        if let Some(from) = self.from.as_ref().filter(|_| self.reads()) {
            events.push(PollFd::new(from, PollFlags::IN));
        }
        if let Some(to) = self.to.as_ref().filter(|_| self.writes()) {
            events.push(PollFd::new(to, PollFlags::OUT));
        }
    }

    /// Reads and writes once each, as far as the answers allow.
    pub(crate) fn serve(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter();
        let mut is_ready =
            |asked: bool| asked && ready.next().is_some_and(|flags| !flags.is_empty());
        let (read, write) = (is_ready(self.reads()), is_ready(self.writes()));
        if write {
            self.write();
        }
        if read {
            self.read(BUFFER);
        }
        self.settle();
    }

    /// Takes at most so many bytes; how many it were.
    fn read(&mut self, most: usize) -> usize {
        let Some(from) = &self.from else { return 0 };
        let mut bytes = [0; 16 * 1024];
        let space = bytes.len().min(most);
        match rustix::io::read(from, bytes.get_mut(..space).unwrap_or_default()) {
            Ok(count @ 1..) => {
                self.held.extend(bytes.get(..count).unwrap_or_default());
                count
            }
            Err(Errno::INTR | Errno::AGAIN) => 0,
            _ => {
                self.from = None;
                0
            }
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return };
        let (piece, _) = self.held.as_slices();
        match rustix::io::write(to, piece.get(..piece.len().min(PIECE)).unwrap_or_default()) {
            Ok(count) => drop(self.held.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                self.held.clear();
                (self.from, self.to) = (None, None);
            }
        }
    }

    /// Passes the end on, once everything before it has been passed on.
    fn settle(&mut self) {
        if self.from.is_none() && self.held.is_empty() {
            self.to = None;
        }
    }

    /// Passes on what was in the pipe when its writer ended, however slow the reader is. A signal to `signals` gives up.
    ///
    /// Processes that were left behind may hold the pipe and go on writing, so no more is taken than a pipe holds. Input that
    /// nobody read is left to the caller's next command.
    pub(crate) fn finish(&mut self, signals: &SignalDescriptor) {
        if self.is_input {
            (self.from, self.to) = (None, None);
            return;
        }
        let Some(from) = &self.from else {
            return self.empty(signals);
        };
        let mut left = rustix::pipe::fcntl_getpipe_size(from).unwrap_or(BUFFER);
        if rustix::io::ioctl_fionbio(from, true).is_err() {
            left = 0;
        }
        while left > 0 && self.from.is_some() && self.to.is_some() {
            let count = self.read(left);
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
            self.empty(signals);
        }
        self.from = None;
        self.empty(signals);
    }

    fn empty(&mut self, signals: &SignalDescriptor) {
        while let Some(to) = self.to.as_ref().filter(|_| !self.held.is_empty()) {
            let mut events = [
                PollFd::new(to, PollFlags::OUT),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            let waited = rustix::io::retry_on_intr(|| poll(&mut events, None));
            let is_asked = events
                .get(1)
                .is_some_and(|event| !event.revents().is_empty());
            if waited.is_err() || (is_asked && ends(signals)) {
                self.held.clear();
                return;
            }
            if events
                .first()
                .is_some_and(|event| !event.revents().is_empty())
            {
                self.write();
            }
        }
    }
}

/// Whether one of the signals that came wants an end.
fn ends(signals: &SignalDescriptor) -> bool {
    let wanted = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    std::iter::from_fn(|| signals.next().ok().flatten()).any(|number| wanted.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::Timespec;
    use rustix::pipe::{PipeFlags, pipe_with};

    /// Polls and serves until nothing is ready any more.
    fn run(pump: &mut Pump) {
        loop {
            let mut events = Vec::new();
            pump.interests(&mut events);
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if poll(&mut events, Some(&now)).unwrap() == 0 {
                return;
            }
            let ready: Vec<PollFlags> = events.iter().map(PollFd::revents).collect();
            drop(events);
            pump.serve(&ready);
        }
    }

    #[test]
    fn bytes_and_the_end_arrive_and_a_slow_reader_stops_the_reading() {
        let (source, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (reader, sink) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut pump = Pump::new(source, sink);
        // Nobody reads: it takes what the second pipe and the buffer hold, and no more.
        let mut written = 0;
        loop {
            match rustix::io::write(&writer, &[7; 4096]) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => {
                    let before = written;
                    run(&mut pump);
                    if matches!(rustix::io::write(&writer, &[7; 1]), Err(Errno::AGAIN)) {
                        break;
                    }
                    written = before + 1;
                }
                Err(errno) => panic!("{errno}"),
            }
            assert!(written < 1 << 20, "it never stops");
        }
        drop(writer);
        let mut read = 0;
        let mut chunk = vec![0; 65536];
        loop {
            match rustix::io::read(&reader, &mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    assert!(chunk[..count].iter().all(|byte| *byte == 7));
                    read += count;
                }
                Err(Errno::AGAIN) => run(&mut pump),
                Err(errno) => panic!("{errno}"),
            }
        }
        assert_eq!(read, written);
    }

    #[test]
    fn a_reader_that_left_closes_the_source() {
        let (source, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (reader, sink) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut pump = Pump::new(source, sink);
        drop(reader);
        rustix::io::write(&writer, b"x").unwrap();
        run(&mut pump);
        assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::PIPE));
    }
}
