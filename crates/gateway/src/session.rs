//! One TCP connection of the agent, from its acceptance to its end.
//!
//! # Order
//! 1. Where did the agent want to go? Port 53 is DNS, wherever it is.
//! 2. What does that address stand for: a name, nothing, or itself?
//! 3. Verdict on name or address, port and protocol. From here on new rules reach the connection (`live.rs`).
//! 4. Addresses of the name; each is checked, and only those that pass remain.
//! 5. Connect to one of them, exactly as checked.
//! 6. Relay. What the client says must be for that name (`inspect`).
//!
//! A failure at any step is told to the client and to the log. What the client sends meanwhile stays in its socket's
//! buffer and is relayed first. Must not dial an address that step 4 did not pass.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rcc_spec::{Protocol, Verdict};
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::audit::{Event, Outcome, Record};
use crate::dial;
use crate::inspect::{Place, Refused, Way};
use crate::judge::{Unopened, destination_of};
use crate::live::Live;
use crate::refusal::{Destination, Kind, Refusal};
use crate::relay::{Ending, Traffic, relay};
use crate::shared::Shared;
use crate::watch::Watch;
use crate::way_out::{self, Opened};
use crate::{dns, inband};

/// Port that is DNS, whatever the address.
const DNS_PORT: u16 = 53;
/// Silence after which a peer is probed, time between probes, and probes without an answer that end the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 6;

/// Bytes of each buffer of a connection on this machine; the kernel doubles it (`socket(7)`). Of 96 to 512 KiB this was the
/// best: 0.30 s of processor per GB over all parties, against 0.45 with the kernel's tuning.
const LOCAL_BUFFER: usize = 160 << 10;

/// Serves one connection to its end.
pub(crate) async fn serve(shared: &Arc<Shared>, agent: TcpStream) {
    // A client that is gone already has no destination to ask for.
    let Ok(original) = shared.transport.original_destination(agent.as_fd()) else {
        return;
    };
    prepare(&agent);
    bound_buffers(&agent);
    if original.port() == DNS_PORT {
        dns::tcp::serve(shared, agent).await;
        return;
    }
    let (destination, unknown) = destination_of(shared, original, Protocol::Tcp);
    if let Some(refusal) = unknown {
        return refuse(shared, agent, &destination, refusal.into(), Vec::new()).await;
    }
    let live = Live::begin(shared, &destination);
    let admitted = tokio::select! {
        biased;
        refusal = live.cut() => Err(refusal),
        admitted = live.admit() => admitted,
        _ = agent.ready(Interest::ERROR) => return,
    };
    if let Err(refusal) = admitted {
        drop(live);
        return refuse(shared, agent, &destination, refusal.into(), Vec::new()).await;
    }
    let opened = tokio::select! {
        biased;
        refusal = live.cut() => Err(refusal.into()),
        // In a box: what opening needs is not to be kept by every connection for its whole life.
        opened = Box::pin(open(shared, &destination, &live)) => opened,
        // The client has reset the connection; nobody is there to be told.
        _ = agent.ready(Interest::ERROR) => return,
    };
    let (upstream, address, verdict) = match opened {
        Ok(opened) => opened,
        Err(unopened) => {
            drop(live);
            return refuse(shared, agent, &destination, unopened, Vec::new()).await;
        }
    };
    let mut connection = Connection::begin(shared, &destination, address, &verdict);
    live.counted_by(&connection.traffic);
    let (watch, traffic) = (Watch::default(), &*connection.traffic);
    let way = Way {
        shared,
        agent: &agent,
        upstream: &upstream,
        destination: &destination,
        live: &live,
        watch: &watch,
        traffic,
    };
    let ending = tokio::select! {
        biased;
        refusal = live.cut() => Err(refusal),
        ending = relay(&agent, &upstream, Box::pin(way.travel()), &watch, &shared.relay, traffic) => Ok(ending),
    };
    match ending {
        Ok(Ending::Finished) => {}
        Ok(Ending::Broken) => {
            inband::reset(agent);
            inband::reset(upstream);
        }
        Ok(Ending::Refused(refused)) => {
            let Refused {
                refusal,
                early,
                place,
            } = *refused;
            inband::reset(upstream);
            let server_spoke = connection.traffic.received.load(Ordering::Relaxed) > 0;
            let is_idle = watch.is_idle(&connection.traffic);
            drop(connection);
            drop(live);
            let refused = Unopened {
                refusal,
                resolved: Some(address.ip()),
            };
            match place {
                Place::Opening if !server_spoke => {
                    refuse(shared, agent, &destination, refused, early).await;
                }
                Place::Later if is_idle => {
                    shared.refused(&destination, refused.resolved, &refused.refusal);
                    inband::refuse_http(agent, &destination.to_string(), &refused.refusal).await;
                }
                // An explanation in the middle of the server's words would be taken for one of them.
                Place::Opening | Place::Later => {
                    shared.refused(&destination, refused.resolved, &refused.refusal);
                    inband::reset(agent);
                }
            }
        }
        Err(refusal) => {
            inband::reset(agent);
            inband::reset(upstream);
            connection.cut_by(refusal);
        }
    }
}

/// Tells the log and the client that it was refused. `early` is what the client said already.
async fn refuse(
    shared: &Shared,
    agent: TcpStream,
    destination: &Destination,
    why: Unopened,
    early: Vec<u8>,
) {
    shared.refused(destination, why.resolved, &why.refusal);
    inband::refuse(
        agent,
        &destination.to_string(),
        destination.port,
        &why.refusal,
        early,
    )
    .await;
}

/// Options of both sockets. None of them can fail on a TCP socket, and none is worth losing a connection for.
pub(crate) fn prepare(stream: &TcpStream) {
    let _ = sockopt::set_tcp_nodelay(stream, true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES);
}

/// Bounds the buffers of a connection that stays on this machine, where a round trip takes microseconds. The kernel would let them
/// grow to several MiB, and bytes that wait that long have left the processor's cache before they are copied. Connections
/// over a wire keep the kernel's tuning: their window has to cover the way.
fn bound_buffers(stream: &TcpStream) {
    let _ = sockopt::set_socket_recv_buffer_size(stream, LOCAL_BUFFER);
    let _ = sockopt::set_socket_send_buffer_size(stream, LOCAL_BUFFER);
}

/// Steps 4 and 5. The verdict that comes back is on the address that was reached, too.
async fn open(
    shared: &Arc<Shared>,
    destination: &Destination,
    live: &Live<'_>,
) -> Result<(TcpStream, SocketAddr, Verdict), Unopened> {
    let Opened { dialled, reached } = way_out::open(shared, destination, live).await?;
    prepare(&dialled.stream);
    if dialled.distance == dial::Distance::SameMachine {
        bound_buffers(&dialled.stream);
    }
    let resolved = reached.first().map(|(address, _)| *address);
    // The rules may have changed meanwhile.
    match live.connected(reached) {
        Ok(verdict) => Ok((dialled.stream, dialled.address, verdict)),
        Err(refusal) => Err(Unopened {
            refusal,
            resolved: destination.name().and(resolved),
        }),
    }
}

/// A connection that is being relayed. Dropping it, also when the gateway shuts down, writes its last line.
struct Connection<'shared> {
    shared: &'shared Shared,
    record: Record,
    started: Instant,
    traffic: Arc<Traffic>,
}

impl<'shared> Connection<'shared> {
    fn begin(
        shared: &'shared Shared,
        destination: &Destination,
        address: SocketAddr,
        verdict: &Verdict,
    ) -> Self {
        let mut record = Record::new(Event::Connect, Protocol::Tcp, Outcome::Allow);
        shared.counters.relayed.fetch_add(1, Ordering::Relaxed);
        record.connection = Some(shared.next_connection());
        record.name = destination.name().map(ToString::to_string);
        record.address = Some(address.ip());
        record.port = Some(destination.port);
        record.rule = verdict.rule.as_ref().map(ToString::to_string);
        shared.audit.log(&record);
        Self {
            shared,
            record,
            started: Instant::now(),
            traffic: Arc::default(),
        }
    }
}

impl Connection<'_> {
    /// Notes what ended the connection: new rules, and which one, or that another one needs its room.
    fn cut_by(&mut self, refusal: Refusal) {
        (self.record.verdict, self.record.reason) = match refusal.kind {
            Kind::Denied => (Outcome::Deny, Some("rules_changed")),
            Kind::Failed => (Outcome::Fail, Some(refusal.code)),
        };
        self.record.rule = refusal.rule;
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.add_traffic(&self.traffic);
        self.record.event = Event::Close;
        self.record.bytes_sent = Some(self.traffic.sent.load(Ordering::Relaxed));
        self.record.bytes_received = Some(self.traffic.received.load(Ordering::Relaxed));
        let duration = self.started.elapsed().as_millis();
        self.record.duration_ms = Some(u64::try_from(duration).unwrap_or(u64::MAX));
        self.shared.audit.log(&self.record);
    }
}
