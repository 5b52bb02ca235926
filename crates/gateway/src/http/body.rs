//! Walks over a chunked body (RFC 9112 section 7.1).
//!
//! Must not look at the content, and must not pass a line of framing that servers could read differently.

use super::Fault;
use super::head::{check_trailer, line_end};

/// Longest line with a chunk's size and its extensions, in bytes.
const CHUNK_LINE: usize = 256;
/// Longest trailer section.
const TRAILERS: usize = 8 << 10;
/// Hexadecimal digits of a size that certainly fits.
const SIZE_DIGITS: usize = 15;

/// Where in a chunked body we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    Size,
    /// The line end behind a chunk.
    Separator,
    /// The trailer section, with the bytes that were in it so far.
    Trailers(usize),
}

/// What comes next of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes are needed.
    More,
    /// So many bytes of framing, then so many of content, then go on with this.
    Pass(usize, u64, Chunked),
    /// So many bytes, then the body is over.
    End(usize),
}

impl Chunked {
    pub(super) fn next(self, bytes: &[u8]) -> Result<Next, Fault> {
        match self {
            Self::Size => {
                check_start(bytes)?;
                let Some(end) = line_end(bytes, CHUNK_LINE)? else {
                    return Ok(Next::More);
                };
                let size = size(bytes.get(..end - 2).unwrap_or_default())?;
                Ok(match size {
                    0 => Next::Pass(end, 0, Self::Trailers(0)),
                    size => Next::Pass(end, size, Self::Separator),
                })
            }
            Self::Separator => match bytes {
                [b'\r', b'\n', ..] => Ok(Next::Pass(2, 0, Self::Size)),
                [] | [b'\r'] => Ok(Next::More),
                _ => Err(MALFORMED),
            },
            Self::Trailers(before) => {
                let Some(end) = line_end(bytes, TRAILERS.saturating_sub(before))? else {
                    return Ok(Next::More);
                };
                if end == 2 {
                    return Ok(Next::End(2));
                }
                check_trailer(bytes.get(..end - 2).unwrap_or_default())?;
                Ok(Next::Pass(end, 0, Self::Trailers(before + end)))
            }
        }
    }
}

const MALFORMED: Fault = Fault::Smuggling("the chunks of the HTTP request are malformed");

/// What cannot become a size is told at once.
fn check_start(line: &[u8]) -> Result<(), Fault> {
    match line.first() {
        None => Ok(()),
        Some(first) if first.is_ascii_hexdigit() => Ok(()),
        Some(_) => Err(MALFORMED),
    }
}

fn size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    // An extension begins right behind the size: white space there is read differently.
    if digits == 0 || digits > SIZE_DIGITS || line.get(digits).is_some_and(|&byte| byte != b';') {
        return Err(MALFORMED);
    }
    let text = line
        .get(..digits)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(MALFORMED)
}
