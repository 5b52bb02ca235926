//! Moves bytes between the agent's connection and the upstream's until both directions have ended.
//!
//! # Theory of operation
//! Each direction reads small portions into a buffer that all connections share, which costs two system calls and a copy of a
//! few bytes. Once a read fills that buffer the stream is a bulk transfer: bytes then go through a pipe with splice(2), which
//! moves page references instead of bytes. The pipe is given back as soon as the source runs dry, so an idle connection owns
//! two descriptors and nothing else.
//!
//! An end of stream is passed on as one, and the other direction goes on (half-close). A reset on either side resets the other, after
//! what had arrived before it was handed over. There is no time-out: idle connections are legitimate, dead peers are found by
//! keepalive.
//!
//! Must not look at the bytes; what judges the first of them is handed in.

use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::net::Shutdown;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::inspect::RefusedOpening;
use crate::pipes::{Pipe, PipePool};

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

/// Payload bytes of one connection, readable while it runs.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// From the agent to the upstream.
    pub(crate) sent: AtomicU64,
    /// From the upstream to the agent.
    pub(crate) received: AtomicU64,
}

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Both sides finished.
    Finished,
    /// One side reset the connection or vanished.
    Broken,
    /// The agent's first bytes were refused; none of them was forwarded.
    Refused(RefusedOpening),
}

/// Why one direction ended before its end of stream.
#[derive(Debug)]
pub(crate) enum Cut {
    /// A side reset the connection or vanished.
    Broken,
    /// The agent's first bytes were refused.
    Refused(RefusedOpening),
}

impl From<io::Error> for Cut {
    // Which error it was makes no difference: the connection is over.
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Relays until both directions have ended or one side breaks. The caller closes the sockets, with a reset if broken.
///
/// `opening` reads and judges the agent's first bytes; the other direction does not wait for it.
pub(crate) async fn relay(
    agent: &TcpStream,
    upstream: &TcpStream,
    opening: impl Future<Output = Result<Vec<u8>, Cut>>,
    resources: &RelayResources,
    traffic: &Traffic,
) -> Ending {
    let mut up = pin!(async {
        let first = opening.await?;
        write_all(upstream, first, &traffic.sent).await?;
        pump(agent, upstream, resources, &traffic.sent).await?;
        Ok(())
    });
    let mut down = pin!(pump(upstream, agent, resources, &traffic.received));
    // A reset has to be noticed even when nobody reads from that side because its direction has ended or is stuck.
    let mut agent_error = pin!(agent.ready(Interest::ERROR));
    let mut upstream_error = pin!(upstream.ready(Interest::ERROR));
    let (mut up_done, mut down_done) = (false, false);
    while !(up_done && down_done) {
        let ended = tokio::select! {
            biased;
            ended = &mut up, if !up_done => { up_done = true; ended }
            ended = &mut down, if !down_done => { down_done = true; ended.map_err(Cut::from) }
            _ = &mut agent_error => Err(Cut::Broken),
            _ = &mut upstream_error => Err(Cut::Broken),
        };
        match ended {
            Ok(()) => {}
            Err(Cut::Refused(refused)) => return Ending::Refused(refused),
            Err(Cut::Broken) => {
                // What arrived before the reset is still in the receive queues (tcp_reset() leaves them alone).
                if !up_done {
                    poll_once(up.as_mut()).await;
                }
                if !down_done {
                    poll_once(down.as_mut()).await;
                }
                return Ending::Broken;
            }
        }
    }
    Ending::Finished
}

/// Lets a future go as far as it gets without waiting.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

/// One direction, up to and including its end of stream.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut bulk = false;
    let mut portions = 0_u32;
    loop {
        let moved = if bulk {
            move_spliced(from, to, resources, bytes).await?
        } else {
            move_copied(from, to, resources, bytes).await?
        };
        match moved {
            Moved::Nothing => from.readable().await?,
            Moved::Bytes(count) => bulk = count >= SMALL,
            Moved::NoPipe => bulk = false,
            Moved::End => break,
        }
        portions += 1;
        if portions.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    // ENOTCONN: the other side is gone already, and its error ends the relay.
    let _ = rustix::net::shutdown(to, Shutdown::Write);
    Ok(())
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

/// Moves at most one buffer by copying.
async fn move_copied(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
) -> io::Result<Moved> {
    // The buffer is shared, so what the sink does not take at once is copied out before waiting.
    let (count, rest) = {
        let mut scratch = resources
            .scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        scratch.resize(SMALL, 0);
        let count = match unless_blocked(from.try_read(&mut scratch))? {
            None => return Ok(Moved::Nothing),
            Some(0) => return Ok(Moved::End),
            Some(count) => count,
        };
        let portion = scratch.get(..count).unwrap_or_default();
        let written = unless_blocked(to.try_write(portion))?.unwrap_or(0);
        add(bytes, written);
        (count, portion.get(written..).unwrap_or_default().to_vec())
    };
    write_all(to, rest, bytes).await?;
    Ok(Moved::Bytes(count))
}

/// Writes bytes that are in hand.
async fn write_all(to: &TcpStream, mut rest: Vec<u8>, bytes: &AtomicU64) -> io::Result<()> {
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

/// Moves at most one pipe's capacity by splicing.
async fn move_spliced(
    from: &TcpStream,
    to: &TcpStream,
    resources: &RelayResources,
    bytes: &AtomicU64,
) -> io::Result<Moved> {
    let Ok(mut pipe) = resources.pipes.take() else {
        return Ok(Moved::NoPipe);
    };
    let filled = from.try_io(Interest::READABLE, || {
        let count = splice(from, None, pipe.write_end(), None, pipe.capacity(), FLAGS)?;
        Ok(count)
    });
    let moved = match unless_blocked(filled)? {
        None => Moved::Nothing,
        Some(0) => Moved::End,
        Some(count) => {
            pipe.add(count);
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
