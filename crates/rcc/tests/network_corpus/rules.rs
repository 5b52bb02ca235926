//! What rules say: ports, protocols, wildcards, denials above allowances, `/raw`, ports of the host.

use crate::case::{Case, Group, curl, escaped, probe, talk};
use crate::hello;

fn http(host: &str, port: &str) -> String {
    probe(&["http", host, port, &format!("{host}:{port}"), "/"])
}

fn port(
    name: &'static str,
    host: &str,
    number: &str,
    reason: &'static str,
    rule: &'static str,
) -> Case {
    Case::refused(
        "rule",
        name,
        http(host, number),
        &["403 Forbidden", &format!("X-Rcc-Reason: {reason}")],
        (reason, rule),
    )
}

fn unknown(
    name: &'static str,
    host: &str,
    reason: &'static str,
    rule: &'static str,
    label: &'static str,
) -> Case {
    Case::refused("rule", name, http(host, "80"), &["lookup"], (reason, rule)).unseen(label)
}

fn names_and_ports() -> Vec<Case> {
    let served = ["served_by"];
    vec![
        Case::allowed(
            "rule",
            "a wildcard, one label",
            http("www.allowed.example", "80"),
            &served,
        ),
        Case::allowed(
            "rule",
            "a wildcard, two labels",
            http("deep.sub.allowed.example", "80"),
            &served,
        ),
        Case::allowed(
            "rule",
            "a wildcard, an alias below it",
            http("alias.allowed.example", "80"),
            &served,
        ),
        unknown(
            "a wildcard is not its parent",
            "allowed.example",
            "no_rule",
            "",
            "\x07allowed\x07example\x00",
        ),
        unknown(
            "a wildcard is no suffix",
            "evil-allowed.example",
            "no_rule",
            "",
            "evil",
        ),
        unknown(
            "a wildcard in front",
            "allowed.example.denied.example",
            "deny_rule",
            "*.denied.example",
            "denied",
        ),
        unknown(
            "a deny above an allowance",
            "www.denied.example",
            "deny_rule",
            "*.denied.example",
            "denied",
        ),
        Case::allowed(
            "rule",
            "a range of ports, its first",
            http("v4only.example", "8080"),
            &served,
        ),
        Case::allowed(
            "rule",
            "a range of ports, inside",
            talk(
                "v4only.example",
                8443,
                &escaped(&hello::for_name(b"v4only.example")),
            ),
            &["\"hex\":\"160303"],
        ),
        port(
            "in front of a range of ports",
            "v4only.example",
            "80",
            "port_not_allowed",
            "v4only.example:8080-8500",
        ),
        Case::refused(
            "rule",
            "behind a range of ports",
            probe(&["tcp-talk", "v4only.example", "9443", "hello", "500"]),
            &["ECONNRESET"],
            ("port_not_allowed", "v4only.example:8080-8500"),
        )
        .without_control(),
        port(
            "a deny of one port",
            "dual.example",
            "8080",
            "deny_rule",
            "dual.example:8080",
        ),
        Case::allowed(
            "rule",
            "beside a deny of one port",
            http("dual.example", "80"),
            &served,
        ),
        Case::refused(
            "rule",
            "port 0",
            probe(&["tcp-talk", "dual.example", "0", "hello", "500"]),
            &["\"ok\":false"],
            ("port_not_allowed", "dual.example:80,8080"),
        )
        .without_control(),
        Case::refused(
            "rule",
            "TCP is not UDP",
            probe(&["udp", "dual.example", "80", "hello"]),
            &["\"errno\":\"E"],
            ("port_not_allowed", "dual.example:80,8080"),
        )
        .without_control(),
        Case::refused(
            "rule",
            "UDP is not TCP",
            probe(&["tcp-talk", "time.example", "123", "hello", "500"]),
            &["ECONNRESET"],
            ("port_not_allowed", "time.example:123/udp"),
        )
        .without_control(),
        Case::allowed(
            "rule",
            "a rule for UDP",
            probe(&["udp", "time.example", "123", &"x".repeat(48)]),
            &["\"bytes\":48"],
        ),
        Case::refused(
            "rule",
            "another UDP port",
            probe(&["udp", "time.example", "7", "hello"]),
            &["\"errno\":\"E"],
            ("port_not_allowed", "time.example:123/udp"),
        ),
        Case::refused(
            "rule",
            "UDP to the address of an allowed name",
            probe(&["udp", "203.0.113.44", "123", &"x".repeat(48)]),
            &["EHOSTUNREACH"],
            ("no_rule", ""),
        ),
        Case::refused(
            "rule",
            "TCP to the address of an allowed name",
            http("203.0.113.32", "80"),
            &["403 Forbidden", "no_rule"],
            ("no_rule", ""),
        ),
        Case::refused(
            "rule",
            "28: an empty name",
            probe(&["dns", "203.0.113.53", "udp", ".", "A", "edns=1232"]),
            &["\"code\":5"],
            ("bad_name", ""),
        )
        .without_control(),
    ]
}

fn unchecked() -> Vec<Case> {
    let get = |host: &str| format!("GET / HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n");
    vec![
        Case::allowed(
            "raw",
            "another Host",
            talk("allowed.example", 80, &get("neighbour.example")),
            &["200 OK", "neighbour"],
        ),
        Case::allowed(
            "raw",
            "Host twice",
            talk(
                "allowed.example",
                80,
                "GET / HTTP/1.1\\r\\nHost: allowed.example\\r\\nHost: neighbour.example\\r\\n\\r\\n",
            ),
            &["200 OK"],
        ),
        Case::allowed(
            "raw",
            "a tunnel's request",
            talk(
                "allowed.example",
                80,
                "CONNECT neighbour.example:443 HTTP/1.1\\r\\nHost: neighbour.example:443\\r\\n\\r\\n",
            ),
            &["200 OK"],
        ),
        Case::allowed(
            "raw",
            "a hello without a name",
            talk(
                "allowed.example",
                443,
                &escaped(&hello::records(&hello::message(&[]), 16384)),
            ),
            &["\"hex\":\"160303"],
        ),
        Case::allowed(
            "raw",
            "a hello for another name",
            talk(
                "allowed.example",
                443,
                &escaped(&hello::for_name(b"neighbour.example")),
            ),
            &["\"hex\":\"160303"],
        ),
        Case::allowed(
            "raw",
            "QUIC for another name",
            probe(&[
                "quic",
                "allowed.example",
                "443",
                "neighbour.example",
                "1000",
                "1",
            ]),
            &["\"same\":true", "neighbour.example"],
        ),
        Case::refused(
            "raw",
            "another port is not raw",
            talk("allowed.example", 8080, &get("neighbour.example:8080")),
            &["403 Forbidden", "http_host_mismatch"],
            ("http_host_mismatch", "allowed.example:8080"),
        )
        .touches(&["203.0.113.10:8080", "[2001:db8::10]:8080"]),
        Case::refused(
            "raw",
            "raw opens no address",
            http("rebind-lan10.example", "80"),
            &["403 Forbidden", "private_address"],
            ("private_address", ""),
        ),
    ]
}

fn host_ports() -> Vec<Case> {
    let status = "X-Rcc-Reason: ";
    vec![
        Case::allowed(
            "host port",
            "the granted port",
            http("host.rcc.internal", "8080"),
            &["served_by\\\":\\\"127.0.0.1"],
        ),
        Case::allowed(
            "host port",
            "the granted port, curl",
            curl("http://host.rcc.internal:8080/"),
            &["\"served_by\":\"127.0.0.1\""],
        )
        .needs("curl"),
        Case::refused(
            "host port",
            "another port",
            http("host.rcc.internal", "80"),
            &["403 Forbidden", status, "port_not_allowed"],
            ("port_not_allowed", ""),
        )
        .without_control(),
        Case::refused_by_kernel(
            "host port",
            "the same port on its own loopback",
            curl("http://127.0.0.1:8080/"),
            &["connect to server"],
        )
        .needs("curl"),
        Case::refused(
            "host port",
            "the same port on the host's address",
            http("203.0.113.1", "8080"),
            &["403 Forbidden", "host_address"],
            ("host_address", ""),
        ),
        Case::refused(
            "host port",
            "the same port on the host's LAN address",
            http("192.168.77.1", "8080"),
            &["403 Forbidden", "private_address"],
            ("private_address", ""),
        ),
        Case::refused(
            "host port",
            "a name that leads to loopback",
            http("rebind-loopback.example", "8080"),
            &["403 Forbidden", "loopback"],
            ("loopback", ""),
        ),
        Case::refused(
            "host port",
            "UDP",
            probe(&["udp", "host.rcc.internal", "8080", "hello"]),
            &["\"errno\":\"E"],
            ("port_not_allowed", "host.rcc.internal:8080"),
        )
        .without_control(),
        Case::refused(
            "host port",
            "below the name",
            probe(&[
                "dns",
                "203.0.113.53",
                "udp",
                "secret.host.rcc.internal",
                "A",
                "edns=1232",
            ]),
            &["\"code\":"],
            ("no_rule", ""),
        )
        .unseen("secret"),
    ]
}

fn without_host_ports() -> Vec<Case> {
    vec![
        Case::refused(
            "host port",
            "the name without a granted port",
            probe(&[
                "dns",
                "203.0.113.53",
                "udp",
                "host.rcc.internal",
                "A",
                "edns=1232",
            ]),
            &["\"code\":"],
            ("no_rule", ""),
        )
        .unseen("internal"),
        Case::refused(
            "rule",
            "28: nothing is allowed, a name",
            probe(&[
                "dns",
                "203.0.113.53",
                "udp",
                "allowed.example",
                "A",
                "edns=1232",
            ]),
            &["\"code\":5", "[15"],
            ("no_rule", ""),
        )
        .unseen("allowed"),
        Case::refused(
            "rule",
            "28: nothing is allowed, an address",
            http("203.0.113.10", "80"),
            &["403 Forbidden", "no_rule"],
            ("no_rule", ""),
        ),
        Case::refused(
            "rule",
            "28: nothing is allowed, IPv6",
            http("2001:db8::10", "80"),
            &["403 Forbidden", "no_rule"],
            ("no_rule", ""),
        ),
        Case::refused(
            "rule",
            "28: nothing is allowed, UDP",
            probe(&["udp", "203.0.113.10", "7", "hello"]),
            &["EHOSTUNREACH"],
            ("no_rule", ""),
        ),
    ]
}

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "rules",
            flags: vec![
                "--network",
                "allowlist",
                "--allow",
                "*.allowed.example",
                "--allow",
                "v4only.example:8080-8500",
                "--allow",
                "dual.example:80,8080",
                "--deny",
                "dual.example:8080",
                "--allow",
                "*.denied.example",
                "--deny",
                "*.denied.example",
                "--allow",
                "time.example:123/udp",
            ],
            cases: names_and_ports(),
        },
        Group {
            name: "raw",
            flags: vec![
                "--network",
                "allowlist",
                "--allow",
                "allowed.example/raw",
                "--allow",
                "allowed.example:443/udp/raw",
                "--allow",
                "allowed.example:8080",
                "--allow",
                "rebind-lan10.example/raw",
            ],
            cases: unchecked(),
        },
        Group {
            name: "hostport",
            flags: vec!["--network", "internet", "--host-port", "8080"],
            cases: host_ports(),
        },
        Group {
            name: "nothing",
            flags: vec!["--network", "allowlist"],
            cases: without_host_ports(),
        },
    ]
}
