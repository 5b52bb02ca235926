//! The names of the test world, as dnsmasq options and for the tests to read.
//!
//! Must not hold an address that is not in [`super::addresses`]' networks.

use super::addresses::FORBIDDEN;

/// Seconds that an ordinary answer of the resolver may be cached.
pub const TTL_SECONDS: u32 = 30;

/// Names with their addresses: what `dig` would print, one line each.
pub const HOSTS: &[(&str, &[&str])] = &[
    ("allowed.example", &["203.0.113.10", "2001:db8::10"]),
    ("www.allowed.example", &["203.0.113.11", "2001:db8::11"]),
    ("deep.sub.allowed.example", &["203.0.113.12"]),
    ("denied.example", &["203.0.113.20", "2001:db8::20"]),
    ("www.denied.example", &["203.0.113.21", "2001:db8::21"]),
    ("allowed.example.denied.example", &["203.0.113.22"]),
    ("evil-allowed.example", &["203.0.113.23"]),
    // Shares the address of allowed.example, as sites behind one content network do.
    ("neighbour.example", &["203.0.113.10", "2001:db8::10"]),
    ("v4only.example", &["203.0.113.30"]),
    ("v6only.example", &["2001:db8::31"]),
    ("dual.example", &["203.0.113.32", "2001:db8::32"]),
    (
        "multi.example",
        &[
            "203.0.113.50",
            "198.51.100.50",
            "2001:db8::50",
            "2001:db8:1::50",
        ],
    ),
    // The first family vanishes, the second answers: for happy eyeballs (RFC 8305).
    ("dead6.example", &["203.0.113.33", "2001:db8:dead::1"]),
    ("dead4.example", &["198.51.100.66", "2001:db8::34"]),
    ("blackhole.example", &["198.51.100.66", "2001:db8:dead::1"]),
    ("api.agent.example", &["203.0.113.40", "2001:db8::40"]),
    ("git.example", &["203.0.113.41", "2001:db8::41"]),
    ("registry.example", &["203.0.113.42", "2001:db8::42"]),
    ("mail.example", &["203.0.113.43"]),
    ("time.example", &["203.0.113.44", "2001:db8::44"]),
    ("host.example", &["203.0.113.1", "2001:db8::1"]),
    ("lan.example", &["192.168.77.10"]),
    // One good and one forbidden address in the same answer.
    ("rebind-mixed.example", &["203.0.113.51", "192.168.77.10"]),
    ("xn--bcher-kva.example", &["203.0.113.52"]),
    ("with_underscore.example", &["203.0.113.54"]),
];

/// Aliases: name, canonical name.
pub const ALIASES: &[(&str, &str)] = &[
    ("alias.example", "allowed.example"),
    ("alias2.example", "alias.example"),
    ("alias-denied.example", "denied.example"),
    ("alias.allowed.example", "denied.example"),
    ("alias-lan.example", "lan.example"),
];

/// Names that the resolver hands to the strange name server, with what that does.
pub const STRANGE_NAMES: &[(&str, &str)] = &[
    (
        "flip.example",
        "TTL 0; A alternates between 203.0.113.60 (odd questions) and 192.168.77.10 (even); AAAA is empty",
    ),
    (
        "flip-loopback.example",
        "TTL 0; A is 203.0.113.61 the first time, then 127.0.0.1",
    ),
    ("ttl0.example", "TTL 0; A is always 203.0.113.62"),
    ("servfail.example", "response code 2"),
    ("refused.example", "response code 5"),
    ("silent.example", "never answered"),
    (
        "big.example",
        "60 A records 198.51.100.1 and up: does not fit one UDP answer, truncated there, whole on TCP",
    ),
    (
        "attacker.example",
        "every name below it exists, A 203.0.113.66; all questions are recorded",
    ),
];

/// Records of other types, as (dnsmasq option, value).
const OTHERS: &[(&str, &str)] = &[
    ("txt-record", "txt.example,hello from the test world"),
    ("txt-record", "allowed.example,text of an allowed name"),
    ("txt-record", "denied.example,text of a denied name"),
    ("mx-host", "mx.example,mail.example,10"),
    ("mx-host", "allowed.example,mail.example,10"),
    ("srv-host", "_ssh._tcp.example,git.example,22"),
    ("srv-host", "_ssh._tcp.allowed.example,allowed.example,22"),
    // NULL (RFC 1035).
    ("dns-rr", "null.example,10,010203"),
    ("dns-rr", "allowed.example,10,010203"),
    // HTTPS (RFC 9460): priority 1, own name, alpn=h2, ipv4hint=203.0.113.10.
    (
        "dns-rr",
        "https.example,65,0001000001000302683200040004cb00710a",
    ),
    (
        "dns-rr",
        "allowed.example,65,0001000001000302683200040004cb00710a",
    ),
    // CAA (RFC 8659).
    ("dns-rr", "allowed.example,257,00056973737565636124"),
];

/// Gives dnsmasq's options (without the leading dashes) for all of the above.
#[must_use]
pub fn dnsmasq_options(strange_resolver: std::net::Ipv4Addr) -> Vec<String> {
    let mut options = vec![
        "local=/example/".to_owned(),
        format!("local-ttl={TTL_SECONDS}"),
    ];
    for (name, addresses) in HOSTS {
        options.extend(
            addresses
                .iter()
                .map(|address| format!("host-record={name},{address}")),
        );
    }
    for forbidden in FORBIDDEN {
        options.push(format!(
            "host-record={},{}",
            rebind_name(forbidden.class),
            forbidden.address
        ));
    }
    options.extend(
        ALIASES
            .iter()
            .map(|(name, target)| format!("cname={name},{target}")),
    );
    options.extend(
        STRANGE_NAMES
            .iter()
            .map(|(name, _)| format!("server=/{name}/{strange_resolver}")),
    );
    options.extend(
        OTHERS
            .iter()
            .map(|(option, value)| format!("{option}={value}")),
    );
    options
}

/// Gives the name that points to the forbidden address of this class.
#[must_use]
pub fn rebind_name(class: &str) -> String {
    format!("rebind-{class}.example")
}
