//! What the agent leaves for good has a size: the layer of a copy-on-write run and the agent home. Once as the caller, and when
//! that is root once more as an ordinary user.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod bench;

use std::path::Path;

use bench::{Bench, Said};

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

fn run(bench: &Bench, flags: &[&str], agent: &str) -> Said {
    bench.rcc(&[&["run", "-n"], flags, &["--", "bash", "-c", agent]].concat())
}

/// The run was ended by rcc, which says so, to the user and in the record.
#[track_caller]
fn assert_ended(bench: &Bench, said: &Said, told: &str) {
    assert_eq!(said.code, 124, "{said:?}");
    assert!(said.stderr.contains(told), "{said:?}");
    assert_eq!(bench.last_run()["end_reason"], "too-large");
}

#[test]
fn a_layer_that_grows_too_large_ends_the_run_and_can_be_looked_at() {
    let bench = Bench::new("layer");
    let flags = ["--cow", "--layer-size", "8MiB"];
    // The agent would go on for ever. It may be met while it writes.
    let ended = run(&bench, &flags, "head -c 20M /dev/zero > fill; sleep 100000");
    assert_ended(
        &bench,
        &ended,
        "more than the limit layer_size of 8MiB; the run is ended\n",
    );
    let diff = bench.rcc(&["diff", "--name-status"]);
    assert!(diff.stdout.contains("fill"), "{diff:?}");
    // Its continuation would begin with too much.
    let first = bench.last_run();
    let again = [&flags[..], &["--continue", first["id"].as_str().unwrap()]].concat();
    let refused = run(&bench, &again, "touch ran");
    assert_eq!(refused.code, 125, "{refused:?}");
    let named = "more than the limit layer_size of 8MiB";
    assert!(
        refused.stderr.contains(named) && refused.stderr.contains("--layer-size SIZE"),
        "{refused:?}"
    );
}

#[test]
fn what_fits_and_what_is_no_layer_is_left_alone() {
    let bench = Bench::new("fits");
    // Longer than some looks; a hole takes nothing, and a second name nothing more.
    let agent =
        "head -c 5M /dev/zero > fill && ln fill again && truncate -s 100G hole && sleep 2; exit 7";
    let sizes = ["--layer-size", "8MiB", "--home-size", "8MiB"];
    let whole = run(&bench, &[&["--cow"], &sizes[..]].concat(), agent);
    assert_eq!(whole.code, 7, "{whole:?}");
    assert!(!whole.stderr.contains("limit"), "{whole:?}");
    // Nothing of a direct run lies in a layer.
    let direct = run(
        &bench,
        &sizes,
        "head -c 20M /dev/zero > fill && sleep 2; exit 7",
    );
    assert_eq!((direct.code, direct.stderr.as_str()), (7, ""));
}

#[test]
fn a_home_that_grows_too_large_ends_this_run_and_the_next_until_it_is_emptied() {
    let bench = Bench::new("home");
    let flags = ["--home-size", "8MiB"];
    let agent = "head -c 20M /dev/zero > ~/fill; sleep 100000";
    let told = "more than the limit home_size of 8MiB";
    let ended = run(&bench, &flags, agent);
    assert_ended(&bench, &ended, &format!("{told}; the run is ended\n"));
    let refused = run(&bench, &flags, "touch ran");
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains(told) && refused.stderr.contains("rcc home reset"),
        "{refused:?}"
    );
    assert!(!bench.project().join("ran").exists());
    let reset = bench.rcc(&["home", "reset", "default", "--yes"]);
    assert_eq!(reset.code, 0, "{reset:?}");
    let clean = run(&bench, &flags, "touch ran; exit 7");
    assert_eq!((clean.code, clean.stderr.as_str()), (7, ""));
}

#[test]
fn what_is_hidden_from_the_measure_ends_the_run() {
    let bench = Bench::new("hidden");
    let layer = &["--cow", "--layer-size", "8MiB"][..];
    // Names can be listed in the second, and nothing else be learned of them.
    for (flags, place, mode, told) in [
        (layer, ".", "0", "the layer of the run "),
        (layer, ".", "400", "the layer of the run "),
        (&["--home-size", "8MiB"], "~", "0", "the agent home "),
    ] {
        let hide = format!(
            "mkdir d && exec 3> d/fill && chmod {mode} d && head -c 20M /dev/zero >&3; sleep 100000"
        );
        let ended = run(&bench, flags, &format!("cd {place} && {hide}"));
        assert_ended(&bench, &ended, told);
        // Root sees into it.
        let how = if rustix::process::geteuid().is_root() {
            "more than the limit"
        } else {
            "has directories that are closed to you"
        };
        assert!(ended.stderr.contains(how), "{ended:?}");
    }
}
