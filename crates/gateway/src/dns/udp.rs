//! DNS over UDP: every datagram to port 53, whatever its address, comes in on one socket.
//!
//! Must not let one query wait for another.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use rcc_sys::socket::Datagram;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::answer::Carrier;
use super::service::{Reply, respond};
use crate::shared::Shared;

/// Largest query taken, in bytes: a name, an OPT record and generous options. Longer ones cannot be plain queries.
const QUERY_LIMIT: usize = 1232;
/// Datagrams answered before other tasks run.
const TURN: u32 = 32;
/// Pause after an error that is not about one datagram, so that it cannot use up the processor.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// Answers queries until the task is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; QUERY_LIMIT];
    let mut turn = 0_u32;
    loop {
        let received = socket
            .async_io(Interest::READABLE, || {
                shared.transport.receive(socket.as_fd(), &mut buffer)
            })
            .await;
        match received {
            Ok(datagram) if datagram.truncated => {}
            Ok(datagram) => {
                let message = buffer.get(..datagram.length).unwrap_or_default();
                answer(&shared, &socket, message, datagram);
            }
            // ICMP errors of earlier answers, and datagrams without a destination.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
                ) => {}
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
}

fn answer(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, message: &[u8], datagram: Datagram) {
    match respond(shared, message, Carrier::Udp) {
        Reply::None => {}
        Reply::Now(answer) => send(shared, socket, &answer, &datagram),
        Reply::Later(pending) => {
            let Ok(permit) = Arc::clone(&shared.pending_queries).try_acquire_owned() else {
                let answer = pending.overloaded(shared);
                send(shared, socket, &answer, &datagram);
                return;
            };
            let (shared, socket) = (Arc::clone(shared), Arc::clone(socket));
            tokio::spawn(async move {
                let answer = pending.look_up(&shared).await;
                send(&shared, &socket, &answer, &datagram);
                drop(permit);
            });
        }
    }
}

/// Sends an answer. One that does not go out at once is lost, as with every UDP server; clients ask again.
fn send(shared: &Shared, socket: &UdpSocket, answer: &[u8], datagram: &Datagram) {
    let _ = shared.transport.reply(socket.as_fd(), answer, datagram);
}
