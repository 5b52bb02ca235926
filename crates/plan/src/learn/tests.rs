//! Tests of the way from log lines to a list, hostile lines included.

use super::*;

fn lesson_of(lines: &[&str], wildcards: Wildcards) -> Lesson {
    let mut read = Lines::default();
    for line in lines {
        read.read(line, Some("r"));
    }
    read.finish(wildcards)
}

fn line(event: &str, rest: &str) -> String {
    format!(r#"{{"time":"2026-01-02T03:04:05.000Z","run":"r","event":"{event}",{rest}}}"#)
}

fn connect(name: &str, port: u16) -> String {
    line(
        "connect",
        &format!(
            r#""connection":1,"name":"{name}","address":"203.0.113.9","port":{port},"protocol":"tcp","verdict":"allow""#
        ),
    )
}

fn rules(lesson: &Lesson) -> Vec<String> {
    lesson
        .learned
        .iter()
        .map(|one| one.rule.to_string())
        .collect()
}

fn learn(lines: &[String]) -> Lesson {
    lesson_of(
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        Wildcards::Never,
    )
}

#[test]
fn a_rule_has_exactly_the_ports_and_protocols_that_were_used() {
    let lesson = learn(&[
        connect("b.example.com", 443),
        connect("a.example.com", 8443),
        connect("b.example.com", 80),
        line(
            "close",
            r#""connection":1,"name":"b.example.com","address":"203.0.113.9","port":443,"protocol":"tcp","verdict":"allow","bytes_sent":10,"bytes_received":20"#,
        ),
        line(
            "connect",
            r#""name":"b.example.com","address":"203.0.113.9","port":443,"protocol":"udp","verdict":"allow""#,
        ),
        line(
            "connect",
            r#""address":"2001:db8::7","port":22,"protocol":"tcp","verdict":"allow""#,
        ),
    ]);
    assert_eq!(
        rules(&lesson),
        [
            "a.example.com:8443",
            "b.example.com",
            "b.example.com:443/udp",
            "[2001:db8::7]:22"
        ]
    );
    let b = &lesson.learned[1].evidence;
    assert_eq!((b.connections, b.bytes_sent, b.bytes_received), (2, 10, 20));
    assert_eq!(b.first_seen, "2026-01-02T03:04:05.000Z");
    let text = lesson.render(Format::Toml, "");
    assert!(
        text.contains("WARNING: an address without a name"),
        "{text}"
    );
}

#[test]
fn only_a_missing_rule_makes_a_rule_of_a_refusal() {
    let refuse = |name: &str, reason: &str| {
        line(
            "refuse",
            &format!(
                r#""name":"{name}","address":"192.168.1.2","port":443,"protocol":"tcp","verdict":"deny","reason":"{reason}","repeated":4"#
            ),
        )
    };
    let lesson = learn(&[
        refuse("new.example.com", "no_rule"),
        refuse("port.example.com", "port_not_allowed"),
        refuse("denied.example.com", "deny_rule"),
        refuse("lan.example.com", "private_address"),
        refuse("other.example.com", "sni_mismatch"),
        line(
            "refuse",
            r#""address":"169.254.169.254","port":80,"protocol":"tcp","verdict":"deny","reason":"metadata_address""#,
        ),
    ]);
    assert_eq!(
        rules(&lesson),
        ["new.example.com:443", "port.example.com:443"]
    );
    assert_eq!(lesson.learned[0].evidence.refused, 4);
    let withheld: Vec<String> = lesson
        .withheld
        .iter()
        .map(|one| one.rule.to_string())
        .collect();
    // The name that leads to a private address is not opened by a rule for the name, so the address is shown.
    assert_eq!(
        withheld,
        [
            "denied.example.com:443",
            "other.example.com:443",
            "169.254.169.254:80",
            "192.168.1.2:443"
        ]
    );
    assert!(lesson.withheld[1].reason.ends_with(": sni_mismatch"));
    let forged = learn(&[refuse("x.example.com", "no\\n*.example.com")]);
    assert!(forged.withheld[0].reason.ends_with(": unknown"));
    for format in [Format::Toml, Format::Conf, Format::Yaml] {
        let text = lesson.render(format, "");
        assert!(text.contains("REFUSED 4 times"), "{text}");
        let active = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        for line in active {
            assert!(
                !line.contains("denied.") && !line.contains("169.254") && !line.contains("192.168"),
                "{text}"
            );
        }
    }
}

#[test]
fn hostile_lines_are_counted_and_never_reach_the_list() {
    let hostile = [
        "".to_owned(),
        "{".to_owned(),
        "null".to_owned(),
        connect("a b", 443),
        connect("evil\\u001b[2J.example.com", 443),
        connect("x\\\"\\n]\\nallow = [\\\"*\\\".example", 443),
        connect("\\u202e.example", 443),
        connect("0x7f.1", 443),
        connect("good.example.com", 0),
        line(
            "connect",
            r#""port":443,"protocol":"tcp","verdict":"allow""#,
        ),
        line(
            "connect",
            r#""name":"good.example.com","port":70000,"protocol":"tcp""#,
        ),
        line(
            "connect",
            r#""name":"good.example.com","port":443,"protocol":"sctp""#,
        ),
        format!(
            "{}{}",
            connect("good.example.com", 443),
            " ".repeat(LINE_LIMIT_BYTES)
        ),
    ];
    let lesson = learn(&hostile);
    assert_eq!(rules(&lesson), Vec::<String>::new());
    assert_eq!(
        lesson.gaps.unreadable,
        u64::try_from(hostile.len()).unwrap()
    );
    assert!(
        lesson
            .render(Format::Conf, "")
            .contains("13 lines could not be understood")
    );

    // A time that is none is left out, huge counts do not overflow, other runs do not count.
    let lesson = learn(&[
        r#"{"time":"\n*.example.com","run":"r","event":"connect","name":"good.example.com","port":443,"protocol":"tcp","verdict":"allow"}"#.to_owned(),
        line("close", r#""name":"good.example.com","port":443,"protocol":"tcp","bytes_sent":18446744073709551615"#),
        line("close", r#""name":"good.example.com","port":443,"protocol":"tcp","bytes_sent":18446744073709551615"#),
        connect("good.example.com", 443).replace("\"r\"", "\"other\"").replace("good", "foreign"),
    ]);
    assert_eq!(rules(&lesson), ["good.example.com:443"]);
    assert_eq!(lesson.learned[0].evidence.bytes_sent, u64::MAX);
}

#[test]
fn what_the_log_does_not_tell_is_said() {
    let mut lines = Lines::default();
    lines.read(r#"{"run":"r","event":"suppressed","lines":7}"#, Some("r"));
    lines.read(r#"{"run":"r","event":"lost","lines":2}"#, Some("r"));
    lines.was_cut();
    let lesson = lines.finish(Wildcards::Never);
    assert_eq!(
        (lesson.gaps.suppressed, lesson.gaps.lost, lesson.gaps.cut),
        (7, 2, true)
    );
    let text = lesson.render(Format::Yaml, "");
    for wanted in [
        "WARNING: the log is incomplete",
        "7 lines were counted",
        "2 lines could not be written",
        "longer than what is read",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(
        !Lesson::default()
            .render(Format::Conf, "")
            .contains("WARNING")
    );
}

#[test]
fn memory_is_bounded_by_destinations_and_names() {
    let mut lines = Lines::default();
    for number in 0..DESTINATIONS_LIMIT + 5 {
        lines.read(&connect(&format!("n{number}.example"), 443), None);
    }
    for number in 0..LOOKUPS_LIMIT + 5 {
        let name = format!(r#""name":"n{number}.example","protocol":"udp","verdict":"allow""#);
        lines.read(&line("dns", &name), None);
    }
    let lesson = lines.finish(Wildcards::Never);
    assert_eq!(lesson.learned.len(), DESTINATIONS_LIMIT);
    assert_eq!(lesson.gaps.beyond_limit, 10);
}

#[test]
fn names_that_were_only_looked_up_are_listed_apart() {
    let dns = |name: &str, verdict: &str| {
        line(
            "dns",
            &format!(
                r#""name":"{name}","question":"A","protocol":"udp","verdict":"{verdict}","repeated":3"#
            ),
        )
    };
    let lesson = learn(&[
        dns("a.example.com", "allow"),
        connect("a.example.com", 443),
        dns("only.example.com", "allow"),
        dns("no.example.com", "deny"),
        dns("\\\\000.example.com", "deny"),
    ]);
    let names: Vec<(&str, u64, bool)> = lesson
        .looked_up
        .iter()
        .map(|one| (one.name.as_str(), one.times, one.refused))
        .collect();
    assert_eq!(
        names,
        [("no.example.com", 3, true), ("only.example.com", 3, false)]
    );
    let text = lesson.render(Format::Conf, "");
    assert!(
        text.contains("#   no.example.com  (3 times, refused, so its ports are not known)"),
        "{text}"
    );
    assert_eq!(rules(&lesson), ["a.example.com:443"]);
}

#[test]
fn wildcards_need_three_equal_siblings_and_a_parent_of_three_labels() {
    let names = ["a", "b", "c"];
    let of = |parent: &str, ports: [u16; 3]| -> Vec<String> {
        names
            .iter()
            .zip(ports)
            .map(|(name, port)| connect(&format!("{name}.{parent}"), port))
            .collect()
    };
    let collapsed = |lines: &[String]| {
        rules(&lesson_of(
            &lines.iter().map(String::as_str).collect::<Vec<_>>(),
            Wildcards::FromThreeSiblings,
        ))
    };
    assert_eq!(
        collapsed(&of("cdn.example.com", [443; 3])),
        ["*.cdn.example.com:443"]
    );
    assert_eq!(
        rules(&learn(&of("cdn.example.com", [443; 3]))).len(),
        3,
        "not unless asked for"
    );
    // Below two labels everybody could have a name; other ports are other rules; two are not three.
    assert_eq!(collapsed(&of("co.example", [443; 3])).len(), 3);
    assert_eq!(collapsed(&of("cdn.example.com", [443, 443, 80])).len(), 3);
    assert_eq!(collapsed(&of("cdn.example.com", [443; 3])[..2]).len(), 2);
}

#[test]
fn every_format_is_read_back_as_the_same_rules() {
    use rcc_spec::{LayerKind, SourceName, parse_rule_file, parse_toml};
    let lesson = learn(&[
        connect("a.example.com", 443),
        connect("a.example.com", 80),
        connect("b.example.com", 2222),
        line(
            "connect",
            r#""address":"203.0.113.9","port":22,"protocol":"tcp","verdict":"allow""#,
        ),
    ]);
    let source = SourceName::file("x");
    let shown = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    let toml = lesson.render(Format::Toml, "from\nrun \"r\" \u{1b}[2J");
    assert_eq!(
        shown(
            &parse_toml(&toml, &source, LayerKind::Project)
                .unwrap()
                .allow
        ),
        rules(&lesson)
    );
    assert!(!toml.contains('\u{1b}'));
    let conf = lesson.render(Format::Conf, "from run");
    assert_eq!(
        shown(&parse_rule_file("x.conf", &conf, &source).unwrap().allow),
        rules(&lesson)
    );
    let yaml = lesson.render(Format::Yaml, "from run");
    assert_eq!(
        shown(&parse_rule_file("x.yaml", &yaml, &source).unwrap().allow),
        rules(&lesson)
    );
    // Nothing learned is a list that allows nothing, not a broken file.
    for (format, name) in [(Format::Conf, "x.conf"), (Format::Yaml, "x.yaml")] {
        let text = Lesson::default().render(format, "");
        assert!(
            parse_rule_file(name, &text, &source)
                .unwrap()
                .allow
                .is_empty(),
            "{text}"
        );
    }
}

#[test]
fn the_whitelist_says_what_it_cannot_express() {
    let lesson = learn(&[line(
        "connect",
        r#""name":"time.example.com","port":123,"protocol":"udp","verdict":"allow""#,
    )]);
    let text = lesson.render(Format::Yaml, "");
    assert!(
        text.contains("# this format cannot say it: time.example.com:123/udp"),
        "{text}"
    );
    assert!(
        rcc_spec::parse_whitelist(&text, &rcc_spec::SourceName::file("x.yaml"))
            .unwrap()
            .allow
            .is_empty()
    );
}

#[test]
fn a_port_of_the_host_and_a_published_port_become_no_rules() {
    let mut lines = Lines::default();
    for line in [
        r#"{"event":"connect","name":"host.rcc.internal","address":"127.0.0.1","port":5432,"protocol":"tcp","verdict":"allow"}"#,
        r#"{"event":"publish","address":"127.0.0.1","port":3000,"protocol":"tcp","verdict":"allow"}"#,
        r#"{"event":"publish_close","address":"127.0.0.1","port":3000,"protocol":"tcp","verdict":"allow"}"#,
    ] {
        lines.read(line, None);
    }
    let lesson = lines.finish(Wildcards::Never);
    assert_eq!(lesson.learned, []);
    assert_eq!(lesson.withheld.len(), 1);
    assert_eq!(lesson.withheld[0].reason, HOST_PORT_REASON);
    assert!(!lesson.gaps.any());
}
