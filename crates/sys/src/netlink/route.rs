//! The rtnetlink messages that the link between agent and router needs (`rtnetlink(7)`).
//!
//! Must not: send anything, or know which addresses and names the caller uses.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::batch::{Batch, Step};
use super::constants::{
    IFA_ADDRESS, IFA_F_NODAD, IFA_LOCAL, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_EXT_MASK,
    IFLA_IFNAME, IFLA_INET6_ADDR_GEN_MODE, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU,
    IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, IN6_ADDR_GEN_MODE_NONE, LOOPBACK_INDEX,
    NDA_DST, NDA_LLADDR, NLM_F_CREATE, NLM_F_EXCL, NUD_PERMANENT, RT_SCOPE_HOST, RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE, RT_TABLE_LOCAL, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF,
    RTEXT_FILTER_SKIP_STATS, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE,
    RTM_SETLINK, RTN_LOCAL, RTN_UNICAST, RTPROT_BOOT, VETH_INFO_PEER,
};

/// Link-local addresses of IPv6 (RFC 4291 section 2.4).
const LINK_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// An Ethernet address.
pub(super) type MacAddress = [u8; 6];

/// One end of a veth pair.
pub(super) struct VethEnd<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
    pub(super) mac: MacAddress,
}

impl Batch {
    /// Creates a veth pair (`CONFIG_VETH`): one end in the namespace of the socket, the other in `peer_namespace`.
    ///
    /// Both ends stay down: an end cannot be brought up before its peer exists. Creating the peer where it belongs
    /// instead of moving it saves the grace periods that a move waits for. One queue in each direction: more would
    /// only cost memory here.
    pub(super) fn create_veth_pair(
        &mut self,
        near: &VethEnd<'_>,
        far: &VethEnd<'_>,
        mtu: u32,
        peer_namespace: BorrowedFd<'_>,
    ) {
        let step = Step {
            call: "RTM_NEWLINK",
            on: "veth pair",
            action: "create the veth pair between router and agent",
        };
        self.message(
            step,
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &link_header(near.index, 0, 0),
        );
        self.veth_end(near, mtu);
        let info = self.open(IFLA_LINKINFO);
        self.text(IFLA_INFO_KIND, "veth");
        let data = self.open(IFLA_INFO_DATA);
        let peer = self.open(VETH_INFO_PEER);
        self.structure(&link_header(far.index, 0, 0));
        self.veth_end(far, mtu);
        self.number(IFLA_NET_NS_FD, peer_namespace.as_raw_fd().cast_unsigned());
        self.close(peer);
        self.close(data);
        self.close(info);
    }

    fn veth_end(&mut self, end: &VethEnd<'_>, mtu: u32) {
        self.text(IFLA_IFNAME, end.name);
        self.number(IFLA_MTU, mtu);
        self.attribute(IFLA_ADDRESS, &end.mac);
        self.number(IFLA_NUM_TX_QUEUES, 1);
        self.number(IFLA_NUM_RX_QUEUES, 1);
    }

    /// Keeps the kernel from making a link-local IPv6 address when the interface comes up.
    ///
    /// A message of its own before the one that brings the interface up: in one message the kernel would look at
    /// the flag first (`do_setlink` in `net/core/rtnetlink.c`).
    pub(super) fn disable_automatic_v6_address(&mut self, index: u32) {
        let step = Step {
            call: "RTM_SETLINK",
            on: "veth",
            action: "switch automatic IPv6 addresses off",
        };
        self.message(step, RTM_SETLINK, 0, &link_header(index, 0, 0));
        let families = self.open(IFLA_AF_SPEC);
        let v6 = self.open(ADDRESS_FAMILY_V6);
        self.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        self.close(v6);
        self.close(families);
    }

    /// Brings an interface up.
    pub(super) fn bring_up(&mut self, index: u32) {
        let step = if index == LOOPBACK_INDEX {
            Step {
                call: "RTM_SETLINK",
                on: "lo",
                action: "bring the loopback interface up",
            }
        } else {
            Step {
                call: "RTM_SETLINK",
                on: "veth",
                action: "bring the veth interface up",
            }
        };
        self.message(step, RTM_SETLINK, 0, &link_header(index, IFF_UP, IFF_UP));
    }

    /// Gives an interface an address that is usable at once: without duplicate address detection (RFC 4862, 5.4).
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        let step = Step {
            call: "RTM_NEWADDR",
            on: family_name(address),
            action: "add an address to the veth interface",
        };
        // struct ifaddrmsg: family, prefix length, flags, scope (0: universe), interface index.
        let [a, b, c, d] = index.to_ne_bytes();
        let fixed = [family(address), prefix, IFA_F_NODAD, 0, a, b, c, d];
        self.message(step, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &fixed);
        self.address(IFA_LOCAL, address);
        self.address(IFA_ADDRESS, address);
        if let IpAddr::V6(address) = address {
            self.add_own_address_route(index, address);
        }
    }

    /// Routes everything through `gateway`.
    pub(super) fn add_default_route(&mut self, index: u32, gateway: IpAddr) {
        let step = Step {
            call: "RTM_NEWROUTE",
            on: family_name(gateway),
            action: "add the default route",
        };
        self.route(step, gateway, 0, RT_SCOPE_UNIVERSE, RTN_UNICAST);
        self.address(RTA_GATEWAY, gateway);
        self.number(RTA_OIF, index);
    }

    /// Routes one directly connected address.
    pub(super) fn add_host_route(&mut self, index: u32, destination: IpAddr) {
        let step = Step {
            call: "RTM_NEWROUTE",
            on: family_name(destination),
            action: "add the route to the agent",
        };
        let bits = if destination.is_ipv4() { 32 } else { 128 };
        self.route(step, destination, bits, RT_SCOPE_LINK, RTN_UNICAST);
        self.address(RTA_DST, destination);
        self.number(RTA_OIF, index);
    }

    /// Makes every address that has no better route an address of this namespace.
    ///
    /// `of_family` only says for which family.
    pub(super) fn add_local_default_route(&mut self, of_family: IpAddr) {
        let step = Step {
            call: "RTM_NEWROUTE",
            on: family_name(of_family),
            action: "deliver all addresses locally",
        };
        self.route(step, of_family, 0, RT_SCOPE_HOST, RTN_LOCAL);
        self.number(RTA_OIF, LOOPBACK_INDEX);
    }

    /// Makes every link-local IPv6 address an address of this namespace, seen from this interface.
    ///
    /// The default route of [`Self::add_local_default_route`] is one of the loopback interface, and for link-local addresses only
    /// routes of the very interface count (`rt6_need_strict` in `net/ipv6/route.c`). Without this one a connection to such an
    /// address would fail only after a second, at its first retransmission (seen).
    pub(super) fn add_link_local_route(&mut self, index: u32) {
        let step = Step {
            call: "RTM_NEWROUTE",
            on: "IPv6",
            action: "deliver link-local addresses locally",
        };
        let (network, bits) = LINK_LOCAL;
        let network = IpAddr::V6(network);
        self.route(step, network, bits, RT_SCOPE_UNIVERSE, RTN_LOCAL);
        self.address(RTA_DST, network);
        self.number(RTA_OIF, index);
    }

    /// Makes an IPv6 address of the interface reachable at once.
    ///
    /// The kernel adds this route by itself, but from a work queue, even without duplicate address detection
    /// (`addrconf_dad_start` in `net/ipv6/addrconf.c`); answers that arrive earlier would be dropped (seen). IPv4
    /// addresses need nothing like it.
    fn add_own_address_route(&mut self, index: u32, address: Ipv6Addr) {
        let step = Step {
            call: "RTM_NEWROUTE",
            on: "IPv6",
            action: "add the local route of an address",
        };
        let address = IpAddr::V6(address);
        self.route_in(
            RT_TABLE_LOCAL,
            step,
            address,
            128,
            RT_SCOPE_UNIVERSE,
            RTN_LOCAL,
        );
        self.address(RTA_DST, address);
        self.number(RTA_OIF, index);
    }

    fn route(&mut self, step: Step, of_family: IpAddr, bits: u8, scope: u8, kind: u8) {
        self.route_in(RT_TABLE_MAIN, step, of_family, bits, scope, kind);
    }

    fn route_in(
        &mut self,
        table: u8,
        step: Step,
        of_family: IpAddr,
        bits: u8,
        scope: u8,
        kind: u8,
    ) {
        // struct rtmsg: family, destination and source prefix length, tos, table, protocol, scope, type, flags.
        let fixed = [
            family(of_family),
            bits,
            0,
            0,
            table,
            RTPROT_BOOT,
            scope,
            kind,
            0,
            0,
            0,
            0,
        ];
        self.message(step, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &fixed);
    }

    /// Fixes the Ethernet address of a neighbour for ever.
    ///
    /// No packet has to wait for ARP or neighbour discovery, and permanent entries do not count against the limit
    /// of the neighbour table, which all namespaces of the host share (`gc_thresh3`, `arp(7)`).
    pub(super) fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: MacAddress) {
        let step = Step {
            call: "RTM_NEWNEIGH",
            on: family_name(address),
            action: "add the permanent neighbour entry",
        };
        // struct ndmsg: family, three bytes of padding, interface index, state, flags, type.
        let mut fixed = [0_u8; 12];
        fixed[0] = family(address);
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        self.message(step, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &fixed);
        self.address(NDA_DST, address);
        self.attribute(NDA_LLADDR, &mac);
    }

    /// Asks for the state of an interface.
    pub(super) fn get_link(&mut self, index: u32) {
        let step = Step {
            call: "RTM_GETLINK",
            on: "veth",
            action: "read the state of the veth interface",
        };
        self.message(step, RTM_GETLINK, 0, &link_header(index, 0, 0));
        self.number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "address family numbers are 2 and 10 (linux/socket.h); the fields of the messages have 8 and 16 bits"
)]
const FAMILY_V4: u8 = libc::AF_INET as u8;
#[expect(clippy::cast_possible_truncation, reason = "as FAMILY_V4")]
const FAMILY_V6: u8 = libc::AF_INET6 as u8;
/// The family as attribute number inside `IFLA_AF_SPEC`.
const ADDRESS_FAMILY_V6: u16 = FAMILY_V6 as u16;

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => FAMILY_V4,
        IpAddr::V6(_) => FAMILY_V6,
    }
}

const fn family_name(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// `struct ifinfomsg`: family (any), padding, device type (any), index, flags, which flags to change.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}
