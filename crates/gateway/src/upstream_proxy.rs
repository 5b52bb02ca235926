//! Connections through an HTTP proxy that the user named: `CONNECT` (RFC 9110 section 9.3.6).
//!
//! # Order
//! 1. The verdict and the checks of addresses are over when this begins.
//! 2. Connect to the proxy, whose own address may be private: the user named it.
//! 3. Send the head of `CONNECT`, with credentials if there are any.
//! 4. Read the head of the answer, byte for byte no further; what follows belongs to the relay.
//!
//! Nothing of the agent's is sent before a 2xx. Must not repeat what the proxy says, except its status code, and must not show
//! the credentials to anybody but the proxy.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use rcc_spec::{
    HostName, NetworkMode, NetworkPolicy, Protocol, ProxyAddress, ProxyHost, Rule, RuleSet,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::dial::{self, Dialled};
use crate::refusal::{Destination, Host, Refusal};
use crate::shared::Shared;

/// Longest head of a proxy's answer, in bytes.
const HEAD_LIMIT: usize = 16 << 10;

/// `USER:PASSWORD`. Printing it for debugging shows nothing.
pub struct Credentials(String);

impl Credentials {
    /// Takes the text of a file or variable, without its line end.
    ///
    /// # Errors
    /// It has no colon, more than one line, or characters that no header can carry.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.chars().any(char::is_control) {
            return Err(CredentialsError::Control);
        }
        if !text.contains(':') {
            return Err(CredentialsError::Form);
        }
        Ok(Self(text.to_owned()))
    }

    /// The value of `Proxy-Authorization` (RFC 7617).
    fn header(&self) -> String {
        format!("Basic {}", base64(self.0.as_bytes()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Why a text is no credentials. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No colon.
    #[error("the credentials are not of the form USER:PASSWORD")]
    Form,
    /// A second line or another control character.
    #[error("the credentials are more than one line, or hold control characters")]
    Control,
}

/// What connections leave through.
#[derive(Debug)]
pub struct UpstreamProxy {
    /// Where it listens.
    pub address: ProxyAddress,
    /// What it wants to know.
    pub credentials: Option<Credentials>,
    /// What is dialled without it.
    pub except: Vec<Rule>,
}

/// A proxy with its exceptions compiled.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: ProxyAddress,
    authorization: Option<Credentials>,
    except: RuleSet,
}

impl From<UpstreamProxy> for Proxy {
    fn from(proxy: UpstreamProxy) -> Self {
        let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
        policy.allow = proxy.except;
        Self {
            address: proxy.address,
            authorization: proxy.credentials,
            except: RuleSet::compile(&policy),
        }
    }
}

impl Proxy {
    /// Tells whether this name is dialled without the proxy.
    pub(crate) fn spares_name(&self, name: &HostName, port: u16, protocol: Protocol) -> bool {
        self.except.decide_name(name, port, protocol).is_allow()
    }

    /// Tells whether this address is dialled without the proxy.
    pub(crate) fn spares_address(&self, address: IpAddr, port: u16, protocol: Protocol) -> bool {
        self.except
            .decide_address(address, port, protocol)
            .is_allow()
    }

    /// Tells whether what was asked for, a name or an address, is dialled without the proxy.
    pub(crate) fn spares(&self, destination: &Destination) -> bool {
        let (port, protocol) = (destination.port, destination.protocol);
        match &destination.host {
            Host::Name(name) => self.spares_name(name, port, protocol),
            Host::Address(address) => self.spares_address(*address, port, protocol),
        }
    }

    /// Tells whether some port of this name is dialled without the proxy.
    pub(crate) fn may_spare(&self, name: &HostName) -> bool {
        self.except.may_resolve(name).is_allow()
    }

    /// Opens a connection to a checked destination.
    pub(crate) async fn open(
        &self,
        shared: &Shared,
        destination: &Destination,
    ) -> Result<Dialled, Refusal> {
        let deadline = Instant::now() + shared.limits.connect_time;
        let mut dialled = self.dial(shared).await?;
        let head = self.request(destination);
        let exchange = async {
            dialled
                .stream
                .write_all(head.as_bytes())
                .await
                .map_err(|_| closed())?;
            read_head(&mut dialled.stream).await
        };
        let answer = timeout_at(deadline, exchange).await.map_err(|_| {
            let sentence = "the upstream proxy did not answer in time";
            Refusal::failed("proxy_timeout", sentence)
        })??;
        judge_status(status(&answer)?, self.authorization.is_some())?;
        Ok(dialled)
    }

    async fn dial(&self, shared: &Shared) -> Result<Dialled, Refusal> {
        let unreachable = |why: &str| {
            let sentence = format!("the upstream proxy cannot be reached: {why}");
            Refusal::failed("proxy_unreachable", sentence)
        };
        let addresses = match &self.address.host {
            ProxyHost::Address(address) => vec![*address],
            // The one name that is looked up without a rule: the user's own proxy.
            ProxyHost::Name(name) => shared.resolver.addresses(name).await.addresses.clone(),
        };
        if addresses.is_empty() {
            return Err(unreachable("its name has no address"));
        }
        let addresses = addresses
            .into_iter()
            .map(|address| {
                let route = shared.transport.route(address);
                (SocketAddr::new(address, self.address.port), route)
            })
            .collect();
        let addresses = dial::order(addresses);
        dial::dial(&addresses, &*shared.transport, shared.limits.connect_time)
            .await
            .map_err(|error| unreachable(&crate::describe(&error)))
    }

    /// The head of the request: canonical name or address and port, nothing that the agent wrote.
    fn request(&self, destination: &Destination) -> String {
        let credentials = self.authorization.as_ref().map(Credentials::header);
        let authorization = credentials
            .map(|value| format!("Proxy-Authorization: {value}\r\n"))
            .unwrap_or_default();
        format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n{authorization}\r\n")
    }
}

fn closed() -> Refusal {
    Refusal::failed(
        "proxy_closed",
        "the upstream proxy closed the connection without an answer",
    )
}

fn garbled(what: &str) -> Refusal {
    Refusal::failed("proxy_garbled", format!("the upstream proxy sent {what}"))
}

/// Reads up to the empty line that ends a head, and not a byte more: a server that speaks first may have spoken already.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Refusal> {
    let mut head: Vec<u8> = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let seen = stream.peek(&mut buffer).await.map_err(|_| closed())?;
        if seen == 0 {
            return Err(closed());
        }
        let before = head.len();
        head.extend_from_slice(buffer.get(..seen).unwrap_or_default());
        if !b"HTTP/1.".starts_with(head.get(..7.min(head.len())).unwrap_or_default()) {
            return Err(garbled("something that is not HTTP"));
        }
        let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let length = end.map_or(head.len(), |end| end + 4);
        if length > HEAD_LIMIT {
            return Err(garbled("an answer without an end"));
        }
        let mut taken = vec![0; length - before];
        stream.read_exact(&mut taken).await.map_err(|_| closed())?;
        head.truncate(length);
        if end.is_some() {
            return Ok(head);
        }
    }
}

/// The status code of a head: `HTTP/1.1 200 Connection established` (RFC 9112 section 4).
fn status(head: &[u8]) -> Result<u16, Refusal> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.next().unwrap_or_default();
    let code = words.next().unwrap_or_default();
    let digits = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    let code = std::str::from_utf8(code)
        .ok()
        .and_then(|code| code.parse().ok());
    match code {
        Some(code) if digits && version.len() == 8 => Ok(code),
        _ => Err(garbled("something that is not HTTP")),
    }
}

fn judge_status(status: u16, has_credentials: bool) -> Result<(), Refusal> {
    match status {
        200..=299 => Ok(()),
        407 => {
            let sentence = if has_credentials {
                "the upstream proxy does not accept the credentials it was given (407)"
            } else {
                "the upstream proxy wants credentials (407); name their file with upstream_proxy_credentials_file"
            };
            Err(Refusal::failed("proxy_credentials", sentence))
        }
        _ => {
            let sentence = format!("the upstream proxy refused the connection (status {status})");
            Err(Refusal::failed("proxy_refused", sentence))
        }
    }
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or_default();
            text.push(match DIGITS.get(digit) {
                Some(&digit) if place <= group.len() => char::from(digit),
                _ => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn credentials_are_one_line_and_never_shown() {
        let credentials = Credentials::parse("user:pass:word\r\n").unwrap();
        assert_eq!(credentials.0, "user:pass:word");
        assert!(!format!("{credentials:?}").contains("pass"));
        for bad in ["", "user", "user\n:x", "a:b\nc", "a:b\0", "a:b\r\nX: y"] {
            assert!(Credentials::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn status_lines() {
        for (line, code) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 200\r\n\r\n", Some(200)),
            ("HTTP/1.1 407 Who\r\n\r\n", Some(407)),
            ("HTTP/1.1 2000 x\r\n\r\n", None),
            ("HTTP/1.1 +20 x\r\n\r\n", None),
            ("HTTP/1.1\r\n\r\n", None),
            ("HTTP/1.1  200\r\n\r\n", None),
        ] {
            assert_eq!(status(line.as_bytes()).ok(), code, "{line}");
        }
        for refused in [100, 101, 199, 300, 302, 400, 403, 407, 500, 502, 999] {
            assert!(judge_status(refused, false).is_err());
        }
    }
}
