//! Decides what a DNS query gets: a refusal, a synthetic address, a local answer, or a look-up on the host.
//!
//! Deciding never waits, so refusals and cached answers leave at once. Must not let a name reach the resolver that no rule
//! allows, nor anything of the client's message but the canonical name and the type.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rcc_plan::network::{AGENT_V4, AGENT_V6, ROUTER_V4, ROUTER_V6};
use rcc_spec::{Decision, HOST_NAME, HostName, Protocol, Reason, RuleSet, Verdict};
use tokio::time::timeout;

use super::answer::{Answer, Carrier, ErrorCode, Record, encode, encode_rejected};
use super::name::WireName;
use super::query::{Query, Rejected, parse};
use super::reverse;
use super::wire::{Rcode, RecordType};
use crate::audit::{Event, Outcome as Verdicted, Record as AuditRecord};
use crate::refusal::{Refusal, name_flag};
use crate::resolver::{HostAnswer, Outcome, RecordAnswer};
use crate::shared::Shared;
use crate::synthetic::Meaning;
use crate::way_out::LOCAL_LOOKUP;

/// Time that clients may keep a synthetic address, in seconds. The address is good for the whole run, but a name may vanish.
const SYNTHETIC_TTL: u32 = 60;
/// Time that clients may keep what rcc itself knows, in seconds.
const LOCAL_TTL: u32 = 60;
/// Longest time that clients may keep records of the world, in seconds: a rule can be taken away.
const RECORD_TTL_LIMIT: u32 = 300;
/// Ports on which a literal address is likely to be allowed; any of them makes its name worth knowing.
const USUAL_PORTS: [u16; 3] = [443, 80, 22];

/// Types of records that are looked up on the host for allowed names.
const PASSED_TYPES: [RecordType; 12] = [
    RecordType::NS,
    RecordType::CNAME,
    RecordType::SOA,
    RecordType::PTR,
    RecordType::MX,
    RecordType::TXT,
    RecordType::SRV,
    RecordType::NAPTR,
    RecordType::SSHFP,
    RecordType::TLSA,
    RecordType::URI,
    RecordType::CAA,
];

/// Types whose owner is a service below a host: `_sip._tcp.example.com` (RFC 8552).
const SERVICE_TYPES: [RecordType; 5] = [
    RecordType::SRV,
    RecordType::URI,
    RecordType::TLSA,
    RecordType::SVCB,
    RecordType::HTTPS,
];

/// What is left to do for a message.
pub(crate) enum Reply {
    /// Nothing can be answered.
    None,
    /// This is the answer.
    Now(Vec<u8>),
    /// The host's resolvers have to be asked first.
    Later(Box<Pending>),
}

/// A query that waits for the host's resolvers.
pub(crate) struct Pending {
    query: Query,
    lookup: Lookup,
    verdict: Verdict,
    carrier: Carrier,
}

enum Lookup {
    Addresses(HostName),
    Records(WireName),
}

/// Answers a message, or says what is missing.
pub(crate) fn respond(shared: &Shared, message: &[u8], carrier: Carrier) -> Reply {
    shared.counters.queries.fetch_add(1, Ordering::Relaxed);
    let query = match parse(message) {
        Ok(query) => query,
        Err(None) => return Reply::None,
        Err(Some(rejected)) => {
            log_rejected(shared, &rejected, carrier);
            return Reply::Now(encode_rejected(&rejected, carrier));
        }
    };
    match decide(shared, &query) {
        Decided::Answer(answer) => {
            log(
                shared,
                &query,
                carrier,
                &answer,
                Verdicted::Allow,
                None,
                None,
            );
            Reply::Now(encode(&query, &answer, carrier))
        }
        Decided::Refuse(refusal) => Reply::Now(refuse(shared, &query, carrier, &refusal)),
        Decided::Ask(name) => {
            let pending = Pending {
                query,
                lookup: Lookup::Addresses(name.clone()),
                verdict: Verdict::allow(),
                carrier,
            };
            let answered = match pending.query.question.kind {
                RecordType::A | RecordType::AAAA => stand_in(shared, &pending.query, &name),
                _ => Ok(Answer::empty(Rcode::NO_ERROR)),
            };
            Reply::Now(pending.finish(shared, answered))
        }
        Decided::Synthesise(host, verdict) => {
            let answered = stand_in(shared, &query, &host);
            let lookup = Lookup::Addresses(host);
            let decided = Pending {
                query,
                lookup,
                verdict,
                carrier,
            };
            Reply::Now(decided.finish(shared, answered))
        }
        Decided::Look(lookup, verdict) => {
            let known = match &lookup {
                Lookup::Addresses(name) => shared.resolver.cached_addresses(name),
                Lookup::Records(_) => None,
            };
            let pending = Pending {
                query,
                lookup,
                verdict,
                carrier,
            };
            match (known, &pending.lookup) {
                (Some(known), Lookup::Addresses(name)) => {
                    let answered = pending.synthesise(shared, name, &known);
                    Reply::Now(pending.finish(shared, answered))
                }
                _ => Reply::Later(Box::new(pending)),
            }
        }
    }
}

impl Pending {
    /// Asks the host's resolvers.
    pub(crate) async fn look_up(self, shared: &Arc<Shared>) -> Vec<u8> {
        let answered = match &self.lookup {
            Lookup::Addresses(name) => {
                if self.may_resolve_at_proxy(shared, name) {
                    let look_up = shared.resolver.addresses(name);
                    match timeout(LOCAL_LOOKUP, look_up).await {
                        Ok(known) => self.synthesise(shared, name, &known),
                        Err(_) => stand_in(shared, &self.query, name),
                    }
                } else {
                    let known = shared.resolver.addresses(name).await;
                    self.synthesise(shared, name, &known)
                }
            }
            Lookup::Records(name) => {
                let known = shared
                    .resolver
                    .records(name.clone(), self.query.question.kind)
                    .await;
                Ok(from_records(&known))
            }
        };
        // The rules may have changed meanwhile.
        if let Decided::Refuse(refusal) = decide(shared, &self.query) {
            return refuse(shared, &self.query, self.carrier, &refusal);
        }
        self.finish(shared, answered)
    }

    /// Tells whether the name may be one that only the user's proxy knows: a rule allows it, and it goes there.
    fn may_resolve_at_proxy(&self, shared: &Shared, name: &HostName) -> bool {
        let proxy = shared.upstream_proxy.as_ref();
        self.verdict.rule.is_some() && proxy.is_some_and(|proxy| !proxy.may_spare(name))
    }

    fn synthesise(
        &self,
        shared: &Shared,
        name: &HostName,
        known: &HostAnswer,
    ) -> Result<Answer, Refusal> {
        if known.outcome != Outcome::Found && self.may_resolve_at_proxy(shared, name) {
            stand_in(shared, &self.query, name)
        } else {
            synthesise(shared, &self.query, name, known)
        }
    }

    /// Refuses because too much is under way.
    pub(crate) fn overloaded(self, shared: &Shared) -> Vec<u8> {
        let refusal = Refusal::failed("limit_queries", "too many DNS queries are waiting");
        self.finish(shared, Err(refusal))
    }

    fn finish(&self, shared: &Shared, answered: Result<Answer, Refusal>) -> Vec<u8> {
        match answered {
            Ok(answer) => {
                let outcome = match answer.rcode {
                    Rcode::NO_ERROR | Rcode::NX_DOMAIN => Verdicted::Allow,
                    _ => Verdicted::Fail,
                };
                let rule = self.verdict.rule.as_ref().map(ToString::to_string);
                log(
                    shared,
                    &self.query,
                    self.carrier,
                    &answer,
                    outcome,
                    None,
                    rule,
                );
                encode(&self.query, &answer, self.carrier)
            }
            Err(refusal) => {
                let text = refusal.explanation(&format!(
                    "the query for {}",
                    self.query.question.name.to_text()
                ));
                let answer = Answer::with_error(Rcode::SERVER_FAILURE, ErrorCode::NOT_READY, text);
                let code = Some(refusal.code);
                log(
                    shared,
                    &self.query,
                    self.carrier,
                    &answer,
                    Verdicted::Fail,
                    code,
                    None,
                );
                encode(&self.query, &answer, self.carrier)
            }
        }
    }
}

enum Decided {
    Answer(Answer),
    Refuse(Refusal),
    /// The user will be asked when it is connected to. Until then the name must not leave the host.
    Ask(HostName),
    Look(Lookup, Verdict),
    /// The name has an address inside without being looked up.
    Synthesise(HostName, Verdict),
}

fn decide(shared: &Shared, query: &Query) -> Decided {
    let kind = query.question.kind;
    let name = &query.question.name;
    let parsed = name
        .plain_text()
        .and_then(|text| HostName::parse(&text).ok());
    let Some(host) = parsed else {
        return Decided::Refuse(Refusal::denied(
            Reason::BadName.code(),
            Reason::BadName.sentence(),
        ));
    };
    if host.is_localhost() {
        return Decided::Answer(localhost(name, kind));
    }
    let rules = shared.rules();
    if let Some(address) = reverse::address_of(name) {
        return decide_reverse(shared, &rules, name, &host, kind, address);
    }
    let verdict = may_resolve(&rules, &host, kind);
    if verdict.decision == Decision::Ask && !is_special(&host) {
        return Decided::Ask(host);
    }
    if let Some(refusal) = refusal_of(&verdict, &host) {
        return Decided::Refuse(refusal);
    }
    if is_special(&host) && verdict.rule.is_none() {
        let sentence = "names of one label or of a private zone need a rule that names them";
        let mut refusal = Refusal::denied(Reason::NoRule.code(), sentence);
        refusal.fix = Some(name_flag(&host));
        return Decided::Refuse(refusal);
    }
    if host.as_str() == HOST_NAME {
        return match kind {
            RecordType::A | RecordType::AAAA => Decided::Synthesise(host, verdict),
            _ => Decided::Answer(Answer::empty(Rcode::NO_ERROR)),
        };
    }
    match kind {
        RecordType::A | RecordType::AAAA => Decided::Look(Lookup::Addresses(host), verdict),
        // No hints of another address, port or key than the gateway's: they would carry Encrypted Client Hello.
        RecordType::HTTPS | RecordType::SVCB => Decided::Answer(Answer::empty(Rcode::NO_ERROR)),
        RecordType::ANY => Decided::Answer(minimal_any(name)),
        _ if PASSED_TYPES.contains(&kind) => match WireName::from_text(host.as_str()) {
            Ok(canonical) => Decided::Look(Lookup::Records(canonical), verdict),
            Err(_) => Decided::Refuse(Refusal::denied(
                Reason::BadName.code(),
                Reason::BadName.sentence(),
            )),
        },
        _ => Decided::Refuse(Refusal::denied(
            "dns_type",
            "DNS queries of this type are not answered in this sandbox",
        )),
    }
}

/// Decides on a name, or for services on the host that offers them.
fn may_resolve(rules: &RuleSet, host: &HostName, kind: RecordType) -> Verdict {
    let verdict = rules.may_resolve(host);
    if verdict.decision == Decision::Deny(Reason::NoRule)
        && SERVICE_TYPES.contains(&kind)
        && let Some(base) = service_host(host)
    {
        return rules.may_resolve(&base);
    }
    verdict
}

/// The host of a service name: what follows one or two labels that begin with an underscore.
fn service_host(host: &HostName) -> Option<HostName> {
    let mut rest = host.as_str();
    for _ in 0..2 {
        match rest.split_once('.') {
            Some((label, after)) if label.starts_with('_') => rest = after,
            _ => break,
        }
    }
    (rest.len() < host.as_str().len() && !rest.starts_with('_'))
        .then(|| HostName::parse(rest).ok())?
}

/// Names that never exist in the public DNS: one label, RFC 6762 (local), RFC 8375, RFC 6761 (invalid), RFC 7686 (onion),
/// ICANN's reservation of `internal`, and two that routers use.
fn is_special(host: &HostName) -> bool {
    const ZONES: [&str; 7] = [
        "local",
        "internal",
        "invalid",
        "onion",
        "lan",
        "localdomain",
        "home.arpa",
    ];
    let name = host.as_str();
    !name.contains('.')
        || ZONES.iter().any(|zone| {
            name.strip_suffix(zone)
                .is_some_and(|rest| rest.ends_with('.'))
        })
}

fn refusal_of(verdict: &Verdict, host: &HostName) -> Option<Refusal> {
    let reason = match verdict.decision {
        Decision::Allow => return None,
        Decision::Deny(reason) => reason,
        Decision::Ask => Reason::NoRule,
    };
    let mut refusal = Refusal::denied(reason.code(), reason.sentence());
    refusal.rule = verdict.rule.as_ref().map(ToString::to_string);
    refusal.fix = (reason == Reason::NoRule).then(|| name_flag(host));
    Some(refusal)
}

/// The name of an address: from the table for synthetic ones, fixed for the link, and upstream only if the address itself may
/// be reached.
fn decide_reverse(
    shared: &Shared,
    rules: &RuleSet,
    name: &WireName,
    host: &HostName,
    kind: RecordType,
    address: IpAddr,
) -> Decided {
    let pointer = |target: &str| match WireName::from_text(target) {
        Ok(target) if kind == RecordType::PTR => Answer::records(vec![Record {
            owner: name.clone(),
            kind,
            ttl: LOCAL_TTL,
            data: target.octets().to_vec(),
        }]),
        _ => Answer::empty(Rcode::NO_ERROR),
    };
    match shared.meaning(address) {
        Meaning::Name(synthetic) => return Decided::Answer(pointer(synthetic.as_str())),
        Meaning::Nothing => return Decided::Answer(Answer::empty(Rcode::NX_DOMAIN)),
        Meaning::Literal(_) => {}
    }
    if address == IpAddr::V4(ROUTER_V4) || address == IpAddr::V6(ROUTER_V6) {
        return Decided::Answer(pointer("gateway.rcc.internal"));
    }
    if address == IpAddr::V4(AGENT_V4) || address == IpAddr::V6(AGENT_V6) {
        return Decided::Answer(pointer("sandbox.rcc.internal"));
    }
    if address.is_loopback() {
        return Decided::Answer(pointer("localhost"));
    }
    let verdict = USUAL_PORTS
        .iter()
        .map(|&port| rules.decide_address(address, port, Protocol::Tcp))
        .find(Verdict::is_allow);
    match (verdict, WireName::from_text(host.as_str())) {
        (Some(verdict), Ok(canonical)) if kind == RecordType::PTR => {
            Decided::Look(Lookup::Records(canonical), verdict)
        }
        _ => Decided::Refuse(Refusal::denied(
            Reason::NoRule.code(),
            "no rule of this sandbox allows this address",
        )),
    }
}

/// `localhost` and everything below it (RFC 6761 section 6.3).
fn localhost(name: &WireName, kind: RecordType) -> Answer {
    let address: IpAddr = match kind {
        RecordType::A => std::net::Ipv4Addr::LOCALHOST.into(),
        RecordType::AAAA => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => return Answer::empty(Rcode::NO_ERROR),
    };
    Answer::records(vec![Record::address(name.clone(), address, LOCAL_TTL)])
}

/// The answer to ANY that says nothing (RFC 8482 section 4.2).
fn minimal_any(name: &WireName) -> Answer {
    Answer::records(vec![Record {
        owner: name.clone(),
        kind: RecordType::HINFO,
        ttl: LOCAL_TTL,
        data: b"\x07RFC8482\x00".to_vec(),
    }])
}

/// Turns the addresses of the world into the name's synthetic one. Both families exist if any does: the gateway connects
/// them.
fn synthesise(
    shared: &Shared,
    query: &Query,
    name: &HostName,
    known: &HostAnswer,
) -> Result<Answer, Refusal> {
    match known.outcome {
        Outcome::Found => {}
        Outcome::NoData => return Ok(Answer::empty(Rcode::NO_ERROR)),
        Outcome::NxDomain => return Ok(Answer::empty(Rcode::NX_DOMAIN)),
        Outcome::Failed(failure) => {
            return Err(Refusal::failed("lookup_failed", failure.to_string()));
        }
    }
    stand_in(shared, query, name)
}

/// The synthetic address of a name, whether it exists or not.
fn stand_in(shared: &Shared, query: &Query, name: &HostName) -> Result<Answer, Refusal> {
    let pair = shared.assign(name).ok_or_else(|| {
        Refusal::failed(
            "limit_names",
            "this run has used more names than the gateway keeps",
        )
    })?;
    let address: IpAddr = match query.question.kind {
        RecordType::AAAA => pair.v6.into(),
        _ => pair.v4.into(),
    };
    let owner = query.question.name.clone();
    Ok(Answer::records(vec![Record::address(
        owner,
        address,
        SYNTHETIC_TTL,
    )]))
}

fn from_records(known: &RecordAnswer) -> Answer {
    match known.outcome {
        Outcome::Found => {
            let mut records = known.records.clone();
            for record in &mut records {
                record.ttl = record.ttl.min(RECORD_TTL_LIMIT);
            }
            Answer::records(records)
        }
        Outcome::NoData => Answer::empty(Rcode::NO_ERROR),
        Outcome::NxDomain => Answer::empty(Rcode::NX_DOMAIN),
        Outcome::Failed(failure) => Answer::with_error(
            Rcode::SERVER_FAILURE,
            ErrorCode::NETWORK_ERROR,
            failure.to_string(),
        ),
    }
}

fn refuse(shared: &Shared, query: &Query, carrier: Carrier, refusal: &Refusal) -> Vec<u8> {
    let name = query.question.name.to_text();
    let text = refusal.explanation(&format!("the query for {name}"));
    let code = match refusal.code {
        "dns_type" => ErrorCode::NOT_SUPPORTED,
        "bad_name" => ErrorCode::OTHER,
        _ => ErrorCode::BLOCKED,
    };
    let answer = Answer::with_error(Rcode::REFUSED, code, text);
    let rule = refusal.rule.clone();
    log(
        shared,
        query,
        carrier,
        &answer,
        Verdicted::Deny,
        Some(refusal.code),
        rule,
    );
    shared.refusals().add(name, None, Protocol::Udp, refusal);
    encode(query, &answer, carrier)
}

fn protocol(carrier: Carrier) -> Protocol {
    match carrier {
        Carrier::Udp => Protocol::Udp,
        Carrier::Tcp => Protocol::Tcp,
    }
}

fn log(
    shared: &Shared,
    query: &Query,
    carrier: Carrier,
    answer: &Answer,
    verdict: Verdicted,
    reason: Option<&'static str>,
    rule: Option<String>,
) {
    let mut record = AuditRecord::new(Event::Dns, protocol(carrier), verdict);
    record.name = Some(query.question.name.to_lowercase().to_text());
    record.question = Some(query.question.kind.to_string());
    record.rcode = Some(answer.rcode.to_string());
    record.reason = reason;
    record.rule = rule;
    shared.audit.log(&record);
}

fn log_rejected(shared: &Shared, rejected: &Rejected, carrier: Carrier) {
    let mut record = AuditRecord::new(Event::Dns, protocol(carrier), Verdicted::Deny);
    record.name = rejected
        .question
        .as_ref()
        .map(|question| question.name.to_lowercase().to_text());
    record.rcode = Some(rejected.rcode.to_string());
    record.reason = Some(rejected.reason);
    shared.audit.log(&record);
}
