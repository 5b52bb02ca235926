//! `rcc stats` of the network: what the run sent and received.

use crate::idle;
use crate::scene::Scene;
use serde_json::Value;

/// Bytes that go to an echo server and come back.
const PAYLOAD: u64 = 4_000_000;

fn stats(scene: &Scene, name: &str) -> Value {
    let told = scene.rcc(["stats", "--json", name]).output();
    serde_json::from_str(&told.assert_success().stdout_text()).unwrap()
}

/// The counters agree with the agent's own view of its interface, and with what it knows that it sent.
#[test]
fn stats_tell_what_went_over_the_network() {
    let Some(scene) = Scene::new("stats_net") else {
        return;
    };
    let script = format!(
        "exec 3<>/dev/tcp/allowed.example/7
        yes | head -c {PAYLOAD} >&3 & head -c {PAYLOAD} <&3 | wc -c
        exec 3>&-; sed -n 's/^ *eth0: *//p' /proc/net/dev; echo up; exec sleep 600"
    );
    let flags = ["--network", "allowlist", "--allow", "allowed.example:7"];
    let run = scene.run(&[&flags[..], &["--name", "net"]].concat());
    let run = run.args(["bash", "-c", &script]).spawn();
    run.wait_for_text("up");
    let text = run.stdout_so_far();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(PAYLOAD.to_string().as_str()), "{text}");
    let inside: Vec<u64> = lines
        .next()
        .unwrap()
        .split_ascii_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let told = stats(&scene, "net");
    for (key, inside) in [
        ("network_received_bytes", inside[0]),
        ("network_sent_bytes", inside[8]),
    ] {
        let value = told[key].as_u64().unwrap();
        // What is still acknowledged comes after the agent looked.
        assert!(
            value.abs_diff(inside) <= inside / 50,
            "{key}: {inside} {told}"
        );
        // With headers, and with what is sent beside the payload.
        let range = PAYLOAD..PAYLOAD + PAYLOAD / 10;
        assert!(range.contains(&value), "{key}: {told}");
    }
    let shown = scene.rcc(["stats", "net"]).output();
    let text = shown.assert_success().stdout_text();
    let row = text.lines().nth(1).unwrap();
    let last = row.split_ascii_whitespace().last().unwrap();
    assert!(last.contains("MiB/") && last.ends_with("MiB"), "{text}");
    scene.rcc(["kill", "net"]).output().assert_success();
    run.wait().assert_code(137);

    let run = idle(&scene, "without");
    let told = stats(&scene, "without");
    assert_eq!(told["network_sent_bytes"], Value::Null, "{told}");
    scene.rcc(["kill", "without"]).output().assert_success();
    run.wait().assert_code(137);
}
