//! Random policies and questions, few names and addresses so that they meet often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use crate::{
    Checks, Effect, HostName, NetworkMode, NetworkPolicy, Origin, PortRange, Ports, Protocol, Rule,
    Target, Transport, canonical_address,
};

pub(crate) fn any_name() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        Just("a"),
        Just("b"),
        Just("ab"),
        Just("a-b"),
        Just("com"),
        Just("localhost")
    ];
    prop::collection::vec(label, 1..5).prop_map(|labels| labels.join("."))
}

pub(crate) fn any_address() -> impl Strategy<Value = IpAddr> {
    let v4 = prop_oneof![
        Just(0x0a00_0000u32),
        Just(0xc0a8_0100),
        Just(0xcb00_7100),
        Just(0x7f00_0000),
        Just(0xa9fe_a9fc),
        Just(0xe000_0000),
        any::<u32>(),
    ];
    let v4 = (v4, 0u32..8).prop_map(|(base, low)| Ipv4Addr::from_bits(base | low));
    let v6 = (v4.clone(), 0u32..8, 0u8..9).prop_map(|(v4, low, form)| {
        let bits = u128::from(v4.to_bits());
        Ipv6Addr::from_bits(match form {
            0 => 0xffff << 32 | bits,
            1 => bits,
            2 => 0x64_ff9b << 96 | bits,
            3 => 0x64_ff9b_0001 << 80 | bits,
            4 => 0x2002 << 112 | bits << 80 | u128::from(low),
            5 => 0x2001_0000 << 96 | (!bits & 0xffff_ffff),
            6 => 0xfd00 << 112 | u128::from(low),
            7 => 0xfe80 << 112 | u128::from(low),
            _ => 0x2001_0db8 << 96 | u128::from(low),
        })
    });
    prop_oneof![v4.prop_map(IpAddr::V4), v6.prop_map(IpAddr::V6)]
}

pub(crate) fn any_target() -> impl Strategy<Value = Target> {
    let name = any_name()
        .prop_map(|name| HostName::parse(&name).unwrap())
        .boxed();
    prop_oneof![
        name.clone().prop_map(Target::Host),
        name.prop_map(Target::Subdomains),
        (any_address(), 0u8..=128).prop_map(|(address, length)| {
            let address = canonical_address(address);
            let longest = if address.is_ipv4() { 32 } else { 128 };
            Target::Network(IpNet::new(address, length % (longest + 1)).unwrap().trunc())
        }),
    ]
}

pub(crate) fn any_ports() -> impl Strategy<Value = Option<Ports>> {
    let some = prop::collection::vec((1u16..6, 1u16..6), 1..3).prop_map(|pairs| {
        Some(Ports::from_ranges(
            pairs
                .into_iter()
                .filter_map(|(a, b)| PortRange::new(a.min(b), a.max(b))),
        ))
    });
    prop_oneof![Just(None), Just(Some(Ports::all())), some]
}

pub(crate) fn any_transport() -> impl Strategy<Value = Option<Transport>> {
    prop_oneof![
        Just(None),
        Just(Some(Transport::Tcp)),
        Just(Some(Transport::Udp)),
        Just(Some(Transport::Any))
    ]
}

/// A deny rule has no other checks than the default.
pub(crate) fn any_checks(effect: Effect) -> BoxedStrategy<Checks> {
    match effect {
        Effect::Allow => prop_oneof![2 => Just(Checks::ByName), 1 => Just(Checks::Raw)].boxed(),
        Effect::Deny => Just(Checks::ByName).boxed(),
    }
}

pub(crate) fn any_rule(effect: Effect) -> impl Strategy<Value = Rule> {
    (
        any_target(),
        any_ports(),
        any_transport(),
        any_checks(effect),
        0usize..100,
    )
        .prop_map(move |(target, ports, transport, checks, line)| {
            Rule::new(
                effect,
                target,
                ports,
                transport,
                Origin::file("hosts.conf", line),
            )
            .with_checks(checks)
        })
}

pub(crate) fn any_policy() -> impl Strategy<Value = NetworkPolicy> {
    let mode = prop_oneof![1 => Just(NetworkMode::None), 5 => Just(NetworkMode::Allowlist), 5 => Just(NetworkMode::Internet)];
    let allow = prop::collection::vec(any_rule(Effect::Allow), 0..12);
    let deny = prop::collection::vec(any_rule(Effect::Deny), 0..5);
    (mode, allow, deny).prop_map(|(mode, allow, deny)| NetworkPolicy {
        mode,
        allow,
        deny,
        ask_seconds: None,
        host_ports: Vec::new(),
    })
}

pub(crate) fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 1u16..7, 1 => Just(80), 1 => Just(443), 1 => Just(u16::MAX)]
}

pub(crate) fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)]
}
