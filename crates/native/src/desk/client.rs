//! The other side of the desk: what `rcc stop`, `kill`, `inspect` and `exec` say to a supervisor.

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rcc_plan::Plan;
use rcc_sys::SysError;
use rcc_sys::peer::Peer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};
use serde_json::Value;

use super::protocol::{Answer, Answering, Ask, Asking, Heard, VERSION, read};
use crate::group::GroupRecord;
use crate::protocol::{receive, send};
use crate::wait::{connect, timespec};

/// Longest time for an answer. A supervisor that takes longer is stopped, or broken.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A conversation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// The supervisor ended meanwhile.
    #[error("the run has ended")]
    Gone,
    /// It does not answer: it is stopped, or broken.
    #[error("the run's supervisor does not answer")]
    Silent,
    /// It does not want to.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// It is of another version, whose answers mean something else.
    #[error(
        "its supervisor speaks version {version} of what is said at the desk, and this rcc speaks {VERSION}"
    )]
    OtherVersion {
        /// The supervisor's.
        version: u64,
    },
    /// It answers something else.
    #[error("what the run's supervisor answers is not understood")]
    Confused,
    /// The connection failed.
    #[error("cannot talk to the run's supervisor")]
    Talk(#[source] SysError),
}

/// How a run is.
#[derive(Debug)]
pub struct Status {
    /// Process id of pid 1 on the host.
    pub init: u32,
    /// The plan that was applied.
    pub plan: Plan,
}

/// A connection to a desk. It stands as long as the run lasts.
#[derive(Debug)]
pub struct DeskClient(OwnedFd);

impl DeskClient {
    /// Connects to the socket with this path; none when nobody listens there.
    ///
    /// # Errors
    /// Anything but a missing socket and one that nobody serves.
    pub fn connect(path: &Path) -> Result<Option<Self>, DeskError> {
        match connect(path, SocketType::SEQPACKET, ANSWER_LIMIT) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(Errno::AGAIN) => Err(DeskError::Silent),
            Err(errno) => Err(DeskError::Talk(SysError::new("connect(2)", "", errno))),
        }
    }

    /// Sends a signal to the agent; `SIGKILL` ends the run.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub fn signal(&self, number: i32) -> Result<(), DeskError> {
        match self.ask(Ask::Signal { number })? {
            (Answer::Done, _) => Ok(()),
            _ => Err(DeskError::Confused),
        }
    }

    /// Asks how the run is.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub fn status(&self) -> Result<Status, DeskError> {
        match self.ask(Ask::Status)? {
            (Answer::Status { init }, descriptors) => {
                let [plan] =
                    <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| DeskError::Confused)?;
                let plan = read_plan(plan)?;
                Ok(Status { init, plan })
            }
            _ => Err(DeskError::Confused),
        }
    }

    /// Asks for what a process in the sandbox needs: pid 1's pidfd, the plan, and the control group.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub fn join(&self) -> Result<(OwnedFd, Plan, Option<GroupRecord>), DeskError> {
        match self.ask(Ask::Join)? {
            (Answer::Join { group }, descriptors) => {
                let [sandbox, plan] =
                    <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| DeskError::Confused)?;
                Ok((sandbox, read_plan(plan)?, group.map(|group| *group)))
            }
            _ => Err(DeskError::Confused),
        }
    }

    /// Asks to be shown what the agent of a detached run does; the connection for [`crate::attach()`], and whether the agent has a
    /// terminal. `size` are rows and columns of the caller's.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub fn attach(self, size: (u16, u16)) -> Result<(OwnedFd, bool), DeskError> {
        let (rows, columns) = size;
        match self.ask(Ask::Attach { rows, columns })? {
            (Answer::Attached { terminal }, _) => Ok((self.0, terminal)),
            _ => Err(DeskError::Confused),
        }
    }

    /// Waits until the run has ended, at most so long; whether it has.
    #[must_use]
    pub fn wait_for_end(&self, longest: Duration) -> bool {
        let mut events = [PollFd::new(&self.0, PollFlags::empty())];
        let longest = timespec(longest);
        let waited = rustix::io::retry_on_intr(|| poll(&mut events, Some(&longest)));
        matches!(waited, Ok(1..))
    }

    /// A descriptor of the supervisor's process, as the kernel knows it from the connection.
    ///
    /// # Errors
    /// It has ended.
    pub fn supervisor(&self) -> Result<OwnedFd, DeskError> {
        Peer::of(&self.0)
            .and_then(|peer| peer.process(&self.0))
            .map_err(|error| match error.errno {
                Errno::SRCH => DeskError::Gone,
                _ => DeskError::Talk(error),
            })
    }

    fn ask(&self, ask: Ask) -> Result<(Answer, Vec<OwnedFd>), DeskError> {
        let gone = |error: SysError| match error.errno {
            Errno::PIPE | Errno::CONNRESET => DeskError::Gone,
            _ => DeskError::Talk(error),
        };
        let asking = Asking {
            version: VERSION,
            ask,
        };
        send(self.0.as_fd(), &asking, &[], SendFlags::empty()).map_err(gone)?;
        let mut events = [PollFd::new(&self.0, PollFlags::IN)];
        let longest = timespec(ANSWER_LIMIT);
        match rustix::io::retry_on_intr(|| poll(&mut events, Some(&longest))) {
            Ok(0) => return Err(DeskError::Silent),
            Ok(_) => {}
            Err(errno) => return Err(DeskError::Talk(SysError::new("poll(2)", "", errno))),
        }
        match receive::<Value>(self.0.as_fd(), RecvFlags::empty()) {
            Ok(Some((said, descriptors))) => match read::<Answering>(said) {
                Heard::OtherVersion(version) => Err(DeskError::OtherVersion { version }),
                Heard::Unknown => Err(DeskError::Confused),
                Heard::Known(answering) => match answering.answer {
                    Answer::Refused { reason } => Err(DeskError::Refused { reason }),
                    answer => Ok((answer, descriptors)),
                },
            },
            Ok(None) => Err(DeskError::Gone),
            Err(error) if error.errno == Errno::BADMSG => Err(DeskError::Confused),
            Err(error) => Err(gone(error)),
        }
    }
}

fn read_plan(file: OwnedFd) -> Result<Plan, DeskError> {
    let mut text = Vec::new();
    std::fs::File::from(file)
        .read_to_end(&mut text)
        .map_err(|_| DeskError::Confused)?;
    serde_json::from_slice(&text).map_err(|_| DeskError::Confused)
}
