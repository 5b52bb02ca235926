//! The terminal goes away: its emulator is killed, or the connection that it came through. What stood in the foreground ends, what
//! was detached goes on. And the background: rcc leaves a terminal alone that is somebody else's for now.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::scene::{RCC, Scene};
use rcc_testkit::world::Running;
use rcc_testkit::{patience, require, system_tool};
use serde_json::Value;

/// What is told of the run of this name; null while there is none.
fn told(scene: &Scene, name: &str) -> Value {
    let listed = scene.rcc(["ps", "--all", "--json"]).output();
    let text = listed.assert_success().stdout_text();
    let runs = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    runs.into_iter()
        .find(|run| run["name"] == name)
        .unwrap_or(Value::Null)
}

#[track_caller]
pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + patience(Duration::from_secs(60));
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All that tells of a run that has ended says why it did.
#[track_caller]
fn assert_ended_by_hang_up(scene: &Scene, name: &str, code: i32) {
    let run = told(scene, name);
    let how = (&run["exit_code"], &run["end_reason"]);
    assert_eq!(how, (&code.into(), &"hang-up".into()));
    let inspected = scene.rcc(["inspect", name]).output();
    let inspected: Value = serde_json::from_str(&inspected.assert_success().stdout_text()).unwrap();
    assert_eq!(inspected[0]["end_reason"], "hang-up");
    let listed = scene.rcc(["ps", "--all"]).output();
    let text = listed.assert_success().stdout_text();
    assert!(text.contains(&format!("ended ({code}, hang-up)")), "{text}");
}

fn runs_inside(scene: &Scene, command_line: &str) -> bool {
    let processes = scene.world.processes();
    processes.iter().any(|one| one.command_line == command_line)
}

/// Starts `command` in a shell with job control on a terminal of its own, whose emulator `script(1)` is; what it prints is the
/// keeper's output. The first line is the emulator's process id.
fn emulator(scene: &Scene, command: &str) -> Running {
    let inner = scene.file("home/session.sh", command);
    let keeper = format!(
        "tail -f /dev/null | script -qfec 'bash --norc -i {}' /dev/null & echo emulator $!; exec sleep 600",
        inner.display()
    );
    scene
        .command("sh")
        .args(["-c", &keeper])
        .env("RCC", RCC)
        .env("SHELL", "/bin/sh")
        .spawn()
}

fn kill_emulator(scene: &Scene, keeper: &Running) {
    let shown = keeper.stdout_so_far();
    let line = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("emulator "));
    let pid = line.unwrap().to_owned();
    scene
        .command("kill")
        .args(["-9", &pid])
        .output()
        .assert_success();
}

#[test]
fn a_terminal_that_closes_ends_the_run_in_its_foreground_and_not_a_detached_one() {
    if !require("script") {
        return;
    }
    let Some(scene) = Scene::new("hangup") else {
        return;
    };
    for (name, trap, duration, code) in [
        // Ended by the signal; deaf to it, and killed when the time is over.
        ("plain", "", "6011", 129),
        ("deaf", "trap '' HUP;", "6012", 137),
    ] {
        let session = format!(
            "\"$RCC\" run -n -d --name away-{name} -- sleep 60{duration}\n\
             \"$RCC\" run -n --name {name} -- sh -c \"{trap} echo up-{name}; sleep {duration}; exit 3\"\n"
        );
        let keeper = emulator(&scene, &session);
        keeper.wait_for_text_within(&format!("up-{name}"), Duration::from_secs(60));
        until("the agent sleeps", || {
            runs_inside(&scene, &format!("sleep {duration}"))
        });
        kill_emulator(&scene, &keeper);
        until("the run ends", || told(&scene, name)["state"] == "ended");
        assert_ended_by_hang_up(&scene, name, code);
        assert!(!runs_inside(&scene, &format!("sleep {duration}")), "{name}");
        let away = format!("away-{name}");
        assert_eq!(told(&scene, &away)["state"], "running");
        scene
            .rcc(["exec", &away, "--", "true"])
            .output()
            .assert_success();
        scene.rcc(["kill", &away]).output().assert_success();
        until("the detached run ends", || {
            told(&scene, &away)["state"] == "ended"
        });
        // The control: this one was killed, and by nothing of its own.
        assert_eq!(told(&scene, &away)["end_reason"], Value::Null);
        drop(keeper);
    }
}

/// The client is killed, and with it the connection: sshd closes the terminal of the session.
#[test]
fn an_ssh_connection_that_drops_ends_the_run_and_not_a_detached_one() {
    // An sshd of an ordinary user cannot open a terminal in a user namespace: it may not give it away.
    let tools = ["root", "sshd", "ssh", "ssh-keygen"];
    if !tools.iter().all(|tool| require(tool)) {
        return;
    }
    let Some(scene) = Scene::new("ssh_drop") else {
        return;
    };
    let directory: PathBuf = scene.base.join("ssh");
    std::fs::create_dir(&directory).unwrap();
    scene.world.give_to_user(&scene.base);
    let place = directory.to_str().unwrap();
    for key in ["host_key", "key"] {
        let made = scene.command(system_tool("ssh-keygen").unwrap());
        made.args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            &format!("{place}/{key}"),
        ])
        .output()
        .assert_success();
    }
    let session = scene.file(
        "ssh/session.sh",
        format!(
            "cd '{}'; export HOME='{}'\n'{RCC}' run -n -d --name ssh-away -- sleep 6020\n\
             exec '{RCC}' run -n --name ssh -- sh -c 'echo up-ssh; sleep 6021; exit 3'\n",
            scene.project().display(),
            scene.home().display()
        ),
    );
    scene.file(
        "ssh/config",
        format!(
            "HostKey {place}/host_key\nAuthorizedKeysFile {place}/key.pub\nUsePAM no\nStrictModes no\nPidFile none\n\
             PermitRootLogin yes\nPrintMotd no\nPrintLastLog no\nForceCommand /bin/sh {}\n",
            session.display()
        ),
    );
    // One connection over a socket pair: no port, and no server that stays.
    let sshd = format!(
        "{} -i -f {place}/config -E {place}/log",
        system_tool("sshd").unwrap().display()
    );
    let client = format!(
        "[ \"$(id -u)\" != 0 ] || mkdir -p /run/sshd; tail -f /dev/null | {} -tt -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
         -o IdentitiesOnly=yes -i {place}/key -o ProxyCommand='{sshd}' -o ProxyUseFdpass=no sandbox.example & \
         echo emulator $!; exec sleep 600",
        system_tool("ssh").unwrap().display()
    );
    let keeper = scene.command("sh").args(["-c", &client]).spawn();
    keeper.wait_for_text_within("up-ssh", Duration::from_secs(60));
    until("the agent sleeps", || runs_inside(&scene, "sleep 6021"));
    kill_emulator(&scene, &keeper);
    until("the run ends", || told(&scene, "ssh")["state"] == "ended");
    assert_ended_by_hang_up(&scene, "ssh", 129);
    assert!(!runs_inside(&scene, "sleep 6021"));
    assert_eq!(told(&scene, "ssh-away")["state"], "running");
    scene.rcc(["kill", "ssh-away"]).output().assert_success();
    drop(keeper);
}
