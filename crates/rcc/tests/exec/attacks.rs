//! What an agent could gain from a process that joins its sandbox: the moment before it is confined, what it brings along, where
//! its rights lead.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;

use rcc_testkit::probe::Record;
use rcc_testkit::require;
use serde_json::Value;

use crate::scene::{RCC, SECRET, Scene};
use crate::{lasting, record};

/// An agent that waits for processes to appear gets nothing of one that joins before that one is what was asked for
/// (CVE-2019-5736: `/proc/PID/exe` leads to the host's program; CVE-2024-21626: its directory and descriptors to the host's tree).
#[test]
fn lying_in_wait_for_a_process_that_joins() {
    let Some(scene) = Scene::new("exec_hunted") else {
        return;
    };
    let got = hunt(&scene, &[RCC]);
    // Those of the agent's own: what its caller gave it are mounts of their own.
    for descriptor in got["fd"].as_array().unwrap() {
        let known = ["pipe", "/", "/dev/null"];
        assert!(known.contains(&descriptor.as_str().unwrap()), "{got}");
    }
}

/// The same with nothing but what the process that joins does itself: on a kernel without Landlock, which keeps agent and joined
/// process apart for good, because neither is below the other.
#[test]
fn lying_in_wait_for_a_process_that_joins_without_landlock() {
    if !require("strace") {
        return;
    }
    let Some(scene) = Scene::new("exec_hunted_barely") else {
        return;
    };
    scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[hardening]\ndangerously_without_landlock = true\n",
    );
    let lack = "inject=landlock_create_ruleset:error=ENOSYS";
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", lack, "--", RCC];
    let got = hunt(&scene, &strace);
    // The control: what has been started is the agent's like everything inside.
    assert!(got["exe"].to_string().contains("tail"), "{got}");
}

/// Hunts while processes join; what was got of them and of the agent's own. `rcc` are the words that start it.
fn hunt(scene: &Scene, rcc: &[&str]) -> Value {
    let stop = scene.project().join("stop");
    let program = record::program(scene);
    // The control of the hunt: it gets hold of a process of the agent's own.
    let hunter = scene
        .command(rcc[0])
        .args(&rcc[1..])
        .args(["run", "-n", "--name", "hunted", "--ro"])
        .arg(&program)
        .args(["--", "sh", "-c", "sleep 600 & sleep 0.2; exec \"$@\"", "sh"])
        .arg(&program)
        .args(["hunt", stop.to_str().unwrap(), "mark-of-the-host"])
        .spawn();
    hunter.wait_for_text("hunting");
    // The classical attack: the program asked for is a script whose interpreter is the very process that joins.
    let script = scene.file("home/work/project/script", "#!/proc/self/exe\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = std::fs::read(RCC).unwrap();
    let exec = |words: &[&str]| {
        let exec = scene.rcc(["exec", "hunted", "--"]).args(words);
        exec.env("SECRET", "mark-of-the-host").output()
    };
    for _ in 0..10 {
        let _ = exec(&["./script"]);
        exec(&["true"]).assert_success();
    }
    exec(&["sh", "-c", "timeout 0.2 tail -f /dev/null; true"]).assert_success();
    std::fs::write(&stop, "").unwrap();
    let output = hunter.wait();
    let text = output.assert_success().stdout_text();
    let found = Record::from_text(text.lines().last().unwrap());
    let got = found.assert_ok().detail["got"].clone();
    assert!(found.detail["seen"].as_u64().unwrap() > 10, "{found:?}");
    let all = |what: &str| -> Vec<String> {
        let list = got[what].as_array().into_iter().flatten();
        list.map(|value| value.as_str().unwrap().to_owned())
            .collect()
    };
    for what in ["exe", "mem", "trace"] {
        let is_own = |path: &String| path.ends_with("sleep");
        assert!(all(what).iter().any(is_own), "the control, {what}: {got}");
    }
    assert_eq!(all("environ"), ["no mark"], "{got}");
    // A copy in memory that a script's `#!/proc/self/exe` runs is nobody's program but its own.
    let of_host = |path: &&String| path.ends_with("/rcc") || path.contains("/target/");
    for what in ["exe", "writable exe", "mem", "trace"] {
        assert_eq!(all(what).iter().find(of_host), None, "{what}: {got}");
        assert!(!all(what).contains(&"unknown".to_owned()), "{what}: {got}");
    }
    assert_eq!(all("root"), ["/"], "{got}");
    assert_eq!(all("cwd"), [scene.project().to_str().unwrap()], "{got}");
    let after = std::fs::read(RCC).unwrap();
    assert!(after == before, "rcc's own program was changed");
    got
}

/// Whatever the caller of `rcc exec` had open stays outside: what comes in are pipes.
#[test]
fn descriptors_of_the_caller() {
    let Some(scene) = Scene::new("exec_descriptors") else {
        return;
    };
    let run = lasting(&scene, "descriptors", &["-n"]);
    let probe = record::program(&scene);
    let with_open = |program: &str| {
        let script = "exec 3<\"$1\" 4<\"$2\" 5<>\"$1\" 77<\"$2\" 200<\"$1\"; shift 2; exec \"$@\"";
        let command = scene.command("bash").args(["-c", script, "bash"]);
        command
            .arg(scene.path("outside/secret"))
            .arg(scene.path("outside"))
            .arg(program)
    };
    let inside = |words: &[&str]| {
        let exec = with_open(RCC)
            .args(["exec", "descriptors", "--"])
            .arg(&probe);
        Record::of(&exec.args(words).output())
    };
    let record = inside(&["fds"]);
    assert_eq!((record.ok, &record.detail), (false, &serde_json::json!([])));
    let secret = scene.path("outside/secret");
    let control = with_open(probe.to_str().unwrap())
        .args(["read-by-open-directories", &secret])
        .output();
    assert_eq!(Record::of(&control).assert_ok().detail, SECRET);
    let record = inside(&["read-by-open-directories", &secret]);
    assert!(
        !record.ok && !record.detail.to_string().contains(SECRET),
        "{record:?}"
    );

    // A file as standard input or output is a pipe inside: neither its mode nor what lies around it is in reach.
    let path = scene.base.join("outside/secret");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let change =
        "cat; chmod 777 /dev/stdin; chmod 777 /proc/self/fd/0; cat /proc/self/fd/0/../secret; true";
    let exec = scene.rcc(["exec", "descriptors", "--", "sh", "-c", change]);
    let output = exec.stdin(File::open(&path).unwrap()).output();
    assert_eq!(
        (output.stdout_text().as_str(), mode()),
        (SECRET, 0o640),
        "{output}"
    );
    let control = scene
        .command("sh")
        .args(["-c", change])
        .stdin(File::open(&path).unwrap());
    let _ = control.output();
    assert_eq!(mode(), 0o777, "the control changes it");

    // A directory is nothing at all.
    let exec = scene.rcc([
        "exec",
        "descriptors",
        "--",
        "sh",
        "-c",
        "ls /proc/self/fd/0/ | wc -l",
    ]);
    let output = exec
        .stdin(File::open(scene.base.join("outside")).unwrap())
        .output();
    assert!(!output.stdout_text().contains("secret"), "{output}");
    drop(run);
}

/// What is in sight inside is the process that was asked for, and nothing of the one that stays outside.
#[test]
fn the_host_s_side_of_a_joined_process() {
    let Some(scene) = Scene::new("exec_other_side") else {
        return;
    };
    let run = lasting(&scene, "side", &["-n"]);
    let joined = scene
        .rcc([
            "exec",
            "side",
            "--",
            "sh",
            "-c",
            "echo up; exec tail -f /dev/null",
        ])
        .spawn();
    joined.wait_for_text("up");
    let listed = scene
        .rcc(["exec", "side", "--"])
        .arg(record::program(&scene))
        .arg("pids")
        .output();
    let names = Record::of(&listed).assert_ok().detail.clone();
    let mut names: Vec<&str> = names
        .as_object()
        .unwrap()
        .values()
        .map(|name| name.as_str().unwrap())
        .collect();
    names.sort_unstable();
    // "rcc" is pid 1.
    assert_eq!(names, ["rcc", "rcc-probe", "sleep", "tail"]);
    drop((run, joined));
}

/// Neither `rcc exec` nor `rcc stop` work from inside of a user namespace of one's own, as every agent's is.
#[test]
fn asking_the_desk_from_another_user_namespace() {
    let Some(scene) = Scene::new("exec_namespace") else {
        return;
    };
    let run = lasting(&scene, "asked", &["-n"]);
    let foreign = |words: &[&str]| {
        let unshare = scene
            .command("unshare")
            .args(["--user", "--map-current-user", RCC]);
        unshare.args(words).output()
    };
    foreign(&["ps"]).assert_success();
    for words in [
        &["exec", "asked", "--", "true"][..],
        &["inspect", "asked"],
        &["kill", "-s", "TERM", "asked"],
    ] {
        let refused = foreign(words);
        refused.assert_code(125);
        assert!(
            refused.stderr_text().contains("the run has ended"),
            "{refused}"
        );
    }
    scene
        .rcc(["exec", "asked", "--", "true"])
        .output()
        .assert_success();
    drop(run);
}
