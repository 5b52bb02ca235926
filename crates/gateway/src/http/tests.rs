//! Requests in a table: what passes, what does not and with which code, however the bytes arrive.

use super::head::Body;
use super::*;
use crate::refusal::Host;

mod responses;
mod table;

/// What a stream of requests came to: the host of each head, then how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    hosts: Vec<String>,
    ending: Ending,
    /// What went on.
    passed: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// Everything was taken.
    Whole,
    /// More bytes are awaited.
    Open,
    Fault(&'static str),
}

/// Feeds a stream in these portions, as the gateway does.
fn feed<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut requests = Requests::default();
    let mut held = Vec::new();
    let mut unseen = 0_u64;
    let mut outcome = Outcome {
        hosts: Vec::new(),
        ending: Ending::Whole,
        passed: Vec::new(),
    };
    for portion in portions {
        held.extend_from_slice(portion);
        assert!(held.len() <= 2 * HEAD_LIMIT + portion.len());
        loop {
            if unseen > 0 {
                let count = usize::try_from(unseen)
                    .unwrap_or(usize::MAX)
                    .min(held.len());
                outcome.passed.extend(held.drain(..count));
                unseen -= u64::try_from(count).unwrap();
                if unseen > 0 {
                    break;
                }
            }
            match requests.step(&held) {
                Ok(Step::More) => break,
                Ok(Step::Forward(count)) => outcome.passed.extend(held.drain(..count)),
                Ok(Step::Drop(count)) => drop(held.drain(..count)),
                Ok(Step::Unseen(count)) => unseen = count,
                Ok(Step::Head(count, head)) => {
                    outcome.hosts.push(describe(&head));
                    let mut passed: Vec<u8> = held.drain(..count).collect();
                    for part in head.leave_out.iter().rev() {
                        passed.drain(part.clone());
                    }
                    outcome.passed.append(&mut passed);
                }
                Err(fault) => {
                    outcome.ending = Ending::Fault(fault.code());
                    return outcome;
                }
            }
        }
    }
    if !held.is_empty() || unseen > 0 || !requests.is_at_start() {
        outcome.ending = Ending::Open;
    }
    outcome
}

fn describe(head: &Head) -> String {
    let authority = |authority: &Authority| {
        let host = match &authority.host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        };
        match authority.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    };
    let mut text = authority(&head.host);
    if let Some(target) = &head.target {
        text = format!("{} for {text}", authority(target));
    }
    if head.upgrade {
        text.push_str(" upgrade");
    }
    match head.body {
        Body::Length(0) => {}
        Body::Length(length) => text.push_str(&format!(" +{length}")),
        Body::Chunked => text.push_str(" +chunks"),
    }
    text
}

/// Splits at random places, the same in every run.
fn random_portions(stream: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut rest = stream;
    let mut portions = Vec::new();
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let length = usize::try_from(state % 23).unwrap().clamp(1, rest.len());
        let (portion, after) = rest.split_at(length);
        portions.push(portion);
        rest = after;
    }
    portions
}

/// The same stream whole, byte by byte and in random portions.
fn every_way(stream: &[u8]) -> Outcome {
    let whole = feed([stream]);
    assert_eq!(feed(stream.chunks(1)), whole, "byte by byte: {stream:?}");
    for seed in 1..20 {
        let portions = random_portions(stream, seed);
        assert_eq!(feed(portions), whole, "seed {seed}: {stream:?}");
    }
    whole
}

#[test]
fn openings_are_told_apart() {
    use Opening::{Http, Open, Other, ProxyProtocol};
    let cases: [(&[u8], Opening); 41] = [
        (b"G", Open { likely: true }),
        (b"GET", Open { likely: true }),
        (b"GET /", Open { likely: true }),
        (b"GET / HTTP/1.1", Open { likely: true }),
        (b"GET / HTTP/1.1\r\n", Http),
        (b"GET / HTTP/1.1\n", Http),
        (b"get / http/1.1\n", Http),
        (b"ANY-THING x y HTTP/9.9\r\n", Http),
        (b"GET\t/\tHTTP/1.1\r\n", Http),
        (b"GET\x0b/\x0cHTTP/1.0\r\n", Http),
        (b"GET /\0 HTTP/1.0\r\n", Http),
        (b"GET /\0HTTP/1.0\r\n", Http),
        (b"GET /\r HTTP/1.0\r\n", Http),
        (b"\r\nGET / HTTP/1.1\r\n", Http),
        (b"\n \t\r\nGET / HTTP/1.1\r\n", Http),
        (b"   GET / HTTP/1.1\r\n", Http),
        (b"1337 / HTTP/1.1\r\n", Http),
        (b"PRI * HTTP/2.0\r\n", Http),
        (b"CONNECT a.example.com:443 HTTP/1.1\r\n", Http),
        (b"GET /\r\n", Http),
        (b"GET http://a.example.com/\n", Http),
        (b"\r\n", Open { likely: true }),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Other),
        (b"SSH-2.0-OpenSSH_9.2 Debian-2\r\n", Other),
        (b"EHLO client.example.com\r\n", Other),
        (b"USER agent\r\n", Other),
        (b"a1 LOGIN user secret\r\n", Other),
        (b"PING\r\n", Other),
        (b"*1\r\n$4\r\nPING\r\n", Other),
        (b"get key\r\n", Other),
        (b"set k 0 0 5\r\nhello\r\n", Other),
        (
            b"003egit-upload-pack /p.git\0host=example.com\0",
            Open { likely: false },
        ),
        (
            b"003egit-upload-pack /p.git\0host=h\0" as &[u8],
            Open { likely: false },
        ),
        (b"@RSYNCD: 31.0\n", Other),
        (b"OPTIONS rtsp://a.example.com/ RTSP/1.0\r\n", Other),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Other),
        (b"\x13BitTorrent protocol", Other),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyProtocol),
        (b"\r\n\r\n\0\r\nQUIT", Open { likely: true }),
        (b"\r\n\r\n\0\r\nQUIT\n", ProxyProtocol),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", ProxyProtocol),
    ];
    for (bytes, expected) in cases {
        assert_eq!(recognise(bytes), expected, "{}", bytes.escape_ascii());
        // What was decided stays decided, and was open before.
        if !matches!(expected, Open { .. }) {
            let longer = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(recognise(&longer), expected, "{}", bytes.escape_ascii());
        }
        for length in 1..bytes.len() {
            let part = recognise(&bytes[..length]);
            let is_consistent = matches!(part, Open { .. }) || part == expected;
            assert!(
                is_consistent,
                "{} bytes of {}",
                length,
                bytes.escape_ascii()
            );
        }
    }
}

#[test]
fn a_first_line_without_end_is_not_looked_at_for_ever() {
    let long = [b"GET /".as_slice(), &vec![b'a'; HEAD_LIMIT]].concat();
    assert_eq!(recognise(&long), Opening::Http);
    assert_eq!(recognise(&vec![b'a'; HEAD_LIMIT + 1]), Opening::Other);
    assert_eq!(recognise(&vec![b' '; HEAD_LIMIT + 1]), Opening::Http);
    let binary = [b"put \x01".as_slice(), &vec![b'a'; HEAD_LIMIT]].concat();
    assert_eq!(recognise(&binary), Opening::Other);
}

#[test]
fn spoilt_requests_never_panic_and_every_portion_gives_the_same() {
    let good = b"POST http://a.example.com/x HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: a.example.com:80\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    let mut left_out = 0;
    let mut state = 0x5eed_u64;
    for _ in 0..3000 {
        let mut bytes = good.to_vec();
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [low, high, value, ..] = state.to_le_bytes();
            let place = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
            bytes[place] = b"\r\n :,;\t\0xH0\xff"[usize::from(value) % 12];
        }
        let whole = feed([bytes.as_slice()]);
        assert_eq!(feed(bytes.chunks(1)), whole);
        assert_eq!(feed(random_portions(&bytes, state)), whole);
        // Nothing goes on that was not said, and in its order.
        assert!(whole.passed.len() <= bytes.len());
        // What goes on reads as what was judged, also where an offer was left out.
        let again = feed([whole.passed.as_slice()]);
        assert_eq!((&again.hosts, &again.passed), (&whole.hosts, &whole.passed));
        let goes_on = String::from_utf8_lossy(&whole.passed).into_owned();
        assert!(!goes_on.contains("\r\nUpgrade: h2c\r\n"), "{goes_on}");
        let is_offer = whole.hosts.len() >= 2 && !goes_on.contains("Settings: AAMAAABk");
        left_out += usize::from(is_offer);
    }
    assert!(left_out > 100, "{left_out}");
}
