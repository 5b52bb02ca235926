//! The steps of an apply: made from what was decided, and written down with everything that they replace before the
//! project is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::super::attributes::Attributes;
use super::super::beneath::open_file;
use super::super::changes::{Differences, Status};
use super::super::journal::{Action, Entry, Journal, PathRoom, Step, Touched, made};
use super::super::{EntryType, place};
use super::decide::Decided;
use super::{Choice, CowError, Layer, Meta, Part, Sides, Tree, on, split};

/// What will be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Directories whose times change with what is done in them.
    touched: Vec<PathBuf>,
    /// What is made of both sides.
    mixed: BTreeMap<PathBuf, Mixed>,
    /// What is applied without a part of it.
    pub(super) remarks: Vec<(PathBuf, &'static str)>,
}

/// A file that is neither the user's nor the agent's.
#[derive(Debug)]
struct Mixed {
    /// Its bytes; none for those of the project.
    content: Option<Vec<u8>>,
    mode: u32,
    /// The agent's attributes; none for those of the project.
    attributes: Option<Attributes>,
}

/// Nothing but the mode: one call changes it in place. All else is a new file, so that no moment sees a part of it.
pub(super) const MODE: Differences = Differences {
    content: false,
    mode: true,
    attributes: false,
    times: false,
};

/// Makes the steps: what goes, innermost first; what is made, outermost first; then what only looks different, innermost
/// first, as a mode may close a directory.
pub(super) fn plan(
    decided: &Decided<'_>,
    choice: &Choice,
    sides: Sides<'_>,
    mut room: PathRoom,
) -> Result<Plan, CowError> {
    let lower = sides.lower;
    let mut plan = Plan::default();
    let mut touched: BTreeSet<PathBuf> = BTreeSet::new();
    let (mut removals, mut made, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for (node, path) in decided.agreed() {
        let path = path.as_path();
        room.take(path, lower)?;
        let step = |action| step(path, action, node.lower, node.upper, lower);
        if node.upper.is_some_and(|meta| meta.sets_ids()) {
            let without = "without its set-user-id or set-group-id bit";
            plan.remarks.push((path.to_owned(), without));
        }
        if let Some(part) = part_of(choice, path)
            && let (Some(new), Some(old)) = (node.upper, node.lower)
        {
            if let Some(mixed) = mix(part, path, (&new, &old), sides)? {
                made.push(step(Action::Write)?);
                touched.extend(path.parent().map(Path::to_owned));
                plan.mixed.insert(path.to_owned(), mixed);
            } else if new.plain_mode() != old.plain_mode() {
                made.push(step(Action::Mode)?);
            }
            continue;
        }
        match (node.status, node.upper.map(|meta| meta.kind)) {
            (Status::Removed, _) => {
                let directory = node.lower.is_some_and(|meta| meta.is_directory());
                removals.push(step(if directory {
                    Action::RemoveDirectory
                } else {
                    Action::Remove
                })?);
            }
            (Status::Modified(differs), Some(EntryType::Directory)) => {
                last.push(step(if differs.attributes {
                    Action::Dress
                } else {
                    Action::Mode
                })?);
                continue;
            }
            (Status::Modified(differs), Some(EntryType::File)) if differs == MODE => {
                made.push(step(Action::Mode)?);
            }
            (_, Some(EntryType::Directory)) => made.push(step(Action::MakeDirectory)?),
            (_, Some(EntryType::File)) => made.push(step(Action::Write)?),
            (_, Some(EntryType::Symlink)) => made.push(step(Action::Link)?),
            _ => continue,
        }
        touched.extend(path.parent().map(Path::to_owned));
    }
    removals.reverse();
    last.reverse();
    plan.steps = removals;
    plan.steps.extend(made);
    plan.steps.extend(last);
    plan.touched = touched.into_iter().collect();
    Ok(plan)
}

/// The part of a file that was chosen, where it is not all of it.
fn part_of<'a>(choice: &'a Choice, path: &Path) -> Option<&'a Part> {
    let pick = choice.picks.as_ref()?.get(path)?;
    (pick.part != Part::Whole).then_some(&pick.part)
}

/// What is made of both sides; none where only the mode changes.
fn mix(
    part: &Part,
    path: &Path,
    (new, old): (&Meta, &Meta),
    sides: Sides<'_>,
) -> Result<Option<Mixed>, CowError> {
    let Part::Of {
        content,
        mode,
        attributes,
    } = part
    else {
        return Ok(None);
    };
    if content.is_none() && !attributes {
        return Ok(None);
    }
    let fail = |errno| on("look at", sides.upper.shown(path))(errno);
    let of_agent = || {
        let (parent, name) = split(path).ok_or(Errno::INVAL)?;
        let directory = sides.upper.location(parent)?;
        Attributes::read(open_file(directory.as_fd(), name)?.as_fd()).map(Attributes::carried)
    };
    Ok(Some(Mixed {
        content: content.clone(),
        mode: if *mode { new } else { old }.plain_mode(),
        attributes: attributes.then(of_agent).transpose().map_err(fail)?,
    }))
}

/// Describes a step with what it replaces.
fn step(
    path: &Path,
    action: Action,
    before: Option<Meta>,
    new: Option<Meta>,
    lower: &Tree,
) -> Result<Step, CowError> {
    let mut step = Step {
        path: path.into(),
        action,
        before,
        link: None,
        attributes: Attributes::default(),
        new,
        names: Vec::new(),
        made: None,
    };
    let (Some(before), Some((parent, name))) = (before, split(path)) else {
        return Ok(step);
    };
    let fail = |errno| on("look at", lower.shown(path))(errno);
    match before.kind {
        EntryType::Symlink => {
            let directory = lower.location(parent).map_err(fail)?;
            let text = rustix::fs::readlinkat(&directory, name, Vec::new()).map_err(fail)?;
            let text = OsStr::from_bytes(text.as_bytes());
            step.link = Some(Path::new(text).into());
        }
        EntryType::Directory if action != Action::Mode => {
            let directory = lower.listing(path).map_err(fail)?;
            step.attributes = Attributes::read(directory.as_fd()).map_err(fail)?;
        }
        _ => {}
    }
    Ok(step)
}

/// Copies what will be replaced, and then writes the journal.
pub(super) fn write_down(
    entry: &Entry,
    layer: &Layer,
    mut plan: Plan,
    lower: &Tree,
) -> Result<Journal, CowError> {
    let mut steps = plan.steps;
    let few = steps.len() <= place::FEW;
    for (index, step) in steps.iter_mut().enumerate() {
        let path = step.path.as_path().to_owned();
        let Some(before) = step.before.filter(|before| before.is_file()) else {
            continue;
        };
        if step.action == Action::Mode {
            continue;
        }
        let fail = |errno| on("keep a copy of", lower.shown(&path))(errno);
        let Some((parent, name)) = split(&path) else {
            continue;
        };
        let directory = lower.location(parent).map_err(fail)?;
        let file = open_file(directory.as_fd(), name).map_err(fail)?;
        step.attributes = Attributes::read(file.as_fd()).map_err(fail)?;
        place::keep(&file, entry.directory.as_fd(), &index.to_string(), few).map_err(fail)?;
        let now = Meta::from(&rustix::fs::fstat(&file).map_err(fail)?);
        if !now.is_untouched(&before) {
            return Err(fail(Errno::AGAIN));
        }
        if let Some(mixed) = plan.mixed.remove(&path) {
            let (name, store) = (made(index), entry.directory.as_fd());
            match &mixed.content {
                None => place::keep(&file, store, &name, few).map_err(fail)?,
                Some(bytes) => place::keep_bytes(bytes, store, &name, few).map_err(|source| {
                    CowError::Call {
                        action: "write",
                        path: entry.path.join(&name),
                        source,
                    }
                })?,
            }
            let status = rustix::fs::statat(store, &name, AtFlags::SYMLINK_NOFOLLOW);
            let kept = Meta::from(&status.map_err(fail)?);
            let like = if mixed.content.is_some() {
                kept
            } else {
                before
            };
            step.new = Some(Meta {
                mode: mixed.mode,
                modified: like.modified,
                accessed: like.accessed,
                ..kept
            });
            let own = || step.attributes.clone().carried();
            step.made = Some(mixed.attributes.unwrap_or_else(own));
        }
    }
    let mut touched = Vec::new();
    for path in plan.touched {
        let fail = |errno| on("look at", lower.shown(&path))(errno);
        match lower.location(&path) {
            Ok(directory) => touched.push(Touched {
                before: Meta::from(&rustix::fs::fstat(&directory).map_err(fail)?),
                path: path.into(),
            }),
            // It will be made by a step.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    if !few {
        rustix::fs::syncfs(&entry.directory).map_err(on("write", &entry.path))?;
    }
    let journal = Journal {
        base: layer.base().clone(),
        // Two runs over one project must not take each other's temporary names for their own.
        tag: format!(
            "{:x}{:x}-{}",
            layer.base().since.0,
            layer.base().since.1,
            entry.number
        ),
        steps,
        touched,
    };
    entry.begin(&journal)?;
    Ok(journal)
}
