//! TLS on a connection to a name: each ClientHello in the clear must be for that name.
//!
//! A server may ask for a second one (RFC 8446 section 4.1.4), and some take the name from that. So no handshake record behind the
//! first hello goes on before the server's answer is seen. What is said inside of TLS cannot be seen: renegotiation, a Host field.

use rcc_spec::HostName;
use tokio::time::Instant;

use super::{HEAD_TIME, Held, More, Place, Way, liftable};
use crate::client_hello::{HELLO_LIMIT, Hello, Parsed, parse};
use crate::refusal::Refusal;
use crate::relay::Cut;
use crate::server_hello::Answer;
use crate::server_name::{Carrier, check};
use crate::transfer::finish;

/// Content types of records (RFC 8446 section 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const HEADER: usize = 5;
/// Longest payload of a record that may be encrypted, in bytes (RFC 8446 section 5.2).
const RECORD_LIMIT: usize = (1 << 14) + 256;

pub(super) fn malformed() -> Refusal {
    liftable(
        "tls_malformed",
        "the TLS handshake is malformed or did not become complete",
    )
}

/// Moves a connection that begins with a complete hello.
pub(super) async fn pass(way: &Way<'_>, name: &HostName, mut held: Held) -> Result<(), Cut> {
    let Parsed::Hello { hello, length } = parse(held.bytes()) else {
        return way.stop(malformed(), held, Place::Opening).await;
    };
    if let Some(refusal) = judge(way, name, &hello) {
        return refuse(refusal, held, Place::Opening);
    }
    way.watch.expect_server_hello();
    held.release(way, length).await?;
    until_answered(way, name, held).await
}

/// Holds back everything but what cannot be a second hello, until the server has said whether it wants one.
async fn until_answered(way: &Way<'_>, name: &HostName, mut held: Held) -> Result<(), Cut> {
    // Set as soon as a second hello is to come.
    let mut deadline = None;
    loop {
        match next_record(held.bytes()) {
            Record::Harmless(length) => {
                held.release(way, length).await?;
                continue;
            }
            Record::Incomplete => {}
            Record::Other if deadline.is_none() => match way.watch.server_hello().await {
                Answer::Other => return way.pass_the_rest(held).await,
                Answer::Retry => {
                    deadline = Some(Instant::now() + HEAD_TIME);
                    continue;
                }
            },
            Record::Other => match parse(held.bytes()) {
                Parsed::Hello { hello, .. } => {
                    return match judge(way, name, &hello) {
                        None => way.pass_the_rest(held).await,
                        Some(refusal) => refuse(refusal, held, Place::Later),
                    };
                }
                Parsed::Incomplete(needed) if needed <= HELLO_LIMIT => {}
                Parsed::Incomplete(_) | Parsed::Malformed | Parsed::NotTls => {
                    return way.stop(malformed(), held, Place::Later).await;
                }
            },
        }
        let more = if deadline.is_some() {
            held.more(way, deadline).await?
        } else {
            tokio::select! {
                biased;
                answer = way.watch.server_hello() => match answer {
                    Answer::Other => return way.pass_the_rest(held).await,
                    Answer::Retry => {
                        deadline = Some(Instant::now() + HEAD_TIME);
                        continue;
                    }
                },
                more = held.more(way, None) => more?,
            }
        };
        match more {
            More::Bytes => {}
            More::End if held.bytes().is_empty() => {
                finish(way.upstream);
                return Ok(());
            }
            More::End | More::Late => return way.stop(malformed(), held, Place::Later).await,
        }
    }
}

/// What stands in front.
enum Record {
    /// A whole record of so many bytes that is no part of a hello.
    Harmless(usize),
    Incomplete,
    Other,
}

fn next_record(bytes: &[u8]) -> Record {
    match bytes {
        [] => Record::Incomplete,
        // A remnant of old protocols (appendix D.4), early data, which a server that asks again throws away (section 4.2.10), and
        // alerts, by which a client gives up.
        [CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA, rest @ ..] => match rest {
            [3, _, high, low, payload @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                match payload.len() >= length {
                    _ if length > RECORD_LIMIT => Record::Other,
                    true => Record::Harmless(HEADER + length),
                    false => Record::Incomplete,
                }
            }
            [] | [3] | [3, _] | [3, _, _] => Record::Incomplete,
            _ => Record::Other,
        },
        _ => Record::Other,
    }
}

fn judge(way: &Way<'_>, name: &HostName, hello: &Hello) -> Option<Refusal> {
    let (verdict, rules) = (way.live.verdict(), way.shared.rules());
    if verdict.rule.is_none() {
        note_freedom(way, hello, name);
    }
    let refusal = check(Carrier::Tls, hello, name, way.destination, &verdict, &rules)?;
    Some(Refusal {
        rule: refusal.rule.or(verdict.rule.map(|rule| rule.to_string())),
        fix: match refusal.code {
            "tls_encrypted_hello" | "tls_no_name" => {
                Some(format!("--allow {}/raw", way.destination))
            }
            _ => refusal.fix,
        },
        ..refusal
    })
}

fn refuse(refusal: Refusal, held: Held, place: Place) -> Result<(), Cut> {
    Err(Cut::Refused(Box::new(super::Refused {
        refusal,
        early: held.into_bytes(),
        place,
    })))
}

/// Where no rule holds a hello to the name, later rules may: whatever else it was for is judged with the connection.
fn note_freedom(way: &Way<'_>, hello: &Hello, name: &HostName) {
    let text = hello.server_name.as_deref().map(std::str::from_utf8);
    let said = text.and_then(|text| HostName::parse(text.ok()?).ok());
    if hello.is_encrypted || said.as_ref() != Some(name) {
        way.live.passed_unchecked();
    }
    if let Some(said) = said {
        way.live.also_for(&said);
    }
}
