//! DNS messages for the tests: built byte by byte, so that malformed ones can be built too, and read leniently.
//!
//! Must not be used by the product: it checks nothing. Format: RFC 1035 section 4.

/// One question of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsQuestion {
    /// Labels as bytes; they may hold anything.
    pub labels: Vec<Vec<u8>>,
    /// Type number.
    pub record_type: u16,
    /// Class number, 1 for IN.
    pub class: u16,
}

impl DnsQuestion {
    /// Makes a question of class IN from a dotted name; `\DDD` stands for a byte and `\.` for a dot in a label.
    #[must_use]
    pub fn new(name: &str, record_type: u16) -> Self {
        Self {
            labels: labels_of(name),
            record_type,
            class: 1,
        }
    }

    /// The name in presentation form, without the final dot.
    #[must_use]
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|label| escape(label)).collect();
        labels.join(".")
    }
}

/// What goes into the header of a query besides the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsHeader {
    /// Message id.
    pub id: u16,
    /// The 16 bits of flags; 0x0100 asks for recursion.
    pub flags: u16,
    /// UDP payload size of an EDNS option record (RFC 6891), if there is one.
    pub edns_payload: Option<u16>,
    /// Number of questions to claim, when it should differ from those that are there.
    pub claimed_questions: Option<u16>,
}

impl Default for DnsHeader {
    fn default() -> Self {
        Self {
            id: 0x5243,
            flags: 0x0100,
            edns_payload: None,
            claimed_questions: None,
        }
    }
}

/// Builds a query.
#[must_use]
pub fn build(header: DnsHeader, questions: &[DnsQuestion]) -> Vec<u8> {
    let count = u16::try_from(questions.len()).unwrap_or(u16::MAX);
    let mut message = Vec::new();
    let additional = u16::from(header.edns_payload.is_some());
    for word in [
        header.id,
        header.flags,
        header.claimed_questions.unwrap_or(count),
        0,
        0,
        additional,
    ] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    for question in questions {
        for label in &question.labels {
            message.push(u8::try_from(label.len()).unwrap_or(63));
            message.extend_from_slice(label);
        }
        message.push(0);
        message.extend_from_slice(&question.record_type.to_be_bytes());
        message.extend_from_slice(&question.class.to_be_bytes());
    }
    if let Some(size) = header.edns_payload {
        // Root name, type OPT, payload size in the class field, no extended flags, no options.
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    message
}

/// A message as far as tests look at one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsMessage {
    /// Message id.
    pub id: u16,
    /// Flags.
    pub flags: u16,
    /// Questions.
    pub questions: Vec<DnsQuestion>,
    /// Records of the answer section.
    pub answers: Vec<DnsRecord>,
    /// EDNS options of the additional section, as (code, data); 15 is Extended DNS Error (RFC 8914).
    pub edns_options: Vec<(u16, Vec<u8>)>,
}

impl DnsMessage {
    /// The response code (RFC 1035), 0 to 15.
    #[must_use]
    pub fn response_code(&self) -> u8 {
        u8::try_from(self.flags & 15).unwrap_or_default()
    }

    /// Was the answer cut to fit a datagram?
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// The Extended DNS Error, as (code, text).
    #[must_use]
    pub fn extended_error(&self) -> Option<(u16, String)> {
        let (_, data) = self.edns_options.iter().find(|(code, _)| *code == 15)?;
        let (code, text) = data.split_first_chunk::<2>()?;
        Some((
            u16::from_be_bytes(*code),
            String::from_utf8_lossy(text).into_owned(),
        ))
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// Owner name.
    pub name: String,
    /// Type number.
    pub record_type: u16,
    /// Seconds that it may be cached.
    pub ttl: u32,
    /// Addresses as text, names (CNAME) as names, everything else in hexadecimal.
    pub data: String,
}

/// Reads a message; `None` when it is cut or loops.
#[must_use]
pub fn parse(message: &[u8]) -> Option<DnsMessage> {
    let word = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let mut parsed = DnsMessage {
        id: word(0)?,
        flags: word(2)?,
        ..DnsMessage::default()
    };
    let mut at = 12;
    for _ in 0..word(4)? {
        let (labels, next) = read_name(message, at)?;
        parsed.questions.push(DnsQuestion {
            labels,
            record_type: word(next)?,
            class: word(next + 2)?,
        });
        at = next + 4;
    }
    let sections = [word(6)?, word(8)?, word(10)?];
    for (index, count) in sections.into_iter().enumerate() {
        for _ in 0..count {
            let (labels, next) = read_name(message, at)?;
            let record_type = word(next)?;
            let ttl = u32::from(word(next + 4)?) << 16 | u32::from(word(next + 6)?);
            let start = next + 10;
            at = start + usize::from(word(next + 8)?);
            let data = message.get(start..at)?;
            if index == 0 {
                let name = DnsQuestion {
                    labels,
                    record_type,
                    class: 1,
                }
                .name();
                parsed.answers.push(DnsRecord {
                    name,
                    record_type,
                    ttl,
                    data: show(message, record_type, start, data),
                });
            } else if record_type == 41 {
                parsed.edns_options.extend(read_options(data)?);
            }
        }
    }
    Some(parsed)
}

/// Gives the number of a type: a mnemonic or `TYPEnnn`.
#[must_use]
pub fn type_number(name: &str) -> Option<u16> {
    let known = TYPES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, number)| *number);
    known.or_else(|| name.to_ascii_uppercase().strip_prefix("TYPE")?.parse().ok())
}

/// Gives the mnemonic of a type, or `TYPEnnn`.
#[must_use]
pub fn type_name(number: u16) -> String {
    let known = TYPES
        .iter()
        .find(|(_, known)| *known == number)
        .map(|(name, _)| (*name).to_owned());
    known.unwrap_or_else(|| format!("TYPE{number}"))
}

const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("NULL", 10),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DS", 43),
    ("DNSKEY", 48),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("IXFR", 251),
    ("AXFR", 252),
    ("ANY", 255),
    ("CAA", 257),
];

fn labels_of(name: &str) -> Vec<Vec<u8>> {
    let mut labels = vec![Vec::new()];
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => labels.push(Vec::new()),
            b'\\' => {
                let first = bytes.next().unwrap_or(b'\\');
                let mut rest = bytes.clone();
                let digits = [Some(first), rest.next(), rest.next()];
                let value = digits.into_iter().try_fold(0u32, |value, digit| {
                    digit
                        .filter(u8::is_ascii_digit)
                        .map(|digit| value * 10 + u32::from(digit - b'0'))
                });
                let value = value.and_then(|value| u8::try_from(value).ok());
                if value.is_some() {
                    bytes = rest;
                }
                labels
                    .last_mut()
                    .expect("there is always a label")
                    .push(value.unwrap_or(first));
            }
            other => labels
                .last_mut()
                .expect("there is always a label")
                .push(other),
        }
    }
    labels.retain(|label| !label.is_empty());
    labels
}

fn escape(label: &[u8]) -> String {
    let mut text = String::new();
    for byte in label {
        match byte {
            b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x21..=0x7e => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\{other:03}")),
        }
    }
    text
}

/// Reads a name, following compression pointers (RFC 1035 4.1.4) at most 64 times.
fn read_name(message: &[u8], mut at: usize) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut labels = Vec::new();
    let mut end = None;
    for _ in 0..128 {
        let length = *message.get(at)?;
        match length {
            0 => return Some((labels, end.unwrap_or(at + 1))),
            0xc0.. => {
                end = end.or(Some(at + 2));
                at = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
            }
            _ => {
                let start = at + 1;
                at = start + usize::from(length);
                labels.push(message.get(start..at)?.to_vec());
            }
        }
    }
    None
}

fn read_options(mut data: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut options = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<4>() {
        let code = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        options.push((code, rest.get(..length)?.to_vec()));
        data = rest.get(length..)?;
    }
    Some(options)
}

fn show(message: &[u8], record_type: u16, start: usize, data: &[u8]) -> String {
    let name = |at| {
        read_name(message, at).map(|(labels, _)| {
            DnsQuestion {
                labels,
                record_type,
                class: 1,
            }
            .name()
        })
    };
    let text = match (record_type, data.len()) {
        (1, 4) => data
            .first_chunk::<4>()
            .map(|bytes| std::net::Ipv4Addr::from(*bytes).to_string()),
        (28, 16) => data
            .first_chunk::<16>()
            .map(|bytes| std::net::Ipv6Addr::from(*bytes).to_string()),
        (2 | 5 | 12, _) => name(start),
        _ => None,
    };
    text.unwrap_or_else(|| data.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_round_trip() {
        let question = DnsQuestion::new(r"a\000b.x\.y.example", 16);
        let parsed = parse(&build(
            DnsHeader {
                edns_payload: Some(1232),
                ..DnsHeader::default()
            },
            std::slice::from_ref(&question),
        ))
        .unwrap();
        assert_eq!(parsed.questions, std::slice::from_ref(&question));
        assert_eq!(
            question.labels,
            [b"a\0b".to_vec(), b"x.y".to_vec(), b"example".to_vec()]
        );
        assert_eq!(question.name(), r"a\000b.x\.y.example");
    }

    #[test]
    fn a_pointer_loop_is_not_followed_for_ever() {
        let mut message = build(DnsHeader::default(), &[]);
        message[5] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(parse(&message), None);
    }
}
