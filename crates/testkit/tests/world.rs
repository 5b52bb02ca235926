//! The test world itself: what the sandbox's tests rely on is true without a sandbox.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rcc_testkit::patience;
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
    // The client may have read the answer before the server has counted it.
    let end = Instant::now() + patience(Duration::from_secs(20));
    while world.seen_by(&listener).bytes_sent <= 100 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
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
fn a_bulk_transfer_cannot_pass_for_a_whole_record() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    // More packets than are kept; without this the record of a later denial could miss one.
    for _ in 0..40 {
        world
            .probe(["upload", "203.0.113.20", "9", "250"])
            .assert_ok();
        let record = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.packets()));
        if record.is_err() {
            world.forget();
            world.probe(["tcp", "203.0.113.20", "80"]).assert_ok();
            assert!(
                world
                    .packets()
                    .iter()
                    .any(|packet| packet.protocol == "tcp"),
                "it starts anew after forget"
            );
            return;
        }
    }
    panic!("ten seconds of bulk transfer fitted into the record");
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

/// Makes the test binary that the next test starts hold a world until it is killed.
const HOLD_VARIABLE: &str = "RCC_TESTKIT_HOLD_A_WORLD";

/// Does nothing by itself: it is the program that the next test kills.
#[test]
fn hold_a_world() {
    if std::env::var_os(HOLD_VARIABLE).is_none() {
        return;
    }
    let world = World::start().unwrap();
    let _sleeper = world
        .host_command("sleep")
        .arg("3000")
        .timeout(Duration::from_secs(4000))
        .spawn();
    let line = format!(
        "WORLD {} {}\n",
        world.init_pid(),
        world.directory().display()
    );
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
    std::thread::park();
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    use std::io::BufRead as _;
    if shared().is_none() {
        return;
    }
    let mut test = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "hold_a_world"])
        .env(HOLD_VARIABLE, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(test.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let line = lines.find(|line| line.contains("WORLD ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let (pid, directory) = (
        words[words.len() - 2].parse().unwrap(),
        std::path::PathBuf::from(words[words.len() - 1]),
    );
    let init = rustix::process::Pid::from_raw(pid).unwrap();
    let ended = rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty()).unwrap();
    assert!(directory.is_dir());
    test.kill().unwrap();
    test.wait().unwrap();
    // The kernel reports the end of pid 1 only when every other process of its namespace is gone (pid_namespaces(7)).
    let limit = rustix::event::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut waits = [rustix::event::PollFd::new(
        &ended,
        rustix::event::PollFlags::IN,
    )];
    assert_eq!(
        rustix::event::poll(&mut waits, Some(&limit)).unwrap(),
        1,
        "the world still runs"
    );
    assert!(
        !directory.exists(),
        "{} is still there",
        directory.display()
    );
}

#[test]
fn the_machine_itself_is_not_changed() {
    let Some(world) = shared() else { return };
    let inside = world
        .host_command("cat")
        .args(["/etc/resolv.conf", "/etc/passwd"])
        .output()
        .stdout_text();
    assert!(inside.contains("nameserver 203.0.113.53"));
    assert!(inside.contains("git:x:"));
    let outside = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
        + &std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(
        !outside.contains("203.0.113.53") && !outside.contains(world.directory().to_str().unwrap())
    );
    let links = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(!links.contains("uplink0") && !links.contains("wan0"));
}

#[test]
fn a_world_of_root_can_have_an_ordinary_user() {
    use rcc_testkit::world::{User, WorldConfig};
    if !rustix::process::geteuid().is_root() {
        return; // Covered by every other test: an ordinary caller is an ordinary user.
    }
    let Some(world) = World::with_or_skip(WorldConfig::default().user(User::ordinary())) else {
        return;
    };
    let output = world
        .host_command("sh")
        .args(["-c", "id -u; touch ~/made; grep CapEff /proc/self/status"])
        .output();
    let text = output.assert_success().stdout_text();
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["64001", "CapEff:", "0000000000000000"]
    );
    let root = world
        .host_command("id")
        .arg("-u")
        .user(User::caller())
        .output();
    assert_eq!(root.assert_success().stdout_text(), "0\n");
}

#[test]
fn a_host_without_ipv6_has_none() {
    use rcc_testkit::world::WorldConfig;
    let Some(world) = World::with_or_skip(WorldConfig::default().without_ipv6()) else {
        return;
    };
    world
        .host_command("curl")
        .args(["-sS", "http://dual.example/"])
        .output()
        .assert_success();
    // curl(1): 7 is a failed connection.
    world
        .host_command("curl")
        .args(["-sS", "http://v6only.example/"])
        .output()
        .assert_code(7);
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

#[test]
fn all_of_this_works_for_an_ordinary_user_too() {
    rcc_testkit::run_again_as_ordinary_user(&[]);
}
