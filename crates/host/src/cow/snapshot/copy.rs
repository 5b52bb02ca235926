//! Copies the content of one file into a snapshot: shares its blocks where the file system can, else lets the kernel copy.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};

use crate::cow::compare::next_data;
use crate::cow::place;

/// Files up to this size are read and written in one piece, in bytes.
const SMALL: u64 = 64 << 10;
/// Most bytes that one call copies, so that an interruption is noticed.
const PIECE: u64 = 32 << 20;

/// How contents are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `ioctl_ficlone(2)`.
    Share,
    /// `copy_file_range(2)`, or read and write.
    Copy,
}

/// Whether the user wants to stop, as an answer of the kernel's.
fn stop(interrupted: &dyn Fn() -> bool) -> Result<()> {
    if interrupted() {
        return Err(Errno::CANCELED);
    }
    Ok(())
}

/// Copies `size` bytes of a file to an empty one.
///
/// # Errors
/// `ECANCELED` when the user wants to stop; what the calls answer otherwise.
pub(super) fn copy(
    from: &OwnedFd,
    to: &OwnedFd,
    size: u64,
    way: Way,
    buffer: &mut Vec<u8>,
    interrupted: &dyn Fn() -> bool,
) -> Result<()> {
    if way == Way::Share && rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    if size <= SMALL {
        return small(from.as_fd(), to.as_fd(), size, buffer);
    }
    match large(from, to, size, interrupted) {
        // Between these two file systems, or at all, the kernel copies nothing by itself.
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            place::copy(from.as_fd(), to.as_fd())
        }
        other => other,
    }
}

fn small(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
    // One byte more tells a file that grew; that is noticed by its inode as well.
    buffer.resize(usize::try_from(size).unwrap_or(0), 0);
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(from, rest, got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let mut rest = buffer.get(..got).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn large(from: &OwnedFd, to: &OwnedFd, size: u64, interrupted: &dyn Fn() -> bool) -> Result<()> {
    let mut at = 0_u64;
    while let Some(piece) = next_data(from.as_fd(), at, size)? {
        at = piece.start;
        while at < piece.end {
            stop(interrupted)?;
            let most = usize::try_from((piece.end - at).min(PIECE)).unwrap_or(usize::MAX);
            let (mut read, mut written) = (at, at);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), most) {
                // It was cut meanwhile.
                Ok(0) => return Ok(()),
                Ok(copied) => at += copied as u64,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    rustix::fs::ftruncate(to, size)
}
