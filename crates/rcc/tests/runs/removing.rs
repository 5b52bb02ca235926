//! `rcc rm`, `rcc prune` and `--rm`: records go when they are told to, and what somebody may still want stays.

use std::path::PathBuf;

use crate::idle;
use crate::scene::{RCC, Scene, exists};
use serde_json::Value;

pub(super) fn record(scene: &Scene, id: &str) -> PathBuf {
    scene.home().join(".local/state/rcc/runs").join(id)
}

/// Ids of all recorded runs.
fn recorded(scene: &Scene) -> Vec<String> {
    let listed = scene.rcc(["ps", "-aq"]).output();
    let text = listed.assert_success().stdout_text();
    text.lines().map(str::to_owned).collect()
}

/// Runs a command under this name with these flags, to its end; its id.
#[track_caller]
fn ended(scene: &Scene, name: &str, flags: &[&str], script: &str) -> String {
    let run = scene.rcc(["run", "-n", "--name", name]).args(flags);
    let output = run.args(["--", "sh", "-c", script]).output();
    output.assert_success();
    let told = scene
        .rcc(["inspect", name])
        .output()
        .assert_success()
        .stdout_text();
    let told: Vec<Value> = serde_json::from_str(&told).unwrap();
    told[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn records_are_removed_by_id_and_by_name_and_never_those_of_runs_under_way() {
    let Some(scene) = Scene::new("rm") else {
        return;
    };
    let one = ended(&scene, "one", &[], "true");
    let two = ended(&scene, "two", &[], "true");
    let live = idle(&scene, "live");
    // Every one is tried; what failed is told.
    let output = scene.rcc(["rm", "one", "live", "nobody", &two]).output();
    output.assert_code(125);
    assert_eq!(output.stdout_text(), format!("{one}\n{two}\n"));
    let told = output.stderr_text();
    assert!(
        told.contains("is under way") && told.contains("no run is called nobody"),
        "{told}"
    );
    assert!(!exists(&record(&scene, &one)) && !exists(&record(&scene, &two)));
    assert!(
        scene
            .rcc(["rm", "--force", "live"])
            .output()
            .assert_code(125)
            .stderr_text()
            .contains("is under way"),
    );
    scene.rcc(["kill", "live"]).output().assert_success();
    live.wait().assert_code(137);
    let json = scene.rcc(["rm", "--json", "live"]).output();
    assert_eq!(json.assert_success().json()["name"], "live");
    assert_eq!(recorded(&scene), Vec::<String>::new());
}

/// A layer that waits and a snapshot that leads back are work that nobody has decided about.
#[test]
fn changes_that_wait_keep_their_record() {
    let Some(scene) = Scene::new("rm_changes") else {
        return;
    };
    let layer = ended(&scene, "layer", &["--cow"], "echo new >added");
    let snapshot = ended(&scene, "snapshot", &["--snapshot"], "echo new >file");
    let plain = ended(&scene, "plain", &[], "true");
    for name in ["layer", "snapshot"] {
        let refused = scene.rcc(["rm", name]).output();
        refused.assert_code(125);
        let told = refused.stderr_text();
        assert!(
            told.contains("neither applied nor discarded") && told.contains("--force"),
            "{told}"
        );
    }
    // All together: only what nobody misses goes, and not unasked.
    let unasked = scene.rcc(["prune"]).output();
    assert!(
        unasked.assert_code(125).stderr_text().contains("--yes"),
        "{unasked}"
    );
    assert!(exists(&record(&scene, &plain)));
    let pruned = scene.rcc(["prune", "--yes"]).output();
    assert_eq!(pruned.assert_success().stdout_text(), format!("{plain}\n"));
    let told = pruned.stderr_text();
    assert!(told.contains(&layer) && told.contains(&snapshot), "{told}");
    // They are whole, and once they are decided about they are records like any other.
    scene
        .rcc(["apply", "--run", "layer"])
        .output()
        .assert_success();
    assert_eq!(scene.text("home/work/project/added"), "new\n");
    scene.rcc(["undo", "snapshot"]).output().assert_success();
    assert_eq!(scene.text("home/work/project/file"), "of the project\n");
    let mut pruned: Vec<String> = scene
        .rcc(["prune", "--yes"])
        .output()
        .assert_success()
        .stdout_text()
        .lines()
        .map(str::to_owned)
        .collect();
    pruned.sort();
    let mut both = [layer, snapshot];
    both.sort();
    assert_eq!(pruned, both);
    // By force, by name.
    let lost = ended(&scene, "lost", &["--cow"], "echo new >lost");
    let forced = scene.rcc(["rm", "-f", "lost"]).output();
    assert_eq!(forced.assert_success().stdout_text(), format!("{lost}\n"));
    assert!(!exists(&record(&scene, &lost)) && !exists(&scene.project().join("lost")));
    let nothing = scene.rcc(["prune"]).output();
    assert_eq!(nothing.assert_success().stdout_text(), "");
}

#[test]
fn a_run_with_rm_leaves_no_record_but_for_changes_that_wait() {
    let Some(scene) = Scene::new("rm_flag") else {
        return;
    };
    for (flags, script, code) in [
        (&["--rm", "-n"][..], "exit 7", 7),
        (&["--rm", "--network", "allowlist"], "exit 0", 0),
        (&["--rm", "-n"], "kill -9 $$", 137),
        (&["--rm", "-n", "--cow"], "true", 0),
    ] {
        let output = scene
            .rcc(["run"])
            .args(flags)
            .args(["--", "sh", "-c", script])
            .output();
        assert_eq!(output.assert_code(code).stderr_text(), "", "{flags:?}");
        assert_eq!(recorded(&scene), Vec::<String>::new(), "{flags:?}");
    }
    scene
        .rcc(["run", "--rm", "-n", "--", "no-such-program"])
        .output()
        .assert_code(127);
    assert_eq!(recorded(&scene), Vec::<String>::new());
    let output = scene
        .rcc(["run", "--rm", "-n", "--cow", "--", "touch", "new"])
        .output();
    assert!(
        output.assert_success().stderr_text().contains("rcc apply"),
        "{output}"
    );
    assert_eq!(recorded(&scene).len(), 1);
}

/// Whoever waits has the exit code, though the record goes at that moment.
#[test]
fn the_exit_code_of_a_run_with_rm_is_told_to_those_who_wait() {
    let Some(scene) = Scene::new("rm_wait") else {
        return;
    };
    let inside = "while [ ! -e go ]; do sleep 0.02; done; exit 9";
    let script = "\"$0\" run --rm -n -d --name short -- sh -c \"$1\"; echo started; exec sleep 600";
    let keeper = scene
        .command("sh")
        .args(["-c", script, RCC, inside])
        .spawn();
    keeper.wait_for_text("started");
    let waiting: Vec<_> = (0..3)
        .map(|_| scene.rcc(["wait", "short"]).spawn())
        .collect();
    let id = recorded(&scene)[0].clone();
    let waiters = record(&scene, &id).join("waiters");
    // All three hold it: the kernel lists a lock for each.
    let locks = |inode: u64| {
        let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        text.matches(&format!(":{inode} ")).count()
    };
    let end = std::time::Instant::now() + rcc_testkit::patience(std::time::Duration::from_secs(30));
    loop {
        use std::os::unix::fs::MetadataExt as _;
        if waiters
            .metadata()
            .is_ok_and(|status| locks(status.ino()) == 3)
        {
            break;
        }
        assert!(std::time::Instant::now() < end, "nobody waits");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    scene.file("home/work/project/go", "");
    for one in waiting {
        assert_eq!(one.wait().assert_success().stdout_text(), "9\n");
    }
    let end = std::time::Instant::now() + rcc_testkit::patience(std::time::Duration::from_secs(30));
    while exists(&record(&scene, &id)) {
        assert!(std::time::Instant::now() < end, "the record stays");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(keeper);
}

/// After a reboot, and where a home is shared with another machine: a lock that looks held means nothing here.
#[test]
fn a_run_of_another_boot_is_lost_whoever_holds_its_lock() {
    let Some(scene) = Scene::new("rm_boot") else {
        return;
    };
    let run = idle(&scene, "old");
    let state = || {
        scene
            .rcc(["ps", "-a", "--json"])
            .output()
            .assert_success()
            .json()
    };
    let told = state();
    assert_eq!(
        (&told["state"], &told["supervisor_pid"]),
        (&"running".into(), &run.pid().into())
    );
    let path = record(&scene, told["id"].as_str().unwrap()).join("run.json");
    let genuine = std::fs::read_to_string(&path).unwrap();
    let mut description: Value = serde_json::from_str(&genuine).unwrap();
    let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(description["boot_id"], now.trim_end());
    description["boot_id"] = "00000000-0000-4000-8000-000000000000".into();
    std::fs::write(&path, description.to_string()).unwrap();
    // Its supervisor holds the lock, and its process id is one that lives: neither counts.
    let told = state();
    assert_eq!(
        (&told["state"], &told["supervisor_pid"]),
        (&"lost".into(), &Value::Null)
    );
    for command in [
        &["stop", "old"][..],
        &["kill", "old"],
        &["exec", "old", "--", "true"],
    ] {
        let refused = scene.rcc(command).output();
        assert!(
            refused.assert_code(125).stderr_text().contains("has ended"),
            "{refused}"
        );
    }
    scene.rcc(["wait", "old"]).output().assert_code(125);
    // Whoever holds the lock may still write there.
    let busy = scene.rcc(["rm", "-f", "old"]).output();
    assert!(
        busy.assert_code(125).stderr_text().contains("is in use"),
        "{busy}"
    );
    assert_eq!(
        scene
            .rcc(["prune", "--yes"])
            .output()
            .assert_success()
            .stdout_text(),
        ""
    );
    std::fs::write(&path, genuine).unwrap();
    scene.rcc(["kill", "old"]).output().assert_success();
    run.wait().assert_code(137);
    scene.rcc(["rm", "old"]).output().assert_success();
}
