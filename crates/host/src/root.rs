//! What of the host's root directory, `/sys` and kernel identity a sandbox shows. Fixed lists, one lstat each.

use std::path::{Path, PathBuf};

use rcc_plan::{EntryKind, RootEntry};
use rustix::fs::{AtFlags, CWD, FileType};

/// Entries of `/` that hold the operating system's programs (Filesystem Hierarchy Standard 3.0; `/nix` and `/gnu`
/// are the stores of Nix and Guix, both readable by everybody by design).
const ROOT_ENTRIES: [&str; 10] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu",
];

/// What run-time libraries read to size thread pools, NUMA arenas and huge pages. No device, no firmware, no network.
const SYS_ENTRIES: [&str; 3] = [
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Looks at one path without following a link. `None` when it does not exist or cannot be looked at.
pub(crate) fn kind(path: &Path) -> Option<EntryKind> {
    let status = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Symlink(std::fs::read_link(path).ok()?),
        _ => EntryKind::Other,
    })
}

/// Lists the entries of `/` that exist.
pub(crate) fn entries() -> Vec<RootEntry> {
    ROOT_ENTRIES
        .iter()
        .map(PathBuf::from)
        .filter_map(|path| kind(&path).map(|kind| RootEntry { path, kind }))
        .filter(|entry| matches!(entry.kind, EntryKind::Directory | EntryKind::Symlink(_)))
        .collect()
}

/// Lists the entries of `/sys` that exist.
pub(crate) fn sys_entries() -> Vec<PathBuf> {
    SYS_ENTRIES
        .iter()
        .map(PathBuf::from)
        .filter(|path| kind(path) == Some(EntryKind::Directory))
        .collect()
}

/// The running kernel as (major, minor): uname(2). (0, 0) when the release is not numbered.
pub(crate) fn kernel() -> (u32, u32) {
    release(&rustix::system::uname().release().to_string_lossy())
}

fn release(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|character: char| !character.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(release("6.1.0-28-amd64"), (6, 1));
        assert_eq!(release("5.14.0-503.el9.x86_64"), (5, 14));
        assert_eq!(release("6.18-rc1"), (6, 18));
        assert_eq!(release("custom"), (0, 0));
    }

    #[test]
    fn usr_is_always_there_and_home_never() {
        let found = entries();
        assert!(
            found
                .iter()
                .any(|entry| entry.path == Path::new("/usr") && entry.kind == EntryKind::Directory)
        );
        assert!(!found.iter().any(|entry| entry.path == Path::new("/home")));
    }
}
