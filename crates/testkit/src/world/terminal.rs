//! A command on a pseudo-terminal of its own, as a person would use it.
//!
//! Must not interpret what is shown: escape sequences stay in the text.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::output::Output;
use super::running::{Collector, Running};

/// A command on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    running: Running,
    master: std::fs::File,
    slave: std::fs::File,
    screen: Collector,
}

impl Terminal {
    pub(super) fn new(running: Running, master: OwnedFd, slave: std::fs::File) -> Self {
        let master = std::fs::File::from(master);
        let screen = Collector::start(master.try_clone().expect("a descriptor can be duplicated"));
        Self {
            running,
            master,
            slave,
            screen,
        }
    }

    /// Types these bytes.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        self.master
            .write_all(bytes)
            .expect("the terminal takes input");
    }

    /// Everything shown so far, escape sequences included.
    #[must_use]
    pub fn shown(&self) -> String {
        self.screen.text()
    }

    /// Waits until the terminal has shown this text.
    ///
    /// # Panics
    /// When a minute passes before it does.
    pub fn wait_for_text(&self, text: &str) {
        let deadline = Instant::now() + crate::patience(Duration::from_secs(60));
        while !self.shown().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no `{text}` on the terminal:\n{}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Changes the terminal's size, which sends SIGWINCH to its foreground group.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.master, size).expect("a terminal has a size");
    }

    /// The terminal's settings, to see that a program left them as they were.
    #[must_use]
    pub fn settings(&self) -> rustix::termios::Termios {
        rustix::termios::tcgetattr(&self.slave).expect("a terminal has settings")
    }

    /// The running command.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Waits for the end; `stdout` of the result is what the terminal showed.
    pub fn wait(self) -> Output {
        let Self {
            running,
            master,
            slave,
            screen,
        } = self;
        let mut output = running.wait();
        // With the last slave closed the reader gets EIO and ends.
        drop(slave);
        drop(master);
        output.stdout = screen.finish();
        output
    }
}
