//! What DNS says inside, and that nothing else leaves.

use std::io::Write as _;
use std::net::Ipv4Addr;

use rcc_spec::NetworkMode;
use rcc_testkit::dns::{DnsHeader, DnsQuestion, build, parse, type_name, type_number};

use crate::world::{Setup, query, read_framed, wire_name, write_framed};

const REFUSED: u8 = 5;
const NX_DOMAIN: u8 = 3;

#[test]
fn an_allowed_name_gets_synthetic_addresses_of_both_families() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    let four = world.ask("api.example.com", "A");
    let six = world.ask("api.example.com", "AAAA");
    assert_eq!(four.answers[0].data, "198.18.1.0");
    assert_eq!(six.answers[0].data, "fd72:6363:0:1::");
    assert_eq!((four.response_code(), four.answers[0].ttl), (0, 60));
    // Stable, whatever happens upstream meanwhile.
    assert_eq!(
        world.ask("API.example.com", "A").answers[0].data,
        "198.18.1.0"
    );
}

#[test]
fn the_question_keeps_its_case_and_the_upstream_sees_none_of_it() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    let answer = world.ask("aPi.ExAmPlE.cOm", "A");
    assert_eq!(answer.questions[0].name(), "aPi.ExAmPlE.cOm");
    assert_eq!(answer.answers[0].name, "aPi.ExAmPlE.cOm");
    assert_eq!(world.names.names_seen(), ["api.example.com"]);
}

#[test]
fn a_refusal_says_why_to_clients_that_speak_edns() {
    let world = Setup::allow(&["api.example.com"]).start();
    let answer = world.ask("evil.example.org", "A");
    assert_eq!(answer.response_code(), REFUSED);
    let (code, text) = answer.extended_error().unwrap();
    assert_eq!(code, 15);
    assert!(
        text.contains("evil.example.org") && text.contains("no_rule"),
        "{text}"
    );
    assert!(text.contains("--allow evil.example.org"), "{text}");
    let plain = parse(&world.exchange_udp(&query("evil.example.org", "A", None))).unwrap();
    assert_eq!(
        (plain.response_code(), plain.edns_options.len()),
        (REFUSED, 0)
    );
}

/// Every way of asking for a name that is not allowed, each with a label of its own that the upstream must never see.
#[test]
fn names_that_are_not_allowed_never_reach_the_upstream() {
    let world = Setup::allow(&["allowed.example.com", "*.wild.example.com"]).start();
    world.names.host("allowed.example.com", &["203.0.113.7"]);
    world
        .names
        .record("allowed.example.com", "TXT", 300, b"\x05hello");
    let mut unique = 0;
    let mut secret = || {
        unique += 1;
        format!("secret{unique}")
    };
    let denied = [
        "denied.example.com",
        "allowed.example.com.evil.example.org",
        "xallowed.example.com",
        "sub.allowed.example.com",
        "wild.example.com.evil.example.org",
    ];
    let kinds = [
        "A",
        "AAAA",
        "TXT",
        "MX",
        "SRV",
        "NULL",
        "ANY",
        "HTTPS",
        "SVCB",
        "CNAME",
        "NS",
        "SOA",
        "PTR",
        "CAA",
        "DS",
        "DNSKEY",
        "AXFR",
        "IXFR",
        "TYPE65280",
        "TYPE0",
    ];
    for zone in denied {
        for kind in kinds {
            for payload in [None, Some(0), Some(1232), Some(65_535)] {
                let message = query(&format!("{}.{zone}", secret()), kind, payload);
                let over_udp = parse(&world.exchange_udp(&message)).unwrap();
                assert_eq!(over_udp.response_code(), REFUSED, "{zone} {kind}");
                assert!(over_udp.answers.is_empty());
            }
            let message = query(&format!("{}.{zone}", secret()), kind, None);
            let over_tcp = parse(&world.exchange_tcp(&message)).unwrap();
            assert_eq!(over_tcp.response_code(), REFUSED, "{zone} {kind}");
        }
    }
    // Two questions, the first of them allowed; more and fewer than claimed.
    let allowed = DnsQuestion::new("allowed.example.com", 1);
    for questions in [
        vec![
            allowed.clone(),
            DnsQuestion::new(&format!("{}.example.org", secret()), 1),
        ],
        vec![
            DnsQuestion::new(&format!("{}.example.org", secret()), 1),
            allowed.clone(),
        ],
        vec![],
    ] {
        for claimed in [None, Some(0), Some(1), Some(2), Some(65_535)] {
            let header = DnsHeader {
                claimed_questions: claimed,
                ..DnsHeader::default()
            };
            if questions.len() == 1 && claimed == Some(1) {
                continue;
            }
            let answer = parse(&world.exchange_udp(&build(header, &questions))).unwrap();
            assert_eq!(answer.response_code(), 1, "{questions:?} {claimed:?}");
        }
    }
    // Bytes that other parsers read differently.
    for name in [
        r"allowed.example.com\000.evil.example.org",
        r"allowed\.example\.com.evil.example.org",
        r"evil\000.allowed.example.com",
        r"evil .wild.example.com",
        r"a\010b.wild.example.com",
        r"a%00.wild.example.com",
        r"user@.wild.example.com",
        r"\255\254.wild.example.com",
        r"-x.wild.example.com",
        "",
    ] {
        let answer = world.ask(name, "A");
        assert_eq!(answer.response_code(), REFUSED, "{name:?}");
    }
    // A class and opcodes of their own, and a response.
    let question = DnsQuestion {
        class: 3,
        ..DnsQuestion::new(&format!("{}.wild.example.com", secret()), 16)
    };
    assert_eq!(
        parse(&world.exchange_udp(&build(DnsHeader::default(), &[question])))
            .unwrap()
            .response_code(),
        REFUSED
    );
    for (flags, code) in [
        (0x8100, 1),
        (0x1000, 4),
        (0x2000, 4),
        (0x2800, 4),
        (0x7800, 4),
    ] {
        let header = DnsHeader {
            flags,
            ..DnsHeader::default()
        };
        let answer =
            parse(&world.exchange_udp(&build(header, std::slice::from_ref(&allowed)))).unwrap();
        assert_eq!(answer.response_code(), code, "{flags:#x}");
    }
    assert!(
        world.names.messages().is_empty(),
        "{:?}",
        world.names.names_seen()
    );
    // Positive control: the recorder works, for addresses and for records.
    assert_eq!(world.ask("allowed.example.com", "A").response_code(), 0);
    assert_eq!(
        world.ask("allowed.example.com", "TXT").answers[0].data,
        "0568656c6c6f"
    );
    assert_eq!(
        world.ask("a.b.wild.example.com", "A").response_code(),
        NX_DOMAIN
    );
    assert_eq!(
        world.names.names_seen(),
        ["a.b.wild.example.com", "allowed.example.com"]
    );
}

#[test]
fn nothing_of_the_clients_message_is_forwarded() {
    let world = Setup::allow(&["*.example.com"]).start();
    world.names.record("api.example.com", "TXT", 300, b"\x02ok");
    // Odd flags, and an OPT record with options and flags of the client's own.
    let mut message = query("ApI.eXample.com", "TXT", None);
    message[3] |= 0x70;
    message[11] = 1;
    message
        .extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x0a\xfd\xe9\x00\x06secret");
    let answer = parse(&world.exchange_udp(&message)).unwrap();
    assert_eq!(answer.answers.len(), 1);
    let messages = world.names.messages();
    assert_eq!(messages.len(), 1);
    let seen = &messages[0];
    assert!(!seen.windows(6).any(|window| window == b"secret"));
    assert_eq!(seen[2..4], [1, 0], "only the recursion bit");
    // Header, canonical name, type and class, our own OPT record.
    let expected = [
        wire_name("api.example.com").as_slice(),
        b"\0\x10\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0",
    ]
    .concat();
    assert_eq!(seen[12..], expected);
}

#[test]
fn absence_is_passed_on() {
    let world = Setup::allow(&["*.example.com"]).start();
    world
        .names
        .record("text.example.com", "TXT", 300, b"\x02ok");
    assert_eq!(
        world.ask("nothing.example.com", "A").response_code(),
        NX_DOMAIN
    );
    let no_data = world.ask("text.example.com", "A");
    assert_eq!((no_data.response_code(), no_data.answers.len()), (0, 0));
    let (summary, _) = world.finish();
    assert!(summary.refusals.is_empty());
}

#[test]
fn hints_and_unknown_types_of_allowed_names_are_withheld() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    for kind in ["HTTPS", "SVCB"] {
        let answer = world.ask("api.example.com", kind);
        assert_eq!((answer.response_code(), answer.answers.len()), (0, 0));
    }
    // Also for the form with port and scheme (RFC 9460 section 2.3).
    assert_eq!(
        world
            .ask("_8443._https.api.example.com", "HTTPS")
            .response_code(),
        0
    );
    for kind in ["NULL", "DNSKEY", "AXFR", "TYPE65280"] {
        let answer = world.ask("api.example.com", kind);
        assert_eq!(answer.response_code(), REFUSED, "{kind}");
        assert_eq!(answer.extended_error().unwrap().0, 21);
    }
    let any = world.ask("api.example.com", "ANY");
    assert_eq!(any.answers.len(), 1);
    assert_eq!(any.answers[0].record_type, 13);
    assert!(world.names.messages().is_empty());
}

#[test]
fn records_of_allowed_names_are_rebuilt() {
    let world = Setup::allow(&["api.example.com", "example.com"]).start();
    let mx = [b"\x00\x0a".as_slice(), &wire_name("mail.example.com")].concat();
    world.names.record("api.example.com", "MX", 9999, &mx);
    let srv = [
        b"\x00\x01\x00\x02\x13\xc4".as_slice(),
        &wire_name("sip.example.com"),
    ]
    .concat();
    world
        .names
        .record("_sip._tcp.example.com", "SRV", 300, &srv);
    let answer = world.ask("api.example.com", "MX");
    assert_eq!(answer.answers[0].data, hex(&mx));
    assert_eq!(answer.answers[0].ttl, 300);
    // The service of an allowed host is allowed, another name below it is not.
    assert_eq!(
        world.ask("_sip._tcp.example.com", "SRV").answers[0].data,
        hex(&srv)
    );
    assert_eq!(
        world.ask("sip._tcp.example.com", "SRV").response_code(),
        REFUSED
    );
    assert_eq!(
        world.ask("_a._b._c.example.com", "SRV").response_code(),
        REFUSED
    );
    assert_eq!(
        world.ask("_sip._tcp.example.com", "TXT").response_code(),
        REFUSED
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn this_machine_is_answered_locally() {
    let world = Setup::mode(NetworkMode::Internet).start();
    assert_eq!(world.ask("localhost", "A").answers[0].data, "127.0.0.1");
    assert_eq!(world.ask("a.b.localhost", "AAAA").answers[0].data, "::1");
    assert_eq!(world.ask("localhost", "TXT").answers.len(), 0);
    assert!(world.names.messages().is_empty());
}

#[test]
fn private_names_need_a_rule_even_in_internet_mode() {
    let world = Setup::mode(NetworkMode::Internet).start();
    for name in [
        "printer",
        "printer.local",
        "nas.lan",
        "db.internal",
        "x.home.arpa",
        "y.onion",
    ] {
        assert_eq!(world.ask(name, "A").response_code(), REFUSED, "{name}");
    }
    assert!(world.names.messages().is_empty());
    // Positive control: other names go out in this mode, and so does a private one that a rule names.
    assert_eq!(
        world.ask("nothing.example.org", "A").response_code(),
        NX_DOMAIN
    );
    assert_eq!(world.names.names_seen(), ["nothing.example.org"]);
    let world = Setup::allow(&["printer.local"]).start();
    assert_eq!(world.ask("printer.local", "A").response_code(), NX_DOMAIN);
    assert_eq!(world.names.names_seen(), ["printer.local"]);
}

#[test]
fn a_denied_name_is_denied_in_internet_mode() {
    let world = Setup::mode(NetworkMode::Internet)
        .deny(&["*.evil.example.org"])
        .start();
    let answer = world.ask("a.evil.example.org", "A");
    assert_eq!(answer.response_code(), REFUSED);
    let (_, text) = answer.extended_error().unwrap();
    assert!(text.contains("*.evil.example.org (flag --deny)"), "{text}");
    assert!(world.names.messages().is_empty());
}

#[test]
fn no_network_means_no_names() {
    let world = Setup::mode(NetworkMode::None).start();
    let answer = world.ask("api.example.com", "A");
    assert_eq!(answer.response_code(), REFUSED);
    assert!(answer.extended_error().unwrap().1.contains("mode_none"));
    assert!(world.names.messages().is_empty());
}

#[test]
fn reverse_names_of_synthetic_addresses_are_known() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    world.ask("api.example.com", "A");
    assert_eq!(
        world.ask("0.1.18.198.in-addr.arpa", "PTR").answers[0].data,
        "api.example.com"
    );
    let six = format!(
        "{}1.0.0.0.0.0.0.0.3.6.3.6.2.7.d.f.ip6.arpa",
        "0.".repeat(16)
    );
    assert_eq!(world.ask(&six, "PTR").answers[0].data, "api.example.com");
    assert_eq!(
        world.ask("1.1.18.198.in-addr.arpa", "PTR").response_code(),
        NX_DOMAIN
    );
    assert_eq!(
        world.ask("1.0.18.198.in-addr.arpa", "PTR").answers[0].data,
        "gateway.rcc.internal"
    );
    assert_eq!(
        world.ask("1.0.0.127.in-addr.arpa", "PTR").answers[0].data,
        "localhost"
    );
    for name in [
        "1.0.168.192.in-addr.arpa",
        "8.8.8.8.in-addr.arpa",
        "254.169.254.169.in-addr.arpa",
    ] {
        assert_eq!(world.ask(name, "PTR").response_code(), REFUSED, "{name}");
    }
    assert_eq!(world.names.names_seen(), ["api.example.com"]);
}

#[test]
fn reverse_names_of_allowed_addresses_are_looked_up() {
    let world = Setup::allow(&["203.0.113.0/24"]).start();
    let target = wire_name("host.example.net");
    world
        .names
        .record("7.113.0.203.in-addr.arpa", "PTR", 300, &target);
    assert_eq!(
        world.ask("7.113.0.203.in-addr.arpa", "PTR").answers[0].data,
        "host.example.net"
    );
    assert_eq!(
        world.ask("7.114.0.203.in-addr.arpa", "PTR").response_code(),
        REFUSED
    );
    assert_eq!(world.names.names_seen(), ["7.113.0.203.in-addr.arpa"]);
}

#[test]
fn large_answers_are_cut_over_udp_and_whole_over_tcp() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.truncate("api.example.com");
    for number in 0..10_u8 {
        let text = [vec![200], vec![b'a' + number; 200]].concat();
        world.names.record("api.example.com", "TXT", 300, &text);
    }
    let message = query("api.example.com", "TXT", None);
    let raw = world.exchange_udp(&message);
    let cut = parse(&raw).unwrap();
    assert!(cut.is_truncated() && cut.answers.is_empty() && raw.len() <= 512);
    let whole = parse(&world.exchange_tcp(&message)).unwrap();
    assert!(!whole.is_truncated());
    assert_eq!(whole.answers.len(), 10);
}

#[test]
fn one_tcp_connection_carries_many_queries_in_any_pieces() {
    let world = Setup::allow(&["*.example.com"]).start();
    world.names.host("a.example.com", &["203.0.113.7"]);
    world.names.host("b.example.com", &["203.0.113.8"]);
    let mut stream = world.connect("[2001:db8::53]:53");
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    for name in ["a.example.com", "evil.example.org", "b.example.com"] {
        let message = query(name, "A", None);
        bytes.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&message);
    }
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
    }
    let codes: Vec<u8> = (0..3)
        .map(|_| {
            parse(&read_framed(&mut stream).unwrap())
                .unwrap()
                .response_code()
        })
        .collect();
    assert_eq!(codes, [0, REFUSED, 0]);
    // A length without a message, and one that no query has: the connection ends.
    write_framed(&mut stream, &[]);
    assert_eq!(read_framed(&mut stream), None);
    let mut stream = world.connect("192.0.2.1:53");
    stream.write_all(&[0xff, 0xff]).unwrap();
    assert_eq!(read_framed(&mut stream), None);
}

#[test]
fn the_table_of_names_is_bounded_and_never_reuses_an_address() {
    let mut setup = Setup::mode(NetworkMode::Internet);
    setup.limits.names = 2;
    let world = setup.start();
    for name in ["a.example.com", "b.example.com", "c.example.com"] {
        world.names.host(name, &["203.0.113.7"]);
    }
    let first = world.ask("a.example.com", "A").answers[0].data.clone();
    assert_eq!(world.ask("b.example.com", "A").response_code(), 0);
    let full = world.ask("c.example.com", "A");
    assert_eq!(full.response_code(), 2);
    assert!(full.extended_error().unwrap().1.contains("limit_names"));
    assert_eq!(world.ask("a.example.com", "A").answers[0].data, first);
    assert_eq!(
        first.parse::<Ipv4Addr>().unwrap(),
        Ipv4Addr::new(198, 18, 1, 0)
    );
}

#[test]
fn every_query_is_in_the_log_with_its_rule() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    world.ask("API.example.com", "A");
    world.ask(r"ev\027[31mil.example.org", "TXT");
    let (summary, log) = world.finish();
    assert_eq!(summary.queries, 2);
    assert_eq!(log.len(), 2);
    let told =
        |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(told(&log[0], "name"), "api.example.com");
    assert_eq!(told(&log[0], "rule"), "api.example.com (flag --allow)");
    assert_eq!(
        (told(&log[0], "verdict"), told(&log[0], "rcode")),
        ("allow".into(), "NOERROR".into())
    );
    assert_eq!(told(&log[1], "name"), r"ev\027[31mil.example.org");
    assert_eq!(
        told(&log[1], "question"),
        type_name(type_number("TXT").unwrap())
    );
    assert_eq!(
        (told(&log[1], "verdict"), told(&log[1], "reason")),
        ("deny".into(), "bad_name".into())
    );
    assert_eq!(told(&log[1], "run"), "test-run");
    assert_eq!(summary.refusals[0].host, r"ev\027[31mil.example.org");
}
