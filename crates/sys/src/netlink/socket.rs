//! The two netlink sockets: one for rtnetlink, one for nf_tables.
//!
//! A socket acts on the network namespace its creator was in, whichever process uses it later; the kernel checks the
//! capabilities of both (`netlink_ns_capable` in `net/netlink/af_netlink.c`).
//!
//! Must not: wait for anything but an answer that is already queued.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::{self, SocketAddrNetlink},
};

use super::batch::FinishedBatch;
use super::constants::{NETLINK_CAP_ACK, NETLINK_EXT_ACK, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN};
use super::error::NetlinkError;
use super::parse::{Message, acknowledgement, messages};
use crate::SysError;
use crate::sockopt::set_socket_option;

/// Larger than the kernel's `NLMSG_GOODSIZE` (at most 8 KiB): no answer is cut.
const RECEIVE_BUFFER: usize = 16 * 1024;

/// A `NETLINK_ROUTE` socket (`rtnetlink(7)`) of one network namespace.
#[derive(Debug)]
pub struct RouteSocket(OwnedFd);

/// A `NETLINK_NETFILTER` socket of one network namespace.
#[derive(Debug)]
pub struct NetfilterSocket(OwnedFd);

impl RouteSocket {
    /// Opens a socket for the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel refuses the socket, for example because a seccomp filter forbids it.
    pub fn open() -> Result<Self, NetlinkError> {
        // Protocol 0 is NETLINK_ROUTE.
        open(None).map(Self)
    }

    pub(super) fn exchange(&self, batch: &FinishedBatch) -> Result<(), NetlinkError> {
        exchange(self.0.as_fd(), batch, |_| ())
    }

    pub(super) fn query(
        &self,
        batch: &FinishedBatch,
        on_answer: impl FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        exchange(self.0.as_fd(), batch, on_answer)
    }
}

impl NetfilterSocket {
    /// Opens a socket for the network namespace of the calling thread.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT`: the kernel has no `CONFIG_NETFILTER_NETLINK`.
    pub fn open() -> Result<Self, NetlinkError> {
        open(Some(netlink::NETFILTER)).map(Self)
    }

    pub(super) fn exchange(&self, batch: &FinishedBatch) -> Result<(), NetlinkError> {
        exchange(self.0.as_fd(), batch, |_| ())
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for NetfilterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For sockets that another process opened and handed over.
impl From<OwnedFd> for RouteSocket {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

/// For sockets that another process opened and handed over.
impl From<OwnedFd> for NetfilterSocket {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<RouteSocket> for OwnedFd {
    fn from(socket: RouteSocket) -> Self {
        socket.0
    }
}

impl From<NetfilterSocket> for OwnedFd {
    fn from(socket: NetfilterSocket) -> Self {
        socket.0
    }
}

fn open(protocol: Option<rustix::net::Protocol>) -> Result<OwnedFd, NetlinkError> {
    let failed = |source| NetlinkError::Socket { source };
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )
    .map_err(SysError::at("socket(2)", "AF_NETLINK"))
    .map_err(failed)?;
    // A connected netlink socket takes messages from that peer only: nobody but the kernel (port 0) can answer.
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))
        .map_err(SysError::at("connect(2)", "AF_NETLINK"))
        .map_err(failed)?;
    // The kernel's own words in refusals, without an echo of the whole request (since Linux 4.12 and 4.3).
    for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
        set_socket_option(socket.as_fd(), libc::SOL_NETLINK, option, 1)
            .map_err(SysError::at("setsockopt(2)", "AF_NETLINK"))
            .map_err(failed)?;
    }
    Ok(socket)
}

/// Sends a batch and reads everything the kernel has to say about it.
///
/// The first refusal wins: later ones are usually its consequence.
fn exchange(
    socket: BorrowedFd<'_>,
    batch: &FinishedBatch,
    mut on_answer: impl FnMut(&Message<'_>),
) -> Result<(), NetlinkError> {
    let failed = |source| NetlinkError::Socket { source };
    let sent = rustix::net::send(socket, &batch.bytes, SendFlags::empty())
        .map_err(SysError::at("sendto(2)", "AF_NETLINK"))
        .map_err(failed)?;
    if sent != batch.bytes.len() {
        return Err(NetlinkError::Malformed {
            what: "length sent",
        });
    }

    let mut buffer = [0_u8; RECEIVE_BUFFER];
    let mut refused = None;
    let mut complete = false;
    loop {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (_, length) = match rustix::net::recv(socket, &mut buffer, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN) => break,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(failed(SysError::new("recvfrom(2)", "AF_NETLINK", errno))),
        };
        let datagram = buffer.get(..length).ok_or(NetlinkError::Malformed {
            what: "answer longer than the buffer",
        })?;
        for message in messages(datagram) {
            let message = message?;
            match message.kind {
                NLMSG_ERROR => {
                    let answer = acknowledgement(&message)?;
                    match answer.errno {
                        None => complete |= message.sequence == batch.last_sequence,
                        Some(errno) => {
                            refused.get_or_insert_with(|| {
                                refusal(batch, message.sequence, errno, answer.text)
                            });
                        }
                    }
                }
                // The end of a dump; a code other than 0 is the error that ended it.
                NLMSG_DONE => match acknowledgement(&message)?.errno {
                    None => complete = true,
                    Some(errno) => {
                        refused
                            .get_or_insert_with(|| refusal(batch, message.sequence, errno, None));
                    }
                },
                NLMSG_OVERRUN => return Err(NetlinkError::Malformed { what: "overrun" }),
                _ => on_answer(&message),
            }
        }
    }
    match refused {
        Some(error) => Err(error),
        None if complete => Ok(()),
        None => Err(NetlinkError::Unacknowledged {
            action: step(batch, batch.last_sequence).action,
        }),
    }
}

fn refusal(
    batch: &FinishedBatch,
    sequence: u32,
    errno: rustix::io::Errno,
    kernel_text: Option<String>,
) -> NetlinkError {
    let step = step(batch, sequence);
    NetlinkError::Refused {
        action: step.action,
        kernel_text,
        source: SysError::new(step.call, step.on, errno),
    }
}

fn step(batch: &FinishedBatch, sequence: u32) -> super::batch::Step {
    const UNKNOWN: super::batch::Step = super::batch::Step {
        call: "netlink",
        on: "",
        action: "handle a message that was not sent",
    };
    usize::try_from(sequence)
        .ok()
        .and_then(|sequence| sequence.checked_sub(1))
        .and_then(|index| batch.steps.get(index))
        .copied()
        .unwrap_or(UNKNOWN)
}
