//! Time limits of `poll(2)` and `connect(2)`, and looks that do not wait.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A time limit as the kernel takes it; the longest there is where it does not fit.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Whether a descriptor is ready now.
pub(crate) fn ready_now(descriptor: &impl AsFd, flags: PollFlags) -> bool {
    let mut events = [PollFd::new(descriptor, flags)];
    matches!(poll(&mut events, Some(&timespec(Duration::ZERO))), Ok(1))
}

/// Connects to a Unix socket. By itself connect(2) waits without limit for a listener whose queue is full, as that of a stopped
/// process comes to be.
///
/// # Errors
/// `EAGAIN` when there was no room in the queue for so long; else as for connect(2).
pub fn connect(path: &Path, kind: SocketType, longest: Duration) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    let latest = Instant::now() + longest;
    loop {
        match rustix::net::connect(&socket, &address) {
            Err(Errno::AGAIN) if Instant::now() < latest => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::INTR) => {}
            answer => break answer?,
        }
    }
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_waited_for_no_longer_than_asked() {
        let path = std::env::temp_dir().join(format!("rcc-connect-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let kind = SocketType::SEQPACKET;
        let listener = rustix::net::socket(AddressFamily::UNIX, kind, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let limit = Duration::from_millis(20);
        let first = connect(&path, kind, limit).unwrap();
        let flags = rustix::fs::fcntl_getfl(&first).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        // Nobody accepts it, and there is room for one only.
        assert_eq!(connect(&path, kind, limit).unwrap_err(), Errno::AGAIN);
        drop(rustix::net::accept(&listener).unwrap());
        connect(&path, kind, limit).unwrap();
        std::fs::remove_file(&path).unwrap();
        let gone = connect(&path, kind, limit).unwrap_err();
        assert_eq!(gone, Errno::NOENT);
    }
}
