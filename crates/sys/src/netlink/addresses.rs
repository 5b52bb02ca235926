//! The addresses of a network namespace, in one question.
//!
//! Must not: return a partial list; a dump that was disturbed is repeated, and given up with an error.

use std::net::IpAddr;

use super::batch::{Batch, Step};
use super::constants::{
    IFA_ADDRESS, IFA_LOCAL, NLM_F_DUMP, NLM_F_DUMP_INTR, RTM_GETADDR, RTM_NEWADDR,
};
use super::error::NetlinkError;
use super::parse::{Message, attributes};
use super::socket::RouteSocket;

/// Bytes of `struct ifaddrmsg` (`rtnetlink(7)`).
const ADDRESS_HEADER: usize = 8;
/// Attempts before a namespace whose addresses keep changing is reported.
const ATTEMPTS: usize = 8;

/// Lists the addresses of all interfaces of the socket's network namespace, loopback included, sorted, each once.
///
/// # Errors
/// [`NetlinkError::Malformed`] also when the addresses changed during each of several attempts.
pub fn interface_addresses(route: &RouteSocket) -> Result<Vec<IpAddr>, NetlinkError> {
    let step = Step {
        call: "RTM_GETADDR",
        on: "",
        action: "list the addresses of all interfaces",
    };
    for _ in 0..ATTEMPTS {
        let mut batch = Batch::new();
        batch.message(step, RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS_HEADER]);
        let mut found = Vec::new();
        let mut disturbed = false;
        let mut unreadable = false;
        route.query(&batch.finish(), |message| {
            disturbed |= message.flags & NLM_F_DUMP_INTR != 0;
            if message.kind == RTM_NEWADDR {
                match address(message) {
                    Some(address) => found.push(address),
                    None => unreadable = true,
                }
            }
        })?;
        if unreadable {
            return Err(NetlinkError::Malformed {
                what: "address of an interface",
            });
        }
        if !disturbed {
            found.sort_unstable();
            found.dedup();
            return Ok(found);
        }
    }
    Err(NetlinkError::Malformed {
        what: "addresses changed while they were listed",
    })
}

/// The address of the interface itself: on point-to-point links `IFA_ADDRESS` is the other end's.
fn address(message: &Message<'_>) -> Option<IpAddr> {
    let bytes = message.payload.get(ADDRESS_HEADER..)?;
    let of_kind = |wanted| {
        attributes(bytes)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let value = of_kind(IFA_LOCAL).or_else(|| of_kind(IFA_ADDRESS))?;
    match i32::from(*message.payload.first()?) {
        libc::AF_INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_to_point_address_is_the_near_end() {
        let mut payload = vec![2, 32, 0, 0, 1, 0, 0, 0];
        for (kind, last) in [(IFA_ADDRESS, 9), (IFA_LOCAL, 7)] {
            payload.extend_from_slice(&8_u16.to_ne_bytes());
            payload.extend_from_slice(&kind.to_ne_bytes());
            payload.extend_from_slice(&[203, 0, 113, last]);
        }
        let message = |payload| Message {
            kind: RTM_NEWADDR,
            flags: 0,
            sequence: 1,
            payload,
        };
        assert_eq!(address(&message(&payload)), "203.0.113.7".parse().ok());
        for length in 0..16 {
            assert_eq!(
                address(&message(&payload[..length])),
                None,
                "cut at {length}"
            );
        }
    }
}
