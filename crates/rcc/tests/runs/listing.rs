//! `rcc ps`, names, and what is told of runs whose supervisor is gone.

use std::os::unix::fs::PermissionsExt as _;

use crate::scene::Scene;
use rcc_testkit::world::Running;
use serde_json::Value;

/// `SIGTERM`, `signal(7)`.
const TERM: i32 = 15;

/// Starts a run that lasts until it is told to end, with these flags.
fn lasting(scene: &Scene, flags: &[&str]) -> Running {
    let run = scene
        .run(flags)
        .args(["sh", "-c", "echo up; exec sleep 600"])
        .spawn();
    run.wait_for_text("up");
    run
}

/// The lines of `rcc ps --json` with these flags.
fn listed(scene: &Scene, flags: &[&str]) -> Vec<Value> {
    let output = scene.rcc(["ps", "--json"]).args(flags).output();
    let text = output.assert_success().stdout_text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(runs: &[Value]) -> Vec<&str> {
    runs.iter().map(|run| run["id"].as_str().unwrap()).collect()
}

#[test]
fn runs_are_listed_while_they_last_and_with_all_afterwards() {
    let Some(scene) = Scene::new("listed") else {
        return;
    };
    assert_eq!(listed(&scene, &["--all"]), Vec::<Value>::new());
    let nothing = scene.rcc(["ps"]).output();
    assert_eq!(nothing.assert_success().stdout_text(), "");
    assert!(nothing.stderr_text().contains("nothing runs"), "{nothing}");

    let mut first = lasting(&scene, &["-n", "--name", "first"]);
    let second = lasting(&scene, &["--network", "allowlist"]);
    let runs = listed(&scene, &[]);
    assert_eq!(runs.len(), 2, "{runs:?}");
    let of_first = runs.iter().find(|run| run["name"] == "first").unwrap();
    assert_eq!(of_first["state"], "running");
    assert_eq!(of_first["network"], "none");
    assert_eq!(of_first["supervisor_pid"], first.pid());
    assert_eq!(of_first["project"], scene.project().to_str().unwrap());
    assert_eq!(of_first["version"], env!("CARGO_PKG_VERSION"));
    let table = scene.rcc(["ps"]).output().assert_success().stdout_text();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.starts_with("ID "), "{table}");

    first.signal(TERM);
    assert_eq!(first.wait().assert_code(143).survivors.len(), 0);
    assert_eq!(listed(&scene, &[]).len(), 1);
    let all = listed(&scene, &["--all"]);
    let ended = all.iter().find(|run| run["name"] == "first").unwrap();
    assert_eq!(
        (
            &ended["state"],
            &ended["exit_code"],
            &ended["supervisor_pid"]
        ),
        (&"ended".into(), &143.into(), &Value::Null)
    );
    let quiet = scene
        .rcc(["ps", "-aq"])
        .output()
        .assert_success()
        .stdout_text();
    assert_eq!(quiet.lines().collect::<Vec<_>>(), ids(&all));
    drop(second);
}

/// A name is a run's as long as it lasts; every command that takes a run takes it.
#[test]
fn a_run_is_found_by_its_name_its_id_and_the_beginning_of_its_id() {
    let Some(scene) = Scene::new("named") else {
        return;
    };
    let mut run = lasting(&scene, &["--network", "allowlist", "--name", "build"]);
    let id = ids(&listed(&scene, &[]))[0].to_owned();
    let taken = scene.rcc(["run", "--name", "build", "--", "true"]).output();
    taken.assert_code(125);
    assert!(
        taken
            .stderr_text()
            .contains(&format!("the name build belongs to the run {id}")),
        "{taken}"
    );
    scene
        .rcc(["run", "--name", "../x", "--", "true"])
        .output()
        .assert_code(125);
    let rules = |word: &str| scene.rcc(["net", "rules", "--run", word]).output();
    for word in ["build", id.as_str(), &id[..id.len() - 1]] {
        rules(word).assert_success();
    }
    rules("buil").assert_code(125);
    rules("").assert_code(125);

    run.signal(TERM);
    run.wait().assert_code(143);
    // The name is free again, and means the run under way rather than the one that has ended.
    let again = lasting(&scene, &["--network", "allowlist", "--name", "build"]);
    rules("build").assert_success();
    drop(again);

    // Commands about changes take it too.
    let cow = scene.rcc([
        "--cow", "--name", "trial", "run", "-n", "--", "touch", "new",
    ]);
    cow.output().assert_success();
    let names = scene.rcc(["diff", "--name-status", "trial"]).output();
    assert_eq!(names.assert_success().stdout_text(), "A\tnew\n", "{names}");
    scene
        .rcc(["apply", "--run", "trial"])
        .output()
        .assert_success();
    assert!(scene.project().join("new").exists());
}

/// After `kill -9`, a crash or a reboot nothing ends a record. Its process id may be anybody's by now: nobody is taken for
/// the supervisor, and nobody is sent a signal.
#[test]
fn a_record_that_nobody_holds_is_told_and_never_trusted() {
    let Some(scene) = Scene::new("stale") else {
        return;
    };
    let bystander = scene.victim();
    let record = scene.home().join(".local/state/rcc/runs/old-abcd");
    std::fs::create_dir_all(&record).unwrap();
    let told = serde_json::json!({"id": "old-abcd", "name": "old", "project": scene.project(), "agent": null,
        "argv": ["true"], "network": "none", "supervisor_pid": bystander.pid(), "started_at_ms": 1000});
    std::fs::write(record.join("run.json"), told.to_string()).unwrap();
    for path in [
        &record,
        record.parent().unwrap(),
        &scene.home().join(".local/state/rcc"),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    scene.world.give_to_user(&scene.base);

    assert_eq!(listed(&scene, &[]), Vec::<Value>::new());
    let all = listed(&scene, &["--all"]);
    assert_eq!(
        (&all[0]["state"], &all[0]["supervisor_pid"]),
        (&"lost".into(), &Value::Null)
    );
    scene
        .rcc(["net", "rules", "--run", "old"])
        .output()
        .assert_code(125);
    // Its name is free.
    scene
        .rcc(["run", "-n", "--name", "old", "--", "true"])
        .output()
        .assert_success();
    // Garbage in a record is no run, and hides no other.
    std::fs::write(record.join("run.json"), "{\"id\":").unwrap();
    assert_eq!(listed(&scene, &["--all"]).len(), 1);
}
