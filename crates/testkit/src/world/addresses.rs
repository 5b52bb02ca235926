//! Every address and name of the test world, in one place, for its servers and for the tests.
//!
//! Public-looking addresses are the documentation ranges (RFC 5737, RFC 3849). No address here is ever used outside
//! the world's own network namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host's public-looking IPv4 address; the sandbox must refuse it although it looks public.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The host's public-looking IPv6 address.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The host's address on its LAN.
pub const HOST_LAN_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// The host's unique local address (RFC 4193).
pub const HOST_LAN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);
/// The next hop of the host's default route.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
/// The resolver in `/etc/resolv.conf`: dnsmasq.
pub const RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The same resolver on IPv6.
pub const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
/// A name server with a mind of its own: see [`crate::world::zone::STRANGE_NAMES`].
pub const STRANGE_RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 55);
/// The same strange server under addresses that a program could ask directly: public-looking, LAN, cloud.
pub const EXTRA_RESOLVERS_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(198, 51, 100, 53),
    Ipv4Addr::new(192, 168, 77, 53),
    Ipv4Addr::new(169, 254, 169, 253),
];
/// `allowed.example`.
pub const ALLOWED_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// `allowed.example`.
pub const ALLOWED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// `denied.example`.
pub const DENIED_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// `denied.example`.
pub const DENIED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20);
/// `api.agent.example`: the stand-in of the Messages API.
pub const API_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 40);
/// `git.example`: git over https and over ssh.
pub const GIT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 41);
/// `registry.example`: a cargo index, an npm registry and a Python index.
pub const REGISTRY_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 42);
/// Packets to this address vanish: no answer, no error.
pub const BLACKHOLE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
/// Packets to this address vanish.
pub const BLACKHOLE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1);
/// The metadata service of clouds.
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// TCP and UDP port that sends back what it gets (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// TCP port that reads everything and says nothing (RFC 863).
pub const DISCARD_PORT: u16 = 9;
/// TCP port that sends zero bytes for ever.
pub const SOURCE_PORT: u16 = 19;
/// sshd.
pub const SSH_PORT: u16 = 22;
/// HTTP.
pub const HTTP_PORT: u16 = 80;
/// UDP port that answers like an NTP server (mode 4, stratum 1).
pub const NTP_PORT: u16 = 123;
/// UDP port that answers a number with so many datagrams, numbered from 0: like a game's server.
pub const MANY_PORT: u16 = 4003;
/// HTTPS.
pub const HTTPS_PORT: u16 = 443;
/// TCP port that reads until the end of the stream and then answers `got N bytes`.
pub const COUNT_PORT: u16 = 4000;
/// TCP port that sends `end of my half`, closes its half, and goes on reading (bytes show in the counters).
pub const HALF_PORT: u16 = 4001;
/// TCP port that accepts and resets the connection at once.
pub const RESET_PORT: u16 = 4002;
/// Plain HTTP on an unusual port.
pub const HTTP_ALT_PORT: u16 = 8080;
/// HTTPS on an unusual port.
pub const HTTPS_ALT_PORT: u16 = 8443;

/// Stream sockets of [`super::WorldConfig::host_sockets`]; `UID` stands for the user's. Each answers `hello from PATH`.
pub const HOST_SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/libvirt/libvirt-sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/user/UID/bus",
    "/run/user/UID/systemd/private",
    "/run/user/UID/podman/podman.sock",
    "/run/user/UID/gvfsd/socket",
    "/run/user/UID/gnupg/S.gpg-agent",
    "/run/user/UID/keyring/ssh",
];
/// Datagram sockets of the same.
pub const HOST_DATAGRAM_SOCKETS: &[&str] = &["/run/systemd/journal/socket", "/run/systemd/notify"];
/// Abstract stream sockets of the same.
pub const HOST_ABSTRACT_SOCKETS: &[&str] = &["rcc-test-host", "/tmp/.X11-unix/X0"];

/// IPv4 networks whose every address answers on the inet side.
pub const ANSWERING_V4: &[&str] = &[
    "203.0.113.0/24",
    "198.51.100.0/24",
    "192.0.2.0/24",
    "192.168.77.0/24",
    "10.77.0.0/24",
    "172.16.77.0/24",
    "100.64.77.0/24",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "240.0.0.0/8",
];

/// IPv6 networks whose every address answers on the inet side.
pub const ANSWERING_V6: &[&str] = &[
    "2001:db8::/32",
    "fd00:77::/64",
    "fd00:ec2::/64",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "2001::/32",
    "fec0::/10",
];

/// A class of addresses that a sandbox must refuse, with one that really answers from the host.
#[derive(Debug, Clone, Copy)]
pub struct Forbidden {
    /// Short word; `rebind-<class>.example` points to the address.
    pub class: &'static str,
    /// The address.
    pub address: IpAddr,
    /// Does a TCP connection from the host to port 80 of it succeed?
    pub answers: bool,
}

const fn v4(class: &'static str, address: [u8; 4], answers: bool) -> Forbidden {
    let [a, b, c, d] = address;
    Forbidden {
        class,
        address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        answers,
    }
}

const fn v6(class: &'static str, s: [u16; 8], answers: bool) -> Forbidden {
    let address = Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
    Forbidden {
        class,
        address: IpAddr::V6(address),
        answers,
    }
}

/// One or more addresses of every class that no sandbox may reach without a literal rule.
pub const FORBIDDEN: &[Forbidden] = &[
    v4("loopback", [127, 0, 0, 1], true),
    v4("loopback-other", [127, 77, 0, 1], true),
    v6("loopback6", [0, 0, 0, 0, 0, 0, 0, 1], true),
    v4("unspecified", [0, 0, 0, 0], true),
    v6("unspecified6", [0; 8], true),
    v4("lan10", [10, 77, 0, 10], true),
    v4("lan172", [172, 16, 77, 10], true),
    v4("lan192", [192, 168, 77, 10], true),
    v4("cgnat", [100, 64, 77, 10], true),
    v4("linklocal", [169, 254, 10, 10], true),
    v4("metadata", [169, 254, 169, 254], true),
    v6("metadata6", [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], true),
    v6("ula", [0xfd00, 0x77, 0, 0, 0, 0, 0, 0x10], true),
    v6("sitelocal", [0xfec0, 0, 0, 0, 0, 0, 0, 0x10], true),
    v4("host", [203, 0, 113, 1], true),
    v6("host6", [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], true),
    v4("host-lan", [192, 168, 77, 1], true),
    v6("host-lan6", [0xfd00, 0x77, 0, 0, 0, 0, 0, 1], true),
    v6("mapped-lan", [0, 0, 0, 0, 0, 0xffff, 0xc0a8, 0x4d0a], true),
    v6("mapped-loopback", [0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], true),
    v6(
        "mapped-metadata",
        [0, 0, 0, 0, 0, 0xffff, 0xa9fe, 0xa9fe],
        true,
    ),
    v6("mapped-host", [0, 0, 0, 0, 0, 0xffff, 0xcb00, 0x7101], true),
    v6(
        "nat64-lan",
        [0x64, 0xff9b, 0, 0, 0, 0, 0xc0a8, 0x4d0a],
        true,
    ),
    v6(
        "nat64-loopback",
        [0x64, 0xff9b, 0, 0, 0, 0, 0x7f00, 1],
        true,
    ),
    v6(
        "nat64-metadata",
        [0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe],
        true,
    ),
    v6(
        "nat64-local",
        [0x64, 0xff9b, 1, 0, 0, 0, 0xc0a8, 0x4d0a],
        true,
    ),
    v6("6to4-lan", [0x2002, 0xc0a8, 0x4d0a, 0, 0, 0, 0, 1], true),
    v6("6to4-loopback", [0x2002, 0x7f00, 1, 0, 0, 0, 0, 1], true),
    v6(
        "6to4-metadata",
        [0x2002, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1],
        true,
    ),
    // RFC 4380: the client's address is inverted in the last 32 bits; here 192.168.77.10.
    v6(
        "teredo-lan",
        [0x2001, 0, 0xcb00, 0x7137, 0, 0, 0x3f57, 0xb2f5],
        true,
    ),
    v6("compatible-lan", [0, 0, 0, 0, 0, 0, 0xc0a8, 0x4d0a], false),
    v4("benchmark", [198, 18, 200, 10], true),
    v4("ietf", [192, 0, 0, 8], true),
    v4("reserved", [240, 0, 0, 10], true),
    v4("broadcast", [255, 255, 255, 255], false),
    v4("multicast", [224, 0, 0, 251], false),
    v6("multicast6", [0xff02, 0, 0, 0, 0, 0, 0, 0xfb], false),
    v6("linklocal6", [0xfe80, 0, 0, 0, 0, 0, 0, 2], false),
];
