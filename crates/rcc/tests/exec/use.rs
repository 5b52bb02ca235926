//! What a person or a script does with `rcc exec`.

use std::time::Duration;

use rcc_testkit::world::Ending;
use rcc_testkit::{require, require_that};

use crate::lasting;
use crate::scene::{RCC, Scene};

/// `SIGKILL`, `signal(7)`.
const KILL: i32 = 9;

#[test]
fn streams_exit_codes_and_signals_pass_through() {
    let Some(scene) = Scene::new("exec_streams") else {
        return;
    };
    let run = lasting(&scene, "streams", &["-n"]);
    let exec = |script: &str| scene.rcc(["exec", "streams", "--", "sh", "-c", script]);
    for (script, code) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 125", 125),
        ("exit 255", 255),
        ("kill -9 $$", 137),
    ] {
        exec(script).output().assert_code(code);
    }
    scene
        .rcc(["exec", "streams", "--", "/nowhere"])
        .output()
        .assert_code(127);
    scene
        .rcc(["exec", "streams", "--", "/etc/passwd"])
        .output()
        .assert_code(126);
    scene
        .rcc(["exec", "nothing", "--", "true"])
        .output()
        .assert_code(125);

    // Two mebibytes there and back, in order, and the two outputs apart.
    let bytes: Vec<u8> = (0..2_u32 << 20)
        .map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let echoed = exec("cat; echo done >&2")
        .stdin_bytes(bytes.clone())
        .output();
    assert_eq!(echoed.assert_success().stderr_text(), "done\n");
    assert!(
        echoed.stdout == bytes,
        "{} of {} bytes",
        echoed.stdout.len(),
        bytes.len()
    );
    // A reader that leaves ends the writer, as in any pipeline.
    let script = "\"$0\" exec streams -- sh -c 'trap \"\" HUP; while echo line; do :; done; exit 7' | head -n 1";
    let head = scene.command("sh").args(["-c", script, RCC]).output();
    assert_eq!(head.assert_success().stdout_text(), "line\n");

    // The environment is the plan's, and what is named; the directory too.
    let told = scene
        .rcc([
            "exec", "-w", "/tmp", "-e", "GIVEN=1", "-e", "NAMED", "streams", "--", "sh", "-c",
        ])
        .arg("echo $GIVEN-$NAMED-$HIDDEN-$RCC_RUN-$PWD")
        .env("NAMED", "2")
        .env("HIDDEN", "3")
        .output();
    let told = told.assert_success().stdout_text();
    assert!(
        told.starts_with("1-2--project-") && told.ends_with("-/tmp\n"),
        "{told}"
    );
    drop(run);
}

#[test]
fn a_joined_process_is_in_the_agent_s_world_and_ends_with_the_run() {
    let Some(scene) = Scene::new("exec_ends") else {
        return;
    };
    let run = lasting(&scene, "ends", &["-n"]);
    scene
        .rcc(["exec", "ends", "--", "sh", "-c", "echo x >/tmp/made"])
        .output()
        .assert_success();
    scene
        .rcc(["exec", "ends", "--", "cat", "/tmp/made"])
        .output()
        .assert_success();

    // Killed on the host: what it started inside goes with it.
    let mut killed = scene
        .rcc(["exec", "ends", "--", "sh", "-c", "echo up; exec sleep 601"])
        .spawn();
    killed.wait_for_text("up");
    killed.signal(KILL);
    let killed = killed.wait();
    assert_eq!(
        (killed.ending, killed.survivors.len()),
        (Ending::Signal(9), 0),
        "{killed}"
    );
    let left = scene.world.processes();
    assert!(
        !left
            .iter()
            .any(|process| process.command_line == "sleep 601"),
        "{left:?}"
    );

    // The run ends: so does what joined it, and says so.
    let joined = scene
        .rcc(["exec", "ends", "--", "sh", "-c", "echo up; exec sleep 602"])
        .spawn();
    joined.wait_for_text("up");
    scene.rcc(["stop", "ends"]).output().assert_success();
    assert_eq!(joined.wait().assert_code(137).survivors.len(), 0);
    run.wait().assert_code(143);
    scene
        .rcc(["exec", "ends", "--", "true"])
        .output()
        .assert_code(125);
}

#[test]
fn a_joined_process_has_a_terminal_of_its_own() {
    let Some(scene) = Scene::new("exec_terminal") else {
        return;
    };
    let run = lasting(&scene, "terminal", &["-n"]);
    let script = "tty; stty size; echo $TERM; read line; echo got-$line; trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = scene
        .rcc(["exec", "-it", "terminal", "--", "bash", "-c", script])
        .env("TERM", "xterm-of-exec")
        .timeout(Duration::from_secs(30))
        .spawn_terminal(33, 77);
    terminal.wait_for_text("/dev/pts/");
    terminal.wait_for_text("33 77");
    terminal.wait_for_text("xterm-of-exec");
    terminal.type_bytes(b"hello\n");
    terminal.wait_for_text("got-hello");
    terminal.wait_for_text("ready");
    terminal.type_bytes(b"\x03");
    let output = terminal.wait();
    output.assert_code(3);
    assert!(output.stdout_text().contains("interrupted"), "{output}");
    drop(run);
}

/// Processes of `rcc exec` count as the run's, and its limits hold for them: they are in its control group, where it has one.
#[test]
fn the_limits_of_a_run_hold_for_processes_that_join() {
    let Some(scene) = Scene::new("exec_limits") else {
        return;
    };
    let limited = ["-n", "--pids", "24"];
    let plan = scene.rcc(["plan"]).args(limited).args(["--", "true"]);
    let can = plan.output().is_success();
    if !require("python3") || !require_that("limits", can) {
        return;
    }
    // Forks until it may not, at most a hundred times, and takes everything back.
    let fork = "import os, signal
children = []
refused = 0
try:
    while len(children) < 100:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except OSError as error:
    refused = error.errno
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
print(refused, len(children))";
    for (name, flags, is_limited) in [("limited", &limited[..], true), ("free", &["-n"], false)] {
        let run = lasting(&scene, name, flags);
        let exec = scene.rcc(["exec", name, "--", "python3", "-c", fork]);
        let text = exec.output().assert_success().stdout_text();
        let (refused, forks) = text.trim_end().split_once(' ').unwrap();
        let forks: u32 = forks.parse().unwrap();
        // EAGAIN is 11.
        match is_limited {
            true => assert!(refused == "11" && (10..24).contains(&forks), "{text}"),
            false => assert_eq!(text, "0 100\n"),
        }
        let pids = || {
            let stats = scene.rcc(["stats", "--json", name]).output();
            stats.assert_success().json()["pids"].as_u64().unwrap()
        };
        let before = pids();
        let joined = scene.rcc(["exec", name, "--", "sh", "-c", "echo in; exec sleep 600"]);
        let joined = joined.spawn();
        joined.wait_for_text("in");
        assert!(pids() > before, "{before}");
        drop((joined, run));
    }
}

/// What the command did not read is the next one's, which finds the stream as it was.
#[test]
fn the_caller_s_input_is_as_it_was_afterwards() {
    let Some(scene) = Scene::new("exec_input") else {
        return;
    };
    let _run = lasting(&scene, "input", &["-n"]);
    let script = r#"mkfifo pipe; exec 3<>pipe
        "$0" exec input -- true <&3; echo "exec $?"
        grep flags /proc/self/fdinfo/3; echo later >&3; head -n 1 <&3"#;
    let output = scene.command("bash").args(["-c", script, RCC]).output();
    let text = output.assert_success().stdout_text();
    let [code, flags, later] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{output}")
    };
    assert_eq!((code, later), ("exec 0", "later"));
    let flags = flags.trim_start_matches("flags:").trim();
    let flags = u32::from_str_radix(flags, 8).unwrap();
    assert_eq!(flags & 0o4000, 0, "O_NONBLOCK: {flags:o}");
}
