//! What a test can choose about its world, and the files that carry it to the world's processes.
//!
//! Must not change anything outside the world's own directory.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{WorldError, addresses};

/// Who the commands in the host namespace run as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Login name in the world's `/etc/passwd`.
    pub name: String,
}

impl User {
    /// The user of the test process.
    #[must_use]
    pub fn caller() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Self {
            uid,
            gid,
            name: if uid == 0 {
                "root".to_owned()
            } else {
                "tester".to_owned()
            },
        }
    }

    /// An ordinary user that owns nothing on the machine; only root can ask for another user.
    #[must_use]
    pub fn ordinary() -> Self {
        Self {
            uid: 64_001,
            gid: 64_001,
            name: "tester".to_owned(),
        }
    }
}

/// Configuration of a [`super::World`].
#[derive(Debug, Clone, Default)]
pub struct WorldConfig {
    pub(super) user: Option<User>,
    binds: Vec<(PathBuf, PathBuf)>,
    real_run: bool,
    without_ipv6: bool,
    without_ipv4: bool,
    resolv_conf: Option<String>,
    host_sockets: bool,
    without_wiretap: bool,
}

/// What init reads from the world's directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Whom the commands run as.
    pub user: User,
    /// Whom the servers run as; never root.
    pub service_user: User,
    /// Is the caller root?
    pub is_root: bool,
    /// Source and target of additional bind mounts.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Leave `/run` as it is?
    pub real_run: bool,
    /// Make a host without IPv6?
    pub without_ipv6: bool,
    /// Make a host without IPv4, loopback excepted?
    pub without_ipv4: bool,
    /// Listen on the sockets of [`super::addresses::HOST_SOCKETS`]?
    pub host_sockets: bool,
    /// Record no packets?
    pub without_wiretap: bool,
}

impl WorldConfig {
    /// Chooses the user of the commands; anything but the caller needs root.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Shows `source` at `target` in the world, which must exist on the machine already.
    #[must_use]
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.binds.push((source.into(), target.into()));
        self
    }

    /// Leaves the machine's `/run` visible instead of a fresh one.
    #[must_use]
    pub fn real_run(mut self) -> Self {
        self.real_run = true;
        self
    }

    /// Gives the host no IPv6 address and no IPv6 route.
    #[must_use]
    pub fn without_ipv6(mut self) -> Self {
        self.without_ipv6 = true;
        self
    }

    /// Gives the host no IPv4 address but those of loopback, and no IPv4 route.
    #[must_use]
    pub fn without_ipv4(mut self) -> Self {
        self.without_ipv4 = true;
        self
    }

    /// Makes the Unix sockets that a desktop or server has (Docker, D-Bus, podman …) as decoys that answer and count.
    #[must_use]
    pub fn host_sockets(mut self) -> Self {
        self.host_sockets = true;
        self
    }

    /// Records no packets: for measuring bulk transfers. [`super::World::packets`] then fails.
    #[must_use]
    pub fn without_wiretap(mut self) -> Self {
        self.without_wiretap = true;
        self
    }

    /// Replaces the text of `/etc/resolv.conf`.
    #[must_use]
    pub fn resolv_conf(mut self, text: impl Into<String>) -> Self {
        self.resolv_conf = Some(text.into());
        self
    }

    /// Lays out the world's directory.
    pub(super) fn write_to(
        &self,
        directory: &Path,
        user: &User,
        is_root: bool,
    ) -> Result<(), WorldError> {
        let service_user = service_user(is_root);
        let resolv_conf = self.resolv_conf.clone().unwrap_or_else(|| {
            format!(
                "nameserver {}\nnameserver {}\n",
                addresses::RESOLVER_V4,
                addresses::RESOLVER_V6
            )
        });
        let v6 = if self.without_ipv6 {
            String::new()
        } else {
            "::1 localhost ip6-localhost\n".to_owned()
        };
        let hosts = format!(
            "127.0.0.1 localhost\n{v6}127.0.1.1 rcc-test-host\n203.0.113.70 in-hosts-file.example\n"
        );
        let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";
        let setup = Setup {
            user: user.clone(),
            service_user: service_user.clone(),
            is_root,
            binds: self.binds.clone(),
            real_run: self.real_run,
            without_ipv6: self.without_ipv6,
            without_ipv4: self.without_ipv4,
            host_sockets: self.host_sockets,
            without_wiretap: self.without_wiretap,
        };
        let json = serde_json::to_string_pretty(&setup).expect("the setup is plain data");
        let home = Path::new("home").join(&user.name);
        let layout: [(&Path, Option<&User>, u32); 11] = [
            (Path::new("etc"), None, 0o755),
            (Path::new("public"), None, 0o755),
            (Path::new("jobs"), None, 0o700),
            (Path::new("bin"), None, 0o755),
            (Path::new("home"), None, 0o755),
            (&home, Some(user), 0o700),
            (Path::new("scratch"), Some(user), 0o755),
            (Path::new("user"), Some(user), 0o700),
            (Path::new("service"), Some(&service_user), 0o755),
            (Path::new("git"), Some(&service_user), 0o755),
            (Path::new("registry"), Some(&service_user), 0o755),
        ];
        for (name, owner, mode) in layout {
            let path = directory.join(name);
            std::fs::create_dir(&path)
                .and_then(|()| {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                })
                .and_then(|()| match owner {
                    Some(owner) if is_root => chown(&path, Some(owner.uid), Some(owner.gid)),
                    _ => Ok(()),
                })
                .map_err(|source| WorldError::Directory { path, source })?;
        }
        let files = [
            ("etc/resolv.conf", resolv_conf),
            ("etc/hosts", hosts),
            ("etc/nsswitch.conf", nsswitch.to_owned()),
            (
                "etc/passwd",
                with_users("/etc/passwd", &passwd_lines(directory, user, &service_user)),
            ),
            (
                "etc/group",
                with_users("/etc/group", &group_lines(user, &service_user)),
            ),
            ("setup.json", json),
        ];
        for (name, text) in files {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(|source| WorldError::Directory { path, source })?;
        }
        Ok(())
    }
}

/// Whom the servers run as.
pub(super) fn service_user(is_root: bool) -> User {
    if is_root {
        User {
            uid: 64_002,
            gid: 64_002,
            name: "git".to_owned(),
        }
    } else {
        User::caller()
    }
}

/// Puts our lines before the machine's own, so that they win for the same name or id.
fn with_users(path: &str, lines: &str) -> String {
    let machine = std::fs::read_to_string(path).unwrap_or_default();
    format!("{lines}{machine}")
}

fn passwd_lines(directory: &Path, user: &User, service_user: &User) -> String {
    let home = directory.join("home").join(&user.name);
    let service_home = directory.join("service");
    format!(
        "{}:x:{}:{}:test user:{}:/bin/sh\ngit:x:{}:{}:git server:{}:/bin/sh\n",
        user.name,
        user.uid,
        user.gid,
        home.display(),
        service_user.uid,
        service_user.gid,
        service_home.display()
    )
}

fn group_lines(user: &User, service_user: &User) -> String {
    format!(
        "{}:x:{}:\ngit:x:{}:\n",
        user.name, user.gid, service_user.gid
    )
}

/// Gives a tree to a user, links themselves included and never followed.
pub(super) fn chown_tree(path: &Path, user: &User) {
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))
        .expect("root may change owners");
    if path.symlink_metadata().is_ok_and(|data| data.is_dir()) {
        for entry in std::fs::read_dir(path).expect("root may read any directory") {
            chown_tree(&entry.expect("root may read any directory").path(), user);
        }
    }
}
