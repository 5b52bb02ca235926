//! Probes of UDP beyond one question and one answer.
//!
//! Must not retry: what does not come back is told as missing.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::files::name_of;
use crate::{Arguments, Attempt, Probe, Refusal};

pub(crate) const PROBES: &[Probe] = &[
    (
        "udp-sizes",
        "HOST PORT SIZE…   (a connected socket sends each size once; tells what came back of each)",
        sizes,
    ),
    (
        "udp-two",
        "HOST PORT HOST PORT   (one unconnected socket, two peers; who answered what)",
        two,
    ),
    (
        "udp-stream",
        "HOST PORT QUESTIONS ANSWERS   (asks so often for so many answers each; tells what came)",
        stream,
    ),
    (
        "udp-refused",
        "HOST PORT COUNT   (a connected socket sends so often, each time waiting for the error)",
        refused,
    ),
    (
        "udp-flood",
        "ADDRESS COUNT   (one datagram to each of so many addresses from this one on, 200 ports each)",
        flood,
    ),
];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn peer(arguments: &Arguments, first: usize) -> Result<SocketAddr, Refusal> {
    (arguments.text(first)?, arguments.number::<u16>(first + 1)?)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| Refusal::Other(json!("no address")))
}

fn socket(of: SocketAddr) -> Result<UdpSocket, Refusal> {
    let any: IpAddr = match of {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The errno's name, or `timeout`.
fn how(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => "timeout".to_owned(),
        _ => name_of(error),
    }
}

fn sizes(arguments: &Arguments) -> Attempt {
    let peer = peer(arguments, 0)?;
    let socket = socket(peer)?;
    socket.connect(peer)?;
    let mut came = serde_json::Map::new();
    for word in arguments.rest(2) {
        let size: usize = word
            .to_str()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| Refusal::Usage("sizes are numbers".to_owned()))?;
        let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
        let mut buffer = vec![0; 65_536];
        let outcome = socket.send(&sent).and_then(|_| socket.recv(&mut buffer));
        let told = match outcome {
            Ok(length) if buffer[..length] == sent => "same".to_owned(),
            Ok(length) => format!("{length} other bytes"),
            Err(error) => how(&error),
        };
        came.insert(size.to_string(), Value::from(told));
    }
    Ok(Value::Object(came))
}

fn two(arguments: &Arguments) -> Attempt {
    let peers = [peer(arguments, 0)?, peer(arguments, 2)?];
    let socket = socket(peers[0])?;
    for (number, peer) in peers.iter().enumerate() {
        socket.send_to(format!("to {number}").as_bytes(), peer)?;
    }
    let mut answers = Vec::new();
    for _ in peers {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        answers.push(format!("{from} {text}"));
    }
    answers.sort();
    Ok(json!({ "answers": answers }))
}

fn stream(arguments: &Arguments) -> Attempt {
    let peer = peer(arguments, 0)?;
    let (questions, answers): (u32, u32) = (arguments.number(2)?, arguments.number(3)?);
    let socket = socket(peer)?;
    socket.connect(peer)?;
    let (mut came, mut in_order) = (0_u32, true);
    for _ in 0..questions {
        socket.send(answers.to_string().as_bytes())?;
        for expected in 0..answers {
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            in_order &= buffer[..length] == *expected.to_string().as_bytes();
            came += 1;
        }
    }
    Ok(json!({ "came": came, "in_order": in_order }))
}

fn refused(arguments: &Arguments) -> Attempt {
    let peer = peer(arguments, 0)?;
    let count: u32 = arguments.number(2)?;
    let socket = socket(peer)?;
    socket.connect(peer)?;
    let mut worst = 0.0_f64;
    let mut last = Errno::IO;
    for _ in 0..count {
        let started = Instant::now();
        let outcome = socket.send(b"x").and_then(|_| socket.recv(&mut [0; 8]));
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        worst = worst.max(milliseconds);
        match outcome {
            Ok(_) => return Ok(json!({ "milliseconds": milliseconds })),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Refusal::Other(json!({ "how": "timeout" })));
            }
            Err(error) => {
                last = Errno::from_raw_os_error(error.raw_os_error().unwrap_or_default());
            }
        }
    }
    Err(Refusal::Errno(last, json!({ "milliseconds": worst })))
}

fn flood(arguments: &Arguments) -> Attempt {
    let first: Ipv4Addr = arguments
        .text(0)?
        .parse()
        .map_err(|error| Refusal::Usage(format!("an IPv4 address is wanted: {error}")))?;
    let count: u32 = arguments.number(1)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut failed = 0_u32;
    for number in 0..count {
        let address = Ipv4Addr::from_bits(first.to_bits() + number / 200);
        let port = u16::try_from(20_000 + number % 200).unwrap_or(20_000);
        failed += u32::from(socket.send_to(b"flood", (address, port)).is_err());
    }
    Ok(json!({ "sent": count, "failed": failed }))
}
