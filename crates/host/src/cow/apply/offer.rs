//! What can be chosen one by one: the changes of a layer as they would be decided about. Must not change anything.

use std::path::{Path, PathBuf};

use super::super::changes::{Change, Status};
use super::super::{CowError, Layer, Meta};
use super::decide::Hold;
use super::{Choice, Chosen, Guarded};

/// What is applied of a change that somebody looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// What the project had then. When it has something else by now, it is a conflict.
    pub seen: Option<Meta>,
    /// How much of it.
    pub part: Part,
}

/// How much of a change is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Some of what differs between two files.
    Of {
        /// The file's new bytes; none leaves those of the project.
        content: Option<Vec<u8>>,
        /// Whether it gets the agent's permission bits.
        mode: bool,
        /// Whether it gets the agent's attributes and access list.
        attributes: bool,
    },
}

/// Whether a change can be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Open,
    /// It can when it is named: the host would run or obey it.
    Guarded,
    /// It cannot, for this reason.
    Held(&'static str),
    /// The user changed it meanwhile.
    Conflict,
}

/// A change that can be chosen, or why not.
#[derive(Debug)]
pub struct Offer {
    /// Relative to the top of the layer.
    pub path: PathBuf,
    /// The change.
    pub change: Change,
    /// Whether it can be applied.
    pub standing: Standing,
}

/// Everything that differs at or below the paths of a choice, in order of the paths.
///
/// # Errors
/// Something cannot be looked at.
pub fn offers(
    layer: &Layer,
    choice: &Choice,
    guarded: Guarded<'_>,
) -> Result<Vec<Offer>, CowError> {
    let chosen = Chosen::look(layer, choice)?;
    let (found, decided) = (&chosen.found, chosen.decide(guarded));
    let is_chosen = |path: &Path| {
        choice.paths.is_empty() || choice.paths.iter().any(|top| path.starts_with(top))
    };
    let mut offers = Vec::new();
    for index in found.listed() {
        let (path, Some(change)) = (found.path(index), found.nodes().get(index)) else {
            continue;
        };
        if !is_chosen(&path) || goes_with_its_directory(found.nodes(), change) {
            continue;
        }
        let standing = match decided.hold(index) {
            _ if decided.is_conflict(index) => Standing::Conflict,
            None => Standing::Open,
            Some(Hold::Guarded) => Standing::Guarded,
            Some(hold) => Standing::Held(hold.reason()),
        };
        offers.push(Offer {
            path,
            change: change.clone(),
            standing,
        });
    }
    offers.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(offers)
}

/// Whether it was removed because a directory around it became something else: one question is enough.
fn goes_with_its_directory(nodes: &[Change], change: &Change) -> bool {
    let mut at = change;
    while at.status == Status::Removed {
        match at.parent().and_then(|parent| nodes.get(parent)) {
            Some(parent) => at = parent,
            None => return false,
        }
    }
    at.status == Status::Retyped && change.status == Status::Removed
}
