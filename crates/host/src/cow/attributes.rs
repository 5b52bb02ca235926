//! Extended attributes: what is kept of the user's files, and the little that is taken over from an agent's.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

/// Most bytes of one value (`XATTR_SIZE_MAX`, `xattr(7)`).
const VALUE_BYTES: usize = 64 << 10;

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
        Ok(Self(found))
    }

    /// What may be taken over of a file that an agent left: its user attributes, without the overlay's own. Never file
    /// capabilities, labels or access lists.
    pub(crate) fn of_agent(self) -> Self {
        let Self(mut all) = self;
        all.retain(|(name, _)| name.starts_with("user.") && !name.starts_with("user.overlay."));
        Self(all)
    }

    /// Writes them. A label or a right that the caller cannot give is the system's to decide.
    pub(crate) fn write(&self, file: BorrowedFd<'_>) -> Result<()> {
        for (name, value) in &self.0 {
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                other => other?,
            }
        }
        Ok(())
    }
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
