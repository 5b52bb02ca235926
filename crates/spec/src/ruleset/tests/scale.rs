//! A large policy decides as a small one does. How fast is measured by the example `ruleset_scale`: a test that
//! compares times on a busy machine proves nothing.

use super::*;

const COUNT: u32 = 100_000;

#[test]
fn each_of_many_rules_is_found_and_nothing_between_them() {
    let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
    for n in 0..COUNT {
        let text = match n % 4 {
            0 => format!("host-{n}.example.com:{}", 1 + n % 1000),
            1 => format!("*.zone-{n}.example.org"),
            2 => format!("{}/32", std::net::Ipv4Addr::from_bits(0xcb00_0000 + n)),
            _ => format!(
                "{}/64",
                std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 64)
            ),
        };
        policy.push(Rule::parse(&text, Origin::file("hosts.conf", n as usize + 1)).unwrap());
    }
    let set = RuleSet::compile(&policy);
    for n in 0..COUNT {
        let line = format!("(hosts.conf:{})", n + 1);
        let verdict = match n % 4 {
            0 => {
                let port = u16::try_from(1 + n % 1000).unwrap();
                let other = host(&format!("host-{}.example.com", n + 1));
                assert_eq!(
                    set.decide_name(&other, port, Protocol::Tcp).reason(),
                    Some(Reason::NoRule)
                );
                set.decide_name(&host(&format!("host-{n}.example.com")), port, Protocol::Tcp)
            }
            1 => {
                let apex = host(&format!("zone-{n}.example.org"));
                assert_eq!(
                    set.decide_name(&apex, 443, Protocol::Tcp).reason(),
                    Some(Reason::NoRule)
                );
                set.decide_name(
                    &host(&format!("a.b.zone-{n}.example.org")),
                    443,
                    Protocol::Tcp,
                )
            }
            2 => {
                let other = std::net::Ipv4Addr::from_bits(0xcb00_0000 + n + 1);
                assert_eq!(
                    set.decide_address(other.into(), 443, Protocol::Tcp)
                        .reason(),
                    Some(Reason::NoRule)
                );
                set.decide_address(
                    std::net::Ipv4Addr::from_bits(0xcb00_0000 + n).into(),
                    443,
                    Protocol::Tcp,
                )
            }
            _ => {
                let address =
                    std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 64 | 0xabcd);
                set.decide_address(address.into(), 443, Protocol::Tcp)
            }
        };
        assert!(verdict.is_allow(), "rule {n} is not found: {verdict:?}");
        assert!(
            verdict.rule.unwrap().to_string().ends_with(&line),
            "rule {n} has another line"
        );
    }
}

#[test]
fn many_rules_about_one_name_are_all_looked_at() {
    let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
    for port in 1..=2000u16 {
        policy.push(
            Rule::parse(
                &format!("example.com:{port}"),
                Origin::file("hosts.conf", port.into()),
            )
            .unwrap(),
        );
    }
    let set = RuleSet::compile(&policy);
    for port in [1u16, 2, 1000, 2000] {
        let expected = format!("allow by example.com:{port} (hosts.conf:{port})");
        assert_eq!(by_name(&set, "example.com", port), expected);
    }
    assert_eq!(
        by_name(&set, "example.com", 2001),
        "port_not_allowed by example.com:1 (hosts.conf:1)"
    );
}
