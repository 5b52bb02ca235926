//! The answer to "may this go out?", with the reason and the rule that decided.
//!
//! Must not carry anything that the agent wrote: reasons are fixed sentences, rules are the user's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::network::HOST_NAME;
use crate::origin::{Origin, Sourced};
use crate::ports::Checks;
use crate::rule::Rule;

/// Why something is refused. The code is stable: scripts and the audit log rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The mode is `none`.
    ModeNone,
    /// The mode is `allowlist` and no rule names the target.
    NoRule,
    /// A rule names the target, but not on this port or protocol.
    PortNotAllowed,
    /// A deny rule names the target.
    DenyRule,
    /// The name is no host name.
    BadName,
    /// The address is this machine itself (loopback or unspecified).
    Loopback,
    /// The address belongs to an interface of the host.
    HostAddress,
    /// The address is a cloud metadata service.
    MetadataAddress,
    /// The address is private: RFC 1918, CGNAT or IPv6 unique local.
    PrivateAddress,
    /// The address is valid on one link only.
    LinkLocalAddress,
    /// The address is multicast or broadcast.
    MulticastAddress,
    /// The address is reserved and routed nowhere.
    ReservedAddress,
}

impl Reason {
    /// Every reason, for documentation and tests.
    pub const ALL: [Self; 12] = [
        Self::ModeNone,
        Self::NoRule,
        Self::PortNotAllowed,
        Self::DenyRule,
        Self::BadName,
        Self::Loopback,
        Self::HostAddress,
        Self::MetadataAddress,
        Self::PrivateAddress,
        Self::LinkLocalAddress,
        Self::MulticastAddress,
        Self::ReservedAddress,
    ];

    /// The stable code, as it stands in the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ModeNone => "mode_none",
            Self::NoRule => "no_rule",
            Self::PortNotAllowed => "port_not_allowed",
            Self::DenyRule => "deny_rule",
            Self::BadName => "bad_name",
            Self::Loopback => "loopback",
            Self::HostAddress => "host_address",
            Self::MetadataAddress => "metadata_address",
            Self::PrivateAddress => "private_address",
            Self::LinkLocalAddress => "link_local_address",
            Self::MulticastAddress => "multicast_address",
            Self::ReservedAddress => "reserved_address",
        }
    }

    /// One plain sentence for people and agents, lower case, without a full stop.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ModeNone => "this sandbox has no network",
            Self::NoRule => "no rule of this sandbox allows this host",
            Self::PortNotAllowed => {
                "the rules of this sandbox allow this host, but not on this port or protocol"
            }
            Self::DenyRule => "a deny rule of this sandbox names this host",
            Self::BadName => "this is not a valid host name",
            Self::Loopback => "the address is the host itself, which no rule can allow",
            Self::HostAddress => {
                "the address belongs to the host; only a rule for exactly this address allows it"
            }
            Self::MetadataAddress => {
                "the address is a cloud metadata service; only a rule for exactly this address allows it"
            }
            Self::PrivateAddress => {
                "the address is in a private network; only a rule for this address or network allows it"
            }
            Self::LinkLocalAddress => {
                "the address is link-local; only a rule for this address or network allows it"
            }
            Self::MulticastAddress => {
                "the address is multicast or broadcast, which no rule can allow"
            }
            Self::ReservedAddress => {
                "the address is reserved; only a rule for this address or network allows it"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// What is to be done with a connection, datagram or query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Let it through.
    Allow,
    /// Refuse it at once, saying why.
    Deny(Reason),
    /// Ask the user: mode `allowlist` has no rule and the policy says `ask`. It is a denial until it is answered.
    Ask,
}

impl Decision {
    /// Tells whether the answer is yes; [`Decision::Ask`] is not.
    #[must_use]
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow)
    }
}

/// The rule that decided, as text and with its place.
///
/// Displays as `example.com:443 (rcc.toml:12)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    text: Box<str>,
    origin: Origin,
}

impl RuleText {
    /// The rule in its canonical form, without the origin.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The grant of a port of the host's loopback.
    pub(crate) fn host_port(granted: &Sourced<u16>) -> Self {
        Self {
            text: format!("{HOST_NAME}:{}", granted.value).into_boxed_str(),
            origin: granted.origin.clone(),
        }
    }

    /// Where the rule was written.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl From<&Rule> for RuleText {
    fn from(rule: &Rule) -> Self {
        Self {
            text: rule.to_string().into_boxed_str(),
            origin: rule.origin.clone(),
        }
    }
}

impl fmt::Display for RuleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.origin)
    }
}

/// A decision and the rule behind it, if a single rule decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// The rule that decided; none when the mode or the address class did.
    pub rule: Option<RuleText>,
    /// How closely an allowed connection is held to its name: not at all if any rule that covers it says so.
    #[serde(default)]
    pub checks: Checks,
}

impl Verdict {
    /// Allows without a rule, as mode `internet` does.
    #[must_use]
    pub fn allow() -> Self {
        Self {
            decision: Decision::Allow,
            rule: None,
            checks: Checks::ByName,
        }
    }

    /// Allows because of a rule.
    #[must_use]
    pub fn allow_by(rule: RuleText) -> Self {
        Self {
            decision: Decision::Allow,
            rule: Some(rule),
            checks: Checks::ByName,
        }
    }

    /// Refuses without a rule.
    #[must_use]
    pub fn deny(reason: Reason) -> Self {
        Self {
            decision: Decision::Deny(reason),
            rule: None,
            checks: Checks::ByName,
        }
    }

    /// Refuses and names the rule that is behind it.
    #[must_use]
    pub fn deny_by(reason: Reason, rule: RuleText) -> Self {
        Self {
            decision: Decision::Deny(reason),
            rule: Some(rule),
            checks: Checks::ByName,
        }
    }

    /// The same verdict with other checks.
    #[must_use]
    pub fn with_checks(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// Tells whether the answer is yes.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        self.decision.is_allow()
    }

    /// The reason of a refusal.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self.decision {
            Decision::Deny(reason) => Some(reason),
            Decision::Allow | Decision::Ask => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_equal_the_serialised_form() {
        let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
    }

    #[test]
    fn rule_text_names_its_place() {
        let rule = Rule::parse("example.com:443", Origin::file("rcc.toml", 12)).unwrap();
        assert_eq!(
            RuleText::from(&rule).to_string(),
            "example.com:443 (rcc.toml:12)"
        );
    }
}
