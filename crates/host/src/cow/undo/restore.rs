//! Restores what one step replaced or removed, and takes away what it made, if that is still what is there. Interrupted
//! anywhere, the same call again goes on. Must not decide what is undone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::reverse::mirrored;
use crate::cow::apply::split;
use crate::cow::attributes::Attributes;
use crate::cow::beneath::{look_at, open_file, open_up};
use crate::cow::compare::same_content;
use crate::cow::journal::{Action, Ended, Entry, Journal, Step, inode};
use crate::cow::place::{self, Looks, Placed};
use crate::cow::{CowError, EntryType, Meta, Tree, on};

/// The rights of an owner, which an undo takes itself in directories that are closed to it.
pub(super) const OWN: u32 = 0o700;

/// Whether an entry is what an apply or a run left there; a directory may have been opened to its owner meanwhile.
pub(super) fn is_as_left(now: &Meta, after: &Meta) -> bool {
    let open = |meta: &Meta| Meta {
        mode: meta.mode | OWN,
        ..*meta
    };
    if now.is_directory() && after.is_directory() {
        return open(now).is_as_left(&open(after));
    }
    now.is_as_left(after)
}

/// One undo at work.
pub(super) struct Work<'a> {
    pub(super) entry: &'a Entry,
    pub(super) journal: &'a Journal,
    pub(super) lower: &'a Tree,
    /// Where what is taken away is kept.
    keeper: Option<&'a Entry>,
}

impl<'a> Work<'a> {
    /// Work on the steps of an entry.
    pub(super) fn new(
        entry: &'a Entry,
        journal: &'a Journal,
        lower: &'a Tree,
        keeper: Option<&'a Entry>,
    ) -> Self {
        Self {
            entry,
            journal,
            lower,
            keeper,
        }
    }

    /// Gives the user back the rights to work in directories of his own that are closed to him, outermost first. They get
    /// their modes again at the end.
    pub(super) fn open_directories(&self, ended: &[Ended]) {
        let steps = self.journal.steps.iter().zip(ended);
        let directories: BTreeSet<&Path> = steps
            .flat_map(|(step, ended)| {
                let path = step.path.as_path();
                let is_one = ended.after.is_some_and(|after| after.is_directory());
                path.parent().into_iter().chain(is_one.then_some(path))
            })
            .collect();
        for directory in directories {
            // What stays closed says so when something in it is to be restored.
            let _ = open_up(self.lower, directory, OWN);
        }
    }

    /// Takes one step back; false when its path changed since.
    pub(super) fn step(&self, index: usize, step: &Step, ended: &Ended) -> Result<bool, CowError> {
        let is_back = self.take_back(index, step, ended)?;
        if is_back {
            // It is in its old place again.
            place::clear(self.entry.directory.as_fd(), &inode(index))
                .map_err(on("remove", &self.entry.path))?;
        }
        Ok(is_back)
    }

    fn take_back(&self, index: usize, step: &Step, ended: &Ended) -> Result<bool, CowError> {
        let path = step.path.as_path();
        let fail = |errno| on("restore", self.lower.shown(path))(errno);
        let Some((parent, name)) = split(path) else {
            return self.top(step, ended);
        };
        let directory = match self.lower.location(parent) {
            Ok(directory) => directory,
            // What the step made is gone with its directory; what it removed has no place any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                return Ok(step.before.is_none());
            }
            Err(errno) => return Err(fail(errno)),
        };
        let directory = directory.as_fd();
        let temporary = self.journal.temporary(index);
        let mut now = look_at(directory, name).map_err(fail)?;
        if let Some(left) = look_at(directory, OsStr::new(&temporary)).map_err(fail)? {
            // An interrupted attempt: what it took away goes, and what it took by mistake goes back.
            let expected = ended.after.is_some_and(|after| left.is_same_object(&after));
            // What the apply left is still in its place, however much it is like what was there before.
            let waits = ended.after.zip(now);
            let waits = waits.is_some_and(|(after, now)| now.is_same_object(&after));
            let is_back = !waits && self.is_restored(index, step, now.as_ref())?;
            if is_back && !expected {
                match &now {
                    Some(_) => place::swap(directory, &temporary, name).map_err(fail)?,
                    None => drop(place::settle(directory, &temporary, name).map_err(fail)?),
                }
                now = look_at(directory, name).map_err(fail)?;
            }
            let cleared = match expected && is_back {
                true => self.let_go(index, directory, &left),
                false => place::clear(directory, &temporary),
            };
            match cleared {
                // A directory that the user filled meanwhile.
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
                cleared => cleared.map_err(fail)?,
            }
        }
        let is_after = match (&ended.after, &now) {
            (None, None) => true,
            (Some(after), Some(now)) => is_as_left(now, after) || step.is_being_dressed(now),
            _ => false,
        };
        if !is_after {
            return self.is_restored(index, step, now.as_ref());
        }
        let placed = self.restore(index, step, now.as_ref(), directory, name)?;
        Ok(placed == Placed::Yes)
    }

    /// The mode of the project itself.
    fn top(&self, step: &Step, ended: &Ended) -> Result<bool, CowError> {
        let fail = |errno| on("restore", self.lower.shown(Path::new("")))(errno);
        let (Some(before), Some(after), Action::Mode | Action::Dress) =
            (&step.before, &ended.after, step.action)
        else {
            return Ok(false);
        };
        let directory = self.lower.listing(Path::new("")).map_err(fail)?;
        let now = Meta::from(&rustix::fs::fstat(&directory).map_err(fail)?);
        if !is_as_left(&now, after) && !is_as_left(&now, before) {
            return Ok(false);
        }
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(before.mode | OWN)).map_err(fail)?;
        Ok(true)
    }

    fn restore(
        &self,
        index: usize,
        step: &Step,
        now: Option<&Meta>,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<Placed, CowError> {
        let fail = |errno| on("restore", self.lower.shown(step.path.as_path()))(errno);
        let temporary = self.journal.temporary(index);
        let Some(before) = &step.before else {
            // The step made it.
            let Some(after) = now else {
                return Ok(Placed::Yes);
            };
            if after.is_directory() {
                return match rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::REMOVEDIR) {
                    Ok(()) => Ok(Placed::Yes),
                    Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Placed::Other),
                    Err(errno) => Err(fail(errno)),
                };
            }
            let taken = place::take(directory, name, &temporary, after).map_err(fail)?;
            if taken == Placed::Yes {
                self.let_go(index, directory, after).map_err(fail)?;
            }
            return Ok(taken);
        };
        if matches!(step.action, Action::Mode | Action::Dress) {
            let Some(after) = now else {
                return Ok(Placed::Other);
            };
            let attributes = (step.action == Action::Dress).then_some(&step.attributes);
            // What is in a directory comes back before it is closed.
            let open = if before.is_directory() { OWN } else { 0 };
            let mode = before.mode | open;
            return place::change_looks(directory, name, after, mode, attributes).map_err(fail);
        }
        match before.kind {
            EntryType::Directory => place::stage_directory(directory, &temporary).map_err(fail)?,
            EntryType::Symlink => {
                let text = step.link.as_ref().ok_or_else(|| fail(Errno::INVAL))?;
                place::stage_link(directory, &temporary, text.as_path(), before).map_err(fail)?;
            }
            EntryType::File => self.stage(index, step, before, directory, &temporary)?,
            EntryType::Fifo | EntryType::Socket | EntryType::Device => return Ok(Placed::Other),
        }
        let placed = match now {
            None => place::settle(directory, &temporary, name),
            Some(after) => place::exchange(directory, &temporary, name, after),
        }
        .map_err(fail)?;
        if let (Placed::Yes, Some(after)) = (placed, now) {
            match self.let_go(index, directory, after) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    // A directory of the agent's that holds something of the user's by now.
                    place::swap(directory, &temporary, name).map_err(fail)?;
                    place::clear(directory, &temporary).map_err(fail)?;
                    return Ok(Placed::Other);
                }
                cleared => cleared.map_err(fail)?,
            }
        }
        Ok(placed)
    }

    /// Takes away what was in the place of the old entry. A file that has other names goes where it is kept itself, not only
    /// as a copy: so it can come back as one of them.
    fn let_go(
        &self,
        index: usize,
        directory: BorrowedFd<'_>,
        taken: &Meta,
    ) -> rustix::io::Result<()> {
        let temporary = self.journal.temporary(index);
        if let Some(keeper) = self.keeper.filter(|_| taken.is_file() && taken.links > 1) {
            let kept = inode(mirrored(self.journal, index));
            if rustix::fs::renameat(directory, &temporary, &keeper.directory, &kept).is_ok() {
                return Ok(());
            }
        }
        place::clear(directory, &temporary)
    }

    /// Makes the old file under its temporary name: the very file where it was kept, else its copy.
    fn stage(
        &self,
        index: usize,
        step: &Step,
        before: &Meta,
        directory: BorrowedFd<'_>,
        temporary: &str,
    ) -> Result<(), CowError> {
        let fail = |errno| on("restore", self.lower.shown(step.path.as_path()))(errno);
        let kept = inode(index);
        let store = self.entry.directory.as_fd();
        if look_at(store, OsStr::new(&kept))
            .map_err(fail)?
            .is_some_and(|kept| kept.is_same_object(before))
        {
            place::clear(directory, temporary).map_err(fail)?;
            if rustix::fs::linkat(
                store,
                kept.as_str(),
                directory,
                temporary,
                rustix::fs::AtFlags::empty(),
            )
            .is_ok()
            {
                return Ok(());
            }
        }
        if self
            .link(index, step, before, directory, temporary)
            .map_err(fail)?
        {
            return Ok(());
        }
        let source = self.copy(index).map_err(fail)?;
        let looks = Looks {
            mode: before.mode,
            owner: Some((before.uid, before.gid)),
            attributes: &step.attributes,
            times: before,
            synchronise: true,
        };
        place::stage_file(directory, temporary, &source, &looks).map_err(fail)?;
        Ok(())
    }

    /// Makes the temporary name one more of the old file, where the project still has it, or has it again, under another one.
    fn link(
        &self,
        index: usize,
        step: &Step,
        before: &Meta,
        directory: BorrowedFd<'_>,
        temporary: &str,
    ) -> rustix::io::Result<bool> {
        let looks = |meta: &Meta| (meta.mode, meta.uid, meta.gid, meta.size, meta.modified);
        for other in &step.names {
            let found = split(other.as_path()).and_then(|(parent, name)| {
                let holder = self.lower.location(parent).ok()?;
                let file = open_file(holder.as_fd(), name).ok()?;
                Some((holder, name, file))
            });
            let Some((holder, name, file)) = found else {
                continue;
            };
            let now = Meta::from(&rustix::fs::fstat(&file)?);
            let copy = self.copy(index)?;
            if looks(&now) != looks(before)
                || Attributes::read(file.as_fd())? != step.attributes
                || !same_content(file.as_fd(), copy.as_fd(), before.size)?
            {
                continue;
            }
            place::clear(directory, temporary)?;
            let flags = rustix::fs::AtFlags::empty();
            if rustix::fs::linkat(&holder, name, directory, temporary, flags).is_err() {
                continue;
            }
            // The name may have been given to another file meanwhile.
            let linked = look_at(directory, OsStr::new(temporary))?;
            if linked.is_some_and(|linked| linked.inode == now.inode) {
                return Ok(true);
            }
            place::clear(directory, temporary)?;
        }
        Ok(false)
    }

    fn copy(&self, index: usize) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(
            &self.entry.directory,
            index.to_string(),
            flags,
            Mode::empty(),
        )
    }

    /// Whether the path is as it was before the apply: an interrupted undo came this far.
    fn is_restored(&self, index: usize, step: &Step, now: Option<&Meta>) -> Result<bool, CowError> {
        let path = step.path.as_path();
        let fail = |errno| on("compare", self.lower.shown(path))(errno);
        let (Some(before), Some(now)) = (&step.before, now) else {
            return Ok(step.before.is_none() && now.is_none());
        };
        if now.kind != before.kind {
            return Ok(false);
        }
        let (Some((parent, name)), same_mode) = (split(path), now.mode == before.mode) else {
            return Ok(false);
        };
        match before.kind {
            EntryType::Directory => Ok(step.action != Action::MakeDirectory
                && (!matches!(step.action, Action::Mode | Action::Dress)
                    || is_as_left(now, before))),
            EntryType::Symlink => {
                let directory = self.lower.location(parent).map_err(fail)?;
                let text = rustix::fs::readlinkat(&directory, name, Vec::new()).map_err(fail)?;
                let old = step.link.as_ref().map(|link| link.as_path());
                let text: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(text.as_bytes());
                Ok(old == Some(Path::new(text)))
            }
            EntryType::File if step.action == Action::Mode => {
                Ok(same_mode && now.is_same_object(before))
            }
            EntryType::File => {
                if !same_mode || (now.size, now.modified) != (before.size, before.modified) {
                    return Ok(false);
                }
                let directory = self.lower.location(parent).map_err(fail)?;
                let file = open_file(directory.as_fd(), name).map_err(fail)?;
                let copy = self.copy(index).map_err(fail)?;
                same_content(file.as_fd(), copy.as_fd(), before.size).map_err(fail)
            }
            EntryType::Fifo | EntryType::Socket | EntryType::Device => Ok(false),
        }
    }
}
