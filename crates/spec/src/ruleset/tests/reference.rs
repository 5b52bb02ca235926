//! A second, naive evaluator to compare with: every rule is looked at, in the words of the documentation.
//!
//! Must not share code with the compiled one, except the classes of addresses.

use std::net::IpAddr;

use crate::address::{classify, embedded_v4};
use crate::{
    Checks, Decision, HostName, NetworkMode, NetworkPolicy, Protocol, Reason, Rule, Target,
    Transport,
};

fn covers_port(rule: &Rule, port: u16, protocol: Protocol) -> bool {
    let transport = match rule.transport {
        Transport::Any => true,
        Transport::Tcp => protocol == Protocol::Tcp,
        Transport::Udp => protocol == Protocol::Udp,
    };
    transport
        && rule
            .ports
            .ranges()
            .iter()
            .any(|range| (range.first()..=range.last()).contains(&port))
}

fn matches_name(rule: &Rule, name: &HostName) -> bool {
    let labels: Vec<&str> = name.as_str().split('.').collect();
    match &rule.target {
        Target::Host(host) => host.as_str() == name.as_str(),
        Target::Subdomains(parent) => {
            let parent: Vec<&str> = parent.as_str().split('.').collect();
            labels.len() > parent.len() && labels.ends_with(&parent)
        }
        Target::Network(_) => false,
    }
}

fn matches_address(rule: &Rule, address: IpAddr) -> bool {
    match (&rule.target, address) {
        (Target::Network(ipnet::IpNet::V4(net)), IpAddr::V4(v4)) => {
            let bits = u64::from(v4.to_bits()) ^ u64::from(net.addr().to_bits());
            bits >> (32 - net.prefix_len()) == 0
        }
        (Target::Network(ipnet::IpNet::V6(net)), IpAddr::V6(v6)) => {
            (0..net.prefix_len()).all(|bit| {
                let mask = 1u128 << (127 - bit);
                v6.to_bits() & mask == net.addr().to_bits() & mask
            })
        }
        _ => false,
    }
}

pub(super) fn decide_name(
    policy: &NetworkPolicy,
    name: &HostName,
    port: u16,
    protocol: Protocol,
) -> Decision {
    let hit = |rules: &[Rule]| {
        rules
            .iter()
            .any(|r| matches_name(r, name) && covers_port(r, port, protocol))
    };
    let last = name.as_str().rsplit('.').next();
    if policy.mode == NetworkMode::None {
        Decision::Deny(Reason::ModeNone)
    } else if last == Some("localhost") {
        Decision::Deny(Reason::Loopback)
    } else if hit(&policy.deny) {
        Decision::Deny(Reason::DenyRule)
    } else if hit(&policy.allow) || policy.mode == NetworkMode::Internet {
        Decision::Allow
    } else if policy.allow.iter().any(|r| matches_name(r, name)) {
        Decision::Deny(Reason::PortNotAllowed)
    } else {
        Decision::Deny(Reason::NoRule)
    }
}

/// Asks for the ports one by one; `ports` must have one of every range that the rules tell apart.
pub(super) fn may_resolve(policy: &NetworkPolicy, name: &HostName, ports: &[u16]) -> bool {
    let decide = |port, protocol| decide_name(policy, name, port, protocol) == Decision::Allow;
    ports
        .iter()
        .any(|&port| decide(port, Protocol::Tcp) || decide(port, Protocol::Udp))
}

/// What an allowed connection to a name is held to.
pub(super) fn checks_of_name(
    policy: &NetworkPolicy,
    name: &HostName,
    port: u16,
    protocol: Protocol,
) -> Checks {
    let raw = |r: &Rule| {
        r.checks == Checks::Raw && matches_name(r, name) && covers_port(r, port, protocol)
    };
    if policy.allow.iter().any(raw) {
        Checks::Raw
    } else {
        Checks::ByName
    }
}

pub(super) fn decide_address(
    policy: &NetworkPolicy,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Decision {
    let address = address.to_canonical();
    let classified = classify(address);
    let inner = match address {
        IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    let denied = |address| {
        policy
            .deny
            .iter()
            .any(|r| matches_address(r, address) && covers_port(r, port, protocol))
    };
    let named = policy.allow.iter().any(|r| {
        let purpose = match &r.target {
            Target::Network(net) => classified.class.is_public() || classified.range.contains(net),
            Target::Host(_) | Target::Subdomains(_) => false,
        };
        purpose && matches_address(r, address) && covers_port(r, port, protocol)
    });
    if policy.mode == NetworkMode::None {
        Decision::Deny(Reason::ModeNone)
    } else if let (false, Some(reason)) =
        (classified.class.can_be_named(), classified.class.reason())
    {
        Decision::Deny(reason)
    } else if denied(address) || inner.is_some_and(denied) {
        Decision::Deny(Reason::DenyRule)
    } else if named {
        Decision::Allow
    } else if let Some(reason) = classified.class.reason() {
        Decision::Deny(reason)
    } else if policy.mode == NetworkMode::Internet {
        Decision::Allow
    } else if policy.allow.iter().any(|r| matches_address(r, address)) {
        Decision::Deny(Reason::PortNotAllowed)
    } else {
        Decision::Deny(Reason::NoRule)
    }
}
