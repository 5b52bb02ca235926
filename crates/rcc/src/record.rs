//! The record of a run: `$XDG_STATE_HOME/rcc/runs/<id>/` with `run.json`, `end.json` and `audit.jsonl`, written by the host side
//! only.
//!
//! The directory stays locked (flock(2)) while the run lasts, so that pruning never takes a live one. Must not hold
//! anything secret beyond what the audit log needs: arguments of the command are kept, its environment is not.

mod end;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcc_host::cow::{
    CowError, Held as Snapshot, Layers, Root, SnapshotRequest, Taken, has_open, held, remove_tree,
    take,
};
use rcc_host::{DirectoryError, FileError, open_private, replace};
use rcc_plan::SafeBytes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::control;
use crate::error::{CliError, Kind};
use end::End;
pub(crate) use end::EndReason;

/// How many ended runs are kept.
const KEPT: usize = 50;
/// How many more may gather before they are removed together: the end of most runs costs no more than a listing.
const SLACK: usize = 10;
/// Longest name of a run, in bytes.
const NAME_LIMIT: usize = 63;
/// Form of records. A higher one says that a program that does not know it must leave the record alone, not even remove it.
const FORMAT: u32 = 1;
/// Name of the audit log in the record.
pub(crate) const AUDIT: &str = "audit.jsonl";
/// Name of the description in the record.
pub(crate) const DESCRIPTION: &str = "run.json";
/// What `rcc wait` holds open in the record, so that `--rm` does not take the exit code away from it.
const WAITERS: &str = "waiters";
/// How long `--rm` lets those read the exit code who wait for it; they look every 50 ms.
const WAITERS_LIMIT: Duration = Duration::from_secs(5);
/// How long somebody who only looks may hold the lock of a record.
const LISTING_LIMIT: Duration = Duration::from_millis(500);
/// Letters and digits of the random part, without those that are mistaken for another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";

/// A record that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The directory is unusable.
    #[error("cannot make the record of the run")]
    Directory(#[source] DirectoryError),
    /// A file in it is.
    #[error("cannot write the record of the run")]
    File(#[source] FileError),
    /// `--name` is no name.
    #[error("a run cannot be called \"{}\"", rcc_plan::escape(name))]
    Name { name: String },
    /// `--name` is another run's.
    #[error("the name {name} belongs to the run {id}, which is under way")]
    Taken { name: String, id: String },
    /// A system call on it failed.
    #[error("cannot make the record of the run in {}", rcc_plan::escape(path))]
    Make {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl From<RecordError> for CliError {
    fn from(error: RecordError) -> Self {
        let (kind, hint) = match &error {
            RecordError::Name { .. } => (
                Kind::User,
                "names are letters, digits, dots, underscores and hyphens, 63 at most, and begin with a letter or digit",
            ),
            RecordError::Taken { .. } => (
                Kind::User,
                "end that run with rcc stop, or take another name",
            ),
            RecordError::Directory(_) | RecordError::File(_) | RecordError::Make { .. } => (
                Kind::Host,
                "runs are recorded below $XDG_STATE_HOME/rcc/runs, a directory of yours alone",
            ),
        };
        Self::new(kind, error).shortage_or(hint)
    }
}

/// A record that cannot be removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    /// Its lock is held.
    #[error("the record {} is in use", rcc_plan::escape(path))]
    Busy { path: PathBuf },
    /// Nobody has decided about its changes.
    #[error(
        "the run {} has changes that were neither applied nor discarded",
        rcc_plan::escape(id)
    )]
    Undecided { id: String },
    /// An `rcc apply` or `rcc undo` stopped in the middle.
    #[error("an rcc apply of the run {} was interrupted", rcc_plan::escape(id))]
    Open { id: String },
    /// A system call failed.
    #[error("cannot remove the record {}", rcc_plan::escape(path))]
    Failed {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl From<RemoveError> for CliError {
    fn from(error: RemoveError) -> Self {
        let (kind, hint) = match &error {
            RemoveError::Busy { .. } => (
                Kind::User,
                "another command works on it, or a run on another machine that shares the directory",
            ),
            RemoveError::Undecided { .. } => (
                Kind::User,
                "rcc diff shows them; rcc apply, rcc undo or rcc discard decides, and rcc rm --force throws them away",
            ),
            RemoveError::Open { .. } => (
                Kind::User,
                "rcc apply goes on with it, rcc undo takes it back",
            ),
            RemoveError::Failed { .. } => (
                Kind::Host,
                "the same command again goes on with what is left",
            ),
        };
        Self::new(kind, error).hint(hint)
    }
}

/// What becomes of changes that nobody has decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// They keep the record.
    Kept,
    /// They go with it.
    Removed,
}

/// What `run.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    /// [`FORMAT`] of who wrote it; versions that did not write it had the first.
    #[serde(default = "first_format")]
    format: u32,
    pub(crate) id: String,
    /// `--name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Version of the rcc that wrote this.
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) project: SafeBytes,
    pub(crate) agent: Option<String>,
    /// Name of the agent home.
    #[serde(default)]
    pub(crate) home: String,
    pub(crate) argv: Vec<SafeBytes>,
    pub(crate) network: String,
    /// The audit log, where it is not the record's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audit: Option<SafeBytes>,
    /// The directory of the control socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) control: Option<SafeBytes>,
    pub(crate) supervisor_pid: u32,
    /// The boot that it began in ([`boot_id`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_id: Option<String>,
    pub(crate) started_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u8>,
    /// Why it ended, when that was not the agent's own doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_reason: Option<String>,
}

const fn first_format() -> u32 {
    1
}

impl Description {
    /// Whether a newer rcc wrote it, in a form that this one must leave alone.
    pub(crate) const fn is_foreign(&self) -> bool {
        self.format > FORMAT
    }

    /// Adds how the run of this record ended, when that is there.
    pub(crate) fn add_end(&mut self, record: &Path) {
        if let Some(end) = end::read(record) {
            self.ended_at_ms = Some(end.ended_at_ms);
            self.exit_code = Some(end.exit_code);
            self.end_reason = end.reason;
            self.control = None;
        }
    }
}

/// What is known of a run before it begins.
#[derive(Debug)]
pub(crate) struct Beginning<'a> {
    pub(crate) project: &'a Path,
    /// `--name`.
    pub(crate) name: Option<&'a str>,
    pub(crate) agent: Option<&'a str>,
    /// Name of the agent home.
    pub(crate) home: &'a str,
    pub(crate) argv: &'a [OsString],
    /// Word of the network mode.
    pub(crate) network: &'a str,
    /// What a run with a network will have.
    pub(crate) places: Option<Places>,
}

/// Where a run with a network can be looked at and changed.
#[derive(Debug)]
pub(crate) struct Places {
    /// The audit log, where it is not the record's own.
    pub(crate) audit: Option<PathBuf>,
    /// Where the directory of the control socket will be, when it is not the record.
    pub(crate) runtime: Option<PathBuf>,
}

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) description: Description,
    directory: OwnedFd,
    path: PathBuf,
    runs: PathBuf,
    reason: Option<EndReason>,
}

impl Record {
    /// Makes the record and with it the id of the run; `run.json` is there while the run lasts.
    ///
    /// It names the places before they are there, so that it need not be written twice.
    pub(crate) fn create(state: &Path, beginning: &Beginning<'_>) -> Result<Self, RecordError> {
        let runs = state.join("runs");
        let parent = open_private(&runs).map_err(RecordError::Directory)?;
        let fail = |errno: Errno| RecordError::Make {
            path: runs.clone(),
            source: errno.into(),
        };
        // Of two runs that want the same name at the same moment, one comes first.
        let _alone = match beginning.name {
            Some(name) => Some(reserve(state, &parent, name)?),
            None => None,
        };
        let prefix = readable_part(beginning.project);
        let (id, directory) = loop {
            let id = format!("{prefix}-{}", random_part().map_err(fail)?);
            match rustix::fs::mkdirat(&parent, &id, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                made => made.map_err(fail)?,
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            break (
                id.clone(),
                rustix::fs::openat(&parent, &id, flags, Mode::empty()).map_err(fail)?,
            );
        };
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(fail)?;
        let path = runs.join(&id);
        let places = beginning.places.as_ref();
        let record = Self {
            description: Description {
                format: FORMAT,
                id: id.clone(),
                name: beginning.name.map(str::to_owned),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                project: beginning.project.into(),
                agent: beginning.agent.map(str::to_owned),
                home: beginning.home.to_owned(),
                argv: beginning
                    .argv
                    .iter()
                    .cloned()
                    .map(SafeBytes::from)
                    .collect(),
                network: beginning.network.to_owned(),
                audit: places
                    .and_then(|places| places.audit.clone())
                    .map(SafeBytes::from),
                control: places
                    .map(|places| control::place(places.runtime.as_deref(), &id, &path))
                    .map(SafeBytes::from),
                supervisor_pid: std::process::id(),
                boot_id: boot_id(),
                started_at_ms: now_ms(),
                ended_at_ms: None,
                exit_code: None,
                end_reason: None,
            },
            reason: None,
            directory,
            path,
            runs,
        };
        // The room for the end comes first: a run whose end could not be written down is not started.
        let written = end::reserve(record.directory.as_fd()).map_err(|errno| RecordError::Make {
            path: record.path.clone(),
            source: errno.into(),
        });
        match written.and_then(|()| record.write()) {
            Ok(()) => Ok(record),
            Err(error) => {
                record.discard();
                Err(error)
            }
        }
    }

    /// The run's id.
    pub(crate) fn id(&self) -> &str {
        &self.description.id
    }

    /// Opens the audit log for appending.
    pub(crate) fn audit(&self) -> Result<File, RecordError> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, AUDIT, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| RecordError::Make {
                path: self.path.join(AUDIT),
                source: errno.into(),
            })
    }

    /// The directory of the record.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody removed it while the run lasted.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.path.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Notes where the control socket is, unless that is what the record says already.
    pub(crate) fn note_control(&mut self, directory: Option<&Path>) -> Result<(), RecordError> {
        let control = directory.map(SafeBytes::from);
        if self.description.control == control {
            return Ok(());
        }
        self.description.control = control;
        self.write()
    }

    /// Makes the layer of a copy-on-write run over its project.
    pub(crate) fn make_layers(&self, project: &rcc_host::Project) -> Result<Layers, CowError> {
        let root = Root {
            path: &project.root,
            directory: project.directory.as_fd(),
        };
        Layers::create(self.directory.as_fd(), &self.path, root)
    }

    /// Takes the snapshot of a direct run.
    pub(crate) fn take_snapshot(
        &self,
        project: &rcc_host::Project,
        request: &SnapshotRequest<'_>,
    ) -> Result<Taken, CowError> {
        take(self.directory.as_fd(), &self.path, project, request)
    }

    /// Writes `run.json`.
    fn write(&self) -> Result<(), RecordError> {
        let json =
            serde_json::to_vec_pretty(&self.description).map_err(|error| RecordError::Make {
                path: self.path.join(DESCRIPTION),
                source: error.into(),
            })?;
        let directory = self.directory.as_fd();
        replace(directory, &self.path, DESCRIPTION, &json).map_err(RecordError::File)
    }

    /// Notes why the run ends, for [`Record::finish`].
    pub(crate) fn note_reason(&mut self, reason: EndReason) {
        self.reason = Some(reason);
    }

    /// Notes the end and removes the oldest ended runs beyond the number kept.
    pub(crate) fn finish(self, exit_code: u8) -> Result<(), RecordError> {
        let end = End {
            ended_at_ms: now_ms(),
            exit_code,
            reason: self.reason.map(|reason| reason.word().to_owned()),
        };
        end::write(self.directory.as_fd(), &self.path, &end).map_err(RecordError::File)?;
        drop(self.directory);
        prune(&self.runs, &self.path)
    }

    /// Notes the end, and removes the record unless it holds changes that wait (`--rm`).
    pub(crate) fn finish_for_good(self, exit_code: u8) -> Result<(), RecordError> {
        let path = self.path.clone();
        // Whoever waits reads it, and whoever comes between finds a run that has ended.
        self.finish(exit_code)?;
        let failed = |source| RecordError::Make {
            path: path.clone(),
            source,
        };
        let latest = Instant::now() + WAITERS_LIMIT;
        if let Ok(waiters) = waiters(&path, OFlags::empty()) {
            while rustix::fs::flock(&waiters, FlockOperation::NonBlockingLockExclusive).is_err()
                && Instant::now() < latest
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        match remove_ended(&path, Held::Kept) {
            // It goes like any other.
            Err(
                RemoveError::Undecided { .. } | RemoveError::Open { .. } | RemoveError::Busy { .. },
            ) => Ok(()),
            Err(RemoveError::Failed { source, .. }) => Err(failed(source)),
            Ok(()) => Ok(()),
        }
    }

    /// Ends the record of a run that failed: kept when something was logged, removed when nothing was.
    pub(crate) fn fail(self, exit_code: u8) -> Result<(), RecordError> {
        let logged = holds_changes(&self.path)
            || !matches!(held(&self.path), Ok(None))
            || rustix::fs::statat(&self.directory, AUDIT, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|status| status.st_size > 0)
            // Whoever started it has its id.
            || self.path.join(rcc_native::RECORDING[0]).exists();
        if logged {
            return self.finish(exit_code);
        }
        self.discard();
        Ok(())
    }

    /// Removes the record of a run that never started.
    pub(crate) fn discard(self) {
        if holds_changes(&self.path) {
            return;
        }
        // Nothing was run; a leftover is pruned like any other.
        let _ = remove(&self.path);
    }
}

/// Makes sure that no run under way has this name; nobody takes it as long as the result is held.
fn reserve(state: &Path, runs: &OwnedFd, name: &str) -> Result<OwnedFd, RecordError> {
    let name_of = |name: &str| name.to_owned();
    if !is_name(name) {
        let name = name_of(name);
        return Err(RecordError::Name { name });
    }
    let make = |errno: Errno| RecordError::Make {
        path: state.join("runs"),
        source: errno.into(),
    };
    // A descriptor of its own: the lock belongs to it.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = rustix::fs::openat(runs, ".", flags, Mode::empty()).map_err(make)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&held, FlockOperation::LockExclusive))
        .map_err(make)?;
    let taken = crate::runs::all(state)
        .into_iter()
        .find(|run| run.is_live && run.description.name.as_deref() == Some(name));
    match taken {
        Some(run) => Err(RecordError::Taken {
            name: name_of(name),
            id: run.description.id,
        }),
        None => Ok(held),
    }
}

/// Whether a text can be the name of a run: one word that no option and no path can be mistaken for.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=NAME_LIMIT).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Whether a record holds what an agent changed and nobody has decided about yet.
fn holds_changes(record: &Path) -> bool {
    match Layers::open(record) {
        Ok(Some(layers)) => !layers.project().base().settled && !layers.is_empty(),
        Ok(None) => false,
        // What cannot be read is not thrown away.
        Err(_) => true,
    }
}

/// Whether a record holds anything that only `rcc rm --force` throws away: changes that wait in a layer, or a snapshot that
/// leads back and has not been used.
pub(crate) fn holds_undecided(record: &Path) -> bool {
    let direct = match held(record) {
        Ok(held) => matches!(held, Some(Snapshot::Snapshot | Snapshot::Changes)),
        Err(_) => true,
    };
    direct || holds_changes(record)
}

/// Removes the record of a run that has ended.
pub(crate) fn remove_ended(record: &Path, undecided: Held) -> Result<(), RemoveError> {
    let failed = |source: std::io::Error| RemoveError::Failed {
        path: record.to_owned(),
        source,
    };
    let id = || {
        let name = record.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(CWD, record, flags, Mode::empty()) {
        // Somebody else was faster.
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(|errno| failed(errno.into()))?,
    };
    // A run under way holds it, an apply, an undo and a discard, too.
    if !lock_patiently(&directory) {
        let path = record.to_owned();
        return Err(RemoveError::Busy { path });
    }
    if has_open(record).unwrap_or(undecided == Held::Kept) {
        return Err(RemoveError::Open { id: id() });
    }
    if undecided == Held::Kept && holds_undecided(record) {
        return Err(RemoveError::Undecided { id: id() });
    }
    remove(record).map_err(failed)
}

/// Takes the lock of a record, unless something longer than a look holds it: whoever lists the runs has it for a moment.
pub(crate) fn lock_patiently(directory: &OwnedFd) -> bool {
    let latest = Instant::now() + LISTING_LIMIT;
    while rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > latest {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Keeps the record until this process has read how the run ended; for `rcc wait`.
pub(crate) fn keep_for_waiting(record: &Path) -> Option<OwnedFd> {
    let file = waiters(record, OFlags::CREATE).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
    Some(file)
}

fn waiters(record: &Path, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(CWD, record.join(WAITERS), flags, Mode::RUSR | Mode::WUSR)
}

/// Which boot of which machine this is (`random(4)`, `/proc/sys/kernel/random/boot_id`); none where it cannot be read.
pub(crate) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned())
}

/// Removes ended runs, oldest first, until the number kept is reached; never this one, which ended just now, whatever the clock says.
fn prune(runs: &Path, own: &Path) -> Result<(), RecordError> {
    let fail = |source: std::io::Error| RecordError::Make {
        path: runs.to_owned(),
        source,
    };
    let listing = File::open(runs).map_err(fail)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&listing).map_err(|errno| fail(errno.into()))? {
        let name = entry
            .map_err(|errno| fail(errno.into()))?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    if names.len() <= KEPT + SLACK {
        return Ok(());
    }
    let mut dated: Vec<(SystemTime, PathBuf)> = names
        .into_iter()
        .map(|name| runs.join(name))
        .filter_map(|path| {
            Some((
                std::fs::symlink_metadata(&path).ok()?.modified().ok()?,
                path,
            ))
        })
        .collect();
    dated.sort();
    // Only those count that could go: not what waits for a decision, and no run under way.
    let decided: Vec<PathBuf> = dated
        .into_iter()
        .map(|(_, path)| path)
        .filter(|path| path != own && !is_foreign(path))
        .filter(|path| !holds_changes(path) && !crate::runs::is_locked(path))
        .collect();
    let ended = decided.len() + 1;
    if ended <= KEPT + SLACK {
        return Ok(());
    }
    for path in decided.into_iter().take(ended - KEPT) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::openat(CWD, &path, flags, Mode::empty()) else {
            continue;
        };
        // A run that still lasts holds the lock and is left alone.
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(&path).map_err(fail)?;
        }
    }
    Ok(())
}

/// Whether a record is none that this rcc knows: of a newer one, or damaged. One that never got a description is known.
pub(crate) fn is_foreign(record: &Path) -> bool {
    match crate::runs::description(record) {
        Ok(Some(description)) => description.is_foreign(),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Removes a record with everything in it: an agent filled the layer.
fn remove(record: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (record.parent(), record.file_name()) else {
        return Ok(());
    };
    remove_directories(record)?;
    let parent = File::open(parent)?;
    remove_tree(parent.as_fd(), &name.to_string_lossy()).map_err(std::io::Error::other)
}

/// Removes what is large in a record, so that its description goes last: interrupted, it can still be named, and removed. Each is
/// renamed first, so that a part of it is never taken for the whole.
fn remove_directories(record: &Path) -> std::io::Result<()> {
    const REMOVED: &str = "-removed";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(CWD, record, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && entry.file_type() == FileType::Directory
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    for name in names {
        let removed = match name.ends_with(REMOVED) {
            true => name,
            false => {
                let removed = format!("{name}{REMOVED}");
                remove_tree(directory.as_fd(), &removed).map_err(std::io::Error::other)?;
                rustix::fs::renameat(&directory, &name, &directory, &removed)?;
                removed
            }
        };
        remove_tree(directory.as_fd(), &removed).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// The project's name as far as an id may hold it: `[a-z0-9-]`, at most 27 bytes.
fn readable_part(project: &Path) -> String {
    let name = project
        .file_name()
        .map(|name| name.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let mut part = String::new();
    for character in name.chars() {
        let wanted = if character.is_ascii_lowercase() || character.is_ascii_digit() {
            character
        } else {
            '-'
        };
        if wanted != '-' || !(part.is_empty() || part.ends_with('-')) {
            part.push(wanted);
        }
        if part.len() == 27 {
            break;
        }
    }
    let part = part.trim_end_matches('-');
    if part.is_empty() {
        "run".to_owned()
    } else {
        part.to_owned()
    }
}

fn random_part() -> rustix::io::Result<String> {
    let mut bytes = [0_u8; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect())
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rcc-record-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn begin(state: &Path, project: &str, name: Option<&str>) -> Result<Record, RecordError> {
        let beginning = Beginning {
            project: Path::new(project),
            name,
            agent: Some("claude"),
            home: "claude",
            argv: &["true".into()],
            network: "none",
            places: None,
        };
        Record::create(state, &beginning)
    }

    #[test]
    fn a_name_is_one_run_s_at_a_time() {
        let state = scratch("names");
        let first = begin(&state, "/x/one", Some("build")).unwrap();
        let taken = begin(&state, "/x/two", Some("build"));
        assert!(
            matches!(&taken, Err(RecordError::Taken { id, .. }) if *id == first.description.id),
            "{taken:?}"
        );
        let other = begin(&state, "/x/two", Some("Build.2_x-y")).unwrap();
        first.finish(0).unwrap();
        let second = begin(&state, "/x/one", Some("build")).unwrap();
        for bad in [
            "",
            "-x",
            ".",
            "..",
            "a/b",
            "a b",
            "\u{e4}",
            "a\nb",
            &"x".repeat(64),
        ] {
            let refused = begin(&state, "/x/one", Some(bad));
            assert!(matches!(refused, Err(RecordError::Name { .. })), "{bad:?}");
        }
        drop((second, other));
        std::fs::remove_dir_all(state).unwrap();
    }

    /// Whoever wrote a record: what is missing in it was not known then, and what it says more is for others.
    #[test]
    fn records_of_other_versions_can_be_read() {
        let least = r#"{"id":"a-bcde","project":"/x","agent":null,"argv":["true"],"network":"none",
            "supervisor_pid":1,"started_at_ms":5}"#;
        let old: Description = serde_json::from_str(least).unwrap();
        assert_eq!((old.name, old.version.as_str()), (None, ""));
        let more = least.replacen('{', r#"{"of_tomorrow":{"x":[1]},"version":"9.0.0","#, 1);
        let new: Description = serde_json::from_str(&more).unwrap();
        assert_eq!((new.version.as_str(), new.started_at_ms), ("9.0.0", 5));
    }

    #[test]
    fn an_id_is_short_and_plain_whatever_the_project_is_called() {
        for (project, expected) in [
            ("/home/ann/My Project", "my-project"),
            ("/x/--a__b--", "a-b"),
            ("/x/\u{e4}\u{f6}", "run"),
            (
                "/x/a-very-long-project-name-that-goes-on",
                "a-very-long-project-name-th",
            ),
        ] {
            assert_eq!(readable_part(Path::new(project)), expected);
        }
        let odd = PathBuf::from(OsString::from_vec(b"/x/a\xffb".to_vec()));
        assert_eq!(readable_part(&odd), "a-b");
        for _ in 0..200 {
            let part = random_part().unwrap();
            assert!(
                part.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
                "{part}"
            );
        }
    }

    #[test]
    fn a_record_is_private_and_holds_the_end() {
        let state = scratch("private");
        let record = begin(&state, "/x/demo", None).unwrap();
        let path = record.path.clone();
        assert_eq!(
            std::fs::metadata(path.join(DESCRIPTION))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        drop(record.audit().unwrap());
        record.finish(3).unwrap();
        let written = std::fs::read(path.join(DESCRIPTION)).unwrap();
        let mut description: Description = serde_json::from_slice(&written).unwrap();
        assert_eq!(
            (description.exit_code, description.ended_at_ms),
            (None, None)
        );
        description.add_end(&path);
        assert_eq!(description.exit_code, Some(3));
        assert!(description.ended_at_ms >= Some(description.started_at_ms));
        std::fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn old_runs_are_pruned_but_never_a_live_one() {
        let state = scratch("prune");
        let live = begin(&state, "/x/live", None).unwrap();
        let mut foreign = begin(&state, "/x/foreign", None).unwrap();
        foreign.description.format = FORMAT + 1;
        foreign.write().unwrap();
        let damaged = begin(&state, "/x/damaged", None).unwrap();
        let kept = [foreign.path.clone(), damaged.path.clone()];
        std::fs::write(damaged.path.join(DESCRIPTION), "{").unwrap();
        drop((foreign, damaged));
        for _ in 0..KEPT + SLACK + 5 {
            begin(&state, "/x/old", None).unwrap().finish(0).unwrap();
        }
        let left = std::fs::read_dir(state.join("runs")).unwrap().count();
        assert!(live.path.exists());
        assert!(kept.iter().all(|path| path.exists()));
        assert!((KEPT..=KEPT + SLACK + 1).contains(&left), "{left}");
        std::fs::remove_dir_all(state).unwrap();
    }

    /// Runs under way take no place of those that have ended.
    #[test]
    fn what_cannot_go_makes_nothing_else_go() {
        let state = scratch("prune-few");
        let live: Vec<_> = (0..KEPT + SLACK + 5)
            .map(|_| begin(&state, "/x/live", None).unwrap())
            .collect();
        let one = begin(&state, "/x/one", None).unwrap();
        let path = one.path.clone();
        one.finish(0).unwrap();
        begin(&state, "/x/two", None).unwrap().finish(0).unwrap();
        assert!(path.exists());
        drop(live);
        std::fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn what_is_large_goes_first_and_the_description_last() {
        let state = scratch("order");
        let record = begin(&state, "/x/large", None).unwrap();
        let path = record.path.clone();
        for directory in ["cow/upper", "cow-removed/x", "snapshot"] {
            std::fs::create_dir_all(path.join(directory)).unwrap();
        }
        remove_directories(&path).unwrap();
        let left = std::fs::read_dir(&path).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap()).collect();
        assert!(path.join(DESCRIPTION).exists());
        assert!(
            left.iter()
                .all(|entry| entry.file_type().unwrap().is_file())
        );
        remove(&path).unwrap();
        assert!(!path.exists());
        std::fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_failed_run_that_was_recorded_keeps_its_record() {
        let state = scratch("failed");
        let path_of = |is_recorded: bool| {
            let record = begin(&state, "/x/failed", None).unwrap();
            let path = record.path.clone();
            if is_recorded {
                std::fs::write(path.join(rcc_native::RECORDING[0]), "").unwrap();
            }
            record.fail(127).unwrap();
            path
        };
        assert!(path_of(true).exists());
        assert!(!path_of(false).exists());
        std::fs::remove_dir_all(state).unwrap();
    }
}
