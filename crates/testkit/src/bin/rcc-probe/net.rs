//! Probes of the network: connecting, sending, asking names, and how exactly each fails.
//!
//! Times are in milliseconds with three decimals. Must not retry: the first answer is the answer.

use std::io::{Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _,
    UdpSocket,
};
use std::time::{Duration, Instant};

use rcc_testkit::dns::{DnsHeader, DnsQuestion, build, parse, type_name, type_number};
use serde_json::{Value, json};

use crate::arguments::unhex;
use crate::files::name_of;
use crate::{Arguments, Attempt, Probe, Refusal, shorten};

pub(crate) const PROBES: &[Probe] = &[
    (
        "tcp",
        "HOST PORT [TIMEOUT_MS]   (a name is resolved; every address is tried, all are in the record)",
        tcp,
    ),
    (
        "tcp-talk",
        "HOST PORT TEXT [TIMEOUT_MS]   (sends TEXT with \\r \\n \\xNN read, shows the answer)",
        tcp_talk,
    ),
    (
        "http",
        "HOST PORT HOST_HEADER PATH [TIMEOUT_MS]   (status, headers and start of the body)",
        http,
    ),
    ("resolve", "NAME   (getaddrinfo)", resolve),
    (
        "udp",
        "ADDRESS PORT TEXT [TIMEOUT_MS]   (ok = an answer came)",
        udp,
    ),
    (
        "udp-unconnected",
        "ADDRESS PORT TEXT [TIMEOUT_MS]   (sendto; errors of the network stay unseen)",
        udp_unconnected,
    ),
    (
        "dns",
        "SERVER udp|tcp NAME TYPE [port=N id=N flags=N class=N edns=N count=N also=NAME/TYPE raw=HEX timeout=MS]",
        dns,
    ),
    (
        "half-close",
        "HOST PORT BYTES [TIMEOUT_MS]   (sends, closes its half, shows the answer)",
        half_close,
    ),
    (
        "half-close-peer",
        "HOST PORT BYTES [TIMEOUT_MS]   (reads to the end, then sends)",
        half_close_peer,
    ),
    (
        "listen",
        "ADDRESS PORT [TIMEOUT_MS]   (accepts one connection, answers `hello from rcc-probe`)",
        listen,
    ),
    (
        "download",
        "HOST PORT MILLISECONDS   (reads, gives bytes per second)",
        download,
    ),
    (
        "upload",
        "HOST PORT MILLISECONDS   (writes, gives bytes per second)",
        upload,
    ),
    (
        "connect-rate",
        "HOST PORT COUNT   (connections one after the other; microseconds p50, p99)",
        connect_rate,
    ),
    (
        "echo-latency",
        "HOST PORT COUNT   (round trips of one byte; microseconds p50, p99)",
        echo_latency,
    ),
];

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Where a HOST PORT pair points; a name goes through getaddrinfo.
fn addresses(arguments: &Arguments) -> Result<Vec<SocketAddr>, Refusal> {
    let (host, port) = (arguments.text(0)?, arguments.number::<u16>(1)?);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let started = Instant::now();
    let found = (host, port).to_socket_addrs();
    found.map(Iterator::collect).map_err(|error| {
        Refusal::Other(json!({ "step": "resolve", "how": error.to_string(), "milliseconds": milliseconds(started) }))
    })
}

/// Connects to the first address that answers, and records how each one failed.
fn connect(arguments: &Arguments, limit: Duration) -> Result<(TcpStream, Vec<Value>), Refusal> {
    let mut tried = Vec::new();
    let mut last = None;
    for address in addresses(arguments)? {
        let started = Instant::now();
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                tried.push(json!({ "address": address.ip().to_string(), "how": "ok", "milliseconds": milliseconds(started) }));
                return Ok((stream, tried));
            }
            Err(error) => {
                let how = if error.raw_os_error().is_some() {
                    name_of(&error)
                } else {
                    "timeout".to_owned()
                };
                tried.push(json!({ "address": address.ip().to_string(), "how": how, "milliseconds": milliseconds(started) }));
                last = error.raw_os_error();
            }
        }
    }
    let detail = json!({ "step": "connect", "tried": tried });
    Err(match last {
        Some(number) => Refusal::Errno(rustix::io::Errno::from_raw_os_error(number), detail),
        None => Refusal::Other(detail),
    })
}

fn tcp(arguments: &Arguments) -> Attempt {
    let (stream, tried) = connect(arguments, arguments.milliseconds_or(2, 5000)?)?;
    Ok(
        json!({ "peer": stream.peer_addr()?.to_string(), "local": stream.local_addr()?.to_string(), "tried": tried }),
    )
}

/// Reads until the end, an error, `limit` bytes or the timeout, and says which.
fn read_answer(stream: &mut TcpStream, limit: usize) -> (Vec<u8>, String) {
    let mut answer = Vec::new();
    let mut chunk = vec![0; 65536];
    let end = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break "end of stream".to_owned(),
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                break "timeout".to_owned();
            }
            Err(error) => break name_of(&error),
        }
        if answer.len() >= limit {
            break "enough".to_owned();
        }
    };
    (answer, end)
}

fn tcp_talk(arguments: &Arguments) -> Attempt {
    let limit = arguments.milliseconds_or(3, 5000)?;
    let text = unescape(arguments.text(2)?)
        .ok_or_else(|| Refusal::Usage("odd escape in TEXT".to_owned()))?;
    let (mut stream, tried) = connect(arguments, limit)?;
    let started = Instant::now();
    stream.set_read_timeout(Some(limit))?;
    let sent = stream
        .write_all(&text)
        .map_or_else(|error| name_of(&error), |()| "ok".to_owned());
    let (answer, end) = read_answer(&mut stream, 65536);
    let hex: String = answer
        .iter()
        .take(64)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let detail = json!({
        "tried": tried, "sent": sent, "end": end, "bytes": answer.len(), "text": shorten(&answer, 2000), "hex": hex,
        "milliseconds": milliseconds(started),
    });
    // Who reset the connection before the text was sent is told of by the write alone; the read sees an end.
    if answer.is_empty() && (end != "end of stream" || sent != "ok") {
        Err(Refusal::Other(detail))
    } else {
        Ok(detail)
    }
}

/// Reads `\r`, `\n`, `\\` and `\xNN`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b'\\' => b'\\',
                b'x' => {
                    let pair = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
                }
                _ => return None,
            },
            other => other,
        });
    }
    Some(bytes)
}

fn http(arguments: &Arguments) -> Attempt {
    let limit = arguments.milliseconds_or(4, 5000)?;
    let (host, path) = (arguments.text(2)?, arguments.text(3)?);
    let started = Instant::now();
    let (mut stream, tried) = connect(arguments, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let (answer, end) = read_answer(&mut stream, 1 << 20);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status: Option<u16> = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let detail = json!({
        "status": status, "head": head, "body": shorten(body.as_bytes(), 2000), "end": end, "tried": tried,
        "milliseconds": milliseconds(started),
    });
    if status.is_some_and(|status| (200..300).contains(&status)) {
        Ok(detail)
    } else {
        Err(Refusal::Other(detail))
    }
}

fn resolve(arguments: &Arguments) -> Attempt {
    let started = Instant::now();
    let name = arguments.text(0)?;
    match (name, 0u16).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<String> =
                found.map(|address| address.ip().to_string()).collect();
            addresses.sort();
            addresses.dedup();
            Ok(json!({ "addresses": addresses, "milliseconds": milliseconds(started) }))
        }
        Err(error) => Err(Refusal::Other(
            json!({ "how": error.to_string(), "milliseconds": milliseconds(started) }),
        )),
    }
}

fn any(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn first_address(arguments: &Arguments) -> Result<SocketAddr, Refusal> {
    addresses(arguments)?
        .into_iter()
        .next()
        .ok_or_else(|| Refusal::Other(json!("no address")))
}

fn udp(arguments: &Arguments) -> Attempt {
    let peer = first_address(arguments)?;
    let socket = UdpSocket::bind(any(peer))?;
    socket.connect(peer)?;
    let started = Instant::now();
    socket.set_read_timeout(Some(arguments.milliseconds_or(3, 2000)?))?;
    socket.send(arguments.text(2)?.as_bytes())?;
    let mut bytes = vec![0; 65536];
    match socket.recv(&mut bytes) {
        Ok(count) => Ok(
            json!({ "bytes": count, "text": shorten(&bytes[..count], 400), "milliseconds": milliseconds(started) }),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Refusal::Other(json!({ "how": "timeout" })))
        }
        Err(error) => {
            let errno =
                rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or_default());
            Err(Refusal::Errno(
                errno,
                json!({ "milliseconds": milliseconds(started) }),
            ))
        }
    }
}

fn udp_unconnected(arguments: &Arguments) -> Attempt {
    let peer = first_address(arguments)?;
    let socket = UdpSocket::bind(any(peer))?;
    socket.set_read_timeout(Some(arguments.milliseconds_or(3, 2000)?))?;
    socket.send_to(arguments.text(2)?.as_bytes(), peer)?;
    let mut bytes = vec![0; 65536];
    match socket.recv_from(&mut bytes) {
        Ok((count, from)) => Ok(
            json!({ "bytes": count, "from": from.to_string(), "text": shorten(&bytes[..count], 400) }),
        ),
        Err(_) => Err(Refusal::Other(json!({ "how": "timeout" }))),
    }
}

fn dns(arguments: &Arguments) -> Attempt {
    let server: IpAddr = parse_word(arguments.text(0)?)?;
    let transport = arguments.text(1)?;
    let record_type = type_of(arguments.text(3)?)?;
    let mut questions = vec![DnsQuestion::new(arguments.text(2)?, record_type)];
    let mut header = DnsHeader::default();
    let (mut port, mut raw, mut limit) = (53, None, Duration::from_secs(5));
    for word in arguments.rest(4) {
        let word = word
            .to_str()
            .ok_or_else(|| Refusal::Usage("options are text".to_owned()))?;
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| Refusal::Usage(format!("`{word}` is no option")))?;
        match key {
            "port" => port = parse_word(value)?,
            "id" => header.id = parse_word(value)?,
            "flags" => header.flags = parse_word(value)?,
            "class" => questions[0].class = parse_word(value)?,
            "edns" => header.edns_payload = Some(parse_word(value)?),
            "count" => header.claimed_questions = Some(parse_word(value)?),
            "timeout" => limit = Duration::from_millis(parse_word(value)?),
            "raw" => {
                raw = Some(
                    unhex(value)
                        .ok_or_else(|| Refusal::Usage("raw is not hexadecimal".to_owned()))?,
                )
            }
            "also" => {
                let (name, kind) = value
                    .split_once('/')
                    .ok_or_else(|| Refusal::Usage("also=NAME/TYPE".to_owned()))?;
                questions.push(DnsQuestion::new(name, type_of(kind)?));
            }
            other => return Err(Refusal::Usage(format!("`{other}` is no option"))),
        }
    }
    let query = raw.unwrap_or_else(|| build(header, &questions));
    let server = SocketAddr::new(server, port);
    let started = Instant::now();
    let (answer, from) = match transport {
        "udp" => ask_udp(server, &query, limit)?,
        "tcp" => ask_tcp(server, &query, limit)?,
        other => return Err(Refusal::Usage(format!("`{other}` is neither udp nor tcp"))),
    };
    let elapsed = milliseconds(started);
    let Some(message) = parse(&answer) else {
        return Err(Refusal::Other(
            json!({ "how": "not a DNS message", "bytes": answer.len() }),
        ));
    };
    let answers: Vec<Value> = message
        .answers
        .iter()
        .map(|record| {
            json!([
                record.name,
                type_name(record.record_type),
                record.ttl,
                record.data
            ])
        })
        .collect();
    let detail = json!({
        "code": message.response_code(), "truncated": message.is_truncated(), "flags": message.flags, "answers": answers,
        "questions": message.questions.len(), "extended_error": message.extended_error(), "from": from,
        "id_matches": message.id == header.id, "milliseconds": elapsed,
    });
    if message.response_code() == 0 {
        Ok(detail)
    } else {
        Err(Refusal::Other(detail))
    }
}

fn parse_word<T: std::str::FromStr>(word: &str) -> Result<T, Refusal> {
    word.parse()
        .map_err(|_| Refusal::Usage(format!("`{word}` is odd")))
}

fn type_of(word: &str) -> Result<u16, Refusal> {
    type_number(word).ok_or_else(|| Refusal::Usage(format!("`{word}` is no record type")))
}

fn late_or_errno(error: &std::io::Error, step: &str) -> Refusal {
    match error.raw_os_error() {
        // EAGAIN is how a read timeout shows.
        Some(number) if error.kind() != std::io::ErrorKind::WouldBlock => Refusal::Errno(
            rustix::io::Errno::from_raw_os_error(number),
            json!({ "step": step }),
        ),
        _ => Refusal::Other(json!({ "how": "timeout", "step": step })),
    }
}

fn ask_udp(
    server: SocketAddr,
    query: &[u8],
    limit: Duration,
) -> Result<(Vec<u8>, String), Refusal> {
    let socket = UdpSocket::bind(any(server))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(limit))?;
    socket
        .send(query)
        .map_err(|error| late_or_errno(&error, "send"))?;
    let mut bytes = vec![0; 65536];
    let count = socket
        .recv(&mut bytes)
        .map_err(|error| late_or_errno(&error, "receive"))?;
    bytes.truncate(count);
    // A connected socket hears its peer only: the answer's source address was right.
    Ok((bytes, server.to_string()))
}

fn ask_tcp(
    server: SocketAddr,
    query: &[u8],
    limit: Duration,
) -> Result<(Vec<u8>, String), Refusal> {
    let mut stream = TcpStream::connect_timeout(&server, limit)
        .map_err(|error| late_or_errno(&error, "connect"))?;
    stream.set_read_timeout(Some(limit))?;
    let length = u16::try_from(query.len())
        .map_err(|_| Refusal::Usage("the query is too long".to_owned()))?;
    stream
        .write_all(&[&length.to_be_bytes()[..], query].concat())
        .map_err(|error| late_or_errno(&error, "send"))?;
    let mut length = [0; 2];
    stream
        .read_exact(&mut length)
        .map_err(|error| late_or_errno(&error, "receive"))?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream
        .read_exact(&mut bytes)
        .map_err(|error| late_or_errno(&error, "receive"))?;
    Ok((bytes, server.to_string()))
}

fn half_close(arguments: &Arguments) -> Attempt {
    let limit = arguments.milliseconds_or(3, 10_000)?;
    let count: u64 = arguments.number(2)?;
    let (mut stream, _) = connect(arguments, limit)?;
    stream.set_read_timeout(Some(limit))?;
    std::io::copy(&mut std::io::repeat(b'x').take(count), &mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    let (answer, end) = read_answer(&mut stream, 65536);
    let detail = json!({ "text": shorten(&answer, 400), "end": end });
    if end == "end of stream" && !answer.is_empty() {
        Ok(detail)
    } else {
        Err(Refusal::Other(detail))
    }
}

fn half_close_peer(arguments: &Arguments) -> Attempt {
    let limit = arguments.milliseconds_or(3, 10_000)?;
    let count: u64 = arguments.number(2)?;
    let (mut stream, _) = connect(arguments, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let (answer, end) = read_answer(&mut stream, 65536);
    if end != "end of stream" {
        return Err(Refusal::Other(
            json!({ "text": shorten(&answer, 400), "end": end }),
        ));
    }
    std::io::copy(&mut std::io::repeat(b'x').take(count), &mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(json!({ "text": shorten(&answer, 400), "sent": count }))
}

fn listen(arguments: &Arguments) -> Attempt {
    let address = SocketAddr::new(parse_word(arguments.text(0)?)?, arguments.number(1)?);
    let listener = TcpListener::bind(address)?;
    let limit = arguments.milliseconds_or(2, 10_000)?;
    let timespec = rustix::event::Timespec {
        tv_sec: limit.as_secs().cast_signed(),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut waits = [rustix::event::PollFd::new(
        &listener,
        rustix::event::PollFlags::IN,
    )];
    if rustix::event::poll(&mut waits, Some(&timespec))? == 0 {
        return Err(Refusal::Other(json!({ "how": "nobody came" })));
    }
    let (mut stream, peer) = listener.accept()?;
    stream.write_all(b"hello from rcc-probe\n")?;
    Ok(json!({ "peer": peer.to_string() }))
}

/// Bytes per second of a transfer.
fn rate(bytes: u64, since: Instant) -> Value {
    let seconds = since.elapsed().as_secs_f64();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate has three digits that mean something"
    )]
    let per_second = (bytes as f64 / seconds).round();
    json!({ "bytes": bytes, "seconds": seconds, "bytes_per_second": per_second })
}

fn download(arguments: &Arguments) -> Attempt {
    let (mut stream, _) = connect(arguments, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let span = Duration::from_millis(arguments.number(2)?);
    let mut chunk = vec![0; 256 * 1024];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < span {
        match stream.read(&mut chunk)? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    Ok(rate(bytes, started))
}

fn upload(arguments: &Arguments) -> Attempt {
    let (mut stream, _) = connect(arguments, Duration::from_secs(5))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let span = Duration::from_millis(arguments.number(2)?);
    let chunk = vec![0; 256 * 1024];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < span {
        bytes += stream.write(&chunk)? as u64;
    }
    Ok(rate(bytes, started))
}

fn percentiles(mut microseconds: Vec<u128>) -> Value {
    microseconds.sort_unstable();
    let at = |percent: usize| {
        microseconds
            .get(microseconds.len().saturating_sub(1) * percent / 100)
            .copied()
            .unwrap_or(0)
    };
    let total: u128 = microseconds.iter().sum();
    json!({ "count": microseconds.len(), "p50_us": at(50), "p99_us": at(99), "total_us": total })
}

fn connect_rate(arguments: &Arguments) -> Attempt {
    let address = first_address(arguments)?;
    let mut times = Vec::new();
    for _ in 0..arguments.number::<u32>(2)? {
        let started = Instant::now();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        times.push(started.elapsed().as_micros());
        // RST instead of TIME_WAIT, or a long run would use up the local ports.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(percentiles(times))
}

fn echo_latency(arguments: &Arguments) -> Attempt {
    let (mut stream, _) = connect(arguments, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut times = Vec::new();
    for _ in 0..arguments.number::<u32>(2)? {
        let started = Instant::now();
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        times.push(started.elapsed().as_micros());
    }
    Ok(percentiles(times))
}
