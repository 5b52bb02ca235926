//! Which changes are applied, which are held back and why, which are conflicts. Must not change anything, nor look at more
//! of the project than the names that the layer touches.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::super::beneath::open_file;
use super::super::changes::{Change, Changes, Status};
use super::super::known::Known;
use super::super::meta::Time;
use super::repository::is_of_repository;
use super::steps::MODE;
use super::{Choice, Guarded, Meta, Sides, Tree, split};
use rustix::io::Errno;

/// Why a change is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Special,
    Unreadable,
    ReadOnly,
    Guarded,
    /// Looking is enough for git to write its index again, so this must not stand in the way of everything else.
    Index,
    Stays,
    Below,
}

impl Hold {
    /// The sentence for people.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Special => "a FIFO, socket or device, which is never applied",
            Self::Unreadable => "it cannot be read",
            Self::ReadOnly => {
                "the directory that it is in is closed to writing; after chmod u+w of it, apply it by name"
            }
            Self::Guarded => "your programs run or obey it; name it to apply it",
            Self::Index => "git wrote its index anew meanwhile; git reset makes it fit",
            Self::Stays => "something in it stays",
            Self::Below => "the directory that it is in stays as it was",
        }
    }
}

/// What was decided about every change, by its index.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    nodes: &'a [Change],
    /// Paths are made where they are asked for: of a deep tree all together are the square of its depth.
    found: &'a Changes,
    wanted: Vec<bool>,
    held: Vec<Option<Hold>>,
    /// What the user changed, held back or not.
    conflicts: Vec<bool>,
}

impl<'a> Decided<'a> {
    /// Decides. `since` is when the run began.
    pub(super) fn make(
        found: &'a Changes,
        sides: Sides<'_>,
        choice: &Choice,
        since: Time,
        guarded: Guarded<'_>,
        known: &Known,
    ) -> Self {
        let nodes = found.nodes();
        let mut decided = Self {
            wanted: wanted(found, choice),
            nodes,
            found,
            held: vec![None; nodes.len()],
            conflicts: vec![false; nodes.len()],
        };
        let is_guarded = |path: &Path| guarded(path) || is_of_repository(path, sides);
        for index in 0..nodes.len() {
            if decided.concerns(index) {
                decided.one(index, sides, choice, since, &is_guarded, known);
            }
        }
        decided.keep_together();
        decided
    }

    /// Whether the change is meant and is one.
    fn concerns(&self, index: usize) -> bool {
        self.wanted[index] && self.nodes[index].status != Status::Same
    }

    /// Looks at one change by itself.
    fn one(
        &mut self,
        index: usize,
        sides: Sides<'_>,
        choice: &Choice,
        since: Time,
        is_guarded: &dyn Fn(&Path) -> bool,
        known: &Known,
    ) {
        let (node, path) = (&self.nodes[index], &self.found.path(index));
        // By its own name, or as part of a guarded directory that was named.
        let named = || {
            let is =
                |chosen: &Path| path == chosen || (path.starts_with(chosen) && is_guarded(chosen));
            // A new directory runs nothing by itself: it comes with what was chosen in it.
            let holds = |chosen: &Path| {
                chosen.starts_with(path) && node.upper.is_some_and(|meta| meta.is_directory())
            };
            let picks = choice.picks.iter().flat_map(BTreeMap::keys);
            let mut names = choice.paths.iter().chain(picks);
            names.any(|chosen| is(chosen) || holds(chosen))
        };
        // A file or link of this name leads git to another repository, with another configuration.
        let leads = node.name() == ".git" && !node.upper.is_some_and(|meta| meta.is_directory());
        let special_below = node.lower.is_some_and(|meta| meta.is_special());
        self.held[index] = if node.status == Status::Foreign || special_below {
            Some(Hold::Special)
        } else if node.status == Status::Unreadable
            || is_closed(path, node.upper, sides.upper)
            || is_closed(path, node.lower, sides.lower)
        {
            Some(Hold::Unreadable)
        } else if needs_to_write(node) && is_read_only(path.parent(), sides.lower) {
            Some(Hold::ReadOnly)
        } else if (leads || is_guarded(path)) && !named() {
            Some(Hold::Guarded)
        } else {
            None
        };
        let is_seen = choice.picks.as_ref().is_none_or(|picks| {
            picks
                .get(path)
                .is_none_or(|pick| match (&pick.seen, &node.lower) {
                    (None, None) => true,
                    (Some(seen), Some(now)) => now.is_untouched(seen),
                    _ => false,
                })
        });
        if !is_seen {
            self.conflicts[index] = true;
            return;
        }
        let Some(old) = node
            .lower
            .filter(|_| matches!(self.held[index], None | Some(Hold::Guarded)))
        else {
            return;
        };
        // What is in a directory is looked at by itself.
        let only_holds = old.is_directory() && !matches!(node.status, Status::Modified(_));
        if !only_holds
            && (old.changed > since || node.met)
            && !known.has(path, &old)
            && !is_below(path, &choice.overwrite)
        {
            if path.ends_with(".git/index") && !choice.paths.contains(path) {
                self.held[index] = Some(Hold::Index);
            } else {
                self.conflicts[index] = true;
            }
        }
    }

    /// Holds back what cannot go without something that stays, or come without something that does not.
    fn keep_together(&mut self) {
        let nodes = self.nodes;
        for index in (0..nodes.len()).rev() {
            let goes = |index: usize| {
                matches!(nodes[index].status, Status::Removed | Status::Retyped)
                    && nodes[index].lower.is_some_and(|meta| meta.is_directory())
            };
            let stays = self.held[index].is_some() || !self.wanted[index];
            let took_place = nodes[index].lower.is_some();
            if let Some(parent) = nodes[index]
                .parent()
                .filter(|parent| stays && took_place && goes(*parent))
            {
                self.held[parent] = self.held[parent].or(Some(Hold::Stays));
            }
        }
        for index in 0..nodes.len() {
            if let Some(parent) = nodes[index].parent()
                && self.held[parent].is_some()
                && nodes[parent].status != Status::Removed
                && (nodes[parent].whole || nodes[parent].status == Status::Retyped)
            {
                self.held[index] = self.held[index].or(Some(Hold::Below));
            }
        }
    }

    /// What the user changed meanwhile.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (0..self.nodes.len())
            .filter(|index| self.conflicts[*index] && self.held[*index].is_none())
            .map(|index| self.found.path(index))
    }

    /// Whether the user changed it meanwhile.
    pub(super) fn is_conflict(&self, index: usize) -> bool {
        self.conflicts.get(index).is_some_and(|is| *is)
    }

    /// Why a change is held back; of what is held back with its directory, the directory's reason.
    pub(super) fn hold(&self, index: usize) -> Option<Hold> {
        let mut at = index;
        loop {
            let hold = *self.held.get(at)?;
            match (hold, self.nodes.get(at).and_then(Change::parent)) {
                (Some(Hold::Below), Some(parent)) => at = parent,
                _ => return hold,
            }
        }
    }

    /// What is held back, without what is held back only with its directory.
    pub(super) fn told(&self) -> Vec<(PathBuf, &'static str)> {
        let indices = (0..self.nodes.len()).filter(|index| self.concerns(*index));
        indices
            .filter(|index| {
                let parent = self.nodes[*index].parent();
                parent.is_none_or(|parent| self.held[parent].is_none())
            })
            .filter_map(|index| Some((self.found.path(index), self.held[index]?.reason())))
            .collect()
    }

    /// Whether something is held back that the user can still apply, or look at.
    pub(super) fn waits(&self) -> bool {
        (0..self.nodes.len()).any(|index| {
            let node = &self.nodes[index];
            let is_directory = node.upper.is_some_and(|meta| meta.is_directory());
            self.concerns(index)
                && match self.held[index] {
                    Some(Hold::Guarded | Hold::ReadOnly) => true,
                    Some(Hold::Unreadable) => is_directory,
                    Some(Hold::Special | Hold::Index | Hold::Stays | Hold::Below) | None => false,
                }
        })
    }

    /// What is applied.
    pub(super) fn agreed(&self) -> impl Iterator<Item = (&'a Change, PathBuf)> {
        let indices = (0..self.nodes.len()).filter(|index| self.concerns(*index));
        indices
            .filter(|index| self.held[*index].is_none())
            .map(|index| (&self.nodes[index], self.found.path(index)))
    }
}

/// Whether a path is at or below one of these.
fn is_below(path: &Path, tops: &[PathBuf]) -> bool {
    tops.iter().any(|top| path.starts_with(top))
}

/// Which changes are meant. A new directory comes along with what is chosen in it.
fn wanted(found: &Changes, choice: &Choice) -> Vec<bool> {
    let nodes = found.nodes();
    let mut wanted: Vec<bool> = (0..nodes.len())
        .map(|index| match &choice.picks {
            Some(picks) => picks.contains_key(&found.path(index)),
            None => choice.paths.is_empty() || is_below(&found.path(index), &choice.paths),
        })
        .collect();
    if choice.picks.is_some() {
        come_along(nodes, &mut wanted);
    }
    for index in (0..nodes.len()).rev() {
        let makes = nodes[index].whole;
        let holds = wanted[index] && nodes[index].status != Status::Removed;
        if let (true, Some(parent)) = (
            holds && (makes || nodes[index].upper.is_some()),
            nodes[index].parent(),
        ) {
            wanted[parent] |= nodes[parent].whole;
        }
    }
    wanted
}

/// What is not chosen by itself when one looks at each change: the old content of a directory that becomes something else,
/// and a directory that goes when all that was in it goes.
fn come_along(nodes: &[Change], wanted: &mut [bool]) {
    for index in 0..nodes.len() {
        if let Some(parent) = nodes[index].parent() {
            let goes = matches!(nodes[parent].status, Status::Retyped | Status::Removed);
            let is_old = nodes[index].status == Status::Removed;
            let parent_is = nodes[parent].lower.is_some_and(|meta| meta.is_directory());
            wanted[index] |= wanted[parent] && goes && is_old && parent_is;
        }
    }
    // Directories come before what is in them.
    let mut holds = vec![None; nodes.len()];
    for index in (0..nodes.len()).rev() {
        if let (Status::Removed, Some(all)) = (nodes[index].status, holds[index]) {
            wanted[index] = all;
        }
        if let Some(parent) = nodes[index].parent() {
            holds[parent] = Some(holds[parent].unwrap_or(true) && wanted[index]);
        }
    }
}

/// Whether applying a change makes or takes a name in its directory.
fn needs_to_write(node: &Change) -> bool {
    let is_directory = node.upper.is_some_and(|meta| meta.is_directory());
    match node.status {
        Status::Modified(differs) => !is_directory && differs != MODE,
        _ => true,
    }
}

/// Whether the caller can change no names in a directory of the project. One that is not there yet is made open.
fn is_read_only(directory: Option<&Path>, lower: &Tree) -> bool {
    let Some(Ok(directory)) = directory.map(|directory| lower.listing(directory)) else {
        return false;
    };
    let flags = rustix::fs::AtFlags::EACCESS;
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(&directory, ".", access, flags) == Err(Errno::ACCESS)
}

/// Whether the content of a file is closed to the caller. Opening is tried only where its mode or owner suggests so.
fn is_closed(path: &Path, meta: Option<Meta>, tree: &Tree) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let suspect = |meta: Meta| meta.is_file() && (meta.uid != own || meta.mode & 0o400 == 0);
    meta.is_some_and(suspect)
        && split(path).is_none_or(|(parent, name)| {
            tree.location(parent)
                .and_then(|directory| open_file(directory.as_fd(), name))
                .is_err()
        })
}
