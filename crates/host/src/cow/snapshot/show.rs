//! What a direct run changed, for showing: from what was written down at its end, or, while there is only the snapshot,
//! by comparing. What the agent left is in the project itself and is read there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::compare::{Closed, compare};
use super::{DATA, Snapshot};
use crate::cow::apply::lower_now;
use crate::cow::changes::{Change, Differences, Status};
use crate::cow::content::{Content, content, text};
use crate::cow::journal::{Action, Direction, PathRoom, Step};
use crate::cow::undo::standing;
use crate::cow::{Base, CowError, EntryType, Meta, Tree, on};

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
    for (step, after, store) in differences {
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
        changes.push(DirectChange {
            change: Change::alone(&path, status(&step, after), step.before, after),
            path,
            since,
            step,
            store,
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

fn status(step: &Step, after: Option<Meta>) -> Status {
    match (step.before, after) {
        (None, _) => Status::Added,
        (Some(_), None) => Status::Removed,
        (Some(before), Some(after)) if before.kind != after.kind => Status::Retyped,
        (Some(before), Some(after)) => {
            let mode = before.mode != after.mode;
            let times = !before.is_directory() && before.modified != after.modified;
            // The bytes are compared by whoever shows them; here it is enough that nothing else tells the difference.
            let content = !before.is_directory() && (before.size != after.size || times || !mode);
            Status::Modified(Differences {
                content,
                mode,
                attributes: !(content || mode || times),
                times,
            })
        }
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

    /// What is there now; none where the run left nothing.
    #[must_use]
    pub fn after(&self, change: &DirectChange) -> Option<Content> {
        let after = change.change.upper?;
        Some(content(&self.project, &change.path, &after))
    }
}
