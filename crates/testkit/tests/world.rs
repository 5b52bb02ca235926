//! The test world itself: what the sandbox's tests rely on is true without a sandbox.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use rcc_testkit::world::addresses::{ALLOWED_V4, FORBIDDEN, HTTP_PORT};
use rcc_testkit::world::{Ending, World, zone};

/// One world for the tests that only look; those that count make their own.
fn shared() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    WORLD.get_or_init(World::start_or_skip).as_ref()
}

#[test]
fn a_command_runs_in_the_host_namespace_as_the_user() {
    let Some(world) = shared() else { return };
    let output = world
        .host_command("sh")
        .args([
            "-c",
            "id -u; id -g; pwd; echo $HOME; hostname; cat /etc/resolv.conf",
        ])
        .output();
    output.assert_success();
    let home = world.home();
    let text = output.stdout_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [world.user().uid.to_string(), world.user().gid.to_string()]
    );
    assert_eq!(
        lines[2..5],
        [
            home.to_str().unwrap(),
            home.to_str().unwrap(),
            "rcc-test-host"
        ]
    );
    assert_eq!(lines[5], "nameserver 203.0.113.53");
}

#[test]
fn exit_codes_signals_and_timeouts_are_told_apart() {
    let Some(world) = shared() else { return };
    assert_eq!(
        world
            .host_command("sh")
            .args(["-c", "exit 7"])
            .output()
            .ending,
        Ending::Code(7)
    );
    assert_eq!(
        world
            .host_command("sh")
            .args(["-c", "kill -9 $$"])
            .output()
            .ending,
        Ending::Signal(9)
    );
    let late = world
        .host_command("sh")
        .args(["-c", "setsid sleep 1000 & sleep 1000"])
        .timeout(Duration::from_millis(300))
        .output_even_if_late();
    assert_eq!(late.ending, Ending::TimedOut);
    let left = world
        .processes()
        .into_iter()
        .filter(|process| process.command_line == "sleep 1000")
        .count();
    assert_eq!(left, 0, "a timeout kills the whole tree");
}

#[test]
fn what_outlives_a_command_is_reported_and_killed() {
    let Some(world) = shared() else { return };
    let output = world
        .host_command("sh")
        .args(["-c", "setsid sleep 2000 >/dev/null 2>&1 & echo started"])
        .output();
    assert_eq!(output.ending, Ending::Code(0));
    let names: Vec<&str> = output
        .survivors
        .iter()
        .map(|process| process.command_line.as_str())
        .collect();
    assert_eq!(names, ["sleep 2000"]);
    assert!(
        world
            .processes()
            .iter()
            .all(|process| process.command_line != "sleep 2000")
    );
}

#[test]
fn stdin_reaches_the_command_and_ends() {
    let Some(world) = shared() else { return };
    let output = world.host_command("cat").stdin_bytes("line\n").output();
    assert_eq!(output.assert_success().stdout, b"line\n");
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(world) = shared() else { return };
    let mut terminal = world
        .host_command("sh")
        .args(["-c", "tty && stty size && read line && echo got $line"])
        .spawn_terminal(30, 90);
    terminal.wait_for_text("30 90");
    terminal.type_bytes(b"words\r");
    let output = terminal.wait();
    output.assert_success();
    assert!(output.stdout_text().contains("/dev/pts/"), "{output}");
    assert!(output.stdout_text().contains("got words"), "{output}");
}

#[test]
fn every_forbidden_address_that_should_answer_does() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    for forbidden in FORBIDDEN {
        let url = match forbidden.address {
            IpAddr::V4(address) => format!("http://{address}/{}", forbidden.class),
            IpAddr::V6(address) => format!("http://[{address}]/{}", forbidden.class),
        };
        let limit = if forbidden.answers { "10" } else { "1" };
        let output = world
            .host_command("curl")
            .args(["-sS", "-g", "--max-time", limit, &url])
            .output();
        assert_eq!(
            output.is_success(),
            forbidden.answers,
            "{}\n{output}",
            forbidden.class
        );
    }
    let requests = world.http_requests();
    for forbidden in FORBIDDEN.iter().filter(|forbidden| forbidden.answers) {
        let path = format!("/{}", forbidden.class);
        assert_eq!(
            requests
                .iter()
                .filter(|request| request.target == path)
                .count(),
            1,
            "{path}"
        );
    }
}

#[test]
fn every_name_of_the_zone_resolves_and_is_logged() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let names: Vec<String> = zone::HOSTS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let rebinds = FORBIDDEN
        .iter()
        .map(|forbidden| zone::rebind_name(forbidden.class));
    let all: Vec<String> = names.into_iter().chain(rebinds).collect();
    for (name, addresses) in zone::HOSTS {
        let output = world
            .host_command("dig")
            .args(["+short", name, "A", name, "AAAA"])
            .output();
        let text = output.assert_success().stdout_text();
        let mut answers: Vec<&str> = text.lines().collect();
        answers.sort_unstable();
        let mut expected: Vec<&str> = addresses.to_vec();
        expected.sort_unstable();
        assert_eq!(answers, expected, "{name}");
    }
    for forbidden in FORBIDDEN {
        let record_type = if forbidden.address.is_ipv4() {
            "A"
        } else {
            "AAAA"
        };
        let output = world
            .host_command("dig")
            .args(["+short", &zone::rebind_name(forbidden.class), record_type])
            .output();
        let address: IpAddr = output
            .stdout_text()
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{}\n{output}", forbidden.class));
        assert_eq!(address, forbidden.address);
    }
    let seen = world.dns_queries();
    for name in all {
        assert!(
            seen.iter().any(|query| query.name == name),
            "{name} is not in the log"
        );
    }
}

#[test]
fn listeners_count_connections_and_bytes() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    assert!(world.seen().is_empty());
    let listener = SocketAddr::from((ALLOWED_V4, HTTP_PORT)).to_string();
    let output = world
        .host_command("curl")
        .args(["-sS", "-4", "http://allowed.example/one"])
        .output();
    assert_eq!(
        output.assert_success().json()["served_by"],
        ALLOWED_V4.to_string()
    );
    let seen = world.seen_by(&listener);
    assert_eq!(seen.connections, 1);
    assert!(
        seen.bytes_received > 40 && seen.bytes_sent > 100,
        "{seen:?}"
    );
    assert_eq!(world.seen_by("203.0.113.20:80").connections, 0);
    let sent: Vec<_> = world
        .packets()
        .into_iter()
        .filter(|packet| packet.contains(b"GET /one"))
        .collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].destination, ALLOWED_V4.to_string());
    world.forget();
    assert_eq!(world.seen_by(&listener).connections, 0);
    assert!(
        world
            .packets()
            .iter()
            .all(|packet| !packet.contains(b"GET /one"))
    );
}

#[test]
fn https_certificates_are_good_for_names_and_addresses() {
    let Some(world) = shared() else { return };
    let ca = world.ca_pem_path();
    for url in [
        "https://allowed.example/",
        "https://[2001:db8::20]/",
        "https://203.0.113.20:8443/",
    ] {
        let output = world
            .host_command("curl")
            .args(["-sS", "--cacert"])
            .arg(&ca)
            .arg(url)
            .output();
        assert_eq!(output.assert_success().json()["scheme"], "https", "{url}");
    }
}

#[test]
fn packets_to_the_black_hole_vanish() {
    let Some(world) = shared() else { return };
    let output = world
        .host_command("curl")
        .args(["-sS", "--max-time", "1", "http://blackhole.example/"])
        .output();
    // curl(1): 28 is a timeout.
    output.assert_code(28);
}
