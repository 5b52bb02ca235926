//! Which mounts of a plan protect something that the host may replace while the run lasts.
//!
//! A mount of the sandbox is lost when a process of the host renames over, moves or removes the file below it (since
//! Linux 3.18, `detach_mounts()` in fs/namespace.c): an editor's save and `git config` do. Must not look at anything.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SafeBytes;
use crate::plan::{Access, BindKind, MountStep, Plan};

/// What a path of the sandbox has to be at every moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// A read-only mount.
    Closed,
    /// A mount point, so that it cannot be moved.
    Pinned,
    /// Covered by something empty.
    Hidden,
}

/// A path with what protects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// Path inside the sandbox.
    pub at: SafeBytes,
    /// The same file on the host.
    pub host: SafeBytes,
    /// What it has to be.
    pub protection: Protection,
}

impl Plan {
    /// Gives the paths whose protection the host can take away by accident, parents before children.
    ///
    /// Not in it: what lies on file systems that are the sandbox's own, and mounts whose loss only takes something away
    /// from the agent (grants in the agent home). A mount follows the directory that it shows, so a project or toolchain
    /// that is moved stays what it was inside.
    #[must_use]
    pub fn guarded(&self) -> Vec<Guarded> {
        let mut guarded: Vec<Guarded> = Vec::new();
        for step in &self.mounts {
            let found = match step {
                MountStep::Pin { at, access } => {
                    let protection = match access {
                        Access::ReadOnly => Protection::Closed,
                        Access::ReadWrite => Protection::Pinned,
                    };
                    vec![(at.as_path().to_owned(), protection)]
                }
                MountStep::Hide { at } if !at.as_path().starts_with("/proc") => {
                    vec![(at.as_path().to_owned(), Protection::Hidden)]
                }
                // With an overlay these names do not exist; without one they are covered one by one.
                MountStep::Etc { absent, .. } => absent
                    .iter()
                    .map(|name| (Path::new("/etc").join(name.as_path()), Protection::Hidden))
                    .collect(),
                MountStep::Bind {
                    at,
                    access: Access::ReadOnly,
                    kind: BindKind::Directory | BindKind::File,
                    ..
                } if self.is_writable_around(at.as_path()) => {
                    vec![(at.as_path().to_owned(), Protection::Closed)]
                }
                _ => Vec::new(),
            };
            for (at, protection) in found {
                guarded.retain(|other| other.at.as_path() != at);
                guarded.push(Guarded {
                    host: self.on_host(&at).into(),
                    at: at.into(),
                    protection,
                });
            }
        }
        guarded.sort_by(|a, b| a.at.as_path().cmp(b.at.as_path()));
        guarded
    }

    /// The nearest bind mount around a path: its place on the host, its place inside, what may be done there.
    fn around(&self, path: &Path) -> Option<(&Path, &Path, Access)> {
        let binds = self.mounts.iter().filter_map(|step| match step {
            MountStep::Bind {
                from, at, access, ..
            } => Some((from.as_path(), at.as_path(), *access)),
            _ => None,
        });
        binds
            .filter(|(_, at, _)| *at != path && path.starts_with(at))
            .max_by_key(|(_, at, _)| at.components().count())
    }

    /// Whether a path lies in a writable directory that has the same path on the host.
    fn is_writable_around(&self, path: &Path) -> bool {
        self.around(path)
            .is_some_and(|(from, at, access)| access == Access::ReadWrite && from == at)
    }

    fn on_host(&self, path: &Path) -> PathBuf {
        let moved = self.around(path).and_then(|(from, at, _)| {
            let below = path.strip_prefix(at).ok()?;
            Some(from.join(below))
        });
        moved.unwrap_or_else(|| path.to_owned())
    }
}
