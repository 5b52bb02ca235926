//! Doors to the gateway's parsers for the fuzz targets in `fuzz/`, with what must hold of their results.
//!
//! Exists only under `cfg(fuzzing)`. A broken promise is a panic. Must not be reachable from a build that ships.
#![expect(
    clippy::expect_used,
    reason = "a panic is how a target reports; each door has the name of what it feeds"
)]

use crate::client_hello::{self, Parsed};
use crate::control::{parse_request, parse_response, request_line};
use crate::dns::answer::{Answer, Carrier, UDP_LIMIT_EDNS, encode, encode_rejected};
use crate::dns::name::WireName;
use crate::dns::wire::{Rcode, RecordType};
use crate::dns::{query, response};
use crate::http::{Asked, Head, Requests, Responses, Step};

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
            // How much of what follows belongs to it may show only later.
            Parsed::Hello { hello, .. } => match &whole {
                Parsed::Hello { hello: later, .. } => {
                    assert_eq!(&hello, later, "after {end} bytes")
                }
                other => panic!("after {end} bytes a hello, then {other:?}"),
            },
            decided => assert_eq!(decided, whole, "after {end} bytes"),
        }
    }
}

/// How requests are cut into segments changes nothing, and what goes on is what was said but for empty lines.
pub fn http(bytes: &[u8]) {
    let whole = requests(std::iter::once(bytes));
    let step = bytes.len() % 7 + 1;
    assert_eq!(requests(bytes.chunks(step)), whole, "in portions of {step}");
    let mut said = bytes.iter();
    for passed in &whole.passed {
        assert!(said.any(|byte| byte == passed), "something was invented");
    }
    let mut responses = Responses::default();
    responses.expect(Asked {
        is_head: bytes.len() % 2 == 0,
        upgrade: bytes.len() % 3 == 0,
    });
    for portion in bytes.chunks(step) {
        responses.see(portion);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<u8>,
    heads: Vec<Head>,
    fault: Option<&'static str>,
}

fn requests<'a>(portions: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut requests = Requests::default();
    let (mut held, mut unseen) = (Vec::new(), 0_u64);
    let mut outcome = Outcome {
        passed: Vec::new(),
        heads: Vec::new(),
        fault: None,
    };
    for portion in portions {
        held.extend_from_slice(portion);
        loop {
            let count = usize::try_from(unseen)
                .unwrap_or(usize::MAX)
                .min(held.len());
            unseen -= count as u64;
            outcome.passed.extend(held.drain(..count));
            if unseen > 0 {
                break;
            }
            match requests.step(&held) {
                Ok(Step::More) => break,
                Ok(Step::Forward(count)) => outcome.passed.extend(held.drain(..count)),
                Ok(Step::Drop(count)) => drop(held.drain(..count)),
                Ok(Step::Unseen(count)) => unseen = count,
                Ok(Step::Head(count, head)) => {
                    outcome.heads.push(*head);
                    outcome.passed.extend(held.drain(..count));
                }
                Err(fault) => {
                    outcome.fault = Some(fault.code());
                    return outcome;
                }
            }
        }
    }
    outcome
}

/// A request that is understood is written as a line that means the same.
pub fn control(line: &[u8]) {
    if let Ok(request) = parse_request(line) {
        let again = request_line(&request);
        let again = again.strip_suffix(b"\n").unwrap_or(&again);
        assert_eq!(parse_request(again).as_ref(), Ok(&request));
    }
    // What a gateway says to the command line, which a hostile one would forge.
    let _ = parse_response(line);
}

/// A datagram, and the frames of an Initial packet.
pub fn quic(bytes: &[u8]) {
    crate::udp::fuzz_quic(bytes);
}
