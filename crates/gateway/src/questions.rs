//! Questions to the user: connections that no rule decides about wait here for an answer.
//!
//! Equal questions are one, however many connections wait for it. What the agent can make the gateway hold is bounded: beyond
//! [`PENDING_LIMIT`] questions the next one is refused at once. Silence is a refusal.
//!
//! Must not decide: an answer lets a connection be judged again, and the rules have the last word.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rcc_spec::{Origin, Rule, RuleText};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::control::{Answer, Question};
use crate::judge::judge_destination;
use crate::refusal::{Destination, Refusal};
use crate::shared::Shared;

/// Different questions that may wait at a time.
const PENDING_LIMIT: usize = 64;
/// How answers are named in the log.
const ORIGIN: &str = "rcc net ask";

/// Every question that waits.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    state: Mutex<State>,
    /// Told whenever a question comes or goes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Counts changes, so that who has seen one state can wait for the next.
    serial: u64,
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    destination: Destination,
    asked: Instant,
    deadline: Instant,
    waiting: usize,
    answer: watch::Sender<Option<Heard>>,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// The user's word for the connections that wait.
    Answer(Answer),
    /// The rules decide by now.
    Rules,
}

/// How a connection goes on.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It is allowed this once, by this rule of its own.
    Once(RuleText),
    /// The rules have changed; they are to be asked again.
    Again,
}

/// Waits for the answer about a destination.
///
/// # Errors
/// The answer is no, none came in time, or too much is waiting.
pub(crate) async fn ask(shared: &Shared, destination: &Destination) -> Result<Asked, Refusal> {
    let seconds = shared.rules().ask_seconds().unwrap_or(0);
    let questions = &shared.questions;
    let (guard, mut answer, deadline) = questions.join(destination, seconds).ok_or_else(|| {
        Refusal::denied("ask_limit", "too many questions to the user are waiting")
    })?;
    let left = deadline.saturating_duration_since(Instant::now());
    let heard = match timeout(left, answer.wait_for(Option::is_some)).await {
        Ok(Ok(heard)) => *heard,
        Ok(Err(_)) | Err(_) => None,
    };
    drop(guard);
    match heard {
        Some(Heard::Rules) => Ok(Asked::Again),
        Some(Heard::Answer(Answer::Once)) => rule_for(destination).map(Asked::Once),
        Some(Heard::Answer(Answer::No)) => Err(Refusal::denied(
            "ask_denied",
            "the user said no to this host",
        )),
        None => {
            let sentence =
                "no rule of this sandbox allows this host, and the user did not answer in time";
            Err(Refusal::denied("ask_timeout", sentence).with_fix(destination))
        }
    }
}

/// The rule that allows exactly this destination, as text of a rule file and as what the log names.
pub(crate) fn rule_for(destination: &Destination) -> Result<RuleText, Refusal> {
    let rule = Rule::parse(&destination.rule_text(), Origin::file(ORIGIN, 0));
    // Canonical names and addresses always are rules.
    let odd = |_| Refusal::denied("ask_denied", "this host cannot be written as a rule");
    rule.map(|rule| RuleText::from(&rule)).map_err(odd)
}

impl Questions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the question about a destination, or asks it; none when too many wait.
    fn join(
        self: &Arc<Self>,
        destination: &Destination,
        seconds: u32,
    ) -> Option<(Waiting, watch::Receiver<Option<Heard>>, Instant)> {
        let mut state = self.state();
        let known = state
            .pending
            .iter()
            .find(|(_, pending)| {
                pending.destination == *destination && pending.answer.borrow().is_none()
            })
            .map(|(number, _)| *number);
        let number = match known {
            Some(number) => number,
            None if state.pending.len() >= PENDING_LIMIT => return None,
            None => {
                state.next += 1;
                let (number, asked) = (state.next, Instant::now());
                let pending = Pending {
                    destination: destination.clone(),
                    asked,
                    deadline: asked + Duration::from_secs(seconds.into()),
                    waiting: 0,
                    answer: watch::Sender::new(None),
                };
                state.pending.insert(number, pending);
                state.serial += 1;
                self.changed.notify_waiters();
                number
            }
        };
        let pending = state.pending.get_mut(&number)?;
        pending.waiting += 1;
        let guard = Waiting {
            questions: Arc::clone(self),
            number,
        };
        Some((guard, pending.answer.subscribe(), pending.deadline))
    }

    /// Answers a question; false when nobody waits for it any more.
    pub(crate) fn answer(&self, number: u64, answer: Answer) -> bool {
        let state = self.state();
        match state.pending.get(&number) {
            Some(pending) => pending
                .answer
                .send_if_modified(|heard| set_once(heard, Heard::Answer(answer))),
            None => false,
        }
    }

    /// Lets go on whatever the rules decide about by now.
    pub(crate) fn judge_all(&self, shared: &Shared) {
        let rules = shared.rules();
        for pending in self.state().pending.values() {
            let verdict = judge_destination(&rules, &pending.destination);
            if !verdict.is_err_and(|refusal| refusal.can_ask) {
                pending
                    .answer
                    .send_if_modified(|heard| set_once(heard, Heard::Rules));
            }
        }
    }

    /// What waits, with a number that changes when that does.
    pub(crate) fn list(&self) -> (u64, Vec<Question>) {
        let state = self.state();
        let now = Instant::now();
        let questions = state
            .pending
            .iter()
            .filter(|(_, pending)| pending.answer.borrow().is_none())
            .map(|(number, pending)| Question {
                number: *number,
                host: pending.destination.host_text(),
                port: pending.destination.port,
                protocol: pending.destination.protocol,
                rule: pending.destination.rule_text(),
                waiting: pending.waiting,
                asked_ms: milliseconds(now.saturating_duration_since(pending.asked)),
                left_ms: milliseconds(pending.deadline.saturating_duration_since(now)),
            })
            .collect();
        (state.serial, questions)
    }

    /// Waits until the list is another than the one that had this number, at most this long.
    pub(crate) async fn wait_for_change(&self, seen: u64, at_most: Duration) {
        let changed = self.changed.notified();
        if self.state().serial == seen {
            // A list that does not change is told again after the time.
            let _ = timeout(at_most, changed).await;
        }
    }
}

fn set_once(heard: &mut Option<Heard>, new: Heard) -> bool {
    let is_first = heard.is_none();
    heard.get_or_insert(new);
    is_first
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A connection that waits for an answer; dropping it ends the wait, and the question with the last one.
#[derive(Debug)]
struct Waiting {
    questions: Arc<Questions>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.questions.state();
        let Some(pending) = state.pending.get_mut(&self.number) else {
            return;
        };
        pending.waiting -= 1;
        if pending.waiting == 0 {
            state.pending.remove(&self.number);
            state.serial += 1;
            self.questions.changed.notify_waiters();
        }
    }
}
