//! Looks at what a client says first on a connection to a name: a TLS hello must be for that name.
//!
//! Many names share an address, so without this an allowed name would open the way to every other one behind the same
//! server. What is not TLS passes. Must not hold back what the server says meanwhile: in some protocols it speaks first.

use std::io;
use std::time::Duration;

use rcc_spec::HostName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::client_hello::{HELLO_LIMIT, Hello, Parsed, parse};
use crate::live::Live;
use crate::refusal::{Destination, Refusal};
use crate::relay::Cut;
use crate::server_name::{Carrier, check};
use crate::shared::Shared;

/// Time for a hello to become complete after its first byte.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// A refused opening, with the bytes that were read.
#[derive(Debug)]
pub(crate) struct RefusedOpening {
    pub(crate) refusal: Refusal,
    pub(crate) early: Vec<u8>,
}

/// Reads the first bytes of a client and returns them if they may be forwarded. None are returned when the client ends
/// before it says anything, and for a literal address, which has no name to be held to.
pub(crate) async fn opening(
    shared: &Shared,
    agent: &TcpStream,
    destination: &Destination,
    live: &Live<'_>,
) -> Result<Vec<u8>, Cut> {
    let Some(name) = destination.name() else {
        return Ok(Vec::new());
    };
    // What no rule allows by name may say what it wants, however garbled.
    let refused = |refusal, early| match live.verdict().rule {
        Some(_) => Err(Cut::Refused(RefusedOpening { refusal, early })),
        None => {
            live.passed_unchecked();
            Ok(early)
        }
    };
    let mut bytes = Vec::new();
    let mut needed = 1;
    let mut deadline = None;
    loop {
        if bytes.len() >= needed {
            match parse(&bytes) {
                Parsed::NotTls => return Ok(bytes),
                Parsed::Hello(hello) => {
                    let (verdict, rules) = (live.verdict(), shared.rules());
                    if verdict.rule.is_none() {
                        note_freedom(live, &hello, name);
                    }
                    return match check(Carrier::Tls, &hello, name, destination, &verdict, &rules) {
                        None => Ok(bytes),
                        Some(refusal) => Err(Cut::Refused(RefusedOpening {
                            refusal,
                            early: bytes,
                        })),
                    };
                }
                Parsed::Incomplete(more) if more <= HELLO_LIMIT => {
                    needed = more;
                    deadline.get_or_insert_with(|| Instant::now() + HELLO_TIME);
                    continue;
                }
                Parsed::Incomplete(_) | Parsed::Malformed => return refused(malformed(), bytes),
            }
        }
        let readable = match deadline {
            None => Ok(agent.readable().await),
            Some(deadline) => timeout_at(deadline, agent.readable()).await,
        };
        let is_over = match readable {
            // A reset is passed on as one: nobody is there to be told anything else.
            Ok(Ok(())) => read(agent, &mut bytes)? == Some(0),
            Ok(Err(error)) => return Err(error.into()),
            Err(_elapsed) => true,
        };
        if is_over && bytes.is_empty() {
            // The relay sees the same end.
            return Ok(bytes);
        }
        if is_over {
            return refused(malformed(), bytes);
        }
    }
}

/// Reads once and tells how much; none when nothing is there.
fn read(agent: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut buffer = [0; 2048];
    match agent.try_read(&mut buffer) {
        Ok(count) => {
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(Some(count))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn malformed() -> Refusal {
    Refusal::denied(
        "tls_malformed",
        "the TLS handshake is malformed or did not become complete",
    )
}

/// Where no rule holds a hello to the name, later rules may: whatever else it was for is judged with the connection.
fn note_freedom(live: &Live<'_>, hello: &Hello, name: &HostName) {
    let text = hello.server_name.as_deref().map(std::str::from_utf8);
    let said = text.and_then(|text| HostName::parse(text.ok()?).ok());
    if hello.is_encrypted || said.as_ref() != Some(name) {
        live.passed_unchecked();
    }
    if let Some(said) = said {
        live.also_for(&said);
    }
}
