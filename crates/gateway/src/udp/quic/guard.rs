//! The judgement on the QUIC connections of one flow.
//!
//! Must not let a datagram go while a hello is incomplete, and must not hold more than its bounds.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::crypto::{STREAM_LIMIT, Stream, parts};
use super::keys::Keys;
use super::wire::{Initial, Version, packets};
use crate::client_hello::{Hello, parse_body};
use crate::refusal::Refusal;

/// Datagrams held until a hello is complete, their bytes, and the time. Clients with post-quantum keys need two datagrams, and may
/// send early data behind.
const HELD_DATAGRAMS: usize = 16;
const HELD_BYTES: usize = 64 << 10;
const HOLD_TIME: Duration = Duration::from_secs(10);
/// Bytes that the guards of all flows keep: held datagrams and hellos.
const KEPT_BYTES_ALL: usize = 8 << 20;
/// Connections of a flow that are remembered. Clients begin one, or a few when several share a socket.
const CONNECTIONS: usize = 8;
/// Connection IDs that are remembered, and for how long: longer than servers keep a handshake that does not go on.
const SEEN_LIMIT: usize = 8192;
const SEEN_TIME: Duration = Duration::from_secs(60);

/// `ClientHello` (RFC 8446 section 4), and the length of a message's header.
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER: usize = 4;

/// What is to be done with a datagram.
#[derive(Debug)]
pub(in crate::udp) enum Passage {
    /// It goes on.
    Pass,
    /// It waits, or was not to be understood by anybody.
    Stop,
    /// These go on, the datagram last.
    Release(Vec<Vec<u8>>),
    Refuse(Refusal),
}

/// How strict a guard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::udp) enum Strictness {
    /// A rule allows the name, and only that.
    Strict,
    /// No rule names the host, so what is unreadable may pass; a hello for a name that a rule denies may not.
    Lenient,
}

/// Digests of the hellos that let connections pass, by connection ID. A connection is known to a server by its ID, whatever
/// flow the packets come from, so the hello of an ID must be the same in all flows: of two that are for the name, mixed, a third could
/// be made that is not.
#[derive(Debug, Default)]
pub(in crate::udp) struct SeenConnections(Mutex<HashMap<Vec<u8>, SeenHello>>);

/// SHA-256 of a hello, and when it was last said.
type SeenHello = ([u8; 32], Instant);

impl SeenConnections {
    /// Notes a hello, unless there was another one for this ID or no more can be remembered.
    fn note(&self, id: &[u8], hello: &[u8], now: Instant) -> Result<(), Refusal> {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, hello).as_ref());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, at)) = seen.get_mut(id) {
            *at = now;
            return match *known == digest {
                true => Ok(()),
                false => Err(Refusal::denied(
                    "quic_malformed",
                    "a QUIC connection was begun twice with different handshakes",
                )),
            };
        }
        if seen.len() >= SEEN_LIMIT {
            seen.retain(|_, (_, at)| now.saturating_duration_since(*at) < SEEN_TIME);
        }
        if seen.len() >= SEEN_LIMIT {
            return Err(too_many());
        }
        seen.insert(id.to_vec(), (digest, now));
        Ok(())
    }
}

struct Connection {
    version: Version,
    id: Vec<u8>,
    keys: Keys,
    stream: Stream,
    /// Bytes of the stream that were judged.
    judged: usize,
}

impl Connection {
    /// Whether something was said that is not judged yet.
    fn is_open(&self) -> bool {
        self.judged == 0 || self.stream.length() > self.judged
    }
}

/// What a flow's QUIC connections have said so far.
pub(in crate::udp) struct Guard {
    connections: Vec<Connection>,
    held: Vec<Vec<u8>>,
    held_since: Option<Instant>,
    /// Bytes counted in `all`.
    kept: usize,
    all: Arc<AtomicUsize>,
    seen: Arc<SeenConnections>,
}

impl Guard {
    pub(in crate::udp) fn new(all: &Arc<AtomicUsize>, seen: &Arc<SeenConnections>) -> Self {
        Self {
            connections: Vec::new(),
            held: Vec::new(),
            held_since: None,
            kept: 0,
            all: Arc::clone(all),
            seen: Arc::clone(seen),
        }
    }

    /// Judges a datagram. `check` tells why a hello may not go to the flow's destination.
    pub(in crate::udp) fn judge(
        &mut self,
        datagram: &[u8],
        strictness: Strictness,
        now: Instant,
        check: impl Fn(&Hello) -> Option<Refusal>,
    ) -> Passage {
        let is_long = datagram.first().is_some_and(|first| first & 0x80 != 0);
        if !is_long && self.held.is_empty() {
            return Passage::Pass;
        }
        let strict = strictness == Strictness::Strict;
        match self.read(datagram, strict, now, check) {
            Ok(Read::Complete) if self.held.is_empty() => Passage::Pass,
            Ok(Read::Complete) => self.release(datagram),
            Ok(Read::Foreign) => Passage::Stop,
            Ok(Read::Incomplete) => match self.hold(datagram, now) {
                Ok(()) => Passage::Stop,
                Err(refusal) => Passage::Refuse(refusal),
            },
            Err(refusal) => Passage::Refuse(refusal),
        }
    }

    /// Why held datagrams may wait no longer.
    pub(in crate::udp) fn overdue(&self, now: Instant) -> Option<Refusal> {
        let since = self.held_since?;
        (now.saturating_duration_since(since) >= HOLD_TIME).then(incomplete)
    }

    fn read(
        &mut self,
        datagram: &[u8],
        strict: bool,
        now: Instant,
        check: impl Fn(&Hello) -> Option<Refusal>,
    ) -> Result<Read, Refusal> {
        let found = packets(datagram);
        if strict && found.has_unknown_version {
            let sentence = "this version of QUIC does not let anybody see which host it is for";
            return Err(Refusal::denied("quic_version", sentence));
        }
        let mut read = Read::Complete;
        for initial in &found.initials {
            let Some((index, packet)) = self.open(initial)? else {
                // Nobody can open it, or somebody with keys that are not known here: it is no part of a handshake that was judged.
                read = if strict { Read::Foreign } else { read };
                continue;
            };
            self.take_in(index, &packet, now, &check)?;
        }
        if self.connections.iter().any(Connection::is_open) {
            return Ok(Read::Incomplete);
        }
        Ok(read)
    }

    /// Opens a packet with the keys of its own connection ID, which begins a connection, or with those of one that began.
    fn open(&mut self, initial: &Initial<'_>) -> Result<Option<(usize, Vec<u8>)>, Refusal> {
        let own = |connection: &Connection| {
            connection.version == initial.version && connection.id == initial.id
        };
        if !self.connections.iter().any(own)
            && let Some(mut keys) = Keys::derive(initial.version, initial.id)
            && let Some(packet) = keys.open(initial)
        {
            if self.connections.len() >= CONNECTIONS {
                // One whose hello is incomplete has datagrams held, which nobody would judge any more.
                let judged = self.connections.iter().position(|it| !it.is_open());
                let oldest = self.connections.remove(judged.ok_or_else(too_many)?);
                self.forget(oldest.stream.length());
            }
            self.keep(size_of::<Connection>())?;
            self.connections.push(Connection {
                version: initial.version,
                id: initial.id.to_vec(),
                keys,
                stream: Stream::default(),
                judged: 0,
            });
            return Ok(Some((self.connections.len() - 1, packet)));
        }
        let opened = self
            .connections
            .iter_mut()
            .enumerate()
            .find_map(|(index, connection)| Some((index, connection.keys.open(initial)?)));
        Ok(opened)
    }

    /// Adds the frames of a packet to its connection, and judges a hello that is complete.
    fn take_in(
        &mut self,
        index: usize,
        packet: &[u8],
        now: Instant,
        check: impl Fn(&Hello) -> Option<Refusal>,
    ) -> Result<(), Refusal> {
        let broken = |_| malformed();
        let parts = parts(packet).map_err(broken)?;
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(());
        };
        let before = connection.stream.length();
        for part in parts {
            connection.stream.add(part).map_err(broken)?;
        }
        let grown = connection.stream.length() - before;
        loop {
            let said = connection.stream.from(connection.judged);
            let Some(([kind, length @ ..], rest)) = said.split_first_chunk::<MESSAGE_HEADER>()
            else {
                break;
            };
            let length =
                usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if *kind != CLIENT_HELLO || length > STREAM_LIMIT {
                return Err(malformed());
            }
            let Some(body) = rest.get(..length) else {
                break;
            };
            let hello = parse_body(body).ok_or_else(malformed)?;
            if let Some(refusal) = check(&hello) {
                return Err(refusal);
            }
            if connection.judged == 0 {
                self.seen.note(&connection.id, body, now)?;
            }
            connection.judged += MESSAGE_HEADER + length;
        }
        self.keep(grown)
    }

    fn hold(&mut self, datagram: &[u8], now: Instant) -> Result<(), Refusal> {
        let bytes: usize = self.held.iter().map(Vec::len).sum();
        if self.held.len() >= HELD_DATAGRAMS || bytes + datagram.len() > HELD_BYTES {
            return Err(incomplete());
        }
        self.keep(datagram.len())?;
        self.held.push(datagram.to_vec());
        self.held_since.get_or_insert(now);
        Ok(())
    }

    fn release(&mut self, datagram: &[u8]) -> Passage {
        let mut held = std::mem::take(&mut self.held);
        self.held_since = None;
        self.forget(held.iter().map(Vec::len).sum());
        held.push(datagram.to_vec());
        Passage::Release(held)
    }

    fn keep(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.all.load(Ordering::Relaxed) + bytes > KEPT_BYTES_ALL {
            return Err(too_many());
        }
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.kept += bytes;
        Ok(())
    }

    fn forget(&mut self, bytes: usize) {
        let bytes = bytes.min(self.kept);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        self.kept -= bytes;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.all.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

/// What was learned from a datagram.
enum Read {
    /// Every connection that was begun was judged.
    Complete,
    /// A hello is not complete yet.
    Incomplete,
    /// An Initial packet of no connection that was judged.
    Foreign,
}

fn malformed() -> Refusal {
    let sentence = "the QUIC handshake is malformed or contradicts what was said before";
    Refusal::denied("quic_malformed", sentence)
}

fn incomplete() -> Refusal {
    let sentence = "the QUIC handshake did not become complete";
    Refusal::denied("quic_incomplete", sentence)
}

fn too_many() -> Refusal {
    let sentence = "too many QUIC connections begin at the same time";
    Refusal::denied("limit_quic", sentence)
}

#[cfg(test)]
mod tests;
