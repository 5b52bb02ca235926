//! How a connection that was allowed gets out: by itself, through the user's proxy, or to the host's own loopback.
//!
//! Must not dial an address that was not checked, except the one place that a grant names: the host's loopback on the
//! very port that the verdict was on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rcc_spec::HOST_NAME;
use tokio::time::timeout;

use crate::dial::{self, Dialled};
use crate::judge::{Unopened, checked_addresses, unresolved};
use crate::live::Live;
use crate::refusal::{Destination, Host, Refusal};
use crate::shared::Shared;
use crate::transport::Route;
use crate::upstream_proxy::Proxy;

/// Where [`HOST_NAME`] leads, in the order in which it is tried.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// Time for a look-up here when a proxy can resolve the name as well; clients inside wait five seconds for an answer.
pub(crate) const LOCAL_LOOKUP: Duration = Duration::from_secs(2);

/// A connection that is there.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) dialled: Dialled,
    /// Addresses that rules are to be asked about again when they change, and whether each is the host's own.
    pub(crate) reached: Vec<(IpAddr, bool)>,
}

/// Opens a connection to a destination that a verdict allowed.
pub(crate) async fn open(
    shared: &Shared,
    destination: &Destination,
    live: &Live<'_>,
) -> Result<Opened, Unopened> {
    let is_host = |name: &rcc_spec::HostName| name.as_str() == HOST_NAME;
    if destination.name().is_some_and(is_host) {
        let addresses = LOOPBACK.map(|address| SocketAddr::new(address, destination.port));
        return Ok(Opened {
            dialled: connect(shared, &addresses).await?,
            reached: Vec::new(),
        });
    }
    if let Some(proxy) = &shared.upstream_proxy
        && let Some(reached) = for_proxy(shared, proxy, destination, live).await?
    {
        let dialled = proxy.open(shared, destination).await?;
        return Ok(Opened { dialled, reached });
    }
    let passed = checked_addresses(shared, destination, || live.verdict()).await?;
    let dialled = connect(shared, &dial::order(passed.clone()))
        .await
        .map_err(|unopened| no_route(&passed).map_or(unopened, Unopened::from))?;
    let is_own = passed.contains(&(dialled.address, Route::Own));
    let reached = vec![(dialled.address.ip(), is_own)];
    Ok(Opened { dialled, reached })
}

/// Checks what is to go through the proxy; none when it is dialled without it. The result has the addresses that were checked.
///
/// A name that resolves here is held to what its addresses allow, every one of them: the proxy chooses which it takes. A name that
/// does not resolve here is passed on as a name, if a rule allows it by name: where only the proxy can resolve, only the
/// proxy's own rules can guard what is behind it.
async fn for_proxy(
    shared: &Shared,
    proxy: &Proxy,
    destination: &Destination,
    live: &Live<'_>,
) -> Result<Option<Vec<(IpAddr, bool)>>, Unopened> {
    let (port, protocol) = (destination.port, destination.protocol);
    let addresses = match &destination.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) if proxy.spares_name(name, port, protocol) => return Ok(None),
        Host::Name(name) => match timeout(LOCAL_LOOKUP, shared.resolver.addresses(name)).await {
            Ok(answer) if !answer.addresses.is_empty() => answer.addresses.clone(),
            _ if live.verdict().rule.is_some() => return Ok(Some(Vec::new())),
            Ok(answer) => {
                unresolved(&answer)?;
                Vec::new()
            }
            Err(_) => {
                let sentence = "the host's resolvers did not answer in time";
                return Err(Refusal::failed("lookup_failed", sentence).into());
            }
        },
    };
    if addresses.is_empty() {
        return Err(Refusal::failed("no_address", "the name has no address").into());
    }
    let spared = |address: &IpAddr| proxy.spares_address(*address, port, protocol);
    if addresses.iter().all(spared) {
        return Ok(None);
    }
    let verdict = live.verdict();
    let mut reached = Vec::with_capacity(addresses.len());
    for address in addresses {
        match shared.check_resolved(address, destination, &verdict) {
            Ok(route) => reached.push((address, route == Route::Own)),
            Err(refusal) => {
                let resolved = destination.name().map(|_| address);
                return Err(Unopened { refusal, resolved });
            }
        }
    }
    Ok(Some(reached))
}

/// The better explanation where the host has no route to any of the addresses, as on a host with one family only: the kernel's own
/// differs with what else the host has.
fn no_route(addresses: &[(SocketAddr, Route)]) -> Option<Refusal> {
    if addresses
        .iter()
        .any(|(_, route)| *route != Route::Unreachable)
    {
        return None;
    }
    let has = |is_v4: bool| {
        addresses
            .iter()
            .any(|(address, _)| address.is_ipv4() == is_v4)
    };
    let whose = match (has(true), has(false)) {
        (true, false) => "IPv4 address",
        (false, true) => "IPv6 address",
        (true, true) | (false, false) => "addresses",
    };
    let sentence =
        format!("the connection could not be made: this host has no route to its {whose}");
    Some(Refusal::failed("connect_failed", sentence))
}

/// Connects to the first of these addresses that answers.
async fn connect(shared: &Shared, addresses: &[SocketAddr]) -> Result<Dialled, Unopened> {
    let dialled = dial::dial(addresses, &*shared.transport, shared.limits.connect_time).await;
    dialled.map_err(|error| {
        let reason = crate::describe(&error);
        let sentence = format!("the connection could not be made: {reason}");
        Refusal::failed("connect_failed", sentence).into()
    })
}
