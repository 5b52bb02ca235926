//! A domain name as it travels: length-prefixed labels of arbitrary bytes (RFC 1035 section 3.1).
//!
//! Must not treat the bytes as text anywhere but in `to_text`, which escapes them.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use super::wire::{LABEL_LIMIT, Malformed, NAME_LIMIT, Reader};

/// Most compression pointers followed in one name. A legal name of 255 bytes has at most 127 labels, and each pointer
/// must go backwards, so honest messages stay far below.
const POINTER_LIMIT: usize = 32;

/// A complete name in uncompressed wire form, root label included. Equality ignores ASCII case (RFC 4343), the bytes keep it.
#[derive(Debug, Clone)]
pub(crate) struct WireName {
    octets: Vec<u8>,
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        // Length bytes are at most 63 and therefore no ASCII letters: folding them changes nothing.
        self.octets.eq_ignore_ascii_case(&other.octets)
    }
}

impl Eq for WireName {}

impl Hash for WireName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in &self.octets {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
}

impl WireName {
    /// Reads a name that must not be compressed. The question of a query is the first name of its message, so an
    /// honest client has nothing to point at.
    pub(crate) fn read_plain(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut octets = Vec::with_capacity(32);
        while read_label(reader, &mut octets)? == Label::Text {}
        if octets.last() == Some(&0) && octets.len() <= NAME_LIMIT {
            Ok(Self { octets })
        } else {
            Err(Malformed)
        }
    }

    /// Reads a name that may end in compression pointers (RFC 1035 section 4.1.4). Each pointer must go backwards from
    /// where its part of the name began, so a loop is impossible.
    pub(crate) fn read_compressed(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut octets = Vec::with_capacity(32);
        let mut part_start = reader.position();
        let mut far: Option<Reader<'_>> = None;
        for _ in 0..=POINTER_LIMIT {
            let current = far.as_mut().unwrap_or(&mut *reader);
            let target = loop {
                match read_label(current, &mut octets)? {
                    Label::Text => {}
                    Label::Root => return Ok(Self { octets }),
                    Label::Pointer(target) => break usize::from(target),
                }
            };
            if target >= part_start {
                return Err(Malformed);
            }
            part_start = target;
            let mut next = Reader::new(reader.message());
            next.take(target)?;
            far = Some(next);
        }
        Err(Malformed)
    }

    /// Builds the wire form of dotted text whose labels are already known to be plain. A trailing dot is accepted.
    pub(crate) fn from_text(text: &str) -> Result<Self, Malformed> {
        let mut octets = Vec::with_capacity(text.len() + 2);
        let text = text.strip_suffix('.').unwrap_or(text);
        if !text.is_empty() {
            for label in text.split('.') {
                let length = u8::try_from(label.len()).map_err(|_| Malformed)?;
                if length == 0 || usize::from(length) > LABEL_LIMIT {
                    return Err(Malformed);
                }
                octets.push(length);
                octets.extend_from_slice(label.as_bytes());
            }
        }
        octets.push(0);
        if octets.len() > NAME_LIMIT {
            return Err(Malformed);
        }
        Ok(Self { octets })
    }

    /// The uncompressed wire form.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The labels without the root, as bytes.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.octets.as_slice();
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            if length == 0 {
                return None;
            }
            let (label, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            Some(label)
        })
    }

    /// The name as a resolver spells it (RFC 1035 section 5.1): printable ASCII only, everything else as `\DDD`.
    /// Safe for logs and terminals whatever the sender wrote. The trailing dot is left out.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.octets.len());
        for label in self.labels() {
            if !text.is_empty() {
                text.push('.');
            }
            for &octet in label {
                match octet {
                    b'.' | b'\\' => {
                        text.push('\\');
                        text.push(char::from(octet));
                    }
                    b'!'..=b'~' => text.push(char::from(octet)),
                    _ => {
                        // Writing to a String cannot fail.
                        let _ = write!(text, "\\{octet:03}");
                    }
                }
            }
        }
        if text.is_empty() {
            text.push('.');
        }
        text
    }

    /// The same name in lower case.
    pub(crate) fn to_lowercase(&self) -> Self {
        Self {
            octets: self.octets.to_ascii_lowercase(),
        }
    }

    /// The dotted text, if every label is made of letters, digits, `-` and `_` only. No escapes, so two different names
    /// never give the same text.
    pub(crate) fn plain_text(&self) -> Option<String> {
        let plain = self.labels().all(|label| {
            label
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
        });
        plain.then(|| self.to_text())
    }
}

#[derive(PartialEq, Eq)]
enum Label {
    Text,
    Root,
    Pointer(u16),
}

/// Reads one label and appends its wire form. A pointer appends nothing.
fn read_label(reader: &mut Reader<'_>, octets: &mut Vec<u8>) -> Result<Label, Malformed> {
    let first = reader.byte()?;
    match first {
        0 => {
            octets.push(0);
            Ok(Label::Root)
        }
        1..=63 => {
            let label = reader.take(usize::from(first))?;
            octets.push(first);
            octets.extend_from_slice(label);
            // One byte is still needed for the root.
            if octets.len() >= NAME_LIMIT {
                return Err(Malformed);
            }
            Ok(Label::Text)
        }
        0xc0..=0xff => {
            let second = reader.byte()?;
            Ok(Label::Pointer(u16::from_be_bytes([first & 0x3f, second])))
        }
        // 01 and 10 are the extended and bit-string labels that RFC 6891 and RFC 6840 retired.
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<WireName, Malformed> {
        WireName::read_compressed(&mut Reader::new(bytes))
    }

    #[test]
    fn text_and_wire_form_agree() {
        let name = WireName::from_text("API.example.com.").unwrap();
        assert_eq!(name.octets(), b"\x03API\x07example\x03com\x00");
        assert_eq!(name.to_text(), "API.example.com");
        assert_eq!(name, WireName::from_text("api.EXAMPLE.com").unwrap());
        assert_eq!(WireName::from_text("").unwrap().to_text(), ".");
    }

    #[test]
    fn odd_bytes_are_escaped_and_never_plain() {
        let name = read(b"\x05a.b\x00\x1b\x03com\x00").unwrap();
        assert_eq!(name.to_text(), "a\\.b\\000\\027.com");
        assert_eq!(name.plain_text(), None);
        let name = read("\u{7}\u{202e}x.y.\u{3}com\u{0}".as_bytes()).unwrap();
        assert!(name.to_text().is_ascii());
    }

    #[test]
    fn pointers_go_backwards_only() {
        let mut message = b"\x03com\x00\x07example\xc0\x00".to_vec();
        let mut reader = Reader::new(&message);
        reader.take(5).unwrap();
        let name = WireName::read_compressed(&mut reader).unwrap();
        assert_eq!(name.to_text(), "example.com");
        assert!(reader.is_at_end());
        // To itself, forwards, and a pair that would loop.
        assert_eq!(read(b"\xc0\x00").unwrap_err(), Malformed);
        assert_eq!(read(b"\xc0\x02\x00").unwrap_err(), Malformed);
        message = b"\x01a\xc0\x04\x01b\xc0\x00".to_vec();
        assert_eq!(read(&message).unwrap_err(), Malformed);
        // Plain reading accepts no pointer at all.
        let mut reader = Reader::new(b"\x03com\x00\x07example\xc0\x00");
        reader.take(5).unwrap();
        assert!(WireName::read_plain(&mut reader).is_err());
    }

    #[test]
    fn lengths_are_limited() {
        let long = format!(
            "{}.{}.{}.{}",
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61)
        );
        let name = WireName::from_text(&long).unwrap();
        assert_eq!(name.octets().len(), NAME_LIMIT);
        assert_eq!(
            WireName::read_plain(&mut Reader::new(name.octets())).unwrap(),
            name
        );
        assert!(WireName::from_text(&format!("{long}d")).is_err());
        assert!(WireName::from_text(&"a".repeat(64)).is_err());
        assert!(WireName::from_text("a..b").is_err());
        let mut wire = Vec::new();
        for _ in 0..128 {
            wire.extend_from_slice(b"\x01a");
        }
        wire.push(0);
        assert!(WireName::read_plain(&mut Reader::new(&wire)).is_err());
    }
}
