//! Classes of addresses: what is public, what is this machine, what belongs to a network of its owner.
//!
//! Must not call an address public because it is unknown: what no line of the tables names and what lies outside
//! the global unicast space is reserved.
//!
//! Addresses that carry an IPv4 address inside (NAT64, 6to4, Teredo …) have the class of what they carry, when that
//! is not public: a translator on the way would deliver the packet there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::verdict::Reason;

mod tables;

use tables::{V4_RANGES, V6_METADATA, V6_RANGES};

/// What kind of address this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressClass {
    /// Routed in the Internet. The documentation ranges (RFC 5737, RFC 3849, RFC 9637) count as public.
    Public,
    /// 127.0.0.0/8 (RFC 1122 section 3.2.1.3), `::1` (RFC 4291 section 2.5.3).
    Loopback,
    /// 0.0.0.0/8 (RFC 791), `::` (RFC 4291 section 2.5.2); Linux connects to itself.
    Unspecified,
    /// A cloud's metadata or credential service.
    Metadata,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918).
    Private,
    /// 100.64.0.0/10, shared address space of carriers (RFC 6598).
    SharedCgnat,
    /// 169.254.0.0/16 (RFC 3927), fe80::/10 (RFC 4291 section 2.5.6).
    LinkLocal,
    /// fc00::/7 (RFC 4193) and the deprecated site-local fec0::/10 (RFC 3879).
    UniqueLocal,
    /// 224.0.0.0/4 (RFC 5771), ff00::/8 (RFC 4291 section 2.7).
    Multicast,
    /// 255.255.255.255 (RFC 919).
    Broadcast,
    /// 198.18.0.0/15 (RFC 2544), 2001:2::/48 (RFC 5180); rcc takes its synthetic addresses from the former.
    Benchmark,
    /// 240.0.0.0/4 (RFC 1112 section 4) and everything else that is not global unicast.
    Reserved,
    /// 64:ff9b:1::/48, translation prefix of a local network (RFC 8215), when no other class is embedded.
    LocalTranslation,
}

/// An address with its class and the special range that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Classified {
    pub(crate) class: AddressClass,
    /// The range that must contain a rule's network for the rule to speak of this class on purpose.
    pub(crate) range: IpNet,
}

impl AddressClass {
    /// Classifies an address; IPv4 carried inside IPv6 counts as what it carries.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        classify(address).class
    }

    /// Tells whether mode `internet` reaches the class without a rule.
    #[must_use]
    pub fn is_public(self) -> bool {
        self == Self::Public
    }

    /// Why an address of this class is refused; none for public ones.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        Some(match self {
            Self::Public => return None,
            Self::Loopback | Self::Unspecified => Reason::Loopback,
            Self::Metadata => Reason::MetadataAddress,
            Self::Private | Self::SharedCgnat | Self::UniqueLocal => Reason::PrivateAddress,
            Self::LinkLocal => Reason::LinkLocalAddress,
            Self::Multicast | Self::Broadcast => Reason::MulticastAddress,
            Self::Benchmark | Self::Reserved | Self::LocalTranslation => Reason::ReservedAddress,
        })
    }

    /// Tells whether a rule that names an address of this class opens it.
    ///
    /// Never for the machine itself, and never for addresses that stand for many receivers.
    #[must_use]
    pub fn can_be_named(self) -> bool {
        !matches!(
            self,
            Self::Loopback | Self::Unspecified | Self::Multicast | Self::Broadcast
        )
    }
}

/// Removes the IPv4-mapped form, which the kernel removes as well (ipv6(7)).
#[must_use]
pub fn canonical_address(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Gives the IPv4 address that an IPv6 address carries: mapped, compatible, translated, NAT64, 6to4, Teredo.
#[must_use]
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    embedding(address).map(|embedding| embedding.v4)
}

/// How many bits stand before the embedded address; none where its bits are not in one piece or not plain.
struct Embedding {
    v4: Ipv4Addr,
    offset: Option<u8>,
}

fn embedding(address: Ipv6Addr) -> Option<Embedding> {
    let bits = address.to_bits();
    let tail = Ipv4Addr::from_bits(low_half(bits));
    let found = |v4, offset| Some(Embedding { v4, offset });
    match address.segments() {
        // RFC 4291 section 2.5.5.2, IPv4-mapped.
        [0, 0, 0, 0, 0, 0xffff, ..] => found(tail, Some(96)),
        // RFC 2765 section 2.1, IPv4-translated.
        [0, 0, 0, 0, 0xffff, 0, ..] => found(tail, Some(96)),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // RFC 4291 section 2.5.5.1, IPv4-compatible.
        [0, 0, 0, 0, 0, 0, ..] => found(tail, Some(96)),
        // RFC 6052 section 2.1, the well-known prefix of NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => found(tail, Some(96)),
        // RFC 8215; the length inside is the operator's, /96 is the usual one.
        [0x64, 0xff9b, 1, ..] => found(tail, Some(96)),
        // RFC 3056 section 2, 6to4.
        [0x2002, ..] => found(Ipv4Addr::from_bits(low_half(bits >> 80)), Some(16)),
        // RFC 4380 section 4, Teredo: the client's address stands inverted at the end.
        [0x2001, 0, ..] => found(Ipv4Addr::from_bits(!low_half(bits)), None),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 32 bits are what is asked for"
)]
fn low_half(bits: u128) -> u32 {
    bits as u32
}

pub(crate) fn classify(address: IpAddr) -> Classified {
    match canonical_address(address) {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> Classified {
    V4_RANGES
        .iter()
        .find(|(range, _)| range.contains(&address))
        .map_or(
            Classified {
                class: AddressClass::Public,
                range: Ipv4Net::default().into(),
            },
            |&(range, class)| Classified {
                class,
                range: range.into(),
            },
        )
}

fn classify_v6(address: Ipv6Addr) -> Classified {
    if let Some(&(range, class)) = V6_METADATA
        .iter()
        .find(|(range, _)| range.contains(&address))
    {
        return Classified {
            class,
            range: range.into(),
        };
    }
    if let Some(embedding) = embedding(address) {
        let inner = classify_v4(embedding.v4);
        if inner.class != AddressClass::Public {
            return Classified {
                class: inner.class,
                range: outer_range(address, &embedding, inner.range).into(),
            };
        }
    }
    V6_RANGES
        .iter()
        .find(|(range, _)| range.contains(&address))
        .map_or(
            Classified {
                class: AddressClass::Reserved,
                range: exact(address).into(),
            },
            |&(range, class)| Classified {
                class,
                range: range.into(),
            },
        )
}

/// Every special range of IPv4.
pub(crate) fn special_ranges_v4() -> impl Iterator<Item = Ipv4Net> {
    V4_RANGES.iter().map(|&(range, _)| range)
}

/// Tells whether a network lies where every address is public and none carries another one. Below a length of 16 bits
/// the answer is no without looking.
pub(crate) fn lies_in_plain_public(network: IpNet) -> bool {
    let IpNet::V6(v6) = network else { return false };
    let [first, ..] = v6.addr().segments();
    v6.prefix_len() >= 16 && (0x2000..=0x3fff).contains(&first) && !matches!(first, 0x2001 | 0x2002)
}

/// The part of IPv6 space that carries the same special IPv4 range in the same way.
fn outer_range(address: Ipv6Addr, embedding: &Embedding, inner: IpNet) -> Ipv6Net {
    embedding
        .offset
        .and_then(|offset| Ipv6Net::new(address, offset.saturating_add(inner.prefix_len())).ok())
        .map_or_else(|| exact(address), |net| net.trunc())
}

fn exact(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(address)
}

#[cfg(test)]
mod tests;
