//! Tells whether a server's first message asks for a second ClientHello (HelloRetryRequest, RFC 8446 section 4.1.4).
//!
//! That second hello could carry another name. Must not be used to judge anything else about the server.

/// What a server answered to a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It wants a second one.
    Retry,
    /// Anything else: no ClientHello in the clear follows.
    Other,
}

/// Record header, message header, and version in front of the random value.
const RANDOM_AT: usize = 5 + 4 + 2;
/// Bytes that are needed to tell.
const NEEDED: usize = RANDOM_AT + 32;
/// The random value that makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The first bytes of a server.
#[derive(Debug, Default)]
pub(crate) struct ServerHello {
    head: Vec<u8>,
}

impl ServerHello {
    /// Shows bytes of the server.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        let room = NEEDED.saturating_sub(self.head.len());
        let portion = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.head.extend_from_slice(portion);
    }

    /// The answer; none as long as it can be either.
    pub(crate) fn answer(&self) -> Option<Answer> {
        // Handshake record of TLS, and a ServerHello in it.
        let is_hello = match self.head.as_slice() {
            [22, 3, _, _, _, 2, ..] => true,
            bytes => [22, 3].starts_with(bytes.get(..2).unwrap_or(bytes)) && bytes.len() < 6,
        };
        if !is_hello {
            return Some(Answer::Other);
        }
        let random = self.head.get(RANDOM_AT..NEEDED)?;
        Some(if random == RETRY {
            Answer::Retry
        } else {
            Answer::Other
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(random: [u8; 32]) -> Vec<u8> {
        let mut bytes = vec![22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3];
        bytes.extend_from_slice(&random);
        bytes.extend_from_slice(&[0; 52]);
        bytes
    }

    #[test]
    fn a_retry_is_told_from_the_rest_however_it_is_cut() {
        let mut nearly = RETRY;
        nearly[31] ^= 1;
        for (bytes, expected) in [
            (hello(RETRY), Answer::Retry),
            (hello([7; 32]), Answer::Other),
            (hello(nearly), Answer::Other),
            (b"\x15\x03\x03\x00\x02\x02\x28".to_vec(), Answer::Other),
            (b"220 mail.example.com ready\r\n".to_vec(), Answer::Other),
        ] {
            let mut server = ServerHello::default();
            let mut told = None;
            for &byte in &bytes {
                assert_eq!(told, server.answer());
                server.see(&[byte]);
                told = told.or(server.answer());
            }
            assert_eq!(told, Some(expected));
            let mut server = ServerHello::default();
            server.see(&bytes);
            assert_eq!(server.answer(), Some(expected));
        }
        assert_eq!(ServerHello::default().answer(), None);
    }
}
