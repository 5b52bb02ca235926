//! The host's own network: one family only, a VPN that comes up and goes while a sandbox runs, and a host that stood still.
//! With the real program; the world's host is changed with ip(8) and mount(8) as a VPN client changes a real one.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::time::{Duration, Instant};

use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::addresses::{RESOLVER_V4, RESOLVER_V6};
use rcc_testkit::world::{Running, World, WorldConfig};
use rcc_testkit::{patience_ms, run_again_as_ordinary_user};
use support::{Place, words};

#[test]
fn the_same_as_an_ordinary_user() {
    run_again_as_ordinary_user(&[&support::program()]);
}

const OPEN: [&str; 2] = ["--network", "internet"];
/// Nothing on these hosts may wait for a family that is not there. A retransmission or a question that is asked again takes a
/// second or more; what is right takes some milliseconds, on a busy machine a few hundred.
const SOON_MS: u32 = 900;
/// For the whole of a change to be seen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn http(host: &str) -> Vec<String> {
    let authority = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    words(&["http", host, "80", &authority, "/"])
}

/// The address that served a request.
#[track_caller]
fn served_by(record: &Record) -> String {
    assert_eq!(record.detail["status"], 200, "{record:?}");
    let body = record.detail["body"].as_str().unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["served_by"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_soon(record: &Record) {
    let milliseconds = record.detail["milliseconds"].as_f64();
    assert!(
        milliseconds.is_some_and(|it| it < patience_ms(SOON_MS)),
        "{record:?}"
    );
}

/// The refusal of a request, with its code and sentence.
#[track_caller]
fn assert_refused(record: &Record, status: u16, code: &str, sentence: &str) {
    assert_eq!(record.detail["status"], status, "{record:?}");
    let head = record.detail["head"].as_str().unwrap();
    assert!(
        head.contains(&format!("X-Rcc-Reason: {code}")),
        "{record:?}"
    );
    let body = record.detail["body"].as_str().unwrap();
    assert!(body.contains(sentence), "{record:?}");
}

/// What a host with one family does with names of both, of each, and with literal addresses.
struct OneFamily {
    world: WorldConfig,
    dual: &'static str,
    /// A name whose addresses of the other family vanish.
    half_dead: &'static str,
    own_name: &'static str,
    other_name: &'static str,
    own_literal: &'static str,
    other_literal: &'static str,
    /// The family that the host has not.
    other: &'static str,
    /// The text of `/etc/resolv.conf`.
    resolver: String,
}

fn check(family: &OneFamily) {
    let config = family.world.clone().resolv_conf(&family.resolver);
    let Some(world) = World::with_or_skip(config) else {
        return;
    };
    // The host itself has the one family and not the other.
    world.probe(http(family.own_name)).assert_ok();
    assert!(!world.probe(http(family.other_name)).ok);
    let place = Place::new(&world, "one-family");
    let lines = [
        http("dual.example"),
        http("multi.example"),
        http(family.half_dead),
        http(family.own_name),
        http(family.own_literal),
        http(family.other_name),
        http(family.other_literal),
        words(&["udp", "time.example", "7", "ping"]),
        words(&["udp", family.other_literal, "7", "ping"]),
    ];
    let (records, output) = place.probes(&OPEN, &lines);
    for (record, words) in records.iter().zip(&lines) {
        let milliseconds = record.detail["milliseconds"].as_f64();
        assert!(
            milliseconds.is_some_and(|it| it < patience_ms(SOON_MS)),
            "{words:?} {record:?}\n{output}\n{:#?}",
            place.briefs()
        );
    }
    assert_eq!(served_by(&records[0]), family.dual, "{output}");
    for record in &records[1..5] {
        assert_eq!(record.detail["status"], 200, "{record:?}\n{output}");
    }
    for record in &records[5..7] {
        // Without HTTP the program would hear a reset; here it is told.
        let sentence = format!("this host has no route to its {} address", family.other);
        assert_refused(record, 502, "connect_failed", &sentence);
    }
    assert!(records[7].ok, "{output}");
    // As outside a program hears it at once; IPv6 has no better error for that.
    let errno = ["ENETUNREACH", "EACCES"][usize::from(family.other == "IPv6")];
    assert_eq!(records[8].errno.as_deref(), Some(errno), "{output}");
}

#[test]
fn a_host_with_ipv6_alone_reaches_what_it_can_and_says_what_it_cannot() {
    check(&OneFamily {
        world: WorldConfig::default().without_ipv4(),
        dual: "2001:db8::32",
        half_dead: "dead4.example",
        own_name: "v6only.example",
        other_name: "v4only.example",
        own_literal: "2001:db8::10",
        other_literal: "203.0.113.10",
        other: "IPv4",
        resolver: format!("nameserver {RESOLVER_V4}\nnameserver {RESOLVER_V6}\n"),
    });
}

#[test]
fn a_host_with_ipv4_alone_reaches_what_it_can_and_says_what_it_cannot() {
    check(&OneFamily {
        world: WorldConfig::default().without_ipv6(),
        dual: "203.0.113.32",
        half_dead: "dead6.example",
        own_name: "v4only.example",
        other_name: "v6only.example",
        own_literal: "203.0.113.10",
        other_literal: "2001:db8::10",
        other: "IPv6",
        resolver: format!("nameserver {RESOLVER_V6}\nnameserver {RESOLVER_V4}\n"),
    });
}

/// A sandbox that runs one probe after the other while the host changes.
struct Sandbox {
    run: Running,
    probes: usize,
}

impl Sandbox {
    fn start(place: &Place<'_>) -> Self {
        let program = probe::path();
        let run = place
            .rcc(["run"])
            .args(OPEN)
            .arg("--ro")
            .arg(&program)
            .args(["--", "sh"])
            .stdin_open()
            .spawn();
        Self { run, probes: 0 }
    }

    #[track_caller]
    fn probe(&mut self, words: &[String]) -> Record {
        let program = probe::path();
        let line = format!("'{}' {} </dev/null\n", program.display(), words.join(" "));
        self.run.write_stdin(line.as_bytes());
        self.run.write_stdin(b"echo\n");
        self.probes += 1;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.run.stdout_so_far();
            let lines: Vec<&str> = text.lines().collect();
            if lines.len() >= 2 * self.probes {
                return Record::from_text(lines[2 * self.probes - 2]);
            }
            let so_far = format!("{text}{}", self.run.stderr_so_far());
            assert!(Instant::now() < deadline, "no answer: {so_far}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs a script as the world's root on the far side, which also changes the host's side through `$host`.
#[track_caller]
fn change(world: &World, script: &str) {
    let host = "host='nsenter --net=/proc/1/ns/net'\nset -e\n";
    let script = format!("{host}{script}");
    let output = world.inet_command("sh").args(["-c", &script]).output();
    output.assert_success();
}

/// The host's address in the VPN. Before, it is some public address.
const VPN_ADDRESS: &str = "198.51.100.200";
/// The resolver of the VPN, by which every name is this.
const VPN_RESOLVER: &str = "198.51.100.53";
const VPN_SERVER: &str = "203.0.113.66";

#[test]
fn a_vpn_that_comes_up_and_goes_is_noticed() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "vpn");
    let own_name = "vpn-own.example";
    let file = world.directory().join("etc/hosts");
    let hosts = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{hosts}{VPN_ADDRESS} {own_name}\n")).unwrap();
    let mut sandbox = Sandbox::start(&place);
    let name = http("v4only.example");
    assert_eq!(served_by(&sandbox.probe(&name)), "203.0.113.30");
    assert!(!sandbox.probe(&http("intra.example")).ok);
    for host in [VPN_ADDRESS, own_name] {
        assert_eq!(served_by(&sandbox.probe(&http(host))), VPN_ADDRESS);
    }
    world.forget();

    let conf = world.scratch_file("vpn-resolv.conf", format!("nameserver {VPN_RESOLVER}\n"));
    change(
        &world,
        &format!(
            "ip link add vpn1 type veth peer name vpn0 netns 1
             ip link set vpn1 up
             echo 0 > /proc/sys/net/ipv4/conf/vpn1/rp_filter
             ip route add {VPN_ADDRESS}/32 dev vpn1 table local src 203.0.113.254
             $host ip address add {VPN_ADDRESS}/32 dev vpn0
             $host ip link set vpn0 up
             for to in {VPN_RESOLVER} {VPN_SERVER}; do
                 $host ip route add $to/32 dev vpn0 src {VPN_ADDRESS}
             done
             mount --bind {} /etc/resolv.conf",
            conf.display()
        ),
    );
    // What was known is forgotten, the resolver of the VPN is asked, and the way leads through it.
    let record = sandbox.probe(&name);
    assert_eq!(served_by(&record), VPN_SERVER);
    assert_soon(&record);
    let body = record.detail["body"].as_str().unwrap();
    assert!(body.contains(VPN_ADDRESS), "the peer: {body}");
    assert_eq!(
        served_by(&sandbox.probe(&http("intra.example"))),
        VPN_SERVER
    );
    // The new address is the host's own from the first moment, for literals and for names.
    for host in [VPN_ADDRESS, own_name] {
        let record = sandbox.probe(&http(host));
        assert_refused(&record, 403, "host_address", "");
        assert_soon(&record);
    }
    let served = world.http_requests();
    let to_host =
        |request: &&_| format!("{request:?}").contains(&format!("local: \"{VPN_ADDRESS}"));
    assert!(served.iter().find(to_host).is_none(), "{served:?}");

    change(
        &world,
        "umount /etc/resolv.conf
         $host ip link delete vpn0",
    );
    assert_eq!(served_by(&sandbox.probe(&name)), "203.0.113.30");
    assert!(!sandbox.probe(&http("intra.example")).ok);
    // The list of the host's addresses is read again every two seconds.
    let deadline = Instant::now() + PATIENCE;
    let last = loop {
        let record = sandbox.probe(&http(VPN_ADDRESS));
        if record.ok || Instant::now() > deadline {
            break record;
        }
        assert_refused(&record, 403, "host_address", "");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(served_by(&last), VPN_ADDRESS);
    sandbox.run.close_stdin();
    sandbox.run.wait().assert_success();
}

#[test]
fn a_host_that_stood_still_goes_on_and_asks_again() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "stood-still");
    let mut sandbox = Sandbox::start(&place);
    let asked = || {
        let queries = world.strange_queries();
        let of_name = queries.iter().filter(|query| query.name == "ttl0.example");
        of_name.count()
    };
    let name = http("ttl0.example");
    sandbox.probe(&name).assert_ok();
    let before = asked();
    assert!(before > 0);
    // As a machine that sleeps: nothing of the run goes on, the clocks do. An answer is kept for five seconds at least.
    let processes = world.processes();
    let mut of_run = vec![sandbox.run.pid()];
    let mut next = 0;
    while let Some(&parent) = of_run.get(next) {
        let children = processes.iter().filter(|process| process.parent == parent);
        of_run.extend(children.map(|process| process.pid));
        next += 1;
    }
    assert!(of_run.len() > 2, "{processes:?}");
    let ids: Vec<String> = of_run.iter().map(ToString::to_string).collect();
    let stop = ids.join(" ");
    // Children first: a supervisor that finds its agent stopped stops itself, as after Ctrl-Z.
    let go_on = ids.into_iter().rev().collect::<Vec<_>>().join(" ");
    change(
        &world,
        &format!("kill -STOP {stop}\nsleep 5.2\nkill -CONT {go_on}"),
    );
    let record = sandbox.probe(&name);
    record.assert_ok();
    assert_soon(&record);
    assert!(asked() > before);
    sandbox.run.close_stdin();
    sandbox.run.wait().assert_success();
}
