//! Bad input of every kind: the message, its hint and the exit code, as recorded in `bad_inputs/`.
//!
//! Each case also shows that nothing was half done: no record of a run is left.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod world;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use world::{World, assert_snapshot};

/// Calls rcc in a world prepared by `prepare` and compares what it said.
fn case(name: &str, arguments: &[&str], prepare: impl FnOnce(&World)) {
    let world = World::new();
    prepare(&world);
    check(name, &world, &mut world.rcc(arguments));
}

fn check(name: &str, world: &World, command: &mut std::process::Command) {
    let transcript = world.transcript(command);
    assert!(!transcript.contains("panicked"), "{transcript}");
    assert!(
        !transcript.contains('\u{1b}'),
        "an escape sequence reached the output: {transcript}"
    );
    assert_snapshot("bad_inputs", name, &transcript);
    let runs = world.home().join(".local/state/rcc/runs");
    let left = std::fs::read_dir(runs).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a record is left");
}

fn nothing(_: &World) {}

/// Makes a policy and approves it.
fn approved(world: &World, policy: &str) {
    world.policy(policy);
    assert!(
        world
            .rcc(["trust", "--yes"])
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn command_line() {
    case("unknown-command", &["claud"], nothing);
    case("unknown-flag", &["run", "--frobnicate", "true"], nothing);
    case("no-command", &["run"], nothing);
    case(
        "contradicting-flags",
        &["-n", "--network", "internet", "run", "true"],
        nothing,
    );
    case(
        "unknown-mode",
        &["run", "--network", "everything", "true"],
        nothing,
    );
    case("unknown-shell", &["completions", "tcsh"], nothing);
}

#[test]
fn ports() {
    for (name, flag, value) in [
        ("host-port-zero", "--host-port", "0"),
        ("host-port-range", "--host-port", "80-90"),
        ("host-port-control", "--host-port", "\u{1b}[2J"),
        ("publish-udp", "-p", "53/udp"),
        ("publish-name", "-p", "localhost:3000"),
        ("publish-free-port-of-nothing", "-p", "0"),
        ("publish-control", "-p", "80\u{1b}[2J"),
        ("publish-foreign-address", "-p", "203.0.113.200:3000"),
        ("rule-own-name", "--allow", "host.rcc.internal:80"),
    ] {
        case(name, &[flag, value, "run", "true"], nothing);
    }
    case(
        "host-port-without-network",
        &["-n", "--host-port", "5432", "run", "true"],
        nothing,
    );
}

#[test]
fn rules() {
    case(
        "rule-url",
        &["run", "--allow", "https://example.com/x", "true"],
        nothing,
    );
    case(
        "rule-space",
        &["run", "--allow", "exa mple.com", "true"],
        nothing,
    );
    case("rule-everything", &["run", "--allow", "*", "true"], nothing);
    case(
        "rule-inner-star",
        &["run", "--allow", "a.*.example.com", "true"],
        nothing,
    );
    case(
        "rule-prefix-length",
        &["run", "--allow", "203.0.113.0/33", "true"],
        nothing,
    );
    case(
        "rule-host-bits",
        &["run", "--deny", "203.0.113.7/24", "true"],
        nothing,
    );
    case(
        "rule-port",
        &["run", "--allow", "example.com:0", "true"],
        nothing,
    );
    case(
        "rule-control",
        &["run", "--allow", "example.com\u{1b}[2J", "true"],
        nothing,
    );
    case(
        "rules-missing-file",
        &["-a", "missing.conf", "run", "true"],
        nothing,
    );
    case(
        "rules-bad-line",
        &["-a", "hosts.conf", "run", "true"],
        |world| {
            world.file(
                "project/hosts.conf",
                "example.com\n\nexample..org # typing error\n",
            );
        },
    );
    case(
        "rules-bad-whitelist",
        &["-a", "hosts.yaml", "run", "true"],
        |world| {
            world.file(
                "project/hosts.yaml",
                "version: 1\nwhitelist:\n  - hots: example.com\n",
            );
        },
    );
}

#[test]
fn policies() {
    case("policy-broken", &["run", "true"], |world| {
        drop(world.policy("version = 1\n[network\n"))
    });
    case("policy-unknown-key", &["run", "true"], |world| {
        drop(world.policy("version = 1\n[network]\nmoed = \"none\"\n"))
    });
    case("policy-misplaced-key", &["run", "true"], |world| {
        drop(world.policy("version = 1\n[network]\nreadonly = []\n"))
    });
    case("policy-wrong-type", &["run", "true"], |world| {
        drop(world.policy("version = 1\n[network]\nallow = \"a.example\"\n"))
    });
    case("policy-no-version", &["run", "true"], |world| {
        drop(world.policy("[network]\nmode = \"none\"\n"))
    });
    case("policy-ceiling", &["run", "true"], |world| {
        drop(world.policy("version = 1\n[ceiling]\nmode = \"none\"\n"))
    });
    case("policy-not-text", &["run", "true"], |world| {
        drop(world.policy(b"version = 1\n# \xff\xfe\n"))
    });
    case("policy-too-large", &["run", "true"], |world| {
        drop(world.policy("#".repeat(300 << 10)))
    });
    case("policy-link", &["run", "true"], |world| {
        symlink("/etc/passwd", world.project().join("rcc.toml")).unwrap()
    });
    case("policy-directory", &["run", "true"], |world| {
        std::fs::create_dir(world.project().join("rcc.toml")).unwrap()
    });
    case("policy-fifo", &["run", "true"], |world| {
        let project = std::fs::File::open(world.project()).unwrap();
        rustix::fs::mknodat(
            project,
            "rcc.toml",
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
    });
    case("policy-missing-rules", &["run", "true"], |world| {
        world.policy("version = 1\n[network]\nallow_files = [\"hosts.conf\"]\n");
    });
    case("user-policy-writable", &["run", "true"], |world| {
        let path = world.file(".config/rcc/config.toml", "version = 1\n");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
    });
}

#[test]
fn trust() {
    case("policy-unapproved", &["run", "true"], |world| {
        drop(world.policy("version = 1\n"))
    });
    case("policy-changed", &["run", "true"], |world| {
        approved(world, "version = 1\n[network]\nmode = \"none\"\n");
        world.policy("version = 1\n[network]\nmode = \"internet\"\n");
    });
    case("rules-changed", &["run", "true"], |world| {
        world.file("project/hosts.conf", "example.com\n");
        approved(
            world,
            "version = 1\n[network]\nallow_files = [\"hosts.conf\"]\n",
        );
        world.file("project/hosts.conf", "example.com\nexample.org\n");
    });
    case("trust-nothing", &["trust"], nothing);
    case("trust-no-terminal", &["trust"], |world| {
        drop(world.policy("version = 1\n[files]\nrw = [\"~/x\"]\n"))
    });
    case("trust-revoke-nothing", &["trust", "--revoke"], nothing);
    case("init-exists", &["init"], |world| drop(world.policy("")));
    case("init-unknown-agent", &["init", "--agent", "hal"], nothing);
    case("trust-store-shared", &["run", "true"], |world| {
        approved(world, "version = 1\n");
        let store = world.home().join(".local/state/rcc/trust");
        std::fs::set_permissions(store, std::fs::Permissions::from_mode(0o777)).unwrap();
    });
}

#[test]
fn projects() {
    case(
        "project-missing",
        &["--project", "/nonexistent/project", "run", "true"],
        nothing,
    );
    case(
        "project-file",
        &["--project", "file", "run", "true"],
        |world| drop(world.file("project/file", "")),
    );
    case("project-home", &["--project", "..", "run", "true"], nothing);
    case(
        "project-above-home",
        &["--project", "../..", "run", "true"],
        nothing,
    );
    case("project-root", &["--project", "/", "run", "true"], nothing);
    case(
        "project-system",
        &["--project", "/usr/bin", "run", "true"],
        nothing,
    );
    case(
        "project-keys",
        &["--project", "../.ssh", "run", "true"],
        |world| drop(world.file(".ssh/id", "")),
    );
    case(
        "project-own",
        &["--project", "../.config", "run", "true"],
        |world| drop(world.file(".config/x", "")),
    );
}

#[test]
fn a_project_that_may_not_be_read() {
    let world = World::new();
    let closed = world.project();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o300)).unwrap();
    let mut command = world.rcc(["--project", "project", "run", "true"]);
    command.current_dir(world.home());
    if rustix::process::geteuid().is_root() {
        use std::os::unix::process::CommandExt as _;
        // Permissions mean nothing to root: the call is made by nobody, who owns the world.
        for path in [world.home(), closed] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        command.uid(65534).gid(65534);
    }
    check("project-unreadable", &world, &mut command);
}

#[test]
fn a_current_directory_that_was_deleted() {
    let world = World::new();
    // The shell deletes the directory it stands in, then becomes rcc.
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args([
            "-c",
            "rmdir . 2>/dev/null || rmdir ../project; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_rcc"),
            "run",
            "true",
        ])
        .current_dir(world.project())
        .env_clear()
        .env("HOME", world.home());
    let transcript = world.transcript(&mut command);
    let said = transcript.split_once("exit code").unwrap().1;
    assert_snapshot(
        "bad_inputs",
        "deleted-directory",
        &format!("exit code{said}"),
    );
}

#[test]
fn paths_and_variables() {
    case(
        "ro-missing",
        &["run", "--ro", "/nonexistent", "true"],
        nothing,
    );
    case("ro-everything", &["run", "--ro", "/", "true"], nothing);
    case("rw-home", &["run", "--rw", "..", "true"], nothing);
    case("rw-proc", &["run", "--rw", "/proc/sys", "true"], nothing);
    case(
        "ro-socket-directory",
        &["run", "--ro", "/run", "true"],
        nothing,
    );
    case("env-name", &["run", "--env", "A-B=1", "true"], nothing);
    case("env-pattern", &["run", "--env", "*", "true"], nothing);
    case("home-name", &["run", "--home", "../x", "true"], nothing);
    let world = World::new();
    let odd = OsString::from_vec(b"/tmp/\xff\x1b[31m".to_vec());
    check(
        "ro-not-text",
        &world,
        &mut world.rcc(["run".into(), "--hide".into(), odd, "true".into()]),
    );
}

#[test]
fn grants_of_what_is_rccs_own() {
    for (name, path) in [
        ("rw-config", "../.config"),
        ("rw-state", "../.local/state/rcc/trust"),
        ("ro-data", "../.local/share"),
    ] {
        case(
            name,
            &[
                "run",
                if name == "ro-data" { "--ro" } else { "--rw" },
                path,
                "true",
            ],
            |world| {
                std::fs::create_dir_all(world.project().join(path)).unwrap();
            },
        );
    }
}

#[test]
fn rule_files_that_an_agent_can_change() {
    case("user-rules-in-project", &["run", "true"], |world| {
        let rules = world.file("project/hosts.conf", "example.com\n");
        world.file(
            ".config/rcc/config.toml",
            format!(
                "version = 1\n[network]\nallow_files = [\"{}\"]\n",
                rules.display()
            ),
        );
    });
}

#[test]
fn grants_that_leave_the_project_through_a_link() {
    case("rw-escape", &["run", "--rw", "data", "true"], |world| {
        world.file("keys/id", "");
        symlink("../keys", world.project().join("data")).unwrap();
    });
}

#[test]
fn homes_and_state() {
    let world = World::new();
    check(
        "home-root",
        &world,
        world.rcc(["run", "true"]).env("HOME", "/"),
    );
    check(
        "home-missing",
        &world,
        world.rcc(["run", "true"]).env("HOME", "/nonexistent/home"),
    );
    case("state-file", &["run", "true"], |world| {
        drop(world.file(".local/state", ""))
    });
    case("state-shared", &["run", "true"], |world| {
        let path = world.home().join(".local/state/rcc/runs");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o770)).unwrap();
    });
}

/// Calls rcc after `preparation`, a line of shell, in a user namespace of its own.
fn on_a_host_where(name: &str, preparation: &str) {
    if !rcc_testkit::require("userns") || !rcc_testkit::require("unshare") {
        return;
    }
    let world = World::new();
    let program = env!("CARGO_BIN_EXE_rcc");
    let mut command = std::process::Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "/bin/sh",
            "-e",
            "-c",
        ])
        .arg(format!("{preparation}; exec '{program}' run true"))
        .current_dir(world.project())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", world.home())
        .stdin(std::process::Stdio::null());
    let transcript = world.transcript(&mut command);
    let said = transcript.split_once("exit code").unwrap().1;
    assert_snapshot("bad_inputs", name, &format!("exit code{said}"));
}

#[test]
fn hosts_that_lack_something() {
    on_a_host_where(
        "host-no-user-namespaces",
        "echo 0 > /proc/sys/user/max_user_namespaces",
    );
    // The disk is full where runs are recorded; head(1) fills it and says so.
    on_a_host_where(
        "host-full-disk",
        "mkdir -p \"$HOME/.local/state\"; mount -t tmpfs -o size=16k none \"$HOME/.local/state\"; \
         head -c 1M /dev/zero > \"$HOME/.local/state/full\" 2>/dev/null || true",
    );
}

#[test]
fn commands_that_cannot_be_executed() {
    if !rcc_testkit::require("userns") {
        return;
    }
    case("command-missing", &["run", "no-such-command"], nothing);
    case("command-not-executable", &["run", "/etc/passwd"], nothing);
    case("command-directory", &["run", "/usr"], nothing);
}

#[test]
fn agents() {
    case("agent-missing", &["opencode", "--version"], nothing);
    case("agent-unknown", &["agent", "hal"], nothing);
    case("agent-preset-broken", &["mine"], |world| {
        world.file(
            ".config/rcc/agents/mine.toml",
            "version = 1\nname = \"mine\"\ncomand = \"x\"\n",
        );
    });
    case("agent-preset-renamed", &["mine"], |world| {
        world.file(
            ".config/rcc/agents/mine.toml",
            "version = 1\nname = \"yours\"\ncommand = \"x\"\n",
        );
    });
}

#[test]
fn questions() {
    case("why-form", &["plan", "--why", "example.com:https"], nothing);
    case("why-host", &["plan", "--why", "exa_mple..com:1"], nothing);
    case(
        "why-refused",
        &["plan", "--network", "allowlist", "--why", "example.com:443"],
        nothing,
    );
    case("why-private", &["plan", "--why", "192.168.1.1:80"], nothing);
}

#[test]
fn runs_that_are_not_there_and_rules_that_are_none() {
    case("net-no-command", &["net"], nothing);
    case("net-rules-no-run", &["net", "rules"], nothing);
    case(
        "net-allow-no-run",
        &["net", "allow", "example.com"],
        nothing,
    );
    case(
        "net-allow-rule",
        &["net", "allow", "https://example.com/\u{1b}[31m"],
        nothing,
    );
    case(
        "net-log-unknown",
        &["net", "log", "--run", "../x\u{1b}]"],
        nothing,
    );
    case("net-log-nothing", &["net", "log"], nothing);
    case("net-test-form", &["net", "test", "example.com:0"], nothing);
    case("net-ask-no-run", &["net", "ask", "--watch"], nothing);
    case(
        "net-allow-project-unapproved",
        &["net", "allow", "--project", "example.com"],
        |world| {
            world.policy("version = 1\n[network]\nallow = [\"a.example.com\"]\n");
        },
    );
}
