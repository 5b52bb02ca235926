//! Tests of rules: every form, every fault, and the way there and back.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn allow(text: &str) -> Result<Rule, RuleError> {
    Rule::parse(text, Origin::DEFAULT)
}

fn deny(text: &str) -> Result<Rule, RuleError> {
    Rule::parse_deny(text, Origin::DEFAULT)
}

/// Target, ports and transport as one text, whatever the rule displays as.
fn parts(rule: &Rule) -> String {
    let raw = match rule.checks {
        Checks::ByName => "",
        Checks::Raw => " | raw",
    };
    format!(
        "{} | {} | {:?}{raw}",
        rule.target, rule.ports, rule.transport
    )
}

#[test]
fn every_form() {
    for (text, expected) in [
        ("example.com", "example.com | 80,443 | Tcp"),
        ("EXAMPLE.com.", "example.com | 80,443 | Tcp"),
        ("example.com:8443", "example.com | 8443 | Tcp"),
        ("example.com:443,80", "example.com | 80,443 | Tcp"),
        ("example.com:1,8000-8100", "example.com | 1,8000-8100 | Tcp"),
        ("example.com:*", "example.com | * | Tcp"),
        ("example.com/udp", "example.com | 80,443 | Udp"),
        ("example.com:53/udp", "example.com | 53 | Udp"),
        ("example.com:53/tcp", "example.com | 53 | Tcp"),
        ("example.com:53/any", "example.com | 53 | Any"),
        ("example.com/raw", "example.com | 80,443 | Tcp | raw"),
        ("example.com:8080/raw", "example.com | 8080 | Tcp | raw"),
        ("example.com:443/udp/raw", "example.com | 443 | Udp | raw"),
        ("*.example.com:*/any/raw", "*.example.com | * | Any | raw"),
        ("203.0.113.0/24/raw", "203.0.113.0/24 | 80,443 | Tcp | raw"),
        ("[2001:db8::1]:22/raw", "2001:db8::1 | 22 | Tcp | raw"),
        ("*.example.com", "*.example.com | 80,443 | Tcp"),
        ("*.example.com:443", "*.example.com | 443 | Tcp"),
        ("203.0.113.1", "203.0.113.1 | 80,443 | Tcp"),
        ("203.0.113.1:22", "203.0.113.1 | 22 | Tcp"),
        ("203.0.113.0/24", "203.0.113.0/24 | 80,443 | Tcp"),
        ("203.0.113.0/24:22,80", "203.0.113.0/24 | 22,80 | Tcp"),
        ("203.0.113.0/24:53/udp", "203.0.113.0/24 | 53 | Udp"),
        ("203.0.113.0/24/udp", "203.0.113.0/24 | 80,443 | Udp"),
        ("203.0.113.1/32", "203.0.113.1 | 80,443 | Tcp"),
        ("0.0.0.0/0:22", "0.0.0.0/0 | 22 | Tcp"),
        ("2001:db8::1", "2001:db8::1 | 80,443 | Tcp"),
        ("2001:DB8:0:0::1", "2001:db8::1 | 80,443 | Tcp"),
        ("[2001:db8::1]", "2001:db8::1 | 80,443 | Tcp"),
        ("[2001:db8::1]:22", "2001:db8::1 | 22 | Tcp"),
        ("2001:db8::/32", "2001:db8::/32 | 80,443 | Tcp"),
        ("[2001:db8::/32]:22", "2001:db8::/32 | 22 | Tcp"),
        ("[2001:db8::/32]:53/udp", "2001:db8::/32 | 53 | Udp"),
        ("2001:db8::/32/udp", "2001:db8::/32 | 80,443 | Udp"),
        ("::/0", "::/0 | 80,443 | Tcp"),
        (
            "_sip._tcp.example.com:443",
            "_sip._tcp.example.com | 443 | Tcp",
        ),
    ] {
        assert_eq!(parts(&allow(text).unwrap()), expected, "{text}");
    }
    for (text, expected) in [
        ("example.com", "example.com | * | Any"),
        ("example.com:443", "example.com | 443 | Any"),
        ("example.com:443/tcp", "example.com | 443 | Tcp"),
        ("203.0.113.0/24", "203.0.113.0/24 | * | Any"),
    ] {
        assert_eq!(parts(&deny(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn every_fault() {
    for (text, expected) in [
        ("", "rule is empty"),
        (
            " example.com",
            "rule ` example.com` contains white space or control characters",
        ),
        (
            "exa mple.com",
            "rule `exa mple.com` contains white space or control characters",
        ),
        (
            "example.com\0.example.org",
            "rule `example.com\\u{0}.example.org` contains white space or control characters",
        ),
        (
            "example.com\n",
            "rule `example.com\\n` contains white space or control characters",
        ),
        (
            "https://example.com/",
            "rule `https://example.com/` is a URL; write only host and port, such as `example.com:443`",
        ),
        (
            "*",
            "`*` is no rule; to reach every public host set `mode = \"internet\"`",
        ),
        (
            "*:443",
            "`*` is no rule; to reach every public host set `mode = \"internet\"`",
        ),
        (
            "*example.com",
            "`*example.com` has a `*` that is not its first label; only `*.example.com` is possible",
        ),
        (
            "a.*.example.com",
            "`a.*.example.com` has a `*` that is not its first label; only `*.example.com` is possible",
        ),
        ("*.*.example.com", "`*.*.example.com` names no host"),
        ("example..com", "`example..com` names no host"),
        ("user@example.com", "`user@example.com` names no host"),
        ("127.1", "`127.1` names no host"),
        ("0x7f000001", "`0x7f000001` names no host"),
        ("2130706433", "`2130706433` names no host"),
        ("203.0.113.256", "`203.0.113.256` names no host"),
        ("010.0.0.1", "`010.0.0.1` names no host"),
        (
            "fe80::1%eth0",
            "`fe80::1%eth0` is no address or network; write IPv6 with ports as `[2001:db8::1]:443`",
        ),
        (
            "2001:db8::g",
            "`2001:db8::g` is no address or network; write IPv6 with ports as `[2001:db8::1]:443`",
        ),
        (
            "2001:db8::/32:443",
            "`2001:db8::/32:443` is no address or network; write IPv6 with ports as `[2001:db8::1]:443`",
        ),
        (
            "203.0.113.0/33",
            "`203.0.113.0/33` is no network; networks look like `203.0.113.0/24`",
        ),
        (
            "203.0.113.0/024",
            "`203.0.113.0/024` is no network; networks look like `203.0.113.0/24`",
        ),
        (
            "203.0.113.0/",
            "`203.0.113.0/` is no network; networks look like `203.0.113.0/24`",
        ),
        (
            "203.0.113.0/255.255.255.0",
            "`203.0.113.0/255.255.255.0` is no network; networks look like `203.0.113.0/24`",
        ),
        (
            "203.0.113.1/24",
            "`203.0.113.1/24` has bits behind its prefix; the network is `203.0.113.0/24`",
        ),
        (
            "::ffff:203.0.113.1",
            "`::ffff:203.0.113.1` is an IPv4 address in IPv6 form; write the IPv4 form",
        ),
        (
            "::ffff:0:0/96",
            "`::ffff:0:0/96` is an IPv4 address in IPv6 form; write the IPv4 form",
        ),
        (
            "[2001:db8::1",
            "rule `[2001:db8::1` has brackets that do not enclose an IPv6 address",
        ),
        (
            "[2001:db8::1]443",
            "rule `[2001:db8::1]443` has brackets that do not enclose an IPv6 address",
        ),
        (
            "[example.com]:443",
            "rule `[example.com]:443` has brackets that do not enclose an IPv6 address",
        ),
        (
            "[203.0.113.1]:443",
            "rule `[203.0.113.1]:443` has brackets that do not enclose an IPv6 address",
        ),
        ("example.com:", "rule `example.com:` has wrong ports"),
        ("example.com:0", "rule `example.com:0` has wrong ports"),
        (
            "example.com:443,",
            "rule `example.com:443,` has wrong ports",
        ),
        (
            "example.com:https",
            "rule `example.com:https` has wrong ports",
        ),
        (
            "example.com:443/sctp",
            "rule `example.com:443/sctp` has wrong ports",
        ),
        (
            "example.com:443/raw/udp",
            "rule `example.com:443/raw/udp` has wrong ports",
        ),
        (
            "example.com/raw/raw",
            "`example.com/raw` is no network; networks look like `203.0.113.0/24`",
        ),
        (
            "example.com:443/RAW",
            "rule `example.com:443/RAW` has wrong ports",
        ),
        ("/raw", "`` names no host"),
    ] {
        match allow(text) {
            Ok(rule) => panic!("{text:?} was accepted as {rule}"),
            Err(error) => assert_eq!(error.to_string(), expected, "{text}"),
        }
        assert!(deny(text).is_err(), "{text}");
    }
}

#[test]
fn a_deny_rule_is_never_raw() {
    for text in ["example.com/raw", "203.0.113.0/24:53/udp/raw"] {
        assert!(allow(text).is_ok());
        assert_eq!(
            deny(text).unwrap_err().to_string(),
            format!("rule `{text}` denies; `/raw` is only for rules that allow")
        );
    }
}

#[test]
fn display_is_the_shortest_form() {
    for (text, expected) in [
        ("Example.COM:80,443/tcp", "example.com"),
        ("example.com:1-65535", "example.com:*"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443/udp", "[2001:db8::1]:443/udp"),
        ("2001:db8::/32/udp", "2001:db8::/32/udp"),
        ("203.0.113.1/32:22", "203.0.113.1:22"),
        ("Example.COM:80,443/tcp/raw", "example.com/raw"),
        ("[2001:db8::1]:443/udp/raw", "[2001:db8::1]:443/udp/raw"),
    ] {
        assert_eq!(allow(text).unwrap().to_string(), expected);
    }
    assert_eq!(
        deny("example.com:*/any").unwrap().to_string(),
        "example.com"
    );
    assert_eq!(
        deny("example.com:80,443").unwrap().to_string(),
        "example.com:80,443"
    );
    assert_eq!(
        deny("example.com/tcp").unwrap().to_string(),
        "example.com/tcp"
    );
}

#[test]
fn sentences() {
    for (rule, expected) in [
        (allow("example.com"), "reach example.com on ports 80, 443"),
        (allow("example.com:22"), "reach example.com on port 22"),
        (
            allow("*.example.com:*"),
            "reach every host below example.com on every port",
        ),
        (
            allow("203.0.113.1:53/udp"),
            "reach the address 203.0.113.1 on port 53 over UDP",
        ),
        (
            allow("203.0.113.0/24:8000-8100"),
            "reach the network 203.0.113.0/24 on ports 8000-8100",
        ),
        (
            allow("example.com:53/udp/raw"),
            "reach example.com on port 53 over UDP with TLS and HTTP unchecked",
        ),
        (deny("example.com"), "not reach example.com on every port"),
        (
            deny("example.com:25/tcp"),
            "not reach example.com on port 25 over TCP",
        ),
    ] {
        assert_eq!(rule.unwrap().sentence(), expected);
    }
}

fn any_target() -> impl Strategy<Value = Target> {
    let name = "[a-z0-9_]([a-z0-9_-]{0,6}[a-z0-9])?(\\.[a-z]{1,5}){0,3}\\.[a-z]{1,4}";
    let host = name.prop_map(|name| HostName::parse(&name).unwrap());
    prop_oneof![
        host.prop_map(Target::Host),
        name.prop_map(|name| Target::Subdomains(HostName::parse(&name).unwrap())),
        (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
            Target::Network(
                IpNet::new(Ipv4Addr::from_bits(bits).into(), length)
                    .unwrap()
                    .trunc(),
            )
        }),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(bits, length)| Target::Network(
                IpNet::new(Ipv6Addr::from_bits(bits).into(), length)
                    .unwrap()
                    .trunc()
            ))
            .prop_filter("a mapped address has one spelling", |target| {
                Target::parse(&target.to_string()).is_ok()
            }),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let ports = prop::option::of(prop::collection::vec((1u16.., 1u16..), 1..4)).prop_map(|pairs| {
        pairs.map(|pairs| {
            Ports::from_ranges(
                pairs
                    .into_iter()
                    .filter_map(|(a, b)| crate::PortRange::new(a.min(b), a.max(b))),
            )
        })
    });
    let transport = prop::option::of(prop_oneof![
        Just(Transport::Tcp),
        Just(Transport::Udp),
        Just(Transport::Any)
    ]);
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Deny)];
    (effect, any_target(), ports, transport, any::<bool>()).prop_map(
        |(effect, target, ports, transport, raw)| {
            let checks = if raw && effect == Effect::Allow {
                Checks::Raw
            } else {
                Checks::ByName
            };
            Rule::new(effect, target, ports, transport, Origin::DEFAULT).with_checks(checks)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn display_parses_back(rule in any_rule()) {
        prop_assert_eq!(Rule::parse_as(rule.effect, &rule.to_string(), Origin::DEFAULT), Ok(rule));
    }

    #[test]
    fn stored_rules_come_back(rule in any_rule()) {
        let stored = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rule>(&stored).unwrap(), rule);
    }

    #[test]
    fn what_is_accepted_has_one_spelling(text in "[*a-z0-9.:/\\[\\],_-]{1,24}(/raw)?") {
        if let Ok(rule) = allow(&text) {
            prop_assert_eq!(allow(&rule.to_string()), Ok(rule));
        }
    }

    #[test]
    fn never_panics(text in ".{0,60}") {
        let _ = allow(&text);
        let _ = deny(&text);
    }
}
