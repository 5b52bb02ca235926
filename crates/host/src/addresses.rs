//! Every address of the host's interfaces, so that none of them can be reached from inside.
//!
//! Read from rtnetlink(7), and from proc(5) whether the kernel speaks IPv6. Must not guess: what cannot be read is an error
//! of the caller's, not an empty list.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use rcc_sys::netlink::{RouteSocket, interface_addresses};

/// Exists exactly on a kernel with IPv6.
const IPV6_MARK: &str = "/proc/net/if_inet6";

/// The host's addresses and whether the kernel speaks IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) all: Vec<IpAddr>,
    pub(crate) ipv6: bool,
}

/// Reads the addresses of every interface, loopback included.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn of_host() -> io::Result<Addresses> {
    Ok(Addresses {
        all: host_addresses()?,
        ipv6: Path::new(IPV6_MARK).try_exists()?,
    })
}

/// The addresses of the host's interfaces now, loopback included, sorted.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn host_addresses() -> io::Result<Vec<IpAddr>> {
    let route = RouteSocket::open().map_err(io::Error::other)?;
    let mut all = interface_addresses(&route).map_err(io::Error::other)?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address that the kernel chose for a socket of this machine is one of its own.
    #[test]
    fn an_address_that_a_socket_has_is_among_the_hosts() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().ip();
        assert!(of_host().unwrap().all.contains(&own));
    }
}
