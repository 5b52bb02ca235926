//! Commands inside a world: built like `std::process::Command`, ended as a whole tree.
//!
//! Must not leave a process behind, whatever the command did: its `rcc-world job` is a subreaper and kills the rest.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::wire::{JobOrder, JobReport, Process};
use super::{User, World};
use crate::binaries::{Binary, binary, system_tool};

/// How long a command may run when the test says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// In the host namespace, as the world's user.
    Host,
    /// In the inet namespace, as the world's root.
    Inet,
}

/// A command to run in a world; made by [`World::host_command`].
#[derive(Debug)]
#[must_use]
pub struct HostCommand<'world> {
    world: &'world World,
    side: Side,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    directory: Option<PathBuf>,
    stdin: Input,
    stderr: Option<Stdio>,
    stdout: Option<Stdio>,
    timeout: Duration,
    user: Option<User>,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Given(Stdio),
    Kept,
}

impl<'world> HostCommand<'world> {
    pub(super) fn new(world: &'world World, program: &OsStr, side: Side) -> Self {
        Self {
            world,
            side,
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            stdin: Input::Nothing,
            stderr: None,
            stdout: None,
            timeout: DEFAULT_TIMEOUT,
            user: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets a variable; the environment otherwise holds PATH, HOME, USER, LOGNAME, LANG and `XDG_RUNTIME_DIR` only.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Sets variables.
    pub fn envs(
        mut self,
        pairs: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        for (name, value) in pairs {
            self = self.env(name, value);
        }
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets the working directory; it is `$HOME` otherwise.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Gives the command these bytes and then end of file.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Gives the command this as its stdin.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Input::Given(stdin.into());
        self
    }

    /// Keeps a pipe to the command's stdin open until [`Running::close_stdin`].
    pub fn stdin_open(mut self) -> Self {
        self.stdin = Input::Kept;
        self
    }

    /// Sends stdout elsewhere; it is captured otherwise.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Sends stderr elsewhere; it is captured otherwise.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Sets how long it may run; then the whole tree is killed and [`HostCommand::output`] fails the test.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs this one command as another user; only root's worlds have more than one.
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it cannot be started, or its time is over.
    pub fn output(self) -> Output {
        let timeout = self.timeout;
        let output = self.spawn().wait();
        assert!(
            output.ending != Ending::TimedOut,
            "the command was killed after {timeout:?}\n{output}"
        );
        output
    }

    /// Runs the command to its end; a timeout is an [`Ending`], not a panic.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn output_even_if_late(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the command with pipes.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(mut self) -> Running {
        let (stdin, bytes, keeps) = match std::mem::replace(&mut self.stdin, Input::Nothing) {
            Input::Nothing => (Stdio::null(), None, false),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes), false),
            Input::Given(stdio) => (stdio, None, false),
            Input::Kept => (Stdio::piped(), None, true),
        };
        let stdout = self.stdout.take().unwrap_or_else(Stdio::piped);
        let stderr = self.stderr.take().unwrap_or_else(Stdio::piped);
        let mut running = self.start(&[], stdin, stdout, stderr);
        if let Some(bytes) = bytes {
            let mut pipe = running.child.stdin.take().expect("stdin is piped");
            // A command may end without reading everything; that is its business.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        } else if keeps {
            running.stdin = running.child.stdin.take();
        }
        running
    }

    /// Starts the command on a new terminal, as the leader of its session.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn_terminal(self, rows: u16, columns: u16) -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let setsid = system_tool("setsid").expect("setsid of util-linux is installed");
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pty can be opened");
        grantpt(&master).expect("a new pty can be granted");
        unlockpt(&master).expect("a new pty can be unlocked");
        let name = ptsname(&master, Vec::new()).expect("a pty has a name");
        let slave_path = PathBuf::from(name.to_str().expect("pty names are ASCII"));
        if let Some(user) = &self
            .user
            .clone()
            .or_else(|| Some(self.world.user.clone()))
            .filter(|_| self.world.is_root)
        {
            std::os::unix::fs::chown(&slave_path, Some(user.uid), None)
                .expect("root may change owners");
        }
        let slave = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&slave_path)
                .expect("the pty's other end can be opened")
        };
        let terminal = slave();
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&terminal, size).expect("a terminal has a size");
        let prefix = [setsid.into_os_string(), OsString::from("--ctty")];
        let running = self.start(&prefix, slave().into(), slave().into(), slave().into());
        Terminal::new(running, master, terminal)
    }

    /// Builds the chain `nsenter … job … [become] PROGRAM` and starts it.
    fn start(self, prefix: &[OsString], stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Running {
        let world = self.world;
        let user = self.user.clone().unwrap_or_else(|| world.user.clone());
        let number = world.next_job.fetch_add(1, Ordering::Relaxed);
        let socket = world.directory.join(format!("jobs/{number}.sock"));
        let listener =
            UnixListener::bind(&socket).expect("a socket can be made in the world's directory");

        let mut command = Command::new(&world.nsenter);
        command.arg(format!("--target={}", world.ready.init));
        if !world.is_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--"])
            .arg(binary(Binary::World))
            .arg("job")
            .arg(&socket)
            .arg(self.timeout.as_millis().to_string())
            .arg(
                self.directory
                    .clone()
                    .unwrap_or_else(|| self.default_directory()),
            )
            .args(prefix)
            .args(self.become_prefix(&user))
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", super::search_path())
            .env("HOME", self.default_home())
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .env("LANG", "C.UTF-8")
            .env("XDG_RUNTIME_DIR", format!("/run/user/{}", user.uid))
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let started = Instant::now();
        let mut child = command.spawn().expect("nsenter can be started");
        let stdout = child.stdout.take().map(Collector::start);
        let stderr = child.stderr.take().map(Collector::start);
        let shown = format!("{:?} {:?}", self.program, self.arguments);
        let reports = connect(&listener, &mut child, &stderr, &shown, world);
        let _ = std::fs::remove_file(&socket);
        let mut running = Running {
            child,
            stdin: None,
            stdout,
            stderr,
            reports,
            pid: 0,
            started,
            shown,
        };
        match running.read_report() {
            Some(JobReport::Started { pid }) => running.pid = pid,
            other => panic!("{} was not started: {other:?}", running.shown),
        }
        running
    }

    fn default_home(&self) -> PathBuf {
        match self.side {
            Side::Host => self.world.home(),
            Side::Inet => self.world.directory.clone(),
        }
    }

    fn default_directory(&self) -> PathBuf {
        self.default_home()
    }

    /// Gives the words that turn the job's child into the right user, each of which execs the next.
    fn become_prefix(&self, user: &User) -> Vec<OsString> {
        let world = self.world;
        let words: Vec<String> = match (self.side, world.ready.user_holder) {
            (Side::Inet, _) => vec![
                path_text(&world.nsenter),
                format!("--net=/proc/{}/ns/net", world.ready.inet),
                "--".into(),
            ],
            (Side::Host, Some(holder)) => {
                assert_eq!(user, &world.user, "a world that is not root's has one user");
                let target = format!("--user=/proc/{holder}/ns/user");
                vec![
                    path_text(&world.nsenter),
                    target,
                    "--preserve-credentials".into(),
                    "--".into(),
                ]
            }
            (Side::Host, None) if user.uid == 0 => Vec::new(),
            (Side::Host, None) => {
                let setpriv =
                    system_tool("setpriv").expect("setpriv was there when the world was made");
                let ids = [
                    format!("--reuid={}", user.uid),
                    format!("--regid={}", user.gid),
                ];
                let rest = ["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned);
                [path_text(&setpriv)]
                    .into_iter()
                    .chain(ids)
                    .chain(rest)
                    .collect()
            }
        };
        words.into_iter().map(OsString::from).collect()
    }
}

fn path_text(path: &Path) -> String {
    path.to_str()
        .expect("paths of system tools are UTF-8")
        .to_owned()
}

/// Waits for the job to call back, or for its death.
fn connect(
    listener: &UnixListener,
    child: &mut Child,
    stderr: &Option<Collector>,
    shown: &str,
    world: &World,
) -> BufReader<UnixStream> {
    use rustix::event::{PollFd, PollFlags, poll};
    let pid = rustix::process::Pid::from_child(child);
    let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .expect("our child has a pidfd");
    let mut waits = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(&ended, PollFlags::IN),
    ];
    poll(&mut waits, None).expect("poll of two descriptors works");
    let called = !waits[0].revents().is_empty();
    if called {
        let (stream, _) = listener
            .accept()
            .expect("a waiting connection can be accepted");
        return BufReader::new(stream);
    }
    let status = child.wait().expect("our child can be waited for");
    let text = stderr.as_ref().map(Collector::text).unwrap_or_default();
    panic!(
        "{shown}: entering the world failed with {status}: {text}\n{}",
        world.log()
    );
}

/// Reads a pipe to its end on a thread of its own.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl std::io::Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut chunk = vec![0; 65536];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                shared
                    .lock()
                    .expect("no holder of this lock panics")
                    .extend_from_slice(&chunk[..count]);
            }
        });
        Self { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder of this lock panics"))
            .into_owned()
    }

    fn finish(self) -> Vec<u8> {
        self.thread.join().expect("the reader does not panic");
        std::mem::take(&mut *self.bytes.lock().expect("no holder of this lock panics"))
    }
}

/// A started command. Dropping it kills its whole tree.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    stdout: Option<Collector>,
    stderr: Option<Collector>,
    reports: BufReader<UnixStream>,
    pid: u32,
    started: Instant,
    shown: String,
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

    /// Writes to a stdin kept open by [`HostCommand::stdin_open`].
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
    /// When the command ends, or ten seconds pass, before it does.
    pub fn wait_for_text(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
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
        let report = self.read_report();
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

    fn read_report(&mut self) -> Option<JobReport> {
        let mut line = String::new();
        self.reports.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn order(&mut self, order: &JobOrder) {
        let mut line = serde_json::to_string(order).expect("orders are plain data");
        line.push('\n');
        // The job may be over; then there is nothing to signal.
        let _ = self.reports.get_mut().write_all(line.as_bytes());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The job sees the end of the stream, or is already over.
        let _ = self.reports.get_mut().shutdown(std::net::Shutdown::Write);
        let _ = self.child.wait();
    }
}

/// A command on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    running: Running,
    master: std::fs::File,
    slave: std::fs::File,
    screen: Collector,
}

impl Terminal {
    fn new(running: Running, master: OwnedFd, slave: std::fs::File) -> Self {
        let master = std::fs::File::from(master);
        let screen = Collector::start(master.try_clone().expect("a descriptor can be duplicated"));
        Self {
            running,
            master,
            slave,
            screen,
        }
    }

    /// Types these bytes.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        self.master
            .write_all(bytes)
            .expect("the terminal takes input");
    }

    /// Everything shown so far, escape sequences included.
    #[must_use]
    pub fn shown(&self) -> String {
        self.screen.text()
    }

    /// Waits until the terminal has shown this text.
    ///
    /// # Panics
    /// When ten seconds pass before it does.
    pub fn wait_for_text(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.shown().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no `{text}` on the terminal:\n{}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Changes the terminal's size, which sends SIGWINCH to its foreground group.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.master, size).expect("a terminal has a size");
    }

    /// The terminal's settings, to see that a program left them as they were.
    #[must_use]
    pub fn settings(&self) -> rustix::termios::Termios {
        rustix::termios::tcgetattr(&self.slave).expect("a terminal has settings")
    }

    /// The running command.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Waits for the end; `stdout` of the result is what the terminal showed.
    pub fn wait(self) -> Output {
        let Self {
            running,
            master,
            slave,
            screen,
        } = self;
        let mut output = running.wait();
        // With the last slave closed the reader gets EIO and ends.
        drop(slave);
        drop(master);
        output.stdout = screen.finish();
        output
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// Its time was over; it and everything below it was killed.
    TimedOut,
}

/// What a command left.
#[derive(Debug, Clone)]
#[must_use]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// Captured bytes of stdout.
    pub stdout: Vec<u8>,
    /// Captured bytes of stderr.
    pub stderr: Vec<u8>,
    /// From the start of `nsenter` to the last report; about 5 ms of it are the testkit's.
    pub elapsed: Duration,
    /// Processes below the command that outlived it by more than the grace time; they were killed.
    pub survivors: Vec<Process>,
    shown: String,
}

impl Output {
    /// Stdout as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Did it exit with 0?
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Code(0)
    }

    /// The exit code, when it exited.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self.ending {
            Ending::Code(code) => Some(code),
            Ending::Signal(_) | Ending::TimedOut => None,
        }
    }

    /// Fails the test unless the command exited with 0 and left nothing running.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        assert!(self.is_success(), "the command failed\n{self}");
        assert!(
            self.survivors.is_empty(),
            "the command left processes behind\n{self}"
        );
        self
    }

    /// Fails the test unless the command exited with this code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code(),
            Some(code),
            "the command ended otherwise\n{self}"
        );
        self
    }

    /// Reads the last line of stdout as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let text = self.stdout_text();
        let line = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("no JSON on stdout: {error}\n{self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "command: {}\nending: {:?} after {:?}",
            self.shown, self.ending, self.elapsed
        )?;
        if !self.survivors.is_empty() {
            writeln!(f, "survivors: {:?}", self.survivors)?;
        }
        write!(
            f,
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout_text(),
            self.stderr_text()
        )
    }
}
