//! One question to the host's resolvers: fresh socket, fresh id, our own bytes.
//!
//! Must not forward anything that a client wrote: the query is built from the canonical name and the type alone. Must not
//! believe a packet that does not repeat id and question.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::conf::ResolverConf;
use crate::dns::answer::UDP_LIMIT_EDNS;
use crate::dns::name::WireName;
use crate::dns::response::{self, Response};
use crate::dns::wire::{CLASS_IN, FLAG_RECURSION_DESIRED, Header, Rcode, RecordType};

/// Time after which the next server is asked too, without giving up on the first. Clients inside wait five seconds in
/// total, so a dead first server must cost much less than `options timeout`.
const HEDGE_AFTER: Duration = Duration::from_millis(1500);
/// Time for one question, over all servers and attempts.
const DEADLINE: Duration = Duration::from_secs(9);
/// Largest datagram taken, in bytes. More than we announce: some servers do not count exactly.
const DATAGRAM_LIMIT: usize = 4096;
/// Datagrams that do not match and are ignored before the exchange fails: a forger gets this many guesses at most.
const STRAY_LIMIT: usize = 32;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody answered in time.
    Timeout,
    /// No server could be reached.
    Unreachable,
    /// Servers answered, but only with errors.
    Rcode(Rcode),
    /// Servers answered with something that is not DNS.
    Garbled,
    /// Too many look-ups were already under way.
    Busy,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => formatter.write_str("the host's resolvers did not answer in time"),
            Self::Unreachable => formatter.write_str("the host's resolvers cannot be reached"),
            Self::Rcode(rcode) => write!(formatter, "the host's resolvers answered {rcode}"),
            Self::Garbled => formatter.write_str("the host's resolvers sent an unreadable answer"),
            Self::Busy => formatter.write_str("too many names are being looked up already"),
        }
    }
}

/// Asks the configured servers until one says that the name exists or that it does not.
pub(crate) async fn ask(
    conf: &ResolverConf,
    name: &WireName,
    kind: RecordType,
) -> Result<Response, Failure> {
    let mut last_failure = Failure::Unreachable;
    let mut plan = (0..conf.attempts).flat_map(|_| conf.servers.iter().copied());
    let mut running: JoinSet<Result<Response, Failure>> = JoinSet::new();
    let deadline = Instant::now() + DEADLINE;
    let mut start_next_at = Instant::now();
    let mut exhausted = false;
    loop {
        if exhausted && running.is_empty() {
            return Err(last_failure);
        }
        tokio::select! {
            biased;
            Some(finished) = running.join_next(), if !running.is_empty() => {
                match finished {
                    Ok(Ok(response)) if is_final(response.rcode) => return Ok(response),
                    Ok(Ok(response)) => last_failure = Failure::Rcode(response.rcode),
                    Ok(Err(failure)) => last_failure = failure,
                    Err(_) => last_failure = Failure::Garbled,
                }
                start_next_at = Instant::now();
            }
            () = sleep_until(start_next_at), if !exhausted => {
                match plan.next() {
                    Some(server) => {
                        running.spawn(ask_server(server, name.clone(), kind, deadline));
                        start_next_at = Instant::now() + conf.timeout.min(HEDGE_AFTER);
                    }
                    None => exhausted = true,
                }
            }
            () = sleep_until(deadline) => return Err(Failure::Timeout),
        }
    }
}

/// Whether another server could not say anything better.
fn is_final(rcode: Rcode) -> bool {
    matches!(rcode, Rcode::NO_ERROR | Rcode::NX_DOMAIN)
}

async fn ask_server(
    server: SocketAddr,
    name: WireName,
    kind: RecordType,
    deadline: Instant,
) -> Result<Response, Failure> {
    let mut response = over_udp(server, &name, kind, Extensions::Edns, deadline).await?;
    if matches!(response.rcode, Rcode::FORMAT_ERROR | Rcode::NOT_IMPLEMENTED) {
        // A server from before RFC 6891.
        response = over_udp(server, &name, kind, Extensions::None, deadline).await?;
    }
    if response.truncated {
        response = over_tcp(server, &name, kind, deadline).await?;
    }
    Ok(response)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extensions {
    Edns,
    None,
}

async fn over_udp(
    server: SocketAddr,
    name: &WireName,
    kind: RecordType,
    extensions: Extensions,
    deadline: Instant,
) -> Result<Response, Failure> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Port 0: the kernel picks a random source port, and connecting drops what comes from any other address.
    let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    let id = random_id().map_err(unreachable)?;
    socket
        .send(&build(id, name, kind, extensions))
        .await
        .map_err(unreachable)?;
    let mut buffer = vec![0; DATAGRAM_LIMIT];
    for _ in 0..STRAY_LIMIT {
        let length = timeout_at(deadline, socket.recv(&mut buffer))
            .await
            .map_err(|_| Failure::Timeout)?
            .map_err(unreachable)?;
        let datagram = buffer.get(..length).unwrap_or_default();
        if let Ok(response) = response::parse(datagram, id, name, kind) {
            return Ok(response);
        }
    }
    Err(Failure::Garbled)
}

async fn over_tcp(
    server: SocketAddr,
    name: &WireName,
    kind: RecordType,
    deadline: Instant,
) -> Result<Response, Failure> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let id = random_id()?;
        let query = build(id, name, kind, Extensions::Edns);
        // One write, so that length and query travel in one segment (RFC 7766 section 8).
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[length.to_be_bytes().as_slice(), &query].concat())
            .await?;
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        Ok::<_, io::Error>((id, message))
    };
    let (id, message) = timeout_at(deadline, exchange)
        .await
        .map_err(|_| Failure::Timeout)?
        .map_err(unreachable)?;
    let response = response::parse(&message, id, name, kind).map_err(|_| Failure::Garbled)?;
    if response.truncated {
        return Err(Failure::Garbled);
    }
    Ok(response)
}

fn unreachable(_error: io::Error) -> Failure {
    Failure::Unreachable
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}

/// Builds a query for one question, with our own OPT record.
fn build(id: u16, name: &WireName, kind: RecordType, extensions: Extensions) -> Vec<u8> {
    let mut message = Vec::with_capacity(name.octets().len() + 32);
    let header = Header {
        id,
        flags: FLAG_RECURSION_DESIRED,
        questions: 1,
        answers: 0,
        authorities: 0,
        additionals: u16::from(extensions == Extensions::Edns),
    };
    header.write(&mut message);
    message.extend_from_slice(name.octets());
    message.extend_from_slice(&kind.0.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    if extensions == Extensions::Edns {
        // Root name, type OPT, payload size as class, no extended rcode, version 0, no flags, no options.
        message.push(0);
        message.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
        message.extend_from_slice(&UDP_LIMIT_EDNS.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    message
}
