//! Other processes: seeing, signalling, tracing, reading and writing them. Those of the host, and pid 1 of the sandbox.

use crate::scene::{RCC, SECRET, Scene};
use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::Ending;

/// Probes that work on a victim outside, with the errno for the same number inside, where no process of the host has
/// one.
const BY_NUMBER: [(&[&str], &[&str]); 10] = [
    (&["signal", "PID", "0"], &["ESRCH"]),
    (&["pidfd-open", "PID"], &["ESRCH"]),
    // SIGCONT: nothing to a process that runs.
    (&["pidfd-signal", "PID", "18"], &["ESRCH"]),
    (&["ptrace-seize", "PID"], &["ESRCH"]),
    (&["ptrace-attach", "PID"], &["ESRCH"]),
    (&["memory-read", "PID"], &["ESRCH"]),
    (&["memory-write", "PID"], &["ESRCH"]),
    (&["proc-mem", "PID"], &["ENOENT"]),
    (&["environ-of", "PID"], &["ENOENT"]),
    (&["prlimit", "PID"], &["ESRCH"]),
];

fn aimed<'a>(words: &[&'a str], pid: &'a str) -> Vec<&'a str> {
    words
        .iter()
        .map(|word| if *word == "PID" { pid } else { word })
        .collect()
}

#[test]
fn of_the_host_by_number() {
    let Some(scene) = Scene::new("processes_by_number") else {
        return;
    };
    let victim = scene.victim();
    let pid = victim.pid().to_string();
    // A batch of probes has numbers up to some twenty inside: the victim's must be none of them.
    let alone = |words: &[&str]| scene.inside(words);
    assert!(victim.pid() > 5, "the number must not be in use inside");
    for (words, errnos) in BY_NUMBER {
        let words = aimed(words, &pid);
        alone(&words).assert_denied_with_any(errnos);
        let control = scene.outside(&words);
        assert!(control.ok, "the positive control {words:?}: {control:?}");
    }
    for words in [
        vec!["pidfd-getfd", pid.as_str(), "7"],
        vec!["kcmp", &pid, &pid],
    ] {
        scene.outside(&words).assert_ok();
        alone(&words).assert_denied_with_any(&["ESRCH", "EPERM"]);
    }
    for call in ["pidfd_getfd", "kcmp"] {
        assert_eq!(scene.filter(&["-n"], &[call])[call], "EPERM");
    }
}

#[test]
fn of_the_host_by_listing() {
    let Some(scene) = Scene::new("processes_listing") else {
        return;
    };
    let victim = scene.victim();
    let pid = victim.pid().to_string();
    assert_eq!(scene.outside(&["pids"]).assert_ok().detail[&pid], "sleep");
    let record = scene.inside(&["pids"]);
    let found = record.assert_ok().detail.as_object().unwrap();
    let names: Vec<&str> = found.values().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(found.len(), 2, "pid 1 and the probe: {found:?}");
    assert!(
        found.contains_key("1") && names.contains(&"rcc-probe"),
        "{found:?}"
    );
}

/// pid 1 counts as the agent's, and yet: it cannot be traced, read or written, and shows nothing.
#[test]
fn the_first_one_of_the_sandbox() {
    let Some(scene) = Scene::new("processes_init") else {
        return;
    };
    for words in [
        &["ptrace-attach", "1"][..],
        &["ptrace-seize", "1"],
        &["memory-read", "1"],
        &["memory-write", "1"],
        &["pidfd-getfd", "1", "0"],
        &["pidfd-getfd", "1", "3"],
        &["kcmp", "1", "1"],
    ] {
        scene.inside(words).assert_denied("EPERM");
    }
    for words in [
        &["proc-mem", "1"][..],
        &["environ-of", "1"],
        &["read", "/proc/1/maps"],
        &["read", "/proc/1/stack"],
        &["read", "/proc/1/syscall"],
        &["read", "/proc/1/auxv"],
        &["list", "/proc/1/map_files"],
        &["list", "/proc/1/cwd/"],
    ] {
        scene
            .inside(words)
            .assert_denied_with_any(&["EACCES", "EPERM"]);
    }
    // The control: the agent's own processes can be traced, read and written, as a debugger needs.
    let script = "sleep 600 & child=$!; for probe in ptrace-attach ptrace-seize memory-read memory-write proc-mem environ-of prlimit; do \
                  \"$0\" $probe $child; done; kill $child";
    let output = scene.sh(&["-n"], script);
    assert_eq!(
        output
            .assert_success()
            .stdout_text()
            .matches(r#""ok":true"#)
            .count(),
        7,
        "{output}"
    );
}

/// CVE-2019-5736: the runtime's program, overwritten through `/proc`, ran as root on the host.
#[test]
fn overwriting_the_runtime_through_proc_exe() {
    let Some(scene) = Scene::new("processes_exe") else {
        return;
    };
    let before = std::fs::metadata(RCC).unwrap();
    scene
        .inside(&["write-proc-exe", "1"])
        .assert_denied_with_any(&["EACCES", "EPERM", "EROFS", "ETXTBSY"]);
    // Another way to the same file: a script whose interpreter is the link, and opening it by redirection.
    let script = r##"
        printf '#!/proc/self/exe\n' > trap && chmod 755 trap && ./trap
        for n in 1 self $$; do exec 9>/proc/$n/exe && echo "opened $n"; done
        true
    "##;
    let output = scene.run(&["-n"]).args(["bash", "-c", script]).output();
    assert!(!output.stdout_text().contains("opened"), "{output}");
    // Where it is granted read-only at its own path.
    let granted = scene
        .rcc(["run", "-n", "--ro", RCC, "--ro"])
        .arg(probe::path())
        .arg("--");
    let record = Record::of(
        &granted
            .arg(probe::path())
            .args(["append", RCC, "x"])
            .output(),
    );
    record.assert_denied_with_any(&["EROFS", "ETXTBSY", "EACCES"]);
    let after = std::fs::metadata(RCC).unwrap();
    assert_eq!(
        (before.len(), before.modified().unwrap()),
        (after.len(), after.modified().unwrap())
    );
    // The control: a program of the agent's own that does not run can be opened for writing.
    let output = scene.sh(&["-n"], "cp /bin/sleep own && \"$0\" append own x");
    Record::of(&output).assert_ok();
}

/// Everything in reach is killed; outside nothing notices, and the run ends in order.
#[test]
fn killing_everything_in_reach() {
    let Some(scene) = Scene::new("processes_kill") else {
        return;
    };
    let mut victim = scene.victim();
    let first = "trap '' TERM HUP; kill -KILL 1 && kill -STOP 1 && kill -TERM 1 && kill -HUP 1 || exit 1; kill -TERM -1; exit 7";
    for (script, code) in [
        (first, 7),
        ("sleep 600 & kill -KILL -1", 0),
        ("kill -KILL 0", 137),
    ] {
        let output = scene.run(&["-n"]).args(["sh", "-c", script]).output();
        output.assert_code(code);
        assert!(output.survivors.is_empty(), "{output}");
        assert!(
            scene
                .outside(&["signal", &victim.pid().to_string(), "0"])
                .ok,
            "the victim outside died of {script}"
        );
    }
    // The control: the victim can be killed, by who can see it.
    scene
        .outside(&["signal", &victim.pid().to_string(), "9"])
        .assert_ok();
    victim.kill_tree();
    assert_eq!(victim.wait().ending, Ending::Signal(9));
}

#[test]
fn the_environment_of_the_hosts() {
    let Some(scene) = Scene::new("processes_environment") else {
        return;
    };
    let victim = scene.victim();
    let outside = scene.outside(&["environ-of", &victim.pid().to_string()]);
    assert!(outside.assert_ok().detail.to_string().contains(SECRET));
    let script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/task/*/environ 2>/dev/null | tr '\\0' '\\n'; true";
    let text = scene.sh(&["-n"], script).assert_success().stdout_text();
    assert!(
        text.contains("RCC_RUN=") && !text.contains(SECRET) && !text.contains("VICTIM"),
        "{text}"
    );
}

#[test]
fn joining_their_namespaces() {
    let Some(scene) = Scene::new("processes_setns") else {
        return;
    };
    for kind in ["user", "mnt", "net", "pid", "ipc", "uts", "cgroup"] {
        scene
            .inside(&["setns", &format!("/proc/self/ns/{kind}")])
            .assert_denied("EPERM");
        // pid 1's links cannot even be opened.
        scene
            .inside(&["setns", &format!("/proc/1/ns/{kind}")])
            .assert_denied_with_any(&["EACCES", "EPERM"]);
    }
    scene
        .inside(&["setns-pidfd", "1", "user"])
        .assert_denied("EPERM");
    scene
        .privileged(&["setns", "/proc/self/ns/net"])
        .assert_ok();
    scene
        .privileged(&["setns", "/proc/self/ns/uts"])
        .assert_ok();
}

#[test]
fn their_shared_memory_and_message_queues() {
    let Some(scene) = Scene::new("processes_ipc") else {
        return;
    };
    // IPC_CREAT with 0600, on keys that nothing else uses; then the same keys without making anything.
    let make = [
        vec!["syscall", "shmget", "0x72636331", "4096", "0o1600"],
        vec!["syscall", "msgget", "0x72636331", "0o1600"],
        vec!["syscall", "semget", "0x72636331", "1", "0o1600"],
        vec![
            "syscall",
            "mq_open",
            "str:rcc-attack",
            "0o102",
            "0o600",
            "null",
        ],
    ];
    for record in scene.outside_all(&make) {
        assert!(record.ok, "the control makes it: {record:?}");
    }
    scene.assert_stopped(&[
        (
            vec!["syscall", "shmget", "0x72636331", "0", "0"],
            &["ENOENT"],
        ),
        (vec!["syscall", "msgget", "0x72636331", "0"], &["ENOENT"]),
        (
            vec!["syscall", "semget", "0x72636331", "0", "0"],
            &["ENOENT"],
        ),
        (
            vec!["syscall", "mq_open", "str:rcc-attack", "0", "0", "null"],
            &["ENOENT"],
        ),
    ]);
}
