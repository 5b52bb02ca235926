//! Goes through a layer, and through what it replaces of the project, one directory after the other. Must not change anything.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::{Change, Changes, Differences, Status, names};
use crate::cow::attributes::Attributes;
use crate::cow::beneath::{listing_in, location_in, look_at, open_file};
use crate::cow::compare::same_content;
use crate::cow::{CowError, EntryType, Meta, Tree, on};

/// A directory still to be looked into.
enum Visit {
    /// One of the layer, over one of the project or over nothing.
    Layer { index: Option<usize>, merged: bool },
    /// One of the project that is gone in the layer.
    Gone { index: usize },
}

/// Compares everything that a layer has with the project below it.
pub(super) fn walk(upper: &Tree, lower: &Tree) -> Result<Changes, CowError> {
    let mut walk = Walk {
        upper,
        lower,
        found: Changes::default(),
        stack: vec![Visit::Layer {
            index: None,
            merged: true,
        }],
        last: None,
    };
    while let Some(visit) = walk.stack.pop() {
        match visit {
            Visit::Layer { index, merged } => walk.layer(index, merged)?,
            Visit::Gone { index } => walk.gone(index)?,
        }
    }
    Ok(walk.found)
}

struct Walk<'a> {
    upper: &'a Tree,
    lower: &'a Tree,
    found: Changes,
    stack: Vec<Visit>,
    /// The directory looked into last, in the layer and in the project: what is in it comes next, and a path from the
    /// top costs the more the deeper it leads.
    last: Option<(usize, Option<OwnedFd>, Option<OwnedFd>)>,
}

impl Walk<'_> {
    fn path(&self, index: Option<usize>) -> PathBuf {
        index.map_or_else(PathBuf::new, |index| self.found.path(index))
    }

    /// Notes that a directory cannot be looked into.
    fn close(&mut self, index: Option<usize>) {
        if let Some(change) = index.and_then(|index| self.found.nodes.get_mut(index)) {
            change.status = Status::Unreadable;
        }
    }

    /// Directory and name of an entry.
    fn place(&self, index: Option<usize>) -> (Option<usize>, Option<OsString>) {
        let change = index.and_then(|index| self.found.nodes.get(index));
        (
            change.and_then(|change| change.parent),
            change.map(|change| change.name.clone()),
        )
    }

    /// Looks into a directory of the layer.
    fn layer(&mut self, index: Option<usize>, merged: bool) -> Result<(), CowError> {
        let (parent, name) = self.place(index);
        let last = self.last.take().filter(|last| Some(last.0) == parent);
        let (last_upper, last_lower) =
            last.map_or((None, None), |(_, upper, lower)| (upper, lower));
        let opened = match (&last_upper, &name) {
            (Some(directory), Some(name)) => listing_in(directory.as_fd(), name),
            _ => self.upper.listing(&self.path(index)),
        };
        let listing = match opened {
            Ok(listing) => listing,
            Err(Errno::ACCESS) if index.is_some() => {
                self.close(index);
                return Ok(());
            }
            Err(errno) => return Err(self.failed("open", index, errno)),
        };
        let below = merged
            .then(|| match (&last_lower, &name) {
                (Some(directory), Some(name)) => location_in(directory.as_fd(), name),
                _ => self.lower.location(&self.path(index)),
            })
            .transpose()
            .map_err(|errno| self.failed_below("open", index, errno))?;
        let opaque = index.is_some()
            && is_opaque(&listing).map_err(|errno| self.failed("look at", index, errno))?;
        if merged
            && !opaque
            && !has(&listing, "user.overlay.origin")
                .map_err(|errno| self.failed("look at", index, errno))?
            && let Some(change) = index.and_then(|index| self.found.nodes.get_mut(index))
        {
            change.met = true;
        }
        // Without the right to search a directory its names can be read, and nothing of what they lead to.
        if index.is_some() && !(may_search(&listing) && below.as_ref().is_none_or(may_search)) {
            self.close(index);
            return Ok(());
        }
        let names = names(&listing).map_err(|errno| self.failed("list", index, errno))?;
        let mut visits = Vec::new();
        for name in &names {
            let Some(meta) = look_at(listing.as_fd(), name)
                .map_err(|errno| self.failed("look into", index, errno))?
            else {
                continue;
            };
            let old = match &below {
                Some(below) => look_at(below.as_fd(), name)
                    .map_err(|errno| self.failed_below("look into", index, errno))?,
                None => None,
            };
            self.entry(
                index,
                name,
                meta,
                old,
                listing.as_fd(),
                below.as_ref(),
                &mut visits,
            )?;
        }
        if let (true, Some(_)) = (opaque, &below) {
            self.replaced(index, &names, &mut visits)?;
        }
        self.last = index.map(|index| (index, Some(listing), below));
        self.stack.extend(visits.into_iter().rev());
        Ok(())
    }

    /// Everything that the project has in a directory which the agent removed and made again.
    fn replaced(
        &mut self,
        index: Option<usize>,
        names_above: &[OsString],
        visits: &mut Vec<Visit>,
    ) -> Result<(), CowError> {
        let path = self.path(index);
        let fail = |action, errno| on(action, self.lower.shown(&path))(errno);
        let listing = self
            .lower
            .listing(&path)
            .map_err(|errno| fail("open", errno))?;
        for name in names(&listing).map_err(|errno| fail("list", errno))? {
            if names_above.binary_search(&name).is_err()
                && let Some(old) =
                    look_at(listing.as_fd(), &name).map_err(|errno| fail("look into", errno))?
            {
                self.removed(index, name, old, visits);
            }
        }
        Ok(())
    }

    fn removed(
        &mut self,
        parent: Option<usize>,
        name: OsString,
        old: Meta,
        visits: &mut Vec<Visit>,
    ) {
        let index = self.found.push(Change {
            parent,
            name,
            status: Status::Removed,
            upper: None,
            lower: Some(old),
            whole: false,
            met: false,
            holds_changes: false,
        });
        if old.is_directory() {
            visits.push(Visit::Gone { index });
        }
    }

    fn failed(&self, action: &'static str, index: Option<usize>, errno: Errno) -> CowError {
        on(action, self.upper.shown(&self.path(index)))(errno)
    }

    fn failed_below(&self, action: &'static str, index: Option<usize>, errno: Errno) -> CowError {
        on(action, self.lower.shown(&self.path(index)))(errno)
    }

    /// Looks into a directory of the project that is gone in the layer.
    fn gone(&mut self, index: usize) -> Result<(), CowError> {
        let (parent, name) = self.place(Some(index));
        let last = self.last.take().filter(|last| Some(last.0) == parent);
        let opened = match (last.and_then(|last| last.2), &name) {
            (Some(directory), Some(name)) => listing_in(directory.as_fd(), name),
            _ => self.lower.listing(&self.found.path(index)),
        };
        let listing = match opened {
            Ok(listing) if may_search(&listing) => listing,
            Ok(_) | Err(Errno::ACCESS | Errno::XDEV) => {
                self.close(Some(index));
                return Ok(());
            }
            Err(errno) => return Err(self.failed_below("open", Some(index), errno)),
        };
        let mut visits = Vec::new();
        for name in
            names(&listing).map_err(|errno| self.failed_below("list", Some(index), errno))?
        {
            if let Some(old) = look_at(listing.as_fd(), &name)
                .map_err(|errno| self.failed_below("look into", Some(index), errno))?
            {
                self.removed(Some(index), name, old, &mut visits);
            }
        }
        self.last = Some((index, None, Some(listing)));
        self.stack.extend(visits.into_iter().rev());
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call, every argument of another type"
    )]
    fn entry(
        &mut self,
        parent: Option<usize>,
        name: &OsStr,
        meta: Meta,
        old: Option<Meta>,
        above: BorrowedFd<'_>,
        below: Option<&OwnedFd>,
        visits: &mut Vec<Visit>,
    ) -> Result<(), CowError> {
        if meta.whiteout {
            if let Some(old) = old {
                self.removed(parent, name.to_owned(), old, visits);
            }
            return Ok(());
        }
        let status = match old {
            _ if meta.is_special() => Status::Foreign,
            None => Status::Added,
            Some(old) if old.kind != meta.kind => Status::Retyped,
            Some(old) => {
                let below = below.map(|below| below.as_fd());
                match differences(name, &meta, &old, above, below) {
                    Ok(none) if none == Differences::default() => Status::Same,
                    Ok(some) => Status::Modified(some),
                    Err(Errno::ACCESS) => Status::Unreadable,
                    Err(errno) => {
                        let path = self.path(parent).join(name);
                        return Err(on("compare", self.lower.shown(&path))(errno));
                    }
                }
            }
        };
        let merged = meta.is_directory() && old.is_some_and(|old| old.is_directory());
        let index = self.found.push(Change {
            parent,
            name: name.to_owned(),
            status,
            upper: Some(meta),
            lower: old,
            whole: meta.is_directory() && !merged,
            met: parent
                .and_then(|parent| self.found.nodes.get(parent))
                .is_some_and(|parent| parent.met),
            holds_changes: false,
        });
        if meta.is_directory() {
            visits.push(Visit::Layer {
                index: Some(index),
                merged,
            });
        }
        if status == Status::Retyped && old.is_some_and(|old| old.is_directory()) {
            visits.push(Visit::Gone { index });
        }
        Ok(())
    }
}

/// Whether the caller may look names up in a directory. What fails otherwise says so itself.
pub(super) fn may_search(directory: &OwnedFd) -> bool {
    look_at(directory.as_fd(), OsStr::new("any")) != Err(Errno::ACCESS)
}

/// Compares two entries of one type: what cannot be opened counts by what its inode tells.
fn differences(
    name: &OsStr,
    meta: &Meta,
    old: &Meta,
    above: BorrowedFd<'_>,
    below: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<Differences> {
    let mut differs = Differences {
        content: !meta.is_directory() && meta.size != old.size,
        mode: old.has_mode() && old.plain_mode() != meta.plain_mode(),
        attributes: false,
        times: !meta.is_directory() && !meta.is_of_time(old),
    };
    let Some(below) = below else {
        return Ok(differs);
    };
    let opened = match meta.kind {
        EntryType::File => {
            open_file(above, name).and_then(|new| Ok((new, open_file(below, name)?)))
        }
        EntryType::Directory => {
            listing_in(above, name).and_then(|new| Ok((new, listing_in(below, name)?)))
        }
        _ => {
            let text = |directory| rustix::fs::readlinkat(directory, name, Vec::new());
            differs.content = text(above)? != text(below)?;
            return Ok(differs);
        }
    };
    let (new, old) = match opened {
        Ok(both) => both,
        // Closed directories are found when they are looked into.
        Err(Errno::ACCESS) if differs.content || meta.is_directory() => return Ok(differs),
        Err(errno) => return Err(errno),
    };
    let carried = |file: &OwnedFd| Ok(Attributes::read(file.as_fd())?.carried());
    differs.attributes = carried(&new)? != carried(&old)?;
    if meta.is_file() && !differs.content {
        differs.content = !same_content(new.as_fd(), old.as_fd(), meta.size)?;
    }
    Ok(differs)
}

/// Whether a directory of the layer stands for all of the one below it (`user.overlay.opaque`, kernel
/// `Documentation/filesystems/overlayfs.rst`).
fn is_opaque(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let mut value = [0_u8; 8];
    match rustix::fs::fgetxattr(directory, "user.overlay.opaque", &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether a directory has an attribute. The kernel gives `origin` to all that it copied up from below.
fn has(directory: &OwnedFd, name: &str) -> rustix::io::Result<bool> {
    let mut value = [0_u8; 256];
    match rustix::fs::fgetxattr(directory, name, &mut value) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}
