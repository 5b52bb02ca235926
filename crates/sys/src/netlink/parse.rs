//! Takes netlink answers apart. Every length comes from outside and is checked before use.
//!
//! Must not: panic on any input, or trust that the kernel pads or terminates anything.

use rustix::io::Errno;

use super::batch::{ATTRIBUTE_HEADER, HEADER, align4};
use super::constants::{NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSGERR_ATTR_MSG};
use super::error::NetlinkError;

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// What follows the message header.
    pub(super) payload: &'a [u8],
}

/// Goes through the messages of one datagram.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, NetlinkError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(length) = read_u32(rest, 0).and_then(|length| usize::try_from(length).ok()) else {
            rest = &[];
            return Some(Err(malformed("message header")));
        };
        let (Some(kind), Some(flags), Some(sequence), Some(payload)) = (
            read_u16(rest, 4),
            read_u16(rest, 6),
            read_u32(rest, 8),
            rest.get(HEADER..length),
        ) else {
            rest = &[];
            return Some(Err(malformed("message length")));
        };
        rest = rest.get(align4(length)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind,
            flags,
            sequence,
            payload,
        }))
    })
}

/// Goes through attributes; a broken one ends the sequence.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest, 0)?);
        let kind = read_u16(rest, 2)? & NLA_TYPE_MASK;
        let payload = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(align4(length)..).unwrap_or(&[]);
        Some((kind, payload))
    })
}

/// An `NLMSG_ERROR` message: an acknowledgement or a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    /// `None` when the message was accepted.
    pub(super) errno: Option<Errno>,
    /// The kernel's explanation.
    pub(super) text: Option<String>,
}

/// Decodes the payload of an `NLMSG_ERROR` message: `struct nlmsgerr`, the request (only its header when capped),
/// then attributes.
pub(super) fn acknowledgement(message: &Message<'_>) -> Result<Acknowledgement, NetlinkError> {
    let code = read_u32(message.payload, 0)
        .map(u32::cast_signed)
        .ok_or_else(|| malformed("acknowledgement"))?;
    if code == 0 {
        return Ok(Acknowledgement {
            errno: None,
            text: None,
        });
    }
    let errno = code
        .checked_neg()
        .filter(|errno| (1..4096).contains(errno))
        .map(Errno::from_raw_os_error)
        .ok_or_else(|| malformed("error number"))?;
    let text = (message.flags & NLM_F_ACK_TLVS != 0)
        .then(|| {
            let echoed = if message.flags & NLM_F_CAPPED != 0 {
                HEADER
            } else {
                usize::try_from(read_u32(message.payload, 4)?).ok()?
            };
            let start = 4_usize.checked_add(echoed).map(align4)?;
            attributes(message.payload.get(start..)?)
                .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
                .map(|(_, text)| printable(text))
        })
        .flatten();
    Ok(Acknowledgement {
        errno: Some(errno),
        text,
    })
}

fn printable(text: &[u8]) -> String {
    let text = text.split(|byte| *byte == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(text)
        .chars()
        .filter(|character| !character.is_control())
        .collect()
}

fn malformed(what: &'static str) -> NetlinkError {
    NetlinkError::Malformed { what }
}

fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    field.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refusal as the kernel sends it with `NETLINK_CAP_ACK` and `NETLINK_EXT_ACK`.
    fn refusal() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&52_u32.to_ne_bytes());
        bytes.extend_from_slice(&2_u16.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_CAPPED | NLM_F_ACK_TLVS).to_ne_bytes());
        bytes.extend_from_slice(&5_u32.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&(-22_i32).to_ne_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&13_u16.to_ne_bytes());
        bytes.extend_from_slice(&1_u16.to_ne_bytes());
        bytes.extend_from_slice(b"bad name\0\0\0\0");
        bytes
    }

    #[test]
    fn reads_errno_and_text_of_a_refusal() {
        let bytes = refusal();
        let message = messages(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.sequence), (2, 5));
        let decoded = acknowledgement(&message).unwrap();
        assert_eq!(decoded.errno, Some(Errno::INVAL));
        assert_eq!(decoded.text.as_deref(), Some("bad name"));
    }

    #[test]
    fn every_truncation_is_an_error_or_loses_only_the_text() {
        let whole = refusal();
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            if length >= 4 {
                let shorter = u32::try_from(length).unwrap();
                cut[..4].copy_from_slice(&shorter.to_ne_bytes());
            }
            for message in messages(&cut) {
                let Ok(message) = message else { continue };
                if let Ok(decoded) = acknowledgement(&message) {
                    assert_eq!(decoded.errno, Some(Errno::INVAL), "cut at {length}");
                }
            }
        }
    }

    #[test]
    fn a_length_beyond_the_datagram_is_malformed() {
        let mut bytes = refusal();
        bytes[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(
            messages(&bytes).next(),
            Some(Err(NetlinkError::Malformed { .. }))
        ));
    }

    #[test]
    fn a_zero_length_attribute_ends_the_sequence() {
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
