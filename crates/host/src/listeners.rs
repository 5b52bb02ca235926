//! Who listens on a TCP port of this host, for the message that it is in use.
//!
//! Read from proc(5): `/proc/net/tcp` and `tcp6` know the socket, `/proc/PID/fd` whose it is. Only processes that the caller
//! may look into can be found. Must not be used for decisions: programs come and go.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// State `TCP_LISTEN` of `include/net/tcp_states.h`, as proc(5) prints it.
const LISTEN: &str = "0A";

/// A process that holds a listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its program's name, as the kernel knows it; not escaped.
    pub program: String,
    /// Its process id.
    pub pid: u32,
}

/// Finds the process that keeps this address from being listened on; none when it is another user's.
#[must_use]
pub fn listener_on(address: SocketAddr) -> Option<Listener> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .find_map(|path| listening_inode(&fs::read_to_string(path).ok()?, address))?;
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path().join("fd"), &wanted).then(|| Listener {
            program: fs::read_to_string(entry.path().join("comm"))
                .unwrap_or_default()
                .trim_end()
                .to_owned(),
            pid,
        })
    })
}

fn holds(descriptors: &Path, wanted: &str) -> bool {
    let entries = fs::read_dir(descriptors).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == wanted)
}

/// The inode of a listening socket on this address or on all of them. Fields: number, local address, remote address,
/// state, four others, user, time-out, inode.
fn listening_inode(table: &str, wanted: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let local = parse_address(fields.get(1)?)?;
        let same = local.port() == wanted.port()
            && (local.ip() == wanted.ip()
                || local.ip().is_unspecified()
                || wanted.ip().is_unspecified());
        let listens = *fields.get(3)? == LISTEN;
        (same && listens).then(|| fields.get(9)?.parse().ok())?
    })
}

/// Reads `0100007F:0BB8`: words of 32 bits in the order of this machine, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for index in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(index..index + 8)?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_and_a_free_port_is_nobodys() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue; // a machine without IPv6
            };
            let address = listener.local_addr().unwrap();
            let found = listener_on(address).unwrap();
            assert_eq!(found.pid, std::process::id());
            assert!(!found.program.is_empty());
            drop(listener);
            assert_eq!(listener_on(address), None);
        }
    }

    #[test]
    fn odd_lines_are_skipped() {
        let table =
            "head\n  0: XX 0 0A\n short\n  1: 0100007F:0BB8 00000000:0000 01 0:0 0:0 0 1000 0 77\n";
        let address = "127.0.0.1:3000".parse().unwrap();
        assert_eq!(listening_inode(table, address), None);
        let listening = table.replace(" 01 ", " 0A ");
        // The order of bytes is this machine's.
        if cfg!(target_endian = "little") {
            assert_eq!(listening_inode(&listening, address), Some(77));
        }
    }
}
