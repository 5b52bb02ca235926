//! What is said at the desk: one JSON datagram each, in both directions, descriptors beside it.
//!
//! What is not known is refused, not ignored: a field that an older supervisor skipped could be the one that mattered.

use serde::{Deserialize, Serialize};

use crate::group::GroupRecord;

/// Version of what is said.
pub(super) const VERSION: u32 = 1;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// Pass a signal to the agent's process group; `SIGKILL` ends the run.
    Signal {
        /// Its number.
        number: i32,
    },
    /// Tell how the run is.
    Status,
    /// Show what the agent of a detached run writes, and pass keys on. Datagrams of another form follow on the connection.
    Attach {
        /// Rows of the client's terminal, 0 without one.
        rows: u16,
        /// Columns of it.
        columns: u16,
    },
    /// What is needed to start a process in the sandbox.
    Join,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// To [`Ask::Status`], with a file that holds the plan.
    Status {
        /// Process id of pid 1 on the host.
        init: u32,
    },
    /// To [`Ask::Attach`].
    Attached {
        /// Whether the agent has a terminal.
        terminal: bool,
    },
    /// To [`Ask::Join`], with pid 1's pidfd and a file that holds the plan.
    Join {
        /// The run's control group, when a limit needs one.
        group: Option<Box<GroupRecord>>,
    },
    /// To anything that cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asking {
    pub(super) version: u32,
    pub(super) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answering {
    pub(super) version: u32,
    pub(super) answer: Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let parse = |text: &str| serde_json::from_str::<Asking>(text);
        let good = r#"{"version":1,"ask":{"signal":{"number":15}}}"#;
        assert_eq!(parse(good).unwrap().ask, Ask::Signal { number: 15 });
        for bad in [
            "",
            "{}",
            r#"{"version":1}"#,
            r#"{"version":1,"ask":"fly"}"#,
            r#"{"version":1,"ask":{"signal":{"number":15,"only":"this"}}}"#,
            r#"{"version":1,"ask":{"signal":{"number":"15"}}}"#,
            r#"{"version":1,"ask":"status","more":1}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
