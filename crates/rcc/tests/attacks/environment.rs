//! What the caller has around it: variables, keyrings, limits, hostname.

use crate::scene::{RCC, SECRET, Scene, exists};
use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::HostCommand;

/// Names that carry secrets, sockets, or programs to be run.
const NAMES: [&str; 13] = [
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "ANTHROPIC_API_KEY",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "BASH_ENV",
    "ENV",
    "GIT_SSH_COMMAND",
    "GIT_CONFIG_GLOBAL",
    "PYTHONSTARTUP",
    "NODE_OPTIONS",
];

#[test]
fn a_secret_variable_of_the_caller() {
    let Some(scene) = Scene::new("environment_variables") else {
        return;
    };
    let with_secrets = |command: HostCommand<'static>| {
        NAMES
            .iter()
            .fold(command, |command, name| command.env(name, SECRET))
    };
    let outside = Record::of(
        &with_secrets(scene.command(probe::path()))
            .arg("environ")
            .output(),
    );
    for name in NAMES {
        assert_eq!(
            outside.detail["own"][name], SECRET,
            "the control has {name}"
        );
    }
    let record = Record::of(
        &with_secrets(scene.run(&["-n"]))
            .arg(probe::path())
            .arg("environ")
            .output(),
    );
    assert!(!record.detail.to_string().contains(SECRET), "{record:?}");
    assert_eq!(record.detail["pid_1"], "EACCES");
    let all = "cat /proc/[0-9]*/environ /proc/[0-9]*/task/*/environ 2>/dev/null; env; true";
    let output = with_secrets(scene.run(&["-n"]))
        .args(["bash", "-c", all])
        .output();
    assert!(
        !output.assert_success().stdout_text().contains(SECRET),
        "{output}"
    );

    // The control: what is passed by name arrives, and nothing else.
    let flags = ["-n", "--env", "GITHUB_TOKEN"];
    let output = with_secrets(scene.run(&flags))
        .args(["sh", "-c", "echo $GITHUB_TOKEN$ANTHROPIC_API_KEY"])
        .output();
    assert_eq!(output.stdout_text(), format!("{SECRET}\n"));
}

/// bubblewrap's `--clearenv` leaves the caller's whole environment in `/proc/1/environ`. Here even the caller outside,
/// who can read it, finds nothing there.
#[test]
fn the_memory_of_the_first_process() {
    let Some(scene) = Scene::new("environment_of_init") else {
        return;
    };
    let command = scene.run(&["-n"]).env("GITHUB_TOKEN", SECRET).args([
        "sh",
        "-c",
        "echo up; exec sleep 600",
    ]);
    let running = command.spawn();
    running.wait_for_text("up");
    let script = r"
        for init in $(cat /proc/$1/task/*/children); do
            tr '\0' ' ' < /proc/$init/cmdline; tr '\0' '\n' < /proc/$init/environ; echo
        done
        echo end of init
        tr '\0' '\n' < /proc/$1/environ
    ";
    let output = scene
        .command("sh")
        .args(["-c", script, "sh", &running.pid().to_string()])
        .output();
    let text = output.stdout_text();
    let (of_init, of_supervisor) = text
        .split_once("end of init")
        .unwrap_or_else(|| panic!("{output}"));
    assert!(of_init.contains("rcc-init"), "{output}");
    assert!(
        !of_init.contains(SECRET) && !of_init.contains('='),
        "{output}"
    );
    assert!(
        of_supervisor.contains(SECRET),
        "the control: the supervisor's own environment shows it\n{output}"
    );
    drop(running);
}

/// Variables that make a later program run something do not come in.
#[test]
fn variables_that_load_code() {
    let Some(scene) = Scene::new("environment_code") else {
        return;
    };
    let marker = scene.project().join("marker");
    let startup = scene.file(
        "home/work/project/startup.sh",
        format!("echo ran > {}\n", marker.display()),
    );
    let run = |command: HostCommand<'static>| {
        command
            .env("BASH_ENV", &startup)
            .args(["bash", "-c", "true"])
            .output()
    };
    run(scene.run(&["-n"])).assert_success();
    assert!(!exists(&marker), "BASH_ENV came in");
    run(scene.command("env")).assert_success();
    assert!(exists(&marker), "the control: bash obeys it");
    let command = scene.run(&["-n"]).env("LD_PRELOAD", "/nonexistent/evil.so");
    let output = command
        .args(["sh", "-c", "echo ${LD_PRELOAD-unset}"])
        .output();
    assert_eq!(output.stdout_text(), "unset\n");
}

#[test]
fn a_search_path_into_the_project() {
    let Some(scene) = Scene::new("environment_path") else {
        return;
    };
    let fake = scene.file("home/work/project/bin/ls", "#!/bin/sh\necho fake\n");
    std::fs::set_permissions(fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = ["sh", "-c", "echo $PATH; ls / | head -1"];
    let path = ".:bin::/usr/bin:/bin";
    let text = scene
        .run(&["-n"])
        .env("PATH", path)
        .args(script)
        .output()
        .stdout_text();
    let (entries, listed) = text.split_once('\n').unwrap();
    assert!(
        entries.split(':').all(|entry| entry.starts_with('/')),
        "{text}"
    );
    assert_ne!(listed, "fake\n");
    let control = scene
        .command("env")
        .env("PATH", path)
        .args(script)
        .output()
        .stdout_text();
    assert!(control.ends_with("fake\n"), "{control}");
}

#[test]
fn the_session_keyring_of_the_caller() {
    let Some(scene) = Scene::new("environment_keyring") else {
        return;
    };
    // `request_key` searches the keyrings of the caller; where it finds the key, the serial number is the answer.
    let search = [
        "syscall",
        "request_key",
        "str:user",
        "str:rcc-session",
        "null",
        "0",
    ];
    let with_key = |words: &[&str]| {
        scene
            .command(probe::path())
            .args(["with-session-key", "rcc-session"])
            .args(words)
    };
    let program = probe::path().to_str().unwrap().to_owned();
    let outside = Record::of(&with_key(&[&program]).args(search).output());
    let serial = outside.assert_ok().detail.to_string();
    let inside = |words: &[&str]| {
        let command = with_key(&[RCC, "run", "-n", "--ro", &program, "--", &program]).args(words);
        Record::of(&command.output())
    };
    inside(&search).assert_denied("EPERM");
    inside(&["syscall", "keyctl", "11", &serial, "zero:64", "64"]).assert_denied("EPERM");
    for words in [&["keyctl-session"][..], &["keyctl-join"], &["add-key"]] {
        inside(words).assert_denied("EPERM");
    }
    for keyring in ["-1", "-2", "-3", "-4", "-5"] {
        inside(&["keyring-read", keyring]).assert_denied("EPERM");
    }
    let calls = ["keyctl", "add_key", "request_key"];
    let (inside, outside) = (scene.filter(&["-n"], &calls), scene.filter_outside(&calls));
    for call in calls {
        assert_eq!(
            (&inside[call], &outside[call]),
            (&"EPERM".into(), &"allowed".into()),
            "{call}"
        );
    }
    for path in ["/proc/keys", "/proc/key-users"] {
        scene
            .inside(&["read", path])
            .assert_denied_with_any(&["EACCES", "ENOENT"]);
        scene.outside(&["read", path]).assert_ok();
    }
}

#[test]
fn renaming_the_host() {
    let Some(scene) = Scene::new("environment_hostname") else {
        return;
    };
    for probe in ["sethostname", "setdomainname"] {
        scene.inside(&[probe]).assert_denied("EPERM");
        scene.privileged(&[probe]).assert_ok();
    }
    scene
        .inside(&["append", "/proc/sys/kernel/hostname", "evil"])
        .assert_denied_with_any(&["EROFS", "EACCES"]);
    assert_eq!(
        scene.inside(&["read", "/proc/sys/kernel/hostname"]).detail,
        "rcc\n"
    );
    assert_eq!(
        scene.outside(&["read", "/proc/sys/kernel/hostname"]).detail,
        "rcc-test-host\n"
    );
}

/// A core dump would run the host's handler, outside, on content of the agent's choice.
#[test]
fn a_core_dump_for_the_hosts_handler() {
    let Some(scene) = Scene::new("environment_core") else {
        return;
    };
    let limits = scene
        .sh(&["-n"], "grep 'core file' /proc/self/limits")
        .stdout_text();
    // One byte: a piped handler is not started then (core(5)); zero would start it.
    assert_eq!(
        limits.split_whitespace().collect::<Vec<_>>()[4..6],
        ["1", "1"],
        "{limits}"
    );
    // RLIMIT_CORE is 4 (getrlimit(2)).
    scene.inside(&["raise-limit", "4"]).assert_denied("EPERM");
    let output = scene
        .run(&["-n"])
        .args(["bash", "-c", "kill -SEGV $$"])
        .output();
    output.assert_code(139);
    let names = std::fs::read_dir(scene.project())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with("core"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let control = scene
        .command("bash")
        .args(["-c", "grep 'core file' /proc/self/limits"])
        .output()
        .stdout_text();
    assert_ne!(control, limits, "the control has another limit");
}
