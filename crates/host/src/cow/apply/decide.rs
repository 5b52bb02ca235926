//! Which changes are applied, which are held back and why, which are conflicts. Must not change anything, nor look at more
//! of the project than the names that the layer touches.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::super::beneath::open_file;
use super::super::changes::{Change, Changes, Status};
use super::super::known::Known;
use super::super::meta::Time;
use super::repository::is_of_repository;
use super::{Choice, Guarded, Meta, Sides, Tree, split};

const SPECIAL: &str = "a FIFO, socket or device, which is never applied";
const UNREADABLE: &str = "it cannot be read";
pub(super) const GUARDED: &str = "your programs run or obey it; name it to apply it";
/// Looking is enough for git to write its index again, so this must not stand in the way of everything else.
const INDEX: &str = "git wrote its index anew meanwhile; git reset makes it fit";
const STAYS: &str = "something in it stays";
const BELOW: &str = "the directory that it is in stays as it was";

/// What was decided about every change, by its index.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    nodes: &'a [Change],
    paths: Vec<PathBuf>,
    wanted: Vec<bool>,
    held: Vec<Option<&'static str>>,
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
        let paths: Vec<PathBuf> = (0..nodes.len()).map(|index| found.path(index)).collect();
        let mut decided = Self {
            wanted: wanted(nodes, &paths, choice),
            nodes,
            held: vec![None; nodes.len()],
            conflicts: vec![false; nodes.len()],
            paths,
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
        let (node, path) = (&self.nodes[index], &self.paths[index]);
        // By its own name, or as part of a guarded directory that was named.
        let named = || {
            let mut names = choice.paths.iter();
            names.any(|chosen| path == chosen || (path.starts_with(chosen) && is_guarded(chosen)))
        };
        // A file or link of this name leads git to another repository, with another configuration.
        let leads = node.name() == ".git" && !node.upper.is_some_and(|meta| meta.is_directory());
        let special_below = node.lower.is_some_and(|meta| meta.is_special());
        self.held[index] = if node.status == Status::Foreign || special_below {
            Some(SPECIAL)
        } else if node.status == Status::Unreadable
            || is_closed(path, node.upper, sides.upper)
            || is_closed(path, node.lower, sides.lower)
        {
            Some(UNREADABLE)
        } else if (leads || is_guarded(path)) && !named() {
            Some(GUARDED)
        } else {
            None
        };
        let Some(old) = node.lower.filter(|_| self.held[index].is_none()) else {
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
                self.held[index] = Some(INDEX);
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
                self.held[parent] = self.held[parent].or(Some(STAYS));
            }
        }
        for index in 0..nodes.len() {
            if let Some(parent) = nodes[index].parent()
                && self.held[parent].is_some()
                && nodes[parent].status != Status::Removed
                && (nodes[parent].whole || nodes[parent].status == Status::Retyped)
            {
                self.held[index] = self.held[index].or(Some(BELOW));
            }
        }
    }

    /// What the user changed meanwhile.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let paths = self.paths.iter().zip(&self.conflicts);
        paths.filter(|(_, is)| **is).map(|(path, _)| path.clone())
    }

    /// What is held back, without what is held back only with its directory.
    pub(super) fn told(&self) -> Vec<(PathBuf, &'static str)> {
        let indices = (0..self.nodes.len()).filter(|index| self.concerns(*index));
        indices
            .filter(|index| {
                let parent = self.nodes[*index].parent();
                parent.is_none_or(|parent| self.held[parent].is_none())
            })
            .filter_map(|index| Some((self.paths[index].clone(), self.held[index]?)))
            .collect()
    }

    /// What is applied.
    pub(super) fn agreed(&self) -> impl Iterator<Item = (&'a Change, &Path)> {
        let indices = (0..self.nodes.len()).filter(|index| self.concerns(*index));
        indices
            .filter(|index| self.held[*index].is_none())
            .map(|index| (&self.nodes[index], self.paths[index].as_path()))
    }
}

/// Whether a path is at or below one of these.
fn is_below(path: &Path, tops: &[PathBuf]) -> bool {
    tops.iter().any(|top| path.starts_with(top))
}

/// Which changes are meant. A new directory comes along with what is chosen in it.
fn wanted(nodes: &[Change], paths: &[PathBuf], choice: &Choice) -> Vec<bool> {
    let mut wanted: Vec<bool> = paths
        .iter()
        .map(|path| choice.paths.is_empty() || is_below(path, &choice.paths))
        .collect();
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
