//! A gateway under test with its fake surroundings.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rcc_gateway::{
    AuditSink, Gateway, GatewayConfig, GatewayControl, HostAddresses, Limits, LiveConfig, Route,
    Summary, SyntheticRanges, Transport, Upstream,
};
use rcc_spec::{NetworkMode, NetworkPolicy, Origin, Rule, RuleSet};
use rcc_sys::socket::Datagram;
use rcc_testkit::dns::{DnsHeader, DnsMessage, DnsQuestion, build, parse, type_number};

/// Longer than anything that works takes, shorter than a human's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Presents connections to any address and dials only what was mapped.
#[derive(Default)]
pub(crate) struct TestTransport {
    /// Source port of a client to where it "connects".
    destinations: Mutex<HashMap<u16, SocketAddr>>,
    /// Address of the world to local server.
    servers: Mutex<HashMap<SocketAddr, SocketAddr>>,
    /// Addresses that the routing table knows as the host's own.
    own: Mutex<Vec<IpAddr>>,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Transport for TestTransport {
    fn original_destination(&self, accepted: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        let peer = SocketAddr::try_from(
            rustix::net::getpeername(accepted)?.ok_or(io::ErrorKind::NotConnected)?,
        )?;
        let destination = self.destinations.lock().unwrap().get(&peer.port()).copied();
        Ok(destination.expect("the test registered this client"))
    }

    fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
        let (length, whole, source) =
            rustix::net::recvfrom(socket, &mut *buffer, rustix::net::RecvFlags::TRUNC)?;
        Ok(Datagram {
            length,
            truncated: whole > length,
            source: SocketAddr::try_from(source.expect("UDP has a source"))?,
            original_destination: "192.0.2.53:53".parse().unwrap(),
        })
    }

    fn reply(&self, socket: BorrowedFd<'_>, answer: &[u8], to: &Datagram) -> io::Result<()> {
        assert_eq!(to.original_destination, "192.0.2.53:53".parse().unwrap());
        rustix::net::sendto(socket, answer, rustix::net::SendFlags::empty(), &to.source)?;
        Ok(())
    }

    fn route(&self, address: IpAddr) -> Route {
        match self.own.lock().unwrap().contains(&address) {
            true => Route::Own,
            false => Route::Reachable,
        }
    }

    fn connect(&self, checked: SocketAddr) -> io::Result<OwnedFd> {
        self.dialled.lock().unwrap().push(checked);
        match self.servers.lock().unwrap().get(&checked) {
            Some(server) => rcc_gateway::connect(*server),
            None => Err(io::ErrorKind::HostUnreachable.into()),
        }
    }
}

/// What to start a gateway with.
pub(crate) struct Setup {
    mode: NetworkMode,
    allow: Vec<String>,
    deny: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) synthetic: SyntheticRanges,
    pub(crate) host_addresses: Vec<IpAddr>,
    pub(crate) ask_seconds: Option<u32>,
    pub(crate) control: Option<OwnedFd>,
}

impl Setup {
    pub(crate) fn mode(mode: NetworkMode) -> Self {
        Self {
            mode,
            allow: Vec::new(),
            deny: Vec::new(),
            limits: Limits {
                connect_time: Duration::from_secs(5),
                ..Limits::default()
            },
            upstream: None,
            synthetic: SyntheticRanges::default(),
            host_addresses: vec!["192.0.2.200".parse().unwrap()],
            ask_seconds: None,
            control: None,
        }
    }

    pub(crate) fn allow(rules: &[&str]) -> Self {
        let allow = rules.iter().map(ToString::to_string).collect();
        Self {
            allow,
            ..Self::mode(NetworkMode::Allowlist)
        }
    }

    pub(crate) fn deny(mut self, rules: &[&str]) -> Self {
        self.deny = rules.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn start(self) -> World {
        let mut policy = policy(self.mode, &self.allow, &self.deny);
        policy.ask_seconds = self.ask_seconds;
        let names = NameServer::start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        let transport = Arc::new(TestTransport::default());
        let (tcp_address, dns_address) =
            (listener.local_addr().unwrap(), dns.local_addr().unwrap());
        let audit = temporary_file();
        let gateway = Gateway::start(GatewayConfig {
            run_id: "test-run".into(),
            rules: Arc::new(RuleSet::compile(&policy)),
            host_addresses: HostAddresses::read_by(move || self.host_addresses.clone()),
            tcp_listener: listener.into(),
            dns_socket: dns.into(),
            udp: None,
            synthetic: self.synthetic,
            upstream: self
                .upstream
                .unwrap_or_else(|| Upstream::servers(vec![names.address])),
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            upstream_proxy: None,
            published: None,
            audit: AuditSink::File(audit.try_clone().unwrap()),
            limits: self.limits,
            live: LiveConfig {
                policy: Arc::new(policy),
                listener: self.control,
            },
        })
        .unwrap();
        World {
            gateway: Some(gateway),
            transport,
            names,
            tcp_address,
            dns_address,
            audit,
        }
    }
}

/// Compiles rules.
pub(crate) fn rules(
    mode: NetworkMode,
    allow: &[impl AsRef<str>],
    deny: &[impl AsRef<str>],
) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(&policy(mode, allow, deny)))
}

fn policy(mode: NetworkMode, allow: &[impl AsRef<str>], deny: &[impl AsRef<str>]) -> NetworkPolicy {
    let mut policy = NetworkPolicy::new(mode);
    for rule in allow {
        policy.push(Rule::parse(rule.as_ref(), Origin::flag("--allow")).unwrap());
    }
    for rule in deny {
        policy.push(Rule::parse_deny(rule.as_ref(), Origin::flag("--deny")).unwrap());
    }
    policy
}

pub(crate) fn temporary_file() -> File {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::APPEND;
    open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)
        .unwrap()
        .into()
}

/// A running gateway with its name server.
pub(crate) struct World {
    gateway: Option<Gateway>,
    pub(crate) transport: Arc<TestTransport>,
    pub(crate) names: NameServer,
    tcp_address: SocketAddr,
    dns_address: SocketAddr,
    audit: File,
}

impl World {
    /// Runs a local server as `address` of the world, once per connection on a thread of its own.
    pub(crate) fn serve(&self, address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.map(address, listener.local_addr().unwrap());
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream.unwrap(), Arc::clone(&serve));
                std::thread::spawn(move || serve(stream));
            }
        });
    }

    /// Makes `address` of the world lead to a local one.
    pub(crate) fn map(&self, address: &str, local: SocketAddr) {
        self.transport
            .servers
            .lock()
            .unwrap()
            .insert(address.parse().unwrap(), local);
    }

    /// Makes an address one of the host's own in the eyes of the routing table.
    pub(crate) fn own(&self, address: &str) {
        self.transport
            .own
            .lock()
            .unwrap()
            .push(address.parse().unwrap());
    }

    /// Addresses that the gateway dialled.
    pub(crate) fn dialled(&self) -> Vec<SocketAddr> {
        self.transport.dialled.lock().unwrap().clone()
    }

    /// Connects as a program inside the sandbox would.
    pub(crate) fn connect(&self, destination: &str) -> TcpStream {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&client, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        let stream = TcpStream::from(client);
        let port = stream.local_addr().unwrap().port();
        let destination = destination.parse().unwrap();
        self.transport
            .destinations
            .lock()
            .unwrap()
            .insert(port, destination);
        connect(&stream, &self.tcp_address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Looks a name up and connects to its synthetic IPv4 address.
    pub(crate) fn connect_name(&self, name: &str, port: u16) -> TcpStream {
        let answer = self.ask(name, "A");
        let address = &answer
            .answers
            .first()
            .expect("the name has an address")
            .data;
        self.connect(&format!("{address}:{port}"))
    }

    /// Sends raw bytes to the DNS service over UDP and returns the raw answer.
    pub(crate) fn exchange_udp(&self, message: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(self.dns_address).unwrap();
        socket.send(message).unwrap();
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer).expect("the gateway answers");
        buffer.truncate(length);
        buffer
    }

    /// Sends raw bytes to the DNS service over TCP, to some resolver's address.
    pub(crate) fn exchange_tcp(&self, message: &[u8]) -> Vec<u8> {
        let mut stream = self.connect("203.0.113.253:53");
        write_framed(&mut stream, message);
        read_framed(&mut stream).expect("the gateway answers")
    }

    /// Sends a DNS message without waiting for its answer.
    pub(crate) fn send_dns(&self, socket: &UdpSocket, message: &[u8]) {
        socket.send_to(message, self.dns_address).unwrap();
    }

    /// Puts other rules in force in mode `allowlist`; the number of connections cut comes back.
    pub(crate) fn allow(&self, allow: &[&str], deny: &[&str]) -> usize {
        let rules = rules(NetworkMode::Allowlist, allow, deny);
        self.gateway.as_ref().unwrap().set_rules(rules).unwrap()
    }

    /// A handle for other threads.
    pub(crate) fn control(&self) -> GatewayControl {
        self.gateway.as_ref().unwrap().control()
    }

    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.gateway.as_ref().unwrap().ended()
    }

    /// Asks over UDP with EDNS.
    pub(crate) fn ask(&self, name: &str, kind: &str) -> DnsMessage {
        parse(&self.exchange_udp(&query(name, kind, Some(1232)))).unwrap()
    }

    /// Ends the gateway and returns its summary and log.
    pub(crate) fn finish(mut self) -> (Summary, Vec<serde_json::Value>) {
        let summary = self.gateway.take().unwrap().shutdown().unwrap();
        (summary, self.log())
    }

    /// The log as it is now.
    pub(crate) fn log(&mut self) -> Vec<serde_json::Value> {
        let mut text = String::new();
        self.audit.rewind().unwrap();
        self.audit.read_to_string(&mut text).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until the log, read again and again, satisfies a condition.
    pub(crate) fn wait_for_log(
        &mut self,
        condition: impl Fn(&[serde_json::Value]) -> bool,
    ) -> Vec<serde_json::Value> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if condition(&log) {
                return log;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the log never got there: {log:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn query(name: &str, kind: &str, edns_payload: Option<u16>) -> Vec<u8> {
    let question = DnsQuestion::new(name, type_number(kind).unwrap());
    let header = DnsHeader {
        edns_payload,
        ..DnsHeader::default()
    };
    build(header, &[question])
}

pub(crate) fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[length.as_slice(), message].concat())
        .unwrap();
}

pub(crate) fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// The resolver of the host: it records every message that it gets.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<NameServerState>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Time to live in seconds, and contents.
type TimedData = (u32, Vec<u8>);

#[derive(Default)]
struct NameServerState {
    records: HashMap<(String, u16), Vec<TimedData>>,
    aliases: HashMap<String, String>,
    /// Response code for a name, instead of an answer.
    failures: HashMap<String, u16>,
    /// Names whose UDP answers are cut.
    truncated: Vec<String>,
    /// By name and type; every type if none.
    delays: HashMap<(String, Option<u16>), Duration>,
    messages: Vec<Vec<u8>>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        // The same port for both transports; another process may have one of them.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .unwrap();
        let address = udp.local_addr().unwrap();
        let state = Arc::new(Mutex::new(NameServerState::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        threads.push(std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (length, source) = udp.recv_from(&mut buffer).unwrap();
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, socket) = (Arc::clone(&shared), udp.try_clone().unwrap());
                let message = buffer[..length].to_vec();
                std::thread::spawn(move || {
                    if let Some(answer) = reply(&shared, &message, Over::Udp) {
                        socket.send_to(&answer, source).unwrap();
                    }
                });
            }
        }));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        threads.push(std::thread::spawn(move || {
            for stream in tcp.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                while let Some(message) = read_framed(&mut stream) {
                    let answer = reply(&shared, &message, Over::Tcp).unwrap();
                    write_framed(&mut stream, &answer);
                }
            }
        }));
        Self {
            address,
            state,
            stop,
            threads,
        }
    }

    /// Adds address records.
    pub(crate) fn host(&self, name: &str, addresses: &[&str]) {
        for address in addresses {
            match address.parse().unwrap() {
                IpAddr::V4(address) => self.record(name, "A", 300, &address.octets()),
                IpAddr::V6(address) => self.record(name, "AAAA", 300, &address.octets()),
            }
        }
    }

    pub(crate) fn record(&self, name: &str, kind: &str, ttl: u32, data: &[u8]) {
        let key = (name.to_owned(), type_number(kind).unwrap());
        let mut state = self.state.lock().unwrap();
        state
            .records
            .entry(key)
            .or_default()
            .push((ttl, data.to_vec()));
    }

    pub(crate) fn forget(&self, name: &str) {
        self.state
            .lock()
            .unwrap()
            .records
            .retain(|(owner, _), _| owner != name);
    }

    pub(crate) fn alias(&self, name: &str, target: &str) {
        self.state
            .lock()
            .unwrap()
            .aliases
            .insert(name.to_owned(), target.to_owned());
    }

    pub(crate) fn fail(&self, name: &str, rcode: u16) {
        self.state
            .lock()
            .unwrap()
            .failures
            .insert(name.to_owned(), rcode);
    }

    pub(crate) fn truncate(&self, name: &str) {
        self.state.lock().unwrap().truncated.push(name.to_owned());
    }

    pub(crate) fn delay(&self, name: &str, kind: Option<&str>, time: Duration) {
        let key = (name.to_owned(), kind.map(|kind| type_number(kind).unwrap()));
        self.state.lock().unwrap().delays.insert(key, time);
    }

    /// Everything that arrived, as raw messages.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().messages.clone()
    }

    /// Names that were asked for, sorted, once each.
    pub(crate) fn names_seen(&self) -> Vec<String> {
        let messages = self.messages();
        let mut names: Vec<String> = messages
            .iter()
            .flat_map(|message| {
                parse(message)
                    .expect("rcc's queries are well formed")
                    .questions
            })
            .map(|question| question.name())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .send_to(b"stop", self.address);
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

/// Answers one message as a recursive resolver does.
fn reply(state: &Mutex<NameServerState>, message: &[u8], over: Over) -> Option<Vec<u8>> {
    let (question, delay) = {
        let mut state = state.lock().unwrap();
        state.messages.push(message.to_vec());
        let question = parse(message)?.questions.into_iter().next()?;
        let delay = [Some(question.record_type), None]
            .into_iter()
            .find_map(|kind| state.delays.get(&(question.name(), kind)).copied());
        (question, delay)
    };
    std::thread::sleep(delay.unwrap_or_default());
    let state = state.lock().unwrap();
    let name = question.name();
    let mut records = Vec::new();
    let mut owner = name.clone();
    while let Some(target) = state.aliases.get(&owner) {
        let data = wire_name(target);
        records.push((owner, 5, 300, data));
        owner = target.clone();
    }
    let known = state.records.get(&(owner.clone(), question.record_type));
    for (ttl, data) in known.into_iter().flatten() {
        records.push((owner.clone(), question.record_type, *ttl, data.clone()));
    }
    let exists = state.records.keys().any(|(name, _)| *name == owner);
    let mut flags = 0x8180;
    if let Some(rcode) = state.failures.get(&name) {
        flags |= rcode;
        records.clear();
    } else if !exists {
        flags |= 3;
    }
    if over == Over::Udp && state.truncated.contains(&name) {
        flags |= 0x0200;
        records.clear();
    }
    let mut answer = Vec::new();
    answer.extend_from_slice(message.get(..2)?);
    for number in [flags, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
        answer.extend_from_slice(&number.to_be_bytes());
    }
    let question_end = 12 + wire_name(&name).len() + 4;
    answer.extend_from_slice(message.get(12..question_end)?);
    for (owner, kind, ttl, data) in records {
        answer.extend_from_slice(&wire_name(&owner));
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1]);
        answer.extend_from_slice(&ttl.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend_from_slice(&data);
    }
    Some(answer)
}

pub(crate) fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// Reads until the end; the error of a reset is returned.
pub(crate) fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Expects that a connection on which nothing was said is refused: by a reset, or in the words of its port.
pub(crate) fn assert_refused(stream: &mut TcpStream) {
    match read_all(stream) {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        Ok(said) => {
            let is_alert = matches!(said.as_slice(), [21, 3, 3, 0, 2, 2, 49 | 80]);
            let starts = [b"HTTP/1.1 403 ", b"HTTP/1.1 502 "];
            let is_http = starts.iter().any(|start| said.starts_with(*start));
            assert!(is_alert || is_http, "{}", said.escape_ascii());
        }
    }
}

/// Expects that the connection is reset, not closed.
pub(crate) fn assert_reset(stream: &mut TcpStream) {
    let error = read_all(stream).expect_err("the connection is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}
