//! What differs between a snapshot and the project as it is now, as the steps of an apply that made it so: removals
//! first, innermost first, then what was made, then the modes of directories.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Kept, Snapshot, path_of};
use crate::cow::attributes::Attributes;
use crate::cow::beneath::{look_at, open_file, open_up};
use crate::cow::changes::names;
use crate::cow::compare::same_content;
use crate::cow::journal::{Action, PathRoom, Step, Touched, name_others};
use crate::cow::meta::Time;
use crate::cow::{CowError, EntryType, Meta, Tree, on};

/// A file whose inode was last changed so shortly before the snapshot, in nanoseconds, can change again without its time
/// of change telling: the kernel's clock for files ticks every 1 to 10 ms.
const TICK_NS: i64 = 50_000_000;

/// What an owner needs in a directory to look into it.
const LOOK: u32 = 0o500;

/// One path that differs.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) step: Step,
    /// What is there now.
    pub(super) after: Option<Meta>,
    /// Which file of the snapshot has the old content.
    pub(super) data: Option<usize>,
}

/// Everything that differs.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) differences: Vec<Difference>,
    /// Directories whose times differ.
    pub(super) touched: Vec<Touched>,
    /// Directories that cannot be looked into.
    pub(super) closed: Vec<PathBuf>,
}

/// What may be done to directories that the agent closed to their owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// They are opened again: their mode is restored by an undo, or they go with it.
    Open,
    /// They stay, and what is in them is not compared.
    Leave,
}

/// Compares.
pub(super) fn compare(
    snapshot: &Snapshot,
    closed: Closed,
    room: PathRoom,
) -> Result<Compared, CowError> {
    let entries = &snapshot.index.entries;
    let tree = snapshot.index.base.lower()?;
    let mut children = vec![0..0; entries.len()];
    let mut names_of: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (index, kept) in entries.iter().enumerate().skip(1) {
        if let Some(range) = children.get_mut(kept.parent) {
            if range.start == range.end {
                *range = index..index;
            }
            range.end = index + 1;
        }
        if kept.meta.is_file() && kept.meta.links > 1 {
            let key = (kept.meta.device, kept.meta.inode);
            names_of.entry(key).or_default().push(index);
        }
    }
    let mut work = Work {
        entries,
        children,
        omitted: snapshot
            .index
            .omitted
            .iter()
            .map(|path| path.as_path())
            .collect(),
        racy: before(snapshot.index.base.since),
        data: snapshot.data()?,
        tree: &tree,
        closed,
        room,
        removals: Vec::new(),
        made: Vec::new(),
        last: Vec::new(),
        compared: Compared::default(),
        stack: vec![Visit::Both(0)],
    };
    while let Some(visit) = work.stack.pop() {
        match visit {
            Visit::Both(index) => work.both(index)?,
            Visit::New(path) => work.new_directory(&path)?,
        }
    }
    let mut compared = work.compared;
    compared.differences = work.removals.into_iter().rev().collect();
    compared.differences.extend(work.made);
    compared.differences.extend(work.last.into_iter().rev());
    let steps = compared.differences.iter_mut();
    name_others(steps.map(|it| &mut it.step).collect(), &|key| {
        let names = names_of.get(&key).into_iter().flatten();
        names.map(|name| path_of(entries, *name).into()).collect()
    });
    Ok(compared)
}

fn before(time: Time) -> Time {
    if time.1 >= TICK_NS {
        Time(time.0, time.1 - TICK_NS)
    } else {
        Time(time.0 - 1, time.1 + 1_000_000_000 - TICK_NS)
    }
}

enum Visit {
    /// A directory of the snapshot that is still one.
    Both(usize),
    /// A directory that was not there.
    New(PathBuf),
}

struct Work<'a> {
    entries: &'a [Kept],
    children: Vec<std::ops::Range<usize>>,
    omitted: BTreeSet<&'a Path>,
    racy: Time,
    data: OwnedFd,
    tree: &'a Tree,
    closed: Closed,
    room: PathRoom,
    removals: Vec<Difference>,
    made: Vec<Difference>,
    last: Vec<Difference>,
    compared: Compared,
    stack: Vec<Visit>,
}

impl<'a> Work<'a> {
    fn failed(&self, action: &'static str, path: &Path, errno: Errno) -> CowError {
        on(action, self.tree.shown(path))(errno)
    }

    /// Opens a directory of the project; none when it cannot be looked into, or is gone by now.
    fn listing(&mut self, path: &Path) -> Result<Option<OwnedFd>, CowError> {
        let mut opened = self.tree.listing(path);
        if matches!(opened, Err(Errno::ACCESS))
            && self.closed == Closed::Open
            && open_up(self.tree, path, LOOK).is_ok_and(|opened| opened)
        {
            opened = self.tree.listing(path);
        }
        match opened {
            Ok(listing) => Ok(Some(listing)),
            Err(Errno::ACCESS | Errno::XDEV) => {
                self.compared.closed.push(path.to_owned());
                Ok(None)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.failed("open", path, errno)),
        }
    }

    fn names(&self, path: &Path, listing: &OwnedFd) -> Result<Vec<(OsString, Meta)>, CowError> {
        let mut found = Vec::new();
        for name in names(listing).map_err(|errno| self.failed("list", path, errno))? {
            if !self.omitted.is_empty() && self.omitted.contains(path.join(&name).as_path()) {
                continue;
            }
            match look_at(listing.as_fd(), &name) {
                Ok(Some(meta)) => found.push((name, meta)),
                Ok(None) => {}
                // To be listed, but not to be searched.
                Err(Errno::ACCESS) if self.closed == Closed::Leave => break,
                Err(errno) => return Err(self.failed("look into", path, errno)),
            }
        }
        Ok(found)
    }

    fn both(&mut self, index: usize) -> Result<(), CowError> {
        let entries = self.entries;
        let path = path_of(entries, index);
        let Some(kept) = entries.get(index) else {
            return Ok(());
        };
        // It can be listed by everybody and be closed to its owner all the same.
        if self.closed == Closed::Open {
            let _ = open_up(self.tree, &path, LOOK);
        }
        let Some(listing) = self.listing(&path)? else {
            return Ok(());
        };
        let fail = |errno| on("look at", self.tree.shown(&path))(errno);
        let now = Meta::from(&rustix::fs::fstat(&listing).map_err(fail)?);
        let attributes = Attributes::read(listing.as_fd()).map_err(fail)?;
        let looks = |meta: &Meta| (meta.mode, meta.uid, meta.gid);
        if looks(&now) != looks(&kept.meta) || attributes != kept.attributes {
            let owner = (now.uid, now.gid) == (kept.meta.uid, kept.meta.gid);
            let action = if owner && attributes == kept.attributes {
                Action::Mode
            } else {
                Action::Dress
            };
            let difference = self.difference(Some(index), &path, action, Some(now))?;
            self.last.push(difference);
        }
        let known = self.removals.len() + self.made.len();
        let mut old = self.children.get(index).cloned().unwrap_or(0..0).peekable();
        for (name, meta) in self.names(&path, &listing)? {
            let mut same = None;
            while let Some(&child) = old.peek() {
                let order = entries
                    .get(child)
                    .map(|kept| kept.name.as_os_str().cmp(name.as_os_str()));
                match order {
                    Some(std::cmp::Ordering::Less) => self.removed(child)?,
                    Some(std::cmp::Ordering::Equal) => same = Some(child),
                    _ => break,
                }
                old.next();
                if same.is_some() {
                    break;
                }
            }
            match same {
                Some(child) => self.pair(child, &listing, &name, meta)?,
                None => self.added(path.join(&name), meta)?,
            }
        }
        for child in old {
            self.removed(child)?;
        }
        // Undoing what is in it changes its times, too.
        if now.modified != kept.meta.modified || known != self.removals.len() + self.made.len() {
            self.compared.touched.push(Touched {
                path: path.as_path().into(),
                before: kept.meta,
            });
        }
        Ok(())
    }

    fn new_directory(&mut self, path: &Path) -> Result<(), CowError> {
        if self.closed == Closed::Open {
            let _ = open_up(self.tree, path, LOOK);
        }
        let Some(listing) = self.listing(path)? else {
            return Ok(());
        };
        for (name, meta) in self.names(path, &listing)? {
            self.added(path.join(name), meta)?;
        }
        Ok(())
    }

    /// Describes one path; `index` is what the snapshot has there.
    fn difference(
        &mut self,
        index: Option<usize>,
        path: &Path,
        action: Action,
        after: Option<Meta>,
    ) -> Result<Difference, CowError> {
        self.room.take(path, self.tree)?;
        let kept = index.and_then(|index| self.entries.get(index));
        Ok(Difference {
            step: Step {
                path: path.into(),
                action,
                before: kept.map(|kept| kept.meta),
                link: kept.and_then(|kept| kept.link.clone()),
                attributes: kept.map(|kept| kept.attributes.clone()).unwrap_or_default(),
                new: after,
                made: None,
                names: Vec::new(),
            },
            after,
            data: kept.and_then(|kept| kept.data),
        })
    }

    fn added(&mut self, path: PathBuf, meta: Meta) -> Result<(), CowError> {
        let difference = self.difference(None, &path, making(&meta), Some(meta))?;
        self.made.push(difference);
        if meta.is_directory() {
            self.stack.push(Visit::New(path));
        }
        Ok(())
    }

    /// Something that is gone, with everything in it.
    fn removed(&mut self, index: usize) -> Result<(), CowError> {
        let mut stack = vec![index];
        while let Some(index) = stack.pop() {
            let path = path_of(self.entries, index);
            if self.omitted.contains(path.as_path()) {
                continue;
            }
            let directory = self
                .entries
                .get(index)
                .is_some_and(|kept| kept.meta.is_directory());
            let action = if directory {
                Action::RemoveDirectory
            } else {
                Action::Remove
            };
            let difference = self.difference(Some(index), &path, action, None)?;
            self.removals.push(difference);
            stack.extend(self.children.get(index).cloned().unwrap_or(0..0));
        }
        Ok(())
    }

    /// A name that is in both.
    fn pair(
        &mut self,
        index: usize,
        listing: &OwnedFd,
        name: &OsStr,
        now: Meta,
    ) -> Result<(), CowError> {
        let entries = self.entries;
        let Some(kept) = entries.get(index) else {
            return Ok(());
        };
        let was = kept.meta;
        if was.is_directory() && now.is_directory() {
            self.stack.push(Visit::Both(index));
            return Ok(());
        }
        let path = || path_of(entries, index);
        let same = was.kind == now.kind
            && match now.kind {
                EntryType::File => self.is_same_file(kept, listing, name, &now),
                _ => is_same_link(kept, listing, name, &now),
            }
            .map_err(|errno| self.failed("compare", &path(), errno))?;
        if same {
            return Ok(());
        }
        if was.is_directory() {
            for child in self.children.get(index).cloned().unwrap_or(0..0) {
                self.removed(child)?;
            }
        }
        let path = path();
        let difference = self.difference(Some(index), &path, making(&now), Some(now))?;
        self.made.push(difference);
        if now.is_directory() {
            self.stack.push(Visit::New(path));
        }
        Ok(())
    }

    fn is_same_file(
        &self,
        kept: &Kept,
        listing: &OwnedFd,
        name: &OsStr,
        now: &Meta,
    ) -> rustix::io::Result<bool> {
        let was = &kept.meta;
        let looks = |meta: &Meta| (meta.mode, meta.uid, meta.gid, meta.size, meta.modified);
        // Another file under one of several names is a name less for the others.
        if looks(was) != looks(now) || (was.links > 1 && was.inode != now.inode) {
            return Ok(false);
        }
        let same_inode = was.inode == now.inode && was.changed == now.changed;
        if same_inode && was.changed < self.racy {
            return Ok(true);
        }
        let Some(data) = kept.data else {
            return Ok(true);
        };
        let file = match open_file(listing.as_fd(), name) {
            Ok(file) => file,
            Err(Errno::ACCESS | Errno::NOENT | Errno::INVAL | Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        if Attributes::read(file.as_fd())? != kept.attributes {
            return Ok(false);
        }
        let old = open_file(self.data.as_fd(), OsStr::new(&data.to_string()))?;
        same_content(file.as_fd(), old.as_fd(), was.size)
    }
}

fn is_same_link(
    kept: &Kept,
    listing: &OwnedFd,
    name: &OsStr,
    now: &Meta,
) -> rustix::io::Result<bool> {
    let was = &kept.meta;
    if (was.uid, was.gid, was.modified) != (now.uid, now.gid, now.modified) {
        return Ok(false);
    }
    match rustix::fs::readlinkat(listing, name, Vec::new()) {
        Ok(text) => Ok(kept.link.as_ref().map(|link| link.as_os_str())
            == Some(OsStr::from_bytes(text.as_bytes()))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// What makes an entry of this type. Undoing does not ask what a FIFO, socket or device was made by.
fn making(meta: &Meta) -> Action {
    match meta.kind {
        EntryType::Directory => Action::MakeDirectory,
        EntryType::Symlink => Action::Link,
        EntryType::File | EntryType::Fifo | EntryType::Socket | EntryType::Device => Action::Write,
    }
}
