//! Direct runs with a snapshot as commands see them: how such a run begins and ends, and which one is meant. Must not
//! change a project.

use std::path::{Path, PathBuf};

use rcc_host::cow::{Held, SnapshotRequest, Taken, close, held, remove_snapshot};
use rcc_plan::{Access, MountStep};
use rcc_spec::FilesMode;
use rcc_sys::SysError;
use rcc_sys::process::{SignalDescriptor, SignalSet};
use rustix::fs::FlockOperation;
use rustix::process::Signal;

use super::applied::open_record;
use crate::cli::ChangesChoice;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output;
use crate::record::Record;
use crate::runs;
use crate::session::Session;

/// Most paths that are told.
const LISTED: usize = 5;

/// A direct run that had a snapshot.
#[derive(Debug)]
pub(crate) struct DirectRun {
    pub(crate) id: String,
    pub(crate) record: PathBuf,
    pub(crate) project: PathBuf,
    pub(crate) is_live: bool,
}

/// Every direct run whose changes can be told or taken back, newest first.
pub(crate) fn all(context: &Context) -> Vec<DirectRun> {
    holding(context, &[Held::Snapshot, Held::Changes])
}

/// The direct run that a word means, whatever is kept of it; none where it means a copy-on-write run.
pub(crate) fn kept(context: &Context, word: &str) -> Result<Option<DirectRun>, CliError> {
    let all = holding(context, &[Held::Snapshot, Held::Changes, Held::Undone]);
    meant(context, all, word)
}

/// The one of these direct runs that a word means: its id, its name, or the beginning of its id alone.
fn meant(
    context: &Context,
    direct: Vec<DirectRun>,
    word: &str,
) -> Result<Option<DirectRun>, CliError> {
    let name = runs::id_of_name(context, word);
    let layers = super::all(context).into_iter().map(|run| run.id);
    let ids = layers.chain(direct.iter().map(|run| run.id.clone()));
    let id = runs::one_of(ids.collect(), |id| id, name.as_deref().unwrap_or(word))?;
    Ok(direct.into_iter().find(|run| id.as_ref() == Some(&run.id)))
}

fn holding(context: &Context, wanted: &[Held]) -> Vec<DirectRun> {
    let runs = runs::all(&context.directories.state).into_iter();
    runs.filter(|run| !run.description.is_foreign())
        .filter(|run| matches!(held(&run.record), Ok(Some(held)) if wanted.contains(&held)))
        .map(|run| DirectRun {
            id: run.description.id,
            record: run.record,
            project: run.description.project.as_path().to_owned(),
            is_live: run.is_live,
        })
        .collect()
}

/// Whether a direct run has this very id.
pub(super) fn is_id(context: &Context, word: &str) -> bool {
    all(context).iter().any(|run| run.id == word)
}

/// The direct run that `rcc diff` is about, where no copy-on-write run is: the named one, else the newest of the project.
pub(crate) fn shown(
    context: &Context,
    choice: &ChangesChoice,
    word: Option<&str>,
) -> Result<Option<DirectRun>, CliError> {
    let layers = super::all(context);
    if let Some(word) = choice.run.as_deref().or(word) {
        return meant(context, all(context), word);
    }
    let project = rcc_host::discover(
        choice.project.as_deref(),
        &context.account,
        &context.directories,
    )?
    .root;
    let waits = layers
        .iter()
        .any(|run| run.project() == project && !run.is_settled());
    let mut runs = all(context).into_iter();
    Ok(runs.find(|run| run.project == project && !waits))
}

/// Why a run with a snapshot does not begin.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) error: CliError,
    /// What the user interrupted it with.
    pub(crate) signal: Option<i32>,
}

impl Stopped {
    /// Ends rcc as the signal would have, when there was one; everything of the run must be gone by now.
    pub(crate) fn pass_on(self) -> CliError {
        if let Some(signal) = self.signal.and_then(Signal::from_named_raw) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
        self.error
    }
}

/// Takes the snapshot of a run that wants one, and says what it cost; of a copy-on-write run, says what is no part of it.
pub(crate) fn begin(session: &Session, record: &Record) -> Result<(), Stopped> {
    let files = &session.policy.files;
    if files.mode.value == FilesMode::Cow {
        tell_outside(session);
    }
    if files.mode.value != FilesMode::Direct || !files.snapshot.value {
        return Ok(());
    }
    sweep(record);
    let root = &session.project.root;
    // What is hidden cannot be changed inside, and is none of the state directory's business.
    let covers = session.plan.mounts.iter().filter_map(|step| match step {
        MountStep::Hide { at } => at.as_path().strip_prefix(root).ok(),
        _ => None,
    });
    let hidden: Vec<PathBuf> = covers.map(Path::to_owned).collect();
    let signals = Signals::hold().map_err(|error| Stopped {
        error: CliError::new(Kind::Host, error),
        signal: None,
    })?;
    let taken = record.take_snapshot(
        &session.project,
        &SnapshotRequest {
            skipped: &hidden,
            limit_bytes: files.snapshot_limit.value.bytes(),
            interrupted: &|| signals.pending(),
        },
    );
    let signal = signals.release();
    match taken {
        Ok(taken) => tell(&taken, session),
        Err(error) => {
            return Err(Stopped {
                error: error.into(),
                signal,
            });
        }
    }
    if signal.is_some() {
        // It came when everything was copied.
        let error = CliError::new(Kind::User, "interrupted");
        return Err(Stopped { error, signal });
    }
    Ok(())
}

/// Names what the agent of a copy-on-write run changes at once though the user made it writable: single files.
fn tell_outside(session: &Session) {
    let granted = session.policy.files.rw.iter();
    let named: Vec<&Path> = granted
        .filter_map(|path| session.facts.resolved.get(Path::new(path.value.as_str())))
        .map(|(canonical, _)| canonical.as_path())
        .collect();
    let mounts = session.plan.mounts.iter();
    let at_once = mounts.filter_map(|step| match step {
        MountStep::Bind { at, access, .. }
            if *access == Access::ReadWrite && named.contains(&at.as_path()) =>
        {
            Some(at.as_path().to_owned())
        }
        _ => None,
    });
    let at_once: Vec<PathBuf> = at_once.collect();
    if !at_once.is_empty() {
        output::warn(&format!(
            "the agent changes these at once, because only directories can be kept apart: {}",
            list(&at_once)
        ));
    }
}

fn tell(taken: &Taken, session: &Session) {
    let how = if taken.shared {
        "shared with the project by the file system"
    } else {
        "copied"
    };
    output::note(&format!(
        "snapshot: {} files, {} MiB {how}, {:.1} s",
        taken.files,
        taken.bytes >> 20,
        taken.time.as_secs_f32()
    ));
    if !taken.special.is_empty() {
        output::note(&format!(
            "not in the snapshot: {} (FIFOs, sockets and devices)",
            list(&taken.special)
        ));
    }
    if !taken.changing.is_empty() {
        output::warn(&format!(
            "not in the snapshot, because they changed while they were copied: {}",
            list(&taken.changing)
        ));
    }
    let files = &session.policy.files;
    if !files.rw.is_empty() || files.share_state.value {
        output::note(
            "paths outside of the project that the agent may change are not in the snapshot",
        );
    }
}

fn list(paths: &[PathBuf]) -> String {
    let mut names: Vec<String> = paths.iter().take(LISTED).map(rcc_plan::escape).collect();
    if paths.len() > LISTED {
        names.push(format!("and {} more", paths.len() - LISTED));
    }
    names.join(", ")
}

/// Says what a run with a snapshot changed; of a run without changes nothing is left.
pub(crate) fn end(record: &Record) {
    match close(record.path()) {
        Ok(Some(closed)) if closed.changed > 0 => {
            let entries = if closed.changed == 1 {
                "entry"
            } else {
                "entries"
            };
            output::note(&format!(
                "{} {entries} changed; rcc diff shows them, rcc undo takes them back (run {})",
                closed.changed,
                record.id()
            ));
            tell_others(record);
            if !closed.closed.is_empty() {
                output::warn(&format!(
                    "cannot tell what the agent changed in {}",
                    list(&closed.closed)
                ));
            }
        }
        Ok(_) => {}
        Err(error) => output::warn(&format!(
            "cannot tell what the agent changed: {}; the snapshot is kept for rcc undo",
            rcc_plan::escape(error.to_string())
        )),
    }
}

/// What another run did to the project meanwhile cannot be told from what this one did.
fn tell_others(record: &Record) {
    let own = &record.description;
    let Some(state) = record.path().parent().and_then(Path::parent) else {
        return;
    };
    let others: Vec<String> = runs::all(state)
        .into_iter()
        .filter(|run| {
            let other = &run.description;
            let lasted = run.is_live
                || other
                    .ended_at_ms
                    .is_some_and(|end| end >= own.started_at_ms);
            other.id != own.id && other.project == own.project && lasted
        })
        // A copy-on-write run changes nothing by itself.
        .filter(|run| !run.record.join("cow").exists())
        .map(|run| run.description.id)
        .collect();
    if !others.is_empty() {
        output::warn(&format!(
            "other runs worked on the project at the same time, and their changes count as this run's: {}",
            others.join(", ")
        ));
    }
}

/// Removes what killed runs left: snapshots that were never finished, and the rest of those that were closed.
fn sweep(record: &Record) {
    let runs = record.path().parent().map(std::fs::read_dir);
    for entry in runs.into_iter().flatten().flatten().flatten() {
        let path = entry.path();
        let decided = match held(&path) {
            Ok(Some(Held::Part)) => false,
            Ok(Some(Held::Changes | Held::Undone)) if path.join("snapshot").exists() => true,
            _ => continue,
        };
        let Ok(directory) = open_record(&path) else {
            continue;
        };
        // A run that takes or closes its snapshot at this moment holds the lock.
        if path == record.path()
            || rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err()
        {
            continue;
        }
        // What cannot be removed now is tried again the next time.
        let _ = if decided {
            close(&path).map(drop)
        } else {
            remove_snapshot(&path)
        };
    }
}

/// Signals that end rcc, held back until the half of a snapshot is gone.
struct Signals {
    descriptor: SignalDescriptor,
    former: SignalSet,
    caught: std::cell::Cell<Option<i32>>,
}

impl Signals {
    fn hold() -> Result<Self, SysError> {
        let wanted: Vec<i32> = [Signal::INT, Signal::TERM, Signal::HUP]
            .into_iter()
            .map(Signal::as_raw)
            .filter(|number| !is_ignored(*number))
            .collect();
        let set = SignalSet::of(&wanted);
        let former = set.block_only_these()?;
        let descriptor = set.descriptor().inspect_err(|_| {
            // The first error is the one to report.
            let _ = former.block_only_these();
        })?;
        Ok(Self {
            descriptor,
            former,
            caught: std::cell::Cell::new(None),
        })
    }

    /// Whether one came.
    fn pending(&self) -> bool {
        if self.caught.get().is_none() {
            self.caught.set(self.descriptor.next().ok().flatten());
        }
        self.caught.get().is_some()
    }

    /// Lets them through again; the one that came.
    fn release(self) -> Option<i32> {
        self.pending();
        let _ = self.former.block_only_these();
        self.caught.get()
    }
}

/// Whether the caller made rcc ignore a signal, as with `nohup(1)` (`proc_pid_status(5)`, `SigIgn`).
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}
