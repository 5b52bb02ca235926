//! Moves bytes from one socket to another.
//!
//! # Theory of operation
//! Small portions are read into a buffer that all connections share, which costs two system calls and a copy of a few bytes. Once a
//! read fills that buffer the stream is a bulk transfer: bytes then go through a pipe with splice(2), which moves page
//! references instead of bytes. The pipe is given back as soon as the source runs dry, so an idle connection owns two
//! descriptors and nothing else.
//!
//! Must not look at the bytes, except to show the server's to a [`Watch`] that wants to see them.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::net::Shutdown;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::pipes::{Pipe, PipePool};
use crate::watch::Watch;

/// Size of the shared buffer in bytes: larger reads make a transfer a bulk one.
const SMALL: usize = 16 << 10;
/// Portions after which a stream that never blocks lets other connections run.
const TURN: u32 = 16;

/// What relays share: they all run on one thread, and none keeps these across an await.
#[derive(Debug)]
pub(crate) struct RelayResources {
    pipes: PipePool,
    scratch: Mutex<Vec<u8>>,
}

impl RelayResources {
    pub(crate) fn new() -> Self {
        Self {
            pipes: PipePool::default(),
            scratch: Mutex::new(Vec::new()),
        }
    }
}

/// One direction, up to and including its end of stream. `watch` sees what goes by, as far as it wants to.
pub(crate) async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
    watch: Option<&Watch>,
) -> io::Result<()> {
    carry(from, to, resources, bytes, u64::MAX, watch).await?;
    finish(to);
    Ok(())
}

/// Passes on the end of a direction.
pub(crate) fn finish(to: &TcpStream) {
    // ENOTCONN: the other side is gone already, and its error ends the relay.
    let _ = rustix::net::shutdown(to, Shutdown::Write);
}

/// Moves `count` bytes, or less if the stream ends before. Tells whether it was all.
pub(crate) async fn carry(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
    count: u64,
    watch: Option<&Watch>,
) -> io::Result<bool> {
    let mut left = count;
    let mut bulk = false;
    let mut portions = 0_u32;
    while left > 0 {
        let unseen = watch.map_or(u64::MAX, Watch::unseen);
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        let spliced = limit.min(usize::try_from(unseen).unwrap_or(usize::MAX));
        let moved = if bulk && spliced >= SMALL {
            move_spliced(from, to, resources, bytes, spliced, watch).await?
        } else {
            move_copied(from, to, resources, bytes, limit.min(SMALL), watch).await?
        };
        match moved {
            Moved::Nothing => from.readable().await?,
            Moved::Bytes(count) => {
                bulk = count >= SMALL;
                // An endless stream stays endless.
                if left < u64::MAX {
                    left = left.saturating_sub(count as u64);
                }
            }
            Moved::NoPipe => bulk = false,
            Moved::End => return Ok(false),
        }
        portions += 1;
        if portions.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    Ok(true)
}

/// Reads at most one shared buffer behind what is there, and tells how much; none when nothing is there, 0 at the end.
pub(crate) fn read_behind(
    from: &TcpStream,
    resources: &RelayResources,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    let mut scratch = resources
        .scratch
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    scratch.resize(SMALL, 0);
    let count = unless_blocked(from.try_read(&mut scratch))?;
    bytes.extend_from_slice(scratch.get(..count.unwrap_or(0)).unwrap_or_default());
    Ok(count)
}

enum Moved {
    /// The source has no bytes now.
    Nothing,
    Bytes(usize),
    /// Splicing is impossible now: descriptors or pipe pages ran out.
    NoPipe,
    /// The source has ended.
    End,
}

/// Turns "would block" into none.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Moves at most `limit` bytes, and one buffer, by copying.
async fn move_copied(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
    limit: usize,
    watch: Option<&Watch>,
) -> io::Result<Moved> {
    // The buffer is shared, so what the sink does not take at once is copied out before waiting.
    let (count, rest) = {
        let mut scratch = resources
            .scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        scratch.resize(SMALL, 0);
        let room = scratch.get_mut(..limit).unwrap_or_default();
        let count = match unless_blocked(from.try_read(room))? {
            None => return Ok(Moved::Nothing),
            Some(0) => return Ok(Moved::End),
            Some(count) => count,
        };
        let portion = scratch.get(..count).unwrap_or_default();
        if let Some(watch) = watch {
            watch.see(portion);
        }
        let written = unless_blocked(to.try_write(portion))?.unwrap_or(0);
        add(bytes, written);
        (count, portion.get(written..).unwrap_or_default().to_vec())
    };
    write_all(to, rest, bytes).await?;
    Ok(Moved::Bytes(count))
}

/// Writes bytes that are in hand.
pub(crate) async fn write_all(
    to: &TcpStream,
    mut rest: Vec<u8>,
    bytes: &AtomicU64,
) -> io::Result<()> {
    while !rest.is_empty() {
        match unless_blocked(to.try_write(&rest))? {
            None => to.writable().await?,
            Some(written) => {
                rest.drain(..written);
                add(bytes, written);
            }
        }
    }
    Ok(())
}

/// Moves at most `limit` bytes, and one pipe's capacity, by splicing.
async fn move_spliced(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
    limit: usize,
    watch: Option<&Watch>,
) -> io::Result<Moved> {
    let Ok(mut pipe) = resources.pipes.take() else {
        return Ok(Moved::NoPipe);
    };
    let filled = from.try_io(Interest::READABLE, || {
        let most = limit.min(pipe.capacity());
        let count = splice(from, None, pipe.write_end(), None, most, FLAGS)?;
        Ok(count)
    });
    let moved = match unless_blocked(filled)? {
        None => Moved::Nothing,
        Some(0) => Moved::End,
        Some(count) => {
            pipe.add(count);
            if let Some(watch) = watch {
                watch.skip(count);
            }
            empty(&mut pipe, to, bytes).await?;
            Moved::Bytes(count)
        }
    };
    resources.pipes.put_back(pipe);
    Ok(moved)
}

/// The pipe is empty before it is filled, so `EAGAIN` always means the socket.
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

async fn empty(pipe: &mut Pipe, to: &TcpStream, bytes: &AtomicU64) -> io::Result<()> {
    while pipe.filled() > 0 {
        let emptied = to.try_io(Interest::WRITABLE, || {
            let count = splice(pipe.read_end(), None, to, None, pipe.filled(), FLAGS)?;
            Ok(count)
        });
        match unless_blocked(emptied)? {
            None => to.writable().await?,
            Some(count) => {
                pipe.remove(count);
                add(bytes, count);
            }
        }
    }
    Ok(())
}

fn add(total: &AtomicU64, count: usize) {
    total.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
