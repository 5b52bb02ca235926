//! Tests of widening: examples in words, and the verdicts of random policies as proof.

use ipnet::IpNet;
use proptest::prelude::*;

use crate::ruleset_strategies::{any_address, any_name, any_policy, any_port, any_protocol};
use crate::{
    Checks, Effect, HostName, LayerKind, Layers, NetworkMode, NetworkPolicy, Origin, Policy,
    Protocol, Rule, RuleSet, SourceName, Target, canonical_address, merge, parse_toml,
};

fn policy(body: &str) -> Policy {
    let project = parse_toml(
        &format!("version = 1\n{body}"),
        &SourceName::file("rcc.toml"),
        LayerKind::Project,
    )
    .unwrap();
    merge(Layers {
        project,
        ..Layers::default()
    })
}

fn widenings(old: &str, new: &str) -> Vec<String> {
    policy(new).widenings(&policy(old))
}

fn network(old: &str, new: &str) -> Vec<String> {
    widenings(&format!("[network]\n{old}"), &format!("[network]\n{new}"))
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_same_in_other_words_is_not_wider() {
    let old = "[network]\nallow = [\"example.com\", \"a.example.org:1-10\"]\ndeny = [\"bad.example.com\"]\n[files]\nrw = [\"/a\", \"b\"]\n[env]\nset = { A = \"1\" }";
    let new = "[files]\nrw = [\"./b/\", \"/a\"]\n[env.set]\nA = \"1\"\n[network]\ndeny = [\"BAD.example.com.\"]\nallow = [\"a.example.org:6-10,1-5\", \"example.com:443,80\"]";
    assert_eq!(widenings(old, new), NOTHING);
    assert_eq!(widenings(new, old), NOTHING);
}

#[test]
fn narrower_is_not_wider() {
    assert_eq!(
        network(
            "allow = [\"*.example.com:*\"]",
            "allow = [\"a.example.com\", \"*.b.example.com:22\"]"
        ),
        NOTHING
    );
    assert_eq!(
        network(
            "allow = [\"203.0.113.0/24\"]",
            "allow = [\"203.0.113.128/25:443\"]"
        ),
        NOTHING
    );
    assert_eq!(network("allow = [\"example.com\"]", "allow = []"), NOTHING);
    assert_eq!(
        network(
            "allow = [\"*.example.com/raw\"]",
            "allow = [\"a.example.com\", \"b.example.com:80/raw\"]"
        ),
        NOTHING
    );
    assert_eq!(
        network(
            "mode = \"internet\"",
            "allow = [\"example.com\", \"203.0.113.0/24\"]"
        ),
        NOTHING
    );
    assert_eq!(network("mode = \"internet\"", "mode = \"none\""), NOTHING);
    assert_eq!(
        network(
            "allow = [\"example.com\"]",
            "allow = [\"example.com\"]\ndeny = [\"example.com:80\"]"
        ),
        NOTHING
    );
    assert_eq!(
        widenings("[files]\nrw = [\"/a\"]", "[files]\nreadonly = [\"/a/b\"]"),
        NOTHING
    );
    assert_eq!(
        widenings(
            "[env]\npass = [\"EXAMPLE_*\"]",
            "[env]\npass = [\"EXAMPLE_A\", \"EXAMPLE_B_*\"]"
        ),
        NOTHING
    );
    assert_eq!(
        widenings(
            "",
            "[hardening]\nseccomp = \"strict\"\n[limits]\ntmp_size = \"1MiB\"\n[files]\nmode = \"cow\"\nhidden = [\"x\"]"
        ),
        NOTHING
    );
    assert_eq!(
        widenings(
            "[files]\nshare_state = true\n[hardening]\ndangerously_without_landlock = true",
            ""
        ),
        NOTHING
    );
}

#[test]
fn every_way_to_be_wider_is_said() {
    assert_eq!(
        network("allow = []", "mode = \"internet\""),
        ["reach every public host on every port"]
    );
    assert_eq!(
        network(
            "allow = [\"example.com\"]",
            "allow = [\"example.com:22,80\"]"
        ),
        ["reach example.com on ports 22, 80"]
    );
    assert_eq!(
        network("allow = [\"example.com\"]", "allow = [\"example.com/udp\"]"),
        ["reach example.com on ports 80, 443 over UDP"]
    );
    assert_eq!(
        network("allow = [\"a.example.com\"]", "allow = [\"*.example.com\"]"),
        ["reach every host below example.com on ports 80, 443"]
    );
    assert_eq!(
        network("allow = [\"*.example.com\"]", "allow = [\"example.com\"]"),
        ["reach example.com on ports 80, 443"]
    );
    assert_eq!(
        network(
            "mode = \"none\"\nallow = [\"example.com\"]",
            "allow = [\"example.com\"]"
        ),
        ["reach example.com on ports 80, 443"]
    );
    assert_eq!(
        network(
            "mode = \"internet\"\ndeny = [\"example.com\"]",
            "mode = \"internet\"\ndeny = [\"example.com:80\"]"
        ),
        ["reach example.com on every port over TCP and UDP, which was denied"]
    );
    assert_eq!(
        network(
            "allow = [\"*.example.com\"]",
            "allow = [\"*.example.com\", \"a.example.com:80/raw\"]"
        ),
        ["reach a.example.com on port 80 with TLS and HTTP no longer checked"]
    );
    assert_eq!(
        network("allow = []", "allow = [\"example.com:22/raw\"]"),
        ["reach example.com on port 22 with TLS and HTTP unchecked"]
    );
    // Mode `internet` checks, too, where a deny rule could matter.
    assert_eq!(
        network(
            "mode = \"internet\"",
            "mode = \"internet\"\nallow = [\"*.example.com/raw\"]"
        ),
        ["reach every host below example.com on ports 80, 443 with TLS and HTTP no longer checked"]
    );
    // A narrow network can mean a special address, and a single address the host, where a wide one does not.
    assert_eq!(
        network("allow = [\"0.0.0.0/0\"]", "allow = [\"10.0.0.0/8\"]"),
        ["reach the network 10.0.0.0/8 on ports 80, 443"]
    );
    assert_eq!(
        network(
            "allow = [\"169.254.0.0/16\"]",
            "allow = [\"169.254.169.254\"]"
        ),
        ["reach the address 169.254.169.254 on ports 80, 443"]
    );
    assert_eq!(
        network(
            "mode = \"internet\"",
            "mode = \"internet\"\nallow = [\"192.168.0.0/16\"]"
        ),
        ["reach the network 192.168.0.0/16 on ports 80, 443"]
    );
    assert_eq!(
        network(
            "mode = \"internet\"",
            "mode = \"internet\"\nallow = [\"203.0.113.1\"]"
        ),
        ["reach the address 203.0.113.1 on ports 80, 443"]
    );
    for (old, new, expected) in [
        ("", "[files]\nreadonly = [\"/a\"]", "read /a"),
        (
            "[files]\nreadonly = [\"/a\"]",
            "[files]\nrw = [\"/a\"]",
            "read and write /a",
        ),
        (
            "[files]\nrw = [\"/a\"]",
            "[files]\nrw = [\"/ab\"]",
            "read and write /ab",
        ),
        (
            "[files]\nrw = [\"/a\"]",
            "[files]\nrw = [\"a\"]",
            "read and write a",
        ),
        (
            "[files]\nrw = [\"/a\"]",
            "[files]\nrw = [\"~/a\"]",
            "read and write ~/a",
        ),
        (
            "[files]\nhidden = [\".env\"]",
            "",
            "see .env, which was hidden",
        ),
        (
            "",
            "[files]\nshare_state = true",
            "use and change the agent's real state in your home",
        ),
        (
            "[files]\nmode = \"cow\"",
            "",
            "change the project at once, instead of a copy that you look at first",
        ),
        (
            "[files]\nmode = \"cow\"",
            "[files]\nmode = \"direct\"",
            "change the project at once, instead of a copy that you look at first",
        ),
        (
            "[env]\npass = [\"EXAMPLE_A\"]",
            "[env]\npass = [\"EXAMPLE_*\"]",
            "read your environment variable EXAMPLE_*",
        ),
        (
            "[env.set]\nA = \"1\"",
            "[env.set]\nA = \"2\"",
            "run with A=2 in its environment",
        ),
        (
            "[env]\npass = [\"A\"]\nset = { A = \"\" }",
            "[env]\npass = [\"A\"]",
            "read your environment variable A",
        ),
        ("", "[limits]\ntmp_size = \"1TiB\"", "fill 1TiB in its /tmp"),
        (
            "[hardening]\nseccomp = \"strict\"",
            "",
            "use the default set of system calls",
        ),
        (
            "",
            "[hardening]\nseccomp = { profile = \"x\" }",
            "use the system calls that the profile x allows",
        ),
        (
            "",
            "[hardening]\ndangerously_without_landlock = true",
            "run without Landlock where the kernel has none",
        ),
        (
            "",
            "[hardening]\ndangerously_without_protected_paths = true",
            "write files that your own tools execute later",
        ),
        (
            "[agent]\npreset = \"codex\"",
            "[agent]\npreset = \"claude\"",
            "run as the agent `claude`",
        ),
        (
            "[agent]\npreset_hosts = false",
            "",
            "reach the hosts of the agent's preset",
        ),
        ("", "[agent]\nargs = [\"-x\"]", "start the agent with `-x`"),
    ] {
        assert_eq!(widenings(old, new), [expected], "{old:?} to {new:?}");
    }
}

fn with_network(network: &NetworkPolicy) -> Policy {
    Policy {
        network: network.clone(),
        ..Policy::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The new policy is the old one with a few rules moved, dropped or added, so that it is often not wider.
    #[test]
    fn what_is_not_wider_allows_nothing_new(
        old in any_policy(), other in any_policy(), keep in any::<u32>(), take in any::<u8>(), same_mode in any::<bool>(),
        name in any_name(), address in any_address(), port in any_port(), protocol in any_protocol(),
        host_addresses in prop::collection::vec(any_address(), 0..2)
    ) {
        let mut new = old.clone();
        let mut bit = 0..32u32;
        new.allow.retain(|_| keep >> bit.next().unwrap_or(0) & 1 == 1);
        if take & 1 == 1 { new.allow.extend(other.allow.iter().take(2).cloned()); }
        if take & 2 == 2 { new.deny.extend(other.deny.iter().cloned()); }
        if take & 4 == 4 { new.deny.truncate(1); }
        if !same_mode { new.mode = other.mode; }
        if with_network(&new).widenings(&with_network(&old)).is_empty() {
            let (new, old) = (RuleSet::compile(&new), RuleSet::compile(&old));
            let name = HostName::parse(&name).unwrap();
            prop_assert!(!new.decide_name(&name, port, protocol).is_allow() || old.decide_name(&name, port, protocol).is_allow());
            let is_raw = |set: &RuleSet| {
                let verdict = set.decide_name(&name, port, protocol);
                verdict.is_allow() && verdict.checks == Checks::Raw
            };
            prop_assert!(!is_raw(&new) || is_raw(&old));
            prop_assert!(!new.may_resolve(&name).is_allow() || old.may_resolve(&name).is_allow());
            // The whole way to a connection, as the gateway goes it: by name, and by address.
            let by_name = |set: &RuleSet| {
                let named = set.decide_name(&name, port, protocol);
                set.check_resolved(address, port, protocol, &named, &host_addresses).is_allow()
            };
            let by_address = |set: &RuleSet| {
                let named = set.decide_address(address, port, protocol);
                set.check_resolved(address, port, protocol, &named, &host_addresses).is_allow()
            };
            prop_assert!(!by_name(&new) || by_name(&old));
            prop_assert!(!by_address(&new) || by_address(&old));
        }
    }

    /// Nested networks around special addresses, which random policies seldom have.
    #[test]
    fn a_network_inside_another_means_no_more_unless_said(
        base in any_address(), one in 0u8..=128, other in 0u8..=128, near in any_address(), is_near in any::<bool>(),
        mode in prop::sample::select(vec![NetworkMode::Allowlist, NetworkMode::Internet]), is_mine in any::<bool>()
    ) {
        let base = canonical_address(base);
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let network = |length: u8| {
            let net = IpNet::new(base, length % (longest + 1)).unwrap().trunc();
            let rule = Rule::new(Effect::Allow, Target::Network(net), None, None, Origin::DEFAULT);
            NetworkPolicy { mode, allow: vec![rule], ..NetworkPolicy::new(mode) }
        };
        let (new, old) = (network(one), network(other));
        let address = if is_near { near } else { base };
        let mine = if is_mine { vec![address] } else { Vec::new() };
        if with_network(&new).widenings(&with_network(&old)).is_empty() {
            let reaches = |policy: &NetworkPolicy| {
                let set = RuleSet::compile(policy);
                let named = set.decide_address(address, 443, Protocol::Tcp);
                set.check_resolved(address, 443, Protocol::Tcp, &named, &mine).is_allow()
            };
            prop_assert!(!reaches(&new) || reaches(&old));
        }
    }

    /// One rule added to none, and its `raw` added to it: a widening is found exactly when a connection proves one.
    #[test]
    fn raw_is_a_widening_exactly_when_something_goes_unchecked(
        old in any_name(), new in any_name(), name in any_name(), was_raw in any::<bool>(), is_raw in any::<bool>(), port in any_port()
    ) {
        let one = |target: &str, is_raw: bool| {
            let text = format!("{target}:1-5{}", if is_raw { "/raw" } else { "" });
            Rule::parse(&text, Origin::DEFAULT).unwrap()
        };
        let (old, new) = (one(&old, was_raw), one(&new, is_raw));
        let policy = |rule: &Rule| NetworkPolicy { allow: vec![rule.clone()], ..NetworkPolicy::new(NetworkMode::Allowlist) };
        let widenings = with_network(&policy(&new)).widenings(&with_network(&policy(&old)));
        let reaches = |rule: &Rule, name: &HostName, port: u16| {
            let verdict = RuleSet::compile(&policy(rule)).decide_name(name, port, Protocol::Tcp);
            (verdict.is_allow(), verdict.is_allow() && verdict.checks == Checks::Raw)
        };
        let is_wider = |name: &HostName, port: u16| {
            let ((reached, unchecked), (had_reached, had_unchecked)) = (reaches(&new, name, port), reaches(&old, name, port));
            (reached && !had_reached) || (unchecked && !had_unchecked)
        };
        // The rule's own name is the witness, if there is one at all.
        let Target::Host(own) = &new.target else { unreachable!("a name") };
        prop_assert!(own.is_localhost() || widenings.is_empty() != is_wider(own, 3));
        let asked = HostName::parse(&name).unwrap();
        prop_assert!(!widenings.is_empty() || !is_wider(&asked, port));
    }

    #[test]
    fn no_policy_is_wider_than_itself(network in any_policy()) {
        let policy = with_network(&network);
        prop_assert_eq!(policy.widenings(&policy), Vec::<String>::new());
    }
}

#[test]
fn ports_in_either_direction_are_widenings() {
    let project = |text: &str| {
        let text = format!("version = 1\n[network]\n{text}\n");
        let source = SourceName::file("rcc.toml");
        let layer = parse_toml(&text, &source, LayerKind::Project).unwrap();
        merge(Layers {
            project: layer,
            ..Layers::default()
        })
    };
    let plain = project("");
    let ports = project("host_ports = [5432]\npublish = [\"3000\"]");
    let sentences = [
        "reach port 5432 of the host's own loopback, as host.rcc.internal",
        "let programs of this host connect to its port 3000, at 127.0.0.1:3000",
    ];
    assert_eq!(ports.widenings(&plain), sentences);
    for sentence in sentences {
        assert!(ports.summary().iter().any(|line| line == sentence));
    }
    assert_eq!(plain.widenings(&ports), Vec::<String>::new());
    assert_eq!(ports.widenings(&ports), Vec::<String>::new());
    let open = project("host_ports = [5432]\npublish = [\"0.0.0.0:3000\"]");
    assert_eq!(
        open.widenings(&ports),
        ["let other machines connect to its port 3000, at 0.0.0.0:3000"]
    );
    // What mode `none` lists opens nothing, so it was never approved.
    let none = project("mode = \"none\"\nhost_ports = [5432]");
    assert_eq!(none.widenings(&plain), Vec::<String>::new());
    let again = project("mode = \"allowlist\"\nhost_ports = [5432]");
    assert_eq!(again.widenings(&none), sentences[..1]);
}
