//! `kill -9` of a run with a snapshot, of the undo of it, and of its discard, at every moment of the supervisor: the snapshot is
//! whole or counts for nothing, and the same commands lead back to the project as it was.
//!
//! CI tries a sample; `RCC_CRASH_EVERY=1` tries every moment, of a small project and of one with 2,000 entries (docs/testing.md). A run and the undo of it share a cycle, which leads back to the project as it was.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test program, which tells how far it is"
)]

mod bench;
mod crash;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use bench::{Bench, Said};
use crash::fill::{LARGE, SMALL, Size, fill, work};
use crash::tree::{Tree, difference, neither_old_nor_new, read};
use crash::{Course, Moment, Share, Tried, kill, shell, try_kill};
use rcc_testkit::require;

/// A moment of a run costs all that the agent does; the snapshot itself is of the whole project.
const FEW_CHANGES: Size = Size {
    changed: 3,
    ..LARGE
};
/// None of these sweeps away what an earlier run left, so that their numbers stay the same where there is something.
const OF_TAKING: [&str; 2] = ["openat", "write"];

/// A project, and what an agent does to it.
struct Stage {
    bench: Bench,
    before: Tree,
    work: String,
}

impl Stage {
    fn new(name: &str, Size { parts, changed }: Size) -> Self {
        let bench = crash::bench(name);
        fill(&bench, parts);
        let before = read(&bench.project());
        Self {
            bench,
            before,
            work: format!("{}\nchmod 750 .", work(changed)),
        }
    }

    fn run(&self) -> [&str; 7] {
        ["run", "-n", "--snapshot", "--", "bash", "-c", &self.work]
    }

    fn differs(&self) -> String {
        difference(&read(&self.bench.project()), &self.before, None)
    }

    fn records(&self) -> Vec<PathBuf> {
        let runs = std::fs::read_dir(self.bench.state().join("rcc/runs"));
        let runs = runs.into_iter().flatten();
        runs.map(|run| run.unwrap().path()).collect()
    }

    /// Records with a part of a snapshot.
    fn halves(&self) -> usize {
        let records = self.records();
        let half = |record: &&PathBuf| {
            record.join("snapshot").exists() && !record.join("snapshot/index.json").exists()
        };
        records.iter().filter(half).count()
    }

    /// Removes the records, with or without those that hold a part of a snapshot.
    fn forget(&self, all: bool) {
        for record in self.records() {
            if all || !record.join("snapshot").exists() {
                std::fs::remove_dir_all(record).unwrap();
            }
        }
    }

    /// The second undo, of a run that was killed, or the only one.
    fn second(&self, moment: Option<&Moment>) -> Result<Said, String> {
        let Some(moment) = moment else {
            return Ok(self.bench.rcc(&["undo"]));
        };
        let after = read(&self.bench.project());
        kill(&self.bench, &["undo"], moment);
        let now = read(&self.bench.project());
        let wrong = neither_old_nor_new(&now, &self.before, &after);
        if !wrong.is_empty() {
            return Err(format!("undo, {moment:?}: neither old nor new: {wrong}"));
        }
        Ok(self.bench.rcc(&["undo"]))
    }

    /// A run that is killed at a moment, and an undo, killed at one where it has something to take back; whether the moments came.
    fn cycle(&self, run: &Moment, undo: Option<&Moment>) -> Result<(bool, bool), String> {
        if !OF_TAKING.contains(&run.0.as_str()) {
            self.forget(true);
        }
        let (came, said) = try_kill(&self.bench, &self.run(), run);
        if !came && !said.stdout.contains("\"code\":0") {
            return Err(format!("run, {run:?}: {said:?}"));
        }
        if self.halves() > 1 {
            return Err(format!("run, {run:?}: an earlier half is still there"));
        }
        let mut undo_came = false;
        // An agent that was killed left fewer entries to be taken back.
        let undo = undo.filter(|_| self.is_done());
        // Taken back already is what an earlier run left that could not remove its snapshot any more.
        let is_closed = self
            .records()
            .iter()
            .any(|record| record.join("undo/1").exists() && !record.join("undo/1/undone").exists());
        let undone = if is_closed {
            undo_came = undo.is_some();
            self.second(undo)?
        } else {
            let first = self.bench.rcc(&["undo"]);
            if first.code == 1 && first.stderr.contains("was killed, so") {
                undo_came = undo.is_some();
                self.second(undo)?
            } else {
                first
            }
        };
        if undone.code != 0 && !undone.stderr.contains("nothing was applied") {
            return Err(format!("run, {run:?}, undo, {undo:?}: {undone:?}"));
        }
        let wrong = self.differs();
        if !wrong.is_empty() {
            return Err(format!("run, {run:?}, undo, {undo:?}: {wrong}"));
        }
        self.forget(false);
        Ok((came, undo_came))
    }

    /// Whether the agent came to its last command.
    fn is_done(&self) -> bool {
        self.bench.project().metadata().unwrap().mode() & 0o777 == 0o750
    }

    /// What was never finished is gone after the next run.
    fn assert_swept(&self) {
        let next = self.bench.rcc(&["run", "-n", "--snapshot", "--", "true"]);
        assert_eq!(next.code, 0, "{next:?}");
        let records = self.records();
        assert!(
            records
                .iter()
                .all(|record| !record.join("snapshot").exists())
        );
    }

    /// A discard of the run that is killed at a moment; the record is a copy.
    fn discard(&self, moment: &Moment) -> Result<(), String> {
        self.restore();
        let id = self.id();
        let command = ["discard", &id];
        let project = read(&self.bench.project());
        kill(&self.bench, &command, moment);
        let wrong = difference(&read(&self.bench.project()), &project, None);
        if !wrong.is_empty() {
            return Err(format!("discard, {moment:?}: {wrong}"));
        }
        let again = self.bench.rcc(&command);
        let nothing = again.stderr.contains("no copy-on-write run is called");
        let left = self.bench.host("bash", &["-c", "ls ../state/rcc/runs/*"]);
        let is_left = left.stdout.contains("undo") || left.stdout.contains("snapshot");
        if (again.code == 0 || nothing) && !is_left {
            return Ok(());
        }
        Err(format!("discard, {moment:?}: {again:?}, left: {left:?}"))
    }

    /// The records as they were when they were kept.
    fn restore(&self) {
        shell(
            &self.bench,
            "cd ../state/rcc; rm -rf runs; cp -al ../../kept runs",
        );
    }

    fn id(&self) -> String {
        let records = self.records();
        assert_eq!(records.len(), 1);
        records[0].file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// Runs and takes back, killed at every moment of the share.
fn run_and_undo(name: &str, size: Size, share: Share) -> Tried {
    let mut tried = Tried::nothing();
    let mut stage = Stage::new(name, size);
    println!("{name}: {} entries", stage.before.len());
    // The first command of all makes the directory of its locks.
    assert_eq!(stage.bench.rcc(&stage.run()).code, 0);
    assert_eq!(stage.bench.rcc(&["undo"]).code, 0);
    let run = share.of("run", &Course::of(&stage.bench, &stage.run()));
    let mut undo = share.of("undo", &Course::of(&stage.bench, &["undo"]));
    assert_eq!(stage.differs(), "");
    stage.forget(true);
    // Runs that are killed before the agent starts have nothing to take back; those that are killed later come last.
    let mut next = run.iter().chain(run.iter().rev().cycle());
    let mut done = 0;
    while done < run.len() || !undo.is_empty() {
        let moment = next.next().unwrap();
        match stage.cycle(moment, undo.last()) {
            Ok((came, undo_came)) => {
                if done < run.len() {
                    tried.moments += usize::from(came);
                    tried.missed += usize::from(!came);
                }
                if undo_came {
                    undo.pop();
                    tried.moments += 1;
                }
            }
            Err(failure) => {
                tried.failed(failure);
                if tried.is_hopeless() {
                    return tried;
                }
                undo.pop();
                stage = Stage::new(&format!("{name}-{done}"), size);
            }
        }
        done += 1;
        tried.progress(name, done, run.len());
    }
    stage.assert_swept();
    tried
}

/// Discards what is kept of a run, killed at every moment of the share: of a run that was killed, and of one that ended.
fn discard(name: &str, size: Size, share: Share) -> Tried {
    let mut tried = Tried::nothing();
    for is_killed in [true, false] {
        let stage = Stage::new(&format!("{name}-{is_killed}"), size);
        if is_killed {
            // Where it would write down what the agent changed: the snapshot is whole.
            kill(&stage.bench, &stage.run(), &("linkat".to_owned(), 1));
        } else {
            let said = stage.bench.rcc(&stage.run());
            assert_eq!(said.code, 0, "{said:?}");
        }
        let id = stage.id();
        shell(&stage.bench, "cp -al ../state/rcc/runs ../kept");
        // The first command of all makes the directory of its locks.
        assert_eq!(stage.bench.rcc(&["discard", &id]).code, 0);
        stage.restore();
        let course = Course::of(&stage.bench, &["discard", &id]);
        for moment in share.of("discard", &course) {
            if let Err(failure) = stage.discard(&moment) {
                tried.failed(failure);
                if tried.is_hopeless() {
                    return tried;
                }
            }
            tried.moments += 1;
            tried.progress(name, tried.moments, 0);
        }
    }
    tried
}

#[test]
fn kill_9_at_calls_of_a_run_with_a_snapshot_and_of_its_undo_leads_back() {
    if require("strace") {
        // A moment costs a whole run.
        let share = Share {
            every: crash::number("RCC_CRASH_EVERY", 4),
            ..Share::ALL
        };
        let tried = run_and_undo("small", SMALL, share);
        tried.check(80);
        assert!(tried.missed * 10 < tried.moments, "{tried:?}");
    }
}

/// A redo takes back by the same steps as an undo, the undo's own journal.
#[test]
fn kill_9_at_calls_of_a_redo_brings_all_again_with_the_same_command_and_loses_nothing() {
    if !require("strace") {
        return;
    }
    let stage = Stage::new("redo", SMALL);
    let rcc = |command: &str| {
        let said = stage.bench.rcc(&[command]);
        assert_eq!(said.code, 0, "{command}: {said:?}");
    };
    assert_eq!(stage.bench.rcc(&stage.run()).code, 0);
    rcc("undo");
    rcc("redo");
    let after = read(&stage.bench.project());
    rcc("undo");
    assert_ne!(difference(&after, &stage.before, None), "");
    let course = Course::of(&stage.bench, &["redo"]);
    rcc("undo");
    let share = Share {
        every: crash::number("RCC_CRASH_EVERY", 4),
        ..Share::ALL
    };
    let moments = share.of("redo", &course);
    assert!(moments.len() > 10, "{moments:?}");
    for moment in moments {
        kill(&stage.bench, &["redo"], &moment);
        let now = read(&stage.bench.project());
        let wrong = neither_old_nor_new(&now, &after, &stage.before);
        assert_eq!(wrong, "", "{moment:?}: neither old nor new");
        let again = stage.bench.rcc(&["redo"]);
        let nothing = again.stderr.contains("nothing was taken back");
        assert!(again.code == 0 || nothing, "{moment:?}: {again:?}");
        let wrong = difference(&read(&stage.bench.project()), &after, None);
        assert_eq!(wrong, "", "{moment:?}");
        rcc("undo");
        assert_eq!(stage.differs(), "", "{moment:?}");
    }
}

#[test]
fn kill_9_at_every_call_of_the_discard_of_a_snapshot_changes_nothing_and_the_same_command_completes()
 {
    if require("strace") {
        discard("discard", SMALL, Share::ALL).check(60);
    }
}

#[test]
fn kill_9_at_some_calls_of_a_large_run_with_a_snapshot_and_of_its_undo() {
    if require("strace") {
        let matrix = |name: &str, share| run_and_undo(name, FEW_CHANGES, share);
        crash::large("large", matrix).check(3);
    }
}

#[test]
fn kill_9_at_some_calls_of_the_discard_of_a_large_snapshot() {
    if require("strace") {
        let matrix = |name: &str, share| discard(name, FEW_CHANGES, share);
        crash::large("large-discard", matrix).check(1);
    }
}
