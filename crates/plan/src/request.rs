//! What this one run was asked to do, apart from the policy.

use std::ffi::OsString;

/// Which of the three standard streams of the caller are terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Streams {
    /// Standard input is a terminal.
    pub stdin_terminal: bool,
    /// Standard output is a terminal.
    pub stdout_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_terminal: bool,
}

impl Streams {
    /// Tells whether the run needs a pseudo-terminal of its own.
    #[must_use]
    pub fn wants_terminal(self) -> bool {
        self.stdin_terminal || self.stdout_terminal || self.stderr_terminal
    }
}

/// One run: the command and how its streams are connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Identifier of the run, `[a-z0-9-]{1,32}`.
    pub run_id: String,
    /// Program and arguments; the program is looked up in the `PATH` of the sandbox when it has no slash.
    pub argv: Vec<OsString>,
    /// Terminals among the caller's standard streams.
    pub streams: Streams,
}
