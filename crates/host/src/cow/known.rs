//! What rcc itself put into the project for a layer: no change of the user's, though it is newer than the run.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::journal::write_durably;
use super::meta::Time;
use super::{CowError, Meta, on};

const KNOWN: &str = "known.json";

/// Inode and time of last change by path.
#[derive(Debug)]
pub(crate) struct Known {
    layer: PathBuf,
    entries: BTreeMap<String, (u64, Time)>,
}

impl Known {
    /// Reads what is noted in a layer.
    pub(crate) fn load(layer: &Path) -> Result<Self, CowError> {
        let path = layer.join(KNOWN);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entries = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(file) => serde_json::from_reader(std::io::BufReader::new(std::fs::File::from(file)))
                .map_err(|source| CowError::Description { path, source })?,
            Err(Errno::NOENT) => BTreeMap::new(),
            Err(errno) => return Err(on("read", &path)(errno)),
        };
        Ok(Self {
            layer: layer.to_owned(),
            entries,
        })
    }

    /// Whether the entry is as rcc left it.
    pub(crate) fn has(&self, path: &Path, meta: &Meta) -> bool {
        self.entries.get(&key(path)) == Some(&(meta.inode, meta.changed))
    }

    /// Notes what rcc left.
    pub(crate) fn note(&mut self, path: &Path, meta: Option<&Meta>) {
        match meta {
            Some(meta) => self.entries.insert(key(path), (meta.inode, meta.changed)),
            None => self.entries.remove(&key(path)),
        };
    }

    /// Writes the notes.
    pub(crate) fn save(&self) -> Result<(), CowError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, &self.layer, flags, Mode::empty())
            .map_err(on("open", &self.layer))?;
        write_durably(directory.as_fd(), &self.layer, KNOWN, &self.entries)
    }
}

/// A path as text that no other path has: escaped where it is no UTF-8.
fn key(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        // No path has a NUL byte.
        None => format!("\0{:?}", path.as_os_str()),
    }
}
