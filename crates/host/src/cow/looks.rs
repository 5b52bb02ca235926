//! What differs between two entries besides content and mode, as text for people: user attributes and access lists. Must
//! not open anything but files and directories.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::attributes::{ACCESS_LIST, Attributes, DEFAULT_LIST};
use super::beneath::open_file;
use super::{Change, EntryType, Meta, Tree};

/// Most bytes of a value that are shown.
const SHOWN_BYTES: usize = 64;

/// An attribute that differs, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeChange {
    /// Its name (`xattr(7)`), or what it is, escaped.
    pub name: String,
    /// The value that the project has, escaped and shortened.
    pub old: Option<String>,
    /// The value that the agent left.
    pub new: Option<String>,
}

/// The attributes of an entry that differ and are carried over by an apply; none where they cannot be read.
#[must_use]
pub fn attribute_changes(
    (upper, lower): (&Tree, &Tree),
    path: &Path,
    change: &Change,
) -> Vec<AttributeChange> {
    let read = |tree: &Tree, meta: Option<Meta>| {
        meta.and_then(|meta| attributes(tree, path, meta).ok())
            .unwrap_or_default()
    };
    differing(&read(lower, change.lower), &read(upper, change.upper))
}

/// What differs between two sets of attributes.
pub(crate) fn differing(old: &Attributes, new: &Attributes) -> Vec<AttributeChange> {
    let value = |side: &Attributes, name: &str| {
        side.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.to_owned())
    };
    let mut names: Vec<&str> = old.iter().chain(new.iter()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| value(old, name) != value(new, name))
        .map(|name| AttributeChange {
            name: match name {
                ACCESS_LIST => "access list".to_owned(),
                DEFAULT_LIST => "default access list".to_owned(),
                _ => rcc_plan::escape(name),
            },
            old: value(old, name).map(|value| shown(name, &value)),
            new: value(new, name).map(|value| shown(name, &value)),
        })
        .collect()
}

/// The attributes of a file or directory that are carried over by an apply.
pub(crate) fn attributes(tree: &Tree, path: &Path, meta: Meta) -> rustix::io::Result<Attributes> {
    Ok(all_attributes(tree, path, meta)?.carried())
}

/// All attributes of a file or directory; of anything else none.
pub(crate) fn all_attributes(
    tree: &Tree,
    path: &Path,
    meta: Meta,
) -> rustix::io::Result<Attributes> {
    let file: OwnedFd = match (meta.kind, path.parent(), path.file_name()) {
        (EntryType::Directory, _, _) => tree.listing(path)?,
        (EntryType::File, Some(parent), Some(name)) => {
            open_file(tree.location(parent)?.as_fd(), name)?
        }
        _ => return Ok(Attributes::default()),
    };
    Attributes::read(file.as_fd())
}

fn shown(name: &str, value: &[u8]) -> String {
    if let (ACCESS_LIST | DEFAULT_LIST, Some(list)) = (name, access_list(value)) {
        return list;
    }
    let text = |bytes: &[u8]| rcc_plan::escape(OsStr::from_bytes(bytes));
    match value.get(..SHOWN_BYTES) {
        Some(start) if value.len() > SHOWN_BYTES => {
            format!("{}… ({} bytes)", text(start), value.len())
        }
        _ => text(value),
    }
}

/// An access list in the short text form of acl(5), ids as numbers; none when it is not one (`linux/posix_acl_xattr.h`:
/// version 2, then entries of tag, permissions and id, little-endian).
fn access_list(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&2_u32.to_le_bytes())?;
    let mut text = String::new();
    for entry in entries.chunks(8) {
        let [t0, t1, p0, _, i0, i1, i2, i3] = <[u8; 8]>::try_from(entry).ok()?;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        if !text.is_empty() {
            text.push(',');
        }
        let named = match u16::from_le_bytes([t0, t1]) {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let right = |bit: u8, letter: char| if p0 & bit != 0 { letter } else { '-' };
        let _ = write!(
            text,
            "{named}:{}{}{}",
            right(4, 'r'),
            right(2, 'w'),
            right(1, 'x')
        );
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_lists_are_told_as_getfacl_does() {
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in [
            (0x01_u16, 6_u16, u32::MAX),
            (0x02, 4, 1000),
            (0x04, 0, u32::MAX),
            (0x10, 4, u32::MAX),
            (0x20, 1, u32::MAX),
        ] {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let text = "user::rw-,user:1000:r--,group::---,mask::r--,other::--x";
        assert_eq!(access_list(&list).as_deref(), Some(text));
        assert_eq!(access_list(&list[..list.len() - 1]), None);
        assert_eq!(access_list(b"x"), None);
        assert_eq!(shown("user.x", b"a\x1bb"), "a\\u{1b}b");
        assert!(shown("user.x", &[b'y'; 65]).ends_with("y… (65 bytes)"));
    }
}
