//! Unpacks a package archive (gzip, tar) into a fresh directory.
//!
//! The archive was verified, but its author is still not trusted with the host: only regular files and directories are
//! made, only below the target, never through a link, with permission bits 0644 or 0755, and within bounds.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::EntryType;

/// Most entries of one package.
const ENTRY_LIMIT: usize = 200_000;
/// Most bytes of one unpacked package; agents ship binaries of a few hundred megabytes.
const BYTE_LIMIT: u64 = 4 << 30;

/// An archive that is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It cannot be read.
    #[error("cannot read the package archive")]
    Read(#[source] std::io::Error),
    /// An entry has a name that leaves the target or is empty.
    #[error("the package archive holds the unsafe name {}", rcc_plan::escape(name))]
    Name { name: PathBuf },
    /// An entry is a link or a special file.
    #[error(
        "the package archive holds {}, which is neither a file nor a directory",
        rcc_plan::escape(name)
    )]
    Kind { name: PathBuf },
    /// It is larger than any agent.
    #[error("the package archive is larger than expected")]
    TooLarge,
    /// A file cannot be written.
    #[error("cannot write {}", rcc_plan::escape(path))]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Unpacks an archive into `target`, which must not exist. The archive's own top directory is left out.
pub(crate) fn unpack(archive: impl Read, target: &Path) -> Result<(), ArchiveError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Write { path, source }
    };
    std::fs::create_dir_all(target).map_err(write(target))?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut left = BYTE_LIMIT;
    for (count, entry) in archive.entries().map_err(ArchiveError::Read)?.enumerate() {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let name = entry.path().map_err(ArchiveError::Read)?.into_owned();
        if count >= ENTRY_LIMIT {
            return Err(ArchiveError::TooLarge);
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            continue;
        }
        let relative = below_top(&name)?;
        let path = target.join(&relative);
        match kind {
            EntryType::Directory => std::fs::create_dir_all(&path).map_err(write(&path))?,
            EntryType::Regular | EntryType::Continuous => {
                if relative.as_os_str().is_empty() {
                    return Err(ArchiveError::Name { name });
                }
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(write(parent))?;
                }
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
                let mut file = create(&path, executable).map_err(write(&path))?;
                let written =
                    std::io::copy(&mut entry.by_ref().take(left.saturating_add(1)), &mut file)
                        .map_err(write(&path))?;
                left = left.checked_sub(written).ok_or(ArchiveError::TooLarge)?;
            }
            _ => return Err(ArchiveError::Kind { name }),
        }
    }
    Ok(())
}

/// A name without its first component, if what is left stays below the target.
fn below_top(name: &Path) -> Result<PathBuf, ArchiveError> {
    let mut parts = name.components().filter(|part| *part != Component::CurDir);
    let mut relative = PathBuf::new();
    let bad = || ArchiveError::Name {
        name: name.to_owned(),
    };
    match parts.next() {
        Some(Component::Normal(_)) => {}
        _ => return Err(bad()),
    }
    for part in parts {
        match part {
            Component::Normal(part) => relative.push(part),
            _ => return Err(bad()),
        }
    }
    Ok(relative)
}

/// Makes a new file; one that exists (a name twice in the archive, differing in case somewhere) is replaced by nothing.
fn create(path: &Path, executable: bool) -> std::io::Result<File> {
    let mode = if executable { 0o755 } else { 0o644 };
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
    {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::os::unix::fs::PermissionsExt as _;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rcc-archive-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    /// Writes the name into the header as it is: the builder itself refuses unsafe names.
    fn archive(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, content, mode) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.set_link_name_literal(content).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, std::io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn files_and_modes_are_unpacked_without_set_id_bits() {
        let target = scratch("plain");
        let bytes = archive(&[
            ("package/package.json", EntryType::Regular, "{}", 0o666),
            ("package/bin/tool", EntryType::Regular, "#!", 0o6777),
        ]);
        unpack(&bytes[..], &target).unwrap();
        let mode = |name: &str| {
            std::fs::metadata(target.join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(mode("package.json") & 0o111, 0);
        assert_eq!(mode("bin/tool") & 0o7000, 0);
        assert_eq!(mode("bin/tool") & 0o100, 0o100);
        std::fs::remove_dir_all(target).unwrap();
    }

    #[test]
    fn names_and_kinds_that_could_leave_the_target_are_refused() {
        for (entry, unsafe_name) in [
            (("package/../../x", EntryType::Regular, "", 0o644), true),
            (("/etc/x", EntryType::Regular, "", 0o644), true),
            (("../x", EntryType::Regular, "", 0o644), true),
            (("package/link", EntryType::Symlink, "/etc", 0o777), false),
            (
                ("package/hard", EntryType::Link, "/etc/passwd", 0o777),
                false,
            ),
            (("package/fifo", EntryType::Fifo, "", 0o777), false),
            (("package/dev", EntryType::Char, "", 0o777), false),
        ] {
            let target = scratch("unsafe");
            let error = unpack(&archive(&[entry])[..], &target).unwrap_err();
            assert_eq!(
                matches!(error, ArchiveError::Name { .. }),
                unsafe_name,
                "{entry:?}: {error}"
            );
            assert_eq!(
                matches!(error, ArchiveError::Kind { .. }),
                !unsafe_name,
                "{entry:?}: {error}"
            );
            std::fs::remove_dir_all(target).unwrap();
        }
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let target = scratch("short");
        let bytes = archive(&[("package/a", EntryType::Regular, "0123456789", 0o644)]);
        assert!(matches!(
            unpack(&bytes[..bytes.len() / 2], &target),
            Err(ArchiveError::Read(_) | ArchiveError::Write { .. })
        ));
        std::fs::remove_dir_all(target).unwrap();
    }
}
