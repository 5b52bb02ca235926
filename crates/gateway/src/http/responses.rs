//! Follows a server's answers on a connection whose requests are parsed.
//!
//! For two questions only: has the server agreed to an upgrade, and is its last answer over, so that an explanation may stand behind it?
//! A server that confuses this reader could say whatever it wants anyway, so it gives up at the first thing that it does not
//! understand. Must not hold anything back.

use std::collections::VecDeque;

use super::body::{Chunked, Next};
use super::head::{Body, line_end};

/// Longest head of an answer that is followed.
const HEAD_LIMIT: usize = 64 << 10;
/// Requests without an answer that are remembered.
const PENDING_LIMIT: usize = 1024;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The answer has no body, whatever it says.
    pub(crate) is_head: bool,
    /// An upgrade was asked for.
    pub(crate) upgrade: bool,
}

/// The state between two portions.
#[derive(Debug)]
pub(crate) struct Responses {
    pending: VecDeque<Asked>,
    state: State,
    /// Bytes of a head, or of a line of chunks, that is not complete.
    held: Vec<u8>,
    switched: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    Chunk(u64, Chunked),
    /// Ends with the connection, or is not understood.
    Lost,
    /// After a switch of protocols.
    Switched,
}

impl Default for Responses {
    fn default() -> Self {
        Self {
            pending: VecDeque::new(),
            state: State::Head,
            held: Vec::new(),
            switched: None,
        }
    }
}

impl Responses {
    /// Says that a request goes on.
    pub(crate) fn expect(&mut self, asked: Asked) {
        if self.pending.len() >= PENDING_LIMIT {
            self.lose();
        }
        if self.state != State::Lost {
            self.pending.push_back(asked);
        }
    }

    /// Gives up: what the server says is not followed any more.
    pub(crate) fn lose(&mut self) {
        self.state = State::Lost;
        self.held = Vec::new();
        self.pending = VecDeque::new();
        self.switched.get_or_insert(false);
    }

    /// Whether the server agreed to the upgrade that was asked for; none before it answered.
    pub(crate) fn switched(&self) -> Option<bool> {
        self.switched
    }

    /// Tells whether every request has its whole answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Head && self.pending.is_empty() && self.held.is_empty()
    }

    /// Bytes that follow whose content makes no difference.
    pub(crate) fn unseen(&self) -> u64 {
        match self.state {
            State::Length(count) | State::Chunk(count, _) => count,
            State::Lost | State::Switched => u64::MAX,
            State::Head | State::Chunked(_) => 0,
        }
    }

    /// Says that so many of these bytes went by; at most [`Responses::unseen`].
    pub(crate) fn skip(&mut self, count: u64) {
        match &mut self.state {
            State::Length(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.state = State::Head;
                }
            }
            State::Chunk(left, next) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.state = State::Chunked(*next);
                }
            }
            State::Head | State::Chunked(_) | State::Lost | State::Switched => {}
        }
    }

    /// Shows bytes of the server.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let unseen = usize::try_from(self.unseen()).unwrap_or(usize::MAX);
            if unseen > 0 {
                let (skipped, rest) = bytes.split_at(unseen.min(bytes.len()));
                self.skip(u64::try_from(skipped.len()).unwrap_or(u64::MAX));
                bytes = rest;
                continue;
            }
            self.held.extend_from_slice(bytes);
            let held = std::mem::take(&mut self.held);
            match self.framing(&held) {
                Ok(Some(used)) => {
                    // What follows was in `bytes`: the framing was not complete before.
                    let rest = held.len().saturating_sub(used);
                    bytes = bytes
                        .get(bytes.len().saturating_sub(rest)..)
                        .unwrap_or_default();
                }
                Ok(None) if held.len() <= HEAD_LIMIT => {
                    self.held = held;
                    return;
                }
                Ok(None) | Err(()) => return self.lose(),
            }
        }
    }

    /// Takes one head or one line of chunks off the front; none when it is not complete.
    fn framing(&mut self, held: &[u8]) -> Result<Option<usize>, ()> {
        match self.state {
            State::Chunked(place) => match place.next(held).map_err(|_| ())? {
                Next::More => Ok(None),
                Next::Pass(framing, content, next) => {
                    self.state = match content {
                        0 => State::Chunked(next),
                        content => State::Chunk(content, next),
                    };
                    Ok(Some(framing))
                }
                Next::End(framing) => {
                    self.state = State::Head;
                    Ok(Some(framing))
                }
            },
            _ => {
                let mut end = 0;
                loop {
                    let rest = held.get(end..).unwrap_or_default();
                    let Some(line) = line_end(rest, HEAD_LIMIT).map_err(|_| ())? else {
                        return Ok(None);
                    };
                    end += line;
                    if line == 2 {
                        break;
                    }
                }
                self.head(held.get(..end).unwrap_or_default())?;
                Ok(Some(end))
            }
        }
    }

    fn head(&mut self, head: &[u8]) -> Result<(), ()> {
        let asked = *self.pending.front().ok_or(())?;
        let status = status(head).ok_or(())?;
        match status {
            101 if asked.upgrade => {
                self.switched = Some(true);
                self.state = State::Switched;
                return Ok(());
            }
            101 => return Err(()),
            // Something before the answer itself.
            100..=199 => return Ok(()),
            _ => {}
        }
        self.pending.pop_front();
        if asked.upgrade {
            self.switched = Some(false);
        }
        self.state = if asked.is_head || matches!(status, 204 | 304) {
            State::Head
        } else {
            match body(head)? {
                Some(Body::Length(0)) => State::Head,
                Some(Body::Length(length)) => State::Length(length),
                Some(Body::Chunked) => State::Chunked(Chunked::Size),
                None => State::Lost,
            }
        };
        Ok(())
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    let text = std::str::from_utf8(digits).ok()?;
    text.parse().ok().filter(|status| *status >= 100)
}

/// How the body of an answer ends; none for "with the connection".
fn body(head: &[u8]) -> Result<Option<Body>, ()> {
    let mut found = None;
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let one = if name.eq_ignore_ascii_case(b"content-length") {
            let text = std::str::from_utf8(value).map_err(|_| ())?;
            Body::Length(text.parse().map_err(|_| ())?)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(());
            }
            Body::Chunked
        } else {
            continue;
        };
        if found.replace(one).is_some() {
            return Err(());
        }
    }
    Ok(found)
}
