//! Snapshots of direct runs: how a project was before an agent worked on it, in the record of the run.
//!
//! `snapshot/data` holds the content of every file, `snapshot/index.json` everything else; that file is written last, so
//! that a directory without it is of a snapshot that was never finished. When the run ended, what differs is written down
//! as if it were an apply (`undo/1` in the record, with the mark `direct`), the old content of what differs moves there, and the rest
//! goes. So `rcc undo` is the same for both. Must not open a FIFO, socket or device, and must not follow a link.

mod close;
mod compare;
mod copy;
mod show;
mod take;
mod walk;

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rcc_plan::SafeBytes;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use super::meta::Time;
use super::{Base, CowError, EntryType, Meta, on, remove_tree};

#[cfg(test)]
pub(super) use close::close_within;
pub use close::{Closed, close};
pub use show::{DirectChange, DirectChanges, direct_changes};
pub use take::{Request, Taken, take};

/// Name of the snapshot in a record.
const NAME: &str = "snapshot";
const DATA: &str = "data";
const INDEX: &str = "index.json";
/// Most entries of a project: what an index in memory and in one file is still good for.
const ENTRIES: usize = 1_000_000;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// One entry of the project. The first is the project itself, those of one directory stand together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
struct Kept {
    /// The directory that it is in.
    parent: usize,
    name: SafeBytes,
    meta: Meta,
    /// Text of a symbolic link.
    link: Option<SafeBytes>,
    attributes: Attributes,
    /// Which file of `data` has its content; names of one file share it.
    data: Option<usize>,
}

/// As it is written: a name for every number would be most of the index.
#[derive(Serialize, Deserialize)]
struct Row(
    usize,
    SafeBytes,
    EntryType,
    [u32; 3],
    [u64; 4],
    [Time; 3],
    Option<SafeBytes>,
    Attributes,
    Option<usize>,
);

impl From<Row> for Kept {
    fn from(row: Row) -> Self {
        let Row(parent, name, kind, [mode, uid, gid], numbers, times, link, attributes, data) = row;
        let [size, device, inode, links] = numbers;
        let [accessed, modified, changed] = times;
        Self {
            parent,
            name,
            meta: Meta {
                kind,
                mode,
                uid,
                gid,
                size,
                device,
                inode,
                links,
                accessed,
                modified,
                changed,
                whiteout: false,
            },
            link,
            attributes,
            data,
        }
    }
}

impl From<Kept> for Row {
    fn from(kept: Kept) -> Self {
        let meta = kept.meta;
        Self(
            kept.parent,
            kept.name,
            meta.kind,
            [meta.mode, meta.uid, meta.gid],
            [meta.size, meta.device, meta.inode, meta.links],
            [meta.accessed, meta.modified, meta.changed],
            kept.link,
            kept.attributes,
            kept.data,
        )
    }
}

/// What `index.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    base: Base,
    entries: Vec<Kept>,
    /// Hidden in the sandbox, special, or changing while they were copied: never compared, never restored.
    omitted: Vec<SafeBytes>,
}

/// The path of an entry, relative to the project.
fn path_of(entries: &[Kept], index: usize) -> PathBuf {
    let mut names = Vec::new();
    let mut at = index;
    while let Some(kept) = entries.get(at).filter(|_| at != 0) {
        names.push(kept.name.as_path());
        at = kept.parent;
    }
    names.iter().rev().collect()
}

/// A snapshot on disk.
#[derive(Debug)]
struct Snapshot {
    path: PathBuf,
    directory: OwnedFd,
    index: Index,
}

impl Snapshot {
    /// Opens the finished snapshot in a record.
    fn open(record: &Path) -> Result<Option<Self>, CowError> {
        let path = record.join(NAME);
        let directory = match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(on("open", &path)(errno)),
        };
        let shown = path.join(INDEX);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&directory, INDEX, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(on("open", &shown)(errno)),
        };
        let index =
            serde_json::from_reader(BufReader::with_capacity(1 << 20, file)).map_err(|source| {
                CowError::Description {
                    path: shown,
                    source,
                }
            })?;
        Ok(Some(Self {
            path,
            directory,
            index,
        }))
    }

    /// The directory of contents.
    fn data(&self) -> Result<OwnedFd, CowError> {
        rustix::fs::openat(&self.directory, DATA, DIRECTORY, Mode::empty())
            .map_err(on("open", self.path.join(DATA)))
    }
}

/// What a record holds of a direct run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Part of a snapshot that was never finished: the agent never started.
    Part,
    /// A snapshot; the run lasts, or its end was not recorded.
    Snapshot,
    /// What the run changed, with what was there before.
    Changes,
    /// The same, taken back already.
    Undone,
}

/// What a record holds of a direct run; looks at hardly more than names.
///
/// # Errors
/// The record cannot be looked into.
pub fn held(record: &Path) -> Result<Option<Held>, CowError> {
    let has = |name: &str| {
        let path = record.join(name);
        match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(on("look at", &path)(errno)),
        }
    };
    Ok(if has("undo/1/direct")? {
        Some(if super::undo::is_undone(record)? {
            Held::Undone
        } else {
            Held::Changes
        })
    } else if has("snapshot/index.json")? {
        Some(Held::Snapshot)
    } else if has(NAME)? {
        Some(Held::Part)
    } else {
        None
    })
}

/// Removes what a record holds of a direct run; interrupted, the same call goes on.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(record: &Path) -> Result<(), CowError> {
    let directory =
        rustix::fs::openat(CWD, record, DIRECTORY, Mode::empty()).map_err(on("open", record))?;
    // The index goes first: half a snapshot must not pass for one.
    let index = format!("{NAME}/{INDEX}");
    match rustix::fs::unlinkat(&directory, &index, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(on("remove", record.join(index))(errno)),
    }
    if held(record)?.is_some_and(|held| matches!(held, Held::Changes | Held::Undone)) {
        // So does the mark of what it was for, with the journal behind it.
        match rustix::fs::renameat(&directory, "undo", &directory, "undo-removed") {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(on("remove", record.join("undo"))(errno)),
        }
    }
    remove_tree(directory.as_fd(), "undo-removed")?;
    remove_tree(directory.as_fd(), NAME)
}
