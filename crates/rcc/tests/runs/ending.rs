//! `rcc stop`, `rcc kill` and `rcc inspect`.

use std::time::{Duration, Instant};

use crate::scene::{Scene, exists};
use crate::start;
use serde_json::Value;

const FOR_EVER: &str = "echo up; while :; do sleep 0.05; done";

#[test]
fn an_agent_that_ends_when_it_is_asked_is_not_killed() {
    let Some(scene) = Scene::new("stopped") else {
        return;
    };
    let polite = start(
        &scene,
        "polite",
        &format!("trap 'echo bye; exit 5' TERM; {FOR_EVER}"),
    );
    let plain = start(&scene, "plain", FOR_EVER);
    let begun = Instant::now();
    scene
        .rcc(["stop", "polite", "plain"])
        .output()
        .assert_success();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "it waited for nothing"
    );
    let output = polite.wait();
    assert_eq!(output.assert_code(5).stdout_text(), "up\nbye\n");
    assert_eq!(plain.wait().assert_code(143).survivors.len(), 0);
    for path in scene
        .home()
        .join(".local/state/rcc/runs")
        .read_dir()
        .unwrap()
        .flatten()
    {
        assert!(!exists(&path.path().join("desk")), "the socket is gone");
    }
    let ended = scene.rcc(["stop", "polite"]).output();
    assert!(
        ended.assert_code(125).stderr_text().contains("has ended"),
        "{ended}"
    );
}

#[test]
fn an_agent_that_does_not_end_is_killed() {
    let Some(scene) = Scene::new("killed") else {
        return;
    };
    // One that ignores the signal, and one that stops everything inside, itself included.
    let deaf = start(&scene, "deaf", &format!("trap '' TERM; {FOR_EVER}"));
    scene
        .rcc(["stop", "--time", "0", "deaf"])
        .output()
        .assert_success();
    assert_eq!(deaf.wait().assert_code(137).survivors.len(), 0);
    let busy = start(&scene, "busy", &format!("trap 'echo one' USR1; {FOR_EVER}"));
    scene
        .rcc(["kill", "--signal", "SIGUSR1", "busy"])
        .output()
        .assert_success();
    busy.wait_for_text("one");
    for bad in ["STOP", "19", "99", "NONE"] {
        scene
            .rcc(["kill", "-s", bad, "busy"])
            .output()
            .assert_code(125);
    }
    scene
        .rcc(["kill", "busy", "nobody"])
        .output()
        .assert_code(125);
    assert_eq!(busy.wait().assert_code(137).survivors.len(), 0);
}

/// A supervisor that is stopped (Ctrl-Z) neither hears nor tidies up: it is continued first.
#[test]
fn a_stopped_run_can_be_stopped_for_good() {
    let Some(scene) = Scene::new("suspended") else {
        return;
    };
    let mut run = start(&scene, "held", FOR_EVER);
    run.signal(19);
    let state = || {
        let listed = scene
            .rcc(["ps", "--json"])
            .output()
            .assert_success()
            .stdout_text();
        serde_json::from_str::<Value>(&listed).unwrap()["state"].clone()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while state() != "stopped" {
        assert!(Instant::now() < end, "it never stops");
    }
    scene.rcc(["stop", "held"]).output().assert_success();
    assert_eq!(run.wait().assert_code(143).survivors.len(), 0);
}

#[test]
fn everything_known_about_a_run_is_told() {
    let Some(scene) = Scene::new("inspected") else {
        return;
    };
    let run = start(&scene, "known", FOR_EVER);
    let inspect = || -> Value {
        let output = scene.rcc(["inspect", "known"]).output();
        serde_json::from_str::<Vec<Value>>(&output.assert_success().stdout_text()).unwrap()[0]
            .clone()
    };
    let told = inspect();
    assert_eq!(
        (&told["state"], &told["supervisor_pid"]),
        (&"running".into(), &run.pid().into())
    );
    let init = told["init_pid"].as_u64().unwrap();
    let processes = scene.world.processes();
    let of_init = processes
        .iter()
        .find(|process| u64::from(process.pid) == init)
        .unwrap();
    assert_eq!(of_init.command_line, "rcc-init");
    assert_eq!(told["plan"]["argv"][0], "bash");
    assert_eq!(told["plan"]["run_id"], told["id"]);
    scene.rcc(["kill", "known"]).output().assert_success();
    run.wait().assert_code(137);
    let told = inspect();
    assert_eq!(
        (&told["state"], &told["exit_code"], &told["plan"]),
        (&"ended".into(), &137.into(), &Value::Null)
    );
}
