//! The table of flows: at most so many, the one that was idle longest goes first.
//!
//! A flow is judged and put into the table under one lock, so that rules which change meanwhile find it there. Must not be locked
//! across an await.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rcc_spec::{Protocol, Verdict};

use super::agent_side::AgentSide;
use super::flow::{Consent, Flow, Kept, Key, Way, is_held};
use super::packet::IcmpError;
use crate::judge::{judge, judge_destination};
use crate::questions;
use crate::refusal::{Destination, Refusal};
use crate::shared::Shared;

/// All flows of a gateway.
pub(crate) struct Flows {
    table: Mutex<HashMap<Key, Arc<Flow>>>,
    /// Most flows at a time.
    limit: AtomicUsize,
    kept: Kept,
    /// Set when UDP is served.
    agent_side: OnceLock<Arc<AgentSide>>,
}

/// A flow that was asked for.
pub(super) enum Found {
    Known(Arc<Flow>),
    /// It has to be opened.
    New(Arc<Flow>),
    Refused(Destination, Refusal),
}

impl Flows {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::new(HashMap::new()),
            limit: AtomicUsize::new(1),
            kept: Kept::default(),
            agent_side: OnceLock::new(),
        }
    }

    pub(super) fn serve(&self, agent_side: &Arc<AgentSide>, limit: usize) {
        self.limit.store(limit.max(1), Ordering::Relaxed);
        // Served once: the first value stays.
        let _ = self.agent_side.set(Arc::clone(agent_side));
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flow>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flow of a datagram; a new one is judged first.
    pub(super) fn find(&self, shared: &Shared, key: Key) -> Found {
        let mut table = self.table();
        if let Some(flow) = table.get(&key) {
            return Found::Known(Arc::clone(flow));
        }
        let (destination, verdict) = judge(shared, &shared.rules(), key.original, Protocol::Udp);
        let (verdict, consent) = match verdict {
            Ok(verdict) => (verdict, Consent::NotNeeded),
            // It is held to the name as strictly as a rule would hold it.
            Err(refusal) if refusal.can_ask => match questions::rule_for(&destination) {
                Ok(rule) => (Verdict::allow_by(rule), Consent::Awaited),
                Err(refusal) => return Found::Refused(destination, refusal),
            },
            Err(refusal) => return Found::Refused(destination, refusal),
        };
        if table.len() >= self.limit.load(Ordering::Relaxed) {
            let idlest = table.values().min_by_key(|flow| flow.active_at());
            if let Some(key) = idlest.map(|flow| flow.key)
                && let Some(flow) = table.remove(&key)
            {
                flow.close();
            }
        }
        let flow = Arc::new(Flow::new(key, destination, verdict, consent, &self.kept));
        table.insert(key, Arc::clone(&flow));
        Found::New(flow)
    }

    /// Takes a flow out of the table, if it is still that one, and ends it.
    pub(super) fn remove(&self, flow: &Arc<Flow>) {
        if let Entry::Occupied(entry) = self.table().entry(flow.key)
            && Arc::ptr_eq(entry.get(), flow)
        {
            entry.remove();
        }
        flow.close();
    }

    /// Ends flows that have been silent for too long.
    pub(super) fn expire(&self, shared: &Shared, now: Instant) {
        let flows: Vec<_> = self.table().values().cloned().collect();
        for flow in &flows {
            let guard = |flow: &Flow| flow.state().guard.as_ref()?.overdue(now);
            if let Some(refusal) = guard(flow) {
                let refusal = flow.held_by_rule(refusal);
                self.refuse(shared, flow, &refusal, 0);
            }
        }
        self.table().retain(|_, flow| {
            let is_over = flow.is_over(now);
            if is_over {
                flow.close();
            }
            !is_over
        });
    }

    /// Judges every flow again, after the rules have changed: what they forbid now is cut, with an ICMP error and a line in the log.
    /// The result is how many were cut.
    pub(crate) fn rejudge(&self, shared: &Shared) -> usize {
        let flows: Vec<_> = self.table().values().cloned().collect();
        let cut = |flow: &&Arc<Flow>| !self.rejudge_one(shared, flow);
        flows.iter().filter(cut).count()
    }

    /// Judges a flow again; tells whether it may go on.
    pub(super) fn rejudge_one(&self, shared: &Shared, flow: &Arc<Flow>) -> bool {
        let destination = &flow.destination;
        let verdict = match judge_destination(&shared.rules(), destination) {
            Err(refusal) if refusal.can_ask => {
                let state = flow.state();
                match state.consent {
                    Consent::NotNeeded => Err(refusal),
                    // Its own verdict says what the answer would or did allow.
                    Consent::Awaited | Consent::Given => Ok(state.verdict.clone()),
                }
            }
            judged => judged,
        };
        let upstream = match &flow.state().way {
            Way::Open(upstream) => Some(upstream.address.ip()),
            Way::Opening(_) => None,
            Way::Closed => return false,
        };
        let judged = verdict.and_then(|verdict| match upstream {
            Some(address) => shared
                .check_resolved(address, destination, &verdict)
                .map(|_| verdict),
            None => Ok(verdict),
        });
        let judged = judged.and_then(|verdict| {
            let mut state = flow.state();
            if state.is_unchecked && is_held(&verdict) {
                let sentence = "the flow began without saying which host it is for, which the rules now require";
                return Err(Refusal::denied("opening_unchecked", sentence));
            }
            state.is_unchecked |= destination.name().is_some() && !is_held(&verdict);
            state.verdict = verdict;
            Ok(())
        });
        match judged {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(shared, flow, &refusal, 0);
                false
            }
        }
    }

    /// Ends a flow because of what was said in it, or because of new rules, and tells the log and the agent.
    pub(super) fn refuse(
        &self,
        shared: &Shared,
        flow: &Arc<Flow>,
        refusal: &Refusal,
        payload_length: usize,
    ) {
        let resolved = match &flow.state().way {
            Way::Open(upstream) => Some(upstream.address.ip()),
            Way::Opening(_) | Way::Closed => None,
        };
        self.remove(flow);
        let resolved = resolved.filter(|_| flow.destination.name().is_some());
        shared.refused(&flow.destination, resolved, refusal);
        self.tell(IcmpError::Prohibited, flow.key, payload_length);
    }

    /// Tells the agent about a datagram of a flow.
    pub(super) fn tell(&self, error: IcmpError, key: Key, payload_length: usize) {
        if let Some(agent_side) = self.agent_side.get() {
            agent_side.tell(error, key.agent, key.original, payload_length);
        }
    }
}
