//! Rules that change while connections live: what stays allowed loses nothing, what is forbidden ends at once, and nothing
//! slips through in between.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcc_spec::NetworkMode;

use crate::transfers::receive;
use crate::world::{PATIENCE, Setup, World, assert_reset, read_all, rules};

/// Answers every portion with itself.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Tells whether the connection carries bytes both ways.
fn answers(stream: &mut TcpStream) -> bool {
    let mut word = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut word).is_ok() && word == *b"ping"
}

fn two_hosts() -> World {
    let world = Setup::allow(&["kept.example.com:7000", "gone.example.com:7000"]).start();
    world.names.host("kept.example.com", &["203.0.113.7"]);
    world.names.host("gone.example.com", &["203.0.113.8"]);
    world.serve("203.0.113.7:7000", echo);
    world.serve("203.0.113.8:7000", echo);
    world
}

#[test]
fn what_new_rules_forbid_is_cut_and_the_rest_goes_on() {
    let mut world = two_hosts();
    let mut kept = world.connect_name("kept.example.com", 7000);
    let mut gone = world.connect_name("gone.example.com", 7000);
    assert!(answers(&mut kept) && answers(&mut gone));
    let cut = world.allow(&["kept.example.com:7000"], &[]);
    assert_eq!(cut, 1);
    assert_reset(&mut gone);
    assert!(answers(&mut kept));
    let log = world.wait_for_log(|log| log.iter().any(|line| line["event"] == "close"));
    let close = log.iter().find(|line| line["event"] == "close").unwrap();
    assert_eq!(close["reason"], "rules_changed");
    assert_eq!(close["name"], "gone.example.com");
    assert_eq!(close["verdict"], "deny");
    assert_eq!(close["bytes_sent"], 4);
    // By a rule, which the log names.
    let cut = world.allow(&["kept.example.com:7000"], &["kept.example.com"]);
    assert_eq!(cut, 1);
    assert_reset(&mut kept);
    let (_, log) = world.finish();
    let close = log.iter().rfind(|line| line["event"] == "close").unwrap();
    assert!(close["rule"].as_str().unwrap().contains("kept.example.com"));
}

#[test]
fn the_address_behind_a_name_is_judged_again_too() {
    let world = two_hosts();
    let mut kept = world.connect_name("kept.example.com", 7000);
    let mut gone = world.connect_name("gone.example.com", 7000);
    assert!(answers(&mut kept) && answers(&mut gone));
    let names = ["kept.example.com:7000", "gone.example.com:7000"];
    assert_eq!(world.allow(&names, &["203.0.113.8"]), 1);
    assert_reset(&mut gone);
    assert!(answers(&mut kept));
}

#[test]
fn a_name_that_new_rules_forbid_is_refused_although_its_answer_is_cached() {
    let world = two_hosts();
    assert_eq!(world.ask("gone.example.com", "A").response_code(), 0);
    let asked = world.names.messages().len();
    world.allow(&["kept.example.com:7000"], &[]);
    assert_eq!(world.ask("gone.example.com", "A").response_code(), 5);
    assert_eq!(world.names.messages().len(), asked);
    world.allow(&["gone.example.com:7000"], &[]);
    assert_eq!(world.ask("gone.example.com", "A").response_code(), 0);
}

#[test]
fn a_query_under_way_is_judged_again_before_it_is_answered() {
    let world = two_hosts();
    world
        .names
        .delay("gone.example.com", None, Duration::from_millis(400));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.ask("gone.example.com", "A").response_code());
        let deadline = Instant::now() + PATIENCE;
        while world.names.messages().is_empty() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        world.allow(&["kept.example.com:7000"], &[]);
        assert_eq!(asked.join().unwrap(), 5);
    });
}

#[test]
fn a_connection_that_still_resolves_or_dials_is_cut_before_it_reaches_anything() {
    let mut world = two_hosts();
    let address = world.ask("gone.example.com", "A").answers[0].data.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A full backlog: connecting to it hangs.
    rustix::net::listen(&listener, 0).unwrap();
    let local = listener.local_addr().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| rcc_gateway::connect(local).unwrap())
        .collect();
    world.map("203.0.113.8:7000", local);
    let mut dialling = world.connect(&format!("{address}:7000"));
    let deadline = Instant::now() + PATIENCE;
    while world.dialled().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(world.allow(&["kept.example.com:7000"], &[]), 1);
    assert_reset(&mut dialling);
    let log = world.wait_for_log(|log| log.iter().any(|line| line["event"] == "refuse"));
    let refuse = log.iter().find(|line| line["event"] == "refuse").unwrap();
    assert_eq!(refuse["reason"], "no_rule");
    assert!(!log.iter().any(|line| line["event"] == "connect"));
}

#[test]
fn a_handshake_for_another_host_is_cut_when_a_rule_names_that_host() {
    let world = Setup::mode(NetworkMode::Internet).start();
    world.names.host("front.example.com", &["203.0.113.7"]);
    world.serve("203.0.113.7:443", echo);
    let hello = crate::names::hello(Some(b"other.example.com"), &[], 16_384);
    let mut stream = world.connect_name("front.example.com", 443);
    stream.write_all(&hello).unwrap();
    let mut echoed = vec![0; hello.len()];
    stream.read_exact(&mut echoed).unwrap();
    let control = world.control();
    let none: [&str; 0] = [];
    let unrelated = rules(NetworkMode::Internet, &none, &["unrelated.example.com"]);
    assert_eq!(control.set_rules(unrelated).unwrap(), 0);
    assert!(answers(&mut stream));
    let denied = rules(NetworkMode::Internet, &none, &["other.example.com"]);
    assert_eq!(control.set_rules(denied).unwrap(), 1);
    assert_reset(&mut stream);
}

/// Sends small portions until told to stop; count and hash of what was sent.
fn trickle(mut stream: TcpStream, is_over: &AtomicBool, seed: usize) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    let mut total = 0;
    let mut portion = [0; 1500];
    while !is_over.load(Ordering::Relaxed) {
        portion.fill(u8::try_from((total + seed) % 251).unwrap());
        stream.write_all(&portion).unwrap();
        hasher.write(&portion);
        total += portion.len();
        std::thread::sleep(Duration::from_millis(10));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    (total, hasher.finish())
}

/// Ends the other threads of a test however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_thousand_changes_during_two_hundred_transfers() {
    const TRANSFERS: usize = 200;
    const CHANGES: usize = 1000;
    let world = Setup::allow(&["kept.example.com:7000", "gone.example.com:7000"]).start();
    world.names.host("kept.example.com", &["203.0.113.7"]);
    world.names.host("gone.example.com", &["203.0.113.8"]);
    world.serve("203.0.113.8:7000", echo);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:7000", listener.local_addr().unwrap());
    let kept = world.ask("kept.example.com", "A").answers[0].data.clone();
    let gone = world.ask("gone.example.com", "A").answers[0].data.clone();
    let is_over = AtomicBool::new(false);
    // Odd from the return of a change that forbids to the beginning of the next one that allows.
    let phase = AtomicUsize::new(0);
    let (probes, came_through, slipped) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let (world, is_over) = (&world, &is_over);
        let mut transfers = Vec::new();
        for number in 0..TRANSFERS {
            let client = world.connect(&format!("{kept}:7000"));
            let (server, _) = listener.accept().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            server.set_write_timeout(Some(PATIENCE)).unwrap();
            let (sender, mut receiver) = match number % 2 {
                0 => (client, server),
                _ => (server, client),
            };
            let sent = scope.spawn(move || trickle(sender, is_over, number));
            transfers.push((sent, scope.spawn(move || receive(&mut receiver))));
        }
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let before = phase.load(Ordering::SeqCst);
                    let mut probe = world.connect(&format!("{gone}:7000"));
                    let is_through = answers(&mut probe);
                    let after = phase.load(Ordering::SeqCst);
                    probes.fetch_add(1, Ordering::Relaxed);
                    came_through.fetch_add(is_through.into(), Ordering::Relaxed);
                    if is_through && before == after && before % 2 == 1 {
                        slipped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut cut = 0;
        for _ in 0..CHANGES / 2 {
            world.allow(&["*.example.com:7000"], &[]);
            std::thread::sleep(Duration::from_micros(500));
            cut += world.allow(&["kept.example.com:7000"], &[]);
            phase.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros(500));
            phase.fetch_add(1, Ordering::SeqCst);
        }
        assert!(cut > 0, "a change met a connection");
        // The last state forbids: what is open is cut, and no probe comes through again.
        world.allow(&["*.example.com:7000"], &[]);
        let mut open = world.connect(&format!("{gone}:7000"));
        assert!(answers(&mut open));
        assert!(world.allow(&["kept.example.com:7000"], &[]) >= 1);
        phase.fetch_add(1, Ordering::SeqCst);
        assert_reset(&mut open);
        let (before, deadline) = (probes.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while probes.load(Ordering::Relaxed) < before + 20 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(over);
        for (sent, received) in transfers {
            let (total, hash) = sent.join().unwrap();
            assert!(total > 0);
            assert_eq!(received.join().unwrap(), (total, hash));
        }
    });
    assert_eq!(slipped.load(Ordering::Relaxed), 0);
    assert!(
        came_through.load(Ordering::Relaxed) > 0,
        "the probes can come through"
    );
    let (summary, log) = world.finish();
    let cut_kept = log
        .iter()
        .filter(|line| line["name"] == "kept.example.com" && line["reason"] == "rules_changed");
    assert_eq!(cut_kept.count(), 0);
    assert!(summary.connections_relayed >= TRANSFERS as u64);
}

#[test]
fn rules_that_allow_more_take_effect_at_once() {
    let world = two_hosts();
    world.allow(&["kept.example.com:7000"], &[]);
    let mut refused = world.connect("203.0.113.8:7000");
    assert!(read_all(&mut refused).is_err());
    assert_eq!(world.allow(&["203.0.113.8:7000"], &[]), 0);
    let mut passed = world.connect("203.0.113.8:7000");
    assert!(answers(&mut passed));
}
