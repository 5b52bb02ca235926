//! Host names in one canonical form, so that comparing two of them is comparing bytes.
//!
//! Must not accept anything that another parser could read differently: no NUL, no spaces, no percent or at
//! signs, no second spelling of an address (`0x7f.1`, `2130706433`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::punycode;

/// Longest name in presentation form, without the trailing dot (RFC 1035 section 2.3.4: 255 octets on the wire).
pub const NAME_MAX_BYTES: usize = 253;
/// Longest label (RFC 1035 section 2.3.4).
pub const LABEL_MAX_BYTES: usize = 63;

/// Why a text is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing, or only a dot.
    #[error("host name is empty")]
    Empty,
    /// Two dots in a row, or a dot in front.
    #[error("host name `{name}` has an empty label")]
    EmptyLabel {
        /// The text, shortened and escaped.
        name: String,
    },
    /// More than 253 bytes.
    #[error("host name has {length} bytes, at most 253 are allowed")]
    TooLong {
        /// Bytes found.
        length: usize,
    },
    /// A label of more than 63 bytes.
    #[error("label `{label}` of a host name has {length} bytes, at most 63 are allowed")]
    LabelTooLong {
        /// The label, shortened.
        label: String,
        /// Bytes found.
        length: usize,
    },
    /// A character that host names do not have.
    #[error(
        "host name `{name}` contains {character}, only letters, digits, `-`, `_` and `.` are allowed"
    )]
    BadCharacter {
        /// The text, shortened and escaped.
        name: String,
        /// The character, in words or quoted.
        character: String,
    },
    /// A label starts or ends with a hyphen (RFC 952, RFC 1123 section 2.1).
    #[error("label `{label}` of a host name starts or ends with `-`")]
    Hyphen {
        /// The label.
        label: String,
    },
    /// The last label looks like a number, so some programs would read an IPv4 address.
    #[error("`{name}` ends in a number, so programs disagree whether it is a name or an address")]
    LooksLikeAddress {
        /// The text.
        name: String,
    },
    /// An international name that is not in its ASCII form.
    #[error("host name `{name}` is not ASCII; write its ASCII form{}", .ascii.as_ref().map(|a| format!(" `{a}`")).unwrap_or_default())]
    NotAscii {
        /// The text, escaped.
        name: String,
        /// The form to write, when it is certain.
        ascii: Option<String>,
    },
}

/// A host name: lower case, A-labels, no trailing dot.
///
/// Underscores are accepted because service names (`_sip._tcp.example.com`, RFC 2782) are looked up like hosts.
/// Cloning is cheap: the text is shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Arc<str>);

impl HostName {
    /// Parses a host name; upper case and one trailing dot are accepted and removed.
    ///
    /// # Errors
    /// Says what is wrong with the name; see [`HostError`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if !is_plain_name(name) {
            return Err(fault_of(name));
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Ok(Self(Arc::from(name.to_ascii_lowercase())))
        } else {
            Ok(Self(Arc::from(name)))
        }
    }

    /// Wraps a text that was a host name before.
    pub(crate) fn from_canonical(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Returns the canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether this name lies below `parent`, at any depth; a name is not below itself.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0
            .strip_suffix(&*parent.0)
            .is_some_and(|rest| rest.ends_with('.'))
    }

    /// Tells whether the name means this machine by definition: `localhost` and everything below it
    /// (RFC 6761 section 6.3).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        &*self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

/// Tells in one pass whether a text is a host name: lists have a million of them.
fn is_plain_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_MAX_BYTES {
        return false;
    }
    let mut start = 0;
    // The end of the text ends the last label as a dot would.
    for (at, &byte) in bytes.iter().chain(b".").enumerate() {
        if byte == b'.' {
            let label = bytes.get(start..at).unwrap_or_default();
            if !is_plain_label(label) {
                return false;
            }
            start = at + 1;
        } else if !is_host_byte(byte) {
            return false;
        }
    }
    !ends_like_address(name)
}

fn is_plain_label(label: &[u8]) -> bool {
    (1..=LABEL_MAX_BYTES).contains(&label.len())
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Says what is wrong with a text that is no host name.
fn fault_of(name: &str) -> HostError {
    if name.is_empty() {
        return HostError::Empty;
    }
    // Length first: everything below copies the text into a message.
    if name.len() > NAME_MAX_BYTES {
        return HostError::TooLong { length: name.len() };
    }
    if let Some(character) = name
        .chars()
        .find(|&c| !u8::try_from(c).is_ok_and(is_host_byte))
    {
        return bad_character(name, character);
    }
    let label = name
        .split('.')
        .find(|label| !is_plain_label(label.as_bytes()));
    match label {
        None => HostError::LooksLikeAddress {
            name: name.to_owned(),
        },
        Some("") => HostError::EmptyLabel {
            name: name.to_owned(),
        },
        Some(label) if label.len() > LABEL_MAX_BYTES => HostError::LabelTooLong {
            label: crate::text::shorten(label, 20),
            length: label.len(),
        },
        Some(label) => HostError::Hyphen {
            label: label.to_owned(),
        },
    }
}

fn bad_character(name: &str, character: char) -> HostError {
    let shown = name.escape_default().to_string();
    if !character.is_ascii() && !character.is_control() {
        return HostError::NotAscii {
            name: shown,
            ascii: punycode::ascii_form(name),
        };
    }
    let character = match character {
        '\0' => "a NUL byte".to_owned(),
        ' ' => "a space".to_owned(),
        '\r' | '\n' => "a line break".to_owned(),
        c => format!("`{}`", c.escape_default()),
    };
    HostError::BadCharacter {
        name: shown,
        character,
    }
}

/// The "ends in a number" rule of the WHATWG URL standard: inet_aton(3) reads `127.1`, `0x7f.1` and `2130706433`
/// as addresses, and no top-level domain is a number.
fn ends_like_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let digits = last.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    digits || hexadecimal
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests;
