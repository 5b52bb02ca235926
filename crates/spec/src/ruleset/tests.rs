//! Tests of verdicts: examples, attacks by name and by address, and the naive evaluator as reference.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::origin::Origin;
use crate::rule::Rule;
use crate::verdict::Decision;

mod properties;
mod reference;
mod scale;

pub(super) fn policy(mode: NetworkMode, lines: &[&str]) -> NetworkPolicy {
    let mut policy = NetworkPolicy::new(mode);
    for (index, line) in lines.iter().enumerate() {
        let origin = Origin::file("hosts.conf", index + 1);
        policy.push(match line.strip_prefix('!') {
            Some(rule) => Rule::parse_deny(rule, origin).unwrap(),
            None => Rule::parse(line, origin).unwrap(),
        });
    }
    policy
}

fn rules(mode: NetworkMode, lines: &[&str]) -> RuleSet {
    RuleSet::compile(&policy(mode, lines))
}

fn allowlist(lines: &[&str]) -> RuleSet {
    rules(NetworkMode::Allowlist, lines)
}

fn internet(lines: &[&str]) -> RuleSet {
    rules(NetworkMode::Internet, lines)
}

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The verdict as one word and the rule, as a person would note it.
fn note(verdict: &Verdict) -> String {
    let word = match verdict.decision {
        Decision::Allow => "allow",
        Decision::Ask => "ask",
        Decision::Deny(reason) => reason.code(),
    };
    match &verdict.rule {
        Some(rule) => format!("{word} by {rule}"),
        None => word.to_owned(),
    }
}

fn by_name(set: &RuleSet, name: &str, port: u16) -> String {
    note(&set.decide_name(&host(name), port, Protocol::Tcp))
}

fn by_address(set: &RuleSet, address: &str, port: u16) -> String {
    note(&set.decide_address(ip(address), port, Protocol::Tcp))
}

fn lookup(set: &RuleSet, name: &str) -> String {
    note(&set.may_resolve(&host(name)))
}

#[test]
fn none_refuses_everything() {
    let set = rules(NetworkMode::None, &["example.com", "203.0.113.0/24"]);
    assert_eq!(by_name(&set, "example.com", 443), "mode_none");
    assert_eq!(by_address(&set, "203.0.113.1", 443), "mode_none");
    assert_eq!(lookup(&set, "example.com"), "mode_none");
    let verdict = set.check_resolved(
        ip("203.0.113.1"),
        443,
        Protocol::Tcp,
        &Verdict::allow(),
        &[],
    );
    assert_eq!(note(&verdict), "mode_none");
}

#[test]
fn an_empty_allowlist_refuses_everything() {
    let set = allowlist(&[]);
    assert_eq!(by_name(&set, "example.com", 443), "no_rule");
    assert_eq!(by_address(&set, "203.0.113.1", 443), "no_rule");
    assert_eq!(by_address(&set, "2001:db8::1", 443), "no_rule");
    assert_eq!(lookup(&set, "example.com"), "no_rule");
}

#[test]
fn allowlist_names_the_rule_and_its_place() {
    let set = allowlist(&[
        "example.com",
        "*.example.org:443",
        "203.0.113.0/24:22",
        "example.net:53/udp",
    ]);
    assert_eq!(
        by_name(&set, "example.com", 443),
        "allow by example.com (hosts.conf:1)"
    );
    assert_eq!(
        by_name(&set, "example.com", 22),
        "port_not_allowed by example.com (hosts.conf:1)"
    );
    assert_eq!(
        by_name(&set, "a.b.example.org", 443),
        "allow by *.example.org:443 (hosts.conf:2)"
    );
    assert_eq!(by_name(&set, "example.org", 443), "no_rule");
    assert_eq!(
        by_address(&set, "203.0.113.9", 22),
        "allow by 203.0.113.0/24:22 (hosts.conf:3)"
    );
    assert_eq!(
        by_address(&set, "203.0.113.9", 443),
        "port_not_allowed by 203.0.113.0/24:22 (hosts.conf:3)"
    );
    assert_eq!(by_address(&set, "203.0.112.9", 22), "no_rule");
    assert_eq!(
        by_name(&set, "example.net", 53),
        "port_not_allowed by example.net:53/udp (hosts.conf:4)"
    );
    assert!(
        set.decide_name(&host("example.net"), 53, Protocol::Udp)
            .is_allow()
    );
}

#[test]
fn tricks_with_names_do_not_match() {
    let set = allowlist(&["allowed.com", "*.wild.com"]);
    for trick in [
        "allowed.com.evil.tld",
        "evil-allowed.com",
        "evilallowed.com",
        "x.allowed.com",
        "allowed.co",
        "allowed.comm",
        "llowed.com",
        "com",
        "wild.com",
        "evilwild.com",
        "evil-wild.com",
        "wild.com.evil.tld",
        "x.wild.com.evil.tld",
        "xn--allowed.com",
        "allowed_com",
        "*.wild.com",
        "allowed.com\0.evil",
        "allowed.com\0",
        "allowed.com ",
        " allowed.com",
        "allowed.com\r\n",
        "allowed.com:443",
        "allowed.com/",
        "allowed.com@evil.tld",
        "evil.tld@allowed.com",
        "allowed%2ecom",
        "allowed..com",
        ".allowed.com",
        "allowed.com..",
        "аllowed.com",
        "allowed。com",
        "allowed.com%00",
    ] {
        // What is no name at all is refused before any rule is asked.
        let Ok(name) = HostName::parse(trick) else {
            continue;
        };
        assert!(
            !set.decide_name(&name, 443, Protocol::Tcp).is_allow(),
            "{trick:?} was allowed"
        );
        assert!(
            !set.may_resolve(&name).is_allow(),
            "{trick:?} may be looked up"
        );
    }
    // Positive control: the same names in other spellings are the same names.
    for same in [
        "allowed.com",
        "ALLOWED.com",
        "Allowed.Com.",
        "x.WILD.com",
        "a.b.c.wild.com.",
    ] {
        assert!(
            set.decide_name(&host(same), 443, Protocol::Tcp).is_allow(),
            "{same:?} was refused"
        );
    }
}

#[test]
fn the_longest_names_work() {
    let long = format!(
        "{}.example.com",
        [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(49)
        ]
        .join(".")
    );
    assert_eq!(long.len(), 253);
    let set = allowlist(&["*.example.com", &long]);
    assert_eq!(
        by_name(&set, &long, 443),
        format!("allow by {long} (hosts.conf:2)")
    );
    let deep = format!("{}example.com", "x.".repeat(121));
    assert_eq!(deep.len(), 253);
    assert_eq!(
        by_name(&set, &deep, 443),
        "allow by *.example.com (hosts.conf:1)"
    );
    assert!(HostName::parse(&format!("a{long}")).is_err());
    assert!(HostName::parse(&"a".repeat(255)).is_err());
}

#[test]
fn deny_beats_allow_however_wide() {
    let set = allowlist(&[
        "bad.example.com",
        "*.example.com:443",
        "!*.example.com",
        "good.example.net",
        "!net",
    ]);
    assert_eq!(
        by_name(&set, "bad.example.com", 443),
        "deny_rule by *.example.com (hosts.conf:3)"
    );
    assert_eq!(
        by_name(&set, "good.example.net", 443),
        "allow by good.example.net (hosts.conf:4)"
    );
    let set = internet(&["203.0.113.7", "!203.0.113.0/24", "![2001:db8::/32]:443"]);
    assert_eq!(
        by_address(&set, "203.0.113.7", 443),
        "deny_rule by 203.0.113.0/24 (hosts.conf:2)"
    );
    assert_eq!(
        by_address(&set, "2001:db8::1", 443),
        "deny_rule by [2001:db8::/32]:443 (hosts.conf:3)"
    );
    assert_eq!(by_address(&set, "2001:db8::1", 80), "allow");
}

#[test]
fn a_deny_on_ports_denies_only_these_ports() {
    let set = internet(&["!example.com:25,443", "![2001:db8::/32]:22"]);
    assert_eq!(
        by_name(&set, "example.com", 443),
        "deny_rule by example.com:25,443 (hosts.conf:1)"
    );
    assert_eq!(by_name(&set, "example.com", 80), "allow");
    // Without a suffix a deny rule holds for UDP as well.
    assert!(
        !set.decide_name(&host("example.com"), 443, Protocol::Udp)
            .is_allow()
    );
    assert_eq!(
        by_address(&set, "2001:db8::1", 22),
        "deny_rule by [2001:db8::/32]:22 (hosts.conf:2)"
    );
    assert_eq!(by_address(&set, "2001:db8::1", 23), "allow");
    assert_eq!(lookup(&set, "example.com"), "allow");
}

#[test]
fn a_deny_without_ports_denies_all_ports_and_the_look_up() {
    let set = internet(&["!example.com", "!*.example.com"]);
    for port in [1, 22, 80, 443, 8443, 65535] {
        assert_eq!(
            by_name(&set, "example.com", port),
            "deny_rule by example.com (hosts.conf:1)"
        );
    }
    assert_eq!(
        lookup(&set, "example.com"),
        "deny_rule by example.com (hosts.conf:1)"
    );
    assert_eq!(
        lookup(&set, "a.example.com"),
        "deny_rule by *.example.com (hosts.conf:2)"
    );
    assert_eq!(lookup(&set, "example.org"), "allow");
}

#[test]
fn look_up_needs_one_open_port() {
    let set = allowlist(&[
        "example.com:443",
        "!example.com:443",
        "example.org",
        "!example.org:80",
        "example.net:53/udp",
        "!example.net/udp",
    ]);
    assert_eq!(
        lookup(&set, "example.com"),
        "deny_rule by example.com:443 (hosts.conf:2)"
    );
    assert_eq!(
        lookup(&set, "example.org"),
        "allow by example.org (hosts.conf:3)"
    );
    assert_eq!(
        lookup(&set, "example.net"),
        "deny_rule by example.net/udp (hosts.conf:6)"
    );
    assert_eq!(lookup(&set, "com"), "no_rule");
}

#[test]
fn localhost_is_never_a_name_outside() {
    let set = internet(&["localhost", "*.localhost", "127.0.0.1"]);
    for name in ["localhost", "LOCALHOST.", "a.b.localhost"] {
        assert_eq!(by_name(&set, name, 443), "loopback");
        assert_eq!(lookup(&set, name), "loopback");
    }
    assert_eq!(by_name(&set, "localhost.example.com", 443), "allow");
}

#[test]
fn internet_reaches_public_addresses_only() {
    let set = internet(&[]);
    for address in [
        "203.0.113.1",
        "198.51.100.1",
        "192.0.2.1",
        "1.1.1.1",
        "2001:db8::1",
        "2a00::1",
        "64:ff9b::203.0.113.1",
    ] {
        assert_eq!(by_address(&set, address, 443), "allow", "{address}");
    }
    for (address, code) in [
        ("127.0.0.1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("10.0.0.1", "private_address"),
        ("::ffff:10.0.0.1", "private_address"),
        ("::10.0.0.1", "private_address"),
        ("64:ff9b::10.0.0.1", "private_address"),
        ("2002:a00:1::1", "private_address"),
        ("100.64.0.1", "private_address"),
        ("fd00::1", "private_address"),
        ("169.254.1.1", "link_local_address"),
        ("fe80::1", "link_local_address"),
        ("169.254.169.254", "metadata_address"),
        ("::ffff:169.254.169.254", "metadata_address"),
        ("64:ff9b::169.254.169.254", "metadata_address"),
        ("64:ff9b:1::169.254.169.254", "metadata_address"),
        ("2002:a9fe:a9fe::", "metadata_address"),
        ("fd00:ec2::254", "metadata_address"),
        ("100.100.100.200", "metadata_address"),
        ("224.0.0.1", "multicast_address"),
        ("255.255.255.255", "multicast_address"),
        ("ff02::1", "multicast_address"),
        ("240.0.0.1", "reserved_address"),
        ("198.18.0.1", "reserved_address"),
        ("4000::1", "reserved_address"),
    ] {
        assert_eq!(by_address(&set, address, 443), code, "{address}");
    }
}

#[test]
fn a_special_address_needs_a_rule_that_means_it() {
    for wide in [
        "0.0.0.0/0:*",
        "[::/0]:*",
        "0.0.0.0/1:*",
        "192.0.0.0/8:*",
        "172.0.0.0/8:*",
        "160.0.0.0/3:*",
        "fc00::/6",
        "[fe00::/7]:*",
    ] {
        let set = allowlist(&[wide]);
        for address in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert_ne!(
                set.decide_address(ip(address), 443, Protocol::Tcp).decision,
                Decision::Allow,
                "{wide} opened {address}"
            );
        }
    }
    assert_eq!(
        by_address(&allowlist(&["0.0.0.0/0:22"]), "203.0.113.1", 22),
        "allow by 0.0.0.0/0:22 (hosts.conf:1)"
    );
    for (rule, address) in [
        ("10.0.0.0/8", "10.1.2.3"),
        ("192.168.1.0/24", "192.168.1.1"),
        ("169.254.0.0/16", "169.254.1.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("fd00::/8", "fd12::1"),
        ("fd00:ec2::254", "fd00:ec2::254"),
        ("100.64.0.0/10", "100.64.0.1"),
        ("240.0.0.0/4", "240.0.0.1"),
    ] {
        assert_eq!(
            by_address(&internet(&[rule]), address, 443),
            format!("allow by {rule} (hosts.conf:1)")
        );
        assert_eq!(
            by_address(&internet(&[rule]), address, 22),
            by_address(&internet(&[]), address, 22),
            "port of {rule}"
        );
    }
    // A network around it does not mean the metadata service, nor does a rule for IPv4 mean a translator.
    assert_eq!(
        by_address(&internet(&["169.254.0.0/16"]), "169.254.169.254", 80),
        "metadata_address"
    );
    assert_eq!(
        by_address(&internet(&["fc00::/7"]), "fd00:ec2::254", 80),
        "metadata_address"
    );
    assert_eq!(
        by_address(&internet(&["10.0.0.0/8"]), "64:ff9b::10.0.0.1", 80),
        "private_address"
    );
    assert_eq!(
        by_address(&internet(&["64:ff9b::/96"]), "64:ff9b::10.0.0.1", 80),
        "private_address"
    );
    assert_eq!(
        by_address(&internet(&["64:ff9b::a00:0/104"]), "64:ff9b::10.0.0.1", 80),
        "allow by 64:ff9b::a00:0/104 (hosts.conf:1)"
    );
    // The IPv4-mapped form is the IPv4 address to the kernel, so the rule for the latter holds.
    assert_eq!(
        by_address(&internet(&["10.0.0.0/8"]), "::ffff:10.0.0.1", 80),
        "allow by 10.0.0.0/8 (hosts.conf:1)"
    );
}

#[test]
fn no_rule_opens_the_machine_itself() {
    let everything = [
        "127.0.0.0/8:*",
        "127.0.0.1:*",
        "0.0.0.0:*",
        "[::1]:*",
        "[::]:*",
        "224.0.0.0/4:*",
        "255.255.255.255:*",
        "[ff00::/8]:*",
    ];
    for set in [internet(&everything), allowlist(&everything)] {
        for address in [
            "127.0.0.1",
            "127.255.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(
                !set.decide_address(ip(address), 443, Protocol::Tcp)
                    .is_allow(),
                "{address} was allowed"
            );
            assert!(
                !set.check_resolved(ip(address), 443, Protocol::Tcp, &Verdict::allow(), &[])
                    .is_allow(),
                "{address}"
            );
        }
    }
}

#[test]
fn a_deny_of_an_ipv4_address_holds_for_what_leads_there() {
    let set = internet(&["!203.0.113.0/24"]);
    for address in [
        "203.0.113.1",
        "::ffff:203.0.113.1",
        "64:ff9b::203.0.113.1",
        "64:ff9b:1::203.0.113.1",
        "2002:cb00:7101::1",
        "2001:0:1::34ff:8efe",
    ] {
        let verdict = set.decide_address(ip(address), 443, Protocol::Tcp);
        assert_eq!(verdict.reason(), Some(Reason::DenyRule), "{address}");
        let verdict = set.check_resolved(ip(address), 443, Protocol::Tcp, &Verdict::allow(), &[]);
        assert_eq!(verdict.reason(), Some(Reason::DenyRule), "{address}");
    }
    assert_eq!(by_address(&set, "203.0.112.1", 443), "allow");
}

#[test]
fn resolved_addresses_are_checked_again() {
    let set = allowlist(&[
        "example.com",
        "10.9.0.0/16:443",
        "10.7.7.7:443",
        "!203.0.113.66",
        "192.0.2.5:443",
    ]);
    let named = set.decide_name(&host("example.com"), 443, Protocol::Tcp);
    let mine = [
        ip("10.7.7.7"),
        ip("10.9.9.9"),
        ip("192.0.2.5"),
        ip("192.0.2.6"),
        ip("2001:db8::5"),
    ];
    let check =
        |address: &str| note(&set.check_resolved(ip(address), 443, Protocol::Tcp, &named, &mine));
    assert_eq!(check("203.0.113.1"), "allow by example.com (hosts.conf:1)");
    assert_eq!(check("2001:db8::1"), "allow by example.com (hosts.conf:1)");
    assert_eq!(check("10.0.0.1"), "private_address");
    assert_eq!(check("::ffff:10.0.0.1"), "private_address");
    assert_eq!(check("127.0.0.1"), "loopback");
    assert_eq!(check("169.254.169.254"), "metadata_address");
    assert_eq!(
        check("203.0.113.66"),
        "deny_rule by 203.0.113.66 (hosts.conf:4)"
    );
    assert_eq!(check("10.9.1.1"), "allow by 10.9.0.0/16:443 (hosts.conf:2)");
    // The host's own addresses: a network does not name them, only the address itself does; public ones too.
    assert_eq!(check("10.9.9.9"), "host_address");
    assert_eq!(check("10.7.7.7"), "allow by 10.7.7.7:443 (hosts.conf:3)");
    assert_eq!(check("192.0.2.5"), "allow by 192.0.2.5:443 (hosts.conf:5)");
    assert_eq!(check("192.0.2.6"), "host_address");
    assert_eq!(check("::ffff:192.0.2.6"), "host_address");
    assert_eq!(check("64:ff9b::192.0.2.6"), "host_address");
    assert_eq!(check("2001:db8::5"), "host_address");
    // Another port than the rule for the address names.
    let set = internet(&["10.7.7.7:443"]);
    assert_eq!(
        note(&set.check_resolved(ip("10.7.7.7"), 80, Protocol::Tcp, &Verdict::allow(), &mine)),
        "host_address"
    );
    assert_eq!(
        note(&set.check_resolved(ip("10.7.7.7"), 80, Protocol::Tcp, &Verdict::allow(), &[])),
        "private_address"
    );
}

#[test]
fn a_refusal_stays_a_refusal_when_checked() {
    let set = internet(&[]);
    let ask = Verdict {
        decision: Decision::Ask,
        rule: None,
        checks: Checks::ByName,
    };
    for refused in [
        Verdict::deny(Reason::BadName),
        Verdict::deny(Reason::NoRule),
        ask,
    ] {
        assert_eq!(
            set.check_resolved(ip("203.0.113.1"), 443, Protocol::Tcp, &refused, &[]),
            refused
        );
    }
}

#[test]
fn one_raw_rule_among_those_that_allow_is_enough() {
    let set = allowlist(&[
        "*.example.com:1-9/raw",
        "a.example.com:5",
        "b.example.com:5/raw",
        "b.example.com:5",
        "example.net:5/udp/raw",
        "example.net:5",
        "203.0.113.0/24/raw",
        "203.0.113.1",
    ]);
    let checks = |name: &str, port, protocol| {
        let verdict = set.decide_name(&host(name), port, protocol);
        verdict.is_allow().then_some(verdict.checks)
    };
    for (name, port, protocol, expected) in [
        ("a.example.com", 5, Protocol::Tcp, Some(Checks::Raw)),
        ("b.example.com", 5, Protocol::Tcp, Some(Checks::Raw)),
        ("c.example.com", 5, Protocol::Tcp, Some(Checks::Raw)),
        ("c.example.com", 10, Protocol::Tcp, None),
        ("example.com", 5, Protocol::Tcp, None),
        ("example.net", 5, Protocol::Tcp, Some(Checks::ByName)),
        ("example.net", 5, Protocol::Udp, Some(Checks::Raw)),
    ] {
        assert_eq!(
            checks(name, port, protocol),
            expected,
            "{name}:{port}/{protocol}"
        );
    }
    let address = |text| set.decide_address(ip(text), 443, Protocol::Tcp).checks;
    assert_eq!(address("203.0.113.1"), Checks::Raw);
    // The rules for the name say what is checked, whatever those for its address say.
    let named = set.decide_name(&host("example.net"), 5, Protocol::Tcp);
    let resolved = set.check_resolved(ip("203.0.113.1"), 443, Protocol::Tcp, &named, &[]);
    assert_eq!(resolved.checks, Checks::ByName);
    // A deny rule is as strong as ever.
    let mut policy = NetworkPolicy::new(NetworkMode::Internet);
    policy.push(Rule::parse("example.com/raw", Origin::DEFAULT).unwrap());
    policy.push(Rule::parse_deny("example.com:443", Origin::DEFAULT).unwrap());
    let set = RuleSet::compile(&policy);
    let verdict = set.decide_name(&host("example.com"), 443, Protocol::Tcp);
    assert_eq!(verdict.reason(), Some(Reason::DenyRule));
}

#[test]
fn the_list_decides_not_the_rule() {
    let mut policy = NetworkPolicy::new(NetworkMode::Internet);
    policy
        .deny
        .push(Rule::parse("example.com:443", Origin::DEFAULT).unwrap());
    let verdict = RuleSet::compile(&policy).decide_name(&host("example.com"), 443, Protocol::Tcp);
    assert_eq!(verdict.reason(), Some(Reason::DenyRule));
}

#[test]
fn rules_without_any_port_allow_nothing() {
    let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
    let target = Target::parse("example.com").unwrap();
    policy.push(Rule::new(
        Effect::Allow,
        target,
        Some(Ports::NONE),
        None,
        Origin::DEFAULT,
    ));
    let set = RuleSet::compile(&policy);
    assert!(
        !set.decide_name(&host("example.com"), 443, Protocol::Tcp)
            .is_allow()
    );
    assert!(!set.may_resolve(&host("example.com")).is_allow());
}

/// A policy with host ports, and its verdicts on the host's name.
fn with_host_ports(mode: NetworkMode, lines: &[&str], ports: &[u16]) -> RuleSet {
    let mut policy = policy(mode, lines);
    let granted = |port: &u16| Sourced::new(*port, Origin::flag("--host-port"));
    policy.host_ports = ports.iter().map(granted).collect();
    RuleSet::compile(&policy)
}

#[test]
fn host_ports_open_exactly_themselves() {
    let name = host(HOST_NAME);
    let tcp = |rules: &RuleSet, port| note(&rules.decide_name(&name, port, Protocol::Tcp));
    for mode in [NetworkMode::Allowlist, NetworkMode::Internet] {
        let granted = with_host_ports(mode, &["*.internal:1-65535"], &[5432]);
        let by = "host.rcc.internal:5432 (flag --host-port)";
        assert_eq!(tcp(&granted, 5432), format!("allow by {by}"));
        assert_eq!(tcp(&granted, 5433), "port_not_allowed");
        let udp = granted.decide_name(&name, 5432, Protocol::Udp);
        assert_eq!(note(&udp), format!("port_not_allowed by {by}"));
        assert_eq!(note(&granted.may_resolve(&name)), format!("allow by {by}"));
        // Loopback by address or by its own name is as closed as ever.
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
            let verdict = granted.decide_address(ip(address), 5432, Protocol::Tcp);
            assert_eq!(note(&verdict), "loopback", "{address}");
        }
        let localhost = granted.decide_name(&host("localhost"), 5432, Protocol::Tcp);
        assert_eq!(note(&localhost), "loopback");

        let denied = with_host_ports(mode, &["!*.internal"], &[5432]);
        assert_eq!(tcp(&denied, 5432), "deny_rule by *.internal (hosts.conf:1)");
        assert_eq!(note(&denied.may_resolve(&name)), "no_rule");
        let none = with_host_ports(mode, &["*.internal:1-65535"], &[]);
        assert_eq!(tcp(&none, 80), "no_rule");
        assert_eq!(note(&none.may_resolve(&name)), "no_rule");
    }
    let none = with_host_ports(NetworkMode::None, &[], &[5432]);
    assert_eq!(tcp(&none, 5432), "mode_none");
}

#[test]
fn no_rule_names_what_rcc_gives_a_meaning() {
    for text in [
        HOST_NAME,
        "HOST.rcc.internal:1",
        "*.rcc.internal",
        "rcc.internal",
        "a.host.rcc.internal",
    ] {
        for rule in [
            Rule::parse(text, Origin::DEFAULT),
            Rule::parse_deny(text, Origin::DEFAULT),
        ] {
            assert_eq!(rule.unwrap_err(), crate::RuleError::OwnName, "{text}");
        }
    }
    assert!(Rule::parse("xrcc.internal", Origin::DEFAULT).is_ok());
}
