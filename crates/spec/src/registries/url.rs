//! The host and port of a URL, and nothing else of it.
//!
//! Must not guess: tools read odd URLs differently, and a rule must not name another host than the tool connects to. What
//! has two readings is refused. No error repeats any part of the URL.

use crate::address::AddressClass;
use crate::rule::Target;

/// Longest URL that is looked at, in bytes.
const URL_LIMIT_BYTES: usize = 4096;

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its host: a name or one address.
    pub target: Target,
    /// Its port, the scheme's when it names none.
    pub port: u16,
}

/// Why a URL leads to no host that a rule could name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// A path, `file:`, `cdrom:` …: nothing is reached over the network.
    #[error("names a local path")]
    Local,
    /// No scheme that is known.
    #[error("has a URL of an unknown scheme")]
    Scheme,
    /// Characters that have two readings: backslashes, spaces, controls, several `@`.
    #[error("has a URL that programs read differently")]
    Ambiguous,
    /// A variable that is not set.
    #[error("has a URL with a variable that is not set")]
    Variable,
    /// No host name and no address.
    #[error("has a URL without a valid host")]
    Host,
    /// No port from 1 to 65535.
    #[error("has a URL with a wrong port")]
    Port,
    /// The host itself, multicast, a metadata service …
    #[error(
        "has a URL whose host a sandbox does not reach: the machine itself or a special address"
    )]
    Special,
    /// Far longer than a URL.
    #[error("has a URL that is too long")]
    TooLong,
}

/// Prefixes that tools put in front of a URL.
const PREFIXES: [&str; 6] = ["sparse+", "registry+", "git+", "mirror+", "hg+", "svn+"];
/// Schemes that mean no network.
const LOCAL: [&str; 9] = [
    "file:",
    "cdrom:",
    "copy:",
    "unix:",
    "http+unix:",
    "store:",
    "link:",
    "workspace:",
    "path:",
];

/// Finds host and port of a URL, or of git's `user@host:path`.
///
/// # Errors
/// When there is none, or more than one reading; see [`NoEndpoint`].
pub fn endpoint(url: &str) -> Result<Endpoint, NoEndpoint> {
    let mut url = url.trim();
    if url.len() > URL_LIMIT_BYTES {
        return Err(NoEndpoint::TooLong);
    }
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| strip_word(url, prefix)) {
        url = rest;
    }
    let lower = url
        .get(..url.len().min(16))
        .unwrap_or(url)
        .to_ascii_lowercase();
    if url.is_empty() || LOCAL.iter().any(|scheme| lower.starts_with(scheme)) {
        return Err(NoEndpoint::Local);
    }
    if url.starts_with("${") {
        return Err(NoEndpoint::Variable);
    }
    if url.contains('\\') || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(NoEndpoint::Ambiguous);
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return without_scheme(url);
    };
    let port = match scheme.to_ascii_lowercase().as_str() {
        "https" => 443,
        "http" | "mirror" => 80,
        "ssh" => 22,
        "git" => 9418,
        _ => return Err(NoEndpoint::Scheme),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = without_user(authority)?;
    // Behind the host a variable changes nothing.
    if authority.contains("${") {
        return Err(NoEndpoint::Variable);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(six) => {
            let (host, rest) = six.split_once(']').ok_or(NoEndpoint::Host)?;
            if !host.contains(':') {
                return Err(NoEndpoint::Host);
            }
            match rest.strip_prefix(':') {
                None if rest.is_empty() => (host, port),
                None => return Err(NoEndpoint::Host),
                Some(text) => (host, parse_port(text, port)?),
            }
        }
        None => match authority.split_once(':') {
            Some((_, text)) if text.contains(':') => return Err(NoEndpoint::Host),
            Some((host, text)) => (host, parse_port(text, port)?),
            None => (authority, port),
        },
    };
    Ok(Endpoint {
        target: target(host)?,
        port,
    })
}

/// A path, or git's `user@host:path`.
fn without_scheme(url: &str) -> Result<Endpoint, NoEndpoint> {
    if url.starts_with(['/', '.', '~']) {
        return Err(NoEndpoint::Local);
    }
    let Some((authority, path)) = url.split_once(':') else {
        return Err(NoEndpoint::Local);
    };
    // As git does: a slash before the colon makes it a path. Other words before a colon are schemes.
    if authority.contains('/') {
        return Err(NoEndpoint::Local);
    }
    if !authority.contains(['@', '.']) || path.starts_with("//") {
        return Err(NoEndpoint::Scheme);
    }
    // Where other tools would read a port.
    let first = path.split('/').next().unwrap_or_default();
    if first.bytes().all(|b| b.is_ascii_digit()) && !first.is_empty() {
        return Err(NoEndpoint::Ambiguous);
    }
    Ok(Endpoint {
        target: target(without_user(authority)?)?,
        port: 22,
    })
}

fn without_user(authority: &str) -> Result<&str, NoEndpoint> {
    match authority.split_once('@') {
        Some((_, host)) if host.contains('@') => Err(NoEndpoint::Ambiguous),
        Some((_, host)) => Ok(host),
        None => Ok(authority),
    }
}

fn parse_port(text: &str, default: u16) -> Result<u16, NoEndpoint> {
    if text.is_empty() {
        return Ok(default);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NoEndpoint::Port);
    }
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or(NoEndpoint::Port)
}

fn target(host: &str) -> Result<Target, NoEndpoint> {
    if host.contains(['/', '*', '%']) {
        return Err(NoEndpoint::Host);
    }
    let target = Target::parse(host).map_err(|_| NoEndpoint::Host)?;
    let is_special = match &target {
        Target::Host(name) => name.is_localhost(),
        Target::Network(network) => !matches!(
            AddressClass::of(network.addr()),
            AddressClass::Public
                | AddressClass::Private
                | AddressClass::SharedCgnat
                | AddressClass::UniqueLocal
        ),
        Target::Subdomains(_) => true,
    };
    if is_special {
        return Err(NoEndpoint::Special);
    }
    Ok(target)
}

fn strip_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let head = text.get(..word.len())?;
    head.eq_ignore_ascii_case(word)
        .then(|| text.get(word.len()..))
        .flatten()
}
