//! Addresses, names and ports of the link between agent namespace and router namespace.
//!
//! 198.18.0.0/15 is set aside for device benchmarks (RFC 2544, RFC 6890) and is never routed on the Internet;
//! the IPv6 prefix is a unique local one (RFC 4193).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Name of the agent's interface.
pub const AGENT_INTERFACE: &str = "eth0";
/// Name of the router side of the pair.
pub const ROUTER_INTERFACE: &str = "rcc0";
/// MTU of the pair in bytes: the largest that keeps an IPv4 packet with its link header below 64 KiB.
pub const LINK_MTU: u32 = 65_520;
/// The agent's IPv4 address.
pub const AGENT_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The router's IPv4 address, which is also the resolver's.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Prefix length of the IPv4 link.
pub const LINK_V4_PREFIX: u8 = 24;
/// The agent's IPv6 address.
pub const AGENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 2);
/// The router's IPv6 address.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 1);
/// Prefix length of the IPv6 link.
pub const LINK_V6_PREFIX: u8 = 64;
/// First synthetic IPv4 address.
pub const SYNTHETIC_V4_FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);
/// Last synthetic IPv4 address.
pub const SYNTHETIC_V4_LAST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 254);
/// Prefix of synthetic IPv6 addresses (a /64); the low 64 bits number the name.
pub const SYNTHETIC_V6: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x6363, 0, 1, 0, 0, 0, 0);
pub use rcc_spec::HOST_NAME;
/// Port of the transparent TCP listener in the router namespace. Nothing else listens there.
pub const TPROXY_PORT: u16 = 4_000;
