//! One flow: where it goes, what it holds back until its way is open, and its lines in the log.
//!
//! Must not decide anything: what may pass is judged before.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rcc_spec::{Checks, Protocol, Verdict};
use tokio::sync::Notify;

use super::quic::{Guard, SeenConnections};
use super::upstream::Upstream;
use crate::audit::{Event, Outcome, Record};
use crate::refusal::{Destination, Refusal};
use crate::relay::Traffic;
use crate::shared::Shared;

/// Silence that ends a flow without any answer, and one with (`net.netfilter.nf_conntrack_udp_timeout` and
/// `…_timeout_stream`, Documentation/networking/nf_conntrack-sysctl.rst): what works through a usual router works here.
pub(super) const TIMEOUT_UNREPLIED: Duration = Duration::from_secs(30);
pub(super) const TIMEOUT_REPLIED: Duration = Duration::from_secs(120);
/// Datagrams that a flow holds while its name is looked up, and their bytes. QUIC begins with up to ten datagrams.
const HELD_DATAGRAMS: usize = 16;
const HELD_BYTES: usize = 128 << 10;
/// Bytes that all flows hold together.
const HELD_BYTES_ALL: usize = 4 << 20;

/// What tells flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The agent's end.
    pub(super) agent: SocketAddr,
    /// Where the agent sent to.
    pub(super) original: SocketAddr,
}

/// What all flows together keep in memory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Bytes of datagrams that wait for their way.
    held: Arc<AtomicUsize>,
    /// Bytes that guards keep.
    guarded: Arc<AtomicUsize>,
    seen: Arc<SeenConnections>,
}

/// Whether a verdict holds what is said to the name.
pub(super) fn is_held(verdict: &Verdict) -> bool {
    verdict.rule.is_some() && verdict.checks == Checks::ByName
}

/// A flow of the table.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) destination: Destination,
    state: Mutex<State>,
    pub(super) traffic: Traffic,
    born: Instant,
    /// Milliseconds from `born` to the last datagram in either direction.
    active_ms: AtomicU64,
    replied: AtomicBool,
    /// Told when the flow has left the table; its task ends then.
    pub(super) ended: Notify,
}

pub(super) struct State {
    pub(super) verdict: Verdict,
    pub(super) way: Way,
    /// Reads what is said to a name; none for a literal address and where a rule is `raw`.
    pub(super) guard: Option<Guard>,
    /// Something may have passed that was not held to the name.
    pub(super) is_unchecked: bool,
    /// Where no rule decides, the user does; nothing passes before the answer.
    pub(super) consent: Consent,
}

/// What the user has to say about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// The rules decide.
    NotNeeded,
    /// There is no answer yet.
    Awaited,
    /// This flow is allowed, whatever else is not.
    Given,
}

/// How far a flow has come.
pub(super) enum Way {
    /// Its addresses are being looked up and checked.
    Opening(Held),
    Open(Arc<Upstream>),
    Closed,
}

impl Flow {
    pub(super) fn new(
        key: Key,
        destination: Destination,
        verdict: Verdict,
        consent: Consent,
        kept: &Kept,
    ) -> Self {
        let way = Way::Opening(Held::new(&kept.held));
        let is_guarded = destination.name().is_some() && verdict.checks == Checks::ByName;
        let guard = is_guarded.then(|| Guard::new(&kept.guarded, &kept.seen));
        let is_unchecked = destination.name().is_some() && !is_held(&verdict);
        Self {
            key,
            destination,
            state: Mutex::new(State {
                verdict,
                way,
                guard,
                is_unchecked,
                consent,
            }),
            traffic: Traffic::default(),
            born: Instant::now(),
            active_ms: AtomicU64::new(0),
            replied: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.state().verdict.clone()
    }

    /// The refusal of what was said in the flow, with the rule that allows the flow and so holds it to its name.
    pub(super) fn held_by_rule(&self, refusal: Refusal) -> Refusal {
        let by = || self.verdict().rule.as_ref().map(ToString::to_string);
        Refusal {
            rule: refusal.rule.clone().or_else(by),
            ..refusal
        }
    }

    /// Notes datagrams of the agent.
    pub(super) fn sent(&self, bytes: usize) {
        self.touch();
        add(&self.traffic.sent, bytes);
    }

    /// Notes datagrams of the world.
    pub(super) fn received(&self, bytes: usize) {
        self.touch();
        self.replied.store(true, Ordering::Relaxed);
        add(&self.traffic.received, bytes);
    }

    fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(now, Ordering::Relaxed);
    }

    /// When something last happened.
    pub(super) fn active_at(&self) -> Instant {
        self.born + Duration::from_millis(self.active_ms.load(Ordering::Relaxed))
    }

    /// Whether it has been silent for too long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let limit = match self.replied.load(Ordering::Relaxed) {
            true => TIMEOUT_REPLIED,
            false => TIMEOUT_UNREPLIED,
        };
        now.saturating_duration_since(self.active_at()) >= limit
    }

    /// Ends it: nothing is sent any more, and its task lets go of the socket.
    pub(super) fn close(&self) {
        self.state().way = Way::Closed;
        self.ended.notify_one();
    }
}

fn add(total: &AtomicU64, bytes: usize) {
    total.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
}

/// Datagrams that wait for the way to be open.
#[derive(Debug)]
pub(super) struct Held {
    datagrams: Vec<Vec<u8>>,
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Held {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        Self {
            datagrams: Vec::new(),
            bytes: 0,
            all: Arc::clone(all),
        }
    }

    /// Keeps a copy, unless too much is kept already.
    pub(super) fn hold(&mut self, payload: &[u8]) {
        let length = payload.len();
        if self.datagrams.len() < HELD_DATAGRAMS
            && self.bytes + length <= HELD_BYTES
            && self.all.load(Ordering::Relaxed) + length <= HELD_BYTES_ALL
        {
            self.bytes += length;
            self.all.fetch_add(length, Ordering::Relaxed);
            self.datagrams.push(payload.to_vec());
        }
    }

    pub(super) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.datagrams.iter().map(Vec::as_slice)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The log lines of a flow that reached the world. Dropping it, also when the gateway shuts down, writes the last one.
pub(super) struct Relayed {
    shared: Arc<Shared>,
    flow: Arc<Flow>,
    record: Record,
    started: Instant,
}

impl Relayed {
    pub(super) fn begin(shared: &Arc<Shared>, flow: &Arc<Flow>, address: SocketAddr) -> Self {
        let mut record = Record::new(Event::Connect, Protocol::Udp, Outcome::Allow);
        shared.counters.flows.fetch_add(1, Ordering::Relaxed);
        record.connection = Some(shared.next_connection());
        record.name = flow.destination.name().map(ToString::to_string);
        record.address = Some(address.ip());
        record.port = Some(flow.destination.port);
        record.rule = flow.verdict().rule.as_ref().map(ToString::to_string);
        shared.audit.log(&record);
        Self {
            shared: Arc::clone(shared),
            flow: Arc::clone(flow),
            record,
            started: Instant::now(),
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let traffic = &self.flow.traffic;
        self.shared.add_traffic(traffic);
        self.record.event = Event::Close;
        self.record.bytes_sent = Some(traffic.sent.load(Ordering::Relaxed));
        self.record.bytes_received = Some(traffic.received.load(Ordering::Relaxed));
        let duration = self.started.elapsed().as_millis();
        self.record.duration_ms = Some(u64::try_from(duration).unwrap_or(u64::MAX));
        self.shared.audit.log(&self.record);
    }
}
