//! What the agent of a detached run wrote, kept in its record: two files of bounded size, the older one is given up first.
//!
//! A piece is one byte for the stream (`o` output or terminal, `e` error), four bytes for its length (little-endian), and the
//! bytes as they were. Must not interpret them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, RenameFlags};

/// The newer and the older file, in the record.
pub const RECORDING: [&str; 2] = ["output", "output.1"];
/// Size at which a file is full, in bytes.
const FULL: u64 = 8 << 20;
/// Longest piece, in bytes.
const LONGEST: usize = 64 << 10;

/// Writes pieces.
#[derive(Debug)]
pub(super) struct Recording {
    directory: OwnedFd,
    file: Option<File>,
    size: u64,
}

impl Recording {
    pub(super) fn new(directory: OwnedFd) -> Self {
        let file = create(&directory).ok();
        Self {
            directory,
            file,
            size: 0,
        }
    }

    /// Keeps a piece. When the disk is full the rest is not kept: the run goes on.
    pub(super) fn keep(&mut self, stream: u8, bytes: &[u8]) {
        for piece in bytes.chunks(LONGEST) {
            if self.size >= FULL {
                let [newer, older] = RECORDING;
                let renamed = rustix::fs::renameat_with(
                    &self.directory,
                    newer,
                    &self.directory,
                    older,
                    RenameFlags::empty(),
                );
                self.file = renamed.and_then(|()| create(&self.directory)).ok();
                self.size = 0;
            }
            let Some(file) = &mut self.file else { return };
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let mut whole = vec![stream];
            whole.extend(length.to_le_bytes());
            whole.extend(piece);
            if file.write_all(&whole).is_err() {
                self.file = None;
                return;
            }
            self.size += u64::from(length) + 5;
        }
    }
}

fn create(directory: &OwnedFd) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::openat(directory.as_fd(), RECORDING[0], flags, mode).map(File::from)
}

/// Reads pieces from one file of a recording.
#[derive(Debug)]
pub struct Pieces {
    file: File,
    rest: Vec<u8>,
}

impl Pieces {
    /// Begins with the file's first piece.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self {
            file,
            rest: Vec::new(),
        }
    }

    /// The next whole piece: whether it is of standard error, and its bytes. `None` when there is none, or none yet.
    ///
    /// # Errors
    /// The file cannot be read, or is no recording.
    pub fn next_piece(&mut self) -> std::io::Result<Option<(bool, Vec<u8>)>> {
        loop {
            if let Some((&[stream, a, b, c, d], after)) = self.rest.split_first_chunk::<5>() {
                let length =
                    usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                if length > LONGEST || !b"oe".contains(&stream) {
                    return Err(std::io::Error::other("this is no recording of a run"));
                }
                if let Some(bytes) = after.get(..length) {
                    let bytes = bytes.to_vec();
                    self.rest.drain(..length + 5);
                    return Ok(Some((stream == b'e', bytes)));
                }
            }
            let mut chunk = vec![0; LONGEST];
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                return Ok(None);
            }
            self.rest
                .extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_as_it_was_written_and_stays_bounded() {
        let path = std::env::temp_dir().join(format!("rcc-recording-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let mut recording = Recording::new(File::open(&path).unwrap().into());
        recording.keep(b'o', b"one\x1b[2J");
        recording.keep(b'e', &vec![b'x'; 100_000]);
        let mut pieces = Pieces::new(File::open(path.join("output")).unwrap());
        assert_eq!(
            pieces.next_piece().unwrap(),
            Some((false, b"one\x1b[2J".to_vec()))
        );
        assert_eq!(pieces.next_piece().unwrap().unwrap().1.len(), 65536);
        assert_eq!(pieces.next_piece().unwrap().unwrap().1.len(), 34464);
        assert_eq!(pieces.next_piece().unwrap(), None);
        for _ in 0..400 {
            recording.keep(b'o', &[b'y'; 65536]);
        }
        let size: u64 = RECORDING
            .iter()
            .map(|name| std::fs::metadata(path.join(name)).unwrap().len())
            .sum();
        assert!((FULL..2 * FULL + 100_000).contains(&size), "{size}");
        std::fs::remove_dir_all(path).unwrap();
    }
}
