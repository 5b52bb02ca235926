//! Addresses: families, forms that embed another address, spellings that C libraries read, and what is never public.

use crate::case::{Case, Group, curl, probe};

fn http(host: &str, port: &str) -> String {
    let authority = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    probe(&["http", host, port, &authority, "/"])
}

fn refused_http(name: &str, script: String, reason: &'static str, rule: &'static str) -> Case {
    Case::refused(
        "address",
        name,
        script,
        &["403 Forbidden", &format!("X-Rcc-Reason: {reason}")],
        (reason, rule),
    )
}

fn served(address: &str) -> String {
    format!("served_by\\\":\\\"{address}\\\"")
}

fn spellings() -> Vec<Case> {
    let mut cases = Vec::new();
    // 192.168.77.10 as inet_aton(3) reads it; curl and the C library do.
    for (name, host) in [
        ("decimal", "3232255242"),
        ("hexadecimal", "0xc0a84d0a"),
        ("octal parts", "0300.0250.0115.012"),
        ("hexadecimal parts", "0xc0.0xa8.0x4d.0xa"),
        ("three parts", "192.168.19722"),
        ("two parts", "192.11029770"),
        ("mixed parts", "0xc0.168.0115.10"),
        ("leading zeros", "192.168.77.000012"),
    ] {
        cases.push(
            refused_http(
                &format!("LAN, {name}, curl"),
                curl(&format!("http://{host}/")),
                "private_address",
                "",
            )
            .needs("curl"),
        );
        cases.push(
            Case::refused(
                "address",
                format!("LAN, {name}, python"),
                format!(
                    "/usr/bin/python3 -c \"
import socket, time
start = time.monotonic()
s = socket.create_connection(('{host}', 80), 5)
s.sendall(b'GET / HTTP/1.1\\r\\nHost: x.example\\r\\n\\r\\n')
print(s.recv(9999))
print('milliseconds', (time.monotonic() - start) * 1000)\""
                ),
                &["403 Forbidden", "X-Rcc-Reason: private_address"],
                ("private_address", ""),
            )
            .needs("/usr/bin/python3"),
        );
    }
    for (name, host) in [
        ("127.1", "127.1"),
        ("hexadecimal", "0x7f000001"),
        ("decimal", "2130706433"),
        ("octal", "0177.0.0.1"),
        ("0", "0"),
        ("0.0.0.0", "0.0.0.0"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("::", "[::]"),
        ("mapped", "[::ffff:127.0.0.1]"),
    ] {
        cases.push(
            Case::refused_by_kernel(
                "address",
                format!("loopback, {name}, curl"),
                curl(&format!("http://{host}/")),
                &["connect to server", "status 000"],
            )
            .needs("curl"),
        );
    }
    let public = "3405803796";
    cases.push(
        Case::allowed(
            "address",
            "a public address in decimal",
            curl(&format!("http://{public}/")),
            &["\"served_by\":\"203.0.113.20\""],
        )
        .needs("curl"),
    );
    cases.push(
        Case::allowed(
            "address",
            "a public address in octal",
            curl("http://0313.0.0161.024/"),
            &["\"served_by\":\"203.0.113.20\""],
        )
        .needs("curl"),
    );
    cases
}

fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, address, reason) in [
        ("LAN 10/8", "10.77.0.10", "private_address"),
        ("LAN 172.16/12", "172.16.77.10", "private_address"),
        ("LAN 192.168/16", "192.168.77.10", "private_address"),
        ("39: shared 100.64/10", "100.64.77.10", "private_address"),
        ("34: unique local", "fd00:77::10", "private_address"),
        ("site local", "fec0::10", "private_address"),
        ("link local", "169.254.10.10", "link_local_address"),
        ("39: metadata", "169.254.169.254", "metadata_address"),
        (
            "34: metadata over IPv6",
            "fd00:ec2::254",
            "metadata_address",
        ),
        (
            "39: the host's own public address",
            "203.0.113.1",
            "host_address",
        ),
        (
            "34: the host's own public IPv6 address",
            "2001:db8::1",
            "host_address",
        ),
        (
            "the host's own LAN address",
            "192.168.77.1",
            "private_address",
        ),
        ("34: mapped LAN", "::ffff:192.168.77.10", "private_address"),
        (
            "34: mapped metadata",
            "::ffff:169.254.169.254",
            "metadata_address",
        ),
        ("34: mapped host", "::ffff:203.0.113.1", "host_address"),
        ("34: NAT64 LAN", "64:ff9b::c0a8:4d0a", "private_address"),
        ("34: NAT64 loopback", "64:ff9b::7f00:1", "loopback"),
        (
            "34: NAT64 metadata",
            "64:ff9b::a9fe:a9fe",
            "metadata_address",
        ),
        (
            "34: NAT64 local prefix",
            "64:ff9b:1::c0a8:4d0a",
            "private_address",
        ),
        ("34: 6to4 LAN", "2002:c0a8:4d0a::1", "private_address"),
        ("34: 6to4 loopback", "2002:7f00:1::1", "loopback"),
        (
            "34: Teredo LAN",
            "2001:0:cb00:7137::3f57:b2f5",
            "private_address",
        ),
        ("reserved 240/4", "240.0.0.10", "reserved_address"),
        ("IETF 192.0.0/24", "192.0.0.8", "reserved_address"),
        (
            "a synthetic address that stands for nothing",
            "198.18.200.10",
            "unknown_synthetic",
        ),
    ] {
        cases.push(refused_http(name, http(address, "80"), reason, ""));
    }
    cases.push(
        refused_http(
            "34: compatible LAN",
            http("::c0a8:4d0a", "80"),
            "private_address",
            "",
        )
        .without_control(),
    );
    let scope =
        "link=$(sed -n 's/^ *\\([^:]*\\):.*/\\1/p' /proc/net/dev | grep -v '^lo$' | head -n 1); ";
    cases.push(
        refused_http(
            "34: link local with a scope",
            format!("{scope}{}", curl("\"http://[fe80::2%25$link]/\"")),
            "link_local_address",
            "",
        )
        .needs("curl"),
    );
    for (name, address, errno) in [
        ("multicast", "224.0.0.251", "ENETUNREACH"),
        ("broadcast", "255.255.255.255", "ENETUNREACH"),
        ("multicast over IPv6", "ff02::fb", "ENETUNREACH"),
        ("34: link local without a scope", "fe80::2", "EINVAL"),
    ] {
        let script = probe(&["tcp", address, "80"]);
        cases.push(
            Case::refused_by_kernel(
                "address",
                name,
                script,
                &[&format!("\"errno\":\"{errno}\"")],
            )
            .without_control(),
        );
    }
    for (name, address) in [
        ("public IPv4", "203.0.113.20"),
        ("public IPv6", "2001:db8::20"),
        ("public, mapped", "::ffff:203.0.113.20"),
        ("public, 6to4", "2002:cb00:7114::1"),
        ("public, NAT64", "64:ff9b::cb00:7114"),
    ] {
        let shown = if name == "public, mapped" {
            "203.0.113.20"
        } else {
            address
        };
        cases.push(Case::allowed(
            "address",
            name,
            http(address, "80"),
            &[&served(shown)],
        ));
    }
    cases
}

/// UDP over the same addresses: ICMP "administratively prohibited" as a connected socket hears it.
fn datagrams() -> Vec<Case> {
    let udp = |host: &str, port: &str| probe(&["udp", host, port, &"x".repeat(48)]);
    let mut cases = Vec::new();
    for (name, address, errno, reason) in [
        (
            "LAN, UDP",
            "192.168.77.10",
            "EHOSTUNREACH",
            "private_address",
        ),
        (
            "metadata, UDP",
            "169.254.169.254",
            "EHOSTUNREACH",
            "metadata_address",
        ),
        (
            "unique local, UDP",
            "fd00:77::10",
            "EACCES",
            "private_address",
        ),
    ] {
        cases.push(Case::refused(
            "address",
            name,
            udp(address, "7"),
            &[&format!("\"errno\":\"{errno}\"")],
            (reason, ""),
        ));
    }
    for (name, address) in [
        ("public IPv4, UDP", "203.0.113.20"),
        ("public IPv6, UDP", "2001:db8::20"),
    ] {
        cases.push(Case::allowed(
            "address",
            name,
            udp(address, "7"),
            &["\"bytes\":48"],
        ));
    }
    cases
}

fn networks() -> Vec<Case> {
    let rule = |name: &'static str,
                address: &str,
                port: &str,
                reason: &'static str,
                rule: &'static str| {
        Case {
            kind: "rule",
            ..refused_http(name, http(address, port), reason, rule)
        }
    };
    vec![
        Case::allowed(
            "rule",
            "a LAN network that a rule names",
            http("192.168.77.10", "80"),
            &[&served("192.168.77.10")],
        ),
        Case::allowed(
            "rule",
            "the same, mapped",
            http("::ffff:192.168.77.10", "80"),
            &[&served("192.168.77.10")],
        ),
        rule(
            "a deny inside of that network",
            "192.168.77.11",
            "80",
            "deny_rule",
            "192.168.77.11",
        ),
        rule(
            "a deny inside of that network, mapped",
            "::ffff:192.168.77.11",
            "80",
            "deny_rule",
            "192.168.77.11",
        ),
        rule(
            "another port of that network",
            "192.168.77.10",
            "8080",
            "private_address",
            "",
        ),
        rule(
            "an address behind that network",
            "192.168.78.10",
            "80",
            "private_address",
            "",
        )
        .without_control(),
        Case::allowed(
            "rule",
            "a port range's first",
            http("203.0.113.20", "80"),
            &[&served("203.0.113.20")],
        ),
        rule(
            "behind a port range",
            "203.0.113.20",
            "8080",
            "port_not_allowed",
            "203.0.113.16/28:80-90",
        ),
        rule("behind a network", "203.0.113.40", "80", "no_rule", ""),
        Case::allowed(
            "rule",
            "an IPv6 address",
            http("2001:db8::20", "80"),
            &[&served("2001:db8::20")],
        ),
        rule("another IPv6 address", "2001:db8::21", "80", "no_rule", ""),
        rule(
            "metadata inside of an allowed network",
            "169.254.169.254",
            "80",
            "metadata_address",
            "",
        ),
        Case::allowed(
            "rule",
            "link local inside of that network",
            http("169.254.10.10", "80"),
            &[&served("169.254.10.10")],
        ),
        rule(
            "37: another host on an allowed port",
            "203.0.113.66",
            "80",
            "no_rule",
            "",
        ),
        Case::refused(
            "rule",
            "a name that leads into an allowed network",
            probe(&["resolve", "lan.example"]),
            &["lookup"],
            ("no_rule", ""),
        )
        .unseen("lan"),
    ]
}

pub(crate) fn groups() -> Vec<Group> {
    let internet = vec!["--network", "internet"];
    let cases = spellings()
        .into_iter()
        .chain(classes())
        .chain(datagrams())
        .collect();
    let rules = vec![
        "--network",
        "allowlist",
        "--allow",
        "192.168.77.0/24:80",
        "--deny",
        "192.168.77.11",
        "--allow",
        "203.0.113.16/28:80-90",
        "--allow",
        "2001:db8::20",
        "--allow",
        "169.254.0.0/16",
    ];
    vec![
        Group {
            name: "addresses",
            flags: internet,
            cases,
        },
        Group {
            name: "networks",
            flags: rules,
            cases: networks(),
        },
    ]
}
