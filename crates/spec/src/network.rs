//! The network part of a policy, as a list of rules that people can read.
//!
//! Must not decide anything: [`crate::RuleSet`] does, compiled from this.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::origin::Sourced;
use crate::rule::{Effect, Rule};

/// Name under which the sandbox knows the host itself. It resolves only when host ports were granted, and no rule can name it.
pub const HOST_NAME: &str = "host.rcc.internal";

/// How much of the network exists for the agent. Ordered from nothing to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Only the loopback interface of the sandbox.
    None,
    /// What allow rules name, nothing else.
    Allowlist,
    /// Every public address and name that no deny rule names; private addresses only by an allow rule.
    Internet,
}

impl NetworkMode {
    /// Every mode, strictest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Allowlist, Self::Internet];

    /// The word in policy files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allowlist => "allowlist",
            Self::Internet => "internet",
        }
    }

    /// Finds the mode of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Mode and rules of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// How much of the network exists.
    pub mode: NetworkMode,
    /// Rules that let through.
    pub allow: Vec<Rule>,
    /// Rules that hold back; they beat every allow rule.
    pub deny: Vec<Rule>,
    /// Seconds that a connection waits for the user's answer where mode `allowlist` has no rule; none: nobody is asked.
    #[serde(default)]
    pub ask_seconds: Option<u32>,
    /// TCP ports of the host's loopback that [`HOST_NAME`] leads to; never 0.
    pub host_ports: Vec<Sourced<u16>>,
}

impl NetworkPolicy {
    /// Makes a policy of this mode without rules.
    #[must_use]
    pub fn new(mode: NetworkMode) -> Self {
        Self {
            mode,
            allow: Vec::new(),
            deny: Vec::new(),
            ask_seconds: None,
            host_ports: Vec::new(),
        }
    }

    /// Puts a rule where its effect belongs.
    pub fn push(&mut self, rule: Rule) {
        match rule.effect {
            Effect::Allow => self.allow.push(rule),
            Effect::Deny => self.deny.push(rule),
        }
    }
}
