//! Bytes arrive whole, in both directions, and endings are passed on.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::world::{PATIENCE, Setup, World, assert_reset, read_all};

/// A gateway with one allowed host, whose server the test plays itself.
fn world_with_server() -> (World, TcpListener) {
    let world = Setup::allow(&["peer.example.com:1-65535"]).start();
    world.names.host("peer.example.com", &["203.0.113.7"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:7000", listener.local_addr().unwrap());
    (world, listener)
}

fn pair(world: &World, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = world.connect_name("peer.example.com", 7000);
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_write_timeout(Some(PATIENCE)).unwrap();
    (client, server)
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Writes pseudo-random bytes in portions of changing size and returns their hash.
fn send(stream: &mut TcpStream, total: usize, seed: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut state = seed | 1;
    let mut sent = 0;
    let mut buffer = vec![0; 300_000];
    while sent < total {
        for byte in &mut buffer {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[0];
        }
        let portion = (1 + usize::try_from(state % 300_000).unwrap()).min(total - sent);
        stream.write_all(&buffer[..portion]).unwrap();
        hasher.write(&buffer[..portion]);
        sent += portion;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    hasher.finish()
}

/// Reads to the end and returns count and hash. `DefaultHasher` sees one stream whatever the portions.
pub(crate) fn receive(stream: &mut TcpStream) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    let mut total = 0;
    let mut buffer = vec![0; 100_000];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return (total, hasher.finish());
        }
        hasher.write(&buffer[..count]);
        total += count;
    }
}

#[test]
fn large_transfers_in_both_directions_at_once_arrive_whole() {
    const UP: usize = 40_000_000;
    const DOWN: usize = 50_000_000;
    let (world, listener) = world_with_server();
    let (client, server) = pair(&world, &listener);
    let (up, down) = std::thread::scope(|scope| {
        let (mut client_write, mut client_read) = (client.try_clone().unwrap(), client);
        let (mut server_write, mut server_read) = (server.try_clone().unwrap(), server);
        let sent_up = scope.spawn(move || send(&mut client_write, UP, 1));
        let sent_down = scope.spawn(move || send(&mut server_write, DOWN, 2));
        let got_up = scope.spawn(move || receive(&mut server_read));
        let got_down = scope.spawn(move || receive(&mut client_read));
        let up = (sent_up.join().unwrap(), got_up.join().unwrap());
        (up, (sent_down.join().unwrap(), got_down.join().unwrap()))
    });
    assert_eq!(up.1, (UP, up.0));
    assert_eq!(down.1, (DOWN, down.0));
    let (summary, log) = world.finish();
    assert_eq!(
        (summary.bytes_sent, summary.bytes_received),
        (UP as u64, DOWN as u64)
    );
    let close = log.iter().find(|line| line["event"] == "close").unwrap();
    assert_eq!(close["bytes_sent"].as_u64(), Some(UP as u64));
}

#[test]
fn small_messages_go_back_and_forth() {
    let (world, listener) = world_with_server();
    let (mut client, mut server) = pair(&world, &listener);
    for number in 0..2000_u32 {
        client.write_all(&number.to_be_bytes()).unwrap();
        let mut word = [0; 4];
        server.read_exact(&mut word).unwrap();
        server.write_all(&word).unwrap();
        client.read_exact(&mut word).unwrap();
        assert_eq!(word, number.to_be_bytes());
    }
}

#[test]
fn a_half_closed_connection_goes_on_in_the_other_direction() {
    let (world, listener) = world_with_server();
    // The client ends first.
    let (mut client, mut server) = pair(&world, &listener);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut server).unwrap(), b"question");
    for _ in 0..100 {
        server.write_all(&[7; 10_000]).unwrap();
    }
    drop(server);
    assert_eq!(read_all(&mut client).unwrap().len(), 1_000_000);
    // The server ends first.
    let (mut client, mut server) = pair(&world, &listener);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client).unwrap(), b"");
    client.write_all(b"still here").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut server).unwrap(), b"still here");
}

#[test]
fn a_reset_by_the_client_reaches_the_server() {
    let (world, listener) = world_with_server();
    // While both are idle.
    let (client, mut server) = pair(&world, &listener);
    reset(client);
    assert_reset(&mut server);
    // After the client has ended its own direction.
    let (client, mut server) = pair(&world, &listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    reset(client);
    server.set_read_timeout(None).unwrap();
    let error = loop {
        match server.write_all(b"x") {
            Ok(()) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    // While the server's window is full and nobody reads there.
    let (mut client, mut server) = pair(&world, &listener);
    client
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let full = loop {
        if let Err(error) = client.write_all(&[0; 100_000]) {
            break error;
        }
    };
    assert!(matches!(
        full.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    reset(client);
    let error = loop {
        match server.read(&mut [0; 100_000]) {
            Ok(0) => panic!("a cut stream looks complete"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_by_the_server_reaches_the_client_after_its_last_words() {
    let (world, listener) = world_with_server();
    let (mut client, mut server) = pair(&world, &listener);
    server.write_all(b"last words").unwrap();
    let mut words = [0; 10];
    client.read_exact(&mut words).unwrap();
    reset(server);
    assert_reset(&mut client);
    // A server that closes with unread bytes resets, too.
    let (mut client, server) = pair(&world, &listener);
    client.write_all(b"unread").unwrap();
    loop {
        let mut peeked = [0; 6];
        if server.peek(&mut peeked).unwrap() == 6 {
            break;
        }
    }
    drop(server);
    assert_reset(&mut client);
}

#[test]
fn the_end_of_the_gateway_ends_its_connections_and_writes_their_last_lines() {
    let (world, listener) = world_with_server();
    let (mut client, mut server) = pair(&world, &listener);
    client.write_all(b"abc").unwrap();
    let mut words = [0; 3];
    server.read_exact(&mut words).unwrap();
    let (summary, log) = world.finish();
    assert_eq!(summary.bytes_sent, 3);
    let close = log.last().unwrap();
    assert_eq!(
        (close["event"].as_str(), close["bytes_sent"].as_u64()),
        (Some("close"), Some(3))
    );
    assert_eq!(server.read(&mut words).unwrap_or(0), 0);
    assert_eq!(client.read(&mut words).unwrap_or(0), 0);
}

#[test]
fn many_connections_at_once_do_not_mix() {
    let (world, listener) = world_with_server();
    let pairs: Vec<_> = (0..60).map(|_| pair(&world, &listener)).collect();
    std::thread::scope(|scope| {
        for (number, (mut client, mut server)) in pairs.into_iter().enumerate() {
            let sent = scope.spawn(move || send(&mut client, 300_000, number as u64 + 10));
            scope.spawn(move || {
                let received = receive(&mut server);
                assert_eq!(received, (300_000, sent.join().unwrap()));
            });
        }
    });
}
