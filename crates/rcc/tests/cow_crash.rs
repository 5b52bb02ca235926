//! `kill -9` of apply, undo and discard at every moment: each entry is old or new, nothing of the user's is lost, and the
//! same command again completes.
//!
//! A small project is killed at every moment. Of a large one, 2,000 entries, CI tries a sample; `RCC_CRASH_EVERY=1` tries every
//! moment (docs/testing.md). An apply and the undo of it share a cycle, which leads back to the project as it was.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test program, which tells how far it is"
)]

mod bench;
mod crash;

use bench::Bench;
use crash::fill::{LARGE, SMALL, Size, fill, work};
use crash::tree::{Tree, difference, neither_old_nor_new, read};
use crash::{Course, Moment, Share, Tried, kill, shell};
use rcc_testkit::require;

/// A project with a finished run, and what it has before and after an apply.
struct Stage {
    bench: Bench,
    before: Tree,
    after: Tree,
}

impl Stage {
    fn new(name: &str, Size { parts, changed }: Size) -> Self {
        let bench = crash::bench(name);
        fill(&bench, parts);
        let before = read(&bench.project());
        let run = bench.cow(&work(changed));
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(difference(&read(&bench.project()), &before, None), "");
        let mut stage = Self {
            bench,
            before,
            after: Tree::new(),
        };
        stage.must("apply");
        stage.after = read(&stage.bench.project());
        stage.must("undo");
        assert_eq!(stage.differs(), "");
        stage.forget();
        stage
    }

    fn must(&self, command: &str) {
        let said = self.bench.rcc(&[command]);
        assert_eq!(said.code, 0, "{command}: {said:?}");
    }

    /// What of the project is not as it was.
    fn differs(&self) -> String {
        difference(&read(&self.bench.project()), &self.before, None)
    }

    /// Removes what is kept of applies that were taken back.
    fn forget(&self) {
        shell(&self.bench, "rm -rf ../state/rcc/runs/*/undo");
    }

    /// Runs a command, killed at a moment where there is one, and then once more.
    fn killed(&self, command: &str, moment: Option<&Moment>, nothing: &str) -> Result<(), String> {
        let Some(moment) = moment else {
            self.must(command);
            return Ok(());
        };
        kill(&self.bench, &[command], moment);
        let now = read(&self.bench.project());
        let wrong = neither_old_nor_new(&now, &self.before, &self.after);
        if !wrong.is_empty() {
            return Err(format!(
                "{command}, {moment:?}: neither old nor new: {wrong}"
            ));
        }
        let again = self.bench.rcc(&[command]);
        // Killed at the very end there is nothing left to do.
        if again.code == 0 || again.stderr.contains(nothing) {
            return Ok(());
        }
        Err(format!("{command}, {moment:?}: the second one: {again:?}"))
    }

    /// An apply and an undo, each killed at a moment.
    fn cycle(&self, apply: Option<&Moment>, undo: Option<&Moment>) -> Result<(), String> {
        self.killed("apply", apply, "no run has changes")?;
        let now = read(&self.bench.project());
        let wrong = difference(&now, &self.after, Some(&self.before));
        if !wrong.is_empty() {
            return Err(format!("after apply, {apply:?}: {wrong}"));
        }
        self.killed("undo", undo, "nothing was applied")?;
        let wrong = self.differs();
        if !wrong.is_empty() {
            return Err(format!(
                "after apply, {apply:?}, and undo, {undo:?}: {wrong}"
            ));
        }
        self.forget();
        Ok(())
    }

    /// A discard that is killed at a moment; the layer is a copy.
    fn discard(&self, moment: &Moment) -> Result<(), String> {
        shell(
            &self.bench,
            "cd ../state/rcc/runs/*; rm -rf cow; cp -al ../../../../kept/cow .",
        );
        kill(&self.bench, &["discard"], moment);
        let wrong = self.differs();
        if !wrong.is_empty() {
            return Err(format!("discard, {moment:?}: {wrong}"));
        }
        let again = self.bench.rcc(&["discard"]);
        let nothing = again.stderr.contains("no run has changes");
        let record = self.bench.host("bash", &["-c", "ls ../state/rcc/runs/*"]);
        if (again.code == 0 || nothing) && !record.stdout.contains("cow") {
            return Ok(());
        }
        Err(format!("discard, {moment:?}: {again:?}, left: {record:?}"))
    }

    /// Keeps a copy of the layer; what the kernel closed is opened for it.
    fn keep_layer(&self) {
        shell(
            &self.bench,
            "chmod -R u+rwX ../state/rcc/runs/*/cow/work; mkdir ../kept; cp -a ../state/rcc/runs/*/cow ../kept",
        );
    }
}

/// Applies and takes back, killed at every moment of the share.
fn apply_and_undo(name: &str, size: Size, share: Share) -> Tried {
    let mut tried = Tried::nothing();
    let mut stage = Stage::new(name, size);
    println!("{name}: {} entries", stage.before.len());
    let apply = share.of("apply", &Course::of(&stage.bench, &["apply"]));
    let undo = share.of("undo", &Course::of(&stage.bench, &["undo"]));
    stage.forget();
    let cycles = apply.len().max(undo.len());
    for cycle in 0..cycles {
        if let Err(failure) = stage.cycle(apply.get(cycle), undo.get(cycle)) {
            tried.failed(failure);
            if tried.is_hopeless() {
                return tried;
            }
            stage = Stage::new(&format!("{name}-{cycle}"), size);
        }
        tried.progress(name, cycle + 1, cycles);
    }
    tried.moments = apply.len() + undo.len();
    tried
}

/// Throws a layer away, killed at every moment of the share.
fn discard(name: &str, size: Size, share: Share) -> Tried {
    let mut tried = Tried::nothing();
    let stage = Stage::new(name, size);
    stage.keep_layer();
    let moments = share.of("discard", &Course::of(&stage.bench, &["discard"]));
    for moment in &moments {
        if let Err(failure) = stage.discard(moment) {
            tried.failed(failure);
            if tried.is_hopeless() {
                return tried;
            }
        }
        tried.moments += 1;
        tried.progress(name, tried.moments, moments.len());
    }
    tried
}

#[test]
fn kill_9_at_every_call_of_apply_and_undo_leaves_old_or_new_and_the_same_command_completes() {
    if require("strace") {
        apply_and_undo("small", SMALL, Share::ALL).check(500);
    }
}

#[test]
fn kill_9_at_every_call_of_discard_changes_nothing_and_the_same_command_completes() {
    if require("strace") {
        discard("discard", SMALL, Share::ALL).check(50);
    }
}

#[test]
fn a_discard_that_goes_on_throws_nothing_else_away() {
    if !require("strace") {
        return;
    }
    let bench = crash::bench("goes-on");
    let first = bench.cow("echo x > first");
    assert_eq!(first.code, 0, "{first:?}");
    // The layer has another name by then, and is whole otherwise.
    kill(&bench, &["discard"], &("unlinkat".to_owned(), 2));
    assert_eq!(bench.layers(), 0);
    let second = bench.cow("echo x > second");
    assert_eq!(second.code, 0, "{second:?}");
    let finished = bench.rcc(&["discard"]);
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.stderr.contains("finished the rcc discard"));
    assert_eq!(bench.layers(), 1, "the second run's changes wait");
    let discarded = bench.rcc(&["discard"]);
    assert_eq!((discarded.code, bench.layers()), (0, 0), "{discarded:?}");
}

#[test]
fn kill_9_at_some_calls_of_a_large_apply_and_undo() {
    if require("strace") {
        let matrix = |name: &str, share| apply_and_undo(name, LARGE, share);
        crash::large("large", matrix).check(8);
    }
}

#[test]
fn kill_9_at_some_calls_of_a_large_discard() {
    if require("strace") {
        let matrix = |name: &str, share| discard(name, LARGE, share);
        crash::large("large-discard", matrix).check(0);
    }
}
