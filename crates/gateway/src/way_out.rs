//! How a connection that was allowed gets out: by itself, or to the host's own loopback.
//!
//! Must not dial an address that was not checked, except the one place that a grant names: the host's loopback on the
//! very port that the verdict was on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rcc_spec::HOST_NAME;

use crate::dial::{self, Dialled};
use crate::judge::{Unopened, checked_addresses};
use crate::live::Live;
use crate::refusal::{Destination, Refusal};
use crate::shared::Shared;
use crate::transport::Route;

/// Where [`HOST_NAME`] leads, in the order in which it is tried.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

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
    let passed = checked_addresses(shared, destination, || live.verdict()).await?;
    let dialled = connect(shared, &dial::order(passed.clone())).await?;
    let is_own = passed.contains(&(dialled.address, Route::Own));
    let reached = vec![(dialled.address.ip(), is_own)];
    Ok(Opened { dialled, reached })
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
