//! How an agent ends is how rcc ends: every exit code, and death by every signal that kills.

use crate::idle;
use crate::scene::{RCC, Scene};
use rcc_testkit::probe;
use rcc_testkit::world::Output;

/// Signals that do nothing to a process by default (`signal(7)`): CHLD, CONT to one that is not stopped, URG and WINCH.
const IGNORED: [u8; 4] = [17, 18, 23, 28];
/// Those that stop it: STOP, TSTP, TTIN and TTOU.
const STOPPING: [u8; 4] = [19, 20, 21, 22];

/// What the agent does, and the exit code that comes of it.
fn endings() -> Vec<(String, i32)> {
    let codes = (0..=255).map(|code| (format!("exit {code}"), code));
    codes.chain(deaths()).collect()
}

/// All signals but those that stop: what it does, and the exit code. 32 and 33 are among them: who starts rcc has the default action
/// for them here, as a shell of a login has. What it ignores instead (as `nohup(1)` does) is ignored inside, too.
fn deaths() -> impl Iterator<Item = (String, i32)> {
    let ending = (1..=64).filter(|signal| !STOPPING.contains(signal));
    // The exit code behind it tells a signal that did not kill.
    ending.map(|signal| {
        let code = match IGNORED.contains(&signal) {
            true => 77,
            false => 128 + i32::from(signal),
        };
        (format!("kill -{signal} $$; exit 77"), code)
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
        .command(probe::path())
        .args([
            "default-signals",
            "sh",
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
        .command(probe::path())
        .args(["default-signals", "sh", "-c", &script, RCC])
        .timeout(std::time::Duration::from_secs(240))
        .spawn_terminal(24, 80);
    compare(&terminal.wait(), &endings);
}

/// The same for one more process in a sandbox, whose end is no end of the run. Not for 32 and 33: rcc starts it by `posix_spawn(3)`,
/// which has them ignored.
#[test]
fn codes_and_deaths_come_through_exec() {
    let Some(scene) = Scene::new("codes_exec") else {
        return;
    };
    let run = idle(&scene, "target");
    let codes = [0, 1, 77, 125, 126, 127, 128, 255].map(|code| (format!("exit {code}"), code));
    let endings: Vec<(String, i32)> = codes
        .into_iter()
        .chain(deaths().filter(|(_, code)| [77, 129, 134, 137, 143, 162, 192].contains(code)))
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

/// Where nobody types, nobody would continue a stopped run, and what watches its times and sizes would stand still with it.
#[test]
fn an_agent_that_stops_itself_goes_on_where_nobody_types() {
    let Some(scene) = Scene::new("codes_stop") else {
        return;
    };
    let one = r#""$0" run -n -- sh -c "kill -$signal \$\$; exit 77"; echo "$?|$signal""#;
    let signals = STOPPING.map(|signal| signal.to_string());
    let script = format!("for signal in {}; do {one}; done", signals.join(" "));
    let output = scene.command("bash").args(["-c", &script, RCC]).output();
    compare(&output, &signals.map(|signal| (signal, 77)));
    assert_eq!(output.stderr_text(), "");
}

#[test]
fn an_agent_that_stops_itself_again_and_again_meets_its_timeout() {
    let Some(scene) = Scene::new("codes_stop_time") else {
        return;
    };
    let stops = "while :; do kill -STOP $$; done";
    let output = scene
        .rcc(["run", "-n", "--timeout", "1s", "--", "sh", "-c", stops])
        .output();
    output.assert_code(124);
    assert!(
        output
            .stderr_text()
            .contains("the run's time of 1s is over"),
        "{output}"
    );
}

/// Whoever started it reads nothing, so what rcc has to say of the limit waits, and the limit does not.
#[test]
fn a_full_standard_error_puts_no_limit_off() {
    let Some(scene) = Scene::new("codes_full") else {
        return;
    };
    let script = r#"mkfifo said; exec 3<>said
        "$0" run -n --timeout 1s -- yes >&3 2>&3 & rcc=$!
        until pgrep -x yes >/dev/null; do sleep 0.01; done
        while pgrep -x yes >/dev/null; do sleep 0.01; done
        cat <&3 >/dev/null & wait $rcc; echo "code $?"; kill $!"#;
    let output = scene.command("bash").args(["-c", script, RCC]).output();
    let text = output.assert_success().stdout_text();
    assert!(text.contains("code 124\n"), "{text}");
}

/// The signal of Ctrl-Z stops rcc and the agent, and both go on together: what the agent says of its stop comes late and
/// stops nobody again.
#[test]
fn a_stopped_job_goes_on_for_good() {
    let Some(scene) = Scene::new("codes_job") else {
        return;
    };
    let script = r#""$0" run -n -- bash -c 'echo up; read -r; exit 77' < <(until [ -e go ]; do sleep 0.01; done; echo) > out & rcc=$!
        until grep -q up out; do sleep 0.01; done
        kill -TSTP $rcc; until grep -q '^State:.T' /proc/$rcc/status; do sleep 0.01; done
        kill -CONT $rcc; touch go; wait $rcc; echo "$?|TSTP""#;
    let output = scene.command("bash").args(["-c", script, RCC]).output();
    compare(&output, &[("TSTP".to_owned(), 77)]);
}

/// What the caller ignores, the agent ignores: `nohup rcc …` is `nohup …`, whatever the signal.
#[test]
fn what_the_caller_ignores_is_ignored_inside() {
    let Some(scene) = Scene::new("codes_ignored") else {
        return;
    };
    let script = r#"trap '' HUP USR1 ALRM 40; for signal in 1 10 14 15 40; do
        "$0" run -n -- sh -c "kill -$signal \$\$; exit 77"; echo "$?|$signal"; done"#;
    let output = scene.command("bash").args(["-c", script, RCC]).output();
    let codes = [(1, 77), (10, 77), (14, 77), (15, 143), (40, 77)];
    compare(
        &output,
        &codes.map(|(signal, code)| (format!("{signal}"), code)),
    );
}
