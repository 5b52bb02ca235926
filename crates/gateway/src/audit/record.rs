//! One event as it stands in the audit log.
//!
//! Must not hold text that the agent wrote in any other form than `WireName::to_text` or a canonical host name: both are printable
//! ASCII, so no line can carry terminal controls, line breaks or bidirectional marks.

use std::net::IpAddr;

use rcc_spec::Protocol;
use serde::Serialize;

/// What happened. The words are part of the log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    /// A DNS message was answered.
    Dns,
    /// A connection was allowed and the upstream accepted it.
    Connect,
    /// A connection that was allowed ended.
    Close,
    /// A connection was refused, or its upstream could not be reached.
    Refuse,
    /// Somebody on the host's side connected to a published port; `address` is theirs, `port` the one inside.
    Publish,
    /// A connection to a published port ended.
    #[serde(rename = "publish_close")]
    PublishClose,
}

impl Event {
    pub(crate) const ALL: [Self; 6] = [
        Self::Dns,
        Self::Connect,
        Self::Close,
        Self::Refuse,
        Self::Publish,
        Self::PublishClose,
    ];

    /// Whether equal records may be written once with a count. Connections never are: their bytes differ.
    pub(crate) fn repeats(self) -> bool {
        match self {
            Self::Dns | Self::Refuse => true,
            Self::Connect | Self::Close | Self::Publish | Self::PublishClose => false,
        }
    }
}

/// Allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Allow,
    Deny,
    /// Allowed by policy, but it did not work.
    Fail,
}

/// The fields of a line between the run's id and the end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    pub(crate) event: Event,
    /// Number of the connection in this run; the same on its `connect` and `close`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Protocol,
    /// Type of a DNS question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) question: Option<String>,
    /// Response code of a DNS answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rcode: Option<String>,
    pub(crate) verdict: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// From the sandbox to the world, payload only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_sent: Option<u64>,
    /// From the world to the sandbox, payload only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u64>,
}

impl Record {
    pub(crate) fn new(event: Event, protocol: Protocol, verdict: Outcome) -> Self {
        Self {
            event,
            connection: None,
            name: None,
            address: None,
            port: None,
            protocol,
            question: None,
            rcode: None,
            verdict,
            reason: None,
            rule: None,
            bytes_sent: None,
            bytes_received: None,
            duration_ms: None,
        }
    }
}
