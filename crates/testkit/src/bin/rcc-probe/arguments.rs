//! The words after a probe's name, and the small language of raw system call arguments.
//!
//! Must not guess: a missing or odd word is a usage error.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use crate::Refusal;

/// The words after the name.
#[derive(Debug)]
pub(crate) struct Arguments {
    words: Vec<OsString>,
}

impl Arguments {
    pub(crate) fn new(words: Vec<OsString>) -> Self {
        Self { words }
    }

    pub(crate) fn count(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn rest(&self, from: usize) -> &[OsString] {
        self.words.get(from..).unwrap_or_default()
    }

    pub(crate) fn path(&self, index: usize) -> Result<&Path, Refusal> {
        self.words
            .get(index)
            .map(Path::new)
            .ok_or_else(|| Refusal::Usage(format!("argument {} is missing", index + 1)))
    }

    pub(crate) fn text(&self, index: usize) -> Result<&str, Refusal> {
        let word = self.path(index)?.as_os_str();
        word.to_str()
            .ok_or_else(|| Refusal::Usage(format!("{} is not text", word.to_string_lossy())))
    }

    pub(crate) fn text_or<'a>(
        &'a self,
        index: usize,
        default: &'a str,
    ) -> Result<&'a str, Refusal> {
        if index < self.words.len() {
            self.text(index)
        } else {
            Ok(default)
        }
    }

    pub(crate) fn number<T: TryFrom<i128>>(&self, index: usize) -> Result<T, Refusal> {
        let word = self.text(index)?;
        parse_number(word)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| Refusal::Usage(format!("`{word}` is not a number that fits")))
    }

    pub(crate) fn number_or<T: TryFrom<i128>>(
        &self,
        index: usize,
        default: T,
    ) -> Result<T, Refusal> {
        if index < self.words.len() {
            self.number(index)
        } else {
            Ok(default)
        }
    }

    pub(crate) fn milliseconds_or(&self, index: usize, default: u64) -> Result<Duration, Refusal> {
        self.number_or(index, default).map(Duration::from_millis)
    }
}

/// Reads decimal, `0x…` and `0o…` numbers, with a sign.
pub(crate) fn parse_number(word: &str) -> Option<i128> {
    let (sign, digits) = word
        .strip_prefix('-')
        .map_or((1, word), |digits| (-1, digits));
    let number = if let Some(hexadecimal) = digits.strip_prefix("0x") {
        i128::from_str_radix(hexadecimal, 16)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i128::from_str_radix(octal, 8)
    } else {
        digits.parse()
    };
    number.ok().map(|number| sign * number)
}

/// An owned argument of a system call; borrows of it go to the kernel.
#[derive(Debug)]
pub(crate) enum Owned {
    Number(u64),
    Text(CString),
    Buffer(Vec<u8>),
}

/// Reads one raw argument: a number, `null`, `str:TEXT`, `zero:N` (N writable zero bytes) or `hex:BYTES`.
pub(crate) fn raw_argument(word: &OsStr) -> Result<Owned, Refusal> {
    let bad = || {
        Refusal::Usage(format!(
            "`{}` is no system call argument",
            word.to_string_lossy()
        ))
    };
    if let Some(text) = word.as_bytes().strip_prefix(b"str:") {
        return CString::new(text).map(Owned::Text).map_err(|_| bad());
    }
    let word = word.to_str().ok_or_else(bad)?;
    if word == "null" {
        return Ok(Owned::Number(0));
    }
    if let Some(count) = word.strip_prefix("zero:") {
        return count
            .parse()
            .map(|count| Owned::Buffer(vec![0; count]))
            .map_err(|_| bad());
    }
    if let Some(digits) = word.strip_prefix("hex:") {
        return unhex(digits).map(Owned::Buffer).ok_or_else(bad);
    }
    let number = parse_number(word).ok_or_else(bad)?;
    // Negative numbers go as the kernel would see a sign-extended int.
    let number = u64::try_from(number).or_else(|_| i64::try_from(number).map(i64::cast_unsigned));
    number.map(Owned::Number).map_err(|_| bad())
}

/// Reads pairs of hexadecimal digits.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
