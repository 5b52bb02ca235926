//! Versions side by side, and an upgrade while a run lasts.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use crate::scene::{RCC, Scene};
use rustix::fs::FlockOperation;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    listen, recv, send, socket_with,
};
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

/// A supervisor of another version, as far as other commands see it: a record whose lock is held, and a desk that gives one answer
/// to whatever it is asked.
struct Stranger {
    lock: File,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Closing it is not enough: a process that another test starts just now has it, too, until it executes its program.
        rustix::fs::flock(&self.lock, FlockOperation::Unlock).unwrap();
    }
}

impl Stranger {
    fn begin(scene: &Scene, id: &str, answer: &'static str) -> Self {
        let record = scene.home().join(".local/state/rcc/runs").join(id);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let text = format!(
            r#"{{"id":"{id}","version":"9.0.0","boot_id":"{}","project":"/x","agent":null,"argv":["true"],"network":"none","supervisor_pid":77,"started_at_ms":1000}}"#,
            boot.trim_end()
        );
        scene.file(record.join("run.json").to_str().unwrap(), text);
        let lock = File::open(&record).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        let desk = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let path = format!("/proc/self/fd/{}/desk", lock.as_raw_fd());
        bind(&desk, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&desk, 8).unwrap();
        scene.world.give_to_user(&record);
        // Ends with the test program.
        std::thread::spawn(move || {
            loop {
                let client = accept(&desk).unwrap();
                let mut asked = [0; 4096];
                let (length, _) = recv(&client, &mut asked, RecvFlags::empty()).unwrap();
                if length == 0 {
                    continue;
                }
                let asked: Value = serde_json::from_slice(&asked[..length]).unwrap();
                assert_eq!(asked["version"], 1, "{asked}");
                send(&client, answer.as_bytes(), SendFlags::empty()).unwrap();
            }
        });
        Self { lock }
    }
}

/// A run whose supervisor is of another version is listed, and what it says is told as such or refused: never taken for something
/// else, and nothing of the run is touched.
#[test]
fn a_supervisor_of_another_version_is_never_misread() {
    let Some(scene) = Scene::new("strangers") else {
        return;
    };
    scene
        .rcc(["run", "-n", "--", "true"])
        .output()
        .assert_success();
    let newer =
        "its supervisor speaks version 2 of what is said at the desk, and this rcc speaks 1";
    for (id, answer, told) in [
        // Even where the answer looks like one of this version's.
        ("newer-aaaa", r#"{"version":2,"answer":"done"}"#, newer),
        (
            "newer-bbbb",
            r#"{"version":2,"reply":{"of_tomorrow":[1]}}"#,
            newer,
        ),
        (
            "older-aaaa",
            r#"{"version":0,"answer":"done"}"#,
            "its supervisor speaks version 0 of",
        ),
        (
            "refuses-aaaa",
            r#"{"version":1,"answer":{"refused":{"reason":"rcc 9.0.0 does not do this any more"}}}"#,
            "rcc 9.0.0 does not do this any more",
        ),
        (
            "confused-aaaa",
            r#"{"version":1,"answer":{"flown":{}}}"#,
            "is not understood",
        ),
    ] {
        let stranger = Stranger::begin(&scene, id, answer);
        for command in [
            &["stop", id][..],
            &["kill", id],
            &["kill", "-s", "USR1", id],
            &["inspect", id],
            &["attach", id],
            &["exec", id, "--", "true"],
        ] {
            let said = scene.rcc(command).output();
            let text = said.assert_code(125).stderr_text();
            assert!(text.contains(told), "{said}");
            let fix = "use the rcc that started it, version 9.0.0; while the run lasts it is /proc/77/exe";
            assert!(text.contains(fix), "{said}");
        }
        let listed = scene.rcc(["ps", "--quiet"]).output().stdout_text();
        assert_eq!(listed, format!("{id}\n"));
        let said = scene.rcc(["rm", "--force", id]).output();
        assert!(said.assert_code(125).stderr_text().contains("is under way"));
        drop(stranger);
        // Given up by its supervisor it is lost, and an ordinary record.
        scene.rcc(["rm", id]).output().assert_success();
    }
}

/// A record of a form that this version does not know is told and kept, by those who are asked to remove it and by those who are not.
#[test]
fn records_of_a_newer_form_are_left_alone() {
    let Some(scene) = Scene::new("newer_form") else {
        return;
    };
    let runs = scene.home().join(".local/state/rcc/runs");
    let record = |id: &str, text: &str| {
        let path = runs.join(id).join("run.json");
        scene.file(path.to_str().unwrap(), text);
        scene.file(runs.join(id).join("changes").to_str().unwrap(), "precious");
    };
    record(
        "newer-aaaa",
        r#"{"format":2,"id":"newer-aaaa","name":"mine","version":"9.0.0","project":"/x","agent":null,"argv":["true"],"network":"none","supervisor_pid":1,"started_at_ms":1000}"#,
    );
    record("newer-bbbb", r#"{"format":3,"run":{"id":"newer-bbbb"}}"#);
    record(
        "known-aaaa",
        r#"{"id":"known-aaaa","version":"0.0.1","project":"/x","agent":null,"argv":["true"],"network":"none","supervisor_pid":1,"started_at_ms":1000}"#,
    );
    let listed = scene.rcc(["ps", "-a"]).output();
    assert!(listed.assert_success().stdout_text().contains("newer-aaaa"));
    let unreadable = "newer-bbbb/run.json cannot be read: another version of rcc wrote it";
    let fix = format!("rm -r {}", runs.join("newer-bbbb").display());
    let said = listed.stderr_text();
    assert!(said.contains(unreadable) && said.contains(&fix), "{listed}");
    for command in [
        &["rm", "--force", "newer-aaaa"][..],
        &["rm", "mine"],
        &["inspect", "newer-aaaa"],
        &["logs", "newer-aaaa"],
        &["wait", "newer-aaaa"],
        &["stop", "newer-aaaa"],
    ] {
        let said = scene.rcc(command).output();
        let told = "the record of the run newer-aaaa was written by rcc 9.0.0, in a form that rcc ";
        assert!(said.assert_code(125).stderr_text().contains(told), "{said}");
    }
    let pruned = scene.rcc(["prune", "--yes"]).output();
    assert_eq!(pruned.assert_success().stdout_text(), "known-aaaa\n");
    let kept = "kept, because a newer rcc wrote them or they are damaged: newer-aaaa, newer-bbbb";
    assert!(pruned.stderr_text().contains(kept), "{pruned}");
    for id in ["newer-aaaa", "newer-bbbb"] {
        assert_eq!(
            scene.text(runs.join(id).join("changes").to_str().unwrap()),
            "precious"
        );
    }
}
