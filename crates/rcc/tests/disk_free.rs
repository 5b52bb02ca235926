//! A runaway that fills a disk is ended while there is room left for everybody else: in the project, in a copy-on-write layer, in
//! the agent's home. Each on a small file system in memory, in a mount namespace of its own. Once as the caller, and when that
//! is root once more as an ordinary user.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod bench;

use std::path::Path;

use bench::{Bench, Said};
use rcc_testkit::require;

#[test]
fn everything_again_as_an_ordinary_user() {
    rcc_testkit::run_again_as_ordinary_user(&[Path::new(env!("CARGO_BIN_EXE_rcc"))]);
}

/// Runs the agent's script where `place`, relative to the project's parent, has 64 MiB.
fn with_64_mib(bench: &Bench, place: &str, flags: &str, agent: &str) -> Said {
    let script = format!(
        "cd .. && mount -t tmpfs -o mode=700,size=64m none {place} && cd project && \"$0\" run -n {flags} -- bash -c \"$1\"; \
         code=$?; ls; exit $code"
    );
    let rcc = bench::program();
    let arguments = ["-rm", "bash", "-c", &script, rcc.to_str().unwrap(), agent];
    bench.host("unshare", &arguments)
}

/// Leaves 8 MiB and does not end by itself.
const RUNAWAY: &str = "head -c 56M /dev/zero > fill; sleep 100000";
/// The same, in the home.
const RUNAWAY_AT_HOME: &str = "head -c 56M /dev/zero > ~/fill; sleep 100000";

#[track_caller]
fn assert_ended(said: &Said, place: &str) {
    assert_eq!(said.code, 124, "{said:?}");
    let told = said.stderr.contains("rcc: only ")
        && said.stderr.contains(" are left on the disk of ")
        && said.stderr.contains(place)
        && said
            .stderr
            .contains(", less than the limit disk_free of 16MiB; the run is ended\n");
    assert!(told, "{said:?}");
}

#[test]
fn a_project_that_is_filled_up_ends_the_run() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("direct");
    let ended = with_64_mib(&bench, "project", "--disk-free 16MiB", RUNAWAY);
    assert_ended(&ended, "/project");
    assert_eq!(ended.stdout, "fill\n");
    assert_eq!(bench.last_run()["end_reason"], "disk-full");
    // The control: the same bytes leave more than the limit.
    let agent = "head -c 56M /dev/zero > fill && sleep 0.3; exit 7";
    let whole = with_64_mib(&bench, "project", "--disk-free 4MiB", agent);
    assert_eq!(
        (whole.code, whole.stderr.as_str(), whole.stdout.as_str()),
        (7, "", "fill\n")
    );
}

#[test]
fn a_layer_that_is_filled_up_ends_the_run() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("layer");
    let ended = with_64_mib(&bench, "state", "--cow --disk-free 16MiB", RUNAWAY);
    assert_ended(&ended, "/state/rcc/runs/");
    // It was the layer that was filled.
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_home_that_is_filled_up_ends_the_run() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("home");
    let ended = with_64_mib(&bench, "home", "--disk-free 16MiB", RUNAWAY_AT_HOME);
    assert_ended(&ended, "/home");
    assert_eq!(ended.stdout, "");
}

#[test]
fn one_that_is_deaf_and_fills_it_to_the_last_byte_is_killed() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("deaf");
    let agent = "trap '' TERM; head -c 100M /dev/zero > fill; echo full; while :; do sleep 1; done";
    let ended = with_64_mib(&bench, "project", "--disk-free 16MiB", agent);
    assert_ended(&ended, "/project");
    assert!(!ended.stdout.contains("echo"), "{ended:?}");
}

#[test]
fn a_limit_that_is_exceeded_already_is_refused_and_a_small_disk_needs_none() {
    if !require("unshare") {
        return;
    }
    let bench = Bench::new("start");
    let refused = with_64_mib(&bench, "project", "--disk-free 100MiB", "touch ran");
    assert_eq!((refused.code, refused.stdout.as_str()), (125, ""));
    assert!(
        refused.stderr.contains(
            "the limit disk_free = 100 MiB cannot be kept: 64 MiB are left on the disk of "
        ) && refused.stderr.contains("--disk-free SIZE"),
        "{refused:?}"
    );
    // Nobody named a limit, or somebody wants none: the agent learns it from the kernel, and goes on.
    for flags in ["", "--disk-free none"] {
        let fills = "head -c 100M /dev/zero 2>&1 > fill | grep -c 'No space'; sleep 0.3; exit 7";
        let free = with_64_mib(&bench, "project", flags, fills);
        assert_eq!(
            (free.code, free.stderr.as_str(), free.stdout.as_str()),
            (7, "", "1\nfill\n"),
            "{flags}"
        );
    }
}
