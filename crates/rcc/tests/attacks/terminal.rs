//! The terminal: pushing keys into it, reaching the caller's own, and what a sandbox without one has. Under real
//! pseudo-terminals.

use crate::scene::Scene;
use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::HostCommand;

/// Runs a command on a terminal of its own and gives the last record that it showed.
#[track_caller]
fn on_a_terminal(command: HostCommand<'static>) -> Record {
    Record::from_text(&command.spawn_terminal(24, 200).wait().stdout_text())
}

fn inside(scene: &Scene, words: &[&str]) -> Record {
    on_a_terminal(scene.run(&["-n"]).arg(probe::path()).args(words))
}

fn outside(scene: &Scene, words: &[&str]) -> Record {
    on_a_terminal(scene.command(probe::path()).args(words))
}

/// CVE-2017-5226 and CVE-2019-10063: keys pushed into the caller's terminal are typed at its shell after the end.
#[test]
fn pushing_keys_with_tiocsti() {
    let Some(scene) = Scene::new("terminal_tiocsti") else {
        return;
    };
    for probe in ["tiocsti", "tiocsti-high-bits"] {
        inside(&scene, &[probe]).assert_denied("EPERM");
        // EIO where dev.tty.legacy_tiocsti is off: then nobody can, but for the filter's answer below.
        let control = outside(&scene, &[probe]);
        assert!(
            control.ok || control.errno.as_deref() == Some("EIO"),
            "{control:?}"
        );
    }
    for probe in ["tioclinux", "tioclinux-high-bits"] {
        inside(&scene, &[probe]).assert_denied("EPERM");
        // A pseudo-terminal has no console behind it.
        outside(&scene, &[probe]).assert_denied_with_any(&["ENOTTY", "EINVAL"]);
    }
    let calls = [
        "ioctl:0:0x5412",
        "ioctl:0:0x100005412",
        "ioctl:0:0x541c",
        "ioctl:0:0x10000541c",
    ];
    let (inside, outside) = (scene.filter(&["-n"], &calls), scene.filter_outside(&calls));
    for call in calls {
        assert_eq!(
            (&inside[call], &outside[call]),
            (&"EPERM".into(), &"allowed".into()),
            "{call}"
        );
    }
}

/// And even with the call open nothing would be gained: what the agent has is another terminal.
#[test]
fn the_callers_own_terminal() {
    let Some(scene) = Scene::new("terminal_own") else {
        return;
    };
    let posture = inside(&scene, &["posture"]);
    let terminal = &posture.detail["terminal"];
    assert_eq!(
        (
            &terminal["stdin"],
            &terminal["stdout"],
            &terminal["stderr"],
            &terminal["controlling"]
        ),
        (&true.into(), &true.into(), &true.into(), &true.into())
    );
    for entry in posture.detail["descriptors"].as_array().unwrap() {
        assert_eq!(
            entry["target"], "/dev/pts/0",
            "the first terminal of a file system of its own"
        );
    }
    let script = "tty; ls -1 /dev/pts; stat -c '%d %i' /proc/self/fd/0 -L";
    let show = |command: HostCommand<'static>| {
        command
            .args(["sh", "-c", script])
            .spawn_terminal(24, 200)
            .wait()
            .stdout_text()
    };
    let shown_inside = show(scene.run(&["-n"]));
    assert!(shown_inside.starts_with("/dev/pts/0"), "{shown_inside}");
    let names: Vec<&str> = shown_inside.lines().map(str::trim).collect();
    assert_eq!(
        names[1..names.len() - 1],
        ["0", "ptmx"],
        "no other terminal is there"
    );
    let shown_outside = show(scene.command("env"));
    assert_ne!(
        shown_inside.lines().last(),
        shown_outside.lines().last(),
        "another device and inode"
    );
}

#[test]
fn terminals_of_the_host_by_name_and_by_process() {
    let Some(scene) = Scene::new("terminal_names") else {
        return;
    };
    // A shell of the caller's on a terminal of the host.
    let shell = scene
        .command("sh")
        .args(["-c", "tty; echo up; exec sleep 600"])
        .spawn_terminal(24, 80);
    shell.wait_for_text("up");
    let name = shell.shown().lines().next().unwrap().trim().to_owned();
    assert!(name.starts_with("/dev/pts/"), "{name}");
    // Its number may exist inside only as the sandbox's own first one.
    if name != "/dev/pts/0" {
        inside(&scene, &["open-device", &name, "w"]).assert_denied("ENOENT");
        scene
            .inside(&["open-device", &name, "w"])
            .assert_denied("ENOENT");
    }
    scene.outside(&["open-device", &name, "w"]).assert_ok();
    // The parent is pid 1, whose descriptors are closed to everybody.
    inside(&scene, &["terminal-of-parent"]).assert_denied_with_any(&["EACCES", "EPERM"]);
    drop(shell);
}

#[test]
fn without_a_terminal_there_is_none() {
    let Some(scene) = Scene::new("terminal_none") else {
        return;
    };
    scene.inside(&["open-tty"]).assert_denied("ENXIO");
    scene.inside(&["tiocsti"]).assert_denied("EPERM");
    outside(&scene, &["open-tty"]).assert_ok();
    // Even when the caller has a controlling terminal behind redirected streams.
    let script = "exec \"$@\" </dev/null 2>/dev/null | cat";
    let command =
        scene
            .command("sh")
            .args(["-c", script, "sh", crate::scene::RCC, "run", "-n", "--ro"]);
    let record = on_a_terminal(
        command
            .arg(probe::path())
            .arg("--")
            .arg(probe::path())
            .arg("open-tty"),
    );
    record.assert_denied("ENXIO");
}

#[test]
fn taking_a_terminal_as_ones_own() {
    let Some(scene) = Scene::new("terminal_ctty") else {
        return;
    };
    // A new session may take the sandbox's own terminal from pid 1's session only with CAP_SYS_ADMIN.
    let output = scene
        .run(&["-n"])
        .args(["setsid", "--wait"])
        .arg(probe::path())
        .arg("tiocsctty")
        .spawn_terminal(24, 200)
        .wait();
    Record::from_text(&output.stdout_text()).assert_denied("EPERM");
    let control = scene
        .command("setsid")
        .args(["--wait"])
        .arg(probe::path())
        .arg("tiocsctty")
        .spawn_terminal(24, 200)
        .wait();
    let control = Record::from_text(&control.stdout_text());
    assert_eq!(
        control.ok,
        scene.is_root(),
        "root may steal a terminal of the host: {control:?}"
    );
}
