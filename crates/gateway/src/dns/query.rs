//! The strict parser of what clients inside the sandbox send to port 53.
//!
//! A query is one question of class IN, optionally with one OPT record, and nothing else. Everything else is answered with an
//! error at once. Must not keep any byte of the client's message beyond the question name and the sizes it needs.

use super::name::WireName;
use super::wire::{
    CLASS_IN, FLAG_RECURSION_DESIRED, FLAG_RESPONSE, HEADER_LENGTH, Header, MASK_OPCODE, Malformed,
    Rcode, Reader, RecordType,
};

/// What a client asked, reduced to what an answer needs.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Echoed in the answer.
    pub(crate) id: u16,
    /// OPCODE and RD of the query; both are echoed.
    pub(crate) echoed_flags: u16,
    pub(crate) question: Question,
    pub(crate) edns: Option<Edns>,
}

/// The one question.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Spelled exactly as the client did: some clients check the case of the echo.
    pub(crate) name: WireName,
    pub(crate) kind: RecordType,
}

/// What the client's OPT record said (RFC 6891 section 6.1). Its options are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    /// Largest UDP answer in bytes that the client takes.
    pub(crate) payload_size: u16,
}

/// A message that is not a query the gateway takes, with the answer it gets.
#[derive(Debug, Clone)]
pub(crate) struct Rejected {
    pub(crate) id: u16,
    pub(crate) echoed_flags: u16,
    pub(crate) rcode: Rcode,
    /// Set when exactly one question was readable.
    pub(crate) question: Option<Question>,
    pub(crate) edns: Option<Edns>,
    /// Why, as a code for the audit log.
    pub(crate) reason: &'static str,
}

/// Parses one message from inside the sandbox.
///
/// # Errors
/// `None` means that not even a header was there, so no answer is possible.
pub(crate) fn parse(message: &[u8]) -> Result<Query, Option<Rejected>> {
    let mut reader = Reader::new(message);
    let header = Header::read(&mut reader).map_err(|Malformed| None)?;
    let rejected = |rcode, reason| Rejected {
        id: header.id,
        echoed_flags: header.flags & (MASK_OPCODE | FLAG_RECURSION_DESIRED),
        rcode,
        question: None,
        edns: None,
        reason,
    };
    if header.flags & FLAG_RESPONSE != 0 {
        return Err(Some(rejected(Rcode::FORMAT_ERROR, "dns_not_a_query")));
    }
    if header.flags & MASK_OPCODE != 0 {
        return Err(Some(rejected(Rcode::NOT_IMPLEMENTED, "dns_opcode")));
    }
    if header.questions != 1 {
        return Err(Some(rejected(Rcode::FORMAT_ERROR, "dns_question_count")));
    }
    if header.answers != 0 || header.authorities != 0 || header.additionals > 1 {
        return Err(Some(rejected(Rcode::FORMAT_ERROR, "dns_extra_records")));
    }
    let malformed = |Malformed| Some(rejected(Rcode::FORMAT_ERROR, "dns_malformed"));
    debug_assert_eq!(
        reader.position(),
        HEADER_LENGTH,
        "the header has a fixed length"
    );
    let name = WireName::read_plain(&mut reader).map_err(malformed)?;
    let kind = RecordType(reader.number16().map_err(malformed)?);
    let class = reader.number16().map_err(malformed)?;
    let opt = match header.additionals {
        0 => None,
        _ => Some(read_opt(&mut reader).map_err(malformed)?),
    };
    if !reader.is_at_end() {
        return Err(malformed(Malformed));
    }
    let edns = opt.map(|opt| opt.edns);
    let question = Question { name, kind };
    let with_question = |rcode, reason, question| Rejected {
        question: Some(question),
        edns,
        ..rejected(rcode, reason)
    };
    if opt.is_some_and(|opt| opt.version != 0) {
        return Err(Some(with_question(
            Rcode::BAD_VERSION,
            "dns_edns_version",
            question,
        )));
    }
    if class != CLASS_IN {
        // Without the question: an echo would have to carry the class.
        return Err(Some(rejected(Rcode::REFUSED, "dns_class")));
    }
    Ok(Query {
        id: header.id,
        echoed_flags: header.flags & FLAG_RECURSION_DESIRED,
        question,
        edns,
    })
}

#[derive(Clone, Copy)]
struct Opt {
    edns: Edns,
    version: u8,
}

/// Reads the only record that may follow the question.
fn read_opt(reader: &mut Reader<'_>) -> Result<Opt, Malformed> {
    let root = reader.byte()?;
    let kind = RecordType(reader.number16()?);
    if root != 0 || kind != RecordType::OPT {
        return Err(Malformed);
    }
    let payload_size = reader.number16()?;
    let _extended_rcode = reader.byte()?;
    let version = reader.byte()?;
    let _flags = reader.number16()?;
    let length = reader.number16()?;
    reader.take(usize::from(length))?;
    Ok(Opt {
        edns: Edns { payload_size },
        version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(header: [u16; 6], body: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = header
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        bytes.extend_from_slice(body);
        bytes
    }

    const QUESTION: &[u8] = b"\x03wWw\x07example\x03com\x00\x00\x01\x00\x01";
    const OPT: &[u8] = b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00";

    fn rejected(bytes: &[u8]) -> Rejected {
        parse(bytes).unwrap_err().expect("has a header")
    }

    #[test]
    fn a_plain_query_is_taken_with_its_case() {
        let query = parse(&message([7, 0x0100, 1, 0, 0, 0], QUESTION)).unwrap();
        assert_eq!((query.id, query.echoed_flags), (7, 0x0100));
        assert_eq!(query.question.name.to_text(), "wWw.example.com");
        assert_eq!(query.question.kind, RecordType::A);
        assert_eq!(query.edns, None);
    }

    #[test]
    fn edns_gives_the_size() {
        let body = [QUESTION, OPT].concat();
        let query = parse(&message([7, 0x0100, 1, 0, 0, 1], &body)).unwrap();
        assert_eq!(query.edns, Some(Edns { payload_size: 4096 }));
    }

    #[test]
    fn everything_else_is_an_error() {
        let two = [QUESTION, QUESTION].concat();
        let pointer = b"\x03www\xc0\x0c\x00\x01\x00\x01".as_slice();
        let chaos = b"\x03www\x00\x00\x10\x00\x03".as_slice();
        let two_opts = [QUESTION, OPT, OPT].concat();
        let version_one = [QUESTION, b"\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00"].concat();
        let not_opt = [QUESTION, b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"].concat();
        let trailing = [QUESTION, b"x"].concat();
        let cases: [(&str, [u16; 6], &[u8], Rcode); 14] = [
            (
                "dns_not_a_query",
                [1, 0x8100, 1, 0, 0, 0],
                QUESTION,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_opcode",
                [1, 0x1000, 1, 0, 0, 0],
                QUESTION,
                Rcode::NOT_IMPLEMENTED,
            ),
            (
                "dns_opcode",
                [1, 0x2800, 1, 0, 0, 0],
                QUESTION,
                Rcode::NOT_IMPLEMENTED,
            ),
            (
                "dns_question_count",
                [1, 0, 0, 0, 0, 0],
                b"",
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_question_count",
                [1, 0, 2, 0, 0, 0],
                &two,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_extra_records",
                [1, 0, 1, 1, 0, 0],
                QUESTION,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_extra_records",
                [1, 0, 1, 0, 1, 0],
                QUESTION,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_extra_records",
                [1, 0, 1, 0, 0, 2],
                &two_opts,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_malformed",
                [1, 0, 1, 0, 0, 0],
                pointer,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_malformed",
                [1, 0, 1, 0, 0, 0],
                &two,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_malformed",
                [1, 0, 1, 0, 0, 0],
                &trailing,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_malformed",
                [1, 0, 1, 0, 0, 1],
                &not_opt,
                Rcode::FORMAT_ERROR,
            ),
            (
                "dns_edns_version",
                [1, 0, 1, 0, 0, 1],
                &version_one,
                Rcode::BAD_VERSION,
            ),
            ("dns_class", [1, 0, 1, 0, 0, 0], chaos, Rcode::REFUSED),
        ];
        for (reason, header, body, rcode) in cases {
            let got = rejected(&message(header, body));
            assert_eq!(
                (got.reason, got.rcode),
                (reason, rcode),
                "{header:?} {body:?}"
            );
        }
        assert!(parse(&[0; 11]).unwrap_err().is_none());
    }
}
