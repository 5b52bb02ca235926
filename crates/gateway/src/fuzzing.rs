//! Doors to the gateway's parsers for the fuzz targets in `fuzz/`, with what must hold of their results.
//!
//! Exists only under `cfg(fuzzing)`. A broken promise is a panic. Must not be reachable from a build that ships.
#![expect(
    clippy::expect_used,
    reason = "a panic is how a target reports; each door has the name of what it feeds"
)]

use crate::client_hello::{self, Parsed};
use crate::dns::answer::{Answer, Carrier, UDP_LIMIT_EDNS, encode, encode_rejected};
use crate::dns::name::WireName;
use crate::dns::wire::{Rcode, RecordType};
use crate::dns::{query, response};

/// Prefixes of a hello that are tried besides the whole.
const PREFIXES: usize = 64;

/// Every answer fits its carrier, carries the id that was asked, and is no query.
pub fn dns_query(message: &[u8]) {
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let answer = match query::parse(message) {
            Err(None) => return,
            Err(Some(rejected)) => encode_rejected(&rejected, carrier),
            Ok(query) => encode(&query, &Answer::empty(Rcode::REFUSED), carrier),
        };
        if carrier == Carrier::Udp {
            assert!(answer.len() <= usize::from(UDP_LIMIT_EDNS));
        }
        assert_eq!(answer.get(..2), message.get(..2), "the id");
        assert_eq!(
            query::parse(&answer).err().flatten().map(|it| it.reason),
            Some("dns_not_a_query"),
            "an answer that would be taken for a query makes a loop"
        );
    }
}

/// What a resolver says about one fixed question.
pub fn dns_response(message: &[u8]) {
    let name = WireName::from_text("www.example.com").expect("a name");
    for kind in [RecordType::A, RecordType::TXT, RecordType::SRV] {
        let id = message.first_chunk().copied().map_or(0, u16::from_be_bytes);
        if let Ok(response) = response::parse(message, id, &name, kind) {
            let again = response.records.iter().map(|record| record.data.len());
            assert!(again.sum::<usize>() <= 1 << 20, "records were multiplied");
        }
    }
}

/// How a hello is cut into segments changes nothing.
pub fn client_hello(bytes: &[u8]) {
    let whole = client_hello::parse(bytes);
    let step = (bytes.len() / PREFIXES).max(1);
    for end in (0..bytes.len()).step_by(step) {
        match client_hello::parse(bytes.get(..end).unwrap_or_default()) {
            Parsed::Incomplete(needed) => {
                assert!(needed > end, "would wait for what is there");
            }
            decided => assert_eq!(decided, whole, "after {end} bytes"),
        }
    }
}
