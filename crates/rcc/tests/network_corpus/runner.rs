//! Runs the cases of a group: first outside of the sandbox, as the control, then one after the other in one run of rcc.
//!
//! After each case a question that is always refused is asked: when its line is in the audit log, all lines of the case are.
//! Must not judge a case by anything that another one did.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rcc_testkit::probe;
use rcc_testkit::world::addresses::{RESOLVER_V4, RESOLVER_V6};
use rcc_testkit::world::wire::Packet;
use rcc_testkit::world::{Running, World};
use rcc_testkit::{patience_ms, require};
use serde_json::Value;

use crate::case::{Case, Expect, Group, Refusal};
use crate::support::Place;

/// A refusal that takes longer is not immediate.
const SOON_MS: u32 = 100;
/// Starting a program costs so much here; taken off where the client itself tells no time.
const START: f64 = 150.0;
/// So often a refusal may be repeated until it is: one that waits for something waits each time, a busy machine does not.
const ATTEMPTS: u32 = 4;
/// A log writes ten equal refusals one by one and counts the rest, so a run has fewer of a kind.
const CASES_OF_A_RUN: usize = 8;

/// Reads lines `NUMBER FILE`, runs each file, and shows its output, its exit code and its time in microseconds.
const DRIVER: &str = r#"PROBE=$0; export PROBE WAIT
if [ "$1" = sandbox ]; then WAIT=300; else WAIT=40; fi
printf 'ready\n'
while read -r number file; do
    start=$(date +%s%N)
    sh "$file" >output 2>&1 </dev/null
    code=$?
    end=$(date +%s%N)
    if [ "$1" = sandbox ]; then "$PROBE" dns 198.18.0.1 udp "mark-$number.mark.test" A >mark; fi
    printf 'begin %s\n' "$number"
    cat output
    printf '\nexit %s %s\nend %s\n' "$code" "$(((end - start) / 1000))" "$number"
done
"#;

/// What one attempt gave.
struct Attempt {
    output: String,
    milliseconds: f64,
    /// New lines of the audit log, without the mark's.
    events: Vec<Value>,
}

/// A driver, inside or outside.
struct Session<'world> {
    place: Place<'world>,
    running: Running,
    number: u32,
    inside: bool,
    /// Lines of the audit log that earlier attempts have had.
    told: usize,
}

impl<'world> Session<'world> {
    fn start(world: &'world World, group: &Group, inside: bool, number: usize) -> Self {
        let side = if inside { "sandbox" } else { "host" };
        let place = Place::new(world, &format!("{}-{side}-{number}", group.name));
        place.file("driver.sh", DRIVER);
        // For ssh(1), where the world has a server: sh(1) cannot copy them from where the sandbox has nothing.
        for (name, path) in [
            ("ssh_key", world.ssh_key_path()),
            ("known_hosts", world.ssh_known_hosts_path()),
        ] {
            if let Ok(text) = std::fs::read(path) {
                let copy = place.file(name, text);
                std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        let program = probe::path();
        let command = if inside {
            place
                .rcc(["run"])
                .args(&group.flags)
                .args(["--deny", "*.mark.test", "--audit"])
                .arg(&place.audit)
                .arg("--ro")
                .arg(&program)
                .args(["--", "sh", "-c", ". ./driver.sh"])
                .arg(&program)
        } else {
            world
                .host_command("sh")
                .args(["-c", ". ./driver.sh"])
                .arg(world.install(&program))
                .current_dir(&place.project)
        };
        let running = command
            .arg(side)
            .stdin_open()
            .timeout(Duration::from_secs(300))
            .spawn();
        running.wait_for_text("ready\n");
        Self {
            place,
            running,
            number: 0,
            inside,
            told: 0,
        }
    }

    fn attempt(&mut self, script: &str) -> Attempt {
        self.number += 1;
        let number = self.number;
        let file = format!("case-{number}.sh");
        self.place.file(&file, script);
        self.running
            .write_stdin(format!("{number} {file}\n").as_bytes());
        let end = format!("\nend {number}\n");
        self.running.wait_for_text(&end);
        let text = self.running.stdout_so_far();
        let begin = format!("begin {number}\n");
        let (_, part) = text.rsplit_once(&begin).unwrap();
        let (part, _) = part.split_once(&end).unwrap();
        let (output, tail) = part.rsplit_once("\nexit ").unwrap();
        let wall: f64 = tail.split(' ').nth(1).unwrap().parse().unwrap();
        let events = if self.inside {
            self.events()
        } else {
            Vec::new()
        };
        Attempt {
            milliseconds: measured(output).unwrap_or(wall / 1000.0 - START),
            output: output.to_owned(),
            events,
        }
    }

    /// Waits for the mark's line, and until every connection of the case is closed.
    fn events(&mut self) -> Vec<Value> {
        let mark = format!("mark-{}.mark.test", self.number);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let all = whole_lines(&self.place.audit);
            let new = &all[self.told..];
            let count = |event: &str| {
                new.iter()
                    .filter(|line| line["event"] == event && line["protocol"] == "tcp")
                    .count()
            };
            let is_marked = new.iter().any(|line| line["name"] == mark.as_str());
            let is_late = Instant::now() > deadline;
            if is_marked && (count("connect") == count("close") || is_late) {
                let of_case = |line: &&Value| line["name"] != mark.as_str();
                let events = new.iter().filter(of_case).cloned().collect();
                self.told = all.len();
                return events;
            }
            assert!(!is_late, "{mark} never came into the log: {new:#?}");
            // The log is a file: it can only be looked at again.
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn end(mut self) {
        self.running.close_stdin();
        let output = self.running.wait();
        assert_eq!(output.code(), Some(0), "{output}");
    }
}

/// The lines of a log that is being written: the last one may not be whole yet.
fn whole_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The longest time that the client itself tells, in milliseconds.
fn measured(output: &str) -> Option<f64> {
    let number = |rest: &str| -> Option<f64> {
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    let words = [
        ("milliseconds ", 1.0),
        ("\"milliseconds\":", 1.0),
        ("seconds ", 1000.0),
    ];
    let mut longest: Option<f64> = None;
    for (word, factor) in words {
        for (at, _) in output.match_indices(word) {
            // `milliseconds N` ends in `seconds N`.
            if word == "seconds " && output[..at].ends_with("milli") {
                continue;
            }
            if let Some(value) = number(&output[at + word.len()..]) {
                longest = Some(longest.unwrap_or(0.0).max(value * factor));
            }
        }
    }
    longest
}

/// Runs a group; gives a text for every case that was not as it should be.
pub(crate) fn run(world: &World, group: &Group) -> Vec<String> {
    let cases: Vec<&Case> = group
        .cases
        .iter()
        .filter(|case| case.needs.iter().all(|need| require(need)))
        .collect();
    let mut failures = Vec::new();
    let mut outside = Session::start(world, group, false, 0);
    for case in &cases {
        if let Expect::Refused(refusal) = &case.expect
            && refusal.control
        {
            world.forget();
            let attempt = outside.attempt(&case.script);
            if !reached(world, refusal) {
                failures.push(format!(
                    "CONTROL {}/{}: outside nobody was reached\n{}",
                    group.name, case.name, attempt.output
                ));
            }
        }
    }
    outside.end();
    for (number, cases) in cases.chunks(CASES_OF_A_RUN).enumerate() {
        let mut session = Session::start(world, group, true, number);
        for case in cases {
            for left in (0..ATTEMPTS).rev() {
                world.forget();
                let attempt = session.attempt(&case.script);
                let wrong = match &case.expect {
                    Expect::Allowed(sees) => wrong_allowed(sees, &attempt),
                    Expect::Refused(refusal) => wrong_refused(world, refusal, &attempt),
                };
                let is_late = match &case.expect {
                    Expect::Refused(refusal) => {
                        attempt.milliseconds - refusal.own >= patience_ms(SOON_MS)
                    }
                    Expect::Allowed(_) => false,
                };
                let wrong = match wrong {
                    None if is_late && left == 0 => {
                        Some(format!("took {} ms", attempt.milliseconds))
                    }
                    None if is_late => continue,
                    other => other,
                };
                if let Some(text) = wrong {
                    let log: Vec<String> = attempt.events.iter().map(short).collect();
                    failures.push(format!(
                        "{}/{}: {text}\n--- output\n{}\n--- log\n{}",
                        group.name,
                        case.name,
                        attempt.output.trim_end(),
                        log.join("\n")
                    ));
                }
                break;
            }
        }
        session.end();
    }
    failures
}

fn short(event: &Value) -> String {
    format!("{} rule={}", crate::support::brief(event), event["rule"])
}

fn wrong_allowed(sees: &[String], attempt: &Attempt) -> Option<String> {
    let missing = sees.iter().find(|text| !attempt.output.contains(*text));
    if let Some(text) = missing {
        return Some(format!("`{text}` is not in the output"));
    }
    let refused = attempt
        .events
        .iter()
        .find(|event| event["verdict"] == "deny");
    refused.map(|event| format!("the log has a refusal: {event}"))
}

fn wrong_refused(world: &World, refusal: &Refusal, attempt: &Attempt) -> Option<String> {
    let missing = refusal
        .shows
        .iter()
        .find(|text| !attempt.output.contains(*text));
    if let Some(text) = missing {
        return Some(format!("`{text}` is not in the output"));
    }
    let lines: Vec<&Value> = attempt
        .events
        .iter()
        .filter(|event| event["verdict"] == "deny")
        .collect();
    match refusal.log {
        None if lines.is_empty() => {}
        None => return Some("the log has lines for what never left the sandbox".to_owned()),
        Some(_) if lines.is_empty() => return Some("no refusal is in the log".to_owned()),
        Some((reason, rule)) => {
            for line in lines {
                let told = line["rule"].as_str().unwrap_or_default();
                let is_rule = if rule.is_empty() {
                    told.is_empty()
                } else {
                    told.starts_with(&format!("{rule} "))
                };
                if line["reason"] != reason || !is_rule {
                    return Some(format!("not {reason} by `{rule}`: {line}"));
                }
            }
        }
    }
    for event in attempt
        .events
        .iter()
        .filter(|event| event["event"] == "connect")
    {
        let address: std::net::IpAddr = event["address"].as_str().unwrap().parse().unwrap();
        let port = u16::try_from(event["port"].as_u64().unwrap()).unwrap();
        let listener = std::net::SocketAddr::new(address, port).to_string();
        let is_known = |list: &[&str]| list.contains(&listener.as_str());
        if !is_known(&refusal.touches) && !is_known(&refusal.talks) {
            return Some(format!("connected: {event}"));
        }
    }
    seen(world, refusal)
}

/// Who was reached although nobody should be.
fn seen(world: &World, refusal: &Refusal) -> Option<String> {
    for (key, seen) in world.seen() {
        let listener = key.rsplit(' ').next().unwrap_or_default();
        // A connection that is reset before it is accepted has no local address any more; the log has told which it was.
        let port = listener.rsplit(':').next().unwrap_or_default();
        let is_touched = refusal.touches.iter().any(|touched| {
            *touched == listener
                || listener == format!("0.0.0.0:{port}") && touched.ends_with(&format!(":{port}"))
        });
        let is_silent = is_touched && seen.bytes_received == 0;
        if !is_silent && !refusal.talks.contains(&listener) {
            return Some(format!("{key} saw {seen:?}"));
        }
    }
    for packet in sent(world) {
        if let Some(label) = refusal.unseen
            && packet.contains(label.as_bytes())
        {
            return Some(format!("`{label}` left the host: {packet:?}"));
        }
        let resolvers = [RESOLVER_V4.to_string(), RESOLVER_V6.to_string()];
        let is_question = packet.destination_port == 53 && resolvers.contains(&packet.destination);
        let listener = match packet.destination.contains(':') {
            true => format!("[{}]:{}", packet.destination, packet.destination_port),
            false => format!("{}:{}", packet.destination, packet.destination_port),
        };
        if !is_question && !refusal.talks.contains(&listener.as_str()) {
            return Some(format!("a packet left the host: {packet:?}"));
        }
    }
    None
}

/// Whether the control reached somebody: a listener, or a wire with what must not leave.
fn reached(world: &World, refusal: &Refusal) -> bool {
    match refusal.unseen {
        Some(label) => sent(world)
            .iter()
            .any(|packet| packet.contains(label.as_bytes())),
        None => !world.seen().is_empty() || !sent(world).is_empty(),
    }
}

/// What left the host with a payload, besides the chatter of its kernel. Connections without one are the listeners' to count.
fn sent(world: &World) -> Vec<Packet> {
    let kernel = |packet: &Packet| ["arp", "icmp6", "proto-0"].contains(&packet.protocol.as_str());
    let empty = |packet: &Packet| packet.protocol == "tcp" && packet.payload.is_empty();
    world
        .packets()
        .into_iter()
        .filter(|packet| !kernel(packet) && !empty(packet))
        .collect()
}
