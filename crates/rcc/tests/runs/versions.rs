//! Versions side by side, and an upgrade while a run lasts.

use crate::scene::{RCC, Scene};
use serde_json::Value;

/// A package manager writes the new program beside the old one and renames it over that; a developer's build removes it first.
#[test]
fn a_program_that_is_replaced_while_a_run_lasts_breaks_nothing() {
    let Some(scene) = Scene::new("upgrade") else {
        return;
    };
    let copy = scene.file("home/bin/rcc", std::fs::read(RCC).unwrap());
    scene
        .command("chmod")
        .arg("755")
        .arg(&copy)
        .output()
        .assert_success();
    let runs: Vec<_> = ["removed", "replaced"]
        .map(|name| {
            let run = scene
                .command(&copy)
                .args(["run", "-n", "--name", name, "--", "bash", "-c"])
                .args(["trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"])
                .spawn();
            run.wait_for_text("up");
            (name, run)
        })
        .into();
    std::fs::remove_file(&copy).unwrap();
    for (name, run) in runs {
        if name == "replaced" {
            // What stands there now is no program at all.
            scene.file("home/bin/rcc", "the next version\n");
        }
        let inside = scene.rcc(["exec", name, "--", "echo", "inside"]).output();
        assert_eq!(inside.assert_success().stdout_text(), "inside\n");
        scene.rcc(["stop", name]).output().assert_success();
        let output = run.wait();
        assert_eq!(output.assert_code(5).stdout_text(), "up\nbye\n");
        // The shell inside tells that its `sleep` was terminated; rcc says nothing.
        let told = output.stderr_text();
        assert!(!told.contains("rcc") && !told.contains("warning"), "{told}");
        assert_eq!(output.survivors.len(), 0);
    }
}

/// A record says who wrote it. What an older version did not write is not known, what a newer one wrote more is passed over.
#[test]
fn records_of_other_versions_are_listed_removed_and_named() {
    let Some(scene) = Scene::new("versions") else {
        return;
    };
    scene
        .rcc(["run", "-n", "--", "true"])
        .output()
        .assert_success();
    let runs = scene.home().join(".local/state/rcc/runs");
    for (id, more) in [
        ("older-aaaa", ""),
        (
            "newer-bbbb",
            r#""version":"9.0.0","boot_id":"x","moon":{"phase":[1,2]},"exit_code":3,"ended_at_ms":2000,"#,
        ),
    ] {
        let text = format!(
            r#"{{{more}"id":"{id}","project":"/x","agent":null,"argv":["true"],"network":"none","supervisor_pid":1,"started_at_ms":1000}}"#
        );
        scene.file(runs.join(id).join("run.json").to_str().unwrap(), text);
    }
    let listed = scene
        .rcc(["ps", "-a", "--json"])
        .output()
        .assert_success()
        .stdout_text();
    let told = |id: &str| -> Value {
        let mut runs = listed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        runs.find(|run| run["id"] == id).unwrap()
    };
    let (older, newer) = (told("older-aaaa"), told("newer-bbbb"));
    assert_eq!(
        (&older["state"], &older["version"]),
        (&"lost".into(), &"".into())
    );
    assert_eq!(
        (&newer["state"], &newer["version"], &newer["exit_code"]),
        (&"ended".into(), &"9.0.0".into(), &3.into())
    );
    for id in ["older-aaaa", "newer-bbbb"] {
        scene.rcc(["stop", id]).output().assert_code(125);
        scene.rcc(["inspect", id]).output().assert_success();
        scene.rcc(["rm", id]).output().assert_success();
    }
}
