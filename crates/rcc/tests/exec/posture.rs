//! Everything that a joined process can observe of itself is what the agent observes.

use serde_json::Value;

use crate::scene::Scene;
use crate::{lasting, record};

/// What differs by nature: who else runs, and that the streams are always pipes.
fn common(mut record: Value) -> Value {
    for part in ["pids", "descriptors"] {
        record.as_object_mut().unwrap().remove(part).unwrap();
    }
    record
}

fn compare(name: &str, flags: &[&str]) {
    let Some(scene) = Scene::new(name) else {
        return;
    };
    let agent = record::posture(&scene, flags);
    // As that of the agent above, whose caller had the same.
    let script = "umask 027; exec \"$@\"";
    let run = scene
        .command("sh")
        .env("PATH", "/usr/bin:/bin")
        .args(["-c", script, "sh", crate::scene::RCC, "run", "--name", name])
        .args(flags)
        .arg("--ro")
        .arg(record::program(&scene))
        .args(["--", "sh", "-c", "echo up; exec sleep 600"])
        .spawn();
    run.wait_for_text("up");
    let joined = record::posture_by(&scene, &["exec", name, "--"]);
    for descriptor in joined["descriptors"].as_array().unwrap() {
        assert_eq!(descriptor["target"], "pipe", "{joined}");
    }
    assert_eq!(joined["descriptors"].as_array().unwrap().len(), 3);
    assert_eq!(common(joined), common(agent));
    drop(run);
}

#[test]
fn a_joined_process_is_what_the_agent_is() {
    compare("joined_none", &["-n"]);
}

#[test]
fn a_joined_process_is_what_the_agent_is_with_a_network() {
    compare("joined_allowlist", &["--network", "allowlist"]);
}

/// The filter of the plan is the agent's and the joined process's alike, a narrower one too.
#[test]
fn a_joined_process_has_the_filter_of_its_run() {
    let Some(scene) = Scene::new("joined_filter") else {
        return;
    };
    let path = scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[hardening]\nseccomp = \"strict\"\n",
    );
    let filters = |words: &[&str]| {
        let status = scene
            .rcc(words.iter().copied())
            .args(["cat", "/proc/self/status"])
            .output();
        let text = status.assert_success().stdout_text();
        let line = text
            .lines()
            .find(|line| line.starts_with("Seccomp_filters:"));
        line.unwrap().to_owned()
    };
    let agent = filters(&["run", "-n", "--"]);
    let run = lasting(&scene, "strict", &["-n"]);
    assert_eq!(filters(&["exec", "strict", "--"]), agent);
    drop(run);
    std::fs::remove_file(path).unwrap();
    assert_ne!(
        filters(&["run", "-n", "--"]),
        agent,
        "the control: by default there is one filter less"
    );
}
