//! `rcc logs`: what the agent of a detached run wrote.
//!
//! Bytes go out as they were recorded, but on a terminal without what could drive it: the agent chose them, and nobody watched.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcc_native::{Pieces, RECORDING, is_given_up};

use crate::cli::LogsArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::runs::named;

/// Time between two looks with `-f`.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &LogsArgs) -> Result<u8, CliError> {
    let run = named(&Context::load()?, &args.run)?;
    let host = |error: std::io::Error| CliError::new(Kind::Host, error);
    let paths = RECORDING.map(|name| run.record.join(name));
    let mut filters = [
        Filter::new(!args.raw && std::io::stdout().is_terminal()),
        Filter::new(!args.raw && std::io::stderr().is_terminal()),
    ];
    let Some(mut current) = next(&paths, &[]).map_err(host)? else {
        let text = format!("nothing of the run {} was recorded", run.description.id);
        return Err(CliError::new(Kind::User, text).hint("runs that are started with --detach are"));
    };
    // Kept open, or the kernel could give a later file the same inode.
    let mut shown = Vec::new();
    loop {
        let mut pieces = Pieces::new(current.try_clone().map_err(host)?);
        shown.push(current);
        // No more than two are there at a time.
        shown.drain(..shown.len().saturating_sub(2));
        current = loop {
            // Asked before reading: what was written last is read after the end.
            let goes_on = args.follow && run.still_lives();
            let next = next(&paths, &shown).map_err(host)?;
            let file = shown.last();
            let is_given_up = file.map_or(Ok(false), is_given_up).map_err(host)?;
            if !show(&mut pieces, &mut filters).map_err(host)? {
                return Ok(Exit::Success.into());
            }
            if let Some(next) = next {
                break next;
            }
            if is_given_up {
                output::warn(
                    "the recording ends here: the rest could not be written, as on a full disk",
                );
            }
            if !goes_on || is_given_up {
                return Ok(Exit::Success.into());
            }
            std::thread::sleep(EVERY);
        };
    }
}

/// The file of the recording that was begun after those that were shown, the oldest there is at first; none when there is none,
/// or none yet.
fn next([newer, older]: &[PathBuf; 2], shown: &[File]) -> std::io::Result<Option<File>> {
    loop {
        let old = open(older)?;
        let old_inode = old.as_ref().map(inode).transpose()?;
        if let Some(old) = old.filter(|file| !is_one_of(file, shown)) {
            return Ok(Some(old));
        }
        let new = open(newer)?;
        // Unless the recording turned over meanwhile: the newer one of before is the older one now.
        if open(older)?.as_ref().map(inode).transpose()? == old_inode {
            return Ok(new.filter(|file| !is_one_of(file, shown)));
        }
    }
}

fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(file: &File) -> std::io::Result<u64> {
    Ok(file.metadata()?.ino())
}

fn is_one_of(file: &File, others: &[File]) -> bool {
    let is_it = |other: &File| matches!((inode(file), inode(other)), (Ok(a), Ok(b)) if a == b);
    others.iter().any(is_it)
}

/// Writes all whole pieces; whether somebody still reads.
fn show(pieces: &mut Pieces, filters: &mut [Filter; 2]) -> std::io::Result<bool> {
    let [output, error] = filters;
    while let Some((is_error, bytes)) = pieces.next_piece()? {
        let written = if is_error {
            std::io::stderr().lock().write_all(&error.pass(&bytes))
        } else {
            let mut stdout = std::io::stdout().lock();
            stdout
                .write_all(&output.pass(&bytes))
                .and_then(|()| stdout.flush())
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            written => written?,
        }
    }
    Ok(true)
}

/// Takes everything out that a terminal would obey (ECMA-48): control functions with their parameters and strings, and single
/// control characters but line breaks and tabs.
///
/// What is no UTF-8 is taken out, too: bytes of 0x80 to 0x9F are control functions of eight bits to some terminals, and halves of
/// characters could be joined to such by what comes after them.
struct Filter {
    is_on: bool,
    state: State,
    /// The first bytes of a character of several.
    held: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence, until its final byte.
    Sequence,
    /// In a control string, until BEL or ST.
    Text7,
    /// In a control string, after ESC.
    StringEscape,
}

impl Filter {
    const fn new(is_on: bool) -> Self {
        Self {
            is_on,
            state: State::Text,
            held: Vec::new(),
        }
    }

    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.is_on {
            return bytes.to_vec();
        }
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.goes_on_with(byte, &mut shown) {
                continue;
            }
            self.state = match (self.state, byte) {
                (State::Text7, 0x07) | (State::StringEscape, b'\\') => State::Text,
                (State::Text7 | State::StringEscape, 0x1b) => State::StringEscape,
                (State::Text7 | State::StringEscape, _) => State::Text7,
                (_, 0x1b) => State::Escape,
                (State::Escape, b'[') => State::Sequence,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text7,
                (State::Escape, 0x20..=0x2f) => State::Escape,
                (State::Sequence, 0x20..=0x3f) => State::Sequence,
                (State::Escape | State::Sequence, _) => State::Text,
                (State::Text, 0xc2..=0xf4) => {
                    self.held.push(byte);
                    State::Text
                }
                (State::Text, b'\n' | b'\t' | b' '..=b'~') => {
                    shown.push(byte);
                    State::Text
                }
                (State::Text, _) => State::Text,
            };
        }
        shown
    }

    /// Takes a byte that belongs to the character that was begun; shows that one when it is whole, unless it is a control
    /// function (U+0080 to U+009F).
    fn goes_on_with(&mut self, byte: u8, shown: &mut Vec<u8>) -> bool {
        let belongs = !self.held.is_empty() && (0x80..=0xbf).contains(&byte);
        if !belongs {
            self.held.clear();
            return false;
        }
        self.held.push(byte);
        match std::str::from_utf8(&self.held) {
            Ok(text) if text.contains(char::is_control) => self.held.clear(),
            Ok(_) => shown.append(&mut self.held),
            // It is not whole yet.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.held.clear(),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_left() {
        let cases: [(&[u8], &[u8]); 14] = [
            (b"plain\ttext\n", b"plain\ttext\n"),
            (b"a\x1b[31mred\x1b[0m", b"ared"),
            (b"a\x1b]0;title\x07b\x1b]52;c;eA==\x1b\\c", b"abc"),
            (b"a\x1bPq#0\x1b\\b", b"ab"),
            (b"a\x1b(Bb\x1bcd", b"abd"),
            (b"one\r\x08\x07two", b"onetwo"),
            ("a\u{9b}2Jb\u{e4}".as_bytes(), "a2Jb\u{e4}".as_bytes()),
            (b"a\x1b[\x1b]x\x07b", b"ab"),
            (b"a\xc2\xc2\x9b2Jb", b"a2Jb"),
            (b"a\xc2\rb\xc2\x08c\xc2\x1b[2Jd", b"abcd"),
            (b"a\x9b2J\xe4b", b"a2Jb"),
            (b"a\xe0\x82\x9bb\xf0\x9f\x98c", b"abc"),
            (
                "\u{20ac}\u{1f600}".as_bytes(),
                "\u{20ac}\u{1f600}".as_bytes(),
            ),
            (b"a\xc2", b"a"),
        ];
        for (bytes, expected) in cases {
            let mut whole = Filter::new(true);
            assert_eq!(whole.pass(bytes), expected, "{bytes:?}");
            // In pieces it is the same.
            let mut filter = Filter::new(true);
            let parts: Vec<u8> = bytes
                .iter()
                .flat_map(|byte| filter.pass(&[*byte]))
                .collect();
            assert_eq!(parts, expected, "{bytes:?}");
            assert_eq!(Filter::new(false).pass(bytes), bytes);
        }
    }
}
