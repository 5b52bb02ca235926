//! The other end of a detached agent's terminal or pipes: everything is recorded and shown to whoever is attached.
//!
//! Bounds: what an attached client has not taken is kept up to 1 MiB; then the agent's output is not read until it has, for
//! five seconds at most, and then that client is let go. What it missed is in the recording. Must not block.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::Winsize;

use super::recording::Recording;

/// Bytes that wait for one client before the agent's output is not read any more.
const WAITING: usize = 1 << 20;
/// How long the agent may be held up by a client.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest datagram to or from a client: its kind and the bytes.
pub(crate) const FRAME: usize = 8 << 10;
/// What is shown again to who attaches, in bytes.
const TAIL: usize = 32 << 10;

/// The streams of a detached run, on the supervisor's side.
#[derive(Debug)]
pub struct Recorder {
    terminal: Option<OwnedFd>,
    /// Output and error, when there is no terminal.
    pipes: Vec<(u8, OwnedFd)>,
    recording: Recording,
    tell_given_up: fn(&std::io::Error),
    tail: VecDeque<(u8, Vec<u8>)>,
    tail_size: usize,
    keys: VecDeque<u8>,
    attached: Vec<Attached>,
}

#[derive(Debug)]
struct Attached {
    socket: OwnedFd,
    /// Rows and columns of its terminal; none where it has no terminal.
    size: Option<(u16, u16)>,
    frames: VecDeque<Vec<u8>>,
    waiting: usize,
    full_since: Option<Instant>,
    is_gone: bool,
}

impl Recorder {
    /// Records into `directory` what comes through these pipes (output, error), or through the terminal that the run will have.
    /// `tell_given_up` is called when the recording ends before the run does.
    ///
    /// # Errors
    /// There can be no recording there: no room, or an earlier one.
    pub fn new(
        directory: OwnedFd,
        pipes: Option<[OwnedFd; 2]>,
        tell_given_up: fn(&std::io::Error),
    ) -> rustix::io::Result<Self> {
        let recording = Recording::new(directory)?;
        let pipes = pipes.into_iter().flatten().zip([b'o', b'e']);
        let pipes: Vec<(u8, OwnedFd)> = pipes.map(|(pipe, kind)| (kind, pipe)).collect();
        for (_, pipe) in &pipes {
            let _ = rustix::io::ioctl_fionbio(pipe, true);
        }
        Ok(Self {
            terminal: None,
            pipes,
            recording,
            tell_given_up,
            tail: VecDeque::new(),
            tail_size: 0,
            keys: VecDeque::new(),
            attached: Vec::new(),
        })
    }

    /// Takes the run's terminal over.
    pub(crate) fn take_terminal(&mut self, master: OwnedFd) {
        let _ = rustix::io::ioctl_fionbio(&master, true);
        self.terminal = Some(master);
    }

    /// Shows a client what comes from now on, and what came last.
    pub(super) fn attach(&mut self, socket: OwnedFd, rows: u16, columns: u16) {
        let mut client = Attached {
            socket,
            size: None,
            frames: VecDeque::new(),
            waiting: 0,
            full_since: None,
            is_gone: false,
        };
        for (kind, bytes) in &self.tail {
            client.push(*kind, bytes);
        }
        self.attached.push(client);
        self.resize(self.attached.len() - 1, rows, columns);
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Notes the size of a client's terminal, which becomes that of the run's: of several the last word counts.
    fn resize(&mut self, index: usize, rows: u16, columns: u16) {
        if let Some(client) = self
            .attached
            .get_mut(index)
            .filter(|_| rows > 0 && columns > 0)
        {
            client.size = Some((rows, columns));
            self.show_in(rows, columns);
        }
    }

    /// Forgets those that have left. Whoever stays gets the size of the own terminal back.
    fn let_go(&mut self) {
        let before = self.attached.len();
        self.attached.retain(|client| !client.is_gone);
        let newest = self.attached.iter().rev().find_map(|client| client.size);
        if let (true, Some((rows, columns))) = (self.attached.len() < before, newest) {
            self.show_in(rows, columns);
        }
    }

    fn show_in(&self, rows: u16, columns: u16) {
        let Some(master) = &self.terminal else {
            return;
        };
        let size = |ws_row| Winsize {
            ws_row,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A change is what makes programs draw themselves anew, so there is one even when the size is the same.
        if rustix::termios::tcgetwinsize(master)
            .is_ok_and(|now| (now.ws_row, now.ws_col) == (rows, columns))
        {
            let _ = rustix::termios::tcsetwinsize(master, size(rows.saturating_sub(1).max(1)));
        }
        let _ = rustix::termios::tcsetwinsize(master, size(rows));
    }

    fn is_held_up(&self) -> bool {
        self.attached
            .iter()
            .any(|client| client.full_since.is_some())
    }

    /// When something has to be done even if nothing happens.
    pub(super) fn patience(&self) -> Option<Duration> {
        let since = self
            .attached
            .iter()
            .filter_map(|client| client.full_since)
            .min()?;
        Some(PATIENCE.saturating_sub(since.elapsed()))
    }

    /// What to wait for; [`Recorder::serve`] takes the answers to exactly these.
    pub(super) fn interests<'fd>(&'fd self, events: &mut Vec<PollFd<'fd>>) {
        for client in &self.attached {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.keys.len() < WAITING);
            flags.set(PollFlags::OUT, !client.frames.is_empty());
            events.push(PollFd::new(&client.socket, flags));
        }
        if self.is_held_up() {
            return;
        }
        if let Some(master) = &self.terminal {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !self.keys.is_empty());
            events.push(PollFd::new(master, flags));
        }
        events.extend(
            self.pipes
                .iter()
                .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)),
        );
    }

    pub(super) fn serve(&mut self, ready: &[PollFlags]) {
        let is_held_up = self.is_held_up();
        let mut ready = ready.iter().copied();
        for index in 0..self.attached.len() {
            let flags = ready.next().unwrap_or(PollFlags::empty());
            if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.hear(index);
            }
        }
        if !is_held_up && ready.any(|flags| !flags.is_empty()) {
            self.read();
        }
        self.let_go();
        self.pass_keys();
        for client in &mut self.attached {
            client.flush();
        }
        self.let_go();
    }

    fn hear(&mut self, index: usize) {
        let mut bytes = [0; FRAME];
        let Some(client) = self.attached.get_mut(index) else {
            return;
        };
        let heard = rustix::net::recv(&client.socket, &mut bytes, RecvFlags::DONTWAIT);
        let frame = match heard {
            Ok((count @ 1.., _)) => bytes.get(..count).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => {
                client.is_gone = true;
                return;
            }
        };
        match frame {
            [b'i', keys @ ..] if self.terminal.is_some() => self.keys.extend(keys),
            [b'w', a, b, c, d] => {
                let (rows, columns) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
                self.resize(index, rows, columns);
            }
            _ => {}
        }
    }

    /// Takes one piece of everything that is there; whether there was anything.
    fn read(&mut self) -> bool {
        let mut pieces: Vec<(u8, Vec<u8>)> = Vec::new();
        let take = |descriptor: &OwnedFd| {
            let mut bytes = vec![0; 16 << 10];
            match rustix::io::read(descriptor, &mut bytes) {
                Ok(count @ 1..) => {
                    bytes.truncate(count);
                    Ok(bytes)
                }
                Err(Errno::AGAIN | Errno::INTR) => Ok(Vec::new()),
                // A terminal that the last process has closed says EIO.
                _ => Err(()),
            }
        };
        if let Some(master) = &self.terminal {
            match take(master) {
                Ok(bytes) => pieces.push((b'o', bytes)),
                Err(()) => self.terminal = None,
            }
        }
        self.pipes.retain(|(kind, pipe)| match take(pipe) {
            Ok(bytes) => {
                pieces.push((*kind, bytes));
                true
            }
            Err(()) => false,
        });
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        for (kind, bytes) in &pieces {
            if let Err(error) = self.recording.keep(*kind, bytes) {
                (self.tell_given_up)(&error);
            }
            self.tail_size += bytes.len();
            self.tail.push_back((*kind, bytes.clone()));
            while self.tail_size > TAIL {
                let oldest = self.tail.pop_front();
                self.tail_size -= oldest.map_or(self.tail_size, |(_, bytes)| bytes.len());
            }
            for client in &mut self.attached {
                client.push(*kind, bytes);
            }
        }
        !pieces.is_empty()
    }

    fn pass_keys(&mut self) {
        let Some(master) = &self.terminal else {
            self.keys.clear();
            return;
        };
        while !self.keys.is_empty() {
            let (piece, _) = self.keys.as_slices();
            match rustix::io::write(master, piece) {
                Ok(count) => drop(self.keys.drain(..count)),
                Err(_) => return,
            }
        }
    }

    /// Takes what the agent wrote last and tells everybody attached how it ended.
    pub(crate) fn finish(&mut self, code: i32) {
        // What a terminal and two pipes hold at most; what others go on writing is not the agent's last word.
        for _ in 0..512 {
            if !self.read() {
                break;
            }
        }
        for client in &mut self.attached {
            client.push(b'x', &code.to_le_bytes());
        }
        let latest = Instant::now() + PATIENCE;
        loop {
            for client in &mut self.attached {
                client.flush();
            }
            self.attached
                .retain(|client| !client.is_gone && !client.frames.is_empty());
            if self.attached.is_empty() || Instant::now() > latest {
                return;
            }
            let clients = self.attached.iter();
            let mut events: Vec<_> = clients
                .map(|client| PollFd::new(&client.socket, PollFlags::OUT))
                .collect();
            let second = rustix::event::Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let _ = poll(&mut events, Some(&second));
        }
    }
}

impl Attached {
    fn push(&mut self, kind: u8, bytes: &[u8]) {
        for piece in bytes.chunks(FRAME - 1) {
            let mut frame = vec![kind];
            frame.extend(piece);
            self.waiting += frame.len();
            self.frames.push_back(frame);
        }
        if self.waiting > WAITING {
            self.full_since.get_or_insert_with(Instant::now);
        }
    }

    fn flush(&mut self) {
        while let Some(frame) = self.frames.front() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(self.socket.as_fd(), frame, flags) {
                Ok(_) => {
                    self.waiting = self.waiting.saturating_sub(frame.len());
                    self.frames.pop_front();
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
        if self.waiting <= WAITING / 2 {
            self.full_since = None;
        }
        self.is_gone |= self
            .full_since
            .is_some_and(|since| since.elapsed() >= PATIENCE);
    }
}
