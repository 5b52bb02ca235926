//! What is in a layer, compared with the project below it. Looks at the layer and at the names that it touches, at
//! nothing else of the project.

mod walk;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Dir;
use rustix::io::Errno;

use super::beneath::open_up;
use super::{CowError, Meta, Tree, on};
use walk::may_search;

/// How an entry of the layer differs from the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does not: a directory that only holds changes, or a file that was written back as it was.
    Same,
    /// The project has nothing there.
    Added,
    /// Same type, and something of it differs.
    Modified(Differences),
    /// The agent removed it.
    Removed,
    /// It is something of another type.
    Retyped,
    /// A FIFO, socket or device, or something that no overlay of rcc's makes.
    Foreign,
    /// It cannot be read: its mode keeps even its owner away.
    Unreadable,
}

/// What differs between two entries of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// Bytes or link text.
    pub content: bool,
    /// Permission bits.
    pub mode: bool,
    /// User attributes or access lists.
    pub attributes: bool,
    /// When the content was changed last; not of directories, whose times change with every name in them.
    pub times: bool,
}

/// One name.
#[derive(Debug, Clone)]
pub struct Change {
    /// The directory that it is in; none at the top.
    parent: Option<usize>,
    name: OsString,
    /// How it differs.
    pub status: Status,
    /// What the agent left; none where it was removed.
    pub upper: Option<Meta>,
    /// What the project has.
    pub lower: Option<Meta>,
    /// The agent made this directory; one that was there keeps what the layer does not name.
    pub whole: bool,
    /// A directory that the agent made where another one is now, or something in such: the agent never saw what is there.
    pub met: bool,
    /// Whether something in it differs.
    pub holds_changes: bool,
}

/// Everything that differs, parents before what is in them, names in order of their bytes.
#[derive(Debug, Default)]
pub struct Changes {
    nodes: Vec<Change>,
}

impl Changes {
    /// All names that were looked at.
    #[must_use]
    pub fn nodes(&self) -> &[Change] {
        &self.nodes
    }

    /// The path of a name, relative to the project.
    #[must_use]
    pub fn path(&self, index: usize) -> PathBuf {
        let mut names: Vec<&OsStr> = Vec::new();
        let mut at = self.nodes.get(index);
        while let Some(change) = at {
            names.push(&change.name);
            at = change.parent.and_then(|parent| self.nodes.get(parent));
        }
        names.iter().rev().collect()
    }

    /// Indices of what people are shown: everything that differs, of directories only those that hold nothing else.
    pub fn listed(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, change)| {
                change.status != Status::Same
                    && !(change.holds_changes && change.is_plain_directory())
            })
            .map(|(index, _)| index)
    }

    fn push(&mut self, change: Change) -> usize {
        let mut parent = change.parent;
        if change.status != Status::Same {
            while let Some(holder) = parent.and_then(|parent| self.nodes.get_mut(parent)) {
                if holder.holds_changes {
                    break;
                }
                holder.holds_changes = true;
                parent = holder.parent;
            }
        }
        self.nodes.push(change);
        self.nodes.len() - 1
    }
}

impl Change {
    /// A change by itself, outside of a list of all.
    pub(crate) fn alone(
        path: &Path,
        status: Status,
        lower: Option<Meta>,
        upper: Option<Meta>,
    ) -> Self {
        Self {
            parent: None,
            name: path.file_name().unwrap_or_default().to_owned(),
            status,
            upper,
            lower,
            whole: false,
            met: false,
            holds_changes: false,
        }
    }

    /// The last component of its path.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The index of the directory that it is in.
    #[must_use]
    pub fn parent(&self) -> Option<usize> {
        self.parent
    }

    /// A new or removed directory: what is in it tells as much.
    fn is_plain_directory(&self) -> bool {
        match self.status {
            Status::Added => self.upper.is_some_and(|meta| meta.is_directory()),
            Status::Removed => self.lower.is_some_and(|meta| meta.is_directory()),
            _ => false,
        }
    }
}

/// Compares a layer with the project below it.
///
/// # Errors
/// Something cannot be looked at.
pub fn changes(upper: &Tree, lower: &Tree) -> Result<Changes, CowError> {
    let top = Path::new("");
    // The agent can close the top of the project, too. That is no entry that could be held back: the layer would look empty.
    let is_closed = match upper.listing(top) {
        Ok(listing) => !may_search(&listing),
        Err(errno) => errno == Errno::ACCESS,
    };
    if is_closed {
        open_up(upper, top, 0o700).map_err(on("open up", upper.shown(top)))?;
    }
    walk::walk(upper, lower)
}

/// The names in a directory, in order of their bytes.
pub(crate) fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
