//! Answers as values, and their encoding.
//!
//! Names in answers are written without compression except for the one pointer to the question. Must not copy bytes of an
//! upstream message: records come in already parsed and rebuilt.

use std::net::IpAddr;

use super::name::WireName;
use super::query::{Edns, Query, Question, Rejected};
use super::wire::{
    CLASS_IN, FLAG_RECURSION_AVAILABLE, FLAG_RESPONSE, FLAG_TRUNCATED, HEADER_LENGTH, Header,
    MASK_RCODE, Rcode, RecordType,
};

/// Smallest UDP answer every client takes (RFC 1035 section 4.2.1), in bytes.
const UDP_LIMIT_PLAIN: usize = 512;
/// Largest UDP answer the gateway sends, in bytes: the size of the DNS flag day 2020, also announced in our own OPT.
pub(crate) const UDP_LIMIT_EDNS: u16 = 1232;
/// Longest text of an Extended DNS Error that is sent, in bytes.
const ERROR_TEXT_LIMIT: usize = 400;
/// EDNS option code of Extended DNS Errors (RFC 8914 section 2).
const OPTION_EXTENDED_ERROR: u16 = 15;
/// Pointer to the name at offset 12, which is the question's.
const QUESTION_POINTER: [u8; 2] = [0xc0, 0x0c];

/// Info codes of Extended DNS Errors (RFC 8914 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub(crate) u16);

impl ErrorCode {
    pub(crate) const OTHER: Self = Self(0);
    /// "Blocked": by policy of the server's operator, which is the user here.
    pub(crate) const BLOCKED: Self = Self(15);
    pub(crate) const NOT_READY: Self = Self(14);
    pub(crate) const NOT_SUPPORTED: Self = Self(21);
    pub(crate) const NETWORK_ERROR: Self = Self(23);
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) owner: WireName,
    pub(crate) kind: RecordType,
    /// Seconds.
    pub(crate) ttl: u32,
    /// Contents, free of compression pointers.
    pub(crate) data: Vec<u8>,
}

impl Record {
    pub(crate) fn address(owner: WireName, address: IpAddr, ttl: u32) -> Self {
        let (kind, data) = match address {
            IpAddr::V4(address) => (RecordType::A, address.octets().to_vec()),
            IpAddr::V6(address) => (RecordType::AAAA, address.octets().to_vec()),
        };
        Self {
            owner,
            kind,
            ttl,
            data,
        }
    }
}

/// What a query gets back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) rcode: Rcode,
    pub(crate) records: Vec<Record>,
    /// Code and plain sentence for people, sent when the client spoke EDNS.
    pub(crate) error: Option<(ErrorCode, String)>,
}

impl Answer {
    /// An answer without records.
    pub(crate) fn empty(rcode: Rcode) -> Self {
        Self {
            rcode,
            records: Vec::new(),
            error: None,
        }
    }

    pub(crate) fn with_error(rcode: Rcode, code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            rcode,
            records: Vec::new(),
            error: Some((code, text.into())),
        }
    }

    pub(crate) fn records(records: Vec<Record>) -> Self {
        Self {
            rcode: Rcode::NO_ERROR,
            records,
            error: None,
        }
    }
}

/// How the answer travels, which limits its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Udp,
    Tcp,
}

/// Encodes the answer to a query, cut to a truncated empty one when it does not fit.
pub(crate) fn encode(query: &Query, answer: &Answer, carrier: Carrier) -> Vec<u8> {
    let parts = Parts {
        id: query.id,
        echoed_flags: query.echoed_flags,
        question: Some(&query.question),
        edns: query.edns,
    };
    parts.encode(answer, carrier)
}

/// Encodes the answer to a message that was not a query the gateway takes.
pub(crate) fn encode_rejected(rejected: &Rejected, carrier: Carrier) -> Vec<u8> {
    let parts = Parts {
        id: rejected.id,
        echoed_flags: rejected.echoed_flags,
        question: rejected.question.as_ref(),
        edns: rejected.edns,
    };
    parts.encode(&Answer::empty(rejected.rcode), carrier)
}

struct Parts<'query> {
    id: u16,
    echoed_flags: u16,
    question: Option<&'query Question>,
    edns: Option<Edns>,
}

impl Parts<'_> {
    fn limit(&self, carrier: Carrier) -> usize {
        match (carrier, self.edns) {
            (Carrier::Tcp, _) => usize::from(u16::MAX),
            (Carrier::Udp, None) => UDP_LIMIT_PLAIN,
            (Carrier::Udp, Some(edns)) => {
                usize::from(edns.payload_size.min(UDP_LIMIT_EDNS)).max(UDP_LIMIT_PLAIN)
            }
        }
    }

    fn encode(&self, answer: &Answer, carrier: Carrier) -> Vec<u8> {
        let limit = self.limit(carrier);
        let message = self.write(answer, &answer.records, Cut::Whole);
        if message.len() <= limit {
            return message;
        }
        // Only TCP's own limit of 64 KiB, or a client without EDNS, comes here. Half a record set would be believed, so
        // nothing of it is sent.
        let bare = Answer {
            error: None,
            ..answer.clone()
        };
        self.write(&bare, &[], Cut::Truncated)
    }

    fn write(&self, answer: &Answer, records: &[Record], cut: Cut) -> Vec<u8> {
        let mut flags = FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | self.echoed_flags;
        flags |= answer.rcode.0 & MASK_RCODE;
        if cut == Cut::Truncated {
            flags |= FLAG_TRUNCATED;
        }
        let header = Header {
            id: self.id,
            flags,
            questions: u16::from(self.question.is_some()),
            answers: u16::try_from(records.len()).unwrap_or(u16::MAX),
            authorities: 0,
            additionals: u16::from(self.edns.is_some()),
        };
        let mut message = Vec::with_capacity(HEADER_LENGTH + 64 + records.len() * 32);
        header.write(&mut message);
        if let Some(question) = self.question {
            message.extend_from_slice(question.name.octets());
            message.extend_from_slice(&question.kind.0.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
        }
        for record in records {
            if self
                .question
                .is_some_and(|question| question.name == record.owner)
            {
                message.extend_from_slice(&QUESTION_POINTER);
            } else {
                message.extend_from_slice(record.owner.octets());
            }
            message.extend_from_slice(&record.kind.0.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
            message.extend_from_slice(&record.ttl.to_be_bytes());
            write_sized(&mut message, &record.data);
        }
        if self.edns.is_some() {
            write_opt(&mut message, answer);
        }
        message
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    Truncated,
}

/// Appends a 16-bit length and the bytes. Longer data than 64 KiB cannot come out of a parsed message; it would be cut.
fn write_sized(message: &mut Vec<u8>, data: &[u8]) {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(data.get(..usize::from(length)).unwrap_or(data));
}

/// Appends our OPT record (RFC 6891 section 6.1.2) with the explanation, if there is one.
fn write_opt(message: &mut Vec<u8>, answer: &Answer) {
    message.push(0);
    message.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
    message.extend_from_slice(&UDP_LIMIT_EDNS.to_be_bytes());
    let [_, extended_rcode] = (answer.rcode.0 >> 4).to_be_bytes();
    message.extend_from_slice(&[extended_rcode, 0, 0, 0]);
    let mut options = Vec::new();
    if let Some((code, text)) = &answer.error {
        let mut end = text.len().min(ERROR_TEXT_LIMIT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        options.extend_from_slice(&OPTION_EXTENDED_ERROR.to_be_bytes());
        let mut option = code.0.to_be_bytes().to_vec();
        option.extend_from_slice(text.as_bytes());
        write_sized(&mut options, &option);
    }
    write_sized(message, &options);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wire::Reader;

    fn query(edns: Option<Edns>) -> Query {
        Query {
            id: 0x1234,
            echoed_flags: 0x0100,
            question: Question {
                name: WireName::from_text("wWw.example.com").unwrap(),
                kind: RecordType::A,
            },
            edns,
        }
    }

    fn header(message: &[u8]) -> Header {
        Header::read(&mut Reader::new(message)).unwrap()
    }

    #[test]
    fn addresses_point_to_the_question_and_keep_its_case() {
        let owner = WireName::from_text("www.example.com").unwrap();
        let answer = Answer::records(vec![Record::address(owner, [198, 18, 1, 0].into(), 60)]);
        let message = encode(&query(None), &answer, Carrier::Udp);
        let expected = [
            b"\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00".as_slice(),
            b"\x03wWw\x07example\x03com\x00\x00\x01\x00\x01",
            b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc6\x12\x01\x00",
        ]
        .concat();
        assert_eq!(message, expected);
    }

    #[test]
    fn the_explanation_needs_edns() {
        let answer = Answer::with_error(Rcode::REFUSED, ErrorCode::BLOCKED, "not allowed");
        let plain = encode(&query(None), &answer, Carrier::Udp);
        assert_eq!(header(&plain).additionals, 0);
        let with = encode(
            &query(Some(Edns { payload_size: 1232 })),
            &answer,
            Carrier::Udp,
        );
        assert_eq!(header(&with).flags & MASK_RCODE, 5);
        assert!(with.ends_with(b"\x00\x11\x00\x0f\x00\x0d\x00\x0fnot allowed"));
        let long = Answer::with_error(Rcode::REFUSED, ErrorCode::BLOCKED, "ä".repeat(4000));
        let with = encode(
            &query(Some(Edns { payload_size: 1232 })),
            &long,
            Carrier::Udp,
        );
        assert!(with.len() < 512 && header(&with).flags & FLAG_TRUNCATED == 0);
    }

    #[test]
    fn what_does_not_fit_is_cut_to_nothing() {
        let owner = WireName::from_text("www.example.com").unwrap();
        let record = Record {
            owner,
            kind: RecordType::TXT,
            ttl: 1,
            data: vec![b'x'; 250],
        };
        let answer = Answer::records(vec![record; 6]);
        let cases = [
            (None, Carrier::Udp, true),
            (Some(Edns { payload_size: 4096 }), Carrier::Udp, true),
            (Some(Edns { payload_size: 0 }), Carrier::Udp, true),
            (None, Carrier::Tcp, false),
        ];
        for (edns, carrier, cut) in cases {
            let message = encode(&query(edns), &answer, carrier);
            let header = header(&message);
            assert_eq!(header.flags & FLAG_TRUNCATED != 0, cut);
            assert_eq!(header.answers, if cut { 0 } else { 6 });
        }
    }
}
