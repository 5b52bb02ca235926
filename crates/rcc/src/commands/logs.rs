//! `rcc logs`: what the agent of a detached run wrote.
//!
//! Bytes go out as they were recorded, but on a terminal without what could drive it: the agent chose them, and nobody watched.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
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
    let [newer, older] = RECORDING.map(|name| run.record.join(name));
    let mut filters = [
        Filter::new(!args.raw && std::io::stdout().is_terminal()),
        Filter::new(!args.raw && std::io::stderr().is_terminal()),
    ];
    let Ok(mut current) = File::open(&newer) else {
        let text = format!("nothing of the run {} was recorded", run.description.id);
        return Err(CliError::new(Kind::User, text).hint("runs that are started with --detach are"));
    };
    if let Ok(file) = File::open(&older) {
        show(&mut Pieces::new(file), &mut filters).map_err(host)?;
        // It may have been the newer one a moment ago.
        current = File::open(&newer).map_err(host)?;
    }
    loop {
        let inode = current.metadata().map_err(host)?.ino();
        let file = current.try_clone().map_err(host)?;
        let mut pieces = Pieces::new(current);
        loop {
            // Asked before reading: what was written last is read after the end.
            let goes_on = args.follow && run.still_lives();
            let is_given_up = is_given_up(&file).map_err(host)?;
            let is_newest = std::fs::metadata(&newer).is_ok_and(|now| now.ino() == inode);
            if !show(&mut pieces, &mut filters).map_err(host)? {
                return Ok(Exit::Success.into());
            }
            if !is_newest {
                break;
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
        }
        current = File::open(&newer).map_err(host)?;
    }
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
struct Filter {
    is_on: bool,
    state: State,
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
    /// After the first byte of a C1 control in UTF-8.
    C1,
}

impl Filter {
    const fn new(is_on: bool) -> Self {
        Self {
            is_on,
            state: State::Text,
        }
    }

    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.is_on {
            return bytes.to_vec();
        }
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
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
                // U+0080 to U+009F are control functions of eight bits to some terminals.
                (State::C1, 0x80..=0x9f) => State::Text,
                (State::C1, _) => {
                    shown.extend([0xc2, byte]);
                    State::Text
                }
                (State::Text, 0xc2) => State::C1,
                (State::Text, b'\n' | b'\t' | b' '..=b'~' | 0xa0..) => {
                    shown.push(byte);
                    State::Text
                }
                // Parts of characters of several bytes; alone they are the C1 controls of a terminal without UTF-8.
                (State::Text, 0x80..=0x9f) => {
                    shown.push(byte);
                    State::Text
                }
                (State::Text, _) => State::Text,
            };
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_left() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"plain\ttext\n", b"plain\ttext\n"),
            (b"a\x1b[31mred\x1b[0m", b"ared"),
            (b"a\x1b]0;title\x07b\x1b]52;c;eA==\x1b\\c", b"abc"),
            (b"a\x1bPq#0\x1b\\b", b"ab"),
            (b"a\x1b(Bb\x1bcd", b"abd"),
            (b"one\r\x08\x07two", b"onetwo"),
            ("a\u{9b}2Jb\u{e4}".as_bytes(), "a2Jb\u{e4}".as_bytes()),
            (b"a\x1b[\x1b]x\x07b", b"ab"),
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
