//! Tests of the YAML whitelist.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<RuleFile, PolicyError> {
    parse_whitelist(text, &SourceName::file("whitelist.yaml"))
}

fn shown(file: &RuleFile) -> Vec<String> {
    file.allow
        .iter()
        .map(|rule| format!("{rule} ({})", rule.origin))
        .collect()
}

/// The message with all its causes and the hint, as a person sees it.
fn fault(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    match error.hint() {
        Some(hint) => format!("{message} -- {hint}"),
        None => message,
    }
}

#[test]
fn reads_the_documented_form() {
    let text = "\
# comment
version: 1
defaults:
  block_rfc1918: true
  allow_public: false
whitelist:
  - host: example.com
    ports: [443, 8000-8100]
  - host: '*.example.org'
  - ports:
      - 22
      - \"2222\"
    ip: 203.0.113.0/24
  - {ip: \"2001:db8::1\", ports: [443]}
  - {host: example.net, raw: true}
  - {raw: false, host: example.net, ports: [8080]}
";
    let file = parse(text).unwrap();
    assert_eq!(
        shown(&file),
        [
            "example.com:443,8000-8100 (whitelist.yaml:7)",
            "*.example.org (whitelist.yaml:9)",
            "203.0.113.0/24:22,2222 (whitelist.yaml:10)",
            "[2001:db8::1]:443 (whitelist.yaml:14)",
            "example.net/raw (whitelist.yaml:15)",
            "example.net:8080 (whitelist.yaml:16)",
        ]
    );
    assert!(file.deny.is_empty());
    assert_eq!(file.mode.unwrap().value, NetworkMode::Allowlist);
}

#[test]
fn defaults_become_mode_and_rules() {
    let file =
        parse("version: 1\ndefaults:\n  allow_public: true\n  block_rfc1918: false\n").unwrap();
    let mode = file.mode.clone().unwrap();
    assert_eq!(
        (mode.value, mode.origin.to_string().as_str()),
        (NetworkMode::Internet, "whitelist.yaml:3")
    );
    assert_eq!(
        shown(&file),
        [
            "10.0.0.0/8:*/any (whitelist.yaml:4)",
            "172.16.0.0/12:*/any (whitelist.yaml:4)",
            "192.168.0.0/16:*/any (whitelist.yaml:4)",
        ]
    );
    let file = parse("version: 1").unwrap();
    assert_eq!(
        (file.mode.unwrap().value, file.allow.len()),
        (NetworkMode::Allowlist, 0)
    );
}

#[test]
fn an_empty_list_of_ports_opens_none() {
    let file = parse("version: 1\nwhitelist: [{host: example.com, ports: []}]").unwrap();
    assert!(file.allow[0].ports.is_empty());
    assert!(parse("version: 1\nwhitelist: []").unwrap().allow.is_empty());
}

#[test]
fn every_fault() {
    for (text, expected) in [
        (
            "",
            "whitelist.yaml: key `version` is missing -- write `version = 1` (in YAML `version: 1`) at the top",
        ),
        (
            "# only a comment\n",
            "whitelist.yaml: key `version` is missing -- write `version = 1` (in YAML `version: 1`) at the top",
        ),
        (
            "whitelist: []",
            "whitelist.yaml: key `version` is missing -- write `version = 1` (in YAML `version: 1`) at the top",
        ),
        (
            "version: 2",
            "whitelist.yaml:1:10: version 2 of the format is unknown -- this rcc reads version 1; a newer one may be needed",
        ),
        (
            "version: '1'",
            "whitelist.yaml:1:10: `version` is `1`, expected the number 1",
        ),
        (
            "version: one",
            "whitelist.yaml:1:10: `version` is `one`, expected the number 1",
        ),
        (
            "- version: 1",
            "whitelist.yaml:1:1: `whitelist file` is a list, expected a mapping",
        ),
        (
            "version: 1\nversion: 1",
            "whitelist.yaml:2:1: key `version` is there twice",
        ),
        (
            "version: 1\nwhitlist: []",
            "whitelist.yaml:2:1: unknown key `whitlist` -- did you mean `whitelist`?",
        ),
        (
            "version: 1\nrules: []",
            "whitelist.yaml:2:1: unknown key `rules` -- possible here: `version`, `defaults`, `whitelist`",
        ),
        (
            "version: 1\nwhitelist:",
            "whitelist.yaml:2:10: `whitelist` is nothing, expected a list -- to keep the default, leave the key out",
        ),
        (
            "version: 1\nwhitelist: null",
            "whitelist.yaml:2:12: `whitelist` is nothing, expected a list -- to keep the default, leave the key out",
        ),
        (
            "version: 1\nwhitelist: example.com",
            "whitelist.yaml:2:12: `whitelist` is `example.com`, expected a list",
        ),
        (
            "version: 1\nwhitelist: [example.com]",
            "whitelist.yaml:2:13: `whitelist` is `example.com`, expected a list of mappings with `host` or `ip`",
        ),
        (
            "version: 1\ndefaults:\n  allow_public: yes",
            "whitelist.yaml:3:17: `defaults.allow_public` is `yes`, expected true or false",
        ),
        (
            "version: 1\ndefaults:\n  allow_public: 'true'",
            "whitelist.yaml:3:17: `defaults.allow_public` is `true`, expected true or false",
        ),
        (
            "version: 1\ndefaults:\n  block-rfc1918: true",
            "whitelist.yaml:3:3: unknown key `block-rfc1918` in [defaults] -- did you mean `block_rfc1918`?",
        ),
        (
            "version: 1\nwhitelist:\n- hots: example.com",
            "whitelist.yaml:3:3: unknown key `hots` in [whitelist] -- did you mean `host`?",
        ),
        (
            "version: 1\nwhitelist:\n- ports: [1]",
            "whitelist.yaml:3:3: key `host` is missing in [whitelist]",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com\n  ip: 203.0.113.1",
            "whitelist.yaml:4:3: `host` and `ip` exclude each other",
        ),
        (
            "version: 1\nwhitelist:\n- host: 203.0.113.1",
            "whitelist.yaml:3:9: `whitelist.host` is `203.0.113.1`, expected a host name",
        ),
        (
            "version: 1\nwhitelist:\n- ip: example.com",
            "whitelist.yaml:3:7: `whitelist.ip` is `example.com`, expected an address or network",
        ),
        (
            "version: 1\nwhitelist:\n- host: exa mple.com",
            "whitelist.yaml:3:9: `whitelist.host` has a bad rule: `exa mple.com` names no host: host name `exa mple.com` contains a space, only letters, digits, `-`, `_` and `.` are allowed",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com:443",
            "whitelist.yaml:3:9: `whitelist.host` has a bad rule: `example.com:443` is no address or network; write IPv6 with ports as `[2001:db8::1]:443`",
        ),
        (
            "version: 1\nwhitelist:\n- host:",
            "whitelist.yaml:3:7: `whitelist.host` is nothing, expected a host name -- to keep the default, leave the key out",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com\n  raw: yes",
            "whitelist.yaml:4:8: `whitelist.raw` is `yes`, expected true or false",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com/raw",
            "whitelist.yaml:3:9: `whitelist.host` has a bad rule: `example.com/raw` is no network; networks look like `203.0.113.0/24`",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com\n  ports: 443",
            "whitelist.yaml:4:10: `whitelist.ports` is `443`, expected a list of ports",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com\n  ports: [https]",
            "whitelist.yaml:4:11: `whitelist.ports` has a bad rule: rule `ports: https` has wrong ports: `https` is no port, ports are 1 to 65535",
        ),
        (
            "version: 1\nwhitelist:\n- host: example.com\n  ports: [0]",
            "whitelist.yaml:4:11: `whitelist.ports` has a bad rule: rule `ports: 0` has wrong ports: `0` is no port, ports are 1 to 65535",
        ),
        (
            "version: 1\nwhitelist: &a []",
            "whitelist.yaml:2:12: anchors are not read in a whitelist",
        ),
        (
            "version: 1\nwhitelist: !!seq []",
            "whitelist.yaml:2:12: tags are not read in a whitelist",
        ),
        (
            "version: 1\nwhitelist:\n- host: &x example.com\n- host: *x",
            "whitelist.yaml:3:9: anchors are not read in a whitelist",
        ),
        (
            "version: 1\n---\nversion: 1",
            "whitelist.yaml:2:1: a second document is not read in a whitelist",
        ),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
    // The words of the parser are its own; the place is ours to promise.
    for (text, place) in [
        ("version: 1\nwhitelist: [", "whitelist.yaml:3"),
        ("version: 1\n\twhitelist: []", "whitelist.yaml:1"),
        ("version: 1\nwhitelist: []]", "whitelist.yaml:2"),
    ] {
        let message = fault(text);
        assert!(
            message.starts_with(place) && message.contains("YAML is broken"),
            "{message}"
        );
    }
}

#[test]
fn bombs_are_refused_before_they_expand() {
    let mut bomb = "version: 1\nwhitelist: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 0..20 {
        bomb.push_str(&format!("k{level}: &b{level} [*a,*a,*a,*a,*a,*a,*a,*a]\n"));
    }
    assert!(fault(&bomb).contains("anchors are not read"));
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
    ] {
        assert!(parse(&format!("version: 1\nwhitelist: {deep}")).is_err());
        assert!(parse(&deep).is_err());
    }
    let large = " ".repeat(FILE_MAX_BYTES + 1);
    assert_eq!(
        fault(&large),
        "whitelist.yaml: file has 16777217 bytes, at most 16777216 are read"
    );
}

#[test]
fn a_name_that_yaml_could_take_for_something_else_stays_a_name() {
    // `no` is a boolean to older readers, `1e3.example` a number, and `NO` a country.
    let file =
        parse("version: 1\nwhitelist: [{host: no}, {host: on.example}, {host: 1e3.example}]")
            .unwrap();
    let names: Vec<String> = file.allow.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["no", "on.example", "1e3.example"]);
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn never_panics_on_what_looks_right(parts in prop::collection::vec(
        prop::sample::select(vec!["version: 1\n", "whitelist:\n", "- ", "  ", "host: ", "ip: ", "ports: ", "example.com\n",
            "[443", "]", "{", "}", "\n", ": ", "*x ", "&x ", "!!str ", "'", "\"", "#", "---\n", "...\n", "|", ">", "\t", "?"]),
        0..25,
    )) {
        let _ = parse(&parts.concat());
    }
}
