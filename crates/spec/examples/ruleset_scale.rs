//! Measures what a rule set costs: time of a verdict with 10 and with 1,000,000 rules, time to load, memory.
//!
//! `cargo run --release -p rcc-spec --example ruleset_scale`. The bars: verdict at most twice as long, load within one
//! second, 200 MiB of memory. Questions are in random order, so that caches do not flatter the large set: a random name that
//! has a rule costs one fetch from main memory, which alone takes longer than a whole verdict of the small set.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for developers"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use rcc_spec::{
    HostName, NetworkMode, NetworkPolicy, Protocol, RuleSet, SourceName, Verdict, parse_conf,
};

const LARGE: u32 = 1_000_000;
const SMALL: u32 = 10;
const QUESTIONS: usize = 1 << 16;
const ROUNDS: usize = 15;

/// A permutation of numbers that looks random (a multiplicative step of an odd number).
fn scatter(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1).rotate_left(11)
}

fn rule_line(n: u32, networks: bool) -> String {
    let word = scatter(n);
    match (networks, n % 10) {
        (true, 0..=4) => format!("{}", Ipv4Addr::from_bits(word | 0x1000_0000)),
        (true, 5..=7) => format!("{}/24:443", Ipv4Addr::from_bits(word & 0xffff_ff00)),
        (true, _) => format!("{}/20", Ipv4Addr::from_bits(word & 0xffff_f000)),
        (false, 0..=6) => format!("host-{word:08x}.example.com"),
        (false, 7 | 8) => format!("*.zone-{word:08x}.example.org:443"),
        (false, _) => format!("!ads-{word:08x}.example.net"),
    }
}

fn text_of(count: u32, networks: bool) -> String {
    let mut text = String::new();
    for n in 0..count {
        writeln!(text, "{}", rule_line(n, networks)).unwrap();
    }
    text
}

fn load(text: String) -> RuleSet {
    let file = parse_conf(&text, &SourceName::file("hosts.conf")).unwrap();
    drop(text);
    let parsed = computing();
    let policy = NetworkPolicy {
        mode: NetworkMode::Allowlist,
        allow: file.allow,
        deny: file.deny,
        ask_seconds: None,
        host_ports: Vec::new(),
    };
    let rules = RuleSet::compile(&policy);
    println!("  of which compiling {:.3} s", computing() - parsed);
    rules
}

fn names(count: u32, hit: bool) -> Vec<HostName> {
    let name = |i: usize| {
        let n = scatter(u32::try_from(i).unwrap()) % count;
        let word = if hit { scatter(n) } else { !scatter(n) };
        let text = match n % 10 {
            0..=6 => format!("host-{word:08x}.example.com"),
            7 | 8 => format!("www.zone-{word:08x}.example.org"),
            _ => format!("ads-{word:08x}.example.net"),
        };
        HostName::parse(&text).unwrap()
    };
    (0..QUESTIONS).map(name).collect()
}

fn addresses(count: u32) -> Vec<IpAddr> {
    (0..QUESTIONS)
        .map(|i| {
            let n = scatter(u32::try_from(i).unwrap()) % count;
            IpAddr::V4(Ipv4Addr::from_bits(scatter(n) | 0x1000_0000))
        })
        .collect()
}

/// Nanoseconds for one question: the best of many short rounds, so that other programs disturb few of them.
fn time<Q>(questions: &[Q], ask: impl Fn(&Q) -> Verdict) -> f64 {
    let round = |part: &[Q]| {
        let start = Instant::now();
        for question in part {
            black_box(ask(black_box(question)));
        }
        start.elapsed().as_secs_f64() * 1e9 / part.len() as f64
    };
    let rounds = (0..ROUNDS).flat_map(|_| questions.chunks(1024)).map(round);
    rounds.fold(f64::INFINITY, f64::min)
}

/// Seconds this process spent computing, proc_pid_schedstat in Documentation/scheduler/sched-stats.rst.
fn computing() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Peak and present resident memory in KiB, proc_pid_status(5).
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |key| {
        status
            .lines()
            .find(|l: &&str| l.starts_with(key))
            .unwrap_or_default()
            .to_owned()
    };
    format!("{} {}", line("VmHWM"), line("VmRSS"))
}

fn main() {
    for networks in [false, true] {
        let kind = if networks { "networks" } else { "names" };
        let (small_text, large_text) = (text_of(SMALL, networks), text_of(LARGE, networks));
        let start_computing = computing();
        println!(
            "{kind}: {} bytes of text; before: {}",
            large_text.len(),
            resident()
        );
        let start = Instant::now();
        let large = load(large_text);
        let (wall, busy) = (start.elapsed().as_secs_f64(), computing() - start_computing);
        println!(
            "  load {LARGE} rules: {wall:.3} s, computing {busy:.3} s; {}",
            resident()
        );
        let small = load(small_text);
        let report = |what: &str, small_ns: f64, large_ns: f64| {
            println!(
                "  {what}: {SMALL} rules {small_ns:.0} ns, {LARGE} rules {large_ns:.0} ns, ratio {:.2}",
                large_ns / small_ns
            );
        };
        if networks {
            let (few, many) = (addresses(SMALL), addresses(LARGE));
            report(
                "address, with rule",
                time(&few, |q| small.decide_address(*q, 443, Protocol::Tcp)),
                time(&many, |q| large.decide_address(*q, 443, Protocol::Tcp)),
            );
        } else {
            for hit in [true, false] {
                let (few, many) = (names(SMALL, hit), names(LARGE, hit));
                report(
                    if hit {
                        "name, with rule"
                    } else {
                        "name, no rule"
                    },
                    time(&few, |q| small.decide_name(q, 443, Protocol::Tcp)),
                    time(&many, |q| large.decide_name(q, 443, Protocol::Tcp)),
                );
            }
            let hot = names(SMALL, true);
            report(
                "the same ten names",
                time(&hot, |q| small.decide_name(q, 443, Protocol::Tcp)),
                time(&hot, |q| large.decide_name(q, 443, Protocol::Tcp)),
            );
        }
    }
}
