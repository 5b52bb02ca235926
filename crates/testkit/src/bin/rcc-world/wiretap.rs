//! Records every packet that comes from the host, below any listener, with a packet socket (packet(7)).
//!
//! Must not claim more than it saw: lost packets turn the record into a failure.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rcc_testkit::world::wire::{Answer, Packet};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt,
};

use crate::network::{HOST_MAC, INET_LINK};
use crate::{Failure, log};

/// `ETH_P_ALL` of linux/if_ether.h, in network byte order as packet(7) wants it.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;
/// Bytes of a frame that are looked at.
const FRAME_LIMIT: usize = 512;
/// Bytes of payload that are kept.
const PAYLOAD_LIMIT: usize = 256;
/// Packets that are kept; one bulk transfer is more.
const PACKET_LIMIT: usize = 100_000;
/// Room for frames that wait to be read.
const BUFFER_BYTES: usize = 64 << 20;
/// How long a frame may take from the link to the tap; a lost one never comes.
const LATE_LIMIT: Duration = Duration::from_secs(5);
/// Payload of the datagram that pushes the others through.
const MARK: &[u8] = b"rcc-testkit wiretap mark";

#[derive(Debug, Default)]
struct Record {
    packets: Vec<Packet>,
    /// Frames from the host, of any kind, since the start.
    frames: u64,
    /// Frames that the link had received when the record was last reset, minus `frames` then.
    offset: u64,
    overflowed: bool,
    marks: u64,
}

/// The running tap.
#[derive(Debug)]
pub(crate) struct Wiretap {
    record: Arc<(Mutex<Record>, Condvar)>,
}

impl Wiretap {
    pub(crate) fn start() -> Result<Self, Failure> {
        let protocol = std::num::NonZeroU32::new(ALL_PROTOCOLS).map(Protocol::from_raw);
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        // Only real root may go beyond the machine's limit; lost frames are noticed anyway.
        if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
        }
        let record = Arc::new((Mutex::new(Record::default()), Condvar::new()));
        let shared = Arc::clone(&record);
        shared
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .offset = received_frames()?;
        std::thread::spawn(move || {
            let mut frame = [0u8; FRAME_LIMIT];
            loop {
                match recv(&socket, &mut frame[..], RecvFlags::empty()) {
                    Ok((length, _)) => note(&shared, &frame[..length.min(FRAME_LIMIT)]),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => {
                        log(&format!("wiretap: {error}"));
                        return;
                    }
                }
            }
        });
        Ok(Self { record })
    }

    pub(crate) fn packets(&self) -> Answer {
        let (record, expected) = match self.catch_up() {
            Ok(caught_up) => caught_up,
            Err(error) => return Answer::Failed(format!("the mark did not come through: {error}")),
        };
        if record.overflowed || expected > record.frames {
            return Answer::Failed(format!("{} of {expected} frames were seen", record.frames));
        }
        Answer::Packets(record.packets.clone())
    }

    pub(crate) fn forget(&self) {
        if let Ok((mut record, expected)) = self.catch_up() {
            record.packets.clear();
            record.overflowed = false;
            // What was lost before is not asked for again.
            record.offset += expected.saturating_sub(record.frames);
        }
    }

    /// Waits until the tap has what the link had received when this began: a frame is counted there before it comes here, on
    /// another processor perhaps. Gives the record, and how many frames should be in it.
    fn catch_up(&self) -> Result<(MutexGuard<'_, Record>, u64), Failure> {
        let received = received_frames()?;
        self.flush()?;
        let (mutex, seen) = &*self.record;
        let record = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = seen.wait_timeout_while(record, LATE_LIMIT, |record| {
            record.frames + record.offset < received
        });
        let (record, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let expected = received.saturating_sub(record.offset);
        Ok((record, expected))
    }

    /// Sends a datagram of our own through the loopback and waits until the tap has it.
    fn flush(&self) -> Result<(), Failure> {
        let (mutex, seen) = &*self.record;
        let record = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let before = record.marks;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.send_to(MARK, socket.local_addr()?)?;
        let waited = seen.wait_timeout_while(record, LATE_LIMIT, |record| record.marks == before);
        let (record, result) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(record);
        if result.timed_out() {
            Err("timed out".into())
        } else {
            Ok(())
        }
    }
}

fn note(shared: &(Mutex<Record>, Condvar), frame: &[u8]) {
    let (mutex, seen) = shared;
    let mut record = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    if frame.windows(MARK.len()).any(|part| part == MARK) {
        record.marks += 1;
        seen.notify_all();
    }
    // Ethernet: destination, source, type. Only what the host's end of the link has sent.
    if frame.get(6..12) != Some(&HOST_MAC[..]) {
        return;
    }
    record.frames += 1;
    seen.notify_all();
    if record.packets.len() == PACKET_LIMIT {
        record.overflowed = true;
    } else if let Some(packet) = parse(frame) {
        record.packets.push(packet);
    }
}

fn parse(frame: &[u8]) -> Option<Packet> {
    let network = frame.get(14..)?;
    let (number, source, destination, rest) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let length = usize::from(network.first()? & 15) * 4;
            let source = Ipv4Addr::from(*network.get(12..16)?.first_chunk::<4>()?).to_string();
            let destination = Ipv4Addr::from(*network.get(16..20)?.first_chunk::<4>()?).to_string();
            (
                *network.get(9)?,
                source,
                destination,
                network.get(length..)?,
            )
        }
        [0x86, 0xdd] => {
            let source = Ipv6Addr::from(*network.get(8..24)?.first_chunk::<16>()?).to_string();
            let destination =
                Ipv6Addr::from(*network.get(24..40)?.first_chunk::<16>()?).to_string();
            (*network.get(6)?, source, destination, network.get(40..)?)
        }
        [0x08, 0x06] => {
            let target = Ipv4Addr::from(*network.get(24..28)?.first_chunk::<4>()?).to_string();
            return Some(Packet {
                protocol: "arp".to_owned(),
                source: String::new(),
                destination: target,
                destination_port: 0,
                payload: Vec::new(),
            });
        }
        other => {
            return Some(Packet {
                protocol: format!("ether-{:02x}{:02x}", other.first()?, other.get(1)?),
                source: String::new(),
                destination: String::new(),
                destination_port: 0,
                payload: network.iter().copied().take(PAYLOAD_LIMIT).collect(),
            });
        }
    };
    let port = rest
        .get(2..4)
        .and_then(|bytes| bytes.first_chunk::<2>())
        .map(|bytes| u16::from_be_bytes(*bytes));
    let (protocol, port, header) = match number {
        6 => (
            "tcp".to_owned(),
            port?,
            usize::from(*rest.get(12)? >> 4) * 4,
        ),
        17 => ("udp".to_owned(), port?, 8),
        1 => ("icmp".to_owned(), 0, 8),
        58 => ("icmp6".to_owned(), 0, 8),
        other => (format!("proto-{other}"), 0, 0),
    };
    let payload = rest
        .iter()
        .copied()
        .skip(header)
        .take(PAYLOAD_LIMIT)
        .collect();
    Some(Packet {
        protocol,
        source,
        destination,
        destination_port: port,
        payload,
    })
}

/// Reads the link's count of received packets from `/proc/self/net/dev` (proc(5)).
fn received_frames() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(INET_LINK)?.strip_prefix(':'));
    let packets = line
        .and_then(|line| line.split_whitespace().nth(1))
        .ok_or("the link is not in /proc/self/net/dev")?;
    Ok(packets.parse()?)
}
