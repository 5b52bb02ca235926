//! pid 1: builds the sandbox from inside, starts the agent, and stays to reap and to pass signals on.
//!
//! This is rcc's own program, executed again under another name with an empty environment, so that nothing of the
//! caller is left in its memory: everything in the agent's pid namespace counts as the agent's. Its numbered steps:
//!
//! 1. take the two inherited descriptors, tie its life to the supervisor's
//! 2. wait for the plan, open the standard streams anew
//! 3. new session, new session keyring
//! 4. file tree, pivot, hostname
//! 5. loopback, when no helper does the network
//! 6. pseudo-terminal
//! 7. say that the tree is ready
//! 8. limits, capabilities, no_new_privs, Landlock
//! 9. seccomp; wait until the supervisor says that everything stands (before step 8 in a run with a control group)
//! 10. fork the agent, which takes its streams and executes
//! 11. reap, pass signals, tell about stops
//!
//! Should: hold nothing worth stealing. Mustn't: trust anything that happens after step 10.

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rcc_plan::{GroupPlace, Network, Plan, SeccompProfile};
use rcc_sys::SysError;
use rcc_sys::netlink::RouteSocket;
use rcc_sys::netlink::router::configure_loopback_only;
use rcc_sys::process::{
    Alone, SignalDescriptor, SignalSet, close_on_exec_from, execute_path, exit_now, fork,
    join_new_session_keyring, place_descriptor, restore_default_signals, take_descriptor,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};

use crate::confine::{Ground, Victim};
use crate::error::NativeError;
use crate::error::{on_step, on_step_call};
use crate::protocol::{Control, Message};
use crate::{confine, seccomp, site, streams};

/// Name under which the program is executed as pid 1.
pub const STAGE_NAME: &str = "rcc-init";
/// Descriptor number of the control connection.
pub(crate) const CONTROL_DESCRIPTOR: i32 = 3;
/// Descriptor number of the program itself. It is handed on because closing its mount makes the kernel wait, see
/// [`crate::site`].
pub(crate) const PROGRAM_DESCRIPTOR: i32 = 4;

/// Exit code for a program that exists but cannot be executed, as in shells, podman and docker.
const CANNOT_EXECUTE: i32 = 126;
/// Exit code for a program that was not found.
const NOT_FOUND: i32 = 127;
/// Exit code for a failure of rcc itself.
pub(crate) const FAILED: i32 = 125;

/// Runs pid 1 from the first step to the agent's end, and returns its exit code. The binary's `main` calls this, before
/// anything else, when it was started as [`STAGE_NAME`].
#[must_use]
pub fn stage_main() -> i32 {
    // Step 1.
    let Ok(control) = take_descriptor(CONTROL_DESCRIPTOR).map(Control::from_descriptor) else {
        return FAILED;
    };
    let Ok(program) = take_descriptor(PROGRAM_DESCRIPTOR) else {
        return FAILED;
    };
    match run(&control, program) {
        Ok(code) => code,
        Err(error) => {
            // When the supervisor is gone there is nobody to tell.
            let _ = control.send(
                &Message::Failed {
                    chain: error.chain(),
                    hint: error.hint(),
                },
                &[],
            );
            FAILED
        }
    }
}

fn run(control: &Control, program: OwnedFd) -> Result<i32, NativeError> {
    // Step 1, second half. Should the supervisor have died before this line, step 9 sees the end of the connection.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(on_step_call(
        "tie pid 1's life to the supervisor",
        "prctl(2)",
    ))?;
    // Step 2.
    let Some(plan) = receive_plan(control)? else {
        return Ok(FAILED);
    };
    // While the host's file tree is in view.
    let mut unwanted = streams::open_anew(plan.streams)?;
    unwanted.push(program);
    // Step 3.
    rustix::process::setsid().map_err(on_step_call("start a new session", "setsid(2)"))?;
    leave_session_keyring()?;
    // Step 4. Modes in the plan are exact; the agent gets the caller's mask back.
    let umask = rustix::process::umask(Mode::empty());
    site::build(&plan.mounts, unwanted)?;
    rustix::process::umask(umask);
    rustix::system::sethostname(plan.hostname.as_bytes())
        .map_err(on_step_call("set the hostname", "sethostname(2)"))?;
    // Step 5.
    if plan.network == Network::None {
        let step = "bring the loopback interface up";
        let route = RouteSocket::open();
        route
            .and_then(|route| configure_loopback_only(&route))
            .map_err(|source| NativeError::Network { step, source })?;
    }
    // Step 6.
    let terminal = if plan.streams.wants_terminal() {
        Some(Terminal::open()?)
    } else {
        None
    };
    // Steps 7 to 11.
    let alone = Alone::prove().map_err(on_step("fork the agent"))?;
    let victim = Victim::become_one();
    confine_and_start(control, &plan, terminal, Ground::Own, &alone, victim)
}

/// Gives up the session keyring, which crosses every namespace.
pub(crate) fn leave_session_keyring() -> Result<(), NativeError> {
    match join_new_session_keyring() {
        Err(error) if error.errno != Errno::NOSYS => {
            Err(on_step("leave the session keyring")(error))
        }
        _ => Ok(()),
    }
}

/// Steps 7 to 11, for pid 1 and for a process that joins later: both end up confined by the same calls.
pub(crate) fn confine_and_start(
    control: &Control,
    plan: &Plan,
    terminal: Option<Terminal>,
    ground: Ground,
    alone: &Alone,
    victim: Victim,
) -> Result<i32, NativeError> {
    // Step 7.
    let descriptors: Vec<_> = terminal
        .iter()
        .map(|terminal| terminal.master.as_fd())
        .collect();
    control
        .send(&Message::TreeReady, &descriptors)
        .map_err(on_step("report to the supervisor"))?;
    drop(descriptors);
    // The name of a control group is hidden by whoever is in it already, which is certain when the word is there. Everything
    // else is given up while the supervisor still starts the gateway.
    let waits_first = plan.limits.group.is_some();
    if waits_first && !may_start(control)? {
        return Ok(FAILED);
    }
    // Step 8.
    confine::limit(&plan.limits)?;
    confine::confine(&plan.hardening, plan.streams, ground)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(on_step_call("close pid 1's memory to others", "prctl(2)"))?;
    let signals = SignalSet::all();
    signals
        .block_only_these()
        .map_err(on_step("block signals"))?;
    let signals = signals.descriptor().map_err(on_step("wait for signals"))?;
    // Step 9. The agent inherits the filter; a narrower one is added in the agent alone.
    seccomp::compile(&SeccompProfile::Default).install()?;
    if !waits_first && !may_start(control)? {
        return Ok(FAILED);
    }
    // Step 10.
    let slave = terminal.map(|terminal| terminal.slave);
    let agent = match fork(alone).map_err(on_step("fork the agent"))? {
        None => {
            // Whoever joins has no pid 1 above it that would end it.
            if ground == Ground::Hostile {
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            }
            exit_now(become_agent(control, plan, slave))
        }
        Some(pid) => pid,
    };
    victim.step_back();
    // Step 11.
    let mut reaper = Reaper {
        control,
        agent,
        slave,
        supervisor_talks: true,
    };
    reaper.take_foreground();
    close_standard_streams()?;
    let code = reaper.run(&signals)?;
    let place = plan.limits.group.as_ref().map(|group| &group.place);
    if ground == Ground::Own && matches!(place, Some(GroupPlace::Scope { .. })) {
        reaper.let_them_look();
    }
    Ok(code)
}

/// Waits until the supervisor says that everything stands; false when it gave the run up.
fn may_start(control: &Control) -> Result<bool, NativeError> {
    let word = control
        .receive()
        .map_err(on_step("hear from the supervisor"))?;
    Ok(matches!(word, Some((Message::Go, _))))
}

/// Waits for the plan; `None` when the supervisor gave the run up before it made one.
fn receive_plan(control: &Control) -> Result<Option<Plan>, NativeError> {
    let broken = |errno| on_step("read the plan")(SysError::new("read(2)", "the plan", errno));
    let Some((message, mut descriptors)) = control
        .receive()
        .map_err(on_step("hear from the supervisor"))?
    else {
        return Ok(None);
    };
    let file = descriptors
        .pop()
        .filter(|_| message == Message::Plan)
        .ok_or_else(|| broken(Errno::PROTO))?;
    let mut text = Vec::new();
    std::fs::File::from(file)
        .read_to_end(&mut text)
        .map_err(|_| broken(Errno::IO))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|_| broken(Errno::BADMSG))
}

/// Replaces pid 1's standard streams: the agent alone holds the caller's pipes.
fn close_standard_streams() -> Result<(), NativeError> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(on_step_call("open /dev/null", "openat(2)"))?;
    for number in 0..3 {
        place_descriptor(null.as_fd(), number)
            .map_err(on_step("close the standard streams of pid 1"))?;
    }
    Ok(())
}

/// The sandbox's own terminal.
pub(crate) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Opens a pair on the sandbox's own devpts and makes it the controlling terminal of this session.
    pub(crate) fn open() -> Result<Self, NativeError> {
        let step = "open a terminal in the sandbox";
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())
            .map_err(on_step_call(step, "openat(2)"))?;
        rustix::pty::unlockpt(&master).map_err(on_step_call(step, "unlockpt(3)"))?;
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY,
        )
        .map_err(on_step_call(step, "ioctl(2) TIOCGPTPEER"))?;
        rustix::io::fcntl_setfd(&slave, rustix::io::FdFlags::CLOEXEC)
            .map_err(on_step_call(step, "fcntl(2)"))?;
        rustix::process::ioctl_tiocsctty(&slave)
            .map_err(on_step_call(step, "ioctl(2) TIOCSCTTY"))?;
        Ok(Self { master, slave })
    }
}

/// The forked child: streams, process group, signals, seccomp, exec. Returns the exit code of a failure.
fn become_agent(control: &Control, plan: &Plan, slave: Option<OwnedFd>) -> i32 {
    match prepare_agent(plan, slave.as_ref()) {
        Ok(never) => {
            let errno = never.errno;
            let _ = control.send(
                &Message::ExecFailed {
                    errno: errno.raw_os_error(),
                },
                &[],
            );
            if errno == Errno::NOENT || errno == Errno::NOTDIR {
                NOT_FOUND
            } else {
                CANNOT_EXECUTE
            }
        }
        Err(error) => {
            let _ = control.send(
                &Message::Failed {
                    chain: error.chain(),
                    hint: error.hint(),
                },
                &[],
            );
            FAILED
        }
    }
}

/// Does everything up to the exec; `Ok` carries the error of the exec itself.
fn prepare_agent(plan: &Plan, slave: Option<&OwnedFd>) -> Result<SysError, NativeError> {
    rustix::process::setpgid(None, None)
        .map_err(on_step_call("start a process group", "setpgid(2)"))?;
    if let Some(slave) = slave {
        // A process of the background that takes the terminal gets SIGTTOU unless it is blocked, which it is here.
        rustix::termios::tcsetpgrp(slave, rustix::process::getpgrp())
            .map_err(on_step_call("take the terminal", "tcsetpgrp(3)"))?;
        let streams = [
            plan.streams.stdin_terminal,
            plan.streams.stdout_terminal,
            plan.streams.stderr_terminal,
        ];
        for (number, _) in (0..).zip(streams).filter(|(_, terminal)| *terminal) {
            place_descriptor(slave.as_fd(), number).map_err(on_step("connect the terminal"))?;
        }
    }
    rustix::process::chdir(plan.cwd.as_path()).map_err(|errno| NativeError::Tree {
        action: "enter",
        path: plan.cwd.clone(),
        source: SysError::new("chdir(2)", "", errno),
    })?;
    let arguments = plan
        .argv
        .iter()
        .map(|argument| c_string(argument.as_os_str()))
        .collect::<Result<Vec<_>, _>>()?;
    let environment = plan
        .environment
        .iter()
        .map(|(name, value)| {
            let mut line = name.as_os_str().to_owned();
            line.push("=");
            line.push(value.as_os_str());
            c_string(&line)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let candidates = candidates(plan)?;
    close_on_exec_from(3).map_err(on_step("close descriptors"))?;
    restore_default_signals();
    SignalSet::none()
        .block_only_these()
        .map_err(on_step("unblock signals"))?;
    if plan.hardening.seccomp != SeccompProfile::Default {
        seccomp::compile(&plan.hardening.seccomp).install()?;
    }
    Ok(execute(&candidates, &arguments, &environment))
}

fn c_string(text: &OsStr) -> Result<CString, NativeError> {
    CString::new(text.as_bytes()).map_err(|_| NativeError::Supervisor {
        step: "pass the command on",
        source: SysError::new("execve(2)", "", Errno::INVAL),
    })
}

/// The paths at which the program may be, as `execvp(3)` looks for it.
fn candidates(plan: &Plan) -> Result<Vec<CString>, NativeError> {
    let program = plan
        .argv
        .first()
        .map_or(OsStr::new(""), |program| program.as_os_str());
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = plan
        .environment
        .iter()
        .find(|(name, _)| name.as_os_str() == "PATH")
        .map(|(_, value)| value.as_os_str());
    std::env::split_paths(path.unwrap_or(OsStr::new("/usr/bin:/bin")))
        .map(|directory| c_string(directory.join(program).as_os_str()))
        .collect()
}

/// Tries each candidate; a found but forbidden one decides the error over missing ones.
fn execute(candidates: &[CString], arguments: &[CString], environment: &[CString]) -> SysError {
    let mut decisive = SysError::new("execve(2)", "", Errno::NOENT);
    for candidate in candidates {
        let error = execute_path(candidate, arguments, environment);
        match error.errno {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => decisive = error,
            _ => return error,
        }
    }
    decisive
}

/// What pid 1 does for the rest of the run.
struct Reaper<'a> {
    control: &'a Control,
    agent: Pid,
    slave: Option<OwnedFd>,
    supervisor_talks: bool,
}

impl Reaper<'_> {
    /// The parent sets the foreground group too: whichever of parent and child comes first, it is set before it matters.
    fn take_foreground(&self) {
        if let Some(slave) = &self.slave {
            let _ = rustix::process::setpgid(Some(self.agent), Some(self.agent));
            let _ = rustix::termios::tcsetpgrp(slave, self.agent);
        }
    }

    /// Reaps and forwards until the agent itself has ended; returns its exit code.
    fn run(&mut self, signals: &SignalDescriptor) -> Result<i32, NativeError> {
        loop {
            let mut events = vec![PollFd::new(signals, PollFlags::IN)];
            if self.supervisor_talks {
                events.push(PollFd::new(self.control, PollFlags::IN));
            }
            match poll(&mut events, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(on_step_call("wait for events", "poll(2)")(errno)),
            }
            let spoken = events
                .get(1)
                .is_some_and(|event| !event.revents().is_empty());
            while let Some(number) = signals.next().map_err(on_step("take a signal"))? {
                match Signal::from_named_raw(number) {
                    Some(Signal::CHILD) => {
                        if let Some(code) = self.reap()? {
                            return Ok(code);
                        }
                    }
                    Some(signal) => self.pass_on(signal),
                    None => {}
                }
            }
            if spoken {
                self.listen();
            }
        }
    }

    /// Stays until the supervisor has read the group, which systemd takes away with its last process. Whoever wants the end
    /// at once kills this one.
    fn let_them_look(&self) {
        if !self.supervisor_talks || self.control.send(&Message::Ended, &[]).is_err() {
            return;
        }
        // What else may come was for the agent.
        while let Ok(Some((message, _))) = self.control.receive() {
            if message == Message::Finish {
                return;
            }
        }
    }

    /// Collects every child that changed; `Some` is the agent's exit code.
    fn reap(&self) -> Result<Option<i32>, NativeError> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid == self.agent => {
                    if let Some(code) = exit_code(status) {
                        return Ok(Some(code));
                    }
                    if let Some(signal) = status.stopping_signal() {
                        let _ = self.control.send(&Message::Stopped { signal }, &[]);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Errno::CHILD) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(on_step_call("reap", "wait4(2)")(errno)),
            }
        }
    }

    /// Passes a signal to the agent's process group.
    fn pass_on(&self, signal: Signal) {
        // The group may have ended a moment ago.
        let _ = rustix::process::kill_process_group(self.agent, signal);
    }

    fn listen(&mut self) {
        match self.control.receive_now() {
            Ok(Some((Message::Continue, _))) => {
                self.take_foreground();
                self.pass_on(Signal::CONT);
            }
            Err(error) if error.errno == Errno::AGAIN => {}
            // The supervisor is gone: the parent-death signal is on its way.
            _ => self.supervisor_talks = false,
        }
    }
}

/// The exit code that stands for a wait status, 128+n for signals; `None` while the process lives.
fn exit_code(status: WaitStatus) -> Option<i32> {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}
