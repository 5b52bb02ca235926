//! Extended attributes: what is kept of the user's files, and the little that is taken over from an agent's.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

/// Most bytes of one value (`XATTR_SIZE_MAX`, `xattr(7)`).
const VALUE_BYTES: usize = 64 << 10;

/// Who may do what with an entry.
pub(crate) const ACCESS_LIST: &str = "system.posix_acl_access";
/// What new entries of a directory get.
pub(crate) const DEFAULT_LIST: &str = "system.posix_acl_default";

/// Names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes(Vec<(String, Vec<u8>)>);

impl Attributes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads all that the caller may read.
    pub(crate) fn read(file: BorrowedFd<'_>) -> Result<Self> {
        let mut found = Vec::new();
        for name in names(file)? {
            let mut value = vec![0_u8; VALUE_BYTES];
            match rustix::fs::fgetxattr(file, &name, value.as_mut_slice()) {
                Ok(length) => {
                    value.truncate(length);
                    found.push((name, value));
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
        found.sort();
        Ok(Self(found))
    }

    /// What is carried over of a file that an agent left: its user attributes, without the overlay's own, and its access
    /// lists, in which nobody can be named inside but the user. Never file capabilities or labels.
    pub(crate) fn carried(self) -> Self {
        let Self(mut all) = self;
        all.retain(|(name, _)| is_carried(name));
        Self(all)
    }

    /// Names and values, in order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Makes them all that a file has, of those that are carried over: a directory's default access list gives a new file
    /// some of its own. A label or a right that the caller cannot give is the system's to decide.
    pub(crate) fn write(&self, file: BorrowedFd<'_>) -> Result<()> {
        for name in names(file)?.iter().filter(|name| is_carried(name)) {
            if self.0.iter().any(|(wanted, _)| wanted == name) {
                continue;
            }
            match rustix::fs::fremovexattr(file, name) {
                Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                other => other?,
            }
        }
        for (name, value) in &self.0 {
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// User attributes and access lists (acl(5)).
fn is_carried(name: &str) -> bool {
    let of_user = name.starts_with("user.") && !name.starts_with("user.overlay.");
    of_user || name == ACCESS_LIST || name == DEFAULT_LIST
}

fn names(file: BorrowedFd<'_>) -> Result<Vec<String>> {
    let mut buffer = vec![0_u8; VALUE_BYTES];
    let length = match rustix::fs::flistxattr(file, buffer.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(errno) => return Err(errno),
    };
    let list = buffer.get(..length).unwrap_or_default();
    Ok(list
        .split(|byte| *byte == 0)
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}
