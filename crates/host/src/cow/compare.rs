//! Do two files hold the same bytes? Without trusting times, which an agent can set, and without reading holes.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};

const BLOCK: usize = 128 << 10;

/// Compares the content of two regular files of the same size.
pub(crate) fn same_content(a: BorrowedFd<'_>, b: BorrowedFd<'_>, size: u64) -> Result<bool> {
    let mut left = vec![0_u8; BLOCK];
    let mut right = vec![0_u8; BLOCK];
    let mut at = 0_u64;
    while at < size {
        // What is a hole in both reads as zeroes in both.
        let data = data_from(a, at, size)?.min(data_from(b, at, size)?);
        if data >= size {
            return Ok(true);
        }
        at = at.max(data);
        let got = fill(a, &mut left, at)?;
        if got != fill(b, &mut right, at)? || left.get(..got) != right.get(..got) {
            return Ok(false);
        }
        if got == 0 {
            // One was cut while it was read; the other one as well.
            return Ok(true);
        }
        at += got as u64;
    }
    Ok(true)
}

/// Where the next data begins; `size` when there is none (lseek(2), `SEEK_DATA`).
pub(crate) fn data_from(file: BorrowedFd<'_>, at: u64, size: u64) -> Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(size),
        // The file system does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
        Err(errno) => Err(errno),
    }
}

/// The next piece of data at or after a byte; none when only a hole is left (lseek(2), `SEEK_HOLE`).
pub(crate) fn next_data(file: BorrowedFd<'_>, at: u64, size: u64) -> Result<Option<Range<u64>>> {
    if at >= size {
        return Ok(None);
    }
    let start = at.max(data_from(file, at, size)?);
    if start >= size {
        return Ok(None);
    }
    let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => end.min(size),
        Err(_) => size,
    };
    Ok(Some(start..end))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, at + got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(got)
}
