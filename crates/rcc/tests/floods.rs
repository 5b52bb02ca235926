//! What a hostile agent can make the gateway hold: floods of names, connections, half hellos and questions. Others go on being
//! served, the supervisor stays below 64 MiB, and the log says what was turned away.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::time::Duration;

use rcc_testkit::world::World;
use rcc_testkit::{patience, patience_ms, require, require_that};
use support::Place;

/// Most memory that the supervisor may ever have had, in KiB.
const PEAK_KIB: u64 = 64 << 10;

/// How long a flood may take on a busy machine.
const TIME: Duration = Duration::from_secs(240);

/// Begins every program of this file: everything it needs, and `served()`.
const PRELUDE: &str = r#"
import resource, select, socket, struct, sys, time, urllib.request
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

def query(number, name):
    question = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return struct.pack(">HHHHHH", number & 0xffff, 0x100, 1, 0, 0, 0) + question + b"\0\0\1\0\1"

def served(host):
    started = time.monotonic()
    body = urllib.request.urlopen(f"http://{host}/", timeout=20).read()
    print("served", round(1000 * (time.monotonic() - started)), len(body) > 0, flush=True)

def flooded():
    print("flooded", flush=True)
    sys.stdin.readline()

def select_one(one):
    poll = select.poll()
    poll.register(one, select.POLLOUT)
    return poll.poll(5000)

def opened(address):
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.setblocking(False)
    one.connect_ex(address)
    return one
"#;

/// Runs a program in the sandbox; gives what it printed and the supervisor's largest size so far in KiB.
fn flood(place: &Place<'_>, flags: &[&str], program: &str) -> (String, u64) {
    let script = place.file("flood.py", format!("{PRELUDE}{program}\nflooded()\n"));
    let mut running = place
        .run(flags)
        .arg("python3")
        .arg(&script)
        .timeout(TIME)
        .stdin_open()
        .spawn();
    running.wait_for_text_within("flooded", TIME);
    let status = format!("/proc/{}/status", running.pid());
    let looked = place.world.host_command("cat").arg(status).output();
    let status = looked.assert_success().stdout_text();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    running.write_stdin(b"\n");
    let output = running.wait();
    let text = output.assert_success().stdout_text();
    (text, peak.unwrap_or_else(|| panic!("no size in {status}")))
}

/// Asserts that everybody else was served, soon, and that the supervisor has stayed small.
#[track_caller]
fn assert_served((text, peak): &(String, u64), times: usize) {
    let served: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("served"))
        .collect();
    assert_eq!(served.len(), times, "{text}");
    for line in served {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[2], "True", "{text}");
        let milliseconds: f64 = words[1].parse().unwrap();
        assert!(milliseconds < patience_ms(5000), "{text}");
    }
    assert!(*peak < PEAK_KIB, "the supervisor needed {peak} KiB");
}

#[track_caller]
fn assert_logged(place: &Place<'_>, reason: &str) {
    let events = place.events();
    assert!(
        events.iter().any(|event| event["reason"] == reason),
        "{reason} is not in the log of {} lines",
        events.len()
    );
}

#[test]
fn a_hundred_thousand_names() {
    if !require("python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "names");
    let rules = [
        "--network",
        "allowlist",
        "--allow",
        "allowed.example",
        "--allow",
        "*.allowed.example",
    ];
    let told = flood(
        &place,
        &rules,
        r#"
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect(("198.18.0.1", 53))
asking.setblocking(False)
asked = answers = lost = 0
def collect(outstanding):
    global answers, lost
    while asked - answers - lost > outstanding:
        if select.select([asking], [], [], 3)[0]:
            asking.recv(4096)
            answers += 1
        else:
            # The kernel drops what a busy processor leaves in its backlog, which all tests of the machine share.
            lost = asked - answers
for number in range(100_000):
    # Every tenth name is below an allowed one and leaves for the resolver.
    zone = "allowed.example" if number % 10 == 0 else "flood.test"
    asking.send(query(number, f"n{number}.{zone}"))
    asked += 1
    collect(200)
    if number % 20_000 == 0:
        served("allowed.example")
collect(0)
served("allowed.example")
print("lost", lost)
"#,
    );
    assert_served(&told, 6);
    let lost = told.0.lines().find_map(|line| line.strip_prefix("lost "));
    let lost: u32 = lost.unwrap().parse().unwrap();
    assert!(lost < 500, "{lost} of 100,000 questions were not answered");
}

#[test]
fn fifty_thousand_connections() {
    if !require("python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "connections");
    let told = flood(
        &place,
        &["--network", "allowlist", "--allow", "allowed.example"],
        r#"
for turn in range(50):
    batch = [opened(("198.51.100.20", 443)) for _ in range(1000)]
    if turn % 10 == 0:
        served("allowed.example")
    for one in batch:
        one.close()
served("allowed.example")
"#,
    );
    assert_served(&told, 6);
    assert_logged(&place, "no_rule");
}

#[test]
fn ten_thousand_half_hellos() {
    // Where everything is emulated, the first ones are over before the limit is reached.
    let is_fast = patience(TIME) == TIME;
    if !require("python3") || !require_that("native-speed", is_fast) {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "hellos");
    let told = flood(
        &place,
        &["--network", "allowlist", "--allow", "allowed.example:7,80"],
        r#"
target = (socket.gethostbyname("allowed.example"), 7)
held = []
for number in range(10_000):
    one = opened(target)
    held.append(one)
    # It says the beginning of a hello once it is connected, or is turned away.
    if select_one(one) and not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        one.send(b"\x16\x03\x01")
    if number % 2000 == 1999:
        served("allowed.example")
served("allowed.example")
"#,
    );
    assert_served(&told, 6);
    assert_logged(&place, "limit_connections");
}

#[test]
fn questions_without_end() {
    if !require("python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "questions");
    let told = flood(
        &place,
        &["--ask", "--allow", "allowed.example"],
        r#"
held = []
for number in range(3000):
    held.append(opened((socket.gethostbyname(f"n{number}.unknown.test"), 443)))
    if number % 1000 == 0:
        served("allowed.example")
served("allowed.example")
"#,
    );
    assert_served(&told, 4);
    assert_logged(&place, "ask_limit");
}

/// The first datagrams of a flow wait for an answer as connections do, and are bounded as questions and as flows.
#[test]
fn flows_that_wait_for_an_answer() {
    if !require("python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "waiting");
    let told = flood(
        &place,
        &["--ask", "--allow", "allowed.example"],
        r#"
held = []
for number in range(20_000):
    # A port of its own each, so a flow of its own; every other one to a host of its own, so a question of its own, too.
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setblocking(False)
    target = ("198.51.100.20", 7)
    if number % 2:
        target = (f"203.0.113.{80 + number % 100}", 4000 + number // 100)
    try:
        for _ in range(3):
            one.sendto(b"x" * 1400, target)
    except OSError:
        # It was told already.
        pass
    held.append(one)
    if len(held) > 4000:
        held.pop(0).close()
    if number % 5000 == 0:
        served("allowed.example")
served("allowed.example")
"#,
    );
    assert_served(&told, 5);
    assert_logged(&place, "ask_limit");
    let seen = world.seen_by("udp 198.51.100.20:7");
    assert_eq!(seen.connections, 0, "{seen:?}");
}
