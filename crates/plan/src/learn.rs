//! From the audit log of a run to a minimal list of rules, with the evidence for each.
//!
//! Pure: lines in, rules and counts out. Much of a log was chosen by the agent (names, ports, how often), so every field
//! is parsed again into a type that cannot hold anything else, what does not parse is counted, and memory is bounded.
//! Must not turn a refusal into a rule unless the only thing that was missing was a rule.

mod collapse;
mod render;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rcc_spec::{
    Effect, HOST_NAME, HostName, Origin, PortRange, Ports, Protocol, Reason, Rule, Target,
    Transport,
};
use serde::Deserialize;

pub use render::{Format, UnknownFormat};

/// Most different destinations (target, port, protocol) that are kept; further ones are counted.
const DESTINATIONS_LIMIT: usize = 20_000;
/// Most names of look-ups that are kept; further ones are counted.
const LOOKUPS_LIMIT: usize = 20_000;
/// Longest line that is parsed, in bytes; the gateway's own are a tenth of it.
const LINE_LIMIT_BYTES: usize = 16 << 10;

/// For ports of the host's loopback, which no rule can open.
const HOST_PORT_REASON: &str =
    "a port of the host's own loopback; only host_ports and --host-port open it";

/// One line of the log, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    run: Option<String>,
    event: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    protocol: Option<Protocol>,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    bytes_sent: Option<u64>,
    #[serde(default)]
    bytes_received: Option<u64>,
    #[serde(default)]
    repeated: Option<u64>,
    #[serde(default)]
    lines: Option<u64>,
}

/// What was seen of one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When it was first seen, RFC 3339; empty when the log does not say so.
    pub first_seen: String,
    /// Connections that were made.
    pub connections: u64,
    /// Payload from the sandbox to the world, in bytes.
    pub bytes_sent: u64,
    /// Payload from the world to the sandbox, in bytes.
    pub bytes_received: u64,
    /// Connections that policy refused.
    pub refused: u64,
    /// Connections that policy allowed and that did not come about.
    pub failed: u64,
}

impl Evidence {
    fn see(&mut self, time: &str) {
        if self.first_seen.is_empty() || (!time.is_empty() && time < self.first_seen.as_str()) {
            time.clone_into(&mut self.first_seen);
        }
    }

    fn join(&mut self, other: &Self) {
        self.see(&other.first_seen);
        self.connections = self.connections.saturating_add(other.connections);
        self.bytes_sent = self.bytes_sent.saturating_add(other.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.refused = self.refused.saturating_add(other.refused);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

/// A rule with what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The rule: exactly the ports and the protocol that were used.
    pub rule: Rule,
    /// What was seen.
    pub evidence: Evidence,
    /// The names that a wildcard stands for; empty for others.
    pub siblings: Vec<HostName>,
}

/// A destination that a list should not open just because something wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// What it would take.
    pub rule: Rule,
    /// What was seen.
    pub evidence: Evidence,
    /// Why it was refused, a sentence.
    pub reason: String,
}

/// A name that was looked up and never connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedUp {
    /// The name.
    pub name: HostName,
    /// How often.
    pub times: u64,
    /// Was it refused, so that no connection could follow?
    pub refused: bool,
}

/// What the log does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Lines that the gateway counted instead of writing them.
    pub suppressed: u64,
    /// Lines that could not be written.
    pub lost: u64,
    /// Lines that are no line of this format.
    pub unreadable: u64,
    /// Destinations and names beyond what is kept.
    pub beyond_limit: u64,
    /// The file was longer than what was read of it.
    pub cut: bool,
}

impl Gaps {
    /// Whether something may be missing in the list.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Whether names below one parent may become a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wildcards {
    /// Every name stands for itself.
    Never,
    /// From three names with the same ports below a parent of at least three labels.
    FromThreeSiblings,
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lesson {
    /// What to allow, sorted.
    pub learned: Vec<Learned>,
    /// What was refused for another reason than a missing rule, sorted.
    pub withheld: Vec<Withheld>,
    /// What was only looked up, sorted.
    pub looked_up: Vec<LookedUp>,
    /// What the log does not tell.
    pub gaps: Gaps,
}

type Destination = (Target, Protocol, u16);

/// Takes the lines of a log.
#[derive(Debug, Default)]
pub struct Lines {
    destinations: BTreeMap<Destination, (Evidence, Option<String>)>,
    /// Times looked up, times refused.
    names: BTreeMap<HostName, (u64, u64)>,
    gaps: Gaps,
}

impl Lines {
    /// Takes one line; lines of runs other than `run` do not count.
    pub fn read(&mut self, line: &str, run: Option<&str>) {
        let parsed = (line.len() <= LINE_LIMIT_BYTES)
            .then(|| serde_json::from_str::<Line>(line).ok())
            .flatten();
        let Some(parsed) = parsed else {
            self.gaps.unreadable += 1;
            return;
        };
        if run.is_some() && parsed.run.as_deref() != run {
            return;
        }
        let count = |sum: u64| sum.saturating_add(parsed.lines.unwrap_or(1));
        match parsed.event.as_str() {
            "connect" | "close" | "refuse" => self.connection(&parsed),
            "dns" => self.question(&parsed),
            "suppressed" => self.gaps.suppressed = count(self.gaps.suppressed),
            "lost" => self.gaps.lost = count(self.gaps.lost),
            // Other events are about no destination, or come from a newer rcc.
            _ => {}
        }
    }

    /// Tells that the file was longer than what was read of it.
    pub fn was_cut(&mut self) {
        self.gaps.cut = true;
    }

    fn connection(&mut self, line: &Line) {
        let target = match (&line.name, line.address) {
            (Some(name), _) => HostName::parse(name).ok().map(Target::Host),
            (None, Some(address)) => of_address(address),
            (None, None) => None,
        };
        let (Some(target), Some(port), Some(protocol)) =
            (target, line.port.filter(|port| *port != 0), line.protocol)
        else {
            self.gaps.unreadable += 1;
            return;
        };
        let count = line.repeated.unwrap_or(1);
        let reason = reason_of(line);
        // The name itself is not to blame for an address behind it: the rule would name that address.
        let target = match (reason, line.address) {
            (Some(reason), Some(address)) if blames_address(reason) => {
                of_address(address).unwrap_or(target)
            }
            _ => target,
        };
        let is_host = matches!(&target, Target::Host(name) if name.as_str() == HOST_NAME);
        let key = (target, protocol, port);
        if !self.destinations.contains_key(&key) && self.destinations.len() >= DESTINATIONS_LIMIT {
            self.gaps.beyond_limit += 1;
            return;
        }
        let (evidence, withheld) = self.destinations.entry(key).or_default();
        evidence.see(
            line.time
                .as_deref()
                .filter(|time| is_time(time))
                .unwrap_or_default(),
        );
        if is_host {
            *withheld = Some(HOST_PORT_REASON.to_owned());
        }
        match (line.event.as_str(), line.verdict.as_deref()) {
            ("connect", _) => evidence.connections += 1,
            ("close", _) => {
                let add = |sum: u64, more: Option<u64>| sum.saturating_add(more.unwrap_or(0));
                evidence.bytes_sent = add(evidence.bytes_sent, line.bytes_sent);
                evidence.bytes_received = add(evidence.bytes_received, line.bytes_received);
            }
            (_, Some("fail")) => evidence.failed = evidence.failed.saturating_add(count),
            _ => {
                evidence.refused = evidence.refused.saturating_add(count);
                if !is_host && !reason.is_some_and(is_missing_rule) {
                    *withheld = Some(match reason {
                        Some(reason) => reason.sentence().to_owned(),
                        None => other_reason(line.reason.as_deref().unwrap_or_default()),
                    });
                }
            }
        }
    }

    fn question(&mut self, line: &Line) {
        // Not every question is about a host (`_sip._tcp` is, `\000.x` is not): those need no rule.
        let Some(name) = line
            .name
            .as_deref()
            .and_then(|name| HostName::parse(name).ok())
        else {
            return;
        };
        if !self.names.contains_key(&name) && self.names.len() >= LOOKUPS_LIMIT {
            self.gaps.beyond_limit += 1;
            return;
        }
        let count = line.repeated.unwrap_or(1);
        let (asked, refused) = self.names.entry(name).or_default();
        *asked = asked.saturating_add(count);
        if line.verdict.as_deref() == Some("deny") {
            *refused = refused.saturating_add(count);
        }
    }

    /// Makes the list.
    #[must_use]
    pub fn finish(self, wildcards: Wildcards) -> Lesson {
        let mut lesson = Lesson {
            gaps: self.gaps,
            ..Lesson::default()
        };
        let mut joined: BTreeMap<(Target, Protocol), (Vec<u16>, Evidence)> = BTreeMap::new();
        for ((target, protocol, port), (evidence, withheld)) in self.destinations {
            // What was reached at least once may be reached; what was only refused for a reason may not.
            match withheld {
                Some(reason) if evidence.connections == 0 || reason == HOST_PORT_REASON => {
                    lesson.withheld.push(Withheld {
                        rule: rule(target, &[port], protocol),
                        evidence,
                        reason,
                    })
                }
                _ => {
                    let (ports, sum) = joined.entry((target, protocol)).or_default();
                    ports.push(port);
                    sum.join(&evidence);
                }
            }
        }
        let connected = |name: &HostName| {
            let target = Target::Host(name.clone());
            [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .any(|protocol| joined.contains_key(&(target.clone(), protocol)))
        };
        lesson.looked_up = self
            .names
            .into_iter()
            .filter(|(name, _)| !connected(name))
            .map(|(name, (times, refused))| LookedUp {
                name,
                times,
                refused: refused > 0,
            })
            .collect();
        lesson.learned = joined
            .into_iter()
            .map(|((target, protocol), (ports, evidence))| Learned {
                rule: rule(target, &ports, protocol),
                evidence,
                siblings: Vec::new(),
            })
            .collect();
        if wildcards == Wildcards::FromThreeSiblings {
            lesson.learned = collapse::collapse(lesson.learned);
        }
        lesson
    }
}

fn of_address(address: IpAddr) -> Option<Target> {
    Target::parse(&address.to_canonical().to_string()).ok()
}

fn rule(target: Target, ports: &[u16], protocol: Protocol) -> Rule {
    let ranges = ports.iter().filter_map(|port| PortRange::new(*port, *port));
    let transport = match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    };
    Rule::new(
        Effect::Allow,
        target,
        Some(Ports::from_ranges(ranges)),
        Some(transport),
        Origin::DEFAULT,
    )
}

/// The reason of a refusal, if it is one that rules know.
fn reason_of(line: &Line) -> Option<Reason> {
    let code = line.reason.as_deref()?;
    Reason::ALL.into_iter().find(|reason| reason.code() == code)
}

/// A refusal for a reason that is no rule's, such as a handshake for another name, or the user's no.
fn other_reason(code: &str) -> String {
    let is_code =
        (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let code = if is_code { code } else { "unknown" };
    format!("for a reason that is no rule's: {code}")
}

fn is_missing_rule(reason: Reason) -> bool {
    matches!(reason, Reason::NoRule | Reason::PortNotAllowed)
}

fn blames_address(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Loopback
            | Reason::HostAddress
            | Reason::MetadataAddress
            | Reason::PrivateAddress
            | Reason::LinkLocalAddress
            | Reason::MulticastAddress
            | Reason::ReservedAddress
    )
}

/// RFC 3339 in the form of the log: digits, `-`, `:`, `.`, `T`, `Z`.
fn is_time(text: &str) -> bool {
    (20..=30).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"-:.TZ".contains(&b))
}

#[cfg(test)]
mod tests;
