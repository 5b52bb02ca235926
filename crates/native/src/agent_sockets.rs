//! TCP sockets of the agent's network namespace, for published ports: what listens on the sandbox's own loopback can be
//! reached through them, and through nothing else.
//!
//! # Theory of operation
//! A socket belongs for ever to the namespace in which it was made (`network_namespaces(7)`), so one process has to stay
//! there: the netns helper, which is in the agent's network namespace at the end of its work. It gives up everything
//! else first. On each request it makes one socket and sends it to the supervisor; the supervisor connects it.
//!
//! Should: (1) drop every descriptor but the control connection, (2) every capability, (3) every system call but the few
//! that it takes to answer, (4) report, (5) answer until the supervisor closes its end.
//! Mustn't: read a file, run a program, make a socket of another kind; outlive the supervisor.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rcc_sys::SysError;
use rcc_sys::process::{SignalSet, keep_only};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::confine::drop_capabilities;
use crate::error::{NativeError, on_step, on_step_call};
use crate::launch::HELPER;
use crate::protocol::{Control, Message};
use crate::seccomp;

/// Time for the helper to answer; it takes microseconds.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Internet protocol of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Hands out sockets of the agent's network namespace. One request is under way at a time.
#[derive(Debug)]
pub struct AgentSockets {
    control: Mutex<Option<Control>>,
}

impl AgentSockets {
    pub(crate) fn new(control: Control) -> Self {
        Self {
            control: Mutex::new(Some(control)),
        }
    }

    /// Makes a TCP socket in the agent's namespace: not connected, non-blocking, closed on exec. `None` on a kernel without
    /// this version of IP.
    ///
    /// # Errors
    /// The helper is gone or does not answer, and is not asked again then; or it has no descriptor or memory left.
    pub fn tcp(&self, version: IpVersion) -> Result<Option<OwnedFd>, NativeError> {
        let mut place = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let control = place
            .as_ref()
            .ok_or(NativeError::Vanished { who: HELPER })?;
        match ask(control, version) {
            Ok(Ok(socket)) => Ok(Some(socket)),
            Ok(Err(Errno::AFNOSUPPORT)) => Ok(None),
            Ok(Err(errno)) => Err(on_step_call("make a socket in the sandbox", "socket(2)")(
                errno,
            )),
            Err(error) => {
                // A late answer would be taken for that of the next request.
                *place = None;
                Err(error)
            }
        }
    }
}

/// Asks for a socket. The outer error is that of the connection, the inner that of `socket(2)`.
fn ask(control: &Control, version: IpVersion) -> Result<Result<OwnedFd, Errno>, NativeError> {
    let step = "ask the netns helper for a socket";
    let ipv6 = version == IpVersion::V6;
    control
        .send(&Message::MakeSocket { ipv6 }, &[])
        .map_err(on_step(step))?;
    let time = Timespec::try_from(ANSWER_TIME).unwrap_or(Timespec {
        tv_sec: 2,
        tv_nsec: 0,
    });
    let mut events = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut events, Some(&time)))
        .map_err(on_step_call(step, "poll(2)"))?;
    if ready == 0 {
        return Err(on_step_call(step, "poll(2)")(Errno::TIMEDOUT));
    }
    match control.receive_now().map_err(on_step(step))? {
        Some((Message::Socket, mut descriptors)) => match descriptors.pop() {
            Some(socket) if descriptors.is_empty() => Ok(Ok(socket)),
            _ => Err(NativeError::Protocol { who: HELPER }),
        },
        Some((Message::NoSocket { errno }, _)) => {
            Ok(Err(Errno::from_raw_os_error(errno.clamp(1, 4095))))
        }
        Some(_) => Err(NativeError::Protocol { who: HELPER }),
        None => Err(NativeError::Vanished { who: HELPER }),
    }
}

/// The rest of the helper's life. It is in the agent's network namespace.
pub(crate) fn serve(control: &Control) -> Result<(), NativeError> {
    // 1. Signals of the terminal are for the supervisor: Ctrl-C must not end the ports, nor Ctrl-Z leave one half asleep.
    let step = "leave the netns helper its connection alone";
    rustix::process::setsid().map_err(on_step_call(step, "setsid(2)"))?;
    SignalSet::all().block_only_these().map_err(on_step(step))?;
    let control =
        rustix::io::fcntl_dupfd_cloexec(control, 0).map_err(on_step_call(step, "fcntl(2)"))?;
    Err(on_step(step)(keep_only(control, stay)))
}

fn stay(control: OwnedFd) -> i32 {
    let control = Control::from_descriptor(control);
    // 2, 3.
    let confined = drop_capabilities().and_then(|()| seccomp::socket_maker().install());
    if let Err(error) = confined {
        let _ = control.send(
            &Message::Failed {
                chain: error.chain(),
                hint: error.hint(),
            },
            &[],
        );
        return 125;
    }
    // 4.
    if control.send(&Message::ReadyForSockets, &[]).is_err() {
        return 125;
    }
    // 5.
    loop {
        let answered = match control.receive() {
            Ok(Some((Message::MakeSocket { ipv6 }, _))) => answer(&control, ipv6),
            Ok(None) => return 0,
            Ok(Some(_)) | Err(_) => return 125,
        };
        if answered.is_err() {
            return 125;
        }
    }
}

fn answer(control: &Control, ipv6: bool) -> Result<(), SysError> {
    let family = if ipv6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
        Ok(socket) => control.send(&Message::Socket, &[socket.as_fd()]),
        Err(errno) => control.send(
            &Message::NoSocket {
                errno: errno.raw_os_error(),
            },
            &[],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_helper_is_asked_once() {
        let (ours, theirs) = Control::pair().unwrap();
        let sockets = AgentSockets::new(ours);
        drop(theirs);
        for _ in 0..2 {
            assert!(sockets.tcp(IpVersion::V4).is_err());
        }
        assert!(sockets.control.lock().unwrap().is_none());
    }

    #[test]
    fn an_answer_of_another_kind_ends_the_connection() {
        let (ours, theirs) = Control::pair().unwrap();
        let sockets = AgentSockets::new(ours);
        theirs.send(&Message::Socket, &[]).unwrap();
        assert!(sockets.tcp(IpVersion::V4).is_err());
        assert!(sockets.control.lock().unwrap().is_none());
    }

    #[test]
    fn a_kernel_without_the_family_is_no_reason_to_stop() {
        let (ours, theirs) = Control::pair().unwrap();
        let sockets = AgentSockets::new(ours);
        theirs.send(&Message::NoSocket { errno: 97 }, &[]).unwrap();
        assert!(sockets.tcp(IpVersion::V6).unwrap().is_none());
        assert!(sockets.control.lock().unwrap().is_some());
    }
}
