//! Published ports: connections from the host's side to what listens inside of the sandbox.
//!
//! # Order
//! 1. Accept a connection on the host.
//! 2. Connect a socket of the agent's network namespace to 127.0.0.1, then ::1, then the addresses of the link.
//! 3. Relay. When nothing listens, the client's connection is reset at once.
//!
//! No rule has a say: the user published the port, and the bytes go to whoever connects. Must not connect any other socket than
//! the ones it is given, which can reach nothing outside of the sandbox.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rcc_plan::network::{AGENT_V4, AGENT_V6};
use rcc_spec::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::audit::{Event, Outcome, Record};
use crate::inband;
use crate::relay::{Ending, Traffic, relay};
use crate::session;
use crate::shared::Shared;
use crate::transfer::pump;
use crate::watch::Watch;

/// Where programs listen inside, in the order in which it is tried: most development servers know only the first.
const INSIDE: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(AGENT_V4),
    IpAddr::V6(AGENT_V6),
];
/// Time for a program inside to take a connection; longer only when its queue is full.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Pause after accept(2) failed for lack of memory or descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Makes an unconnected, non-blocking TCP socket of the agent's network namespace, of this address's family; none on a
/// kernel without that family.
pub type MakeSocket = dyn Fn(IpAddr) -> io::Result<Option<OwnedFd>> + Send + Sync;

/// A listening socket of the host, and the port of the sandbox that it leads to.
#[derive(Debug)]
pub struct PublishedPort {
    /// Listens on the host, see [`listen`].
    pub listener: OwnedFd,
    /// Port inside.
    pub port: u16,
}

/// Every published port of a run.
pub struct Published {
    /// The ports.
    pub ports: Vec<PublishedPort>,
    /// Where sockets of the agent's namespace come from.
    pub make_socket: Box<MakeSocket>,
}

/// Listens on an address of the host and nowhere else: `[::]` is not 0.0.0.0.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` for a port below `net.ipv4.ip_unprivileged_port_start` (`ip(7)`).
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A port whose last connections still wait for late packets (TIME_WAIT) is free.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Serves every published port until the task is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, published: Option<Published>, all: Arc<Semaphore>) {
    let Some(published) = published else {
        return std::future::pending().await;
    };
    // Whoever connects on the host must not use up what the agent's own connections need.
    let own = Arc::new(Semaphore::new((all.available_permits() / 4).max(1)));
    let make_socket: Arc<MakeSocket> = published.make_socket.into();
    let mut tasks = tokio::task::JoinSet::new();
    for PublishedPort { listener, port } in published.ports {
        let (shared, all, own) = (Arc::clone(&shared), Arc::clone(&all), Arc::clone(&own));
        let make_socket = Arc::clone(&make_socket);
        tasks.spawn(async move {
            // Fails only outside of a runtime.
            let Ok(listener) = TcpListener::from_std(listener.into()) else {
                return;
            };
            loop {
                let (client, peer) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(_) => {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let permits = (
                    Arc::clone(&own).try_acquire_owned(),
                    Arc::clone(&all).try_acquire_owned(),
                );
                let (Ok(own), Ok(all)) = permits else {
                    failed(&shared, peer, port, "limit_connections");
                    inband::reset(client);
                    continue;
                };
                let (shared, make_socket) = (Arc::clone(&shared), Arc::clone(&make_socket));
                tokio::spawn(async move {
                    lead_inside(&shared, client, peer, port, &*make_socket).await;
                    drop((own, all));
                });
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    // Every listener is gone, which only a broken runtime explains: the run must end.
}

async fn lead_inside(
    shared: &Shared,
    client: TcpStream,
    peer: SocketAddr,
    port: u16,
    make_socket: &MakeSocket,
) {
    let inside = match connect_inside(make_socket, port).await {
        Ok(inside) => inside,
        Err(reason) => {
            failed(shared, peer, port, reason);
            inband::reset(client);
            return;
        }
    };
    session::prepare(&client);
    session::prepare(&inside);
    let connection = Connection::begin(shared, peer, port);
    let watch = Watch::default();
    let traffic = &connection.traffic;
    // No rule has a say in what the sandbox answers.
    let up = async {
        pump(&inside, &client, &shared.relay, &traffic.sent, None).await?;
        Ok(())
    };
    let ending = relay(&inside, &client, up, &watch, &shared.relay, traffic);
    match ending.await {
        Ending::Finished => {}
        Ending::Broken | Ending::Refused(_) => {
            inband::reset(inside);
            inband::reset(client);
        }
    }
}

/// Connects to the first address inside on which something listens.
async fn connect_inside(make_socket: &MakeSocket, port: u16) -> Result<TcpStream, &'static str> {
    let mut reason = "nothing_listens";
    for address in INSIDE {
        let socket = match make_socket(address) {
            Ok(Some(socket)) => socket,
            Ok(None) => continue,
            Err(_) => return Err("publish_lost"),
        };
        match timeout(
            CONNECT_TIME,
            connect(socket, SocketAddr::new(address, port)),
        )
        .await
        {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => {}
            Err(_) => reason = "inside_timeout",
        }
    }
    Err(reason)
}

async fn connect(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stream = TcpStream::from_std(StdTcpStream::from(socket))?;
    stream.writable().await?;
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    // Without a listener, a source port that happens to be the port itself connects the socket to itself (RFC 9293, 3.5).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Writes the line of a connection that led nowhere.
fn failed(shared: &Shared, peer: SocketAddr, port: u16, reason: &'static str) {
    let mut record = record(peer, port, Outcome::Fail);
    record.reason = Some(reason);
    shared.audit.log(&record);
}

/// `address` is the client's, `port` the one inside.
fn record(peer: SocketAddr, port: u16, outcome: Outcome) -> Record {
    let mut record = Record::new(Event::Publish, Protocol::Tcp, outcome);
    record.address = Some(peer.ip().to_canonical());
    record.port = Some(port);
    record
}

/// A connection that is being relayed. Dropping it writes its last line.
struct Connection<'shared> {
    shared: &'shared Shared,
    record: Record,
    started: Instant,
    traffic: Traffic,
}

impl<'shared> Connection<'shared> {
    fn begin(shared: &'shared Shared, peer: SocketAddr, port: u16) -> Self {
        let mut record = record(peer, port, Outcome::Allow);
        record.connection = Some(shared.counters.relayed.fetch_add(1, Ordering::Relaxed) + 1);
        shared.audit.log(&record);
        Self {
            shared,
            record,
            started: Instant::now(),
            traffic: Traffic::default(),
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.add_traffic(&self.traffic);
        self.record.event = Event::PublishClose;
        self.record.bytes_sent = Some(self.traffic.sent.load(Ordering::Relaxed));
        self.record.bytes_received = Some(self.traffic.received.load(Ordering::Relaxed));
        let duration = self.started.elapsed().as_millis();
        self.record.duration_ms = Some(u64::try_from(duration).unwrap_or(u64::MAX));
        self.shared.audit.log(&self.record);
    }
}
