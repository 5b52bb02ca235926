//! Finds the project directory and refuses the ones that would hand the agent more than a project.
//!
//! Must not look inside the repository beyond the two marker names: its content is hostile input.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rcc_plan::FileIdentity;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::user::Account;
use crate::{Directories, root};

/// Names that mark the top of a project.
const MARKERS: [&str; 2] = ["rcc.toml", ".git"];

/// Directories of the operating system: refused themselves; those marked `Tree` also with everything below.
const SYSTEM: &[(&str, Extent)] = &[
    ("/", Extent::Itself),
    ("/bin", Extent::Tree),
    ("/boot", Extent::Tree),
    ("/dev", Extent::Itself),
    ("/dev/shm", Extent::Itself),
    ("/etc", Extent::Tree),
    ("/gnu", Extent::Tree),
    ("/home", Extent::Itself),
    ("/lib", Extent::Tree),
    ("/lib32", Extent::Tree),
    ("/lib64", Extent::Tree),
    ("/libx32", Extent::Tree),
    ("/lost+found", Extent::Tree),
    ("/media", Extent::Itself),
    ("/mnt", Extent::Itself),
    ("/nix", Extent::Tree),
    ("/opt", Extent::Itself),
    ("/proc", Extent::Tree),
    ("/run", Extent::Itself),
    ("/run/user", Extent::Itself),
    ("/sbin", Extent::Tree),
    ("/srv", Extent::Itself),
    ("/sys", Extent::Tree),
    ("/tmp", Extent::Itself),
    ("/usr", Extent::Itself),
    ("/usr/bin", Extent::Tree),
    ("/usr/lib", Extent::Tree),
    ("/usr/lib32", Extent::Tree),
    ("/usr/lib64", Extent::Tree),
    ("/usr/libexec", Extent::Tree),
    ("/usr/local", Extent::Itself),
    ("/usr/local/bin", Extent::Tree),
    ("/usr/local/lib", Extent::Tree),
    ("/usr/local/sbin", Extent::Tree),
    ("/usr/sbin", Extent::Tree),
    ("/usr/share", Extent::Tree),
    ("/usr/src", Extent::Itself),
    ("/var", Extent::Itself),
    ("/var/cache", Extent::Itself),
    ("/var/lib", Extent::Itself),
    ("/var/log", Extent::Tree),
    ("/var/spool", Extent::Tree),
    ("/var/tmp", Extent::Itself),
];

/// Directories of the real home that hold keys: refused with everything below.
const KEY_DIRECTORIES: [&str; 4] = [".ssh", ".gnupg", ".aws", ".kube"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Itself,
    Tree,
}

/// How the project was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// `--project`.
    Named,
    /// The nearest directory upwards with a marker.
    Marked,
    /// The current directory, for want of a marker.
    CurrentDirectory,
}

/// The project directory and where in it the caller stands.
#[derive(Debug)]
pub struct Project {
    /// Canonical path.
    pub root: PathBuf,
    /// Device and inode at the time of the check.
    pub identity: FileIdentity,
    /// Canonical directory to start in: the current one when it lies in the project, else the project's root.
    pub cwd: PathBuf,
    /// How it was found.
    pub discovery: Discovery,
    /// The directory itself (`O_PATH`), for look-ups that renames cannot redirect.
    pub directory: OwnedFd,
}

/// A directory that cannot be the project.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The current directory was deleted or is out of reach.
    #[error("cannot tell the current directory")]
    CurrentDirectory {
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// Missing, not a directory, or unreadable.
    #[error("cannot open the project {}", rcc_plan::escape(path))]
    Open {
        /// As named by the caller.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A directory that belongs to the operating system.
    #[error(
        "cannot use {} as the project: it belongs to the operating system",
        rcc_plan::escape(path)
    )]
    System {
        /// Canonical path.
        path: PathBuf,
    },
    /// The home directory or something above it.
    #[error(
        "cannot use {} as the project: it is {relation}",
        rcc_plan::escape(path)
    )]
    Home {
        /// Canonical path.
        path: PathBuf,
        /// `your home directory`, `above your home directory`, …
        relation: &'static str,
    },
    /// It holds, or lies in, one of rcc's own directories.
    #[error(
        "cannot use {} as the project: rcc keeps its own files in {}",
        rcc_plan::escape(path),
        rcc_plan::escape(own)
    )]
    Own {
        /// Canonical path.
        path: PathBuf,
        /// The directory of rcc.
        own: PathBuf,
    },
    /// It holds private keys.
    #[error(
        "cannot use {} as the project: it is a directory for keys",
        rcc_plan::escape(path)
    )]
    Keys {
        /// Canonical path.
        path: PathBuf,
    },
}

/// Finds the project: the named directory, else the nearest directory upwards that has a marker, else the current one.
///
/// # Errors
/// When there is no usable current directory or the directory found must not be a project.
pub fn discover(
    named: Option<&Path>,
    account: &Account,
    directories: &Directories,
) -> Result<Project, ProjectError> {
    let current = std::env::current_dir();
    let (root, cwd, discovery) = match named {
        Some(path) => {
            let root = std::fs::canonicalize(path).map_err(|source| ProjectError::Open {
                path: path.to_owned(),
                source,
            })?;
            let cwd = current
                .ok()
                .filter(|cwd| cwd.starts_with(&root))
                .unwrap_or_else(|| root.clone());
            (root, cwd, Discovery::Named)
        }
        None => {
            // getcwd(2) is canonical already.
            let cwd = current.map_err(|source| ProjectError::CurrentDirectory { source })?;
            match marked(&cwd, account, directories) {
                Some(root) => (root, cwd, Discovery::Marked),
                None => (cwd.clone(), cwd, Discovery::CurrentDirectory),
            }
        }
    };
    refuse(&root, account, directories)?;
    let fail = |errno: Errno| ProjectError::Open {
        path: root.clone(),
        source: errno.into(),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, &root, flags, Mode::empty()).map_err(fail)?;
    rustix::fs::accessat(
        &directory,
        ".",
        Access::READ_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    )
    .map_err(fail)?;
    let status = rustix::fs::fstat(&directory).map_err(fail)?;
    Ok(Project {
        identity: FileIdentity {
            device: status.st_dev,
            inode: status.st_ino,
        },
        root,
        cwd,
        discovery,
        directory,
    })
}

/// The nearest directory upwards that has a marker and may be a project.
///
/// A marker counts only when the caller, root or the owner of the current directory made it: otherwise anyone could
/// turn `/srv/shared` into the project of everyone who works below it.
fn marked(cwd: &Path, account: &Account, directories: &Directories) -> Option<PathBuf> {
    let owner = rustix::fs::stat(cwd).ok()?.st_uid;
    cwd.ancestors()
        .take_while(|directory| refuse(directory, account, directories).is_ok())
        .find(|directory| {
            MARKERS.iter().any(|marker| {
                rustix::fs::statat(CWD, directory.join(marker), AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|status| [0, account.user.uid, owner].contains(&status.st_uid))
            })
        })
        .map(Path::to_owned)
}

/// Refuses directories that are more than a project.
fn refuse(path: &Path, account: &Account, directories: &Directories) -> Result<(), ProjectError> {
    let owned = || path.to_owned();
    let home = |relation| {
        Err(ProjectError::Home {
            path: path.to_owned(),
            relation,
        })
    };
    // The home first: for a system account it may lie in a system directory.
    if path == account.home {
        return home("your home directory");
    }
    let system = SYSTEM.iter().any(|(name, extent)| match extent {
        Extent::Itself => path == Path::new(name),
        Extent::Tree => path.starts_with(name),
    });
    if system {
        return Err(ProjectError::System { path: owned() });
    }
    if account.home.starts_with(path) {
        return home("above your home directory");
    }
    if account.other_homes.iter().any(|other| other == path) {
        return home("the home directory of another user");
    }
    if account
        .other_homes
        .iter()
        .any(|other| other.starts_with(path))
    {
        return home("above the home directory of another user");
    }
    if let Ok(below) = path.strip_prefix(&account.home)
        && KEY_DIRECTORIES.iter().any(|name| below.starts_with(name))
    {
        return Err(ProjectError::Keys { path: owned() });
    }
    for own in directories.guarded() {
        if own.starts_with(path) || path.starts_with(own) {
            return Err(ProjectError::Own {
                path: owned(),
                own: own.to_owned(),
            });
        }
    }
    Ok(())
}

/// The directory `~/git`, when it is a real directory.
pub(crate) fn git_directory(home: &Path) -> Option<PathBuf> {
    let path = home.join("git");
    (root::kind(&path) == Some(rcc_plan::EntryKind::Directory)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_plan::User;
    use std::collections::BTreeMap;

    fn account() -> Account {
        Account {
            user: User {
                uid: rustix::process::geteuid().as_raw(),
                gid: 1000,
                name: "ann".into(),
                shell: "/bin/sh".into(),
            },
            home: "/home/ann".into(),
            other_homes: vec!["/home/bob".into(), "/data/people/eve".into()],
        }
    }

    fn verdict(path: &str) -> Result<(), ProjectError> {
        let directories = Directories::from_environment(&BTreeMap::new(), Path::new("/home/ann"));
        refuse(Path::new(path), &account(), &directories)
    }

    #[test]
    fn directories_that_are_more_than_a_project_are_refused() {
        for path in [
            "/",
            "/usr",
            "/etc/nginx",
            "/tmp",
            "/proc/1",
            "/usr/lib/node_modules/x",
            "/dev/shm",
        ] {
            assert!(
                matches!(verdict(path), Err(ProjectError::System { .. })),
                "{path}"
            );
        }
        for path in ["/home/ann", "/home/bob", "/data/people", "/data/people/eve"] {
            assert!(
                matches!(verdict(path), Err(ProjectError::Home { .. })),
                "{path}"
            );
        }
        for path in [
            "/home/ann/.config",
            "/home/ann/.config/rcc",
            "/home/ann/.local",
            "/home/ann/.local/share/rcc/homes/x",
        ] {
            assert!(
                matches!(verdict(path), Err(ProjectError::Own { .. })),
                "{path}"
            );
        }
        assert!(matches!(
            verdict("/home/ann/.ssh/x"),
            Err(ProjectError::Keys { .. })
        ));
    }

    #[test]
    fn ordinary_places_are_accepted() {
        for path in [
            "/home/ann/work",
            "/tmp/x",
            "/srv/app",
            "/usr/src/app",
            "/home/ann/.dotfiles",
            "/work",
            "/var/www/a",
            "/opt/x",
        ] {
            assert!(verdict(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_marker_of_a_stranger_does_not_count() {
        let base = std::env::temp_dir().join(format!("rcc-project-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("a/.git")).unwrap();
        std::fs::create_dir_all(base.join("a/b/c")).unwrap();
        let base = std::fs::canonicalize(&base).unwrap();
        let directories = Directories::from_environment(&BTreeMap::new(), Path::new("/home/ann"));
        assert_eq!(
            marked(&base.join("a/b/c"), &account(), &directories),
            Some(base.join("a"))
        );
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(base.join("a/.git"), Some(4242), None).unwrap();
            assert_eq!(marked(&base.join("a/b/c"), &account(), &directories), None);
        }
        std::fs::remove_dir_all(base).unwrap();
    }
}
