//! Sizes in bytes, with strict units.
//!
//! Must not guess. `2G` is 2 GiB, as the kernel's own files, systemd, podman and docker have it; other spellings are refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

/// Units of 1000 and 1024 bytes (IEC 80000-13), largest first; the bare letters, which only reading knows, at the end.
const UNITS: [(&str, u64); 13] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];
/// How many of them are written, too.
const WRITTEN_UNITS: usize = 9;

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number in front, or not a whole one.
    #[error("`{text}` is no size; write a whole number and a unit, such as `512MiB`")]
    NotASize {
        /// The text, escaped.
        text: String,
    },
    /// An unknown or ambiguous unit.
    #[error(
        "`{unit}` is no unit of size; use B, KB, MB, GB, TB, KiB, MiB, GiB or TiB; K, M, G and T are the binary ones"
    )]
    Unit {
        /// The unit, escaped.
        unit: String,
    },
    /// More than fits.
    #[error("size `{text}` is too large")]
    TooLarge {
        /// The text, escaped.
        text: String,
    },
}

impl ByteSize {
    /// Makes a size of this many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes a size of this many MiB.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Parses a whole number of bytes, or of a unit: `4096`, `512MiB`, `2 GB`.
    ///
    /// # Errors
    /// Says whether number, unit or amount is wrong.
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let shown = || crate::text::shorten(text, 40);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = text.split_at_checked(digits).unwrap_or((text, ""));
        if number.is_empty() || rest.starts_with(['.', ',']) {
            return Err(SizeError::NotASize { text: shown() });
        }
        let word = rest.strip_prefix(' ').unwrap_or(rest);
        let factor = match (rest, UNITS.iter().find(|(unit, _)| *unit == word)) {
            ("", _) => 1,
            (_, Some(&(_, factor))) => factor,
            (_, None) => {
                return Err(SizeError::Unit {
                    unit: crate::text::shorten(word, 20),
                });
            }
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| SizeError::TooLarge { text: shown() })
    }
}

/// The shortest exact form; reads back as the same size.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .into_iter()
            .take(WRITTEN_UNITS)
            .filter(|&(_, factor)| self.0.is_multiple_of(factor) && self.0 >= factor)
            .min_by_key(|&(_, factor)| self.0 / factor)
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        assert_eq!(ByteSize::parse("4096").unwrap().bytes(), 4096);
        assert_eq!(ByteSize::parse("512MiB").unwrap().bytes(), 512 << 20);
        assert_eq!(ByteSize::parse("2 GB").unwrap().bytes(), 2_000_000_000);
        assert_eq!(ByteSize::parse("1KB").unwrap().bytes(), 1000);
        assert_eq!(ByteSize::parse("2G").unwrap().bytes(), 2 << 30);
        assert_eq!(ByteSize::from_mib(512).to_string(), "512MiB");
        assert_eq!(ByteSize::from_bytes(0).to_string(), "0B");
    }

    #[test]
    fn refuses_what_is_ambiguous() {
        for bad in [
            "", "2g", "2Gi", "2P", "512mib", "1.5GiB", "-1", "+1", " 1", "1  GB", "1 ", "0x10",
            "1e9", "GiB", "∞", "1\0",
        ] {
            assert!(ByteSize::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(matches!(
            ByteSize::parse("99999999TiB"),
            Err(SizeError::TooLarge { .. })
        ));
        assert!(matches!(
            ByteSize::parse("99999999999999999999"),
            Err(SizeError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn display_parses_back(bytes in any::<u64>(), shift in 0u32..64) {
            let size = ByteSize::from_bytes(bytes >> shift << (shift / 2));
            prop_assert_eq!(ByteSize::parse(&size.to_string()).unwrap(), size);
        }

        #[test]
        fn never_panics(text in ".{0,20}") {
            let _ = ByteSize::parse(&text);
        }
    }
}
