//! Connections through an upstream proxy with the real program: what it is asked, what it never hears, and every way in which it
//! can fail.
//!
//! The proxy is a script at an address of the test world; the control of each refusal is a request that passes.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use rcc_testkit::probe::Record;
use rcc_testkit::world::{Running, World};
use rcc_testkit::{require, run_again_as_ordinary_user};
use support::{Place, words};

#[test]
fn the_same_as_an_ordinary_user() {
    run_again_as_ordinary_user(&[&support::program()]);
}

/// A proxy. It prints the head of every request, and what came with it before the answer. The port asked for chooses how it
/// behaves: 80 connects, the others fail each in its own way.
const PROXY: &str = r#"
import socket, sys, threading, json
def answer(client):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(65536)
        if not data: return client.close()
        head += data
    lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
    target = lines[0].split(" ")[1]
    port = int(target.rsplit(":", 1)[1])
    early = len(head.split(b"\r\n\r\n", 1)[1])
    if port != 1009:
        client.settimeout(0.2)
        try: early += len(client.recv(65536, socket.MSG_PEEK))
        except TimeoutError: pass
        client.settimeout(None)
    print(json.dumps({"lines": lines, "early": early}), flush=True)
    ok = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n"
    if port == 80:
        if target.startswith("only-the-proxy-knows.example"): target = "203.0.113.10:80"
        host, port = target.rsplit(":", 1)
        names = {"allowed.example": "203.0.113.10"}
        server = socket.create_connection((names.get(host, host.strip("[]")), int(port)))
        client.sendall(ok)
        def pump(a, b):
            while data := a.recv(65536): b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        threading.Thread(target=pump, args=(server, client)).start()
        return pump(client, server)
    if port == 1001: client.sendall(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n")
    if port == 1002: client.sendall(b"HTTP/1.1 403 \x1b[2JNo\r\n\r\n")
    if port == 1003: client.sendall(b"SSH-2.0-x\r\n\r\n")
    if port == 1004:
        try: client.sendall(b"HTTP/1.1 200 x\r\n" + b"A: b\r\n" * 100000)
        except OSError: pass
    if port == 1005: pass
    if port == 1006: client.sendall(ok + b"banner of a server that speaks first\n")
    if port == 1007: client.sendall(b"HTTP/1.1 302 x\r\nLocation: http://203.0.113.20/\r\n\r\n")
    if port == 1008: client.sendall(b"HTTP/1.1 200")
    if port == 1009:
        for byte in ok + b"slow":
            client.sendall(bytes([byte]))
    client.close()
server = socket.create_server((sys.argv[1], 3128))
print("listening", flush=True)
while True:
    client, _ = server.accept()
    threading.Thread(target=answer, args=(client,), daemon=True).start()
"#;

/// Where the proxy listens: the host's LAN, a private address.
const PROXY_ADDRESS: &str = "192.168.77.128";

fn world() -> Option<World> {
    if !require("python3") {
        return None;
    }
    World::start_or_skip()
}

fn start_proxy(world: &World) -> Running {
    let proxy = world
        .inet_command("python3")
        .args(["-c", PROXY, PROXY_ADDRESS])
        .spawn();
    proxy.wait_for_text("listening");
    proxy
}

/// Writes the user's own policy.
fn user_policy(world: &World, network: &str) {
    let directory = world.home().join(".config/rcc");
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!("version = 1\n[network]\n{network}\n");
    std::fs::write(directory.join("config.toml"), text).unwrap();
    world.give_to_user(&world.home());
}

fn with_proxy(more: &str) -> String {
    format!("upstream_proxy = \"http://{PROXY_ADDRESS}:3128\"\n{more}")
}

/// First lines of the requests that the proxy has heard.
fn requests(proxy: &Running) -> Vec<String> {
    let text = proxy.stdout_so_far();
    let heard = text.lines().filter(|line| line.starts_with('{'));
    heard
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                line["early"], 0,
                "bytes of the agent before the answer: {line}"
            );
            line["lines"][0].as_str().unwrap().to_owned()
        })
        .collect()
}

fn http(host: &str, port: u16) -> Vec<String> {
    words(&["http", host, &port.to_string(), host, "/"])
}

#[track_caller]
fn assert_refused(record: &Record, reason: &str) {
    let body = record.detail["body"].as_str().unwrap_or_default();
    assert!(
        body.contains(&format!("({reason})")),
        "{reason}: {record:?}"
    );
}

#[test]
fn allowed_connections_go_through_the_proxy_by_name_and_checked() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "proxy");
    let proxy = start_proxy(&world);
    user_policy(
        &world,
        &with_proxy("upstream_proxy_except = [\"v4only.example\"]"),
    );
    let lines = [
        http("allowed.example", 80),
        http("only-the-proxy-knows.example", 80),
        words(&["http", "203.0.113.10", "80", "x", "/"]),
        http("v4only.example", 80),
        http("denied.example", 80),
        http("rebind-rfc1918.example", 80),
        words(&["http", "192.168.77.10", "80", "x", "/"]),
        words(&["udp", "203.0.113.10", "7", "hello"]),
    ];
    world.forget();
    let flags = [
        "--network",
        "allowlist",
        "--allow",
        "allowed.example",
        "--allow",
        "only-the-proxy-knows.example",
        "--allow",
        "203.0.113.10",
        "--allow",
        "v4only.example",
        "--allow",
        "203.0.113.10:7/udp",
    ];
    let (records, output) = place.probes(&flags, &lines);
    for record in &records[..4] {
        assert_eq!(record.detail["status"], 200, "{record:?}\n{output}");
    }
    for record in &records[4..] {
        assert!(!record.ok || record.detail["status"] == 403, "{record:?}");
    }
    assert_eq!(
        requests(&proxy),
        [
            "CONNECT allowed.example:80 HTTP/1.1",
            "CONNECT only-the-proxy-knows.example:80 HTTP/1.1",
            "CONNECT 203.0.113.10:80 HTTP/1.1",
        ]
    );
    let briefs = place.briefs();
    assert!(
        briefs
            .iter()
            .any(|line| line == "refuse 203.0.113.10 port=7 deny proxy_no_udp"),
        "{briefs:#?}"
    );
}

#[test]
fn a_name_that_leads_to_a_forbidden_address_does_not_reach_the_proxy() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "proxy-rebind");
    let proxy = start_proxy(&world);
    user_policy(&world, &with_proxy(""));
    let name = rcc_testkit::world::zone::rebind_name("rfc1918-10");
    let lines = [
        http("lan.example", 80),
        http(&name, 80),
        http("only-the-proxy-knows.example", 80),
        http("allowed.example", 80),
    ];
    // Without a rule for it, a name that does not resolve here is not passed on either.
    let (records, output) = place.probes(&["--network", "internet"], &lines);
    for record in &records[..3] {
        assert!(!record.ok || record.detail["status"] == 403, "{record:?}");
    }
    assert_eq!(records[3].detail["status"], 200, "{output}");
    assert_eq!(requests(&proxy), ["CONNECT allowed.example:80 HTTP/1.1"]);
}

#[test]
fn every_failure_of_the_proxy_has_its_sentence() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "proxy-fails");
    let proxy = start_proxy(&world);
    user_policy(&world, &with_proxy(""));
    let cases = [
        (1001, "proxy_credentials"),
        (1002, "proxy_refused"),
        (1003, "proxy_garbled"),
        (1004, "proxy_garbled"),
        (1005, "proxy_closed"),
        (1007, "proxy_refused"),
        (1008, "proxy_closed"),
    ];
    let lines: Vec<Vec<String>> = cases
        .iter()
        .map(|(port, _)| http("allowed.example", *port))
        .collect();
    let flags = [
        "--network",
        "allowlist",
        "--allow",
        "allowed.example:1-65535/raw",
    ];
    let (records, output) = place.probes(&flags, &lines);
    for ((_, reason), record) in cases.iter().zip(&records) {
        assert_eq!(record.detail["status"], 502, "{record:?}\n{output}");
        assert_refused(record, reason);
        assert!(!record.detail["body"].as_str().unwrap().contains('\u{1b}'));
    }
    assert_eq!(requests(&proxy).len(), cases.len());
    // What a server says right behind the proxy's answer belongs to the client, whether it comes at once or byte by byte.
    let lines = [
        words(&["tcp-talk", "allowed.example", "1006", ""]),
        words(&["tcp-talk", "allowed.example", "1009", ""]),
    ];
    let (records, output) = place.probes(&flags, &lines);
    assert_eq!(
        records[0].assert_ok().detail["text"],
        "banner of a server that speaks first\n",
        "{output}"
    );
    assert_eq!(records[1].assert_ok().detail["text"], "slow", "{output}");

    // Nobody listens there.
    user_policy(&world, "upstream_proxy = \"http://127.0.0.1:9\"");
    let (records, _) = place.probes(&flags, &[http("allowed.example", 80)]);
    assert_refused(&records[0], "proxy_unreachable");
}

#[test]
fn credentials_reach_the_proxy_and_nobody_else() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "proxy-secret");
    let proxy = start_proxy(&world);
    let file = world.home().join(".config/rcc/proxy");
    user_policy(
        &world,
        &with_proxy("upstream_proxy_credentials_file = \"~/.config/rcc/proxy\""),
    );
    std::fs::write(&file, "user:very-secret\n").unwrap();
    world.give_to_user(&world.home());
    // "user:very-secret"
    let encoded = "dXNlcjp2ZXJ5LXNlY3JldA==";
    let flags = ["--network", "allowlist", "--allow", "allowed.example"];
    let request = "curl -s -o /dev/null -w '%{http_code}' http://allowed.example/ ; env; cat /proc/self/mountinfo; cat ~/.config/rcc/proxy";

    // Others could read it: a refusal that shows the way, and not the secret.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = place.sh(&flags, "true");
    let text = output.assert_code(125).stderr_text();
    assert!(
        text.contains("are not private") && text.contains("chmod 600"),
        "{text}"
    );

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    if !require("curl") {
        return;
    }
    let output = place.sh(&flags, request);
    assert!(output.stdout_text().starts_with("200"), "{output}");
    let plan = place.rcc(["plan", "--json", "--", "true"]).output();
    let shown = place.rcc(["plan", "--", "true"]).output();
    assert!(
        shown.stdout_text().contains("http://192.168.77.128:3128"),
        "{shown}"
    );
    let heard = proxy.stdout_so_far();
    assert!(
        heard.contains(&format!("Proxy-Authorization: Basic {encoded}")),
        "{heard}"
    );
    let record = world
        .host_command("sh")
        .args([
            "-c",
            "grep -rlE 'very-secret|dXNlcjp2ZXJ5' ~/.local || true",
        ])
        .output();
    assert_eq!(record.stdout_text(), "", "the secret is in rcc's own files");
    let log = std::fs::read_to_string(&place.audit).unwrap();
    for text in [
        output.stdout_text(),
        output.stderr_text(),
        plan.stdout_text(),
        shown.stdout_text(),
        log,
    ] {
        assert!(
            !text.contains("very-secret") && !text.contains(encoded),
            "{text}"
        );
    }

    // By variable: it does not reach the agent, even if the policy passes it.
    user_policy(
        &world,
        &(with_proxy("upstream_proxy_credentials_env = \"PROXY_SECRET\"")
            + "\n[env]\npass = [\"PROXY_SECRET\", \"PROXY_OTHER\"]"),
    );
    let output = place
        .run(&flags)
        .args(["sh", "-c", request])
        .env("PROXY_SECRET", "user:very-secret")
        .env("PROXY_OTHER", "seen")
        .output();
    assert!(output.stdout_text().starts_with("200"), "{output}");
    assert!(
        output.stdout_text().contains("PROXY_OTHER=seen"),
        "{output}"
    );
    assert!(!output.stdout_text().contains("very-secret"), "{output}");
    let output = place.sh(&flags, "true");
    assert!(
        output
            .assert_code(125)
            .stderr_text()
            .contains("PROXY_SECRET"),
        "{output}"
    );
}

#[test]
fn credentials_that_the_agent_could_see_are_refused() {
    let Some(world) = world() else { return };
    let place = Place::new(&world, "proxy-visible");
    let file = place.file("secret", "user:very-secret\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    user_policy(
        &world,
        &with_proxy(&format!(
            "upstream_proxy_credentials_file = {:?}",
            file.to_str().unwrap()
        )),
    );
    let output = place.sh(&[], "true");
    let text = output.assert_code(125).stderr_text();
    assert!(text.contains("lie where the agent can see them"), "{text}");
}
