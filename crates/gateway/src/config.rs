//! What a gateway is started with.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rcc_spec::{NetworkPolicy, RuleSet};

use crate::audit::AuditSink;
use crate::publish::Published;
use crate::resolver::Upstream;
use crate::synthetic::SyntheticRanges;
use crate::transport::Transport;
use crate::udp::UdpSockets;
use crate::upstream_proxy::UpstreamProxy;

/// Everything a gateway needs. It opens nothing itself but connections and look-ups towards the world.
pub struct GatewayConfig {
    /// Id of the run, written on each line of the audit log.
    pub run_id: String,
    /// Who may be reached.
    pub rules: Arc<RuleSet>,
    /// Addresses of the host's interfaces, none of which may be reached by name.
    pub host_addresses: HostAddresses,
    /// Listening TCP socket that accepts connections to every address ([`rcc_sys::socket::transparent_tcp_listener`]).
    pub tcp_listener: OwnedFd,
    /// UDP socket on port 53 that receives datagrams to every address ([`rcc_sys::socket::transparent_udp_socket`]).
    pub dns_socket: OwnedFd,
    /// The sockets of all other datagrams; without them nobody takes such datagrams, and the router refuses them.
    pub udp: Option<UdpSockets>,
    /// Addresses that stand for names inside.
    pub synthetic: SyntheticRanges,
    /// Where allowed names are looked up.
    pub upstream: Upstream,
    /// How connections are received and made; [`crate::HostTransport`] outside of tests.
    pub transport: Arc<dyn Transport>,
    /// What connections leave through; none when the gateway dials itself.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Ports of the sandbox that the host listens on; none when nothing is published.
    pub published: Option<Published>,
    /// Where the audit log goes.
    pub audit: AuditSink,
    /// Bounds against a hostile agent.
    pub limits: Limits,
    /// How the rules can be changed while the gateway runs.
    pub live: LiveConfig,
}

/// What a gateway needs for changes while it runs.
#[derive(Debug)]
pub struct LiveConfig {
    /// The policy that `rules` were compiled from.
    pub policy: Arc<NetworkPolicy>,
    /// Listening Unix socket for clients on the host ([`crate::parse_request`]). It must lie where the agent cannot reach it.
    pub listener: Option<OwnedFd>,
}

/// Bounds on what the agent can make the gateway hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. More are reset at once. Two descriptors belong to each, so a low `RLIMIT_NOFILE` lowers it.
    pub connections: u32,
    /// UDP flows at a time. One more ends the one that was idle longest. A descriptor belongs to each, so a low `RLIMIT_NOFILE`
    /// lowers it.
    pub flows: u32,
    /// DNS clients over TCP at a time, part of `connections`.
    pub dns_connections: u32,
    /// DNS queries that wait for the host's resolvers at a time.
    pub pending_queries: u32,
    /// Names that get a synthetic address in a run.
    pub names: u32,
    /// Time until an upstream has to accept a connection.
    pub connect_time: Duration,
    /// Size of the audit log of the run, in bytes.
    pub audit_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Half a hello on each takes 6 KiB in a debug build: with these the supervisor stays well below 64 MiB.
            connections: 6144,
            flows: 1024,
            dns_connections: 64,
            pending_queries: 256,
            names: 65_536,
            connect_time: Duration::from_secs(30),
            audit_bytes: 256 << 20,
        }
    }
}

/// Age at which the list of the host's addresses is read again.
const ADDRESSES_AGE: Duration = Duration::from_secs(2);

/// Reads the addresses of the host's interfaces.
pub type ReadAddresses = dyn Fn() -> Vec<IpAddr> + Send + Sync;

/// The addresses of the host's interfaces, read again while the run goes on.
///
/// The list is the first line; [`Transport::route`] is the second and knows of changes at once.
pub struct HostAddresses {
    read: Box<ReadAddresses>,
    known: Mutex<Option<(Instant, Arc<[IpAddr]>)>>,
}

impl HostAddresses {
    /// Uses this function to read them. It runs on the gateway's thread and should take well below a millisecond.
    #[must_use]
    pub fn read_by(read: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        Self {
            read: Box::new(read),
            known: Mutex::new(None),
        }
    }

    /// The addresses now.
    pub(crate) fn current(&self) -> Arc<[IpAddr]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((read_at, addresses)) if read_at.elapsed() < ADDRESSES_AGE => {
                Arc::clone(addresses)
            }
            _ => {
                let addresses: Arc<[IpAddr]> = (self.read)().into();
                *known = Some((Instant::now(), Arc::clone(&addresses)));
                addresses
            }
        }
    }
}
