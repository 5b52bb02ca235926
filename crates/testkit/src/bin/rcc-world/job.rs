//! One command of a test, inside the world: starts it, waits for it, reports, and leaves nothing below it alive.
//!
//! Arguments: report socket, timeout in milliseconds, working directory, command…
//! Must not run a second thread: the command is forked from here.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use rcc_testkit::world::wire::{JobOrder, JobReport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, set_child_subreaper, wait,
};

use crate::{Failure, log, processes};

/// How long descendants may go on after the command's own end before they count as left behind.
///
/// The kernel tears a pid namespace down after its first process has been seen to end, so zero would be a race.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("job: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn try_run(arguments: &[OsString]) -> Result<(), Failure> {
    let [socket, timeout, directory, program, rest @ ..] = arguments else {
        return Err("too few arguments".into());
    };
    let timeout = Duration::from_millis(timeout.to_str().ok_or("odd timeout")?.parse()?);
    let mut reports = UnixStream::connect(Path::new(socket))
        .map_err(|error| format!("cannot reach {}: {error}", socket.to_string_lossy()))?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let child = match Command::new(program)
        .args(rest)
        .current_dir(directory)
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            let reason = format!("{}: {error}", program.to_string_lossy());
            return report(&mut reports, &JobReport::NotStarted { reason });
        }
    };
    let pid = child.id();
    // The command must be the only reader of its stdin, or its writer never learns that it has ended.
    let (ended, _) = rustix::pipe::pipe()?;
    rustix::stdio::dup2_stdin(&ended)?;
    report(&mut reports, &JobReport::Started { pid })?;
    let (status, timed_out) = supervise(child, &mut reports, Instant::now() + timeout)?;
    let survivors = wait_for_descendants(if timed_out { Duration::ZERO } else { GRACE })?;
    let survivors = if timed_out { Vec::new() } else { survivors };
    use std::os::unix::process::ExitStatusExt as _;
    let end = JobReport::Ended {
        code: status.code(),
        signal: status.signal(),
        timed_out,
        survivors,
    };
    report(&mut reports, &end)
}

fn report(stream: &mut UnixStream, report: &JobReport) -> Result<(), Failure> {
    let mut line = serde_json::to_string(report)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    Ok(())
}

/// Waits for the command's own end while it takes orders.
fn supervise(
    mut child: Child,
    orders: &mut UnixStream,
    deadline: Instant,
) -> Result<(ExitStatus, bool), Failure> {
    let pid = Pid::from_child(&child);
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let mut pending = Vec::new();
    let mut listens = true;
    let mut timed_out = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() && !timed_out {
            timed_out = true;
            kill_descendants();
        }
        let timespec = Timespec {
            tv_sec: i64::try_from(left.as_secs())?,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut waits = vec![PollFd::new(&ended, PollFlags::IN)];
        let order_fd = orders.as_fd();
        if listens {
            waits.push(PollFd::from_borrowed_fd(order_fd, PollFlags::IN));
        }
        match poll(&mut waits, if timed_out { None } else { Some(&timespec) }) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_ended = !waits[0].revents().is_empty();
        let has_order = waits.get(1).is_some_and(|wait| !wait.revents().is_empty());
        drop(waits);
        if has_ended {
            return Ok((child.wait()?, timed_out));
        }
        if has_order {
            let mut chunk = [0; 4096];
            match orders.read(&mut chunk)? {
                // The test has let go of the command.
                0 => {
                    listens = false;
                    kill_descendants();
                }
                count => pending.extend_from_slice(&chunk[..count]),
            }
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match serde_json::from_slice(&line)? {
                    JobOrder::Signal(number) => {
                        if let Some(signal) = Signal::from_named_raw(number) {
                            let _ = kill_process(pid, signal);
                        }
                    }
                    JobOrder::KillTree => kill_descendants(),
                }
            }
        }
    }
}

/// Reaps what the command left; kills what is left after `grace` and gives it.
fn wait_for_descendants(
    grace: Duration,
) -> Result<Vec<rcc_testkit::world::wire::Process>, Failure> {
    let deadline = Instant::now() + grace;
    let own = std::process::id();
    let mut survivors = Vec::new();
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left: Vec<u32> = processes::descendants(own)
            .into_iter()
            .filter(|pid| !processes::is_zombie(*pid))
            .collect();
        let Some(first) = left
            .first()
            .and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
        else {
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            return Ok(survivors);
        };
        if Instant::now() >= deadline {
            if survivors.is_empty() {
                survivors = left
                    .iter()
                    .filter_map(|pid| processes::read(*pid))
                    .collect();
            }
            kill_descendants();
        }
        // Wakes up when that one ends; at the latest after 10 ms, to look for new ones and at the clock.
        if let Ok(ended) = pidfd_open(first, PidfdFlags::empty()) {
            let pause = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            let _ = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&pause));
        }
    }
}

fn kill_descendants() {
    for pid in processes::descendants(std::process::id()) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
