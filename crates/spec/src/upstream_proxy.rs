//! The HTTP proxy that connections leave through: whose words it is, and what is dialled without it.
//!
//! Must not hold credentials: only where they are. Must not come from a project's file, whose author would read
//! everything that is not encrypted.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::environment::EnvName;
use crate::host::HostName;
use crate::origin::Sourced;
use crate::path::PathSpec;
use crate::rule::Rule;
use crate::text::shorten;

/// Host of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyHost {
    /// A name that the host resolves.
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

/// Where a proxy listens: `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProxyAddress {
    /// Its host.
    pub host: ProxyHost,
    /// Its TCP port.
    pub port: u16,
}

/// Why a text is no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Another scheme or none.
    #[error("`{text}` is no proxy; write `http://proxy.example.com:3128`")]
    Form {
        /// The text, escaped.
        text: String,
    },
    /// A user or password in the address. The text is not repeated.
    #[error(
        "a proxy's address holds no credentials; name their file with upstream_proxy_credentials_file"
    )]
    Credentials,
    /// The port is missing or none.
    #[error("`{text}` names no port; write `http://proxy.example.com:3128`")]
    Port {
        /// The text, escaped.
        text: String,
    },
}

impl FromStr for ProxyAddress {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        if text.contains('@') {
            return Err(ProxyError::Credentials);
        }
        let form = || ProxyError::Form {
            text: shorten(text, 80),
        };
        let rest = text.strip_prefix("http://").ok_or_else(form)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(form());
        }
        let bad_port = || ProxyError::Port {
            text: shorten(text, 80),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad_port)?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad_port());
        }
        let port = port.parse().ok().filter(|&port: &u16| port != 0);
        let port = port.ok_or_else(bad_port)?;
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match inner {
            Some(inner) => {
                let address: Ipv6Addr = inner.parse().map_err(|_| form())?;
                ProxyHost::Address(address.into())
            }
            None => match host.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => ProxyHost::Address(address.into()),
                Ok(IpAddr::V6(_)) => return Err(form()),
                Err(_) => ProxyHost::Name(HostName::parse(host).map_err(|_| form())?),
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ProxyHost::Name(name) => write!(f, "http://{name}:{}", self.port),
            ProxyHost::Address(IpAddr::V4(address)) => write!(f, "http://{address}:{}", self.port),
            ProxyHost::Address(IpAddr::V6(address)) => {
                write!(f, "http://[{address}]:{}", self.port)
            }
        }
    }
}

/// Where the proxy's user name and password are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsFrom {
    /// A file with one line, `USER:PASSWORD`, that nobody else can read.
    File(PathSpec),
    /// A variable of the caller with the same text; it never reaches the agent.
    Environment(EnvName),
}

/// What connections leave through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpstreamProxyPolicy {
    /// The proxy; none means that the gateway dials itself.
    pub address: Option<Sourced<ProxyAddress>>,
    /// Its credentials.
    pub credentials: Option<Sourced<CredentialsFrom>>,
    /// What is dialled without the proxy.
    pub except: Vec<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proxies() {
        for (text, canonical) in [
            (
                "http://proxy.example.com:3128",
                "http://proxy.example.com:3128",
            ),
            (
                "http://Proxy.example.com:3128/",
                "http://proxy.example.com:3128",
            ),
            ("http://192.0.2.1:80", "http://192.0.2.1:80"),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ] {
            let parsed: ProxyAddress = text.parse().unwrap();
            assert_eq!(parsed.to_string(), canonical);
        }
        for text in [
            "",
            "proxy.example.com:3128",
            "https://proxy.example.com:3128",
            "socks5://x:1",
            "http://proxy.example.com",
            "http://proxy.example.com:",
            "http://proxy.example.com:0",
            "http://proxy.example.com:70000",
            "http://x:1/path",
            "http://2001:db8::1:80",
            "http://[192.0.2.1]:80",
            "http://a b:1",
            "http://:1",
            "http://x:+1",
            "http://x:1?y",
        ] {
            assert!(text.parse::<ProxyAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_not_repeated() {
        let error = "http://user:secret@proxy.example.com:3128"
            .parse::<ProxyAddress>()
            .unwrap_err();
        assert_eq!(error, ProxyError::Credentials);
        assert!(!error.to_string().contains("secret"));
    }
}
