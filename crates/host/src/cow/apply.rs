//! Carries changes over into the project: what is to be done is decided first, then written down with everything that it
//! replaces, then done step by step, each in one call. Interrupted anywhere, the same call again goes on.

mod at_work;
mod decide;
mod offer;
mod repository;
mod steps;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::beneath::look_at;
use super::changes::changes;
use super::journal::{Entry, PathRoom, Progress, entries};
use super::known::Known;
use super::meta::Time;
use super::{CowError, Layer, Meta, Tree, on};
use decide::Decided;
pub use offer::{Offer, Part, Pick, Standing, offers};

/// Which changes are meant.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only what is at or below these; none means all.
    pub paths: Vec<PathBuf>,
    /// What the user changed meanwhile is replaced at or below these.
    pub overwrite: Vec<PathBuf>,
    /// What was chosen one by one; nothing else is applied then.
    pub picks: Option<BTreeMap<PathBuf, Pick>>,
}

/// What became of the changes.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many files, links and directories of the project changed.
    pub applied: usize,
    /// What the user changed after the run began, or while the changes were applied. Left as it is.
    pub conflicts: Vec<PathBuf>,
    /// What was held back, and why.
    pub held: Vec<(PathBuf, &'static str)>,
    /// What was applied without a part of it.
    pub remarks: Vec<(PathBuf, &'static str)>,
}

/// Decides for a path whether the host would execute or obey it.
pub type Guarded<'a> = &'a dyn Fn(&Path) -> bool;

/// Applies the chosen changes of a layer. With a conflict among them nothing is applied.
///
/// # Errors
/// Something cannot be read or written; calling again goes on where it stopped.
pub fn apply(
    layer: &mut Layer,
    record: &Path,
    choice: &Choice,
    guarded: Guarded<'_>,
) -> Result<Outcome, CowError> {
    apply_within(PathRoom::new(), layer, record, choice, guarded)
}

/// When a run began, as far as the times of files can be compared with it. A clock that shows an earlier time now was set back, and
/// what was changed since may look older than the run: then everything counts as changed.
fn told_by_the_clock(since: Time) -> Time {
    let now = clock_gettime(ClockId::Realtime);
    if Time(now.tv_sec, now.tv_nsec) < since {
        return Time(i64::MIN, 0);
    }
    since
}

/// As [`apply`], with so much room for the journal's paths.
pub(super) fn apply_within(
    room: PathRoom,
    layer: &mut Layer,
    record: &Path,
    choice: &Choice,
    guarded: Guarded<'_>,
) -> Result<Outcome, CowError> {
    let mut outcome = Outcome::default();
    let (upper, lower) = (layer.upper()?, layer.lower()?);
    let mut known = Known::load(layer.path())?;
    resume(record, &upper, &lower, &mut known, &mut outcome)?;
    let found = changes(&upper, &lower)?;
    let sides = Sides {
        upper: &upper,
        lower: &lower,
    };
    let since = told_by_the_clock(layer.base().since);
    let decided = Decided::make(&found, sides, choice, since, guarded, &known);
    outcome.conflicts.extend(decided.conflicts());
    if !outcome.conflicts.is_empty() {
        return Ok(outcome);
    }
    outcome.held = decided.told();
    let plan = steps::plan(&decided, choice, sides, room)?;
    outcome.remarks = plan.remarks.clone();
    if !plan.steps.is_empty() {
        let entry = Entry::create(record)?;
        let journal = steps::write_down(&entry, layer, plan, &lower)?;
        at_work::finish(&entry, &journal, sides, &mut known, &mut outcome)?;
    }
    let settled = if choice.paths.is_empty() && choice.picks.is_none() {
        outcome.conflicts.is_empty() && !decided.waits()
    } else {
        changes(&upper, &lower)?.listed().next().is_none()
    };
    layer.settle(settled)?;
    Ok(outcome)
}

/// The layer and the project below it.
#[derive(Debug, Clone, Copy)]
struct Sides<'a> {
    upper: &'a Tree,
    lower: &'a Tree,
}

/// Whether git would take configuration or programs from a path because its directory has the shape of a repository,
/// whatever it is called.
#[must_use]
pub fn leads_git(path: &Path, upper: &Tree, lower: &Tree) -> bool {
    repository::is_of_repository(path, Sides { upper, lower })
}

/// Completes an apply that was interrupted, if there is one.
pub(crate) fn resume(
    record: &Path,
    upper: &Tree,
    lower: &Tree,
    known: &mut Known,
    outcome: &mut Outcome,
) -> Result<(), CowError> {
    for entry in entries(record)? {
        // An undo that was interrupted is completed by rcc undo or rcc redo.
        if entry.progress()? == Progress::Open && entry.reverses()?.is_none() {
            let journal = entry.journal()?;
            at_work::finish(&entry, &journal, Sides { upper, lower }, known, outcome)?;
        }
    }
    Ok(())
}

/// What is at a path of the project; nothing where a directory of the path is gone or a link.
pub(crate) fn lower_now(lower: &Tree, path: &Path) -> Result<Option<Meta>, CowError> {
    let fail = |errno| on("look at", lower.shown(path))(errno);
    let Some((parent, name)) = split(path) else {
        return Ok(None);
    };
    match lower.location(parent) {
        Ok(directory) => look_at(directory.as_fd(), name).map_err(fail),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(errno) => Err(fail(errno)),
    }
}

/// The directory and the name of a path.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}
