//! Transparent sockets: they accept what was sent to any address and answer in that address's name.
//!
//! All sockets are non-blocking. Dual-stack sockets report IPv4 peers and destinations as IPv4 addresses, never as
//! mapped ones (RFC 4291, 2.5.5.2); callers pass IPv4 addresses in and need not know about mapping.
//!
//! Must not: decide who may send what; that is the router's rules and the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::SysError;
use crate::sockopt::{last_errno, set_socket_option, socket_option};

mod batch;

pub use batch::{Outgoing, ReceiveBatch, Received, send_many};

/// Which Internet protocols a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamilies {
    /// IPv4 and IPv6 with one dual-stack socket.
    Both,
    /// IPv4 alone, for kernels without IPv6.
    V4Only,
}

/// Connections waiting to be accepted; the kernel cuts it to `net.core.somaxconn` (4096).
const BACKLOG: i32 = 4096;

/// Opens a TCP listener on `port` of all addresses that also accepts connections to foreign addresses.
///
/// `getsockname(2)` of an accepted socket is the address the peer wanted to reach.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` in the user namespace of the network namespace (`IP_TRANSPARENT`, `ip(7)`);
/// `EAFNOSUPPORT` on a kernel without IPv6; `EADDRINUSE`.
pub fn transparent_tcp_listener(port: u16, families: IpFamilies) -> Result<OwnedFd, SysError> {
    let socket = transparent_socket(SocketType::STREAM, families)?;
    bind_all_addresses(&socket, port, families)?;
    rustix::net::listen(&socket, BACKLOG)
        .map_err(|errno| SysError::new("listen(2)", describe(port), errno))?;
    Ok(socket)
}

/// Opens a UDP socket on `port` of all addresses that also receives datagrams to foreign addresses.
///
/// # Errors
/// As [`transparent_tcp_listener`]; `EACCES` for a port below 1024 without `CAP_NET_BIND_SERVICE`.
pub fn transparent_udp_socket(port: u16, families: IpFamilies) -> Result<OwnedFd, SysError> {
    let socket = transparent_socket(SocketType::DGRAM, families)?;
    set(&socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR)?;
    if families == IpFamilies::Both {
        set(&socket, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR)?;
    }
    bind_all_addresses(&socket, port, families)?;
    Ok(socket)
}

/// Opens a raw IPv4 socket that sends packets as they are given, header included (`raw(7)`, `IPPROTO_RAW`).
///
/// The source address is free, and nothing can be received. The kernel fills in checksum and length of the IPv4 header and does
/// not cut packets: one that is longer than the link's MTU is refused with `EMSGSIZE`.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW` in the user namespace of the network namespace. Sending needs no right.
pub fn raw_sender_v4() -> Result<OwnedFd, SysError> {
    raw_sender(AddressFamily::INET)
}

/// Opens a raw IPv6 socket that sends packets as they are given (`ipv6(7)`), as [`raw_sender_v4`]; nothing is filled in.
///
/// # Errors
/// As [`raw_sender_v4`]; `EAFNOSUPPORT` on a kernel without IPv6.
pub fn raw_sender_v6() -> Result<OwnedFd, SysError> {
    raw_sender(AddressFamily::INET6)
}

fn raw_sender(family: AddressFamily) -> Result<OwnedFd, SysError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(rustix::net::ipproto::RAW);
    rustix::net::socket_with(family, SocketType::RAW, flags, protocol)
        .map_err(SysError::at("socket(2)", "raw socket"))
}

fn transparent_socket(kind: SocketType, families: IpFamilies) -> Result<OwnedFd, SysError> {
    let family = match families {
        IpFamilies::Both => AddressFamily::INET6,
        IpFamilies::V4Only => AddressFamily::INET,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)
        .map_err(|errno| SysError::new("socket(2)", "transparent socket", errno))?;
    sockopt::set_socket_reuseaddr(&socket, true)
        .map_err(|errno| SysError::new("setsockopt(2)", "SO_REUSEADDR", errno))?;
    set(&socket, libc::SOL_IP, libc::IP_TRANSPARENT)?;
    if families == IpFamilies::Both {
        sockopt::set_ipv6_v6only(&socket, false)
            .map_err(|errno| SysError::new("setsockopt(2)", "IPV6_V6ONLY", errno))?;
        set(&socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT)?;
    }
    Ok(socket)
}

fn set(socket: &OwnedFd, level: i32, option: i32) -> Result<(), SysError> {
    set_socket_option(socket.as_fd(), level, option, 1).map_err(|errno| {
        let name = match (level, option) {
            (libc::SOL_IP, libc::IP_TRANSPARENT) => "IP_TRANSPARENT",
            (libc::SOL_IP, libc::IP_RECVORIGDSTADDR) => "IP_RECVORIGDSTADDR",
            (libc::SOL_IPV6, libc::IPV6_TRANSPARENT) => "IPV6_TRANSPARENT",
            (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR) => "IPV6_RECVORIGDSTADDR",
            _ => "socket option",
        };
        SysError::new("setsockopt(2)", name, errno)
    })
}

fn bind_all_addresses(socket: &OwnedFd, port: u16, families: IpFamilies) -> Result<(), SysError> {
    let address = match families {
        IpFamilies::Both => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpFamilies::V4Only => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    rustix::net::bind(socket, &SocketAddr::new(address, port))
        .map_err(|errno| SysError::new("bind(2)", describe(port), errno))
}

fn describe(port: u16) -> String {
    format!("port {port}")
}

/// The longest packet that the path to a connected socket's peer takes, as far as the kernel knows (`IP_MTU` in `ip(7)`, `IPV6_MTU`
/// in `ipv6(7)`).
///
/// # Errors
/// `ENOTCONN`.
pub fn path_mtu(socket: BorrowedFd<'_>) -> Result<u32, SysError> {
    let failed = |errno| SysError::new("getsockopt(2)", "IP_MTU", errno);
    let (level, option) = match sockopt::socket_domain(socket).map_err(failed)? {
        AddressFamily::INET => (libc::SOL_IP, libc::IP_MTU),
        _ => (libc::SOL_IPV6, libc::IPV6_MTU),
    };
    let mtu = socket_option(socket, level, option).map_err(failed)?;
    u32::try_from(mtu).map_err(|_| failed(Errno::INVAL))
}

/// Makes the kernel refuse datagrams that are too long for the path, with `EMSGSIZE`, where it would cut them
/// (`IP_MTU_DISCOVER` in `ip(7)`).
///
/// # Errors
/// None that depends on the caller.
pub fn forbid_fragments(socket: BorrowedFd<'_>) -> Result<(), SysError> {
    let failed = |errno| SysError::new("setsockopt(2)", "IP_MTU_DISCOVER", errno);
    let (level, option, value) = match sockopt::socket_domain(socket).map_err(failed)? {
        AddressFamily::INET => (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        _ => (
            libc::SOL_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        ),
    };
    set_socket_option(socket, level, option, value).map_err(failed)
}

/// A received datagram; its bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes in the buffer.
    pub length: usize,
    /// The datagram was longer than the buffer; the rest is lost.
    pub truncated: bool,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub original_destination: SocketAddr,
}

/// Space for the control messages of one datagram: two of at most 48 bytes are expected.
const CONTROL_SPACE: usize = 256;

/// `struct cmsghdr` has to be aligned like a `usize` (`cmsg(3)`).
#[repr(C, align(8))]
struct Control([u8; CONTROL_SPACE]);

/// `struct sockaddr_storage` in size and alignment.
#[repr(C, align(8))]
struct Name([u8; 128]);

/// Receives a datagram together with its original destination: `recvmsg(2)`.
///
/// # Errors
/// `EAGAIN` when none is waiting. `EBADMSG` for a datagram without (readable) destination: the socket was not
/// opened with [`transparent_udp_socket`]; the datagram is consumed.
pub fn recv_with_original_destination(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Datagram, SysError> {
    let mut name = Name([0; 128]);
    let mut control = Control([0; CONTROL_SPACE]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut header = empty_header();
    header.msg_name = name.0.as_mut_ptr().cast();
    header.msg_namelen = 128;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_SPACE as _;
    // SAFETY:
    // - the descriptor is borrowed and so stays open during the call;
    // - `header` and `vector` are on this stack frame; the kernel reads both and writes lengths and flags into
    //   `header`;
    // - `msg_name` and `msg_control` point to arrays of this frame with exactly the lengths given, `iov_base` to
    //   the caller's buffer, which is borrowed mutably and has `iov_len` bytes; the kernel writes no more than that;
    // - nothing else refers to these buffers during the call; afterwards they are read as plain bytes.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(received)
        .map_err(|_| SysError::new("recvmsg(2)", String::new(), last_errno()))?;

    let unreadable = || SysError::new("recvmsg(2)", "datagram without addresses", Errno::BADMSG);
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(unreadable());
    }
    #[allow(
        clippy::useless_conversion,
        reason = "the length is 32 bits wide with other C libraries"
    )]
    let used = usize::try_from(header.msg_controllen).map_err(|_| unreadable())?;
    let control = control.0.get(..used).ok_or_else(unreadable)?;
    let original_destination = original_destination(control).ok_or_else(unreadable)?;
    Ok(Datagram {
        length,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        source: socket_address(&name.0).ok_or_else(unreadable)?,
        original_destination,
    })
}

/// Sends a datagram with `source` as its source address: `sendmsg(2)` with packet information (`ip(7)`, `ipv6(7)`).
///
/// The source port is the one the socket is bound to. Returns the number of bytes sent, which is all.
///
/// # Errors
/// `EAGAIN` when the socket's buffer is full; `EINVAL` when `source` and `destination` are of different families;
/// `EPERM` when the router's rules refuse the datagram.
pub fn send_from(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    source: IpAddr,
    destination: SocketAddr,
) -> Result<usize, SysError> {
    let failed = |errno| SysError::new("sendmsg(2)", destination.to_string(), errno);
    let dual_stack = sockopt::socket_domain(socket).map_err(failed)? == AddressFamily::INET6;
    let (name, name_length) = if dual_stack {
        encode_v6(mapped(destination))
    } else {
        encode_v4(destination).ok_or_else(|| failed(Errno::AFNOSUPPORT))?
    };
    // An IPv4 datagram takes the IPv4 form of packet information on a dual-stack socket, too.
    let (mut control, control_length) =
        match (source.to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(_)) => {
                // struct in_pktinfo: interface index, source address, (header destination, ignored).
                let mut data = [0_u8; 12];
                data[4..8].copy_from_slice(&source.octets());
                control_message(libc::SOL_IP, libc::IP_PKTINFO, &data)
            }
            (IpAddr::V6(source), IpAddr::V6(_)) => {
                // struct in6_pktinfo: source address, interface index.
                let mut data = [0_u8; 20];
                data[..16].copy_from_slice(&source.octets());
                control_message(libc::SOL_IPV6, libc::IPV6_PKTINFO, &data)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(failed(Errno::INVAL));
            }
        };

    let mut name = name;
    let mut vector = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut header = empty_header();
    header.msg_name = name.0.as_mut_ptr().cast();
    header.msg_namelen = name_length;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control_length as _;
    // SAFETY:
    // - the descriptor is borrowed and so stays open during the call;
    // - `header`, `vector`, `name` and `control` are on this stack frame and outlive the call; the lengths given
    //   are the numbers of bytes initialised in them;
    // - `iov_base` points to `payload`, which is borrowed and has `iov_len` bytes; the kernel reads through all of
    //   these pointers and writes through none, so dropping `const` is harmless.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| failed(last_errno()))
}

fn empty_header() -> libc::msghdr {
    // SAFETY: `msghdr` consists of integers and raw pointers (and, with some C libraries, private padding), for all
    // of which zero is a valid value; it stands for "no name, no data, no control messages".
    unsafe { std::mem::zeroed() }
}

/// Bytes of `struct cmsghdr`, a multiple of its alignment.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

const fn align_control(length: usize) -> usize {
    let alignment = size_of::<usize>();
    length.div_ceil(alignment) * alignment
}

/// Goes through control messages (`cmsg(3)`): a `usize` length, level and type as `int`, data, padding.
fn control_messages(bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, fields) = rest.split_first_chunk::<{ size_of::<usize>() }>()?;
        let length = usize::from_ne_bytes(*length);
        let (level, fields) = fields.split_first_chunk::<4>()?;
        let kind = fields.first_chunk::<4>()?;
        let data = rest.get(CONTROL_HEADER..length)?;
        rest = rest.get(align_control(length)..).unwrap_or(&[]);
        Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
    })
}

/// The original destination among control messages.
fn original_destination(control: &[u8]) -> Option<SocketAddr> {
    control_messages(control).find_map(|(level, kind, data)| match (level, kind) {
        (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
            socket_address(data)
        }
        _ => None,
    })
}

/// Builds one control message and returns the bytes used.
fn control_message(level: i32, kind: i32, data: &[u8]) -> (Control, usize) {
    let mut control = Control([0; CONTROL_SPACE]);
    let length = CONTROL_HEADER + data.len();
    let word = size_of::<usize>();
    control.0[..word].copy_from_slice(&length.to_ne_bytes());
    control.0[word..word + 4].copy_from_slice(&level.to_ne_bytes());
    control.0[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
    control.0[CONTROL_HEADER..length].copy_from_slice(data);
    (control, align_control(length))
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6` (`ip(7)`, `ipv6(7)`); a mapped address becomes an IPv4 one.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let address = match family {
        libc::AF_INET => IpAddr::from(*bytes.get(4..)?.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*bytes.get(8..)?.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn mapped(address: SocketAddr) -> SocketAddrV6 {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
        SocketAddr::V6(v6) => v6,
    }
}

fn encode_v6(address: SocketAddrV6) -> (Name, libc::socklen_t) {
    let mut name = Name([0; 128]);
    name.0[..2].copy_from_slice(&FAMILY_V6.to_ne_bytes());
    name.0[2..4].copy_from_slice(&address.port().to_be_bytes());
    name.0[8..24].copy_from_slice(&address.ip().octets());
    name.0[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
    (name, 28)
}

fn encode_v4(address: SocketAddr) -> Option<(Name, libc::socklen_t)> {
    let IpAddr::V4(ip) = address.ip().to_canonical() else {
        return None;
    };
    let address = SocketAddrV4::new(ip, address.port());
    let mut name = Name([0; 128]);
    name.0[..2].copy_from_slice(&FAMILY_V4.to_ne_bytes());
    name.0[2..4].copy_from_slice(&address.port().to_be_bytes());
    name.0[4..8].copy_from_slice(&address.ip().octets());
    Some((name, 16))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "address family numbers are 2 and 10 (linux/socket.h), sa_family_t has 16 bits"
)]
const FAMILY_V4: u16 = libc::AF_INET as u16;
#[expect(clippy::cast_possible_truncation, reason = "as FAMILY_V4")]
const FAMILY_V6: u16 = libc::AF_INET6 as u16;

#[cfg(test)]
mod tests;
