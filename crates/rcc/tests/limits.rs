//! Limits, each broken by a program that wants more: memory, processes, processor, disk, `/tmp`. What cannot be enforced is refused.
//!
//! The tests run on the machine itself, in no world: control groups belong to it. Whether limits can be enforced is asked of
//! `rcc plan`; where they can, the same tests hold for every way (systemd's scope, version 2, version 1 as root). The word for
//! `RCC_TEST_REQUIRE` is `limits`, and `limits-io` for the disk.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcc_testkit::{is_second_run, require, require_that, run_again_as_ordinary_user};

/// A project and a home of their own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rcc-limits-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        for below in ["home", "project"] {
            std::fs::create_dir_all(path.join(below)).unwrap();
        }
        Self(path)
    }

    fn rcc(&self, arguments: &[&str]) -> Command {
        let copy = std::env::var_os("RCC_TESTKIT_BIN_DIR").map(|all| Path::new(&all).join("rcc"));
        let program = copy.filter(|copy| copy.exists());
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_rcc").into()));
        command
            .args(arguments)
            .current_dir(self.0.join("project"))
            .env("HOME", self.0.join("home"))
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null());
        command
    }

    /// Runs a Python program without a network, with these flags.
    fn python(&self, flags: &[&str], program: &str) -> Output {
        let all = [&["run", "-n"], flags, &["--", "python3", "-c", program]].concat();
        self.rcc(&all).output().unwrap()
    }

    /// Whether a test of this limit can be made here. As root's second self it is left out: the first one made it, or said so.
    fn groups(&self, flags: &[&str]) -> bool {
        let can = self.can(flags);
        // The disk is what a user's systemd may not hand out as Debian sets it up.
        let is_disk = flags.iter().any(|flag| flag.starts_with("--io"));
        let word = if is_disk { "limits-io" } else { "limits" };
        can || !is_second_run() && require_that(word, can)
    }

    /// Whether a limit can be enforced here.
    fn can(&self, flags: &[&str]) -> bool {
        let all = [&["plan", "-n"], flags, &["--", "true"]].concat();
        self.rcc(&all).output().unwrap().status.success()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_success(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{:?}\n{}\n{}",
        output.status,
        stdout(output),
        stderr(output)
    );
    stdout(output)
}

/// Groups of runs below the own groups.
fn groups_left() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = look.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("rcc-run-") {
                found.push(entry.path());
            }
            look.push(entry.path());
        }
    }
    found
}

#[test]
fn the_child_that_takes_too_much_memory_dies_and_its_parent_goes_on() {
    let place = Place::new("memory");
    if !require("python3") || !place.groups(&["--memory", "64MiB"]) {
        return;
    }
    let hog = "import subprocess, sys
code = subprocess.run([sys.executable, '-c', 'x = bytearray(300 << 20); print(len(x))']).returncode
print('child', code)";
    let held = assert_success(&place.python(&["--memory", "64MiB"], hog));
    assert_eq!(held, "child -9\n");
    // The user reads what died, of what, and how much it was.
    let output = place.python(&["--memory", "64MiB"], hog);
    let said = stderr(&output);
    assert!(
        said.contains("rcc: the run reached its memory limit of 64MiB: "),
        "{said}"
    );
    assert!(
        said.contains("rcc: killed at the memory limit of 64MiB: 1 process")
            && said.contains("the most memory used was 6"),
        "{said}"
    );
    let free = assert_success(&place.python(&["--memory", "2GiB"], hog));
    assert_eq!(free, format!("{}\nchild 0\n", 300 << 20));
}

#[test]
fn the_sum_is_told_when_the_agent_itself_was_killed_and_its_group_ends_with_it() {
    let place = Place::new("sum");
    if !require("python3") || !place.groups(&["--memory", "64MiB"]) {
        return;
    }
    let hog = "x = bytearray(300 << 20)";
    let output = place.python(&["--memory", "64MiB", "--stats"], hog);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(137), "{said}");
    for line in [
        "rcc: the run reached its memory limit of 64MiB: ",
        "rcc: killed at the memory limit of 64MiB: 1 process",
        "; the most memory used was 6",
        "rcc: the run used: ",
        "memory at most 6",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // Memory that is used up a moment before the end counts as any other.
    let late = "x = bytearray(100 << 20)";
    let output = place.python(&["--memory", "256MiB", "--stats"], late);
    assert_success(&output);
    let said = stderr(&output);
    assert!(said.contains("memory at most 1"), "{said}");
    assert!(!said.contains("killed"), "{said}");
}

#[test]
fn a_fork_bomb_ends_at_the_limit_of_processes() {
    let place = Place::new("pids");
    if !require("python3") {
        return;
    }
    let bomb = "import os, time
started = 0
try:
    for _ in range(150):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        started += 1
except OSError as error:
    print(error.errno)
print(started)";
    let output = place.python(&["--pids", "40"], bomb);
    let held = assert_success(&output);
    // Only a group counts what was refused.
    let plan = place
        .rcc(&["plan", "-n", "--pids", "40", "--", "true"])
        .output();
    if !assert_success(&plan.unwrap()).contains("RLIMIT_NPROC") {
        let told = "rcc: the limit of 40 processes was reached 1 time; --pids sets another\n";
        assert_eq!(stderr(&output), told);
    }
    let words: Vec<u32> = held
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    // EAGAIN(3); process 1, the guard and the program itself count, too.
    assert!(
        words.len() == 2 && words[0] == 11 && (30..40).contains(&words[1]),
        "{held}"
    );
    assert_eq!(
        assert_success(&place.python(&["--pids", "400"], bomb)),
        "150\n"
    );
}

#[test]
fn the_default_number_of_processes_is_limited_for_everybody() {
    let place = Place::new("default");
    if !require("python3") {
        return;
    }
    let ask = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[1])";
    let output = place.python(&[], ask);
    let limit = assert_success(&output);
    if rustix::process::geteuid().is_root() {
        // In a group, or a warning says that there is none.
        assert!(
            place.can(&["--memory", "64MiB"])
                || stderr(&output).contains("the number of processes is not limited"),
            "{}",
            stderr(&output)
        );
    } else {
        assert_eq!(limit, "4096\n");
        assert_eq!(stderr(&output), "");
        let raise = "import resource
try:
    resource.setrlimit(resource.RLIMIT_NPROC, (8192, 8192))
except (ValueError, PermissionError) as error:
    print(type(error).__name__)";
        assert_eq!(assert_success(&place.python(&[], raise)), "ValueError\n");
    }
}

#[test]
fn a_processor_burner_gets_its_share_and_no_more() {
    let place = Place::new("cpu");
    if !require("python3") || !place.groups(&["--cpus", "0.1"]) {
        return;
    }
    let burn = "import time
start, used = time.monotonic(), time.process_time()
while time.monotonic() < start + 1.5: pass
print((time.process_time() - used) / (time.monotonic() - start))";
    let held: f64 = assert_success(&place.python(&["--cpus", "0.1"], burn))
        .trim()
        .parse()
        .unwrap();
    assert!(held < 0.16, "{held}");
    let free: f64 = assert_success(&place.python(&["--cpus", "4"], burn))
        .trim()
        .parse()
        .unwrap();
    assert!(free > held, "{free} is no more than {held}");
}

#[test]
fn a_disk_hog_is_slowed_down_to_its_rate() {
    let place = Place::new("io");
    if !require("python3") || !place.groups(&["--io-write", "1MiB"]) {
        return;
    }
    // Past the caches: what is written through them is only limited where the file system says who it was.
    let write = "import mmap, os, time
buffer = mmap.mmap(-1, 1 << 20)
file = os.open('data', os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
start = time.monotonic()
for _ in range(3): os.write(file, buffer)
print(time.monotonic() - start)";
    let held: f64 = assert_success(&place.python(&["--io-write", "1MiB"], write))
        .trim()
        .parse()
        .unwrap();
    assert!(held > 1.5, "{held}");
    let free: f64 = assert_success(&place.python(&["--io-write", "4GiB"], write))
        .trim()
        .parse()
        .unwrap();
    assert!(free < held, "{free} is no less than {held}");
}

#[test]
fn a_filler_of_tmp_gets_enospc() {
    let place = Place::new("tmp");
    if !require("python3") {
        return;
    }
    let fill = "import os
try:
    with open('/tmp/data', 'wb') as file:
        file.write(bytes(20 << 20))
    print('whole')
except OSError as error:
    print(error.errno)";
    assert_eq!(
        assert_success(&place.python(&["--tmp-size", "8MiB"], fill)),
        "28\n"
    );
    assert_eq!(
        assert_success(&place.python(&["--tmp-size", "64MiB"], fill)),
        "whole\n"
    );
}

#[test]
fn a_filler_of_memory_files_leaves_the_run_alive() {
    let place = Place::new("tmpfs");
    if !require("python3") || !place.groups(&["--memory", "64MiB"]) {
        return;
    }
    let fill = "for place in '/tmp', '/dev/shm':
    try:
        with open(place + '/data', 'wb', 0) as file:
            for _ in range(100): file.write(bytes(1 << 20))
        print('whole')
    except OSError as error:
        print(error.errno)
    import os; os.unlink(place + '/data')";
    let held = place.python(&["--memory", "64MiB"], fill);
    assert_eq!(assert_success(&held), "28\n28\n");
    assert!(!stderr(&held).contains("killed"), "{}", stderr(&held));
    let free = place.python(&["--memory", "512MiB"], fill);
    assert_eq!(assert_success(&free), "whole\nwhole\n");
}

#[test]
fn the_agent_is_killed_before_the_pid_1_above_it() {
    let place = Place::new("victim");
    if !require("python3") {
        return;
    }
    let before: i32 = std::fs::read_to_string("/proc/self/oom_score_adj")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let scores = "import sys
for who in '1', 'self':
    print(open(f'/proc/{who}/oom_score_adj').read().strip())
print('here', flush=True)
sys.stdin.readline()";
    let mut run = place
        .rcc(&["run", "-n", "--", "python3", "-c", scores])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(run.stdout.take().unwrap()));
    let lines: Vec<String> = lines.take(3).map(Result::unwrap).collect();
    let expected = [before.to_string(), before.max(400).to_string()];
    assert_eq!(lines[..2], expected);
    // What joins later is no better off.
    let id = stats(&place)["id"].as_str().unwrap().to_owned();
    let exec = ["exec", &id, "--", "cat", "/proc/self/oom_score_adj"];
    let joined = place.rcc(&exec).output().unwrap();
    assert_eq!(assert_success(&joined).trim(), expected[1]);
    drop(run.stdin.take());
    assert!(run.wait().unwrap().success());
}

#[test]
fn the_limits_of_the_group_that_rcc_was_started_in_hold_the_agent() {
    let place = Place::new("own-group");
    let plan = |flags: &[&str]| {
        let all = [&["plan", "-n"], flags, &["--", "true"]].concat();
        stdout(&place.rcc(&all).output().unwrap())
    };
    let by_scope = plan(&["--cpus", "1"]).contains("scope of systemd");
    if !require("python3") || !require_that("systemd-scope", by_scope) {
        return;
    }
    // Starts rcc in a scope with 128 MiB; the run gets another one beside it.
    let bounded = |arguments: &[&str]| {
        let rcc = place.rcc(arguments);
        let mut command = Command::new("systemd-run");
        if !rustix::process::geteuid().is_root() {
            command.arg("--user");
        }
        command
            .args([
                "--scope",
                "--quiet",
                "-p",
                "MemoryMax=128M",
                "-p",
                "CPUWeight=50",
            ])
            .arg(rcc.get_program())
            .args(rcc.get_args())
            .current_dir(rcc.get_current_dir().unwrap())
            .env("HOME", place.0.join("home"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let hog = "import subprocess, sys
code = subprocess.run([sys.executable, '-c', 'x = bytearray(300 << 20)']).returncode
print('child', code)";
    let command = ["--cpus", "1", "--", "python3", "-c", hog];
    let held = bounded(&[&["run", "-n"][..], &command].concat());
    assert_eq!(assert_success(&held), "child -9\n");
    assert!(
        stderr(&held).contains("rcc: the run reached its memory limit of 128MiB: "),
        "{}",
        stderr(&held)
    );
    // A larger one that is named does not count, and rcc says so.
    let named = bounded(&[&["run", "-n", "--memory", "1GiB"][..], &command].concat());
    assert_eq!(assert_success(&named), "child -9\n");
    assert!(
        stderr(&named).contains("memory = 1GiB (flag --memory) is more than the control group has"),
        "{}",
        stderr(&named)
    );
    let told = stdout(&bounded(&["plan", "-n", "--cpus", "1", "--", "true"]));
    for line in [
        "memory       128MiB by scope of systemd (the control group that rcc was started in)",
        "cpu_weight   50 by scope of systemd (the control group that rcc was started in)",
        "cpus         1 by scope of systemd (flag --cpus)",
    ] {
        assert!(told.contains(line), "{told}");
    }
    // The control: outside of it there is no such limit.
    let free = place.python(&["--cpus", "1"], hog);
    assert_eq!(assert_success(&free), "child 0\n");
}

#[test]
fn a_named_limit_that_cannot_be_enforced_is_refused_with_the_fix() {
    let place = Place::new("refusal");
    // What no kernel has.
    let refused = place
        .rcc(&["run", "-n", "--memory", "1KiB", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    // What this machine does not hand out: all of it, or the disk, as systemd sets it up.
    for flags in [
        ["--memory", "64MiB"],
        ["--memory-high", "64MiB"],
        ["--swap", "64MiB"],
        ["--cpus", "1"],
        ["--cpu-weight", "50"],
        ["--io-read", "1MiB"],
        ["--io-weight", "50"],
    ] {
        if place.can(&flags) {
            continue;
        }
        let all = [&["run", "-n"][..], &flags, &["--", "touch", "ran"]].concat();
        let refused = place.rcc(&all).output().unwrap();
        assert_eq!(refused.status.code(), Some(125), "{flags:?}");
        let said = stderr(&refused);
        assert!(
            said.contains("cannot be enforced") && said.contains("hint: "),
            "{said}"
        );
        assert!(!place.0.join("project/ran").exists());
    }
    // The control: without it the same command runs, and says nothing.
    let free = place
        .rcc(&["run", "-n", "--", "touch", "ran"])
        .output()
        .unwrap();
    assert_success(&free);
    assert!(place.0.join("project/ran").exists());
}

/// Why the last run ended, as its record has it.
fn end_reason(place: &Place) -> String {
    let listed = assert_success(&place.rcc(&["ps", "--all", "--json"]).output().unwrap());
    let last: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    last["end_reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let place = Place::new("time");
    // That it ends at all is the limit.
    let all = ["run", "-n", "--timeout", "1s", "--", "sleep", "100000"];
    let ended = place.rcc(&all).output().unwrap();
    assert_eq!(ended.status.code(), Some(124), "{}", stderr(&ended));
    assert_eq!(
        stderr(&ended),
        "rcc: the run's time of 1s is over; it is ended\n"
    );
    assert_eq!(end_reason(&place), "timeout");
    // One that asks for its own end keeps its own code, and one that would not end is killed.
    let all = ["run", "-n", "--timeout", "1h", "--", "sh", "-c", "exit 7"];
    assert_eq!(place.rcc(&all).status().unwrap().code(), Some(7));
    let deaf = "trap '' TERM; echo deaf; sleep 100000";
    let mut seconds = 1_u64;
    loop {
        let (started, limit) = (Instant::now(), format!("{seconds}s"));
        let all = ["run", "-n", "--timeout", &limit, "--", "sh", "-c", deaf];
        let ended = place.rcc(&all).output().unwrap();
        assert_eq!(ended.status.code(), Some(124), "{}", stderr(&ended));
        // A machine that is slow to start the shell needs more time until it is deaf.
        if stdout(&ended) == "deaf\n" {
            assert!(started.elapsed() > Duration::from_secs(seconds + 10));
            return;
        }
        seconds *= 2;
        assert!(seconds < 2000, "{ended:?}");
    }
}

#[test]
fn a_run_ends_when_nothing_happens_in_it() {
    let place = Place::new("idle");
    if !require("python3") {
        return;
    }
    let all = ["run", "-n", "--idle-timeout", "1s", "--", "sleep", "60"];
    let ended = place.rcc(&all).output().unwrap();
    assert_eq!(ended.status.code(), Some(124), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("nothing happened in the run for 1s"));
    assert_eq!(end_reason(&place), "idle");
    // Work is activity, whoever does it and however long it takes.
    let work = "import os, time
if os.fork() == 0:
    os.setsid()
    end = time.monotonic() + 4
    while time.monotonic() < end: pass
    os._exit(0)
time.sleep(4)
print('whole')";
    let whole = place.python(&["--idle-timeout", "2s"], work);
    assert_eq!(assert_success(&whole), "whole\n");
}

#[test]
fn the_agent_does_not_see_its_group() {
    let place = Place::new("hidden");
    let flags: &[&str] = if place.can(&["--memory", "64MiB"]) {
        &["--memory", "64MiB"]
    } else {
        &[]
    };
    let look = "import os
print([line for line in open('/proc/self/cgroup') if line.rstrip().split(':', 2)[2] != '/'])
print([line for line in open('/proc/self/mountinfo') if ' cgroup' in line.split(' - ')[1]])
print(os.path.exists('/sys/fs/cgroup'))";
    if !require("python3") {
        return;
    }
    assert_eq!(
        assert_success(&place.python(flags, look)),
        "[]\n[]\nFalse\n"
    );
    // Outside the same look finds groups.
    let outside = Command::new("python3").args(["-c", look]).output().unwrap();
    assert_ne!(assert_success(&outside), "[]\n[]\nFalse\n");
}

#[test]
fn a_group_holds_the_agent_and_nothing_of_rcc_and_is_removed_at_the_end() {
    let place = Place::new("members");
    if !require("python3") || !place.groups(&["--memory", "64MiB"]) {
        return;
    }
    let state = place.0.join("home/.local/state/rcc/runs");
    let wait = "import sys; print('here', flush=True); sys.stdin.readline()";
    let all = [
        "run", "-n", "--memory", "64MiB", "--", "python3", "-c", wait,
    ];
    let mut running = place
        .rcc(&all)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(running.stdout.as_mut().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line, "here\n");
    let run = std::fs::read_dir(state)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name();
    let run = run.to_string_lossy().into_owned();
    let ours = |all: Vec<PathBuf>| -> Vec<PathBuf> {
        let named = all.into_iter();
        named
            .filter(|path| path.to_string_lossy().contains(&run))
            .collect()
    };
    let groups = ours(groups_left());
    assert!(!groups.is_empty());
    for group in &groups {
        let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        let members: Vec<u32> = members.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(members.len(), 2, "{members:?} in {}", group.display());
        assert!(!members.contains(&running.id()));
    }
    drop(running.stdin.take());
    assert!(running.wait().unwrap().success());
    // systemd removes a scope a moment later.
    let end = Instant::now() + Duration::from_secs(20);
    while !ours(groups_left()).is_empty() {
        assert!(Instant::now() < end, "{:?}", ours(groups_left()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run that has 100 MiB and has used the processor, waiting for a line.
fn waiting(place: &Place, flags: &[&str]) -> std::process::Child {
    let program = "import sys, time
x = bytearray(100 << 20)
while time.process_time() < 0.5: pass
print('here', flush=True)
sys.stdin.readline()";
    let all = [&["run", "-n"], flags, &["--", "python3", "-c", program]].concat();
    let mut command = place.rcc(&all);
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(running.stdout.as_mut().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "here\n");
    running
}

fn stats(place: &Place) -> serde_json::Value {
    let text = assert_success(&place.rcc(&["stats", "--json"]).output().unwrap());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Within two per cent.
#[track_caller]
fn assert_near(told: &serde_json::Value, key: &str, expected: u64) {
    let value = told[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {told}"));
    assert!(
        value.abs_diff(expected) * 50 <= expected,
        "{key}: {value}, the kernel says {expected}"
    );
}

#[test]
fn what_is_executed_in_a_run_is_held_by_its_limit() {
    let place = Place::new("exec");
    if !require("python3") || !place.groups(&["--memory", "256MiB"]) {
        return;
    }
    let mut run = waiting(&place, &["--memory", "256MiB"]);
    let id = stats(&place)["id"].as_str().unwrap().to_owned();
    let take = |mebibytes: u32| {
        let program = format!("x = bytearray({mebibytes} << 20); print(len(x))");
        let exec = ["exec", &id, "--", "python3", "-c", &program];
        place.rcc(&exec).output().unwrap()
    };
    // Beside the 100 MiB of the agent.
    assert_eq!(assert_success(&take(50)), format!("{}\n", 50 << 20));
    let killed = take(300);
    assert_eq!(killed.status.code(), Some(137), "{}", stderr(&killed));
    assert!(stats(&place)["memory_kills"].as_u64() >= Some(1));
    // The agent does not pay for it.
    drop(run.stdin.take());
    let ended = run.wait_with_output().unwrap();
    let said = stderr(&ended);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(
        said.contains("rcc: killed at the memory limit of 256MiB: 1 process (python3)"),
        "{said}"
    );
}

#[test]
fn stats_agree_with_the_files_of_the_group() {
    let place = Place::new("stats-group");
    if !require("python3") || !place.groups(&["--memory", "256MiB"]) {
        return;
    }
    let mut running = waiting(&place, &["--memory", "256MiB", "--stats"]);
    let told = stats(&place);
    let id = told["id"].as_str().unwrap();
    let named = |path: &PathBuf| path.to_string_lossy().contains(id);
    let groups: Vec<PathBuf> = groups_left().into_iter().filter(named).collect();
    let number = |files: [(&str, &str); 2]| -> u64 {
        let texts = groups.iter().flat_map(|group| {
            files.map(|(file, key)| Some((std::fs::read_to_string(group.join(file)).ok()?, key)))
        });
        let (text, key) = texts.flatten().next().unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        line.trim().parse().unwrap()
    };
    assert_eq!(told["memory_source"], "cgroup");
    assert_near(
        &told,
        "memory_bytes",
        number([("memory.current", ""), ("memory.usage_in_bytes", "")]),
    );
    assert_near(&told, "memory_limit_bytes", 256 << 20);
    let cpu = match groups
        .iter()
        .any(|group| group.join("cpuacct.usage").exists())
    {
        true => number([("cpuacct.usage", ""), ("cpuacct.usage", "")]) / 1000,
        false => number([("cpu.stat", "usage_usec"), ("cpu.stat", "usage_usec")]),
    };
    assert_near(&told, "cpu_us", cpu);
    assert_eq!(told["pids"], 2);
    assert!(cpu > 400_000, "{cpu}");
    let table = assert_success(&place.rcc(&["stats", id]).output().unwrap());
    assert!(
        table.starts_with("ID") && table.contains("256MiB"),
        "{table}"
    );
    drop(running.stdin.take());
    let output = running.wait_with_output().unwrap();
    assert!(
        stderr(&output).contains("rcc: the run used: ")
            && stderr(&output).contains("memory at most 1"),
        "{}",
        stderr(&output)
    );
    // Nothing runs any more.
    assert_eq!(
        assert_success(&place.rcc(&["stats", "--json"]).output().unwrap()),
        ""
    );
}

#[test]
fn memory_is_taken_on_demand_and_given_back() {
    let place = Place::new("demand");
    if !require("python3") || !place.groups(&["--memory", "1GiB"]) {
        return;
    }
    let program = "import mmap, sys
for size in (0, 300, 0):
    if size:
        block = mmap.mmap(-1, size << 20)
        block.write(bytes(size << 20))
    elif 'block' in globals():
        block.close()
    print(size, flush=True)
    sys.stdin.readline()";
    let all = [
        "run", "-n", "--memory", "1GiB", "--", "python3", "-c", program,
    ];
    let mut command = place.rcc(&all);
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(running.stdout.take().unwrap());
    let mut used = Vec::new();
    for _ in 0..3 {
        std::io::BufRead::read_line(&mut stdout, &mut String::new()).unwrap();
        used.push(stats(&place)["memory_bytes"].as_u64().unwrap() >> 20);
        std::io::Write::write_all(running.stdin.as_mut().unwrap(), b"\n").unwrap();
    }
    assert!(running.wait().unwrap().success());
    let [before, most, after] = used[..] else {
        panic!("{used:?}")
    };
    // Caches of files count, too, so that a little may stay.
    assert!(
        before < 100 && (300..500).contains(&most) && after < 150,
        "{used:?}"
    );
}

#[test]
fn a_group_that_a_killed_supervisor_left_is_removed_by_the_next_run() {
    let place = Place::new("stale");
    // Only where groups are made directly: systemd removes its own.
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.split_once(":memory:"));
    let is_root = rustix::process::geteuid().is_root();
    let parent = own
        .filter(|_| is_root && place.can(&["--memory", "64MiB"]))
        .map(|(_, path)| format!("/sys/fs/cgroup/memory{path}"));
    if is_second_run() || !require_that("limits-v1", parent.is_some()) {
        return;
    }
    let parent = parent.unwrap_or_default();
    let made = |name: &str, minutes: u64| {
        let path = Path::new(&parent).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(60 * minutes);
        let directory = std::fs::File::open(&path).unwrap();
        directory.set_modified(then).unwrap();
        path
    };
    let stale = made("rcc-run-stale", 5);
    let young = made("rcc-run-young", 0);
    let foreign = made("other", 5);
    let ran = place
        .rcc(&["run", "-n", "--memory", "64MiB", "--", "true"])
        .output()
        .unwrap();
    let left = [&stale, &young, &foreign].map(|path| path.exists());
    for path in [&young, &foreign, &stale] {
        let _ = std::fs::remove_dir(path);
    }
    assert_success(&ran);
    assert_eq!(left, [false, true, true]);
}

#[test]
fn stats_agree_with_proc_where_no_group_tells() {
    let place = Place::new("stats-proc");
    if !require("python3") {
        return;
    }
    let mut running = waiting(&place, &[]);
    let told = stats(&place);
    assert_eq!(told["memory_source"], "proc");
    // The agent is the child of the sandbox's first process, the only child of the supervisor in another pid namespace.
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let all: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    let of_supervisor = |pid: &u32| parent(*pid) == Some(running.id());
    let with_children = |pid: &u32| all.iter().any(|child| parent(*child) == Some(*pid));
    let init = *all
        .iter()
        .find(|pid| of_supervisor(pid) && with_children(pid))
        .unwrap();
    let agent = *all.iter().find(|pid| parent(**pid) == Some(init)).unwrap();
    let (mut memory, mut ticks) = (0, 0);
    for pid in [init, agent] {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .unwrap();
        memory += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        ticks += (11..15)
            .map(|field| fields[field].parse::<u64>().unwrap())
            .sum::<u64>();
    }
    assert!(memory > 100 << 20 && ticks >= 40, "{memory} {ticks}");
    assert_near(&told, "memory_bytes", memory);
    assert_near(&told, "cpu_us", ticks * 10_000);
    assert_eq!(told["pids"], 2);
    drop(running.stdin.take());
    assert!(running.wait_with_output().unwrap().status.success());
}

#[test]
fn what_a_run_used_is_not_what_the_shell_before_it_used() {
    let place = Place::new("stats-end");
    if !require("python3") || !require("bash") {
        return;
    }
    let rcc = place.rcc(&[]);
    // The shell's own child takes 300 MiB; then the shell becomes rcc.
    let script = "python3 -c 'import time
x = bytearray(300 << 20)'; exec \"$0\" run -n --stats -- true";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(rcc.get_program());
    command
        .current_dir(place.0.join("project"))
        .env("HOME", place.0.join("home"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = stderr(&output);
    assert_success(&output);
    assert!(said.contains("rcc: the run used: "), "{said}");
    assert!(!said.contains("largest process"), "{said}");
}

#[test]
fn an_ordinary_user_has_the_same_limits_or_is_refused() {
    if is_second_run() {
        return;
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_rcc"));
    run_again_as_ordinary_user(&[&program]);
}
