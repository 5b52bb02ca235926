//! Reads `host` and `host:port` as a Host field or a URL has them (RFC 3986 section 3.2).
//!
//! Must not accept user information, lists, or a name that rules would not accept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcc_spec::HostName;

use super::Fault;
use crate::refusal::Host;

/// Who a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

/// Parses an authority.
pub(crate) fn parse(bytes: &[u8]) -> Result<Authority, Fault> {
    if bytes.is_empty() {
        return Err(Fault::HostMissing);
    }
    read(bytes).ok_or(Fault::HostUnreadable)
}

fn read(bytes: &[u8]) -> Option<Authority> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some(inner) = text.strip_prefix('[') {
        let (address, rest) = inner.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(Authority {
            host: Host::Address(IpAddr::V6(address).to_canonical()),
            port: match rest.strip_prefix(':') {
                Some(port) => Some(number(port)?),
                None if rest.is_empty() => None,
                None => return None,
            },
        });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(number(port)?)),
        None => (text, None),
    };
    let host = match host.parse::<Ipv4Addr>() {
        Ok(address) => Host::Address(address.into()),
        Err(_) => Host::Name(HostName::parse(host).ok()?),
    };
    Some(Authority { host, port })
}

/// A port in its one spelling.
fn number(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}
