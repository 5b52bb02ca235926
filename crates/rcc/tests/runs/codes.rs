//! How an agent ends is how rcc ends: every exit code, and death by every signal that kills.

use crate::scene::{RCC, Scene};
use rcc_testkit::world::Output;

/// Signals that do not end a process by default (`signal(7)`), and the two that the C library keeps for itself and may have
/// blocked in whoever starts rcc.
const OTHERS: [u8; 10] = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];

/// What the agent does, and the exit code that comes of it.
fn endings() -> Vec<(String, i32)> {
    let codes = (0..=255).map(|code| (format!("exit {code}"), code));
    codes.chain(deaths()).collect()
}

fn deaths() -> impl Iterator<Item = (String, i32)> {
    // The exit code behind it tells a signal that did not kill.
    (1..=64)
        .filter(|signal| !OTHERS.contains(signal))
        .map(|signal| {
            (
                format!("kill -{signal} $$; exit 77"),
                128 + i32::from(signal),
            )
        })
}

/// Reads the lines `CODE|SCRIPT` and compares them with what should have come.
#[track_caller]
fn compare(output: &Output, expected: &[(String, i32)]) {
    let text = output.assert_success().stdout_text();
    let mut seen: Vec<(String, i32)> = text
        .lines()
        .filter_map(|line| {
            let (code, script) = line.trim_end().split_once('|')?;
            Some((script.to_owned(), code.parse().ok()?))
        })
        .collect();
    seen.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(seen, expected, "{output}");
}

/// Two at a time, a sandbox for each.
#[test]
fn every_exit_code_and_every_death_comes_through() {
    let Some(scene) = Scene::new("codes") else {
        return;
    };
    let endings = endings();
    let lines: String = endings
        .iter()
        .map(|(script, _)| format!("{script}\0"))
        .collect();
    let one = r#""$0" run -n -- sh -c "$1"; echo "$?|$1""#;
    let output = scene
        .command("sh")
        .args([
            "-c",
            "ulimit -c 0; exec xargs -0 -P 2 -n 1 sh -c \"$1\" \"$0\"",
            RCC,
            one,
        ])
        .stdin_bytes(lines)
        .timeout(std::time::Duration::from_secs(240))
        .output();
    compare(&output, &endings);
    assert_eq!(output.stderr_text(), "", "rcc says nothing of its own");
}

/// The agent's terminal is one of its own; the caller's is as it was after every one.
#[test]
fn codes_and_deaths_come_through_a_terminal() {
    let Some(scene) = Scene::new("codes_terminal") else {
        return;
    };
    let codes = [
        0, 1, 2, 77, 124, 125, 126, 127, 128, 129, 130, 143, 192, 254, 255,
    ];
    let codes = codes.map(|code| (format!("exit {code}"), code));
    let endings: Vec<(String, i32)> = codes.into_iter().chain(deaths()).collect();
    let quoted: String = endings
        .iter()
        .map(|(script, _)| format!(" '{script}'"))
        .collect();
    let script = format!(
        r#"ulimit -c 0; before=$(stty -g); for one in{quoted}; do "$0" run -n -- sh -c "$one"; echo "$?|$one"
            [ "$(stty -g)" = "$before" ] || echo "999|$one"; done"#
    );
    let terminal = scene
        .command("sh")
        .args(["-c", &script, RCC])
        .timeout(std::time::Duration::from_secs(240))
        .spawn_terminal(24, 80);
    compare(&terminal.wait(), &endings);
}

/// The same for one more process in a sandbox, whose end is no end of the run.
#[test]
fn codes_and_deaths_come_through_exec() {
    let Some(scene) = Scene::new("codes_exec") else {
        return;
    };
    let run = scene
        .run(&["-n", "--name", "target"])
        .args(["sh", "-c", "echo up; exec sleep 600"])
        .spawn();
    run.wait_for_text("up");
    let codes = [0, 1, 77, 125, 126, 127, 128, 255].map(|code| (format!("exit {code}"), code));
    let endings: Vec<(String, i32)> = codes
        .into_iter()
        .chain(deaths().filter(|(_, code)| [129, 134, 137, 143, 162, 192].contains(code)))
        .collect();
    let quoted: String = endings
        .iter()
        .map(|(script, _)| format!(" '{script}'"))
        .collect();
    let script = format!(
        r#"ulimit -c 0; for one in{quoted}; do "$0" exec target -- sh -c "$one"; echo "$?|$one"; done"#
    );
    let output = scene.command("sh").args(["-c", &script, RCC]).output();
    compare(&output, &endings);
    scene.rcc(["kill", "target"]).output().assert_success();
    run.wait().assert_code(137);
}
