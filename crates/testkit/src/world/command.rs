//! Commands inside a world: built like `std::process::Command`, ended as a whole tree.
//!
//! Must not leave a process behind, whatever the command did: its `rcc-world job` is a subreaper and kills the rest.

use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::output::{Ending, Output};
use super::running::{Collector, Running, read_report};
use super::terminal::Terminal;
use super::wire::JobReport;
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
            timeout: crate::patience(DEFAULT_TIMEOUT),
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
        self.timeout = crate::patience(timeout);
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
        let (reports, first) = connect(&listener, &mut child, &stderr, &shown, world);
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
        match first {
            JobReport::Started { pid } => running.pid = pid,
            other => {
                let status = running.child.wait();
                let stderr = running.stderr.as_ref().map(Collector::text);
                panic!(
                    "{} was not started: {other:?}, its job: {status:?} {stderr:?}\n{}",
                    running.shown,
                    world.log()
                )
            }
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
) -> (BufReader<UnixStream>, JobReport) {
    use rustix::event::{PollFd, PollFlags, poll};
    let pid = rustix::process::Pid::from_child(child);
    let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .expect("our child has a pidfd");
    loop {
        let mut waits = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(&ended, PollFlags::IN),
        ];
        poll(&mut waits, None).expect("poll of two descriptors works");
        if waits[0].revents().is_empty() {
            break;
        }
        let (stream, _) = listener
            .accept()
            .expect("a waiting connection can be accepted");
        // A probe of another test may knock at every socket that it finds; it has nothing to report.
        let mut reports = BufReader::new(stream);
        if let Some(report) = read_report(&mut reports) {
            return (reports, report);
        }
    }
    let status = child.wait().expect("our child can be waited for");
    let text = stderr.as_ref().map(Collector::text).unwrap_or_default();
    panic!(
        "{shown}: entering the world failed with {status}: {text}\n{}",
        world.log()
    );
}
