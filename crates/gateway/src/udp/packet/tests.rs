//! Packets taken apart again by other means than they were made.

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// RFC 1071 in its plainest form.
fn is_right(bytes: &[u8]) -> bool {
    let mut total = 0_u32;
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        total = (total & 0xffff) + (total >> 16);
    }
    total == 0xffff
}

fn pseudo(packet: &[u8], next: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&packet[8..40], &length, &[0, 0, 0, next], body].concat()
}

fn made(from: &str, to: &str, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    datagram(address(from), address(to), payload, 7, &mut packets);
    packets
        .iter()
        .map(|(head, part)| [head.as_bytes(), part].concat())
        .collect()
}

#[test]
fn datagrams_carry_ports_lengths_and_right_sums() {
    for length in [0_usize, 1, 2, 3, 5, 1200, 1472, 9000] {
        let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
        let [v4] = &made("203.0.113.7:443", "198.18.0.2:5000", &payload)[..] else {
            panic!("one packet");
        };
        assert!(is_right(&v4[..20]));
        assert_eq!(v4[2..4], u16::try_from(28 + length).unwrap().to_be_bytes());
        assert_eq!(v4[12..20], [203, 0, 113, 7, 198, 18, 0, 2]);
        assert_eq!(v4[20..24], [1, 0xbb, 0x13, 0x88]);
        assert_eq!(v4[28..], payload);
        let [v6] = &made("[2001:db8::7]:443", "[fd72:6363::2]:5000", &payload)[..] else {
            panic!("one packet");
        };
        assert!(is_right(&pseudo(v6, 17, &v6[40..])), "{length}");
        assert_eq!(v6[4..6], u16::try_from(8 + length).unwrap().to_be_bytes());
        assert_eq!(v6[48..], payload);
    }
}

#[test]
fn what_does_not_fit_the_link_is_cut_and_fits_together_again() {
    let payload: Vec<u8> = (0..=252).cycle().take(PAYLOAD_MAX).collect();
    let v4 = made("203.0.113.7:443", "198.18.0.2:5000", &payload);
    assert_eq!(v4.len(), 2);
    let mut whole = vec![0; 8 + payload.len()];
    for packet in &v4 {
        assert!(packet.len() <= MTU && is_right(&packet[..20]));
        let field = u16::from_be_bytes([packet[6], packet[7]]);
        let offset = usize::from(field & 0x1fff) * 8;
        whole[offset..offset + packet.len() - 20].copy_from_slice(&packet[20..]);
        assert_eq!(field & MORE_FRAGMENTS != 0, offset == 0);
    }
    assert_eq!(whole[8..], payload);
    let v6 = made("[2001:db8::7]:443", "[fd72:6363::2]:5000", &payload);
    assert_eq!(v6.len(), 2);
    let mut whole = vec![0; 8 + payload.len()];
    for packet in &v6 {
        assert!(packet.len() <= MTU && packet[6] == FRAGMENT);
        assert_eq!(packet[44..48], 7_u32.to_be_bytes());
        let field = u16::from_be_bytes([packet[42], packet[43]]);
        let offset = usize::from(field & !7);
        whole[offset..offset + packet.len() - 48].copy_from_slice(&packet[48..]);
        assert_eq!(field & 1 != 0, offset == 0);
    }
    assert!(is_right(&pseudo(&v6[0], 17, &whole)));
    assert_eq!(whole[8..], payload);
    assert!(made("203.0.113.7:443", "198.18.0.2:1", &[0; PAYLOAD_MAX + 1]).is_empty());
    assert!(made("203.0.113.7:443", "[fd72:6363::2]:1", b"x").is_empty());
}

#[test]
fn errors_carry_the_offending_header_and_nothing_of_its_contents() {
    let errors = [
        (IcmpError::Prohibited, [3, 13], [1, 1]),
        (IcmpError::PortUnreachable, [3, 3], [1, 4]),
        (IcmpError::HostUnreachable, [3, 1], [1, 3]),
        (IcmpError::NoWay, [3, 6], [1, 6]),
        (IcmpError::TooBig(1400), [3, 4], [2, 0]),
    ];
    for (error, v4, v6) in errors {
        let (agent, original) = (address("198.18.0.2:5000"), address("203.0.113.7:443"));
        let packet = icmp(error, agent, original, 1200).unwrap();
        assert_eq!(packet.len(), 20 + 8 + 28);
        assert!(is_right(&packet[..20]) && is_right(&packet[20..]));
        assert_eq!(packet[20..22], v4);
        assert_eq!(packet[16..20], [198, 18, 0, 2]);
        assert_eq!(packet[40..48], [198, 18, 0, 2, 203, 0, 113, 7]);
        assert_eq!(packet[48..52], [0x13, 0x88, 1, 0xbb]);
        if error == IcmpError::TooBig(1400) {
            assert_eq!(packet[26..28], 1400_u16.to_be_bytes());
        }
        let (agent, original) = (address("[fd72:6363::2]:5000"), address("[2001:db8::7]:443"));
        let packet = icmp(error, agent, original, 1200).unwrap();
        assert_eq!(packet.len(), 40 + 8 + 48);
        assert!(is_right(&pseudo(&packet, 58, &packet[40..])));
        assert_eq!(packet[40..42], v6);
        assert!(icmp(error, agent, address("203.0.113.7:443"), 1).is_none());
    }
}
