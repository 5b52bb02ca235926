//! The judgement on what the agent wants to reach, the same for connections and for datagrams.
//!
//! Two steps: what an address inside stands for and whether a rule allows it ([`judge`]); then the addresses of the real world
//! that it leads to, each checked ([`checked_addresses`]). Must not open anything.

use std::net::{IpAddr, SocketAddr};

use rcc_spec::{Protocol, RuleSet, Verdict};

use crate::refusal::{Destination, Host, Refusal};
use crate::resolver::{HostAnswer, Outcome as Lookup};
use crate::shared::Shared;
use crate::synthetic::Meaning;
use crate::transport::Route;

/// What the address stands for, and the verdict on name or address, port and protocol.
pub(crate) fn judge(
    shared: &Shared,
    rules: &RuleSet,
    original: SocketAddr,
    protocol: Protocol,
) -> (Destination, Result<Verdict, Refusal>) {
    let (destination, refusal) = destination_of(shared, original, protocol);
    let verdict = match refusal {
        None => judge_destination(rules, &destination),
        Some(refusal) => Err(refusal),
    };
    (destination, verdict)
}

/// What the address stands for, with a refusal when that is nothing.
pub(crate) fn destination_of(
    shared: &Shared,
    original: SocketAddr,
    protocol: Protocol,
) -> (Destination, Option<Refusal>) {
    let address = original.ip().to_canonical();
    let meaning = shared.meaning(address);
    let host = match &meaning {
        Meaning::Name(name) => Host::Name(name.clone()),
        Meaning::Nothing => Host::Address(address),
        Meaning::Literal(address) => Host::Address(*address),
    };
    let destination = Destination {
        host,
        port: original.port(),
        protocol,
    };
    let refusal = (meaning == Meaning::Nothing).then(|| {
        let sentence = "this address stands for no name; look the name up first";
        Refusal::denied("unknown_synthetic", sentence)
    });
    (destination, refusal)
}

/// The verdict on name or address, port and protocol.
pub(crate) fn judge_destination(
    rules: &RuleSet,
    destination: &Destination,
) -> Result<Verdict, Refusal> {
    let (port, protocol) = (destination.port, destination.protocol);
    let verdict = match &destination.host {
        Host::Name(name) => rules.decide_name(name, port, protocol),
        Host::Address(address) => rules.decide_address(*address, port, protocol),
    };
    match Refusal::of_verdict(&verdict, destination, None) {
        Some(refusal) => Err(refusal),
        None => Ok(verdict),
    }
}

/// Why nothing was opened, and the resolved address that was to blame.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) refusal: Refusal,
    pub(crate) resolved: Option<IpAddr>,
}

impl From<Refusal> for Unopened {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            resolved: None,
        }
    }
}

/// Finds the addresses of a destination and returns those that pass; there is at least one. The verdict is asked for when the
/// addresses are known: rules may change meanwhile.
pub(crate) async fn checked_addresses(
    shared: &Shared,
    destination: &Destination,
    verdict: impl FnOnce() -> Verdict,
) -> Result<Vec<(SocketAddr, Route)>, Unopened> {
    let addresses = match &destination.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let answer = shared.resolver.addresses(name).await;
            unresolved(&answer)?;
            answer.addresses.clone()
        }
    };
    let verdict = verdict();
    let mut passed = Vec::with_capacity(addresses.len());
    let mut blocked = None;
    for address in addresses {
        match shared.check_resolved(address, destination, &verdict) {
            Ok(route) => passed.push((SocketAddr::new(address, destination.port), route)),
            Err(refusal) => {
                let resolved = destination.name().map(|_| address);
                blocked = Some(Unopened { refusal, resolved });
            }
        }
    }
    if passed.is_empty() {
        let nothing = || Refusal::failed("no_address", "the name has no address").into();
        return Err(blocked.unwrap_or_else(nothing));
    }
    Ok(passed)
}

/// The refusal for a name without addresses.
pub(crate) fn unresolved(answer: &HostAnswer) -> Result<(), Refusal> {
    match answer.outcome {
        Lookup::Found => Ok(()),
        Lookup::NoData => Err(Refusal::failed("no_address", "the name has no address")),
        Lookup::NxDomain => Err(Refusal::failed("no_such_name", "the name does not exist")),
        Lookup::Failed(failure) => Err(Refusal::failed("lookup_failed", failure.to_string())),
    }
}
