//! A hostile agent: floods, nonsense, and limits.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rcc_spec::NetworkMode;
use rcc_testkit::dns::parse;

use crate::world::{Setup, assert_reset, query, read_all};

/// Pseudo-random numbers with a fixed seed: a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

#[test]
fn nonsense_to_the_dns_service_is_survived_and_stays_inside() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    let mut random = Random(0x5eed);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let valid = query("secret.example.org", "A", Some(1232));
    for round in 0..20_000 {
        let mut message = match round % 3 {
            0 => {
                let length = random.below(600);
                random.bytes(length)
            }
            _ => valid.clone(),
        };
        for _ in 0..random.below(4) {
            if !message.is_empty() {
                let place = random.below(message.len());
                message[place] = random.next().to_le_bytes()[0];
            }
        }
        if round % 5 == 0 {
            message.truncate(random.below(message.len() + 1));
        }
        world.send_dns(&socket, &message);
        if round % 50 == 49 {
            // Keeps the queue short, so that messages are read and not dropped.
            assert_eq!(world.ask("api.example.com", "A").response_code(), 0);
        }
    }
    assert_eq!(world.names.names_seen(), ["api.example.com"]);
}

#[test]
fn connections_beyond_the_limit_are_reset_and_the_rest_is_served() {
    let mut setup = Setup::allow(&["peer.example.com"]);
    setup.limits.connections = 3;
    let world = setup.start();
    world.names.host("peer.example.com", &["203.0.113.7"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:443", listener.local_addr().unwrap());
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = world.connect_name("peer.example.com", 443);
        let mut server = listener.accept().unwrap().0;
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        held.push((client, server));
    }
    for _ in 0..20 {
        assert_reset(&mut world.connect_name("peer.example.com", 443));
    }
    let (client, mut server) = held.pop().unwrap();
    drop(client);
    assert_eq!(read_all(&mut server).unwrap(), b"");
    drop(server);
    // A place is free once the gateway has noticed the end.
    let mut world = world;
    world.wait_for_log(|log| log.iter().any(|line| line["event"] == "close"));
    let mut client = world.connect_name("peer.example.com", 443);
    client.write_all(b"x").unwrap();
    let (server, _) = listener.accept().unwrap();
    drop((client, server, held));
    let (_, log) = world.finish();
    let refused: u64 = log
        .iter()
        .filter(|line| line["reason"] == "limit_connections")
        .map(|line| line["repeated"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(refused, 20);
}

#[test]
fn where_there_is_no_room_the_oldest_silent_connection_makes_it() {
    let mut setup = Setup::allow(&["peer.example.com"]);
    setup.limits.connections = 3;
    let world = setup.start();
    world.names.host("peer.example.com", &["203.0.113.7"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:443", listener.local_addr().unwrap());
    let mut talking = world.connect_name("peer.example.com", 443);
    let mut server = listener.accept().unwrap().0;
    talking.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    // One is idle, one keeps a hello incomplete.
    let mut idle = world.connect_name("peer.example.com", 443);
    let idle_server = listener.accept().unwrap().0;
    let mut half = world.connect_name("peer.example.com", 443);
    let half_server = listener.accept().unwrap().0;
    half.write_all(&[22, 3, 1]).unwrap();
    let mut kept = Vec::new();
    for silent in [&mut idle, &mut half] {
        let mut client = world.connect_name("peer.example.com", 443);
        let mut served = listener.accept().unwrap().0;
        assert_reset(silent);
        client.write_all(b"y").unwrap();
        served.read_exact(&mut [0]).unwrap();
        talking.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        kept.push((client, served));
    }
    assert_reset(&mut world.connect_name("peer.example.com", 443));
    drop((idle_server, half_server, kept));
    let (_, log) = world.finish();
    let cut = |event: &str| {
        let is_one = |line: &&serde_json::Value| {
            line["event"] == event && line["reason"] == "limit_connections"
        };
        log.iter().filter(is_one).count()
    };
    assert_eq!((cut("close"), cut("refuse")), (2, 1));
}

#[test]
fn slow_names_do_not_keep_other_names_waiting() {
    let mut setup = Setup::mode(NetworkMode::Internet);
    setup.limits.pending_queries = 8;
    let world = setup.start();
    world.names.host("fast.example.com", &["203.0.113.7"]);
    assert_eq!(world.ask("fast.example.com", "A").response_code(), 0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..8 {
        let name = format!("slow{number}.example.com");
        world.names.delay(&name, None, Duration::from_secs(4));
        world.send_dns(&socket, &query(&name, "A", None));
    }
    // What is cached is answered, what is not is refused at once.
    let started = std::time::Instant::now();
    assert_eq!(world.ask("fast.example.com", "AAAA").response_code(), 0);
    let busy = world.ask("other.example.com", "A");
    assert_eq!(busy.response_code(), 2);
    assert!(busy.extended_error().unwrap().1.contains("limit_queries"));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_flood_of_refused_names_leaves_a_bounded_log() {
    let world = Setup::allow(&["api.example.com"]).start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..30_000 {
        world.send_dns(
            &socket,
            &query(&format!("secret{number}.example.org"), "A", None),
        );
        if number % 100 == 99 {
            world.ask("last.example.org", "A");
        }
    }
    let (summary, log) = world.finish();
    let sum = |key: &str| {
        log.iter()
            .filter_map(|line| line[key].as_u64())
            .sum::<u64>()
    };
    let written = log
        .iter()
        .filter(|line| line["event"] == "dns" && line["repeated"].is_null())
        .count() as u64;
    assert_eq!(written + sum("repeated") + sum("lines"), summary.queries);
    assert!(sum("lines") > 0);
    assert_eq!(summary.refusals.len(), 1000);
    assert!(summary.refusals_unlisted > 20_000);
}

#[test]
fn dns_clients_over_tcp_are_limited() {
    let mut setup = Setup::allow(&["api.example.com"]);
    setup.limits.dns_connections = 2;
    let world = setup.start();
    let _held = [world.connect("192.0.2.1:53"), world.connect("192.0.2.1:53")];
    // Both must have been accepted before the third.
    assert_reset(&mut world.connect("192.0.2.1:53"));
    let over_udp = parse(&world.exchange_udp(&query("evil.example.org", "A", None))).unwrap();
    assert_eq!(over_udp.response_code(), 5);
}

#[test]
fn the_caller_learns_when_the_gateway_is_gone() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let world = Setup::mode(NetworkMode::None).start();
    let ended = world.ended().try_clone_to_owned().unwrap();
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let is_over = |fd: std::os::fd::BorrowedFd<'_>| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&at_once)).unwrap() == 1
    };
    assert!(!is_over(ended.as_fd()));
    world.finish();
    assert!(is_over(ended.as_fd()));
}
