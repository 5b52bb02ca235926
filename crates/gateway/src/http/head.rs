//! Reads one head: the request line and the fields that say for whom the request is and where its body ends.
//!
//! Must not take two spellings for one thing: what a lenient server could read differently is a fault.

use std::ops::Range;

use super::authority::{self, Authority};
use super::recognise::is_token;
use super::{Fault, HEAD_LIMIT};

/// What counts of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) host: Authority,
    /// The authority of an absolute target.
    pub(crate) target: Option<Authority>,
    pub(crate) body: Body,
    /// The answer has no body whatever it says (method HEAD).
    pub(crate) is_head: bool,
    /// A WebSocket is asked for (RFC 6455 section 4.1).
    pub(crate) upgrade: bool,
    /// Lines, in order, that must not go on: the offer to continue in HTTP/2 (RFC 7540 section 3.2). Whoever is asked may
    /// ignore it (RFC 9110 section 7.8), so may whoever is in between, and the client goes on in HTTP/1.1.
    pub(crate) leave_out: Vec<Range<usize>>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk (RFC 9112 section 7.1).
    Chunked,
}

/// Digits of a length that certainly fits.
const LENGTH_DIGITS: usize = 18;

/// Reads a head with its empty line; every line ends in CR LF, and no other CR or LF is there.
pub(crate) fn parse(head: &[u8]) -> Result<Head, Fault> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| {
        // The caller cut at the empty line and saw to the line ends.
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let line = RequestLine::parse(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    let mut start = head.iter().position(|&byte| byte == b'\n').unwrap_or(0) + 1;
    for field in lines.take_while(|line| !line.is_empty()) {
        let end = start + field.len() + 2;
        fields.add(field, start..end)?;
        start = end;
    }
    let body = fields.body(&line)?;
    let upgrade = fields.upgrade(&line)?;
    Ok(Head {
        host: fields.host.ok_or(Fault::HostMissing)??,
        target: line.authority,
        body,
        is_head: line.method == b"HEAD",
        upgrade,
        leave_out: match fields.upgrade {
            Some(Upgrade::Http2) => fields.http2_offer,
            _ => Vec::new(),
        },
    })
}

/// Tells what is wrong with a request line.
pub(super) fn check_request_line(line: &[u8]) -> Result<(), Fault> {
    RequestLine::parse(line).map(|_| ())
}

/// Checks a line for bytes that no head has. The line end is not part of it.
pub(super) fn check_line(line: &[u8]) -> Result<(), Fault> {
    let bad = |&byte: &u8| byte < b' ' && byte != b'\t' || byte == 0x7f;
    match line.iter().find(|byte| bad(byte)) {
        None => Ok(()),
        Some(b'\r') => Err(Fault::Malformed(
            "the HTTP request has a carriage return that ends no line",
        )),
        Some(_) => Err(Fault::Malformed(
            "the HTTP request has control characters in its head",
        )),
    }
}

struct RequestLine<'head> {
    method: &'head [u8],
    authority: Option<Authority>,
    /// HTTP/1.0.
    is_old: bool,
}

impl<'head> RequestLine<'head> {
    fn parse(line: &'head [u8]) -> Result<Self, Fault> {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), version, None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Fault::Malformed("the HTTP request line is malformed"));
        };
        let is_old = match version {
            Some(b"HTTP/1.1") => false,
            Some(b"HTTP/1.0") => true,
            Some(version) if version.starts_with(b"HTTP/2") => {
                return Err(Fault::Upgrade("HTTP/2 without TLS cannot be checked"));
            }
            Some(_) => {
                return Err(Fault::Malformed("the HTTP version is none of 1.0 and 1.1"));
            }
            None => {
                return Err(Fault::Malformed("the HTTP request has no version"));
            }
        };
        if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
            return Err(Fault::Malformed("the HTTP method is malformed"));
        }
        if method.eq_ignore_ascii_case(b"CONNECT") {
            return Err(Fault::Connect);
        }
        Ok(Self {
            method,
            authority: authority_of(method, target)?,
            is_old,
        })
    }
}

/// The authority in a target (RFC 9112 section 3.2), if it has one.
fn authority_of(method: &[u8], target: &[u8]) -> Result<Option<Authority>, Fault> {
    let malformed = Err(Fault::Malformed(
        "the target of the HTTP request is malformed",
    ));
    if target.iter().any(|byte| matches!(byte, b'\t' | b'#')) {
        return malformed;
    }
    match target {
        [b'/', ..] => Ok(None),
        b"*" if method == b"OPTIONS" => Ok(None),
        _ => {
            let scheme = target.get(..7).unwrap_or_default();
            if !scheme.eq_ignore_ascii_case(b"http://") {
                return malformed;
            }
            let rest = target.get(7..).unwrap_or_default();
            // A backslash ends the authority for some readers; as part of a name it is refused.
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            authority::parse(authority).map(Some)
        }
    }
}

/// The fields that count, while they are collected.
#[derive(Default)]
struct Fields {
    host: Option<Result<Authority, Fault>>,
    length: Option<u64>,
    is_chunked: bool,
    upgrade: Option<Upgrade>,
    /// The lines of an offer of HTTP/2, if it is one.
    http2_offer: Vec<Range<usize>>,
}

/// What a request asks to go on in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    WebSocket,
    Http2,
    Other,
}

/// The field that comes with an offer of HTTP/2 (RFC 7540 section 3.2.1).
const HTTP2_SETTINGS: &[u8] = b"http2-settings";

const BODY_TWICE: Fault =
    Fault::Smuggling("the HTTP request says more than once how long its body is");
const BODY_GARBLED: Fault =
    Fault::Smuggling("the HTTP request garbles the length or coding of its body");

impl Fields {
    /// `place` is where the line lies in the head, with its end.
    fn add(&mut self, line: &[u8], place: Range<usize>) -> Result<(), Fault> {
        let (name, value) = split_field(line)?;
        match Known::of(name) {
            None => {
                if name.eq_ignore_ascii_case(HTTP2_SETTINGS) {
                    self.http2_offer.push(place);
                }
                Ok(())
            }
            // Behind CGI and its like an underscore is a hyphen.
            Some(_) if name.contains(&b'_') => Err(BODY_GARBLED),
            Some(Known::Host) if self.host.is_some() => {
                Err(Fault::Malformed("the HTTP request has several Host fields"))
            }
            Some(Known::Host) => {
                self.host = Some(authority::parse(value));
                Ok(())
            }
            Some(Known::ContentLength) if self.length.is_some() || self.is_chunked => {
                Err(BODY_TWICE)
            }
            Some(Known::ContentLength) => {
                let is_number = !value.is_empty()
                    && value.len() <= LENGTH_DIGITS
                    && value.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(value).ok();
                let length = text
                    .filter(|_| is_number)
                    .and_then(|text| text.parse().ok());
                self.length = Some(length.ok_or(BODY_GARBLED)?);
                Ok(())
            }
            Some(Known::TransferEncoding) if self.length.is_some() || self.is_chunked => {
                Err(BODY_TWICE)
            }
            Some(Known::TransferEncoding) if value == b"chunked" => {
                self.is_chunked = true;
                Ok(())
            }
            Some(Known::TransferEncoding) => Err(BODY_GARBLED),
            // RFC 9110 section 10.1.1 defines nothing else.
            Some(Known::Expect) if value.eq_ignore_ascii_case(b"100-continue") => Ok(()),
            Some(Known::Expect) => Err(Fault::Smuggling(
                "the HTTP request expects something unknown before its body",
            )),
            Some(Known::Connection) => {
                let mut options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                if options.any(|option| Known::of(option).is_some_and(Known::is_end_to_end)) {
                    // Asks the next proxy to take the field away.
                    return Err(Fault::Smuggling(
                        "the HTTP request asks to drop a field that says where it goes or ends",
                    ));
                }
                let of_offer = [b"upgrade", HTTP2_SETTINGS];
                let mut options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                if options.all(|option| of_offer.iter().any(|of| option.eq_ignore_ascii_case(of))) {
                    self.http2_offer.push(place);
                }
                Ok(())
            }
            Some(Known::Upgrade) => {
                self.upgrade = Some(match self.upgrade {
                    None if value.eq_ignore_ascii_case(b"websocket") => Upgrade::WebSocket,
                    None if value.eq_ignore_ascii_case(b"h2c") => Upgrade::Http2,
                    _ => Upgrade::Other,
                });
                self.http2_offer.push(place);
                Ok(())
            }
        }
    }

    fn body(&self, line: &RequestLine<'_>) -> Result<Body, Fault> {
        if self.is_chunked && line.is_old {
            return Err(BODY_GARBLED);
        }
        let body = if self.is_chunked {
            Body::Chunked
        } else {
            Body::Length(self.length.unwrap_or(0))
        };
        // Many servers read no body here and take it for the next request (RFC 9110 section 9.3.1).
        let has_none = [b"GET".as_slice(), b"HEAD", b"TRACE"];
        let is_one = |method: &&[u8]| line.method.eq_ignore_ascii_case(method);
        if body != Body::Length(0) && has_none.iter().any(is_one) {
            return Err(Fault::Smuggling(
                "the HTTP request has a body although its method has none",
            ));
        }
        Ok(body)
    }

    fn upgrade(&self, line: &RequestLine<'_>) -> Result<bool, Fault> {
        match self.upgrade {
            None | Some(Upgrade::Http2) => Ok(false),
            Some(Upgrade::WebSocket) if line.method == b"GET" && !line.is_old => Ok(true),
            Some(Upgrade::WebSocket | Upgrade::Other) => Err(Fault::Upgrade(
                "the HTTP request asks for another protocol (Upgrade), which cannot be checked",
            )),
        }
    }
}

/// Fields that say where a request goes or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Expect,
    Connection,
    Upgrade,
}

impl Known {
    fn of(name: &[u8]) -> Option<Self> {
        let all = [
            ("host", Self::Host),
            ("content-length", Self::ContentLength),
            ("transfer-encoding", Self::TransferEncoding),
            ("expect", Self::Expect),
            ("connection", Self::Connection),
            ("upgrade", Self::Upgrade),
        ];
        let is_same = |known: &str| {
            known.len() == name.len()
                && known.bytes().zip(name).all(|(known, &byte)| {
                    known == byte.to_ascii_lowercase() || (known == b'-' && byte == b'_')
                })
        };
        all.into_iter()
            .find(|(known, _)| is_same(known))
            .map(|(_, known)| known)
    }

    fn is_end_to_end(self) -> bool {
        matches!(
            self,
            Self::Host | Self::ContentLength | Self::TransferEncoding | Self::Expect
        )
    }
}

/// Splits a field line into name and value, without the white space around the value.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Fault::Malformed(
            "the HTTP request continues a field on the next line",
        ));
    }
    let malformed = Fault::Malformed("the HTTP request has a malformed field");
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(malformed)?;
    let (name, value) = line.split_at_checked(colon).ok_or(malformed)?;
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(malformed);
    }
    let value = value.get(1..).unwrap_or_default();
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte));
    let end = value.iter().rposition(|byte| !is_blank(byte));
    Ok(match (start, end) {
        (Some(start), Some(end)) => (name, value.get(start..=end).unwrap_or_default()),
        _ => (name, &[]),
    })
}

/// A line of the trailer section: a field that says nothing about host or framing.
pub(super) fn check_trailer(line: &[u8]) -> Result<(), Fault> {
    let (name, _) = split_field(line)?;
    match Known::of(name) {
        None => Ok(()),
        Some(_) => Err(BODY_GARBLED),
    }
}

/// Where the first line that ends before `limit` ends, its line feed included; none when there is no line end yet.
///
/// # Errors
/// A line feed without carriage return, a forbidden character, or a line beyond the limit.
pub(super) fn line_end(bytes: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
    let Some(feed) = bytes.iter().take(limit).position(|&byte| byte == b'\n') else {
        return if bytes.len() >= limit {
            Err(too_long(limit))
        } else {
            Ok(None)
        };
    };
    let line = bytes.get(..feed).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else {
        return Err(Fault::Malformed(
            "the HTTP request has a line that does not end in CR LF",
        ));
    };
    check_line(line)?;
    Ok(Some(feed + 1))
}

fn too_long(limit: usize) -> Fault {
    if limit >= HEAD_LIMIT {
        Fault::Malformed("the head of the HTTP request is longer than 64 KiB")
    } else {
        Fault::Smuggling("the HTTP request has a chunk line or trailer that is too long")
    }
}
