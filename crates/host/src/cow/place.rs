//! Putting one entry into the project: made under a temporary name in the same directory, then exchanged with what is
//! there in one call. What comes back from the exchange is looked at: when it is not what was expected, it goes back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};

use super::attributes::Attributes;
use super::beneath::{listing_in, look_at};
use super::compare::next_data;
use super::{Meta, Tree};

const BLOCK: usize = 1 << 20;

/// Whether it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It did.
    Yes,
    /// Something else was there; nothing changed.
    Other,
}

/// What else a new entry gets besides its content.
#[derive(Debug)]
pub(crate) struct Looks<'a> {
    pub(crate) mode: u32,
    /// Owner and group, where they can be given.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) attributes: &'a Attributes,
    /// The entry whose times it gets.
    pub(crate) times: &'a Meta,
    /// Whether a new file is written to the disk at once.
    pub(crate) synchronise: bool,
}

/// Removes what an interrupted attempt left under a temporary name.
pub(crate) fn clear(directory: BorrowedFd<'_>, temporary: &str) -> Result<()> {
    match rustix::fs::unlinkat(directory, temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            rustix::fs::unlinkat(directory, temporary, AtFlags::REMOVEDIR)
        }
        Err(errno) => Err(errno),
    }
}

/// Copies an open file to a new file under a temporary name.
pub(crate) fn stage_file(
    directory: BorrowedFd<'_>,
    temporary: &str,
    source: &OwnedFd,
    looks: &Looks<'_>,
) -> Result<()> {
    clear(directory, temporary)?;
    let file = create(directory, temporary)?;
    copy(source.as_fd(), file.as_fd())?;
    dress(file.as_fd(), looks)?;
    if looks.synchronise {
        rustix::fs::fsync(&file)?;
    }
    Ok(())
}

/// Makes a directory under a temporary name.
pub(crate) fn stage_directory(directory: BorrowedFd<'_>, temporary: &str) -> Result<()> {
    clear(directory, temporary)?;
    rustix::fs::mkdirat(directory, temporary, Mode::RWXU)
}

/// Makes a symbolic link under a temporary name, with the times of `looks_like`.
pub(crate) fn stage_link(
    directory: BorrowedFd<'_>,
    temporary: &str,
    text: &Path,
    looks_like: &Meta,
) -> Result<()> {
    clear(directory, temporary)?;
    rustix::fs::symlinkat(text, directory, temporary)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(directory, temporary, &times(looks_like), flags)
}

fn create(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Gives owner, mode, attributes and times, in the order in which none undoes another.
pub(crate) fn dress(file: BorrowedFd<'_>, looks: &Looks<'_>) -> Result<()> {
    if let Some((uid, gid)) = looks.owner {
        let own = rustix::fs::fstat(file)?;
        if (own.st_uid, own.st_gid) != (uid, gid) {
            // A group that the caller is no member of, or another owner: then it stays the caller's.
            let _ = rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    }
    looks.attributes.write(file)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(looks.mode))?;
    rustix::fs::futimens(file, &times(looks.times))
}

/// The times of an entry, to be given to another.
pub(crate) fn times(meta: &Meta) -> Timestamps {
    let time = |time: super::meta::Time| Timespec {
        tv_sec: time.0,
        tv_nsec: time.1,
    };
    Timestamps {
        last_access: time(meta.accessed),
        last_modification: time(meta.modified),
    }
}

/// Copies the content of a file: shares its blocks where the file system can (`FICLONE`, `ioctl_ficlone(2)`), keeps holes.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(rustix::fs::fstat(from)?.st_size).unwrap_or(0);
    rustix::fs::ftruncate(to, size)?;
    let mut buffer = vec![0_u8; BLOCK];
    let mut at = 0_u64;
    while let Some(piece) = next_data(from, at, size)? {
        at = piece.start;
        while at < piece.end {
            let most = usize::try_from(piece.end - at).unwrap_or(BLOCK).min(BLOCK);
            let part = buffer.get_mut(..most).unwrap_or_default();
            let read = match rustix::io::pread(from, &mut *part, at) {
                Err(Errno::INTR) => continue,
                read => read?,
            };
            if read == 0 {
                return Ok(());
            }
            let mut rest = part.get(..read).unwrap_or_default();
            while !rest.is_empty() {
                match rustix::io::pwrite(to, rest, at) {
                    Err(Errno::INTR) => {}
                    Ok(written) => {
                        at += written as u64;
                        rest = rest.get(written..).unwrap_or_default();
                    }
                    Err(errno) => return Err(errno),
                }
            }
        }
    }
    Ok(())
}

/// Copies a file of the project into the undo store.
pub(crate) fn keep(
    source: &OwnedFd,
    store: BorrowedFd<'_>,
    name: &str,
    synchronise: bool,
) -> Result<()> {
    clear(store, name)?;
    let file = create(store, name)?;
    copy(source.as_fd(), file.as_fd())?;
    if synchronise {
        rustix::fs::fsync(&file)?;
    }
    Ok(())
}

/// Writes a new file of the undo store.
pub(crate) fn keep_bytes(
    bytes: &[u8],
    store: BorrowedFd<'_>,
    name: &str,
    synchronise: bool,
) -> std::io::Result<()> {
    clear(store, name)?;
    let mut file = std::fs::File::from(create(store, name)?);
    std::io::Write::write_all(&mut file, bytes)?;
    if synchronise {
        file.sync_all()?;
    }
    Ok(())
}

/// Writes the names in directories to the disk: of a few one by one, of many with everything else on their file system,
/// which others may be writing to.
pub(crate) fn synchronise<'a>(tree: &Tree, names: impl Iterator<Item = &'a Path>) -> Result<()> {
    let directories = names.filter_map(Path::parent).map(Path::as_os_str);
    let directories: BTreeSet<&OsStr> = directories.collect();
    if directories.len() > FEW {
        return rustix::fs::syncfs(tree.listing(Path::new(""))?);
    }
    for directory in directories {
        match tree.listing(Path::new(directory)) {
            Ok(directory) => rustix::fs::fsync(&directory)?,
            // Gone meanwhile, or closed to its owner: then what is above it.
            Err(_) => rustix::fs::syncfs(tree.listing(Path::new(""))?)?,
        }
    }
    Ok(())
}

/// How many are few.
pub(crate) const FEW: usize = 64;

/// Puts what is under the temporary name where `name` is, if what is there is still `before`.
///
/// What was there is then under the temporary name, and the caller's to take away.
pub(crate) fn exchange(
    directory: BorrowedFd<'_>,
    temporary: &str,
    name: &OsStr,
    before: &Meta,
) -> Result<Placed> {
    match swap(directory, temporary, name) {
        Ok(()) => {}
        Err(Errno::NOENT) => {
            clear(directory, temporary)?;
            return Ok(Placed::Other);
        }
        Err(Errno::INVAL | Errno::NOSYS) => {
            return replace_where_nothing_exchanges(directory, temporary, name, before);
        }
        Err(errno) => return Err(errno),
    }
    let back = look_at(directory, OsStr::new(temporary))?;
    if back.is_some_and(|back| back.is_same_object(before)) {
        return Ok(Placed::Yes);
    }
    swap(directory, temporary, name)?;
    clear(directory, temporary)?;
    Ok(Placed::Other)
}

/// Exchanges two names.
pub(crate) fn swap(directory: BorrowedFd<'_>, one: &str, other: &OsStr) -> Result<()> {
    rustix::fs::renameat_with(directory, one, directory, other, RenameFlags::EXCHANGE)
}

/// As [`exchange`] on a file system without `RENAME_EXCHANGE` (NFS, FAT): an edit in the moment between looking and renaming
/// would be lost there, so what is to be kept was copied before.
fn replace_where_nothing_exchanges(
    directory: BorrowedFd<'_>,
    temporary: &str,
    name: &OsStr,
    before: &Meta,
) -> Result<Placed> {
    let found = look_at(directory, name)?;
    if before.is_directory() || !found.is_some_and(|found| found.is_same_object(before)) {
        clear(directory, temporary)?;
        return Ok(Placed::Other);
    }
    rustix::fs::renameat(directory, temporary, directory, name)?;
    Ok(Placed::Yes)
}

/// Puts what is under the temporary name where nothing is.
pub(crate) fn settle(directory: BorrowedFd<'_>, temporary: &str, name: &OsStr) -> Result<Placed> {
    match rustix::fs::renameat_with(
        directory,
        temporary,
        directory,
        name,
        RenameFlags::NOREPLACE,
    ) {
        Ok(()) => Ok(Placed::Yes),
        Err(Errno::EXIST) => {
            clear(directory, temporary)?;
            Ok(Placed::Other)
        }
        Err(errno) => Err(errno),
    }
}

/// Takes an entry to its temporary name, if it is still `before`.
pub(crate) fn take(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    temporary: &str,
    before: &Meta,
) -> Result<Placed> {
    clear(directory, temporary)?;
    let moved = rustix::fs::renameat_with(
        directory,
        name,
        directory,
        temporary,
        RenameFlags::NOREPLACE,
    );
    match moved {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Placed::Other),
        Err(errno) => return Err(errno),
    }
    let taken = look_at(directory, OsStr::new(temporary))?;
    if taken.is_some_and(|taken| taken.is_same_object(before)) {
        return Ok(Placed::Yes);
    }
    rustix::fs::renameat_with(
        directory,
        temporary,
        directory,
        name,
        RenameFlags::NOREPLACE,
    )?;
    Ok(Placed::Other)
}

/// Gives a file or directory another mode, and these attributes if there are any, if it is still the one that is meant.
pub(crate) fn change_looks(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    meta: &Meta,
    mode: u32,
    attributes: Option<&Attributes>,
) -> Result<Placed> {
    let file = if meta.is_directory() {
        listing_in(directory, name)?
    } else {
        super::beneath::open_file(directory, name)?
    };
    let found = Meta::from(&rustix::fs::fstat(&file)?);
    if !found.is_same_object(meta) {
        return Ok(Placed::Other);
    }
    if let Some(attributes) = attributes {
        attributes.write(file.as_fd())?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(Placed::Yes)
}
