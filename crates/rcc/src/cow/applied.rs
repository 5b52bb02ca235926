//! Runs whose changes were applied, and the lock that lets one command at a time change a project.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rcc_host::cow::{Direction, Held, held, last};
use rcc_host::{open_private, sha256};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use super::{ChoiceError, direct};
use crate::cli::ChangesChoice;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::runs::one_of;

/// Why nothing is changed.
#[derive(Debug, thiserror::Error)]
enum AppliedError {
    #[error(
        "nothing was applied to the project {} that could be taken back",
        rcc_plan::escape(project)
    )]
    Nothing { project: PathBuf },
    #[error(
        "nothing was taken back in the project {} that could be brought again",
        rcc_plan::escape(project)
    )]
    NothingUndone { project: PathBuf },
    #[error("another rcc apply or rcc undo works on {}", rcc_plan::escape(project))]
    Busy { project: PathBuf },
}

/// A run that was applied.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) id: String,
    pub(crate) record: PathBuf,
    pub(crate) project: PathBuf,
    /// Everything that was applied to, the project among it.
    pub(crate) roots: Vec<PathBuf>,
}

impl Applied {
    /// Keeps the run to this process.
    pub(crate) fn lock(&self) -> Result<OwnedFd, CliError> {
        super::lock(&self.id, &self.record)
    }

    /// Says that there is nothing to take back, or to bring again.
    pub(crate) fn nothing(&self, direction: Direction) -> CliError {
        nothing(self.project.clone(), direction)
    }
}

fn nothing(project: PathBuf, direction: Direction) -> CliError {
    let error = match direction {
        Direction::Undo => AppliedError::Nothing { project },
        Direction::Redo => AppliedError::NothingUndone { project },
    };
    CliError::new(Kind::User, error)
}

/// The run that was applied last to the project, or was a direct one with a snapshot; or undone last, where that is to be
/// taken back; or the named one.
pub(crate) fn applied(
    context: &Context,
    choice: &ChangesChoice,
    word: Option<&str>,
    direction: Direction,
) -> Result<Applied, CliError> {
    let runs = context.directories.state.join("runs");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&runs).into_iter().flatten().flatten() {
        let record = entry.path();
        if let (Ok(id), Some((bases, when))) =
            (entry.file_name().into_string(), last(&record, direction)?)
        {
            let roots = bases.iter().map(|base| base.project.as_path().to_owned());
            let roots: Vec<PathBuf> = roots.collect();
            let project = roots.first().cloned().unwrap_or_default();
            found.push((
                when,
                Applied {
                    id,
                    record,
                    project,
                    roots,
                },
            ));
        }
    }
    let named = choice.run.as_deref().or(word);
    let id_of_name = named
        .filter(|word| found.iter().all(|(_, run)| run.id != **word))
        .and_then(|word| crate::runs::id_of_name(context, word));
    let named = id_of_name.as_deref().or(named);
    let direct = match direction {
        Direction::Undo => direct::all(context),
        Direction::Redo => Vec::new(),
    };
    for run in direct {
        // One that was killed wrote nothing down; one that lasts is meant only when it is named.
        let is_open = matches!(held(&run.record), Ok(Some(Held::Snapshot)));
        let meant = !run.is_live || named.is_some_and(|word| run.id.starts_with(word));
        let taken = std::fs::metadata(run.record.join("snapshot")).and_then(|data| data.modified());
        if let (true, true, Ok(when)) = (is_open, meant, taken) {
            let (id, record, project) = (run.id, run.record, run.project);
            found.push((
                when,
                Applied {
                    id,
                    record,
                    roots: vec![project.clone()],
                    project,
                },
            ));
        }
    }
    found.sort_by_key(|(when, _)| std::cmp::Reverse(*when));
    let mut found = found.into_iter().map(|(_, applied)| applied);
    if let Some(id) = named {
        return one_of(found.collect(), |applied| &applied.id, id)?
            .ok_or_else(|| CliError::new(Kind::User, ChoiceError::Unknown { id: id.to_owned() }));
    }
    let project = rcc_host::discover(
        choice.project.as_deref(),
        &context.account,
        &context.directories,
    )?
    .root;
    found
        .find(|applied| applied.project == project)
        .ok_or_else(|| nothing(project, direction))
}

/// Keeps every other apply and undo away from all of these while the result lives.
pub(crate) fn alone_in<'a>(
    context: &Context,
    roots: impl IntoIterator<Item = &'a Path>,
) -> Result<Vec<OwnedFd>, CliError> {
    roots.into_iter().map(|root| alone(context, root)).collect()
}

/// Keeps every other apply and undo away from a project, or another directory, while the result lives.
pub(crate) fn alone(context: &Context, project: &Path) -> Result<OwnedFd, CliError> {
    let locks = context.directories.state.join("locks");
    let directory = open_private(&locks)?;
    let name = sha256(&rcc_plan::escape(project));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fail = |errno: rustix::io::Errno| CliError::new(Kind::Host, std::io::Error::from(errno));
    let file =
        rustix::fs::openat(&directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let project = project.to_owned();
            Err(CliError::new(Kind::User, AppliedError::Busy { project }).hint("wait for its end"))
        }
        Err(errno) => Err(fail(errno)),
    }
}

/// Opens the directory of a record, for its lock.
pub(super) fn open_record(record: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, record, flags, Mode::empty())
}
