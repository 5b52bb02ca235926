//! The sizes of what the agent leaves for good, the layers of a copy-on-write run and the agent home, kept within `layer_size` and
//! `home_size`.
//!
//! A guard like `disk_free`, and no wall: an ordinary user has no quota of a directory. The trees are measured again and again, on
//! a thread of its own, since a large one takes its time. Fails closed: what cannot be measured is too large.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcc_host::tree_size;
use rcc_native::{Ended, Ender, Excess, GrowingTree};
use rcc_plan::{MountStep, Plan};

use crate::error::{CliError, Kind};
use crate::limits;

/// The pause after a look is so many times as long as the look.
const PAUSE_PER_LOOK: u32 = 20;
/// Shortest and longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Longest look.
const LOOK: Duration = Duration::from_secs(60);

/// The trees of a run that have a limit.
#[derive(Debug, Default)]
pub(crate) struct Growth(Vec<Tree>);

#[derive(Debug)]
struct Tree {
    what: GrowingTree,
    /// Measured together.
    paths: Vec<PathBuf>,
    limit: u64,
}

/// A tree that is too large already.
#[derive(Debug, thiserror::Error)]
#[error("{}", limits::excess(.0))]
struct TooLargeAlready(Excess);

impl Growth {
    /// Finds the trees and measures them for the first time.
    ///
    /// # Errors
    /// One is too large already.
    pub(crate) fn open(plan: &Plan, agent_home: &Path) -> Result<Self, CliError> {
        let layers = || {
            let layer = |step: &MountStep| match step {
                // What is beside it belongs to the kernel, which lets nobody look.
                MountStep::Overlay { layer, .. } => Some(layer.as_path().join("upper")),
                _ => None,
            };
            plan.mounts.iter().filter_map(layer).collect()
        };
        let mut found = Self::default();
        let limits = &plan.limits;
        let mut add = |what, limit: Option<u64>, paths: Vec<PathBuf>| {
            found
                .0
                .extend(limit.map(|limit| Tree { what, paths, limit }));
        };
        add(GrowingTree::Layer, limits.layer_size, layers());
        add(
            GrowingTree::Home,
            limits.home_size,
            vec![agent_home.to_owned()],
        );
        match found.0.iter().find_map(|tree| tree.excess(&|| false)) {
            Some(excess) => {
                let hint = match excess.tree {
                    GrowingTree::Layer => {
                        "begin without --continue, or name a larger limit: --layer-size SIZE"
                    }
                    GrowingTree::Home => {
                        "`rcc home` shows what the homes hold; empty it with `rcc home reset`, or name a larger limit: --home-size SIZE"
                    }
                };
                Err(CliError::new(Kind::Host, TooLargeAlready(excess)).hint(hint))
            }
            None => Ok(found),
        }
    }

    /// Begins to look, until the value is dropped; none when there is nothing to look at.
    ///
    /// # Errors
    /// There can be no further thread: the limit could not be kept.
    pub(crate) fn watch(self, ender: Ender) -> Result<Option<Watch>, CliError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("sizes".to_owned())
            .spawn(move || self.look(&ender, &is_over))
            .map_err(|error| {
                let what = format!("cannot watch the sizes of the run: {error}");
                CliError::new(Kind::Host, what)
            })?;
        let thread = Some(thread);
        Ok(Some(Watch { over, thread }))
    }

    fn look(&self, ender: &Ender, over: &AtomicBool) {
        let is_over = || over.load(Ordering::Acquire);
        let mut pause = PAUSE.0;
        while !is_over() {
            std::thread::park_timeout(pause);
            let begun = Instant::now();
            let excess = self.0.iter().find_map(|tree| tree.excess(&is_over));
            if let (Some(excess), false) = (excess, is_over()) {
                return ender.end(Ended::TooLarge { excess });
            }
            pause = (begun.elapsed() * PAUSE_PER_LOOK).clamp(PAUSE.0, PAUSE.1);
        }
    }
}

impl Tree {
    /// Measures the tree; none when it is within its limit.
    fn excess(&self, is_over: &dyn Fn() -> bool) -> Option<Excess> {
        let begun = Instant::now();
        let is_over = || begun.elapsed() > LOOK || is_over();
        let (mut bytes, mut is_whole) = (0_u64, true);
        for path in &self.paths {
            let size = tree_size(path, &is_over).ok();
            bytes = bytes.saturating_add(size.map_or(0, |size| size.bytes));
            is_whole &= size.is_some_and(|size| size.closed == 0 && !size.stopped);
        }
        // So much there is at the least.
        let is_more = bytes > self.limit;
        (is_more || !is_whole).then_some(Excess {
            tree: self.what,
            bytes: is_more.then_some(bytes),
            limit: self.limit,
        })
    }
}

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It asks whether it is over at every entry.
            let _ = thread.join();
        }
    }
}
