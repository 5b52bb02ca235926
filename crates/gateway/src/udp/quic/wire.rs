//! Finds the packets in a datagram (RFC 9000 sections 12.2 and 17.2, RFC 9369 section 3.2).
//!
//! Must not require the fixed bit: servers may accept packets without it (RFC 9287).

/// QUIC version 1 (RFC 9000 section 15) and version 2 (RFC 9369 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Version {
    V1,
    V2,
}

const VERSION_1: u32 = 1;
const VERSION_2: u32 = 0x6b33_43cf;
/// Longest connection ID of both versions (RFC 9000 section 17.2).
const ID_LIMIT: usize = 20;
/// Smallest datagram with a client's Initial packet (RFC 9000 section 14.1).
const INITIAL_DATAGRAM: usize = 1200;

/// An Initial packet in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Initial<'datagram> {
    pub(super) version: Version,
    /// Destination Connection ID.
    pub(super) id: &'datagram [u8],
    /// The packet from its first byte to its last.
    pub(super) packet: &'datagram [u8],
    /// Where the protected packet number is in it.
    pub(super) number_at: usize,
}

/// What a datagram holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Packets<'datagram> {
    pub(super) initials: Vec<Initial<'datagram>>,
    /// It may begin a connection of a version that nobody here can read.
    pub(super) has_unknown_version: bool,
}

/// Takes fields from the front.
pub(super) struct Fields<'bytes> {
    bytes: &'bytes [u8],
    taken: usize,
}

impl<'bytes> Fields<'bytes> {
    pub(super) fn new(bytes: &'bytes [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'bytes [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        self.taken += length;
        Some(taken)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A variable-length integer (RFC 9000 section 16).
    pub(super) fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let more = (1_usize << (first >> 6)) - 1;
        let start = u64::from(first & 0x3f);
        let rest = self.take(more)?;
        Some(
            rest.iter()
                .fold(start, |number, byte| number << 8 | u64::from(*byte)),
        )
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }
}

/// Finds all packets.
pub(super) fn packets(datagram: &[u8]) -> Packets<'_> {
    let mut found = Packets::default();
    let mut rest = datagram;
    while let Some((packet, after)) = next(rest, datagram.len(), &mut found) {
        if let Some(packet) = packet {
            found.initials.push(packet);
        }
        rest = after;
    }
    found
}

type Next<'datagram> = (Option<Initial<'datagram>>, &'datagram [u8]);

/// The packet at the front, if it is an Initial one, and what follows it; none where nobody could find a further packet.
fn next<'datagram>(
    bytes: &'datagram [u8],
    datagram_length: usize,
    found: &mut Packets<'_>,
) -> Option<Next<'datagram>> {
    let mut fields = Fields::new(bytes);
    let first = fields.byte()?;
    if first & 0x80 == 0 {
        // A short header: it reaches to the end.
        return None;
    }
    let version = u32::from_be_bytes(fields.take(4)?.try_into().ok()?);
    let kind = first >> 4 & 3;
    // Types in the order Initial, 0-RTT, Handshake, Retry.
    let (version, kind) = match version {
        VERSION_1 => (Version::V1, kind),
        VERSION_2 => (Version::V2, kind.wrapping_sub(1) & 3),
        other => {
            found.has_unknown_version |= may_begin(other, first, datagram_length);
            return None;
        }
    };
    let id_length = usize::from(fields.byte()?);
    let id = fields.take(id_length)?;
    let source_length = usize::from(fields.byte()?);
    fields.take(source_length)?;
    if id_length > ID_LIMIT || source_length > ID_LIMIT || kind == 3 {
        return None;
    }
    if kind == 0 {
        let token_length = fields.length()?;
        fields.take(token_length)?;
    }
    let length = fields.length()?;
    let number_at = fields.taken;
    let end = number_at.checked_add(length)?;
    let (packet, after) = bytes.split_at_checked(end)?;
    let initial = (kind == 0).then_some(Initial {
        version,
        id,
        packet,
        number_at,
    });
    Some((initial, after))
}

/// Whether a packet of another version may begin a connection. Other protocols look alike by accident: NTP has such first
/// bytes, RTP too. They are told apart by the versions that were ever used, else by size and fixed bit.
fn may_begin(version: u32, first: u8, datagram_length: usize) -> bool {
    let [a, b, c, d] = version.to_be_bytes();
    // Drafts of the IETF, Google's QUIC and its TLS variant ("Q050", "T051"), and one of Meta.
    let is_known_family = (a == 0xff && b == 0 && c == 0)
        || (matches!(a, b'Q' | b'T') && [b, c, d].iter().all(u8::is_ascii_digit))
        || (a, b) == (0xfa, 0xce);
    // Version 0 is a server's answer to an unknown version.
    version != 0 && (is_known_family || (first & 0x40 != 0 && datagram_length >= INITIAL_DATAGRAM))
}

/// Whether a flow that begins with this datagram is QUIC. A guess, which decides nothing but how long datagrams are treated.
pub(in crate::udp) fn begins_like_quic(datagram: &[u8]) -> bool {
    datagram.len() >= INITIAL_DATAGRAM && !packets(datagram).initials.is_empty()
}
