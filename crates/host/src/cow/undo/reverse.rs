//! Keeps what an undo is going to replace or remove, as the journal of an apply that made the project so: its steps are those
//! of the journal that is taken back, the other way round, each with what is there now. Taking that journal back is the
//! redo. Must not change the project.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::restore::{OWN, is_as_left};
use crate::cow::apply::split;
use crate::cow::attributes::Attributes;
use crate::cow::beneath::{look_at, open_file};
use crate::cow::journal::{
    Action, Direction, Ended, Entry, Journal, Reversal, Step, Touched, name_others,
};
use crate::cow::{CowError, EntryType, Meta, Tree, on, place};

/// Where a step is in the journal of the way back.
pub(super) fn mirrored(journal: &Journal, index: usize) -> usize {
    journal.steps.len() - 1 - index
}

/// Copies what is there now, and writes the journal that leads back to it.
pub(super) fn keep(
    record: &Path,
    of: &Entry,
    journal: &Journal,
    ended: &[Ended],
    lower: &Tree,
    direction: Direction,
) -> Result<Entry, CowError> {
    let entry = Entry::create(record)?;
    entry.reverse(&Reversal {
        number: of.number,
        direction,
    })?;
    let few = journal.steps.len() <= place::FEW;
    let mut steps = Vec::with_capacity(journal.steps.len());
    for (step, ended) in journal.steps.iter().zip(ended).rev() {
        steps.push(one(&entry, steps.len(), step, ended, lower, few)?);
    }
    name_others(steps.iter_mut().collect(), &|_| Vec::new());
    let mut touched = Vec::with_capacity(journal.touched.len());
    for directory in &journal.touched {
        let path = directory.path.as_path();
        let found = match lower.location(path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            Err(errno) => return Err(on("look at", lower.shown(path))(errno)),
        };
        let now = rustix::fs::fstat(&found).map_err(on("look at", lower.shown(path)))?;
        touched.push(Touched {
            path: directory.path.clone(),
            before: as_before_opening(Meta::from(&now), &directory.before),
        });
    }
    if !few {
        rustix::fs::syncfs(&entry.directory).map_err(on("write", &entry.path))?;
    }
    let base = journal.base.clone();
    let tag = format!("{:x}{:x}-{}", base.since.0, base.since.1, entry.number);
    entry.begin(&Journal {
        base,
        tag,
        steps,
        touched,
    })?;
    Ok(entry)
}

/// Notes how the steps ended, and tells what was not kept.
pub(super) fn close(
    keeper: &Entry,
    journal: &Journal,
    restored: &BTreeSet<usize>,
    lower: &Tree,
) -> Result<Vec<PathBuf>, CowError> {
    let back = keeper.journal()?;
    let (mut ended, mut lost) = (Vec::with_capacity(back.steps.len()), Vec::new());
    for (index, step) in back.steps.iter().enumerate() {
        let path = step.path.as_path();
        let is_restored = restored.contains(&mirrored(journal, index));
        let is_kept = is_kept(keeper, index, step)?;
        if is_restored && !is_kept {
            lost.push(path.to_owned());
        }
        let skipped = !(is_restored && is_kept);
        let found = now(path, lower).map_err(on("look at", lower.shown(path)))?;
        let after = found.filter(|_| !skipped).map(|(_, meta)| meta);
        ended.push(Ended { skipped, after });
    }
    keeper.close(&ended)?;
    Ok(lost)
}

/// Whether a step can be taken back: of FIFOs, sockets and devices nothing is kept, nor of what the caller cannot read.
fn is_kept(keeper: &Entry, index: usize, step: &Step) -> Result<bool, CowError> {
    let Some(before) = step.before else {
        return Ok(true);
    };
    if before.is_special() {
        return Ok(false);
    }
    if !before.is_file() || step.action == Action::Mode {
        return Ok(true);
    }
    let name = index.to_string();
    match rustix::fs::statat(&keeper.directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(on("look into", &keeper.path)(errno)),
    }
}

/// A directory that an undo opened to its owner has its former mode again in the end.
fn as_before_opening(now: Meta, known: &Meta) -> Meta {
    if now.is_directory() && known.is_directory() && now.mode == known.mode | OWN {
        return Meta {
            mode: known.mode,
            ..now
        };
    }
    now
}

/// The way back of one step, with a copy of what is there.
fn one(
    entry: &Entry,
    index: usize,
    step: &Step,
    ended: &Ended,
    lower: &Tree,
    few: bool,
) -> Result<Step, CowError> {
    let path = step.path.as_path();
    let fail = |errno| on("keep a copy of", lower.shown(path))(errno);
    let now = match ended.skipped {
        true => None,
        false => now(path, lower).map_err(fail)?,
    };
    let is_left = |now: &Meta| {
        let after = ended.after.as_ref();
        after.is_some_and(|after| is_as_left(now, after)) || step.is_being_dressed(now)
    };
    // What changed since is left alone, and nothing of it is kept.
    let found = now.filter(|(_, meta)| is_left(meta));
    let mut back = Step {
        path: step.path.clone(),
        action: reversed(step, found.as_ref().map(|(_, meta)| meta)),
        before: found.as_ref().map(|(_, meta)| match &ended.after {
            Some(after) => as_before_opening(*meta, after),
            None => *meta,
        }),
        link: None,
        attributes: Attributes::default(),
        new: step.before,
        names: Vec::new(),
        made: None,
    };
    let Some((directory, meta)) = found.filter(|_| back.action != Action::Mode) else {
        return Ok(back);
    };
    let name = split(path).map_or(OsStr::new("."), |(_, name)| name);
    match meta.kind {
        EntryType::Symlink => {
            let text = rustix::fs::readlinkat(&directory, name, Vec::new()).map_err(fail)?;
            back.link = Some(Path::new(OsStr::from_bytes(text.as_bytes())).into());
        }
        EntryType::Directory => {
            let listing = lower.listing(path).map_err(fail)?;
            back.attributes = Attributes::read(listing.as_fd()).map_err(fail)?;
        }
        EntryType::File => {
            let file = match open_file(directory.as_fd(), name) {
                Err(Errno::ACCESS) => return Ok(back),
                opened => opened.map_err(fail)?,
            };
            back.attributes = Attributes::read(file.as_fd()).map_err(fail)?;
            let store = entry.directory.as_fd();
            place::keep(&file, store, &index.to_string(), few).map_err(fail)?;
            let then = Meta::from(&rustix::fs::fstat(&file).map_err(fail)?);
            if !then.is_untouched(&meta) {
                return Err(fail(Errno::AGAIN));
            }
        }
        EntryType::Fifo | EntryType::Socket | EntryType::Device => {}
    }
    Ok(back)
}

/// What is at a path, and the directory that it is in; of the project itself that one.
fn now(path: &Path, lower: &Tree) -> rustix::io::Result<Option<(OwnedFd, Meta)>> {
    let Some((parent, name)) = split(path) else {
        let top = lower.listing(path)?;
        let meta = Meta::from(&rustix::fs::fstat(&top)?);
        return Ok(Some((top, meta)));
    };
    match lower.location(parent) {
        Ok(directory) => {
            let found = look_at(directory.as_fd(), name)?;
            Ok(found.map(|meta| (directory, meta)))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What the way back does to the path of a step.
fn reversed(step: &Step, now: Option<&Meta>) -> Action {
    if matches!(step.action, Action::Mode | Action::Dress) {
        return step.action;
    }
    match step.before.map(|before| before.kind) {
        None if now.is_some_and(Meta::is_directory) => Action::RemoveDirectory,
        None => Action::Remove,
        Some(EntryType::Directory) => Action::MakeDirectory,
        Some(EntryType::Symlink) => Action::Link,
        Some(_) => Action::Write,
    }
}
