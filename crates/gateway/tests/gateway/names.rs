//! A TLS handshake must be for the name that the connection is for.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rcc_spec::NetworkMode;

use crate::world::{PATIENCE, Setup, World, assert_reset, read_all};

const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A ClientHello for `name`, with further extensions, in records of at most `portion` bytes.
pub(crate) fn hello(name: Option<&[u8]>, further: &[u8], portion: usize) -> Vec<u8> {
    let mut extensions = further.to_vec();
    if let Some(name) = name {
        let list = [&[0], sized(name).as_slice()].concat();
        extensions.extend_from_slice(&[0, 0]);
        extensions.extend_from_slice(&sized(&sized(&list)));
    }
    let body = [
        [3, 3].as_slice(),
        &[9; 32],
        &[0],
        &sized(&[0x13, 1]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    let record = |payload: &[u8]| [[22, 3, 1].to_vec(), sized(payload)].concat();
    message.chunks(portion).flat_map(record).collect()
}

fn world(setup: Setup) -> (World, TcpListener) {
    let world = setup.start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [443, 8443] {
        world.map(
            &format!("203.0.113.7:{port}"),
            listener.local_addr().unwrap(),
        );
    }
    (world, listener)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server
}

/// Expects that the server hears exactly these bytes.
fn assert_passes(world: &World, listener: &TcpListener, words: &[u8]) {
    let mut client = world.connect_name("api.example.com", 443);
    client.set_nodelay(true).unwrap();
    for byte in words {
        client.write_all(std::slice::from_ref(byte)).unwrap();
    }
    let mut server = accept(listener);
    let mut heard = vec![0; words.len()];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
    server.write_all(b"answer").unwrap();
    drop(server);
    assert_eq!(read_all(&mut client).unwrap(), b"answer");
}

/// Expects that the client hears an alert at once and the server not a byte.
fn assert_refused(world: &World, listener: &TcpListener, port: u16, words: &[u8]) {
    let mut client = world.connect_name("api.example.com", port);
    let mut server = accept(listener);
    let started = Instant::now();
    client.write_all(words).unwrap();
    assert_eq!(read_all(&mut client).unwrap(), ALERT);
    assert!(started.elapsed() < Duration::from_millis(100));
    assert_reset(&mut server);
}

#[test]
fn a_handshake_for_the_name_passes_however_it_is_cut() {
    let (world, listener) = world(Setup::allow(&["api.example.com"]));
    assert_passes(
        &world,
        &listener,
        &hello(Some(b"api.example.com"), &[], 16_384),
    );
    assert_passes(
        &world,
        &listener,
        &hello(Some(b"API.Example.COM"), &[0, 43, 0, 3, 2, 3, 4], 3),
    );
    let large = [[0, 51].to_vec(), sized(&[7; 4000])].concat();
    assert_passes(
        &world,
        &listener,
        &hello(Some(b"api.example.com"), &large, 1000),
    );
    // Early data behind the hello stays where it is.
    let early = [
        hello(Some(b"api.example.com"), &[], 16_384),
        b"\x17\x03\x03\x00\x02hi".to_vec(),
    ]
    .concat();
    assert_passes(&world, &listener, &early);
}

#[test]
fn a_handshake_for_anything_else_reaches_no_server() {
    let (world, listener) = world(Setup::allow(&[
        "api.example.com:443,8443",
        "other.example.com",
    ]));
    let cases: [(&str, Vec<u8>); 12] = [
        (
            "tls_name_mismatch",
            hello(Some(b"evil.example.org"), &[], 16_384),
        ),
        (
            "tls_name_mismatch",
            hello(Some(b"evil.example.org"), &[], 1),
        ),
        (
            "tls_name_mismatch",
            hello(Some(b"other.example.com"), &[], 16_384),
        ),
        (
            "tls_name_mismatch",
            hello(Some(b"api.example.com\0.evil.example.org"), &[], 16_384),
        ),
        (
            "tls_name_mismatch",
            hello(Some(b"api.example.com.evil.example.org"), &[], 16_384),
        ),
        (
            "tls_name_mismatch",
            hello(Some(b"203.0.113.7"), &[], 16_384),
        ),
        ("tls_no_name", hello(None, &[], 16_384)),
        (
            "tls_encrypted_hello",
            hello(Some(b"api.example.com"), &[0xfe, 0x0d, 0, 1, 0], 16_384),
        ),
        ("tls_malformed", b"\x16\x03\x01\x00\x00rest".to_vec()),
        (
            "tls_malformed",
            [
                b"\x16\x03\x01\x00\x04\x02\x00\x00\x00".to_vec(),
                hello(Some(b"api.example.com"), &[], 16_384),
            ]
            .concat(),
        ),
        ("tls_name_mismatch", hello(Some(&[b'a'; 255]), &[], 16_384)),
        ("tls_malformed", hello(Some(b""), &[], 16_384)),
    ];
    for (_, words) in &cases {
        assert_refused(&world, &listener, 443, words);
        assert_refused(&world, &listener, 8443, words);
    }
    let (summary, log) = world.finish();
    let reasons = |event: &str| -> Vec<String> {
        let lines = log.iter().filter(|line| line["event"] == event);
        lines
            .map(|line| line["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let expected: Vec<&str> = cases
        .iter()
        .flat_map(|(reason, _)| [*reason, *reason])
        .collect();
    assert_eq!(reasons("refuse"), expected);
    assert_eq!(summary.bytes_sent, 0);
    assert!(
        log.iter()
            .filter(|line| line["event"] == "close")
            .all(|line| line["bytes_sent"] == 0)
    );
}

#[test]
fn what_is_not_tls_passes_also_when_the_server_speaks_first() {
    let (world, listener) = world(Setup::allow(&["api.example.com"]));
    assert_passes(&world, &listener, b"SSH-2.0-client\r\n");
    assert_passes(&world, &listener, b"\0\x01\x02");
    let mut client = world.connect_name("api.example.com", 443);
    let mut server = accept(&listener);
    server.write_all(b"220 ready\r\n").unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).unwrap();
    client.write_all(b"EHLO x\r\n").unwrap();
    let mut words = [0; 8];
    server.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"EHLO x\r\n");
    // A server that has spoken is not followed by an alert.
    let mut client = world.connect_name("api.example.com", 443);
    let mut server = accept(&listener);
    server.write_all(b"220 ready\r\n").unwrap();
    client.read_exact(&mut greeting).unwrap();
    client
        .write_all(&hello(Some(b"evil.example.org"), &[], 16_384))
        .unwrap();
    assert_reset(&mut client);
    assert_reset(&mut server);
}

/// A server's first message: an ordinary hello, or a request for another ClientHello.
fn server_hello(wants_another: bool) -> Vec<u8> {
    // RFC 8446 section 4.1.3.
    let retry = b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
    let random = if wants_another { retry } else { &[5; 32] };
    let body = [[3, 3].as_slice(), random, &[0, 0x13, 1, 0, 0, 0]].concat();
    let message = [
        &[2, 0, 0, u8::try_from(body.len()).unwrap()],
        body.as_slice(),
    ]
    .concat();
    [[22, 3, 3].to_vec(), sized(&message)].concat()
}

#[test]
fn a_second_hello_must_be_for_the_name_too() {
    let (world, listener) = world(Setup::allow(&["api.example.com"]));
    let own = hello(Some(b"api.example.com"), &[], 16_384);
    let dummy = b"\x14\x03\x03\x00\x01\x01".as_slice();
    let cases = [
        (hello(Some(b"api.example.com"), &[], 16_384), None),
        (hello(Some(b"api.example.com"), &[], 1), None),
        (
            hello(Some(b"evil.example.org"), &[], 16_384),
            Some("tls_name_mismatch"),
        ),
        (
            hello(Some(b"evil.example.org"), &[], 1),
            Some("tls_name_mismatch"),
        ),
        (hello(None, &[], 16_384), Some("tls_no_name")),
        (b"\x16\x03\x03\x00\x00".to_vec(), Some("tls_malformed")),
        (b"GET / HTTP/1.1\r\n".to_vec(), Some("tls_malformed")),
    ];
    for at_once in [false, true] {
        for (second, code) in &cases {
            let second = [dummy, second].concat();
            let mut client = world.connect_name("api.example.com", 443);
            client.write_all(&own).unwrap();
            let mut server = accept(&listener);
            if at_once {
                // Without waiting for the server.
                client.write_all(&second).unwrap();
            }
            let mut heard = vec![0; own.len()];
            server.read_exact(&mut heard).unwrap();
            assert_eq!(heard, own);
            let answer = server_hello(true);
            server.write_all(&answer).unwrap();
            if !at_once {
                client.read_exact(&mut vec![0; answer.len()]).unwrap();
                client.write_all(&second).unwrap();
            }
            if code.is_none() {
                let mut heard = vec![0; second.len()];
                server.read_exact(&mut heard).unwrap();
                assert_eq!(heard, second);
                if at_once {
                    client.read_exact(&mut vec![0; answer.len()]).unwrap();
                }
                client.write_all(b"whatever").unwrap();
                server.read_exact(&mut [0; 8]).unwrap();
            } else {
                assert_reset(&mut client);
                let mut heard = Vec::new();
                let _ = server.read_to_end(&mut heard);
                assert!(dummy.starts_with(&heard), "{heard:?}");
            }
        }
    }
    let (_, log) = world.finish();
    let refused = log.iter().filter(|line| line["event"] == "refuse");
    let codes: Vec<_> = refused
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    let expected: Vec<&str> = cases.iter().filter_map(|(_, code)| *code).collect();
    assert_eq!(codes, [expected.as_slice(), &expected].concat());
}

#[test]
fn a_hello_that_a_database_was_asked_for_is_held_to_the_name() {
    let (world, listener) = world(Setup::allow(&["api.example.com:443"]));
    // PostgreSQL's SSLRequest, whole and byte by byte.
    let request = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let begin = |portion: usize| {
        let mut client = world.connect_name("api.example.com", 443);
        client.set_nodelay(true).unwrap();
        for bytes in request.chunks(portion) {
            client.write_all(bytes).unwrap();
        }
        let mut server = accept(&listener);
        let mut heard = [0; 8];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, request);
        server.write_all(b"S").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        (client, server)
    };
    for portion in [1, 3, 8] {
        let own = hello(Some(b"api.example.com"), &[], 16_384);
        let (mut client, mut server) = begin(portion);
        client.write_all(&own).unwrap();
        let mut heard = vec![0; own.len()];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, own);
        let (mut client, mut server) = begin(portion);
        let started = Instant::now();
        client
            .write_all(&hello(Some(b"evil.example.org"), &[], 16_384))
            .unwrap();
        assert_reset(&mut client);
        assert!(started.elapsed() < Duration::from_millis(100));
        assert_reset(&mut server);
        // Without TLS, after a no.
        let startup = b"\0\0\0\x0c\0\x03\0\0user";
        let (mut client, mut server) = begin(portion);
        client.write_all(startup).unwrap();
        server.read_exact(&mut [0; 12]).unwrap();
    }
    // A message that only begins alike does not wait for ever.
    let mut client = world.connect_name("api.example.com", 443);
    client.write_all(b"\0\0").unwrap();
    let mut server = accept(&listener);
    server.read_exact(&mut [0; 2]).unwrap();
}

#[test]
fn nothing_is_looked_at_behind_an_ordinary_server_hello() {
    let (world, listener) = world(Setup::allow(&["api.example.com"]));
    let own = hello(Some(b"api.example.com"), &[], 16_384);
    let other = hello(Some(b"evil.example.org"), &[], 16_384);
    for answer in [
        server_hello(false),
        b"\x15\x03\x03\x00\x02\x02\x28".to_vec(),
        b"220 ready\r\n".to_vec(),
    ] {
        let mut client = world.connect_name("api.example.com", 443);
        // A handshake record waits for the answer.
        client
            .write_all(&[own.as_slice(), &other].concat())
            .unwrap();
        let mut server = accept(&listener);
        server.read_exact(&mut vec![0; own.len()]).unwrap();
        server
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let error = server.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        server.write_all(&answer).unwrap();
        let mut heard = vec![0; other.len()];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, other);
        client.read_exact(&mut vec![0; answer.len()]).unwrap();
    }
}

#[test]
fn a_client_that_ends_without_a_word_is_passed_on() {
    let (world, listener) = world(Setup::allow(&["api.example.com"]));
    let mut client = world.connect_name("api.example.com", 443);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut server = accept(&listener);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    server.write_all(b"bye").unwrap();
    drop(server);
    assert_eq!(read_all(&mut client).unwrap(), b"bye");
    // In the middle of a hello is another matter.
    let mut client = world.connect_name("api.example.com", 443);
    let words = hello(Some(b"api.example.com"), &[], 16_384);
    client.write_all(&words[..20]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client).unwrap(), ALERT);
    assert_reset(&mut accept(&listener));
}

#[test]
fn literal_addresses_have_no_name_to_be_held_to() {
    let (world, listener) = world(Setup::allow(&["203.0.113.7"]));
    let words = hello(Some(b"any.example.org"), &[], 16_384);
    let mut client = world.connect("203.0.113.7:443");
    client.write_all(&words).unwrap();
    let mut heard = vec![0; words.len()];
    accept(&listener).read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
}

#[test]
fn internet_mode_holds_a_handshake_to_deny_rules_only() {
    let (world, listener) = world(Setup::mode(NetworkMode::Internet).deny(&["*.evil.example.org"]));
    assert_passes(
        &world,
        &listener,
        &hello(Some(b"front.example.net"), &[], 16_384),
    );
    assert_passes(&world, &listener, &hello(None, &[], 16_384));
    assert_passes(
        &world,
        &listener,
        &hello(Some(b"api.example.com"), &[0xfe, 0x0d, 0, 1, 0], 16_384),
    );
    assert_refused(
        &world,
        &listener,
        443,
        &hello(Some(b"a.evil.example.org"), &[], 16_384),
    );
}
