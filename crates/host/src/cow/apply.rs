//! Carries changes over into the project: what is to be done is decided first, then written down with everything that it
//! replaces, then done step by step, each in one call. Interrupted anywhere, the same call again goes on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::attributes::Attributes;
use super::beneath::{look_at, open_file};
use super::changes::{Changes, Status, changes};
use super::compare::same_content;
use super::journal::{Action, Ended, Entry, Journal, Progress, Step, Touched, entries};
use super::known::Known;
use super::place::{self, Looks, Placed};
use super::{CowError, EntryType, Layer, Meta, Tree, on};

/// How many files are made under temporary names before they are synchronised together and put in place.
const BATCH: usize = 256;

/// Which changes are meant.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only what is at or below these; none means all.
    pub paths: Vec<PathBuf>,
    /// What the user changed meanwhile is replaced at or below these.
    pub overwrite: Vec<PathBuf>,
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
    let mut outcome = Outcome::default();
    let (upper, lower) = (layer.upper()?, layer.lower()?);
    let mut known = Known::load(layer.path())?;
    resume(record, &upper, &lower, &mut known, &mut outcome)?;
    let found = changes(&upper, &lower)?;
    let plan = Plan::make(
        &found,
        layer,
        choice,
        guarded,
        &known,
        (&upper, &lower),
        &mut outcome,
    )?;
    if !outcome.conflicts.is_empty() {
        outcome.held.clear();
        outcome.remarks.clear();
        return Ok(outcome);
    }
    if !plan.steps.is_empty() {
        let entry = Entry::create(record)?;
        let journal = write_down(&entry, layer, plan, &lower)?;
        finish(&entry, &journal, &upper, &lower, &mut known, &mut outcome)?;
    }
    let all = choice.paths.is_empty() && outcome.conflicts.is_empty();
    let waiting = outcome.held.iter().any(|(_, why)| *why == GUARDED);
    layer.settle(all && !waiting)?;
    Ok(outcome)
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
        if entry.progress()? == Progress::Open {
            let journal = entry.journal()?;
            finish(&entry, &journal, upper, lower, known, outcome)?;
        }
    }
    Ok(())
}

const SPECIAL: &str = "a FIFO, socket or device, which is never applied";
const UNREADABLE: &str = "it cannot be read";
const GUARDED: &str = "your programs run or obey it; name it to apply it";
/// Looking is enough for git to write its index again, so this must not stand in the way of everything else.
const INDEX: &str = "git wrote its index anew meanwhile; git reset makes it fit";
const STAYS: &str = "something in it stays";
const BELOW: &str = "the directory that it is in stays as it was";

/// What will be done.
#[derive(Debug, Default)]
struct Plan {
    steps: Vec<Step>,
    touched: Vec<PathBuf>,
}

impl Plan {
    fn make(
        found: &Changes,
        layer: &Layer,
        choice: &Choice,
        guarded: Guarded<'_>,
        known: &Known,
        (upper, lower): (&Tree, &Tree),
        outcome: &mut Outcome,
    ) -> Result<Self, CowError> {
        let nodes = found.nodes();
        let paths: Vec<PathBuf> = (0..nodes.len()).map(|index| found.path(index)).collect();
        let below = |path: &Path, list: &[PathBuf]| list.iter().any(|top| path.starts_with(top));
        let mut wanted: Vec<bool> = paths
            .iter()
            .map(|path| choice.paths.is_empty() || below(path, &choice.paths))
            .collect();
        // A new directory comes along with what is chosen in it.
        for index in (0..nodes.len()).rev() {
            let makes = nodes[index].whole;
            let holds = wanted[index] && nodes[index].status != Status::Removed;
            if let (true, Some(parent)) = (
                holds && (makes || nodes[index].upper.is_some()),
                nodes[index].parent(),
            ) {
                wanted[parent] |= nodes[parent].whole;
            }
        }
        let mut held: Vec<Option<&'static str>> = vec![None; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            if !wanted[index] || node.status == Status::Same {
                continue;
            }
            let path = &paths[index];
            let is_guarded = |path: &Path| guarded(path) || is_of_repository(path, upper, lower);
            // By its own name, or as part of a guarded directory that was named.
            let named = |path: &Path| {
                let mut names = choice.paths.iter();
                names.any(|chosen| {
                    path == chosen || (path.starts_with(chosen) && is_guarded(chosen))
                })
            };
            // A file or link of this name leads git to another repository, with another configuration.
            let leads =
                node.name() == ".git" && !node.upper.is_some_and(|meta| meta.is_directory());
            let special_below = node.lower.is_some_and(|meta| meta.is_special());
            held[index] = if node.status == Status::Foreign || special_below {
                Some(SPECIAL)
            } else if node.status == Status::Unreadable
                || is_closed(path, node.upper, upper)
                || is_closed(path, node.lower, lower)
            {
                Some(UNREADABLE)
            } else if (leads || is_guarded(path)) && !named(path) {
                Some(GUARDED)
            } else {
                None
            };
            let Some(old) = node.lower.filter(|_| held[index].is_none()) else {
                continue;
            };
            // What is in a directory is looked at by itself.
            let only_holds = old.is_directory() && !matches!(node.status, Status::Modified { .. });
            if !only_holds
                && (old.changed > layer.base().since || node.met)
                && !known.has(path, &old)
                && !below(path, &choice.overwrite)
            {
                if path.ends_with(".git/index") && !choice.paths.contains(path) {
                    held[index] = Some(INDEX);
                } else {
                    outcome.conflicts.push(path.clone());
                }
            }
        }
        for index in (0..nodes.len()).rev() {
            let goes = |index: usize| {
                matches!(nodes[index].status, Status::Removed | Status::Retyped)
                    && nodes[index].lower.is_some_and(|meta| meta.is_directory())
            };
            let stays = held[index].is_some() || !wanted[index];
            let took_place = nodes[index].lower.is_some();
            if let Some(parent) = nodes[index]
                .parent()
                .filter(|parent| stays && took_place && goes(*parent))
            {
                held[parent] = held[parent].or(Some(STAYS));
            }
        }
        for index in 0..nodes.len() {
            if let Some(parent) = nodes[index].parent()
                && held[parent].is_some()
                && nodes[parent].status != Status::Removed
                && (nodes[parent].whole || nodes[parent].status == Status::Retyped)
            {
                held[index] = held[index].or(Some(BELOW));
            }
        }
        let mut plan = Self::default();
        let mut touched: BTreeSet<PathBuf> = BTreeSet::new();
        let mut last = Vec::new();
        let mut made = Vec::new();
        let mut removals = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if !wanted[index] || node.status == Status::Same {
                continue;
            }
            let path = &paths[index];
            if let Some(why) = held[index] {
                let told = node.parent().is_some_and(|parent| held[parent].is_some());
                if !told {
                    outcome.held.push((path.clone(), why));
                }
                continue;
            }
            let step = |action| -> Result<Step, CowError> {
                step(path, action, node.lower, node.upper, lower)
            };
            if node.upper.is_some_and(|meta| meta.sets_ids()) {
                outcome
                    .remarks
                    .push((path.clone(), "without its set-user-id or set-group-id bit"));
            }
            match (node.status, node.upper.map(|meta| meta.kind)) {
                (Status::Removed, _) => {
                    let directory = node.lower.is_some_and(|meta| meta.is_directory());
                    removals.push(step(if directory {
                        Action::RemoveDirectory
                    } else {
                        Action::Remove
                    })?);
                }
                (Status::Modified { content: false }, Some(EntryType::Directory)) => {
                    last.push(step(Action::Mode)?);
                    continue;
                }
                (Status::Modified { content: false }, Some(_)) => made.push(step(Action::Mode)?),
                (_, Some(EntryType::Directory)) => made.push(step(Action::MakeDirectory)?),
                (_, Some(EntryType::File)) => made.push(step(Action::Write)?),
                (_, Some(EntryType::Symlink)) => made.push(step(Action::Link)?),
                _ => continue,
            }
            touched.extend(path.parent().map(Path::to_owned));
        }
        removals.reverse();
        last.reverse();
        plan.steps = removals;
        plan.steps.extend(made);
        plan.steps.extend(last);
        plan.touched = touched.into_iter().collect();
        Ok(plan)
    }
}

/// Whether the content of a file is closed to the caller. Opening is tried only where its mode or owner suggests so.
fn is_closed(path: &Path, meta: Option<Meta>, tree: &Tree) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let suspect = |meta: Meta| meta.is_file() && (meta.uid != own || meta.mode & 0o400 == 0);
    meta.is_some_and(suspect)
        && split(path).is_none_or(|(parent, name)| {
            tree.location(parent)
                .and_then(|directory| open_file(directory.as_fd(), name))
                .is_err()
        })
}

/// Whether git takes configuration or programs from this path because its directory has the shape of a repository, whatever
/// it is called: `HEAD` beside `objects` or `commondir` (gitrepository-layout(5)).
fn is_of_repository(path: &Path, upper: &Tree, lower: &Tree) -> bool {
    let has = |directory: &Path, name: &str| {
        let path = directory.join(name);
        [upper, lower].iter().any(|tree| {
            lower_now(tree, &path).is_ok_and(|found| found.is_some_and(|meta| !meta.whiteout))
        })
    };
    let tops = path.ancestors().zip(path.ancestors().skip(1));
    tops.filter(|(at, directory)| {
        let first = at.file_name().unwrap_or_default();
        let guarded = ["config", "config.worktree", "hooks", "commondir"];
        guarded.iter().any(|name| first == *name)
            || path.strip_prefix(directory) == Ok(Path::new("info/attributes"))
    })
    .any(|(_, directory)| {
        has(directory, "HEAD") && (has(directory, "objects") || has(directory, "commondir"))
    })
}

/// Describes a step with what it replaces.
fn step(
    path: &Path,
    action: Action,
    before: Option<Meta>,
    new: Option<Meta>,
    lower: &Tree,
) -> Result<Step, CowError> {
    let mut step = Step {
        path: path.into(),
        action,
        before,
        link: None,
        attributes: Attributes::default(),
        new,
    };
    let (Some(before), Some((parent, name))) = (before, split(path)) else {
        return Ok(step);
    };
    let fail = |errno| on("look at", lower.shown(path))(errno);
    match before.kind {
        EntryType::Symlink => {
            let directory = lower.location(parent).map_err(fail)?;
            let text = rustix::fs::readlinkat(&directory, name, Vec::new()).map_err(fail)?;
            let text = OsStr::from_bytes(text.as_bytes());
            step.link = Some(Path::new(text).into());
        }
        EntryType::Directory if action != Action::Mode => {
            let directory = lower.listing(path).map_err(fail)?;
            step.attributes = Attributes::read(directory.as_fd()).map_err(fail)?;
        }
        _ => {}
    }
    Ok(step)
}

/// Copies what will be replaced, and then writes the journal.
fn write_down(entry: &Entry, layer: &Layer, plan: Plan, lower: &Tree) -> Result<Journal, CowError> {
    let mut steps = plan.steps;
    let few = steps.len() <= place::FEW;
    for (index, step) in steps.iter_mut().enumerate() {
        let path = step.path.as_path().to_owned();
        let Some(before) = step.before.filter(|before| before.is_file()) else {
            continue;
        };
        if step.action == Action::Mode {
            continue;
        }
        let fail = |errno| on("keep a copy of", lower.shown(&path))(errno);
        let Some((parent, name)) = split(&path) else {
            continue;
        };
        let directory = lower.location(parent).map_err(fail)?;
        let file = open_file(directory.as_fd(), name).map_err(fail)?;
        step.attributes = Attributes::read(file.as_fd()).map_err(fail)?;
        place::keep(&file, entry.directory.as_fd(), &index.to_string(), few).map_err(fail)?;
        let now = Meta::from(&rustix::fs::fstat(&file).map_err(fail)?);
        if !now.is_untouched(&before) {
            return Err(fail(Errno::AGAIN));
        }
    }
    let mut touched = Vec::new();
    for path in plan.touched {
        let fail = |errno| on("look at", lower.shown(&path))(errno);
        match lower.location(&path) {
            Ok(directory) => touched.push(Touched {
                before: Meta::from(&rustix::fs::fstat(&directory).map_err(fail)?),
                path: path.into(),
            }),
            // It will be made by a step.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    if !few {
        rustix::fs::syncfs(&entry.directory).map_err(on("write", &entry.path))?;
    }
    let journal = Journal {
        base: layer.base().clone(),
        // Two runs over one project must not take each other's temporary names for their own.
        tag: format!(
            "{:x}{:x}-{}",
            layer.base().since.0,
            layer.base().since.1,
            entry.number
        ),
        steps,
        touched,
    };
    entry.begin(&journal)?;
    Ok(journal)
}

/// Does all steps of a journal that are not done yet, and closes it.
fn finish(
    entry: &Entry,
    journal: &Journal,
    upper: &Tree,
    lower: &Tree,
    known: &mut Known,
    outcome: &mut Outcome,
) -> Result<(), CowError> {
    let work = Work {
        entry,
        journal,
        upper,
        lower,
    };
    let mut ended: Vec<Ended> = Vec::with_capacity(journal.steps.len());
    let mut start = 0;
    while start < journal.steps.len() {
        let end = journal.steps.len().min(start + BATCH);
        let mut ready = Vec::with_capacity(BATCH);
        for index in start..end {
            ready.push(work.stage(index)?);
        }
        if journal.steps.len() > place::FEW && ready.contains(&Ready::Staged) {
            rustix::fs::syncfs(work.project()?).map_err(on("write", lower.shown(Path::new(""))))?;
        }
        for (index, ready) in (start..end).zip(ready) {
            ended.push(work.commit(index, ready)?);
        }
        start = end;
    }
    work.finish_directories(&ended)?;
    place::synchronise(lower, journal.steps.iter().map(|step| step.path.as_path()))
        .map_err(on("write", lower.shown(Path::new(""))))?;
    for (step, ended) in journal.steps.iter().zip(&mut ended) {
        if ended.skipped {
            outcome.conflicts.push(step.path.as_path().to_owned());
        } else {
            ended.after = lower_now(lower, step.path.as_path())?;
            known.note(step.path.as_path(), ended.after.as_ref());
            outcome.applied += 1;
        }
    }
    known.save()?;
    entry.close(&ended)
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

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// It was done before.
    Done,
    /// Something else is there.
    Other,
    /// A new entry waits under the temporary name.
    Staged,
    /// Nothing had to be made.
    Waiting,
}

/// One apply at work.
struct Work<'a> {
    entry: &'a Entry,
    journal: &'a Journal,
    upper: &'a Tree,
    lower: &'a Tree,
}

impl Work<'_> {
    /// The project, open for synchronising.
    fn project(&self) -> Result<OwnedFd, CowError> {
        self.lower
            .listing(Path::new(""))
            .map_err(on("open", self.lower.shown(Path::new(""))))
    }

    /// The directory of a step in the project; `None` when it is gone or became something else.
    fn directory(&self, path: &Path) -> Result<Option<OwnedFd>, CowError> {
        match self.lower.location(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(errno) => Err(on("open", self.lower.shown(path))(errno)),
        }
    }

    fn stage(&self, index: usize) -> Result<Ready, CowError> {
        let step = &self.journal.steps[index];
        let path = step.path.as_path();
        let fail = |errno| on("apply", self.lower.shown(path))(errno);
        let Some((parent, name)) = split(path) else {
            return Ok(Ready::Other);
        };
        let Some(directory) = self.directory(parent)? else {
            return Ok(match step.action {
                Action::Remove | Action::RemoveDirectory => Ready::Done,
                _ => Ready::Other,
            });
        };
        let directory = directory.as_fd();
        let temporary = self.journal.temporary(index);
        if let Some(ready) = self.recover(index, directory, name)? {
            return Ok(ready);
        }
        let now = look_at(directory, name).map_err(fail)?;
        let is_before = match (&step.before, &now) {
            (None, None) => true,
            (Some(before), Some(now)) => now.is_untouched(before),
            _ => false,
        };
        if !is_before {
            return Ok(if self.is_done(step, now.as_ref())? {
                Ready::Done
            } else {
                Ready::Other
            });
        }
        match step.action {
            Action::Remove | Action::RemoveDirectory | Action::Mode => Ok(Ready::Waiting),
            Action::MakeDirectory => {
                place::stage_directory(directory, &temporary).map_err(fail)?;
                // What comes later goes into it.
                let placed = match &step.before {
                    None => place::settle(directory, &temporary, name),
                    Some(before) => place::exchange(directory, &temporary, name, before),
                }
                .map_err(fail)?;
                if placed == Placed::Other {
                    return Ok(Ready::Other);
                }
                self.dispose(directory, index)?;
                Ok(Ready::Done)
            }
            Action::Link => {
                let from = self.upper.location(parent).map_err(fail)?;
                let text = rustix::fs::readlinkat(&from, name, Vec::new()).map_err(fail)?;
                let text = OsStr::from_bytes(text.as_bytes());
                place::stage_link(directory, &temporary, Path::new(text)).map_err(fail)?;
                Ok(Ready::Staged)
            }
            Action::Write => {
                let from = self.upper.location(parent).map_err(fail)?;
                let source = open_file(from.as_fd(), name).map_err(fail)?;
                let meta = Meta::from(&rustix::fs::fstat(&source).map_err(fail)?);
                let attributes = Attributes::read(source.as_fd()).map_err(fail)?.of_agent();
                let looks = Looks {
                    mode: meta.plain_mode(),
                    owner: step
                        .before
                        .filter(|before| before.is_file())
                        .map(|before| (before.uid, before.gid)),
                    attributes: &attributes,
                    times: &meta,
                    synchronise: self.journal.steps.len() <= place::FEW,
                };
                place::stage_file(directory, &temporary, &source, &looks).map_err(fail)?;
                Ok(Ready::Staged)
            }
        }
    }

    /// Looks at what an interrupted attempt left under the temporary name. It may be what the step took away, or, when the
    /// attempt ended between an exchange and the look at what came back, something of the user's that has to go back.
    fn recover(
        &self,
        index: usize,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<Option<Ready>, CowError> {
        let step = &self.journal.steps[index];
        let fail = |errno| on("apply", self.lower.shown(step.path.as_path()))(errno);
        let temporary = self.journal.temporary(index);
        let Some(left) = look_at(directory, OsStr::new(&temporary)).map_err(fail)? else {
            return Ok(None);
        };
        let now = look_at(directory, name).map_err(fail)?;
        let done = self.is_done(step, now.as_ref())?;
        if let (true, Some(before)) = (done, &step.before) {
            if left.is_same_object(before) {
                self.dispose(directory, index)?;
                return Ok(Some(Ready::Done));
            }
            if step.action == Action::Remove {
                place::settle(directory, &temporary, name).map_err(fail)?;
                return Ok(Some(Ready::Other));
            }
            place::swap(directory, &temporary, name).map_err(fail)?;
        }
        place::clear(directory, &temporary).map_err(fail)?;
        Ok((done && step.before.is_some()).then_some(Ready::Other))
    }

    fn commit(&self, index: usize, ready: Ready) -> Result<Ended, CowError> {
        let step = &self.journal.steps[index];
        let path = step.path.as_path();
        let fail = |errno| on("apply", self.lower.shown(path))(errno);
        let ended = |skipped| Ended {
            skipped,
            after: None,
        };
        match ready {
            Ready::Done => return Ok(ended(false)),
            Ready::Other => return Ok(ended(true)),
            Ready::Staged | Ready::Waiting => {}
        }
        let Some((parent, name)) = split(path) else {
            return Ok(ended(true));
        };
        let Some(directory) = self.directory(parent)? else {
            return Ok(ended(true));
        };
        let directory = directory.as_fd();
        let temporary = self.journal.temporary(index);
        let placed = match (step.action, &step.before) {
            (Action::Write | Action::Link, None) => place::settle(directory, &temporary, name),
            (Action::Write | Action::Link, Some(before)) => {
                place::exchange(directory, &temporary, name, before)
            }
            (Action::Remove, Some(before)) => place::take(directory, name, &temporary, before),
            (Action::RemoveDirectory, _) => {
                match rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::REMOVEDIR) {
                    Ok(()) => Ok(Placed::Yes),
                    // The user put something into it, or something else in its place.
                    Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(Placed::Other),
                    Err(Errno::NOENT) => Ok(Placed::Yes),
                    Err(errno) => Err(errno),
                }
            }
            (Action::Mode, Some(before)) => {
                let mode = step.new.map_or(before.mode, |new| {
                    // Set-group-id on a directory is the user's way of sharing it.
                    new.plain_mode() | (before.mode & 0o6000)
                });
                place::change_mode(directory, name, before, mode)
            }
            _ => Ok(Placed::Yes),
        }
        .map_err(fail)?;
        if placed == Placed::Other {
            return Ok(ended(true));
        }
        self.dispose(directory, index)?;
        Ok(ended(false))
    }

    /// Takes away what came back from the project. A file that has other names is kept itself, not only as a copy: so undo
    /// can give it back as one of them.
    fn dispose(&self, directory: BorrowedFd<'_>, index: usize) -> Result<(), CowError> {
        let step = &self.journal.steps[index];
        let temporary = self.journal.temporary(index);
        let fail = |errno| on("apply", self.lower.shown(step.path.as_path()))(errno);
        if step
            .before
            .is_some_and(|before| before.is_file() && before.links > 1)
        {
            let kept = format!("{index}.inode");
            let moved = rustix::fs::renameat(directory, &temporary, &self.entry.directory, &kept);
            if moved.is_ok() {
                return Ok(());
            }
        }
        place::clear(directory, &temporary).map_err(fail)
    }

    /// Whether the project already has what the step leads to.
    fn is_done(&self, step: &Step, now: Option<&Meta>) -> Result<bool, CowError> {
        let path = step.path.as_path();
        let fail = |errno| on("compare", self.lower.shown(path))(errno);
        let (Some(now), Some(new)) = (now, step.new.as_ref()) else {
            return Ok(
                now.is_none() && matches!(step.action, Action::Remove | Action::RemoveDirectory)
            );
        };
        if now.kind != new.kind {
            return Ok(false);
        }
        let same_mode = now.plain_mode() == new.plain_mode();
        let Some((parent, name)) = split(path) else {
            return Ok(false);
        };
        let both = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
            Ok((self.upper.location(parent)?, self.lower.location(parent)?))
        };
        match step.action {
            Action::Remove | Action::RemoveDirectory => Ok(false),
            Action::MakeDirectory => Ok(true),
            Action::Mode => Ok(same_mode),
            Action::Link => {
                let (above, below) = both().map_err(fail)?;
                let text = |directory| rustix::fs::readlinkat(directory, name, Vec::new());
                Ok(text(above).map_err(fail)? == text(below).map_err(fail)?)
            }
            Action::Write => {
                if !same_mode || now.size != new.size {
                    return Ok(false);
                }
                let (above, below) = both().map_err(fail)?;
                let above = open_file(above.as_fd(), name).map_err(fail)?;
                let below = open_file(below.as_fd(), name).map_err(fail)?;
                same_content(above.as_fd(), below.as_fd(), new.size).map_err(fail)
            }
        }
    }

    /// Gives new directories their modes, attributes and times, innermost first.
    fn finish_directories(&self, ended: &[Ended]) -> Result<(), CowError> {
        let made = self
            .journal
            .steps
            .iter()
            .zip(ended)
            .filter(|(step, ended)| step.action == Action::MakeDirectory && !ended.skipped);
        for (step, _) in made.collect::<Vec<_>>().into_iter().rev() {
            let path = step.path.as_path();
            let fail = |errno| on("apply", self.lower.shown(path))(errno);
            let Some(new) = &step.new else { continue };
            let (Ok(from), Ok(to)) = (self.upper.listing(path), self.lower.listing(path)) else {
                // Gone again, or closed by its own mode already.
                continue;
            };
            let attributes = Attributes::read(from.as_fd()).map_err(fail)?.of_agent();
            let looks = Looks {
                mode: new.plain_mode(),
                owner: None,
                attributes: &attributes,
                times: new,
                synchronise: false,
            };
            place::dress(to.as_fd(), &looks).map_err(fail)?;
        }
        Ok(())
    }
}
