//! `kill -9` of the supervisor at every stage of a run: nothing is left, and the network was never open.
//!
//! The moments are system calls of the supervisor, hit exactly with strace's fault injection: no timing, no luck.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use rcc_testkit::require;
use rcc_testkit::world::{Ending, World};

/// A moment: the supervisor dies when it enters this call for the given time.
#[derive(Debug, Clone, Copy)]
struct Moment {
    name: &'static str,
    call: &'static str,
    time: u32,
    /// Whether the agent's command may have started by then.
    agent_may_run: bool,
}

const fn moment(name: &'static str, call: &'static str, time: u32, agent_may_run: bool) -> Moment {
    Moment {
        name,
        call,
        time,
        agent_may_run,
    }
}

/// The supervisor's way through a run, in order.
const MOMENTS: [Moment; 14] = [
    moment("before the control connection", "socketpair", 1, false),
    moment("before the helper exists", "clone3", 1, false),
    moment("before the record exists", "mkdirat", 1, false),
    moment("before pid 1 is known", "recvmsg", 1, false),
    moment("before the plan is written", "memfd_create", 1, false),
    moment("before the plan is handed over", "sendmsg", 1, false),
    moment("before the helper is instructed", "sendmsg", 2, false),
    moment("before the network is known", "recvmsg", 2, false),
    moment("before the helper is collected", "waitid", 1, false),
    moment("before the gateway's thread", "clone3", 2, false),
    moment("before the word to start", "sendmsg", 3, false),
    // pid 1 finds the word when its tree is ready.
    moment("before the tree is known", "recvmsg", 3, true),
    moment("when the agent runs", "poll", 1, true),
    moment("when the run is collected", "waitid", 2, true),
];

/// A listener that no rule allows.
const FORBIDDEN: &str = "203.0.113.10:80";

fn rcc() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rcc"))
}

/// What must be the same before and after, what other tests make meanwhile (`rcc-…`) left out: rcc itself makes nothing there.
fn traces(world: &World) -> BTreeSet<String> {
    let listing = world
        .host_command("/bin/sh")
        .args(["-c", "cat /proc/self/mounts; ip -o link | sed 's/ mtu.*//'; ls -A /tmp /dev/shm | grep -v '^rcc-'; find \"$HOME\" -path '*/.local/state/rcc/runs/*' -prune -o -print"])
        .output();
    listing.assert_success();
    listing.stdout_text().lines().map(str::to_owned).collect()
}

#[test]
fn kill_9_of_the_supervisor_at_fourteen_moments_leaves_nothing() {
    if !require("strace") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let project = world.scratch_directory("project");
    let connect = format!("exec 3<>/dev/tcp/{}", FORBIDDEN.replace(':', "/"));

    // Positive control: the listener answers, and a whole run works and leaves nothing but its record.
    world
        .host_command("bash")
        .args(["-c", &connect])
        .output()
        .assert_success();
    let script = format!("touch started; {connect} 2>/dev/null; exit 7");
    let run = |command: &mut Vec<String>| {
        command.extend(
            ["run", "--network", "allowlist", "--", "bash", "-c", &script].map(str::to_owned),
        );
    };
    let mut plain = Vec::new();
    run(&mut plain);
    let whole = world
        .host_command(rcc())
        .args(&plain)
        .current_dir(&project)
        .output();
    assert_eq!(whole.ending, Ending::Code(7), "{}", whole.stderr_text());
    assert!(project.join("started").exists());
    let before = traces(&world);
    let processes = world.processes().len();
    world.forget();

    for moment in MOMENTS {
        std::fs::remove_file(project.join("started")).ok();
        let trace = format!("trace={}", moment.call);
        let inject = format!("inject={}:signal=SIGKILL:when={}", moment.call, moment.time);
        let mut arguments: Vec<String> = [
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
            "--",
            &rcc().to_string_lossy(),
        ]
        .map(str::to_owned)
        .to_vec();
        run(&mut arguments);
        let killed = world
            .host_command("strace")
            .args(&arguments)
            .current_dir(&project)
            .output();

        assert_eq!(
            killed.ending,
            Ending::Signal(9),
            "{}: the moment never came\n{}",
            moment.name,
            killed.stderr_text()
        );
        assert!(
            killed.survivors.is_empty(),
            "{}: {:?}",
            moment.name,
            killed.survivors
        );
        assert_eq!(world.processes().len(), processes, "{}", moment.name);
        let started = project.join("started").exists();
        assert!(
            !started || moment.agent_may_run,
            "{}: the agent ran",
            moment.name
        );
        std::fs::write(project.join("started"), "").unwrap();
        assert_eq!(traces(&world), before, "{}", moment.name);
        assert_eq!(
            world.seen_by(FORBIDDEN).connections,
            0,
            "{}: the network was open",
            moment.name
        );
    }

    // The next run is as good as the first.
    let again = world
        .host_command(rcc())
        .args(&plain)
        .current_dir(&project)
        .output();
    assert_eq!(again.ending, Ending::Code(7), "{}", again.stderr_text());
}
