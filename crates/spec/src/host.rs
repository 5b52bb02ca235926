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
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        // Length first: everything below may copy the text into a message.
        if name.len() > NAME_MAX_BYTES {
            return Err(HostError::TooLong { length: name.len() });
        }
        if let Some(character) = name.chars().find(|&c| !is_host_character(c)) {
            return Err(bad_character(name, character));
        }
        let mut last = "";
        for label in name.split('.') {
            check_label(name, label)?;
            last = label;
        }
        if ends_like_address(last) {
            return Err(HostError::LooksLikeAddress {
                name: name.to_owned(),
            });
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

fn is_host_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
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

fn check_label(name: &str, label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel {
            name: name.to_owned(),
        });
    }
    if label.len() > LABEL_MAX_BYTES {
        return Err(HostError::LabelTooLong {
            label: label.chars().take(20).collect::<String>() + "…",
            length: label.len(),
        });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::Hyphen {
            label: label.to_owned(),
        });
    }
    Ok(())
}

/// The "ends in a number" rule of the WHATWG URL standard: inet_aton(3) reads `127.1`, `0x7f.1` and `2130706433`
/// as addresses, and no top-level domain is a number.
fn ends_like_address(last: &str) -> bool {
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
