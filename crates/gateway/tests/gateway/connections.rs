//! Verdicts on connections, and the check of the addresses behind names.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use rcc_spec::NetworkMode;

use crate::world::{Setup, World, assert_refused, assert_reset, read_all};

/// Answers every connection with its greeting.
fn greet(greeting: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        stream.write_all(greeting).unwrap();
    }
}

fn hears(stream: &mut TcpStream, greeting: &[u8]) {
    assert_eq!(read_all(stream).unwrap(), greeting);
}

#[test]
fn an_allowed_name_is_reached_over_both_families() {
    let world = Setup::allow(&["api.example.com:443,8443"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    world.serve("203.0.113.7:443", greet(b"hello"));
    world.serve("203.0.113.7:8443", greet(b"other"));
    hears(&mut world.connect_name("api.example.com", 443), b"hello");
    hears(&mut world.connect_name("api.example.com", 8443), b"other");
    // The name has no IPv6 address in the world, but has one inside.
    let six = world.ask("api.example.com", "AAAA").answers[0].data.clone();
    hears(&mut world.connect(&format!("[{six}]:443")), b"hello");
    let (summary, log) = world.finish();
    assert_eq!((summary.connections, summary.connections_relayed), (3, 3));
    assert_eq!(summary.bytes_received, 15);
    let connects: Vec<_> = log
        .iter()
        .filter(|line| line["event"] == "connect")
        .collect();
    assert_eq!(connects.len(), 3);
    assert_eq!(connects[0]["name"], "api.example.com");
    assert_eq!(connects[0]["address"], "203.0.113.7");
    assert_eq!(
        connects[0]["rule"],
        "api.example.com:443,8443 (flag --allow)"
    );
    let close = log
        .iter()
        .find(|line| line["event"] == "close" && line["connection"] == 1)
        .unwrap();
    assert_eq!(
        (
            close["bytes_received"].as_u64(),
            close["bytes_sent"].as_u64()
        ),
        (Some(5), Some(0))
    );
    assert!(close["duration_ms"].is_u64());
}

#[test]
fn another_port_of_an_allowed_name_is_refused_at_once() {
    let world = Setup::allow(&["api.example.com:443"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    world.serve("203.0.113.7:22", greet(b"ssh"));
    let started = Instant::now();
    assert_reset(&mut world.connect_name("api.example.com", 22));
    assert!(started.elapsed() < Duration::from_millis(100));
    assert!(world.dialled().is_empty());
    let (summary, log) = world.finish();
    let line = log.iter().find(|line| line["event"] == "refuse").unwrap();
    assert_eq!(
        (line["reason"].as_str(), line["port"].as_u64()),
        (Some("port_not_allowed"), Some(22))
    );
    assert_eq!(
        summary.refusals[0].fix.as_deref(),
        Some("--allow api.example.com:22")
    );
}

#[test]
fn literal_addresses_follow_their_own_rules() {
    let world = Setup::allow(&[
        "203.0.113.0/24:80",
        "[2001:db8::7]:443",
        "192.168.7.7:22",
        "name.example.com",
    ])
    .start();
    for address in [
        "203.0.113.9:80",
        "[2001:db8::7]:443",
        "192.168.7.7:22",
        "198.51.100.1:80",
        "[2001:db8::8]:443",
    ] {
        world.serve(address, greet(b"hello"));
    }
    for allowed in [
        "203.0.113.9:80",
        "[2001:db8::7]:443",
        "192.168.7.7:22",
        "[::ffff:203.0.113.9]:80",
    ] {
        hears(&mut world.connect(allowed), b"hello");
    }
    for denied in [
        "198.51.100.1:80",
        "[2001:db8::8]:443",
        "203.0.113.9:443",
        "192.168.7.8:22",
        "127.0.0.1:22",
        "[::1]:80",
        "169.254.169.254:80",
    ] {
        assert_refused(&mut world.connect(denied));
    }
    assert_eq!(world.dialled().len(), 4);
}

#[test]
fn a_synthetic_address_without_a_name_is_refused() {
    let world = Setup::mode(NetworkMode::Internet).start();
    for address in [
        "198.18.1.77:443",
        "198.19.255.254:443",
        "[fd72:6363:0:1::4d]:443",
        "198.18.0.1:22",
    ] {
        assert_refused(&mut world.connect(address));
    }
    let (_, log) = world.finish();
    let reasons: Vec<_> = log
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons[..3], ["unknown_synthetic"; 3]);
    assert_eq!(reasons[3], "reserved_address");
}

/// Addresses that no name may lead to, with the reason.
const FORBIDDEN: [(&str, &str); 26] = [
    ("127.0.0.1", "loopback"),
    ("127.1.2.3", "loopback"),
    ("0.0.0.0", "loopback"),
    ("::1", "loopback"),
    ("::", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::127.0.0.1", "loopback"),
    ("64:ff9b::7f00:1", "loopback"),
    ("2002:7f00:1::", "loopback"),
    ("169.254.169.254", "metadata_address"),
    ("fd00:ec2::254", "metadata_address"),
    ("::ffff:169.254.169.254", "metadata_address"),
    ("64:ff9b::a9fe:a9fe", "metadata_address"),
    ("2002:a9fe:a9fe::1", "metadata_address"),
    ("192.168.1.1", "private_address"),
    ("10.0.0.1", "private_address"),
    ("172.16.5.5", "private_address"),
    ("100.64.0.1", "private_address"),
    ("fc00::1", "private_address"),
    ("::ffff:192.168.1.1", "private_address"),
    ("64:ff9b::c0a8:101", "private_address"),
    ("2002:c0a8:101::", "private_address"),
    ("169.254.1.1", "link_local_address"),
    ("fe80::1", "link_local_address"),
    ("224.0.0.1", "multicast_address"),
    ("192.0.2.200", "host_address"),
];

fn forbidden_everywhere(world: World) {
    for (number, (address, reason)) in FORBIDDEN.iter().enumerate() {
        let name = format!("n{number}.rebind.example.com");
        world.names.host(&name, &[address]);
        // The address answers if it is dialled.
        world.serve(&format!("{}:443", bracketed(address)), greet(b"leak"));
        let mut stream = world.connect_name(&name, 443);
        stream.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
        assert_eq!(
            read_all(&mut stream).unwrap(),
            [21, 3, 3, 0, 2, 2, 49],
            "{address} {reason}"
        );
    }
    assert_eq!(world.dialled(), []);
    // Positive control: a public address behind the same rule.
    world
        .names
        .host("good.rebind.example.com", &["203.0.113.7"]);
    world.serve("203.0.113.7:443", greet(b"hello"));
    hears(
        &mut world.connect_name("good.rebind.example.com", 443),
        b"hello",
    );
    let (_, log) = world.finish();
    let refused: Vec<_> = log
        .iter()
        .filter(|line| line["event"] == "refuse")
        .collect();
    assert_eq!(refused.len(), FORBIDDEN.len());
    for (line, (address, reason)) in refused.iter().zip(FORBIDDEN) {
        let logged: IpAddr = line["address"].as_str().unwrap().parse().unwrap();
        assert_eq!(
            (logged, line["reason"].as_str()),
            (address.parse().unwrap(), Some(reason))
        );
    }
}

fn bracketed(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    }
}

#[test]
fn an_allowed_name_leads_to_no_forbidden_address() {
    forbidden_everywhere(Setup::allow(&["*.rebind.example.com"]).start());
}

#[test]
fn internet_mode_leads_to_no_forbidden_address() {
    forbidden_everywhere(Setup::mode(NetworkMode::Internet).start());
}

#[test]
fn an_own_address_that_came_up_after_the_start_is_refused() {
    let world = Setup::mode(NetworkMode::Internet).start();
    world.names.host("vpn.example.com", &["203.0.113.7"]);
    world.serve("203.0.113.7:443", greet(b"leak"));
    world.own("203.0.113.7");
    assert_refused(&mut world.connect_name("vpn.example.com", 443));
    assert_refused(&mut world.connect("203.0.113.7:443"));
    assert_eq!(world.dialled(), []);
}

#[test]
fn only_the_permitted_addresses_of_a_name_are_dialled() {
    let world = Setup::allow(&["mixed.example.com"]).start();
    world
        .names
        .host("mixed.example.com", &["10.0.0.1", "203.0.113.7", "fd00::1"]);
    world.serve("203.0.113.7:443", greet(b"hello"));
    hears(&mut world.connect_name("mixed.example.com", 443), b"hello");
    assert_eq!(world.dialled(), ["203.0.113.7:443".parse().unwrap()]);
}

#[test]
fn rebinding_after_the_first_connection_is_refused() {
    let world = Setup::allow(&["rebind.example.com"]).start();
    // A short time to live: the gateway keeps it for five seconds at least.
    world
        .names
        .record("rebind.example.com", "A", 0, &[203, 0, 113, 7]);
    world.serve("203.0.113.7:443", greet(b"hello"));
    world.serve("192.168.0.1:443", greet(b"leak"));
    let address = world.ask("rebind.example.com", "A").answers[0].data.clone();
    let destination = format!("{address}:443");
    hears(&mut world.connect(&destination), b"hello");
    world.names.forget("rebind.example.com");
    world
        .names
        .record("rebind.example.com", "A", 300, &[192, 168, 0, 1]);
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let mut stream = world.connect(&destination);
        let said = read_all(&mut stream).unwrap();
        if said != b"hello" {
            // The alert of a refusal.
            assert_eq!(said, [21, 3, 3, 0, 2, 2, 49]);
            break;
        }
        assert!(Instant::now() < deadline, "the new address was never seen");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        world
            .dialled()
            .iter()
            .all(|address| address.ip().to_string() == "203.0.113.7")
    );
}

#[test]
fn a_private_address_behind_a_name_is_reached_with_a_rule_for_both() {
    let world = Setup::allow(&["git.corp.example.com", "10.1.2.3:443"]).start();
    world.names.host("git.corp.example.com", &["10.1.2.3"]);
    world.serve("10.1.2.3:443", greet(b"hello"));
    hears(
        &mut world.connect_name("git.corp.example.com", 443),
        b"hello",
    );
}

#[test]
fn a_dead_address_does_not_keep_a_name_from_working() {
    let world = Setup::allow(&["multi.example.com"]).start();
    world.names.host(
        "multi.example.com",
        &["2001:db8::1", "203.0.113.7", "203.0.113.8"],
    );
    // The first has no route, the second refuses.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = closed.local_addr().unwrap();
    drop(closed);
    world.map("203.0.113.7:443", refusing);
    world.serve("203.0.113.8:443", greet(b"hello"));
    let started = Instant::now();
    hears(&mut world.connect_name("multi.example.com", 443), b"hello");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_slow_address_is_overtaken_by_the_next() {
    let world = Setup::allow(&["slow.example.com"]).start();
    world
        .names
        .host("slow.example.com", &["203.0.113.7", "203.0.113.8"]);
    // A full backlog: connecting hangs.
    let full = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(
        &full,
        &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap(),
    )
    .unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let hanging: std::net::SocketAddr =
        rustix::net::getsockname(&full).unwrap().try_into().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| rcc_gateway::connect(hanging).unwrap())
        .collect();
    world.map("203.0.113.7:443", hanging);
    world.serve("203.0.113.8:443", greet(b"hello"));
    let started = Instant::now();
    hears(&mut world.connect_name("slow.example.com", 443), b"hello");
    assert!(
        started.elapsed() > Duration::from_millis(200),
        "the first address was tried"
    );
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(world.dialled().len(), 2);
}

#[test]
fn what_the_client_says_before_the_upstream_answers_is_not_lost() {
    let world = Setup::allow(&["late.example.com"]).start();
    world.names.host("late.example.com", &["203.0.113.7"]);
    world.ask("late.example.com", "A");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:443", listener.local_addr().unwrap());
    let mut stream = world.connect_name("late.example.com", 443);
    stream.write_all(b"first words").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    let mut heard = Vec::new();
    upstream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"first words");
}
