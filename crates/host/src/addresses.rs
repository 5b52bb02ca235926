//! Every address of the host's interfaces, so that none of them can be reached from inside.
//!
//! Read from proc(5): `/proc/net/fib_trie` lists local IPv4 addresses, `/proc/net/if_inet6` the IPv6 ones. Must not
//! guess: a file that cannot be read is an error of the caller's, not an empty list.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host's addresses and whether the kernel speaks IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) all: Vec<IpAddr>,
    pub(crate) ipv6: bool,
}

/// Reads the addresses of every interface, loopback included.
///
/// # Errors
/// When `/proc/net` cannot be read.
pub(crate) fn of_host() -> std::io::Result<Addresses> {
    let mut text = String::new();
    std::fs::File::open("/proc/net/fib_trie")?.read_to_string(&mut text)?;
    let mut all = local_v4(&text);
    text.clear();
    let ipv6 = match std::fs::File::open("/proc/net/if_inet6") {
        Ok(mut file) => {
            file.read_to_string(&mut text)?;
            all.extend(interfaces_v6(&text));
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    all.sort_unstable();
    all.dedup();
    Ok(Addresses { all, ipv6 })
}

/// The addresses of the host's interfaces now, loopback included.
///
/// # Errors
/// When `/proc/net` cannot be read.
pub fn host_addresses() -> std::io::Result<Vec<IpAddr>> {
    of_host().map(|addresses| addresses.all)
}

/// A leaf of the trie is `|-- ADDRESS`, followed by its routes; `/32 host LOCAL` marks an address of the host.
fn local_v4(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.trim().parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = leaf
        {
            found.push(IpAddr::V4(address));
        }
    }
    found
}

/// Each line starts with 32 hexadecimal digits of an address.
fn interfaces_v6(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let digits = line.split_ascii_whitespace().next()?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        (digits.len() == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_broadcast_and_network_addresses() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 203.0.113.7\n        /32 host LOCAL\n     |-- 203.0.113.255\n        /32 link BROADCAST\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(
            local_v4(text),
            [
                "203.0.113.7".parse::<IpAddr>().unwrap(),
                "127.0.0.1".parse().unwrap()
            ]
        );
    }

    #[test]
    fn ipv6_lines_are_read_and_odd_ones_skipped() {
        let text = "20010db8000000000000000000000007 02 40 00 80 eth0\nshort 01\n00000000000000000000000000000001 01 80 10 80 lo\n";
        let found: Vec<IpAddr> = interfaces_v6(text).collect();
        assert_eq!(
            found,
            [
                "2001:db8::7".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
    }

    #[test]
    fn loopback_is_an_address_of_every_host() {
        assert!(
            of_host()
                .unwrap()
                .all
                .contains(&IpAddr::V4(Ipv4Addr::LOCALHOST))
        );
    }
}
