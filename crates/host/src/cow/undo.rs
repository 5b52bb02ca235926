//! Takes an apply, or what a direct run changed, back: everything that was replaced or removed is restored as it was, what
//! was made goes. Entries that changed since are left alone. What goes is kept first, as an entry of its own: taking that
//! one back brings the changes again, by the same steps. Interrupted anywhere, the same call again goes on.

mod directories;
mod restore;
mod reverse;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::apply::{lower_now, resume};
use super::journal::{Direction, Entry, Journal, Progress, entries};
use super::known::Known;
use super::place;
use super::{Base, CowError, Layer, Layers, Tree, on};
use restore::Work;

/// What became of the entries.
#[derive(Debug, Default)]
pub struct Undone {
    /// How many are again as they were.
    pub restored: usize,
    /// What changed since, and was left alone.
    pub conflicts: Vec<PathBuf>,
    /// What is gone now and cannot be brought again: FIFOs, sockets and devices, and files that the caller cannot read.
    pub lost: Vec<PathBuf>,
}

/// Whether what is taken back can be brought again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It is kept in the record: a copy, where the file system shares no blocks.
    Redo,
    /// It is gone.
    Nothing,
}

/// Whether an apply of the run was interrupted.
///
/// # Errors
/// The store cannot be read.
pub fn has_open(record: &Path) -> Result<bool, CowError> {
    for entry in entries(record)? {
        if entry.progress()? == Progress::Open && entry.reverses()?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the last apply, run or undo that can be taken back in this direction lies over, the project first, and when it was
/// made.
///
/// # Errors
/// The store cannot be read.
pub fn last(
    record: &Path,
    direction: Direction,
) -> Result<Option<(Vec<Base>, std::time::SystemTime)>, CowError> {
    let Some(entry) = standing(record, direction)? else {
        return Ok(None);
    };
    let made = std::fs::metadata(&entry.path)
        .and_then(|data| data.modified())
        .map_err(|source| CowError::Call {
            action: "look at",
            path: entry.path.clone(),
            source,
        })?;
    let mut bases = vec![entry.journal()?.base];
    for (_, part) in parts(record, &entry)? {
        bases.extend(base_of(&part)?);
    }
    Ok(Some((bases, made)))
}

/// The records of what an apply did in further directories, for any of the entries that take it back and bring it again.
fn parts(record: &Path, entry: &Entry) -> Result<Vec<(u32, PathBuf)>, CowError> {
    let all = entries(record)?;
    let mut origin = entry;
    while let Some(of) = origin.reverses()? {
        match all.iter().find(|other| other.number == of.number) {
            Some(other) if other.number < origin.number => origin = other,
            _ => return Ok(Vec::new()),
        }
    }
    origin.further()
}

fn base_of(part: &Path) -> Result<Option<Base>, CowError> {
    let apply = entries(part)?.into_iter().next();
    apply.map(|entry| Ok(entry.journal()?.base)).transpose()
}

/// Whether what a record holds was taken back; looks at names alone.
pub(crate) fn is_undone(record: &Path) -> Result<bool, CowError> {
    Ok(standing(record, Direction::Undo)?.is_none())
}

/// The newest entry whose steps stand in the project; looking for one to be undone, undos do not count. One to be redone is
/// an undo after which nothing else was applied.
pub(crate) fn standing(record: &Path, direction: Direction) -> Result<Option<Entry>, CowError> {
    for entry in entries(record)?.into_iter().rev() {
        let reverses = entry.reverses()?.map(|reversal| reversal.direction);
        match (entry.progress()?, reverses, direction) {
            (Progress::Planned | Progress::Undone, _, _) | (Progress::Open, Some(_), _) => {}
            (Progress::Closed, Some(Direction::Undo), Direction::Redo)
            | (_, None | Some(Direction::Redo), Direction::Undo) => return Ok(Some(entry)),
            (_, None, Direction::Redo) => return Ok(None),
            (_, Some(_), _) => {}
        }
    }
    Ok(None)
}

/// Undoes the last apply of a run in all directories, or what a direct one changed, that was not undone yet. An apply or an
/// undo that was interrupted is completed first. Paths of the result are as people read them ([`Layer::name`]).
///
/// # Errors
/// Something cannot be read or written, kept above all; calling again goes on where it stopped.
pub fn undo(record: &Path, afterwards: Afterwards) -> Result<Option<Undone>, CowError> {
    let layers = Layers::open(record)?;
    if let Some(layers) = &layers {
        resume(record, layers, &mut super::Outcome::default())?;
    }
    all_back(record, layers, Direction::Undo, afterwards)
}

/// Brings again what the last undo took away.
///
/// # Errors
/// As [`undo`].
pub fn redo(record: &Path) -> Result<Option<Undone>, CowError> {
    all_back(
        record,
        Layers::open(record)?,
        Direction::Redo,
        Afterwards::Redo,
    )
}

/// Goes one way in all directories, the project last: as long as it stands there, the same call again goes on.
fn all_back(
    record: &Path,
    mut layers: Option<Layers>,
    direction: Direction,
    afterwards: Afterwards,
) -> Result<Option<Undone>, CowError> {
    let layer_of = |number: u32| {
        let mut all = layers.iter().flat_map(Layers::all);
        all.find(|layer| layer.number() == number)
    };
    complete(record, layer_of(0), direction.opposite())?;
    let Some(entry) = standing(record, direction)? else {
        return Ok(None);
    };
    let mut undone = Undone::default();
    for (number, part) in parts(record, &entry)?.into_iter().rev() {
        let Some(base) = base_of(&part)? else {
            continue;
        };
        let root = base.project.as_path();
        if base.is_gone()? {
            undone.conflicts.push(root.to_owned());
            continue;
        }
        let layer = layer_of(number);
        complete(&part, layer, direction.opposite())?;
        // An interrupted attempt may have come further.
        let Some(entry) = standing(&part, direction)? else {
            continue;
        };
        let own = back(&part, layer, &entry, direction, afterwards)?;
        undone.restored += own.restored;
        let name = |path: PathBuf| root.join(path);
        undone.conflicts.extend(own.conflicts.into_iter().map(name));
        undone.lost.extend(own.lost.into_iter().map(name));
    }
    if let Some(layers) = &mut layers {
        // Until the rest is known, changes wait.
        layers.settle(false)?;
    }
    let project = layers.as_ref().map(Layers::project);
    let own = back(record, project, &entry, direction, afterwards)?;
    undone.restored += own.restored;
    undone.conflicts.extend(own.conflicts);
    undone.lost.extend(own.lost);
    if let Some(layers) = layers.as_mut().filter(|_| direction == Direction::Redo) {
        let settled = layers.all().all(Layer::is_settled);
        layers.settle(settled)?;
    }
    Ok(Some(undone))
}

/// Completes what was interrupted on its way in this direction.
fn complete(record: &Path, layer: Option<&Layer>, direction: Direction) -> Result<(), CowError> {
    let all = entries(record)?;
    for reversal in &all {
        let Some(of) = reversal.reverses()?.filter(|of| of.direction == direction) else {
            continue;
        };
        // Of one that is closed only the note is missing.
        let is_begun = matches!(reversal.progress()?, Progress::Open | Progress::Closed);
        if let Some(entry) = all.iter().find(|entry| entry.number == of.number)
            && is_begun
            && entry.progress()? == Progress::Closed
        {
            back(record, layer, entry, direction, Afterwards::Redo)?;
        }
    }
    Ok(())
}

/// The entry that keeps what taking back this one replaces, if there is one.
fn keeper_of(record: &Path, entry: &Entry) -> Result<Option<(Entry, Progress)>, CowError> {
    for other in entries(record)?.into_iter().rev() {
        let progress = other.progress()?;
        if progress != Progress::Planned
            && other.reverses()?.map(|of| of.number) == Some(entry.number)
        {
            return Ok(Some((other, progress)));
        }
    }
    Ok(None)
}

fn back(
    record: &Path,
    layer: Option<&Layer>,
    entry: &Entry,
    direction: Direction,
    afterwards: Afterwards,
) -> Result<Undone, CowError> {
    let journal = entry.journal()?;
    let ended = entry.ended()?;
    let lower = journal.base.lower()?;
    let keeper = match keeper_of(record, entry)? {
        // All that was missing is the note of it.
        Some((keeper, Progress::Closed | Progress::Undone)) => {
            let kept = keeper.ended()?;
            entry.undone()?;
            return Ok(Undone {
                restored: kept.iter().filter(|ended| !ended.skipped).count(),
                ..Undone::default()
            });
        }
        Some((keeper, _)) => Some(keeper),
        None => None,
    };
    let opened = Work::new(entry, &journal, &lower, None);
    opened.open_directories(&ended);
    let keeper = match (keeper, afterwards) {
        (Some(keeper), _) => Some(keeper),
        (None, Afterwards::Redo) => {
            let kept = reverse::keep(record, entry, &journal, &ended, &lower, direction);
            if kept.is_err() {
                // Half of it takes room. The first error is the one to report.
                let _ = Entry::sweep(record);
            }
            Some(kept?)
        }
        (None, Afterwards::Nothing) => None,
    };
    let work = Work::new(entry, &journal, &lower, keeper.as_ref());
    let mut undone = Undone::default();
    let mut restored = BTreeSet::new();
    for (index, (step, ended)) in journal.steps.iter().zip(&ended).enumerate().rev() {
        if ended.skipped {
            continue;
        }
        if work.step(index, step, ended)? {
            restored.insert(index);
        } else {
            undone.conflicts.push(step.path.as_path().to_owned());
        }
    }
    undone.restored = restored.len();
    work.directories(&restored)?;
    place::synchronise(&lower, journal.steps.iter().map(|step| step.path.as_path()))
        .map_err(on("write", lower.shown(Path::new(""))))?;
    if let Some(layer) = layer {
        note(layer, &journal, &restored, &lower)?;
    }
    if let Some(keeper) = keeper {
        undone.lost = reverse::close(&keeper, &journal, &restored, &lower)?;
        entry.undone()?;
        // What is in its place again, or was made by the run, is nothing to be kept twice.
        entry.forget(restored.into_iter())?;
    } else {
        entry.undone()?;
    }
    Ok(undone)
}

/// Notes for a layer what rcc itself left below it.
fn note(
    layer: &Layer,
    journal: &Journal,
    restored: &BTreeSet<usize>,
    lower: &Tree,
) -> Result<(), CowError> {
    let mut known = Known::load(layer.path())?;
    for index in restored {
        let Some(step) = journal.steps.get(*index) else {
            continue;
        };
        let path = step.path.as_path();
        known.note(path, lower_now(lower, path)?.as_ref());
    }
    known.save()
}

impl Base {
    /// Whether the directory is not there any more, or is another one.
    fn is_gone(&self) -> Result<bool, CowError> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match self.lower() {
            Ok(_) => Ok(false),
            Err(CowError::OtherProject { .. }) => Ok(true),
            Err(CowError::Call { source, .. })
                if matches!(source.kind(), NotFound | NotADirectory) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// The project, if it is still the directory that the layer was made over.
    pub(crate) fn lower(&self) -> Result<Tree, CowError> {
        let path = self.project.as_path();
        let tree = Tree::open(path).map_err(on("open", path))?;
        let found = rustix::fs::fstat(tree.root()).map_err(on("look at", path))?;
        if found.st_ino == self.inode {
            Ok(tree)
        } else {
            Err(CowError::OtherProject {
                path: path.to_owned(),
            })
        }
    }
}
