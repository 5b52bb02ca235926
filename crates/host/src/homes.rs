//! The agent homes as their owner sees them: which there are, how large they are, and how one is taken away.
//!
//! A run holds a shared lock (flock(2)) on a file of the home in rcc's state directory, which no agent can reach; the kernel
//! gives it back whatever way the supervisor ends. Everything in a home was made by an agent: names are looked up relative
//! to descriptors, no link is followed, no file is opened. Must not print.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcc_plan::SafeBytes;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    UTIME_NOW,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cow::{CowError, Tree, remove_tree};
use crate::directories::{Directories, DirectoryError, open_private};
use crate::files::{FileError, read_text};

/// Most entries of a home that are counted.
const ENTRY_LIMIT: u64 = 2_000_000;
/// Most bytes of paths that are kept while counting: many directories far down have long ones.
const PATHS_LIMIT_BYTES: usize = 64 << 20;
/// Longest time that is spent on counting.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How the name of a home that is being removed begins. No home has such a name.
const REMOVING: &str = ".removing-";
/// Largest import record, in bytes.
const RECORD_LIMIT: usize = 32 << 20;

/// An agent home that cannot be looked at or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// The name would leave the directory of agent homes.
    #[error("{} is not a name for an agent home", rcc_plan::escape(name))]
    Name {
        /// The name.
        name: String,
    },
    /// There is no such home.
    #[error("there is no agent home {}", rcc_plan::escape(name))]
    Unknown {
        /// The name.
        name: String,
    },
    /// A run has it as its home.
    #[error("a run uses the agent home {}", rcc_plan::escape(name))]
    InUse {
        /// The name.
        name: String,
    },
    /// A directory of rcc's own is unusable.
    #[error("cannot open the directory of the agent homes")]
    Directory(#[source] DirectoryError),
    /// The note of what was imported cannot be read.
    #[error("cannot read what was imported")]
    Record(#[source] FileError),
    /// A call failed.
    #[error("cannot {action} {}", rcc_plan::escape(path))]
    Call {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// It is out of the way, and a part of it is still there.
    #[error("cannot remove all of the agent home {}", rcc_plan::escape(name))]
    Remove {
        /// The name.
        name: String,
        /// What could not be removed.
        #[source]
        source: CowError,
    },
}

fn on(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> HomeError {
    move |errno| HomeError::Call {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}

/// Names of agent homes: one path component that cannot be mistaken for an option or a hidden file.
pub(crate) fn is_home_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with(['.', '-'])
}

/// What keeps a home from being removed. It lasts until it is dropped, in whichever process.
#[derive(Debug)]
pub struct HomeLock(OwnedFd);

/// Closing would not be enough: a child that another thread just forked has the open file, too, until it executes its
/// program.
impl Drop for HomeLock {
    fn drop(&mut self) {
        // Of an open file this does not fail.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl HomeLock {
    /// Takes the part of the lock that runs share, and notes the time.
    pub(crate) fn share(directories: &Directories, name: &str) -> Result<Self, HomeError> {
        let (path, lock) = lock_file(directories, name)?;
        // A home that is being reset is locked for the moment of its renaming only.
        rustix::fs::flock(&lock.0, FlockOperation::LockShared).map_err(on("lock", &path))?;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::futimens(&lock.0, &times).map_err(on("note the time in", &path))?;
        Ok(lock)
    }
}

/// Opens the file whose lock stands for a home. It is never removed, or two processes would lock different files.
fn lock_file(directories: &Directories, name: &str) -> Result<(PathBuf, HomeLock), HomeError> {
    let locks = directories.state.join("homes");
    let directory = open_private(&locks).map_err(HomeError::Directory)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = locks.join(name);
    let file = rustix::fs::openat(&directory, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(on("open", &path))?;
    Ok((path, HomeLock(file)))
}

/// What the first run copied into a home.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImportRecord {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Files, relative to the home.
    pub copied: Vec<SafeBytes>,
    /// Links and special files that were left out.
    pub skipped: Vec<SafeBytes>,
}

/// One agent home.
#[derive(Debug)]
pub struct Home {
    /// Its name; the directory is rcc's own, but what else was put there may be called anything.
    pub name: OsString,
    /// Where it is.
    pub path: PathBuf,
    /// When the last run with it began, in seconds since the epoch; none when no run is known of.
    pub last_used_s: Option<i64>,
}

/// How much a home holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Files, directories and everything else in it.
    pub entries: u64,
    /// What it takes of the disk, in bytes; a file with several names counts once.
    pub bytes: u64,
    /// Directories that could not be listed, and entries of such that could not be looked at.
    pub closed: u64,
    /// A bound was hit: there is more.
    pub stopped: bool,
}

/// Every agent home, by name.
///
/// # Errors
/// The directory of the homes cannot be read.
pub fn homes(directories: &Directories) -> Result<Vec<Home>, HomeError> {
    let top = top(directories);
    let mut found = Vec::new();
    for name in names(&top)? {
        if !name.as_bytes().starts_with(b".") {
            found.push(describe(directories, name));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// One agent home.
///
/// # Errors
/// There is none of that name.
pub fn home(directories: &Directories, name: &str) -> Result<Home, HomeError> {
    check(name)?;
    let path = directories.agent_home(name);
    match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(describe(directories, name.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(HomeError::Unknown {
            name: name.to_owned(),
        }),
        Err(errno) => Err(on("look at", &path)(errno)),
    }
}

/// What was imported into a home; none when nothing was yet, or it was before this was noted.
///
/// # Errors
/// The note cannot be read.
pub fn imported(directories: &Directories, name: &str) -> Result<Option<ImportRecord>, HomeError> {
    check(name)?;
    let path = directories.state.join("imported").join(name);
    let content = read_text(&path, RECORD_LIMIT).map_err(HomeError::Record)?;
    Ok(content.and_then(|content| serde_json::from_str(&content.text).ok()))
}

/// Measures a home. What changes meanwhile is counted as it was met.
///
/// # Errors
/// The home itself cannot be opened.
pub fn size(home: &Home) -> Result<Size, HomeError> {
    let deadline = Instant::now() + TIME_LIMIT;
    tree_size(&home.path, &|| Instant::now() > deadline).map_err(on("open", &home.path))
}

/// Measures a tree of the agent's, until `is_over`. What changes meanwhile is counted as it was met.
///
/// # Errors
/// The tree itself cannot be opened.
pub fn tree_size(path: &Path, is_over: &dyn Fn() -> bool) -> rustix::io::Result<Size> {
    let tree = Tree::open(path)?;
    let mut size = Size::default();
    let mut seen: HashSet<u64> = HashSet::new();
    let mut waiting = vec![PathBuf::new()];
    let mut waiting_bytes = 0_usize;
    while let Some(path) = waiting.pop() {
        waiting_bytes -= path.as_os_str().len();
        let listing = tree.listing(&path);
        let opened = listing.and_then(|listing| Ok((Dir::read_from(&listing)?, listing)));
        let (entries, listing) = match opened {
            Ok(opened) => opened,
            // Gone, or something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(_) => {
                size.closed += 1;
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if size.entries >= ENTRY_LIMIT || is_over() {
                size.stopped = true;
                return Ok(size);
            }
            size.entries += 1;
            let status = match rustix::fs::statat(&listing, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => status,
                Err(Errno::NOENT) => continue,
                // Closed after it was opened.
                Err(_) => {
                    size.closed += 1;
                    continue;
                }
            };
            if status.st_nlink == 1 || seen.insert(status.st_ino) {
                // stat(2): blocks of 512 bytes, whatever the file system's own are.
                let blocks = u64::try_from(status.st_blocks).unwrap_or(0);
                size.bytes = size.bytes.saturating_add(blocks.saturating_mul(512));
            }
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                let path = path.join(name);
                waiting_bytes += path.as_os_str().len();
                if waiting_bytes > PATHS_LIMIT_BYTES {
                    size.stopped = true;
                    return Ok(size);
                }
                waiting.push(path);
            }
        }
    }
    Ok(size)
}

/// Removes a home, so that the next run begins with a fresh one and imports again.
///
/// It is renamed out of the way in one step, which is all that a run has to wait for; then it is emptied. Interrupted, the home
/// is there whole or not at all, and the next call removes what is left.
///
/// # Errors
/// A run uses it, there is none, or something cannot be removed.
pub fn reset(directories: &Directories, name: &str) -> Result<(), HomeError> {
    check(name)?;
    let top = top(directories);
    let parent = match open_private(&top) {
        Ok(parent) => parent,
        Err(error) => return Err(HomeError::Directory(error)),
    };
    let finished = sweep(directories, &parent)?;
    let moved = {
        let (path, lock) = lock_file(directories, name)?;
        match rustix::fs::flock(&lock.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(HomeError::InUse {
                    name: name.to_owned(),
                });
            }
            Err(errno) => return Err(on("lock", &path)(errno)),
        }
        move_away(directories, &parent, name)?
    };
    if moved {
        sweep(directories, &parent)?;
    } else if !finished.iter().any(|finished| finished == name) {
        return Err(HomeError::Unknown {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Forgets what was imported and renames the home; false when there is none.
///
/// In this order: interrupted between the two, the next run imports what is missing into the home as it was.
fn move_away(directories: &Directories, parent: &OwnedFd, name: &str) -> Result<bool, HomeError> {
    let path = directories.agent_home(name);
    if matches!(
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW),
        Err(Errno::NOENT)
    ) {
        return Ok(false);
    }
    let marker = directories.state.join("imported").join(name);
    match rustix::fs::unlinkat(CWD, &marker, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(on("remove", &marker)(errno)),
    }
    for number in 0_u32.. {
        let away = format!("{REMOVING}{number}-{name}");
        match rustix::fs::renameat_with(parent, name, parent, &away, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(on("rename", &path)(errno)),
        }
    }
    Ok(false)
}

/// Removes the homes that were renamed out of the way; their names.
fn sweep(directories: &Directories, parent: &OwnedFd) -> Result<Vec<String>, HomeError> {
    let (path, lock) = lock_file(directories, REMOVING)?;
    // Of two at once the second waits: it may have a home of its own to remove.
    rustix::fs::flock(&lock.0, FlockOperation::LockExclusive).map_err(on("lock", &path))?;
    let mut finished = Vec::new();
    for away in names(&top(directories))? {
        let Some(away) = away.to_str().filter(|away| away.starts_with(REMOVING)) else {
            continue;
        };
        let name = away.trim_start_matches(REMOVING);
        let name = name.split_once('-').map_or(name, |(_, name)| name);
        remove_tree(parent.as_fd(), away).map_err(|source| HomeError::Remove {
            name: name.to_owned(),
            source,
        })?;
        finished.push(name.to_owned());
    }
    Ok(finished)
}

fn check(name: &str) -> Result<(), HomeError> {
    if is_home_name(name) {
        return Ok(());
    }
    Err(HomeError::Name {
        name: name.to_owned(),
    })
}

fn describe(directories: &Directories, name: OsString) -> Home {
    let lock = directories.state.join("homes").join(&name);
    let used = rustix::fs::statat(CWD, &lock, AtFlags::SYMLINK_NOFOLLOW);
    Home {
        path: top(directories).join(&name),
        name,
        last_used_s: used.ok().map(|status| status.st_mtime),
    }
}

fn top(directories: &Directories) -> PathBuf {
    directories.data.join("homes")
}

/// Names in a directory; none when it does not exist.
fn names(directory: &Path) -> Result<Vec<OsString>, HomeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let listing = match rustix::fs::openat(CWD, directory, flags, Mode::empty()) {
        Ok(listing) => listing,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(on("open", directory)(errno)),
    };
    let entries = Dir::read_from(&listing).map_err(on("list", directory))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(on("list", directory))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            found.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
