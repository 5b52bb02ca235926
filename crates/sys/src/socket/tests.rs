//! Control messages and socket addresses, with every way they can be cut short.

use super::*;

fn sockaddr_in() -> Vec<u8> {
    let (name, length) = encode_v4("203.0.113.7:443".parse().unwrap()).unwrap();
    name.0[..usize::try_from(length).unwrap()].to_vec()
}

#[test]
fn addresses_survive_the_round_trip() {
    for text in ["203.0.113.7:443", "[2001:db8::7]:22"] {
        let address: SocketAddr = text.parse().unwrap();
        let (name, _) = encode_v6(mapped(address));
        assert_eq!(socket_address(&name.0), Some(address));
    }
    assert_eq!(
        socket_address(&sockaddr_in()),
        "203.0.113.7:443".parse().ok()
    );
    assert!(encode_v4("[2001:db8::7]:22".parse().unwrap()).is_none());
}

#[test]
fn cut_or_foreign_addresses_are_none() {
    let whole = sockaddr_in();
    for length in 0..8 {
        assert_eq!(socket_address(&whole[..length]), None, "cut at {length}");
    }
    let (name, _) = encode_v6("[2001:db8::7]:22".parse().unwrap());
    for length in 0..24 {
        assert_eq!(socket_address(&name.0[..length]), None, "cut at {length}");
    }
    assert_eq!(socket_address(&[1, 0, 0, 0, 0, 0, 0, 0]), None); // AF_UNIX
}

#[test]
fn control_messages_survive_the_round_trip() {
    let (first, first_length) = control_message(1, 2, b"abc");
    let (second, second_length) = control_message(3, 4, &[5; 20]);
    let mut bytes = first.0[..first_length].to_vec();
    bytes.extend_from_slice(&second.0[..second_length]);
    let found: Vec<_> = control_messages(&bytes).collect();
    assert_eq!(found, [(1, 2, &b"abc"[..]), (3, 4, &[5; 20][..])]);
}

#[test]
fn cut_control_messages_end_the_sequence() {
    let (control, length) = control_message(1, 2, &[5; 20]);
    for cut in 0..CONTROL_HEADER + 20 {
        assert_eq!(
            control_messages(&control.0[..cut]).count(),
            0,
            "cut at {cut}"
        );
    }
    assert_eq!(control_messages(&control.0[..length]).count(), 1);
    // A length of zero must not loop, one below the header or beyond the buffer must not be read.
    for bad in [0, 1, CONTROL_HEADER - 1, CONTROL_SPACE + 1, usize::MAX] {
        let mut bytes = control.0;
        bytes[..size_of::<usize>()].copy_from_slice(&bad.to_ne_bytes());
        assert_eq!(control_messages(&bytes).count(), 0, "length {bad}");
    }
}

#[test]
fn a_socket_without_original_destinations_is_an_error() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    let error = recv_with_original_destination(socket.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(error.errno, Errno::BADMSG);
}
