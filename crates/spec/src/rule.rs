//! One line of policy: a target, ports, a transport, how closely it is checked, and where it was written.
//!
//! Must not resolve names, and must not guess: a text with two readings is refused.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::host::{HostError, HostName};
use crate::network::HOST_NAME;
use crate::origin::Origin;
use crate::ports::{Checks, Ports, PortsError, Protocol, Transport};
use crate::text::shorten;

/// What a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Exactly this name.
    Host(HostName),
    /// `*.host`: every name below it at any depth, not the host itself.
    Subdomains(HostName),
    /// One address or a network; host bits are zero.
    Network(IpNet),
}

impl Target {
    /// Parses `host`, `*.host`, `address`, `address/prefix`; IPv6 without brackets.
    ///
    /// # Errors
    /// Says why the text is none of these.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if let Some(address) = parse_address(text) {
            return Ok(Self::Network(plain_network(text, IpNet::from(address))?));
        }
        if text.contains('/') {
            return Ok(Self::Network(parse_network(text)?));
        }
        let host = |name: &str| match HostName::parse(name) {
            Ok(host) if is_rccs_own(&host) => Err(RuleError::OwnName),
            Ok(host) => Ok(host),
            Err(source) => Err(RuleError::Host {
                target: shorten(text, 80),
                source,
            }),
        };
        match text.strip_prefix("*.") {
            Some(parent) => host(parent).map(Self::Subdomains),
            None if text == "*" => Err(RuleError::Everything),
            None if text.contains('*') => Err(RuleError::Wildcard {
                target: shorten(text, 80),
            }),
            None if text.contains(':') || text.contains('%') => Err(RuleError::Address {
                target: shorten(text, 80),
            }),
            None => host(text).map(Self::Host),
        }
    }

    /// Tells whether the target contains this name.
    #[must_use]
    pub fn matches_name(&self, name: &HostName) -> bool {
        match self {
            Self::Host(host) => host == name,
            Self::Subdomains(parent) => name.is_below(parent),
            Self::Network(_) => false,
        }
    }

    /// Tells whether the target contains this address.
    #[must_use]
    pub fn matches_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Host(_) | Self::Subdomains(_) => false,
            Self::Network(network) => network.contains(&address),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Subdomains(parent) => write!(f, "*.{parent}"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Tells whether rcc gives this name its meaning: `rcc.internal` and everything below it.
fn is_rccs_own(host: &HostName) -> bool {
    let zone = HOST_NAME
        .split_once('.')
        .map_or(HOST_NAME, |(_, zone)| zone);
    let rest = host.as_str().strip_suffix(zone);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a rule lets through or holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Lets through.
    Allow,
    /// Holds back; beats every allow rule.
    Deny,
}

/// One line of policy.
///
/// What is left out means the narrow thing in each direction: an allow rule without ports covers TCP 80 and 443, a
/// deny rule without ports covers every port, and without a suffix both transports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Allow or deny.
    pub effect: Effect,
    /// What it speaks of.
    pub target: Target,
    /// On which ports.
    pub ports: Ports,
    /// Over which transports.
    pub transport: Transport,
    /// How closely what is said there is held to the name; meaningless in a deny rule.
    #[serde(default)]
    pub checks: Checks,
    /// Where it was written.
    pub origin: Origin,
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// An empty text.
    #[error("rule is empty")]
    Empty,
    /// Spaces around or inside.
    #[error("rule `{rule}` contains white space or control characters")]
    Space {
        /// The rule, escaped.
        rule: String,
    },
    /// A URL instead of a host.
    #[error("rule `{rule}` is a URL; write only host and port, such as `example.com:443`")]
    Url {
        /// The rule, escaped.
        rule: String,
    },
    /// `*` alone.
    #[error("`*` is no rule; to reach every public host set `mode = \"internet\"`")]
    Everything,
    /// A star that is not the first label.
    #[error("`{target}` has a `*` that is not its first label; only `*.example.com` is possible")]
    Wildcard {
        /// The target, escaped.
        target: String,
    },
    /// The name is no host name.
    #[error("`{target}` names no host")]
    Host {
        /// The target, escaped.
        target: String,
        /// What is wrong with the name.
        #[source]
        source: HostError,
    },
    /// A name that rcc itself gives a meaning.
    #[error(
        "no rule can name `host.rcc.internal` or what is around it; write `host_ports = [5432]` or `--host-port 5432`"
    )]
    OwnName,
    /// Something with colons that is no IPv6 address.
    #[error("`{target}` is no address or network; write IPv6 with ports as `[2001:db8::1]:443`")]
    Address {
        /// The target, escaped.
        target: String,
    },
    /// Something with a slash that is no network.
    #[error("`{target}` is no network; networks look like `203.0.113.0/24`")]
    Network {
        /// The target, escaped.
        target: String,
    },
    /// A network with host bits.
    #[error("`{target}` has bits behind its prefix; the network is `{network}`")]
    HostBits {
        /// The target.
        target: String,
        /// The network that contains it.
        network: IpNet,
    },
    /// An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
    #[error("`{target}` is an IPv4 address in IPv6 form; write the IPv4 form")]
    Mapped {
        /// The target.
        target: String,
    },
    /// A `[` without its `]`, or text behind it.
    #[error("rule `{rule}` has brackets that do not enclose an IPv6 address")]
    Brackets {
        /// The rule, escaped.
        rule: String,
    },
    /// A deny rule that ends in `/raw`.
    #[error("rule `{rule}` denies; `/raw` is only for rules that allow")]
    RawDeny {
        /// The rule, escaped.
        rule: String,
    },
    /// The ports are wrong.
    #[error("rule `{rule}` has wrong ports")]
    Ports {
        /// The rule, escaped.
        rule: String,
        /// What is wrong with them.
        #[source]
        source: PortsError,
    },
}

impl Rule {
    /// Parses an allow rule; without ports it means 80 and 443, without suffix TCP.
    ///
    /// Forms: `host`, `host:80,443`, `host:8000-8100`, `host:*`, `*.host`, `ip`, `[v6]:port`, `net/prefix`,
    /// `net/prefix:ports`, `[v6net/prefix]:ports`, each with an optional `/tcp`, `/udp` or `/any` behind it, and for an allow
    /// rule an optional `/raw` at the very end.
    ///
    /// # Errors
    /// Says which part of the rule is wrong; see [`RuleError`].
    pub fn parse(text: &str, origin: Origin) -> Result<Self, RuleError> {
        Self::parse_as(Effect::Allow, text, origin)
    }

    /// Parses a deny rule; without ports it means every port, without suffix TCP and UDP.
    ///
    /// # Errors
    /// As [`Rule::parse`].
    pub fn parse_deny(text: &str, origin: Origin) -> Result<Self, RuleError> {
        Self::parse_as(Effect::Deny, text, origin)
    }

    /// Parses a rule of the given effect.
    ///
    /// # Errors
    /// As [`Rule::parse`].
    pub fn parse_as(effect: Effect, text: &str, origin: Origin) -> Result<Self, RuleError> {
        check_shape(text)?;
        let (rest, checks) = match text.strip_suffix("/raw") {
            Some(_) if effect == Effect::Deny => {
                return Err(RuleError::RawDeny {
                    rule: shorten(text, 80),
                });
            }
            Some(rest) => (rest, Checks::Raw),
            None => (text, Checks::ByName),
        };
        let (rest, transport) = split_transport(rest);
        let (target, ports) = split_ports(text, rest)?;
        let ports = match ports {
            Some(ports) => Some(Ports::parse(ports).map_err(|source| RuleError::Ports {
                rule: shorten(text, 80),
                source,
            })?),
            None => None,
        };
        Ok(Self::new(effect, Target::parse(target)?, ports, transport, origin).with_checks(checks))
    }

    /// Joins parts into a rule; a part left out means what it means in [`Rule::parse`] or [`Rule::parse_deny`].
    ///
    /// What is said is held to the name, see [`Rule::with_checks`].
    #[must_use]
    pub fn new(
        effect: Effect,
        target: Target,
        ports: Option<Ports>,
        transport: Option<Transport>,
        origin: Origin,
    ) -> Self {
        Self {
            effect,
            target,
            ports: ports.unwrap_or_else(|| default_ports(effect)),
            transport: transport.unwrap_or_else(|| default_transport(effect)),
            checks: Checks::ByName,
            origin,
        }
    }

    /// The same rule with other checks.
    #[must_use]
    pub fn with_checks(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// Tells whether the rule covers a connection to this name.
    #[must_use]
    pub fn covers_name(&self, name: &HostName, port: u16, protocol: Protocol) -> bool {
        self.target.matches_name(name) && self.covers_port(port, protocol)
    }

    /// Tells whether the rule covers a connection to this address.
    #[must_use]
    pub fn covers_address(&self, address: IpAddr, port: u16, protocol: Protocol) -> bool {
        self.target.matches_address(address) && self.covers_port(port, protocol)
    }

    /// Tells whether the rule covers this port over this protocol.
    #[must_use]
    pub fn covers_port(&self, port: u16, protocol: Protocol) -> bool {
        self.transport.includes(protocol) && self.ports.contains(port)
    }
}

fn default_ports(effect: Effect) -> Ports {
    match effect {
        Effect::Allow => Ports::default(),
        Effect::Deny => Ports::all(),
    }
}

fn default_transport(effect: Effect) -> Transport {
    match effect {
        Effect::Allow => Transport::Tcp,
        Effect::Deny => Transport::Any,
    }
}

fn check_shape(text: &str) -> Result<(), RuleError> {
    if text.is_empty() {
        return Err(RuleError::Empty);
    }
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    if !plain && text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(RuleError::Space {
            rule: shorten(text, 80),
        });
    }
    if text.contains("://") {
        return Err(RuleError::Url {
            rule: shorten(text, 80),
        });
    }
    Ok(())
}

fn split_transport(text: &str) -> (&str, Option<Transport>) {
    match text.rsplit_once('/') {
        Some((rest, "tcp")) => (rest, Some(Transport::Tcp)),
        Some((rest, "udp")) => (rest, Some(Transport::Udp)),
        Some((rest, "any")) => (rest, Some(Transport::Any)),
        _ => (text, None),
    }
}

/// Splits target and ports. Colons belong to IPv6 unless brackets say otherwise.
fn split_ports<'t>(rule: &str, text: &'t str) -> Result<(&'t str, Option<&'t str>), RuleError> {
    let brackets = || RuleError::Brackets {
        rule: shorten(rule, 80),
    };
    if let Some(inner) = text.strip_prefix('[') {
        let (target, rest) = inner.split_once(']').ok_or_else(brackets)?;
        if !target.contains(':') {
            return Err(brackets());
        }
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((target, Some(ports))),
            None if rest.is_empty() => Ok((target, None)),
            None => Err(brackets()),
        };
    }
    match text.split_once(':') {
        Some((_, ports)) if ports.contains(':') => Ok((text, None)),
        Some((target, ports)) => Ok((target, Some(ports))),
        None => Ok((text, None)),
    }
}

/// Parses an address; looks at two characters first, because most targets are names.
fn parse_address(text: &str) -> Option<IpAddr> {
    let possible = text.ends_with(|c: char| c.is_ascii_digit()) || text.contains(':');
    possible.then(|| text.parse().ok()).flatten()
}

fn parse_network(text: &str) -> Result<IpNet, RuleError> {
    let network: IpNet = text.parse().map_err(|_| {
        let target = shorten(text, 80);
        if text.contains(':') {
            RuleError::Address { target }
        } else {
            RuleError::Network { target }
        }
    })?;
    // The parser of `ipnet` takes `/08`; one spelling is enough.
    let prefix = text.rsplit_once('/').map_or("", |(_, prefix)| prefix);
    if prefix != network.prefix_len().to_string() {
        return Err(RuleError::Network {
            target: shorten(text, 80),
        });
    }
    if network.trunc() != network {
        return Err(RuleError::HostBits {
            target: text.to_owned(),
            network: network.trunc(),
        });
    }
    plain_network(text, network)
}

/// Refuses IPv4-mapped networks: an address has one spelling in a policy.
fn plain_network(text: &str, network: IpNet) -> Result<IpNet, RuleError> {
    match network {
        IpNet::V4(_) => Ok(network),
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            Err(RuleError::Mapped {
                target: shorten(text, 80),
            })
        }
        IpNet::V6(_) => Ok(network),
    }
}

/// The form in which the parser reads the rule back.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let explicit_ports = self.ports != default_ports(self.effect);
        let six = matches!(self.target, Target::Network(IpNet::V6(_)));
        match (six, explicit_ports) {
            (true, true) => write!(f, "[{}]:{}", self.target, self.ports)?,
            (false, true) => write!(f, "{}:{}", self.target, self.ports)?,
            (_, false) => self.target.fmt(f)?,
        }
        if self.transport != default_transport(self.effect) {
            f.write_str(match self.transport {
                Transport::Tcp => "/tcp",
                Transport::Udp => "/udp",
                Transport::Any => "/any",
            })?;
        }
        match self.checks {
            Checks::ByName => Ok(()),
            Checks::Raw => f.write_str("/raw"),
        }
    }
}

#[cfg(test)]
mod tests;
