//! The loop that takes the agent's datagrams, and the tasks of flows.
//!
//! # Order
//! 1. Datagrams of one flow that arrived together are handled together.
//! 2. A new flow is judged and put into the table; a refusal is told at once.
//! 3. Its task finds and checks addresses and connects a socket to one of them; datagrams are held meanwhile.
//! 4. The rules may have changed since 2: the flow is judged once more, now with its address.
//! 5. What was held is sent. From now on both directions run.
//!
//! Must not let one flow wait for another.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rcc_spec::Checks;
use rcc_sys::SysError;
use rcc_sys::socket::ReceiveBatch;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::agent_side::AgentSide;
use super::flow::{Consent, Flow, Key, Relayed, State, Way, is_held};
use super::flows::Found;
use super::packet::IcmpError;
use super::quic::{Passage, Strictness};
use super::upstream::Upstream;
use crate::judge::{Unopened, checked_addresses, judge_destination};
use crate::questions::{self, Asked};
use crate::refusal::{Kind, Refusal};
use crate::server_name::{Carrier, check};
use crate::shared::Shared;
use crate::transport::Route;

/// Datagrams that are taken at once, and the longest (RFC 768).
const BATCH: usize = 32;
const LONGEST: usize = 65_535;
/// Time between looks for silent flows.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Pause after an error that is not about one datagram, so that it cannot use up the processor.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// What flows' tasks share.
struct Relay {
    shared: Arc<Shared>,
    agent_side: Arc<AgentSide>,
    /// All tasks run on one thread, and none keeps it across an await.
    batch: Mutex<ReceiveBatch>,
}

/// Serves the agent's datagrams until the task is dropped.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    socket: UdpSocket,
    raw_v4: OwnedFd,
    raw_v6: Option<OwnedFd>,
    limit: usize,
) {
    let agent_side = Arc::new(AgentSide::new(raw_v4, raw_v6));
    shared.flows.serve(&agent_side, limit);
    let relay = Arc::new(Relay {
        shared,
        agent_side,
        batch: Mutex::new(ReceiveBatch::new(BATCH, LONGEST)),
    });
    let mut batch = ReceiveBatch::new(BATCH, LONGEST);
    let mut expiry = tokio::time::interval(EXPIRE_EVERY);
    loop {
        let received = tokio::select! {
            biased;
            _ = expiry.tick() => {
                relay.shared.flows.expire(&relay.shared, Instant::now());
                continue;
            }
            received = socket.async_io(Interest::READABLE, || {
                batch.receive(socket.as_fd()).map_err(io_error)
            }) => received,
        };
        match received {
            Ok(_) => take_in(&relay, &batch),
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
        // Flows that were ended give their sockets back, and answers get their turn.
        tokio::task::yield_now().await;
    }
}

fn io_error(error: SysError) -> std::io::Error {
    error.errno.into()
}

/// Step 1.
fn take_in(relay: &Arc<Relay>, batch: &ReceiveBatch) {
    let mut run: Option<(Key, Vec<&[u8]>)> = None;
    for datagram in batch.datagrams() {
        let (Some(agent), Some(original)) = (datagram.source, datagram.original_destination) else {
            continue;
        };
        let key = Key { agent, original };
        match &mut run {
            Some((of, payloads)) if *of == key => payloads.push(datagram.payload),
            _ => {
                let before = run.replace((key, vec![datagram.payload]));
                if let Some((key, payloads)) = before {
                    forward(relay, key, &payloads);
                }
            }
        }
    }
    if let Some((key, payloads)) = run {
        forward(relay, key, &payloads);
    }
}

/// Step 2, and what belongs to a flow that is there.
fn forward(relay: &Arc<Relay>, key: Key, payloads: &[&[u8]]) {
    let shared = &relay.shared;
    let flow = match shared.flows.find(shared, key) {
        Found::Known(flow) => flow,
        Found::New(flow) => {
            tokio::spawn(run(Arc::clone(relay), Arc::clone(&flow)));
            flow
        }
        Found::Refused(destination, refusal) => {
            for payload in payloads {
                shared.refused(&destination, None, &refusal);
                relay.agent_side.tell(
                    IcmpError::Prohibited,
                    key.agent,
                    key.original,
                    payload.len(),
                );
            }
            return;
        }
    };
    let is_guarded = flow.state().guard.is_some();
    if !is_guarded {
        return pass(relay, &flow, payloads);
    }
    // Datagrams that may pass are sent together, up to one that has to wait.
    let mut passed = Vec::with_capacity(payloads.len());
    for payload in payloads {
        match guard(shared, &flow, payload) {
            Passage::Pass => passed.push(*payload),
            Passage::Stop => {}
            Passage::Release(released) => {
                pass(relay, &flow, &passed);
                passed.clear();
                let released: Vec<&[u8]> = released.iter().map(Vec::as_slice).collect();
                pass(relay, &flow, &released);
            }
            Passage::Refuse(refusal) => {
                pass(relay, &flow, &passed);
                let refusal = flow.held_by_rule(refusal);
                return shared.flows.refuse(shared, &flow, &refusal, payload.len());
            }
        }
    }
    pass(relay, &flow, &passed);
}

/// Whether a datagram may go to the name of its flow.
fn guard(shared: &Shared, flow: &Flow, payload: &[u8]) -> Passage {
    let Some(name) = flow.destination.name() else {
        return Passage::Pass;
    };
    let mut state = flow.state();
    let State { verdict, guard, .. } = &mut *state;
    let Some(guard) = guard.as_mut().filter(|_| verdict.checks == Checks::ByName) else {
        return Passage::Pass;
    };
    let strictness = match is_held(verdict) {
        true => Strictness::Strict,
        false => Strictness::Lenient,
    };
    let rules = shared.rules();
    guard.judge(payload, strictness, Instant::now(), |hello| {
        check(
            Carrier::Quic,
            hello,
            name,
            &flow.destination,
            verdict,
            &rules,
        )
    })
}

/// Sends datagrams, or holds them until the way is open.
fn pass(relay: &Relay, flow: &Flow, payloads: &[&[u8]]) {
    let upstream = match &mut flow.state().way {
        Way::Open(upstream) => Arc::clone(upstream),
        Way::Opening(held) => {
            for payload in payloads {
                held.hold(payload);
            }
            return;
        }
        Way::Closed => return,
    };
    send(relay, flow, &upstream, payloads.iter().copied());
}

fn send<'payload>(
    relay: &Relay,
    flow: &Flow,
    upstream: &Upstream,
    payloads: impl Iterator<Item = &'payload [u8]>,
) {
    let mut bytes = 0;
    let counted = payloads.inspect(|payload| {
        bytes += payload.len();
        upstream.note_protocol(payload);
    });
    let Key { agent, original } = flow.key;
    upstream.send(flow.key, counted, |error, length| {
        relay.agent_side.tell(error, agent, original, length);
    });
    flow.sent(bytes);
}

/// Waits for the user's answer where one is needed. The datagrams wait with the flow.
async fn consent(shared: &Arc<Shared>, flow: &Flow) -> Result<(), Unopened> {
    while flow.state().consent == Consent::Awaited {
        let consent = match questions::ask(shared, &flow.destination).await? {
            Asked::Once(_) => Consent::Given,
            Asked::Again => match judge_destination(&shared.rules(), &flow.destination) {
                Ok(verdict) => {
                    flow.state().verdict = verdict;
                    Consent::NotNeeded
                }
                Err(refusal) if refusal.can_ask => Consent::Awaited,
                Err(refusal) => return Err(refusal.into()),
            },
        };
        flow.state().consent = consent;
    }
    Ok(())
}

/// The life of a flow.
async fn run(relay: Arc<Relay>, flow: Arc<Flow>) {
    let shared = &relay.shared;
    let opened = tokio::select! {
        biased;
        () = flow.ended.notified() => return,
        opened = async {
            consent(shared, &flow).await?;
            open(shared, &flow).await
        } => opened,
    };
    let upstream = match opened {
        Ok(upstream) => Arc::new(upstream),
        Err(unopened) => return give_up(&relay, &flow, &unopened),
    };
    // 4. The held datagrams stay where they are until the flow has been judged with its address.
    let held = {
        let mut state = flow.state();
        match std::mem::replace(&mut state.way, Way::Open(Arc::clone(&upstream))) {
            Way::Opening(held) => held,
            Way::Open(_) | Way::Closed => {
                state.way = Way::Closed;
                return;
            }
        }
    };
    if !shared.flows.rejudge_one(shared, &flow) {
        return;
    }
    let _relayed = Relayed::begin(shared, &flow, upstream.address);
    // 5.
    send(&relay, &flow, &upstream, held.payloads());
    drop(held);
    loop {
        let received = tokio::select! {
            biased;
            () = flow.ended.notified() => return,
            received = upstream.socket.async_io(Interest::READABLE | Interest::ERROR, || {
                bring_back(&relay, &flow, &upstream).map_err(io_error)
            }) => received,
        };
        if let Err(error) = received {
            let errno = rustix::io::Errno::from_io_error(&error);
            match errno.and_then(|errno| upstream.describe(errno, flow.key)) {
                Some(error) => shared.flows.tell(error, flow.key, 0),
                None => tokio::time::sleep(ERROR_PAUSE).await,
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Moves what has arrived from the world to the agent.
fn bring_back(relay: &Relay, flow: &Flow, upstream: &Upstream) -> Result<(), SysError> {
    let mut batch = relay.batch.lock().unwrap_or_else(PoisonError::into_inner);
    batch.receive(upstream.socket.as_fd())?;
    let mut bytes = 0;
    let payloads = batch.datagrams().map(|datagram| datagram.payload);
    let counted = payloads.inspect(|payload| bytes += payload.len());
    let Key { agent, original } = flow.key;
    relay.agent_side.deliver(original, agent, counted);
    flow.received(bytes);
    Ok(())
}

/// Step 3.
async fn open(shared: &Arc<Shared>, flow: &Flow) -> Result<Upstream, Unopened> {
    if let Some(proxy) = &shared.upstream_proxy
        && !proxy.spares(&flow.destination)
    {
        let sentence = "UDP does not go through the upstream proxy; upstream_proxy_except names what is reached without it";
        return Err(Refusal::denied("proxy_no_udp", sentence).into());
    }
    let addresses = checked_addresses(shared, &flow.destination, || flow.verdict()).await?;
    let mut last = None;
    for address in order(addresses, flow.key.original) {
        match Upstream::connect(address) {
            Ok(upstream) => return Ok(upstream),
            Err(error) => last = Some(error),
        }
    }
    let reason = last.map(|error| crate::describe(&error));
    let sentence = format!(
        "no socket could be opened for it: {}",
        reason.as_deref().unwrap_or("no address is left")
    );
    Err(Refusal::failed("connect_failed", sentence).into())
}

/// Addresses with a way first, and those of the family that the agent chose: it may be trying both.
fn order(mut addresses: Vec<(SocketAddr, Route)>, original: SocketAddr) -> Vec<SocketAddr> {
    addresses.sort_by_key(|(address, route)| {
        (
            *route == Route::Unreachable,
            address.is_ipv4() != original.is_ipv4(),
        )
    });
    addresses.into_iter().map(|(address, _)| address).collect()
}

/// Ends a flow that could not be opened, and tells the log and the agent.
fn give_up(relay: &Relay, flow: &Arc<Flow>, unopened: &Unopened) {
    let Unopened { refusal, resolved } = unopened;
    relay.shared.refused(&flow.destination, *resolved, refusal);
    let error = match refusal.kind {
        Kind::Denied => IcmpError::Prohibited,
        Kind::Failed => IcmpError::NoWay,
    };
    let lengths: Vec<usize> = match &flow.state().way {
        Way::Opening(held) => held.payloads().map(<[u8]>::len).collect(),
        Way::Open(_) | Way::Closed => Vec::new(),
    };
    for length in lengths {
        relay.shared.flows.tell(error, flow.key, length);
    }
    relay.shared.flows.remove(flow);
}
