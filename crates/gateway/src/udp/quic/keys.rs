//! The keys of a client's Initial packets (RFC 9001 sections 5.2 to 5.4, RFC 9369 section 3.3).
//!
//! Must not be used for anything that is secret: these keys are known to everybody who sees the packet.

use ring::aead::quic::{AES_128 as HEADER_AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::wire::{Initial, Version};

/// RFC 9001 section 5.2.
const SALT_1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];
/// RFC 9369 section 3.3.1.
const SALT_2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb,
    0xf9, 0xbd, 0x2e, 0xd9,
];
/// Where the sample of the header protection begins, counted from the packet number, and its length (RFC 9001 section 5.4.2).
const SAMPLE_AT: usize = 4;
const SAMPLE: usize = 16;

/// Opens the client's Initial packets of one connection.
pub(super) struct Keys {
    packet: LessSafeKey,
    header: HeaderProtectionKey,
    iv: [u8; 12],
    /// The number of the packet that is expected next (RFC 9000 appendix A.3).
    expected: u64,
}

/// What is derived from a connection ID.
pub(super) struct Secrets {
    pub(super) key: [u8; 16],
    pub(super) iv: [u8; 12],
    pub(super) header: [u8; 16],
}

/// Derives the secrets of a client's Initial packets.
pub(super) fn secrets(version: Version, id: &[u8]) -> Option<Secrets> {
    let (salt, labels) = match version {
        Version::V1 => (&SALT_1, ["quic key", "quic iv", "quic hp"]),
        Version::V2 => (&SALT_2, ["quicv2 key", "quicv2 iv", "quicv2 hp"]),
    };
    let initial = Salt::new(HKDF_SHA256, salt).extract(id);
    let mut secret = [0; 32];
    expand(&initial, "client in", &mut secret)?;
    let secret = Prk::new_less_safe(HKDF_SHA256, &secret);
    let (mut key, mut iv, mut header) = ([0; 16], [0; 12], [0; 16]);
    expand(&secret, labels[0], &mut key)?;
    expand(&secret, labels[1], &mut iv)?;
    expand(&secret, labels[2], &mut header)?;
    Some(Secrets { key, iv, header })
}

/// How many bytes to derive.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Keys {
    /// Derives the keys from the connection ID. None never happens: all lengths are fixed.
    pub(super) fn derive(version: Version, id: &[u8]) -> Option<Self> {
        let secrets = secrets(version, id)?;
        Some(Self {
            packet: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &secrets.key).ok()?),
            header: HeaderProtectionKey::new(&HEADER_AES_128, &secrets.header).ok()?,
            iv: secrets.iv,
            expected: 0,
        })
    }

    /// Opens a packet; none when it was not made with these keys.
    pub(super) fn open(&mut self, initial: &Initial<'_>) -> Option<Vec<u8>> {
        let Initial {
            packet, number_at, ..
        } = *initial;
        let sample_at = number_at + SAMPLE_AT;
        let sample = packet.get(sample_at..sample_at + SAMPLE)?;
        let [first_mask, number_mask @ ..] = self.header.new_mask(sample).ok()?;
        let first = packet.first()? ^ (first_mask & 0x0f);
        let number_length = usize::from(first & 3) + 1;
        let body_at = number_at + number_length;
        let mut header = packet.get(..body_at)?.to_vec();
        *header.first_mut()? = first;
        let mut truncated = 0;
        for (byte, mask) in header.get_mut(number_at..)?.iter_mut().zip(number_mask) {
            *byte ^= mask;
            truncated = truncated << 8 | u64::from(*byte);
        }
        let number = self.number(truncated, number_length);
        let mut nonce = self.iv;
        for (byte, part) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
            *byte ^= part;
        }
        let mut body = packet.get(body_at..)?.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self
            .packet
            .open_in_place(nonce, Aad::from(&header), &mut body)
            .ok()?
            .len();
        body.truncate(length);
        self.expected = self.expected.max(number + 1);
        Some(body)
    }

    /// The full packet number (RFC 9000 appendix A.3).
    fn number(&self, truncated: u64, length: usize) -> u64 {
        let window = 1_u64 << (8 * length);
        let half = window / 2;
        let candidate = (self.expected & !(window - 1)) | truncated;
        if candidate + half <= self.expected {
            candidate + window
        } else if candidate > self.expected + half && candidate >= window {
            candidate - window
        } else {
            candidate
        }
    }
}

/// HKDF-Expand-Label (RFC 8446 section 7.1) without context.
fn expand(secret: &Prk, label: &str, out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label = [b"tls13 ", label.as_bytes()].concat();
    let label_length = [u8::try_from(label.len()).ok()?];
    let info = [&length, label_length.as_slice(), &label, &[0]];
    secret.expand(&info, Bytes(out.len())).ok()?.fill(out).ok()
}
