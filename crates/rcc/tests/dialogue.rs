//! Questions on a terminal: asked only there, answered with no unless the answer is yes, coloured only if wanted.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod golden;
mod world;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use world::World;

/// Calls rcc with a terminal as standard input and error, types `typed`, and gives exit code and what was shown.
fn converse(command: &mut Command, typed: &str) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut child = command
        .stdin(OwnedFd::from(slave.try_clone().unwrap()))
        .stderr(OwnedFd::from(slave))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Only the child has the terminal open now, so reading ends when it does.
    command
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut terminal = File::from(master);
    terminal.write_all(typed.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // EIO is how a terminal says that nobody is at its other end.
    let _ = terminal.read_to_end(&mut shown);
    (
        child.wait().unwrap().code(),
        String::from_utf8(shown).unwrap(),
    )
}

fn approved(world: &World) -> bool {
    !world
        .rcc(["trust", "--list"])
        .output()
        .unwrap()
        .stdout
        .is_empty()
}

#[test]
fn a_policy_is_shown_in_sentences_and_approved_by_yes_alone() {
    for (answer, expected) in [
        ("n\n", false),
        ("\n", false),
        ("maybe\n", false),
        ("\u{4}", false),
        ("y\n", true),
    ] {
        let world = World::new();
        world
            .policy("version = 1\n[network]\nallow = [\"example.com\"]\n[files]\nrw = [\"~/x\"]\n");
        let (code, shown) = converse(&mut world.rcc(["trust"]), answer);
        assert_eq!(
            code,
            Some(if expected { 0 } else { 125 }),
            "{answer:?}: {shown}"
        );
        assert_eq!(approved(&world), expected, "{answer:?}");
        for sentence in [
            "reach example.com on ports 80, 443",
            "read and write ~/x",
            "[y/N]",
        ] {
            assert!(shown.contains(sentence), "{sentence} in {shown}");
        }
    }
}

#[test]
fn a_run_with_a_changed_policy_asks_and_starts_nothing_after_no() {
    let world = World::new();
    world.policy("version = 1\n");
    let (code, shown) = converse(&mut world.rcc(["run", "true"]), "n\n");
    assert_eq!(code, Some(125), "{shown}");
    assert!(shown.contains("nothing was run"), "{shown}");
    assert!(!approved(&world));
}

#[test]
fn a_missing_agent_is_offered_and_not_installed_after_no() {
    let world = World::new();
    let (code, shown) = converse(&mut world.rcc(["opencode"]), "n\n");
    assert_eq!(code, Some(125), "{shown}");
    assert!(shown.contains("Install its npm package"), "{shown}");
    assert!(!world.home().join(".local/share/rcc/agents").exists());
}

#[test]
fn init_asks_for_the_network_and_takes_the_narrower_meaning_of_nonsense() {
    for (answer, mode) in [
        ("\n", "internet"),
        ("1\n", "internet"),
        ("2\n", "allowlist"),
        ("3\n", "none"),
        ("x\n", "allowlist"),
    ] {
        let world = World::new();
        let (code, shown) = converse(&mut world.rcc(["init"]), answer);
        assert_eq!(code, Some(0), "{shown}");
        let text = std::fs::read_to_string(world.project().join("rcc.toml")).unwrap();
        assert!(
            text.contains(&format!("mode = \"{mode}\"")),
            "{answer:?}: {text}"
        );
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let world = World::new();
    let coloured = |command: &mut Command| converse(command, "").1.contains("\u{1b}[");
    let call = || world.rcc(["run", "--ro", "/nonexistent", "true"]);
    assert!(coloured(&mut call()));
    assert!(!coloured(call().env("NO_COLOR", "1")));
    assert!(!coloured(call().env("TERM", "dumb")));
    assert!(
        !String::from_utf8(call().output().unwrap().stderr)
            .unwrap()
            .contains('\u{1b}')
    );
}

/// What the user reads before a changed policy counts, word for word; the golden file is there to be read.
#[test]
fn ten_changes_of_a_policy_in_the_words_of_the_question() {
    let base = "version = 1\n[network]\nmode = \"allowlist\"\nallow = [\"example.com\"]\n[files]\nhidden = [\".env\", \"**/*.pem\"]\n";
    let network = |line: &str| base.replace("[files]", &format!("{line}\n[files]"));
    let changes = [
        (
            "a host more",
            base.replace("example.com", "*.example.com\", \"203.0.113.0/24:5432"),
        ),
        ("the mode", base.replace("allowlist", "internet")),
        ("a package manager's preset", network("presets = [\"npm\"]")),
        (
            "a raw rule",
            base.replace("example.com\"", "example.com\", \"example.com:8443/raw\""),
        ),
        ("ports of the host", network("host_ports = [5432]")),
        (
            "a published port",
            network("publish = [\"127.0.0.1:3000\", \"8080:80\"]"),
        ),
        (
            "a proxy, which a project cannot name",
            network("upstream_proxy = \"http://proxy.example.com:3128\""),
        ),
        (
            "paths to read and write",
            format!("{base}readonly = [\"~/shared\"]\nrw = [\"~/cache\"]\n"),
        ),
        (
            "hidden files no longer hidden",
            base.replace("\".env\", \"**/*.pem\"", "\".env\""),
        ),
        (
            "dangerous words",
            format!(
                "{base}share_state = true\n[hardening]\ndangerously_without_landlock = true\ndangerously_without_protected_paths = true\n"
            ),
        ),
        (
            "a variable of the caller",
            format!("{base}[env]\npass = [\"AWS_*\"]\n"),
        ),
    ];
    let mut text = String::new();
    for (name, changed) in changes {
        let world = World::new();
        world.file(".npmrc", "registry=https://npm.example.com/\n");
        world.policy(base);
        let (code, _) = converse(&mut world.rcc(["trust"]), "y\n");
        assert_eq!(code, Some(0));
        world.policy(&changed);
        let (code, shown) = converse(&mut world.rcc(["run", "true"]), "n\n");
        assert_eq!(code, Some(125), "{name}: {shown}");
        let home = world.home();
        let base = home.parent().unwrap().to_str().unwrap();
        let shown = shown.replace(base, "[WORLD]").replace("\r\n", "\n");
        // The terminal echoes the answer whenever it was typed, between two writes of rcc.
        let shown = shown.replace("[y/N] n\n", "[y/N] ");
        let lines: Vec<&str> = shown.lines().filter(|line| *line != "n").collect();
        let plain: String = lines
            .join("\n")
            .split('\u{1b}')
            .enumerate()
            .map(|(number, part)| {
                if number == 0 {
                    part
                } else {
                    part.split_once('m').map_or("", |(_, rest)| rest)
                }
            })
            .collect();
        text.push_str(&format!("## {name}\n\n{}\n\n", plain.trim()));
    }
    golden::assert_golden("dialogue.txt", &text);
}
