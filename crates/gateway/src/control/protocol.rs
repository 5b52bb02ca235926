//! What is said on the control socket: one JSON object a line, in both directions.
//!
//! ```text
//! {"version":1,"request":{"change":{"allow":["example.com:443"],"deny":[]}}}
//! {"version":1,"response":{"changed":{"cut":0,"still_refused":[]}}}
//! ```
//!
//! Reading is a pure function. What it does not know is refused: a field that an old gateway ignored could be the one that
//! made a request narrower.

use rcc_spec::{NetworkMode, Protocol, Verdict};
use serde::{Deserialize, Serialize};

/// The version of the protocol.
pub const CONTROL_VERSION: u32 = 1;
/// Longest request, in bytes, without the line break.
pub const REQUEST_LIMIT: usize = 64 << 10;
/// Most rules of one answer.
pub(crate) const PAGE: usize = 500;

/// Why a line is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Longer than [`REQUEST_LIMIT`].
    #[error("the request is longer than {REQUEST_LIMIT} bytes")]
    TooLong,
    /// Not a request of this version.
    #[error("this is no request of version {CONTROL_VERSION}: {reason}")]
    Malformed {
        /// What the parser says; it quotes keys of the request.
        reason: String,
    },
}

/// What a client may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The rules in force, from this number on.
    Rules {
        /// Number of the first rule wanted, from 0.
        from: usize,
    },
    /// Adds rules for the run.
    Change {
        /// Rules as `--allow` takes them.
        allow: Vec<String>,
        /// Rules as `--deny` takes them.
        deny: Vec<String>,
    },
    /// What would become of a connection now; it is made and closed if it is allowed.
    Test {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// The questions that wait.
    Questions {
        /// Answer only when the list is not the one with this number any more, or after some seconds.
        seen: Option<u64>,
    },
    /// Answers a question for the connections that wait.
    Answer {
        /// Number of the question.
        question: u64,
        /// The answer.
        answer: Answer,
    },
}

/// An answer for the connections that wait. What is to last is a rule, see [`Request::Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// They may go on.
    Once,
    /// They are refused.
    No,
}

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// To [`Request::Rules`].
    Rules {
        /// The mode in force.
        mode: NetworkMode,
        /// Seconds that connections wait for an answer, in ask mode.
        ask_seconds: Option<u32>,
        /// Number of all rules.
        total: usize,
        /// Some of them.
        rules: Vec<RuleLine>,
    },
    /// To [`Request::Change`].
    Changed {
        /// Connections that were cut.
        cut: usize,
        /// Allowed now, and refused all the same.
        still_refused: Vec<StillRefused>,
    },
    /// To [`Request::Test`].
    Tested {
        /// The verdict of the rules on host and port.
        verdict: Verdict,
        /// What became of the attempt; none when the verdict is no, or for UDP.
        reached: Option<Reached>,
    },
    /// To [`Request::Questions`].
    Questions {
        /// Number of this list.
        serial: u64,
        /// The questions, oldest first.
        questions: Vec<Question>,
    },
    /// To [`Request::Answer`].
    Answered {
        /// Whether somebody was waiting.
        was_waiting: bool,
    },
    /// To anything that cannot be done.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleLine {
    /// Whether it lets through.
    pub allow: bool,
    /// Its canonical text.
    pub rule: String,
    /// Who said it.
    pub origin: String,
}

/// A rule that was added without effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StillRefused {
    /// The rule that was added.
    pub rule: String,
    /// Why it does nothing, with the rule that stands against it.
    pub reason: String,
}

/// How far a test came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// The address that accepted the connection.
    pub address: Option<std::net::IpAddr>,
    /// Stable code of what went wrong.
    pub code: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
}

/// A question that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its number in this run.
    pub number: u64,
    /// Host name in canonical form, or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The rule that would allow exactly this.
    pub rule: String,
    /// Connections that wait for the answer.
    pub waiting: usize,
    /// Age in milliseconds.
    pub asked_ms: u64,
    /// Time until it is refused, in milliseconds.
    pub left_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking<T> {
    version: u32,
    request: T,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answering<T> {
    version: u32,
    response: T,
}

/// Reads a request from a line without its line break.
///
/// # Errors
/// It is too long, of another version, or says anything that this version does not know.
pub fn parse_request(line: &[u8]) -> Result<Request, ProtocolError> {
    if line.len() > REQUEST_LIMIT {
        return Err(ProtocolError::TooLong);
    }
    let asking: Asking<Request> = serde_json::from_slice(line).map_err(malformed)?;
    check_version(asking.version)?;
    Ok(asking.request)
}

/// Reads what the gateway answered.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_response(line: &[u8]) -> Result<Response, ProtocolError> {
    let answering: Answering<Response> = serde_json::from_slice(line).map_err(malformed)?;
    check_version(answering.version)?;
    Ok(answering.response)
}

fn check_version(version: u32) -> Result<(), ProtocolError> {
    if version == CONTROL_VERSION {
        Ok(())
    } else {
        let reason = format!("version {version}");
        Err(ProtocolError::Malformed { reason })
    }
}

fn malformed(error: serde_json::Error) -> ProtocolError {
    let reason = error.to_string();
    ProtocolError::Malformed { reason }
}

/// Writes a request as a line.
#[must_use]
pub fn request_line(request: &Request) -> Vec<u8> {
    line(&Asking {
        version: CONTROL_VERSION,
        request,
    })
}

/// Writes an answer as a line.
pub(crate) fn response_line(response: &Response) -> Vec<u8> {
    line(&Answering {
        version: CONTROL_VERSION,
        response,
    })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always serialise; JSON has no raw line breaks.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_as_they_were() {
        for request in [
            Request::Rules { from: 7 },
            Request::Change {
                allow: vec!["example.com:443".to_owned()],
                deny: Vec::new(),
            },
            Request::Test {
                host: "example.com".to_owned(),
                port: 443,
                protocol: Protocol::Tcp,
            },
            Request::Questions { seen: None },
            Request::Answer {
                question: 3,
                answer: Answer::No,
            },
        ] {
            let line = request_line(&request);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(parse_request(line.trim_ascii_end()), Ok(request));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let nested = format!("{}{}", "[".repeat(60_000), "]".repeat(5000));
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"request":{"rules":{"from":0}}}"#,
            r#"{"version":2,"request":{"rules":{"from":0}}}"#,
            r#"{"version":1,"request":{"rules":{"from":0,"more":1}}}"#,
            r#"{"version":1,"more":1,"request":{"rules":{"from":0}}}"#,
            r#"{"version":1,"request":{"rules":{"from":-1}}}"#,
            r#"{"version":1,"request":{"rules":{"from":0},"change":{"allow":[],"deny":[]}}}"#,
            r#"{"version":1,"version":1,"request":{"rules":{"from":0}}}"#,
            r#"{"version":1,"request":"stop"}"#,
            r#"{"version":1,"request":{"answer":{"question":1,"answer":"run"}}}"#,
            r#"{"version":1,"request":{"rules":{"from":0}}} x"#,
            nested.as_str(),
        ] {
            assert!(parse_request(bad.as_bytes()).is_err(), "{bad:.80}");
        }
        let long = vec![b' '; REQUEST_LIMIT + 1];
        assert_eq!(parse_request(&long), Err(ProtocolError::TooLong));
        assert!(parse_request(b"{\"version\":1,\"request\":\xff}").is_err());
    }
}
