//! Forms of a name, each decided in rules, in DNS, in the SNI and in the Host field.
//!
//! A rule allows `allowed.example` and what is below it. What is written otherwise but means the same must pass; what only looks
//! like it must not, whoever might read it differently.

use crate::case::{Case, Group, escaped, probe, talk};
use crate::hello;

/// A form and what becomes of it in DNS, SNI and Host: `None` where it must pass.
struct Form {
    name: &'static str,
    /// As bytes of SNI and Host.
    bytes: &'static [u8],
    /// As rcc-probe reads it in a DNS question; without one the form cannot be asked.
    dns: Option<&'static str>,
    /// What must not leave in DNS.
    label: &'static str,
    in_dns: &'static str,
    in_sni: &'static str,
    in_host: &'static str,
}

/// Passes.
const OK: &str = "";
/// Reasons of refusals.
const NO_RULE: &str = "no_rule";
const BAD: &str = "bad_name";
const SNI: &str = "tls_name_mismatch";
const HOST: &str = "http_host_mismatch";
const MALFORMED: &str = "http_malformed";

const fn form(
    name: &'static str,
    bytes: &'static [u8],
    dns: Option<(&'static str, &'static str, &'static str)>,
    in_sni: &'static str,
    in_host: &'static str,
) -> Form {
    let (dns, label, in_dns) = match dns {
        Some((text, label, reason)) => (Some(text), label, reason),
        None => (None, "", ""),
    };
    Form {
        name,
        bytes,
        dns,
        label,
        in_dns,
        in_sni,
        in_host,
    }
}

const FORMS: &[Form] = &[
    form(
        "plain",
        b"allowed.example",
        Some(("allowed.example", "", OK)),
        OK,
        OK,
    ),
    form(
        "upper case",
        b"ALLOWED.EXAMPLE",
        Some(("ALLOWED.EXAMPLE", "", OK)),
        OK,
        OK,
    ),
    form(
        "mixed case",
        b"aLLoWeD.eXaMpLe",
        Some(("aLLoWeD.eXaMpLe", "", OK)),
        OK,
        OK,
    ),
    form(
        "trailing dot",
        b"allowed.example.",
        Some(("allowed.example.", "", OK)),
        OK,
        OK,
    ),
    form(
        "29: zero byte",
        b"allowed.example\0.evil.test",
        Some((r"allowed.example\000.evil.test", "evil", BAD)),
        SNI,
        MALFORMED,
    ),
    form(
        "29: zero byte behind evil",
        b"evil.test\0.allowed.example",
        Some((r"evil.test\000.allowed.example", "evil", BAD)),
        SNI,
        MALFORMED,
    ),
    form(
        "31: allowed in front",
        b"allowed.example.evil.test",
        Some(("allowed.example.evil.test", "evil", NO_RULE)),
        SNI,
        HOST,
    ),
    form(
        "31: allowed at the end of a label",
        b"evil.testallowed.example",
        Some(("evil.testallowed.example", "testallowed", NO_RULE)),
        SNI,
        HOST,
    ),
    form(
        "31: allowed at the end of a name",
        b"evil-allowed.example",
        Some(("evil-allowed.example", "evil-allowed", NO_RULE)),
        SNI,
        HOST,
    ),
    form(
        "31: userinfo",
        b"allowed.example@evil.test",
        Some(("allowed.example@evil.test", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "userinfo the other way",
        b"evil.test@allowed.example",
        Some(("evil.test@allowed.example", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "fragment",
        b"evil.test#allowed.example",
        Some(("evil.test#allowed.example", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "path",
        b"evil.test/allowed.example",
        Some(("evil.test/allowed.example", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "backslash",
        b"evil.test\\allowed.example",
        Some((r"evil.test\\allowed.example", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "29: percent zero",
        b"allowed.example%00.evil.test",
        Some(("allowed.example%00.evil.test", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "percent dot",
        b"evil%2eallowed.example",
        Some(("evil%2eallowed.example", "evil", BAD)),
        SNI,
        HOST,
    ),
    form("empty label", b"evil..allowed.example", None, SNI, HOST),
    form("leading dot", b".allowed.example", None, SNI, HOST),
    form("two trailing dots", b"allowed.example..", None, SNI, HOST),
    form(
        "a dot inside of a label",
        b"evil.test",
        Some((r"evil\.allowed.example", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "29: space",
        b"allowed.example evil.test",
        Some(("allowed.example evil.test", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "tab",
        b"allowed.example\tevil.test",
        Some((r"allowed.example\009evil.test", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "29: line end",
        b"allowed.example\r\nevil.test",
        Some((r"allowed.example\013\010evil.test", "evil", BAD)),
        SNI,
        MALFORMED,
    ),
    form(
        "two names",
        b"allowed.example,evil.test",
        Some(("allowed.example,evil.test", "evil", BAD)),
        SNI,
        HOST,
    ),
    form(
        "29: homograph in punycode",
        b"xn--llowed-6fg.example",
        Some(("xn--llowed-6fg.example", "xn--llowed", NO_RULE)),
        SNI,
        HOST,
    ),
    form(
        "homograph in UTF-8",
        b"\xd0\xb0llowed.example",
        Some((r"\208\176llowed.example", "llowed", BAD)),
        SNI,
        HOST,
    ),
    form(
        "fullwidth dot",
        b"allowed\xef\xbc\x8eexample",
        Some((r"allowed\239\188\142example", "allowed", BAD)),
        SNI,
        HOST,
    ),
    form(
        "numeric last label",
        b"allowed.example.1",
        Some(("allowed.example.1", "allowed", BAD)),
        SNI,
        HOST,
    ),
    form(
        "an address",
        b"203.0.113.10",
        Some(("203.0.113.10", "203", BAD)),
        SNI,
        HOST,
    ),
    form(
        "a literal wildcard",
        b"*.example",
        Some(("*.example", "*", BAD)),
        SNI,
        HOST,
    ),
    form(
        "another name below the same parent",
        b"neighbour.example",
        Some(("neighbour.example", "neighbour", NO_RULE)),
        SNI,
        HOST,
    ),
    form(
        "the parent",
        b"example",
        Some(("example", "", NO_RULE)),
        SNI,
        HOST,
    ),
    form(
        "a deny below an allowance",
        b"www.allowed.example",
        Some(("www.allowed.example", "www", "deny_rule")),
        SNI,
        HOST,
    ),
];

fn dns(form: &Form, name: &str, shows: &str) -> Option<Case> {
    let question = form.dns?;
    let script = probe(&["dns", "203.0.113.53", "udp", question, "A", "edns=1232"]);
    let name = format!("{name} in DNS");
    Some(match form.in_dns {
        OK => Case::allowed("name", name, script, &["\"code\":0", shows]),
        reason => {
            // RFC 8914: 15 is "blocked", 0 "other".
            let extended = if reason == BAD {
                "\"extended_error\":[0"
            } else {
                "\"extended_error\":[15"
            };
            let rule = if reason == "deny_rule" {
                "www.allowed.example"
            } else {
                ""
            };
            let case = Case::refused(
                "name",
                name,
                script,
                &["\"code\":5", extended],
                (reason, rule),
            );
            if form.label.is_empty() {
                case
            } else {
                case.unseen(form.label)
            }
        }
    })
}

/// Each form as a rule: its name, its bytes, and whether the rule allows `allowed.example`.
pub(crate) fn in_rules() -> impl Iterator<Item = (&'static str, &'static [u8], bool)> {
    // In a rule a star is a wildcard.
    FORMS.iter().map(move |form| {
        (
            form.name,
            form.bytes,
            form.in_sni == OK || form.name == "a literal wildcard",
        )
    })
}

fn three_places() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in FORMS {
        let name = form.name;
        cases.extend(dns(form, name, "198.18."));
        let script = talk(
            "allowed.example",
            443,
            &escaped(&hello::for_name(form.bytes)),
        );
        let title = format!("{name} in the SNI");
        cases.push(match form.in_sni {
            OK => Case::allowed("name", title, script, &["\"hex\":\"160303"]),
            reason => Case::refused(
                "name",
                title,
                script,
                &["\"hex\":\"15030300020231\"", "end of stream"],
                (reason, "allowed.example"),
            )
            .touches(&["203.0.113.10:443", "[2001:db8::10]:443"]),
        });
        let request = [
            b"GET / HTTP/1.1\r\nHost: ",
            form.bytes,
            b"\r\nConnection: close\r\n\r\n",
        ]
        .concat();
        let script = talk("allowed.example", 80, &escaped(&request));
        let title = format!("{name} in the Host");
        cases.push(match form.in_host {
            OK => Case::allowed("name", title, script, &["200 OK", "served_by"]),
            reason => Case::refused(
                "name",
                title,
                script,
                &["403 Forbidden", &format!("X-Rcc-Reason: {reason}")],
                (reason, "allowed.example"),
            )
            .touches(&["203.0.113.10:80", "[2001:db8::10]:80"]),
        });
    }
    cases
}

/// Names as long as DNS can carry them, below the allowed one and elsewhere.
fn lengths() -> Vec<Case> {
    let below = |length: usize, parent: &str| {
        // Labels of 63 bytes, the first one shorter, so that the text has exactly this length.
        let mut name = parent.to_owned();
        while name.len() < length {
            let room = (length - name.len() - 1).min(63);
            let room = if length - name.len() - 1 - room == 1 {
                room - 1
            } else {
                room
            };
            name = format!("{}.{name}", "e".repeat(room));
        }
        name
    };
    let ask = |name: &str| probe(&["dns", "203.0.113.53", "udp", name, "A", "edns=1232"]);
    let refused = ["\"code\":5", "\"extended_error\":[15"];
    let label = "e".repeat(63);
    let mut cases = vec![
        // The name does not exist (code 3), which the host's resolver alone can tell.
        Case::allowed(
            "name",
            "label of 63 bytes below an allowed name",
            ask(&format!("{label}.allowed.example")),
            &["\"code\":3"],
        ),
        Case::allowed(
            "name",
            "253 bytes below an allowed name",
            ask(&below(253, "allowed.example")),
            &["\"code\":3"],
        ),
        Case::refused(
            "name",
            "label of 63 bytes elsewhere",
            ask(&format!("{label}.evil.test")),
            &refused,
            ("no_rule", ""),
        )
        .unseen("evil"),
        Case::refused(
            "name",
            "253 bytes elsewhere",
            ask(&below(253, "evil.test")),
            &refused,
            ("no_rule", ""),
        )
        .unseen("eeeeeeee"),
    ];
    for length in [254, 255, 300] {
        let name = below(length, "allowed.example");
        cases.push(
            Case::refused(
                "name",
                format!("a Host of {length} bytes below an allowed name"),
                talk(
                    "allowed.example",
                    80,
                    &format!("GET / HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n"),
                ),
                &["403 Forbidden"],
                (HOST, "allowed.example"),
            )
            .touches(&["203.0.113.10:80", "[2001:db8::10]:80"]),
        );
    }
    cases
}

pub(crate) fn groups() -> Vec<Group> {
    let cases = three_places().into_iter().chain(lengths()).collect();
    let flags = vec![
        "--network",
        "allowlist",
        "--allow",
        "allowed.example",
        "--allow",
        "*.allowed.example",
        "--deny",
        "www.allowed.example",
    ];
    vec![Group {
        name: "names",
        flags,
        cases,
    }]
}
