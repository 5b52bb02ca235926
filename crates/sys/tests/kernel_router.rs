//! What the router needs from a real kernel: the configured pair of namespaces behaves as the design says.
//!
//! No packet leaves the namespaces; the addresses are for documentation (RFC 5737, RFC 3849).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests, outside the functions that Clippy knows as tests"
)]

mod namespaces;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use namespaces::{Namespace, in_new_namespaces};
use rcc_sys::netlink::router::{self, AgentLinkConfig, LinkAddresses, LinkV6, RouterConfig};
use rcc_sys::netlink::{NetfilterSocket, NetlinkError, RouteSocket, interface_addresses};
use rcc_sys::socket::{
    IpFamilies, Outgoing, ReceiveBatch, raw_sender_v4, raw_sender_v6,
    recv_with_original_destination, send_from, send_many, transparent_tcp_listener,
    transparent_udp_socket,
};
use rcc_testkit::require;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

const ADDRESSES: LinkAddresses = LinkAddresses {
    agent: Ipv4Addr::new(198, 18, 0, 2),
    router: Ipv4Addr::new(198, 18, 0, 1),
    prefix: 24,
    v6: Some(LinkV6 {
        agent: Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 2),
        router: Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 1),
        prefix: 64,
    }),
};
const TPROXY_PORT: u16 = 4000;
/// Long enough for a busy machine; no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(5);
/// What "at once" means: far below the first retransmission of TCP (one second).
const AT_ONCE: Duration = Duration::from_millis(500);

fn config(agent: &Namespace) -> RouterConfig<'_> {
    RouterConfig {
        router_interface: "rcc0",
        agent_interface: "eth0",
        agent_namespace: agent.as_fd(),
        mtu: 65_520,
        addresses: ADDRESSES,
        tproxy_port: TPROXY_PORT,
    }
}

/// Configures both sides; the calling thread is in the router's namespace.
fn configured() -> Namespace {
    let agent = Namespace::new();
    configure(&agent);
    agent
}

fn configure(agent: &Namespace) {
    let route = RouteSocket::open().unwrap();
    let netfilter = NetfilterSocket::open().unwrap();
    router::configure(&route, &netfilter, &config(agent)).unwrap();
    agent.run(|| {
        let route = RouteSocket::open().unwrap();
        router::configure_agent(
            &route,
            &AgentLinkConfig {
                addresses: ADDRESSES,
            },
        )
        .unwrap();
    });
    router::wait_until_up(&route).unwrap();
}

fn listener() -> TcpListener {
    TcpListener::from(transparent_tcp_listener(TPROXY_PORT, IpFamilies::Both).unwrap())
}

fn wait_readable(socket: impl AsFd) {
    let timeout = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    let ready = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "nothing arrived within {PATIENCE:?}");
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or_else(|| panic!("no errno in {error:?}"))
}

#[test]
fn tcp_arrives_with_its_original_destination() {
    in_new_namespaces("tcp_arrives_with_its_original_destination", || {
        let agent = configured();
        let listener = listener();
        for wanted in [
            "203.0.113.7:443",
            "[2001:db8::7]:22",
            "198.51.100.9:53",
            "198.18.0.1:80",
            "198.18.0.77:80",
            "[fd72:6363::1]:8080",
            "[fd72:6363:0:1::5]:443",
        ] {
            let wanted: SocketAddr = wanted.parse().unwrap();
            let client = agent.run(move || {
                let mut stream = TcpStream::connect_timeout(&wanted, PATIENCE).unwrap();
                stream.write_all(b"question").unwrap();
                stream
            });
            wait_readable(&listener);
            let (mut accepted, peer) = listener.accept().unwrap();
            let local = accepted.local_addr().unwrap();
            assert_eq!(canonical(local), wanted);
            assert_eq!(canonical(peer), client.local_addr().unwrap());
            accepted.set_nonblocking(false).unwrap();
            let mut question = [0; 8];
            accepted.read_exact(&mut question).unwrap();
            accepted.write_all(b"answer").unwrap();
            drop(accepted);
            let mut answer = String::new();
            { client }.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer");
        }
    });
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[test]
fn the_first_connection_after_configuration_is_not_delayed() {
    in_new_namespaces(
        "the_first_connection_after_configuration_is_not_delayed",
        || {
            let listener = listener();
            let agent = configured();
            for wanted in ["203.0.113.7:443", "[2001:db8::7]:443"] {
                let wanted: SocketAddr = wanted.parse().unwrap();
                let took = agent.run(move || {
                    let start = Instant::now();
                    TcpStream::connect_timeout(&wanted, PATIENCE).unwrap();
                    start.elapsed()
                });
                assert!(took < AT_ONCE, "connecting to {wanted} took {took:?}");
            }
            drop(listener);
        },
    );
}

#[test]
fn dns_is_answered_in_the_name_of_the_original_destination() {
    in_new_namespaces(
        "dns_is_answered_in_the_name_of_the_original_destination",
        || {
            let agent = configured();
            let server = transparent_udp_socket(53, IpFamilies::Both).unwrap();
            for wanted in [
                "203.0.113.53:53",
                "[2001:db8::53]:53",
                "198.18.0.1:53",
                "[fd72:6363::1]:53",
            ] {
                let wanted: SocketAddr = wanted.parse().unwrap();
                let (client, from) = agent.run(move || {
                    let any = if wanted.is_ipv4() {
                        "0.0.0.0:0"
                    } else {
                        "[::]:0"
                    };
                    let client = UdpSocket::bind(any).unwrap();
                    client.connect(wanted).unwrap(); // a connected socket takes answers from that address only
                    client.send(b"question").unwrap();
                    client.set_read_timeout(Some(PATIENCE)).unwrap();
                    let from = client.local_addr().unwrap();
                    (client, from)
                });
                wait_readable(&server);
                let mut buffer = [0; 64];
                let datagram = recv_with_original_destination(server.as_fd(), &mut buffer).unwrap();
                assert_eq!(&buffer[..datagram.length], b"question");
                assert_eq!(datagram.original_destination, wanted);
                assert_eq!(datagram.source, from);
                assert!(!datagram.truncated);
                let sent = send_from(
                    server.as_fd(),
                    b"answer",
                    datagram.original_destination.ip(),
                    datagram.source,
                );
                assert_eq!(sent, Ok(6));
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], b"answer");
            }
        },
    );
}

#[test]
fn an_ipv4_only_dns_socket_works_too() {
    in_new_namespaces("an_ipv4_only_dns_socket_works_too", || {
        let agent = configured();
        let server = transparent_udp_socket(53, IpFamilies::V4Only).unwrap();
        let wanted: SocketAddr = "203.0.113.53:53".parse().unwrap();
        let client = agent.run(move || {
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.connect(wanted).unwrap();
            client.send(&[7; 100]).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        });
        wait_readable(&server);
        let mut buffer = [0; 64];
        let datagram = recv_with_original_destination(server.as_fd(), &mut buffer).unwrap();
        assert_eq!((datagram.length, datagram.truncated), (64, true));
        assert_eq!(datagram.original_destination, wanted);
        send_from(server.as_fd(), b"answer", wanted.ip(), datagram.source).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        let mixed = send_from(
            server.as_fd(),
            b"x",
            "2001:db8::1".parse().unwrap(),
            datagram.source,
        );
        assert_eq!(mixed.unwrap_err().errno, Errno::INVAL);
        let nothing = recv_with_original_destination(server.as_fd(), &mut buffer);
        assert_eq!(nothing.unwrap_err().errno, Errno::AGAIN);
    });
}

#[test]
fn udp_without_a_gateway_is_refused_at_once() {
    in_new_namespaces("udp_without_a_gateway_is_refused_at_once", || {
        let agent = configured();
        // RFC 1812, 5.2.7.1 code 13 reaches programs as EHOSTUNREACH, RFC 4443, 3.1 code 1 as EACCES.
        for (wanted, expected) in [
            ("203.0.113.9:443", Errno::HOSTUNREACH),
            ("198.18.0.1:5353", Errno::HOSTUNREACH),
            ("[2001:db8::9]:443", Errno::ACCESS),
        ] {
            let wanted: SocketAddr = wanted.parse().unwrap();
            let (errno, took) = agent.run(move || {
                let any = if wanted.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let client = UdpSocket::bind(any).unwrap();
                client.connect(wanted).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let start = Instant::now();
                client.send(b"x").unwrap();
                let error = client.recv(&mut [0; 8]).unwrap_err();
                (errno_of(&error), start.elapsed())
            });
            assert_eq!(errno, expected, "{wanted}");
            assert!(took < AT_ONCE, "the refusal of {wanted} took {took:?}");
        }
    });
}

fn outgoing(packet: &[u8], to: IpAddr) -> Outgoing<'_> {
    Outgoing {
        header: packet,
        payload: &[],
        to: Some(to),
    }
}

/// RFC 791, 3.1; the kernel fills in length and checksum.
fn ipv4_packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(body);
    packet
}

/// RFC 8200, 3, with a UDP header whose checksum makes the sum right (RFC 768).
fn ipv6_datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (source.ip(), destination.ip()) else {
        panic!("IPv6 addresses")
    };
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut udp = source.port().to_be_bytes().to_vec();
    for number in [destination.port(), length, 0] {
        udp.extend_from_slice(&number.to_be_bytes());
    }
    udp.extend_from_slice(payload);
    let addresses = [from.octets(), to.octets()].concat();
    let pseudo = [
        addresses.as_slice(),
        &[0, 0],
        &length.to_be_bytes(),
        &[0, 0, 0, 17],
        &udp,
    ]
    .concat();
    let sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[17, 64]);
    packet.extend_from_slice(&addresses);
    packet.extend_from_slice(&udp);
    packet
}

#[test]
fn datagrams_arrive_in_batches_and_raw_sockets_answer_in_any_name_from_elsewhere() {
    in_new_namespaces(
        "datagrams_arrive_in_batches_and_raw_sockets_answer_in_any_name_from_elsewhere",
        || {
            let agent = configured();
            let server = transparent_udp_socket(TPROXY_PORT, IpFamilies::Both).unwrap();
            let (raw_v4, raw_v6) = (raw_sender_v4().unwrap(), raw_sender_v6().unwrap());
            // Whoever holds the sockets may be in another namespace and needs no right: the gateway is.
            let elsewhere = Namespace::new();
            for wanted in ["203.0.113.7:443", "[2001:db8::7]:123", "198.18.0.1:4000"] {
                let wanted: SocketAddr = wanted.parse().unwrap();
                let (client, from) = agent.run(move || {
                    let any = if wanted.is_ipv4() {
                        "0.0.0.0:0"
                    } else {
                        "[::]:0"
                    };
                    let client = UdpSocket::bind(any).unwrap();
                    client.connect(wanted).unwrap();
                    client.send(b"first").unwrap();
                    client.send(b"").unwrap();
                    client.set_read_timeout(Some(PATIENCE)).unwrap();
                    let from = client.local_addr().unwrap();
                    (client, from)
                });
                let mut batch = ReceiveBatch::new(4, 3);
                let mut payloads = Vec::new();
                while payloads.len() < 2 {
                    wait_readable(&server);
                    batch.receive(server.as_fd()).unwrap();
                    for datagram in batch.datagrams() {
                        assert_eq!(datagram.original_destination, Some(wanted));
                        assert_eq!(datagram.source, Some(from));
                        payloads.push((datagram.payload.to_vec(), datagram.truncated));
                    }
                }
                assert_eq!(payloads, [(b"fir".to_vec(), true), (Vec::new(), false)]);
                assert_eq!(
                    batch.receive(server.as_fd()).unwrap_err().errno,
                    Errno::AGAIN
                );
                assert_eq!(batch.datagrams().count(), 0);

                let packet = match (wanted.ip(), from.ip()) {
                    (IpAddr::V4(source), IpAddr::V4(to)) => {
                        let ports =
                            [wanted.port().to_be_bytes(), from.port().to_be_bytes()].concat();
                        let udp = [ports.as_slice(), &[0, 14, 0, 0], b"answer"].concat();
                        ipv4_packet(source, to, 17, &udp)
                    }
                    _ => ipv6_datagram(wanted, from, b"answer"),
                };
                let raw = if wanted.is_ipv4() { &raw_v4 } else { &raw_v6 };
                let raw = raw.try_clone().unwrap();
                let sent = elsewhere.run(move || {
                    let twice = [outgoing(&packet, from.ip()), outgoing(&packet, from.ip())];
                    send_many(raw.as_fd(), &twice)
                });
                assert_eq!(sent, Ok(2));
                let mut buffer = [0; 64];
                for _ in 0..2 {
                    let length = client.recv(&mut buffer).unwrap();
                    assert_eq!(&buffer[..length], b"answer");
                }
            }
        },
    );
}

#[test]
fn many_refusals_in_a_row_are_all_prompt() {
    in_new_namespaces("many_refusals_in_a_row_are_all_prompt", || {
        let agent = configured();
        router::lift_icmp_limits(IpFamilies::Both).unwrap();
        for wanted in ["203.0.113.9:443", "[2001:db8::9]:443"] {
            let wanted: SocketAddr = wanted.parse().unwrap();
            let took = agent.run(move || {
                let client = UdpSocket::bind(if wanted.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                })
                .unwrap();
                client.connect(wanted).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let start = Instant::now();
                // The kernel's own limits would be six to one address and fifty in all.
                for _ in 0..100 {
                    client.send(b"x").unwrap();
                    assert_ne!(
                        errno_of(&client.recv(&mut [0; 8]).unwrap_err()),
                        Errno::AGAIN
                    );
                }
                start.elapsed()
            });
            assert!(took < AT_ONCE, "100 refusals of {wanted} took {took:?}");
        }
    });
}

#[test]
fn tcp_without_a_listener_is_refused_at_once() {
    in_new_namespaces("tcp_without_a_listener_is_refused_at_once", || {
        let agent = configured();
        for wanted in ["203.0.113.9:443", "[2001:db8::9]:443"] {
            let wanted: SocketAddr = wanted.parse().unwrap();
            let (errno, took) = agent.run(move || {
                let start = Instant::now();
                let error = TcpStream::connect(wanted).unwrap_err();
                (errno_of(&error), start.elapsed())
            });
            assert_eq!(errno, Errno::CONNREFUSED, "{wanted}");
            assert!(took < AT_ONCE, "the refusal of {wanted} took {took:?}");
        }
    });
}

#[test]
fn icmp_echo_is_refused() {
    in_new_namespaces("icmp_echo_is_refused", || {
        let agent = configured();
        agent.run(|| {
            // Positive control: the same request to the agent's own address is answered.
            assert_eq!(ping("198.18.0.2".parse().unwrap()), 0, "echo reply");
            assert_eq!(
                ping("203.0.113.9".parse().unwrap()),
                3,
                "destination unreachable"
            );
            assert_eq!(
                ping("198.18.0.1".parse().unwrap()),
                3,
                "destination unreachable"
            );
        });
    });
}

/// Sends an echo request and returns the type of the first other ICMP message that arrives.
fn ping(address: Ipv4Addr) -> u8 {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, socket_with};
    let socket: OwnedFd = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::ICMP),
    )
    .unwrap();
    // Type 8, code 0, checksum, identifier 0, sequence 0 (RFC 792).
    let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    rustix::net::sendto(
        &socket,
        &request,
        SendFlags::empty(),
        &SocketAddr::from((address, 0)),
    )
    .unwrap();
    loop {
        wait_readable(&socket);
        let mut packet = [0; 256];
        let (_, length) =
            rustix::net::recv(&socket, &mut packet, rustix::net::RecvFlags::empty()).unwrap();
        let header = usize::from(packet[0] & 0xf) * 4;
        assert!(length > header);
        if packet[header] != 8 {
            return packet[header];
        }
    }
}

#[test]
fn the_router_namespace_cannot_start_anything() {
    in_new_namespaces("the_router_namespace_cannot_start_anything", || {
        let agent = configured();
        let target: SocketAddr = "198.18.0.2:8000".parse().unwrap();
        let service = agent.run(move || {
            let service = TcpListener::bind("0.0.0.0:8000").unwrap();
            // Positive control: the service answers inside the agent's namespace.
            TcpStream::connect_timeout(&target, PATIENCE).unwrap();
            service.accept().unwrap();
            service.set_nonblocking(true).unwrap();
            service
        });
        let error = TcpStream::connect_timeout(&target, Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(service.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for wanted in ["203.0.113.9:53", "127.0.0.1:9", "198.18.0.1:9"] {
            let error = socket.send_to(b"x", wanted).unwrap_err();
            assert_eq!(errno_of(&error), Errno::PERM, "{wanted}");
        }
        // Nor can the raw socket, whatever header it gives: not elsewhere, no first packet of a connection, no echo request.
        let raw = raw_sender_v4().unwrap();
        let agent_address: IpAddr = target.ip();
        for (what, protocol, body, to) in [
            ("elsewhere", 17, &[0; 8][..], "203.0.113.9".parse().unwrap()),
            (
                "syn",
                6,
                &[
                    0, 9, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
                ],
                agent_address,
            ),
            ("echo", 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0], agent_address),
            ("sctp", 132, &[0; 12], agent_address),
        ] {
            let packet = ipv4_packet(
                "203.0.113.9".parse().unwrap(),
                "198.18.0.2".parse().unwrap(),
                protocol,
                body,
            );
            let sent = send_many(raw.as_fd(), &[outgoing(&packet, to)]);
            assert_eq!(sent.unwrap_err().errno, Errno::PERM, "{what}");
        }
        // Positive control: an answer from port 53 is let through.
        let server = transparent_udp_socket(53, IpFamilies::Both).unwrap();
        let client = agent.run(|| UdpSocket::bind("0.0.0.0:9000").unwrap());
        let source: IpAddr = "203.0.113.53".parse().unwrap();
        send_from(
            server.as_fd(),
            b"x",
            source,
            "198.18.0.2:9000".parse().unwrap(),
        )
        .unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (_, from) = client.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from, SocketAddr::new(source, 53));
    });
}

#[test]
fn forged_source_addresses_do_not_arrive() {
    in_new_namespaces("forged_source_addresses_do_not_arrive", || {
        let agent = configured();
        let server = UdpSocket::from(transparent_udp_socket(53, IpFamilies::Both).unwrap());
        // The agent namespace gives itself another address, as a program with CAP_NET_ADMIN there could.
        agent.run(|| {
            let forger = transparent_udp_socket(5000, IpFamilies::V4Only).unwrap();
            let target = "203.0.113.53:53".parse().unwrap();
            let forged = "192.0.2.66".parse().unwrap();
            send_from(forger.as_fd(), b"forged", forged, target).unwrap();
            let honest = "198.18.0.2".parse().unwrap();
            send_from(forger.as_fd(), b"honest", honest, target).unwrap();
        });
        wait_readable(&server);
        let mut buffer = [0; 16];
        let length = server.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"honest");
        assert_eq!(
            server.recv(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

#[test]
fn the_agent_namespace_may_belong_to_a_child_user_namespace() {
    in_new_namespaces(
        "the_agent_namespace_may_belong_to_a_child_user_namespace",
        || {
            // The child reports when it is inside by closing its standard output.
            let mut child = Command::new("unshare")
                .args([
                    "--user",
                    "--map-root-user",
                    "--net",
                    "sh",
                    "-c",
                    "exec >/dev/null; exec cat",
                ])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut String::new())
                .unwrap();
            let namespace = std::fs::File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
            let agent = Namespace::enter(namespace.into());
            configure(&agent);
            let listener = listener();
            let wanted: SocketAddr = "203.0.113.7:443".parse().unwrap();
            let client = agent.run(move || TcpStream::connect_timeout(&wanted, PATIENCE).unwrap());
            wait_readable(&listener);
            assert_eq!(
                canonical(listener.accept().unwrap().0.local_addr().unwrap()),
                wanted
            );
            drop(client);
            drop(child.stdin.take());
            child.wait().unwrap();
        },
    );
}

#[test]
fn refusals_name_the_message_and_carry_the_kernels_words() {
    in_new_namespaces(
        "refusals_name_the_message_and_carry_the_kernels_words",
        || {
            let agent = Namespace::new();
            let route = RouteSocket::open().unwrap();
            let netfilter = NetfilterSocket::open().unwrap();
            router::configure(&route, &netfilter, &config(&agent)).unwrap();

            // Twice: the table exists, and nothing of the transaction is applied.
            let error = router::configure(&route, &netfilter, &config(&agent)).unwrap_err();
            let NetlinkError::Refused { source, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(
                (source.call, source.errno),
                ("NFT_MSG_NEWTABLE", Errno::EXIST)
            );

            // A gateway that is not on the link.
            let mut addresses = ADDRESSES;
            addresses.router = Ipv4Addr::new(192, 0, 2, 1);
            let error = agent.run(move || {
                let route = RouteSocket::open().unwrap();
                router::configure_agent(&route, &AgentLinkConfig { addresses }).unwrap_err()
            });
            let NetlinkError::Refused {
                source,
                kernel_text,
                ..
            } = &error
            else {
                panic!("{error:?}")
            };
            assert_eq!(
                (source.call, source.on.as_str(), source.errno),
                ("RTM_NEWROUTE", "IPv4", Errno::NETUNREACH)
            );
            assert_eq!(kernel_text.as_deref(), Some("Nexthop has invalid gateway"));
            assert_eq!(
                error.to_string(),
                "the kernel refused to add the default route (Nexthop has invalid gateway)"
            );
        },
    );
}

#[test]
fn the_addresses_of_a_namespace_are_all_listed() {
    if !require("ip") {
        return;
    }
    in_new_namespaces("the_addresses_of_a_namespace_are_all_listed", || {
        let route = RouteSocket::open().unwrap();
        assert_eq!(interface_addresses(&route).unwrap(), [] as [IpAddr; 0]);
        let agent = configured();
        let expected = ["127.0.0.1", "198.18.0.1", "::1", "fd72:6363::1"];
        let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(interface_addresses(&route).unwrap(), expected);
        // More than fits into one datagram of the kernel.
        for low in 0..=255 {
            let status = Command::new(rcc_testkit::system_tool("ip").unwrap())
                .args([
                    "address",
                    "add",
                    &format!("203.0.113.{low}/32"),
                    "dev",
                    "lo",
                ])
                .status()
                .unwrap();
            assert!(status.success());
        }
        assert_eq!(interface_addresses(&route).unwrap().len(), 4 + 256);
        drop(agent);
    });
}

#[test]
fn a_descriptor_that_is_no_namespace_is_refused() {
    in_new_namespaces("a_descriptor_that_is_no_namespace_is_refused", || {
        let agent = Namespace::new();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut config = config(&agent);
        config.agent_namespace = file.as_fd();
        let route = RouteSocket::open().unwrap();
        let netfilter = NetfilterSocket::open().unwrap();
        let error = router::configure(&route, &netfilter, &config).unwrap_err();
        let NetlinkError::Refused { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((source.call, source.errno), ("RTM_NEWLINK", Errno::INVAL));
    });
}

#[test]
fn the_rules_are_those_of_the_golden_file() {
    if !require("nft") {
        return;
    }
    in_new_namespaces("the_rules_are_those_of_the_golden_file", || {
        let agent = configured();
        let output = Command::new(rcc_testkit::system_tool("nft").unwrap())
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/router.nft");
        // nft 1.1.3 of Debian 13 writes the same match in other words.
        let listed = String::from_utf8(output.stdout).unwrap().replace(
            "tcp flags & (fin | syn | rst | ack) != syn",
            "tcp flags != syn / fin,syn,rst,ack",
        );
        if std::env::var_os("RCC_TEST_BLESS").is_some() {
            std::fs::write(path, &listed).unwrap();
        }
        assert_eq!(listed, std::fs::read_to_string(path).unwrap());
        drop(agent);
    });
}
