//! What the world's processes tell the test, over their control sockets: one JSON line per question and answer.
//!
//! Both sides of the protocol use these types; nothing else crosses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A question to one of the world's processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
    /// Counters of every listener that saw anything, after everything already connected has been counted.
    Seen,
    /// Every HTTP request served so far.
    Requests,
    /// Every question to the strange name server so far.
    StrangeQueries,
    /// Every packet that came in from the host side, and how many were lost to a full buffer.
    Packets,
    /// Forgets all counters, requests and packets.
    Forget,
    /// Every request to the Messages API stand-in so far.
    Messages,
    /// All processes of the world.
    Processes,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Seen`]: keys are `tcp 203.0.113.10:80`.
    Seen(BTreeMap<String, Seen>),
    /// To [`Question::Requests`].
    Requests(Vec<HttpRequest>),
    /// To [`Question::StrangeQueries`].
    StrangeQueries(Vec<DnsQuery>),
    /// To [`Question::Packets`].
    Packets(Vec<Packet>),
    /// To [`Question::Messages`].
    Messages(Vec<serde_json::Value>),
    /// To [`Question::Processes`].
    Processes(Vec<Process>),
    /// To [`Question::Forget`].
    Done,
    /// The question could not be answered.
    Failed(String),
}

/// What one listener (address and port) has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Accepted TCP connections, or UDP datagrams.
    pub connections: u64,
    /// Bytes that came in.
    pub bytes_received: u64,
    /// Bytes that went out.
    pub bytes_sent: u64,
}

/// One HTTP request as a server got it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `http` or `https`.
    pub scheme: String,
    /// The address and port that were connected to.
    pub local: String,
    /// Who connected.
    pub peer: String,
    /// The server name of the TLS handshake.
    pub server_name: Option<String>,
    /// `GET` and so on.
    pub method: String,
    /// The request target as sent.
    pub target: String,
    /// Header lines, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Length of the body in bytes.
    pub body_bytes: u64,
}

impl HttpRequest {
    /// Gives the first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One question that a name server got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsQuery {
    /// The name as sent, case kept, without the final dot.
    pub name: String,
    /// `A`, `AAAA`, `TXT` …, or `TYPE65`.
    pub record_type: String,
    /// The address that asked.
    pub from: String,
}

/// One packet on the wire between host and inet, host to inet only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// `tcp`, `udp`, `icmp`, `icmp6`, `arp` or `proto-N`.
    pub protocol: String,
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// Destination port, 0 where the protocol has none.
    pub destination_port: u16,
    /// The first bytes after the transport header, at most 256.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Says whether the payload holds these bytes, letters compared without case (names in DNS).
    #[must_use]
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty()
            && self
                .payload
                .windows(needle.len())
                .any(|part| part.eq_ignore_ascii_case(needle))
    }
}

/// One process of the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id inside the world.
    pub pid: u32,
    /// Its parent's id inside the world.
    pub parent: u32,
    /// `comm` of proc(5).
    pub name: String,
    /// State letter of proc(5), `Z` for a zombie.
    pub state: char,
    /// Command line, arguments separated by one space.
    pub command_line: String,
    /// Links of `/proc/PID/ns`, name to `name:[inode]`.
    pub namespaces: BTreeMap<String, String>,
}

/// First line that `rcc-world init` prints, when everything listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Process id of the world's init, as the test sees it.
    pub init: u32,
    /// Process id, inside the world, of a process in the inet namespace.
    pub inet: u32,
    /// Process id, inside the world, of a process in the user namespace of the world's user.
    pub user_holder: Option<u32>,
}

/// What `rcc-world job` reports about its one command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum JobReport {
    /// The command was started and has this process id inside the world.
    Started {
        /// Process id inside the world.
        pid: u32,
    },
    /// The command could not be started.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The command is over.
    Ended {
        /// Exit code, when it exited.
        code: Option<i32>,
        /// Signal, when it was killed.
        signal: Option<i32>,
        /// Was it killed because its time was over?
        timed_out: bool,
        /// Descendants that still ran when the grace time after the end was over; they were killed.
        survivors: Vec<Process>,
    },
}

/// What the test asks a `rcc-world job` to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum JobOrder {
    /// Send this signal to the command itself.
    Signal(i32),
    /// Kill the command and everything below it.
    KillTree,
}
