//! Ports of the sandbox that the host listens on: `[ADDRESS:]HOSTPORT[:PORT][/tcp]`.
//!
//! Must not open anything, and must not guess: a name instead of an address is refused, because what it means depends
//! on the host's resolver.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::shorten;

/// A port of the sandbox and where the host listens for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// Address of the host; 127.0.0.1 when the text names none.
    pub address: IpAddr,
    /// Port of the host; 0 takes a free one.
    pub host_port: u16,
    /// Port inside of the sandbox, never 0.
    pub port: u16,
}

/// Why a text is no port to publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not of the form at all.
    #[error("`{text}` is no port to publish; write `3000`, `3001:3000` or `127.0.0.1:3001:3000`")]
    Form {
        /// The text, escaped.
        text: String,
    },
    /// A number that is no port, or 0 where it means nothing.
    #[error("`{text}` is no port; ports are numbers from 1 to 65535")]
    Port {
        /// The text, escaped.
        text: String,
    },
    /// A free port of the host without a port of the sandbox.
    #[error(
        "`{text}` takes a free port of the host, but names no port of the sandbox; write `0:3000`"
    )]
    NoPort {
        /// The text, escaped.
        text: String,
    },
    /// A name or something broken where the address belongs.
    #[error("`{text}` is no address of the host; write `127.0.0.1`, `[::1]` or `0.0.0.0`")]
    Address {
        /// The text, escaped.
        text: String,
    },
    /// Another protocol.
    #[error("only TCP ports can be published, not `/{protocol}`")]
    Protocol {
        /// The word, escaped.
        protocol: String,
    },
    /// A range.
    #[error("`{text}` is a range; publish each port by itself")]
    Range {
        /// The text, escaped.
        text: String,
    },
}

impl Publish {
    /// Tells whether only programs of this host can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address.is_loopback()
    }

    /// Says what it does: "let programs of this host connect to its port 3000, at 127.0.0.1:3001".
    #[must_use]
    pub fn sentence(&self) -> String {
        let who = if self.is_local() {
            "programs of this host"
        } else {
            "other machines"
        };
        let place = match self.host_port {
            0 => format!("a free port of {}", self.address),
            port => std::net::SocketAddr::new(self.address, port).to_string(),
        };
        format!("let {who} connect to its port {}, at {place}", self.port)
    }
}

impl FromStr for Publish {
    type Err = PublishError;

    fn from_str(whole: &str) -> Result<Self, PublishError> {
        let shown = |text: &str| shorten(text, 80);
        let form = || PublishError::Form { text: shown(whole) };
        let text = match whole.split_once('/') {
            None | Some((_, "tcp")) => whole.strip_suffix("/tcp").unwrap_or(whole),
            Some((_, protocol)) => {
                return Err(PublishError::Protocol {
                    protocol: shown(protocol),
                });
            }
        };
        let (address, ports) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, ports) = rest.split_once("]:").ok_or_else(form)?;
                let parsed: std::net::Ipv6Addr =
                    address.parse().map_err(|_| PublishError::Address {
                        text: shown(address),
                    })?;
                (IpAddr::V6(parsed), ports)
            }
            None => match text.split_once(':') {
                Some((first, rest)) if !is_port_like(first) => {
                    let parsed: Ipv4Addr = first
                        .parse()
                        .map_err(|_| PublishError::Address { text: shown(first) })?;
                    (IpAddr::V4(parsed), rest)
                }
                _ => (IpAddr::V4(Ipv4Addr::LOCALHOST), text),
            },
        };
        let (host_port, port) = match ports.split_once(':') {
            None => (ports, None),
            Some((host_port, port)) => (host_port, Some(port)),
        };
        if host_port.is_empty() || port.is_some_and(|port| port.is_empty() || port.contains(':')) {
            return Err(form());
        }
        let host_port = parse_port(host_port)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None if host_port == 0 => return Err(PublishError::NoPort { text: shown(whole) }),
            None => host_port,
        };
        if port == 0 {
            return Err(PublishError::Port { text: "0".into() });
        }
        Ok(Self {
            address,
            host_port,
            port,
        })
    }
}

fn is_port_like(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// Reads digits alone: `+80` and `080` have two readings.
fn parse_port(text: &str) -> Result<u16, PublishError> {
    let shown = || shorten(text, 80);
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if !digits && is_port_like(text) {
        return Err(PublishError::Range { text: shown() });
    }
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(PublishError::Port { text: shown() });
    }
    text.parse()
        .map_err(|_| PublishError::Port { text: shown() })
}

impl fmt::Display for Publish {
    /// The canonical form, always with an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = std::net::SocketAddr::new(self.address, self.host_port);
        write!(f, "{place}:{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, PublishError> {
        text.parse().map(|publish: Publish| publish.to_string())
    }

    #[test]
    fn every_form_is_read_and_its_canonical_form_is_read_alike() {
        for (text, canonical) in [
            ("3000", "127.0.0.1:3000:3000"),
            ("3000/tcp", "127.0.0.1:3000:3000"),
            ("3001:3000", "127.0.0.1:3001:3000"),
            ("0:80", "127.0.0.1:0:80"),
            ("0.0.0.0:80", "0.0.0.0:80:80"),
            ("192.0.2.1:1:2/tcp", "192.0.2.1:1:2"),
            ("[::1]:65535", "[::1]:65535:65535"),
            ("[::]:8080:80", "[::]:8080:80"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(parse(canonical).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn what_has_two_readings_or_none_is_refused() {
        for text in [
            "",
            ":",
            "x",
            "3000:",
            ":3000",
            "0",
            "0:0",
            "1:0",
            "65536",
            "080",
            "+80",
            "1:2:3",
            "1.2.3.4",
            "1.2.3.4:",
            "1.2.3.4::80",
            "localhost:3000",
            "::1:3000",
            "[::1]3000",
            "[::1]",
            "[1.2.3.4]:80",
            "3000-3010",
            "3000/udp",
            "3000/tcp/tcp",
            "3000/",
            "1:2:3:4",
            "127.1:80",
            " 80",
            "80 ",
            "[fe80::1%eth0]:80",
            "1.2.3.4:1:2:3",
            "80\n",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
