//! How the gateway meets the two networks: where the agent wanted to go, and how the host gets there.
//!
//! The one implementation that ships is [`HostTransport`]. The trait exists so that tests can present a connection "to
//! 198.18.1.5:443" on an ordinary socket and map public-looking addresses to local servers, and for chained proxies later. An
//! implementation must not change *what* is reached: it gets addresses that were checked, and connects to exactly those.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use rcc_sys::socket::{Datagram, recv_with_original_destination, send_from};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// What the host's routing table says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The address is one of the host's own.
    Own,
    /// There is a way to it.
    Reachable,
    /// There is none.
    Unreachable,
    /// The table could not be asked, for want of descriptors or memory.
    Unknown,
}

/// The gateway's view of sockets.
pub trait Transport: Send + Sync + 'static {
    /// The address that the agent connected to.
    ///
    /// # Errors
    /// The socket cannot be asked: it was reset.
    fn original_destination(&self, accepted: BorrowedFd<'_>) -> io::Result<SocketAddr>;

    /// Receives a DNS datagram together with the address it was sent to. The socket does not block.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; others concern this datagram.
    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram>;

    /// Sends a DNS answer from the address that was asked.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's buffer is full; others concern this datagram.
    fn reply(&self, socket: BorrowedFd<'_>, answer: &[u8], to: &Datagram) -> io::Result<()>;

    /// What the host's routing table says about an address. Sends nothing.
    fn route(&self, address: IpAddr) -> Route;

    /// Begins to connect a non-blocking TCP socket to an address that was checked.
    ///
    /// # Errors
    /// What `socket(2)` or `connect(2)` report at once; `EINPROGRESS` is no error.
    fn connect(&self, checked: SocketAddr) -> io::Result<OwnedFd>;
}

/// Transparent sockets towards the agent, ordinary ones towards the world.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostTransport;

impl Transport for HostTransport {
    fn original_destination(&self, accepted: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        let local = SocketAddr::try_from(rustix::net::getsockname(accepted)?)?;
        Ok(SocketAddr::new(local.ip().to_canonical(), local.port()))
    }

    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
        recv_with_original_destination(socket, buffer).map_err(io_error)
    }

    fn reply(&self, socket: BorrowedFd<'_>, answer: &[u8], to: &Datagram) -> io::Result<()> {
        send_from(socket, answer, to.original_destination.ip(), to.source).map_err(io_error)?;
        Ok(())
    }

    fn route(&self, address: IpAddr) -> Route {
        route(address)
    }

    fn connect(&self, checked: SocketAddr) -> io::Result<OwnedFd> {
        connect(checked)
    }
}

fn io_error(error: rcc_sys::SysError) -> io::Error {
    error.errno.into()
}

/// Asks the routing table by connecting a datagram socket, which sends nothing (`udp(7)`). A route to one of the host's
/// own addresses has that address as its source, too (`ip_route_output_key_hash_rcu()` in net/ipv4/route.c and rule 1 of
/// RFC 6724 section 5): this knows addresses that came up a moment ago, unlike any list.
pub fn route(address: IpAddr) -> Route {
    use rustix::io::Errno;
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let source = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| {
            // Any port but 0 does.
            rustix::net::connect(&socket, &SocketAddr::new(address, 9))?;
            SocketAddr::try_from(rustix::net::getsockname(&socket)?)
        });
    match source {
        Ok(source) if is_own(source.ip().to_canonical(), address.to_canonical()) => Route::Own,
        Ok(_) => Route::Reachable,
        // No route, no address of that family, a route that forbids, or a kernel without the family.
        Err(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::ADDRNOTAVAIL
            | Errno::AFNOSUPPORT
            | Errno::ACCESS
            | Errno::INVAL,
        ) => Route::Unreachable,
        Err(_) => Route::Unknown,
    }
}

/// A local route without a preferred source has the destination as its source; the ones of the loopback interface prefer
/// 127.0.0.1.
fn is_own(source: IpAddr, destination: IpAddr) -> bool {
    source == destination || source.is_loopback()
}

/// Begins to connect a non-blocking TCP socket.
///
/// # Errors
/// As [`Transport::connect`].
pub fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a non-blocking UDP socket that exchanges datagrams with one address only. Sends nothing.
///
/// # Errors
/// What `socket(2)` or `connect(2)` report, such as `ENETUNREACH`.
pub(crate) fn connect_datagrams(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_recognised_without_a_list() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        // What the routing table answers differs from machine to machine; what is made of it does not.
        for (source, destination, own) in [
            ("127.0.0.1", "127.9.8.7", true),
            ("127.0.0.1", "203.0.113.1", true),
            ("203.0.113.1", "203.0.113.1", true),
            ("2001:db8::1", "2001:db8::1", true),
            ("::1", "2001:db8::1", true),
            ("203.0.113.1", "203.0.113.2", false),
            ("203.0.113.1", "198.51.100.254", false),
        ] {
            assert_eq!(
                is_own(address(source), address(destination)),
                own,
                "{source} to {destination}"
            );
        }
        // An address that a socket of this very machine has is its own, whatever else it has.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(route(listener.local_addr().unwrap().ip()), Route::Own);
    }
}
