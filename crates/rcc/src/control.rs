//! Where the control socket of a run lies, and how a client finds and reaches it.
//!
//! `$XDG_RUNTIME_DIR/rcc/<id>/control`, or the record's own directory where there is no runtime directory. Both are of mode
//! 0700 and no sandbox is ever given either. Sockets are reached through a descriptor of their directory, so the length of
//! its path does not matter (`sun_path` has 108 bytes, `unix(7)`).

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcc_host::{Directories, open_private};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;

use crate::error::{CliError, with_causes};
use crate::record::Record;

/// Name of the socket in its directory.
const NAME: &str = "control";
/// An empty directory younger than this may belong to a run that begins just now.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// A control socket that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "the rules of this run cannot be changed while it lasts: no socket can be made in {}: {reason}",
    rcc_plan::escape(path)
)]
pub(crate) struct ControlError {
    path: PathBuf,
    reason: String,
}

impl ControlError {
    fn at(path: &Path, error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            path: path.to_owned(),
            reason: with_causes(error),
        }
    }
}

/// The place of a control socket; dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct Socket {
    directory: PathBuf,
    descriptor: OwnedFd,
    /// The directory is the socket's alone.
    is_own: bool,
}

impl Socket {
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What cannot be removed refuses connections and is taken away by a later run.
        let _ = rustix::fs::unlinkat(&self.descriptor, NAME, AtFlags::empty());
        if self.is_own {
            let _ = rustix::fs::rmdir(&self.directory);
        }
    }
}

/// Where the sockets of runs have their directories, when there is such a place.
pub(crate) fn runtime(directories: &Directories) -> Option<PathBuf> {
    let runtime = directories.runtime.clone();
    runtime.filter(|runtime| open_private(runtime).is_ok())
}

/// The directory of a run's socket.
pub(crate) fn place(runtime: Option<&Path>, id: &str, record: &Path) -> PathBuf {
    runtime.map_or_else(|| record.to_owned(), |runtime| runtime.join(id))
}

/// Makes the socket of a run and listens on it. A runtime directory that is full or read-only is as good as none.
pub(crate) fn open(
    record: &Record,
    runtime: Option<&Path>,
) -> Result<(Socket, OwnedFd), ControlError> {
    if let Some(runtime) = runtime {
        sweep(runtime);
        if let Ok(opened) = open_in(record, Some(runtime)) {
            return Ok(opened);
        }
    }
    open_in(record, None)
}

fn open_in(record: &Record, runtime: Option<&Path>) -> Result<(Socket, OwnedFd), ControlError> {
    let (directory, is_own) = (
        place(runtime, record.id(), record.path()),
        runtime.is_some(),
    );
    let descriptor =
        open_private(&directory).map_err(|error| ControlError::at(&directory, &error))?;
    let socket = Socket {
        directory: directory.clone(),
        descriptor,
        is_own,
    };
    let fail = |error: std::io::Error| ControlError::at(&directory, &error);
    let listener = UnixListener::bind(through(&socket.descriptor)).map_err(fail)?;
    rustix::fs::chmodat(
        &socket.descriptor,
        NAME,
        Mode::RUSR | Mode::WUSR,
        AtFlags::empty(),
    )
    .map_err(|errno| fail(errno.into()))?;
    Ok((socket, listener.into()))
}

/// Connects to the run whose socket lies in this directory; none when nobody listens there any more. `EAGAIN` is of one that has
/// accepted nobody for so long, because it is stopped perhaps.
pub(crate) fn connect(directory: &Path, longest: Duration) -> std::io::Result<Option<UnixStream>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, directory, flags, Mode::empty());
    let connected = opened.and_then(|directory| {
        rcc_native::connect(&through(&directory), SocketType::STREAM, longest)
    });
    match connected {
        Ok(socket) => Ok(Some(socket.into())),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A short path of the socket in this directory.
fn through(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
}

/// Removes what runs left that could not clean up: sockets on which nobody listens, and directories whose run did not come to
/// making one. Others are left alone.
fn sweep(runtime: &Path) {
    let Ok(entries) = std::fs::read_dir(runtime) else {
        return;
    };
    for directory in entries.flatten().map(|entry| entry.path()) {
        let is_socket = directory.join(NAME).symlink_metadata().is_ok();
        if is_socket && matches!(connect(&directory, Duration::ZERO), Ok(None)) {
            let _ = std::fs::remove_file(directory.join(NAME));
            let _ = std::fs::remove_dir(&directory);
        } else if !is_socket && age(&directory).is_some_and(|age| age > STALE_AFTER) {
            // One that holds anything stays.
            let _ = std::fs::remove_dir(&directory);
        }
    }
}

/// How long ago something was changed in a directory.
fn age(directory: &Path) -> Option<Duration> {
    let status = directory.symlink_metadata().ok()?;
    status.modified().ok()?.elapsed().ok()
}

impl From<ControlError> for CliError {
    fn from(error: ControlError) -> Self {
        Self::new(crate::error::Kind::Host, error)
    }
}
