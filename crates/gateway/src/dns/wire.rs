//! Bytes of DNS messages: a bounds-checked reader, header fields and the numbers that the gateway knows.
//!
//! Must not decide anything and must not allocate in proportion to a length that the sender merely claims.

use std::fmt;

/// Length of the fixed header in bytes (RFC 1035 section 4.1.1).
pub(crate) const HEADER_LENGTH: usize = 12;
/// Longest name in its uncompressed wire form, root label included (RFC 1035 section 3.1).
pub(crate) const NAME_LIMIT: usize = 255;
/// Longest label in bytes (RFC 1035 section 3.1).
pub(crate) const LABEL_LIMIT: usize = 63;

/// Header bit QR: the message is a response.
pub(crate) const FLAG_RESPONSE: u16 = 0x8000;
/// Header bit TC: the message was cut to fit the transport.
pub(crate) const FLAG_TRUNCATED: u16 = 0x0200;
/// Header bit RD: recursion desired.
pub(crate) const FLAG_RECURSION_DESIRED: u16 = 0x0100;
/// Header bit RA: recursion available.
pub(crate) const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
/// The four bits of OPCODE; zero is QUERY.
pub(crate) const MASK_OPCODE: u16 = 0x7800;
/// The four bits of RCODE.
pub(crate) const MASK_RCODE: u16 = 0x000f;

/// Class IN (RFC 1035 section 3.2.4).
pub(crate) const CLASS_IN: u16 = 1;

/// A message that ends too early, points outside of itself or breaks a length rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Response codes that the gateway sends or understands (IANA "DNS RCODEs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rcode(pub(crate) u16);

impl Rcode {
    pub(crate) const NO_ERROR: Self = Self(0);
    pub(crate) const FORMAT_ERROR: Self = Self(1);
    pub(crate) const SERVER_FAILURE: Self = Self(2);
    pub(crate) const NX_DOMAIN: Self = Self(3);
    pub(crate) const NOT_IMPLEMENTED: Self = Self(4);
    pub(crate) const REFUSED: Self = Self(5);
    /// The OPT record's version is not spoken here (RFC 6891 section 6.1.3).
    pub(crate) const BAD_VERSION: Self = Self(16);
}

impl fmt::Display for Rcode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NO_ERROR => formatter.write_str("NOERROR"),
            Self::FORMAT_ERROR => formatter.write_str("FORMERR"),
            Self::SERVER_FAILURE => formatter.write_str("SERVFAIL"),
            Self::NX_DOMAIN => formatter.write_str("NXDOMAIN"),
            Self::NOT_IMPLEMENTED => formatter.write_str("NOTIMP"),
            Self::REFUSED => formatter.write_str("REFUSED"),
            Self::BAD_VERSION => formatter.write_str("BADVERS"),
            Self(other) => write!(formatter, "RCODE{other}"),
        }
    }
}

/// A record type (IANA "Resource Record (RR) TYPEs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordType(pub(crate) u16);

macro_rules! record_types {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl RecordType {
            $($(#[$doc])* pub(crate) const $name: Self = Self($number);)*
        }
        impl fmt::Display for RecordType {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => formatter.write_str($text),)*
                    // The spelling of RFC 3597 section 5.
                    Self(other) => write!(formatter, "TYPE{other}"),
                }
            }
        }
    };
}

record_types! {
    A = 1, "A";
    NS = 2, "NS";
    CNAME = 5, "CNAME";
    SOA = 6, "SOA";
    NULL = 10, "NULL";
    PTR = 12, "PTR";
    HINFO = 13, "HINFO";
    MX = 15, "MX";
    TXT = 16, "TXT";
    AAAA = 28, "AAAA";
    SRV = 33, "SRV";
    NAPTR = 35, "NAPTR";
    OPT = 41, "OPT";
    SSHFP = 44, "SSHFP";
    TLSA = 52, "TLSA";
    SVCB = 64, "SVCB";
    HTTPS = 65, "HTTPS";
    IXFR = 251, "IXFR";
    AXFR = 252, "AXFR";
    ANY = 255, "ANY";
    URI = 256, "URI";
    CAA = 257, "CAA";
}

/// Reads a message from front to back; every step is checked against the end.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'message> {
    message: &'message [u8],
    position: usize,
}

impl<'message> Reader<'message> {
    pub(crate) fn new(message: &'message [u8]) -> Self {
        Self {
            message,
            position: 0,
        }
    }

    /// The whole message: compression pointers count from its first byte.
    pub(crate) fn message(&self) -> &'message [u8] {
        self.message
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.position == self.message.len()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'message [u8], Malformed> {
        let end = self.position.checked_add(length).ok_or(Malformed)?;
        let bytes = self.message.get(self.position..end).ok_or(Malformed)?;
        self.position = end;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    pub(crate) fn number16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?.try_into().map_err(|_| Malformed)?;
        Ok(u16::from_be_bytes(bytes))
    }

    pub(crate) fn number32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_be_bytes(bytes))
    }
}

/// The six numbers at the front of every message (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) questions: u16,
    pub(crate) answers: u16,
    pub(crate) authorities: u16,
    pub(crate) additionals: u16,
}

impl Header {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: reader.number16()?,
            flags: reader.number16()?,
            questions: reader.number16()?,
            answers: reader.number16()?,
            authorities: reader.number16()?,
            additionals: reader.number16()?,
        })
    }

    pub(crate) fn write(&self, message: &mut Vec<u8>) {
        for number in [
            self.id,
            self.flags,
            self.questions,
            self.answers,
            self.authorities,
            self.additionals,
        ] {
            message.extend_from_slice(&number.to_be_bytes());
        }
    }
}
