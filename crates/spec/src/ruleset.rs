//! Rules compiled for deciding: the one place that says yes or no.
//!
//! Must not resolve, connect or wait. Order of questions, the first answer counts:
//! 1. mode `none`: no.
//! 2. What can never be reached (the machine itself, multicast): no.
//! 3. A deny rule: no.
//! 4. An allow rule that speaks of the target on purpose: yes.
//! 5. A special address: no.
//! 6. Mode `internet`: yes.
//! 7. Otherwise no, or a question to the user where the policy says `ask`.
//!
//! Of several rules that lead to the same answer, the verdict names the closest one, of equally close ones the first. What is said on
//! a connection goes unchecked if any rule that allows it says so.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{AddressClass, Classified, canonical_address, classify, embedded_v4};
use crate::host::HostName;
use crate::network::{HOST_NAME, NetworkMode, NetworkPolicy};
use crate::origin::Sourced;
use crate::ports::{Checks, Ports, Protocol};
use crate::rule::{Effect, Target};
use crate::verdict::{Decision, Reason, RuleText, Verdict};

mod buckets;
mod hash;
mod names;
mod networks;
mod record;

use names::{NameMatch, Names};
use networks::{NetworkMatch, Networks};
use record::{Record, Tables, TablesBuilder};

/// The rules of one network policy, compiled.
#[derive(Debug, Clone)]
pub struct RuleSet {
    mode: NetworkMode,
    ask_seconds: Option<u32>,
    host_ports: Vec<Sourced<u16>>,
    tables: Tables,
    names: Names,
    networks: Networks,
    denies_names: bool,
}

impl RuleSet {
    /// Compiles a policy.
    #[must_use]
    pub fn compile(policy: &NetworkPolicy) -> Self {
        let mut builder = TablesBuilder::default();
        // The list a rule stands in decides, not its `effect`: lists may be made by hand.
        let lists = [(Effect::Deny, &policy.deny), (Effect::Allow, &policy.allow)];
        let mut each = |take: &mut dyn FnMut(&Record, &Target)| {
            for (effect, list) in lists {
                for rule in list {
                    take(&builder.record(effect, rule), &rule.target);
                }
            }
        };
        let (mut names_count, mut networks_count) = (0, 0);
        each(&mut |_, target| match target {
            Target::Host(_) | Target::Subdomains(_) => names_count += 1,
            Target::Network(_) => networks_count += 1,
        });
        let names = Names::build(names_count, &mut each);
        let networks = Networks::build(networks_count, &mut each);
        Self {
            mode: policy.mode,
            ask_seconds: policy.ask_seconds,
            host_ports: policy.host_ports.clone(),
            names,
            networks,
            tables: builder.finish(),
            denies_names: policy
                .deny
                .iter()
                .any(|rule| !matches!(rule.target, Target::Network(_))),
        }
    }

    /// The mode of the policy.
    #[must_use]
    pub fn mode(&self) -> NetworkMode {
        self.mode
    }

    /// Tells whether any deny rule is about names.
    #[must_use]
    pub fn denies_names(&self) -> bool {
        self.denies_names
    }

    /// Seconds that a connection waits for an answer after [`Decision::Ask`].
    #[must_use]
    pub fn ask_seconds(&self) -> Option<u32> {
        self.ask_seconds
    }

    /// Decides about a connection to a name. The address behind it is still to be checked, see
    /// [`RuleSet::check_resolved`].
    #[must_use]
    pub fn decide_name(&self, name: &HostName, port: u16, protocol: Protocol) -> Verdict {
        if let Some(verdict) = self.refuse_name(name) {
            return verdict;
        }
        if is_host_name(name) {
            return self.decide_host_port(name, port, protocol);
        }
        let (mut deny, mut allow, mut elsewhere) = (None, None, None);
        let mut checks = Checks::ByName;
        self.names.visit(name, |found| {
            let covers = self.tables.covers(found.record, port, protocol);
            match (found.record.effect, covers) {
                (Effect::Deny, true) => keep_closest(&mut deny, found),
                (Effect::Deny, false) => {}
                (Effect::Allow, true) => {
                    checks = checks.max(found.record.checks);
                    keep_closest(&mut allow, found);
                }
                (Effect::Allow, false) => keep_closest(&mut elsewhere, found),
            }
        });
        match (deny, allow, elsewhere) {
            (Some(rule), _, _) => Verdict::deny_by(Reason::DenyRule, self.text_of_name(&rule)),
            (None, Some(rule), _) => {
                Verdict::allow_by(self.text_of_name(&rule)).with_checks(checks)
            }
            (None, None, _) if self.mode == NetworkMode::Internet => Verdict::allow(),
            (None, None, Some(rule)) => self.no_rule(Verdict::deny_by(
                Reason::PortNotAllowed,
                self.text_of_name(&rule),
            )),
            (None, None, None) => self.no_rule(Verdict::deny(Reason::NoRule)),
        }
    }

    /// Decides whether a name may be looked up: is any port of it allowed?
    #[must_use]
    pub fn may_resolve(&self, name: &HostName) -> Verdict {
        if let Some(verdict) = self.refuse_name(name) {
            return verdict;
        }
        if is_host_name(name) {
            let mut ports = self.host_ports.iter().map(|granted| granted.value);
            let open = ports.find_map(|port| {
                let verdict = self.decide_host_port(name, port, Protocol::Tcp);
                verdict.is_allow().then_some(verdict)
            });
            return open.unwrap_or(Verdict::deny(Reason::NoRule));
        }
        let (mut deny, mut allow) = (None, None);
        self.names.visit(name, |found| match found.record.effect {
            Effect::Deny => keep_closest(&mut deny, found),
            Effect::Allow if self.tables.ports(found.record).is_empty() => {}
            Effect::Allow => keep_closest(&mut allow, found),
        });
        let named = allow.is_some() || self.mode == NetworkMode::Internet;
        match deny {
            None if named => allow.map_or_else(Verdict::allow, |rule| {
                Verdict::allow_by(self.text_of_name(&rule))
            }),
            None => self.no_rule(Verdict::deny(Reason::NoRule)),
            Some(_) if named && self.leaves_a_port(name) => allow
                .map_or_else(Verdict::allow, |rule| {
                    Verdict::allow_by(self.text_of_name(&rule))
                }),
            Some(rule) => Verdict::deny_by(Reason::DenyRule, self.text_of_name(&rule)),
        }
    }

    /// Decides about a connection to a literal address. It is still to be checked against the addresses of the host,
    /// see [`RuleSet::check_resolved`].
    #[must_use]
    pub fn decide_address(&self, address: IpAddr, port: u16, protocol: Protocol) -> Verdict {
        let found = match self.look_up(address, port, protocol) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        if let Some(rule) = found.naming {
            return Verdict::allow_by(self.text_of_network(&rule)).with_checks(found.checks);
        }
        match (found.class.reason(), found.elsewhere) {
            (Some(reason), _) => Verdict::deny(reason),
            (None, _) if self.mode == NetworkMode::Internet => Verdict::allow(),
            (None, Some(rule)) => self.no_rule(Verdict::deny_by(
                Reason::PortNotAllowed,
                self.text_of_network(&rule),
            )),
            (None, None) => self.no_rule(Verdict::deny(Reason::NoRule)),
        }
    }

    /// Checks the address that a name resolved to, or that a literal connection goes to, just before connecting.
    ///
    /// `named_by` is the verdict of [`RuleSet::decide_name`] or [`RuleSet::decide_address`]; `host_addresses` are the
    /// addresses of all interfaces of the host at this moment. A special address needs an allow rule that names it or
    /// its network; an address of the host needs a rule for exactly this address; the machine itself, by loopback or
    /// unspecified address, and multicast are never reached. How closely the connection is checked stays as `named_by` says.
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
        let found = match self.look_up(address, port, protocol) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        let address = canonical_address(address);
        let is_mine = |address| {
            host_addresses
                .iter()
                .any(|&host| canonical_address(host) == address)
        };
        if is_mine(address) || embedded(address).is_some_and(is_mine) {
            return match found.naming {
                Some(rule) if rule.network == IpNet::from(address) => {
                    Verdict::allow_by(self.text_of_network(&rule)).with_checks(named_by.checks)
                }
                _ => Verdict::deny(Reason::HostAddress),
            };
        }
        match (found.class.reason(), found.naming) {
            (None, _) => named_by.clone(),
            (Some(_), Some(rule)) => {
                Verdict::allow_by(self.text_of_network(&rule)).with_checks(named_by.checks)
            }
            (Some(reason), None) => Verdict::deny(reason),
        }
    }

    /// What becomes of a target that no rule decides about: a question to the user, if there are to be any.
    fn no_rule(&self, refusal: Verdict) -> Verdict {
        if self.ask_seconds.is_some() {
            Verdict {
                decision: Decision::Ask,
                ..refusal
            }
        } else {
            refusal
        }
    }

    /// Decides about a port of the host's loopback. Only a granted port is open, whatever the mode; a deny rule for a name
    /// above it (`*.internal`) still holds.
    fn decide_host_port(&self, name: &HostName, port: u16, protocol: Protocol) -> Verdict {
        let Some(granted) = self.host_ports.iter().find(|granted| granted.value == port) else {
            let reason = if self.host_ports.is_empty() {
                Reason::NoRule
            } else {
                Reason::PortNotAllowed
            };
            return Verdict::deny(reason);
        };
        let rule = RuleText::host_port(granted);
        if protocol != Protocol::Tcp {
            return Verdict::deny_by(Reason::PortNotAllowed, rule);
        }
        let mut deny = None;
        self.names.visit(name, |found| {
            if found.record.effect == Effect::Deny
                && self.tables.covers(found.record, port, protocol)
            {
                keep_closest(&mut deny, found);
            }
        });
        match deny {
            Some(rule) => Verdict::deny_by(Reason::DenyRule, self.text_of_name(&rule)),
            // Programs name the host as they like, so no hello or Host could be compared with anything.
            None => Verdict::allow_by(rule).with_checks(Checks::Raw),
        }
    }

    /// Questions 1 and 2 for names.
    fn refuse_name(&self, name: &HostName) -> Option<Verdict> {
        if self.mode == NetworkMode::None {
            Some(Verdict::deny(Reason::ModeNone))
        } else if name.is_localhost() {
            Some(Verdict::deny(Reason::Loopback))
        } else {
            None
        }
    }

    /// Tells whether the deny rules leave any port of the name open; only asked when there are some.
    fn leaves_a_port(&self, name: &HostName) -> bool {
        [Protocol::Tcp, Protocol::Udp].into_iter().any(|protocol| {
            let mut open = if self.mode == NetworkMode::Internet {
                Ports::all()
            } else {
                Ports::NONE
            };
            let mut closed = Ports::NONE;
            self.names.visit(name, |found| {
                if found.record.includes(protocol) {
                    let side = match found.record.effect {
                        Effect::Allow => &mut open,
                        Effect::Deny => &mut closed,
                    };
                    *side = side.union(self.tables.ports(found.record));
                }
            });
            !open.without(&closed).is_empty()
        })
    }

    /// Questions 1 to 3 for addresses; the verdict if one of them answers, else what the allow rules say.
    fn look_up(&self, address: IpAddr, port: u16, protocol: Protocol) -> Result<Found, Verdict> {
        if self.mode == NetworkMode::None {
            return Err(Verdict::deny(Reason::ModeNone));
        }
        let address = canonical_address(address);
        let Classified { class, range } = classify(address);
        if let (false, Some(reason)) = (class.can_be_named(), class.reason()) {
            return Err(Verdict::deny(reason));
        }
        let (mut deny, mut naming, mut elsewhere) = (None, None, None);
        let mut checks = Checks::ByName;
        self.networks.visit(address, |found| {
            let covers = self.tables.covers(found.record, port, protocol);
            // A rule speaks of a special address only if its network lies inside the special range: `0.0.0.0/0` does
            // not open the LAN. Both contain the address, so the lengths tell.
            let on_purpose =
                class == AddressClass::Public || found.network.prefix_len() >= range.prefix_len();
            match (found.record.effect, covers) {
                (Effect::Deny, true) => keep_narrowest(&mut deny, found),
                (Effect::Allow, true) if on_purpose => {
                    checks = checks.max(found.record.checks);
                    keep_narrowest(&mut naming, found);
                }
                (Effect::Allow, false) => keep_narrowest(&mut elsewhere, found),
                _ => {}
            }
        });
        // What denies an IPv4 address denies the IPv6 addresses that lead to it.
        if let (None, Some(inner)) = (deny, embedded(address)) {
            self.networks.visit(inner, |found| {
                if found.record.effect == Effect::Deny
                    && self.tables.covers(found.record, port, protocol)
                {
                    keep_narrowest(&mut deny, found);
                }
            });
        }
        match deny {
            Some(rule) => Err(Verdict::deny_by(
                Reason::DenyRule,
                self.text_of_network(&rule),
            )),
            None => Ok(Found {
                class,
                naming,
                checks,
                elsewhere,
            }),
        }
    }

    fn text_of_name(&self, found: &NameMatch<'_>) -> RuleText {
        RuleText::from(&self.tables.rule(found.record, found.target()))
    }

    fn text_of_network(&self, found: &NetworkMatch) -> RuleText {
        RuleText::from(&self.tables.rule(found.record, found.target()))
    }
}

/// What the allow rules say about an address that no deny rule names.
struct Found {
    class: AddressClass,
    /// Names the address, port and protocol.
    naming: Option<NetworkMatch>,
    /// How closely the rules that do so want it checked.
    checks: Checks,
    /// Names the address, but on other ports.
    elsewhere: Option<NetworkMatch>,
}

fn keep_closest<'s>(kept: &mut Option<NameMatch<'s>>, found: NameMatch<'s>) {
    if kept.is_none_or(|kept| found.is_closer_than(&kept)) {
        *kept = Some(found);
    }
}

fn keep_narrowest(kept: &mut Option<NetworkMatch>, found: NetworkMatch) {
    if kept.is_none_or(|kept| found.network.prefix_len() > kept.network.prefix_len()) {
        *kept = Some(found);
    }
}

/// Tells whether this is the name of the host's own loopback, [`HOST_NAME`].
pub(crate) fn is_host_name(name: &HostName) -> bool {
    name.as_str() == HOST_NAME
}

fn embedded(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests;
