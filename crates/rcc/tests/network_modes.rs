//! The three network modes: what each reaches and refuses, by name, by address and in every disguise of an address.
//!
//! Every refusal here has its control: the same probe from the host, where it reaches the listener. A refusal is judged by
//! the reason in the audit log, by what the listeners saw, and by its time.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;

use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::addresses::{
    ALLOWED_V4, ALLOWED_V6, DENIED_V4, DENIED_V6, FORBIDDEN, Forbidden, HOST_V4, RESOLVER_V4,
};
use rcc_testkit::world::wire::Packet;
use rcc_testkit::world::{World, zone};
use support::{Place, assert_soon, words};

fn milliseconds(record: &Record) -> f64 {
    record.detail["milliseconds"]
        .as_f64()
        .unwrap_or_else(|| panic!("no time in {record:?}"))
}

/// The time of the last attempt of a connecting probe.
fn connect_milliseconds(record: &Record) -> f64 {
    let tried = record.detail["tried"]
        .as_array()
        .unwrap_or_else(|| panic!("nothing tried in {record:?}"));
    tried
        .iter()
        .map(|attempt| attempt["milliseconds"].as_f64().unwrap())
        .sum()
}

/// Runs the same probes one by one from the host: the control.
fn from_host(world: &World, lines: &[Vec<String>]) -> Vec<Record> {
    lines.iter().map(|line| world.probe(line)).collect()
}

fn http(host: &str, port: u16) -> Vec<String> {
    // The host as an address has it in a URL.
    let authority = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    words(&["http", host, &port.to_string(), &authority, "/"])
}

/// The refusal of a connection that spoke HTTP: 403 with the reason in the text, in time.
#[track_caller]
fn assert_http_refusal(record: &Record, reason: &str, what: &str) {
    assert_eq!(record.detail["status"], 403, "{what}: {record:?}");
    let body = record.detail["body"].as_str().unwrap();
    assert!(
        body.starts_with("rcc refused the connection to "),
        "{what}: {body}"
    );
    assert!(
        body.contains(&format!("({reason})")),
        "{what} should be {reason}: {body}"
    );
    let head = record.detail["head"].as_str().unwrap();
    assert!(
        head.contains(&format!("X-Rcc-Reason: {reason}")),
        "{what}: {head}"
    );
    assert_soon(milliseconds(record), &format!("{what}: {record:?}"));
}

/// Who answered a request that went through.
#[track_caller]
fn served_by(record: &Record) -> IpAddr {
    assert_eq!(record.detail["status"], 200, "{record:?}");
    let body: serde_json::Value =
        serde_json::from_str(record.detail["body"].as_str().unwrap()).unwrap();
    body["served_by"].as_str().unwrap().parse().unwrap()
}

// ---------------------------------------------------------------------------------------------------------------------
// none

#[test]
fn mode_none_has_only_loopback_and_fails_at_once() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "none");
    let destinations = [
        ALLOWED_V4.to_string(),
        ALLOWED_V6.to_string(),
        HOST_V4.to_string(),
        RESOLVER_V4.to_string(),
        "192.168.77.10".to_owned(),
        "169.254.169.254".to_owned(),
    ];
    let mut lines: Vec<Vec<String>> = Vec::new();
    for destination in &destinations {
        lines.push(words(&[
            "tcp",
            destination,
            if *destination == RESOLVER_V4.to_string() {
                "53"
            } else {
                "80"
            },
        ]));
    }
    lines.push(words(&[
        "dns",
        &RESOLVER_V4.to_string(),
        "udp",
        "allowed.example",
        "A",
    ]));
    lines.push(words(&["resolve", "allowed.example"]));
    lines.push(words(&["udp", &ALLOWED_V4.to_string(), "7", "hello"]));
    for (line, control) in lines.iter().zip(from_host(&world, &lines)) {
        assert!(control.ok, "the control {line:?} must work: {control:?}");
    }

    world.forget();
    let queries = world.dns_queries().len();
    for flags in [&["-n"][..], &["--network", "none"]] {
        let (records, _) = place.probes(flags, &lines);
        for (line, record) in lines.iter().zip(&records) {
            match line[0].as_str() {
                "tcp" => {
                    record.assert_denied("ENETUNREACH");
                    assert_soon(connect_milliseconds(record), &format!("{record:?}"));
                }
                "udp" | "dns" => drop(record.assert_denied("ENETUNREACH").clone()),
                _ => {
                    assert!(!record.ok, "{record:?}");
                    assert_soon(milliseconds(record), &format!("{record:?}"));
                }
            }
        }
    }
    assert_eq!(sent(&world), [], "a packet left the host");
    assert_eq!(
        world.dns_queries().len(),
        queries,
        "a question left the host"
    );
    assert_eq!(
        place.events(),
        Vec::<serde_json::Value>::new(),
        "there is no gateway that could log"
    );
}

#[test]
fn mode_none_keeps_its_own_loopback() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "loopback");
    let program = probe::path();
    // The host's own loopback listener is on port 80: the same port inside is another machine's.
    let control = world.probe(["http", "127.0.0.1", "80", "x.example", "/"]);
    assert_eq!(control.detail["status"], 200, "{control:?}");
    world.forget();
    let script = r#"
        cat /proc/net/dev | sed -n 's/^ *\([^:]*\):.*/link \1/p'
        for address in 127.0.0.1 ::1; do
            "$0" listen $address 9000 > listening.$$ &
            listener=$!
            # The listener says nothing until somebody came: connecting again is the only way to know.
            until "$0" tcp-talk $address 9000 '' | tee talk | grep -q hello; do :; done
            cat talk
            wait $listener
        done
        "$0" tcp 127.0.0.1 80
        "$0" tcp ::1 80
    "#;
    let output = place
        .rcc(["run", "-n", "--ro"])
        .arg(&program)
        .args(["--", "sh", "-c", script])
        .arg(&program)
        .output();
    let text = output.assert_success().stdout_text();
    let links: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("link "))
        .collect();
    assert_eq!(links, ["lo"], "{output}");
    let records: Vec<Record> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(Record::from_text)
        .collect();
    assert_eq!(records.len(), 4, "{output}");
    for record in &records[..2] {
        assert_eq!(record.assert_ok().detail["text"], "hello from rcc-probe\n");
    }
    for record in &records[2..] {
        record.assert_denied("ECONNREFUSED");
    }
    assert!(world.seen().is_empty(), "{:?}", world.seen());
}

// ---------------------------------------------------------------------------------------------------------------------
// internet

#[test]
fn mode_internet_reaches_public_hosts_by_name_and_by_address() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "public");
    let cases: &[(&str, &[&str])] = &[
        ("allowed.example", &["203.0.113.10", "2001:db8::10"]),
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
        // One family is dead: the other one is used, and soon.
        ("dead6.example", &["203.0.113.33"]),
        ("dead4.example", &["2001:db8::34"]),
        // Of a good and a forbidden address only the good one is ever tried.
        ("rebind-mixed.example", &["203.0.113.51"]),
        ("alias2.example", &["203.0.113.10", "2001:db8::10"]),
        ("xn--bcher-kva.example", &["203.0.113.52"]),
        ("ttl0.example", &["203.0.113.62"]),
        ("in-hosts-file.example", &["203.0.113.70"]),
        ("203.0.113.20", &["203.0.113.20"]),
        ("2001:db8::20", &["2001:db8::20"]),
        // The mapped form is the IPv4 address.
        ("::ffff:203.0.113.20", &["203.0.113.20"]),
        // What embeds a public address is public: a translator may be the only way out.
        ("64:ff9b::203.0.113.20", &["64:ff9b::cb00:7114"]),
    ];
    let mut lines = Vec::new();
    for (host, _) in cases {
        for port in [80, 8080] {
            lines.push(http(host, port));
        }
    }
    for (line, control) in lines.iter().zip(from_host(&world, &lines)) {
        assert!(
            control.ok || line[1] == "64:ff9b::203.0.113.20",
            "the control {line:?} must work: {control:?}"
        );
    }
    world.forget();
    let (records, _) = place.probes(&["--network", "internet"], &lines);
    for (index, record) in records.iter().enumerate() {
        let (host, addresses) = cases[index / 2];
        let reached = served_by(record).to_string();
        assert!(
            addresses.contains(&reached.as_str()),
            "{host} reached {reached}: {record:?}"
        );
    }
    assert!(world.seen_at("192.168.77.10".parse().unwrap()).is_empty());
    let refused: Vec<String> = place
        .briefs()
        .into_iter()
        .filter(|line| line.contains(" deny "))
        .collect();
    assert_eq!(refused, Vec::<String>::new());

    // The default is the same mode.
    let record = place.probe(
        &[],
        &["http", "denied.example", "8080", "denied.example", "/"],
    );
    assert!([DENIED_V4.into(), DENIED_V6.into()].contains(&served_by(&record)));
}

/// The reason that the audit log must give for a class of [`FORBIDDEN`] when the gateway decides.
fn reason(class: &str) -> &'static str {
    match class {
        "loopback" | "loopback-other" | "loopback6" | "unspecified" | "unspecified6"
        | "mapped-loopback" | "nat64-loopback" | "6to4-loopback" => "loopback",
        "lan10" | "lan172" | "lan192" | "cgnat" | "ula" | "sitelocal" | "mapped-lan"
        | "nat64-lan" | "nat64-local" | "6to4-lan" | "teredo-lan" | "compatible-lan" => {
            "private_address"
        }
        "linklocal" | "linklocal6" => "link_local_address",
        "metadata" | "metadata6" | "mapped-metadata" | "nat64-metadata" | "6to4-metadata" => {
            "metadata_address"
        }
        "host" | "host6" | "host-lan" | "host-lan6" | "mapped-host" => "host_address",
        "benchmark" | "ietf" | "reserved" => "reserved_address",
        "broadcast" | "multicast" | "multicast6" => "multicast_address",
        other => panic!("class {other} is new: say what should happen"),
    }
}

/// What a connection to the address itself meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literal {
    /// It never leaves the sandbox: its own loopback has no such listener, or the kernel knows no such connection.
    Kernel(&'static str),
    /// The gateway refuses it for this reason.
    Gateway(&'static str),
}

fn literal(forbidden: &Forbidden) -> Literal {
    match forbidden.class {
        "loopback" | "loopback-other" | "loopback6" | "unspecified" | "unspecified6"
        | "mapped-loopback" => Literal::Kernel("ECONNREFUSED"),
        // tcp_v4_connect() and tcp_v6_connect() know no connection to many.
        "broadcast" | "multicast" | "multicast6" => Literal::Kernel("ENETUNREACH"),
        // Without a scope there is no link to be local to (RFC 4007 section 6).
        "linklocal6" => Literal::Kernel("EINVAL"),
        // Inside, this range stands for names, and this address for none.
        "benchmark" => Literal::Gateway("unknown_synthetic"),
        "host-lan" | "host-lan6" => Literal::Gateway("private_address"),
        class => Literal::Gateway(reason(class)),
    }
}

#[test]
fn every_forbidden_address_is_refused_by_literal_and_by_name() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let literals: Vec<Vec<String>> = FORBIDDEN
        .iter()
        .map(|it| http(&it.address.to_string(), 80))
        .collect();
    let names: Vec<Vec<String>> = FORBIDDEN
        .iter()
        .map(|it| http(&zone::rebind_name(it.class), 80))
        .collect();

    // The control: from the host each address answers, by literal and by name, and its listener counts it.
    for lines in [&literals, &names] {
        world.forget();
        for (forbidden, line) in FORBIDDEN.iter().zip(lines).filter(|(it, _)| it.answers) {
            let control = world.probe(line);
            assert_eq!(
                control.detail["status"], 200,
                "the control {line:?} must work: {control:?}"
            );
            assert_eq!(
                forbidden.address.to_canonical(),
                served_canonical(forbidden, &control),
                "{line:?}"
            );
        }
        let requests = world.http_requests().len();
        assert_eq!(requests, FORBIDDEN.iter().filter(|it| it.answers).count());
    }

    // A rule for names allows no address: `*.example` in mode allowlist is as strict as mode internet.
    for (name, flags) in [
        ("internet", &["--network", "internet"][..]),
        (
            "allowlist",
            &[
                "--allow",
                "*.example",
                "--allow",
                "0.0.0.0/0",
                "--allow",
                "::/0",
            ],
        ),
    ] {
        let place = Place::new(&world, name);
        world.forget();
        let (records, _) = place.probes(flags, &literals);
        let mut expected = Vec::new();
        for (forbidden, record) in FORBIDDEN.iter().zip(&records) {
            let what = format!("{name}: {} {}", forbidden.class, forbidden.address);
            match literal(forbidden) {
                Literal::Kernel(errno) => {
                    assert_eq!(record.errno.as_deref(), Some(errno), "{what}: {record:?}");
                    assert_soon(connect_milliseconds(record), &format!("{what}: {record:?}"));
                }
                Literal::Gateway(reason) => {
                    assert_http_refusal(record, reason, &what);
                    let address = forbidden.address.to_canonical();
                    expected.push(format!("refuse {address} port=80 deny {reason}"));
                }
            }
        }
        assert_eq!(
            place.briefs(),
            expected,
            "{name}: exactly these refusals are in the log, in this order"
        );

        place.forget_events();
        let (records, _) = place.probes(flags, &names);
        for (forbidden, record) in FORBIDDEN.iter().zip(&records) {
            let what = format!("{name}: {} by name", forbidden.class);
            assert_http_refusal(record, reason(forbidden.class), &what);
        }
        let refusals: Vec<String> = place
            .briefs()
            .into_iter()
            .filter(|line| line.starts_with("refuse "))
            .collect();
        let expected: Vec<String> = FORBIDDEN
            .iter()
            .map(|it| {
                // The address stands there as the resolver gave it.
                let (name, address) = (zone::rebind_name(it.class), it.address);
                format!("refuse {name} {address} port=80 deny {}", reason(it.class))
            })
            .collect();
        assert_eq!(refusals, expected, "{name}");
        assert!(
            world.seen().is_empty(),
            "{name}: a forbidden listener was reached: {:?}",
            world.seen()
        );
        let others: Vec<Packet> = sent(&world)
            .into_iter()
            .filter(|packet| packet.destination_port != 53)
            .collect();
        assert_eq!(
            others,
            [],
            "{name}: only questions to the resolver may leave"
        );
    }
}

/// Which address answered, with the forms that the host's own kernel removes.
fn served_canonical(forbidden: &Forbidden, control: &Record) -> IpAddr {
    let reached = served_by(control);
    // connect(2) to the unspecified address means the machine itself.
    if forbidden.address.is_unspecified() && reached.is_loopback() {
        forbidden.address
    } else {
        reached.to_canonical()
    }
}

/// What left the host besides the chatter of its kernel about neighbours and groups.
fn sent(world: &World) -> Vec<Packet> {
    let kernel = |packet: &Packet| ["arp", "icmp6", "proto-0"].contains(&packet.protocol.as_str());
    world
        .packets()
        .into_iter()
        .filter(|packet| !kernel(packet))
        .collect()
}

/// Resolves a name once and connects to the address it got until it is refused, for 20 seconds at most: the gateway keeps
/// answers for some seconds, whatever their time to live.
const REBIND: &str = r#"
    watch() {
        address=$(getent ahostsv4 "$1" | sed -n '1s/ .*//p')
        end=$(($(date +%s) + 20))
        while [ "$(date +%s)" -lt "$end" ]; do
            "$0" http "$address" 80 "$1" / >>"$1.records"
            if tail -n 1 "$1.records" | grep -q '"status":403'; then return; fi
            sleep 0.1
        done
    }
    for name; do watch "$name" & done
    wait
    for name; do cat "$name.records"; done
"#;

#[test]
fn a_name_that_changes_its_address_reaches_the_public_one_only() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "flip");
    // The control: from the host the same questions lead to the LAN and to loopback.
    for (name, forbidden) in [
        ("flip.example", "192.168.77.10"),
        ("flip-loopback.example", "127.0.0.1"),
    ] {
        let reached: Vec<String> = from_host(&world, &vec![http(name, 80); 4])
            .iter()
            .map(|it| served_by(it).to_string())
            .collect();
        assert!(
            reached.contains(&forbidden.to_owned()),
            "{name}: {reached:?}"
        );
    }

    // Questions were asked in pairs, so the first of the gateway leads to the public address.
    world.forget();
    let program = probe::path();
    let output = place
        .rcc(["run", "--network", "internet", "--audit"])
        .arg(&place.audit)
        .arg("--ro")
        .arg(&program)
        .args(["--", "sh", "-c", REBIND])
        .arg(&program)
        .args(["flip.example", "flip-loopback.example"])
        .output();
    let text = output.assert_success().stdout_text();
    let records: Vec<Record> = text.lines().map(Record::from_text).collect();
    let (passed, refused): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.ok);
    assert!(passed.len() > 1, "{output}");
    for record in passed {
        assert_eq!(served_by(record).to_string(), "203.0.113.60");
    }
    assert_eq!(
        refused.len(),
        2,
        "both names were refused in the end\n{output}"
    );
    assert_http_refusal(refused[0], "private_address", "flip.example");
    assert_http_refusal(refused[1], "loopback", "flip-loopback.example");
    for forbidden in ["192.168.77.10", "127.0.0.1", "::1"] {
        assert!(
            world.seen_at(forbidden.parse().unwrap()).is_empty(),
            "{:?}",
            world.seen()
        );
    }
    let refusals: Vec<String> = place
        .briefs()
        .into_iter()
        .filter(|line| line.starts_with("refuse "))
        .collect();
    assert!(
        refusals
            .contains(&"refuse flip.example 192.168.77.10 port=80 deny private_address".to_owned()),
        "{refusals:?}"
    );
    assert!(
        refusals
            .contains(&"refuse flip-loopback.example 127.0.0.1 port=80 deny loopback".to_owned()),
        "{refusals:?}"
    );
}

#[test]
fn only_a_rule_for_exactly_that_address_opens_a_special_one() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "special");
    // Flags, address, and how it ends: who answers, or the reason.
    let cases: &[(&[&str], &str, Result<&str, &str>)] = &[
        (
            &["--allow", "192.168.77.10:80"],
            "192.168.77.10",
            Ok("192.168.77.10"),
        ),
        (
            &["--allow", "192.168.77.10:80"],
            "lan.example",
            Err("no_rule"),
        ),
        (
            &["--allow", "192.168.77.0/24"],
            "192.168.77.10",
            Ok("192.168.77.10"),
        ),
        (
            &["--allow", "192.168.77.10:443"],
            "192.168.77.10",
            Err("private_address"),
        ),
        (
            &["--allow", "0.0.0.0/0"],
            "192.168.77.10",
            Err("private_address"),
        ),
        (
            &["--allow", "fd00:77::10"],
            "fd00:77::10",
            Ok("fd00:77::10"),
        ),
        (
            &["--allow", "169.254.169.254"],
            "169.254.169.254",
            Ok("169.254.169.254"),
        ),
        (
            &["--allow", "169.254.0.0/16"],
            "169.254.169.254",
            Err("metadata_address"),
        ),
        (
            &["--allow", "203.0.113.1"],
            "203.0.113.1",
            Ok("203.0.113.1"),
        ),
        (
            &["--allow", "203.0.113.0/24"],
            "203.0.113.1",
            Err("host_address"),
        ),
        (
            &["--allow", "203.0.113.0/24"],
            "203.0.113.2",
            Ok("203.0.113.2"),
        ),
        (
            &["--allow", "192.168.77.1"],
            "192.168.77.1",
            Ok("192.168.77.1"),
        ),
        (
            &["--allow", "192.168.77.0/24"],
            "192.168.77.1",
            Err("host_address"),
        ),
        (
            &["--allow", "lan.example", "--allow", "192.168.77.10"],
            "lan.example",
            Ok("192.168.77.10"),
        ),
        (
            &["--allow", "lan.example"],
            "lan.example",
            Err("private_address"),
        ),
        (
            &["--allow", "192.168.77.10", "--deny", "192.168.77.0/24"],
            "192.168.77.10",
            Err("deny_rule"),
        ),
        // A denial of an address holds for every name that leads there, and for every disguise.
        (
            &[
                "--allow",
                "denied.example",
                "--deny",
                "203.0.113.0/24",
                "--deny",
                "2001:db8::/32",
            ],
            "denied.example",
            Err("deny_rule"),
        ),
        (
            &["--network", "internet", "--deny", "203.0.113.20"],
            "::ffff:203.0.113.20",
            Err("deny_rule"),
        ),
        (
            &["--network", "internet", "--deny", "203.0.113.20"],
            "64:ff9b::203.0.113.20",
            Err("deny_rule"),
        ),
    ];
    for (flags, host, expected) in cases {
        let what = format!("{flags:?} {host}");
        place.forget_events();
        world.forget();
        let record = place.probe(flags, &["http", host, "80", host, "/"]);
        match expected {
            Ok(address) => assert_eq!(served_by(&record).to_string(), *address, "{what}"),
            Err("no_rule") => {
                assert_eq!(record.detail["step"], "resolve", "{what}: {record:?}");
                assert!(
                    place
                        .briefs()
                        .iter()
                        .all(|line| line.ends_with("REFUSED deny no_rule")),
                    "{what}"
                );
            }
            Err(reason) => {
                assert_http_refusal(&record, reason, &what);
                let last = place.briefs().pop().unwrap();
                assert!(
                    last.starts_with("refuse ") && last.ends_with(reason),
                    "{what}: {last}"
                );
                assert!(world.seen().is_empty(), "{what}: {:?}", world.seen());
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// allowlist

/// One policy in all its forms.
const POLICY_FLAGS: &[&str] = &[
    "--allow",
    "allowed.example",
    "--allow",
    "*.allowed.example:8080",
    "--allow",
    "v6only.example:7,8000-8100",
    "--allow",
    "198.51.100.0/24:80",
    "--allow",
    "[2001:db8:1::/48]:80",
    "--allow",
    "203.0.113.20:8080",
    "--deny",
    "deep.sub.allowed.example",
    "--deny",
    "198.51.100.66",
];

/// What that policy means: host, port, and who answers or the reason.
const POLICY_CASES: &[(&str, u16, Result<&str, &str>)] = &[
    ("v6only.example", 8080, Ok("2001:db8::31")),
    ("v6only.example", 80, Err("port_not_allowed")),
    ("ALLOWED.example.", 80, Ok("203.0.113.10 2001:db8::10")),
    ("allowed.example", 80, Ok("203.0.113.10 2001:db8::10")),
    ("allowed.example", 8080, Err("port_not_allowed")),
    ("www.allowed.example", 8080, Ok("203.0.113.11 2001:db8::11")),
    ("www.allowed.example", 80, Err("port_not_allowed")),
    // The apex is not below itself: its rule for 80 and 443 is another one.
    ("deep.sub.allowed.example", 8080, Err("dns deny_rule")),
    ("denied.example", 80, Err("dns no_rule")),
    ("evil-allowed.example", 80, Err("dns no_rule")),
    ("allowed.example.denied.example", 80, Err("dns no_rule")),
    // Shares both addresses with allowed.example.
    ("neighbour.example", 80, Err("dns no_rule")),
    // An alias of an allowed name is another name.
    ("alias.example", 80, Err("dns no_rule")),
    // An allowed name may be an alias; the address decides then.
    (
        "alias.allowed.example",
        8080,
        Ok("203.0.113.20 2001:db8::20"),
    ),
    // The address of an allowed name is not allowed by itself.
    ("203.0.113.10", 80, Err("no_rule")),
    ("2001:db8::10", 80, Err("no_rule")),
    ("203.0.113.20", 8080, Ok("203.0.113.20")),
    ("203.0.113.20", 80, Err("port_not_allowed")),
    ("198.51.100.50", 80, Ok("198.51.100.50")),
    ("198.51.100.50", 8080, Err("port_not_allowed")),
    ("198.51.100.66", 80, Err("deny_rule")),
    ("192.0.2.7", 80, Err("no_rule")),
    ("2001:db8:1::50", 80, Ok("2001:db8:1::50")),
    ("2001:db8:1::50", 8080, Err("port_not_allowed")),
    ("2001:db8:2::50", 80, Err("no_rule")),
    ("192.168.77.10", 80, Err("private_address")),
    ("203.0.113.1", 80, Err("no_rule")),
];

#[track_caller]
fn check_policy(place: &Place<'_>, flags: &[&str], form: &str) {
    place.forget_events();
    place.world.forget();
    let lines: Vec<Vec<String>> = POLICY_CASES
        .iter()
        .map(|(host, port, _)| http(host, *port))
        .collect();
    let (records, _) = place.probes(flags, &lines);
    for ((host, port, expected), record) in POLICY_CASES.iter().zip(&records) {
        let what = format!("{form}: {host} port {port}");
        match expected {
            Ok(addresses) => {
                let reached = served_by(record).to_string();
                assert!(
                    addresses.split(' ').any(|it| it == reached),
                    "{what} reached {reached}"
                );
            }
            Err(reason) => match reason.strip_prefix("dns ") {
                Some(reason) => {
                    assert_eq!(record.detail["step"], "resolve", "{what}: {record:?}");
                    assert_soon(milliseconds(record), &format!("{what}: {record:?}"));
                    let refused = format!("dns {host} A REFUSED deny {reason}");
                    assert!(
                        place.briefs().contains(&refused),
                        "{what}: no `{refused}` in {:#?}",
                        place.briefs()
                    );
                }
                None => {
                    assert_http_refusal(record, reason, &what);
                    let is_there = place.briefs().iter().any(|line| {
                        line.starts_with("refuse ")
                            && line.contains(host.trim_end_matches('.'))
                            && line.ends_with(&format!("port={port} deny {reason}"))
                    });
                    assert!(is_there, "{what}: {:#?}", place.briefs());
                }
            },
        }
    }
    // Every refused literal: its listener saw nothing.
    for (host, port, expected) in POLICY_CASES {
        if let (Ok(address), Err(_)) = (host.parse::<IpAddr>(), expected) {
            let seen = place
                .world
                .seen_by(&std::net::SocketAddr::new(address, *port).to_string());
            let is_named_target =
                address == IpAddr::from(ALLOWED_V4) || address == IpAddr::from(ALLOWED_V6);
            assert!(
                is_named_target || seen.connections == 0,
                "{form}: {host}: {seen:?}"
            );
        }
    }
}

#[test]
fn allowlist_by_flags() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    // The control: all of it can be reached from the host.
    for (host, port, _) in POLICY_CASES
        .iter()
        .filter(|(host, ..)| *host != "198.51.100.66")
    {
        let control = world.probe(http(host, *port));
        assert_eq!(
            control.detail["status"], 200,
            "the control {host} {port} must work: {control:?}"
        );
    }
    check_policy(&Place::new(&world, "flags"), POLICY_FLAGS, "flags");
}

#[test]
fn allowlist_by_conf_file() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "conf");
    let mut text = String::from("# what this project may reach\n\n");
    for pair in POLICY_FLAGS.chunks(2) {
        match pair {
            ["--deny", _] => {}
            [_, rule] => text.push_str(&format!("{rule}   # because\r\n")),
            _ => unreachable!(),
        }
    }
    place.file("hosts.conf", text);
    let deny = &POLICY_FLAGS[POLICY_FLAGS.len() - 4..];
    check_policy(&place, &[&["-a", "hosts.conf"], deny].concat(), "conf file");
}

#[test]
fn allowlist_by_yaml_whitelist() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "yaml");
    place.file(
        "hosts.yaml",
        "version: 1\ndefaults:\n  block_rfc1918: true\n  allow_public: false\nwhitelist:\n\
         \x20 - host: allowed.example\n    ports: [80, 443]\n\
         \x20 - host: \"*.allowed.example\"\n    ports: [8080]\n\
         \x20 - host: v6only.example\n    ports: [7, 8000-8100]\n\
         \x20 - ip: 198.51.100.0/24\n    ports: [80]\n\
         \x20 - ip: \"2001:db8:1::/48\"\n    ports: [80]\n\
         \x20 - ip: 203.0.113.20\n    ports: [8080]\n",
    );
    let deny = &POLICY_FLAGS[POLICY_FLAGS.len() - 4..];
    check_policy(&place, &[&["-a", "hosts.yaml"], deny].concat(), "whitelist");
}

#[test]
fn allowlist_by_approved_policy_file() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "toml");
    let list = |effect: &str| {
        let rules: Vec<String> = POLICY_FLAGS
            .chunks(2)
            .filter(|pair| pair[0] == effect)
            .map(|pair| format!("{:?}", pair[1]))
            .collect();
        rules.join(", ")
    };
    place.file(
        "rcc.toml",
        format!(
            "version = 1\n[network]\nmode = \"allowlist\"\nallow = [{}]\ndeny = [{}]\n",
            list("--allow"),
            list("--deny")
        ),
    );
    place.rcc(["trust", "--yes"]).output().assert_success();
    check_policy(&place, &[], "rcc.toml");
}

#[test]
fn an_empty_list_allows_nothing() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "empty");
    place.file("empty.conf", "");
    place.file("comments.conf", "# nothing\n\n   # yet\n");
    place.file("empty.yaml", "version: 1\nwhitelist: []\n");
    place.file(
        "defaults.yaml",
        "version: 1\ndefaults:\n  allow_public: false\nwhitelist: []\n",
    );
    place.file("absent.yaml", "version: 1\n");
    let lines = [
        http("allowed.example", 80),
        http("203.0.113.10", 80),
        http("2001:db8::10", 80),
        words(&[
            "tcp-talk",
            "203.0.113.10",
            "443",
            r"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        ]),
        words(&["tcp-talk", "203.0.113.10", "7", "hello"]),
        words(&["dns", "203.0.113.53", "udp", "allowed.example", "A"]),
    ];
    for (line, control) in lines.iter().zip(from_host(&world, &lines)) {
        // The TLS server answers the broken greeting with an alert of its own.
        assert!(control.ok, "the control {line:?} must work: {control:?}");
    }
    let forms: &[&[&str]] = &[
        &["--network", "allowlist"],
        &["-a", "empty.conf"],
        &["-a", "comments.conf"],
        &["-a", "empty.yaml"],
        &["-a", "defaults.yaml"],
        &["-a", "absent.yaml"],
        // Only denials, only other hosts, only another port.
        &["--network", "allowlist", "--deny", "denied.example"],
        &["--allow", "denied.example"],
    ];
    let queries = world.dns_queries().len();
    for flags in forms {
        place.forget_events();
        world.forget();
        let (records, _) = place.probes(flags, &lines);
        assert_eq!(
            records[0].detail["step"], "resolve",
            "{flags:?}: {records:?}"
        );
        assert_http_refusal(&records[1], "no_rule", "literal");
        assert_http_refusal(&records[2], "no_rule", "IPv6 literal");
        // RFC 8446: alert, fatal, access_denied.
        assert_eq!(
            records[3].detail["hex"], "15030300020231",
            "{flags:?}: {:?}",
            records[3]
        );
        assert_eq!(
            records[4].detail["end"], "ECONNRESET",
            "{flags:?}: {:?}",
            records[4]
        );
        for record in &records[3..5] {
            assert_soon(milliseconds(record), &format!("{flags:?}: {record:?}"));
        }
        assert_eq!(records[5].detail["code"], 5, "{flags:?}: {:?}", records[5]);
        assert!(world.seen().is_empty(), "{flags:?}: {:?}", world.seen());
        assert!(
            place
                .briefs()
                .iter()
                .all(|line| line.contains(" deny no_rule")),
            "{flags:?}: {:#?}",
            place.briefs()
        );
    }
    assert_eq!(
        world.dns_queries().len(),
        queries,
        "a question left the host"
    );
    // Neither a list nor nothing: refused before anything runs.
    place.file("null.yaml", "version: 1\nwhitelist: null\n");
    let output = place.run(&["-a", "null.yaml"]).arg("true").output();
    assert_eq!(output.code(), Some(125), "{output}");
}

#[test]
fn what_was_refused_is_told_at_the_end_with_the_way_to_allow_it() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "told");
    let (_, output) = place.probes(
        &["--allow", "allowed.example"],
        &[
            http("203.0.113.20", 80),
            http("203.0.113.20", 80),
            http("denied.example", 80),
            http("allowed.example", 8080),
        ],
    );
    let stderr = output.stderr_text();
    for line in [
        "rcc: refused 203.0.113.20:80 (no rule of this sandbox allows this host), 2 times; to allow it, start rcc with: --allow 203.0.113.20:80",
        "to allow it, start rcc with: --allow denied.example",
        "rcc: refused allowed.example:8080 (the rules of this sandbox allow this host, but not on this port or protocol, by allowed.example (flag --allow)); to allow it, start rcc with: --allow allowed.example:8080",
    ] {
        assert!(stderr.contains(line), "no `{line}` in\n{stderr}");
    }
    // Quiet when all is well.
    let (_, output) = place.probes(
        &["--allow", "allowed.example"],
        &[http("allowed.example", 80)],
    );
    assert_eq!(output.stderr_text(), "");
    // The log is the owner's alone.
    assert_eq!(
        std::fs::metadata(&place.audit)
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
}
