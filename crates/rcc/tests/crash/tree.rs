//! A project as it is, and how it may differ from what it was and will be while a command is interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What an entry is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    Link(OsString),
    File(Vec<u8>),
    /// A FIFO or socket.
    Special(u32),
}

/// Everything that can be told of an entry but the times that the kernel alone sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) what: What,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Number of names and the first of them, of a file with several.
    links: Option<(u64, PathBuf)>,
}

/// A tree by path; the project itself has the empty one.
pub(crate) type Tree = BTreeMap<PathBuf, Entry>;

impl std::fmt::Debug for What {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => write!(out, "directory"),
            Self::Link(text) => write!(out, "link {text:?}"),
            Self::Special(kind) => write!(out, "special {kind:o}"),
            Self::File(bytes) => {
                let start = &bytes[..bytes.len().min(40)];
                write!(
                    out,
                    "file of {} bytes, {}",
                    bytes.len(),
                    start.escape_ascii()
                )
            }
        }
    }
}

/// Reads a tree.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut inodes: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = if path.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&path)
        };
        let data = full.symlink_metadata().unwrap();
        let kind = data.file_type();
        let what = if kind.is_dir() {
            let names = std::fs::read_dir(&full).unwrap();
            waiting.extend(names.map(|entry| path.join(entry.unwrap().file_name())));
            What::Directory
        } else if kind.is_symlink() {
            What::Link(std::fs::read_link(&full).unwrap().into_os_string())
        } else if kind.is_file() {
            What::File(std::fs::read(&full).unwrap())
        } else {
            What::Special(data.mode())
        };
        if !kind.is_dir() && data.nlink() > 1 {
            inodes.entry(data.ino()).or_default().push(path.clone());
        }
        let entry = Entry {
            what,
            mode: data.mode(),
            owner: (data.uid(), data.gid()),
            modified: (data.mtime(), data.mtime_nsec()),
            attributes: attributes(&full),
            links: None,
        };
        tree.insert(path, entry);
    }
    for mut paths in inodes.into_values() {
        paths.sort();
        for path in &paths {
            let names = root.join(path).symlink_metadata().unwrap().nlink();
            tree.get_mut(path).unwrap().links = Some((names, paths[0].clone()));
        }
    }
    tree
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = [0_u8; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let names = names[..length].split_inclusive(|byte| *byte == 0);
    names
        .map(|name| {
            let mut value = [0_u8; 4096];
            let text = CStr::from_bytes_with_nul(name).unwrap();
            let length = rustix::fs::lgetxattr(path, text, value.as_mut_slice()).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// What differs, as text; empty where nothing does. The times of directories that `old` has count only when it is given none.
pub(crate) fn difference(is: &Tree, expected: &Tree, old: Option<&Tree>) -> String {
    let mut lines = Vec::new();
    for path in all([is, expected]) {
        let (mut now, mut wanted) = (is.get(path).cloned(), expected.get(path).cloned());
        let is_old = |entry: &Entry| entry.what == What::Directory;
        if old.is_some_and(|old| old.get(path).is_some_and(is_old)) {
            // An apply carries no times of directories over that were there.
            for entry in now.iter_mut().chain(&mut wanted) {
                if is_old(entry) {
                    entry.modified = (0, 0);
                }
            }
        }
        if now != wanted {
            lines.push(format!("{}: is {now:?}, not {wanted:?}", path.display()));
        }
    }
    let count = lines.len();
    lines.truncate(5);
    if count > 5 {
        lines.push(format!("and {} more", count - 5));
    }
    lines.join("\n")
}

fn all<const N: usize>(trees: [&Tree; N]) -> BTreeSet<&PathBuf> {
    trees.into_iter().flat_map(BTreeMap::keys).collect()
}

/// Names every entry that is neither as it was nor as it will be; rcc's temporary names are its own business.
pub(crate) fn neither_old_nor_new(is: &Tree, old: &Tree, new: &Tree) -> String {
    let mut lines = Vec::new();
    for path in all([is, old, new]) {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        if name.as_bytes().starts_with(b".rcc-") && !old.contains_key(path) {
            continue;
        }
        // A directory gets its looks last, and its other names are the other entries' business.
        let essence = |tree: &Tree| {
            tree.get(path).map(|entry| match entry.what {
                What::Directory => (What::Directory, None),
                _ => {
                    let looks = Entry {
                        links: None,
                        what: What::Directory,
                        ..entry.clone()
                    };
                    (entry.what.clone(), Some(looks))
                }
            })
        };
        let now = essence(is);
        if now != essence(old) && now != essence(new) {
            lines.push(format!("{}: {now:?}", path.display()));
        }
    }
    lines.truncate(5);
    lines.join("\n")
}
