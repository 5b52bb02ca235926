//! Random policies and questions, few names and addresses so that they meet often.

use super::*;

fn any_name() -> impl Strategy<Value = String> {
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

fn any_address() -> impl Strategy<Value = IpAddr> {
    let v4 = prop_oneof![
        Just(0x0a00_0000u32),
        Just(0xc0a8_0100),
        Just(0xcb00_7100),
        Just(0x7f00_0000),
        Just(0xa9fe_a9fc),
        Just(0xe000_0000),
        any::<u32>(),
    ];
    let v4 = (v4, 0u32..8).prop_map(|(base, low)| std::net::Ipv4Addr::from_bits(base | low));
    let v6 = (v4.clone(), 0u32..8, 0u8..9).prop_map(|(v4, low, form)| {
        let bits = u128::from(v4.to_bits());
        std::net::Ipv6Addr::from_bits(match form {
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

fn any_target() -> impl Strategy<Value = Target> {
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

fn any_ports() -> impl Strategy<Value = Option<Ports>> {
    let some = prop::collection::vec((1u16..6, 1u16..6), 1..3).prop_map(|pairs| {
        Some(Ports::from_ranges(pairs.into_iter().filter_map(
            |(a, b)| crate::PortRange::new(a.min(b), a.max(b)),
        )))
    });
    prop_oneof![Just(None), Just(Some(Ports::all())), some]
}

fn any_transport() -> impl Strategy<Value = Option<crate::Transport>> {
    prop_oneof![
        Just(None),
        Just(Some(crate::Transport::Tcp)),
        Just(Some(crate::Transport::Udp)),
        Just(Some(crate::Transport::Any))
    ]
}

fn any_rule(effect: Effect) -> impl Strategy<Value = Rule> {
    (any_target(), any_ports(), any_transport(), 0usize..100).prop_map(
        move |(target, ports, transport, line)| {
            Rule::new(
                effect,
                target,
                ports,
                transport,
                Origin::file("hosts.conf", line),
            )
        },
    )
}

fn any_policy() -> impl Strategy<Value = NetworkPolicy> {
    let mode = prop_oneof![1 => Just(NetworkMode::None), 5 => Just(NetworkMode::Allowlist), 5 => Just(NetworkMode::Internet)];
    let allow = prop::collection::vec(any_rule(Effect::Allow), 0..12);
    let deny = prop::collection::vec(any_rule(Effect::Deny), 0..5);
    (mode, allow, deny).prop_map(|(mode, allow, deny)| NetworkPolicy { mode, allow, deny })
}

fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 1u16..7, 1 => Just(80), 1 => Just(443), 1 => Just(u16::MAX)]
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_are_decided_as_the_reference_does(
        policy in any_policy(), name in any_name(), port in any_port(), protocol in any_protocol()
    ) {
        let name = host(&name);
        let verdict = RuleSet::compile(&policy).decide_name(&name, port, protocol);
        prop_assert_eq!(verdict.decision, reference::decide_name(&policy, &name, port, protocol));
        if let Some(text) = verdict.rule {
            // The rule that is named exists, with its origin, and speaks of the name.
            let mut all = policy.deny.iter().chain(&policy.allow);
            prop_assert!(all.any(|rule| RuleText::from(rule) == text && rule.target.matches_name(&name)));
        }
    }

    #[test]
    fn addresses_are_decided_as_the_reference_does(
        policy in any_policy(), address in any_address(), port in any_port(), protocol in any_protocol()
    ) {
        let verdict = RuleSet::compile(&policy).decide_address(address, port, protocol);
        prop_assert_eq!(verdict.decision, reference::decide_address(&policy, address, port, protocol));
    }

    #[test]
    fn what_no_rule_names_on_purpose_is_never_reached_unless_public(
        policy in any_policy(), address in any_address(), port in any_port(), protocol in any_protocol(),
        host_addresses in prop::collection::vec(any_address(), 0..3)
    ) {
        let set = RuleSet::compile(&policy);
        let verdict = set.check_resolved(address, port, protocol, &Verdict::allow(), &host_addresses);
        if verdict.is_allow() && verdict.rule.is_none() {
            prop_assert!(AddressClass::of(address).is_public());
            prop_assert!(!host_addresses.iter().any(|&host| canonical_address(host) == canonical_address(address)));
        }
        let never = [AddressClass::Loopback, AddressClass::Unspecified, AddressClass::Multicast, AddressClass::Broadcast];
        if never.contains(&AddressClass::of(address)) {
            prop_assert!(!verdict.is_allow());
        }
    }

    #[test]
    fn deny_beats_allow(policy in any_policy(), rule in any_rule(Effect::Deny), name in any_name(), address in any_address(), port in any_port(), protocol in any_protocol()) {
        let mut policy = policy;
        policy.deny.push(rule.clone());
        let set = RuleSet::compile(&policy);
        let name = host(&name);
        if rule.covers_name(&name, port, protocol) {
            prop_assert!(!set.decide_name(&name, port, protocol).is_allow());
        }
        if rule.covers_address(canonical_address(address), port, protocol) {
            prop_assert!(!set.decide_address(address, port, protocol).is_allow());
            prop_assert!(!set.check_resolved(address, port, protocol, &Verdict::allow(), &[]).is_allow());
        }
    }

    #[test]
    fn a_rule_for_one_thing_allows_nothing_else(rule in any_rule(Effect::Allow), name in any_name(), address in any_address(), port in any_port(), protocol in any_protocol()) {
        let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
        policy.push(rule.clone());
        let set = RuleSet::compile(&policy);
        let name = host(&name);
        if set.decide_name(&name, port, protocol).is_allow() {
            prop_assert!(rule.covers_name(&name, port, protocol));
        }
        if set.decide_address(address, port, protocol).is_allow() {
            prop_assert!(rule.covers_address(canonical_address(address), port, protocol));
        }
        if set.may_resolve(&name).is_allow() {
            prop_assert!(rule.target.matches_name(&name));
        }
    }

    #[test]
    fn look_ups_are_decided_as_the_reference_does(policy in any_policy(), name in any_name()) {
        let name = host(&name);
        let expected = reference::may_resolve(&policy, &name, &[1, 2, 3, 4, 5, 6, 80, 81, 443, 444, 65535]);
        prop_assert_eq!(RuleSet::compile(&policy).may_resolve(&name).is_allow(), expected);
    }
}
