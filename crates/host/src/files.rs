//! Reading and writing single small files: bounded, regular files only, replaced atomically.
//!
//! Must not follow a link in a directory that the agent could have written to.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("cannot read {}", rcc_plan::escape(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", rcc_plan::escape(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// It is a link, and links are not followed there.
    #[error("{} is a symbolic link, which is not followed", rcc_plan::escape(path))]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory, FIFO, socket or device.
    #[error("{} is not a regular file", rcc_plan::escape(path))]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than such a file may be.
    #[error("{} is larger than {limit_bytes} bytes", rcc_plan::escape(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit_bytes: usize,
    },
    /// It is not text.
    #[error("{} is not UTF-8 text", rcc_plan::escape(path))]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to someone who has no say here.
    #[error("{} belongs to user id {owner}", rcc_plan::escape(path))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may write to it.
    #[error(
        "{} can be written by other users (mode {mode:03o})",
        rcc_plan::escape(path)
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The text.
    pub text: String,
    /// Owner of the file.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Which links may be followed on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The user's or administrator's own place: links are their choice.
    Follow,
    /// A place the agent can write to.
    Refuse,
}

/// Reads a text file below a directory; `None` when it does not exist.
///
/// # Errors
/// When it is anything but a regular text file within the bound, or a link where links are refused.
pub fn read_below(
    directory: BorrowedFd<'_>,
    shown: &Path,
    name: &Path,
    limit_bytes: usize,
    links: Links,
) -> Result<Option<Content>, FileError> {
    let path = shown.join(name);
    let fail = |errno: Errno| FileError::Read {
        path: path.clone(),
        source: errno.into(),
    };
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match links {
        Links::Follow => rustix::fs::openat(directory, name, flags, Mode::empty()),
        Links::Refuse => rustix::fs::openat2(
            directory,
            name,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        ),
    };
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) if links == Links::Refuse => return Err(FileError::Link { path }),
        // A socket, or a device without a driver.
        Err(Errno::NXIO) => return Err(FileError::NotRegular { path }),
        Err(errno) => return Err(fail(errno)),
    };
    let status = rustix::fs::fstat(&file).map_err(fail)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(FileError::NotRegular { path });
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(limit_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Read {
            path: path.clone(),
            source,
        })?;
    if bytes.len() > limit_bytes {
        return Err(FileError::TooLarge { path, limit_bytes });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Content {
            text,
            owner: status.st_uid,
            mode: status.st_mode & 0o7777,
        })),
        Err(_) => Err(FileError::NotText { path }),
    }
}

/// Reads a text file of the user's or administrator's; `None` when it does not exist.
///
/// # Errors
/// As [`read_below`].
pub fn read_text(path: &Path, limit_bytes: usize) -> Result<Option<Content>, FileError> {
    read_below(CWD, Path::new(""), path, limit_bytes, Links::Follow)
}

/// Refuses a policy file that someone other than the given owners could have written.
///
/// # Errors
/// When the owner is another or the mode lets others write.
pub fn refuse_foreign(path: &Path, content: &Content, owners: &[u32]) -> Result<(), FileError> {
    if !owners.contains(&content.owner) {
        return Err(FileError::Foreign {
            path: path.to_owned(),
            owner: content.owner,
        });
    }
    if content.mode & 0o002 != 0 {
        return Err(FileError::Writable {
            path: path.to_owned(),
            mode: content.mode,
        });
    }
    Ok(())
}

/// Writes a private file in one of rcc's own directories; a reader sees the old content or the new, never a part.
///
/// # Errors
/// When it cannot be written; nothing but the old content is left then.
pub fn replace(
    directory: BorrowedFd<'_>,
    shown: &Path,
    name: &str,
    content: &[u8],
) -> Result<(), FileError> {
    let temporary = format!(".{name}.{}", std::process::id());
    let fail = |errno: Errno| FileError::Write {
        path: shown.join(name),
        source: errno.into(),
    };
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(directory, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
    let mut file = File::from(file);
    let written = file.write_all(content).and_then(|()| {
        rustix::fs::renameat(directory, &temporary, directory, name).map_err(Into::into)
    });
    written.map_err(|source| {
        // The first error is the one to report; a leftover is overwritten by the next attempt.
        let _ = rustix::fs::unlinkat(directory.as_fd(), &temporary, AtFlags::empty());
        FileError::Write {
            path: shown.join(name),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("rcc-files-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        let directory = File::open(&path).unwrap();
        (path, directory)
    }

    #[test]
    fn only_bounded_regular_text_is_read() {
        let (path, directory) = scratch("read");
        std::fs::write(path.join("good"), "x = 1").unwrap();
        std::fs::write(path.join("large"), "0123456789").unwrap();
        std::fs::write(path.join("binary"), [0xff, 0xfe]).unwrap();
        symlink("good", path.join("link")).unwrap();
        rustix::fs::mknodat(&directory, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let read =
            |name: &str, links| read_below(directory.as_fd(), &path, Path::new(name), 8, links);

        assert_eq!(read("good", Links::Refuse).unwrap().unwrap().text, "x = 1");
        assert_eq!(read("link", Links::Follow).unwrap().unwrap().text, "x = 1");
        assert!(matches!(
            read("link", Links::Refuse),
            Err(FileError::Link { .. })
        ));
        assert!(matches!(
            read("large", Links::Refuse),
            Err(FileError::TooLarge { .. })
        ));
        assert!(matches!(
            read("binary", Links::Refuse),
            Err(FileError::NotText { .. })
        ));
        assert!(matches!(
            read("fifo", Links::Refuse),
            Err(FileError::NotRegular { .. })
        ));
        assert!(matches!(
            read(".", Links::Refuse),
            Err(FileError::NotRegular { .. })
        ));
        assert_eq!(read("missing", Links::Refuse).unwrap(), None);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_replaced_file_is_private_and_nothing_else_is_left() {
        let (path, directory) = scratch("replace");
        replace(directory.as_fd(), &path, "a.json", b"1").unwrap();
        replace(directory.as_fd(), &path, "a.json", b"22").unwrap();
        assert_eq!(std::fs::read(path.join("a.json")).unwrap(), b"22");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn policy_of_strangers_is_refused() {
        let content = |owner, mode| Content {
            text: String::new(),
            owner,
            mode,
        };
        let path = Path::new("/x");
        assert!(refuse_foreign(path, &content(1000, 0o644), &[0, 1000]).is_ok());
        assert!(matches!(
            refuse_foreign(path, &content(1001, 0o644), &[0, 1000]),
            Err(FileError::Foreign { .. })
        ));
        assert!(matches!(
            refuse_foreign(path, &content(0, 0o666), &[0]),
            Err(FileError::Writable { .. })
        ));
    }
}
