//! What all tasks of one gateway share.
//!
//! Everything here is locked for a few instructions only and never across an await. Must not make decisions of its own: verdicts
//! come from `rcc_spec::RuleSet`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcc_spec::{HostName, RuleSet, Verdict};
use tokio::sync::Semaphore;

use crate::audit::{AuditLog, Event, Outcome, Record};
use crate::config::{GatewayConfig, HostAddresses, Limits, LiveConfig};
use crate::live::Registry;
use crate::questions::Questions;
use crate::refusal::{Destination, Kind, Refusal, RefusalList};
use crate::relay::Traffic;
use crate::resolver::Resolver;
use crate::synthetic::{Meaning, SyntheticPair, SyntheticTable};
use crate::transfer::RelayResources;
use crate::transport::{Route, Transport};
use crate::udp::{Flows, UdpSockets};
use crate::upstream_proxy::Proxy;

/// Numbers of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections accepted from the agent, refused ones and DNS included.
    pub(crate) accepted: AtomicU64,
    /// Connections that reached an upstream.
    pub(crate) relayed: AtomicU64,
    /// UDP flows that were opened.
    pub(crate) flows: AtomicU64,
    /// Numbers given to connections and flows in the log.
    numbers: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
}

/// State of one gateway.
pub(crate) struct Shared {
    rules: Mutex<Arc<RuleSet>>,
    /// The connections that live.
    pub(crate) live: Registry,
    /// The questions that wait for the user.
    pub(crate) questions: Arc<Questions>,
    host_addresses: HostAddresses,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) upstream_proxy: Option<Proxy>,
    pub(crate) limits: Limits,
    pub(crate) pending_queries: Arc<Semaphore>,
    pub(crate) dns_connections: Arc<Semaphore>,
    pub(crate) relay: RelayResources,
    pub(crate) counters: Counters,
    pub(crate) audit: AuditLog,
    pub(crate) flows: Flows,
    synthetic: Mutex<SyntheticTable>,
    refusals: Mutex<RefusalList>,
}

impl Shared {
    pub(crate) fn new(config: SharedParts, audit: AuditLog) -> Self {
        let limits = config.limits;
        let semaphore = |permits: u32| {
            Arc::new(Semaphore::new(
                usize::try_from(permits).unwrap_or(usize::MAX >> 4),
            ))
        };
        Self {
            rules: Mutex::new(config.rules),
            live: Registry::default(),
            questions: Arc::default(),
            host_addresses: config.host_addresses,
            transport: config.transport,
            resolver: Arc::new(config.resolver),
            upstream_proxy: config.upstream_proxy,
            limits,
            pending_queries: semaphore(limits.pending_queries),
            dns_connections: semaphore(limits.dns_connections),
            relay: RelayResources::new(),
            counters: Counters::default(),
            audit,
            flows: Flows::new(),
            synthetic: Mutex::new(config.synthetic),
            refusals: Mutex::new(RefusalList::default()),
        }
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other rules in force. Only [`crate::live::set_rules`] may call this: what lives has to be judged again.
    pub(crate) fn swap_rules(&self, rules: Arc<RuleSet>) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Checks an address just before it is dialled, and tells whether there is a way to it.
    ///
    /// # Errors
    /// Policy forbids it, or it cannot be told whether it is the host's own.
    pub(crate) fn check_resolved(
        &self,
        address: IpAddr,
        destination: &Destination,
        named_by: &Verdict,
    ) -> Result<Route, Refusal> {
        let route = self.transport.route(address);
        let is_own = route == Route::Own;
        self.check_address(address, is_own, destination, named_by)?;
        match route {
            Route::Reachable | Route::Unreachable | Route::Own => Ok(route),
            // Policy first: its reason is the better one.
            Route::Unknown => {
                let sentence = "the host's routing table cannot be asked about its address now";
                Err(Refusal::failed("route_unknown", sentence))
            }
        }
    }

    /// Checks an address of which is known whether the routing table calls it the host's own.
    ///
    /// # Errors
    /// Policy forbids it.
    pub(crate) fn check_address(
        &self,
        address: IpAddr,
        is_own: bool,
        destination: &Destination,
        named_by: &Verdict,
    ) -> Result<(), Refusal> {
        let known = self.host_addresses.current();
        let with_it;
        let own: &[IpAddr] = if is_own {
            with_it = [&known, [address].as_slice()].concat();
            &with_it
        } else {
            &known
        };
        let (port, protocol) = (destination.port, destination.protocol);
        let verdict = self
            .rules()
            .check_resolved(address, port, protocol, named_by, own);
        let resolved = destination.name().map(|_| address);
        match Refusal::of_verdict(&verdict, destination, resolved) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// The next number of a connection or flow in the log.
    pub(crate) fn next_connection(&self) -> u64 {
        self.counters.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn synthetic(&self) -> MutexGuard<'_, SyntheticTable> {
        self.synthetic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The synthetic addresses of a name; none when the table is full.
    pub(crate) fn assign(&self, name: &HostName) -> Option<SyntheticPair> {
        self.synthetic().assign(name)
    }

    /// What an address inside the sandbox stands for.
    pub(crate) fn meaning(&self, address: IpAddr) -> Meaning {
        self.synthetic().meaning(address)
    }

    pub(crate) fn refusals(&self) -> MutexGuard<'_, RefusalList> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a refused connection or datagram in log and summary.
    pub(crate) fn refused(
        &self,
        destination: &Destination,
        resolved: Option<IpAddr>,
        refusal: &Refusal,
    ) {
        let outcome = match refusal.kind {
            Kind::Denied => Outcome::Deny,
            Kind::Failed => Outcome::Fail,
        };
        let mut record = Record::new(Event::Refuse, destination.protocol, outcome);
        record.name = destination.name().map(ToString::to_string);
        record.address = destination.address().or(resolved);
        record.port = Some(destination.port);
        record.reason = Some(refusal.code);
        record.rule = refusal.rule.clone();
        self.audit.log(&record);
        if refusal.kind == Kind::Denied {
            let host = match (destination.name(), destination.address()) {
                (Some(name), _) => name.to_string(),
                (None, address) => address
                    .map(|address| address.to_string())
                    .unwrap_or_default(),
            };
            self.refusals()
                .add(host, Some(destination.port), destination.protocol, refusal);
        }
    }

    /// Adds a connection's bytes to the run's.
    pub(crate) fn add_traffic(&self, traffic: &Traffic) {
        let add = |total: &AtomicU64, part: &AtomicU64| {
            total.fetch_add(part.load(Ordering::Relaxed), Ordering::Relaxed)
        };
        add(&self.counters.bytes_sent, &traffic.sent);
        add(&self.counters.bytes_received, &traffic.received);
    }
}

/// The parts of a configuration that tasks need, after the sockets and the sink were taken out.
pub(crate) struct SharedParts {
    rules: Arc<RuleSet>,
    host_addresses: HostAddresses,
    transport: Arc<dyn Transport>,
    resolver: Resolver,
    upstream_proxy: Option<Proxy>,
    synthetic: SyntheticTable,
    limits: Limits,
}

impl SharedParts {
    /// Size limit of the audit log in bytes.
    pub(crate) fn audit_bytes(&self) -> u64 {
        self.limits.audit_bytes
    }
}

/// Takes a configuration apart.
pub(crate) fn take_apart(
    config: GatewayConfig,
) -> (SharedParts, Sockets, LiveConfig, (String, crate::AuditSink)) {
    let pending = usize::try_from(config.limits.pending_queries).unwrap_or(usize::MAX);
    let parts = SharedParts {
        rules: config.rules,
        host_addresses: config.host_addresses,
        transport: config.transport,
        // Each query for a host asks for two types.
        upstream_proxy: config.upstream_proxy.map(Proxy::from),
        resolver: Resolver::new(config.upstream, pending.saturating_mul(2)),
        synthetic: SyntheticTable::new(config.synthetic, config.limits.names),
        limits: config.limits,
    };
    let sockets = Sockets {
        tcp: config.tcp_listener,
        dns: config.dns_socket,
        udp: config.udp,
        published: config.published,
    };
    (parts, sockets, config.live, (config.run_id, config.audit))
}

/// The sockets towards the agent, and those of the host that lead to it.
pub(crate) struct Sockets {
    pub(crate) tcp: std::os::fd::OwnedFd,
    pub(crate) dns: std::os::fd::OwnedFd,
    pub(crate) udp: Option<UdpSockets>,
    pub(crate) published: Option<crate::publish::Published>,
}
