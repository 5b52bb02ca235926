//! Ports in both directions with the real program: the host's loopback from inside (`--host-port`), the sandbox's loopback from
//! the host (`-p`).
//!
//! Every refusal has its control: the same port open when it is granted, or the same listener reached from the host.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use rcc_testkit::probe::Record;
use rcc_testkit::world::addresses::{ALLOWED_V4, HOST_V4};
use rcc_testkit::world::{Running, World};
use rcc_testkit::{require, run_again_as_ordinary_user};
use support::{Place, words};

#[test]
fn the_same_as_an_ordinary_user() {
    run_again_as_ordinary_user(&[&support::program()]);
}

/// A server for the lines of `python3 -c`: says which address it listens on, and greets everybody with that.
const SERVER: &str = r#"
import socket, sys, threading
def serve(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, port), family=family)
    print("ready", address, port, flush=True)
    while True:
        client, peer = server.accept()
        client.sendall(("from " + address + " ").encode())
        data = client.recv(4096)
        client.sendall(data)
        client.close()
for place in sys.argv[1:]:
    address, port = place.rsplit("=", 1)
    threading.Thread(target=serve, args=(address, int(port))).start()
"#;

/// A world, unless python is missing.
fn world() -> Option<World> {
    if !require("python3") {
        return None;
    }
    World::start_or_skip()
}

/// Starts listeners on the host: `ADDRESS=PORT` each.
fn host_server(world: &World, places: &[&str]) -> Running {
    let server = world
        .host_command("python3")
        .args(["-c", SERVER])
        .args(places)
        .spawn();
    for place in places {
        server.wait_for_text(&format!("ready {}", place.replace('=', " ")));
    }
    server
}

/// Starts a sandbox with listeners inside and waits for them.
fn sandbox_server(place: &Place<'_>, flags: &[&str], places: &[&str]) -> Running {
    let server = place
        .run(flags)
        .args(["python3", "-c", SERVER])
        .args(places)
        .spawn();
    for place in places {
        server.wait_for_text(&format!("ready {}", place.replace('=', " ")));
    }
    server
}

/// Connects from the host, says `ping` and hears the answer.
fn talk(world: &World, address: &str, port: &str) -> Record {
    world.probe(["tcp-talk", address, port, "ping"])
}

fn heard(record: &Record) -> &str {
    record.assert_ok().detail["text"].as_str().unwrap()
}

// ---------------------------------------------------------------------------------------------------------------------
// host ports

#[test]
fn a_host_port_leads_to_that_port_of_the_hosts_loopback_and_nothing_else_does() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "host-port");
    let _server = host_server(
        &world,
        &[
            "127.0.0.1=5432",
            "127.0.0.1=5433",
            "::1=5434",
            "203.0.113.1=5432",
        ],
    );
    // Controls: all four are there.
    for (address, port) in [
        ("127.0.0.1", "5432"),
        ("127.0.0.1", "5433"),
        ("::1", "5434"),
        ("203.0.113.1", "5432"),
    ] {
        assert_eq!(
            heard(&talk(&world, address, port)),
            format!("from {address} ping")
        );
    }
    let lines: Vec<Vec<String>> = [
        &["tcp-talk", "host.rcc.internal", "5432", "ping"][..],
        &["tcp-talk", "HOST.rcc.internal", "5434", "ping"],
        &["tcp-talk", "host.rcc.internal", "5433", "ping"],
        &["tcp-talk", "127.0.0.1", "5432", "ping"],
        &["tcp-talk", "::1", "5434", "ping"],
        &["tcp-talk", "localhost", "5432", "ping"],
        &["tcp-talk", "203.0.113.1", "5432", "ping"],
        &["tcp-talk", "::ffff:127.0.0.1", "5432", "ping"],
        &["resolve", "host.rcc.internal"],
        &["resolve", "other.rcc.internal"],
    ]
    .iter()
    .map(|line| words(line))
    .collect();
    for mode in ["allowlist", "internet"] {
        let flags = [
            "--network",
            mode,
            "--host-port",
            "5432",
            "--host-port",
            "5434",
        ];
        let (records, output) = place.probes(&flags, &lines);
        assert_eq!(heard(&records[0]), "from 127.0.0.1 ping", "{output}");
        assert_eq!(heard(&records[1]), "from ::1 ping", "{output}");
        for record in &records[2..8] {
            assert!(!record.ok, "{mode}: {record:?}\n{output}");
        }
        assert!(records[8].ok, "{output}");
        assert!(!records[9].ok, "{output}");
        assert!(
            output.stderr_text().contains("host.rcc.internal:5433")
                && output.stderr_text().contains("--host-port 5433"),
            "{output}"
        );
    }
    let briefs = place.briefs();
    for line in [
        "dns host.rcc.internal A NOERROR allow",
        "connect host.rcc.internal 127.0.0.1 port=5432 allow",
        "connect host.rcc.internal ::1 port=5434 allow",
        "refuse host.rcc.internal port=5433 deny port_not_allowed",
        "refuse 203.0.113.1 port=5432 deny host_address",
    ] {
        assert!(
            briefs.iter().any(|brief| brief == line),
            "{line}\n{briefs:#?}"
        );
    }
    let queries = world.dns_queries();
    assert!(
        queries
            .iter()
            .all(|query| !query.name.contains("rcc.internal")),
        "the name left the host"
    );
}

#[test]
fn without_a_host_port_the_name_does_not_exist_whatever_the_rules() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "no-host-port");
    let lines = [words(&["resolve", "host.rcc.internal"])];
    for flags in [
        &["--network", "internet"][..],
        &["--network", "allowlist", "--allow", "*.internal"],
    ] {
        let (records, output) = place.probes(flags, &lines);
        assert!(!records[0].ok, "{output}");
        assert!(
            output.stderr_text().contains("--host-port PORT"),
            "{output}"
        );
    }
    // The control: the same with a port.
    let (records, output) = place.probes(&["--host-port", "80"], &lines);
    assert!(records[0].ok, "{output}");
    // A deny rule above the name still holds.
    let (records, output) = place.probes(&["--host-port", "80", "--deny", "*.internal"], &lines);
    assert!(!records[0].ok, "{output}");
}

#[test]
fn programs_name_the_host_as_they_like_in_http() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "host-http");
    // The host's own loopback listener is on port 80.
    let lines = [words(&[
        "http",
        "host.rcc.internal",
        "80",
        "something-else.example",
        "/",
    ])];
    let (records, output) = place.probes(&["--network", "allowlist", "--host-port", "80"], &lines);
    assert_eq!(records[0].detail["status"], 200, "{output}");
    let why = place
        .rcc(["plan", "--host-port", "80", "--why", "host.rcc.internal:80"])
        .output();
    let text = why.assert_success().stdout_text();
    assert!(
        text.contains("rule: host.rcc.internal:80 (flag --host-port)"),
        "{text}"
    );
    let why = place
        .rcc(["plan", "--host-port", "80", "--why", "host.rcc.internal:81"])
        .output();
    assert!(
        why.assert_code(1)
            .stdout_text()
            .contains("port_not_allowed"),
        "{why}"
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// published ports

#[test]
fn a_published_port_leads_to_a_listener_on_the_sandboxs_own_loopback() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "publish");
    for (number, mode) in ["none", "allowlist", "internet"].into_iter().enumerate() {
        let port = (3000 + number).to_string();
        let flags = [
            "--network",
            mode,
            "-p",
            &port,
            "-p",
            &format!("{}:4006/tcp", 4100 + number),
            "-p",
            &format!("[::1]:{}:4006", 4100 + number),
            "-p",
            &format!("{}:4007", 4200 + number),
        ];
        // The control: nobody listens on the host before.
        talk(&world, "127.0.0.1", &port).assert_denied("ECONNREFUSED");
        let inside = [&format!("127.0.0.1={port}"), "::1=4006"];
        let mut server = sandbox_server(&place, &flags, &inside);
        for _ in 0..2 {
            assert_eq!(
                heard(&talk(&world, "127.0.0.1", &port)),
                "from 127.0.0.1 ping"
            );
        }
        let other = (4100 + number).to_string();
        assert_eq!(heard(&talk(&world, "127.0.0.1", &other)), "from ::1 ping");
        assert_eq!(heard(&talk(&world, "::1", &other)), "from ::1 ping");
        // Nothing listens on 4007 inside: the connection is over at once.
        let nobody = talk(&world, "127.0.0.1", &(4200 + number).to_string());
        assert!(
            !nobody.ok && nobody.errno.as_deref() != Some("ECONNREFUSED"),
            "{nobody:?}"
        );
        // Only where it was published: not on the host's other addresses.
        talk(&world, &HOST_V4.to_string(), &port).assert_denied("ECONNREFUSED");
        server.signal(15);
        let output = server.wait();
        assert!(output.survivors.is_empty(), "{:?}", output.survivors);
        talk(&world, "127.0.0.1", &port).assert_denied("ECONNREFUSED");
        let briefs = place.briefs();
        for line in [
            format!("publish 127.0.0.1 port={port} allow"),
            format!("publish_close 127.0.0.1 port={port} allow"),
            "publish ::1 port=4006 allow".to_owned(),
            "publish 127.0.0.1 port=4007 fail nothing_listens".to_owned(),
        ] {
            assert!(briefs.contains(&line), "{mode}: {line}\n{briefs:#?}");
        }
        place.forget_events();
    }
}

#[test]
fn publishing_opens_nothing_for_the_agent() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "publish-closed");
    let lines = [
        words(&["tcp", &ALLOWED_V4.to_string(), "80"]),
        words(&["resolve", "allowed.example"]),
        words(&["tcp", "127.0.0.1", "80"]),
    ];
    for line in &lines {
        world.probe(line).assert_ok();
    }
    world.forget();
    let (records, output) = place.probes(&["-n", "-p", "3000"], &lines);
    records[0].assert_denied("ENETUNREACH");
    assert!(!records[1].ok, "{output}");
    records[2].assert_denied("ECONNREFUSED");
    assert!(world.seen().is_empty(), "{:?}", world.seen());
    // The agent sees two processes of its own and no helper, and one link.
    let output = place.sh(
        &["-n", "-p", "3000"],
        "ls /proc | grep -c '^[0-9]'; ls /sys/class/net 2>/dev/null; sed -n 's/^ *\\([^:]*\\):.*/\\1/p' /proc/net/dev",
    );
    let text = output.assert_success().stdout_text();
    assert!(!text.contains("eth0"), "{text}");
}

#[test]
fn addresses_for_others_and_free_ports_are_told_at_the_start() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "publish-told");
    let flags = ["-n", "-p", "0.0.0.0:3000", "-p", "0:4000"];
    let mut server = sandbox_server(&place, &flags, &["127.0.0.1=3000", "127.0.0.1=4000"]);
    let told = server.stderr_so_far();
    assert!(
        told.contains("other machines can connect to port 3000 of the sandbox, at 0.0.0.0:3000"),
        "{told}"
    );
    let taken = told
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("127.0.0.1:"))
        .unwrap_or_else(|| panic!("no free port in {told}"));
    assert_eq!(
        heard(&talk(&world, "127.0.0.1", taken)),
        "from 127.0.0.1 ping"
    );
    // From another machine too, which is what was asked for.
    let far = world
        .inet_command(rcc_testkit::probe::path())
        .args(["tcp-talk", &HOST_V4.to_string(), "3000", "ping"])
        .output();
    assert_eq!(heard(&Record::of(&far)), "from 127.0.0.1 ping");
    server.signal(15);
    drop(server.wait());
}

#[test]
fn a_port_in_use_is_explained_and_nothing_is_started() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "publish-in-use");
    let server = host_server(&world, &["127.0.0.1=3000"]);
    let output = place.sh(&["-p", "3000"], "touch started");
    let text = output.assert_code(125).stderr_text();
    let expected = format!(
        "port 3000 on 127.0.0.1 is in use by python3 ({})",
        server.pid()
    );
    assert!(text.contains(&expected), "{expected}\n{text}");
    assert!(text.contains("-p 3001:3000"), "{text}");
    assert!(!place.project.join("started").exists());
    // The control: what the hint says works.
    place
        .sh(&["-p", "3001:3000"], "touch started")
        .assert_success();
    assert!(place.project.join("started").exists());
}

#[test]
fn a_policy_files_port_is_asked_for_and_a_flag_moves_it() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "publish-policy");
    place.file(
        "rcc.toml",
        "version = 1\n[network]\nmode = \"none\"\npublish = [\"3000\"]\n",
    );
    let output = place.sh(&[], "true");
    let text = output.assert_code(125).stderr_text();
    assert!(text.contains("is not approved"), "{text}");
    let trust = place.rcc(["trust", "--yes"]).output();
    trust.assert_success();
    let sentence = "let programs of this host connect to its port 3000, at 127.0.0.1:3000";
    let said = trust.stdout_text() + &trust.stderr_text();
    assert!(said.contains(sentence), "{said}");
    let mut server = sandbox_server(&place, &["-p", "3001:3000"], &["127.0.0.1=3000"]);
    assert_eq!(
        heard(&talk(&world, "127.0.0.1", "3001")),
        "from 127.0.0.1 ping"
    );
    talk(&world, "127.0.0.1", "3000").assert_denied("ECONNREFUSED");
    server.signal(15);
    drop(server.wait());
}

/// Pids of the processes of a run that are neither the supervisor nor inside: the helper.
fn helper(world: &World, supervisor: u32) -> u32 {
    let children: Vec<_> = world
        .processes()
        .into_iter()
        .filter(|process| process.parent == supervisor)
        .collect();
    // pid 1 has other namespaces; its children are the agent's.
    let idle = children.iter().find(|process| {
        !world
            .processes()
            .iter()
            .any(|child| child.parent == process.pid)
    });
    idle.unwrap_or_else(|| panic!("no helper among {children:?}"))
        .pid
}

#[test]
fn killing_helper_or_supervisor_leaves_nothing() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "publish-killed");
    // The control: a run that ends by itself leaves nothing either.
    place.sh(&["-n", "-p", "3000"], "true").assert_success();
    let before = world.processes().len();

    // The helper: the run goes on, its ports do not.
    let mut server = sandbox_server(&place, &["-n", "-p", "3000"], &["127.0.0.1=3000"]);
    let helper_pid = helper(&world, server.pid());
    assert_eq!(
        heard(&talk(&world, "127.0.0.1", "3000")),
        "from 127.0.0.1 ping"
    );
    world
        .host_command("kill")
        .args(["-9", &helper_pid.to_string()])
        .output()
        .assert_success();
    // `kill` comes back before the process has let go of its sockets.
    world.wait_for_end_of(helper_pid);
    for _ in 0..2 {
        assert!(!talk(&world, "127.0.0.1", "3000").ok);
    }
    server.signal(15);
    let output = server.wait();
    assert!(output.survivors.is_empty(), "{:?}", output.survivors);
    assert_eq!(world.processes().len(), before);
    let lost = "publish 127.0.0.1 port=3000 fail publish_lost".to_owned();
    assert!(place.briefs().contains(&lost), "{:#?}", place.briefs());

    // The supervisor: everything goes.
    let mut server = sandbox_server(&place, &["-n", "-p", "3000"], &["127.0.0.1=3000"]);
    assert_eq!(
        heard(&talk(&world, "127.0.0.1", "3000")),
        "from 127.0.0.1 ping"
    );
    server.signal(9);
    let output = server.wait();
    assert!(output.survivors.is_empty(), "{:?}", output.survivors);
    assert_eq!(world.processes().len(), before);
    talk(&world, "127.0.0.1", "3000").assert_denied("ECONNREFUSED");
}

#[test]
fn the_helper_holds_nothing() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "publish-helper");
    let mut server = sandbox_server(&place, &["-n", "-p", "3000"], &["127.0.0.1=3000"]);
    let pid = helper(&world, server.pid());
    let script = format!(
        "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/{pid}/status; ls -l /proc/{pid}/fd 2>&1 | sed -n 's/.* -> //p'"
    );
    let output = world.host_command("sh").args(["-c", &script]).output();
    let text = output.assert_success().stdout_text();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            text.contains(&format!("{set}:\t0000000000000000")),
            "{text}"
        );
    }
    assert!(
        text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"),
        "{text}"
    );
    // The list of descriptors is the user's own to see only as root; the helper is not dumpable by others.
    let descriptors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains('[') || line.starts_with('/'))
        .collect();
    assert!(
        descriptors.len() <= 1
            && descriptors
                .iter()
                .all(|target| target.starts_with("socket:")),
        "{text}"
    );
    if world.user().uid == 0 {
        assert_eq!(descriptors.len(), 1, "{text}");
    }
    server.signal(15);
    drop(server.wait());
}
