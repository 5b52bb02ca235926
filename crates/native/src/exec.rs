//! Starts one more process in a sandbox that runs: the part of `rcc exec` on the host.
//!
//! Theory of operation. The supervisor hands out pid 1's pidfd and the plan, nothing else; it asks pid 1 nothing, and hears
//! nothing from it. The process that joins is rcc's program, executed from a sealed copy in memory with an empty environment
//! (see `exec_stage.rs`); this side relays its terminal or its pipes, and its signals, as the supervisor does for the agent.
//! No descriptor of the caller's goes in: what the agent could find behind one (the mount of a file, a directory's parent) is
//! the host's.
//!
//! Should: be called before the process has started any thread. Mustn't: hand in anything but pipes.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rcc_plan::Plan;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{NativeError, on_step, on_step_call};
use crate::exec_stage::EXEC_NAME;
use crate::group::GroupRecord;
use crate::launch::{Child, plan_file, shed_groups};
use crate::protocol::{Control, Message};
use crate::pump::Pump;
use crate::relay::{Running, block_signals};
use crate::stage_start::sealed_copy;

const STEP: &str = "start a process in the sandbox";

/// Starts the command of `plan` in the sandbox whose pid 1 is `sandbox`; [`Running::relay`] does the rest.
///
/// `plan` is the run's own but for command, directory, environment and streams; `group` is its control group, if it has one.
///
/// # Errors
/// The sandbox has ended, the host is out of something, or a step of the confinement failed. Nothing was started then.
pub fn exec(
    sandbox: &OwnedFd,
    plan: &Plan,
    group: Option<&GroupRecord>,
) -> Result<Running, NativeError> {
    if rustix::process::geteuid().is_root() {
        shed_groups()?;
    }
    let program = sealed_copy()?;
    let (control, stage_end) = Control::pair().map_err(on_step(STEP))?;
    block_signals()?;
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(EXEC_NAME)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(stage_end.into_descriptor()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            on_step_call(STEP, "posix_spawn(3)")(errno)
        })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Not collected before this, so the number is still the child's.
    let pid = pid
        .ok_or(Errno::SRCH)
        .map_err(on_step_call(STEP, "posix_spawn(3)"))?;
    let pidfd =
        pidfd_open(pid, PidfdFlags::empty()).map_err(on_step_call(STEP, "pidfd_open(2)"))?;
    let child = Child::of(pidfd);
    // The run's limits are the joined process's, too.
    if let Some(group) = group {
        group.join(pid)?;
    }

    let plan_file = plan_file(plan)?;
    let mut pumps = Vec::new();
    let mut ends = Vec::new();
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    if !plan.streams.stdin_terminal {
        let (read, write) = pipe()?;
        pumps.push(Pump::of_input(own(input.as_fd())?, write));
        ends.push(read);
    }
    let outputs = [
        (output.as_fd(), plan.streams.stdout_terminal),
        (error.as_fd(), plan.streams.stderr_terminal),
    ];
    for (stream, _) in outputs.into_iter().filter(|(_, terminal)| !terminal) {
        let (read, write) = pipe()?;
        pumps.push(Pump::new(read, own(stream)?));
        ends.push(write);
    }
    let descriptors: Vec<BorrowedFd<'_>> = [plan_file.as_fd(), sandbox.as_fd()]
        .into_iter()
        .chain(ends.iter().map(AsFd::as_fd))
        .collect();
    control
        .send(&Message::Plan, &descriptors)
        .map_err(on_step("hand the plan to the process"))?;
    drop(ends);
    Running::start(child, control, plan.streams, pumps)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), NativeError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(on_step_call(STEP, "pipe2(2)"))
}

/// A descriptor of our own for a stream of the caller's.
fn own(stream: BorrowedFd<'_>) -> Result<OwnedFd, NativeError> {
    stream
        .try_clone_to_owned()
        .map_err(|_| on_step_call(STEP, "dup(2)")(Errno::MFILE))
}
