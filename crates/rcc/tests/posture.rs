//! The posture of a running sandbox: everything that a process inside can observe, compared as a whole with the record
//! in `golden/`, for root and for an ordinary user, without a network and with one.
//!
//! `RCC_BLESS=1` writes the records anew. How a record is made comparable is in `record/mod.rs`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod golden;
mod record;
mod scene;

use scene::{SECRET, Scene};

fn compare(name: &str, flags: &[&str]) {
    let Some(scene) = Scene::new(name) else {
        return;
    };
    let text = serde_json::to_string_pretty(&record::posture(&scene, flags)).unwrap() + "\n";
    let user = if scene.is_root() { "root" } else { "user" };
    golden::assert_golden(&format!("posture-{user}-{name}.json"), &text);
}

#[test]
fn without_a_network() {
    compare("none", &["-n"]);
}

#[test]
fn with_a_list_of_hosts() {
    compare("allowlist", &["--network", "allowlist"]);
}

#[test]
fn with_the_internet_it_is_the_same() {
    let Some(scene) = Scene::new("internet") else {
        return;
    };
    let listed = record::posture(&scene, &["--network", "allowlist"]);
    let internet = record::posture(&scene, &["--network", "internet"]);
    assert_eq!(listed, internet, "what may be reached is decided outside");
}

/// Two runs at once see nothing of each other, and what one run is, every run is.
#[test]
fn a_second_run_beside_the_first_is_the_same() {
    let Some(scene) = Scene::new("beside") else {
        return;
    };
    let alone = record::posture(&scene, &["-n"]);
    let first = scene
        .run(&["-n"])
        .args(["sh", "-c", "echo up; exec sleep 600"])
        .spawn();
    first.wait_for_text("up");
    assert_eq!(record::posture(&scene, &["-n"]), alone);
    drop(first);
}

/// Nothing shows that Landlock is in force but what it stops: here the reading of a file that came in for writing only,
/// which the mount and the file's mode would allow.
#[test]
fn landlock_is_in_force() {
    let Some(scene) = Scene::new("landlock") else {
        return;
    };
    let path = scene.base.join("outside/secret");
    let append = || std::fs::File::options().append(true).open(&path).unwrap();
    let script = ["bash", "-c", "cat /proc/$$/fd/1 >&2; true"];
    let inside = scene.run(&["-n"]).args(script).stdout(append()).output();
    assert!(
        inside.stderr_text().contains("Permission denied"),
        "{inside}"
    );
    let control = scene.command("env").args(script).stdout(append()).output();
    assert!(
        control.stderr_text().contains(SECRET),
        "the control: outside it is read\n{control}"
    );
}

/// The control of the whole record: without a sandbox it looks different in every part.
#[test]
fn without_a_sandbox_the_record_is_another() {
    let Some(scene) = Scene::new("control") else {
        return;
    };
    let inside = scene.inside(&["posture"]).detail;
    let outside = scene.outside(&["posture"]).detail;
    for part in [
        "mounts",
        "root",
        "hostname",
        "devices",
        "environment",
        "credentials",
        "status",
        "pids",
        "interfaces",
        "limits",
    ] {
        assert_ne!(inside[part], outside[part], "{part}");
    }
}
