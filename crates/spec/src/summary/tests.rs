//! Tests of the sentences.

use crate::{LayerKind, Layers, SourceName, merge, parse_toml};

fn sentences(body: &str) -> Vec<String> {
    let project = parse_toml(
        &format!("version = 1\n{body}"),
        &SourceName::file("rcc.toml"),
        LayerKind::Project,
    )
    .unwrap();
    merge(Layers {
        project,
        ..Layers::default()
    })
    .summary()
}

#[test]
fn says_everything_that_a_policy_grants() {
    let body = r#"
[network]
allow = ["example.com", "*.example.org:443", "203.0.113.0/24:22"]
deny = ["bad.example.org"]
[files]
readonly = ["~/git"]
rw = ["/opt/data"]
hidden = [".env"]
share_state = true
[env]
pass = ["EDITOR"]
set = { LANG = "C" }
[limits]
tmp_size = "1GiB"
[hardening]
seccomp = "strict"
dangerously_without_landlock = true
dangerously_without_protected_paths = true
[agent]
preset = "claude"
args = ["--verbose", "a b"]
"#;
    assert_eq!(
        sentences(body),
        [
            "reach example.com on ports 80, 443",
            "reach every host below example.org on port 443",
            "reach the network 203.0.113.0/24 on port 22",
            "not reach bad.example.org on every port",
            "read ~/git",
            "read and write /opt/data",
            "not see .env",
            "use and change the agent's real state in your home",
            "read your environment variable EDITOR",
            "run with LANG=C in its environment",
            "fill 1GiB in its /tmp",
            "use only the strict set of system calls",
            "run without Landlock where the kernel has none",
            "write files that your own tools execute later",
            "run as the agent `claude`",
            "start the agent with `--verbose` `a b`",
        ]
    );
}

#[test]
fn says_what_the_modes_mean() {
    assert_eq!(sentences("")[0], "reach every public host on every port");
    assert_eq!(
        sentences("[network]\nmode = \"none\"\nallow = [\"example.com\"]")[0],
        "use no network"
    );
    assert_eq!(
        sentences("[network]\nallow = []")[0],
        "reach no host, because no rule allows one"
    );
}

#[test]
fn a_file_cannot_draw_on_the_terminal() {
    let body = "[env.set]\nA = \"\\u202e\\n\\tx\"\n[agent]\nargs = [\"\\n\"]\n[files]\nrw = [\"\\u202edata\"]";
    for sentence in sentences(body) {
        assert!(
            sentence.chars().all(|c| c.is_ascii_graphic() || c == ' '),
            "{sentence:?}"
        );
    }
}
