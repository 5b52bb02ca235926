//! Tests of rule files.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<RuleFile, PolicyError> {
    parse_conf(text, &SourceName::file("hosts.conf"))
}

fn shown(rules: &[Rule]) -> Vec<String> {
    rules
        .iter()
        .map(|rule| format!("{rule} ({})", rule.origin))
        .collect()
}

#[test]
fn reads_the_documented_forms() {
    let text = "# comment\r\n\r\n  example.com  # web\r\n*.example.org:443\n!bad.example.org\n! 203.0.113.1\ndeny\t203.0.113.0/24\nallow [2001:db8::1]:22\nexample.net:53/udp\nexample.net:22/raw";
    let file = parse(text).unwrap();
    assert_eq!(
        shown(&file.allow),
        [
            "example.com (hosts.conf:3)",
            "*.example.org:443 (hosts.conf:4)",
            "[2001:db8::1]:22 (hosts.conf:8)",
            "example.net:53/udp (hosts.conf:9)",
            "example.net:22/raw (hosts.conf:10)"
        ]
    );
    assert_eq!(
        shown(&file.deny),
        [
            "bad.example.org (hosts.conf:5)",
            "203.0.113.1 (hosts.conf:6)",
            "203.0.113.0/24 (hosts.conf:7)"
        ]
    );
}

#[test]
fn names_the_bad_line() {
    let error = parse("example.com\n\nexa mple.com\n").unwrap_err();
    assert_eq!(error.at.line, 3);
    assert_eq!(error.to_string(), "hosts.conf:3: bad rule");
    for bad in [
        "!",
        "deny",
        "deny ",
        "!!example.com",
        "deny deny example.com",
        "!example.com/raw",
        "deny example.com:443/udp/raw",
        "example.com,example.org",
        "\u{a0}example.com",
        "example.com\0",
        "https://example.com/",
    ] {
        // `deny` alone is a host name like any other.
        assert_eq!(parse(bad).is_ok(), bad.trim() == "deny", "{bad:?}");
    }
}

#[test]
fn an_empty_file_is_an_empty_list() {
    assert_eq!(parse("").unwrap(), RuleFile::default());
    assert_eq!(
        parse("\u{feff}# only a comment").unwrap(),
        RuleFile::default()
    );
}

#[test]
fn a_byte_order_mark_hides_no_rule() {
    assert_eq!(
        shown(&parse("\u{feff}!example.com").unwrap().deny),
        ["example.com (hosts.conf:1)"]
    );
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }
}
