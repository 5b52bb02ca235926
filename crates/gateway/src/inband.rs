//! Tells a client on its own connection why it was refused: HTTP 403 or 502, a TLS alert, or a reset.
//!
//! The kernel has accepted the connection before the gateway could judge it, so the refusal is the first thing a client hears. It
//! comes at once: a client that says nothing is told after a short wait in the words of the port, or reset. Must not forward a
//! byte, and must not read more of what the client says than it takes to know how to answer.

use std::time::Duration;

use rustix::net::Shutdown;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::first_bytes::{Opening, opening};
use crate::refusal::{Kind, Refusal};

/// How long the first bytes are awaited on the usual ports of HTTP and TLS.
const WAIT_USUAL: Duration = Duration::from_millis(50);
/// How long on all others. A client that speaks first has done so within a round trip over the link, some microseconds.
const WAIT_OTHER: Duration = Duration::from_millis(20);
/// How long a client may go on sending after its answer. Closing earlier would reset the connection, and the reset could
/// overtake the answer (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_millis(200);
/// Bytes that are read and thrown away meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// TLS alert `access_denied` (RFC 8446 section 6.2).
const ALERT_ACCESS_DENIED: u8 = 49;
/// TLS alert `internal_error` (RFC 8446 section 6.2).
const ALERT_INTERNAL_ERROR: u8 = 80;

/// Refuses a connection. `early` is what the client said already.
pub(crate) async fn refuse(
    stream: TcpStream,
    destination: &str,
    port: u16,
    refusal: &Refusal,
    early: Vec<u8>,
) {
    let wait = match port {
        80 | 443 => WAIT_USUAL,
        _ => WAIT_OTHER,
    };
    let deadline = Instant::now() + wait;
    let answer = match (first_opening(&stream, early, deadline).await, port) {
        (First::Said(Opening::Http), _) => http_answer(destination, refusal),
        (First::Said(Opening::Tls), _) => tls_alert(refusal.kind),
        (First::Nothing, 80) => return leave(stream, &http_answer(destination, refusal)),
        (First::Nothing, 443) => return leave(stream, &tls_alert(refusal.kind)),
        (First::Said(Opening::Other | Opening::Undecided) | First::Nothing, _) => {
            reset(stream);
            return;
        }
    };
    // The socket is new and its buffer empty: an answer of this size goes in as a whole or the client is gone.
    say(stream, &answer).await;
}

/// Refuses a later request of a connection whose earlier ones have their whole answers.
pub(crate) async fn refuse_http(stream: TcpStream, destination: &str, refusal: &Refusal) {
    say(stream, &http_answer(destination, refusal)).await;
}

async fn say(stream: TcpStream, answer: &[u8]) {
    match stream.try_write(answer) {
        Ok(count) if count == answer.len() => linger(stream).await,
        Ok(_) | Err(_) => reset(stream),
    }
}

/// Leaves an answer to what has not been asked yet, as servers do when they end an idle connection (RFC 9110 section 15.5.9). A client
/// that is slow to speak finds it in front of the end: what it has received stays readable when its own words are reset.
fn leave(stream: TcpStream, answer: &[u8]) {
    if !matches!(stream.try_write(answer), Ok(count) if count == answer.len()) {
        reset(stream);
    }
}

/// Closes a connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    // Fails only on a socket that is closed already.
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// What a client says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Said(Opening),
    /// It is there and says nothing yet.
    Nothing,
}

async fn first_opening(stream: &TcpStream, early: Vec<u8>, deadline: Instant) -> First {
    let mut bytes = early;
    let mut buffer = [0; 64];
    loop {
        let opening = opening(&bytes);
        if opening != Opening::Undecided {
            return First::Said(opening);
        }
        match timeout_at(deadline, stream.readable()).await {
            Ok(Ok(())) => {}
            Err(_) if bytes.is_empty() => return First::Nothing,
            Ok(Err(_)) | Err(_) => return First::Said(opening),
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => return First::Said(opening),
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return First::Said(opening),
        }
    }
}

fn http_answer(destination: &str, refusal: &Refusal) -> Vec<u8> {
    let status = match refusal.kind {
        Kind::Denied => "403 Forbidden",
        Kind::Failed => "502 Bad Gateway",
    };
    let body = refusal.explanation(&format!("the connection to {destination}"));
    let (length, code) = (body.len() + 1, refusal.code);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nX-Rcc-Reason: {code}\r\nConnection: close\r\n\r\n{body}\n"
    )
    .into_bytes()
}

/// A fatal alert in a plaintext record (RFC 8446 sections 5.1 and 6).
fn tls_alert(kind: Kind) -> Vec<u8> {
    let description = match kind {
        Kind::Denied => ALERT_ACCESS_DENIED,
        Kind::Failed => ALERT_INTERNAL_ERROR,
    };
    vec![21, 3, 3, 0, 2, 2, description]
}

/// Ends our direction and lets the client finish before closing.
async fn linger(stream: TcpStream) {
    let deadline = Instant::now() + LINGER;
    // ENOTCONN: the client is gone, which the reads notice.
    let _ = rustix::net::shutdown(&stream, Shutdown::Write);
    let mut buffer = vec![0; 8 << 10];
    let mut discarded = 0;
    while discarded < LINGER_BYTES
        && matches!(timeout_at(deadline, stream.readable()).await, Ok(Ok(())))
    {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => discarded += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
