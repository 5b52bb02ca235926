//! The clock of the machine is set while runs last and between commands. Nobody can set it here, so what was written down is: a run
//! that began tomorrow is what a run of today is once the clock was set back by a day.

use crate::scene::Scene;

/// What a user changed after the clock was set back looks older than the run. It is a conflict all the same.
#[test]
fn a_clock_that_was_set_back_hides_no_conflict() {
    let Some(scene) = Scene::new("clock_conflict") else {
        return;
    };
    let run = |inside: &str| {
        let run = scene.rcc(["run", "-n", "--cow", "--", "bash", "-c", inside]);
        run.output().assert_success();
    };
    let script = r#"
        base=$(echo "$HOME"/.local/state/rcc/runs/*/cow/base.json)
        # A file is older than a second that begins after it was changed.
        until [ "$(date +%s)" -gt "$(stat -c %Z file)" ]; do :; done
        since=$(($(date +%s) + $1))
        sed -i -z "s/\"since\": *\[[^]]*\]/\"since\": [$since, 0]/" "$base"
        grep -q "\[$since, 0\]" "$base""#;
    let began_in = |seconds: &str| {
        let set = scene.command("bash").args(["-c", script, "bash", seconds]);
        set.output().assert_success();
    };

    run("echo by the agent >file");
    scene.file("home/work/project/file", "by the user\n");
    began_in("86400");
    let refused = scene.rcc(["apply"]).output();
    assert!(
        refused.assert_code(1).stderr_text().contains("file"),
        "{refused}"
    );
    assert_eq!(scene.text("home/work/project/file"), "by the user\n");

    // The positive control: with a clock that was left alone it is what the user did before the run.
    began_in("0");
    scene.rcc(["apply"]).output().assert_success();
    assert_eq!(scene.text("home/work/project/file"), "by the agent\n");
}

/// Ages are no less than nothing, the order of ids needs no clock, and a run of tomorrow that has ended is an ended run.
#[test]
fn runs_of_tomorrow_are_listed_addressed_and_removed() {
    let Some(scene) = Scene::new("clock_records") else {
        return;
    };
    scene
        .rcc(["run", "-n", "--name", "one", "--", "true"])
        .output()
        .assert_success();
    let script = r#"
        record=$(echo "$HOME"/.local/state/rcc/runs/*/)
        then=$(( ($(date +%s) + 86400) * 1000 ))
        sed -i "s/\"started_at_ms\": *[0-9]*/\"started_at_ms\": $then/" "$record/run.json"
        touch -d tomorrow "$record/run.json" "$record""#;
    let set = scene.command("bash").args(["-c", script]);
    set.output().assert_success();
    let listed = scene
        .rcc(["ps", "-a"])
        .output()
        .assert_success()
        .stdout_text();
    let line = listed.lines().nth(1).unwrap().to_owned();
    assert!(
        line.contains("ended (0)") && line.contains(" 0 s "),
        "{listed}"
    );
    // It ended a day before it began.
    let told = scene.rcc(["inspect", "one"]).output();
    assert!(
        told.assert_success()
            .stdout_text()
            .contains("\"exit_code\": 0")
    );
    scene.rcc(["rm", "one"]).output().assert_success();
}
