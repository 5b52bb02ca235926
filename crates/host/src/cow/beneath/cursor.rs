//! Where the last look-up in a tree led: the next one is mostly near, and a walk from the top costs the more the deeper
//! it leads.
//!
//! Theory of operation. The cursor keeps the last path and the descriptors of the directories at its end, at most
//! [`KEPT`] of them. A look-up goes on from the deepest of them that is on its own path, one `openat2(2)` for each
//! component below it. Whoever may rename directories in the tree could move one of those on the way meanwhile, so
//!
//! 1. the directory that a look-up goes on from is looked up again in the one above it, and has to be the same;
//! 2. after [`LOOKUPS`] look-ups or [`FRESH`] the next one starts at the top, as if nothing had been kept.
//!
//! A directory that was moved within that time is still one of the same file system that was in the tree, reached through no
//! link: what one look-up from the top would give as well to whoever is slow in using it. Must not keep a directory for a
//! path that was not walked, component by component, with the flags of [`super::RESOLVE`].

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::location_in;

/// Most descriptors that are kept.
const KEPT: usize = 64;
/// Look-ups after which a walk starts at the top again.
const LOOKUPS: u32 = 64;
/// Time after which a walk starts at the top again.
const FRESH: Duration = Duration::from_millis(100);
/// Longest part of a path that one call gets, in bytes; the kernel takes 4096.
const PART_BYTES: usize = 3000;

/// A directory of the last path.
#[derive(Debug)]
struct Level {
    /// Where its name begins and ends in the path.
    name: Range<usize>,
    directory: OwnedFd,
    /// Device and inode.
    identity: (u64, u64),
}

/// The end of the last path.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    path: OsString,
    /// Consecutive, outermost first.
    levels: Vec<Level>,
    lookups: u32,
    since: Option<Instant>,
}

impl Cursor {
    /// Opens a directory as a location.
    pub(super) fn location(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            return rustix::fs::openat(root, ".", flags, Mode::empty());
        }
        self.lookups += 1;
        let is_fresh =
            self.lookups < LOOKUPS && self.since.is_some_and(|since| since.elapsed() < FRESH);
        if is_fresh {
            self.keep_common(path.as_os_str());
        }
        if !is_fresh || !self.is_in_place(root) {
            self.levels.clear();
            self.lookups = 0;
            self.since = Some(Instant::now());
        }
        self.go_on(root, path)
    }

    /// Forgets the directories that are not on the way to a path.
    fn keep_common(&mut self, path: &OsStr) {
        let (old, new) = (self.path.as_bytes(), path.as_bytes());
        let is_on_way = |level: &Level| {
            let way = old.get(..level.name.end).unwrap_or_default();
            new.starts_with(way) && new.get(way.len()).is_none_or(|byte| *byte == b'/')
        };
        while self.levels.last().is_some_and(|level| !is_on_way(level)) {
            self.levels.pop();
        }
    }

    /// Whether the last directory is still where it was in the one above it.
    fn is_in_place(&self, root: BorrowedFd<'_>) -> bool {
        let (above, last) = match self.levels.as_slice() {
            [.., above, last] => (above.directory.as_fd(), last),
            [last] if last.name.start == 0 => (root, last),
            // The one above it is not kept any more.
            _ => return false,
        };
        let name = self.path.as_bytes().get(last.name.clone());
        let name = OsStr::from_bytes(name.unwrap_or_default());
        rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == last.identity)
    }

    /// Opens what is below the last directory, one after the other, and keeps the end of it.
    fn go_on(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
        let bytes = path.as_os_str().as_bytes();
        let from = self.levels.last().map_or(0, |level| level.name.end);
        let names = names(bytes, from)?;
        self.path.clear();
        self.path.push(path);
        let mut top = None;
        let mut names = names.as_slice();
        if names.len() > KEPT {
            let (first, last) = names.split_at(names.len() - KEPT / 2);
            let from = self
                .levels
                .last()
                .map_or(root, |level| level.directory.as_fd());
            top = Some(far(from, bytes, first)?);
            self.levels.clear();
            names = last;
        }
        for name in names {
            let above = self.levels.last().map(|level| level.directory.as_fd());
            let above = above.or_else(|| top.as_ref().map(|top| top.as_fd()));
            let text = OsStr::from_bytes(bytes.get(name.clone()).unwrap_or_default());
            let directory = location_in(above.unwrap_or(root), text)?;
            let found = rustix::fs::fstat(&directory)?;
            if self.levels.len() == KEPT {
                self.levels.remove(0);
            }
            self.levels.push(Level {
                name: name.clone(),
                directory,
                identity: (found.st_dev, found.st_ino),
            });
        }
        let last = self.levels.last().ok_or(Errno::NOENT)?;
        rustix::io::fcntl_dupfd_cloexec(&last.directory, 0)
    }
}

/// Where the names of a path are, from a byte on. They come from directory listings: anything else is not resolved at all.
fn names(path: &[u8], from: usize) -> Result<Vec<Range<usize>>> {
    if path.first() == Some(&b'/') {
        return Err(Errno::NOENT);
    }
    let mut names = Vec::new();
    let mut start = from;
    for part in path
        .get(from..)
        .unwrap_or_default()
        .split(|byte| *byte == b'/')
    {
        match part {
            b"" | b"." => {}
            b".." => return Err(Errno::NOENT),
            _ => names.push(start..start + part.len()),
        }
        start += part.len() + 1;
    }
    Ok(names)
}

/// Opens a directory far below another one with as few calls as can take its path.
fn far(from: BorrowedFd<'_>, path: &[u8], names: &[Range<usize>]) -> Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut rest = names;
    while let Some(first) = rest.first() {
        let fits = |name: &Range<usize>| name.end - first.start <= PART_BYTES;
        let count = rest.iter().take_while(|name| fits(name)).count().max(1);
        let (part, after) = rest.split_at(count);
        let end = part.last().map_or(first.end, |last| last.end);
        let text = OsStr::from_bytes(path.get(first.start..end).unwrap_or_default());
        at = Some(location_in(
            at.as_ref().map_or(from, |at| at.as_fd()),
            text,
        )?);
        rest = after;
    }
    at.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests;
