//! `kill -9` of a run with a snapshot, and of its undo, at every system call that changes something: the snapshot is whole or
//! counts for nothing, and the same commands lead back to the project as it was.
//!
//! The moments are hit exactly with strace's fault injection, in the supervisor alone. A kill at a call that changes
//! nothing leaves the same as one at the next call that does, so only those are tried.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bench::{Bench, Said, snapshot};
use rcc_testkit::require;

/// Calls that change a file system, or say what must be on the disk by now.
const CALLS: [&str; 17] = [
    "mkdirat",
    "renameat",
    "renameat2",
    "unlinkat",
    "symlinkat",
    "linkat",
    "write",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "fchmod",
    "fchmodat",
    "fchown",
    "utimensat",
    "fsetxattr",
    "fsync",
    "syncfs",
];

const WORK: &str = "set -e
echo more >> kept; echo more >> linked; rm removed; rm -r gone; ln -sfn /etc/passwd link; mkdir -p new; echo x > new/file
rm to-directory; mkdir to-directory; echo x > to-directory/in; chmod 700 mode; rm read-only/x; echo y > read-only/y";

fn fill(bench: &Bench) {
    for name in [
        "kept",
        "linked",
        "removed",
        "gone/deep/b",
        "to-directory",
        "mode/in",
        "read-only/x",
    ] {
        bench.file(name, format!("{name} of the user\n"));
    }
    bench.file("large", vec![7_u8; 100 << 10]);
    let path = |name: &str| bench.project().join(name);
    std::fs::hard_link(path("linked"), path("other-name")).unwrap();
    symlink("kept", path("link")).unwrap();
    std::fs::set_permissions(path("mode"), std::fs::Permissions::from_mode(0o750)).unwrap();
    shell(
        bench,
        "find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +",
    );
}

fn shell(bench: &Bench, script: &str) {
    let said = bench.host("sh", &["-ec", script]);
    assert_eq!(said.code, 0, "{script}: {said:?}");
}

const RUN: [&str; 7] = ["run", "-n", "--snapshot", "--", "sh", "-c", WORK];

/// A project, and how to have it again and again.
struct Stage {
    bench: Bench,
    before: BTreeMap<PathBuf, String>,
}

impl Stage {
    fn new() -> Self {
        let bench = Bench::new_in(Path::new("/dev/shm"), "snapshot-crash");
        fill(&bench);
        shell(&bench, "mkdir ../kept; cp -a . ../kept/project");
        let before = snapshot(&bench.project());
        Self { bench, before }
    }

    /// The project as it was, and no state.
    fn reset(&self) {
        shell(
            &self.bench,
            "find . -mindepth 1 -delete; rm -rf ../state; cp -a ../kept/project/. .",
        );
    }

    /// The calls of a command by name, in the supervisor, and how many.
    fn count(&self, command: &[&str]) -> Vec<(String, u32)> {
        let trace = self.bench.base().join("trace");
        let calls = format!("trace={}", CALLS.join(","));
        let said = self.strace(&["-o", trace.to_str().unwrap(), "-e", &calls], command);
        assert_eq!(said.code, 0, "{said:?}");
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for line in std::fs::read_to_string(&trace).unwrap().lines() {
            if let Some(name) = CALLS
                .iter()
                .find(|name| line.starts_with(&format!("{name}(")))
            {
                *counts.entry((*name).to_owned()).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }

    fn strace(&self, flags: &[&str], command: &[&str]) -> Said {
        let rcc = bench::program();
        let mut all = vec!["-qq"];
        all.extend(flags);
        all.extend(["--", rcc.to_str().unwrap()]);
        all.extend(command);
        self.bench.host("strace", &all)
    }

    /// Kills a command at a call; what it left running has ended when this returns, because it holds the output.
    fn kill(&self, command: &[&str], call: &str, time: u32) -> Said {
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:signal=SIGKILL:when={time}");
        self.strace(&["-o", "/dev/null", "-e", &trace, "-e", &inject], command)
    }

    fn is_as_before(&self) -> bool {
        snapshot(&self.bench.project()) == self.before
    }

    /// Every snapshot that was not finished is gone after the next one.
    fn assert_swept(&self, moment: &str) {
        let next = self.bench.rcc(&["run", "-n", "--snapshot", "--", "true"]);
        assert_eq!(next.code, 0, "{moment}: {next:?}");
        for run in std::fs::read_dir(self.bench.state().join("rcc/runs")).unwrap() {
            let half = run.unwrap().path().join("snapshot");
            assert!(
                !half.exists() || half.join("index.json").exists(),
                "{moment}"
            );
        }
    }
}

#[test]
fn kill_9_at_every_call_of_a_run_with_a_snapshot_and_of_its_undo_leads_back() {
    if !require("strace") {
        return;
    }
    let stage = Stage::new();
    let (mut points, mut missed) = (0, 0);
    stage.reset();
    for (call, count) in stage.count(&RUN) {
        for time in 1..=count {
            let moment = format!("run, {call} {time}");
            stage.reset();
            let said = stage.kill(&RUN, &call, time);
            if said.code != -1 {
                // A relay that had more to write the first time.
                assert_eq!(said.code, 0, "{moment}: {said:?}");
                missed += 1;
            }
            let undone = stage.bench.rcc(&["undo"]);
            if undone.stderr.contains("was killed, so") {
                assert_eq!(undone.code, 1, "{moment}: {undone:?}");
                let again = stage.bench.rcc(&["undo"]);
                assert_eq!(again.code, 0, "{moment}: {again:?}");
            } else {
                let nothing = undone.stderr.contains("nothing was applied");
                assert!(undone.code == 0 || nothing, "{moment}: {undone:?}");
            }
            assert!(stage.is_as_before(), "{moment}: {undone:?}");
            stage.assert_swept(&moment);
            points += 1;
        }
    }
    let (run, missed_runs) = (points, missed);
    stage.reset();
    let ran = stage.bench.rcc(&RUN);
    assert_eq!(ran.code, 0, "{ran:?}");
    shell(
        &stage.bench,
        "cp -a ../state ../kept/state; cp -a . ../kept/changed",
    );
    assert!(!stage.is_as_before());
    let changed = || {
        shell(
            &stage.bench,
            "find . -mindepth 1 -delete; rm -rf ../state; cp -a ../kept/changed/. .; cp -a ../kept/state ../state",
        );
    };
    changed();
    for (call, count) in stage.count(&["undo"]) {
        for time in 1..=count {
            let moment = format!("undo, {call} {time}");
            changed();
            let said = stage.kill(&["undo"], &call, time);
            assert_eq!(said.code, -1, "{moment}: the moment never came: {said:?}");
            let again = stage.bench.rcc(&["undo"]);
            let nothing = again.stderr.contains("nothing was applied");
            assert!(again.code == 0 || nothing, "{moment}: {again:?}");
            assert!(stage.is_as_before(), "{moment}: {again:?}");
            points += 1;
        }
    }
    println!("{points} moments, {run} of them in a run ({missed_runs} came too late)");
    assert!(points > 100 && missed * 4 < points, "{points} {missed}");
}
