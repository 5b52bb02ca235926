//! The supervisor's side of guarding protected paths: starts the guard beside a running agent, collects what it found,
//! and kills the agent when it fails.
//!
//! The guard is started a moment after the agent, so that a short command pays nothing for it. What the host replaced
//! until then is found by the guard's first look, or by [`Guard::finish`] when the run was shorter than that.
//!
//! Should: begin after the agent. Mustn't: let the agent go on without a guard.

use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcc_plan::{FileIdentity, Guarded, MountStep, Plan, Protection, SafeBytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, MemfdFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::error::{NativeError, Reported, on_step, on_step_call};
use crate::guard_stage::{GUARD_NAME, NOTHING_TO_ENTER, Watchlist};
use crate::protocol::{Control, Message};
use crate::relay::Running;

pub use crate::protocol::Loss;

const STEP: &str = "start the guard of protected paths";
/// What the guard is called in messages.
const GUARD: &str = "guard of protected paths";
/// Address space of the thread's stack, in bytes.
const STACK_BYTES: usize = 512 * 1024;

/// What the host did to protected paths while a run lasted.
#[derive(Debug, Default)]
pub struct Findings {
    /// Path inside the sandbox, what happened, for how long at most it was unprotected; in the order that it was found.
    pub losses: Vec<(SafeBytes, Loss, Duration)>,
    /// Why the agent was killed, if it was.
    pub failure: Option<NativeError>,
}

/// The guarded paths as they were before the agent.
#[derive(Debug)]
pub struct Before {
    guarded: Vec<Guarded>,
    at_start: Vec<Option<FileIdentity>>,
}

impl Before {
    /// Looks at them; to be done while the sandbox is still being built.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let guarded = plan.guarded();
        let at_start = guarded.iter().map(identity).collect();
        Self { guarded, at_start }
    }
}

/// A guard, at work or about to be.
#[derive(Debug)]
pub struct Guard {
    /// What it will guard, as long as it has not begun.
    task: Option<Task>,
    work: Option<Work>,
}

/// What a guard has to do.
#[derive(Debug)]
struct Task {
    sandbox: OwnedFd,
    list: Watchlist,
    at_start: Vec<Option<FileIdentity>>,
    since: Instant,
}

/// A guard that has begun.
#[derive(Debug)]
struct Work {
    control: Control,
    stop: Sender<()>,
    thread: JoinHandle<Findings>,
}

impl Guard {
    /// Gets ready to guard; `None` when the plan protects nothing that the host could replace.
    ///
    /// # Errors
    /// Out of descriptors. The run must be given up then.
    pub fn new(
        running: &Running,
        plan: &Plan,
        before: Before,
    ) -> Result<Option<Self>, NativeError> {
        let Before { guarded, at_start } = before;
        if guarded.is_empty() {
            return Ok(None);
        }
        let sandbox = running
            .sandbox()
            .map_err(on_step(STEP))?
            .try_clone()
            .map_err(not_made("dup(2)"))?;
        let list = Watchlist {
            guarded,
            covers: covers(plan),
        };
        let task = Task {
            sandbox,
            list,
            at_start,
            since: Instant::now(),
        };
        Ok(Some(Self {
            task: Some(task),
            work: None,
        }))
    }

    /// Begins guarding, if it has not.
    ///
    /// # Errors
    /// Out of descriptors, memory or threads. The run must be given up then.
    pub fn begin(&mut self) -> Result<(), NativeError> {
        let Some(task) = self.task.take() else {
            return Ok(());
        };
        let (control, guards_end) = Control::pair().map_err(on_step(STEP))?;
        let ours = control
            .as_fd()
            .try_clone_to_owned()
            .map(Control::from_descriptor)
            .map_err(not_made("dup(2)"))?;
        // It waits in the connection until there is a guard, before anything else that is said.
        let file = list_file(&task.list)?;
        control
            .send(&Message::Guard, &[task.sandbox.as_fd(), file.as_fd()])
            .map_err(on_step(STEP))?;
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("rcc-guard".into())
            .stack_size(STACK_BYTES)
            .spawn(move || watch_over(&ours, guards_end, &task, &stopped))
            .map_err(not_made("pthread_create(3)"))?;
        self.work = Some(Work {
            control,
            stop,
            thread,
        });
        Ok(())
    }

    /// Ends guarding, after the agent has ended, with a last look.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        match self.task.take() {
            Some(task) => task.compare(),
            None => self.work.take().map(Work::end).unwrap_or_default(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.work.take().map(Work::end));
    }
}

impl Work {
    fn end(self) -> Findings {
        drop(self.stop);
        // Before the guard runs, this waits in the connection.
        let _ = self.control.send(&Message::Finish, &[]);
        self.thread.join().unwrap_or_else(|_| Findings {
            failure: Some(vanished()),
            ..Findings::default()
        })
    }
}

/// Paths that are covered in every sandbox; their cover can be lent.
fn covers(plan: &Plan) -> Vec<SafeBytes> {
    let covers = plan.mounts.iter().filter_map(|step| match step {
        MountStep::Hide { at } if at.as_path().starts_with("/proc") => Some(at.clone()),
        _ => None,
    });
    covers.collect()
}

/// The thread's whole life.
fn watch_over(
    control: &Control,
    guards_end: Control,
    task: &Task,
    stopped: &Receiver<()>,
) -> Findings {
    let mut findings = Findings::default();
    let ending = serve(control, guards_end, &task.list.guarded, &mut findings);
    let was_asked = matches!(stopped.try_recv(), Err(TryRecvError::Disconnected));
    match ending {
        Ok(Ending::Asked) if was_asked => {}
        Ok(Ending::NothingToEnter) if was_asked || has_ended(&task.sandbox) => {
            findings.losses.extend(task.compare().losses);
        }
        Ok(_) => findings.failure = Some(vanished()),
        Err(error) => findings.failure = Some(error),
    }
    if findings.failure.is_some() {
        // An agent that has ended already is fine.
        let _ = rustix::process::pidfd_send_signal(&task.sandbox, Signal::KILL);
    }
    findings
}

/// How a guard ended that told of no failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As it does when it was asked to.
    Asked,
    /// The sandbox had ended before the guard was in it.
    NothingToEnter,
    /// Killed, or crashed.
    Lost,
}

/// Starts the guard and hears it until it ends.
fn serve(
    control: &Control,
    guards_end: Control,
    guarded: &[Guarded],
    findings: &mut Findings,
) -> Result<Ending, NativeError> {
    // A process group of its own: keys of the terminal do not reach it.
    let mut child = Command::new("/proc/self/exe")
        .arg0(GUARD_NAME)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(guards_end.into_descriptor()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            on_step_call(STEP, "posix_spawn(3)")(errno)
        })?;
    let heard = hear(control, guarded, findings);
    if heard.is_err() {
        let _ = child.kill();
    }
    let status = child.wait();
    heard?;
    Ok(match status.ok().and_then(|status| status.code()) {
        Some(0) => Ending::Asked,
        Some(NOTHING_TO_ENTER) => Ending::NothingToEnter,
        _ => Ending::Lost,
    })
}

fn hear(
    control: &Control,
    guarded: &[Guarded],
    findings: &mut Findings,
) -> Result<(), NativeError> {
    loop {
        match control.receive().map_err(on_step("hear the guard"))? {
            Some((
                Message::Lost {
                    entry,
                    loss,
                    at_most_ms,
                },
                _,
            )) => {
                let lost = guarded
                    .get(entry)
                    .ok_or(NativeError::Protocol { who: GUARD })?;
                let at_most = Duration::from_millis(at_most_ms);
                findings.losses.push((lost.at.clone(), loss, at_most));
            }
            Some((Message::Failed { chain, .. }, _)) => {
                return Err(NativeError::Guard {
                    source: Reported::from_chain(chain),
                });
            }
            Some(_) => return Err(NativeError::Protocol { who: GUARD }),
            None => return Ok(()),
        }
    }
}

/// Writes the list into a file in memory, positioned at its start.
fn list_file(list: &Watchlist) -> Result<OwnedFd, NativeError> {
    let file = rustix::fs::memfd_create("rcc-guard", MemfdFlags::CLOEXEC)
        .map_err(on_step_call(STEP, "memfd_create(2)"))?;
    let mut file = std::fs::File::from(file);
    let failed = |errno| on_step_call(STEP, "write(2)")(errno);
    let text = serde_json::to_vec(list).map_err(|_| failed(Errno::INVAL))?;
    file.write_all(&text)
        .and_then(|()| file.rewind())
        .map_err(|_| failed(Errno::IO))?;
    Ok(file.into())
}

/// Which file a guarded path is on the host.
fn identity(guarded: &Guarded) -> Option<FileIdentity> {
    let stat = rustix::fs::statat(CWD, guarded.host.as_path(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileIdentity {
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

impl Task {
    /// Finds what was replaced in a run that no guard saw.
    fn compare(&self) -> Findings {
        let mut findings = Findings::default();
        for (guarded, before) in self.list.guarded.iter().zip(&self.at_start) {
            let now = identity(guarded);
            // Hidden names of /etc are hidden by name.
            if guarded.protection != Protection::Hidden && now != *before {
                let loss = match now {
                    None => Loss::Gone,
                    // Nobody looked, so whoever wrote it: it is to be looked at.
                    Some(_) => Loss::Written,
                };
                findings
                    .losses
                    .push((guarded.at.clone(), loss, self.since.elapsed()));
            }
        }
        findings
    }
}

/// Waits for the end of a sandbox that has no namespaces any more, and so is about to end.
fn has_ended(sandbox: &OwnedFd) -> bool {
    let mut events = [PollFd::new(sandbox, PollFlags::IN)];
    let longest = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    matches!(
        rustix::io::retry_on_intr(|| poll(&mut events, Some(&longest))),
        Ok(1)
    )
}

fn vanished() -> NativeError {
    let chain = vec![format!("the {GUARD} ended before its time")];
    NativeError::Guard {
        source: Reported::from_chain(chain),
    }
}

fn not_made(call: &'static str) -> impl FnOnce(std::io::Error) -> NativeError {
    move |error| on_step_call(STEP, call)(Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))
}
