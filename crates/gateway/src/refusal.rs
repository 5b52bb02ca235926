//! Why something was not let through, in the forms in which it is told: in-band, in DNS, in the log and at the end of the run.
//!
//! Must not hold anything that the agent wrote, except host names in their canonical form.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use rcc_spec::{Decision, HOST_NAME, HostName, Protocol, Reason, Verdict};

/// Different refusals that are remembered for the summary.
const SUMMARY_LIMIT: usize = 1000;

/// What a connection or a flow of datagrams is for: a name or a literal address, a port, and the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// The host of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Name(HostName),
    Address(IpAddr),
}

impl Destination {
    pub(crate) fn name(&self) -> Option<&HostName> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Name(_) => None,
            Host::Address(address) => Some(address),
        }
    }
}

impl Destination {
    /// The host alone.
    pub(crate) fn host_text(&self) -> String {
        match &self.host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        }
    }

    /// The rule that allows this and nothing else.
    pub(crate) fn rule_text(&self) -> String {
        match self.protocol {
            Protocol::Tcp => self.to_string(),
            Protocol::Udp => format!("{self}/udp"),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Name(name) => write!(formatter, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(formatter),
        }
    }
}

/// Whether policy said no or the world did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Policy forbids it.
    Denied,
    /// Policy allows it, but the upstream could not be reached.
    Failed,
}

/// A refusal with everything that is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    /// Stable code for the log.
    pub(crate) code: &'static str,
    /// Plain words, without a full stop.
    pub(crate) sentence: String,
    /// The rule that decided.
    pub(crate) rule: Option<String>,
    /// What to add to rcc's flags, if that would help.
    pub(crate) fix: Option<String>,
    /// The policy wants the user to be asked; it is a refusal until there is an answer.
    pub(crate) can_ask: bool,
}

impl Refusal {
    /// The refusal in a verdict, if it is one. `resolved` is the address behind the name, when that was refused.
    pub(crate) fn of_verdict(
        verdict: &Verdict,
        destination: &Destination,
        resolved: Option<IpAddr>,
    ) -> Option<Self> {
        let reason = match verdict.decision {
            Decision::Allow => return None,
            Decision::Deny(reason) => reason,
            // An unanswered question is no consent.
            Decision::Ask => Reason::NoRule,
        };
        let sentence = match resolved {
            Some(address) => format!("the name leads to {address}: {}", reason.sentence()),
            None => reason.sentence().to_owned(),
        };
        let fix = match reason {
            Reason::NoRule | Reason::PortNotAllowed => Some(destination_flag(destination)),
            Reason::PrivateAddress
            | Reason::LinkLocalAddress
            | Reason::MetadataAddress
            | Reason::HostAddress
            | Reason::ReservedAddress => {
                let address = resolved.or(destination.address());
                address.map(|address| {
                    destination_flag(&Destination {
                        host: Host::Address(address),
                        port: destination.port,
                        protocol: destination.protocol,
                    })
                })
            }
            Reason::ModeNone
            | Reason::DenyRule
            | Reason::BadName
            | Reason::Loopback
            | Reason::MulticastAddress => None,
        };
        Some(Self {
            kind: Kind::Denied,
            code: reason.code(),
            sentence,
            rule: verdict.rule.as_ref().map(ToString::to_string),
            fix,
            can_ask: verdict.decision == Decision::Ask,
        })
    }

    /// A refusal by the gateway itself.
    pub(crate) fn denied(code: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            kind: Kind::Denied,
            code,
            sentence: sentence.into(),
            rule: None,
            fix: None,
            can_ask: false,
        }
    }

    /// Adds the rule that would have allowed the destination.
    pub(crate) fn with_fix(self, destination: &Destination) -> Self {
        Self {
            fix: Some(destination_flag(destination)),
            ..self
        }
    }

    /// An upstream that could not be reached.
    pub(crate) fn failed(code: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            ..Self::denied(code, sentence)
        }
    }

    /// The whole explanation in one or two sentences.
    pub(crate) fn explanation(&self, what: &str) -> String {
        let verb = match self.kind {
            Kind::Denied => "refused",
            Kind::Failed => "could not reach",
        };
        let mut text = format!("rcc {verb} {what}: {} ({})", self.sentence, self.code);
        if let Some(rule) = &self.rule {
            text.push_str("; rule: ");
            text.push_str(rule);
        }
        if let Some(fix) = &self.fix {
            text.push_str("; to allow it, start rcc with: ");
            text.push_str(fix);
        }
        text
    }
}

/// The flag with the shortest rule that would allow a destination.
fn destination_flag(destination: &Destination) -> String {
    // 80 and 443 are what a rule without ports covers, but a user who needs one may not want the other.
    match destination.name() {
        Some(name) if name.as_str() == HOST_NAME => {
            format!("--host-port {}", destination.port)
        }
        _ => format!("--allow {}", destination.rule_text()),
    }
}

/// The flag that would make a name known inside.
pub(crate) fn name_flag(name: &HostName) -> String {
    if name.as_str() == HOST_NAME {
        "--host-port PORT".to_owned()
    } else {
        format!("--allow {name}")
    }
}

/// A refusal as the summary lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusalCount {
    /// Host name or address, printable ASCII.
    pub host: String,
    /// Port of a connection; none for a DNS query.
    pub port: Option<u16>,
    /// Protocol of the connection; for a DNS query always UDP.
    pub protocol: Protocol,
    /// Stable code of the reason.
    pub reason: &'static str,
    /// The reason in words, without a full stop.
    pub sentence: String,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
    /// What to add to rcc's flags, if that would help.
    pub fix: Option<String>,
    /// How often it happened.
    pub count: u64,
}

type RefusalKey = (String, Option<u16>, Protocol, &'static str);

/// Refusals of a run without repetitions.
#[derive(Debug, Default)]
pub(crate) struct RefusalList {
    entries: HashMap<RefusalKey, RefusalCount>,
    /// Refusals that found no place.
    overflow: u64,
}

impl RefusalList {
    pub(crate) fn add(
        &mut self,
        host: String,
        port: Option<u16>,
        protocol: Protocol,
        refusal: &Refusal,
    ) {
        let key = (host, port, protocol, refusal.code);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.count += 1;
        } else if self.entries.len() >= SUMMARY_LIMIT {
            self.overflow += 1;
        } else {
            let entry = RefusalCount {
                host: key.0.clone(),
                port,
                protocol,
                reason: refusal.code,
                sentence: refusal.sentence.clone(),
                rule: refusal.rule.clone(),
                fix: refusal.fix.clone(),
                count: 1,
            };
            self.entries.insert(key, entry);
        }
    }

    /// The list, sorted by host, and the number of refusals beyond it.
    pub(crate) fn sorted(&self) -> (Vec<RefusalCount>, u64) {
        let mut list: Vec<RefusalCount> = self.entries.values().cloned().collect();
        list.sort();
        (list, self.overflow)
    }
}
