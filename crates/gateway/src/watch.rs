//! What the agent's direction has to know of the server's words: did it ask for a second ClientHello, did it agree to an upgrade, and is
//! its last answer over?
//!
//! The server's direction shows its bytes here while somebody wants to know, and moves them on at once in any case. Must not hold
//! anything back, and must not let anything pass that depends on a guess: an answer that was not understood is a no.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::http::Responses;
use crate::relay::Traffic;
use crate::server_hello::{Answer, ServerHello};

/// A window onto the server's direction of one connection.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    looking: Looking,
    /// Bytes of the server that went by since the beginning.
    seen: u64,
    /// The server has ended.
    ended: bool,
}

#[derive(Debug, Default)]
enum Looking {
    #[default]
    Away,
    Tls(ServerHello),
    Http(Responses),
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for the answer to a ClientHello, which goes on only after this call.
    pub(crate) fn expect_server_hello(&self) {
        self.state().looking = Looking::Tls(ServerHello::default());
    }

    /// Looks at answers of HTTP from here on.
    pub(crate) fn expect_responses(&self) {
        let mut state = self.state();
        let mut responses = Responses::default();
        if state.seen > 0 {
            // What it began to say is no answer to a request.
            responses.lose();
        }
        state.looking = Looking::Http(responses);
    }

    /// Changes what is known of the answers.
    pub(crate) fn responses(&self, change: impl FnOnce(&mut Responses)) {
        if let Looking::Http(responses) = &mut self.state().looking {
            change(responses);
        }
    }

    /// Does not look any more.
    pub(crate) fn look_away(&self) {
        self.state().looking = Looking::Away;
    }

    /// Waits for the answer to a ClientHello.
    pub(crate) async fn server_hello(&self) -> Answer {
        self.wait(|state| match &state.looking {
            Looking::Tls(hello) => match hello.answer() {
                None if state.ended => Some(Answer::Other),
                answer => answer,
            },
            Looking::Away | Looking::Http(_) => Some(Answer::Other),
        })
        .await
    }

    /// Waits for the answer to a request for an upgrade: did the server agree?
    pub(crate) async fn switched(&self) -> bool {
        self.wait(|state| match &state.looking {
            Looking::Http(responses) => match responses.switched() {
                None if state.ended => Some(false),
                answer => answer,
            },
            Looking::Away | Looking::Tls(_) => Some(false),
        })
        .await
    }

    async fn wait<T>(&self, answer: impl Fn(&State) -> Option<T>) -> T {
        loop {
            // Created before the look: what changes in between is not missed.
            let changed = self.changed.notified();
            if let Some(answer) = answer(&self.state()) {
                return answer;
            }
            changed.await;
        }
    }

    /// Bytes that may go by without being shown.
    pub(crate) fn unseen(&self) -> u64 {
        match &self.state().looking {
            Looking::Away => u64::MAX,
            Looking::Tls(hello) if hello.answer().is_some() => u64::MAX,
            Looking::Tls(_) => 0,
            Looking::Http(responses) => responses.unseen(),
        }
    }

    /// Shows bytes that are about to go by.
    pub(crate) fn see(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.seen += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match &mut state.looking {
            Looking::Away => return,
            Looking::Tls(hello) => hello.see(bytes),
            Looking::Http(responses) => responses.see(bytes),
        }
        self.changed.notify_waiters();
    }

    /// Says that bytes go by unseen, at most [`Watch::unseen`].
    pub(crate) fn skip(&self, count: usize) {
        let mut state = self.state();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        state.seen += count;
        if let Looking::Http(responses) = &mut state.looking {
            responses.skip(count);
        }
    }

    /// Says that the server has ended.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_waiters();
    }

    /// Tells whether the server's answers are followed.
    pub(crate) fn answers(&self) -> bool {
        matches!(self.state().looking, Looking::Http(_))
    }

    /// Tells whether every request has its whole answer, and the agent has it.
    pub(crate) fn is_idle(&self, traffic: &Traffic) -> bool {
        let state = self.state();
        let is_delivered = traffic.received.load(Ordering::Relaxed) == state.seen;
        let is_over = match &state.looking {
            Looking::Http(responses) => responses.is_idle(),
            Looking::Away | Looking::Tls(_) => false,
        };
        is_over && is_delivered
    }
}
