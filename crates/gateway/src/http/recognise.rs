//! Tells from the first line of a client whether it speaks HTTP/1.
//!
//! Wide where servers are: a line that any server could take for a request line is one, and the strict parser then judges it. Must
//! not take a line for something else before its end, because nothing happens at an HTTP server before that.

use super::HEAD_LIMIT;

/// What a client's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The first line is not over. It may go on to a server that waits for something else, except its line end.
    Open {
        /// It begins as requests do.
        likely: bool,
    },
    /// A request line, well-formed or not.
    Http,
    /// The header of the PROXY protocol, behind which anything could follow.
    ProxyProtocol,
    /// Something else.
    Other,
}

/// Version 2 of the header of the PROXY protocol (haproxy, `doc/proxy-protocol.txt`, section 2.2).
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 1, section 2.1.
const PROXY_V1: &[u8] = b"PROXY ";

/// Looks at everything that a client has said so far.
pub(crate) fn recognise(bytes: &[u8]) -> Opening {
    if PROXY_V2.starts_with(bytes) && !bytes.is_empty() {
        return if bytes == PROXY_V2 {
            Opening::ProxyProtocol
        } else {
            Opening::Open { likely: true }
        };
    }
    if bytes.starts_with(PROXY_V1) || bytes.starts_with(PROXY_V2) {
        return Opening::ProxyProtocol;
    }
    let Some(start) = bytes.iter().position(|&byte| !is_space(byte)) else {
        let is_long = bytes.len() > HEAD_LIMIT;
        return if is_long {
            Opening::Http
        } else {
            Opening::Open { likely: true }
        };
    };
    let request = bytes.get(start..).unwrap_or_default();
    let method = request.iter().take_while(|&&byte| is_token(byte)).count();
    match request.get(method) {
        None if method > HEAD_LIMIT => return Opening::Other,
        None => {}
        // A control character or a colon, say: no server reads a method in front of it.
        Some(&byte) if method == 0 || !is_space(byte) => return Opening::Other,
        // One word on a line.
        Some(b'\n') => return Opening::Other,
        Some(_) => {}
    }
    let likely = request.first().is_some_and(u8::is_ascii_alphabetic);
    match request.iter().position(|&byte| byte == b'\n') {
        // The few servers that read on take no control characters.
        None if request.len() > HEAD_LIMIT && !request.iter().any(|&byte| is_control(byte)) => {
            Opening::Http
        }
        None if request.len() > HEAD_LIMIT => Opening::Other,
        None => Opening::Open { likely },
        Some(end) if is_request_line(request.get(..end).unwrap_or_default()) => Opening::Http,
        Some(_) => Opening::Other,
    }
}

/// Tells whether a line says a version of HTTP, or is a request from before there were versions.
fn is_request_line(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| is_space(byte) || byte == 0);
    let has_version = words.any(|word| {
        word.get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
    });
    let is_simple = line.strip_prefix(b"GET ").is_some_and(|target| {
        let target = target.trim_ascii_start();
        target.starts_with(b"/") || target.starts_with(b"http")
    });
    has_version || is_simple
}

/// What some server takes for white space or skips.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !is_space(byte)
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
