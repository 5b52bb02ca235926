//! Reaching services of the host by Unix sockets: by every place they are kept, and by every call that reaches one.

use crate::scene::{Scene, exists};

#[test]
fn by_pathname_wherever_a_host_keeps_them() {
    let Some(scene) = Scene::new("sockets_by_pathname") else {
        return;
    };
    let runtime = format!("/run/user/{}", scene.world.user().uid);
    let mut paths = vec![
        format!("{runtime}/bus-of-attack"),
        format!("{runtime}/agent.sock"),
        scene.path("home/.docker.sock"),
        scene.path("outside/host.sock"),
    ];
    if scene.is_root() {
        paths.push("/run/docker.sock".to_owned());
        paths.push("/run/host-service".to_owned());
    }
    let service = scene.serve(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    for path in &paths {
        for probe in ["unix-connect", "unix-by-proc-fd"] {
            let control = scene.outside(&[probe, path]);
            assert_eq!(
                control.assert_ok().detail,
                "from the host\n",
                "{probe} {path}"
            );
            scene.inside(&[probe, path]).assert_denied("ENOENT");
        }
        scene.inside(&["dbus", path]).assert_denied("ENOENT");
    }
    for path in [
        "/run/dbus/system_bus_socket",
        "/var/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/nscd/socket",
    ] {
        scene.inside(&["dbus", path]).assert_denied("ENOENT");
    }
    // A read-only grant does not close a socket (greywall 55, claude-code 20263), which is why these directories
    // cannot be granted.
    for path in ["/run", &runtime, "/var/run"] {
        let output = scene
            .rcc(["run", "-n", "--ro", path, "--", "true"])
            .output();
        output.assert_code(125);
        assert!(
            output.stderr_text().contains("cannot be granted"),
            "{output}"
        );
    }
    // Nor can a socket by its own name.
    let path = scene.path("outside/host.sock");
    let output = scene
        .rcc(["run", "-n", "--ro", &path, "--", "true"])
        .output();
    output.assert_code(125);
    let message = output.stderr_text();
    assert!(
        message.contains("neither a directory nor a regular file"),
        "{output}"
    );
    drop(service);
}

#[test]
fn by_walking_everything_that_can_be_seen() {
    let Some(scene) = Scene::new("sockets_by_walking") else {
        return;
    };
    let path = scene.path("outside/host.sock");
    let runtime = format!("/run/user/{}/bus-of-walk", scene.world.user().uid);
    let service = scene.serve(&[&path, &runtime]);
    let outside = scene.outside(&["unix-walk", "/run", scene.base.to_str().unwrap()]);
    assert!(
        outside.assert_ok().detail.to_string().contains("host.sock"),
        "{outside:?}"
    );
    let inside = scene.inside(&[
        "unix-walk",
        "/bin",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/opt",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/tmp",
        "/usr/bin",
        "/var",
    ]);
    assert_eq!(
        (inside.ok, &inside.detail),
        (false, &serde_json::json!([])),
        "no socket at all"
    );
    drop(service);
}

/// nono 1096: what watches `connect(2)` does not see these.
#[test]
fn by_datagrams_that_need_no_connection() {
    let Some(scene) = Scene::new("sockets_by_datagram") else {
        return;
    };
    let path = scene.path("outside/log.sock");
    let service = scene.serve(&[&format!("dgram:{path}")]);
    scene.assert_stopped(&[
        (vec!["unix-send", &path, "hello"], &["ENOENT"]),
        (vec!["unix-sendmsg", &path, "hello"], &["ENOENT"]),
    ]);
    drop(service);
}

#[test]
fn by_abstract_name() {
    let Some(scene) = Scene::new("sockets_by_abstract_name") else {
        return;
    };
    let name = format!("rcc-attack-{}", std::process::id());
    let service = scene.serve(&[&format!("@{name}")]);
    // Without a network, and with one: it is a network namespace of its own either way.
    for flags in [&["-n"][..], &["--network", "allowlist"]] {
        let inside = scene.inside_all(
            flags,
            &[
                vec!["abstract-connect", &name],
                vec!["abstract-send", &name, "x"],
                vec!["abstract-list"],
            ],
        );
        inside[0].assert_denied("ECONNREFUSED");
        inside[1].assert_denied("ECONNREFUSED");
        assert_eq!(inside[2].detail, serde_json::json!([]));
    }
    assert_eq!(
        scene
            .outside(&["abstract-connect", &name])
            .assert_ok()
            .detail,
        "from the host\n"
    );
    let listed = scene.outside(&["abstract-list"]);
    assert!(listed.detail.to_string().contains(&name), "{listed:?}");
    drop(service);
}

/// A descriptor that comes over a socket pair gives nothing that the sender did not have.
#[test]
fn by_passing_descriptors_inside() {
    let Some(scene) = Scene::new("sockets_by_passing") else {
        return;
    };
    let secret = scene.path("outside/secret");
    scene.assert_stopped(&[(vec!["socketpair-pass-fd", &secret], &["ENOENT"])]);
    scene.inside(&["socketpair-pass-fd", "file"]).assert_ok();
    scene
        .inside(&["socketpair-pass-fd", "/etc/shadow"])
        .assert_denied_with_any(&["ENOENT", "EACCES"]);
}

/// What a sandbox can leave for the host: the name of a socket, behind which nobody is when the run has ended.
#[test]
fn by_leaving_a_listening_one_behind() {
    let Some(scene) = Scene::new("sockets_left_behind") else {
        return;
    };
    let script = "\"$0\" unix-serve ./trap.sock >ready & while ! grep -q ready ready; do :; done; \"$0\" unix-connect ./trap.sock";
    let output = scene.sh(&["-n"], script);
    assert!(
        output
            .assert_success()
            .stdout_text()
            .contains("from the host"),
        "the control: it listens inside\n{output}"
    );
    assert!(exists(&scene.project().join("trap.sock")));
    let path = scene.path("home/work/project/trap.sock");
    scene
        .outside(&["unix-connect", &path])
        .assert_denied("ECONNREFUSED");
}
