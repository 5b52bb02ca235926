//! A directory tree that someone else may be changing: every look-up starts at its descriptor, follows no link of any
//! kind, enters no other file system, and works at any depth.

mod cursor;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::meta::Meta;
use cursor::Cursor;

pub(crate) const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The tree below one directory.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
    cursor: RefCell<Cursor>,
}

impl Tree {
    /// Opens the tree below `path`, whose last component must not be a link.
    ///
    /// # Errors
    /// What open(2) answers.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::openat(CWD, path, flags, Mode::empty())?,
            path: path.to_owned(),
            cursor: RefCell::default(),
        })
    }

    /// The path of an entry, for messages.
    #[must_use]
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }

    /// The directory itself, open as a location.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory to look names up in it.
    pub(crate) fn location(&self, path: &Path) -> Result<OwnedFd> {
        self.cursor.borrow_mut().location(self.root.as_fd(), path)
    }

    /// Opens a directory to list it.
    pub(crate) fn listing(&self, path: &Path) -> Result<OwnedFd> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => listing_in(self.location(parent)?.as_fd(), name),
            _ if path.as_os_str().is_empty() => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&self.root, ".", flags, Mode::empty())
            }
            _ => Err(Errno::INVAL),
        }
    }
}

/// Gives the caller back rights (of `0o700`) in a directory of his own; whether any were missing. Its mode may have kept
/// even him out, and `fchmod(2)` takes no location, so this goes through the descriptor's own entry in `/proc`.
pub(crate) fn open_up(tree: &Tree, path: &Path, rights: u32) -> Result<bool> {
    // Looking the top up in itself would need a right that may be missing.
    let directory = match path.as_os_str().is_empty() {
        true => rustix::io::fcntl_dupfd_cloexec(&tree.root, 0)?,
        false => tree.location(path)?,
    };
    let status = rustix::fs::fstat(&directory)?;
    let own = rustix::process::geteuid().as_raw();
    if status.st_uid != own || status.st_mode & rights == rights {
        return Ok(false);
    }
    let entry = format!("/proc/self/fd/{}", directory.as_raw_fd());
    rustix::fs::chmod(
        entry,
        Mode::from_raw_mode((status.st_mode | rights) & 0o7777),
    )?;
    Ok(true)
}

/// Opens a directory in a directory to list it.
pub(crate) fn listing_in(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), RESOLVE)
}

/// Opens a directory in a directory to look names up in it.
pub(crate) fn location_in(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), RESOLVE)
}

/// Looks at a name in a directory; `None` when there is none.
pub(crate) fn look_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Meta>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(Some(Meta::from(&status))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a regular file for reading. A FIFO put in its place makes nobody wait, a device is not touched: what it is, is
/// looked at through a location before it is opened.
pub(crate) fn open_file(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let location = rustix::fs::openat2(
        directory,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        RESOLVE,
    )?;
    let before = rustix::fs::fstat(&location)?;
    if !Meta::from(&before).is_file() {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let file = rustix::fs::openat2(
        directory,
        name,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        RESOLVE,
    )?;
    let opened = rustix::fs::fstat(&file)?;
    // Another file took the name in between: whoever did that can try again.
    if (opened.st_dev, opened.st_ino) != (before.st_dev, before.st_ino) {
        return Err(Errno::AGAIN);
    }
    Ok(file)
}
