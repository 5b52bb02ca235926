//! Tests of host names.

use proptest::prelude::*;

use super::*;

#[test]
fn one_form_for_each_name() {
    for (text, expected) in [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("a", "a"),
        ("localhost", "localhost"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (
            "r3---sn-apo3qvuoxuxbt-j5pe.example.com",
            "r3---sn-apo3qvuoxuxbt-j5pe.example.com",
        ),
        ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
        ("0x7f.example", "0x7f.example"),
        ("1e100.example", "1e100.example"),
    ] {
        assert_eq!(HostName::parse(text).unwrap().as_str(), expected);
    }
}

#[test]
fn every_fault() {
    for (text, expected) in [
        ("", "host name is empty"),
        (".", "host name is empty"),
        (
            ".example.com",
            "host name `.example.com` has an empty label",
        ),
        (
            "example..com",
            "host name `example..com` has an empty label",
        ),
        (
            "example.com..",
            "host name `example.com.` has an empty label",
        ),
        (
            "a b",
            "host name `a b` contains a space, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a\0b",
            "host name `a\\u{0}b` contains a NUL byte, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a\r\nb",
            "host name `a\\r\\nb` contains a line break, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a%00",
            "host name `a%00` contains `%`, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a@b",
            "host name `a@b` contains `@`, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a:1",
            "host name `a:1` contains `:`, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a/b",
            "host name `a/b` contains `/`, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "a\\b",
            "host name `a\\\\b` contains `\\\\`, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "*.a",
            "host name `*.a` contains `*`, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        ("-a.b", "label `-a` of a host name starts or ends with `-`"),
        ("a-.b", "label `a-` of a host name starts or ends with `-`"),
        (
            "203.0.113.1",
            "`203.0.113.1` ends in a number, so programs disagree whether it is a name or an address",
        ),
        (
            "1",
            "`1` ends in a number, so programs disagree whether it is a name or an address",
        ),
        (
            "127.1",
            "`127.1` ends in a number, so programs disagree whether it is a name or an address",
        ),
        (
            "0x7f000001",
            "`0x7f000001` ends in a number, so programs disagree whether it is a name or an address",
        ),
        (
            "a.0X7F",
            "`a.0X7F` ends in a number, so programs disagree whether it is a name or an address",
        ),
        (
            "a.0x",
            "`a.0x` ends in a number, so programs disagree whether it is a name or an address",
        ),
        (
            "bücher.example",
            "host name `b\\u{fc}cher.example` is not ASCII; write its ASCII form `xn--bcher-kva.example`",
        ),
        (
            "a\u{200b}b.example",
            "host name `a\\u{200b}b.example` is not ASCII; write its ASCII form",
        ),
        (
            "example。com",
            "host name `example\\u{3002}com` is not ASCII; write its ASCII form",
        ),
    ] {
        assert_eq!(
            HostName::parse(text).unwrap_err().to_string(),
            expected,
            "{text:?}"
        );
    }
}

#[test]
fn lengths() {
    let label = "a".repeat(63);
    assert!(HostName::parse(&label).is_ok());
    assert!(matches!(
        HostName::parse(&"a".repeat(64)),
        Err(HostError::LabelTooLong { length: 64, .. })
    ));
    let longest = [label.as_str(), &label, &label, &"b".repeat(61)].join(".");
    assert_eq!(longest.len(), NAME_MAX_BYTES);
    assert!(HostName::parse(&longest).is_ok());
    assert!(HostName::parse(&format!("{longest}.")).is_ok());
    assert_eq!(
        HostName::parse(&format!("{longest}b")),
        Err(HostError::TooLong { length: 254 })
    );
    assert_eq!(
        HostName::parse(&"a".repeat(1 << 20)),
        Err(HostError::TooLong { length: 1 << 20 })
    );
}

#[test]
fn below_goes_by_labels() {
    let name = |text| HostName::parse(text).unwrap();
    let parent = name("example.com");
    for below in ["a.example.com", "a.b.example.com"] {
        assert!(name(below).is_below(&parent), "{below}");
    }
    for not in [
        "example.com",
        "xexample.com",
        "x-example.com",
        "example.com.x",
        "com",
    ] {
        assert!(!name(not).is_below(&parent), "{not}");
    }
}

proptest! {
    #[test]
    fn parsing_is_stable(text in "[A-Za-z0-9._-]{1,40}") {
        if let Ok(name) = HostName::parse(&text) {
            prop_assert_eq!(&HostName::parse(name.as_str()), &Ok(name.clone()));
            prop_assert_eq!(&HostName::parse(&text.to_ascii_uppercase()), &Ok(name.clone()));
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
            // Nothing that is a name is an address to the standard library.
            prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
        }
    }

    #[test]
    fn never_panics(text in ".{0,80}") {
        let _ = HostName::parse(&text);
    }
}
