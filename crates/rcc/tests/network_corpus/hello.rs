//! Bytes of a TLS ClientHello (RFC 8446 section 4.1.2) as no library would make them.
//!
//! Must stay a builder: what a hello is for stands in the cases.

/// Extension types (IANA registry of TLS extensions).
pub(crate) const SERVER_NAME: u16 = 0;
pub(crate) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

fn with_length(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

/// The list of a `server_name` extension (RFC 6066 section 3).
pub(crate) fn server_names(names: &[&[u8]]) -> Vec<u8> {
    let entries: Vec<u8> = names
        .iter()
        .flat_map(|name| [vec![0], with_length(2, name)].concat())
        .collect();
    with_length(2, &entries)
}

/// A handshake message with these extensions in front of those that a server needs.
pub(crate) fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let own = [
        // TLS 1.3 and 1.2; x25519; ECDSA and RSA signatures; a share of x25519 (any 32 bytes are one).
        (43, vec![4, 3, 4, 3, 3]),
        (10, vec![0, 2, 0, 29]),
        (13, vec![0, 6, 4, 3, 8, 4, 4, 1]),
        (51, [vec![0, 36, 0, 29, 0, 32], vec![9; 32]].concat()),
    ];
    let all: Vec<u8> = extensions
        .iter()
        .chain(&own)
        .flat_map(|(kind, body)| [kind.to_be_bytes().to_vec(), with_length(2, body)].concat())
        .collect();
    let body = [
        vec![3, 3],
        vec![7; 32],
        vec![0],
        with_length(2, &[0x13, 1, 0x13, 2, 0xc0, 0x2b, 0xc0, 0x2f]),
        vec![1, 0],
        with_length(2, &all),
    ]
    .concat();
    [vec![1], with_length(3, &body)].concat()
}

/// The message cut into records of at most so many bytes.
pub(crate) fn records(message: &[u8], most: usize) -> Vec<u8> {
    message
        .chunks(most)
        .flat_map(|part| [vec![22, 3, 1], with_length(2, part)].concat())
        .collect()
}

/// One record with a hello for one name.
pub(crate) fn for_name(name: &[u8]) -> Vec<u8> {
    records(&message(&[(SERVER_NAME, server_names(&[name]))]), 16384)
}
