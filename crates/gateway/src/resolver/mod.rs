//! Resolution of allowed names on the host: a small stub resolver with a cache.
//!
//! # Why not a resolver library
//! The well-kept candidate (hickory-resolver) brings more than forty crates (IDNA tables, URL parsing, tracing, its own
//! connection pools) into the process that faces the agent, and several MiB of tables and code against a budget of 8 MiB
//! for everything. The gateway needs a stub: one question to the host's own recursive resolvers, which follow aliases and
//! validate. That is this module, the strict parser in `dns::response`, and nothing else.
//!
//! Must not be called for a name that no rule allows: whatever arrives here leaves the host.

mod cache;
mod conf;
mod exchange;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rcc_spec::HostName;
use tokio::sync::watch;

use crate::dns::answer::Record;
use crate::dns::name::WireName;
use crate::dns::response::Response;
use crate::dns::wire::{Rcode, RecordType};
use cache::{Cache, Moment};
pub use conf::Upstream;
use conf::{FileState, ResolverConf};
pub(crate) use exchange::Failure;

/// Bytes of records kept.
const RECORD_CACHE_BYTES: usize = 2 << 20;
/// Bytes of host addresses kept.
const HOST_CACHE_BYTES: usize = 1 << 20;
/// Shortest time an answer is kept. Servers send 0 to steer clients, but a client connects right after its query, and the
/// connection must not wait for a second one.
const TTL_FLOOR: Duration = Duration::from_secs(5);
/// Longest time an answer is kept.
const TTL_CEILING: Duration = Duration::from_secs(3600);
/// Longest time the absence of a name is believed.
const NEGATIVE_CEILING: Duration = Duration::from_secs(60);
/// Time the absence of a name is believed when its zone says nothing.
const NEGATIVE_DEFAULT: Duration = Duration::from_secs(5);
/// Time during which a failed look-up is not tried again.
const FAILURE_TTL: Duration = Duration::from_secs(1);
/// Time the second address family may lag behind the first ("Resolution Delay", RFC 8305 section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How a look-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Found,
    /// The name exists without records of this type.
    NoData,
    /// The name does not exist.
    NxDomain,
    Failed(Failure),
}

/// The records of one name and type.
#[derive(Debug)]
pub(crate) struct RecordAnswer {
    pub(crate) outcome: Outcome,
    pub(crate) records: Vec<Record>,
    time_to_live: Duration,
}

/// The addresses of a host.
#[derive(Debug)]
pub(crate) struct HostAnswer {
    pub(crate) outcome: Outcome,
    pub(crate) addresses: Vec<IpAddr>,
}

type RecordKey = (WireName, RecordType);
type Pending = watch::Receiver<Option<Arc<RecordAnswer>>>;

struct State {
    records: Cache<RecordKey, Arc<RecordAnswer>>,
    hosts: Cache<HostName, Arc<HostAnswer>>,
    pending: HashMap<RecordKey, Pending>,
    /// The configuration files as they were last seen; other files mean another network, where nothing that is known need hold.
    seen: Vec<Option<FileState>>,
    /// Grows whenever what was known is forgotten: a look-up that began before does not enter its answer.
    generation: u64,
    /// The last configuration that could be read: `resolv.conf` is sometimes absent for a moment while it is replaced.
    last_conf: Option<Arc<ResolverConf>>,
}

/// Looks names up and remembers the answers.
pub(crate) struct Resolver {
    upstream: Upstream,
    pending_limit: usize,
    state: Mutex<State>,
}

impl Resolver {
    /// Creates a resolver. It reads nothing and opens nothing before the first look-up.
    pub(crate) fn new(upstream: Upstream, pending_limit: usize) -> Self {
        Self {
            upstream,
            pending_limit,
            state: Mutex::new(State {
                records: Cache::new(RECORD_CACHE_BYTES),
                hosts: Cache::new(HOST_CACHE_BYTES),
                pending: HashMap::new(),
                seen: Vec::new(),
                generation: 0,
                last_conf: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, without what was learned from servers that are no longer the host's: a VPN that came up knows other names.
    fn current_state(&self) -> MutexGuard<'_, State> {
        let seen = self.upstream.files_seen();
        let mut state = self.state();
        if state.seen != seen {
            let is_first = state.seen.is_empty();
            state.seen = seen;
            if !is_first {
                state.records.clear();
                state.hosts.clear();
                state.pending.clear();
                state.generation += 1;
            }
        }
        state
    }

    /// The addresses of a host that are already known.
    pub(crate) fn cached_addresses(&self, name: &HostName) -> Option<Arc<HostAnswer>> {
        self.current_state().hosts.get(name, Moment::now())
    }

    /// Looks up the addresses of a host in both families, as the host itself would: `/etc/hosts` first.
    pub(crate) async fn addresses(self: &Arc<Self>, name: &HostName) -> Arc<HostAnswer> {
        if let Some(known) = self.cached_addresses(name) {
            return known;
        }
        let generation = self.state().generation;
        let (answer, time_to_live) = self.look_up_host(name).await;
        let answer = Arc::new(answer);
        let now = Moment::now();
        let weight = name.as_str().len() + answer.addresses.len() * size_of::<IpAddr>() + 160;
        let mut state = self.state();
        if state.generation == generation {
            let expires = now + time_to_live;
            state
                .hosts
                .insert(name.clone(), Arc::clone(&answer), weight, expires, now);
        }
        drop(state);
        answer
    }

    async fn look_up_host(self: &Arc<Self>, name: &HostName) -> (HostAnswer, Duration) {
        if let Some(path) = &self.upstream.hosts {
            let addresses = conf::hosts_entries(path, name);
            if !addresses.is_empty() {
                let outcome = Outcome::Found;
                return (HostAnswer { outcome, addresses }, TTL_FLOOR);
            }
        }
        let mut last = (failed(Failure::Garbled), FAILURE_TTL);
        for candidate in self.candidates(name) {
            last = self.both_families(candidate).await;
            if last.0.outcome == Outcome::Found {
                break;
            }
        }
        last
    }

    /// The absolute names to ask for. Only a name of one label is completed with the host's search domains; longer names
    /// mean what they say, so that a rule for `a.example.com` never becomes a query for `a.example.com.corp.example`.
    fn candidates(&self, name: &HostName) -> Vec<WireName> {
        let mut candidates = Vec::new();
        if !name.as_str().contains('.')
            && let Some(conf) = self.configuration()
        {
            let completed = conf
                .search
                .iter()
                .filter_map(|domain| WireName::from_text(&format!("{name}.{domain}")).ok());
            candidates.extend(completed);
        }
        candidates.extend(WireName::from_text(name.as_str()));
        candidates
    }

    async fn both_families(self: &Arc<Self>, name: WireName) -> (HostAnswer, Duration) {
        let v4 = self.records(name.clone(), RecordType::A);
        let v6 = self.records(name, RecordType::AAAA);
        tokio::pin!(v4, v6);
        // Whoever is first waits a little for the other; the late look-up goes on and fills the cache.
        let (first, second) = tokio::select! {
            answer = &mut v4 => {
                let other = late(&answer, v6).await;
                (answer, other)
            }
            answer = &mut v6 => {
                let other = late(&answer, v4).await;
                (answer, other)
            }
        };
        merge(&first, second.as_deref())
    }

    /// Looks up the records of one name and type. Several callers at once share one look-up.
    pub(crate) async fn records(
        self: &Arc<Self>,
        name: WireName,
        kind: RecordType,
    ) -> Arc<RecordAnswer> {
        let key = (name.to_lowercase(), kind);
        let mut pending = {
            let mut state = self.current_state();
            if let Some(known) = state.records.get(&key, Moment::now()) {
                return known;
            }
            match state.pending.get(&key) {
                Some(pending) => pending.clone(),
                None if state.pending.len() >= self.pending_limit => {
                    return Arc::new(no_records(Failure::Busy));
                }
                None => {
                    let (sender, receiver) = watch::channel(None);
                    state.pending.insert(key.clone(), receiver.clone());
                    tokio::spawn(Arc::clone(self).look_up_records(key, sender));
                    receiver
                }
            }
        };
        let answer = match pending.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Arc::new(no_records(Failure::Garbled)))
    }

    async fn look_up_records(
        self: Arc<Self>,
        key: RecordKey,
        sender: watch::Sender<Option<Arc<RecordAnswer>>>,
    ) {
        let generation = self.state().generation;
        let asked = match self.configuration() {
            Some(conf) => exchange::ask(&conf, &key.0, key.1).await,
            None => Err(Failure::Unreachable),
        };
        let answer = Arc::new(match asked {
            Ok(response) => from_response(response, key.1),
            Err(failure) => no_records(failure),
        });
        let now = Moment::now();
        let weight = answer
            .records
            .iter()
            .map(|record| record.data.len() + record.owner.octets().len() + size_of::<Record>())
            .sum::<usize>()
            + key.0.octets().len() * 2
            + 160;
        {
            let mut state = self.state();
            if state.generation == generation {
                state.pending.remove(&key);
                let expires = now + answer.time_to_live;
                state
                    .records
                    .insert(key, Arc::clone(&answer), weight, expires, now);
            }
        }
        // Nobody may be waiting any more; the cache has it.
        let _ = sender.send(Some(answer));
    }

    /// The configuration as it is now, or as it was when it could last be read.
    fn configuration(&self) -> Option<Arc<ResolverConf>> {
        let read = self.upstream.read();
        let mut state = self.state();
        if let Ok(conf) = read {
            state.last_conf = Some(Arc::new(conf));
        }
        state.last_conf.clone()
    }
}

/// Waits for the other family: for long if there is nothing to go on with, else for the resolution delay.
async fn late<F>(first: &RecordAnswer, other: F) -> Option<Arc<RecordAnswer>>
where
    F: Future<Output = Arc<RecordAnswer>>,
{
    match first.outcome {
        Outcome::Found => tokio::time::timeout(RESOLUTION_DELAY, other).await.ok(),
        Outcome::NoData | Outcome::NxDomain | Outcome::Failed(_) => Some(other.await),
    }
}

fn failed(failure: Failure) -> HostAnswer {
    HostAnswer {
        outcome: Outcome::Failed(failure),
        addresses: Vec::new(),
    }
}

fn no_records(failure: Failure) -> RecordAnswer {
    RecordAnswer {
        outcome: Outcome::Failed(failure),
        records: Vec::new(),
        time_to_live: FAILURE_TTL,
    }
}

fn from_response(response: Response, kind: RecordType) -> RecordAnswer {
    let negative = || {
        response
            .negative_ttl
            .map_or(NEGATIVE_DEFAULT, |seconds| {
                Duration::from_secs(seconds.into())
            })
            .clamp(FAILURE_TTL, NEGATIVE_CEILING)
    };
    let (outcome, time_to_live) = if response.has(kind) {
        let shortest = response
            .records
            .iter()
            .map(|record| record.ttl)
            .min()
            .unwrap_or(0);
        let time = Duration::from_secs(shortest.into()).clamp(TTL_FLOOR, TTL_CEILING);
        (Outcome::Found, time)
    } else if response.rcode == Rcode::NX_DOMAIN {
        (Outcome::NxDomain, negative())
    } else {
        (Outcome::NoData, negative())
    };
    RecordAnswer {
        outcome,
        records: response.records,
        time_to_live,
    }
}

/// Puts the two families together. `None` is a family that was not waited for.
fn merge(first: &RecordAnswer, second: Option<&RecordAnswer>) -> (HostAnswer, Duration) {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for record in [Some(first), second]
        .into_iter()
        .flatten()
        .flat_map(|answer| &answer.records)
    {
        let address = match record.kind {
            RecordType::A => <[u8; 4]>::try_from(record.data.as_slice())
                .ok()
                .map(|octets| Ipv4Addr::from(octets).into()),
            RecordType::AAAA => <[u8; 16]>::try_from(record.data.as_slice())
                .ok()
                .map(|octets| Ipv6Addr::from(octets).into()),
            _ => None,
        };
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    let Some(second) = second else {
        // The other family is probably in the cache a moment later.
        let outcome = first.outcome;
        return (HostAnswer { outcome, addresses }, FAILURE_TTL);
    };
    let time = first.time_to_live.min(second.time_to_live);
    let outcome = match (first.outcome, second.outcome) {
        (Outcome::Found, _) | (_, Outcome::Found) => Outcome::Found,
        (Outcome::Failed(failure), _) | (_, Outcome::Failed(failure)) => Outcome::Failed(failure),
        (Outcome::NxDomain, _) | (_, Outcome::NxDomain) => Outcome::NxDomain,
        (Outcome::NoData, Outcome::NoData) => Outcome::NoData,
    };
    (HostAnswer { outcome, addresses }, time)
}
