//! Tests of reading policy files; faults have their own files in `tests/invalid`.

use proptest::prelude::*;

use super::*;
use crate::path::PathBase;

const FULL: &str = r#"
version = 1

[network]
mode = "allowlist"
allow = [
    "example.com",
    "*.example.org:443",
]
deny = ["bad.example.org"]
allow_files = ["allowed-hosts.conf", "~/hosts.yaml", "/etc/rcc/hosts.conf"]

[files]
readonly = ["~/git", "/opt/data"]
rw = ["~/scratch"]
hidden = [".env", "**/*.key"]
share_state = true

[env]
pass = ["EDITOR", "EXAMPLE_*"]

[env.set]
LANG = "C.UTF-8"
TEXT = "two\nlines\tand a tab"

[limits]
tmp_size = "512MiB"

[hardening]
seccomp = { profile = "profile.json" }
dangerously_without_landlock = false
dangerously_without_protected_paths = true

[agent]
preset = "claude"
args = ["--verbose", "two words"]
preset_hosts = false
"#;

fn parse(text: &str) -> Result<PolicyLayer, PolicyError> {
    parse_toml(text, &SourceName::file("rcc.toml"), LayerKind::Project)
}

fn places<T>(values: &[Sourced<T>]) -> Vec<String> {
    values
        .iter()
        .map(|value| value.origin.to_string())
        .collect()
}

#[test]
fn every_key_is_read_with_its_place() {
    let layer = parse(FULL).unwrap();
    let mode = layer.mode.unwrap();
    assert_eq!(
        (mode.value, mode.origin.to_string().as_str()),
        (NetworkMode::Allowlist, "rcc.toml:5")
    );
    let rules: Vec<String> = layer
        .allow
        .iter()
        .map(|rule| format!("{rule} ({})", rule.origin))
        .collect();
    assert_eq!(
        rules,
        ["example.com (rcc.toml:7)", "*.example.org:443 (rcc.toml:8)"]
    );
    let rules: Vec<String> = layer
        .deny
        .iter()
        .map(|rule| format!("{rule} ({})", rule.origin))
        .collect();
    assert_eq!(rules, ["bad.example.org (rcc.toml:10)"]);
    assert!(layer.deny[0].ports.is_all());
    assert_eq!(layer.allow_stated.unwrap().to_string(), "rcc.toml:6");
    let bases: Vec<_> = layer
        .allow_files
        .iter()
        .map(|file| file.value.base())
        .collect();
    assert_eq!(bases, [PathBase::Project, PathBase::Home, PathBase::Root]);
    assert_eq!(places(&layer.readonly), ["rcc.toml:14", "rcc.toml:14"]);
    assert_eq!(layer.rw[0].value.as_str(), "~/scratch");
    assert!(layer.hidden[1].value.has_wildcard());
    assert!(layer.share_state.unwrap().value);
    assert_eq!(layer.env_pass[1].value.as_str(), "EXAMPLE_*");
    assert_eq!(layer.env_set[1].value.value, "two\nlines\tand a tab");
    assert_eq!(places(&layer.env_set), ["rcc.toml:23", "rcc.toml:24"]);
    assert_eq!(layer.limits.value(LimitKey::TmpSize), Some(512 << 20));
    let seccomp = layer.seccomp.unwrap();
    assert!(
        matches!(seccomp.value, SeccompChoice::Profile(ref path) if path.as_str() == "profile.json")
    );
    assert!(!layer.dangerously_without_landlock.unwrap().value);
    assert!(layer.dangerously_without_protected_paths.unwrap().value);
    assert_eq!(layer.preset.unwrap().value, "claude");
    let args: Vec<String> = layer
        .args
        .unwrap()
        .into_iter()
        .map(|arg| arg.value)
        .collect();
    assert_eq!(args, ["--verbose", "two words"]);
    assert!(!layer.preset_hosts.unwrap().value);
}

#[test]
fn forms_of_limits() {
    let text = "version = 1\n[limits]\nmemory = \"8GiB\"\ncpus = 1.5\npids = 512\ntimeout = 90\nidle_timeout = \"30min\"\nswap = \"none\"\n";
    let limits = parse(text).unwrap().limits;
    for (key, value) in [
        (LimitKey::Memory, Some(8 << 30)),
        (LimitKey::Cpus, Some(1500)),
        (LimitKey::Pids, Some(512)),
        (LimitKey::Timeout, Some(90_000)),
        (LimitKey::IdleTimeout, Some(1_800_000)),
        (LimitKey::Swap, None),
        (LimitKey::IoWrite, None),
    ] {
        assert_eq!(limits.value(key), value, "{key}");
    }
    assert_eq!(
        limits.stated(LimitKey::Cpus).unwrap().origin.to_string(),
        "rcc.toml:4"
    );
}

#[test]
fn the_parser_knows_every_limit() {
    let keys: Vec<&str> = LimitKey::ALL.iter().map(|key| key.as_str()).collect();
    assert_eq!(LIMITS, keys);
}

#[test]
fn what_is_not_said_stays_unsaid() {
    for text in [
        "version = 1",
        "version = 1\n[network]\n[files]\n[env]\n[limits]\n[hardening]\n[agent]",
    ] {
        assert_eq!(parse(text).unwrap(), PolicyLayer::default());
    }
}

#[test]
fn an_empty_list_is_said() {
    assert!(
        parse("version = 1\n[network]\nallow = []")
            .unwrap()
            .allow_stated
            .is_some()
    );
    assert!(
        parse("version = 1\n[network]\nallow_files = []")
            .unwrap()
            .allow_stated
            .is_some()
    );
    assert!(
        parse("version = 1\n[network]\ndeny = []")
            .unwrap()
            .allow_stated
            .is_none()
    );
    assert_eq!(
        parse("version = 1\n[agent]\nargs = []").unwrap().args,
        Some(Vec::new())
    );
}

#[test]
fn forms_of_size_and_seccomp() {
    let size = |text: &str| {
        parse(&format!("version = 1\n[limits]\ntmp_size = {text}"))
            .unwrap()
            .limits
            .value(LimitKey::TmpSize)
            .unwrap()
    };
    assert_eq!(size("4096"), 4096);
    assert_eq!(size("1_000_000"), 1_000_000);
    assert_eq!(size("0x1000"), 4096);
    assert_eq!(size("\"1 GiB\""), 1 << 30);
    let seccomp = |text: &str| {
        parse(&format!("version = 1\n[hardening]\nseccomp = {text}"))
            .unwrap()
            .seccomp
            .unwrap()
            .value
    };
    assert_eq!(seccomp("\"default\""), SeccompChoice::Default);
    assert_eq!(seccomp("\"strict\""), SeccompChoice::Strict);
}

#[test]
fn only_the_administrator_has_a_ceiling() {
    let text = "version = 1\n[ceiling]\nmode = \"allowlist\"";
    let source = SourceName::file("/etc/rcc/config.toml");
    let layer = parse_toml(text, &source, LayerKind::Admin).unwrap();
    let ceiling = layer.ceiling_mode.unwrap();
    assert_eq!(ceiling.value, NetworkMode::Allowlist);
    assert_eq!(ceiling.origin.to_string(), "/etc/rcc/config.toml:3");
    for kind in [LayerKind::User, LayerKind::Project] {
        assert!(parse_toml(text, &source, kind).is_err());
    }
}

#[test]
fn line_ends_and_marks_do_not_move_places() {
    let text = format!("\u{feff}{}", FULL.trim_start().replace('\n', "\r\n"));
    let layer = parse(&text).unwrap();
    assert_eq!(layer.mode.unwrap().origin.to_string(), "rcc.toml:4");
    let error = parse("version = 1\r\n[network]\r\n# ü\r\nmode = \"ü\" # x\r\n").unwrap_err();
    assert_eq!((error.at.line, error.at.column), (4, 8));
}

#[test]
fn the_page_about_policies_is_right() {
    let page = include_str!("../../../../docs/policy.md");
    let example = page
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    parse(example).unwrap();
    for (table, keys) in HOMES.iter().copied().chain([("ceiling", CEILING)]) {
        for key in keys {
            assert!(
                page.contains(&format!("`{table}.{key}`")),
                "{table}.{key} is not documented"
            );
        }
    }
}

#[test]
fn large_and_deep_files_are_refused() {
    let large = format!("version = 1 #{}", "x".repeat(1 << 20));
    assert!(
        parse(&large)
            .unwrap_err()
            .to_string()
            .contains("at most 1048576 are read")
    );
    for deep in [
        format!("version = 1\na = {}", "[".repeat(100_000)),
        format!("version = 1\na = {}", "{a=".repeat(100_000)),
        format!("version = 1\n{}x = 1", "a.".repeat(100_000)),
    ] {
        assert!(parse(&deep).is_err());
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_damaged_file_is_an_error_or_another_policy(at in 0..FULL.len(), byte in 0u8..128) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        if let Err(error) = parse(&text) {
            // Messages never carry control characters to the terminal.
            prop_assert!(!error.to_string().chars().any(char::is_control), "{}", error);
        }
    }
}
