//! Measures the gateway against direct loopback, side by side: streams, new connections, messages, DNS, memory.
//!
//! `cargo run --release -p rcc-gateway --example gateway_bench [ROUNDS]` prints medians of interleaved rounds. Everything stays on the
//! loopback interface; namespaces and TPROXY are not part of it.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program for developers"
)]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcc_gateway::{
    AuditSink, Gateway, GatewayConfig, HostAddresses, HostTransport, Limits, LiveConfig, Route,
    SyntheticRanges, Transport, Upstream,
};
use rcc_spec::{NetworkMode, NetworkPolicy, Origin, Rule, RuleSet};
use rcc_sys::socket::Datagram;
use rcc_testkit::dns::{DnsHeader, DnsQuestion, build, parse};

const STREAM_TIME: Duration = Duration::from_millis(1000);
const PORTION: usize = 256 << 10;
const CONNECTIONS: usize = 4000;
const MESSAGES: usize = 10_000;
const QUERIES: usize = 10_000;

/// Every connection is for the one allowed name, and that leads to the local server.
struct BenchTransport {
    server: SocketAddr,
}

impl Transport for BenchTransport {
    fn original_destination(&self, accepted: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        // The same call as in a run, for the same cost.
        HostTransport.original_destination(accepted)?;
        Ok("198.18.1.0:443".parse().unwrap())
    }

    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
        let (length, _, source) =
            rustix::net::recvfrom(socket, buffer, rustix::net::RecvFlags::empty())?;
        Ok(Datagram {
            length,
            truncated: false,
            source: SocketAddr::try_from(source.unwrap())?,
            original_destination: "192.0.2.53:53".parse().unwrap(),
        })
    }

    fn reply(&self, socket: BorrowedFd<'_>, answer: &[u8], to: &Datagram) -> io::Result<()> {
        rustix::net::sendto(socket, answer, rustix::net::SendFlags::empty(), &to.source)?;
        Ok(())
    }

    fn route(&self, address: IpAddr) -> Route {
        HostTransport.route(address);
        Route::Reachable
    }

    fn connect(&self, _checked: SocketAddr) -> io::Result<OwnedFd> {
        rcc_gateway::connect(self.server)
    }
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(7, |word| word.parse().unwrap());
    let hosts = std::env::temp_dir().join(format!("rcc-bench-hosts-{}", std::process::id()));
    std::fs::write(&hosts, "203.0.113.7 peer.example.com\n").unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = pss_kib();
    let (gateway, tcp, dns) = start(&hosts, server.local_addr().unwrap());
    println!(
        "idle gateway: {} KiB PSS more than without (before {before} KiB)",
        pss_kib() - before
    );
    ask(dns);
    let direct = server.local_addr().unwrap();

    let mut ratios = Direction::ALL.map(|direction| (direction, Ratio::default()));
    for _ in 0..rounds {
        for (direction, ratio) in &mut ratios {
            ratio.direct.push(stream(direct, &server, *direction).0);
            let (rate, processor) = stream(tcp, &server, *direction);
            ratio.gateway.push(rate);
            ratio.processor.push(processor);
        }
    }
    for (direction, ratio) in &ratios {
        ratio.print(direction.words());
    }

    let greeter = std::thread::spawn(move || greet(&server));
    let mut rates = (Vec::new(), Vec::new());
    let mut latencies = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (rate, latency) = connections(direct);
        rates.0.push(rate);
        latencies.0.push(latency);
        let (rate, latency) = connections(tcp);
        rates.1.push(rate);
        latencies.1.push(latency);
    }
    println!(
        "new connections one after the other: {:.0}/s direct, {:.0}/s through the gateway; p50 {:.1} us direct, {:.1} us through",
        median(&rates.0),
        median(&rates.1),
        median(&latencies.0),
        median(&latencies.1)
    );
    let mut messages = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        messages.0.push(round_trip(direct));
        messages.1.push(round_trip(tcp));
    }
    println!(
        "round trip of 64 bytes: p50 {:.1} us direct, {:.1} us through",
        median(&messages.0),
        median(&messages.1)
    );
    println!("DNS answer, cached: p50 {:.1} us", queries(dns));
    println!(
        "busy gateway: {} KiB PSS more than before",
        pss_kib() - before
    );
    println!("{:?}", gateway.shutdown().unwrap());
    drop(TcpStream::connect(direct));
    drop(greeter);
    std::fs::remove_file(hosts).unwrap();
}

fn start(hosts: &PathBuf, server: SocketAddr) -> (Gateway, SocketAddr, SocketAddr) {
    let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
    policy.push(Rule::parse("peer.example.com", Origin::flag("--allow")).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = (listener.local_addr().unwrap(), dns.local_addr().unwrap());
    let audit = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let gateway = Gateway::start(GatewayConfig {
        run_id: "bench".into(),
        rules: Arc::new(RuleSet::compile(&policy)),
        host_addresses: HostAddresses::read_by(Vec::new),
        tcp_listener: listener.into(),
        dns_socket: dns.into(),
        udp: None,
        synthetic: SyntheticRanges::default(),
        upstream: Upstream::files("/dev/null", hosts),
        transport: Arc::new(BenchTransport { server }),
        upstream_proxy: None,
        published: None,
        audit: AuditSink::File(audit),
        limits: Limits::default(),
        live: LiveConfig {
            policy: Arc::new(policy),
            listener: None,
        },
    });
    (gateway.unwrap(), addresses.0, addresses.1)
}

#[derive(Default)]
struct Ratio {
    direct: Vec<f64>,
    gateway: Vec<f64>,
    processor: Vec<f64>,
}

impl Ratio {
    fn print(&self, what: &str) {
        let (direct, gateway) = (median(&self.direct), median(&self.gateway));
        println!(
            "{what}: {direct:.1} Gbit/s direct, {gateway:.1} through the gateway, ratio {:.2}; gateway's thread {:.0} ms of processor per GB",
            gateway / direct,
            median(&self.processor)
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
    Upload,
    Chunks,
    Download,
}

impl Direction {
    const ALL: [Self; 5] = [
        Self::Up,
        Self::Down,
        Self::Upload,
        Self::Chunks,
        Self::Download,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Up => "stream to the world",
            Self::Down => "stream from the world",
            Self::Upload => "HTTP upload",
            Self::Chunks => "HTTP upload in chunks of 256 KiB",
            Self::Download => "HTTP download",
        }
    }
}

const UPLOAD: &str =
    "PUT / HTTP/1.1\r\nHost: peer.example.com\r\nContent-Length: 1000000000000000\r\n\r\n";
const CHUNKS: &str =
    "PUT / HTTP/1.1\r\nHost: peer.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
const DOWNLOAD: &str = "GET / HTTP/1.1\r\nHost: peer.example.com\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n";

/// One stream; returns Gbit/s and milliseconds of the gateway's processor time per GB.
fn stream(address: SocketAddr, server: &TcpListener, direction: Direction) -> (f64, f64) {
    let mut client = TcpStream::connect(address).unwrap();
    let (mut peer, _) = server.accept().unwrap();
    let mut portion = vec![1; PORTION];
    match direction {
        Direction::Up | Direction::Down => {}
        Direction::Upload => client.write_all(UPLOAD.as_bytes()).unwrap(),
        Direction::Chunks => {
            client.write_all(CHUNKS.as_bytes()).unwrap();
            portion = [format!("{PORTION:x}\r\n").as_bytes(), &portion, b"\r\n"].concat();
        }
        Direction::Download => {
            client.write_all(DOWNLOAD.as_bytes()).unwrap();
            peer.read_exact(&mut vec![0; DOWNLOAD.len()]).unwrap();
            peer.write_all(ANSWER.as_bytes()).unwrap();
        }
    }
    let (mut source, mut sink) = match direction {
        Direction::Up | Direction::Upload | Direction::Chunks => (client, peer),
        Direction::Down | Direction::Download => (peer, client),
    };
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; PORTION];
        let mut total = 0_u64;
        loop {
            let count = sink.read(&mut buffer).unwrap();
            if count == 0 {
                return total;
            }
            total += count as u64;
        }
    });
    let before = gateway_processor_time();
    let started = Instant::now();
    while started.elapsed() < STREAM_TIME {
        source.write_all(&portion).unwrap();
    }
    source.shutdown(Shutdown::Write).unwrap();
    let total = reader.join().unwrap() as f64;
    let seconds = started.elapsed().as_secs_f64();
    let processor = (gateway_processor_time() - before).as_secs_f64();
    (total * 8.0 / seconds / 1e9, processor * 1e3 / (total / 1e9))
}

/// Accepts for ever: says one byte, then echoes until the end.
fn greet(server: &TcpListener) {
    let mut buffer = [0; 64];
    for stream in server.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        if stream.write_all(b"x").is_err() {
            continue;
        }
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 || stream.write_all(buffer.get(..count).unwrap()).is_err() {
                break;
            }
        }
    }
}

/// Connections one after the other; returns the rate and the median time to the first byte in microseconds.
fn connections(address: SocketAddr) -> (f64, f64) {
    let mut times = Vec::with_capacity(CONNECTIONS);
    let started = Instant::now();
    for _ in 0..CONNECTIONS {
        let one = Instant::now();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        times.push(one.elapsed().as_secs_f64() * 1e6);
        // Ends without a waiting period that would use up the ports.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    (
        CONNECTIONS as f64 / started.elapsed().as_secs_f64(),
        median(&times),
    )
}

fn round_trip(address: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let mut times = Vec::with_capacity(MESSAGES);
    let mut message = [7; 64];
    for _ in 0..MESSAGES {
        let one = Instant::now();
        stream.write_all(&message).unwrap();
        stream.read_exact(&mut message).unwrap();
        times.push(one.elapsed().as_secs_f64() * 1e6);
    }
    median(&times)
}

fn ask(dns: SocketAddr) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(dns).unwrap();
    let query = build(
        DnsHeader::default(),
        &[DnsQuestion::new("peer.example.com", 1)],
    );
    let mut buffer = [0; 512];
    let started = Instant::now();
    socket.send(&query).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    let time = started.elapsed().as_secs_f64() * 1e6;
    assert_eq!(
        parse(&buffer[..length]).unwrap().answers[0].data,
        "198.18.1.0"
    );
    time
}

fn queries(dns: SocketAddr) -> f64 {
    let times: Vec<f64> = (0..QUERIES).map(|_| ask(dns)).collect();
    median(&times)
}

/// Processor time of the thread `rcc-gateway` (`/proc/PID/task/TID/schedstat`, first field, nanoseconds).
fn gateway_processor_time() -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if std::fs::read_to_string(path.join("comm"))
            .unwrap_or_default()
            .trim()
            == "rcc-gateway"
        {
            let text = std::fs::read_to_string(path.join("schedstat")).unwrap();
            return Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap());
        }
    }
    Duration::ZERO
}

fn pss_kib() -> i64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
