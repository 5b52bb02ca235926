//! What is said at the desk: one JSON datagram each, in both directions, descriptors beside it.
//!
//! What is not known is refused, not ignored: a field that an older supervisor skipped could be the one that mattered. The version
//! is looked at first and by itself: what another version says may have any form.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// What was said by somebody whose version is not known yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<T> {
    /// It is of this version.
    Known(T),
    /// It is of another one.
    OtherVersion(u64),
    /// It is of this version, or of none, and has no known form.
    Unknown,
}

/// Reads a datagram that is JSON.
pub(super) fn read<T: DeserializeOwned>(said: Value) -> Heard<T> {
    match said.get("version").and_then(Value::as_u64) {
        Some(version) if version != u64::from(VERSION) => Heard::OtherVersion(version),
        _ => serde_json::from_value(said).map_or(Heard::Unknown, Heard::Known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_looked_at_before_all_else() {
        let read = |text: &str| read::<Answering>(serde_json::from_str(text).unwrap());
        for (said, version) in [
            (r#"{"version":2,"answer":"done"}"#, 2),
            (r#"{"version":2,"answer":{"of_tomorrow":[1]},"more":3}"#, 2),
            (r#"{"version":0}"#, 0),
            (r#"{"version":18446744073709551615}"#, u64::MAX),
        ] {
            assert!(
                matches!(read(said), Heard::OtherVersion(told) if told == version),
                "{said}"
            );
        }
        assert!(matches!(
            read(r#"{"version":1,"answer":"done"}"#),
            Heard::Known(Answering {
                answer: Answer::Done,
                ..
            })
        ));
        for said in [
            "1",
            "[]",
            "{}",
            r#"{"version":"2"}"#,
            r#"{"version":-1,"answer":"done"}"#,
            r#"{"version":1,"answer":"flown"}"#,
            r#"{"version":1,"answer":"done","more":1}"#,
        ] {
            assert!(matches!(read(said), Heard::Unknown), "{said}");
        }
    }

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
