//! Socket options with an integer or a descriptor as their value that rustix does not know.
//!
//! Must not: offer options with structures; those get a wrapper of their own.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;

/// Sets an option whose value is an `int` (`setsockopt(2)`).
///
/// The errno that callers tell apart: `ENOPROTOOPT` (the kernel does not know the option), `EPERM` (the option needs
/// a capability in the namespace of the socket, for example `IP_TRANSPARENT`).
pub(crate) fn set_socket_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
    const LENGTH: libc::socklen_t = 4;
    const _: () = assert!(size_of::<libc::c_int>() == 4);
    // SAFETY: the descriptor is borrowed and so stays open; the pointer is to `value` on this stack frame, which
    // lives until the call returns; the kernel reads LENGTH bytes from it, which is its size, and writes nothing.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            LENGTH,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

/// Reads an option whose value is an `int` (`getsockopt(2)`).
pub(crate) fn socket_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> Result<libc::c_int, Errno> {
    let mut value: libc::c_int = 0;
    let mut length: libc::socklen_t = 4;
    // SAFETY: the descriptor is borrowed and so stays open; both pointers are to variables of this stack frame, which live
    // until the call returns; the kernel writes at most `length` bytes, the size of `value`, and the length that it used.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(last_errno())
    }
}

/// The errno of the C library call that just failed on this thread.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Reads an option whose value is a new descriptor (`getsockopt(2)`, for example `SO_PEERPIDFD`). The kernel makes it with
/// `O_CLOEXEC`.
pub(crate) fn descriptor_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> Result<OwnedFd, Errno> {
    let mut value: libc::c_int = -1;
    let mut length: libc::socklen_t = 4;
    // SAFETY: the descriptor is borrowed and so stays open; both pointers are to variables of this stack frame, which live
    // until the call returns; the kernel writes at most `length` bytes, the size of `value`, and the new length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(last_errno());
    }
    if length != 4 || value < 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: the kernel has just made this descriptor for this call and nobody else knows it, so it is owned here alone.
    Ok(unsafe { OwnedFd::from_raw_fd(value) })
}
