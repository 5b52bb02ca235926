//! `kill -9` of apply, undo and discard at every system call that changes something: each entry is old or new, nothing of
//! the user's is lost, and the same command again completes.
//!
//! The moments are hit exactly with strace's fault injection. A kill at a call that changes nothing leaves the same as
//! one at the next call that does, so only those are tried.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bench::{Bench, Said, snapshot};
use rcc_testkit::require;

/// Calls that change a file system, or say what must be on the disk by now.
const CALLS: &str = "mkdirat,renameat,renameat2,unlinkat,symlinkat,linkat,write,pwrite64,ftruncate,fremovexattr,fchmod,fchmodat,fchown,utimensat,fsetxattr,ioctl,fsync,syncfs,flock";

const WORK: &str = "set -e
echo more >> kept; echo more >> linked; rm removed link-removed; rm -r gone; chmod 700 mode
rm to-directory; mkdir to-directory; echo x > to-directory/in; rm -r holder; echo x > holder
ln -sfn /etc/passwd link; mkdir -p new/deep; echo x > new/deep/file; chmod 750 new; chmod 711 other
touch -d 2001-02-03 dated; cp --attributes-only --preserve=xattr with/file noted; cp -r --preserve=xattr,mode with/. dressed";

fn fill(bench: &Bench) {
    for name in [
        "kept",
        "linked",
        "removed",
        "gone/a",
        "gone/deep/b",
        "mode",
        "to-directory",
        "holder/x",
        "other/y",
        "dated",
        "noted",
        "with/file",
        "dressed/z",
    ] {
        bench.file(name, format!("{name} of the user\n"));
    }
    std::fs::hard_link(
        bench.project().join("linked"),
        bench.project().join("other-name"),
    )
    .unwrap();
    for (name, value) in [("with", "new"), ("with/file", "new"), ("dressed", "old")] {
        let path = bench.project().join(name);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "user.rcc-test", value.as_bytes(), flags).unwrap();
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(bench.project().join("with"), mode).unwrap();
    symlink("kept", bench.project().join("link")).unwrap();
    symlink("kept", bench.project().join("link-removed")).unwrap();
}

/// A project with a finished run, and how to have it again and again.
struct Stage {
    bench: Bench,
    /// What the project has, and what it has after an apply.
    before: BTreeMap<PathBuf, String>,
    after: BTreeMap<PathBuf, String>,
}

fn shell(bench: &Bench, script: &str) -> Said {
    let said = bench.host("sh", &["-ec", script]);
    assert_eq!(said.code, 0, "{script}: {said:?}");
    said
}

impl Stage {
    fn new(name: &str, fill: impl Fn(&Bench), work: &str) -> Self {
        // Only the memory is needed: nothing here survives the machine.
        let memory = Path::new("/dev/shm");
        let bench = if memory.is_dir() {
            Bench::new_in(memory, name)
        } else {
            Bench::new(name)
        };
        fill(&bench);
        let run = bench.cow(work);
        assert_eq!(run.code, 0, "{run:?}");
        // Copies are newer than the run; what was there when it began has to look so.
        shell(
            &bench,
            "sed -i 's/\"since\": \\[/\"since\": [9999999999, 0], \"was\": [/' ../state/rcc/runs/*/cow/base.json; chmod -R u+rwX ../state/rcc/runs/*/cow/work; mkdir ../kept; cp -a . ../kept/project; cp -a ../state ../kept/state",
        );
        let before = snapshot(&bench.project());
        let mut stage = Self {
            bench,
            before,
            after: BTreeMap::new(),
        };
        let applied = stage.bench.rcc(&["apply"]);
        assert_eq!(applied.code, 0, "{applied:?}");
        stage.after = snapshot(&stage.bench.project());
        assert_ne!(stage.after, stage.before);
        stage
    }

    /// The project and the finished run as they were.
    fn reset(&self) {
        shell(
            &self.bench,
            "find . -mindepth 1 -delete; rm -rf ../state; cp -a ../kept/project/. .; cp -a ../kept/state ..",
        );
        assert_eq!(snapshot(&self.bench.project()), self.before);
    }

    /// Runs a command to its end and counts its calls by name.
    fn count(&self, command: &str) -> Vec<(String, u32)> {
        let trace = self.bench.base().join("trace");
        let said = self.strace(
            &[
                "-o",
                trace.to_str().unwrap(),
                "-e",
                &format!("trace={CALLS}"),
            ],
            command,
        );
        assert_eq!(said.code, 0, "{said:?}");
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for line in std::fs::read_to_string(&trace).unwrap().lines() {
            if let Some((name, _)) = line
                .split_once('(')
                .filter(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric()))
            {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }

    fn strace(&self, flags: &[&str], command: &str) -> Said {
        let rcc = bench::program();
        let mut all = vec!["-qq"];
        all.extend(flags);
        all.extend(["--", rcc.to_str().unwrap(), command]);
        self.bench.host("strace", &all)
    }

    /// Kills a command at a call; whether the moment came.
    fn kill(&self, command: &str, call: &str, time: u32) {
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:signal=SIGKILL:when={time}");
        let said = self.strace(&["-o", "/dev/null", "-e", &trace, "-e", &inject], command);
        assert_eq!(
            said.code, -1,
            "{command} {call} {time}: the moment never came: {said:?}"
        );
    }

    /// Every entry is as it was or as it will be.
    fn assert_old_or_new(&self, moment: &str) {
        let now = snapshot(&self.bench.project());
        let paths: BTreeSet<&PathBuf> = now
            .keys()
            .chain(self.before.keys())
            .chain(self.after.keys())
            .collect();
        for path in paths {
            let temporary = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b".rcc-"));
            // A directory gets its mode and times last.
            let essence = |tree: &BTreeMap<PathBuf, String>| {
                tree.get(path).map(|text| match text.split_once(" mode ") {
                    Some(("directory", _)) => "directory".to_owned(),
                    _ => text.split(" links ").next().unwrap().to_owned(),
                })
            };
            let is = essence(&now);
            let fits = is == essence(&self.before)
                || is == essence(&self.after)
                || is_same_but_time(&is, &essence(&self.after));
            assert!(temporary || fits, "{moment}: {}: {is:?}", path.display());
        }
    }
}

/// Links have the time of their making.
fn is_same_but_time(is: &Option<String>, expected: &Option<String>) -> bool {
    let without = |text: &Option<String>| {
        text.as_ref()
            .map(|text| text.split(" at ").next().unwrap().to_owned())
    };
    is.as_ref().is_some_and(|text| text.starts_with("link")) && without(is) == without(expected)
}

fn without_times(tree: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let plain = |text: &String| {
        let (what, rest) = text.split_once(" at ").unwrap();
        let time = if what.starts_with("file") {
            rest.split(' ').next().unwrap()
        } else {
            ""
        };
        format!("{what} {time}")
    };
    tree.iter()
        .map(|(path, text)| (path.clone(), plain(text)))
        .collect()
}

/// Every moment, or every so many of them.
fn moments(counts: &[(String, u32)], each: usize) -> Vec<(String, u32)> {
    let all = counts
        .iter()
        .flat_map(|(name, count)| (1..=*count).map(move |time| (name.clone(), time)));
    all.step_by(each).collect()
}

fn matrix(stage: &Stage, each: usize) -> usize {
    let mut points = 0;
    stage.reset();
    let counts = stage.count("apply");
    for (call, time) in moments(&counts, each) {
        let moment = format!("apply, {call} {time}");
        stage.reset();
        stage.kill("apply", &call, time);
        stage.assert_old_or_new(&moment);
        let again = stage.bench.rcc(&["apply"]);
        // Killed at the very end there is nothing left to do.
        assert!(
            again.code == 0 || again.stderr.contains("no run has changes"),
            "{moment}: {again:?}"
        );
        assert_eq!(
            without_times(&snapshot(&stage.bench.project())),
            without_times(&stage.after),
            "{moment}"
        );
        let undone = stage.bench.rcc(&["undo"]);
        assert_eq!(undone.code, 0, "{moment}: {undone:?}");
        assert_eq!(snapshot(&stage.bench.project()), stage.before, "{moment}");
        points += 1;
    }
    let applied = || {
        stage.reset();
        assert_eq!(stage.bench.rcc(&["apply"]).code, 0);
    };
    applied();
    let counts = stage.count("undo");
    for (call, time) in moments(&counts, each) {
        let moment = format!("undo, {call} {time}");
        applied();
        stage.kill("undo", &call, time);
        stage.assert_old_or_new(&moment);
        let again = stage.bench.rcc(&["undo"]);
        assert!(
            again.code == 0 || again.stderr.contains("nothing was applied"),
            "{moment}: {again:?}"
        );
        assert_eq!(snapshot(&stage.bench.project()), stage.before, "{moment}");
        points += 1;
    }
    stage.reset();
    let counts = stage.count("discard");
    for (call, time) in moments(&counts, each) {
        stage.reset();
        stage.kill("discard", &call, time);
        assert_eq!(snapshot(&stage.bench.project()), stage.before);
        let again = stage.bench.rcc(&["discard"]);
        assert!(
            again.code == 0 || again.stderr.contains("no run has changes"),
            "discard, {call} {time}: {again:?}"
        );
        points += 1;
    }
    points
}

#[test]
fn kill_9_at_every_call_leaves_old_or_new_and_the_same_command_completes() {
    if !require("strace") {
        return;
    }
    let stage = Stage::new("small", fill, WORK);
    let points = matrix(&stage, 1);
    println!("{points} moments");
    assert!(points > 200, "{points}");
}

#[test]
fn kill_9_at_some_calls_of_a_large_apply() {
    if !require("strace") {
        return;
    }
    let work = format!(
        "{WORK}\nfor i in $(seq 600); do echo $i changed > many/$i; echo x > new/$i; done; rm many/7??; for i in $(seq 800 999); do rm many/$i; ln -s x many/$i; done"
    );
    let stage = Stage::new(
        "large",
        |bench| {
            fill(bench);
            for number in 1..1000 {
                bench.file(&format!("many/{number}"), format!("{number}\n"));
            }
        },
        &work,
    );
    // A sample spread over all calls; `RCC_CRASH_EVERY=1` tries every moment, which takes hours.
    let every = std::env::var("RCC_CRASH_EVERY").ok();
    let every = every.map_or(997, |every| every.parse().expect("a number of moments"));
    let points = matrix(&stage, every);
    println!("{points} moments");
    assert!(points > 8, "{points}");
}
