//! Copy-on-write runs: the layer that an agent's changes went to, what is in it, and how it leaves again.
//!
//! Everything in a layer was made by an agent, and the project may be written to by other runs meanwhile: names are looked
//! up relative to descriptors and follow no link, nothing is opened before its type is known, nothing recurses. Must not
//! print, and must not decide which run is meant.

mod apply;
mod attributes;
mod beneath;
mod changes;
mod compare;
mod content;
mod journal;
mod known;
mod layer;
mod layers;
mod looks;
mod meta;
mod place;
mod remove;
mod snapshot;
#[cfg(test)]
mod tests;
mod undo;

use std::path::{Path, PathBuf};

pub use apply::{Choice, Guarded, Offer, Outcome, Part, Pick, Standing, apply, leads_git, offers};
pub use beneath::Tree;
pub use changes::{Change, Changes, Differences, Status, changes};
pub use content::{Content, content};
pub use journal::Direction;
pub use layer::{Base, Layer, Root};
pub use layers::{Layers, finish_removal};
pub use looks::{AttributeChange, attribute_changes};
pub use meta::{EntryType, Meta, Time};
pub use remove::remove_tree;
pub use snapshot::{
    Closed, DirectChange, DirectChanges, Held, Request as SnapshotRequest, Taken, close,
    direct_changes, held, remove as remove_snapshot, take,
};
pub use undo::{Afterwards, Undone, has_open, last, redo, undo};

/// A layer or project that cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CowError {
    /// A call failed.
    #[error("cannot {action} {}", rcc_plan::escape(path))]
    Call {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// The file system of the layer cannot hold one.
    #[error(
        "cannot keep changes in {}: its file system has no user extended attributes",
        rcc_plan::escape(path)
    )]
    NoAttributes {
        /// The layer.
        path: PathBuf,
    },
    /// The kernel lays nothing over a directory with a mount in it that it keeps closed in user namespaces.
    #[error(
        "cannot keep the changes of {} apart: another file system is mounted in it, at {}",
        rcc_plan::escape(path),
        rcc_plan::escape(mount)
    )]
    MountInside {
        /// The project.
        path: PathBuf,
        /// The mount point.
        mount: PathBuf,
    },
    /// The layer's description is not one.
    #[error("cannot understand {}", rcc_plan::escape(path))]
    Description {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Files that the caller cannot read, so that no snapshot can keep them.
    #[error(
        "cannot make a snapshot of {}: {}",
        rcc_plan::escape(path),
        listed(files)
    )]
    UnreadableFiles {
        /// The project.
        path: PathBuf,
        /// The files, relative to it.
        files: Vec<PathBuf>,
    },
    /// More would have to be copied than the policy lets a snapshot cost.
    #[error(
        "a snapshot would copy {files} files of {} MiB together, and files.snapshot_limit is {} MiB",
        bytes >> 20,
        limit_bytes >> 20
    )]
    SnapshotTooLarge {
        /// How many.
        files: usize,
        /// What they take on the disk.
        bytes: u64,
        /// What the policy says.
        limit_bytes: u64,
    },
    /// There is no room for it.
    #[error(
        "a snapshot needs {} MiB in {}, where {} MiB are free",
        wanted_bytes >> 20,
        rcc_plan::escape(path),
        free_bytes >> 20
    )]
    NoRoom {
        /// Where it would be.
        path: PathBuf,
        /// What it takes.
        wanted_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The project has too many entries for a snapshot.
    #[error(
        "{} has more than {limit} entries, too many for a snapshot",
        rcc_plan::escape(path)
    )]
    TooMany {
        /// The project.
        path: PathBuf,
        /// Most that are kept.
        limit: usize,
    },
    /// What is to be written down has paths so long that reading them again would take too much memory.
    #[error(
        "the paths of all changes take more than {} MiB together, and one in {} is {levels} levels deep",
        limit_bytes >> 20,
        rcc_plan::escape(path)
    )]
    LongPaths {
        /// The top of the deep tree.
        path: PathBuf,
        /// How deep it is.
        levels: usize,
        /// Most bytes.
        limit_bytes: usize,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The project is another directory than the one the run began with.
    #[error(
        "{} is no longer the directory that the run worked on",
        rcc_plan::escape(path)
    )]
    OtherProject {
        /// The project.
        path: PathBuf,
    },
}

/// Most files that a message lists.
const LISTED: usize = 10;

fn listed(files: &[PathBuf]) -> String {
    let mut names: Vec<String> = files.iter().take(LISTED).map(rcc_plan::escape).collect();
    if files.len() > LISTED {
        names.push(format!("and {} more", files.len() - LISTED));
    }
    format!("{} cannot be read", names.join(", "))
}

/// Names what failed on which path.
pub(crate) fn on(
    action: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(rustix::io::Errno) -> CowError {
    move |errno| CowError::Call {
        action,
        path: path.as_ref().to_owned(),
        source: errno.into(),
    }
}
