//! The handshake between supervisor, netns helper and pid 1: one message type, both directions, one datagram each.
//!
//! What pid 1 sends after the agent has started is hostile input: the agent may control pid 1. So the supervisor reads
//! bounded datagrams, takes nothing but the variants that the moment allows, and learns no fact from them that matters
//! for protection.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rcc_sys::SysError;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest datagram; a longer one is cut by the kernel and refused here.
const LONGEST_MESSAGE: usize = 4096;
/// Most descriptors that one message carries.
const MOST_DESCRIPTORS: usize = 8;

/// Everything that is ever said on a control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub(crate) enum Message {
    /// Helper to supervisor: pid 1 was made. Carries its pidfd.
    InitStarted,
    /// Future pid 1 to helper: its network namespace exists. Carries it.
    AgentNamespace,
    /// Helper to supervisor: the network is built. Carries the TCP listener, the resolver's UDP socket, the socket of all
    /// other UDP, the raw IPv4 socket and, with IPv6, the raw IPv6 socket.
    NetworkReady,
    /// pid 1 to supervisor: the tree is built. Carries the pseudo-terminal's master when there is one.
    TreeReady,
    /// Supervisor to helper: build the network, with or without IPv6 addresses on the link.
    BuildNetwork {
        /// Whether the link has IPv6 addresses.
        ipv6: bool,
        /// Whether there is a link between the two namespaces at all.
        link: bool,
        /// Whether to stay and make sockets of the agent's namespace.
        stay: bool,
    },
    /// Helper to supervisor: it has given everything else up and makes sockets on request.
    ReadyForSockets,
    /// Supervisor to helper: make a TCP socket in the agent's network namespace.
    MakeSocket {
        /// An IPv6 one.
        ipv6: bool,
    },
    /// Helper to supervisor: here is the socket.
    Socket,
    /// Helper to supervisor: `socket(2)` failed.
    NoSocket {
        /// Its `errno`.
        errno: i32,
    },
    /// Supervisor to helper: this run has no network; end.
    NoNetwork,
    /// Supervisor to pid 1: build the tree of this plan. Carries a file with it.
    Plan,
    /// Supervisor to pid 1: everything stands, start the agent.
    Go,
    /// Either child: a step of the set-up failed, the process is about to exit.
    Failed {
        /// The whole chain of errors, outermost first.
        chain: Vec<String>,
        /// What the user can do.
        hint: Option<String>,
    },
    /// pid 1: the agent's program could not be executed.
    ExecFailed {
        /// `errno` of the decisive attempt.
        errno: i32,
    },
    /// pid 1: the agent was stopped by this signal.
    Stopped {
        /// Signal number.
        signal: i32,
    },
    /// Supervisor to pid 1: continue the stopped agent.
    Continue,
    /// Supervisor to guard: keep these mounts. Carries pid 1's pidfd and a file with the list.
    Guard,
    /// Guard to supervisor: a protected path was found without its mount.
    Lost {
        /// Place in the list.
        entry: usize,
        /// What became of it.
        loss: Loss,
        /// Since it was last seen protected, in milliseconds.
        at_most_ms: u64,
    },
    /// pid 1: the agent has ended, and what a group of systemd's says of it is still there.
    Ended,
    /// Supervisor to guard: the agent has ended; look a last time. To pid 1: it was looked at, end.
    Finish,
}

/// What happened to a protected path on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// It was removed, and nothing is there.
    Gone,
    /// Something else is there now, which is protected again.
    Replaced,
    /// The same, and the new file was, or may have been, written to under this name before it was protected.
    Written,
    /// It was changed after it had been protected again.
    Changed,
}

/// One end of a control connection.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

impl Control {
    /// The same end once more, for another thread.
    pub(crate) fn duplicate(&self) -> Result<Self, SysError> {
        let duplicate = rustix::io::fcntl_dupfd_cloexec(&self.0, 0);
        duplicate
            .map(Self)
            .map_err(|errno| SysError::new("fcntl(2)", "", errno))
    }

    /// Makes both ends (`socketpair(2)`, `SOCK_SEQPACKET`: message borders are kept and the end of the peer is seen).
    pub(crate) fn pair() -> Result<(Self, Self), SysError> {
        rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map(|(a, b)| (Self(a), Self(b)))
        .map_err(SysError::at("socketpair(2)", "the control connection"))
    }

    /// Takes over an end that was inherited.
    pub(crate) fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Gives the end away, to be inherited.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Sends a message with descriptors.
    pub(crate) fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SysError> {
        send(self.0.as_fd(), message, descriptors, SendFlags::empty())
    }

    /// Waits for the next message; `None` is the end of the peer.
    pub(crate) fn receive(&self) -> Result<Option<(Message, Vec<OwnedFd>)>, SysError> {
        self.receive_with(RecvFlags::empty())
    }

    /// Takes a message that is already there.
    pub(crate) fn receive_now(&self) -> Result<Option<(Message, Vec<OwnedFd>)>, SysError> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, flags: RecvFlags) -> Result<Option<(Message, Vec<OwnedFd>)>, SysError> {
        receive(self.0.as_fd(), flags)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends one value as one datagram, with descriptors.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), SysError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|_| SysError::new("sendmsg(2)", "a control message", Errno::INVAL))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL | flags,
    )
    .map(drop)
    .map_err(SysError::at("sendmsg(2)", "the control connection"))
}

/// Receives one datagram as a value, with descriptors; `None` is the end of the peer.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> Result<Option<(T, Vec<OwnedFd>)>, SysError> {
    let failed = |errno| SysError::new("recvmsg(2)", "the control connection", errno);
    let mut bytes = [0; LONGEST_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags | RecvFlags::CMSG_CLOEXEC,
        ) {
            // Told once of a peer that ended without having read everything (sk_err in the kernel's net/unix/af_unix.c).
            // What it had said before is still there, and its end.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            received => break received.map_err(failed)?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(failed(Errno::MSGSIZE));
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())
        .map_err(|_| failed(Errno::BADMSG))?;
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_and_the_end_is_seen() {
        let (left, right) = Control::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        left.send(&Message::Stopped { signal: 20 }, &[null.as_fd()])
            .unwrap();
        drop(left);
        let (message, descriptors) = right.receive().unwrap().unwrap();
        assert_eq!(message, Message::Stopped { signal: 20 });
        assert_eq!(descriptors.len(), 1);
        assert!(right.receive().unwrap().is_none());
    }

    #[test]
    fn the_last_word_of_a_peer_that_did_not_listen_is_heard() {
        let (left, right) = Control::pair().unwrap();
        right.send(&Message::Go, &[]).unwrap();
        left.send(&Message::Stopped { signal: 20 }, &[]).unwrap();
        drop(left);
        let (message, _) = right.receive().unwrap().unwrap();
        assert_eq!(message, Message::Stopped { signal: 20 });
        assert!(right.receive().unwrap().is_none());
    }

    #[test]
    fn garbage_and_oversized_datagrams_are_refused() {
        let (left, right) = Control::pair().unwrap();
        rustix::io::write(&left.0, b"{\"message\":\"open-the-network\"}").unwrap();
        assert_eq!(right.receive().unwrap_err().errno, Errno::BADMSG);
        rustix::io::write(&left.0, &[b' '; LONGEST_MESSAGE + 1]).unwrap();
        assert_eq!(right.receive().unwrap_err().errno, Errno::MSGSIZE);
    }
}
