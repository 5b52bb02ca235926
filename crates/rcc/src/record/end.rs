//! `end.json`: how a run ended. It has a file of its own because a rename over a file makes the file system write the new one and
//! free the old one at once, 0.1 to 1 ms; and room of its own, taken when the run begins, because the disk may be full by its end.
//!
//! Must not be trusted to be there: a supervisor that is killed writes none.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rcc_host::{FileError, replace};
use rcc_native::{Ended, Outcome};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Name of the file that says how the run ended.
const END: &str = "end.json";
/// Its name until then.
const RESERVED: &str = ".end.json";
/// Room for it, in bytes: much more than it takes, and less than any file system gives at a time.
const RESERVED_BYTES: usize = 512;
/// Largest one read, in bytes.
const END_LIMIT: usize = 4096;

/// What `end.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) ended_at_ms: u64,
    pub(super) exit_code: u8,
    /// The word of an [`EndReason`]; other versions may know others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// Why a run ended, when it was not the agent's own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The terminal was closed, or the connection that it came through: rcc got `SIGHUP`.
    HangUp,
    /// Its time was over.
    Timeout,
    /// Nothing happened in it.
    Idle,
    /// A disk that it can fill was nearly full.
    DiskShort,
    /// Its layer or its home was larger than allowed.
    TooLarge,
}

impl EndReason {
    /// What ended a run; none when its agent did.
    pub(crate) fn of(outcome: &Outcome, limited: Option<&Ended>) -> Option<Self> {
        match (limited, outcome) {
            (Some(Ended::Timeout { .. }), _) => Some(Self::Timeout),
            (Some(Ended::Idle { .. }), _) => Some(Self::Idle),
            (Some(Ended::DiskShort { .. }), _) => Some(Self::DiskShort),
            (Some(Ended::TooLarge { .. }), _) => Some(Self::TooLarge),
            (None, Outcome::HungUp(_)) => Some(Self::HangUp),
            (None, Outcome::Exited(_) | Outcome::NotExecuted { .. } | Outcome::GatewayLost) => None,
        }
    }

    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::HangUp => "hang-up",
            Self::Timeout => "timeout",
            Self::Idle => "idle",
            Self::DiskShort => "disk-full",
            Self::TooLarge => "too-large",
        }
    }
}

/// Takes the room for the end of the run whose record this is.
///
/// # Errors
/// There is none, or the directory cannot be written to. A file system that cannot set room aside gets it written, which is as
/// good unless it never writes in place.
pub(super) fn reserve(record: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(record, RESERVED, flags, Mode::RUSR | Mode::WUSR)?;
    match fallocate(&file, FallocateFlags::empty(), 0, RESERVED_BYTES as u64) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_at_start(&File::from(file), &[]),
        taken => taken,
    }
}

/// Notes the end. What was reserved for it may be gone, with the whole record.
pub(super) fn write(record: BorrowedFd<'_>, shown: &Path, end: &End) -> Result<(), FileError> {
    let json = serde_json::to_vec_pretty(end).map_err(|source| FileError::Write {
        path: shown.join(END),
        source: source.into(),
    })?;
    match write_reserved(record, &json) {
        Ok(()) => Ok(()),
        Err(_) => replace(record, shown, END, &json),
    }
}

fn write_reserved(record: BorrowedFd<'_>, json: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(record, RESERVED, flags, Mode::empty())?);
    write_at_start(&file, json)?;
    // Spaces after it say nothing.
    let _ = rustix::fs::ftruncate(file.as_fd(), json.len() as u64);
    rustix::fs::renameat(record, RESERVED, record, END)
}

/// Fills the reserved bytes with this and spaces.
fn write_at_start(mut file: &File, text: &[u8]) -> rustix::io::Result<()> {
    let mut whole = [b' '; RESERVED_BYTES];
    let (start, _) = whole.split_at_mut_checked(text.len()).ok_or(Errno::FBIG)?;
    start.copy_from_slice(text);
    file.write_all(&whole)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Reads how the run of this record ended; none when nobody wrote it down.
pub(super) fn read(record: &Path) -> Option<End> {
    let text = rcc_host::read_text(&record.join(END), END_LIMIT).ok()??;
    serde_json::from_str(&text.text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_was_written_with_room_of_its_own_and_without() {
        let path = std::env::temp_dir().join(format!("rcc-end-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        let directory = File::open(&path).unwrap();
        for (end, is_reserved) in [(3, true), (4, false)] {
            let end = End {
                ended_at_ms: u64::MAX,
                exit_code: end,
                reason: is_reserved.then(|| EndReason::DiskShort.word().to_owned()),
            };
            if is_reserved {
                reserve(directory.as_fd()).unwrap();
                let taken = std::fs::metadata(path.join(RESERVED)).unwrap();
                assert_eq!(taken.len(), RESERVED_BYTES as u64);
                // Taken, not only promised.
                assert!(std::os::unix::fs::MetadataExt::blocks(&taken) > 0);
                assert_eq!(reserve(directory.as_fd()), Err(Errno::EXIST));
            }
            write(directory.as_fd(), &path, &end).unwrap();
            assert_eq!(read(&path), Some(end));
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
            let length = std::fs::metadata(path.join(END)).unwrap().len();
            assert!(length < RESERVED_BYTES as u64, "{length}");
        }
        // What cannot be read says nothing.
        std::fs::write(path.join(END), "{\"exit_code\":4").unwrap();
        assert_eq!(read(&path), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
