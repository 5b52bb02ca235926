//! The sandbox's terminal and the caller's: bytes both ways, raw mode while the agent has the keys, and the caller's settings
//! back whenever somebody else gets them.
//!
//! Bytes that could not be written yet are kept in two small buffers. Must not block while the run lasts, nor leave the caller's
//! terminal raw.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rcc_plan::Streams;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, SpecialCodeIndex, Termios};

use crate::error::{NativeError, on_step_call};
use crate::wait::{ready_now, timespec};

/// Bytes taken from one side before the other side must have taken them.
const BUFFER: usize = 64 * 1024;
/// How long output is waited for after the agent has ended: processes it left behind may hold the terminal.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// How long after a key a stop of the agent can be what the user asked for with it.
const KEY_GRACE: Duration = Duration::from_secs(5);

/// Gives the sandbox's terminal the size of the caller's.
pub(crate) fn copy_window_size(master: &OwnedFd) {
    let size = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
    .into_iter()
    .find_map(|stream| rustix::termios::tcgetwinsize(stream).ok());
    if let Some(size) = size {
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

/// The sandbox's terminal on one side, the caller's streams on the other.
pub(crate) struct Screen {
    master: OwnedFd,
    /// Whether the caller's standard input is a terminal whose keys go to the sandbox.
    keyboard: Keyboard,
    /// When the user last pressed a key that can ask for a stop.
    last_key: Option<Instant>,
    /// Where the sandbox's output goes: the caller's standard output or error, whichever is a terminal.
    output: OwnedFd,
    to_sandbox: VecDeque<u8>,
    to_caller: VecDeque<u8>,
    master_open: bool,
}

/// The caller's terminal as input.
enum Keyboard {
    /// Keys are read; these were the settings before.
    Raw(Box<Termios>),
    /// The terminal was given back for a while, or ended.
    Released(Option<Box<Termios>>),
    /// Standard input is not a terminal.
    Absent,
}

impl Screen {
    pub(crate) fn new(master: OwnedFd, streams: Streams) -> Result<Self, NativeError> {
        rustix::io::ioctl_fionbio(&master, true).map_err(on_step_call(
            "open the sandbox's terminal",
            "ioctl(2) FIONBIO",
        ))?;
        let output = if streams.stdout_terminal {
            rustix::stdio::stdout()
        } else {
            rustix::stdio::stderr()
        };
        let output = output
            .try_clone_to_owned()
            .map_err(|_| on_step_call("open the caller's terminal", "dup(2)")(Errno::MFILE))?;
        let keyboard = if streams.stdin_terminal {
            let settings = rustix::termios::tcgetattr(rustix::stdio::stdin())
                .map_err(on_step_call("read the terminal's settings", "tcgetattr(3)"))?;
            // In the background they are those of whatever stands in front, a shell that edits its line perhaps.
            if is_foreground() {
                let _ = rustix::termios::tcsetattr(&master, OptionalActions::Now, &settings);
            }
            Keyboard::Released(Some(Box::new(settings)))
        } else {
            Keyboard::Absent
        };
        let mut screen = Self {
            master,
            keyboard,
            last_key: None,
            output,
            to_sandbox: VecDeque::new(),
            to_caller: VecDeque::new(),
            master_open: true,
        };
        screen.take();
        Ok(screen)
    }

    /// Whether the caller's keys come through here.
    pub(crate) fn has_keyboard(&self) -> bool {
        !matches!(self.keyboard, Keyboard::Absent)
    }

    /// Gives the sandbox's terminal the size of the caller's.
    pub(crate) fn copy_size(&self) {
        copy_window_size(&self.master);
    }

    /// Whether the user has just pressed a key that can ask for a stop.
    pub(crate) fn may_be_asked_to_stop(&self) -> bool {
        self.last_key.is_some_and(|at| at.elapsed() <= KEY_GRACE)
    }

    /// Whether the keys are somebody else's for now: rcc is in the background of its terminal.
    pub(crate) fn waits_for_foreground(&self) -> bool {
        matches!(self.keyboard, Keyboard::Released(Some(_)))
    }

    /// Puts the caller's terminal in raw mode: every key, Ctrl-C and Ctrl-Z too, goes to the sandbox. In the background (`rcc … &`,
    /// `bg`) the terminal is the shell's, and nothing is touched.
    pub(crate) fn take(&mut self) {
        if let Keyboard::Released(Some(_)) = &self.keyboard
            && is_foreground()
            && let Ok(settings) = rustix::termios::tcgetattr(rustix::stdio::stdin())
        {
            let mut raw = settings.clone();
            raw.make_raw();
            if rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)
                .is_ok()
            {
                self.keyboard = Keyboard::Raw(Box::new(settings));
            }
        }
    }

    /// Gives the caller's terminal back as it was.
    pub(crate) fn restore(&mut self) {
        if let Keyboard::Raw(settings) = &self.keyboard {
            let _ = rustix::termios::tcsetattr(
                rustix::stdio::stdin(),
                OptionalActions::Drain,
                settings,
            );
            self.keyboard = Keyboard::Released(Some(settings.clone()));
        }
    }

    /// What to wait for, in the order that `serve` expects: master, caller's input, caller's output.
    ///
    /// In the place of one of which nothing is wanted stands `quiet`, which never hangs up: `poll(2)` tells of a hang-up asked
    /// or not, and would tell it again at once, for as long as the run lasts.
    pub(crate) fn interests<'fd>(&'fd self, events: &mut Vec<PollFd<'fd>>, quiet: BorrowedFd<'fd>) {
        let mut wait = |descriptor: BorrowedFd<'fd>, flags: PollFlags| {
            let descriptor = if flags.is_empty() { quiet } else { descriptor };
            events.push(PollFd::from_borrowed_fd(descriptor, flags));
        };
        let mut master = PollFlags::empty();
        master.set(
            PollFlags::IN,
            self.master_open && self.to_caller.len() < BUFFER,
        );
        master.set(
            PollFlags::OUT,
            self.master_open && !self.to_sandbox.is_empty(),
        );
        wait(self.master.as_fd(), master);
        let keys = matches!(self.keyboard, Keyboard::Raw(_)) && self.to_sandbox.len() < BUFFER;
        let keys = match keys {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        wait(rustix::stdio::stdin(), keys);
        let output = match self.to_caller.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::OUT,
        };
        wait(self.output.as_fd(), output);
    }

    pub(crate) fn serve(&mut self, ready: &[PollFlags]) -> Result<(), NativeError> {
        let [master, keys, output] = ready else {
            return Ok(());
        };
        if master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && self.master_open
            && self.to_caller.len() < BUFFER
        {
            self.read_master();
        }
        if keys.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_keys();
        }
        if !self.to_sandbox.is_empty() && self.master_open {
            flush(&self.master, &mut self.to_sandbox);
        }
        if !output.is_empty() || !self.to_caller.is_empty() {
            self.write_caller(output.intersects(PollFlags::ERR | PollFlags::HUP));
        }
        Ok(())
    }

    /// Takes keys of the caller's terminal. When it has ended there is nothing more to read, but its settings can still be
    /// put back.
    fn read_keys(&mut self) {
        let Keyboard::Raw(settings) = &self.keyboard else {
            return;
        };
        let mut bytes = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(count @ 1..) => {
                let bytes = bytes.get(..count).unwrap_or_default();
                let suspend = settings.special_codes[SpecialCodeIndex::VSUSP];
                if can_ask_for_a_stop(bytes, suspend) {
                    self.last_key = Some(Instant::now());
                }
                self.to_sandbox.extend(bytes);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => self.keyboard = Keyboard::Released(Some(settings.clone())),
        }
    }

    /// Takes output of the sandbox; the master reports `EIO` when the last process closed the terminal.
    fn read_master(&mut self) {
        let mut bytes = [0; 16 * 1024];
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(count @ 1..) => self
                .to_caller
                .extend(bytes.get(..count).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => self.master_open = false,
        }
    }

    /// Writes to the caller's terminal, which is blocking: only as much as poll promises, a piece at a time.
    fn write_caller(&mut self, gone: bool) {
        if gone {
            self.to_caller.clear();
            return;
        }
        while !self.to_caller.is_empty() && ready_now(&self.output, PollFlags::OUT) {
            let (piece, _) = self.to_caller.as_slices();
            let piece = piece.get(..piece.len().min(1024)).unwrap_or_default();
            match rustix::io::write(&self.output, piece) {
                Ok(count) => drop(self.to_caller.drain(..count)),
                Err(Errno::INTR | Errno::AGAIN) => return,
                Err(_) => self.to_caller.clear(),
            }
        }
    }

    /// Shows what the agent wrote before it ended.
    pub(crate) fn drain(&mut self) {
        let end = Instant::now() + DRAIN_GRACE;
        loop {
            while self.master_open
                && self.to_caller.len() < BUFFER
                && ready_now(&self.master, PollFlags::IN)
            {
                self.read_master();
            }
            if self.to_caller.is_empty() || Instant::now() > end {
                return;
            }
            let _ = poll(
                &mut [PollFd::new(&self.output, PollFlags::OUT)],
                Some(&timespec(DRAIN_GRACE)),
            );
            self.write_caller(false);
        }
    }
}

/// Whether a person may have asked for a stop with these bytes: Ctrl-Z (or `suspend`, the key that stands for it in the settings
/// of the caller's terminal), or Enter after a command like `:stop`, plain or as terminals write them on request (CSI u of
/// kitty's keyboard protocol, xterm's modifyOtherKeys).
///
/// Other bytes do not count, because a terminal also answers questions, and the agent can ask them at any time.
fn can_ask_for_a_stop(bytes: &[u8], suspend: u8) -> bool {
    const CTRL_Z: u8 = 0x1a;
    let plain = [CTRL_Z, suspend, b'\r', b'\n'];
    let is_such = |at: usize| match bytes.get(at..).unwrap_or_default() {
        [0x1b, b'[', sequence @ ..] => is_such_a_sequence(sequence),
        [byte, ..] => plain.contains(byte),
        [] => false,
    };
    (0..bytes.len()).any(is_such)
}

/// Whether a control sequence, without its introducer, is Enter or a Ctrl-Z. Only as a whole: the answer to where the cursor is
/// (`CSI row ; column R`) begins with any number that the agent likes.
fn is_such_a_sequence(bytes: &[u8]) -> bool {
    let is_parameter = |byte: &u8| (0x30..=0x3f).contains(byte);
    let length = bytes.iter().take_while(|byte| is_parameter(byte)).count();
    let (parameters, rest) = bytes.split_at(length);
    // Of `13:…` only the key itself is looked at, not what else it stands for.
    let numbers: Vec<u32> = parameters
        .split(|byte| *byte == b';')
        .map(|field| field.split(|byte| *byte == b':').next().unwrap_or_default())
        .map_while(|field| std::str::from_utf8(field).ok()?.parse().ok())
        .collect();
    // Modifiers are told as one more than their bits, of which 4 is Ctrl.
    let is_key = |key: u32, modifiers: u32| {
        key == 13 || (key == 122 && modifiers.saturating_sub(1) & 4 != 0)
    };
    match (rest.first(), &numbers[..]) {
        (Some(b'u'), [key]) => is_key(*key, 1),
        (Some(b'u'), [key, modifiers, ..]) => is_key(*key, *modifiers),
        (Some(b'~'), [27, modifiers, key]) => is_key(*key, *modifiers),
        _ => false,
    }
}

/// Whether this process is in the foreground of its terminal, or standard input is a terminal that is not its own.
fn is_foreground() -> bool {
    rustix::termios::tcgetpgrp(rustix::stdio::stdin())
        .map_or(true, |group| group == rustix::process::getpgrp())
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Writes as much as a non-blocking descriptor takes.
fn flush(descriptor: &OwnedFd, buffer: &mut VecDeque<u8>) {
    while !buffer.is_empty() {
        let (piece, _) = buffer.as_slices();
        match rustix::io::write(descriptor, piece) {
            Ok(count) => drop(buffer.drain(..count)),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::can_ask_for_a_stop;

    const CTRL_Y: u8 = 0x19;

    #[test]
    fn keys_ask_for_a_stop_and_a_terminal_s_answers_do_not() {
        for keys in [
            "\x1a",
            "\x19",
            ":suspend\r",
            "x\n",
            "\x1b[122;5u",
            "\x1b[122;5:1u",
            "\x1b[27;5;122~",
            "\x1b[13u",
            "\x1b[13;1:1u",
            "\x1b[122;133u",
            "\x1b[122::122;5u",
            "x\x1b[Ay\x1b[13;129u",
        ] {
            assert!(can_ask_for_a_stop(keys.as_bytes(), CTRL_Y), "{keys:?}");
        }
        // Device attributes, a cursor's place, a colour, the state of the keyboard protocol, a mouse, the focus.
        for answer in [
            "",
            "plain letters",
            "\x1b[?64;1;2;6;9;15;18;21;22c",
            "\x1b[24;80R",
            "\x1b[13;1R",
            "\x1b[122;5R",
            "\x1b[122;133R",
            "\x1b[122u",
            "\x1b[122;2u",
            "\x1b[27;5;9~",
            "\x1b[13",
            "\x1b]11;rgb:0000/0000/0000\x1b\\",
            "\x1b[?0u",
            "\x1b[<0;10;10M",
            "\x1b[I",
        ] {
            assert!(!can_ask_for_a_stop(answer.as_bytes(), CTRL_Y), "{answer:?}");
        }
    }
}
