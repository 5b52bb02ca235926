//! Rules compiled for deciding: the one place that says yes or no.
//!
//! Must not resolve, connect or wait. Order of questions, the first answer counts:
//! 1. mode `none`: no. 2. what can never be reached (this machine, multicast): no. 3. a deny rule: no.
//! 4. an allow rule that speaks of the target on purpose: yes. 5. a special address: no. 6. mode `internet`: yes.
//! 7. otherwise no.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{AddressClass, Classified, canonical_address, classify, embedded_v4};
use crate::host::HostName;
use crate::network::{NetworkMode, NetworkPolicy};
use crate::ports::{Ports, Protocol};
use crate::rule::{Effect, Rule, Target};
use crate::verdict::{Reason, RuleText, Verdict};

/// The rules of one network policy, compiled.
#[derive(Debug, Clone)]
pub struct RuleSet {
    mode: NetworkMode,
    rules: Vec<Rule>,
}

impl RuleSet {
    /// Compiles a policy.
    #[must_use]
    pub fn compile(policy: &NetworkPolicy) -> Self {
        let rules = policy.deny.iter().chain(&policy.allow).cloned().collect();
        Self {
            mode: policy.mode,
            rules,
        }
    }

    /// The mode of the policy.
    #[must_use]
    pub fn mode(&self) -> NetworkMode {
        self.mode
    }

    /// Decides about a connection to a name. The address behind it is still to be checked, see
    /// [`RuleSet::check_resolved`].
    #[must_use]
    pub fn decide_name(&self, name: &HostName, port: u16, protocol: Protocol) -> Verdict {
        if self.mode == NetworkMode::None {
            return Verdict::deny(Reason::ModeNone);
        }
        if name.is_localhost() {
            return Verdict::deny(Reason::Loopback);
        }
        let hit = |effect| {
            self.rules
                .iter()
                .find(|r| r.effect == effect && r.covers_name(name, port, protocol))
        };
        if let Some(rule) = hit(Effect::Deny) {
            return Verdict::deny_by(Reason::DenyRule, RuleText::from(rule));
        }
        if let Some(rule) = hit(Effect::Allow) {
            return Verdict::allow_by(RuleText::from(rule));
        }
        if self.mode == NetworkMode::Internet {
            return Verdict::allow();
        }
        match self
            .rules
            .iter()
            .find(|r| r.effect == Effect::Allow && r.target.matches_name(name))
        {
            Some(rule) => Verdict::deny_by(Reason::PortNotAllowed, RuleText::from(rule)),
            None => Verdict::deny(Reason::NoRule),
        }
    }

    /// Decides about a connection to a literal address.
    #[must_use]
    pub fn decide_address(&self, address: IpAddr, port: u16, protocol: Protocol) -> Verdict {
        if self.mode == NetworkMode::None {
            return Verdict::deny(Reason::ModeNone);
        }
        let address = canonical_address(address);
        let class = classify(address);
        if let Some(verdict) = self.forbidden(address, port, protocol, &class) {
            return verdict;
        }
        if let Some(rule) = self.naming_rule(address, port, protocol, &class) {
            return Verdict::allow_by(RuleText::from(rule));
        }
        if let Some(reason) = class.class.reason() {
            return Verdict::deny(reason);
        }
        if self.mode == NetworkMode::Internet {
            return Verdict::allow();
        }
        match self
            .rules
            .iter()
            .find(|r| r.effect == Effect::Allow && r.target.matches_address(address))
        {
            Some(rule) => Verdict::deny_by(Reason::PortNotAllowed, RuleText::from(rule)),
            None => Verdict::deny(Reason::NoRule),
        }
    }

    /// Decides whether a name may be looked up: is any port of it allowed?
    #[must_use]
    pub fn may_resolve(&self, name: &HostName) -> Verdict {
        if self.mode == NetworkMode::None {
            return Verdict::deny(Reason::ModeNone);
        }
        if name.is_localhost() {
            return Verdict::deny(Reason::Loopback);
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut open = if self.mode == NetworkMode::Internet {
                Ports::all()
            } else {
                Ports::none()
            };
            let mut by = None;
            for rule in &self.rules {
                if rule.effect == Effect::Allow
                    && rule.transport.includes(protocol)
                    && rule.target.matches_name(name)
                {
                    open = open.union(&rule.ports);
                    by = by.or(Some(rule));
                }
            }
            for rule in &self.rules {
                if rule.effect == Effect::Deny
                    && rule.transport.includes(protocol)
                    && rule.target.matches_name(name)
                {
                    open = open.without(&rule.ports);
                }
            }
            if !open.is_empty() {
                return by.map_or_else(Verdict::allow, |rule| {
                    Verdict::allow_by(RuleText::from(rule))
                });
            }
        }
        match self
            .rules
            .iter()
            .find(|r| r.effect == Effect::Deny && r.target.matches_name(name))
        {
            Some(rule) => Verdict::deny_by(Reason::DenyRule, RuleText::from(rule)),
            None => Verdict::deny(Reason::NoRule),
        }
    }

    /// Checks the address that a name resolved to, or that a literal connection goes to, just before connecting.
    ///
    /// `named_by` is the verdict of [`RuleSet::decide_name`] or [`RuleSet::decide_address`]; `host_addresses` are the
    /// addresses of all interfaces of the host at this moment.
    #[must_use]
    pub fn check_resolved(
        &self,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        named_by: &Verdict,
        host_addresses: &[IpAddr],
    ) -> Verdict {
        if !named_by.is_allow() {
            return named_by.clone();
        }
        if self.mode == NetworkMode::None {
            return Verdict::deny(Reason::ModeNone);
        }
        let address = canonical_address(address);
        let class = classify(address);
        if let Some(verdict) = self.forbidden(address, port, protocol, &class) {
            return verdict;
        }
        let named = self.naming_rule(address, port, protocol, &class);
        let mine = |a: IpAddr| {
            host_addresses
                .iter()
                .any(|&host| canonical_address(host) == a)
        };
        if mine(address) || embedded(address).is_some_and(mine) {
            return match named {
                Some(rule) if is_exactly(&rule.target, address) => {
                    Verdict::allow_by(RuleText::from(rule))
                }
                _ => Verdict::deny(Reason::HostAddress),
            };
        }
        match (class.class.reason(), named) {
            (None, _) => named_by.clone(),
            (Some(_), Some(rule)) => Verdict::allow_by(RuleText::from(rule)),
            (Some(reason), None) => Verdict::deny(reason),
        }
    }

    /// What no allow rule can open: the machine itself, many receivers, and what a deny rule names.
    fn forbidden(
        &self,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        class: &Classified,
    ) -> Option<Verdict> {
        if let (false, Some(reason)) = (class.class.can_be_named(), class.class.reason()) {
            return Some(Verdict::deny(reason));
        }
        let inner = embedded(address);
        self.rules
            .iter()
            .find(|r| {
                r.effect == Effect::Deny
                    && (r.covers_address(address, port, protocol)
                        || inner.is_some_and(|inner| r.covers_address(inner, port, protocol)))
            })
            .map(|rule| Verdict::deny_by(Reason::DenyRule, RuleText::from(rule)))
    }

    /// The allow rule that speaks of this address on purpose: for a special address its network must lie inside the
    /// special range, so that `0.0.0.0/0` does not open the LAN.
    fn naming_rule(
        &self,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        class: &Classified,
    ) -> Option<&Rule> {
        self.rules.iter().find(|r| {
            r.effect == Effect::Allow
                && r.covers_address(address, port, protocol)
                && (class.class == AddressClass::Public || lies_inside(&r.target, class.range))
        })
    }
}

fn embedded(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
    }
}

fn lies_inside(target: &Target, range: IpNet) -> bool {
    match target {
        Target::Host(_) | Target::Subdomains(_) => false,
        Target::Network(network) => range.contains(network),
    }
}

fn is_exactly(target: &Target, address: IpAddr) -> bool {
    match target {
        Target::Host(_) | Target::Subdomains(_) => false,
        Target::Network(network) => *network == IpNet::from(address),
    }
}
