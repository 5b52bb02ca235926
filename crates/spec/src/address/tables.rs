//! The special ranges, most specific first, each with its source.
//!
//! Must agree with the IANA special-purpose address registries (RFC 6890), except that documentation ranges count as
//! public: they are routed nowhere, and tests use them as stand-ins for the Internet.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::AddressClass as Class;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// IPv4, first match wins; what is not here is public.
pub(super) const V4_RANGES: &[(Ipv4Net, Class)] = &[
    // Metadata services; each is one address, so that only a rule for exactly this address opens it.
    (v4(169, 254, 169, 254, 32), Class::Metadata), // AWS, Azure, Google, OpenStack and most others
    (v4(169, 254, 170, 2, 32), Class::Metadata),   // AWS ECS task credentials
    (v4(169, 254, 170, 23, 32), Class::Metadata),  // AWS EKS pod identity
    (v4(169, 254, 169, 253, 32), Class::Metadata), // AWS resolver of the VPC
    (v4(169, 254, 169, 123, 32), Class::Metadata), // AWS time service
    (v4(169, 254, 0, 23, 32), Class::Metadata),    // Tencent Cloud
    (v4(169, 254, 42, 42, 32), Class::Metadata),   // Scaleway
    (v4(100, 100, 100, 200, 32), Class::Metadata), // Alibaba Cloud, inside the CGNAT range
    (v4(192, 0, 0, 192, 32), Class::Metadata),     // Oracle Cloud, older images
    (v4(168, 63, 129, 16, 32), Class::Metadata),   // Azure host services, a public-looking address
    (v4(0, 0, 0, 0, 8), Class::Unspecified),       // RFC 791 section 3.2
    (v4(127, 0, 0, 0, 8), Class::Loopback),        // RFC 1122 section 3.2.1.3
    (v4(10, 0, 0, 0, 8), Class::Private),          // RFC 1918
    (v4(172, 16, 0, 0, 12), Class::Private),       // RFC 1918
    (v4(192, 168, 0, 0, 16), Class::Private),      // RFC 1918
    (v4(100, 64, 0, 0, 10), Class::SharedCgnat),   // RFC 6598
    (v4(169, 254, 0, 0, 16), Class::LinkLocal),    // RFC 3927
    (v4(198, 18, 0, 0, 15), Class::Benchmark),     // RFC 2544
    (v4(192, 0, 0, 0, 24), Class::Reserved),       // RFC 6890, IETF protocol assignments
    (v4(192, 88, 99, 0, 24), Class::Reserved),     // RFC 7526, deprecated 6to4 relays
    (v4(255, 255, 255, 255, 32), Class::Broadcast), // RFC 919
    (v4(224, 0, 0, 0, 4), Class::Multicast),       // RFC 5771
    (v4(240, 0, 0, 0, 4), Class::Reserved),        // RFC 1112 section 4
];

/// IPv6 metadata services, looked at before anything else.
pub(super) const V6_METADATA: &[(Ipv6Net, Class)] = &[
    (
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
        Class::Metadata,
    ), // AWS
    (
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128),
        Class::Metadata,
    ), // AWS EKS pod identity
    (
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253], 128),
        Class::Metadata,
    ), // AWS resolver of the VPC
    (
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123], 128),
        Class::Metadata,
    ), // AWS time service
    (
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
        Class::Metadata,
    ), // Google
    (
        v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
        Class::Metadata,
    ), // Scaleway
    (
        v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
        Class::Metadata,
    ), // OpenStack
];

/// IPv6 ranges after embedded IPv4 was looked at, first match wins; what is not here is reserved.
pub(super) const V6_RANGES: &[(Ipv6Net, Class)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Class::Unspecified), // RFC 4291 section 2.5.2
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Class::Loopback),    // RFC 4291 section 2.5.3
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), Class::Public), // RFC 6052, embedding a public address
    (
        v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        Class::LocalTranslation,
    ), // RFC 8215
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Class::Benchmark), // RFC 5180
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Class::Public), // RFC 4380, Teredo of a public address
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Class::Reserved), // RFC 2928, IETF protocol assignments
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Class::Public),  // RFC 4291 section 2.4, global unicast
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Class::UniqueLocal), // RFC 4193
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Class::LinkLocal), // RFC 4291 section 2.5.6
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Class::UniqueLocal), // RFC 3879, deprecated site-local
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Class::Multicast), // RFC 4291 section 2.7
];
