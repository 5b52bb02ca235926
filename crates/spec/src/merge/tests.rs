//! Tests of merging.

use proptest::prelude::*;

use super::*;
use crate::origin::SourceName;
use crate::rule::Rule;
use crate::toml_policy::{LayerKind, parse_toml};
use crate::{AgentPreset, Protocol, RuleSet};

fn layer(kind: LayerKind, name: &str, body: &str) -> PolicyLayer {
    parse_toml(
        &format!("version = 1\n{body}"),
        &SourceName::file(name),
        kind,
    )
    .unwrap()
}

fn layers(admin: &str, user: &str, project: &str) -> Layers {
    Layers {
        admin: layer(LayerKind::Admin, "/etc/rcc/config.toml", admin),
        user: layer(LayerKind::User, "config.toml", user),
        project: layer(LayerKind::Project, "rcc.toml", project),
        flags: PolicyLayer::default(),
    }
}

fn allow_flag(text: &str) -> PolicyLayer {
    let mut flags = PolicyLayer::default();
    flags.push_rule(Rule::parse(text, Origin::flag("--allow")).unwrap());
    flags
}

fn mode(layers: Layers) -> String {
    let policy = merge(layers);
    format!("{} by {}", policy.network.mode, policy.mode_origin)
}

#[test]
fn without_any_file_the_defaults_hold() {
    assert_eq!(merge(Layers::default()), Policy::default());
    assert_eq!(mode(Layers::default()), "internet by default");
}

#[test]
fn later_layers_win_and_lists_add_up() {
    let policy = merge(layers(
        "[network]\nmode = \"internet\"\ndeny = [\"a.example.com\"]\n[files]\nreadonly = [\"/opt/a\"]\n[limits]\ntmp_size = \"1GiB\"",
        "[network]\nmode = \"none\"\n[files]\nreadonly = [\"/opt/b\"]\nshare_state = true\n[agent]\nargs = [\"--user\"]",
        "[network]\nmode = \"allowlist\"\nallow = [\"b.example.com\"]\n[files]\nreadonly = [\"/opt/c\"]\nshare_state = false\n[agent]\nargs = [\"--project\"]",
    ));
    assert_eq!(policy.network.mode, NetworkMode::Allowlist);
    assert_eq!(policy.mode_origin.to_string(), "rcc.toml:3");
    let paths: Vec<_> = policy
        .files
        .readonly
        .iter()
        .map(|p| format!("{} {}", p.value, p.origin))
        .collect();
    assert_eq!(
        paths,
        [
            "/opt/a /etc/rcc/config.toml:6",
            "/opt/b config.toml:5",
            "/opt/c rcc.toml:6"
        ]
    );
    assert!(!policy.files.share_state.value);
    assert_eq!(policy.files.share_state.origin.to_string(), "rcc.toml:7");
    assert_eq!(policy.limits.value(crate::LimitKey::TmpSize), Some(1 << 30));
    assert_eq!(policy.agent.args.len(), 1);
    assert_eq!(policy.agent.args[0].value, "--project");
    assert_eq!(
        policy.network.deny[0].origin.to_string(),
        "/etc/rcc/config.toml:4"
    );
}

#[test]
fn a_list_of_what_is_allowed_means_an_allowlist() {
    assert_eq!(
        mode(layers("", "", "[network]\nallow = [\"example.com\"]")),
        "allowlist by rcc.toml:3"
    );
    assert_eq!(
        mode(layers("", "", "[network]\nallow = []")),
        "allowlist by rcc.toml:3"
    );
    assert_eq!(
        mode(layers("", "", "[network]\nallow_files = [\"x.conf\"]")),
        "allowlist by rcc.toml:3"
    );
    assert_eq!(
        mode(layers("", "", "[network]\ndeny = [\"example.com\"]")),
        "internet by default"
    );
    // Whoever wants both says so.
    let both = "[network]\nmode = \"internet\"\nallow = [\"10.0.0.1\"]";
    assert_eq!(mode(layers("", "", both)), "internet by rcc.toml:3");
    // The project's list narrows what the user said in general.
    let narrowed = layers(
        "",
        "[network]\nmode = \"internet\"",
        "[network]\nallow = [\"example.com\"]",
    );
    assert_eq!(mode(narrowed), "allowlist by rcc.toml:3");
}

#[test]
fn an_allow_flag_adds_to_the_mode_of_the_files_and_narrows_the_default() {
    let with_flag = |project: &str| {
        let mut layers = layers("", "", project);
        layers.flags = allow_flag("example.com");
        mode(layers)
    };
    assert_eq!(with_flag(""), "allowlist by flag --allow");
    assert_eq!(
        with_flag("[network]\nmode = \"internet\""),
        "internet by rcc.toml:3"
    );
    assert_eq!(
        with_flag("[network]\nmode = \"none\""),
        "none by rcc.toml:3"
    );
    let mut layers = layers("", "", "[network]\nmode = \"internet\"");
    layers.flags.mode = Some(Sourced::new(
        NetworkMode::None,
        Origin::flag("--no-internet"),
    ));
    assert_eq!(mode(layers), "none by flag --no-internet");
}

#[test]
fn the_ceiling_holds_and_says_so_when_a_wish_is_not_met() {
    let admin = "[ceiling]\nmode = \"allowlist\"";
    let policy = merge(layers(admin, "", "[network]\nmode = \"internet\""));
    assert_eq!(policy.network.mode, NetworkMode::Allowlist);
    assert_eq!(
        policy.notices,
        [
            "network mode `internet` (rcc.toml:3) is above the ceiling, `allowlist` (/etc/rcc/config.toml:3) is used"
        ]
    );
    let policy = merge(layers(admin, "", ""));
    assert_eq!(
        (policy.network.mode, policy.notices.len()),
        (NetworkMode::Allowlist, 0)
    );
    let policy = merge(layers(admin, "", "[network]\nmode = \"none\""));
    assert_eq!(
        (policy.network.mode, policy.notices.len()),
        (NetworkMode::None, 0)
    );
    let mut above = layers(admin, "", "");
    above.flags.mode = Some(Sourced::new(
        NetworkMode::Internet,
        Origin::flag("--internet"),
    ));
    assert_eq!(merge(above).network.mode, NetworkMode::Allowlist);
}

#[test]
fn rules_of_files_join_their_layer() {
    let source = SourceName::file("hosts.conf");
    let mut layers = Layers::default();
    layers.project.add_rules(
        crate::parse_conf("example.com\n!example.org", &source).unwrap(),
        &source,
    );
    let policy = merge(layers);
    assert_eq!(
        (policy.network.mode, policy.mode_origin.to_string().as_str()),
        (NetworkMode::Allowlist, "hosts.conf")
    );
    assert_eq!(
        (policy.network.allow.len(), policy.network.deny.len()),
        (1, 1)
    );
    let source = SourceName::file("whitelist.yaml");
    let rules = crate::parse_rule_file(
        "whitelist.yaml",
        "version: 1\ndefaults: {allow_public: true}",
        &source,
    )
    .unwrap();
    let mut layers = Layers::default();
    layers.project.add_rules(rules, &source);
    assert_eq!(mode(layers), "internet by whitelist.yaml:2");
}

#[test]
fn a_preset_adds_its_hosts_and_variables_behind_the_users() {
    let preset = AgentPreset::builtin("claude").unwrap();
    let mut policy = merge(layers(
        "",
        "",
        "[network]\nallow = [\"example.com\"]\n[env.set]\nIS_SANDBOX = \"0\"",
    ));
    policy.apply_preset(&preset);
    let hosts: Vec<String> = policy
        .network
        .allow
        .iter()
        .map(|rule| format!("{rule} ({})", rule.origin))
        .collect();
    assert_eq!(hosts[0], "example.com (rcc.toml:3)");
    assert!(hosts.contains(&"api.anthropic.com:443 (preset claude)".to_owned()));
    let set: Vec<_> = policy
        .env
        .set
        .iter()
        .map(|s| (s.value.name.as_str(), s.value.value.as_str()))
        .collect();
    assert_eq!(set, [("DISABLE_AUTOUPDATER", "1"), ("IS_SANDBOX", "0")]);
    assert_eq!(policy.network.mode, NetworkMode::Allowlist);

    let mut policy = merge(layers(
        "",
        "",
        "[network]\nallow = []\n[agent]\npreset_hosts = false",
    ));
    policy.apply_preset(&preset);
    assert!(policy.network.allow.is_empty() && !policy.env.pass.is_empty());

    let mut policy = merge(layers("", "", "[network]\nmode = \"none\""));
    policy.apply_preset(&preset);
    assert!(policy.network.allow.is_empty());
}

#[test]
fn dangers_are_listed_with_their_place() {
    let policy = merge(layers(
        "",
        "",
        "[hardening]\ndangerously_without_landlock = true",
    ));
    let dangers: Vec<_> = policy
        .dangers()
        .iter()
        .map(|d| format!("{} {}", d.value, d.origin))
        .collect();
    assert_eq!(dangers, ["dangerously_without_landlock rcc.toml:3"]);
    assert!(merge(Layers::default()).dangers().is_empty());
}

#[test]
fn a_policy_survives_being_stored() {
    let mut policy = merge(layers(
        "[ceiling]\nmode = \"allowlist\"",
        "[hardening]\nseccomp = \"strict\"",
        "[network]\nmode = \"internet\"\nallow = [\"example.com\", \"[2001:db8::/32]:22\"]\n[env]\npass = [\"EXAMPLE_*\"]",
    ));
    policy.apply_preset(&AgentPreset::builtin("codex").unwrap());
    let stored = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);
}

proptest! {
    #[test]
    fn the_administrators_word_holds_whatever_the_others_say(
        ceiling in 0usize..3, user in 0usize..4, project in 0usize..4, flag in 0usize..4
    ) {
        let word = |n: usize| NetworkMode::ALL.get(n).map(|mode| format!("[network]\nmode = \"{mode}\"")).unwrap_or_default();
        let ceiling = NetworkMode::ALL[ceiling];
        let admin = format!("[network]\ndeny = [\"example.com\"]\n[ceiling]\nmode = \"{ceiling}\"");
        let mut layers = layers(&admin, &word(user), &word(project));
        layers.flags = allow_flag("example.com:*");
        layers.flags.mode = NetworkMode::ALL.get(flag).map(|&mode| Sourced::new(mode, Origin::flag("--mode")));
        let policy = merge(layers);
        prop_assert!(policy.network.mode <= ceiling);
        let name = crate::HostName::parse("example.com").unwrap();
        prop_assert!(!RuleSet::compile(&policy.network).decide_name(&name, 443, Protocol::Tcp).is_allow());
    }
}

#[test]
fn asking_is_a_setting_like_any_other_and_means_an_allowlist() {
    let merged = |user: &str, project: &str| merge(layers("", user, project)).network;
    let asking = merged("[network]\nask = true\n", "");
    assert_eq!(asking.mode, NetworkMode::Allowlist);
    assert_eq!(asking.ask_seconds, Some(60));
    let longer = merged("[network]\nask_timeout = 300\n", "[network]\nask = true\n");
    assert_eq!(longer.ask_seconds, Some(300));
    let refused = merged("[network]\nask = true\n", "[network]\nask = false\n");
    assert_eq!(refused.ask_seconds, None);
    for bad in ["0", "3601", "-1", "\"60s\"", "true"] {
        let text = format!("version = 1\n[network]\nask_timeout = {bad}\n");
        parse_toml(&text, &SourceName::file("rcc.toml"), LayerKind::Project).unwrap_err();
    }
}

#[test]
fn only_what_no_rule_decides_is_asked() {
    use crate::verdict::Decision;
    let policy = merge(layers(
        "",
        "",
        "[network]\nask = true\nallow = [\"a.example.com\"]\ndeny = [\"b.example.com\"]\n",
    ));
    let rules = RuleSet::compile(&policy.network);
    let name = |text: &str, port| {
        rules
            .decide_name(&crate::HostName::parse(text).unwrap(), port, Protocol::Tcp)
            .decision
    };
    assert_eq!(name("a.example.com", 443), Decision::Allow);
    assert_eq!(name("a.example.com", 22), Decision::Ask);
    assert_eq!(name("other.example.com", 443), Decision::Ask);
    assert!(matches!(name("b.example.com", 443), Decision::Deny(_)));
    assert!(matches!(name("localhost", 443), Decision::Deny(_)));
    let address = |text: &str| {
        rules
            .decide_address(text.parse().unwrap(), 443, Protocol::Tcp)
            .decision
    };
    assert_eq!(address("203.0.114.7"), Decision::Ask);
    for forbidden in [
        "10.0.0.1",
        "169.254.169.254",
        "127.0.0.1",
        "fe80::1",
        "224.0.0.1",
    ] {
        assert!(
            matches!(address(forbidden), Decision::Deny(_)),
            "{forbidden}"
        );
    }
    // Asking is something that has to be approved.
    let silent = merge(layers(
        "",
        "",
        "[network]\nallow = [\"a.example.com\"]\ndeny = [\"b.example.com\"]\n",
    ));
    assert_eq!(policy.widenings(&silent).len(), 1);
    assert!(silent.widenings(&policy).is_empty());
}

#[test]
fn a_later_layer_says_where_a_port_is_published_and_credentials_stay_with_their_proxy() {
    let mut both = layers(
        "[network]\nupstream_proxy = \"http://a.example:1\"\nupstream_proxy_credentials_env = \"A\"",
        "[network]\nupstream_proxy = \"http://b.example:1\"",
        "[network]\npublish = [\"3000\", \"4000\"]",
    );
    let flag = Sourced::new("3001:3000".parse().unwrap(), Origin::flag("--publish"));
    both.flags.publish.push(flag);
    let policy = merge(both);
    let published: Vec<String> = policy.publish.iter().map(|p| p.value.to_string()).collect();
    assert_eq!(published, ["127.0.0.1:4000:4000", "127.0.0.1:3001:3000"]);
    let proxy = policy.upstream_proxy;
    assert_eq!(
        proxy.address.unwrap().value.to_string(),
        "http://b.example:1"
    );
    assert_eq!(proxy.credentials, None);
}
