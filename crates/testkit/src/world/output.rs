//! What a command left, and the assertions that tests make on it.
//!
//! Must show everything when an assertion fails: ending, survivors, stdout and stderr.

use std::time::Duration;

use super::wire::Process;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// Its time was over; it and everything below it was killed.
    TimedOut,
}

/// What a command left.
#[derive(Debug, Clone)]
#[must_use]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// Captured bytes of stdout.
    pub stdout: Vec<u8>,
    /// Captured bytes of stderr.
    pub stderr: Vec<u8>,
    /// From the start of `nsenter` to the last report; about 5 ms of it are the testkit's.
    pub elapsed: Duration,
    /// Processes below the command that outlived it by more than the grace time; they were killed.
    pub survivors: Vec<Process>,
    pub(super) shown: String,
}

impl Output {
    /// Stdout as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Did it exit with 0?
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Code(0)
    }

    /// The exit code, when it exited.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self.ending {
            Ending::Code(code) => Some(code),
            Ending::Signal(_) | Ending::TimedOut => None,
        }
    }

    /// Fails the test unless the command exited with 0 and left nothing running.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        assert!(self.is_success(), "the command failed\n{self}");
        assert!(
            self.survivors.is_empty(),
            "the command left processes behind\n{self}"
        );
        self
    }

    /// Fails the test unless the command exited with this code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code(),
            Some(code),
            "the command ended otherwise\n{self}"
        );
        self
    }

    /// Reads the last line of stdout as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let text = self.stdout_text();
        let line = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("no JSON on stdout: {error}\n{self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "command: {}\nending: {:?} after {:?}",
            self.shown, self.ending, self.elapsed
        )?;
        if !self.survivors.is_empty() {
            writeln!(f, "survivors: {:?}", self.survivors)?;
        }
        write!(
            f,
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout_text(),
            self.stderr_text()
        )
    }
}
