//! Plain HTTP/1 on connections to a name: every request must be for that name (RFC 9110, RFC 9112).
//!
//! # Theory of operation
//! Servers differ in how they read what is not quite HTTP. A request that this parser took for one and the server for two would carry
//! a second host past the check, so nothing is repaired and nothing is guessed: what two readers could read differently is
//! refused. What passes goes on byte for byte, except empty lines in front of a request, which are left out.
//!
//! 1. [`recognise()`]: is a client's first line a request line?
//! 2. [`Requests`]: cuts the client's stream into heads and bodies, and judges each head with [`head`] and [`authority`].
//! 3. [`Responses`]: follows the server's answers, only to know whether it has agreed to an upgrade, and whether an
//!    explanation may be put behind the last answer. Nothing that is allowed depends on it but the upgrade.
//!
//! Must not do any input or output, and must not keep more than one head of either side.

mod authority;
mod body;
mod head;
mod recognise;
mod requests;
mod responses;

pub(crate) use authority::Authority;
pub(crate) use head::Head;
pub(crate) use recognise::{Opening, recognise};
pub(crate) use requests::{Requests, Step};
pub(crate) use responses::{Asked, Responses};

/// Longest head of a request, in bytes. Servers stop at 8 KiB to 1 MiB.
pub(crate) const HEAD_LIMIT: usize = 64 << 10;

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What is no HTTP, or could be read in two ways.
    Malformed(&'static str),
    /// No host is named.
    HostMissing,
    /// What stands for a host is none.
    HostUnreadable,
    /// Where the body ends could be read in two ways.
    Smuggling(&'static str),
    /// Another protocol is asked for.
    Upgrade(&'static str),
    /// A tunnel is asked for.
    Connect,
}

impl Fault {
    /// The stable code for the log.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "http_malformed",
            Self::HostMissing => "http_host_missing",
            Self::HostUnreadable => "http_host_mismatch",
            Self::Smuggling(_) => "http_smuggling",
            Self::Upgrade(_) => "http_upgrade",
            Self::Connect => "http_connect",
        }
    }

    /// Plain words, without a full stop.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Malformed(what) | Self::Smuggling(what) | Self::Upgrade(what) => what,
            Self::HostMissing => "the HTTP request does not say which host it is for",
            Self::HostUnreadable => "the HTTP request is for something that is not a host name",
            Self::Connect => "the HTTP request asks for a tunnel to elsewhere (CONNECT)",
        }
    }
}

#[cfg(test)]
mod tests;
