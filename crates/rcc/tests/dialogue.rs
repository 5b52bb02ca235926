//! Questions on a terminal: asked only there, answered with no unless the answer is yes, coloured only if wanted.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

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
