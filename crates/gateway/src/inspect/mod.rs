//! The agent's direction of a connection: what is said on a connection to a name must be for that name.
//!
//! Many names share an address, so without this an allowed name would open the way to every other one behind the same
//! server. TLS is looked at up to the end of its hellos ([`tls`]), plain HTTP in every request ([`http`]); what cannot be
//! either passes. A literal address has no name to be held to, and a raw rule asks for nothing.
//!
//! Must not hold back what the server says meanwhile: in some protocols it speaks first.

mod held;
mod http;
mod tls;

use std::time::Duration;

use rcc_spec::{Checks, HostName};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client_hello::{HELLO_LIMIT, Parsed, parse};
use crate::http::{Opening, recognise};
use crate::live::Live;
use crate::refusal::{Destination, Refusal};
use crate::relay::{Cut, Traffic};
use crate::shared::Shared;
use crate::transfer::{finish, pump};
use crate::watch::Watch;
use held::{Held, More};

/// Time for a hello or a head to become complete after its first byte.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Time for a first line that may become a request before what is there of it goes on. A server of HTTP can do nothing with it,
/// one of another protocol may wait for it.
const LINE_TIME: Duration = Duration::from_millis(200);
/// Port on which a rule by name means HTTP.
const HTTP_PORT: u16 = 80;

/// PostgreSQL's SSLRequest and GSSENCRequest ("Message Formats" of its manual): some providers tell their customers apart by the
/// server name in the handshake that follows.
const TLS_REQUESTS: [[u8; TLS_REQUEST_LENGTH]; 2] = [
    [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f],
    [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30],
];
const TLS_REQUEST_LENGTH: usize = 8;

/// Something that the agent said and that was not forwarded.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    /// What was read and not forwarded.
    pub(crate) early: Vec<u8>,
    pub(crate) place: Place,
}

/// Where in a connection something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first words; nothing was forwarded that a server can act on.
    Opening,
    /// Something after that.
    Later,
}

/// The agent's direction of one connection, and what is known of it.
#[derive(Clone, Copy)]
pub(crate) struct Way<'way> {
    pub(crate) shared: &'way Shared,
    pub(crate) agent: &'way TcpStream,
    pub(crate) upstream: &'way TcpStream,
    pub(crate) destination: &'way Destination,
    pub(crate) live: &'way Live<'way>,
    pub(crate) watch: &'way Watch,
    pub(crate) traffic: &'way Traffic,
}

impl Way<'_> {
    /// Moves what the agent says, as far as it may pass, up to and including its end.
    pub(crate) async fn travel(self) -> Result<(), Cut> {
        let Some(name) = self.destination.name() else {
            return self.pass_the_rest(Held::default()).await;
        };
        if self.live.verdict().checks == Checks::Raw {
            self.live.passed_unchecked();
            return self.pass_the_rest(Held::default()).await;
        }
        self.first_words(name).await
    }

    async fn first_words(&self, name: &HostName) -> Result<(), Cut> {
        let is_web = self.destination.port == HTTP_PORT;
        let mut held = Held::default();
        let mut deadline = None;
        loop {
            let words = look(held.bytes());
            match words {
                Words::Nothing => {}
                Words::AsksForTls => {
                    // Goes on as it is; the server answers, and what the client says then is looked at like a beginning.
                    held.release(self, TLS_REQUEST_LENGTH).await?;
                    deadline = None;
                    continue;
                }
                Words::Hello => return tls::pass(self, name, held).await,
                Words::MalformedTls => {
                    return self.stop(tls::malformed(), held, Place::Opening).await;
                }
                Words::Line(Opening::Http) => return http::pass(self, name, held).await,
                Words::Line(Opening::ProxyProtocol) => {
                    return self.stop(proxy_protocol(), held, Place::Opening).await;
                }
                Words::Line(Opening::Other) if is_web => {
                    return self.stop(not_http(), held, Place::Opening).await;
                }
                Words::Line(Opening::Other) => return self.pass_the_rest(held).await,
                Words::PartOfHello => {
                    deadline.get_or_insert_with(|| Instant::now() + HEAD_TIME);
                }
                Words::Line(Opening::Open { .. }) if is_web => {
                    deadline.get_or_insert_with(|| Instant::now() + HEAD_TIME);
                }
                Words::Line(Opening::Open { likely: true }) if !held.is_sent() => {
                    let line_end = *deadline.get_or_insert_with(|| Instant::now() + LINE_TIME);
                    if Instant::now() >= line_end {
                        held.send_on(self).await?;
                    }
                }
                Words::Line(Opening::Open { .. }) => held.send_on(self).await?,
            }
            let until = deadline.filter(|_| !held.is_sent());
            match held.more(self, until).await? {
                More::Bytes => {}
                More::End if held.bytes().is_empty() => {
                    finish(self.upstream);
                    return Ok(());
                }
                More::Late if matches!(words, Words::Line(_)) && !is_web => {}
                More::End | More::Late => return self.unfinished(words, held).await,
            }
        }
    }

    /// The client ended, or time is up, in the middle of its first words.
    async fn unfinished(&self, words: Words, held: Held) -> Result<(), Cut> {
        let is_web = self.destination.port == HTTP_PORT;
        let refusal = match words {
            Words::Line(_) => {
                // Some servers take the end for the end of the line.
                let line = [held.bytes(), b"\n"].concat();
                match recognise(&line) {
                    Opening::Http => http::refusal(crate::http::Fault::Malformed(
                        "the HTTP request did not become complete",
                    )),
                    Opening::ProxyProtocol => proxy_protocol(),
                    Opening::Open { .. } | Opening::Other if is_web => not_http(),
                    Opening::Open { .. } | Opening::Other => {
                        return self.pass_the_rest(held).await;
                    }
                }
            }
            _ => tls::malformed(),
        };
        self.stop(refusal, held, Place::Opening).await
    }

    /// Refuses, if a rule is what allows the connection. What no rule allows by name may say what it wants, however garbled.
    async fn stop(&self, refusal: Refusal, held: Held, place: Place) -> Result<(), Cut> {
        let verdict = self.live.verdict();
        let Some(rule) = verdict.rule else {
            self.live.passed_unchecked();
            return self.pass_the_rest(held).await;
        };
        Err(Cut::Refused(Box::new(Refused {
            refusal: Refusal {
                rule: Some(rule.to_string()),
                fix: refusal
                    .fix
                    .map(|_| format!("--allow {}/raw", self.destination)),
                ..refusal
            },
            early: held.into_bytes(),
            place,
        })))
    }

    /// Moves what is held and everything after it.
    async fn pass_the_rest(&self, mut held: Held) -> Result<(), Cut> {
        self.watch.look_away();
        held.release_all(self).await?;
        let resources = &self.shared.relay;
        pump(
            self.agent,
            self.upstream,
            resources,
            &self.traffic.sent,
            None,
        )
        .await?;
        Ok(())
    }
}

/// What the first bytes of a client are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Nothing,
    /// PostgreSQL's request to begin TLS, behind which nothing has been said yet that counts.
    AsksForTls,
    PartOfHello,
    Hello,
    MalformedTls,
    Line(Opening),
}

fn look(bytes: &[u8]) -> Words {
    if bytes.is_empty() {
        return Words::Nothing;
    }
    if TLS_REQUESTS
        .iter()
        .any(|request| bytes.starts_with(request))
    {
        return Words::AsksForTls;
    }
    if TLS_REQUESTS
        .iter()
        .any(|request| request.starts_with(bytes))
    {
        return Words::Line(Opening::Open { likely: true });
    }
    match parse(bytes) {
        Parsed::Hello { .. } => Words::Hello,
        Parsed::Incomplete(needed) if needed <= HELLO_LIMIT => Words::PartOfHello,
        Parsed::Incomplete(_) | Parsed::Malformed => Words::MalformedTls,
        Parsed::NotTls => Words::Line(recognise(bytes)),
    }
}

/// A refusal by what was said, which a raw rule would lift.
fn liftable(code: &'static str, sentence: impl Into<String>) -> Refusal {
    let mut refusal = Refusal::denied(code, sentence);
    // Whoever refuses knows the destination.
    refusal.fix = Some(String::new());
    refusal
}

fn not_http() -> Refusal {
    liftable(
        "http_not_http",
        "what was said on port 80 is neither HTTP nor TLS, so it cannot be checked",
    )
}

fn proxy_protocol() -> Refusal {
    liftable(
        "proxy_protocol",
        "a header of the PROXY protocol hides what the connection is for",
    )
}
