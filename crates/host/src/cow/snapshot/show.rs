//! What a direct run changed, for showing: from what was written down at its end, or, while there is only the snapshot,
//! by comparing. What the agent left is in the project itself and is read there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::compare::{Closed, compare};
use super::{DATA, Snapshot};
use crate::cow::apply::{lower_now, split};
use crate::cow::beneath::open_file;
use crate::cow::changes::{Change, Differences, Status};
use crate::cow::compare::same_content;
use crate::cow::content::{Content, content, text};
use crate::cow::journal::{Action, Direction, PathRoom, Step};
use crate::cow::looks::{all_attributes, attributes, differing};
use crate::cow::undo::standing;
use crate::cow::{AttributeChange, Base, CowError, EntryType, Meta, Tree, on};

/// One path that a direct run changed.
#[derive(Debug)]
pub struct DirectChange {
    /// Where, relative to the project.
    pub path: PathBuf,
    /// How: `lower` is what was there before, `upper` what the run left.
    pub change: Change,
    /// Whether something else is there by now.
    pub since: bool,
    step: Step,
    store: Option<usize>,
}

/// Everything that a direct run changed.
#[derive(Debug)]
pub struct DirectChanges {
    /// The project, and since when.
    pub base: Base,
    /// The changes, ordered by path.
    pub changes: Vec<DirectChange>,
    project: Tree,
    store: Tree,
}

/// Reads what a direct run changed; none where the record holds nothing of such.
///
/// # Errors
/// It cannot be read, or the project cannot be compared.
pub fn direct_changes(record: &Path) -> Result<Option<DirectChanges>, CowError> {
    let (base, differences, store) = if let Some(entry) = standing(record, Direction::Undo)? {
        let journal = entry.journal()?;
        let ended = entry.ended()?;
        let steps = journal.steps.into_iter().zip(ended).enumerate();
        let differences: Vec<_> = steps
            .filter(|(_, (_, ended))| !ended.skipped)
            .map(|(index, (step, ended))| (step, ended.after, Some(index)))
            .collect();
        (journal.base, differences, entry.path)
    } else {
        let Some(snapshot) = Snapshot::open(record)? else {
            return Ok(None);
        };
        let compared = compare(&snapshot, Closed::Leave, PathRoom::new())?;
        let differences: Vec<_> = compared
            .differences
            .into_iter()
            .map(|difference| (difference.step, difference.after, difference.data))
            .collect();
        let store = snapshot.path.join(DATA);
        (snapshot.index.base, differences, store)
    };
    let project = base.lower()?;
    let store = Tree::open(&store).map_err(on("open", &store))?;
    let holders: BTreeSet<PathBuf> = differences
        .iter()
        .filter_map(|(step, _, _)| step.path.as_path().parent().map(Path::to_owned))
        .collect();
    let mut changes = Vec::new();
    let sides = Sides {
        project: &project,
        store: &store,
    };
    for (step, after, index) in differences {
        let path = step.path.as_path().to_owned();
        let is_directory = |meta: Option<Meta>| meta.is_some_and(|meta| meta.is_directory());
        let plain = match step.action {
            Action::RemoveDirectory => true,
            Action::MakeDirectory => step.before.is_none() && is_directory(after),
            _ => false,
        };
        // A directory that came or went: what is in it tells as much.
        if plain && holders.contains(&path) {
            continue;
        }
        let now = if path.as_os_str().is_empty() {
            after
        } else {
            lower_now(&project, &path)?
        };
        let since = match (&now, &after) {
            (Some(now), Some(after)) => !now.is_as_left(after),
            (None, None) => false,
            _ => true,
        };
        let status = sides.status(&step, after, index);
        changes.push(DirectChange {
            change: Change::alone(&path, status, step.before, after),
            path,
            since,
            step,
            store: index,
        });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(DirectChanges {
        base,
        changes,
        project,
        store,
    }))
}

/// The project as it is now, and what was kept of how it was.
struct Sides<'a> {
    project: &'a Tree,
    store: &'a Tree,
}

impl Sides<'_> {
    fn status(&self, step: &Step, after: Option<Meta>, store: Option<usize>) -> Status {
        match (step.before, after) {
            (None, _) => Status::Added,
            (Some(_), None) => Status::Removed,
            (Some(before), Some(after)) if before.kind != after.kind => Status::Retyped,
            (Some(before), Some(after)) => {
                let times = !before.is_directory() && !after.is_of_time(&before);
                Status::Modified(Differences {
                    // What cannot be compared counts by its times.
                    content: self.content(step, &after, store).unwrap_or(times),
                    mode: before.has_mode() && before.mode != after.mode,
                    attributes: self.attributes(step, after).unwrap_or(false),
                    times,
                })
            }
        }
    }

    fn content(&self, step: &Step, after: &Meta, store: Option<usize>) -> rustix::io::Result<bool> {
        let path = step.path.as_path();
        let Some((parent, name)) = split(path) else {
            return Ok(false);
        };
        match (after.kind, step.before, store) {
            (EntryType::Directory, _, _) => Ok(false),
            (EntryType::File, Some(before), Some(index)) if before.size == after.size => {
                let directory = self.project.location(parent)?;
                let new = open_file(directory.as_fd(), name)?;
                let old = open_file(self.store.root(), OsStr::new(&index.to_string()))?;
                Ok(!same_content(old.as_fd(), new.as_fd(), after.size)?)
            }
            (EntryType::Symlink, _, _) => {
                let directory = self.project.location(parent)?;
                let text = rustix::fs::readlinkat(&directory, name, Vec::new())?;
                let old = step.link.as_ref().map(|link| link.as_os_str().as_bytes());
                Ok(old != Some(text.as_bytes()))
            }
            _ => Ok(true),
        }
    }

    fn attributes(&self, step: &Step, after: Meta) -> rustix::io::Result<bool> {
        // Those of an entry that only got another mode are not written down.
        Ok(step.action != Action::Mode
            && !matches!(after.kind, EntryType::Symlink)
            && all_attributes(self.project, step.path.as_path(), after)? != step.attributes)
    }
}

impl DirectChanges {
    /// What was there before; none where nothing was.
    #[must_use]
    pub fn before(&self, change: &DirectChange) -> Option<Content> {
        let before = change.step.before?;
        Some(match before.kind {
            EntryType::Symlink => change
                .step
                .link
                .as_ref()
                .map_or(Content::Unreadable, |link| {
                    text(link.as_os_str().as_encoded_bytes().to_vec())
                }),
            _ => match change.store {
                Some(index) if before.is_file() => {
                    content(&self.store, Path::new(&index.to_string()), &before)
                }
                _ => content(&self.project, &change.path, &before),
            },
        })
    }

    /// The attributes that differ, as far as people are shown such.
    #[must_use]
    pub fn attributes(&self, change: &DirectChange) -> Vec<AttributeChange> {
        let step = &change.step;
        let old = match step.action {
            // Nothing of them was written down, as nothing of them differs.
            Action::Mode => return Vec::new(),
            _ => step.attributes.clone().carried(),
        };
        let new = change.change.upper;
        let new = new.and_then(|new| attributes(&self.project, &change.path, new).ok());
        differing(&old, &new.unwrap_or_default())
    }

    /// What is there now; none where the run left nothing.
    #[must_use]
    pub fn after(&self, change: &DirectChange) -> Option<Content> {
        let after = change.change.upper?;
        Some(content(&self.project, &change.path, &after))
    }
}
