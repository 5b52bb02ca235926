//! The policy of a run while it lasts: what files and flags say, and what was added for the run.
//!
//! Changes come from several threads and are made one after the other: each compiles the whole and puts it in force, and only
//! then is it remembered. Must not be called on the gateway's thread: it waits for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcc_spec::{
    Effect, NetworkMode, NetworkPolicy, Origin, Protocol, Rule, RuleError, RuleSet, Target, Verdict,
};

use crate::control::{RuleLine, StillRefused};
use crate::gateway::GatewayError;

/// Rules that can be added to a run.
const ADDED_LIMIT: usize = 10_000;
/// How added rules are named in verdicts and logs.
const ALLOWED_BY: &str = "rcc net allow";
const DENIED_BY: &str = "rcc net deny";

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// A text is no rule.
    #[error("`{}` is no rule: {source}", rcc_plan::escape(rule))]
    Rule { rule: String, source: RuleError },
    /// Too many rules were added.
    #[error("more than {ADDED_LIMIT} rules were added to this run; put them into a rule file")]
    TooMany,
    /// The gateway is gone.
    #[error("the gateway has ended")]
    Stopped,
}

impl From<GatewayError> for ChangeError {
    fn from(_: GatewayError) -> Self {
        Self::Stopped
    }
}

/// Puts rules in force and tells how many connections were cut.
pub(crate) type Apply<'a> = &'a dyn Fn(Arc<RuleSet>) -> Result<usize, GatewayError>;

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) cut: usize,
    pub(crate) still_refused: Vec<StillRefused>,
    /// The added rules in their canonical form, with `deny` in front where they hold back.
    pub(crate) added: Vec<String>,
}

/// Keeps the policy of a run.
#[derive(Debug)]
pub(crate) struct Keeper {
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct State {
    files: Arc<NetworkPolicy>,
    added: Vec<Rule>,
}

impl State {
    fn compile(&self) -> Arc<RuleSet> {
        if self.added.is_empty() {
            return Arc::new(RuleSet::compile(&self.files));
        }
        let mut policy = NetworkPolicy::clone(&self.files);
        for rule in &self.added {
            policy.push(rule.clone());
        }
        Arc::new(RuleSet::compile(&policy))
    }
}

impl Keeper {
    pub(crate) fn new(files: Arc<NetworkPolicy>) -> Self {
        let added = Vec::new();
        Self {
            state: Mutex::new(State { files, added }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another policy of files and flags in force, under what was added.
    pub(crate) fn replace(
        &self,
        files: Arc<NetworkPolicy>,
        apply: Apply<'_>,
    ) -> Result<usize, GatewayError> {
        let mut state = self.state();
        let new = State {
            files,
            added: state.added.clone(),
        };
        let cut = apply(new.compile())?;
        *state = new;
        Ok(cut)
    }

    /// Adds rules. One that allows what an added rule denied takes that one's place.
    pub(crate) fn add(
        &self,
        allow: &[String],
        deny: &[String],
        apply: Apply<'_>,
    ) -> Result<Changed, ChangeError> {
        let parse = |text: &String, parse: fn(&str, Origin) -> Result<Rule, RuleError>, by| {
            parse(text, Origin::file(by, 0)).map_err(|source| ChangeError::Rule {
                rule: text.clone(),
                source,
            })
        };
        let mut rules = Vec::new();
        for text in allow {
            rules.push(parse(text, Rule::parse, ALLOWED_BY)?);
        }
        for text in deny {
            rules.push(parse(text, Rule::parse_deny, DENIED_BY)?);
        }
        let mut state = self.state();
        let mut new = state.clone();
        for rule in &rules {
            let is_opposite = |old: &Rule| {
                old.effect == Effect::Deny
                    && rule.effect == Effect::Allow
                    && old.target == rule.target
            };
            new.added.retain(|old| !is_opposite(old) && old != rule);
            new.added.push(rule.clone());
        }
        if new.added.len() > ADDED_LIMIT {
            return Err(ChangeError::TooMany);
        }
        let compiled = new.compile();
        let cut = apply(Arc::clone(&compiled))?;
        *state = new;
        Ok(Changed {
            cut,
            still_refused: rules
                .iter()
                .filter_map(|rule| still_refused(rule, &compiled))
                .collect(),
            added: rules
                .iter()
                .map(|rule| match rule.effect {
                    Effect::Allow => rule.to_string(),
                    Effect::Deny => format!("deny {rule}"),
                })
                .collect(),
        })
    }

    /// A part of the rules, with the mode, the time for answers and the number of all.
    pub(crate) fn page(
        &self,
        from: usize,
        size: usize,
    ) -> (NetworkMode, Option<u32>, usize, Vec<RuleLine>) {
        let state = self.state();
        let files = state.files.deny.iter().chain(&state.files.allow);
        let total = state.files.deny.len() + state.files.allow.len() + state.added.len();
        let denied = state.files.deny.len();
        let rules = files.chain(&state.added).enumerate();
        let lines = rules.skip(from).take(size).map(|(number, rule)| RuleLine {
            // The list a rule stands in decides, as in `RuleSet::compile`.
            allow: match number {
                _ if number < denied => false,
                _ if number < denied + state.files.allow.len() => true,
                _ => rule.effect == Effect::Allow,
            },
            rule: rule.to_string(),
            origin: rule.origin.to_string(),
        });
        let lines = lines.collect();
        (state.files.mode, state.files.ask_seconds, total, lines)
    }
}

/// Why an added allow rule changes nothing for the host it names, judged by one port of it.
fn still_refused(rule: &Rule, rules: &RuleSet) -> Option<StillRefused> {
    if rule.effect == Effect::Deny {
        return None;
    }
    let protocol = match rule.transport.includes(Protocol::Tcp) {
        true => Protocol::Tcp,
        false => Protocol::Udp,
    };
    let port = rule.ports.ranges().first()?.first();
    let verdict = match &rule.target {
        Target::Host(name) => rules.decide_name(name, port, protocol),
        Target::Network(network) => rules.decide_address(network.addr(), port, protocol),
        Target::Subdomains(_) => return None,
    };
    if verdict.is_allow() {
        return None;
    }
    Some(StillRefused {
        rule: rule.to_string(),
        reason: reason_of(&verdict),
    })
}

/// The reason of a refusal with the rule behind it.
fn reason_of(verdict: &Verdict) -> String {
    let reason = verdict
        .reason()
        .map_or("no rule allows it", |reason| reason.sentence());
    match &verdict.rule {
        Some(rule) => format!("{reason}: {rule}"),
        None => reason.to_owned(),
    }
}
