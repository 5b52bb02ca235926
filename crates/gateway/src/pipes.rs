//! A pool of pipes for splice(2).
//!
//! A connection borrows a pipe only while bytes are on their way, so thousands of idle connections hold none. Must not give
//! back a pipe with bytes in it: they would surface in another connection.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// Capacity asked for, in bytes: the default of `/proc/sys/fs/pipe-max-size`. Measured on a busy machine, 256 KiB and 1 MiB did not
/// differ beyond the noise; the larger one leaves room for connections over a wire, whose buffers grow.
const CAPACITY: usize = 1 << 20;
/// Empty pipes kept for the next connections. A pipe of this size owns about 10 KiB while it is empty.
const KEEP: usize = 16;

/// An empty or filled pipe. Neither end blocks.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    /// Bytes inside.
    filled: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // EPERM: the user's pages for pipes (`pipe-user-pages-soft`, pipe(7)) are used up. The default size works, too.
        let grown = fcntl_setpipe_size(&write, CAPACITY).or_else(|_| fcntl_getpipe_size(&write));
        Ok(Self {
            capacity: grown?,
            read,
            write,
            filled: 0,
        })
    }

    pub(crate) fn read_end(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    pub(crate) fn write_end(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.filled = self.filled.saturating_sub(bytes);
    }
}

/// Empty pipes that wait for a use.
#[derive(Debug, Default)]
pub(crate) struct PipePool {
    idle: Mutex<Vec<Pipe>>,
}

impl PipePool {
    /// Takes an idle pipe or makes one.
    ///
    /// # Errors
    /// No descriptors or pipe pages are left.
    pub(crate) fn take(&self) -> io::Result<Pipe> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.map_or_else(Pipe::new, Ok)
    }

    /// Keeps the pipe for the next use if it is empty.
    pub(crate) fn put_back(&self, pipe: Pipe) {
        if pipe.filled > 0 {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEEP {
            idle.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_used_again() {
        let pool = PipePool::default();
        let mut pipe = pool.take().unwrap();
        rustix::io::write(pipe.write_end(), b"secret").unwrap();
        pipe.add(6);
        pool.put_back(pipe);
        let pipe = pool.take().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(
            rustix::io::read(pipe.read_end(), &mut buffer),
            Err(rustix::io::Errno::AGAIN)
        );
        pool.put_back(pipe);
        assert_eq!(pool.idle.lock().unwrap().len(), 1);
    }
}
