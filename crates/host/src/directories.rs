//! Where rcc keeps things on the host (XDG Base Directory Specification 0.8), and how they are opened safely.
//!
//! Must not create anything unless asked by `open_private`, and must never create or accept a directory that someone
//! other than the caller can write to: the trust store and the audit logs live here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A state directory that cannot be made or must not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It could not be created or opened.
    #[error("cannot open the directory {}", rcc_plan::escape(path))]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// It belongs to another user.
    #[error(
        "the directory {} belongs to user id {owner}, not to the caller",
        rcc_plan::escape(path)
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may write to it.
    #[error(
        "the directory {} can be written by other users (mode {mode:03o})",
        rcc_plan::escape(path)
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// rcc's own directories. None of them need exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// The administrator's: `/etc/rcc`.
    pub admin: PathBuf,
    /// `$XDG_CONFIG_HOME/rcc`, default `~/.config/rcc`.
    pub config: PathBuf,
    /// `$XDG_DATA_HOME/rcc`, default `~/.local/share/rcc`: agent homes and installed agents.
    pub data: PathBuf,
    /// `$XDG_STATE_HOME/rcc`, default `~/.local/state/rcc`: trust store and run records.
    pub state: PathBuf,
    /// `$XDG_RUNTIME_DIR/rcc`, where that is set: control sockets of runs.
    pub runtime: Option<PathBuf>,
}

impl Directories {
    /// Derives the directories from the caller's environment. Relative values are ignored, as the specification says.
    #[must_use]
    pub fn from_environment(environment: &BTreeMap<OsString, OsString>, home: &Path) -> Self {
        let base = |variable: &str, default: &str| {
            environment
                .get(OsStr::new(variable))
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(default))
                .join("rcc")
        };
        Self {
            admin: PathBuf::from("/etc/rcc"),
            config: base("XDG_CONFIG_HOME", ".config"),
            data: base("XDG_DATA_HOME", ".local/share"),
            state: base("XDG_STATE_HOME", ".local/state"),
            runtime: environment
                .get(OsStr::new("XDG_RUNTIME_DIR"))
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .map(|path| path.join("rcc")),
        }
    }

    /// The persistent home of an agent or of `--home NAME`.
    #[must_use]
    pub fn agent_home(&self, name: &str) -> PathBuf {
        self.data.join("homes").join(name)
    }

    /// Directories that no project may contain or lie in, because the agent could change rcc's own decisions there.
    #[must_use]
    pub fn guarded(&self) -> Vec<&Path> {
        let mut guarded: Vec<&Path> = vec![&self.admin, &self.config, &self.data, &self.state];
        guarded.extend(self.runtime.as_deref());
        guarded
    }
}

/// Creates `path` (and missing parents) with mode 0700 and opens it; an existing one must be the caller's and private
/// to write. Links above it are the user's own choice (a data directory on another disk); the last component must be real.
///
/// # Errors
/// When it cannot be made, is a link, is another user's, or others may write to it.
pub fn open_private(path: &Path) -> Result<OwnedFd, DirectoryError> {
    let fail = |errno: Errno| DirectoryError::Open {
        path: path.to_owned(),
        source: errno.into(),
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let open = || rustix::fs::openat(CWD, path, flags, Mode::empty());
    let directory = match open() {
        Err(Errno::NOENT) => {
            create_all(path).map_err(fail)?;
            open().map_err(fail)?
        }
        other => other.map_err(fail)?,
    };
    let status = rustix::fs::fstat(&directory).map_err(fail)?;
    if status.st_uid != rustix::process::geteuid().as_raw() {
        return Err(DirectoryError::Owner {
            path: path.to_owned(),
            owner: status.st_uid,
        });
    }
    let mode = status.st_mode & 0o777;
    if mode & 0o022 != 0 {
        return Err(DirectoryError::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(directory)
}

/// `mkdir -p -m 700`.
fn create_all(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
        Err(Errno::NOENT) => {
            let parent = path.parent().ok_or(Errno::NOENT)?;
            create_all(parent)?;
            match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
                Err(Errno::EXIST) => Ok(()),
                other => other,
            }
        }
        Err(Errno::EXIST) => {
            let status = rustix::fs::statat(CWD, path, AtFlags::empty())?;
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                Ok(())
            } else {
                Err(Errno::NOTDIR)
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("rcc-directories-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn relative_variables_are_ignored() {
        let environment = BTreeMap::from([
            ("XDG_DATA_HOME".into(), "relative".into()),
            ("XDG_STATE_HOME".into(), "/s".into()),
        ]);
        let found = Directories::from_environment(&environment, Path::new("/home/ann"));
        assert_eq!(found.data, Path::new("/home/ann/.local/share/rcc"));
        assert_eq!(found.state, Path::new("/s/rcc"));
    }

    #[test]
    fn a_private_directory_is_made_with_its_parents_and_a_shared_one_is_refused() {
        let base = scratch("shared");
        let path = base.join("a/b");
        open_private(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(
            open_private(&path),
            Err(DirectoryError::Writable { mode: 0o770, .. })
        ));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let base = scratch("link");
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).unwrap();
        open_private(&base.join("real")).unwrap();
        let Err(DirectoryError::Open { source, .. }) = open_private(&base.join("link")) else {
            panic!("a link was accepted");
        };
        assert_eq!(source.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
        std::fs::remove_dir_all(base).unwrap();
    }
}
