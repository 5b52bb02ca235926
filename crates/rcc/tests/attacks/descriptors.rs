//! Descriptors that the caller of rcc had open, and the three that every program has.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;

use crate::scene::{RCC, SECRET, Scene, exists};
use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::HostCommand;

/// Starts a program with a file and a directory of the host open, at low and high numbers.
fn with_open_descriptors(scene: &Scene) -> HostCommand<'static> {
    let script = "exec 3<\"$1\" 4<\"$2\" 5<> \"$1\" 77<\"$2\" 200<\"$1\"; shift 2; exec \"$@\"";
    let command = scene.command("bash").args(["-c", script, "bash"]);
    command
        .arg(scene.path("outside/secret"))
        .arg(scene.path("outside"))
}

#[test]
fn that_were_open_when_rcc_was_started() {
    let Some(scene) = Scene::new("descriptors_inherited") else {
        return;
    };
    let secret = scene.path("outside/secret");
    let inside = |words: &[&str]| {
        let command = with_open_descriptors(&scene)
            .args([RCC, "run", "-n", "--ro"])
            .arg(probe::path())
            .arg("--");
        Record::of(&command.arg(probe::path()).args(words).output())
    };
    let outside = |words: &[&str]| {
        Record::of(
            &with_open_descriptors(&scene)
                .arg(probe::path())
                .args(words)
                .output(),
        )
    };

    let open = outside(&["fds"]);
    let numbers: Vec<i64> = open
        .detail
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["number"].as_i64().unwrap())
        .collect();
    // bash keeps a copy or two of its own.
    assert!(
        [3, 4, 5, 77, 200]
            .iter()
            .all(|number| numbers.contains(number)),
        "the control has them: {numbers:?}"
    );
    let record = inside(&["fds"]);
    assert_eq!((record.ok, &record.detail), (false, &serde_json::json!([])));

    // CVE-2024-21626: a directory descriptor leads out of any root.
    assert_eq!(
        outside(&["read-by-open-directories", &secret])
            .assert_ok()
            .detail,
        SECRET
    );
    let record = inside(&["read-by-open-directories", &secret]);
    assert!(
        !record.ok && !record.detail.to_string().contains(SECRET),
        "{record:?}"
    );
    for number in ["3", "4", "5", "77", "200"] {
        inside(&["read", &format!("/proc/self/fd/{number}")]).assert_denied("ENOENT");
        inside(&["read", &format!("/proc/1/fd/{number}")])
            .assert_denied_with_any(&["EACCES", "ENOENT"]);
    }
}

#[test]
fn that_were_open_when_a_sandbox_with_a_network_was_started() {
    let Some(scene) = Scene::new("descriptors_inherited_network") else {
        return;
    };
    let command = with_open_descriptors(&scene)
        .args([RCC, "run", "--network", "allowlist", "--ro"])
        .arg(probe::path());
    let record = Record::of(&command.arg("--").arg(probe::path()).arg("fds").output());
    assert_eq!((record.ok, &record.detail), (false, &serde_json::json!([])));
}

/// What came in for reading stays for reading, although `/proc` would open it again.
#[test]
fn standard_input_reopened_for_writing() {
    let Some(scene) = Scene::new("descriptors_stdin_file") else {
        return;
    };
    let secret = scene.base.join("outside/secret");
    let input = || File::open(&secret).unwrap();
    let read = scene.run(&["-n"]).arg("cat").stdin(input()).output();
    assert_eq!(
        read.assert_success().stdout_text(),
        SECRET,
        "what was handed in can be read"
    );
    for path in ["/proc/self/fd/0", "/dev/stdin", "/dev/fd/0"] {
        for words in [["append", path, "x"], ["write", path, "x"]] {
            let command = scene.run(&["-n"]).arg(probe::path()).args(words);
            Record::of(&command.stdin(input()).output())
                .assert_denied_with_any(&["EACCES", "EROFS"]);
        }
    }
    let script = "exec 9<>/proc/self/fd/0 && echo opened; exec 9>>/dev/stdin && echo opened; truncate -s 0 /dev/stdin && echo cut; true";
    let output = scene
        .run(&["-n"])
        .args(["bash", "-c", script])
        .stdin(input())
        .output();
    assert_eq!(output.stdout_text(), "", "{output}");
    assert_eq!(scene.text("outside/secret"), SECRET);

    let control = scene
        .command(probe::path())
        .args(["append", "/proc/self/fd/0", "x"])
        .stdin(input());
    Record::of(&control.output()).assert_ok();
    assert_eq!(scene.text("outside/secret"), format!("{SECRET}x"));
}

/// The file behind standard input is the host's: neither its mode nor its times are the agent's to change. Landlock
/// does not cover these calls, and the mount behind the descriptor is the host's own.
#[test]
fn changing_the_file_behind_standard_input() {
    let Some(scene) = Scene::new("descriptors_stdin_mode") else {
        return;
    };
    let path = scene.base.join("outside/secret");
    let uid = scene.world.user().uid.to_string();
    let set_back = || {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
    };
    set_back();
    let before = std::fs::metadata(&path).unwrap();
    for words in [
        &["chmod", "/proc/self/fd/0", "4777"][..],
        &["chmod", "/dev/stdin", "777"],
        &["syscall", "fchmod", "0", "511"],
        &["syscall", "fchown", "0", &uid, &uid],
        &["syscall", "utimensat", "0", "null", "zero:32", "0"],
        &["setxattr", "/proc/self/fd/0", "user.x", "y"],
    ] {
        let command = scene.run(&["-n"]).arg(probe::path()).args(words);
        Record::of(&command.stdin(File::open(&path).unwrap()).output()).assert_denied("EROFS");
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (after.permissions(), after.modified().unwrap()),
            (before.permissions(), before.modified().unwrap())
        );
        let control = scene
            .command(probe::path())
            .args(words)
            .stdin(File::open(&path).unwrap());
        Record::of(&control.output()).assert_ok();
        set_back();
    }
}

/// For a root caller `< /dev/null` is the host's device, and its mode would be the agent's to change.
#[test]
fn changing_the_device_behind_a_standard_stream() {
    let Some(scene) = Scene::new("descriptors_device") else {
        return;
    };
    let before = std::fs::metadata("/dev/null").unwrap();
    for (number, redirection) in [
        ("0", "</dev/null"),
        ("1", ">/dev/null"),
        ("2", "2>>/dev/null"),
    ] {
        // The mode that it has anyway: a hole must not break the machine. What is refused is the call.
        let mode = (before.permissions().mode() & 0o7777).to_string();
        let script = format!(
            "exec 5>&{number}; \"$0\" syscall fchmod 5 {mode} >report; \"$0\" chmod /proc/self/fd/5 666 >>report"
        );
        let inner = format!("exec {redirection}; \"$0\" run -n --ro \"$1\" -- sh -c \"$2\" \"$1\"");
        let output = scene
            .command("bash")
            .args(["-c", &inner, RCC])
            .arg(probe::path())
            .arg(&script)
            .output();
        output.assert_code(0);
        let report = scene.text("home/work/project/report");
        let records: Vec<Record> = report.lines().map(Record::from_text).collect();
        assert_eq!(records.len(), 2);
        for record in &records {
            record.assert_denied("EROFS");
        }
    }
    // The control: on a file of the agent's own the same script works.
    let output = scene.sh(&["-n"], "exec 5<file; \"$0\" syscall fchmod 5 420");
    Record::of(&output).assert_ok();
}

/// A directory as a standard stream is the host's tree by another name: `0/..` leads to its root.
#[test]
fn a_directory_of_the_host_as_a_standard_stream() {
    let Some(scene) = Scene::new("descriptors_stdin_directory") else {
        return;
    };
    let directory = scene.base.join("outside");
    for redirection in ["<", "1<", "2<"] {
        let script = format!("exec \"$@\" {redirection}\"$DIRECTORY\"");
        let command = scene
            .command("bash")
            .env("DIRECTORY", &directory)
            .args(["-c", &script, "bash", RCC, "run", "-n", "--"]);
        command.args(["touch", "started"]).output().assert_code(125);
        assert!(!exists(&scene.project().join("started")), "{redirection}");
    }
    let output = scene
        .run(&["-n"])
        .arg("true")
        .stdin(File::open(&directory).unwrap())
        .output();
    assert!(
        output
            .stderr_text()
            .contains("the standard input to the sandbox: it is a directory"),
        "a clear message\n{output}"
    );
    // The control: outside, such a stream shows and changes what lies beside it.
    let control =
        scene
            .command(probe::path())
            .args(["chmod", "/proc/self/fd/0/../outside/secret", "640"]);
    Record::of(&control.stdin(File::open(&directory).unwrap()).output()).assert_ok();
}

/// Output to a file: the agent writes it, and can neither read what was in it nor open it for reading.
#[test]
fn standard_output_reopened_for_reading() {
    let Some(scene) = Scene::new("descriptors_stdout") else {
        return;
    };
    let path = scene.base.join("outside/secret");
    let append = || File::options().append(true).open(&path).unwrap();
    let script =
        "cat /proc/$$/fd/1 >&2; cat <&1 >&2; exec 9<>/proc/$$/fd/1 && echo opened >&2; true";
    let output = scene
        .run(&["-n"])
        .args(["bash", "-c", script])
        .stdout(append())
        .output();
    assert!(
        !output.stderr_text().contains(SECRET) && !output.stderr_text().contains("opened"),
        "{output}"
    );
    let control = scene
        .command("bash")
        .args(["-c", script])
        .stdout(append())
        .output();
    assert!(
        control.stderr_text().contains(SECRET) && control.stderr_text().contains("opened"),
        "{control}"
    );
}

/// The control of the above: as far as they were opened, the streams work, by name too.
#[test]
fn standard_streams_by_their_names() {
    let Some(scene) = Scene::new("descriptors_by_name") else {
        return;
    };
    let input = scene.file("outside/input", "first\nsecond\n");
    let output = scene.base.join("outside/output");
    let append = || {
        File::options()
            .append(true)
            .create(true)
            .open(&output)
            .unwrap()
    };
    let script = "read line; echo \"read $line\"; cat /dev/stdin; echo out >> /dev/stdout; echo error >> /dev/stderr";
    let command = scene
        .run(&["-n"])
        .args(["sh", "-c", script])
        .stdin(File::open(&input).unwrap());
    command
        .stdout(append())
        .stderr(append())
        .output()
        .assert_success();
    let text = scene.text("outside/output");
    for expected in ["read first", "second\n", "out\n", "error\n"] {
        assert!(text.contains(expected), "{text}");
    }
    scene
        .run(&["-n"])
        .args(["sh", "-c", "cat /dev/stdin; echo x > /dev/stderr"])
        .output()
        .assert_success();
}

/// Closed streams must not be filled with something of rcc's own.
#[test]
fn closed_standard_streams() {
    let Some(scene) = Scene::new("descriptors_closed") else {
        return;
    };
    for script in [
        "exec \"$@\" 0<&-",
        "exec \"$@\" 2>&-",
        "exec \"$@\" 0<&- 2>&-",
    ] {
        let command = scene
            .command("bash")
            .args(["-c", script, "bash", RCC, "run", "-n", "--ro"])
            .arg(probe::path());
        let record = Record::of(&command.arg("--").arg(probe::path()).arg("posture").output());
        for entry in record.detail["descriptors"].as_array().unwrap() {
            // `/` is the root of the mount that a device or file is opened anew through.
            let target = entry["target"].as_str().unwrap();
            assert!(["/", "pipe"].contains(&target), "{script}: {entry}");
        }
    }
}

/// A file that the caller names for the output can be made a program for everyone by who has its descriptor.
#[test]
fn changing_the_mode_of_the_file_behind_standard_output() {
    let Some(scene) = Scene::new("descriptors_stdout_mode") else {
        return;
    };
    let path = scene.file("home/work/output", "");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let change = "chmod 4777 /proc/self/fd/1 2>/dev/null || chmod 0777 /dev/stdout; true";
    let control = scene.command("sh").args(["-c", change]);
    let _ = control
        .stdout(File::options().write(true).open(&path).unwrap())
        .output();
    assert_ne!(mode(), 0o640, "the control changes it");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let command = scene.run(&["-n"]).args(["sh", "-c", change]);
    let output = command
        .stdout(File::options().write(true).open(&path).unwrap())
        .output();
    assert_eq!(mode(), 0o640, "{output}");
    let told = "changed the mode of the file that is its standard output";
    assert!(output.stderr_text().contains(told), "{output}");
}
