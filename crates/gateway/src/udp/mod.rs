//! UDP through the gateway: every datagram of the agent but those to port 53.
//!
//! # Theory of operation
//! All datagrams arrive at one transparent socket, each with the address that the agent wanted. A *flow* is what has the same
//! address and port of the agent and the same wanted address and port. Its first datagram is judged as a TCP connection is
//! (`judge.rs`), the address that it leads to is checked, and one connected socket of the host is opened for it. What comes back on that
//! socket is sent to the agent in the name of the address that it wanted, through a raw socket of the router namespace: so a flow
//! costs no descriptor there, and any source address and port is possible. UDP has no end, so a flow ends by silence, or when the
//! table is full and no other was silent for longer.
//!
//! A refusal is an ICMP error, which a connected socket learns of at its next call. Datagrams are dropped, as everywhere on
//! the Internet, when a buffer is full; nothing here waits for a peer.
//!
//! - `packet`: the bytes of what the agent gets. `agent_side`: sends them.
//! - `flow`, `flows`: one flow, and the table. `quic`: holds QUIC to the name.
//! - `upstream`: the socket towards the world. `serve`: the loop.
//!
//! Must not send a datagram to an address that was not checked for its flow.

mod agent_side;
mod flow;
mod flows;
mod packet;
mod quic;
mod serve;
mod upstream;

use std::os::fd::OwnedFd;

pub(crate) use flows::Flows;
#[cfg(fuzzing)]
pub(crate) use quic::fuzz as fuzz_quic;
pub(crate) use serve::serve;

/// The sockets towards the agent for everything but DNS.
#[derive(Debug)]
pub struct UdpSockets {
    /// UDP socket that receives datagrams to every address ([`rcc_sys::socket::transparent_udp_socket`]).
    pub datagrams: OwnedFd,
    /// Sends IPv4 packets to the agent ([`rcc_sys::socket::raw_sender_v4`]).
    pub raw_v4: OwnedFd,
    /// Sends IPv6 packets to the agent ([`rcc_sys::socket::raw_sender_v6`]); none on a kernel without IPv6.
    pub raw_v6: Option<OwnedFd>,
}
