//! Configures the two network namespaces of a run.
//!
//! ```text
//! agent namespace                             router namespace (no uplink)
//! eth0 ─────────────────── veth ───────────── rcc0
//! default route through the router            route to the agent alone; every other address is local
//!                                             nf_tables: TCP, UDP and DNS to the gateway's sockets, the rest refused
//! ```
//!
//! Every other address is local: a `local default` route in the main table delivers whatever the agent sends to a
//! socket of the router namespace. Nothing but the veth and the loopback interface exists there, so no rule by
//! interface is needed, and the kernel drops packets with a forged source (they claim an address of the router).
//!
//! Order: 1. [`configure`] with sockets of the router namespace (creates both ends), 2. [`configure_agent`] with a
//! socket of the agent namespace, 3. [`wait_until_up`] with the router's, before the agent
//! starts. Whoever holds a socket may do a step.
//!
//! Must not: know policy, listen on anything, or touch another namespace than those of its sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::batch::{Batch, FinishedBatch};
use super::constants::{IF_OPER_UP, IFLA_OPERSTATE, LOOPBACK_INDEX, RTM_NEWLINK};
use super::error::NetlinkError;
use super::nftables::router_rules;
use super::parse::attributes;
use super::route::{MacAddress, VethEnd};
use super::socket::{NetfilterSocket, RouteSocket};
use crate::SysError;
use crate::socket::IpFamilies;

/// Interface index of the veth end in the agent namespace; the loopback interface is 1.
pub const AGENT_INDEX: u32 = 2;
/// Interface index of the veth end in the router namespace.
///
/// Not [`AGENT_INDEX`]: the kernel takes a link whose peer has the same index for one without peer and then reports
/// changes of its state up to a second late (`linkwatch_urgent_event` in `net/core/link_watch.c`).
pub const ROUTER_INDEX: u32 = 3;

/// Locally administered addresses (IEEE 802); nobody outside the pair ever sees them.
const AGENT_MAC: MacAddress = [0x02, 0x72, 0x63, 0x63, 0x00, 0x02];
const ROUTER_MAC: MacAddress = [0x02, 0x72, 0x63, 0x63, 0x00, 0x01];

/// The two IPv6 addresses of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkV6 {
    /// The agent's address.
    pub agent: Ipv6Addr,
    /// The router's address.
    pub router: Ipv6Addr,
    /// Prefix length on the agent's side.
    pub prefix: u8,
}

/// The addresses of the link between agent and router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddresses {
    /// The agent's IPv4 address.
    pub agent: Ipv4Addr,
    /// The router's IPv4 address.
    pub router: Ipv4Addr,
    /// IPv4 prefix length on the agent's side.
    pub prefix: u8,
    /// `None` on a kernel without IPv6 (`ipv6.disable=1`).
    pub v6: Option<LinkV6>,
}

/// What [`configure`] sets up in the router namespace.
#[derive(Clone, Copy, Debug)]
pub struct RouterConfig<'a> {
    /// Name of the router's end of the pair.
    pub router_interface: &'a str,
    /// Name of the agent's end of the pair.
    pub agent_interface: &'a str,
    /// The agent's network namespace; the caller needs `CAP_NET_ADMIN` over it.
    pub agent_namespace: BorrowedFd<'a>,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// Addresses of both ends.
    pub addresses: LinkAddresses,
    /// Port of the transparent TCP listener and of the transparent UDP socket in the router namespace.
    pub tproxy_port: u16,
}

/// What [`configure_agent`] sets up in the agent namespace.
#[derive(Clone, Copy, Debug)]
pub struct AgentLinkConfig {
    /// Addresses of both ends.
    pub addresses: LinkAddresses,
}

/// Sets the router namespace up: first the rules, then the veth pair (the other end goes to the agent's namespace),
/// addresses and routes. Both sockets belong to the router namespace, which is new.
///
/// Should: leave the agent's end down and without address.
///
/// Mustn't: have the link before the rules.
///
/// # Errors
/// [`NetlinkError::Refused`] names the message: `EPERM` without `CAP_NET_ADMIN` over both namespaces, `EOPNOTSUPP`
/// or `ENOENT` when the kernel lacks `CONFIG_VETH`, `CONFIG_NF_TABLES_INET`, `CONFIG_NFT_TPROXY` or
/// `CONFIG_NFT_REJECT_INET`.
pub fn configure(
    route: &RouteSocket,
    netfilter: &NetfilterSocket,
    config: &RouterConfig<'_>,
) -> Result<(), NetlinkError> {
    configure_rules(netfilter, config.tproxy_port)?;
    configure_link(route, config)
}

/// The first half of [`configure`]: the nf_tables rules, before there is any link they could be late for.
///
/// # Errors
/// As [`configure`].
pub fn configure_rules(netfilter: &NetfilterSocket, tproxy_port: u16) -> Result<(), NetlinkError> {
    netfilter.exchange(&rules_batch(tproxy_port))
}

/// The second half of [`configure`]: the veth pair, the router's addresses and routes.
///
/// # Errors
/// As [`configure`].
pub fn configure_link(route: &RouteSocket, config: &RouterConfig<'_>) -> Result<(), NetlinkError> {
    route.exchange(&router_batch(config)?)
}

/// Sets the agent namespace up: loopback, the agent's end of the pair, its addresses and default routes. The socket
/// belongs to the agent namespace, and [`configure`] has run.
///
/// # Errors
/// [`NetlinkError::Refused`] names the message; `ENODEV` when the pair does not exist.
pub fn configure_agent(route: &RouteSocket, config: &AgentLinkConfig) -> Result<(), NetlinkError> {
    route.exchange(&agent_batch(config))
}

/// Sets up a namespace that is cut off: only its loopback interface is brought up.
///
/// # Errors
/// [`NetlinkError::Refused`] with `EPERM` without `CAP_NET_ADMIN` over the namespace.
pub fn configure_loopback_only(route: &RouteSocket) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.bring_up(LOOPBACK_INDEX);
    route.exchange(&batch.finish())
}

/// Lifts the limits of ICMP errors in the network namespace of the calling thread (the router's).
///
/// By default the kernel sends six refusals to one address and then one per second, and fifty in a row to all
/// addresses (`icmp_ratelimit`, `icmp_msgs_burst` in `icmp(7)`), so a program that tries many UDP destinations would
/// wait instead of learning that it may not. Nobody but the agent gets these messages. The masks say which types of
/// messages either limit counts.
///
/// # Errors
/// A setting cannot be written, for example because `/proc/sys` is read-only as in most containers. The caller may
/// go on: refusals are then less prompt, not less strict.
pub fn lift_icmp_limits(families: IpFamilies) -> Result<(), SysError> {
    const V4: (&str, &[u8]) = ("/proc/sys/net/ipv4/icmp_ratemask", b"0");
    // A list of types. It cannot be made empty, so it names the type that is kept for experiments (RFC 4443, 2.1).
    const V6: (&str, &[u8]) = ("/proc/sys/net/ipv6/icmp/ratemask", b"127");
    let settings: &[_] = match families {
        IpFamilies::Both => &[V4, V6],
        IpFamilies::V4Only => &[V4],
    };
    for (path, value) in settings {
        let file = rustix::fs::open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(SysError::at("open(2)", *path))?;
        rustix::io::write(&file, value).map_err(SysError::at("write(2)", *path))?;
    }
    Ok(())
}

/// Waits until the router's end of the link can send.
///
/// The end that is brought up second works at once. The other one learns of its carrier from a work queue of the
/// kernel, some ten microseconds later, and drops what it should send until then. Since Linux 6.8 the question
/// itself makes the kernel settle the state (`rtnl_getlink`), so that the first answer is "up"; before, it is asked
/// again every 100 µs.
///
/// # Errors
/// [`NetlinkError::LinkStaysDown`] after one second.
pub fn wait_until_up(route: &RouteSocket) -> Result<(), NetlinkError> {
    const LIMIT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_micros(100);
    let start = Instant::now();
    loop {
        let mut batch = Batch::new();
        batch.get_link(ROUTER_INDEX);
        let mut up = false;
        route.query(&batch.finish(), |message| {
            // The attributes of a link follow its struct ifinfomsg.
            up |= message.kind == RTM_NEWLINK
                && attributes(message.payload.get(16..).unwrap_or(&[]))
                    .any(|(kind, value)| kind == IFLA_OPERSTATE && value == [IF_OPER_UP]);
        })?;
        if up {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            return Err(NetlinkError::LinkStaysDown {
                index: ROUTER_INDEX,
                waited_ms: 1000,
            });
        }
        std::thread::sleep(PAUSE);
    }
}

fn rules_batch(tproxy_port: u16) -> FinishedBatch {
    let mut batch = Batch::new();
    router_rules(&mut batch, ROUTER_INDEX, tproxy_port);
    batch.finish()
}

fn router_batch(config: &RouterConfig<'_>) -> Result<FinishedBatch, NetlinkError> {
    let addresses = &config.addresses;
    let near = VethEnd {
        name: interface_name(config.router_interface)?,
        index: ROUTER_INDEX,
        mac: ROUTER_MAC,
    };
    let far = VethEnd {
        name: interface_name(config.agent_interface)?,
        index: AGENT_INDEX,
        mac: AGENT_MAC,
    };
    let mut batch = Batch::new();
    batch.bring_up(LOOPBACK_INDEX);
    batch.create_veth_pair(&near, &far, config.mtu, config.agent_namespace);
    if addresses.v6.is_some() {
        batch.disable_automatic_v6_address(ROUTER_INDEX);
    }
    batch.bring_up(ROUTER_INDEX);
    let v6 = addresses
        .v6
        .map(|v6| (IpAddr::V6(v6.router), IpAddr::V6(v6.agent), 128));
    let v4 = (
        IpAddr::V4(addresses.router),
        IpAddr::V4(addresses.agent),
        32,
    );
    for (router, agent, bits) in std::iter::once(v4).chain(v6) {
        // Without a prefix route: all neighbours but the agent are to be local addresses.
        batch.add_address(ROUTER_INDEX, router, bits);
        batch.add_host_route(ROUTER_INDEX, agent);
        batch.add_local_default_route(agent);
        batch.add_neighbour(ROUTER_INDEX, agent, AGENT_MAC);
    }
    if addresses.v6.is_some() {
        batch.add_link_local_route(ROUTER_INDEX);
    }
    Ok(batch.finish())
}

fn agent_batch(config: &AgentLinkConfig) -> FinishedBatch {
    let addresses = &config.addresses;
    let mut batch = Batch::new();
    batch.bring_up(LOOPBACK_INDEX);
    if addresses.v6.is_some() {
        batch.disable_automatic_v6_address(AGENT_INDEX);
    }
    batch.bring_up(AGENT_INDEX);
    let v6 = addresses
        .v6
        .map(|v6| (IpAddr::V6(v6.agent), IpAddr::V6(v6.router), v6.prefix));
    let v4 = (
        IpAddr::V4(addresses.agent),
        IpAddr::V4(addresses.router),
        addresses.prefix,
    );
    for (agent, router, prefix) in std::iter::once(v4).chain(v6) {
        batch.add_address(AGENT_INDEX, agent, prefix);
        batch.add_default_route(AGENT_INDEX, router);
        batch.add_neighbour(AGENT_INDEX, router, ROUTER_MAC);
    }
    batch.finish()
}

/// Checks what the kernel checks (`dev_valid_name` in `net/core/dev.c`), for a better message.
fn interface_name(name: &str) -> Result<&str, NetlinkError> {
    const LONGEST: usize = 15; // IFNAMSIZ - 1
    let valid = !name.is_empty()
        && name.len() <= LONGEST
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|byte| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace());
    if valid {
        Ok(name)
    } else {
        Err(NetlinkError::Unusable {
            what: "interface name",
            value: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
