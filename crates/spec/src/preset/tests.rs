//! Tests of presets: the format, and the files that come with rcc.

use super::*;
use crate::rule::Target;

const MINIMAL: &str = "version = 1\nname = \"example\"\ncommand = \"example-agent\"\n";

fn parse(text: &str) -> Result<AgentPreset, PolicyError> {
    AgentPreset::parse(text, &SourceName::file("example.toml"))
}

#[test]
fn every_built_in_preset_is_valid_and_complete() {
    for name in AgentPreset::builtin_names() {
        let preset = AgentPreset::builtin(name).unwrap();
        assert_eq!(preset.name, name);
        assert!(!preset.hosts.is_empty(), "{name} has no hosts");
        assert!(!preset.env_pass.is_empty(), "{name} passes no variable");
        assert!(
            preset.npm_package.is_some() || preset.install_hint.is_some(),
            "{name} cannot be installed"
        );
        assert!(
            !preset.import.is_empty() && !preset.share.is_empty(),
            "{name} has no state"
        );
        assert!(
            preset
                .hosts
                .iter()
                .all(|rule| rule.origin.to_string() == format!("preset {name}"))
        );
    }
    assert_eq!(AgentPreset::builtin("nobody"), None);
}

#[test]
fn built_in_presets_allow_only_single_hosts_on_https() {
    for preset in AgentPreset::builtin_names().filter_map(AgentPreset::builtin) {
        for rule in &preset.hosts {
            assert!(
                matches!(rule.target, Target::Host(_)),
                "{}: {rule}",
                preset.name
            );
            assert_eq!(rule.ports.to_string(), "443", "{}: {rule}", preset.name);
        }
    }
}

#[test]
fn protected_state_lies_in_shared_state() {
    for preset in AgentPreset::builtin_names().filter_map(AgentPreset::builtin) {
        for protected in preset.state_protected.iter().chain(&preset.import) {
            let inside = preset.share.iter().any(|share| {
                protected.path == share.path
                    || protected
                        .path
                        .as_str()
                        .starts_with(&format!("{}/", share.path.as_str()))
            });
            assert!(
                inside,
                "{}: {} is not in what is shared",
                preset.name, protected.path
            );
        }
    }
}

#[test]
fn the_claude_preset_says_what_claude_needs() {
    let preset = AgentPreset::builtin("claude").unwrap();
    assert_eq!(
        preset.npm_package.as_deref(),
        Some("@anthropic-ai/claude-code")
    );
    for name in [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_USE_BEDROCK",
        "NODE_EXTRA_CA_CERTS",
    ] {
        assert!(
            preset.env_pass.iter().any(|p| p.matches(name)),
            "{name} is not passed"
        );
    }
    // It would move the state to a directory that does not exist inside.
    assert!(
        !preset
            .env_pass
            .iter()
            .any(|p| p.matches("CLAUDE_CONFIG_DIR"))
    );
    let set: Vec<String> = preset
        .env_set
        .iter()
        .map(|s| format!("{}={}", s.name, s.value))
        .collect();
    assert_eq!(set, ["IS_SANDBOX=1", "DISABLE_AUTOUPDATER=1"]);
}

#[test]
fn what_is_left_out_is_empty() {
    let preset = parse(MINIMAL).unwrap();
    assert_eq!(preset.title, "example");
    assert!(preset.hosts.is_empty() && preset.env_pass.is_empty() && preset.share.is_empty());
}

#[test]
fn rules_of_a_users_file_keep_their_line() {
    let preset = parse(&format!(
        "{MINIMAL}[network]\nhosts = [\n \"example.com\",\n]"
    ))
    .unwrap();
    assert_eq!(preset.hosts[0].origin.to_string(), "example.toml:6");
}

#[test]
fn a_slash_at_the_end_means_a_directory() {
    let preset = parse(&format!("{MINIMAL}[state]\nshare = [\"~/.x/\", \"~/.y\"]")).unwrap();
    let kinds: Vec<_> = preset
        .share
        .iter()
        .map(|s| (s.path.as_str(), s.kind))
        .collect();
    assert_eq!(
        kinds,
        [("~/.x", PathKind::Directory), ("~/.y", PathKind::File)]
    );
}

#[test]
fn refuses_what_leads_out() {
    for (table, why) in [
        ("[state]\nshare = [\"~\"]", "the whole home"),
        ("[state]\nshare = [\"~/\"]", "the whole home"),
        ("[state]\nshare = [\"/etc/shadow\"]", "an absolute path"),
        ("[state]\nimport = [\"~/../root\"]", "a way up"),
        ("[state]\nimport = [\"~/.*\"]", "a wildcard"),
        ("[project]\nprotected = [\"/etc\"]", "an absolute path"),
        ("[project]\nprotected = [\".\"]", "the project itself"),
        ("[install]\nnpm = \"../evil\"", "a path as package"),
        ("[install]\nnpm = \"@scope/../evil\"", "a path as package"),
        ("[install]\nnpm = \"a b\"", "a space"),
        ("[install]\nnpm = \"-g\"", "a flag"),
        ("[install]\nnpm = \"git+ssh://example.com/x\"", "a URL"),
        ("[env]\nset = { PATH = \"a\\u0000b\" }", "a NUL"),
        ("[network]\nhosts = [\"*\"]", "everything"),
        ("[network]\nhost = []", "a misspelt key"),
    ] {
        assert!(
            parse(&format!("{MINIMAL}{table}")).is_err(),
            "{why} was accepted: {table}"
        );
    }
    for bad in ["", "A", "a b", "../x", "-x", &"a".repeat(33)] {
        assert!(
            parse(&MINIMAL.replace("\"example\"", &format!("{bad:?}"))).is_err(),
            "name {bad:?} was accepted"
        );
    }
    for bad in ["", "/bin/sh", "a b", "-x", "a;b"] {
        let text = MINIMAL.replace("\"example-agent\"", &format!("{bad:?}"));
        assert!(parse(&text).is_err(), "command {bad:?} was accepted");
    }
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let page = include_str!("../../../../docs/presets.md");
    let example = page
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let preset = parse(example).unwrap();
    assert_eq!(preset.name, "example");
    // Every key of the table in the page exists, and the other way round.
    for keys in [TOP, INSTALL, NETWORK, ENV, STATE, PROJECT] {
        for key in keys {
            assert!(
                page.contains(&format!("{key}`")) || page.contains(&format!("`{key}.")),
                "{key} is not documented"
            );
        }
    }
}
