//! Hellos built field by field, cut, split and spoilt.

use super::*;

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), long(data)].concat()
}

fn name_extension(name: &[u8]) -> Vec<u8> {
    extension(0, &long(&[&[0], long(name).as_slice()].concat()))
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&long(&[0x13, 1]));
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&long(extensions));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

fn records(message: &[u8], portion: usize) -> Vec<u8> {
    let record = |payload: &[u8]| [[22, 3, 1].to_vec(), long(payload)].concat();
    message.chunks(portion).flat_map(record).collect()
}

fn named(name: &[u8], length: usize) -> Parsed {
    Parsed::Hello {
        hello: Hello {
            server_name: Some(name.to_vec()),
            is_encrypted: false,
        },
        length,
    }
}

#[test]
fn the_name_is_found_however_the_hello_is_cut() {
    let extensions = [
        extension(43, &[2, 3, 4]),
        name_extension(b"api.example.com"),
        extension(0x3a3a, &[0; 300]),
    ]
    .concat();
    let message = message(&extensions);
    for portion in [1, 2, 3, 5, 40, 16_384] {
        let bytes = records(&message, portion);
        assert_eq!(parse(&bytes), named(b"api.example.com", bytes.len()));
        // Bytes that follow change nothing.
        assert_eq!(
            parse(&[bytes.as_slice(), b"\x14\x03\x03"].concat()),
            named(b"api.example.com", bytes.len())
        );
        for length in 0..bytes.len() {
            match parse(&bytes[..length]) {
                Parsed::Incomplete(needed) => assert!(needed > length && needed <= bytes.len()),
                other => panic!("{length} bytes of {portion}: {other:?}"),
            }
        }
    }
}

#[test]
fn other_protocols_are_none() {
    for bytes in [
        b"GET / HTTP/1.1".as_slice(),
        b"SSH-2.0",
        b"\x80\x2e\x02\x00\x02",
        b"\x80\x2e\x01\x02",
        b"\xff\xfd\x01",
        b"\x15\x02\x00",
        b"\x16\x02\x00",
        b"\x00",
    ] {
        assert_eq!(parse(bytes), Parsed::NotTls, "{bytes:?}");
    }
}

#[test]
fn a_hello_without_a_name_or_with_a_hidden_one_is_told_apart() {
    let nothing = Hello {
        server_name: None,
        is_encrypted: false,
    };
    let complete = |bytes: &[u8]| match parse(bytes) {
        Parsed::Hello { hello, length } => {
            assert_eq!(length, bytes.len());
            hello
        }
        other => panic!("a complete hello, not {other:?}"),
    };
    assert_eq!(complete(&records(&message(&[]), 100)), nothing);
    // Without any extensions at all, as old clients do.
    let mut old = message(&[]);
    old.truncate(old.len() - 2);
    old[3] -= 2;
    assert_eq!(complete(&records(&old, 100)), nothing);
    let hidden = [
        name_extension(b"front.example.com"),
        extension(0xfe0d, &[0]),
    ]
    .concat();
    assert!(complete(&records(&message(&hidden), 100)).is_encrypted);
    // In the form of SSL 2.0, for SSL 2.0 and for TLS.
    for bytes in [b"\x80\x2e\x01\x00\x02".as_slice(), b"\x80\x2e\x01\x03"] {
        assert_eq!(complete(bytes), nothing);
        for length in 1..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Parsed::Incomplete(length + 1));
        }
    }
}

#[test]
fn what_parsers_could_read_differently_is_malformed() {
    let name = name_extension(b"a.example.com");
    let two_names = long(
        &[
            &[0],
            long(b"a.example.com").as_slice(),
            &[0],
            &long(b"b.example.com"),
        ]
        .concat(),
    );
    let cases = [
        (
            "two extensions",
            [name.clone(), name_extension(b"b.example.com")].concat(),
        ),
        ("two names", extension(0, &two_names)),
        (
            "an unknown type of name",
            extension(0, &long(&[&[1], long(b"a").as_slice()].concat())),
        ),
        ("an empty name", name_extension(b"")),
        ("an empty list", extension(0, &[0, 0])),
        ("an empty extension", extension(0, &[])),
        (
            "bytes behind the list",
            extension(
                0,
                &[long(&[&[0], long(b"a").as_slice()].concat()), vec![0]].concat(),
            ),
        ),
        (
            "a length beyond the end",
            [name.clone(), vec![0, 43, 0, 9, 1]].concat(),
        ),
    ];
    for (what, extensions) in cases {
        assert_eq!(
            parse(&records(&message(&extensions), 100)),
            Parsed::Malformed,
            "{what}"
        );
    }
    let good = message(&name);
    let mut trailing = good.clone();
    trailing.push(0);
    trailing[3] += 1;
    assert_eq!(parse(&records(&trailing, 100)), Parsed::Malformed);
    // A server's message, an empty record, another type of record in between, a record too long.
    let mut server = good.clone();
    server[0] = 2;
    assert_eq!(parse(&records(&server, 100)), Parsed::Malformed);
    assert_eq!(parse(b"\x16\x03\x01\x00\x00"), Parsed::Malformed);
    // A second message in the record of the first.
    assert_eq!(
        parse(&records(&[good.as_slice(), &good].concat(), 16_384)),
        Parsed::Malformed
    );
    // A warning in front of the hello.
    assert_eq!(
        parse(
            &[
                b"\x15\x03\x01\x00\x02\x01\x5a".as_slice(),
                &records(&good, 100)
            ]
            .concat()
        ),
        Parsed::Malformed
    );
    let mut mixed = records(&good, 20);
    mixed[25] = 23;
    assert_eq!(parse(&mixed), Parsed::Malformed);
    assert_eq!(parse(b"\x16\x03\x01\x40\x01"), Parsed::Malformed);
    assert_eq!(
        parse(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"),
        Parsed::Malformed
    );
}

#[test]
fn spoilt_hellos_never_panic() {
    let good = records(
        &message(&[name_extension(b"a.example.com"), extension(10, &[0; 20])].concat()),
        30,
    );
    let mut state = 0x5eed_u64;
    for _ in 0..200_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [low, high, value, ..] = state.to_le_bytes();
            let place = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
            bytes[place] = value;
        }
        if let Parsed::Incomplete(needed) = parse(&bytes) {
            assert!(needed > bytes.len());
        }
    }
}
