//! How refusals look to the client, and how quickly they come.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rcc_spec::NetworkMode;

use crate::world::{Setup, World, assert_reset, read_all};

const AT_ONCE: Duration = Duration::from_millis(100);

fn answer_to(world: &World, destination: &str, request: &[u8]) -> String {
    let started = Instant::now();
    let mut stream = world.connect(destination);
    stream.write_all(request).unwrap();
    let answer = read_all(&mut stream).unwrap();
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    String::from_utf8(answer).unwrap()
}

#[test]
fn http_is_told_in_http() {
    let world = Setup::allow(&["api.example.com"]).start();
    for destination in ["198.51.100.1:80", "198.51.100.1:8080", "198.51.100.1:3000"] {
        let answer = answer_to(
            &world,
            destination,
            b"GET /x HTTP/1.1\r\nHost: evil.example.org\r\n\r\n",
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(head.contains("\r\nConnection: close"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        assert!(
            body.contains(destination) && body.contains("no_rule"),
            "{body}"
        );
        assert!(body.contains(&format!("--allow {destination}")), "{body}");
        // Nothing that the agent wrote comes back.
        assert!(!answer.contains("evil"));
    }
}

#[test]
fn a_rule_that_denies_is_named() {
    let world = Setup::mode(NetworkMode::Internet)
        .deny(&["198.51.100.0/24"])
        .start();
    let answer = answer_to(&world, "198.51.100.1:80", b"POST / HTTP/1.0\r\n\r\n");
    assert!(answer.contains("198.51.100.0/24 (flag --deny)"), "{answer}");
    assert!(
        !answer.contains("--allow"),
        "no allow rule would help: {answer}"
    );
}

#[test]
fn a_large_request_still_hears_the_answer() {
    let world = Setup::mode(NetworkMode::None).start();
    let mut request = b"POST /upload HTTP/1.1\r\nContent-Length: 200000\r\n\r\n".to_vec();
    request.resize(200_000, b'x');
    let answer = answer_to(&world, "198.51.100.1:80", &request);
    assert!(answer.contains("mode_none"), "{answer}");
}

#[test]
fn tls_is_told_by_an_alert() {
    let world = Setup::allow(&["api.example.com"]).start();
    for destination in ["198.51.100.1:443", "198.51.100.1:9443"] {
        let started = Instant::now();
        let mut stream = world.connect(destination);
        // The record may arrive in pieces.
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"\x16").unwrap();
        stream.write_all(b"\x03\x01\x00\x05hello").unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), [21, 3, 3, 0, 2, 2, 49]);
        assert!(started.elapsed() < AT_ONCE);
    }
}

#[test]
fn everything_else_is_reset() {
    let world = Setup::allow(&["api.example.com"]).start();
    for (destination, words) in [
        ("198.51.100.1:22", b"SSH-2.0-OpenSSH_9.2\r\n".as_slice()),
        ("198.51.100.1:80", b"\0\0\0\0"),
        ("198.51.100.1:443", b"not tls"),
        ("198.51.100.1:5432", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("198.51.100.1:443", b"\x16"),
        ("198.51.100.1:80", b"GE"),
        ("198.51.100.1:25", b""),
    ] {
        let started = Instant::now();
        let mut stream = world.connect(destination);
        // The reset may be faster than the write.
        let _ = stream.write_all(words);
        assert_reset(&mut stream);
        assert!(
            started.elapsed() < AT_ONCE,
            "{destination} {:?}",
            started.elapsed()
        );
    }
}

/// A client that is slow to speak: it has the answer before it speaks, and still has it after its words were reset.
#[test]
fn who_says_nothing_is_told_in_the_words_of_the_port() {
    let world = Setup::allow(&["api.example.com"]).start();
    for (destination, said) in [
        ("198.51.100.1:80", "HTTP/1.1 403 Forbidden"),
        ("198.51.100.1:443", "\x15\x03\x03\0\x02\x02\x31"),
    ] {
        let started = Instant::now();
        let mut quiet = world.connect(destination);
        let mut slow = world.connect(destination);
        let answer = read_all(&mut quiet).unwrap();
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert!(
            answer.starts_with(said.as_bytes()),
            "{}",
            answer.escape_ascii()
        );
        // It waits for the end, and then speaks: what it sends is reset, what it was told is there.
        let mut one = [0];
        while slow.peek(&mut one).unwrap() == 0 {
            std::thread::yield_now();
        }
        slow.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
        while slow.write(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut told = Vec::new();
        // The reset is behind it.
        let _ = slow.read_to_end(&mut told);
        assert_eq!(told, answer, "{}", told.escape_ascii());
    }
}

#[test]
fn an_upstream_that_refuses_is_told_as_such() {
    let world = Setup::allow(&["down.example.com:80,443,22"]).start();
    world.names.host("down.example.com", &["203.0.113.7"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = closed.local_addr().unwrap();
    drop(closed);
    for port in [80, 443, 22] {
        world.map(&format!("203.0.113.7:{port}"), refusing);
    }
    let mut stream = world.connect_name("down.example.com", 80);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_all(&mut stream).unwrap()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    assert!(answer.contains("connection refused"), "{answer}");
    let mut stream = world.connect_name("down.example.com", 443);
    stream.write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), [21, 3, 3, 0, 2, 2, 80]);
    assert_reset(&mut world.connect_name("down.example.com", 22));
    let (summary, log) = world.finish();
    assert!(
        summary.refusals.is_empty(),
        "a broken upstream is no refusal: {:?}",
        summary.refusals
    );
    let failed = log
        .iter()
        .filter(|line| line["reason"] == "connect_failed" && line["verdict"] == "fail");
    assert_eq!(failed.count(), 3);
}

#[test]
fn an_address_behind_a_name_is_explained() {
    let world = Setup::allow(&["rebind.example.com"]).start();
    world.names.host("rebind.example.com", &["192.168.7.7"]);
    let mut stream = world.connect_name("rebind.example.com", 80);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_all(&mut stream).unwrap()).unwrap();
    for part in [
        "rebind.example.com:80",
        "192.168.7.7",
        "private_address",
        "--allow 192.168.7.7:80",
    ] {
        assert!(answer.contains(part), "{answer}");
    }
}

#[test]
fn a_name_that_vanished_is_told_as_such() {
    let world = Setup::allow(&["gone.example.com"]).start();
    world
        .names
        .record("gone.example.com", "A", 0, &[203, 0, 113, 7]);
    let address = world.ask("gone.example.com", "A").answers[0].data.clone();
    world.names.forget("gone.example.com");
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let mut stream = world.connect(&format!("{address}:80"));
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let answer = String::from_utf8(read_all(&mut stream).unwrap()).unwrap();
        if answer.contains("no_such_name") {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_client_that_leaves_early_costs_nothing() {
    let world = Setup::allow(&["api.example.com"]).start();
    for _ in 0..50 {
        drop(world.connect("198.51.100.1:80"));
    }
    let mut stream = world.connect("198.51.100.1:80");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 403");
}
