//! The agent home and its first filling: the preset's files are copied from the real home, once.
//!
//! Reading side: the user's own home, but still no link is followed and only regular files are copied, so that an
//! import never reaches further than the preset says. Writing side: the agent home belongs to the agent, so every step
//! is relative to its descriptor, follows no link and overwrites nothing. The marker lies in rcc's state directory,
//! where the agent cannot remove it to have files imported again.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rcc_plan::SafeBytes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::directories::{Directories, DirectoryError, open_private};
use crate::homes::{HomeError, HomeLock, ImportRecord, is_home_name};

/// Most files copied for one agent home; state directories of agents hold some hundred.
const FILE_LIMIT: usize = 20_000;
/// Most bytes copied for one agent home.
const BYTE_LIMIT: u64 = 1 << 30;
/// Deepest directory copied.
const DEPTH_LIMIT: usize = 32;

/// An agent home that cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The name would leave the directory of agent homes.
    #[error("{} is not a name for an agent home", rcc_plan::escape(name))]
    Name {
        /// The name.
        name: String,
    },
    /// The directory is unusable.
    #[error("cannot open the agent home")]
    Directory(#[source] DirectoryError),
    /// It cannot be kept from being removed meanwhile.
    #[error("cannot keep the agent home for this run")]
    Lock(#[source] HomeError),
    /// The note that the import was done cannot be kept.
    #[error("cannot keep the import record {}", rcc_plan::escape(path))]
    Marker {
        /// The record.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be copied.
    #[error("cannot copy {} into the agent home", rcc_plan::escape(path))]
    Copy {
        /// The file, relative to the real home.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// There is more to copy than an agent's state can be.
    #[error(
        "{} holds too much to be copied into the agent home",
        rcc_plan::escape(path)
    )]
    TooMuch {
        /// Where the bound was passed, relative to the real home.
        path: PathBuf,
    },
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Files copied, relative to the home.
    pub copied: Vec<PathBuf>,
    /// Links and special files that were left out.
    pub skipped: Vec<PathBuf>,
}

/// An agent home that is ready for a run.
#[derive(Debug)]
pub struct AgentHome {
    /// Where it is, without links.
    pub path: PathBuf,
    /// What was copied into it just now.
    pub imported: Imported,
    /// Keeps it from being removed.
    pub lock: HomeLock,
}

/// Opens the agent home of a name, made on first use, and imports the paths into it unless that was done before.
///
/// # Errors
/// When the home cannot be made or something cannot be copied; the import is tried again by the next run then.
pub fn agent_home(
    directories: &Directories,
    name: &str,
    real_home: &Path,
    paths: &[PathBuf],
) -> Result<AgentHome, ImportError> {
    if !is_home_name(name) {
        return Err(ImportError::Name {
            name: name.to_owned(),
        });
    }
    let lock = HomeLock::share(directories, name).map_err(ImportError::Lock)?;
    let path = directories.agent_home(name);
    let home = open_private(&path).map_err(ImportError::Directory)?;
    let canonical = std::fs::canonicalize(&path).map_err(|source| {
        ImportError::Directory(DirectoryError::Open {
            path: path.clone(),
            source,
        })
    })?;
    let mut ready = AgentHome {
        path: canonical,
        imported: Imported::default(),
        lock,
    };
    if paths.is_empty() {
        return Ok(ready);
    }
    let markers = directories.state.join("imported");
    let marker = markers.join(name);
    let fail = |source| ImportError::Marker {
        path: marker.clone(),
        source,
    };
    if std::fs::symlink_metadata(&marker).is_ok_and(|data| data.len() > 0) {
        return Ok(ready);
    }
    open_private(&markers).map_err(ImportError::Directory)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let record = rustix::fs::openat(CWD, &marker, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| fail(errno.into()))?;
    // Two first runs at once: the second waits and finds the marker filled.
    rustix::fs::flock(&record, FlockOperation::LockExclusive)
        .map_err(|errno| fail(errno.into()))?;
    let mut record = File::from(record);
    if record.metadata().map_err(fail)?.len() > 0 {
        return Ok(ready);
    }
    let mut copy = Copy {
        done: Imported::default(),
        files: 0,
        bytes: 0,
    };
    let source = rustix::fs::openat(CWD, real_home, DIRECTORY, Mode::empty()).map_err(|errno| {
        ImportError::Copy {
            path: real_home.to_owned(),
            source: errno.into(),
        }
    })?;
    for path in paths {
        copy.path(source.as_fd(), home.as_fd(), path)?;
    }
    let note = ImportRecord {
        at_ms: now_ms(),
        copied: safe(&copy.done.copied),
        skipped: safe(&copy.done.skipped),
    };
    let note = serde_json::to_vec(&note).map_err(|error| fail(error.into()))?;
    record
        .rewind()
        .and_then(|()| record.write_all(&note))
        .map_err(fail)?;
    ready.imported = copy.done;
    Ok(ready)
}

fn safe(paths: &[PathBuf]) -> Vec<SafeBytes> {
    let paths = paths.iter().map(PathBuf::as_path);
    paths.map(SafeBytes::from).collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// One import under way.
struct Copy {
    done: Imported,
    files: usize,
    bytes: u64,
}

impl Copy {
    /// Copies one listed path, a file or a whole directory. A path that does not exist is no error.
    fn path(
        &mut self,
        source: BorrowedFd<'_>,
        home: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), ImportError> {
        let fail = |errno: Errno| ImportError::Copy {
            path: path.to_owned(),
            source: errno.into(),
        };
        let (Some(name), parent) = (path.file_name(), path.parent()) else {
            return Ok(());
        };
        let parent = parent
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let from = match rustix::fs::openat2(source, parent, DIRECTORY, Mode::empty(), RESOLVE) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(Errno::LOOP) => {
                self.done.skipped.push(path.to_owned());
                return Ok(());
            }
            Err(errno) => return Err(fail(errno)),
        };
        if matches!(
            rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW),
            Err(Errno::NOENT)
        ) {
            return Ok(());
        }
        let mut to = rustix::fs::openat(home, ".", DIRECTORY, Mode::empty()).map_err(fail)?;
        for part in parent
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)))
        {
            to = make_directory(to.as_fd(), Path::new(part.as_os_str())).map_err(fail)?;
        }
        self.entry(from.as_fd(), to.as_fd(), Path::new(name), path, 0)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &Path,
        shown: &Path,
        depth: usize,
    ) -> Result<(), ImportError> {
        let fail = |errno: Errno| ImportError::Copy {
            path: shown.to_owned(),
            source: errno.into(),
        };
        let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => self.file(from, to, name, shown),
            FileType::Directory if depth < DEPTH_LIMIT => {
                let from =
                    rustix::fs::openat(from, name, DIRECTORY, Mode::empty()).map_err(fail)?;
                let to = make_directory(to, name).map_err(fail)?;
                for entry in Dir::read_from(&from).map_err(fail)? {
                    let entry = entry.map_err(fail)?;
                    let child = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
                    if child != Path::new(".") && child != Path::new("..") {
                        self.entry(
                            from.as_fd(),
                            to.as_fd(),
                            child,
                            &shown.join(child),
                            depth + 1,
                        )?;
                    }
                }
                Ok(())
            }
            FileType::Directory => Err(ImportError::TooMuch {
                path: shown.to_owned(),
            }),
            _ => {
                self.done.skipped.push(shown.to_owned());
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &Path,
        shown: &Path,
    ) -> Result<(), ImportError> {
        let fail = |errno: Errno| ImportError::Copy {
            path: shown.to_owned(),
            source: errno.into(),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(fail)?;
        let status = rustix::fs::fstat(&source).map_err(fail)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            self.done.skipped.push(shown.to_owned());
            return Ok(());
        }
        self.files += 1;
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(status.st_size).unwrap_or(0));
        if self.files > FILE_LIMIT || self.bytes > BYTE_LIMIT {
            return Err(ImportError::TooMuch {
                path: shown.to_owned(),
            });
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Private while it fills; never the set-id bits.
        let target = match rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(target) => target,
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        };
        let mut target = File::from(target);
        let copied = std::io::copy(&mut File::from(source), &mut target).and_then(|_| {
            let mode = Mode::from_raw_mode(status.st_mode & 0o777);
            rustix::fs::fchmod(&target, mode).map_err(Into::into)
        });
        if let Err(source) = copied {
            // A part of a file must not be taken for the whole by the next attempt.
            let _ = rustix::fs::unlinkat(to, name, AtFlags::empty());
            return Err(ImportError::Copy {
                path: shown.to_owned(),
                source,
            });
        }
        self.done.copied.push(shown.to_owned());
        Ok(())
    }
}

/// Makes a private directory unless it exists, and opens it without following a link.
fn make_directory(parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn world(name: &str) -> (PathBuf, Directories) {
        let path = std::env::temp_dir().join(format!("rcc-import-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join(".agent/sub")).unwrap();
        let directories = Directories::from_environment(&BTreeMap::new(), &path);
        (path, directories)
    }

    fn paths() -> Vec<PathBuf> {
        [".agent", ".agent.json", ".missing/x"]
            .iter()
            .map(PathBuf::from)
            .collect()
    }

    #[test]
    fn listed_files_are_copied_once_with_their_modes_and_links_are_left_out() {
        let (home, directories) = world("once");
        std::fs::write(home.join(".agent.json"), "secret").unwrap();
        std::fs::set_permissions(
            home.join(".agent.json"),
            std::fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        std::fs::write(home.join(".agent/sub/a"), "a").unwrap();
        symlink("/etc/passwd", home.join(".agent/link")).unwrap();

        let first = agent_home(&directories, "x", &home, &paths()).unwrap();
        let (agent, done) = (first.path, first.imported);

        assert_eq!(done.copied.len(), 2);
        assert_eq!(done.skipped, [PathBuf::from(".agent/link")]);
        assert_eq!(
            std::fs::read_to_string(agent.join(".agent.json")).unwrap(),
            "secret"
        );
        assert_eq!(
            std::fs::metadata(agent.join(".agent.json"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert!(std::fs::symlink_metadata(agent.join(".agent/link")).is_err());

        std::fs::remove_file(agent.join(".agent.json")).unwrap();
        let again = agent_home(&directories, "x", &home, &paths()).unwrap();
        assert_eq!(again.imported, Imported::default());
        assert!(!agent.join(".agent.json").exists());
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_link_left_in_the_agent_home_is_not_written_through() {
        let (home, directories) = world("through");
        std::fs::write(home.join(".agent/sub/a"), "a").unwrap();
        let outside = home.join("outside");
        std::fs::create_dir(&outside).unwrap();
        let agent = directories.agent_home("x");
        open_private(&agent).unwrap();
        symlink(&outside, agent.join(".agent")).unwrap();

        let error = agent_home(&directories, "x", &home, &paths()).unwrap_err();

        let ImportError::Copy { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(source.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
        assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let (home, directories) = world("names");
        for name in ["", "..", "a/b", ".hidden", "-x", "a b"] {
            assert!(
                matches!(
                    agent_home(&directories, name, &home, &[]),
                    Err(ImportError::Name { .. })
                ),
                "{name}"
            );
        }
        std::fs::remove_dir_all(home).unwrap();
    }
}
