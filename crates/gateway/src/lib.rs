//! The gateway: the only way from a sandbox to the world.
//!
//! It serves sockets of the run's router namespace from a thread of the supervisor, in the host's own network: a TCP listener that
//! accepts connections to any address, a UDP socket that receives every DNS packet, and one for all other datagrams. DNS answers carry synthetic addresses, so
//! the gateway knows which name a connection is for; the verdict is `rcc_spec::RuleSet`'s, on that name and again on the
//! address that it leads to. If any of this fails, there is no network: nothing else forwards packets.
//!
//! Must not know how the namespaces are made, and must not decide what the rules do not say.
#![forbid(unsafe_code)]

mod audit;
mod client_hello;
mod config;
mod control;
mod dial;
mod dns;
mod first_bytes;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod http;
mod inband;
mod inspect;
mod judge;
mod keeper;
mod live;
mod pipes;
mod publish;
mod questions;
mod refusal;
mod relay;
mod resolver;
mod server_hello;
mod server_name;
mod session;
mod shared;
mod synthetic;
mod transfer;
mod transport;
mod udp;
mod upstream_proxy;
mod watch;
mod way_out;

pub use audit::{AuditSink, AuditSummary, rfc3339};
pub use config::{GatewayConfig, HostAddresses, Limits, LiveConfig, ReadAddresses};
pub use control::{
    Answer, CONTROL_VERSION, ProtocolError, Question, REQUEST_LIMIT, Reached, Request, Response,
    RuleLine, StillRefused, parse_request, parse_response, request_line,
};
pub use gateway::{Gateway, GatewayControl, GatewayError, Summary};
pub use publish::{MakeSocket, Published, PublishedPort, listen};
pub use refusal::RefusalCount;
pub use resolver::Upstream;
pub use synthetic::SyntheticRanges;
pub use transport::{HostTransport, Route, Transport, connect, route};
pub use udp::UdpSockets;
pub use upstream_proxy::{Credentials, CredentialsError, UpstreamProxy};

/// An error of the operating system in its own words, without the number.
fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
