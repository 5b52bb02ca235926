//! Recognises what protocol a client speaks by its first bytes, to refuse it in a form it understands.
//!
//! A wrong guess costs a client nothing but the explanation. Must not be used to decide whether something is allowed.

/// What the first bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A request line of HTTP/1 (RFC 9112 section 3).
    Http,
    /// A TLS handshake record (RFC 8446 section 5.1).
    Tls,
    /// Neither.
    Other,
    /// Too few bytes to tell.
    Undecided,
}

/// Longest method that is recognised, in bytes. The longest registered one has 17 letters (UPDATEREDIRECTREF).
const METHOD_LIMIT: usize = 17;
/// Content type "handshake" and the major version of every TLS.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// Looks at the first bytes of a client.
pub(crate) fn opening(bytes: &[u8]) -> Opening {
    match bytes {
        [] => return Opening::Undecided,
        [first] if *first == TLS_HANDSHAKE[0] => return Opening::Undecided,
        [first, second, ..] if [*first, *second] == TLS_HANDSHAKE => return Opening::Tls,
        _ => {}
    }
    // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let request = start
        .and_then(|start| bytes.get(start..))
        .unwrap_or_default();
    let letters = request
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    match request.get(letters) {
        _ if letters > METHOD_LIMIT => Opening::Other,
        None => Opening::Undecided,
        Some(b' ') if letters >= 3 => Opening::Http,
        Some(_) => Opening::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_recognised_from_their_shortest_form() {
        let cases: [(&[u8], Opening); 12] = [
            (b"", Opening::Undecided),
            (b"G", Opening::Undecided),
            (b"GET", Opening::Undecided),
            (b"GET ", Opening::Http),
            (b"\r\n\r\nPROPFIND /", Opening::Http),
            (b"\x16", Opening::Undecided),
            (b"\x16\x03", Opening::Tls),
            (b"\x16\x04", Opening::Other),
            (b"SSH-2.0-x", Opening::Other),
            (b"get / ", Opening::Other),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Opening::Other),
            (b"\0", Opening::Other),
        ];
        for (bytes, expected) in cases {
            assert_eq!(opening(bytes), expected, "{bytes:?}");
        }
    }
}
