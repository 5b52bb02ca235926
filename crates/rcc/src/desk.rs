//! Where the desk of a run lies, and how a command finds it: the socket `desk` in the run's record.
//!
//! The place follows from the id alone, so nothing has to be written down for it. The socket is reached through a descriptor of
//! the record, so the length of its path does not matter (`sun_path` has 108 bytes, `unix(7)`).

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcc_native::{DeskClient, DeskError};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{CliError, Kind};
use crate::record::Record;
use crate::runs::Found;

/// Name of the socket in the record.
const NAME: &str = "desk";
/// Clients that may wait to be accepted.
const QUEUE: i32 = 64;
/// How long a run may take from its record to its desk: a program that has to be found, a tree that has to be built.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a supervisor may take from the agent's end to its own: looking through a large project, telling what was left.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(30);
/// The same for one that closed the connection without a word, because it was about to end, or because we are not welcome.
pub(crate) const GONE_LIMIT: Duration = Duration::from_secs(2);

/// A desk that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "rcc stop, kill, exec and inspect cannot reach this run: no socket can be made in {}: {reason}",
    rcc_plan::escape(path)
)]
pub(crate) struct OpenError {
    path: PathBuf,
    reason: String,
}

/// A desk that cannot be reached.
#[derive(Debug, thiserror::Error)]
enum ReachError {
    #[error("cannot reach the run {}", rcc_plan::escape(id))]
    Failed {
        id: String,
        #[source]
        source: DeskError,
    },
    #[error("nobody answers for the run {}", rcc_plan::escape(id))]
    Nobody { id: String },
}

/// The socket's place; dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct Place(OwnedFd);

impl Drop for Place {
    fn drop(&mut self) {
        // What stays refuses connections, and goes with the record.
        let _ = rustix::fs::unlinkat(&self.0, NAME, AtFlags::empty());
    }
}

/// Makes the socket of a run and listens on it.
pub(crate) fn open(record: &Record) -> Result<(Place, OwnedFd), OpenError> {
    let fail = |reason: String| OpenError {
        path: record.path().to_owned(),
        reason,
    };
    let refused = |errno| fail(rcc_sys::describe_errno(errno));
    let directory = directory(record.path()).map_err(refused)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(refused)?;
    let address = SocketAddrUnix::new(through(&directory)).map_err(refused)?;
    rustix::net::bind(&listener, &address).map_err(refused)?;
    let place = Place(directory);
    rustix::net::listen(&listener, QUEUE).map_err(refused)?;
    Ok((place, listener))
}

/// Connects to the desk of a run under way; waits for one that is just being started.
pub(crate) fn reach(run: &Found) -> Result<DeskClient, CliError> {
    let id = &run.description.id;
    let failed = |source: DeskError| failed(run, source);
    let latest = Instant::now() + START_LIMIT;
    loop {
        let connected = match directory(&run.record) {
            Ok(directory) => DeskClient::connect(&through(&directory)).map_err(failed)?,
            Err(_) => None,
        };
        if let Some(client) = connected {
            return Ok(client);
        }
        if Instant::now() > latest || !run.still_lives() {
            let id = id.clone();
            return Err(CliError::new(Kind::User, ReachError::Nobody { id }).hint(
                "it has ended, it was started on another machine, or it is still being started",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The error of a conversation with a run. One that was started by another version is best talked to by that one, whose program
/// the kernel keeps as long as the run lasts, whatever became of its file.
pub(crate) fn failed(run: &Found, source: DeskError) -> CliError {
    let id = run.description.id.clone();
    let may_be_of_another_version = match &source {
        DeskError::OtherVersion { .. } | DeskError::Confused => true,
        DeskError::Refused { .. } => run.description.version != env!("CARGO_PKG_VERSION"),
        _ => false,
    };
    let error = CliError::new(Kind::User, ReachError::Failed { id, source });
    if !may_be_of_another_version {
        return error;
    }
    error.hint(format!(
        "use the rcc that started it, version {}; while the run lasts it is /proc/{}/exe",
        rcc_plan::escape(&run.description.version),
        run.description.supervisor_pid
    ))
}

/// Waits until the supervisor of a run has written everything down and has ended.
///
/// # Errors
/// It goes on: it closed the connection because it does not talk to this process.
pub(crate) fn wait_for_record(run: &Found, longest: Duration) -> Result<(), CliError> {
    let latest = Instant::now() + longest;
    while run.still_lives() {
        if Instant::now() > latest {
            let error = failed(run, DeskError::Gone);
            return Err(error.hint(
                "it goes on: its supervisor talks to processes of your own user namespace only, or takes long to end",
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn directory(record: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, record, flags, Mode::empty())
}

/// A short path of the socket in this directory.
fn through(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        Self::new(Kind::Host, error)
    }
}
