//! An apply at work: the steps of a journal are done one after the other, or found done by an attempt before. Must not
//! decide what is applied.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::Errno;

use super::super::attributes::Attributes;
use super::super::beneath::{look_at, open_file};
use super::super::compare::same_content;
use super::super::journal::{Action, Ended, Entry, Journal, Step, inode, made};
use super::super::known::Known;
use super::super::place::{self, Looks, Placed};
use super::{CowError, Meta, Outcome, Sides, Tree, lower_now, on, split};

/// How many files are made under temporary names before they are synchronised together and put in place.
const BATCH: usize = 256;

/// Does all steps of a journal that are not done yet, and closes it.
pub(super) fn finish(
    entry: &Entry,
    journal: &Journal,
    Sides { upper, lower }: Sides<'_>,
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
            (Some(before), Some(now)) => now.is_untouched(before) || step.is_being_dressed(now),
            _ => false,
        };
        if !is_before {
            return Ok(if self.is_done(index, step, now.as_ref())? {
                Ready::Done
            } else {
                Ready::Other
            });
        }
        match step.action {
            Action::Remove | Action::RemoveDirectory | Action::Mode | Action::Dress => {
                Ok(Ready::Waiting)
            }
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
                let like = step.new.ok_or_else(|| fail(Errno::INVAL))?;
                place::stage_link(directory, &temporary, Path::new(text), &like).map_err(fail)?;
                Ok(Ready::Staged)
            }
            Action::Write => {
                let source = self.source(index, step, parent, name).map_err(fail)?;
                let (meta, attributes) = match (&step.made, step.new) {
                    (Some(attributes), Some(new)) => (new, attributes.clone()),
                    _ => (
                        Meta::from(&rustix::fs::fstat(&source).map_err(fail)?),
                        Attributes::read(source.as_fd()).map_err(fail)?.carried(),
                    ),
                };
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

    /// The new file: the agent's, or what was made of both sides.
    fn source(
        &self,
        index: usize,
        step: &Step,
        parent: &Path,
        name: &OsStr,
    ) -> rustix::io::Result<OwnedFd> {
        match step.made {
            Some(_) => open_file(self.entry.directory.as_fd(), OsStr::new(&made(index))),
            None => open_file(self.upper.location(parent)?.as_fd(), name),
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
        if let (Some(now), Some(before)) = (&now, &step.before)
            && now.is_same_object(before)
        {
            // The new entry was not put in place yet, however alike they are.
            place::clear(directory, &temporary).map_err(fail)?;
            return Ok(None);
        }
        let done = self.is_done(index, step, now.as_ref())?;
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
            (Action::Mode | Action::Dress, Some(before)) => {
                let mode = step.new.map_or(before.mode, |new| {
                    // Set-group-id on a directory is the user's way of sharing it.
                    new.plain_mode() | (before.mode & 0o6000)
                });
                let attributes = match step.action {
                    Action::Dress => {
                        let from = self.upper.listing(path).map_err(fail)?;
                        Some(Attributes::read(from.as_fd()).map_err(fail)?.carried())
                    }
                    _ => None,
                };
                place::change_looks(directory, name, before, mode, attributes.as_ref())
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
            let kept = inode(index);
            let moved = rustix::fs::renameat(directory, &temporary, &self.entry.directory, &kept);
            if moved.is_ok() {
                return Ok(());
            }
        }
        place::clear(directory, &temporary).map_err(fail)
    }

    /// Whether the project already has what the step leads to.
    fn is_done(&self, index: usize, step: &Step, now: Option<&Meta>) -> Result<bool, CowError> {
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
            Action::Mode | Action::Dress => Ok(same_mode),
            Action::Link => {
                let (above, below) = both().map_err(fail)?;
                let text = |directory| rustix::fs::readlinkat(directory, name, Vec::new());
                Ok(text(above).map_err(fail)? == text(below).map_err(fail)?)
            }
            Action::Write => {
                if !same_mode || now.size != new.size {
                    return Ok(false);
                }
                let above = self.source(index, step, parent, name).map_err(fail)?;
                let below = self.lower.location(parent).map_err(fail)?;
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
            let attributes = Attributes::read(from.as_fd()).map_err(fail)?.carried();
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
