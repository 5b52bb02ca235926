//! Finds runs by their records: all of them, those of a project, the one that a word means.
//!
//! A run lasts as long as its supervisor holds the lock of its record (flock(2)), which the kernel gives back whatever way the
//! supervisor ends, at a reboot too, and a record of another boot is of no run under way, whoever holds its lock: a network file
//! system may not have noticed, or another machine has the run. Nothing else that a record says is trusted for that: a process id may belong to somebody
//! else by now. Must not take that lock before the run itself had it.

use std::path::{Path, PathBuf};

use rcc_host::discover;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use crate::cli::RunChoice;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::record::{DESCRIPTION, Description, boot_id, holds_undecided};

/// Largest description read, in bytes: the words of a command are at most 6 MiB (execve(2)), and JSON may take six for one.
const DESCRIPTION_LIMIT: usize = 40 << 20;

/// Why no run was found.
#[derive(Debug, thiserror::Error)]
enum RunsError {
    #[error("no run is called {}", rcc_plan::escape(id))]
    Unknown { id: String },
    #[error("several runs begin with {}: {}", rcc_plan::escape(id), found.join(", "))]
    Ambiguous { id: String, found: Vec<String> },
    #[error("the run {} has ended", rcc_plan::escape(id))]
    Ended { id: String },
    #[error(
        "the record of the run {} was written by rcc {}, in a form that rcc {} does not know",
        rcc_plan::escape(id),
        rcc_plan::escape(version),
        env!("CARGO_PKG_VERSION")
    )]
    Foreign { id: String, version: String },
    #[error("nothing runs in the project {}", rcc_plan::escape(project))]
    NoneHere { project: PathBuf },
    #[error("several runs are under way in the project {}: {}", rcc_plan::escape(project), found.join(", "))]
    Several {
        project: PathBuf,
        found: Vec<String>,
    },
    #[error("no run of the project {} is recorded", rcc_plan::escape(project))]
    NoRecord { project: PathBuf },
}

/// What a run is doing, as far as the host can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its supervisor holds the record.
    Running,
    /// The same, and the supervisor is stopped (Ctrl-Z).
    Stopped,
    /// It ended, and its record says how.
    Ended,
    /// Its supervisor was killed, or the machine went down: nothing of the run is left but the record.
    Lost,
}

impl State {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
            Self::Lost => "lost",
        }
    }
}

/// A recorded run.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) description: Description,
    pub(crate) record: PathBuf,
    pub(crate) is_live: bool,
}

impl Found {
    /// Looks again whether the run is still under way.
    pub(crate) fn still_lives(&self) -> bool {
        self.is_live && is_locked(&self.record)
    }

    /// Whether it holds what only `rcc rm --force` throws away.
    pub(crate) fn holds_undecided(&self) -> bool {
        holds_undecided(&self.record)
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> State {
        match (self.is_live, self.description.ended_at_ms) {
            (true, _) if is_stopped(self.description.supervisor_pid) => State::Stopped,
            (true, _) => State::Running,
            (false, Some(_)) => State::Ended,
            (false, None) => State::Lost,
        }
    }
}

/// The run under way that is meant; none when it was left open and nothing runs in this project.
pub(crate) fn live(choice: &RunChoice) -> Result<Option<Found>, CliError> {
    let context = Context::load()?;
    if let Some(id) = &choice.run {
        return named_live(&context, id).map(Some);
    }
    let project = discover(None, &context.account, &context.directories)?.root;
    let mut here: Vec<Found> = all(&context.directories.state)
        .into_iter()
        .filter(|run| run.is_live && run.description.project.as_path() == project)
        .collect();
    if here.len() > 1 {
        let found = here.into_iter().map(|run| run.description.id).collect();
        return Err(
            CliError::new(Kind::User, RunsError::Several { project, found })
                .hint("say which one with --run ID"),
        );
    }
    Ok(here.pop())
}

/// As [`live`], but there has to be one.
pub(crate) fn one_live(choice: &RunChoice) -> Result<Found, CliError> {
    match live(choice)? {
        Some(found) => Ok(found),
        None => {
            let context = Context::load()?;
            let project = discover(None, &context.account, &context.directories)?.root;
            Err(CliError::new(Kind::User, RunsError::NoneHere { project })
                .hint("rcc ps lists the runs under way; --run ID chooses one"))
        }
    }
}

/// The run under way that a word means.
pub(crate) fn named_live(context: &Context, word: &str) -> Result<Found, CliError> {
    let found = find(context, word)?;
    // Whether its supervisor is understood is seen when it is talked to.
    if found.is_live {
        return Ok(found);
    }
    let found = known(found)?;
    let id = found.description.id;
    Err(CliError::new(Kind::User, RunsError::Ended { id })
        .hint("rcc ps lists the runs under way; rcc logs and rcc net log --run show what one that has ended left"))
}

/// The run whose log is meant: under way or not, by default the newest of this project.
pub(crate) fn recorded(choice: &RunChoice) -> Result<Found, CliError> {
    let context = Context::load()?;
    match &choice.run {
        Some(id) => named(&context, id),
        None => match live(choice)? {
            Some(found) => Ok(found),
            None => {
                let project = discover(None, &context.account, &context.directories)?.root;
                all(&context.directories.state)
                    .into_iter()
                    .find(|run| run.description.project.as_path() == project)
                    .ok_or_else(|| CliError::new(Kind::User, RunsError::NoRecord { project }))
                    .and_then(known)
            }
        },
    }
}

/// The run that a word means: an id; a name, of a run under way before that of the newest one that ended; the beginning of
/// one id.
pub(crate) fn named(context: &Context, word: &str) -> Result<Found, CliError> {
    find(context, word).and_then(known)
}

/// Refuses a run whose record means what this rcc cannot know.
fn known(found: Found) -> Result<Found, CliError> {
    let told = &found.description;
    if !told.is_foreign() {
        return Ok(found);
    }
    let (id, version) = (told.id.clone(), told.version.clone());
    Err(
        CliError::new(Kind::User, RunsError::Foreign { id, version }).hint(
            "use that rcc for it; this one neither changes nor removes what it does not know",
        ),
    )
}

fn find(context: &Context, word: &str) -> Result<Found, CliError> {
    let mut runs = all(&context.directories.state);
    let is_named = |run: &Found| run.description.name.as_deref() == Some(word);
    let place = None
        .or_else(|| runs.iter().position(|run| run.description.id == word))
        .or_else(|| runs.iter().position(|run| run.is_live && is_named(run)))
        .or_else(|| runs.iter().position(is_named));
    if let Some(place) = place {
        return Ok(runs.swap_remove(place));
    }
    one_of(runs, |run| &run.description.id, word)?.ok_or_else(|| {
        let id = word.to_owned();
        CliError::new(Kind::User, RunsError::Unknown { id }).hint("rcc ps --all lists the runs")
    })
}

/// The run whose id a word is, or the beginning of whose id alone; of several that begin so none is taken.
pub(crate) fn one_of<T>(
    mut runs: Vec<T>,
    id_of: impl Fn(&T) -> &str,
    word: &str,
) -> Result<Option<T>, CliError> {
    if let Some(place) = runs.iter().position(|run| id_of(run) == word) {
        return Ok(Some(runs.swap_remove(place)));
    }
    runs.retain(|run| id_of(run).starts_with(word));
    if runs.len() > 1 {
        let found = runs.iter().map(|run| id_of(run).to_owned()).collect();
        let id = word.to_owned();
        return Err(CliError::new(
            Kind::User,
            RunsError::Ambiguous { id, found },
        ));
    }
    Ok(runs.pop().filter(|_| !word.is_empty()))
}

/// The id of the run that has this name, if there is one: for commands that look runs up by their ids.
pub(crate) fn id_of_name(context: &Context, word: &str) -> Option<String> {
    let runs = all(&context.directories.state);
    let is_named = |run: &&Found| run.description.name.as_deref() == Some(word);
    runs.iter()
        .find(|run| run.is_live && is_named(run))
        .or_else(|| runs.iter().find(is_named))
        .map(|run| run.description.id.clone())
}

/// Every recorded run, newest first. What cannot be read is no run.
pub(crate) fn all(state: &Path) -> Vec<Found> {
    let entries = std::fs::read_dir(state.join("runs"))
        .into_iter()
        .flatten()
        .flatten();
    let boot = boot_id();
    let mut found: Vec<Found> = entries
        .filter_map(|entry| {
            let record = entry.path();
            // It is written after the run has taken the lock.
            let mut description = description(&record).ok()??;
            description.add_end(&record);
            let is_live = description.ended_at_ms.is_none()
                && is_of(&boot, &description)
                && is_locked(&record);
            if !is_live && description.ended_at_ms.is_none() {
                // It may have ended just now: the end is written before the lock is given back.
                description.add_end(&record);
            }
            Some(Found {
                description,
                record,
                is_live,
            })
        })
        .collect();
    found.sort_by_key(|run| std::cmp::Reverse(run.description.started_at_ms));
    found
}

/// Reads the description in a record; none when there is none yet, or never was.
pub(crate) fn description(record: &Path) -> std::io::Result<Option<Description>> {
    let content = rcc_host::read_text(&record.join(DESCRIPTION), DESCRIPTION_LIMIT);
    let Some(content) = content.map_err(std::io::Error::other)? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_str(&content.text)?))
}

/// The records that are none of a run that this rcc knows: of another version, or damaged.
pub(crate) fn unreadable(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join("runs"));
    let records = entries.into_iter().flatten().flatten();
    records
        .map(|entry| entry.path())
        .filter(|record| description(record).is_err() && record.is_dir())
        .collect()
}

/// Whether a run began in this boot, as far as is known: older versions did not write it down.
fn is_of(boot: &Option<String>, description: &Description) -> bool {
    match (boot, &description.boot_id) {
        (Some(now), Some(then)) => now == then,
        _ => true,
    }
}

/// Whether a run, or a command that decides about one, holds the lock of a record.
pub(crate) fn is_locked(record: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, record, flags, Mode::empty()).is_ok_and(|directory| {
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared).is_err()
    })
}

/// Whether a process is stopped by job control (`proc_pid_stat(5)`); for show only.
fn is_stopped(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold anything, brackets too.
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}
