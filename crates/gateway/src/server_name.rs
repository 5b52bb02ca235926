//! Whether a ClientHello may go to the name that its destination stands for; the same for TLS and for QUIC.
//!
//! Must not look at anything but the hello: where it came from is the caller's business.

use rcc_spec::{HostName, RuleSet, Verdict};

use crate::client_hello::Hello;
use crate::refusal::{Destination, Host, Refusal};

/// The protocol that a hello came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// TLS over TCP.
    Tls,
    /// QUIC, whose handshake is TLS 1.3 in packets of its own (RFC 9001).
    Quic,
}

impl Carrier {
    fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Quic => "QUIC",
        }
    }

    fn choose(self, tls: &'static str, quic: &'static str) -> &'static str {
        match self {
            Self::Tls => tls,
            Self::Quic => quic,
        }
    }
}

/// Why a hello may not go to this name.
///
/// A rule that allows a name allows that name. Where no rule did, as in mode `internet`, a hello for another name is judged
/// like a connection to it, and one that hides its name passes: what it could reach is allowed anyway.
pub(crate) fn check(
    carrier: Carrier,
    hello: &Hello,
    name: &HostName,
    destination: &Destination,
    verdict: &Verdict,
    rules: &RuleSet,
) -> Option<Refusal> {
    let by_rule = verdict.rule.is_some();
    let protocol = carrier.name();
    let mismatch = carrier.choose("tls_name_mismatch", "quic_name_mismatch");
    if hello.is_encrypted && by_rule {
        let code = carrier.choose("tls_encrypted_hello", "quic_encrypted_hello");
        let sentence =
            format!("Encrypted Client Hello hides which host a {protocol} connection is for");
        return Some(Refusal::denied(code, sentence));
    }
    let Some(server_name) = &hello.server_name else {
        let code = carrier.choose("tls_no_name", "quic_no_name");
        let sentence = format!("the {protocol} handshake does not say which host it is for (SNI)");
        return by_rule.then(|| Refusal::denied(code, sentence));
    };
    let text = std::str::from_utf8(server_name).ok();
    let Some(said) = text.and_then(|text| HostName::parse(text).ok()) else {
        let sentence = format!("the {protocol} handshake is for something that is not a host name");
        return by_rule.then(|| Refusal::denied(mismatch, sentence));
    };
    if said == *name {
        return None;
    }
    if by_rule {
        let sentence = format!("the {protocol} handshake is for another host, {said}");
        return Some(Refusal::denied(mismatch, sentence));
    }
    let other = Destination {
        host: Host::Name(said.clone()),
        ..*destination
    };
    Refusal::of_verdict(
        &rules.decide_name(&said, destination.port, destination.protocol),
        &other,
        None,
    )
}
