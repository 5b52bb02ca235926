//! `kill -9` of supervisor, helper, pid 1 and agent at system calls all over a run: the network was never open, nothing is left but
//! what the next run takes away, and that run works. Both are looked at after every single moment.
//!
//! What may be left, and only when the supervisor itself was killed, since it is what tidies up: the run's record, which says that
//! the run is lost (one killed before its description was written says nothing, and is no run); its control group, empty; its
//! socket's directory. A minute later the next run removes the last two, and `rcc prune` the record.
//!
//! The points are not listed here: a whole run is traced first, and every call in it is a point, so what the plan adds tomorrow
//! is among them. A point is a call's name and a number; whichever process makes that call for the so-manieth time dies when it
//! enters it (strace's fault injection: no timing), and so do others that come to theirs later: a call that two processes make
//! equally often is one point. Some points for each process are tried; `RCC_KILL_POINTS=all` tries all of them.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test program")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rcc_testkit::require;
use rcc_testkit::world::{Ending, HostCommand, Output, World};
use serde_json::Value;

/// The program under test: the copy beside those of the test kit, when there is one.
fn program() -> PathBuf {
    let copy = std::env::var_os("RCC_TESTKIT_BIN_DIR").map(|all| Path::new(&all).join("rcc"));
    let copy = copy.filter(|copy| copy.exists());
    copy.unwrap_or_else(|| env!("CARGO_BIN_EXE_rcc").into())
}

/// A listener that no rule allows.
const FORBIDDEN: &str = "203.0.113.10:80";
/// Makes the test try every point.
const ALL_VARIABLE: &str = "RCC_KILL_POINTS";
/// Written by the agent when it starts.
const STARTED: &str = "started";
/// How many points of each process are tried, and how many must have come: a process may make fewer calls in another run.
const WANTED: [(Role, usize, usize); 4] = [
    (Role::Supervisor, 18, 9),
    (Role::Helper, 22, 8),
    (Role::Init, 32, 16),
    (Role::Agent, 10, 5),
];
/// Of all together.
const LEAST: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Supervisor,
    Helper,
    Init,
    Agent,
    /// The guard, children of the agent.
    Other,
}

/// A call's name and for which time it is made.
type Point = (String, u32);

/// Who made which call when, of a trace of all processes.
struct Trace {
    calls: Vec<(u32, String)>,
    roles: BTreeMap<u32, Role>,
}

impl Trace {
    fn read(file: &Path) -> Self {
        let text = std::fs::read(file).expect("strace wrote its trace");
        let text = String::from_utf8_lossy(&text);
        let mut calls = Vec::new();
        let mut roles = first_processes(&text);
        for line in text.lines() {
            let Some((pid, rest)) = line.split_once(char::is_whitespace) else {
                continue;
            };
            let Some((name, arguments)) = rest.trim_start().split_once('(') else {
                continue;
            };
            let is_name = |name: &str| {
                let mut bytes = name.bytes();
                bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            };
            let (Ok(pid), true) = (pid.parse::<u32>(), is_name(name)) else {
                continue;
            };
            let role = roles.entry(pid).or_insert(Role::Other);
            // The agent says who it is when it executes its program.
            if *role == Role::Other && name == "execve" && arguments.contains("[\"bash\"") {
                *role = Role::Agent;
            }
            calls.push((pid, name.to_owned()));
        }
        Self { calls, roles }
    }

    fn role(&self, pid: u32) -> Role {
        self.roles.get(&pid).copied().unwrap_or(Role::Other)
    }

    /// Every point in order, with the process that came to it first.
    fn points(&self) -> Vec<(Role, Point)> {
        let mut seen = BTreeSet::new();
        let mut counts: BTreeMap<(u32, &str), u32> = BTreeMap::new();
        let mut points = Vec::new();
        for (pid, name) in &self.calls {
            let count = counts.entry((*pid, name)).or_default();
            *count += 1;
            // What ends the process anyway cannot be killed, and the first `execve` is strace's own.
            let is_end = name == "exit" || name == "exit_group" || name == "execve";
            if !is_end && seen.insert((name.clone(), *count)) {
                points.push((self.role(*pid), (name.clone(), *count)));
            }
        }
        points
    }

    /// Whom a point hit, in order; nobody when it did not come.
    fn victims(&self, (name, number): &Point) -> Vec<Role> {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        let mut victims = Vec::new();
        for (pid, _) in self.calls.iter().filter(|(_, call)| call == name) {
            let count = counts.entry(*pid).or_default();
            *count += 1;
            if *count == *number {
                victims.push(self.role(*pid));
            }
        }
        victims
    }
}

/// The supervisor, whose calls come first, with its threads; its first child, the helper; and pid 1, which the helper makes as the
/// supervisor's child.
fn first_processes(text: &str) -> BTreeMap<u32, Role> {
    let mut roles = BTreeMap::new();
    // What a call that is not through yet was asked for.
    let mut asked: BTreeMap<u32, &str> = BTreeMap::new();
    for line in text.lines() {
        let Some((maker, rest)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let Ok(maker) = maker.parse::<u32>() else {
            continue;
        };
        if roles.is_empty() {
            roles.insert(maker, Role::Supervisor);
        }
        if !rest.contains("clone3") {
            continue;
        }
        if rest.contains("flags=") {
            asked.insert(maker, rest);
        }
        let made = rest
            .rsplit_once(" = ")
            .and_then(|(_, pid)| pid.parse().ok());
        let (Some(made), Some(flags)) = (made, asked.get(&maker)) else {
            continue;
        };
        let role = match roles.get(&maker) {
            Some(Role::Supervisor) if flags.contains("CLONE_THREAD") => Role::Supervisor,
            Some(Role::Supervisor) if flags.contains("CLONE_NEWUSER") => Role::Helper,
            Some(Role::Helper) if flags.contains("CLONE_PARENT") => Role::Init,
            _ => continue,
        };
        roles.insert(made, role);
    }
    roles
}

/// Some of the points of each process, evenly spread over its life, or all.
fn choose(points: Vec<(Role, Point)>) -> Vec<Point> {
    if std::env::var(ALL_VARIABLE).is_ok_and(|value| value == "all") {
        return points.into_iter().map(|(_, point)| point).collect();
    }
    let mut chosen = Vec::new();
    for (role, wanted, _) in WANTED {
        let of_role: Vec<&Point> = points
            .iter()
            .filter(|(of, _)| *of == role)
            .map(|(_, point)| point)
            .collect();
        let count = wanted.min(of_role.len());
        chosen.extend((0..count).map(|number| of_role[number * of_role.len() / count].clone()));
    }
    chosen
}

/// A world with a project in which the agent tries to reach a forbidden listener.
struct Scene {
    world: World,
    project: PathBuf,
    trace: PathBuf,
    /// For programs that make temporary files: the machine's own directory is everybody's.
    temporary: PathBuf,
}

/// Tells what there is, then makes what the next run may remove as old as it has to be, tries that run, and tells again.
/// The arguments are the project, the temporary directory and rcc.
const LOOK: &str = r#"
look() {
    sed 's/^/same mount /' /proc/self/mounts
    ip -o link | sed 's/ mtu.*//; s/^/same link /'
    ls -A "$1" "$2" | sed 's/^/same file /'
    find "$HOME" -path '*/.local/state/rcc/runs/*' -prune -o -printf 'same %p\n'
    find "$HOME/.local/state/rcc/runs" -mindepth 1 -printf 'record %P\n'
    find "$XDG_RUNTIME_DIR" -mindepth 2 -printf 'runtime %P\n'
    for group in $(groups "$1"); do echo "group $group with $(wc -l < $group/cgroup.procs)"; done
    "$3" ps --all --json | sed 's/^/run /'
}
# Groups of others come and go meanwhile.
groups() { find /sys/fs/cgroup -type d -name "rcc-run-${1##*/}-*" 2>/dev/null; }
set -e
look "$@"
[ "$4" = next ] || exit 0
for left in "$XDG_RUNTIME_DIR"/rcc/* $(groups "$1"); do
    [ ! -e "$left" ] || touch -d '2 minutes ago' "$left"
done
"$3" run --network allowlist -- true
echo next
look "$@"
"$3" prune --yes > "$2/pruned"
rm "$2/pruned"
"#;

/// What there is outside of any process, as [`LOOK`] tells it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// What no run changes: mounts, links, files outside of the records.
    same: BTreeSet<String>,
    /// Below the directory of records.
    records: BTreeSet<String>,
    /// Below the directory of sockets, from `rcc/` on.
    runtime: BTreeSet<String>,
    /// Control groups, with the number of their processes.
    groups: BTreeSet<String>,
    /// What `rcc ps` says.
    runs: Vec<Value>,
}

impl Left {
    fn read(text: &str) -> Self {
        let mut left = Self::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').expect("every line has its kind");
            let text = rest.to_owned();
            match kind {
                "same" => left.same.insert(text),
                "record" => left.records.insert(text),
                "runtime" => left.runtime.insert(text),
                "group" => left.groups.insert(text),
                "run" => {
                    let run = serde_json::from_str(rest).expect("rcc ps --json prints JSON");
                    left.runs.push(run);
                    true
                }
                other => panic!("{other} {rest}"),
            };
        }
        left
    }

    /// Fails unless there is no control group and nothing where sockets are.
    fn assert_swept(&self, what: &str) {
        let is_swept = self.groups.is_empty() && self.runtime.is_empty();
        assert!(is_swept, "{self:?} {what}");
    }

    /// Fails unless there is nothing but the record of a run that ended with this code, or none where it could not begin.
    fn assert_tidy(&self, code: i32, what: &str) {
        self.assert_swept(what);
        match self.runs.as_slice() {
            [] => assert!(self.records.is_empty(), "{:?} {what}", self.records),
            [run] => {
                let told = (run["state"].as_str(), run["exit_code"].as_i64());
                assert_eq!(told, (Some("ended"), Some(i64::from(code))), "{what}");
                let is_whole = self.records.iter().any(|path| path.ends_with("/end.json"));
                let is_done = |path: &String| !path.ends_with("/desk") && !path.contains("/.");
                assert!(
                    is_whole && self.records.iter().all(is_done),
                    "{self:?} {what}"
                );
            }
            _ => panic!("{:?} {what}", self.runs),
        }
    }

    /// Fails unless there is nothing but what a supervisor that was killed may leave.
    fn assert_lost(&self, what: &str) {
        assert!(self.runs.len() <= 1, "{:?} {what}", self.runs);
        for run in &self.runs {
            // It may have said how the run ended before it was killed.
            let state = run["state"].as_str();
            assert!(matches!(state, Some("lost" | "ended")), "{run} {what}");
        }
        for path in &self.records {
            let file = path.split_once('/').map_or("", |(_, file)| file);
            let known = [
                "",
                "run.json",
                ".end.json",
                "end.json",
                "audit.jsonl",
                "desk",
            ]
            .contains(&file)
                || file.starts_with(".run.json.")
                || file.starts_with(".end.json.");
            assert!(known, "{path} {what}");
        }
        let is_empty = |group: &String| group.ends_with(" with 0");
        assert!(self.groups.iter().all(is_empty), "{:?} {what}", self.groups);
        let id = self.records.iter().next().map_or("", String::as_str);
        let id = id.split('/').next().unwrap_or_default();
        for path in &self.runtime {
            let is_socket = *path == format!("rcc/{id}") || *path == format!("rcc/{id}/control");
            assert!(is_socket, "{path} {what}");
        }
    }
}

impl Scene {
    fn run(&self) -> [String; 9] {
        let connect = format!("exec 3<>/dev/tcp/{}", FORBIDDEN.replace(':', "/"));
        let script = format!("touch {STARTED}; {connect} 2>/dev/null; /bin/true; exit 7");
        let mode = "allowlist";
        [
            &program().to_string_lossy(),
            "run",
            "--network",
            mode,
            "--",
            "bash",
            "-c",
            &script,
            "x",
        ]
        .map(str::to_owned)
    }

    /// Begins a command of the user in the project.
    fn command(&self, program: impl AsRef<OsStr>) -> HostCommand<'_> {
        let command = self.world.host_command(program);
        command
            .env("TMPDIR", &self.temporary)
            .current_dir(&self.project)
    }

    fn rcc(&self) -> HostCommand<'_> {
        self.command(program())
    }

    /// Runs [`LOOK`] with what it is to do.
    fn look(&self, what: &str) -> String {
        let command = self.command("sh").args(["-c", LOOK, "sh"]);
        let command = command.args([&self.project, &self.temporary]);
        let output = command.arg(program()).arg(what).output();
        assert_eq!(output.assert_success().stderr_text(), "", "{output}");
        output.stdout_text()
    }

    fn left(&self) -> Left {
        Left::read(&self.look("now"))
    }

    /// What is left now. Fails unless the next run works and takes it away, but for the records, and `rcc prune` those.
    fn left_until_next_run(&self, before: &Left, what: &str) -> Left {
        let text = self.look("next");
        let (left, after) = text.split_once("next\n").expect("both are told");
        let (left, after) = (Left::read(left), Left::read(after));
        assert_eq!(after.same, before.same, "after {what}");
        after.assert_swept(what);
        assert!(after.records.is_superset(&left.records), "{after:?} {what}");
        let mut runs = after.runs;
        runs.retain(|run| !left.runs.contains(run));
        let states: Vec<_> = runs.iter().map(|run| run["state"].as_str()).collect();
        assert_eq!(states, [Some("ended")], "after {what}");
        let records = self.world.home().join(".local/state/rcc/runs");
        let entries = std::fs::read_dir(&records).expect("the directory of records stays");
        for entry in entries {
            let path = entry.expect("it can be read").path();
            // Of a supervisor that was killed before it had written what its run is: counted as a record, listed as none.
            assert!(!path.join("run.json").exists(), "{path:?} after {what}");
            std::fs::remove_dir_all(path).expect("the home is the test's");
        }
        left
    }

    fn plain(&self) -> Output {
        let run = self.run();
        let (program, arguments) = run.split_first().expect("a program and its arguments");
        self.command(program).args(arguments).output()
    }

    fn traced(&self, flags: &[&str]) -> (Output, Trace) {
        let mut all: Vec<String> = ["-f", "-qqq", "-s", "8", "-o", &self.trace.to_string_lossy()]
            .map(str::to_owned)
            .to_vec();
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        all.push("--".to_owned());
        all.extend(self.run());
        let output = self.command("strace").args(&all).output();
        (output, Trace::read(&self.trace))
    }

    /// Kills at a point; says whom it hit.
    fn kill(&self, point: &Point, before: &Left, processes: usize) -> Option<Role> {
        let (call, number) = point;
        std::fs::remove_file(self.project.join(STARTED)).ok();
        let trace = format!("trace={call},clone3,execve,execveat");
        let inject = format!("inject={call}:signal=SIGKILL:when={number}");
        let (killed, trace) = self.traced(&["-e", &trace, "-e", &inject]);
        let victims = trace.victims(point);
        let victim = victims.first().copied();
        let what = format!("{call} for the {number}. time, hits {victims:?}: {killed}");
        assert!(
            killed.survivors.is_empty(),
            "{:?}: {what}",
            killed.survivors
        );
        assert_eq!(self.world.processes().len(), processes, "{what}");
        match victim {
            // Also when it came to the point after the one that was hit first.
            _ if victims.contains(&Role::Supervisor) => {
                assert_eq!(killed.ending, Ending::Signal(9), "{what}")
            }
            Some(Role::Agent) if victims == [Role::Agent] => {
                assert_eq!(killed.ending, Ending::Code(137), "{what}")
            }
            // A sandbox that could not be built, or was lost, is no success; nor is the end of the agent and of its guard. The
            // helper may have done its part.
            Some(Role::Init | Role::Agent) => assert_ne!(killed.ending, Ending::Code(7), "{what}"),
            Some(_) => {}
            None => assert_eq!(killed.ending, Ending::Code(7), "{what}"),
        }
        assert_ne!(killed.ending, Ending::Code(0), "{what}");
        std::fs::write(self.project.join(STARTED), "").expect("the project is the test's");
        let left = self.left_until_next_run(before, &what);
        assert_eq!(left.same, before.same, "{what}");
        match killed.ending {
            Ending::Code(code) => left.assert_tidy(code, &what),
            Ending::Signal(9) => left.assert_lost(&what),
            Ending::Signal(_) | Ending::TimedOut => panic!("{what}"),
        }
        let reached = self.world.seen();
        assert!(
            reached.is_empty(),
            "{reached:?}, the network was open: {what}"
        );
        victim
    }
}

#[test]
fn kill_9_of_any_process_at_any_call_leaves_nothing() {
    if !require("strace") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    // Control groups are the machine's: they are told apart by the project's name.
    let project = world.scratch_directory(format!("killed{}", std::process::id()));
    let trace = world.scratch_directory("traces").join("trace");
    let temporary = world.scratch_directory("temporary");
    let scene = Scene {
        world,
        project,
        trace,
        temporary,
    };
    // Positive control: the listener answers, and a whole run works and leaves nothing but its record.
    let connect = format!("exec 3<>/dev/tcp/{}", FORBIDDEN.replace(':', "/"));
    let reach = scene.world.host_command("bash").args(["-c", &connect]);
    reach.output().assert_success();
    let whole = scene.plain();
    assert_eq!(whole.ending, Ending::Code(7), "{whole}");
    assert!(scene.project.join(STARTED).exists());
    let before = scene.left();
    before.assert_tidy(7, "a whole run");
    let prune = scene.rcc().args(["prune", "--yes"]).output();
    prune.assert_success();
    let processes = scene.world.processes().len();
    see_what_is_left(&scene, &before);
    scene.world.forget();

    let (whole, trace) = scene.traced(&[]);
    assert_eq!(whole.ending, Ending::Code(7), "{whole}");
    scene
        .left_until_next_run(&before, "a traced run")
        .assert_tidy(7, "a traced run");
    let points = choose(trace.points());
    let begun = std::time::Instant::now();
    let mut hits: BTreeMap<Role, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (done, point) in points.iter().enumerate() {
        if done % 100 == 99 {
            println!("{done} of {} in {:?}", points.len(), begun.elapsed());
        }
        // What is wrong at one point says little about the others, and all of them take long.
        match catch_unwind(AssertUnwindSafe(|| scene.kill(point, &before, processes))) {
            Ok(Some(role)) => *hits.entry(role).or_default() += 1,
            Ok(None) => {}
            Err(_) => wrong.push(point),
        }
    }
    assert!(wrong.is_empty(), "{} points: {wrong:?}", wrong.len());
    let time = begun.elapsed();
    println!("{} points in {time:?}, killed at {hits:?}", points.len());
    for (role, _, least) in WANTED {
        let count = hits.get(&role).copied().unwrap_or_default();
        assert!(count >= least, "{role:?} was hit {count} times: {hits:?}");
    }
    let total: usize = hits.values().sum();
    assert!(total >= LEAST, "{hits:?}");
}

/// Positive control of what is looked at: a run under way has all of it, and a supervisor that is killed then leaves all of it.
fn see_what_is_left(scene: &Scene, before: &Left) {
    let run = ["run", "--network", "allowlist", "--"];
    let agent = ["bash", "-c", "echo up; exec sleep 600"];
    let mut running = scene.rcc().args(run).args(agent).spawn();
    running.wait_for_text("up");
    let under_way = scene.left();
    // The supervisor opens its desk after the agent has begun, so its socket may not be there yet.
    let of_record = |left: &Left, name: &str| {
        let mut paths = left.records.iter();
        paths.any(|path| path.ends_with(name))
    };
    assert!(of_record(&under_way, "/run.json"), "{under_way:?}");
    let plan = scene.rcc().args(["plan", "--json", "--", "true"]);
    let plan = plan.output().assert_success().stdout_text();
    let plan: Value = serde_json::from_str(&plan).expect("rcc plan --json prints JSON");
    let has_group = !plan["limits"]["group"].is_null();
    assert_eq!(
        !under_way.groups.is_empty(),
        has_group,
        "{under_way:?} {plan}"
    );
    assert_eq!(under_way.runtime.len(), 2, "{under_way:?}");
    assert_eq!(under_way.runs[0]["state"], "running");
    running.signal(9);
    assert_eq!(running.wait().survivors.len(), 0);
    let left = scene.left_until_next_run(before, "a run under way");
    left.assert_lost("a run under way");
    assert_eq!(left.runs[0]["state"], "lost");
    assert_eq!(
        (&left.runtime, left.groups.len()),
        (&under_way.runtime, under_way.groups.len())
    );
}
