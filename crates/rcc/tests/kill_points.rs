//! `kill -9` of supervisor, helper, pid 1 and agent at system calls all over a run: nothing is left, and the network was never open.
//!
//! The points are not listed here: a whole run is traced first, and every call of every process is a point, so what the plan
//! adds tomorrow is among them. A point is a call's name and a number; whichever process makes that call for the so-manieth
//! time dies when it enters it (strace's fault injection: no timing), and so do others that come to theirs later. Some points for
//! each process are tried; `RCC_KILL_POINTS=all` tries all of them.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test program")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rcc_testkit::require;
use rcc_testkit::world::{Ending, Output, World};

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
    /// The guard, threads of the supervisor, children of the agent.
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

/// The supervisor, whose calls come first, and the two processes that it makes before any thread: the helper, then pid 1.
fn first_processes(text: &str) -> BTreeMap<u32, Role> {
    let pid = |text: &str| text.trim().parse::<u32>().ok();
    let mut lines = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    let Some(supervisor) = lines.next().and_then(|(first, _)| pid(first)) else {
        return BTreeMap::new();
    };
    let made = lines
        .filter(|(maker, rest)| pid(maker) == Some(supervisor) && rest.contains("clone3"))
        .filter_map(|(_, rest)| pid(rest.rsplit_once(" = ")?.1));
    let known = [Role::Helper, Role::Init];
    let children = made.zip(known);
    std::iter::once((supervisor, Role::Supervisor))
        .chain(children)
        .collect()
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

impl Scene {
    fn run(&self) -> [String; 9] {
        let connect = format!("exec 3<>/dev/tcp/{}", FORBIDDEN.replace(':', "/"));
        let script = format!("touch {STARTED}; {connect} 2>/dev/null; /bin/true; exit 7");
        let rcc = env!("CARGO_BIN_EXE_rcc");
        let mode = "allowlist";
        [
            rcc,
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

    fn plain(&self) -> Output {
        let run = self.run();
        let (program, arguments) = run.split_first().expect("a program and its arguments");
        let command = self.world.host_command(program).args(arguments);
        command
            .env("TMPDIR", &self.temporary)
            .current_dir(&self.project)
            .output()
    }

    fn traced(&self, flags: &[&str]) -> (Output, Trace) {
        let mut all: Vec<String> = ["-f", "-qqq", "-s", "8", "-o", &self.trace.to_string_lossy()]
            .map(str::to_owned)
            .to_vec();
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        all.push("--".to_owned());
        all.extend(self.run());
        let command = self.world.host_command("strace").args(&all);
        let output = command
            .env("TMPDIR", &self.temporary)
            .current_dir(&self.project)
            .output();
        (output, Trace::read(&self.trace))
    }

    /// What must be the same before and after: mounts, links, files outside of the record.
    fn left(&self) -> BTreeSet<String> {
        let listing = self
            .world
            .host_command("/bin/sh")
            .args([
                "-c",
                "cat /proc/self/mounts; ip -o link | sed 's/ mtu.*//'; ls -A \"$2\"
find \"$HOME\" -path '*/.local/state/rcc/runs/*' -prune -o -print; ls -A \"$1\"",
                "-",
            ])
            .args([&self.project, &self.temporary])
            .output();
        listing.assert_success();
        listing.stdout_text().lines().map(str::to_owned).collect()
    }

    /// Kills at a point; says whom it hit.
    fn kill(&self, point: &Point, before: &BTreeSet<String>, processes: usize) -> Option<Role> {
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
        assert_eq!(&self.left(), before, "{what}");
        let reached = self.world.seen_by(FORBIDDEN).connections;
        assert_eq!(reached, 0, "the network was open: {what}");
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
    let project = world.scratch_directory("project");
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
    let processes = scene.world.processes().len();
    scene.world.forget();

    let (whole, trace) = scene.traced(&[]);
    assert_eq!(whole.ending, Ending::Code(7), "{whole}");
    let mut hits: BTreeMap<Role, usize> = BTreeMap::new();
    for point in choose(trace.points()) {
        if let Some(role) = scene.kill(&point, &before, processes) {
            *hits.entry(role).or_default() += 1;
        }
    }
    // The next run is as good as the first.
    let again = scene.plain();
    assert_eq!(again.ending, Ending::Code(7), "{again}");
    println!("killed at {hits:?}");
    for (role, _, least) in WANTED {
        let count = hits.get(&role).copied().unwrap_or_default();
        assert!(count >= least, "{role:?} was hit {count} times: {hits:?}");
    }
    let total: usize = hits.values().sum();
    assert!(total >= LEAST, "{hits:?}");
}
