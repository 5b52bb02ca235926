//! How names are resolved on the host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcc_gateway::Upstream;
use rcc_spec::NetworkMode;

use crate::world::{NameServer, Setup, wire_name};

/// A directory that is removed with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rcc-gateway-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn aliases_are_followed_and_their_names_need_no_rule() {
    let world = Setup::allow(&["www.example.com"]).start();
    world.names.alias("www.example.com", "edge.cdn.example.net");
    world
        .names
        .alias("edge.cdn.example.net", "host.cdn.example.net");
    world.names.host("host.cdn.example.net", &["203.0.113.7"]);
    world.serve("203.0.113.7:443", |mut stream| {
        std::io::Write::write_all(&mut stream, b"hello").unwrap();
    });
    let mut stream = world.connect_name("www.example.com", 443);
    assert_eq!(crate::world::read_all(&mut stream).unwrap(), b"hello");
    let alias = world.ask("www.example.com", "CNAME");
    assert_eq!(alias.answers[0].data, "edge.cdn.example.net");
    assert_eq!(world.ask("edge.cdn.example.net", "A").response_code(), 5);
}

#[test]
fn clients_that_ask_together_cost_one_look_up() {
    let world = Setup::allow(&["slow.example.com"]).start();
    world.names.host("slow.example.com", &["203.0.113.7"]);
    world
        .names
        .delay("slow.example.com", None, Duration::from_millis(300));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(world.ask("slow.example.com", "A").response_code(), 0));
        }
    });
    assert_eq!(world.names.messages().len(), 2, "one query of each family");
    // And later ones none.
    world.ask("slow.example.com", "AAAA");
    assert_eq!(world.names.messages().len(), 2);
}

#[test]
fn a_slow_family_does_not_delay_the_other_for_long() {
    let world = Setup::allow(&["api.example.com"]).start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    world
        .names
        .delay("api.example.com", Some("AAAA"), Duration::from_secs(3));
    let started = Instant::now();
    assert_eq!(world.ask("api.example.com", "A").response_code(), 0);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_dead_server_is_overtaken_by_the_next() {
    let names = NameServer::start();
    names.host("api.example.com", &["203.0.113.7"]);
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut setup = Setup::allow(&["api.example.com"]);
    setup.upstream = Some(Upstream::servers(vec![
        dead.local_addr().unwrap(),
        names.address,
    ]));
    let world = setup.start();
    let started = Instant::now();
    assert_eq!(world.ask("api.example.com", "A").response_code(), 0);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_failing_server_is_followed_by_the_next_and_told_if_all_fail() {
    let (first, second) = (NameServer::start(), NameServer::start());
    first.fail("api.example.com", 2);
    first.fail("bad.example.com", 2);
    second.fail("bad.example.com", 5);
    second.host("api.example.com", &["203.0.113.7"]);
    let mut setup = Setup::allow(&["*.example.com"]);
    setup.upstream = Some(Upstream::servers(vec![first.address, second.address]));
    let world = setup.start();
    assert_eq!(world.ask("api.example.com", "A").response_code(), 0);
    let bad = world.ask("bad.example.com", "A");
    assert_eq!(bad.response_code(), 2);
    let (_, text) = bad.extended_error().unwrap();
    assert!(text.contains("resolvers answered"), "{text}");
}

#[test]
fn a_server_that_nobody_runs_fails_quickly() {
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = unused.local_addr().unwrap();
    drop(unused);
    let mut setup = Setup::allow(&["api.example.com"]);
    setup.upstream = Some(Upstream::servers(vec![address]));
    let world = setup.start();
    let started = Instant::now();
    assert_eq!(world.ask("api.example.com", "A").response_code(), 2);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_hosts_file_comes_first_and_is_checked_like_everything_else() {
    let directory = Directory::new("hosts");
    let conf = directory.write("resolv.conf", "nameserver 127.0.0.1\n");
    let hosts = directory.write(
        "hosts",
        "203.0.113.7 pinned.example.com\n127.0.0.1 local.example.com\n",
    );
    let mut setup = Setup::allow(&["*.example.com"]);
    setup.upstream = Some(Upstream::files(conf, &hosts));
    let world = setup.start();
    world.serve("203.0.113.7:443", |mut stream| {
        std::io::Write::write_all(&mut stream, b"hello").unwrap();
    });
    let mut stream = world.connect_name("pinned.example.com", 443);
    assert_eq!(crate::world::read_all(&mut stream).unwrap(), b"hello");
    crate::world::assert_refused(&mut world.connect_name("local.example.com", 443));
    // An entry written while the gateway runs.
    std::fs::write(&hosts, "203.0.113.7 later.example.com\n").unwrap();
    assert_eq!(world.ask("later.example.com", "A").response_code(), 0);
}

#[test]
fn only_names_of_one_label_are_completed() {
    let directory = Directory::new("search");
    // The configuration cannot say a port, so nothing answers: what would be asked is seen by its refusal alone. The
    // completion itself is proven by the hosts file, which is asked for the name as it is.
    let conf = directory.write(
        "resolv.conf",
        "search corp.example.com\nnameserver 127.0.0.1\n",
    );
    let hosts = directory.write("hosts", "203.0.113.7 buildbox\n");
    let mut setup = Setup::allow(&["buildbox"]);
    setup.upstream = Some(Upstream::files(conf, hosts));
    let world = setup.start();
    assert_eq!(world.ask("buildbox", "A").response_code(), 0);
    assert_eq!(
        world.ask("buildbox.corp.example.com", "A").response_code(),
        5
    );
}

#[test]
fn forged_answers_are_ignored() {
    // A resolver that sends answers with a wrong id, a wrong question and an unasked address before the right one.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (length, source) = socket.recv_from(&mut buffer).unwrap();
            let asked = &buffer[..length];
            let question_end = 12 + wire_name("api.example.com").len() + 4;
            let answer = |id: [u8; 2], name: &str, address: [u8; 4]| {
                let mut message = id.to_vec();
                message.extend_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
                message.extend_from_slice(&wire_name(name));
                message.extend_from_slice(&asked[question_end - 4..question_end]);
                message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04");
                message.extend_from_slice(&address);
                message
            };
            let id = [asked[0], asked[1]];
            for message in [
                answer([id[0] ^ 1, id[1]], "api.example.com", [198, 51, 100, 66]),
                answer(id, "api.example.org", [198, 51, 100, 66]),
                b"nonsense".to_vec(),
                answer(id, "api.example.com", [203, 0, 113, 7]),
            ] {
                socket.send_to(&message, source).unwrap();
            }
        }
    });
    let mut setup = Setup::mode(NetworkMode::Internet);
    setup.upstream = Some(Upstream::servers(vec![address]));
    let world = setup.start();
    world.serve("203.0.113.7:443", |mut stream| {
        std::io::Write::write_all(&mut stream, b"hello").unwrap();
    });
    let mut stream = world.connect_name("api.example.com", 443);
    assert_eq!(crate::world::read_all(&mut stream).unwrap(), b"hello");
    assert_eq!(world.dialled(), ["203.0.113.7:443".parse().unwrap()]);
}

#[test]
fn a_family_that_is_said_not_to_exist_does_not_hide_the_other() {
    // Some resolvers answer NXDOMAIN for AAAA of a name that has an A.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (length, source) = socket.recv_from(&mut buffer).unwrap();
            let question_end = 12 + wire_name("api.example.com").len() + 4;
            let asked = &buffer[..length.min(question_end)];
            let is_v6 = asked[question_end - 3] == 28;
            let mut message = asked[..2].to_vec();
            let head: &[u8] = if is_v6 {
                &[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]
            } else {
                &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]
            };
            message.extend_from_slice(head);
            message.extend_from_slice(&asked[12..]);
            if !is_v6 {
                message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04");
                message.extend_from_slice(&[203, 0, 113, 7]);
            }
            socket.send_to(&message, source).unwrap();
        }
    });
    let mut setup = Setup::allow(&["api.example.com"]);
    setup.upstream = Some(Upstream::servers(vec![address]));
    let world = setup.start();
    for kind in ["AAAA", "A", "AAAA"] {
        let answer = world.ask("api.example.com", kind);
        assert_eq!(
            (answer.response_code(), answer.answers.len()),
            (0, 1),
            "{kind}"
        );
    }
}

#[test]
fn aliases_in_a_circle_lead_nowhere_and_soon() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (_, source) = socket.recv_from(&mut buffer).unwrap();
            let (one, other) = (wire_name("a.example.com"), wire_name("b.example.com"));
            let mut message = buffer[..2].to_vec();
            message.extend_from_slice(&[0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
            message.extend_from_slice(&buffer[12..12 + one.len() + 4]);
            for (owner, target) in [(&one, &other), (&other, &one)] {
                message.extend_from_slice(owner);
                message.extend_from_slice(b"\x00\x05\x00\x01\x00\x00\x01\x2c\x00");
                message.push(u8::try_from(target.len()).unwrap());
                message.extend_from_slice(target);
            }
            socket.send_to(&message, source).unwrap();
        }
    });
    let mut setup = Setup::allow(&["a.example.com"]);
    setup.upstream = Some(Upstream::servers(vec![address]));
    let world = setup.start();
    let started = Instant::now();
    let answer = world.ask("a.example.com", "A");
    // An answer without addresses, not a time-out.
    assert_eq!((answer.response_code(), answer.answers.len()), (0, 0));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn what_was_known_is_forgotten_when_the_hosts_files_change() {
    let directory = Directory::new("changed");
    let conf = directory.write("resolv.conf", "nameserver 127.0.0.1\n");
    let hosts = directory.write("hosts", "203.0.113.7 first.example.com\n");
    let mut setup = Setup::allow(&["*.example.com"]);
    setup.upstream = Some(Upstream::files(&conf, &hosts));
    let world = setup.start();
    assert_eq!(world.ask("first.example.com", "A").answers.len(), 1);
    // Replaced by another file under the same name, as resolvconf and VPNs do.
    directory.write("new", "203.0.113.7 second.example.com\n");
    std::fs::rename(directory.0.join("new"), &hosts).unwrap();
    assert_eq!(world.ask("second.example.com", "A").answers.len(), 1);
    assert!(world.ask("first.example.com", "A").answers.is_empty());
    // Gone for a moment, and back.
    std::fs::rename(&conf, directory.0.join("gone")).unwrap();
    assert_eq!(world.ask("second.example.com", "A").answers.len(), 1);
    std::fs::rename(directory.0.join("gone"), &conf).unwrap();
    assert_eq!(world.ask("second.example.com", "A").answers.len(), 1);
}
