//! DNS over TCP: connections to port 53 of any address (RFC 7766).
//!
//! Queries of one connection are answered in turn. Must not wait for a client for long: the sockets are few.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::Carrier;
use super::service::{Reply, respond};
use crate::inband;
use crate::shared::Shared;

/// Longest silence between queries, and longest time for one to arrive or to be taken.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Longest query taken, in bytes.
const QUERY_LIMIT: usize = 1232;
/// Queries of one connection.
const QUERY_COUNT_LIMIT: usize = 10_000;

/// Serves one client to its end.
pub(crate) async fn serve(shared: &Arc<Shared>, mut stream: TcpStream) {
    let Ok(_permit) = Arc::clone(&shared.dns_connections).try_acquire_owned() else {
        inband::reset(stream);
        return;
    };
    for _ in 0..QUERY_COUNT_LIMIT {
        match timeout(IDLE_LIMIT, read(&mut stream)).await {
            Ok(Ok(Some(message))) => {
                let Some(answer) = answer(shared, &message).await else {
                    return;
                };
                if !matches!(
                    timeout(IDLE_LIMIT, write(&mut stream, &answer)).await,
                    Ok(Ok(()))
                ) {
                    return;
                }
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        }
    }
}

/// Reads one message; none at the end of the stream or when it is too long to be a query.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_LIMIT {
        return Ok(None);
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn answer(shared: &Arc<Shared>, message: &[u8]) -> Option<Vec<u8>> {
    match respond(shared, message, Carrier::Tcp) {
        Reply::None => None,
        Reply::Now(answer) => Some(answer),
        Reply::Later(pending) => match Arc::clone(&shared.pending_queries).try_acquire_owned() {
            Ok(_permit) => Some(pending.look_up(shared).await),
            Err(_) => Some(pending.overloaded(shared)),
        },
    }
}

async fn write(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    // Length and message in one segment (RFC 7766 section 8).
    stream
        .write_all(&[length.to_be_bytes().as_slice(), answer].concat())
        .await
}
