//! What the commands do when all is well: init, trust, plan, questions, completions, manual pages.
//!
//! Runs of commands in the sandbox are tested elsewhere; nothing here needs a kernel feature.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod world;

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use world::{World, assert_snapshot};

/// Calls rcc, expects success, and gives its standard output.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn plan(world: &World, flags: &[&str]) -> Value {
    let arguments = flags
        .iter()
        .copied()
        .chain(["plan", "--json", "--", "true"]);
    serde_json::from_str(&output(&mut world.rcc(arguments))).unwrap()
}

/// The exit code and the first line of an answer to `--why`.
fn why(world: &World, flags: &[&str], question: &str) -> (Option<i32>, String) {
    let arguments = flags.iter().copied().chain(["plan", "--why", question]);
    let output = world.rcc(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

/// Mount steps whose place is `at`.
fn steps<'a>(plan: &'a Value, at: &Path) -> Vec<&'a Value> {
    let steps = plan["mounts"].as_array().unwrap();
    steps
        .iter()
        .filter(|step| step["at"] == at.to_str().unwrap())
        .collect()
}

#[test]
fn init_writes_one_file_and_approves_it() {
    let world = World::new();
    world.file("project/AGENTS.md", "");
    world.file("project/CLAUDE.md", "");

    let said = output(&mut world.rcc(["init", "--network", "none"]));

    let policy = world.project().join("rcc.toml");
    assert_eq!(
        said,
        format!("Initialized rcc policy in {}\n", policy.display())
    );
    let text = std::fs::read_to_string(&policy).unwrap();
    assert!(
        text.contains("\npreset = \"claude\"\n") && text.contains("\nmode = \"none\""),
        "{text}"
    );
    let mut names: Vec<_> = std::fs::read_dir(world.project())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["AGENTS.md", "CLAUDE.md", "rcc.toml"]);
    // Approved: a plan needs no warning.
    let planned = world.rcc(["plan"]).output().unwrap();
    assert_eq!(String::from_utf8(planned.stderr).unwrap(), "");
    assert_eq!(plan(&world, &[])["network"], "none");
}

#[test]
fn an_approval_counts_for_one_text_and_one_place() {
    let world = World::new();
    world.policy("version = 1\n[network]\nmode = \"none\"\n");
    output(&mut world.rcc(["trust", "--yes"]));
    let listed = output(&mut world.rcc(["trust", "--list", "--json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["project"], world.project().to_str().unwrap());

    // The same text somewhere else is not approved.
    let copy = world.file(
        "other/rcc.toml",
        std::fs::read(world.project().join("rcc.toml")).unwrap(),
    );
    let other = world
        .rcc(["run", "true"])
        .current_dir(copy.parent().unwrap())
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(125));
    assert!(
        String::from_utf8(other.stderr)
            .unwrap()
            .contains("is not approved")
    );

    output(&mut world.rcc(["trust", "--revoke"]));
    assert_eq!(output(&mut world.rcc(["trust", "--list"])), "");
}

#[test]
fn only_a_wider_policy_needs_another_approval() {
    let world = World::new();
    world.policy("version = 1\n[network]\nallow = [\"*.example.com\"]\n[files]\nrw = [\"~/x\"]\nhidden = [\".env\"]\n");
    output(&mut world.rcc(["trust", "--yes"]));
    let warned = |policy: &str, flags: &[&str]| {
        world.policy(policy);
        let arguments = flags
            .iter()
            .copied()
            .chain(["plan", "--why", "example.net:443"]);
        let said = world.rcc(arguments).output().unwrap().stderr;
        String::from_utf8(said).unwrap().contains("allows more")
    };
    for narrower in [
        "version = 1\n[network]\nallow = [\"a.example.com\"]\n[files]\nrw = [\"~/x/y\"]\nhidden = [\".env\"]\n",
        "version = 1\n[network]\nmode = \"none\"\n[files]\nhidden = [\".env\", \"keys\"]\n",
    ] {
        assert!(!warned(narrower, &[]), "{narrower}");
    }
    for wider in [
        "version = 1\n[network]\nallow = [\"example.com\"]\n[files]\nhidden = [\".env\"]\n",
        "version = 1\n[network]\nmode = \"internet\"\n[files]\nhidden = [\".env\"]\n",
        "version = 1\n[network]\nmode = \"none\"\n",
        "version = 1\n[network]\nmode = \"none\"\n[files]\nreadonly = [\"~/z\"]\nhidden = [\".env\"]\n",
    ] {
        assert!(warned(wider, &[]), "{wider}");
    }
    // A mode that closes everything does not hide rules that a flag would open.
    let behind_none = "version = 1\n[network]\nmode = \"none\"\nallow = [\"example.net\"]\n[files]\nhidden = [\".env\"]\n";
    assert!(!warned(behind_none, &[]));
    assert!(warned(behind_none, &["--network", "allowlist"]));
}

#[test]
fn layers_override_each_other_in_order() {
    let world = World::new();
    let question = "example.org:443";
    assert_eq!(why(&world, &[], question).0, Some(0));

    world.file(
        ".config/rcc/config.toml",
        "version = 1\n[network]\nmode = \"allowlist\"\nallow = [\"example.com\"]\n",
    );
    let (code, text) = why(&world, &[], question);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("no_rule") && text.contains("config.toml:3"),
        "{text}"
    );

    world.policy("version = 1\n[network]\nallow = [\"example.org\"]\n");
    output(&mut world.rcc(["trust", "--yes"]));
    let (code, text) = why(&world, &[], question);
    assert_eq!(code, Some(0));
    assert!(text.contains("rcc.toml:3"), "{text}");

    let (code, text) = why(&world, &["--deny", "example.org"], question);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("deny_rule") && text.contains("flag --deny"),
        "{text}"
    );
    assert_eq!(why(&world, &["-n"], question).0, Some(1));
}

#[test]
fn rule_files_of_flags_mean_these_hosts_and_no_others() {
    let world = World::new();
    world.policy("version = 1\n[network]\nmode = \"internet\"\n");
    output(&mut world.rcc(["trust", "--yes"]));
    world.file(
        "project/hosts.conf",
        "example.com # comment\n*.example.net:8443\n",
    );
    world.file(
        "project/hosts.yaml",
        "version: 1\nwhitelist:\n  - host: example.com\n    ports: [22]\n",
    );
    assert_eq!(
        why(&world, &["-a", "hosts.conf"], "example.com:443").0,
        Some(0)
    );
    assert_eq!(
        why(&world, &["-a", "hosts.conf"], "a.example.net:8443").0,
        Some(0)
    );
    assert_eq!(
        why(&world, &["-a", "hosts.conf"], "example.org:443").0,
        Some(1)
    );
    assert_eq!(
        why(&world, &["-a", "hosts.yaml"], "example.com:22").0,
        Some(0)
    );
    assert_eq!(
        why(&world, &["-a", "hosts.yaml"], "example.com:443").0,
        Some(1)
    );
}

#[test]
fn a_project_is_found_whatever_it_is_called_and_however_it_is_reached() {
    let world = World::new();
    let odd = std::ffi::OsString::from_vec(b"od\xffd dir".to_vec());
    let root = world.home().join(odd);
    std::fs::create_dir_all(root.join(".git/hooks")).unwrap();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    symlink(&root, world.home().join("link")).unwrap();

    let by_search = world
        .rcc(["plan", "--json"])
        .current_dir(root.join("a/b"))
        .output()
        .unwrap();
    let by_link = world
        .rcc(["--project", "../link/", "plan", "--json"])
        .output()
        .unwrap();

    let expected: Vec<u8> = std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str()).to_vec();
    for (output, below) in [(by_search, &b"/a/b"[..]), (by_link, b"")] {
        assert!(output.status.success());
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        // A path that is not UTF-8 is a list of bytes.
        let cwd: Vec<u8> = serde_json::from_value(plan["cwd"].clone()).unwrap();
        assert_eq!(cwd, [&expected[..], below].concat());
    }
}

#[test]
fn the_plan_protects_what_the_host_would_execute() {
    let world = World::new();
    for name in [
        ".git/hooks/pre-commit",
        ".git/config",
        ".git/modules/lib/hooks/x",
        ".git/modules/lib/HEAD",
        ".envrc",
    ] {
        world.file(Path::new("project").join(name), "");
    }
    let plan = plan(&world, &[]);
    for name in [
        ".git/hooks",
        ".git/config",
        ".git/modules/lib/hooks",
        ".envrc",
    ] {
        let found = steps(&plan, &world.project().join(name));
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(
            (&found[0]["step"], &found[0]["access"]),
            (&"pin".into(), &"read-only".into()),
            "{name}"
        );
    }
}

#[test]
fn rule_files_in_the_project_are_protected() {
    let world = World::new();
    world.file("project/allowed-hosts.conf", "");
    world.file("project/ci/hosts.conf", "example.com\n");
    let plan = plan(&world, &["-a", "ci/hosts.conf"]);
    for name in ["allowed-hosts.conf", "ci/hosts.conf"] {
        assert_eq!(steps(&plan, &world.project().join(name)).len(), 1, "{name}");
    }
    // Rules beside the user's configuration count as the user's.
    world.file(
        ".config/rcc/config.toml",
        "version = 1\n[network]\nallow_files = [\"mine.conf\"]\n",
    );
    world.file(".config/rcc/mine.conf", "example.net\n");
    assert_eq!(why(&world, &[], "example.net:443").0, Some(0));
    assert_eq!(why(&world, &[], "example.com:443").0, Some(1));
}

#[test]
fn showing_a_plan_changes_nothing() {
    let world = World::new();
    plan(&world, &["--rw", "/usr/share"]);
    assert_eq!(
        std::fs::read_dir(world.home()).unwrap().count(),
        1,
        "something was made beside the project"
    );
    assert_eq!(std::fs::read_dir(world.project()).unwrap().count(), 0);
}

#[test]
fn an_agent_of_the_home_is_mounted_and_called_with_its_arguments() {
    let world = World::new();
    let program = world.file(".local/share/claude/versions/1.0", "\x7fELF");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(world.home().join(".local/bin")).unwrap();
    symlink(&program, world.home().join(".local/bin/claude")).unwrap();
    let path = format!(
        "{}:/usr/bin:/bin",
        world.home().join(".local/bin").display()
    );

    let plan = output(
        world
            .rcc(["plan", "--json", "--agent", "claude"])
            .env("PATH", path),
    );

    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["argv"][0], program.to_str().unwrap());
    let found = plan["mounts"].as_array().unwrap().iter().any(|step| {
        step["step"] == "bind"
            && step["access"] == "read-only"
            && program.starts_with(step["from"].as_str().unwrap_or("/nonexistent"))
    });
    assert!(found, "{plan:#}");
}

#[test]
fn a_plan_in_words() {
    let world = World::new();
    world.file("project/.git/hooks/x", "");
    let mut command = world.rcc([
        "--allow",
        "example.com",
        "--deny",
        "bad.example.com",
        "--env",
        "CI=1",
        "plan",
        "--",
        "echo",
        "two words",
        "it's",
        "\u{1b}[2J",
    ]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let text = world.transcript(&mut command);
    // What depends on the host is left out.
    let stable: String = text
        .lines()
        .filter(|line| {
            let host = [
                "  user ",
                "  landlock ",
                "  way out ",
                "  USER=",
                "  LOGNAME=",
                "  SHELL=",
                "  PATH=",
                // By a control group, a scope of systemd or RLIMIT_NPROC.
                "  pids ",
            ];
            let mounts = [
                "/usr", "/bin", "/sbin", "/lib", "/opt", "/nix", "/gnu", "/etc ", "/sys", "/proc",
                "/dev",
            ];
            !host.iter().any(|start| line.starts_with(start))
                && !mounts.iter().any(|path| {
                    line.split_whitespace()
                        .nth(1)
                        .is_some_and(|word| word.starts_with(path.trim_end()))
                })
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_snapshot("commands", "plan", &stable);
}

#[test]
fn generated_texts_are_complete() {
    let world = World::new();
    assert!(output(&mut world.rcc(["--version"])).starts_with("rcc "));
    assert!(output(&mut world.rcc(["completions", "bash"])).contains("complete -F _rcc"));
    assert!(output(&mut world.rcc(["man"])).contains(".TH rcc"));
    output(&mut world.rcc(["man", "--dir", "pages/man1"]));
    let pages = std::fs::read_dir(world.project().join("pages/man1"))
        .unwrap()
        .count();
    assert!(pages > 10, "{pages}");
    for arguments in [&["--help"][..], &["run", "--help"], &["help", "plan"]] {
        assert!(output(&mut world.rcc(arguments)).contains("Usage"));
    }
}
