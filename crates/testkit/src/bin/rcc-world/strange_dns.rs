//! A name server that misbehaves on purpose and records every question, down to odd bytes.
//!
//! Its names are in `zone::STRANGE_NAMES`; every other name exists too and is 203.0.113.66.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use rcc_testkit::dns::{DnsMessage, parse, type_name};
use rcc_testkit::world::addresses::EXTRA_RESOLVERS_V4;
use rcc_testkit::world::wire::DnsQuery;

use crate::Failure;
use crate::counters::Counters;
use crate::sockets::{Listeners, serve_udp};

/// Largest answer over UDP (RFC 1035 2.3.4); EDNS sizes are ignored so that truncation happens.
const UDP_LIMIT: usize = 512;

#[derive(Debug, Default)]
struct State {
    asked: Mutex<HashMap<String, u32>>,
}

/// Serves UDP and TCP on this address and on the extra resolvers' ones.
pub(crate) fn serve(
    first: Ipv4Addr,
    counters: &Arc<Counters>,
    listeners: &Listeners,
) -> Result<(), Failure> {
    let state = Arc::new(State::default());
    for address in EXTRA_RESOLVERS_V4.iter().copied().chain([first]) {
        let local = SocketAddr::from((address, 53));
        let (shared, records) = (Arc::clone(&state), Arc::clone(counters));
        serve_udp(local, counters, listeners, move |datagram, peer| {
            shared
                .answer(datagram, peer, &records, true)
                .into_iter()
                .collect()
        })?;
        let (shared, records) = (Arc::clone(&state), Arc::clone(counters));
        let listener = TcpListener::bind(local)?;
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                records.entry("tcp", local).connection();
                let _ = one_connection(stream, &shared, &records);
            }
        });
    }
    Ok(())
}

fn one_connection(
    mut stream: std::net::TcpStream,
    state: &State,
    counters: &Counters,
) -> Result<(), Failure> {
    let peer = stream.peer_addr()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let Some(answer) = state.answer(&message, peer, counters, false) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len())?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
}

impl State {
    fn answer(
        &self,
        message: &[u8],
        peer: SocketAddr,
        counters: &Counters,
        is_udp: bool,
    ) -> Option<Vec<u8>> {
        let query = parse(message)?;
        for question in &query.questions {
            counters.add_strange(DnsQuery {
                name: question.name(),
                record_type: type_name(question.record_type),
                from: peer.ip().to_string(),
            });
        }
        let question = query.questions.first()?;
        let name = question.name().to_ascii_lowercase();
        let code = match name.as_str() {
            "silent.example" => return None,
            "servfail.example" => 2,
            "refused.example" => 5,
            _ => 0,
        };
        let addresses = if question.record_type == 1 && code == 0 {
            self.addresses(&name)
        } else {
            Vec::new()
        };
        Some(build_answer(message, &query, code, &addresses, is_udp))
    }

    fn addresses(&self, name: &str) -> Vec<Ipv4Addr> {
        let number = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let number = asked.entry(name.to_owned()).or_default();
            *number += 1;
            *number
        };
        match name {
            "flip.example" if number % 2 == 0 => vec![Ipv4Addr::new(192, 168, 77, 10)],
            "flip.example" => vec![Ipv4Addr::new(203, 0, 113, 60)],
            "flip-loopback.example" if number > 1 => vec![Ipv4Addr::LOCALHOST],
            "flip-loopback.example" => vec![Ipv4Addr::new(203, 0, 113, 61)],
            "ttl0.example" => vec![Ipv4Addr::new(203, 0, 113, 62)],
            "big.example" => (1..=60)
                .map(|last| Ipv4Addr::new(198, 51, 100, last))
                .collect(),
            _ => vec![Ipv4Addr::new(203, 0, 113, 66)],
        }
    }
}

/// Echoes the question and appends A records with TTL 0.
fn build_answer(
    message: &[u8],
    query: &DnsMessage,
    code: u16,
    addresses: &[Ipv4Addr],
    is_udp: bool,
) -> Vec<u8> {
    // The question ends where the first name's zero byte and its four bytes of type and class end.
    let labels: usize = query.questions.first().map_or(0, |question| {
        question.labels.iter().map(|label| label.len() + 1).sum()
    });
    let end = 12 + labels + 1 + 4;
    let record_bytes = 16;
    let fits = !is_udp || end + addresses.len() * record_bytes <= UDP_LIMIT;
    let shown: &[Ipv4Addr] = if fits { addresses } else { &[] };
    let truncated = if fits { 0 } else { 0x0200 };
    let mut answer = Vec::new();
    let count = u16::try_from(shown.len()).unwrap_or_default();
    for word in [query.id, 0x8580 | code | truncated, 1, count, 0, 0] {
        answer.extend_from_slice(&word.to_be_bytes());
    }
    answer.extend_from_slice(message.get(12..end).unwrap_or_default());
    for address in shown {
        // Pointer to the question's name, A, IN, TTL 0, four bytes.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    answer
}
