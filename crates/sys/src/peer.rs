//! Who is at the other end of a Unix socket, and in which user namespace.
//!
//! The one judgement made here is [`is_callers_own`]: every control socket asks it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Stat;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::SysError;
use crate::sockopt::descriptor_option;

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// Its user id in the caller's user namespace; the overflow id when it has none there (`user_namespaces(7)`).
    pub uid: u32,
    pid: Pid,
    /// Refers to the process even after its number was given to another one; none before Linux 6.5.
    handle: Option<OwnedFd>,
}

/// The identity of a user namespace: device and inode of its file below `/proc/PID/ns` (`namespaces(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    device: u64,
    inode: u64,
}

impl UserNamespace {
    fn of(status: &Stat) -> Self {
        Self {
            device: status.st_dev,
            inode: status.st_ino,
        }
    }

    /// The caller's own.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn own() -> Result<Self, SysError> {
        read("/proc/self/ns/user")
    }
}

fn read(path: &str) -> Result<UserNamespace, SysError> {
    rustix::fs::stat(path)
        .map(|status| UserNamespace::of(&status))
        .map_err(|errno| SysError::new("stat(2)", path.to_owned(), errno))
}

impl Peer {
    /// Asks a connected Unix socket (`SO_PEERCRED`, `unix(7)`; `SO_PEERPIDFD`, Linux 6.5).
    ///
    /// # Errors
    /// The socket is not one, or its peer has no process in the caller's pid namespace.
    pub fn of(socket: impl AsFd) -> Result<Self, SysError> {
        let credentials = rustix::net::sockopt::socket_peercred(&socket)
            .map_err(|errno| SysError::new("getsockopt(2)", "SO_PEERCRED", errno))?;
        let handle = match descriptor_option(socket.as_fd(), libc::SOL_SOCKET, SO_PEERPIDFD) {
            Ok(handle) => Some(handle),
            Err(Errno::NOPROTOOPT) => None,
            Err(errno) => return Err(SysError::new("getsockopt(2)", "SO_PEERPIDFD", errno)),
        };
        Ok(Self {
            uid: credentials.uid.as_raw(),
            pid: credentials.pid,
            handle,
        })
    }

    /// A descriptor of the process, for signals. On the side that connected it is the process that listens.
    ///
    /// # Errors
    /// `ESRCH` when it has ended; out of descriptors.
    pub fn process(&self, socket: impl AsFd) -> Result<OwnedFd, SysError> {
        if let Some(handle) = &self.handle {
            return handle
                .try_clone()
                .map_err(|_| SysError::new("dup(2)", "process descriptor", Errno::MFILE));
        }
        let handle = rustix::process::pidfd_open(self.pid, rustix::process::PidfdFlags::empty())
            .map_err(|errno| SysError::new("pidfd_open(2)", "", errno))?;
        // As long as the connection stands, the number was that process's when it was opened.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut events = [PollFd::new(&socket, PollFlags::empty())];
        match poll(&mut events, Some(&now)) {
            Ok(0) => Ok(handle),
            _ => Err(SysError::new("pidfd_open(2)", "", Errno::SRCH)),
        }
    }

    /// The user namespace of the process now.
    ///
    /// # Errors
    /// `ESRCH` when it has ended; `EACCES` when it is not the caller's to look at (`ptrace(2)`, access mode READ).
    pub fn user_namespace(&self) -> Result<UserNamespace, SysError> {
        let path = format!("/proc/{}/ns/user", self.pid.as_raw_nonzero());
        let found = read(&path)?;
        // The number is the peer's as long as the peer lives, so it has to live still after the look.
        match &self.handle {
            Some(handle) if has_ended(handle)? => Err(SysError::new("stat(2)", path, Errno::SRCH)),
            Some(_) | None => Ok(found),
        }
    }
}

/// Whether the other end of a Unix socket is the user's own process outside of every sandbox, or root's. What cannot be told
/// is a no.
///
/// An agent has the user's own uid, so a uid says little: but its processes live in a user namespace that is a child of ours,
/// and no call leads back.
#[must_use]
pub fn is_callers_own(socket: impl AsFd) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let Ok(peer) = Peer::of(socket) else {
        return false;
    };
    match peer.uid {
        // Root's processes cannot be looked at by others; in the agent's namespace no id leads to root.
        0 if own != 0 => true,
        uid if uid == own => match (peer.user_namespace(), UserNamespace::own()) {
            (Ok(peer), Ok(own)) => peer == own,
            (Err(_), _) | (_, Err(_)) => false,
        },
        _ => false,
    }
}

/// `<asm-generic/socket.h>`
const SO_PEERPIDFD: libc::c_int = 77;

/// A process descriptor is readable once its process has ended (`pidfd_open(2)`).
fn has_ended(handle: &OwnedFd) -> Result<bool, SysError> {
    let mut descriptors = [PollFd::new(handle, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut descriptors, Some(&now))
        .map(|ready| ready > 0)
        .map_err(|errno| SysError::new("poll(2)", "process descriptor", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_this_process_has_it_as_its_peer() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(
            peer.user_namespace().unwrap(),
            UserNamespace::own().unwrap()
        );
    }
}
