//! Moves bytes between the agent's connection and the upstream's until both directions have ended.
//!
//! An end of stream is passed on as one, and the other direction goes on (half-close). A reset on either side resets the other, after
//! what had arrived before it was handed over. There is no time-out: idle connections are legitimate, dead peers are found by
//! keepalive.
//!
//! Must not look at the bytes; the agent's direction, which is judged, is handed in.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::inspect::Refused;
use crate::transfer::{RelayResources, pump};
use crate::watch::Watch;

/// Time for answers to earlier requests to become complete before a refusal ends the connection.
const DRAIN: Duration = Duration::from_millis(80);

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
    /// Something that the agent said was refused; it was not forwarded.
    Refused(Box<Refused>),
}

/// Why one direction ended before its end of stream.
#[derive(Debug)]
pub(crate) enum Cut {
    /// A side reset the connection or vanished.
    Broken,
    /// Something that the agent said was refused.
    Refused(Box<Refused>),
}

impl From<io::Error> for Cut {
    // Which error it was makes no difference: the connection is over.
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Relays until both directions have ended or one side breaks. The caller closes the sockets, with a reset if broken.
///
/// `up` moves and judges what the agent says; the other direction does not wait for it, and shows `watch` what it asks for.
pub(crate) async fn relay(
    agent: &TcpStream,
    upstream: &TcpStream,
    up: impl Future<Output = Result<(), Cut>>,
    watch: &Watch,
    resources: &RelayResources,
    traffic: &Traffic,
) -> Ending {
    let mut up = pin!(up);
    let mut down = pin!(async {
        let ended = pump(upstream, agent, resources, &traffic.received, Some(watch)).await;
        watch.end();
        ended
    });
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
            Err(Cut::Refused(refused)) => {
                if !down_done && watch.answers() {
                    drain(down.as_mut(), watch, traffic).await;
                }
                return Ending::Refused(refused);
            }
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

/// Lets the server finish what it was asked before.
async fn drain<F: Future>(mut down: Pin<&mut F>, watch: &Watch, traffic: &Traffic) {
    let until_idle = std::future::poll_fn(|context| {
        let has_ended = down.as_mut().poll(context).is_ready();
        if has_ended || watch.is_idle(traffic) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    // Time is up: the client hears of a broken connection instead of a sentence.
    let _ = timeout(DRAIN, until_idle).await;
}

/// Lets a future go as far as it gets without waiting.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}
