//! The packets that the agent gets: UDP datagrams in the name of whoever it talks to, and ICMP errors about its own.
//!
//! Pure functions from addresses and bytes to bytes (RFC 791, 768, 792, 8200, 4443). Must not send anything, and must not be given
//! other destinations than the agent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rcc_plan::network::{LINK_MTU, ROUTER_V4, ROUTER_V6};

/// Longest payload of a UDP datagram over IPv4 (RFC 768, RFC 791): 65,535 bytes without both headers.
pub(crate) const PAYLOAD_MAX: usize = 65_507;

const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// IPv6 extension "Fragment" (RFC 8200 section 4.5).
const FRAGMENT: u8 = 44;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const FRAGMENT_HEADER: usize = 8;
/// Hops that a packet may take: it takes one.
const HOPS: u8 = 64;
/// IPv4: "don't fragment", "more fragments"; offsets count units of eight bytes.
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const MTU: usize = LINK_MTU as usize;

/// A packet's headers; the payload is sent from where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    bytes: [u8; V6_HEADER + FRAGMENT_HEADER + UDP_HEADER],
    length: usize,
}

impl Head {
    fn new() -> Self {
        Self {
            bytes: [0; V6_HEADER + FRAGMENT_HEADER + UDP_HEADER],
            length: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Makes the packets of one datagram; more than one only when it does not fit the link. None when the addresses are of
/// different families or the payload is too long for a datagram.
pub(crate) fn datagram<'payload>(
    from: SocketAddr,
    to: SocketAddr,
    payload: &'payload [u8],
    identification: u32,
    packets: &mut Vec<(Head, &'payload [u8])>,
) {
    let Ok(length) = u16::try_from(UDP_HEADER + payload.len()) else {
        return;
    };
    let mut udp = [0; UDP_HEADER];
    udp[0..2].copy_from_slice(&from.port().to_be_bytes());
    udp[2..4].copy_from_slice(&to.port().to_be_bytes());
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) if payload.len() <= PAYLOAD_MAX => {
            // The checksum stays zero, which means "none" (RFC 768): the packet goes through memory, not over a wire.
            let [_, _, low @ ..] = identification.to_be_bytes();
            cut(&udp, payload, MTU - V4_HEADER, |place, part, first| {
                let field = match place {
                    Place::Whole => DONT_FRAGMENT,
                    Place::Part { units, more } => units | if more { MORE_FRAGMENTS } else { 0 },
                };
                let mut head = Head::new();
                let total = V4_HEADER + first.len() + part.len();
                head.push(&v4_header(from, to, UDP, total, low, field));
                head.push(first);
                packets.push((head, part));
            });
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let sum = sum(&udp) + sum(payload) + pseudo_sum(from, to, UDP, length.into());
            // A sum of zero is sent as its other form (RFC 8200 section 8.1).
            let checksum = match checksum(sum) {
                0 => u16::MAX,
                other => other,
            };
            udp[6..8].copy_from_slice(&checksum.to_be_bytes());
            cut(&udp, payload, MTU - V6_HEADER, |place, part, first| {
                let mut head = Head::new();
                let body = first.len() + part.len();
                match place {
                    Place::Whole => head.push(&v6_header(from, to, UDP, body)),
                    Place::Part { units, more } => {
                        head.push(&v6_header(from, to, FRAGMENT, FRAGMENT_HEADER + body));
                        let [high, low] = (units << 3 | u16::from(more)).to_be_bytes();
                        head.push(&[UDP, 0, high, low]);
                        head.push(&identification.to_be_bytes());
                    }
                }
                head.push(first);
                packets.push((head, part));
            });
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => {}
    }
}

/// Where a packet stands in its datagram.
enum Place {
    Whole,
    /// Offset in units of eight bytes.
    Part {
        units: u16,
        more: bool,
    },
}

/// Cuts a UDP header and its payload into parts that fit `room`, and shows place, payload and header of each.
fn cut<'payload>(
    udp: &[u8; UDP_HEADER],
    payload: &'payload [u8],
    room: usize,
    mut show: impl FnMut(Place, &'payload [u8], &[u8]),
) {
    if UDP_HEADER + payload.len() <= room {
        show(Place::Whole, payload, udp);
        return;
    }
    // Parts but the last have a multiple of eight bytes; the header takes one such unit.
    let room = (room - FRAGMENT_HEADER) & !7;
    let (mut rest, mut offset, mut header) = (payload, 0_usize, udp.as_slice());
    loop {
        let (part, after) = rest
            .split_at_checked(room - header.len())
            .unwrap_or((rest, &[]));
        let units = u16::try_from(offset / 8).unwrap_or(u16::MAX);
        let more = !after.is_empty();
        show(Place::Part { units, more }, part, header);
        if !more {
            return;
        }
        offset += header.len() + part.len();
        (rest, header) = (after, &[]);
    }
}

/// What is told about a datagram of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// Policy forbids it.
    Prohibited,
    /// The destination's host says that nobody has this port.
    PortUnreachable,
    /// The network says that there is no way to the destination now. Kernels keep this from programs, because it may pass
    /// (RFC 1122 section 3.2.2.1).
    HostUnreachable,
    /// The host could not even begin: it has no way to such an address, or knows none. Programs hear of it at once, as they
    /// would outside at connect(2).
    NoWay,
    /// It is too long for the path, which takes packets of this many bytes over the agent's protocol.
    TooBig(u32),
}

/// Makes the packet that tells the agent of an error about a datagram that it sent from `agent` to `original`. None when the
/// addresses are of different families.
pub(crate) fn icmp(
    error: IcmpError,
    agent: SocketAddr,
    original: SocketAddr,
    payload_length: usize,
) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + payload_length).unwrap_or(u16::MAX);
    let mut udp = [0; UDP_HEADER];
    udp[0..2].copy_from_slice(&agent.port().to_be_bytes());
    udp[2..4].copy_from_slice(&original.port().to_be_bytes());
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    match (agent.ip(), original.ip()) {
        (IpAddr::V4(agent), IpAddr::V4(original)) => {
            // RFC 792 and RFC 1812 section 5.2.7.1; the MTU as in RFC 1191 section 4.
            let (code, mtu) = match error {
                IcmpError::Prohibited => (13, 0),
                IcmpError::PortUnreachable => (3, 0),
                IcmpError::HostUnreachable => (1, 0),
                // "Destination network unknown": `ENETUNREACH` (`icmp_err_convert` in net/ipv4/icmp.c).
                IcmpError::NoWay => (6, 0),
                IcmpError::TooBig(mtu) => (4, u16::try_from(mtu).unwrap_or(u16::MAX)),
            };
            let total = V4_HEADER + usize::from(length);
            let offending = v4_header(agent, original, UDP, total, [0, 0], DONT_FRAGMENT);
            let mut message = vec![3, code, 0, 0, 0, 0];
            message.extend_from_slice(&mtu.to_be_bytes());
            message.extend_from_slice(&offending);
            message.extend_from_slice(&udp);
            let checksum = checksum(sum(&message));
            message
                .get_mut(2..4)?
                .copy_from_slice(&checksum.to_be_bytes());
            let from = match error {
                IcmpError::PortUnreachable => original,
                _ => ROUTER_V4,
            };
            let total = V4_HEADER + message.len();
            let header = v4_header(from, agent, ICMP, total, [0, 0], DONT_FRAGMENT);
            Some([&header, message.as_slice()].concat())
        }
        (IpAddr::V6(agent), IpAddr::V6(original)) => {
            // RFC 4443 sections 3.1 and 3.2.
            let (kind, code, mtu) = match error {
                IcmpError::Prohibited => (1, 1, 0),
                IcmpError::PortUnreachable => (1, 4, 0),
                IcmpError::HostUnreachable => (1, 3, 0),
                // "Reject route to destination" (RFC 4443 section 3.1): `EACCES`, as there is no other that is told but "port
                // unreachable" (`tab_unreach` in net/ipv6/icmp.c).
                IcmpError::NoWay => (1, 6, 0),
                IcmpError::TooBig(mtu) => (2, 0, mtu),
            };
            let mut message = vec![kind, code, 0, 0];
            message.extend_from_slice(&mtu.to_be_bytes());
            message.extend_from_slice(&v6_header(agent, original, UDP, length.into()));
            message.extend_from_slice(&udp);
            let from = match error {
                IcmpError::PortUnreachable => original,
                _ => ROUTER_V6,
            };
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
            let checksum = checksum(sum(&message) + pseudo_sum(from, agent, ICMPV6, length));
            message
                .get_mut(2..4)?
                .copy_from_slice(&checksum.to_be_bytes());
            let header = v6_header(from, agent, ICMPV6, message.len());
            Some([&header, message.as_slice()].concat())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    }
}

fn v4_header(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    total: usize,
    identification: [u8; 2],
    fragment: u16,
) -> [u8; V4_HEADER] {
    let total = u16::try_from(total).unwrap_or(u16::MAX);
    let mut header = [0; V4_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[4..6].copy_from_slice(&identification);
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[8] = HOPS;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let checksum = checksum(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn v6_header(from: Ipv6Addr, to: Ipv6Addr, next: u8, length: usize) -> [u8; V6_HEADER] {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    let mut header = [0; V6_HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = next;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&from.octets());
    header[24..40].copy_from_slice(&to.octets());
    header
}

/// The sum of the pseudo-header (RFC 8200 section 8.1).
fn pseudo_sum(from: Ipv6Addr, to: Ipv6Addr, next: u8, length: u32) -> u64 {
    sum(&from.octets()) + sum(&to.octets()) + u64::from(next) + u64::from(length)
}

/// Adds 16-bit words as numbers (RFC 1071), four bytes at a time: the sum is folded at the end anyway.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_be_bytes(*word)))
        .sum();
    let mut last = [0; 4];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    total += u64::from(u32::from_be_bytes(last));
    total
}

/// Folds a sum to 16 bits and inverts it.
fn checksum(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests;
