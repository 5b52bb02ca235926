//! Sends to the agent: datagrams of the world in the world's name, and ICMP errors.
//!
//! What cannot be sent at once is lost, as on any network. Must not send more errors than a program could wait for.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rcc_sys::socket::{Outgoing, send_many};

use super::packet::{self, IcmpError};

/// ICMP errors that may be sent at once, and per second in the long run (the purpose of RFC 1812 section 4.3.2.8): a
/// program that tries many destinations hears of each, a flood is not answered with another.
const ERRORS_BURST: f64 = 2000.0;
const ERRORS_PER_SECOND: f64 = 1000.0;

/// The raw sockets, and what they share.
#[derive(Debug)]
pub(super) struct AgentSide {
    raw_v4: OwnedFd,
    raw_v6: Option<OwnedFd>,
    /// Numbers datagrams that have to be cut.
    identification: AtomicU32,
    errors: Mutex<(f64, Instant)>,
}

impl AgentSide {
    pub(super) fn new(raw_v4: OwnedFd, raw_v6: Option<OwnedFd>) -> Self {
        Self {
            raw_v4,
            raw_v6,
            identification: AtomicU32::new(1),
            errors: Mutex::new((ERRORS_BURST, Instant::now())),
        }
    }

    fn socket(&self, to: SocketAddr) -> Option<BorrowedFd<'_>> {
        match to {
            SocketAddr::V4(_) => Some(self.raw_v4.as_fd()),
            SocketAddr::V6(_) => self.raw_v6.as_ref().map(|socket| socket.as_fd()),
        }
    }

    /// Sends datagrams from an address that the agent talks to.
    pub(super) fn deliver<'payload>(
        &self,
        from: SocketAddr,
        agent: SocketAddr,
        payloads: impl Iterator<Item = &'payload [u8]>,
    ) {
        let mut packets = Vec::with_capacity(payloads.size_hint().0);
        for payload in payloads {
            let identification = self.identification.fetch_add(1, Ordering::Relaxed);
            packet::datagram(from, agent, payload, identification, &mut packets);
        }
        let outgoing: Vec<_> = packets
            .iter()
            .map(|(head, payload)| Outgoing {
                header: head.as_bytes(),
                payload,
                to: Some(agent.ip()),
            })
            .collect();
        if let Some(socket) = self.socket(agent) {
            send_all(socket, &outgoing);
        }
    }

    /// Tells the agent what became of a datagram of this length that it sent.
    pub(super) fn tell(
        &self,
        error: IcmpError,
        agent: SocketAddr,
        original: SocketAddr,
        payload_length: usize,
    ) {
        if !self.may_tell(Instant::now()) {
            return;
        }
        let packet = packet::icmp(error, agent, original, payload_length);
        if let (Some(packet), Some(socket)) = (packet, self.socket(agent)) {
            let outgoing = Outgoing {
                header: &packet,
                payload: &[],
                to: Some(agent.ip()),
            };
            send_all(socket, &[outgoing]);
        }
    }

    fn may_tell(&self, now: Instant) -> bool {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, updated) = *errors;
        let earned = now.saturating_duration_since(updated).as_secs_f64() * ERRORS_PER_SECOND;
        let left = (left + earned).min(ERRORS_BURST);
        *errors = (if left >= 1.0 { left - 1.0 } else { left }, now);
        left >= 1.0
    }
}

/// Sends what can be sent; a packet that is refused is skipped, and a full buffer ends it.
fn send_all(socket: BorrowedFd<'_>, mut packets: &[Outgoing<'_>]) {
    while !packets.is_empty() {
        let done = match send_many(socket, packets) {
            Ok(sent) => sent.max(1),
            Err(error) if error.errno == rustix::io::Errno::AGAIN => return,
            Err(_) => 1,
        };
        packets = packets.get(done..).unwrap_or_default();
    }
}
