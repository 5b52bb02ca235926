//! Cuts what a client says into requests, one after the other, however the bytes arrive.
//!
//! Must not let a byte of a head go before the whole head is judged.

use super::body::{Chunked, Next};
use super::head::{self, Body, Head};
use super::{Fault, HEAD_LIMIT};

/// What to do with the bytes in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before more bytes are there.
    More,
    /// The first so many go on.
    Forward(usize),
    /// The first so many are left out.
    Drop(usize),
    /// So many from here on, in hand or not, go on unseen.
    Unseen(u64),
    /// The first so many are the head of a request, to be judged by who it is for before it goes on.
    Head(usize, Box<Head>),
}

/// Empty lines that may stand in front of a request (RFC 9112 section 2.2 asks for one).
const EMPTY_LINES: usize = 2;

/// The state between two portions.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    state: State,
    /// Requests whose heads were complete.
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In front of a request, after so many empty lines.
    Start(usize),
    /// In a head: so many bytes are whole lines, and so many have no line end behind those.
    Head(usize, usize),
    Length(u64),
    Chunked(Chunked),
    Chunk(u64, Chunked),
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            state: State::Start(0),
            count: 0,
        }
    }
}

impl Requests {
    /// Tells whether a head has begun and is not complete.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(..))
    }

    /// Tells whether nothing of a request has begun.
    #[cfg(test)]
    pub(super) fn is_at_start(&self) -> bool {
        matches!(self.state, State::Start(_))
    }

    /// Looks at the bytes that have not gone on yet, all of them each time.
    pub(crate) fn step(&mut self, held: &[u8]) -> Result<Step, Fault> {
        match self.state {
            State::Start(empty) => match held {
                [] | [b'\r'] => Ok(Step::More),
                [b'\r', b'\n', ..] if empty < EMPTY_LINES => {
                    self.state = State::Start(empty + 1);
                    Ok(Step::Drop(2))
                }
                [b'\r' | b'\n', ..] => Err(Fault::Malformed(
                    "there are stray line ends in front of the HTTP request",
                )),
                _ => self.head(held, 0, 0),
            },
            State::Head(lines, scanned) => self.head(held, lines, scanned),
            State::Length(0) => {
                self.state = State::Start(0);
                self.step(held)
            }
            State::Length(length) => {
                self.state = State::Start(0);
                Ok(Step::Unseen(length))
            }
            State::Chunked(place) => Ok(match place.next(held)? {
                Next::More => Step::More,
                Next::Pass(framing, 0, next) => {
                    self.state = State::Chunked(next);
                    Step::Forward(framing)
                }
                Next::Pass(framing, content, next) => {
                    self.state = State::Chunk(content, next);
                    Step::Forward(framing)
                }
                Next::End(framing) => {
                    self.state = State::Start(0);
                    Step::Forward(framing)
                }
            }),
            State::Chunk(content, next) => {
                self.state = State::Chunked(next);
                Ok(Step::Unseen(content))
            }
        }
    }

    /// `scanned` spares looking again and again at a line that comes byte by byte.
    fn head(&mut self, held: &[u8], mut seen: usize, mut scanned: usize) -> Result<Step, Fault> {
        loop {
            let rest = held.get(seen..).unwrap_or_default();
            if !rest.get(scanned..).unwrap_or_default().contains(&b'\n') {
                if held.len() >= HEAD_LIMIT {
                    return Err(TOO_LONG);
                }
                self.state = State::Head(seen, rest.len());
                return Ok(Step::More);
            }
            scanned = 0;
            let Some(end) = head::line_end(rest, HEAD_LIMIT)? else {
                return Err(TOO_LONG);
            };
            if seen == 0 {
                // A client that means no fields waits for an answer now.
                head::check_request_line(rest.get(..end - 2).unwrap_or_default())?;
            }
            seen += end;
            if seen > HEAD_LIMIT {
                return Err(TOO_LONG);
            }
            if end == 2 {
                break;
            }
        }
        let head = head::parse(held.get(..seen).unwrap_or_default())?;
        self.count += 1;
        if head.upgrade && self.count > 1 {
            return Err(Fault::Upgrade(
                "a WebSocket is only possible as the first request of a connection",
            ));
        }
        self.state = match head.body {
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunked(Chunked::Size),
        };
        Ok(Step::Head(seen, Box::new(head)))
    }
}

const TOO_LONG: Fault = Fault::Malformed("the head of the HTTP request is longer than 64 KiB");
