//! Paths and strings from the operating system that need not be UTF-8: serialised without loss, printed without harm.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string of the operating system (path, argument, variable).
///
/// In JSON it is a string when it is UTF-8 and an array of bytes otherwise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeBytes(OsString);

impl SafeBytes {
    /// Borrows it as a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Borrows it as an operating-system string.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

impl From<OsString> for SafeBytes {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<&OsStr> for SafeBytes {
    fn from(text: &OsStr) -> Self {
        Self(text.to_owned())
    }
}

impl From<&str> for SafeBytes {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for SafeBytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<PathBuf> for SafeBytes {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string())
    }
}

impl From<&Path> for SafeBytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().to_owned())
    }
}

impl std::fmt::Debug for SafeBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", escape(&self.0))
    }
}

impl std::fmt::Display for SafeBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

/// Renders bytes for a person: control characters, bidirectional overrides and invalid UTF-8 are escaped.
#[must_use]
pub fn escape(text: impl AsRef<OsStr>) -> String {
    let mut out = String::new();
    for chunk in text.as_ref().as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            let harmful = character.is_control()
                || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if harmful {
                out.extend(character.escape_unicode());
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

impl Serialize for SafeBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.0.as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SafeBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => Self(text.into()),
            Either::Bytes(bytes) => Self(OsString::from_vec(bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_utf8_survives_json() {
        let original = SafeBytes(OsString::from_vec(vec![b'/', 0xff, b'a']));
        let json = serde_json::to_string(&original).unwrap();
        assert_eq!(json, "[47,255,97]");
        assert_eq!(serde_json::from_str::<SafeBytes>(&json).unwrap(), original);
    }

    #[test]
    fn escape_neutralises_terminal_sequences_and_overrides() {
        let text = OsString::from_vec(b"a\x1b[2J\xe2\x80\xaeb\xff\n".to_vec());
        assert_eq!(escape(text), "a\\u{1b}[2J\\u{202e}b\\xff\\u{a}");
    }
}
