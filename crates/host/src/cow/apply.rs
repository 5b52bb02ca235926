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
use super::changes::{Changes, changes};
use super::journal::{Entry, Journal, PathRoom, Progress, entries};
use super::known::Known;
use super::meta::Time;
use super::{CowError, Layer, Layers, Meta, Tree, on};
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

/// Applies the chosen changes of a run. With a conflict among them nothing is applied.
///
/// There is a choice for each layer, in the order of [`Layers::all`]; none means nothing of it. Paths of the outcome are as
/// people read them ([`Layer::name`]).
///
/// # Errors
/// Something cannot be read or written; calling again goes on where it stopped.
pub fn apply(
    layers: &mut Layers,
    record: &Path,
    choices: &[Option<Choice>],
    guarded: Guarded<'_>,
) -> Result<Outcome, CowError> {
    apply_within(&PathRoom::new(), layers, record, choices, guarded)
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

/// As [`apply`], with so much room for the paths of each journal.
pub(super) fn apply_within(
    room: &PathRoom,
    layers: &mut Layers,
    record: &Path,
    choices: &[Option<Choice>],
    guarded: Guarded<'_>,
) -> Result<Outcome, CowError> {
    let mut outcome = Outcome::default();
    resume(record, layers, &mut outcome)?;
    let mut chosen = Vec::new();
    for (layer, choice) in layers.all().zip(choices) {
        if let Some(choice) = choice {
            chosen.push(Chosen::look(layer, choice)?);
        }
    }
    let decided: Vec<Decided<'_>> = chosen.iter().map(|chosen| chosen.decide(guarded)).collect();
    for (chosen, decided) in chosen.iter().zip(&decided) {
        let name = |path: PathBuf| chosen.layer.name(&path);
        outcome.conflicts.extend(decided.conflicts().map(name));
    }
    if !outcome.conflicts.is_empty() {
        return Ok(outcome);
    }
    let mut plans = Vec::new();
    for (chosen, decided) in chosen.iter().zip(&decided) {
        let name = |(path, why): (PathBuf, _)| (chosen.layer.name(&path), why);
        let plan = steps::plan(decided, chosen.choice, chosen.sides(), room.clone())?;
        outcome.held.extend(decided.told().into_iter().map(name));
        let remarks = plan.remarks.iter().cloned();
        outcome.remarks.extend(remarks.map(name));
        if !plan.steps.is_empty() {
            plans.push((chosen, plan));
        }
    }
    if !plans.is_empty() {
        carry(layers, record, plans, &mut outcome)?;
    }
    let mut settled = outcome.conflicts.is_empty();
    for (chosen, decided) in chosen.iter().zip(&decided) {
        settled &= match chosen.choice {
            Choice {
                paths, picks: None, ..
            } if paths.is_empty() => !decided.waits(),
            _ => chosen.layer.is_same()?,
        };
    }
    let others = layers.all().zip(choices);
    for (layer, _) in others.filter(|(_, choice)| choice.is_none()) {
        settled &= layer.is_settled();
    }
    drop(decided);
    drop(chosen);
    layers.settle(settled)?;
    Ok(outcome)
}

/// Writes down what will be done in all directories, and does it. The journal of the project is the one that counts: it is
/// written when all others are complete, and closed when they are.
fn carry(
    layers: &Layers,
    record: &Path,
    plans: Vec<(&Chosen<'_>, steps::Plan)>,
    outcome: &mut Outcome,
) -> Result<(), CowError> {
    let whole = Entry::create(record)?;
    let mut of_project = None;
    let mut further = Vec::new();
    for (chosen, plan) in plans {
        if chosen.layer.number() == 0 {
            of_project = Some((chosen, plan));
            continue;
        }
        let entry = whole.make_further(chosen.layer.number())?;
        let journal = steps::write_down(&entry, chosen.layer, plan, &chosen.lower)?;
        further.push((chosen, entry, journal));
    }
    let journal = match of_project {
        Some((chosen, plan)) => {
            let journal = steps::write_down(&whole, chosen.layer, plan, &chosen.lower)?;
            further.push((chosen, whole, journal));
            None
        }
        None => {
            let journal = Journal::empty(layers.project().base());
            whole.begin(&journal)?;
            Some(whole)
        }
    };
    for (chosen, entry, journal) in &further {
        let mut known = Known::load(chosen.layer.path())?;
        let mut own = Outcome::default();
        at_work::finish(entry, journal, chosen.sides(), &mut known, &mut own)?;
        outcome.add(chosen.layer, own);
    }
    journal.map_or(Ok(()), |whole| whole.close(&[]))
}

/// A layer of which something is chosen.
#[derive(Debug)]
struct Chosen<'a> {
    layer: &'a Layer,
    choice: &'a Choice,
    upper: Tree,
    lower: Tree,
    known: Known,
    found: Changes,
}

impl<'a> Chosen<'a> {
    /// Looks at what is in it.
    fn look(layer: &'a Layer, choice: &'a Choice) -> Result<Self, CowError> {
        let (upper, lower) = (layer.upper()?, layer.lower()?);
        Ok(Self {
            found: changes(&upper, &lower)?,
            known: Known::load(layer.path())?,
            layer,
            choice,
            upper,
            lower,
        })
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            upper: &self.upper,
            lower: &self.lower,
        }
    }

    /// Decides about its changes.
    fn decide(&self, guarded: Guarded<'_>) -> Decided<'_> {
        let root = self.layer.base().project.as_path();
        let is_further = self.layer.number() > 0;
        // A further directory may be a part of what programs obey, such as `.git` or `.vscode` of another project.
        let whole = |path: &Path| is_further && guarded(&without_root(root).join(path));
        let guarded = |path: &Path| guarded(path) || whole(path);
        let since = told_by_the_clock(self.layer.base().since);
        Decided::make(
            &self.found,
            self.sides(),
            self.choice,
            since,
            &guarded,
            &self.known,
        )
    }
}

/// A path with its names alone.
fn without_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

impl Outcome {
    /// Adds what was done with one layer.
    fn add(&mut self, layer: &Layer, own: Self) {
        self.applied += own.applied;
        let name = |path: PathBuf| layer.name(&path);
        self.conflicts.extend(own.conflicts.into_iter().map(name));
    }
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
    layers: &Layers,
    outcome: &mut Outcome,
) -> Result<(), CowError> {
    for entry in entries(record)? {
        // An undo that was interrupted is completed by rcc undo or rcc redo.
        if entry.progress()? != Progress::Open || entry.reverses()?.is_some() {
            continue;
        }
        let mut open = Vec::new();
        for (number, record) in entry.further()? {
            // The first of its entries is the apply.
            let apply = entries(&record)?.into_iter().next();
            open.extend(apply.map(|entry| (number, entry)));
        }
        open.push((0, entry));
        for (number, entry) in open {
            // One that is complete already may have changed since.
            if entry.progress()? != Progress::Open {
                continue;
            }
            let layer = layers.all().find(|layer| layer.number() == number);
            let layer = layer.ok_or_else(|| on("find the layer of", &entry.path)(Errno::NOENT))?;
            let (upper, lower) = (layer.upper()?, layer.lower()?);
            let sides = Sides {
                upper: &upper,
                lower: &lower,
            };
            let mut known = Known::load(layer.path())?;
            let mut own = Outcome::default();
            at_work::finish(&entry, &entry.journal()?, sides, &mut known, &mut own)?;
            outcome.add(layer, own);
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
