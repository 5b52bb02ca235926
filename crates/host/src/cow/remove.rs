//! Removes a tree that an agent filled: at any depth, with any modes, following nothing, needing two descriptors.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::CowError;
use super::on;

/// Removes `name` below `parent` and everything in it; what is not there is fine.
///
/// The tree must be out of everybody else's reach. A directory inside a directory is moved up to the top before it is
/// emptied, so that neither the depth of the tree nor the length of its paths matters; interrupted, the next call goes on.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &str) -> std::result::Result<(), CowError> {
    remove(parent, name).map_err(on("remove", name))
}

fn remove(parent: BorrowedFd<'_>, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let top = open(parent, OsStr::new(name))?;
    let mut moved = 0_u64;
    loop {
        let mut inner: Vec<CString> = Vec::new();
        for (name, is_directory) in entries(&top)? {
            let path = OsStr::from_bytes(name.to_bytes());
            if !is_directory {
                rustix::fs::unlinkat(&top, path, AtFlags::empty())?;
                continue;
            }
            inner.push(name);
        }
        if inner.is_empty() {
            break;
        }
        for name in inner {
            let path = OsStr::from_bytes(name.to_bytes());
            let directory = open(top.as_fd(), path)?;
            for (below, is_directory) in entries(&directory)? {
                let below = OsStr::from_bytes(below.to_bytes());
                if !is_directory {
                    rustix::fs::unlinkat(&directory, below, AtFlags::empty())?;
                    continue;
                }
                // Renaming a directory writes its `..`, so it has to be writable itself.
                let _ = open(directory.as_fd(), below)?;
                loop {
                    moved += 1;
                    let free = format!(".rcc-removing-{moved}");
                    match rustix::fs::renameat_with(
                        &directory,
                        below,
                        &top,
                        free.as_str(),
                        rustix::fs::RenameFlags::NOREPLACE,
                    ) {
                        Err(Errno::EXIST) => continue,
                        other => break other?,
                    }
                }
            }
            rustix::fs::unlinkat(&top, path, AtFlags::REMOVEDIR)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Opens a directory for listing, giving its owner back the rights to do so.
fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let list = || rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve);
    let directory = match list() {
        Err(Errno::ACCESS) => {
            // fchmodat(2) follows links, /proc/self/fd leads to what is open and nothing else.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let closed = rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)?;
            let path = format!("/proc/self/fd/{}", closed.as_raw_fd());
            rustix::fs::chmodat(CWD, path, Mode::RWXU, AtFlags::empty())?;
            list()?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

fn entries(directory: &OwnedFd) -> Result<Vec<(CString, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Unknown => {
                let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(status.st_mode) == FileType::Directory
            }
            kind => kind == FileType::Directory,
        };
        found.push((name.to_owned(), is_directory));
    }
    Ok(found)
}
