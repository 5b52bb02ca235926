//! Listening sockets and the accept loop, with the way to flush it.
//!
//! Must not lose a connection silently: the queue is as long as the kernel allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
    sockopt,
};

use crate::counters::{Counters, Entry};
use crate::{Failure, log};

/// Where our listeners are, so that they can be flushed.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    tcp_ports: Mutex<Vec<u16>>,
    udp_sockets: Mutex<Vec<SocketAddr>>,
}

impl Listeners {
    /// Connects to every listener and waits until it has been taken, so that all earlier ones have been too.
    pub(crate) fn flush(&self, counters: &Counters) -> Result<(), Failure> {
        let ports = self
            .tcp_ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for port in ports {
            let socket = socket_with(
                AddressFamily::INET,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?;
            bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            counters.announce_mark(getsockname(&socket)?.try_into()?);
            connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        }
        let udp = self
            .udp_sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // Kept to the end: a port that is free again could become another mark's, and two equal marks are one.
        let mut sockets = Vec::with_capacity(udp.len());
        for address in udp {
            let socket = UdpSocket::bind(SocketAddr::new(address.ip(), 0))?;
            counters.announce_mark(socket.local_addr()?);
            socket.send_to(b"mark", address)?;
            sockets.push(socket);
        }
        counters.wait_for_marks();
        Ok(())
    }
}

/// Listens on all addresses of both families.
fn listen_everywhere(port: u16) -> Result<TcpListener, Failure> {
    let has_ipv6 = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|text| text.trim() == "0");
    let (family, address) = if has_ipv6 {
        (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    } else {
        (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if has_ipv6 {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &SocketAddr::new(address, port))
        .map_err(|error| format!("cannot bind TCP port {port}: {error}"))?;
    listen(&socket, 4096)?;
    Ok(TcpListener::from(socket))
}

/// Serves a TCP port, one thread per connection.
pub(crate) fn serve_tcp(
    port: u16,
    counters: &Arc<Counters>,
    listeners: &Listeners,
    handle: impl Fn(TcpStream, SocketAddr, Arc<Entry>) -> Result<(), Failure> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let listener = listen_everywhere(port)?;
    listeners
        .tcp_ports
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(port);
    let counters = Arc::clone(counters);
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
                // The peer has already reset it: it did connect, and its address is gone.
                counters
                    .entry("tcp", SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
                    .connection();
                continue;
            };
            if counters.take_mark(peer) {
                continue;
            }
            let entry = counters.entry("tcp", local);
            entry.connection();
            let handle = Arc::clone(&handle);
            let spawned = std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || {
                    // A peer that goes away is its own business; the counters have it.
                    let _ = handle(stream, local, entry);
                });
            if let Err(error) = spawned {
                log(&format!("tcp {port}: no thread: {error}"));
            }
        }
    });
    Ok(())
}

/// Serves a UDP port of one address; `answer` gives the replies to a datagram.
pub(crate) fn serve_udp(
    address: SocketAddr,
    counters: &Arc<Counters>,
    listeners: &Listeners,
    answer: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
) -> Result<(), Failure> {
    let socket =
        UdpSocket::bind(address).map_err(|error| format!("cannot bind UDP {address}: {error}"))?;
    listeners
        .udp_sockets
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(address);
    let counters = Arc::clone(counters);
    std::thread::spawn(move || {
        let mut datagram = vec![0; 65536];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut datagram) else {
                continue;
            };
            if counters.take_mark(peer) {
                continue;
            }
            let entry = counters.entry("udp", address);
            entry.connection();
            entry.received(length);
            for reply in answer(&datagram[..length], peer) {
                entry.sent(reply.len());
                let _ = socket.send_to(&reply, peer);
            }
        }
    });
    Ok(())
}
