//! Parses what upstream resolvers send back, as strictly as what comes from inside.
//!
//! An upstream is more trusted than the agent, but its packets may be forged by whoever shares a network with the host, and their
//! contents are chosen by the owner of an allowed name. Must not return bytes of the message uninspected: records are rebuilt
//! without compression, and only those that answer the question are kept.

use super::answer::Record;
use super::name::WireName;
use super::wire::{
    CLASS_IN, FLAG_RESPONSE, FLAG_TRUNCATED, Header, MASK_OPCODE, MASK_RCODE, Malformed, Rcode,
    Reader, RecordType,
};

/// Longest chain of aliases followed inside of one answer.
const CHAIN_LIMIT: usize = 16;
/// Most records kept of one answer.
const RECORD_LIMIT: usize = 256;

/// An upstream's answer to one question.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) rcode: Rcode,
    pub(crate) truncated: bool,
    /// The alias chain from the question's name, then the records of the asked type. All owners are on that chain.
    pub(crate) records: Vec<Record>,
    /// How long the absence may be believed, in seconds (RFC 2308 section 5), if the zone said so.
    pub(crate) negative_ttl: Option<u32>,
}

impl Response {
    /// Whether there is a record of the asked type.
    pub(crate) fn has(&self, kind: RecordType) -> bool {
        self.records.iter().any(|record| record.kind == kind)
    }
}

/// Parses a response and checks that it answers this question under this id.
pub(crate) fn parse(
    message: &[u8],
    id: u16,
    name: &WireName,
    kind: RecordType,
) -> Result<Response, Malformed> {
    let mut reader = Reader::new(message);
    let header = Header::read(&mut reader)?;
    if header.id != id
        || header.flags & FLAG_RESPONSE == 0
        || header.flags & MASK_OPCODE != 0
        || header.questions > 1
    {
        return Err(Malformed);
    }
    let rcode = Rcode(header.flags & MASK_RCODE);
    if header.questions == 1 {
        let asked = WireName::read_plain(&mut reader)?;
        let asked_kind = RecordType(reader.number16()?);
        let class = reader.number16()?;
        if asked != *name || asked_kind != kind || class != CLASS_IN {
            return Err(Malformed);
        }
    } else if rcode == Rcode::NO_ERROR || rcode == Rcode::NX_DOMAIN {
        // Servers that do not know EDNS may reject a query without repeating it; only an error is believed then.
        return Err(Malformed);
    }
    if header.flags & FLAG_TRUNCATED != 0 {
        // Asked again over TCP; what did arrive may end in the middle of a record.
        return Ok(Response {
            rcode,
            truncated: true,
            records: Vec::new(),
            negative_ttl: None,
        });
    }
    let mut answers = Vec::new();
    for _ in 0..header.answers {
        if let Some(record) = read_record(&mut reader)?
            && answers.len() < RECORD_LIMIT
        {
            answers.push(record);
        }
    }
    let mut negative_ttl = None;
    for _ in 0..header.authorities {
        if let Some(record) = read_record(&mut reader)?
            && record.kind == RecordType::SOA
        {
            negative_ttl = soa_minimum(&record.data).map(|minimum| minimum.min(record.ttl));
        }
    }
    Ok(Response {
        rcode,
        truncated: false,
        records: on_chain(answers, name, kind),
        negative_ttl,
    })
}

/// Keeps the aliases that lead from `name` onwards and the records of `kind` where they end.
fn on_chain(answers: Vec<Record>, name: &WireName, kind: RecordType) -> Vec<Record> {
    let mut kept = Vec::new();
    let mut current = name.clone();
    for _ in 0..CHAIN_LIMIT {
        let found = answers
            .iter()
            .filter(|record| record.kind == kind && record.owner == current)
            .cloned();
        let before = kept.len();
        kept.extend(found);
        if kept.len() > before || kind == RecordType::CNAME {
            return kept;
        }
        let Some(alias) = answers
            .iter()
            .find(|record| record.kind == RecordType::CNAME && record.owner == current)
        else {
            return kept;
        };
        let Ok(target) = WireName::read_plain(&mut Reader::new(&alias.data)) else {
            return kept;
        };
        kept.push(alias.clone());
        current = target;
    }
    // Longer than any honest chain.
    Vec::new()
}

/// Reads one record. Records of another class, and OPT, are skipped.
fn read_record(reader: &mut Reader<'_>) -> Result<Option<Record>, Malformed> {
    let owner = WireName::read_compressed(reader)?;
    let kind = RecordType(reader.number16()?);
    let class = reader.number16()?;
    let ttl = reader.number32()?;
    let length = usize::from(reader.number16()?);
    let start = reader.position();
    // Contents are read from a copy that cannot see behind them, so a name inside cannot run past its record.
    let end = start.checked_add(length).ok_or(Malformed)?;
    let visible = reader.message().get(..end).ok_or(Malformed)?;
    reader.take(length)?;
    if class != CLASS_IN || kind == RecordType::OPT {
        return Ok(None);
    }
    let mut contents = Reader::new(visible);
    contents.take(start)?;
    let data = read_data(&mut contents, kind)?;
    if !contents.is_at_end() {
        return Err(Malformed);
    }
    // A TTL with the top bit set is zero (RFC 2181 section 8).
    let ttl = if ttl > i32::MAX.unsigned_abs() {
        0
    } else {
        ttl
    };
    Ok(Some(Record {
        owner,
        kind,
        ttl,
        data,
    }))
}

/// Rebuilds the contents without compression. Types whose contents hold no name are opaque.
fn read_data(contents: &mut Reader<'_>, kind: RecordType) -> Result<Vec<u8>, Malformed> {
    let mut data = Vec::new();
    let (numbers_before, names, numbers_after) = match kind {
        RecordType::A => (4, 0, 0),
        RecordType::AAAA => (16, 0, 0),
        RecordType::CNAME | RecordType::NS | RecordType::PTR => (0, 1, 0),
        RecordType::MX => (2, 1, 0),
        RecordType::SRV => (6, 1, 0),
        RecordType::SOA => (0, 2, 20),
        _ => {
            let rest = contents.message().len() - contents.position();
            return Ok(contents.take(rest)?.to_vec());
        }
    };
    data.extend_from_slice(contents.take(numbers_before)?);
    for _ in 0..names {
        data.extend_from_slice(WireName::read_compressed(contents)?.octets());
    }
    data.extend_from_slice(contents.take(numbers_after)?);
    Ok(data)
}

/// The last number of an SOA record: the time that a negative answer may be cached (RFC 2308 section 4).
fn soa_minimum(data: &[u8]) -> Option<u32> {
    let bytes = data.last_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WireName {
        WireName::from_text(text).unwrap()
    }

    /// Header, question `www.example.com A`, then what the case adds. Offset 12 is `www`, 16 `example`, 24 `com`.
    fn message(counts: [u16; 3], flags: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [9, flags, 1, counts[0], counts[1], counts[2]] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        bytes.extend_from_slice(rest);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Result<Response, Malformed> {
        parse(bytes, 9, &name("www.example.com"), RecordType::A)
    }

    const ALIAS: &[u8] = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x06\x03cdn\xc0\x10";
    // The alias's target stands at offset 12 + 21 + 12 = 45.
    const ADDRESS: &[u8] = b"\xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xcb\x00\x71\x07";
    const STRAY: &[u8] =
        b"\x05other\xc0\x10\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xcb\x00\x71\x08";

    #[test]
    fn aliases_are_followed_and_strays_dropped() {
        let response = parsed(&message(
            [3, 0, 0],
            0x8180,
            &[ALIAS, ADDRESS, STRAY].concat(),
        ))
        .unwrap();
        let owners: Vec<String> = response
            .records
            .iter()
            .map(|record| record.owner.to_text())
            .collect();
        assert_eq!(owners, ["www.example.com", "cdn.example.com"]);
        assert_eq!(response.records[0].data, name("cdn.example.com").octets());
        assert_eq!(response.records[1].data, [203, 0, 113, 7]);
        assert!(response.has(RecordType::A));
    }

    #[test]
    fn only_the_question_asked_is_believed() {
        let good = message([2, 0, 0], 0x8180, &[ALIAS, ADDRESS].concat());
        assert!(parsed(&good).is_ok());
        assert!(parse(&good, 8, &name("www.example.com"), RecordType::A).is_err());
        assert!(parse(&good, 9, &name("www.example.org"), RecordType::A).is_err());
        assert!(parse(&good, 9, &name("www.example.com"), RecordType::AAAA).is_err());
        assert!(parsed(&message([0, 0, 0], 0x0180, b"")).is_err());
    }

    #[test]
    fn a_loop_of_aliases_ends() {
        let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\xc0\x0c";
        let response = parsed(&message([1, 0, 0], 0x8180, alias)).unwrap();
        assert!(response.records.is_empty());
    }

    #[test]
    fn contents_end_where_they_say() {
        let short = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x03\xcb\x00\x71";
        assert!(parsed(&message([1, 0, 0], 0x8180, short)).is_err());
        let long = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x05\xcb\x00\x71\x07\x00";
        assert!(parsed(&message([1, 0, 0], 0x8180, long)).is_err());
        let beyond = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x04\x06abcdef\x00";
        assert!(parsed(&message([1, 0, 0], 0x8180, beyond)).is_err());
    }

    #[test]
    fn absence_carries_its_time() {
        let soa = [
            b"\xc0\x10\x00\x06\x00\x01\x00\x00\x00\x20\x00\x18".as_slice(),
            b"\xc0\x10\xc0\x10",
            &[0; 16],
            &30_u32.to_be_bytes(),
        ]
        .concat();
        let response = parsed(&message([0, 1, 0], 0x8183, &soa)).unwrap();
        assert_eq!(
            (response.rcode, response.negative_ttl),
            (Rcode::NX_DOMAIN, Some(30))
        );
    }
}
