//! Sets of TCP or UDP ports, and the transports a rule speaks of.
//!
//! Must not contain port 0: no packet is sent to it, and several interfaces read it as "any".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The highest port number.
const PORT_MAX: u16 = u16::MAX;

/// The transport protocol of one connection or datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768), QUIC included.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The transports that a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP only; what an allow rule without a suffix means.
    Tcp,
    /// UDP only; the suffix `/udp`.
    Udp,
    /// Both; what a deny rule without a suffix means.
    Any,
}

impl Transport {
    /// Tells whether `protocol` is among these transports.
    #[must_use]
    pub fn includes(self, protocol: Protocol) -> bool {
        matches!(
            (self, protocol),
            (Self::Any, _) | (Self::Tcp, Protocol::Tcp) | (Self::Udp, Protocol::Udp)
        )
    }
}

/// How closely what is said on a connection is held to the name that the connection is for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Checks {
    /// TLS and plain HTTP must be for that name.
    #[default]
    ByName,
    /// Anything may be said; the suffix `/raw`.
    Raw,
}

/// An inclusive range of ports, `first <= last`, never containing 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 1,
        last: PORT_MAX,
    };

    /// Makes a range; none when it is empty or contains port 0.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    /// The lowest port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Why a text is no set of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// Nothing between two commas, or nothing at all.
    #[error("port is missing in `{text}`")]
    Missing {
        /// The whole text.
        text: String,
    },
    /// Neither a number from 1 to 65535 nor a range of such.
    #[error("`{port}` is no port, ports are 1 to 65535")]
    NotAPort {
        /// The part that is wrong.
        port: String,
    },
    /// A range that runs backwards.
    #[error("port range `{range}` runs backwards")]
    Backwards {
        /// The range.
        range: String,
    },
}

/// A set of ports: sorted, disjoint, never adjacent ranges.
///
/// The default, 80 and 443, takes no memory: most rules have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports(Form);

/// The sets that most rules have are words; each set has one form, so that comparing works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Nothing,
    Web,
    Ranges(Box<[PortRange]>),
}

const DEFAULT_RANGES: [PortRange; 2] = [
    PortRange {
        first: 80,
        last: 80,
    },
    PortRange {
        first: 443,
        last: 443,
    },
];

impl Default for Ports {
    /// Ports 80 and 443.
    fn default() -> Self {
        Self(Form::Web)
    }
}

impl Ports {
    /// No port at all.
    pub const NONE: Self = Self(Form::Nothing);

    /// Every port, 1 to 65535.
    #[must_use]
    pub fn all() -> Self {
        Self::from_ranges([PortRange::ALL])
    }

    /// One port; none for port 0.
    #[must_use]
    pub fn single(port: u16) -> Option<Self> {
        Some(Self::from_ranges([PortRange::new(port, port)?]))
    }

    /// Joins ranges in any order into a set.
    pub fn from_ranges(ranges: impl IntoIterator<Item = PortRange>) -> Self {
        let mut sorted: Vec<PortRange> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                // Adjacent ranges join too, so that equal sets have equal forms.
                Some(previous) if range.first <= previous.last.saturating_add(1) => {
                    previous.last = previous.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(match merged.as_slice() {
            [] => Form::Nothing,
            ranges if ranges == DEFAULT_RANGES => Form::Web,
            _ => Form::Ranges(merged.into_boxed_slice()),
        })
    }

    /// Parses `443`, `80,443`, `8000-8100`, any list of these, or `*` for every port.
    ///
    /// # Errors
    /// Names the part that is no port.
    pub fn parse(text: &str) -> Result<Self, PortsError> {
        if text == "*" {
            return Ok(Self::all());
        }
        let ranges: Result<Vec<PortRange>, PortsError> = text
            .split(',')
            .map(|part| parse_range(text, part))
            .collect();
        Ok(Self::from_ranges(ranges?))
    }

    /// The ranges, sorted and disjoint.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        match &self.0 {
            Form::Nothing => &[],
            Form::Web => &DEFAULT_RANGES,
            Form::Ranges(ranges) => ranges,
        }
    }

    /// Tells whether `port` is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let ranges = self.ranges();
        let after = ranges.partition_point(|range| range.first <= port);
        after
            .checked_sub(1)
            .and_then(|i| ranges.get(i))
            .is_some_and(|range| port <= range.last)
    }

    /// Tells whether the set has no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges().is_empty()
    }

    /// Tells whether the set has every port.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.ranges() == [PortRange::ALL]
    }

    /// The ports in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.ranges().iter().chain(other.ranges()).copied())
    }

    /// The ports of this set that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for range in self.ranges() {
            // `next` is the lowest port not yet dealt with; u32, so that one past 65535 fits.
            let mut next = u32::from(range.first);
            for hole in other.ranges() {
                if let (Ok(first), Some(last)) = (u16::try_from(next), hole.first.checked_sub(1)) {
                    left.extend(PortRange::new(first, last.min(range.last)));
                }
                next = next.max(u32::from(hole.last) + 1);
            }
            if let Ok(first) = u16::try_from(next) {
                left.extend(PortRange::new(first, range.last));
            }
        }
        Self::from_ranges(left)
    }
}

fn parse_range(text: &str, part: &str) -> Result<PortRange, PortsError> {
    if part.is_empty() {
        return Err(PortsError::Missing {
            text: shorten(text),
        });
    }
    let Some((first, last)) = part.split_once('-') else {
        let port = parse_port(part)?;
        return Ok(PortRange {
            first: port,
            last: port,
        });
    };
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    PortRange::new(first, last).ok_or_else(|| PortsError::Backwards {
        range: part.to_owned(),
    })
}

fn parse_port(text: &str) -> Result<u16, PortsError> {
    // `u16::from_str` takes a leading `+`; rules do not.
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|&port: &u16| digits && port > 0)
        .ok_or_else(|| PortsError::NotAPort {
            port: shorten(text),
        })
}

fn shorten(text: &str) -> String {
    crate::text::shorten(text, 40)
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("*");
        }
        for (index, range) in self.ranges().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        // The empty set has no form that people may write, but it must survive being stored.
        if text.is_empty() {
            Ok(Self::NONE)
        } else {
            Self::parse(&text)
        }
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests;
