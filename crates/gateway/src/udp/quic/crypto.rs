//! Frames of Initial packets (RFC 9000 sections 12.4 and 19) and the stream that CRYPTO frames carry.
//!
//! Strict where two readers could come to different streams. Must not grow beyond its limit.

use super::wire::Fields;

/// Longest stream: room for two hellos with post-quantum keys.
pub(super) const STREAM_LIMIT: usize = 16 << 10;

const PADDING: u64 = 0;
const PING: u64 = 1;
const ACK: u64 = 2;
const ACK_ECN: u64 = 3;
const CRYPTO: u64 = 6;
const CONNECTION_CLOSE: u64 = 0x1c;

/// A packet or a stream that breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A part of the stream: its offset and bytes.
pub(super) type Part<'packet> = (usize, &'packet [u8]);

/// The CRYPTO frames of a packet.
pub(super) fn parts(packet: &[u8]) -> Result<Vec<Part<'_>>, Malformed> {
    read_parts(packet).ok_or(Malformed)
}

fn read_parts(packet: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut fields = Fields::new(packet);
    while !fields.is_empty() {
        match fields.number()? {
            PADDING | PING => {}
            kind @ (ACK | ACK_ECN) => {
                let (_largest, _delay) = (fields.number()?, fields.number()?);
                let ranges = fields.number()?;
                // The first range, then a gap and a length for each further one. Each takes bytes, so this ends.
                fields.number()?;
                for _ in 0..ranges {
                    fields.number()?;
                    fields.number()?;
                }
                if kind == ACK_ECN {
                    fields.number()?;
                    fields.number()?;
                    fields.number()?;
                }
            }
            CRYPTO => {
                let (offset, length) = (fields.length()?, fields.length()?);
                parts.push((offset, fields.take(length)?));
            }
            CONNECTION_CLOSE => {
                let (_code, _frame) = (fields.number()?, fields.number()?);
                let reason = fields.length()?;
                fields.take(reason)?;
            }
            _ => return None,
        }
    }
    Some(parts)
}

/// The bytes of a stream, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Stream {
    bytes: Vec<u8>,
    is_known: Vec<bool>,
}

impl Stream {
    /// Adds a part. What is known already may be said again, but not differently.
    pub(super) fn add(&mut self, (offset, part): Part<'_>) -> Result<(), Malformed> {
        let end = offset.checked_add(part.len()).ok_or(Malformed)?;
        if end > STREAM_LIMIT {
            return Err(Malformed);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.is_known.resize(end, false);
        }
        let places = self.bytes.iter_mut().zip(&mut self.is_known).skip(offset);
        for ((place, is_known), byte) in places.zip(part) {
            if *is_known && place != byte {
                return Err(Malformed);
            }
            (*place, *is_known) = (*byte, true);
        }
        Ok(())
    }

    /// What is known without a gap from this offset on.
    pub(super) fn from(&self, offset: usize) -> &[u8] {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let known = self
            .is_known
            .iter()
            .skip(offset)
            .take_while(|known| **known);
        rest.get(..known.count()).unwrap_or_default()
    }

    /// The length as far as anything was said.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }
}
