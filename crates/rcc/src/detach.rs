//! `--detach`: a run whose supervisor goes on without the terminal that it was started from.
//!
//! The process that the caller waits for is forked before anything else; it prints the id once the agent is under way, or ends
//! as the supervisor did if that could not start it. The supervisor has a session of its own, so no hang-up reaches it. What the
//! agent writes is recorded; what rcc itself has to say goes to `supervisor.log` in the record.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rcc_native::{Desk, Early, Recorder};
use rcc_sys::process::{Alone, fork, place_descriptor};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitOptions;

use crate::cli::RunFlags;
use crate::commands::run::early as early_of;
use crate::error::{CliError, Kind, with_causes};
use crate::output;
use crate::record::Record;

/// Name of the file in the record that holds what rcc said.
pub(crate) const LOG: &str = "supervisor.log";

/// Room that is taken for it, in bytes.
const LOG_RESERVED: u64 = 4096;

/// A run that cannot be detached.
#[derive(Debug, thiserror::Error)]
#[error("cannot detach the run")]
struct DetachError(#[source] std::io::Error);

/// What a run begins with: its first processes, and how it is detached, if it is.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) early: Early,
    pub(crate) detached: Option<Detached>,
}

/// The supervisor's side of a detached run.
#[derive(Debug)]
pub(crate) struct Detached {
    front: OwnedFd,
    pipes: Option<[OwnedFd; 2]>,
}

/// Where the caller's process goes on.
#[derive(Debug)]
pub(crate) enum Side {
    /// As supervisor.
    Supervisor(Begun),
    /// It only had to wait; this is its exit code.
    Front(u8),
}

/// Whether the agent of a detached run gets a terminal: the caller has one.
pub(crate) fn wants_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Starts the first processes of a run, unless `foreseen` are there already, in a supervisor of its own when it is to be
/// detached.
///
/// # Errors
/// The host is out of processes or descriptors.
pub(crate) fn begin(flags: &RunFlags, foreseen: Option<Early>) -> Result<Side, CliError> {
    if !flags.detach {
        let early = foreseen.unwrap_or_else(|| early_of(flags));
        let detached = None;
        return Ok(Side::Supervisor(Begun { early, detached }));
    }
    // They would be children of the wrong process.
    drop(foreseen);
    let failed = |errno: rustix::io::Errno| CliError::new(Kind::Host, DetachError(errno.into()));
    let of_sys = |error: rcc_sys::SysError| failed(error.errno);
    let (from_supervisor, front) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let alone = Alone::prove().map_err(of_sys)?;
    if let Some(supervisor) = fork(&alone).map_err(of_sys)? {
        drop(front);
        return wait(from_supervisor, supervisor).map(Side::Front);
    }
    drop(from_supervisor);
    rustix::process::setsid().map_err(failed)?;
    let (early, pipes) = if wants_terminal() {
        (early_of(flags), None)
    } else {
        let (output, to_output) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (error, to_error) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let null = null().map_err(failed)?;
        let callers = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        let kept: Vec<OwnedFd> = callers
            .into_iter()
            .map(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        // pid 1 and the agent get the streams that are there now.
        replace([null.as_fd(), to_output.as_fd(), to_error.as_fd()]).map_err(of_sys)?;
        let early = early_of(flags);
        let [input, output_kept, error_kept] =
            <[OwnedFd; 3]>::try_from(kept).map_err(|_| failed(rustix::io::Errno::BADF))?;
        replace([input.as_fd(), output_kept.as_fd(), error_kept.as_fd()]).map_err(of_sys)?;
        (early, Some([output, error]))
    };
    let detached = Some(Detached { front, pipes });
    Ok(Side::Supervisor(Begun { early, detached }))
}

/// Waits until the supervisor says which run is under way, or ends.
fn wait(supervisor: OwnedFd, pid: rustix::process::Pid) -> Result<u8, CliError> {
    let mut id = String::new();
    let read = File::from(supervisor).read_to_string(&mut id);
    if read.is_ok() && id.ends_with('\n') {
        output::result(&id).map_err(|error| CliError::new(Kind::Host, error))?;
        return Ok(0);
    }
    let status =
        rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
    let code = status
        .ok()
        .flatten()
        .and_then(|(_, status)| status.exit_status());
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
}

impl Detached {
    /// Lets go of the caller's terminal, now that the agent is under way, and has the run recorded.
    pub(crate) fn settle(self, desk: &mut Desk<'_>, record: &Record) -> Result<(), CliError> {
        let failed =
            |errno: rustix::io::Errno| CliError::new(Kind::Host, DetachError(errno.into()));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::openat(CWD, record.path(), flags, Mode::empty()).map_err(failed)?;
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let log =
            rustix::fs::openat(&directory, LOG, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let null = null().map_err(failed)?;
        // Room for what is said when there is none any more.
        let _ = rustix::fs::fallocate(&log, FallocateFlags::KEEP_SIZE, 0, LOG_RESERVED);
        let recorder = Recorder::new(directory, self.pipes, |error| {
            output::warn(&format!(
                "what the agent writes is not recorded any more: {}",
                with_causes(error)
            ));
        });
        desk.record(recorder.map_err(failed)?);
        replace([null.as_fd(), null.as_fd(), log.as_fd()]).map_err(|error| failed(error.errno))?;
        // A caller that is gone does not want to know.
        let _ = File::from(self.front).write_all(format!("{}\n", record.id()).as_bytes());
        Ok(())
    }
}

fn null() -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Makes these the standard streams.
fn replace(streams: [BorrowedFd<'_>; 3]) -> Result<(), rcc_sys::SysError> {
    (0..)
        .zip(streams)
        .try_for_each(|(number, stream)| place_descriptor(stream, number))
}
