//! Packets made by an own sealer, split, mixed, spoilt; and the packets of the two RFCs.

use ring::aead::quic::{AES_128 as HEADER_AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::super::keys;
use super::*;

/// RFC 9001 appendix A.2 and RFC 9369 appendix A.2.
const RFC_9001: &str = include_str!("rfc9001.hex");
const RFC_9369: &str = include_str!("rfc9369.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length, bytes].concat()
}

/// A ClientHello for a name, with its message header.
fn hello(name: &str, padding: usize) -> Vec<u8> {
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes(), long(data).as_slice()].concat();
    let names = long(&[&[0], long(name.as_bytes()).as_slice()].concat());
    let extensions = [extension(0x3a3a, &vec![0; padding]), extension(0, &names)].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &short(&[]),
        &long(&[0x13, 1]),
        &short(&[0]),
        &long(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], &body].concat()
}

fn number(value: usize) -> Vec<u8> {
    (u16::try_from(value).unwrap() | 0x4000)
        .to_be_bytes()
        .to_vec()
}

fn crypto_frame(offset: usize, bytes: &[u8]) -> Vec<u8> {
    [&[6], number(offset).as_slice(), &number(bytes.len()), bytes].concat()
}

/// Seals an Initial packet with the keys of `key_id` and the connection ID `id`.
fn sealed(
    version: Version,
    key_id: &[u8],
    id: &[u8],
    packet_number: u32,
    frames: &[u8],
) -> Vec<u8> {
    let (wire_version, kind): (u32, u8) = match version {
        Version::V1 => (1, 0),
        Version::V2 => (0x6b33_43cf, 1),
    };
    let secrets = keys::secrets(version, key_id).unwrap();
    let mut header = vec![0xc3 | kind << 4];
    header.extend_from_slice(&wire_version.to_be_bytes());
    header.extend_from_slice(&short(id));
    header.extend_from_slice(&short(&[9; 8]));
    header.extend_from_slice(&number(0));
    header.extend_from_slice(&number(4 + frames.len() + 16));
    let number_at = header.len();
    header.extend_from_slice(&packet_number.to_be_bytes());
    let mut nonce = secrets.iv;
    for (byte, part) in nonce.iter_mut().skip(8).zip(packet_number.to_be_bytes()) {
        *byte ^= part;
    }
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &secrets.key).unwrap());
    let mut body = frames.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(&header),
        &mut body,
    )
    .unwrap();
    let mut packet = [header, body].concat();
    let sample = packet[number_at + 4..number_at + 20].to_vec();
    let mask = HeaderProtectionKey::new(&HEADER_AES_128, &secrets.header)
        .unwrap()
        .new_mask(&sample)
        .unwrap();
    packet[0] ^= mask[0] & 0x0f;
    for (place, byte) in packet[number_at..number_at + 4].iter_mut().zip(&mask[1..]) {
        *place ^= byte;
    }
    packet
}

fn initial(id: &[u8], packet_number: u32, frames: &[u8]) -> Vec<u8> {
    let padded = [frames, &vec![0; 1100_usize.saturating_sub(frames.len())]].concat();
    sealed(Version::V1, id, id, packet_number, &padded)
}

/// A guard for `good.example`.
struct Gate {
    guard: Guard,
    now: Instant,
    strictness: Strictness,
}

impl Gate {
    fn new() -> Self {
        Self {
            guard: Guard::new(&Arc::default(), &Arc::default()),
            now: Instant::now(),
            strictness: Strictness::Strict,
        }
    }

    /// `pass`, `stop`, how many were released, or the code of the refusal.
    fn judge(&mut self, datagram: &[u8]) -> String {
        let check = |hello: &Hello| {
            let is_good = hello.server_name.as_deref() == Some(b"good.example");
            (!is_good).then(|| Refusal::denied("quic_name_mismatch", "another name"))
        };
        match self.guard.judge(datagram, self.strictness, self.now, check) {
            Passage::Pass => "pass".to_owned(),
            Passage::Stop => "stop".to_owned(),
            Passage::Release(datagrams) => {
                assert_eq!(datagrams.last().map(Vec::as_slice), Some(datagram));
                format!("release {}", datagrams.len())
            }
            Passage::Refuse(refusal) => refusal.code.to_owned(),
        }
    }
}

#[test]
fn the_packets_of_the_rfcs_are_read() {
    for (text, version) in [(RFC_9001, Version::V1), (RFC_9369, Version::V2)] {
        let datagram = unhex(text);
        assert_eq!(datagram.len(), 1200);
        let found = packets(&datagram);
        let [packet] = &found.initials[..] else {
            panic!("one packet: {found:?}");
        };
        assert_eq!(packet.version, version);
        assert_eq!(packet.id, unhex("8394c8f03e515708"));
        let opened = Keys::derive(version, packet.id)
            .unwrap()
            .open(packet)
            .unwrap();
        let parts = parts(&opened).unwrap();
        assert_eq!(parts.len(), 1);
        let hello = parse_body(&parts[0].1[4..]).unwrap();
        assert_eq!(hello.server_name.as_deref(), Some(&b"example.com"[..]));
    }
}

#[test]
fn a_hello_for_the_name_passes_and_another_is_refused() {
    for version in [Version::V1, Version::V2] {
        let frames = |name| crypto_frame(0, &hello(name, 0));
        let id = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut gate = Gate::new();
        assert_eq!(
            gate.judge(&sealed(version, &id, &id, 0, &frames("good.example"))),
            "pass"
        );
        // Said again, and packets of later stages.
        assert_eq!(
            gate.judge(&sealed(version, &id, &id, 1, &frames("good.example"))),
            "pass"
        );
        assert_eq!(gate.judge(b"\x40short header"), "pass");
        let other = sealed(version, &[9; 8], &[9; 8], 0, &frames("evil.example"));
        assert_eq!(gate.judge(&other), "quic_name_mismatch");
    }
}

#[test]
fn a_hello_in_pieces_waits_for_the_last_one_in_any_order() {
    let id = [5; 8];
    let message = hello("good.example", 1500);
    let parts: Vec<_> = message
        .chunks(300)
        .enumerate()
        .map(|(index, chunk)| crypto_frame(index * 300, chunk))
        .collect();
    for order in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]] {
        let mut gate = Gate::new();
        for (place, part) in order.iter().enumerate() {
            let packet = initial(&id, u32::try_from(place).unwrap(), &parts[*part]);
            let expected = if place < 5 { "stop" } else { "release 6" };
            assert_eq!(gate.judge(&packet), expected, "{order:?}");
            if place == 0 {
                assert_eq!(gate.judge(b""), "stop", "nothing overtakes");
                gate.guard.held.pop();
            }
        }
    }
    // The evil name in the second piece: nothing of it goes anywhere.
    let message = hello("evil.example", 1500);
    let mut gate = Gate::new();
    assert_eq!(
        gate.judge(&initial(&id, 0, &crypto_frame(0, &message[..800]))),
        "stop"
    );
    let rest = initial(&id, 1, &crypto_frame(800, &message[800..]));
    assert_eq!(gate.judge(&rest), "quic_name_mismatch");
}

#[test]
fn every_packet_of_a_datagram_is_read() {
    let good = initial(&[1; 8], 0, &crypto_frame(0, &hello("good.example", 0)));
    let evil = initial(&[2; 8], 0, &crypto_frame(0, &hello("evil.example", 0)));
    // A Handshake packet of nobody, with a right length, in front.
    let handshake = [&[0xe0, 0, 0, 0, 1, 1, 7, 0, 0x40, 5][..], b"12345"].concat();
    for datagram in [
        [good.as_slice(), &evil].concat(),
        [handshake.as_slice(), &evil].concat(),
        [handshake.as_slice(), &good, &handshake, &evil, b"junk"].concat(),
    ] {
        assert_eq!(Gate::new().judge(&datagram), "quic_name_mismatch");
    }
    assert_eq!(Gate::new().judge(&[handshake, good].concat()), "pass");
}

#[test]
fn what_was_said_cannot_be_said_differently() {
    let id = [3; 8];
    let mut gate = Gate::new();
    let message = hello("good.example", 0);
    assert_eq!(
        gate.judge(&initial(&id, 0, &crypto_frame(0, &message))),
        "pass"
    );
    let changed = initial(&id, 1, &crypto_frame(0, &hello("evil.example", 0)));
    assert_eq!(gate.judge(&changed), "quic_malformed");
    // In another flow, too, even when both are for the name: a server would mix them.
    let mut elsewhere = Gate::new();
    elsewhere.guard = Guard::new(&gate.guard.all, &gate.guard.seen);
    let longer = initial(&id, 0, &crypto_frame(0, &hello("good.example", 7)));
    assert_eq!(elsewhere.judge(&longer), "quic_malformed");
    let mut same = Gate::new();
    same.guard = Guard::new(&gate.guard.all, &gate.guard.seen);
    assert_eq!(
        same.judge(&initial(&id, 0, &crypto_frame(0, &message))),
        "pass"
    );
    // After a HelloRetryRequest, under the server's connection ID and the first keys.
    let first = message.len();
    let second = |name| [crypto_frame(first, &hello(name, 3)), vec![0; 900]].concat();
    let again = |number, name| sealed(Version::V1, &id, &[0xaa; 5], number, &second(name));
    assert_eq!(same.judge(&again(1, "good.example")), "pass");
    assert_eq!(gate.judge(&again(2, "evil.example")), "quic_name_mismatch");
}

#[test]
fn what_nobody_can_open_begins_nothing() {
    let id = [4; 8];
    let good = crypto_frame(0, &hello("good.example", 0));
    let mut gate = Gate::new();
    // Keys of another connection ID, and a spoilt packet.
    let foreign = sealed(
        Version::V1,
        &[8; 8],
        &id,
        0,
        &[good.as_slice(), &[0; 900]].concat(),
    );
    assert_eq!(gate.judge(&foreign), "stop");
    let mut spoilt = initial(&id, 0, &good);
    *spoilt.last_mut().unwrap() ^= 1;
    assert_eq!(gate.judge(&spoilt), "stop");
    assert_eq!(gate.judge(&initial(&id, 0, &good)), "pass");
    // Other protocols.
    for bytes in [
        &b""[..],
        b"\x16\xfe\xfd\0\0\0\0\0\0\0\0",
        b"\xe3\x00\x06\xec\0\0\0\0",
        &[0x80; 172],
        &[0xff; 4],
        b"\xc0\0\0\0\0junk",
    ] {
        assert_eq!(gate.judge(bytes), "pass", "{bytes:?}");
    }
}

#[test]
fn versions_that_nobody_can_read_are_refused_where_a_rule_names_the_host() {
    let versions: [u32; 4] = [0xff00_001d, 0x5130_3530, 0xface_b002, 0x1a2a_3a4a];
    for version in versions {
        let mut datagram = vec![0xc0];
        datagram.extend_from_slice(&version.to_be_bytes());
        datagram.resize(1200, 1);
        assert_eq!(Gate::new().judge(&datagram), "quic_version", "{version:x}");
        let mut lenient = Gate::new();
        lenient.strictness = Strictness::Lenient;
        assert_eq!(lenient.judge(&datagram), "pass", "{version:x}");
    }
}

#[test]
fn waiting_has_bounds() {
    let id = [6; 8];
    let part = crypto_frame(0, &hello("good.example", 0)[..20]);
    let mut gate = Gate::new();
    for number in 0..16 {
        assert_eq!(gate.judge(&initial(&id, number, &part)), "stop");
    }
    assert_eq!(gate.judge(&initial(&id, 16, &part)), "quic_incomplete");
    assert_eq!(gate.guard.overdue(gate.now), None);
    let overdue = gate.guard.overdue(gate.now + HOLD_TIME).unwrap();
    assert_eq!(overdue.code, "quic_incomplete");
    let all = Arc::clone(&gate.guard.all);
    assert!(all.load(Ordering::Relaxed) > 16 * 1100);
    drop(gate);
    assert_eq!(all.load(Ordering::Relaxed), 0);
    // A stream beyond its limit, a message that is none, a frame that must not be there.
    let frame = |frames: &[u8]| Gate::new().judge(&initial(&id, 0, frames));
    assert_eq!(
        frame(&crypto_frame(STREAM_LIMIT - 1, b"xx")),
        "quic_malformed"
    );
    assert_eq!(frame(&crypto_frame(0, &[2, 0, 0, 0])), "quic_malformed");
    assert_eq!(frame(&[0x08, 0, 1]), "quic_malformed");
    assert_eq!(frame(&[2, 0, 0, 0x7f, 0xff]), "quic_malformed");
}

#[test]
fn spoilt_datagrams_never_panic() {
    let good = initial(&[7; 8], 0, &crypto_frame(0, &hello("good.example", 0)));
    let mut state = 0x5eed_u64;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [low, value, ..] = state.to_le_bytes();
            // The header, where lengths are.
            bytes[usize::from(low) % 40] = value;
        }
        let told = Gate::new().judge(&bytes);
        assert!(
            ["pass", "stop", "quic_version", "quic_malformed"].contains(&told.as_str()),
            "{told}"
        );
    }
    // And what is inside, behind right keys.
    for _ in 0..20_000 {
        let mut frames = crypto_frame(0, &hello("good.example", 0));
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [low, value, ..] = state.to_le_bytes();
        let place = usize::from(low) % frames.len();
        frames[place] = value;
        Gate::new().judge(&initial(&[7; 8], 0, &frames));
    }
}

#[test]
fn more_connections_than_are_remembered_free_no_datagram_of_an_unjudged_one() {
    let other = hello("bad.example", 0);
    let (start, _) = other.split_at(other.len() - 1);
    let mut gate = Gate::new();
    assert_eq!(
        gate.judge(&initial(&[7; 8], 0, &crypto_frame(0, start))),
        "stop"
    );
    let good = crypto_frame(0, &hello("good.example", 0));
    for number in 0..u8::try_from(HELD_DATAGRAMS).unwrap() - 1 {
        assert_eq!(
            gate.judge(&initial(&[number; 9], 0, &good)),
            "stop",
            "{number}"
        );
    }
    // Full of connections that are open: none of them makes room.
    let mut gate = Gate::new();
    for number in 0..u8::try_from(CONNECTIONS).unwrap() {
        let frames = crypto_frame(0, start);
        assert_eq!(gate.judge(&initial(&[number; 8], 0, &frames)), "stop");
    }
    assert_eq!(gate.judge(&initial(&[99; 8], 0, &good)), "limit_quic");
}
