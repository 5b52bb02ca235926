//! The host's resolver as real hosts have it: a stub on loopback, none at all, a slow one, another one after a change, answers that
//! need TCP, hosts without IPv6. With the real program and the world's dnsmasq.
#![forbid(unsafe_code)]

mod support;

use rcc_testkit::world::addresses::RESOLVER_V4;
use rcc_testkit::world::{World, WorldConfig};
use rcc_testkit::{is_second_run, patience_ms, require, run_again_as_ordinary_user};
use support::{Place, words};

#[test]
fn the_same_as_an_ordinary_user() {
    run_again_as_ordinary_user(&[&support::program()]);
}

const OPEN: [&str; 2] = ["--network", "internet"];

fn http(host: &str) -> Vec<String> {
    words(&["http", host, "80", host, "/"])
}

/// A forwarder, as systemd-resolved's stub is one for this purpose.
const STUB: &str = r#"
import socket, sys
stub = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stub.bind(("127.0.0.53", 53))
print("listening", flush=True)
while True:
    query, client = stub.recvfrom(4096)
    up = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    up.settimeout(5)
    up.sendto(query, (sys.argv[1], 53))
    stub.sendto(up.recv(4096), client)
"#;

#[test]
fn a_stub_resolver_on_the_hosts_loopback_is_asked_by_the_host_only() {
    // Port 53 is root's.
    if is_second_run() || !require("root") || !require("python3") {
        return;
    }
    let conf = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example\n";
    let Some(world) = World::with_or_skip(WorldConfig::default().resolv_conf(conf)) else {
        return;
    };
    let place = Place::new(&world, "stub");
    let stub = world
        .host_command("python3")
        .args(["-c", STUB, &RESOLVER_V4.to_string()])
        .spawn();
    stub.wait_for_text("listening");
    let lines = [
        http("allowed.example"),
        words(&["dns", "127.0.0.53", "udp", "allowed.example", "A"]),
        // Completed by the host's search list, because a rule names it.
        http("allowed"),
    ];
    let (records, output) = place.probes(
        &[
            "--network",
            "allowlist",
            "--allow",
            "allowed.example",
            "--allow",
            "allowed",
        ],
        &lines,
    );
    assert_eq!(records[0].detail["status"], 200, "{output}");
    assert!(
        !records[1].ok,
        "the host's stub is not the sandbox's: {output}"
    );
    assert_eq!(records[2].detail["status"], 200, "{output}");
}

#[test]
fn without_a_resolver_names_fail_soon_and_the_hosts_file_still_counts() {
    let Some(world) = World::with_or_skip(WorldConfig::default().resolv_conf("")) else {
        return;
    };
    let place = Place::new(&world, "no-resolver");
    let lines = [
        words(&["resolve", "allowed.example"]),
        http("in-hosts-file.example"),
        words(&["http", "203.0.113.10", "80", "x", "/"]),
    ];
    let (records, output) = place.probes(&OPEN, &lines);
    assert!(!records[0].ok, "{output}");
    let milliseconds = records[0].detail["milliseconds"].as_f64().unwrap();
    assert!(
        milliseconds < patience_ms(2000),
        "{milliseconds} ms\n{output}"
    );
    assert_eq!(records[1].detail["status"], 200, "{output}");
    assert_eq!(records[2].detail["status"], 200, "{output}");
}

#[test]
fn a_resolver_that_does_not_answer_is_overtaken_and_holds_nobody_up() {
    let conf = format!("nameserver 198.51.100.66\nnameserver {RESOLVER_V4}\n");
    let Some(world) = World::with_or_skip(WorldConfig::default().resolv_conf(conf)) else {
        return;
    };
    let place = Place::new(&world, "slow");
    // `silent.example` is answered by nobody; a name of the hosts file does not wait for it.
    let program = rcc_testkit::probe::path();
    let script = "\"$0\" resolve silent.example > silent & \"$0\" http in-hosts-file.example 80 x /; \"$0\" resolve allowed.example; wait";
    let output = place
        .rcc(["run", "--network", "internet", "--ro"])
        .arg(&program)
        .args(["--", "sh", "-c", script])
        .arg(&program)
        .output();
    let text = output.assert_success().stdout_text();
    let records: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records[0]["detail"]["status"], 200, "{output}");
    let milliseconds = records[0]["detail"]["milliseconds"].as_f64().unwrap();
    assert!(milliseconds < 1000.0, "{milliseconds} ms\n{output}");
    // The second server is asked well before a client gives up.
    assert_eq!(records[1]["ok"], true, "{output}");
    let milliseconds = records[1]["detail"]["milliseconds"].as_f64().unwrap();
    assert!(milliseconds < 4500.0, "{milliseconds} ms\n{output}");
}

#[test]
fn answers_that_do_not_fit_one_datagram_come_over_tcp() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "big");
    let (records, output) = place.probes(&OPEN, &[http("big.example")]);
    assert_eq!(records[0].detail["status"], 200, "{output}");
    let body: serde_json::Value =
        serde_json::from_str(records[0].detail["body"].as_str().unwrap()).unwrap();
    let address = body["served_by"].as_str().unwrap();
    assert!(address.starts_with("198.51.100."), "{address}");
}

#[test]
fn a_host_without_ipv6_reaches_names_of_both_families_over_ipv4() {
    let config = WorldConfig::default()
        .without_ipv6()
        .resolv_conf(format!("nameserver {RESOLVER_V4}\n"));
    let Some(world) = World::with_or_skip(config) else {
        return;
    };
    let place = Place::new(&world, "v4");
    let (records, output) = place.probes(&OPEN, &[http("dual.example"), http("v6only.example")]);
    assert_eq!(records[0].detail["status"], 200, "{output}");
    assert_ne!(records[1].detail["status"], 200, "{output}");
}

#[test]
fn another_resolver_is_noticed_by_the_next_question() {
    let conf = "nameserver 198.51.100.66\noptions timeout:1 attempts:1\n";
    let Some(world) = World::with_or_skip(WorldConfig::default().resolv_conf(conf)) else {
        return;
    };
    let place = Place::new(&world, "changed");
    let program = rcc_testkit::probe::path();
    // The sandbox asks, waits for the host's change, and asks again.
    let script = "\"$0\" resolve allowed.example; echo first; while ! test -e changed; do sleep 0.05; done; \"$0\" resolve allowed.example";
    let run = place
        .rcc(["run", "--network", "internet", "--ro"])
        .arg(&program)
        .args(["--", "sh", "-c", script])
        .arg(&program)
        .timeout(std::time::Duration::from_secs(60))
        .spawn();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
    while !run.stdout_so_far().contains("first") {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            run.stdout_so_far()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let file = world.directory().join("etc/resolv.conf");
    std::fs::write(file, format!("nameserver {RESOLVER_V4}\n")).unwrap();
    place.file("changed", "");
    let output = run.wait();
    let text = output.assert_success().stdout_text();
    let records: Vec<serde_json::Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records[0]["ok"], false, "{output}");
    assert_eq!(records[1]["ok"], true, "{output}");
    let milliseconds = records[1]["detail"]["milliseconds"].as_f64().unwrap();
    assert!(milliseconds < 1500.0, "{milliseconds} ms\n{output}");
}
