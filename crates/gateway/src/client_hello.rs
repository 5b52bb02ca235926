//! Reads the server name out of a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Strict where two parsers could disagree about the name: what is malformed, doubled or of an unknown form is an error, never
//! "no name". Must not accept a name from anything but a complete message.

/// Longest opening that is looked at, records' headers included, in bytes. Hellos with post-quantum keys have about 2 KiB.
pub(crate) const HELLO_LIMIT: usize = 32 << 10;

const RECORD_HEADER: usize = 5;
const RECORD_HANDSHAKE: u8 = 22;
/// Content types of records (RFC 8446 section 5.1, RFC 6520).
const RECORDS: std::ops::RangeInclusive<u8> = 20..=24;
/// First bytes of a hello in the form of SSL 2.0 that is not longer than servers take: a length with the highest bit set.
const OLD_HELLO: std::ops::RangeInclusive<u8> = 0x80..=0xc1;
/// Longest payload of a plaintext record (RFC 8446 section 5.1).
const RECORD_LIMIT: usize = 1 << 14;
const MESSAGE_HEADER: usize = 4;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
/// Encrypted Client Hello (RFC 9849): the name in plain sight is not the one that counts.
const EXTENSION_ENCRYPTED_HELLO: u16 = 0xfe0d;
const NAME_TYPE_HOST: u8 = 0;

/// What the first bytes of a client are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a handshake; at least this many bytes in total are needed to go on.
    Incomplete(usize),
    /// No TLS handshake.
    NotTls,
    /// A complete hello, in so many bytes.
    Hello { hello: Hello, length: usize },
    /// A handshake that breaks the rules.
    Malformed,
}

/// The part of a hello that says where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) server_name: Option<Vec<u8>>,
    pub(crate) is_encrypted: bool,
}

/// Looks at everything that a client has said so far.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    match bytes {
        [] => return Parsed::Incomplete(1),
        [first, ..] if OLD_HELLO.contains(first) => return old_hello(bytes),
        [first, ..] if !RECORDS.contains(first) => return Parsed::NotTls,
        [_] => return Parsed::Incomplete(2),
        [_, major, ..] if *major != 3 => return Parsed::NotTls,
        // Some servers skip a warning in front of the hello.
        [first, ..] if *first != RECORD_HANDSHAKE => return Parsed::Malformed,
        _ => {}
    }
    // A message may be spread over any number of records.
    let mut message = Vec::new();
    let mut rest = bytes;
    let mut consumed = 0;
    loop {
        if let Some(header) = message.first_chunk::<MESSAGE_HEADER>() {
            let [kind, length @ ..] = *header;
            if kind != MESSAGE_CLIENT_HELLO {
                return Parsed::Malformed;
            }
            let length =
                usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if length > HELLO_LIMIT {
                return Parsed::Malformed;
            }
            // What follows the hello belongs behind the server's answer, and into a record of its own.
            if message.len() > MESSAGE_HEADER + length {
                return Parsed::Malformed;
            }
            if let Some(body) = message.get(MESSAGE_HEADER..MESSAGE_HEADER + length) {
                return match parse_body(body) {
                    None => Parsed::Malformed,
                    Some(hello) => Parsed::Hello {
                        hello,
                        length: consumed,
                    },
                };
            }
        }
        let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            return Parsed::Incomplete(consumed + RECORD_HEADER);
        };
        let [kind, major, _minor, length @ ..] = *header;
        let length = usize::from(u16::from_be_bytes(length));
        if kind != RECORD_HANDSHAKE || major != 3 || length == 0 || length > RECORD_LIMIT {
            return Parsed::Malformed;
        }
        consumed += RECORD_HEADER + length;
        let Some((payload, after)) = after.split_at_checked(length) else {
            return Parsed::Incomplete(consumed);
        };
        message.extend_from_slice(payload);
        rest = after;
    }
}

/// A hello in the form of SSL 2.0, which some servers of TLS still take (RFC 5246 appendix E.2). It cannot carry a name.
fn old_hello(bytes: &[u8]) -> Parsed {
    match bytes {
        [_, _, MESSAGE_CLIENT_HELLO, 0, 2, ..] | [_, _, MESSAGE_CLIENT_HELLO, 3, ..] => {
            let hello = Hello {
                server_name: None,
                is_encrypted: false,
            };
            Parsed::Hello {
                hello,
                length: bytes.len(),
            }
        }
        [_, _] | [_, _, MESSAGE_CLIENT_HELLO] | [_, _, MESSAGE_CLIENT_HELLO, 0] => {
            Parsed::Incomplete(bytes.len() + 1)
        }
        [_] => Parsed::Incomplete(2),
        _ => Parsed::NotTls,
    }
}

/// Takes lengths and fields from the front of a slice.
struct Fields<'hello>(&'hello [u8]);

impl<'hello> Fields<'hello> {
    fn take(&mut self, length: usize) -> Option<&'hello [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A vector with a length of one byte.
    fn short(&mut self) -> Option<&'hello [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A vector with a length of two bytes.
    fn long(&mut self) -> Option<&'hello [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

/// Looks at the body of a ClientHello, without the message's header; none when it breaks the rules.
pub(crate) fn parse_body(body: &[u8]) -> Option<Hello> {
    let mut fields = Fields(body);
    let _version = fields.number()?;
    let _random = fields.take(32)?;
    let session = fields.short()?;
    let suites = fields.long()?;
    let compressions = fields.short()?;
    if session.len() > 32
        || suites.is_empty()
        || !suites.len().is_multiple_of(2)
        || compressions.is_empty()
    {
        return None;
    }
    let mut hello = Hello {
        server_name: None,
        is_encrypted: false,
    };
    if fields.0.is_empty() {
        // Before TLS 1.3 a hello may end here.
        return Some(hello);
    }
    let mut extensions = Fields(fields.long()?);
    if !fields.0.is_empty() {
        return None;
    }
    let mut has_name = false;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let data = extensions.long()?;
        match kind {
            EXTENSION_SERVER_NAME if has_name => return None,
            EXTENSION_SERVER_NAME => {
                has_name = true;
                hello.server_name = Some(server_name(data)?);
            }
            EXTENSION_ENCRYPTED_HELLO => hello.is_encrypted = true,
            _ => {}
        }
    }
    Some(hello)
}

/// The one host name of the extension. Other types of names were never defined.
fn server_name(data: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields(data);
    let mut list = Fields(fields.long()?);
    let kind = list.byte()?;
    let name = list.long()?;
    let is_whole =
        fields.0.is_empty() && list.0.is_empty() && kind == NAME_TYPE_HOST && !name.is_empty();
    is_whole.then(|| name.to_vec())
}

#[cfg(test)]
mod tests;
