//! The connections that live, so that new rules reach each of them.
//!
//! # Why there is no window
//! The gateway's runtime has one thread, and nothing here awaits while it judges. So these happen as wholes, in some order:
//! - *begin*: a connection is registered and then judged by the rules in force;
//! - *connect*: the address that it reached is noted and both, name and address, are judged by the rules in force;
//! - *change*: the rules are swapped and every registered connection is judged again.
//!
//! A connection that begins before a change is found by it; one that begins after it is judged by the new rules. A connection that
//! is cut is only marked by the change; its task does the cutting. But a task polls [`Live::cut`] before anything else
//! (`biased`), and a task runs only after the change is complete, so no byte moves after it. [`set_rules`] returns when every
//! marked connection has left the registry.
//!
//! Must not read or write a connection's bytes, and must not wait between judging and registering.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use rcc_spec::{Checks, HostName, RuleSet, RuleText, Verdict};
use tokio::sync::Notify;

use crate::judge::judge_destination;
use crate::questions::{Asked, ask};
use crate::refusal::{Destination, Host, Refusal};
use crate::relay::Traffic;
use crate::shared::Shared;

/// Numbers of connections that have left, kept at least before they are swept out.
const SILENT_SLACK: usize = 64;

/// Puts new rules in force and judges everything that lives by them. When this returns, what they forbid is cut.
/// The result is the number of connections and UDP flows cut.
pub(crate) async fn set_rules(shared: &Shared, rules: Arc<RuleSet>) -> usize {
    shared.swap_rules(rules);
    let cut = shared.live.judge_all(shared) + shared.flows.rejudge(shared);
    shared.questions.judge_all(shared);
    shared.live.wait_until_cut().await;
    cut
}

/// Every connection of a gateway that is judged, dialled or relayed.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Told whenever the last marked connection has left.
    all_left: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
    /// Numbers of connections on which nothing may have been said yet, oldest first; some of them have left.
    silent: VecDeque<u64>,
    /// Entries that are marked and still there.
    marked: usize,
}

/// One connection as the registry sees it.
#[derive(Debug)]
struct Entry {
    destination: Destination,
    progress: Mutex<Progress>,
}

/// What changes while a connection lives.
#[derive(Debug, Default)]
struct Progress {
    /// Addresses that the connection may have reached: one, or with a proxy in between each of the name's.
    connected: Vec<Connected>,
    /// What was moved since it is connected.
    traffic: Option<Arc<Traffic>>,
    /// Another host that the client named on this connection, where no rule held it to one.
    also: Option<HostName>,
    /// Its opening was not held to the name: no rule names the host, or the one that does is `raw`.
    is_unchecked: bool,
    /// The user allowed this very connection where no rule decides.
    once: Option<RuleText>,
    /// It waits for the user, so that it is not decided is nothing new.
    is_asking: bool,
    verdict: Option<Verdict>,
    mark: Option<Refusal>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
struct Connected {
    address: IpAddr,
    /// The routing table called the address the host's own when it was dialled.
    is_own: bool,
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge_all(&self, shared: &Shared) -> usize {
        let rules = shared.rules();
        let mut state = self.state();
        let mut marked = 0;
        for entry in state.entries.values() {
            let mut progress = entry.progress();
            if progress.mark.is_some() {
                continue;
            }
            match entry.judge(&progress, shared, &rules) {
                Ok(verdict) => progress.verdict = Some(verdict),
                Err(refusal) if refusal.can_ask && progress.is_asking => {}
                Err(refusal) => {
                    progress.mark = Some(refusal);
                    if let Some(waker) = progress.waker.take() {
                        waker.wake();
                    }
                    marked += 1;
                }
            }
        }
        state.marked += marked;
        marked
    }

    /// Cuts the connection that has been silent for longest, to make room: one on which neither side has said anything that went on,
    /// whether it is idle or keeps a hello incomplete. Tells whether there was one.
    pub(crate) fn cut_silent(&self) -> bool {
        let mut state = self.state();
        while let Some(number) = state.silent.pop_front() {
            let Some(entry) = state.entries.get(&number) else {
                continue;
            };
            let mut progress = entry.progress();
            if progress.mark.is_some() || progress.has_spoken() {
                continue;
            }
            progress.mark = Some(too_many());
            if let Some(waker) = progress.waker.take() {
                waker.wake();
            }
            drop(progress);
            state.marked += 1;
            return true;
        }
        false
    }

    async fn wait_until_cut(&self) {
        loop {
            // Created before the look: a connection that leaves in between is not missed.
            let left = self.all_left.notified();
            if self.state().marked == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Progress {
    fn has_spoken(&self) -> bool {
        self.traffic.as_ref().is_some_and(|traffic| {
            traffic.sent.load(Ordering::Relaxed) + traffic.received.load(Ordering::Relaxed) > 0
        })
    }
}

/// The refusal of a connection that finds no room, or has to make some.
pub(crate) fn too_many() -> Refusal {
    Refusal::failed(
        "limit_connections",
        "this sandbox has too many connections at a time",
    )
}

impl Entry {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verdict on everything known of this connection.
    fn judge(
        &self,
        progress: &Progress,
        shared: &Shared,
        rules: &RuleSet,
    ) -> Result<Verdict, Refusal> {
        let verdict = match (judge_destination(rules, &self.destination), &progress.once) {
            (Ok(verdict), _) => verdict,
            (Err(refusal), Some(once)) if refusal.can_ask => Verdict::allow_by(once.clone()),
            (Err(refusal), _) => return Err(refusal),
        };
        if let Some(also) = &progress.also {
            let also = Destination {
                host: Host::Name(also.clone()),
                ..self.destination
            };
            judge_destination(rules, &also)?;
        }
        let is_held = verdict.rule.is_some() && verdict.checks == Checks::ByName;
        if progress.is_unchecked && is_held {
            let sentence = "the connection was opened without saying which host it is for, which the rules now require";
            return Err(Refusal::denied("opening_unchecked", sentence));
        }
        for &Connected { address, is_own } in &progress.connected {
            shared.check_address(address, is_own, &self.destination, &verdict)?;
        }
        Ok(verdict)
    }
}

/// A registered connection; dropping it takes it out of the registry.
pub(crate) struct Live<'shared> {
    shared: &'shared Shared,
    number: u64,
    entry: Arc<Entry>,
}

impl<'shared> Live<'shared> {
    /// Registers a connection, which has to be judged next: [`Live::admit`].
    pub(crate) fn begin(shared: &'shared Shared, destination: &Destination) -> Self {
        let entry = Arc::new(Entry {
            destination: destination.clone(),
            progress: Mutex::default(),
        });
        let number = {
            let mut state = shared.live.state();
            state.next += 1;
            let number = state.next;
            state.entries.insert(number, Arc::clone(&entry));
            state.silent.push_back(number);
            if state.silent.len() > 2 * state.entries.len() + SILENT_SLACK {
                let State {
                    silent, entries, ..
                } = &mut *state;
                silent.retain(|number| entries.contains_key(number));
            }
            number
        };
        Self {
            shared,
            number,
            entry,
        }
    }

    /// Judges the connection before anything is done for it. Where the policy says so, the user is asked and this waits.
    ///
    /// # Errors
    /// The rules or the user forbid it.
    pub(crate) async fn admit(&self) -> Result<(), Refusal> {
        loop {
            match self.judge_now() {
                Ok(_) => return Ok(()),
                Err(refusal) if !refusal.can_ask => return Err(refusal),
                Err(_) => {}
            }
            self.entry.progress().is_asking = true;
            let asked = ask(self.shared, &self.entry.destination).await;
            let mut progress = self.entry.progress();
            progress.is_asking = false;
            if let Asked::Once(rule) = asked? {
                progress.once = Some(rule);
            }
        }
    }

    /// Notes the addresses that the connection reached, and whether the routing table called each the host's own, and judges
    /// everything by the rules in force. There is none when the verdict on the name says it all.
    ///
    /// # Errors
    /// The rules forbid it by now.
    pub(crate) fn connected(&self, reached: Vec<(IpAddr, bool)>) -> Result<Verdict, Refusal> {
        let connected = reached
            .into_iter()
            .map(|(address, is_own)| Connected { address, is_own });
        self.entry.progress().connected = connected.collect();
        self.judge_now()
    }

    /// Notes where the bytes of the connection are counted.
    pub(crate) fn counted_by(&self, traffic: &Arc<Traffic>) {
        self.entry.progress().traffic = Some(Arc::clone(traffic));
    }

    /// Notes that the client named another host than the connection's own, which the rules allowed.
    pub(crate) fn also_for(&self, name: &HostName) {
        self.entry.progress().also = Some(name.clone());
    }

    /// Notes that the client's first words were not held to the name: no rule names the host, or the one that does is `raw`.
    pub(crate) fn passed_unchecked(&self) {
        self.entry.progress().is_unchecked = true;
    }

    /// The verdict by the rules in force.
    pub(crate) fn verdict(&self) -> Verdict {
        let verdict = self.entry.progress().verdict.clone();
        // It was judged when it was registered; a connection without a verdict has no right.
        verdict.unwrap_or_else(|| Verdict::deny(rcc_spec::Reason::NoRule))
    }

    fn judge_now(&self) -> Result<Verdict, Refusal> {
        let rules = self.shared.rules();
        let mut progress = self.entry.progress();
        let verdict = self.entry.judge(&progress, self.shared, &rules)?;
        progress.verdict = Some(verdict.clone());
        Ok(verdict)
    }

    /// Waits until new rules forbid the connection. Whoever polls this must poll it first.
    pub(crate) async fn cut(&self) -> Refusal {
        std::future::poll_fn(|context| {
            let mut progress = self.entry.progress();
            if let Some(refusal) = &progress.mark {
                return Poll::Ready(refusal.clone());
            }
            let is_known = progress
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()));
            if !is_known {
                progress.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.live.state();
        state.entries.remove(&self.number);
        if self.entry.progress().mark.is_some() {
            state.marked = state.marked.saturating_sub(1);
            if state.marked == 0 {
                self.shared.live.all_left.notify_waiters();
            }
        }
    }
}
