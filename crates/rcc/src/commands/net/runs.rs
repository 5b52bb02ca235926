//! Finds runs by their records; `rcc net runs` lists those under way.
//!
//! A run lasts as long as its supervisor holds the lock of its record. Must not take that lock before the run itself had it.

use std::path::PathBuf;

use rcc_host::discover;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use crate::cli::{NetRunsArgs, RunChoice};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::record::{DESCRIPTION, Description};

/// Largest description read, in bytes.
const DESCRIPTION_LIMIT: usize = 4 << 20;

/// Why no run was found.
#[derive(Debug, thiserror::Error)]
enum RunsError {
    #[error("no run is called {}", rcc_plan::escape(id))]
    Unknown { id: String },
    #[error("several runs begin with {}: {}", rcc_plan::escape(id), found.join(", "))]
    Ambiguous { id: String, found: Vec<String> },
    #[error("the run {} has ended", rcc_plan::escape(id))]
    Ended { id: String },
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

/// A recorded run.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) description: Description,
    pub(super) record: PathBuf,
    pub(super) is_live: bool,
}

impl Found {
    /// Looks again whether the run is still under way.
    pub(super) fn still_lives(&self) -> bool {
        is_locked(&self.record)
    }
}

pub(super) fn run(args: &NetRunsArgs) -> Result<u8, CliError> {
    let mut text = String::new();
    for found in all(&Context::load()?).into_iter().filter(|run| run.is_live) {
        let run = found.description;
        if args.json {
            let json = serde_json::json!({"id": run.id, "project": run.project, "agent": run.agent,
                "network": run.network, "started_at_ms": run.started_at_ms});
            text.push_str(&format!("{json}\n"));
        } else {
            let project = rcc_plan::escape(run.project.as_os_str());
            let network = rcc_plan::escape(&run.network);
            text.push_str(&format!(
                "{}  {network}  {project}\n",
                rcc_plan::escape(&run.id)
            ));
        }
    }
    if text.is_empty() && !args.json {
        output::note("nothing runs");
    }
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

/// The run under way that is meant; none when it was left open and nothing runs in this project.
pub(super) fn live(choice: &RunChoice) -> Result<Option<Found>, CliError> {
    let context = Context::load()?;
    if let Some(id) = &choice.run {
        let found = by_id(&context, id)?;
        return if found.is_live {
            Ok(Some(found))
        } else {
            let id = found.description.id;
            Err(CliError::new(Kind::User, RunsError::Ended { id })
                .hint("rcc net log --run ID prints its log"))
        };
    }
    let project = discover(None, &context.account, &context.directories)?.root;
    let mut here: Vec<Found> = all(&context)
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
pub(super) fn one_live(choice: &RunChoice) -> Result<Found, CliError> {
    match live(choice)? {
        Some(found) => Ok(found),
        None => {
            let context = Context::load()?;
            let project = discover(None, &context.account, &context.directories)?.root;
            Err(CliError::new(Kind::User, RunsError::NoneHere { project })
                .hint("rcc net runs lists the runs under way; --run ID chooses one"))
        }
    }
}

/// The run whose log is meant: under way or not, by default the newest of this project.
pub(super) fn recorded(choice: &RunChoice) -> Result<Found, CliError> {
    let context = Context::load()?;
    match &choice.run {
        Some(id) => by_id(&context, id),
        None => match live(choice)? {
            Some(found) => Ok(found),
            None => {
                let project = discover(None, &context.account, &context.directories)?.root;
                all(&context)
                    .into_iter()
                    .find(|run| run.description.project.as_path() == project)
                    .ok_or_else(|| CliError::new(Kind::User, RunsError::NoRecord { project }))
            }
        },
    }
}

fn by_id(context: &Context, id: &str) -> Result<Found, CliError> {
    let mut matching: Vec<Found> = all(context)
        .into_iter()
        .filter(|run| run.description.id.starts_with(id))
        .collect();
    if let Some(exact) = matching.iter().position(|run| run.description.id == id) {
        return Ok(matching.swap_remove(exact));
    }
    let id = id.to_owned();
    match (matching.pop(), matching.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(last), false) => {
            let found = matching.into_iter().chain([last]);
            let found = found.map(|run| run.description.id).collect();
            Err(CliError::new(
                Kind::User,
                RunsError::Ambiguous { id, found },
            ))
        }
        (None, _) => Err(CliError::new(Kind::User, RunsError::Unknown { id })
            .hint("rcc net runs lists the runs under way")),
    }
}

/// Every recorded run, newest first. What cannot be read is no run.
fn all(context: &Context) -> Vec<Found> {
    let runs = context.directories.state.join("runs");
    let entries = std::fs::read_dir(&runs).into_iter().flatten().flatten();
    let mut found: Vec<Found> = entries
        .filter_map(|entry| {
            let record = entry.path();
            let content = rcc_host::read_text(&record.join(DESCRIPTION), DESCRIPTION_LIMIT);
            // It is written after the run has taken the lock.
            let description: Description = serde_json::from_str(&content.ok()??.text).ok()?;
            let is_live = description.ended_at_ms.is_none() && is_locked(&record);
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

fn is_locked(record: &PathBuf) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, record, flags, Mode::empty()).is_ok_and(|directory| {
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared).is_err()
    })
}
