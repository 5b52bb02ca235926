//! Published ports on the host's side: opens their listeners, explains why one cannot be opened, says what is open.
//!
//! Must not touch the sandbox: the gateway joins the listeners with its sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rcc_gateway::{Published, PublishedPort, listen};
use rcc_native::{AgentSockets, IpVersion};
use rcc_spec::Publish;

use crate::error::{CliError, Kind};
use crate::output;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishFailure {
    /// Something else has it.
    #[error("port {} on {} is in use{by}", address.port(), address.ip())]
    InUse { address: SocketAddr, by: String },
    /// Any other reason.
    #[error("cannot listen on {address} for port {port} of the sandbox")]
    Listen {
        address: SocketAddr,
        port: u16,
        #[source]
        source: io::Error,
    },
}

/// Listens on the host for every port, and says on standard error what is not as usual: addresses that other machines reach,
/// and free ports that were taken.
pub(crate) fn open(publish: &[Publish]) -> Result<Vec<PublishedPort>, CliError> {
    let mut ports = Vec::with_capacity(publish.len());
    for publish in publish {
        let wanted = SocketAddr::new(publish.address, publish.host_port);
        let listener = listen(wanted).map_err(|error| refused(publish, wanted, error))?;
        let taken = rustix::net::getsockname(&listener)
            .and_then(SocketAddr::try_from)
            .unwrap_or(wanted);
        let port = publish.port;
        if !publish.is_local() {
            output::warn(&format!(
                "other machines can connect to port {port} of the sandbox, at {taken}"
            ));
        } else if publish.host_port == 0 {
            output::note(&format!("{taken} leads to port {port} of the sandbox"));
        }
        ports.push(PublishedPort { listener, port });
    }
    Ok(ports)
}

fn refused(publish: &Publish, address: SocketAddr, error: io::Error) -> CliError {
    let port = publish.port;
    let in_use = error.kind() == io::ErrorKind::AddrInUse;
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let other = address.port().checked_add(1).unwrap_or(0);
            Some(format!(
                "publish it at another port: -p {}{other}:{port}",
                prefix(publish)
            ))
        }
        io::ErrorKind::PermissionDenied => Some(format!(
            "ports below 1024 are root's; take a higher one: -p {}{}:{port}",
            prefix(publish),
            address.port().saturating_add(8000),
        )),
        io::ErrorKind::AddrNotAvailable => {
            Some("name an address of this host, or leave it out for 127.0.0.1".to_owned())
        }
        _ => None,
    };
    let failure = if in_use {
        let by = rcc_host::listener_on(address).map_or_else(String::new, |found| {
            format!(" by {} ({})", rcc_plan::escape(&found.program), found.pid)
        });
        PublishFailure::InUse { address, by }
    } else {
        PublishFailure::Listen {
            address,
            port,
            source: error,
        }
    };
    let error = CliError::new(Kind::Host, failure);
    hint.into_iter().fold(error, CliError::hint)
}

/// The address as it has to be written in front of the ports; nothing for the usual one.
fn prefix(publish: &Publish) -> String {
    match publish.address {
        IpAddr::V4(address) if address == std::net::Ipv4Addr::LOCALHOST => String::new(),
        IpAddr::V4(address) => format!("{address}:"),
        IpAddr::V6(address) => format!("[{address}]:"),
    }
}

/// Joins the listeners with what makes sockets inside.
pub(crate) fn join(ports: Vec<PublishedPort>, sockets: AgentSockets) -> Published {
    Published {
        ports,
        make_socket: Box::new(move |address: IpAddr| {
            let version = match address {
                IpAddr::V4(_) => IpVersion::V4,
                IpAddr::V6(_) => IpVersion::V6,
            };
            sockets.tcp(version).map_err(io::Error::other)
        }),
    }
}
