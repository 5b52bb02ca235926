//! Leases on files (`fcntl(2)`, `F_SETLEASE`): the one way to learn whether anybody has a file open for writing.
//!
//! Must not: keep a lease, which would hold up the next program that writes the file.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::SysError;
use crate::process::last_errno;

/// Whether a file is open for writing somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has it open for writing: not by any descriptor, one that is on its way through a socket included.
    None,
    /// Somebody has.
    Some,
    /// This file system, or the owner of the file, does not let us ask.
    Unknown,
}

/// Says who has `file`, which is open for reading only, open for writing, by taking a read lease and giving it back
/// (`check_conflicting_open()` in the kernel's fs/locks.c). `SIGIO` should be blocked: it may arrive in between.
///
/// # Errors
/// `EBADF`, and what the kernel does not document.
pub fn writers(file: BorrowedFd<'_>) -> Result<Writers, SysError> {
    // SAFETY: two numbers for a descriptor that is open for the whole call; nothing is read or written.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == -1 {
        return match last_errno() {
            Errno::AGAIN => Ok(Writers::Some),
            Errno::ACCESS | Errno::INVAL | Errno::NOLCK | Errno::OPNOTSUPP => Ok(Writers::Unknown),
            errno => Err(SysError::new("fcntl(2)", "F_SETLEASE", errno)),
        };
    }
    // SAFETY: as above.
    let given = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    if given == -1 {
        return Err(SysError::new("fcntl(2)", "F_SETLEASE", last_errno()));
    }
    Ok(Writers::None)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_writer_is_seen_and_a_reader_is_not() {
        let path = std::env::temp_dir().join(format!("rcc-lease-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let reader = std::fs::File::open(&path).unwrap();
        let other = std::fs::File::open(&path).unwrap();
        assert_eq!(writers(reader.as_fd()).unwrap(), Writers::None);
        let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(writers(reader.as_fd()).unwrap(), Writers::Some);
        drop((writer, other));
        assert_eq!(writers(reader.as_fd()).unwrap(), Writers::None);
        // The lease was given back: this would wait for it otherwise.
        std::fs::write(&path, "y").unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
