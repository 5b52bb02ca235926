//! A started command: its output so far, signals to it, and its end.
//!
//! Must not leave the command running when it is dropped: its job then kills the whole tree.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::output::{Ending, Output};
use super::wire::{JobOrder, JobReport};

/// Reads a pipe to its end on a thread of its own.
#[derive(Debug)]
pub(super) struct Collector {
    shared: Arc<Mutex<Collected>>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Collected {
    pipe: OwnedFd,
    bytes: Vec<u8>,
    is_over: bool,
}

impl Collected {
    /// Takes what lies in the pipe now. Nobody else reads from it, so what is ready can be read without waiting.
    fn drain(&mut self) {
        let mut chunk = vec![0; 65536];
        while !self.is_over {
            let at_once = Timespec::default();
            let is_ready = poll(
                &mut [PollFd::new(&self.pipe, PollFlags::IN)],
                Some(&at_once),
            );
            if is_ready != Ok(1) {
                return;
            }
            match rustix::io::read(&self.pipe, &mut chunk) {
                Ok(count @ 1..) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(Errno::INTR) => {}
                // The end of a pipe, or EIO of a terminal that nobody has open any more.
                Ok(_) | Err(_) => self.is_over = true,
            }
        }
    }
}

impl Collector {
    pub(super) fn start(pipe: impl Into<OwnedFd>) -> Self {
        let pipe = pipe.into();
        let waiting = pipe.try_clone().expect("a descriptor can be copied");
        let shared = Arc::new(Mutex::new(Collected {
            pipe,
            bytes: Vec::new(),
            is_over: false,
        }));
        let collected = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            loop {
                let _ = poll(&mut [PollFd::new(&waiting, PollFlags::IN)], None);
                let mut collected = collected.lock().expect("no holder of this lock panics");
                collected.drain();
                if collected.is_over {
                    return;
                }
            }
        });
        Self { shared, thread }
    }

    fn now(&self) -> MutexGuard<'_, Collected> {
        let mut collected = self.shared.lock().expect("no holder of this lock panics");
        collected.drain();
        collected
    }

    /// Everything that has been written until now.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.now().bytes).into_owned()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let Self { shared, thread } = self;
        thread.join().expect("the reader does not panic");
        std::mem::take(&mut shared.lock().expect("no holder of this lock panics").bytes)
    }
}

/// A started command. Dropping it kills its whole tree.
#[derive(Debug)]
pub struct Running {
    pub(super) child: Child,
    pub(super) stdin: Option<std::process::ChildStdin>,
    pub(super) stdout: Option<Collector>,
    pub(super) stderr: Option<Collector>,
    pub(super) reports: BufReader<UnixStream>,
    pub(super) pid: u32,
    pub(super) started: Instant,
    pub(super) shown: String,
}

impl Running {
    /// The command's process id inside the world.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to the command itself, not to what it started.
    pub fn signal(&mut self, signal: i32) {
        self.order(&JobOrder::Signal(signal));
    }

    /// Kills the command and everything below it.
    pub fn kill_tree(&mut self) {
        self.order(&JobOrder::KillTree);
    }

    /// Writes to a stdin kept open by `HostCommand::stdin_open`.
    pub fn write_stdin(&mut self, bytes: &[u8]) {
        let pipe = self.stdin.as_mut().expect("stdin was kept open");
        pipe.write_all(bytes)
            .and_then(|()| pipe.flush())
            .expect("the command reads its stdin");
    }

    /// Closes a stdin kept open.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What has been captured from stdout so far.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        self.stdout
            .as_ref()
            .map(Collector::text)
            .unwrap_or_default()
    }

    /// What has been captured from stderr so far.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        self.stderr
            .as_ref()
            .map(Collector::text)
            .unwrap_or_default()
    }

    /// Waits until stdout or stderr holds this text.
    ///
    /// # Panics
    /// When the command ends, or a minute passes, before it does.
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for_text_within(text, Duration::from_secs(60));
    }

    /// As [`Running::wait_for_text`], for commands that take their time.
    ///
    /// # Panics
    /// When the command ends, or this time passes, before it does.
    pub fn wait_for_text_within(&self, text: &str, time: Duration) {
        let deadline = Instant::now() + crate::patience(time);
        loop {
            let is_over = self.reader_is_done();
            let (stdout, stderr) = (self.stdout_so_far(), self.stderr_so_far());
            if stdout.contains(text) || stderr.contains(text) {
                return;
            }
            assert!(
                !is_over && Instant::now() < deadline,
                "{}: no `{text}` in\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
                self.shown
            );
            // A poll of shared memory with a deadline: the end of the loop is an event, not this pause.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn reader_is_done(&self) -> bool {
        [&self.stdout, &self.stderr]
            .into_iter()
            .flatten()
            .all(|collector| collector.thread.is_finished())
    }

    /// Waits for the end of the command and of everything below it.
    ///
    /// # Panics
    /// When the job itself is killed, which only a broken world can cause.
    pub fn wait(mut self) -> Output {
        self.stdin = None;
        let report = read_report(&mut self.reports);
        let elapsed = self.started.elapsed();
        let stdout = self
            .stdout
            .take()
            .map(Collector::finish)
            .unwrap_or_default();
        let stderr = self
            .stderr
            .take()
            .map(Collector::finish)
            .unwrap_or_default();
        let _ = self.child.wait();
        let (ending, survivors) = match report {
            Some(JobReport::Ended {
                timed_out: true,
                survivors,
                ..
            }) => (Ending::TimedOut, survivors),
            Some(JobReport::Ended {
                code: Some(code),
                survivors,
                ..
            }) => (Ending::Code(code), survivors),
            Some(JobReport::Ended {
                signal: Some(signal),
                survivors,
                ..
            }) => (Ending::Signal(signal), survivors),
            other => panic!("{}: the job ended with {other:?}", self.shown),
        };
        Output {
            ending,
            stdout,
            stderr,
            elapsed,
            survivors,
            shown: std::mem::take(&mut self.shown),
        }
    }

    fn order(&mut self, order: &JobOrder) {
        let mut line = serde_json::to_string(order).expect("orders are plain data");
        line.push('\n');
        // The job may be over; then there is nothing to signal.
        let _ = self.reports.get_mut().write_all(line.as_bytes());
    }
}

/// Reads one report; nothing when the stream ends or what comes is none.
pub(super) fn read_report(reports: &mut BufReader<UnixStream>) -> Option<JobReport> {
    let mut line = String::new();
    reports.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

impl Drop for Running {
    fn drop(&mut self) {
        // The job sees the end of the stream, or is already over.
        let _ = self.reports.get_mut().shutdown(std::net::Shutdown::Write);
        let _ = self.child.wait();
    }
}
