//! `rcc home`: what it shows of agent homes, and a reset that neither runs nor hostile content can mislead.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

use scene::{SECRET, Scene, exists};
use serde_json::Value;

/// `SIGTERM`, `signal(7)`.
const TERM: i32 = 15;

#[track_caller]
fn shown(scene: &Scene, name: &str) -> Value {
    let output = scene.rcc(["home", "show", name, "--json"]).output();
    serde_json::from_str(&output.assert_success().stdout_text()).unwrap()
}

#[test]
fn a_home_is_shown_and_reset_but_never_while_a_run_has_it() {
    let Some(scene) = Scene::new("home_use") else {
        return;
    };
    let nothing = scene.rcc(["home"]).output();
    assert_eq!(nothing.assert_success().stdout_text(), "");
    let script = "printf '%100000s' x > ~/state; mkfifo ~/fifo; ln -s / ~/root; \
        touch ~/$(printf 'a\\033]0;x\\007b\\nc'); mkdir -p ~/closed/x; chmod 0 ~/closed; echo up; exec sleep 600";
    let mut run = scene.run(&["-n"]).args(["sh", "-c", script]).spawn();
    run.wait_for_text("up");
    let ids = scene.rcc(["ps", "-q"]).output().stdout_text();

    let home = shown(&scene, "default");
    assert_eq!(home["runs"], serde_json::json!([ids.trim()]));
    assert_eq!(home["path"], scene.agent_home().to_str().unwrap());
    assert_eq!(home["imported"], Value::Null);
    assert!(home["bytes"].as_u64().unwrap() >= 100_000, "{home}");
    assert!(home["entries"].as_u64().unwrap() >= 5, "{home}");
    let list = scene.rcc(["home"]).output().assert_success().stdout_text();
    assert_eq!(list, format!("default  in use by {ids}"));

    let refused = scene.rcc(["home", "reset", "default", "--yes"]).output();
    refused.assert_code(125);
    let text = refused.stderr_text();
    assert!(text.contains("a run uses the agent home default"), "{text}");
    assert!(exists(&scene.agent_home().join("state")));
    run.signal(TERM);
    run.wait().assert_code(143);

    let list = scene.rcc(["home", "list"]).output().stdout_text();
    assert!(list.starts_with("default  last used "), "{list}");
    // Without a terminal nothing is asked, and silence is no.
    let refused = scene.rcc(["home", "reset", "default"]).output();
    refused.assert_code(125);
    assert!(refused.stderr_text().contains("--yes"), "{refused}");
    assert!(exists(&scene.agent_home().join("state")));

    scene
        .rcc(["home", "reset", "default", "--yes"])
        .output()
        .assert_success();
    let homes = scene.agent_home().parent().unwrap().to_owned();
    assert_eq!(std::fs::read_dir(homes).unwrap().count(), 0);
    for name in ["home/.ssh/id", "outside/secret"] {
        assert_eq!(scene.text(name), SECRET, "{name}");
    }
    scene
        .rcc(["home", "reset", "default", "--yes"])
        .output()
        .assert_code(125);
    // The next run has an empty one.
    let fresh = scene.sh(&["-n"], "ls -A ~ | grep -v -e '^git$' -e '^work$'; true");
    assert_eq!(fresh.assert_success().stdout_text(), "");
}

/// After `kill -9` of its supervisor a run has nothing any more, and keeps nobody from resetting the home.
#[test]
fn a_home_is_free_after_its_run_was_killed() {
    let Some(scene) = Scene::new("home_killed") else {
        return;
    };
    let mut run = scene
        .run(&["-n"])
        .args(["sh", "-c", "touch ~/state; echo up; exec sleep 600"])
        .spawn();
    run.wait_for_text("up");
    run.signal(9);
    let killed = run.wait();
    assert_eq!(killed.code(), None, "{killed}");
    scene
        .rcc(["home", "reset", "default", "--yes"])
        .output()
        .assert_success();
    assert!(!exists(&scene.agent_home()));
}
