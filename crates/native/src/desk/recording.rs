//! What the agent of a detached run wrote, kept in its record: two files of bounded size, the older one is given up first.
//!
//! A piece is one byte for the stream (`o` output or terminal, `e` error), four bytes for its length (little-endian), and the
//! bytes as they were. A recording that was given up, because the disk is full, ends with a whole piece and is closed to writing
//! (mode 0400): a mark that needs no room. Must not interpret the bytes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

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
    pub(super) fn new(directory: OwnedFd) -> rustix::io::Result<Self> {
        let file = Some(create(&directory)?);
        Ok(Self {
            directory,
            file,
            size: 0,
        })
    }

    /// Keeps a piece. When the disk is full the rest is not kept: the run goes on.
    ///
    /// # Errors
    /// Once, when it is given up.
    pub(super) fn keep(&mut self, stream: u8, bytes: &[u8]) -> std::io::Result<()> {
        for piece in bytes.chunks(LONGEST) {
            let Some(file) = &mut self.file else {
                return Ok(());
            };
            if self.size >= FULL {
                match turn_over(&self.directory) {
                    Ok(next) => (*file, self.size) = (next, 0),
                    Err(errno) => return self.give_up(errno.into()),
                }
            }
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let mut whole = vec![stream];
            whole.extend(length.to_le_bytes());
            whole.extend(piece);
            if let Err(error) = file.write_all(&whole) {
                return self.give_up(error);
            }
            self.size += u64::from(length) + 5;
        }
        Ok(())
    }

    fn give_up(&mut self, error: std::io::Error) -> std::io::Result<()> {
        if let Some(file) = self.file.take() {
            // What cannot be marked ends without a word.
            let _ = rustix::fs::ftruncate(&file, self.size);
            let _ = rustix::fs::fchmod(&file, Mode::RUSR);
        }
        Err(error)
    }
}

/// Whether the file of a recording that is read to its end lacks what was written later.
///
/// # Errors
/// It cannot be asked (`fstat(2)`).
pub fn is_given_up(file: impl AsFd) -> std::io::Result<bool> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    Ok(!mode.contains(Mode::WUSR))
}

/// Makes the newer file the older one, and the next one the newer.
fn turn_over(directory: &OwnedFd) -> rustix::io::Result<File> {
    let [newer, older] = RECORDING;
    rustix::fs::renameat(directory, newer, directory, older)?;
    create(directory).inspect_err(|_| {
        // The one that there is stays the newest.
        let _ = rustix::fs::renameat(directory, older, directory, newer);
    })
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
        let mut recording = Recording::new(File::open(&path).unwrap().into()).unwrap();
        recording.keep(b'o', b"one\x1b[2J").unwrap();
        recording.keep(b'e', &vec![b'x'; 100_000]).unwrap();
        let mut pieces = Pieces::new(File::open(path.join("output")).unwrap());
        assert_eq!(
            pieces.next_piece().unwrap(),
            Some((false, b"one\x1b[2J".to_vec()))
        );
        assert_eq!(pieces.next_piece().unwrap().unwrap().1.len(), 65536);
        assert_eq!(pieces.next_piece().unwrap().unwrap().1.len(), 34464);
        assert_eq!(pieces.next_piece().unwrap(), None);
        for _ in 0..400 {
            recording.keep(b'o', &[b'y'; 65536]).unwrap();
        }
        let size: u64 = RECORDING
            .iter()
            .map(|name| std::fs::metadata(path.join(name)).unwrap().len())
            .sum();
        assert!((FULL..2 * FULL + 100_000).contains(&size), "{size}");
        let newest = File::open(path.join("output")).unwrap();
        assert!(!is_given_up(&newest).unwrap());
        // One that cannot be written to any more says so, and once.
        recording.file = Some(newest.try_clone().unwrap());
        assert!(recording.keep(b'o', b"lost").is_err());
        recording.keep(b'o', b"lost").unwrap();
        assert!(is_given_up(&newest).unwrap());
        std::fs::remove_dir_all(path).unwrap();
    }
}
