//! `--detach`, `rcc attach`, `rcc logs` and `rcc wait`.

use std::time::{Duration, Instant};

use super::hangup::until;
use super::removing::record;
use crate::scene::{RCC, Scene};
use rcc_testkit::world::Running;

/// Starts detached runs by a shell script with rcc as `$0`; what they leave running lasts as long as the result. A run on its own
/// would be taken for something that the starting command left behind.
fn start(scene: &Scene, script: &str) -> Running {
    let script = format!("{script}; echo started-$?; exec sleep 600");
    let keeper = scene.command("sh").args(["-c", &script, RCC]).spawn();
    keeper.wait_for_text("started-");
    keeper
}

#[test]
fn a_detached_run_goes_on_alone_and_its_output_is_kept() {
    let Some(scene) = Scene::new("detached") else {
        return;
    };
    let script = "\"$0\" run -n -d --name alone -- sh -c 'echo out; echo err >&2; while [ ! -e go ]; do sleep 0.05; done; echo end; exit 6'";
    let keeper = start(&scene, script);
    let id = keeper.stdout_so_far().lines().next().unwrap().to_owned();
    assert!(id.starts_with("project-"), "{id}");
    let attached = scene.rcc(["attach", "alone"]).spawn();
    attached.wait_for_text("out\n");
    let waiting = scene.rcc(["wait", &id]).spawn();
    let following = scene.rcc(["logs", "-f", &id]).spawn();
    following.wait_for_text("err\n");
    scene.file("home/work/project/go", "");
    for shown in [attached.wait(), following.wait()] {
        assert_eq!(shown.stdout_text(), "out\nend\n", "{shown}");
        assert!(shown.stderr_text().starts_with("err\n"), "{shown}");
        assert!([Some(6), Some(0)].contains(&shown.code()), "{shown}");
    }
    assert_eq!(waiting.wait().assert_success().stdout_text(), "6\n");
    let later = scene.rcc(["logs", "alone"]).output();
    assert_eq!(
        (later.stdout_text().as_str(), later.stderr_text().as_str()),
        ("out\nend\n", "err\n")
    );
    scene.rcc(["attach", "alone"]).output().assert_code(125);
    // What cannot be started is told to who starts it.
    let refused = scene
        .rcc(["run", "-d", "-a", "/nowhere", "--", "true"])
        .output();
    assert_eq!(refused.assert_code(125).stdout_text(), "");
    assert!(refused.stderr_text().contains("error:"), "{refused}");
    drop(keeper);
}

#[test]
fn how_a_run_failed_after_its_id_was_told_can_be_asked() {
    let Some(scene) = Scene::new("detached_missing") else {
        return;
    };
    let keeper = start(&scene, "\"$0\" run -n -d -- no-such-program");
    let id = keeper.stdout_so_far().lines().next().unwrap().to_owned();
    let waited = scene.rcc(["wait", &id]).output();
    assert_eq!(waited.assert_success().stdout_text(), "127\n");
    let log = record(&scene, &id).join("supervisor.log");
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("no-such-program"), "{said}");
    drop(keeper);
}

/// A record that `--rm` removes goes when its own run has ended, whatever else is waited for.
#[test]
fn who_waits_for_several_runs_misses_none() {
    let Some(scene) = Scene::new("detached_several") else {
        return;
    };
    let script = r#"first=$("$0" run -n -d -- sh -c 'while [ ! -e go ]; do sleep 0.05; done; exit 5')
        second=$("$0" run -n -d --rm -- sh -c 'while [ ! -e waits ]; do sleep 0.05; done; exit 6')
        echo "ids $first $second""#;
    let keeper = start(&scene, script);
    let said = keeper.stdout_so_far();
    let ids: Vec<&str> = said.lines().next().unwrap().split(' ').skip(1).collect();
    let second = record(&scene, ids[1]);
    let waiting = scene.rcc(["wait", ids[0], ids[1]]).spawn();
    until("nobody waits", || second.join("waiters").exists());
    scene.file("home/work/project/waits", "");
    until("the record stays", || !second.exists());
    scene.file("home/work/project/go", "");
    assert_eq!(waiting.wait().assert_success().stdout_text(), "5\n6\n");
    drop(keeper);
}

#[test]
fn an_attachment_ends_with_its_reader_and_tells_why_the_run_ended() {
    let Some(scene) = Scene::new("detached_reader") else {
        return;
    };
    let talks = "\"$0\" run -n -d --name talks --timeout 1h -- sh -c 'while :; do echo line; sleep 0.05; done'";
    let keeper = start(&scene, talks);
    let script = r#""$0" attach talks | head -n 1; echo "attach ${PIPESTATUS[0]}""#;
    let left = scene.command("bash").args(["-c", script, RCC]).output();
    assert_eq!(left.assert_success().stdout_text(), "line\nattach 0\n");
    scene.rcc(["stop", "talks"]).output().assert_success();
    drop(keeper);

    let short = "\"$0\" run -n -d --name short --timeout 2s -- sleep 600";
    let keeper = start(&scene, short);
    // 143 is the agent's own code, 124 the run's.
    scene.rcc(["attach", "short"]).output().assert_code(124);
    drop(keeper);
}

/// Nothing is lost and nothing changes its place, and a reader that takes nothing holds the agent up for some seconds only.
#[test]
fn a_slow_reader_does_not_hold_the_agent_up_for_ever() {
    let Some(scene) = Scene::new("detached_slow") else {
        return;
    };
    let script = "\"$0\" run -n -d --name slow -- sh -c 'while [ ! -e go ]; do sleep 0.05; done; seq 1 600000; touch written; exec sleep 600'";
    let keeper = start(&scene, script);
    let mut reader = scene.rcc(["attach", "slow"]).spawn();
    scene
        .rcc(["exec", "slow", "--", "true"])
        .output()
        .assert_success();
    reader.signal(19);
    scene.file("home/work/project/go", "");
    let written = scene.project().join("written");
    let end = Instant::now() + Duration::from_secs(60);
    while !written.exists() {
        assert!(Instant::now() < end, "the agent is held up");
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.rcc(["stop", "slow"]).output().assert_success();
    let kept = scene.rcc(["logs", "slow"]).output();
    let expected: String = (1..=600_000).map(|number| format!("{number}\n")).collect();
    assert!(
        kept.assert_success().stdout_text() == expected,
        "{} of {} bytes",
        kept.stdout.len(),
        expected.len()
    );
    drop((reader, keeper));
}

#[test]
fn a_terminal_is_left_with_the_keys_and_found_again() {
    let Some(scene) = Scene::new("detached_terminal") else {
        return;
    };
    let keeper = r#""$0" run -n -d --name term -- bash -c 'stty -echo; echo up; while read line; do echo "got-$line $(stty size)"; done; exit 4'"#;
    let script = format!("{keeper}; echo started-$?; exec sleep 600");
    let starter = scene
        .command("sh")
        .args(["-c", &script, RCC])
        .spawn_terminal(24, 80);
    starter.wait_for_text("started-0");
    let attach = || {
        scene
            .rcc(["attach", "term"])
            .timeout(Duration::from_secs(30))
            .spawn_terminal(31, 91)
    };
    let mut first = attach();
    first.wait_for_text("up");
    // Ctrl-P alone is the agent's, and the first half of the keys is not lost.
    first.type_bytes(b"one\n");
    first.wait_for_text("got-one 31 91");
    first.type_bytes(b"\x10\x11");
    let left = first.wait();
    assert!(
        left.assert_success()
            .stdout_text()
            .contains("detached; rcc attach"),
        "{left}"
    );
    let mut second = attach();
    second.wait_for_text("got-one");
    second.type_bytes(b"two\n");
    second.wait_for_text("got-two");
    second.type_bytes(b"\x04");
    second.wait().assert_code(4);
    drop(starter);
}

#[test]
fn who_stays_gets_the_size_of_the_own_terminal_back() {
    let Some(scene) = Scene::new("detached_sizes") else {
        return;
    };
    let keeper = r#""$0" run -n -d --name sizes -- bash -c 'stty -echo; echo up; while read line; do echo "got-$line $(stty size)"; done'"#;
    let script = format!("{keeper}; echo started-$?; exec sleep 600");
    let starter = scene
        .command("sh")
        .args(["-c", &script, RCC])
        .spawn_terminal(24, 80);
    starter.wait_for_text("started-0");
    let attach = |rows, columns| {
        let client = scene.rcc(["attach", "sizes"]);
        let mut client = client.spawn_terminal(rows, columns);
        client.wait_for_text("up");
        client.type_bytes(format!("from-{rows}\n").as_bytes());
        client.wait_for_text(&format!("got-from-{rows} {rows} {columns}"));
        client
    };
    let mut stays = attach(31, 91);
    let mut leaves = attach(20, 60);
    leaves.type_bytes(b"\x10\x11");
    leaves.wait().assert_success();
    stays.type_bytes(b"again\n");
    stays.wait_for_text("got-again 31 91");
    stays.type_bytes(b"\x04");
    stays.wait().assert_success();
    drop(starter);
}

/// The agent chose these bytes, and whoever looks at them later did not ask for what they do to a terminal.
#[test]
fn recorded_output_does_not_drive_the_terminal_that_it_is_shown_on() {
    let Some(scene) = Scene::new("detached_hostile") else {
        return;
    };
    let script = r#""$0" run -n -d --name hostile -- printf 'a\033]52;c;eA==\007b\033[2Jc\n'; "$0" wait hostile"#;
    let keeper = start(&scene, script);
    let shown = scene
        .rcc(["logs", "hostile"])
        .spawn_terminal(24, 80)
        .wait()
        .stdout_text();
    assert_eq!(shown, "abc\r\n");
    let raw = scene
        .rcc(["logs", "--raw", "hostile"])
        .spawn_terminal(24, 80)
        .wait()
        .stdout_text();
    assert_eq!(raw, "a\x1b]52;c;eA==\x07b\x1b[2Jc\r\n");
    let piped = scene.rcc(["logs", "hostile"]).output().stdout_text();
    assert_eq!(piped, "a\x1b]52;c;eA==\x07b\x1b[2Jc\n");
    drop(keeper);
}

/// `kill -9` of a supervisor that nobody is parent of any more.
#[test]
fn kill_9_of_a_detached_supervisor_leaves_nothing_running() {
    let Some(scene) = Scene::new("detached_killed") else {
        return;
    };
    let keeper = start(
        &scene,
        "\"$0\" run -n -d --name lost -- sh -c 'echo up; exec sleep 604'",
    );
    let listed = scene
        .rcc(["ps", "--json"])
        .output()
        .assert_success()
        .stdout_text();
    let told: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let pid = told["supervisor_pid"].to_string();
    scene
        .command("kill")
        .args(["-9", &pid])
        .output()
        .assert_success();
    let goes_on = || {
        let processes = scene.world.processes();
        processes
            .iter()
            .any(|process| process.command_line == "sleep 604")
    };
    // Its threads end one after the other; the last one lets go of the record.
    let listed = || {
        let output = scene.rcc(["ps", "--all", "--json"]).output();
        output.assert_success().stdout_text()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while goes_on() || !listed().contains("\"state\":\"lost\"") {
        assert!(Instant::now() < end, "the agent goes on, or: {}", listed());
    }
    scene.rcc(["wait", "lost"]).output().assert_code(125);
    drop(keeper);
}
