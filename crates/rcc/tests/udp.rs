//! UDP through the gateway with the real program: what passes arrives whole and is answered in the right name, what does
//! not pass is refused at once and seen by nobody.
#![forbid(unsafe_code)]

mod support;

use std::net::IpAddr;

use rcc_testkit::probe::Record;
use rcc_testkit::world::World;
use rcc_testkit::world::addresses::{
    ALLOWED_V4, ALLOWED_V6, DENIED_V4, DENIED_V6, HOST_V4, METADATA_V4,
};
use support::{Place, assert_soon, words};

/// What a connected client hears of a refusal: ICMP 3/13 and ICMPv6 1/1 (`icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in
/// net/ipv6/icmp.c).
fn prohibited(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "EHOSTUNREACH",
        IpAddr::V6(_) => "EACCES",
    }
}

fn milliseconds(record: &Record) -> f64 {
    record.detail["milliseconds"]
        .as_f64()
        .unwrap_or_else(|| panic!("no time in {record:?}"))
}

#[track_caller]
fn assert_refused(record: &Record, address: IpAddr) {
    record.assert_denied(prohibited(address));
    assert_soon(milliseconds(record), &format!("{record:?}"));
}

fn udp(host: impl ToString, port: u16) -> Vec<String> {
    words(&["udp", &host.to_string(), &port.to_string(), &"x".repeat(48)])
}

#[test]
fn mode_internet_carries_datagrams_of_every_size_and_both_families() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "internet");
    let mut lines = Vec::new();
    for host in [
        ALLOWED_V4.to_string(),
        ALLOWED_V6.to_string(),
        "allowed.example".to_owned(),
    ]
    .iter()
    {
        lines.push(udp(host, 7));
        lines.push(udp(host, 123));
        let sizes = "0 1 1200 1472 1473 9000 65000 65472 65473 65492 65493 65507";
        let mut line = words(&["udp-sizes", host, "7"]);
        line.extend(sizes.split(' ').map(str::to_owned));
        lines.push(line);
        // A game's server says much more than its client, for a while.
        lines.push(words(&["udp-stream", host, "4003", "200", "5"]));
        lines.push(words(&["udp-unconnected", host, "7", "hello"]));
    }
    let controls: Vec<Record> = lines.iter().map(|line| world.probe(line)).collect();
    let (records, _) = place.probes(&["--network", "internet"], &lines);
    for ((line, control), record) in lines.iter().zip(&controls).zip(&records) {
        assert!(control.ok, "the control {line:?} must work: {control:?}");
        record.assert_ok();
        if line[0] == "udp-sizes" || line[0] == "udp-stream" {
            assert_eq!(record.detail, control.detail, "{line:?}");
        }
    }
    let told: Vec<String> = place
        .briefs()
        .into_iter()
        .filter(|line| !line.starts_with("dns"))
        .collect();
    assert!(told.iter().all(|line| line.contains(" allow")), "{told:#?}");
    let closed: Vec<serde_json::Value> = place
        .events()
        .into_iter()
        .filter(|event| event["event"] == "close" && event["port"] == 4003)
        .collect();
    assert_eq!(closed.len(), 3);
    for event in closed {
        assert_eq!(event["protocol"], "udp", "{event}");
        assert_eq!(event["bytes_sent"], 200, "{event}");
        assert_eq!(event["bytes_received"], 1000, "{event}");
    }
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "two");
    let two = |first: &str, second: &str| words(&["udp-two", first, "7", second, "7"]);
    let lines = [
        two("203.0.113.10", "203.0.113.20"),
        two("2001:db8::10", "2001:db8::20"),
    ];
    let (records, _) = place.probes(&["--network", "internet"], &lines);
    assert_eq!(
        records[0].detail["answers"],
        serde_json::json!(["203.0.113.10:7 to 0", "203.0.113.20:7 to 1"])
    );
    assert_eq!(
        records[1].detail["answers"],
        serde_json::json!(["[2001:db8::10]:7 to 0", "[2001:db8::20]:7 to 1"])
    );
}

#[test]
fn what_is_not_allowed_is_refused_at_once_and_seen_by_nobody() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "refused");
    // Mode internet: what is not public. Mode allowlist: everything that no rule for UDP names.
    let internet: [IpAddr; 4] = [
        "192.168.77.10".parse().unwrap(),
        "fd00:77::10".parse().unwrap(),
        METADATA_V4.into(),
        HOST_V4.into(),
    ];
    let allowlist: [IpAddr; 5] = [
        ALLOWED_V4.into(),
        ALLOWED_V6.into(),
        DENIED_V4.into(),
        DENIED_V6.into(),
        METADATA_V4.into(),
    ];
    let rules = [
        "--network",
        "allowlist",
        // Rules for TCP say nothing about UDP, nor does a rule for another port.
        "--allow",
        "allowed.example:7",
        "--allow",
        "203.0.113.10:7",
        "--allow",
        "[2001:db8::10]:7",
        "--allow",
        "203.0.113.20:8/udp",
    ];
    for (flags, addresses) in [
        (&["--network", "internet"][..], &internet[..]),
        (&rules[..], &allowlist[..]),
    ] {
        let lines: Vec<_> = addresses
            .iter()
            .map(|address| words(&["udp-refused", &address.to_string(), "7", "50"]))
            .collect();
        for (address, line) in addresses.iter().zip(&lines) {
            if *address != IpAddr::V4(HOST_V4) {
                let control = world.probe(line);
                assert!(control.ok, "the control {line:?} must work: {control:?}");
            }
        }
        world.forget();
        place.forget_events();
        let (records, _) = place.probes(flags, &lines);
        for (address, record) in addresses.iter().zip(&records) {
            assert_refused(record, *address);
        }
        assert!(world.seen().is_empty(), "{:?}", world.seen());
        let events = place.events();
        for address in addresses {
            let of = |event: &&serde_json::Value| event["address"] == address.to_string();
            let lines: Vec<_> = events.iter().filter(of).collect();
            assert!(
                !lines.is_empty(),
                "{address} is not in the log: {events:#?}"
            );
            assert!(
                lines.len() <= 12,
                "{address} fills the log: {} lines",
                lines.len()
            );
            for event in lines {
                assert_eq!(event["event"], "refuse", "{event}");
                assert_eq!(event["protocol"], "udp", "{event}");
                assert_eq!(event["verdict"], "deny", "{event}");
            }
        }
    }
    // By name: the address behind it is what counts.
    place.forget_events();
    world.forget();
    let lines = ["lan.example", "host.example"].map(|name| udp(name, 7));
    let (records, _) = place.probes(&["--network", "internet"], &lines);
    for record in &records {
        record.assert_denied_with_any(&["EHOSTUNREACH", "EACCES"]);
    }
    assert!(world.seen().is_empty(), "{:?}", world.seen());
}

#[test]
fn a_rule_for_udp_opens_this_name_and_port_and_nothing_else() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "rule");
    let flags = [
        "--network",
        "allowlist",
        "--allow",
        "allowed.example:7/udp",
        "--allow",
        "[2001:db8::20]:123/udp",
    ];
    let lines = [
        udp("allowed.example", 7),
        udp(DENIED_V6, 123),
        udp("allowed.example", 123),
        udp(DENIED_V6, 7),
        udp(ALLOWED_V4, 7),
        words(&["tcp", "allowed.example", "7"]),
    ];
    for line in &lines {
        let control = world.probe(line);
        assert!(control.ok, "the control {line:?} must work: {control:?}");
    }
    world.forget();
    let (records, output) = place.probes(&flags, &lines);
    records[0].assert_ok();
    records[1].assert_ok();
    for record in &records[2..5] {
        record.assert_denied_with_any(&["EHOSTUNREACH", "EACCES"]);
        assert_soon(milliseconds(record), &format!("{record:?}"));
    }
    assert!(!world.seen().is_empty());
    assert_eq!(
        world.seen_at(ALLOWED_V4.into()).len() + world.seen_at(ALLOWED_V6.into()).len(),
        1
    );
    let text = output.stderr_text();
    assert!(
        text.contains("refused 203.0.113.10:7/udp"),
        "the summary tells the protocol: {text}"
    );
    assert!(text.contains("--allow 203.0.113.10:7/udp"), "{text}");
}

#[test]
fn a_port_that_nobody_has_is_told_as_by_its_host() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "closed");
    let lines = [udp(ALLOWED_V4, 4999), udp(ALLOWED_V6, 4999)];
    for line in &lines {
        world.probe(line).assert_denied("ECONNREFUSED");
    }
    let (records, _) = place.probes(&["--network", "internet"], &lines);
    for record in &records {
        record.assert_denied("ECONNREFUSED");
        assert_soon(milliseconds(record), &format!("{record:?}"));
    }
}

#[test]
fn a_flood_of_destinations_stays_within_bounds_and_leaves_others_alone() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "flood");
    // The supervisor is still there, with all that it holds, when it is looked at.
    let script = r#"
        "$0" udp allowed.example 7 before
        "$0" udp-flood 198.51.100.0 50000
        "$0" udp-flood 192.0.2.0 50000
        # The flood may still fill the queue, and what comes then is lost, as on any network.
        until "$0" udp allowed.example 7 after > after && grep -q '"ok":true' after; do :; done
        cat after
        "$0" tcp allowed.example 80
        echo flooded
        read line
    "#;
    let program = rcc_testkit::probe::path();
    let mut running = place
        .rcc(["run", "--network", "internet", "--audit"])
        .arg(&place.audit)
        .arg("--ro")
        .arg(&program)
        .args(["--", "sh", "-c", script])
        .arg(&program)
        .stdin_open()
        .spawn();
    running.wait_for_text("flooded");
    let pid = running.pid();
    let look = format!("cat /proc/{pid}/status; echo descriptors $(ls /proc/{pid}/fd | wc -l)");
    let looked = world.host_command("sh").args(["-c", &look]).output();
    let status = looked.assert_success().stdout_text();
    let number = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no {key} in {status}"))
    };
    running.write_stdin(b"\n");
    let output = running.wait();
    let text = output.assert_success().stdout_text();
    let records: Vec<Record> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(Record::from_text)
        .collect();
    assert_eq!(records.len(), 5, "{output}");
    for record in &records {
        record.assert_ok();
    }
    let peak_kib = number("VmHWM:");
    assert!(
        peak_kib < 64 << 10,
        "the supervisor needed {peak_kib} KiB: {status}"
    );
    let descriptors = number("descriptors");
    assert!(
        (100..1024 + 128).contains(&descriptors),
        "{descriptors} descriptors"
    );
    let written = std::fs::metadata(&place.audit).unwrap().len();
    assert!(written < 32 << 20, "the log has {written} bytes");
}

fn quic(host: impl ToString, server_name: &str, bytes: &str, protocols: &str) -> Vec<String> {
    words(&[
        "quic",
        &host.to_string(),
        "443",
        server_name,
        bytes,
        protocols,
    ])
}

#[test]
fn quic_reaches_the_name_that_a_rule_allows_and_no_other_behind_its_address() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "quic");
    let good = [
        quic("allowed.example", "allowed.example", "1000000", "0"),
        // A hello of three datagrams.
        quic("allowed.example", "allowed.example", "1000", "120"),
    ];
    // The server has a certificate for every name: only the gateway can tell them apart.
    let bad = [
        quic("allowed.example", "denied.example", "1000", "0"),
        quic("allowed.example", "denied.example", "1000", "120"),
    ];
    for line in good.iter().chain(&bad) {
        let control = world.probe(line);
        assert!(control.ok, "the control {line:?} must work: {control:?}");
        assert_eq!(control.detail["server_name"], line[3].as_str());
        assert_eq!(control.detail["same"], true);
    }
    world.forget();
    let flags = [
        "--network",
        "allowlist",
        "--allow",
        "allowed.example:443/udp",
    ];
    let (records, _) = place.probes(&flags, &bad);
    for record in &records {
        assert!(!record.ok, "{record:?}");
    }
    assert!(world.seen().is_empty(), "{:?}", world.seen());
    let briefs = place.briefs();
    let mismatches = briefs
        .iter()
        .filter(|line| line.contains("deny quic_name_mismatch"))
        .count();
    assert!(mismatches >= 2, "{briefs:#?}");

    place.forget_events();
    let (records, _) = place.probes(&flags, &good);
    for record in &records {
        record.assert_ok();
        assert_eq!(
            record.detail["server_name"], "allowed.example",
            "{record:?}"
        );
        assert_eq!(record.detail["same"], true, "{record:?}");
    }
    let denied = |line: &String| line.contains(" deny ");
    assert!(!place.briefs().iter().any(denied), "{:#?}", place.briefs());

    // `raw` lifts the check, and mode internet has none to begin with, except for names that a rule denies.
    place.forget_events();
    let raw = [
        "--network",
        "allowlist",
        "--allow",
        "allowed.example:443/udp/raw",
    ];
    let (records, _) = place.probes(&raw, &bad[..1]);
    records[0].assert_ok();
    let (records, _) = place.probes(&["--network", "internet"], &bad[..1]);
    records[0].assert_ok();
    world.forget();
    let deny = ["--network", "internet", "--deny", "denied.example"];
    let (records, _) = place.probes(&deny, &bad);
    for record in &records {
        assert!(!record.ok, "{record:?}");
    }
    assert!(world.seen().is_empty(), "{:?}", world.seen());
}
