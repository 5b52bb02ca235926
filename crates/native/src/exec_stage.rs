//! Joins a running sandbox and starts a process in it, confined exactly as the agent is: the part of `rcc exec` inside.
//!
//! This is rcc's own program from a sealed copy, with an empty environment. Everything in the sandbox counts as hostile by now,
//! so the order matters:
//!
//! 1. tie its life to `rcc exec`, take the plan, the sandbox and the pipes; new session, new session keyring
//! 2. join all namespaces in one call. This process itself stays outside of the pid namespace (`setns(2)`: only its children
//!    are in it), so nobody inside can see it, trace it or send it a signal. The kernel sets its root and its working directory
//!    to those of the sandbox.
//! 3. own memory closed to others, for itself and for the copy of step 7
//! 4. pseudo-terminal on the sandbox's own devpts
//! 5. say that it is ready
//! 6. limits, capabilities, no_new_privs, Landlock, seccomp: as in pid 1, and all of it before anything is in sight; wait for
//!    the word, in a run with a control group before all this
//! 7. fork: the copy appears in the pid namespace with every right gone already, takes its streams and executes
//! 8. reap, pass signals, tell about stops, as pid 1 does for the agent
//!
//! Should: fail as a whole when a step fails. Mustn't: open a path that the agent could have changed while it has a right left,
//! but for those of Landlock's rules, which are opened without following links.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rcc_plan::Plan;
use rcc_sys::SysError;
use rcc_sys::process::{Alone, SignalSet, place_descriptor};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::confine::{Ground, Victim};
use crate::error::{NativeError, on_step, on_step_call};
use crate::protocol::{Control, Message};
use crate::stage::{self, FAILED, Terminal};

/// Name under which the program is executed to join a sandbox.
pub const EXEC_NAME: &str = "rcc-exec";

const STEP: &str = "join the sandbox";

/// The whole life of the process that joins; returns its exit code. The binary's `main` calls this when it was started as
/// [`EXEC_NAME`].
#[must_use]
pub fn exec_main() -> i32 {
    // Keys of the caller's terminal are for the process that will be started.
    if SignalSet::all().block_only_these().is_err() {
        return FAILED;
    }
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return FAILED;
    };
    let control = Control::from_descriptor(control);
    match run(&control) {
        Ok(code) => code,
        Err(error) => {
            let (chain, hint) = (error.chain(), error.hint());
            let _ = control.send(&Message::Failed { chain, hint }, &[]);
            FAILED
        }
    }
}

fn run(control: &Control) -> Result<i32, NativeError> {
    // Step 1. Should the parent have died before this line, step 6 sees the end of the connection.
    tie_to_parent()?;
    // The host's /proc, where this process still has a place.
    let victim = Victim::become_one();
    let alone = Alone::prove().map_err(on_step(STEP))?;
    let Some((plan, sandbox, pipes)) = receive(control)? else {
        return Ok(FAILED);
    };
    rustix::process::setsid().map_err(on_step_call("start a new session", "setsid(2)"))?;
    stage::leave_session_keyring()?;
    // Step 2.
    let all = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::TIME;
    move_into_thread_name_spaces(sandbox.as_fd(), all).map_err(on_step_call(STEP, "setns(2)"))?;
    drop(sandbox);
    // Step 3. The change of credentials has cleared the first.
    tie_to_parent()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(on_step_call("close the memory to others", "prctl(2)"))?;
    take_pipes(&plan, pipes)?;
    // Step 4.
    let terminal = if plan.streams.wants_terminal() {
        Some(Terminal::open()?)
    } else {
        None
    };
    // Steps 5 to 8.
    stage::confine_and_start(control, &plan, terminal, Ground::Hostile, &alone, victim)
}

fn tie_to_parent() -> Result<(), NativeError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(on_step_call(
        "tie the process's life to rcc exec",
        "prctl(2)",
    ))
}

/// Takes plan, pid 1's pidfd and the pipes; `None` when the other side gave up.
fn receive(control: &Control) -> Result<Option<(Plan, OwnedFd, Vec<OwnedFd>)>, NativeError> {
    let broken = |errno| on_step("read the plan")(SysError::new("recvmsg(2)", "the plan", errno));
    let Some((message, descriptors)) = control.receive().map_err(on_step(STEP))? else {
        return Ok(None);
    };
    let mut descriptors = descriptors.into_iter();
    let (Message::Plan, Some(file), Some(sandbox)) =
        (message, descriptors.next(), descriptors.next())
    else {
        return Err(broken(Errno::PROTO));
    };
    let plan = serde_json::from_reader(std::io::BufReader::new(File::from(file)))
        .map_err(|_| broken(Errno::BADMSG))?;
    Ok(Some((plan, sandbox, descriptors.collect())))
}

/// Puts the pipes where the standard streams are; what becomes a terminal is nothing until then.
fn take_pipes(plan: &Plan, pipes: Vec<OwnedFd>) -> Result<(), NativeError> {
    let step = "connect the standard streams";
    let mut pipes = pipes.into_iter();
    let terminals = [
        plan.streams.stdin_terminal,
        plan.streams.stdout_terminal,
        plan.streams.stderr_terminal,
    ];
    for (number, is_terminal) in (0..).zip(terminals) {
        let stream = if is_terminal {
            // Standard input is the control connection until now.
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .map_err(on_step_call(step, "openat(2)"))?
        } else {
            let missing = on_step_call(step, "recvmsg(2)");
            pipes.next().ok_or_else(|| missing(Errno::PROTO))?
        };
        place_descriptor(stream.as_fd(), number).map_err(on_step(step))?;
    }
    Ok(())
}
