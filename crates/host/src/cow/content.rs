//! The content of an entry for showing: bounded, and never of anything but files, links and directories.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::beneath::open_file;
use super::{EntryType, Meta, Tree};

/// Largest file that is shown as text, in bytes.
const TEXT_LIMIT: u64 = 4 << 20;

/// What can be shown of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text of a file, or of a link.
    Text(String),
    /// Not UTF-8, or with NUL bytes.
    Binary,
    /// More than is shown.
    TooLarge,
    /// It cannot be opened, or is of a type that never is.
    Unreadable,
}

/// Reads what can be shown of an entry; a directory is empty text.
#[must_use]
pub fn content(tree: &Tree, path: &Path, meta: &Meta) -> Content {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Content::Text(String::new());
    };
    match meta.kind {
        EntryType::Directory => Content::Text(String::new()),
        EntryType::File if meta.size > TEXT_LIMIT => Content::TooLarge,
        EntryType::File => file(tree, parent, name).unwrap_or(Content::Unreadable),
        EntryType::Symlink => link(tree, parent, name).unwrap_or(Content::Unreadable),
        EntryType::Fifo | EntryType::Socket | EntryType::Device => Content::Unreadable,
    }
}

fn file(tree: &Tree, parent: &Path, name: &OsStr) -> std::io::Result<Content> {
    let directory = tree.location(parent)?;
    let mut bytes = Vec::new();
    File::from(open_file(directory.as_fd(), name)?)
        .take(TEXT_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Ok(Content::TooLarge);
    }
    Ok(text(bytes))
}

fn link(tree: &Tree, parent: &Path, name: &OsStr) -> std::io::Result<Content> {
    let directory = tree.location(parent)?;
    let target = rustix::fs::readlinkat(&directory, name, Vec::new())?;
    Ok(text(target.into_bytes()))
}

pub(crate) fn text(bytes: Vec<u8>) -> Content {
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Content::Text(text),
        _ => Content::Binary,
    }
}
