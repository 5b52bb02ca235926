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
    let (address, port) = (original.ip().to_canonical(), original.port());
    let (host, verdict) = match shared.meaning(address) {
        Meaning::Name(name) => {
            let verdict = rules.decide_name(&name, port, protocol);
            (Host::Name(name), Some(verdict))
        }
        Meaning::Nothing => (Host::Address(address), None),
        Meaning::Literal(address) => {
            let verdict = rules.decide_address(address, port, protocol);
            (Host::Address(address), Some(verdict))
        }
    };
    let destination = Destination {
        host,
        port,
        protocol,
    };
    let verdict = match verdict {
        None => Err(Refusal::denied(
            "unknown_synthetic",
            "this address stands for no name; look the name up first",
        )),
        Some(verdict) => match Refusal::of_verdict(&verdict, &destination, None) {
            Some(refusal) => Err(refusal),
            None => Ok(verdict),
        },
    };
    (destination, verdict)
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

/// Finds the addresses of a destination and returns those that pass; there is at least one.
pub(crate) async fn checked_addresses(
    shared: &Shared,
    destination: &Destination,
    verdict: &Verdict,
) -> Result<Vec<(SocketAddr, Route)>, Unopened> {
    let addresses = match &destination.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let answer = shared.resolver.addresses(name).await;
            unresolved(&answer)?;
            answer.addresses.clone()
        }
    };
    let mut passed = Vec::with_capacity(addresses.len());
    let mut blocked = None;
    for address in addresses {
        match shared.check_resolved(address, destination, verdict) {
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
fn unresolved(answer: &HostAnswer) -> Result<(), Refusal> {
    match answer.outcome {
        Lookup::Found => Ok(()),
        Lookup::NoData => Err(Refusal::failed("no_address", "the name has no address")),
        Lookup::NxDomain => Err(Refusal::failed("no_such_name", "the name does not exist")),
        Lookup::Failed(failure) => Err(Refusal::failed("lookup_failed", failure.to_string())),
    }
}
