//! The socket of a flow towards the world.
//!
//! Must not be made for an address that was not checked.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rcc_sys::socket::{Outgoing, forbid_fragments, path_mtu, send_many};
use rustix::io::Errno;
use tokio::net::UdpSocket;

use super::flow::Key;
use super::packet::IcmpError;
use super::quic::begins_like_quic;
use crate::transport::connect_datagrams;

/// A connected, non-blocking UDP socket of the host.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
    /// The first datagram was looked at.
    is_known: AtomicBool,
}

impl Upstream {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = connect_datagrams(address)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            address,
            is_known: AtomicBool::new(false),
        })
    }

    /// Looks at the first datagram. QUIC measures its path and must not be cut (RFC 9000 section 14): the host's kernel then says
    /// what is too long, and so does the agent's. Other protocols are cut as on the host.
    pub(super) fn note_protocol(&self, first: &[u8]) {
        if !self.is_known.swap(true, Ordering::Relaxed) && begins_like_quic(first) {
            // Cannot fail on a UDP socket; cut datagrams arrive, too.
            let _ = forbid_fragments(self.socket.as_fd());
        }
    }

    /// Sends datagrams in order and shows each error that the agent is to hear of, with the length of the datagram.
    pub(super) fn send<'payload>(
        &self,
        key: Key,
        payloads: impl Iterator<Item = &'payload [u8]>,
        mut tell: impl FnMut(IcmpError, usize),
    ) {
        let outgoing: Vec<_> = payloads
            .map(|payload| Outgoing {
                header: &[],
                payload,
                to: None,
            })
            .collect();
        let mut rest = outgoing.as_slice();
        let mut retried = false;
        while let Some(first) = rest.first() {
            let done = match send_many(self.socket.as_fd(), rest) {
                Ok(sent) => sent.max(1),
                // The host's buffer is full: lost, as on any network.
                Err(error) if error.errno == Errno::AGAIN => return,
                Err(error) => {
                    if let Some(error) = self.describe(error.errno, key) {
                        tell(error, first.payload.len());
                    }
                    // An error that the network reported for an earlier datagram says nothing about this one.
                    if is_reported(error.errno) && !retried {
                        retried = true;
                        continue;
                    }
                    1
                }
            };
            retried = false;
            rest = rest.get(done..).unwrap_or_default();
        }
    }

    /// What the agent is to hear about an error of this socket.
    pub(super) fn describe(&self, errno: Errno, key: Key) -> Option<IcmpError> {
        match errno {
            Errno::CONNREFUSED => Some(IcmpError::PortUnreachable),
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN => {
                Some(IcmpError::HostUnreachable)
            }
            Errno::ACCESS | Errno::PERM => Some(IcmpError::Prohibited),
            Errno::MSGSIZE => {
                let mtu = path_mtu(self.socket.as_fd()).ok()?;
                Some(IcmpError::TooBig(translate(mtu, self.address, key)))
            }
            _ => None,
        }
    }
}

/// Whether an error can be about an earlier datagram: those that ICMP messages become (`icmp_err_convert` in net/ipv4/icmp.c).
fn is_reported(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::ACCESS
    )
}

/// The path's MTU as the agent has to see it: its packets may have headers of the other length (20 bytes of IPv4, 40 of IPv6).
fn translate(mtu: u32, upstream: SocketAddr, key: Key) -> u32 {
    match (key.original.is_ipv4(), upstream.is_ipv4()) {
        (true, false) => mtu.saturating_sub(20),
        (false, true) => mtu.saturating_add(20),
        (true, true) | (false, false) => mtu,
    }
}
