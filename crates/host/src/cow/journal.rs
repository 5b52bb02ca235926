//! What one apply does, written down before it does anything: `undo/NUMBER` in the record of a run.
//!
//! `journal.json` is the list of steps, complete and on disk before the project is touched; the files beside it, called by
//! the number of their step, are what the project had. `closed.json` says what the project has since; with `undone` it has
//! what it had before. A directory without `journal.json` is of an apply that touched nothing.
//!
//! `rw/N` in it is a record of its own, with an `undo` in it, for what the apply does in the further directory with the layer
//! `N`, and for what is undone and redone of that. These journals are complete before that of the project is written, which
//! makes all of them count, and they are done, undone and redone before it is: its progress is that of the whole apply.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rcc_plan::SafeBytes;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use super::layers::{FURTHER, numbers};
use super::{Base, CowError, Meta, Tree, on, remove_tree};

pub(crate) const UNDO: &str = "undo";
pub(crate) const JOURNAL: &str = "journal.json";
pub(crate) const CLOSED: &str = "closed.json";
const UNDONE: &str = "undone";
const REVERSES: &str = "reverses.json";
/// Most bytes that the paths of one journal take together: it is read into memory whole. A million entries of an ordinary project
/// take a tenth of that; directories in directories with names of 255 bytes, whose paths grow with the square of their depth,
/// are 2,000 levels deep then.
const PATHS_LIMIT_BYTES: usize = 512 << 20;

/// What a step does to its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Takes a file or link away.
    Remove,
    /// Takes an empty directory away.
    RemoveDirectory,
    /// Makes a directory, in the place of what was there.
    MakeDirectory,
    /// Puts a file there, in the place of what was there.
    Write,
    /// Puts a symbolic link there, in the place of what was there.
    Link,
    /// Gives another mode.
    Mode,
    /// Gives a directory other attributes, and another mode where that differs.
    Dress,
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) path: SafeBytes,
    pub(crate) action: Action,
    /// What was there.
    pub(crate) before: Option<Meta>,
    /// Text of the link that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<SafeBytes>,
    /// Extended attributes of what was there.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub(crate) attributes: Attributes,
    /// What the agent left, or what was made of both sides.
    pub(crate) new: Option<Meta>,
    /// Other names of the file that was there, where the project may still have it under one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<SafeBytes>,
    /// Attributes of what was made of both sides; its content is beside the journal, as [`made`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<Attributes>,
}

/// The name of what a step made of both sides.
pub(crate) fn made(index: usize) -> String {
    format!("{index}.new")
}

/// The name under which the very file is kept that a step replaced, where it has others.
pub(crate) fn inode(index: usize) -> String {
    format!("{index}.inode")
}

impl Step {
    /// Whether a directory is between what it was and what a [`Action::Dress`] gives it: an access list changes the
    /// permission bits, which are given once more after it.
    pub(crate) fn is_being_dressed(&self, now: &Meta) -> bool {
        let bits = |meta: &Meta| meta.mode & 0o777;
        let sides = [self.before.as_ref(), self.new.as_ref()];
        self.action == Action::Dress
            && self
                .before
                .is_some_and(|before| now.is_same_object(&before))
            && sides.iter().flatten().any(|side| bits(side) == bits(now))
    }
}

/// How much room is left for the paths of a journal. It is asked before anything is written: what was written is read back
/// without a limit.
#[derive(Debug, Clone)]
pub(crate) struct PathRoom {
    left_bytes: usize,
    limit_bytes: usize,
}

impl PathRoom {
    /// Room for a whole journal.
    pub(crate) fn new() -> Self {
        Self::of(PATHS_LIMIT_BYTES)
    }

    /// Room for so many bytes.
    pub(crate) fn of(limit_bytes: usize) -> Self {
        Self {
            left_bytes: limit_bytes,
            limit_bytes,
        }
    }

    /// Takes the room of one path, or refuses it.
    pub(crate) fn take(&mut self, path: &Path, project: &Tree) -> Result<(), CowError> {
        match self.left_bytes.checked_sub(path.as_os_str().len()) {
            Some(left_bytes) => self.left_bytes = left_bytes,
            None => {
                return Err(CowError::LongPaths {
                    path: project.shown(&path.iter().take(1).collect::<PathBuf>()),
                    levels: path.iter().count(),
                    limit_bytes: self.limit_bytes,
                });
            }
        }
        Ok(())
    }
}

/// A directory that was there and whose times change with its names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Touched {
    pub(crate) path: SafeBytes,
    pub(crate) before: Meta,
}

/// All steps of one apply, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The project.
    pub(crate) base: Base,
    /// Part of the temporary names in the project.
    pub(crate) tag: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) touched: Vec<Touched>,
}

impl Journal {
    /// Of an apply that does nothing in the project itself.
    pub(crate) fn empty(base: &Base) -> Self {
        Self {
            base: base.clone(),
            tag: String::new(),
            steps: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The temporary name of a step, in the directory of its path.
    pub(crate) fn temporary(&self, index: usize) -> String {
        format!(".rcc-{}-{index}", self.tag)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// It was left out: its path had changed meanwhile.
    pub(crate) skipped: bool,
    /// What is there now.
    pub(crate) after: Option<Meta>,
}

/// Which way something is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To what was before an apply or a run.
    Undo,
    /// To what was before an undo.
    Redo,
}

impl Direction {
    /// The other one.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Undo => Self::Redo,
            Self::Redo => Self::Undo,
        }
    }
}

/// What `reverses.json` says: the steps are another entry's, the other way round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reversal {
    /// The other entry.
    pub(crate) number: u32,
    pub(crate) direction: Direction,
}

/// How many other names of a file are written down beside each: those that did not change, and those that are restored
/// first. All of all would be the square of their number.
const OTHERS: usize = 8;

/// Says of names of files that have several what the others are, one of which an undo finds again. `all` gives every name
/// of a file, by device and inode, as far as more are known than these steps have.
pub(crate) fn name_others(mut steps: Vec<&mut Step>, all: &dyn Fn((u64, u64)) -> Vec<SafeBytes>) {
    let key = |step: &Step| {
        let meta = step
            .before
            .filter(|meta| meta.is_file() && meta.links > 1)?;
        Some((meta.device, meta.inode))
    };
    let mut changed: HashMap<(u64, u64), Vec<SafeBytes>> = HashMap::new();
    for step in &steps {
        if let Some(key) = key(step) {
            changed.entry(key).or_default().push(step.path.clone());
        }
    }
    let mut others: HashMap<(u64, u64), Vec<SafeBytes>> = HashMap::new();
    for (key, changed) in changed {
        let known: BTreeSet<&OsStr> = changed.iter().map(SafeBytes::as_os_str).collect();
        let mut names = all(key);
        names.retain(|name| !known.contains(name.as_os_str()));
        names.truncate(OTHERS);
        // An undo begins with the last step.
        names.extend(changed.iter().rev().take(OTHERS).cloned());
        others.insert(key, names);
    }
    for step in &mut steps {
        let names = key(step).and_then(|key| others.get(&key));
        let names = names.into_iter().flatten();
        step.names = names.filter(|name| **name != step.path).cloned().collect();
    }
}

/// The directory of one apply.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) directory: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) number: u32,
}

/// How far an apply got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Its journal was never finished: nothing was touched.
    Planned,
    /// It was interrupted.
    Open,
    /// It is done.
    Closed,
    /// It was undone.
    Undone,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Every apply of a run, oldest first.
pub(crate) fn entries(record: &Path) -> Result<Vec<Entry>, CowError> {
    let path = record.join(UNDO);
    let store = match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
        Ok(store) => store,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(on("open", &path)(errno)),
    };
    let mut numbers: Vec<u32> = Vec::new();
    for entry in Dir::read_from(&store).map_err(on("list", &path))? {
        let entry = entry.map_err(on("list", &path))?;
        numbers.extend(
            entry
                .file_name()
                .to_str()
                .ok()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| open(&store, &path, number))
        .collect()
}

fn open(store: &OwnedFd, path: &Path, number: u32) -> Result<Entry, CowError> {
    let name = number.to_string();
    let path = path.join(&name);
    Ok(Entry {
        directory: rustix::fs::openat(store, &name, DIRECTORY, Mode::empty())
            .map_err(on("open", &path))?,
        path,
        number,
    })
}

impl Entry {
    /// Makes the directory of a new apply; what an earlier one left that touched nothing goes.
    pub(crate) fn create(record: &Path) -> Result<Self, CowError> {
        Self::create_from(record, 1)
    }

    /// The same with this number for the first one.
    fn create_from(record: &Path, first: u32) -> Result<Self, CowError> {
        let path = record.join(UNDO);
        match rustix::fs::mkdirat(CWD, &path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(on("make", &path)(errno)),
        }
        Self::sweep(record)?;
        let store =
            rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()).map_err(on("open", &path))?;
        let number = entries(record)?
            .last()
            .map_or(first, |last| last.number + 1);
        rustix::fs::mkdirat(&store, number.to_string(), Mode::RWXU).map_err(on("make", &path))?;
        open(&store, &path, number)
    }

    /// Removes what was planned and touched nothing.
    pub(crate) fn sweep(record: &Path) -> Result<(), CowError> {
        for entry in entries(record)? {
            if entry.progress()? == Progress::Planned {
                let path = record.join(UNDO);
                let store = rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty())
                    .map_err(on("open", &path))?;
                remove_tree(store.as_fd(), &entry.number.to_string())?;
            }
        }
        Ok(())
    }

    /// Makes an entry for what the apply does in a further directory.
    pub(crate) fn make_further(&self, layer: u32) -> Result<Self, CowError> {
        let path = self.path.join(FURTHER);
        match rustix::fs::mkdirat(&self.directory, FURTHER, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(on("make", &path)(errno)),
        }
        let store = rustix::fs::openat(&self.directory, FURTHER, DIRECTORY, Mode::empty())
            .map_err(on("open", &path))?;
        rustix::fs::mkdirat(&store, layer.to_string(), Mode::RWXU)
            .and_then(|()| rustix::fs::fsync(&store))
            .map_err(on("make", &path))?;
        // Its number is part of temporary names, so it is another one than that of an earlier apply.
        Self::create_from(&path.join(layer.to_string()), self.number)
    }

    /// The records of what the apply does in further directories, by the numbers of their layers.
    pub(crate) fn further(&self) -> Result<Vec<(u32, PathBuf)>, CowError> {
        let path = self.path.join(FURTHER);
        let numbers = numbers(&path)?.into_iter();
        Ok(numbers
            .map(|layer| (layer, path.join(layer.to_string())))
            .collect())
    }

    pub(crate) fn progress(&self) -> Result<Progress, CowError> {
        let has =
            |name: &str| match rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(_) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(on("look into", &self.path)(errno)),
            };
        Ok(if has(UNDONE)? {
            Progress::Undone
        } else if has(CLOSED)? {
            Progress::Closed
        } else if has(JOURNAL)? {
            Progress::Open
        } else {
            Progress::Planned
        })
    }

    /// Writes the journal. The files beside it must be on disk.
    pub(crate) fn begin(&self, journal: &Journal) -> Result<(), CowError> {
        self.write(JOURNAL, journal)
    }

    /// Notes that all steps are done.
    pub(crate) fn close(&self, ended: &[Ended]) -> Result<(), CowError> {
        self.write(CLOSED, &ended)
    }

    /// Notes that all steps were undone.
    pub(crate) fn undone(&self) -> Result<(), CowError> {
        self.write(UNDONE, &())
    }

    /// Notes, before the journal is written, that it is another's the other way round.
    pub(crate) fn reverse(&self, reversal: &Reversal) -> Result<(), CowError> {
        self.write(REVERSES, reversal)
    }

    /// Which entry this one takes back; none of an apply or a run.
    pub(crate) fn reverses(&self) -> Result<Option<Reversal>, CowError> {
        match rustix::fs::statat(&self.directory, REVERSES, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.read(REVERSES).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(on("look into", &self.path)(errno)),
        }
    }

    /// Removes what was kept for steps that were taken back.
    pub(crate) fn forget(&self, steps: impl Iterator<Item = usize>) -> Result<(), CowError> {
        for index in steps {
            for name in [index.to_string(), made(index), inode(index)] {
                match rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(on("remove", self.path.join(name))(errno)),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn journal(&self) -> Result<Journal, CowError> {
        self.read(JOURNAL)
    }

    pub(crate) fn ended(&self) -> Result<Vec<Ended>, CowError> {
        self.read(CLOSED)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, CowError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())
            .map_err(on("open", &path))?;
        let mut text = Vec::new();
        let read = std::io::Read::read_to_end(&mut File::from(file), &mut text);
        read.map_err(|source| CowError::Call {
            action: "read",
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| CowError::Description { path, source })
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), CowError> {
        write_durably(self.directory.as_fd(), &self.path, name, value)
    }
}

/// Writes a file of rcc's own so that after a crash of the machine it is there whole or not at all.
pub(crate) fn write_durably(
    directory: BorrowedFd<'_>,
    shown: &Path,
    name: &str,
    value: &impl Serialize,
) -> Result<(), CowError> {
    let path = shown.join(name);
    let json = serde_json::to_vec(value).map_err(|source| CowError::Description {
        path: path.clone(),
        source,
    })?;
    let temporary = format!(".{name}");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, &temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(on("write", &path))?;
    let mut file = File::from(file);
    file.write_all(&json)
        .and_then(|()| file.sync_all())
        .map_err(|source| CowError::Call {
            action: "write",
            path: path.clone(),
            source,
        })?;
    rustix::fs::renameat(directory, &temporary, directory, name)
        .and_then(|()| rustix::fs::fsync(directory))
        .map_err(on("write", &path))
}
