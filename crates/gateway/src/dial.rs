//! Connects to one of several checked addresses: "happy eyeballs" (RFC 8305 sections 4 and 5).
//!
//! Must not resolve anything and must not connect to an address that it was not given.

use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::transport::{Route, Transport};

/// Time before the next address is tried beside the ones under way ("Connection Attempt Delay", RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESS_LIMIT: usize = 8;

/// A connection under way.
type Attempt = Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send>>;

/// A connection that is there.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) distance: Distance,
}

/// How far away a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// On this machine: the handshake was over when connect(2) returned, so no wire was part of it.
    SameMachine,
    Elsewhere,
}

/// Orders addresses for dialling: families take turns beginning with IPv6, and those without a route come last.
pub(crate) fn order(addresses: Vec<(SocketAddr, Route)>) -> Vec<SocketAddr> {
    let of = |wanted: fn(Route) -> bool| {
        let chosen = addresses.iter().filter(move |(_, route)| wanted(*route));
        chosen.map(|(address, _)| *address).collect::<Vec<_>>()
    };
    let unreachable = of(|route| route == Route::Unreachable);
    let reachable = of(|route| route != Route::Unreachable).into_iter();
    let (v6, v4): (Vec<_>, Vec<_>) = reachable.partition(SocketAddr::is_ipv6);
    let mut ordered = Vec::with_capacity(v6.len() + v4.len() + unreachable.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        let before = ordered.len();
        ordered.extend(v6.next());
        ordered.extend(v4.next());
        if ordered.len() == before {
            break;
        }
    }
    ordered.extend(unreachable);
    ordered.truncate(ADDRESS_LIMIT);
    ordered
}

/// Connects to the first address that answers.
///
/// # Errors
/// The error of the last address that failed, or `TimedOut`.
pub(crate) async fn dial(
    addresses: &[SocketAddr],
    transport: &dyn Transport,
    time_limit: Duration,
) -> io::Result<Dialled> {
    let deadline = Instant::now() + time_limit;
    let mut waiting = addresses.iter().copied();
    let mut running: Vec<Attempt> = Vec::new();
    let mut start_next_at = Instant::now();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if Instant::now() >= start_next_at
            && let Some(address) = waiting.next()
        {
            match transport.connect(address) {
                Ok(socket) => {
                    let distance = match rustix::net::getpeername(&socket) {
                        Ok(_) => Distance::SameMachine,
                        Err(_) => Distance::Elsewhere,
                    };
                    running.push(Box::pin(finish(socket.into(), address, distance)));
                    start_next_at = Instant::now() + ATTEMPT_DELAY;
                }
                Err(error) => {
                    last_error = error;
                    continue;
                }
            }
        }
        if running.is_empty() && waiting.len() == 0 {
            return Err(last_error);
        }
        let any = std::future::poll_fn(|context| {
            for index in 0..running.len() {
                let Some(attempt) = running.get_mut(index) else {
                    break;
                };
                if let Poll::Ready(result) = attempt.as_mut().poll(context) {
                    drop(running.swap_remove(index));
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        });
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            result = any => match result {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    last_error = error;
                    start_next_at = Instant::now();
                }
            },
            () = sleep_until(start_next_at), if more => {}
            () = sleep_until(deadline) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Waits until a connection under way is there or has failed.
async fn finish(
    socket: StdTcpStream,
    address: SocketAddr,
    distance: Distance,
) -> io::Result<Dialled> {
    let stream = TcpStream::from_std(socket)?;
    stream.writable().await?;
    match stream.take_error()? {
        None => Ok(Dialled {
            stream,
            address,
            distance,
        }),
        Some(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_on_this_machine_is_recognised() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [listener.local_addr().unwrap()];
        let dialled = dial(&addresses, &crate::HostTransport, Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(dialled.distance, Distance::SameMachine);
    }

    #[test]
    fn families_take_turns_and_the_unreachable_come_last() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let four = ["203.0.113.1:1", "203.0.113.2:1", "203.0.113.3:1"].map(address);
        let six = ["[2001:db8::1]:1", "[2001:db8::2]:1"].map(address);
        let mut addresses: Vec<_> = four
            .iter()
            .chain(&six)
            .map(|address| (*address, Route::Reachable))
            .collect();
        assert_eq!(
            order(addresses.clone()),
            [six[0], four[0], six[1], four[1], four[2]]
        );
        addresses[3].1 = Route::Unreachable;
        assert_eq!(
            order(addresses),
            [six[1], four[0], four[1], four[2], six[0]]
        );
        let many = vec![(four[0], Route::Reachable); 50];
        assert_eq!(order(many).len(), ADDRESS_LIMIT);
    }
}
