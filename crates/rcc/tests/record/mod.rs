//! The whole observable record of a running sandbox, made comparable between machines.
//!
//! What a machine or a run decides is replaced by a word in brackets, and checked here before it is replaced:
//!
//! | word | stands for | checked |
//! |---|---|---|
//! | `[SCENE]` `[WORLD]` | paths of the test | |
//! | `[UID]` `[GID]` `[USER]` `[RUN]` | the caller, the id of the run | |
//! | `[SYSTEM]` | `/usr`, `/lib64`, `/nix` and so on, and mounts below them | all alike; exactly those that the host has |
//! | `[ETC]` | one overlay, or a bind with covers where the host has mounts below `/etc` | all alike |
//! | `[HIDDEN]` `[FROZEN]` `[SYS]` | parts of `/proc` and `/sys`, which differ by kernel | all alike |
//! | `[HOST]` | type, source and options of the host's own file systems | |
//! | `[CALLER'S]` | limits and scores that the caller of rcc has too | equal to the caller's |
//! | `[CPU]` `[ABI]` `[LINK-LOCAL]` | the processor's speculation, Landlock's version, an address made of a random number | |
//!
//! Must not drop anything: a line that no rule knows stays as it is, and differs from the golden file.

use std::collections::BTreeSet;

use rcc_testkit::probe::{self, Record};
use serde_json::{Value, json};

use crate::scene::Scene;

/// Entries of `/` that hold the operating system.
const SYSTEM: [&str; 10] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu",
];

/// Attributes of a mount that protect something; the others (times, write-back) are the host's habit.
const PROTECTING: [&str; 5] = ["ro", "rw", "nosuid", "nodev", "noexec"];

/// Runs a sandbox with these flags and gives its record, normalised.
#[track_caller]
pub(crate) fn posture(scene: &Scene, flags: &[&str]) -> Value {
    let program = program(scene);
    let program = program.to_str().unwrap();
    let words = [&["run"][..], flags, &["--ro", program, "--"]].concat();
    posture_by(scene, &words)
}

/// A copy of the probe in the scene: the place of the build would show as directories of its own.
pub(crate) fn program(scene: &Scene) -> std::path::PathBuf {
    let program = scene.base.join("bin/rcc-probe");
    if !program.exists() {
        std::fs::create_dir_all(scene.base.join("bin")).unwrap();
        rcc_testkit::copy_program(&probe::path(), &program);
    }
    program
}

/// The record of a process that `rcc` with these words starts, normalised.
#[track_caller]
pub(crate) fn posture_by(scene: &Scene, words: &[&str]) -> Value {
    let script = "umask 027; exec \"$@\"";
    let (namespaces, outside) = outside(scene);
    let command = scene
        .command("sh")
        .env("PATH", "/usr/bin:/bin")
        .args(["-c", script, "sh", crate::scene::RCC])
        .args(words)
        .arg(program(scene))
        .arg("posture");
    let record = Record::of(&command.args(namespaces).output());
    let mut record = record.assert_ok().detail.clone();
    mounts(&mut record);
    system_directories(&mut record, scene);
    compare_with_caller(&mut record, &outside);
    small_things(&mut record);
    replace_words(record, scene)
}

/// The caller's namespaces as arguments of the probe, and the caller's own record.
fn outside(scene: &Scene) -> (Vec<String>, Value) {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let script = names
        .map(|name| format!("echo {name}=$(readlink /proc/self/ns/{name})"))
        .join("; ");
    let links = scene
        .command("sh")
        .args(["-c", &script])
        .output()
        .assert_success()
        .stdout_text();
    let limits = scene
        .command("sh")
        .args([
            "-c",
            "tail -n +2 /proc/self/limits; cat /proc/self/oom_score_adj",
        ])
        .output();
    let lines: Vec<String> = limits
        .stdout_text()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    (links.lines().map(str::to_owned).collect(), json!(lines))
}

/// One mount of the record: `target type options propagation source=… root=… super=…`.
fn mounts(record: &mut Value) {
    let lines = record["mounts"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    for line in lines {
        let line = line.as_str().unwrap();
        let words: Vec<&str> = line.splitn(7, ' ').collect();
        let [target, kind, options, propagation, ..] = words[..] else {
            panic!("an odd mount: {line}")
        };
        let protecting: Vec<&str> = options
            .split(',')
            .filter(|option| PROTECTING.contains(option))
            // systemd mounts the host's /sys so, and what is below it keeps that.
            .filter(|option| !(target.starts_with("/sys/") && *option == "noexec"))
            .collect();
        let root = words
            .iter()
            .find_map(|word| word.strip_prefix("root="))
            .unwrap();
        let is_below =
            |directory: &str| target == directory || target.starts_with(&format!("{directory}/"));
        let name = match () {
            () if SYSTEM.iter().any(|directory| is_below(directory)) => "[SYSTEM]",
            () if is_below("/etc") => "[ETC]",
            () if target.starts_with("/proc/") && kind == "tmpfs" => "[HIDDEN]",
            () if target.starts_with("/proc/") => "[FROZEN]",
            () if target.starts_with("/sys/") => "[SYS]",
            () => target,
        };
        let is_own =
            ["tmpfs", "proc", "devpts"].contains(&kind) && !name.starts_with('[') && root == "/";
        let rest = if is_own {
            // The kernel's own choice (CONFIG_TMPFS_INODE64).
            words[4..].join(" ").replace(",inode64", "")
        } else {
            "[HOST]".to_owned()
        };
        let kind = if is_own { kind } else { "[HOST]" };
        shown.insert(format!(
            "{name} {kind} {} {propagation} {rest}",
            protecting.join(",")
        ));
    }
    record["mounts"] = json!(shown);
}

/// `/` holds the system's directories that the host has, no more and no fewer, and the sandbox's own.
fn system_directories(record: &mut Value, scene: &Scene) {
    let names = record["root"].as_array().unwrap();
    let is_system =
        |name: &&Value| SYSTEM.contains(&format!("/{}", name.as_str().unwrap()).as_str());
    let found: BTreeSet<String> = names
        .iter()
        .filter(is_system)
        .map(|name| format!("/{}", name.as_str().unwrap()))
        .collect();
    let there: BTreeSet<String> = SYSTEM
        .iter()
        .filter(|path| scene.outside(&["stat", path]).ok)
        .map(|path| (*path).to_owned())
        .collect();
    assert_eq!(found, there, "the system's directories");
    let mut rest: Vec<Value> = names
        .iter()
        .filter(|name| !is_system(name))
        .cloned()
        .collect();
    rest.insert(0, json!("[SYSTEM]"));
    record["root"] = json!(rest);
}

/// What is the caller's own is shown as that.
fn compare_with_caller(record: &mut Value, outside: &Value) {
    let outside: Vec<&str> = outside
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let mut others = Vec::new();
    for line in record["limits"].as_array().unwrap() {
        let line = line.as_str().unwrap();
        others.push(if outside.contains(&line) {
            let name: Vec<&str> = line
                .split(' ')
                .take_while(|word| word.parse::<u64>().is_err() && *word != "unlimited")
                .collect();
            format!("{} [CALLER'S]", name.join(" "))
        } else {
            line.to_owned()
        });
    }
    record["limits"] = json!(others);
    if outside.last() == Some(&record["oom_score_adj"].as_str().unwrap()) {
        record["oom_score_adj"] = json!("[CALLER'S]");
    }
}

fn small_things(record: &mut Value) {
    record["status"]["Speculation_Store_Bypass"] = json!("[CPU]");
    if record["landlock"]["abi"]
        .as_u64()
        .is_some_and(|abi| abi >= 1)
    {
        record["landlock"]["abi"] = json!("[ABI]");
    }
    record["environment"]["RCC_RUN"] = json!("[RUN]");
    // Each line is `number:controllers:path`; which hierarchies there are is the host's choice.
    let groups = record["cgroup"].as_str().unwrap();
    if groups.lines().all(|line| line.ends_with(":/")) {
        record["cgroup"] = json!("every hierarchy: /");
    }
    for entry in record["descriptors"].as_array_mut().unwrap() {
        let flags = u32::from_str_radix(entry["flags"].as_str().unwrap(), 8).unwrap();
        let access = ["read", "write", "read and write", "odd"][(flags & 3) as usize];
        let more = if flags & 0o6000 == 0 {
            ""
        } else {
            ", append or not blocking"
        };
        entry["flags"] = json!(format!("{access}{more}"));
    }
    for list in [&mut record["interfaces"]["ipv6"]]
        .into_iter()
        .flat_map(|list| list.as_array_mut().unwrap())
    {
        if list.as_str().unwrap().contains(" fe80::") {
            *list = json!(format!(
                "{} [LINK-LOCAL]",
                list.as_str().unwrap().split(' ').next().unwrap()
            ));
        }
    }
    let routes = record["routes"]["ipv6"].as_array().unwrap();
    let routes: BTreeSet<String> = routes
        .iter()
        .map(|route| {
            let words: Vec<&str> = route.as_str().unwrap().split(' ').collect();
            let is_address = words[1].starts_with("fe80::")
                && words[1].ends_with("/128")
                && words[1] != "fe80::/128";
            if is_address {
                format!("{} [LINK-LOCAL]", words[0])
            } else {
                words.join(" ")
            }
        })
        .collect();
    record["routes"]["ipv6"] = json!(routes);
}

/// Replaces the paths and ids of this test wherever they stand.
fn replace_words(record: Value, scene: &Scene) -> Value {
    let user = scene.world.user();
    let directory = scene.world.directory().to_str().unwrap();
    let name = scene
        .world
        .directory()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let mut text = serde_json::to_string_pretty(&record).unwrap();
    for (from, to) in [
        (scene.base.to_str().unwrap(), "[SCENE]"),
        (directory, "[WORLD]"),
        (name, "[WORLD]"),
    ] {
        text = text.replace(from, to);
    }
    let mut record: Value = serde_json::from_str(&text).unwrap();
    let ids = |value: &Value, id: u32, word: &str| match value.as_str() {
        Some(text) => json!(
            text.split(' ')
                .map(|part| if part == id.to_string() { word } else { part })
                .collect::<Vec<_>>()
                .join(" ")
        ),
        None => value.clone(),
    };
    for (list, id, word) in [("uid", user.uid, "[UID]"), ("gid", user.gid, "[GID]")] {
        for value in record["credentials"][list].as_array_mut().unwrap() {
            *value = ids(value, id, word);
        }
        let map = format!("{list}_map");
        record[&map] = ids(&record[&map].clone(), id, word);
    }
    // Root sheds its groups; an ordinary user cannot (user_namespaces(7)), and those without a mapping show as 65534.
    let groups = record["credentials"]["groups"].as_array().unwrap();
    let own = json!(user.gid.to_string());
    if !scene.is_root() && groups.iter().all(|group| *group == own || group == "65534") {
        record["credentials"]["groups"] = json!("[CALLER'S]");
    }
    for line in record["mounts"].as_array_mut().unwrap() {
        let ids = format!("uid={},gid={}", user.uid, user.gid);
        *line = json!(line.as_str().unwrap().replace(&ids, "uid=[UID],gid=[GID]"));
    }
    for name in ["USER", "LOGNAME"] {
        if record["environment"][name] == user.name.as_str() {
            record["environment"][name] = json!("[USER]");
        }
    }
    record
}
