//! A network of its own for one test: a "host" namespace where the program under test runs, and an "inet" namespace
//! with everything it could talk to.
//!
//! # Theory of operation
//! A test is a thread of a harness, so nothing here changes the test process itself. A world is a tree of processes:
//!
//! ```text
//! test process ──stdin pipe──┐
//! └─ unshare(1)              │   as root: net, mount, pid, ipc, uts; otherwise also a user namespace W
//!    └─ rcc-world init  <────┘   pid 1 of the world, host network namespace
//!       ├─ rcc-world host        listeners on the host's own addresses and loopback
//!       ├─ rcc-world hold        only unprivileged: user namespace H below W, where the caller has its own uid again
//!       └─ rcc-world inet        inet network namespace: servers, dnsmasq, sshd
//! test process
//! └─ nsenter(1)                  one per command
//!    └─ rcc-world job            subreaper, can kill the whole tree
//!       └─ [setpriv | nsenter H] exec PROGRAM
//! ```
//!
//! Nothing is left behind: the end of the test process, however it comes, closes the pipe; init sees the end of file,
//! kills everything, removes the world's directory and exits, and with pid 1 the kernel ends the pid namespace.
//!
//! The machine itself is never changed: `/etc/resolv.conf`, `/etc/hosts`, `/etc/nsswitch.conf`, `/etc/passwd` and
//! `/run` are replaced in the world's private mount namespace only, and no packet can leave, since the world's
//! namespaces have no link to any other.
//!
//! Must not be used to judge the sandbox: it reports what it saw, tests decide.

pub mod addresses;
mod command;
mod config;
mod directory;
mod output;
mod running;
mod terminal;
pub mod wire;
pub mod zone;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use command::HostCommand;
pub use config::{Setup, User, WorldConfig};
pub(crate) use directory::make_directory;
use directory::{lock_directory, log_file, remove_stale_directories};
pub use output::{Ending, Output};
pub use running::Running;
pub use terminal::Terminal;
use wire::{Answer, DnsQuery, HttpRequest, Packet, Process, Question, Ready, Seen};

use crate::binaries::{Binary, binary, system_tool};
use crate::require::require;

/// Why a world could not be started.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A program that every world needs is missing.
    #[error("the test world needs `{tool}`, which is not installed")]
    ToolMissing {
        /// Its name.
        tool: &'static str,
    },
    /// The directory of the world could not be made.
    #[error("cannot make the world's directory {}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The first process could not be started.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The world ended before it was ready.
    #[error("the world ended before it was ready: {log}")]
    NotReady {
        /// Everything that its processes printed.
        log: String,
    },
}

/// Programs without which there is no world at all.
const TOOLS: &[&str] = &["unshare", "nsenter", "setpriv", "ip", "dnsmasq"];

/// A running test world; dropping it ends it.
#[derive(Debug)]
pub struct World {
    directory: PathBuf,
    user: User,
    ready: Ready,
    is_root: bool,
    outer: Child,
    next_job: AtomicU64,
    nsenter: PathBuf,
    /// Held as long as the test process lives; see [`remove_stale_directories`].
    _lock: std::fs::File,
}

impl World {
    /// Starts a world with the default configuration.
    ///
    /// # Errors
    /// When a tool is missing or the world does not come up; the text holds what its processes printed.
    pub fn start() -> Result<Self, WorldError> {
        Self::with(WorldConfig::default())
    }

    /// Starts a world, or gives `None` after a counted skip where the machine cannot have one.
    ///
    /// # Panics
    /// When the machine has all that is needed and the world still does not start.
    #[must_use]
    pub fn start_or_skip() -> Option<Self> {
        Self::with_or_skip(WorldConfig::default())
    }

    /// Like [`World::start_or_skip`], with a configuration.
    ///
    /// # Panics
    /// When the machine has all that is needed and the world still does not start.
    #[must_use]
    pub fn with_or_skip(config: WorldConfig) -> Option<Self> {
        if !TOOLS.iter().all(|tool| require(tool))
            || (!rustix::process::geteuid().is_root() && !require("userns"))
        {
            return None;
        }
        match Self::with(config) {
            Ok(world) => Some(world),
            Err(error) => panic!("cannot start the test world: {error}"),
        }
    }

    /// Starts a world.
    ///
    /// # Errors
    /// When a tool is missing or the world does not come up.
    pub fn with(config: WorldConfig) -> Result<Self, WorldError> {
        for tool in TOOLS {
            tool_path(tool)?;
        }
        let is_root = rustix::process::geteuid().is_root();
        let user = config.user.clone().unwrap_or_else(User::caller);
        remove_stale_directories();
        let directory = make_directory()?;
        let lock = lock_directory(&directory)?;
        config.write_to(&directory, &user, is_root)?;

        let program = tool_path("unshare")?;
        let mut command = Command::new(&program);
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args([
                "--net",
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child=SIGKILL",
            ])
            .args(["--propagation", "private", "--"])
            .arg(binary(Binary::World))
            .arg("init")
            .arg(&directory)
            .env_clear()
            .env("PATH", search_path())
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file(&directory)?);
        let mut outer = command.spawn().map_err(|source| WorldError::Spawn {
            program: program.clone(),
            source,
        })?;
        let stdout = outer.stdout.take().expect("the child's stdout is piped");
        let mut line = String::new();
        // End of file, not a timeout, says that the world failed: its processes die with init.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let Ok(ready) = serde_json::from_str::<Ready>(&line) else {
            let _ = outer.kill();
            let _ = outer.wait();
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            let _ = std::fs::remove_dir_all(&directory);
            return Err(WorldError::NotReady {
                log: format!("{line}{log}"),
            });
        };
        let nsenter = tool_path("nsenter")?;
        Ok(Self {
            directory,
            user,
            ready,
            is_root,
            outer,
            next_job: AtomicU64::new(0),
            nsenter,
            _lock: lock,
        })
    }

    /// Starts building a command that runs in the host namespace as the world's user.
    pub fn host_command(&self, program: impl AsRef<std::ffi::OsStr>) -> HostCommand<'_> {
        HostCommand::new(self, program.as_ref(), command::Side::Host)
    }

    /// Starts building a command that runs in the inet namespace, as an attacker's machine would.
    pub fn inet_command(&self, program: impl AsRef<std::ffi::OsStr>) -> HostCommand<'_> {
        HostCommand::new(self, program.as_ref(), command::Side::Inet)
    }

    /// Runs `rcc-probe` with these words in the host namespace as the world's user: the positive control.
    ///
    /// # Panics
    /// When the words are no probe.
    pub fn probe(
        &self,
        words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
    ) -> crate::probe::Record {
        let probe = self.install(&crate::probe::path());
        let output = self
            .host_command(probe)
            .args(words)
            .current_dir(self.scratch())
            .output();
        crate::probe::Record::of(&output)
    }

    /// The world's own directory: writable for the world's user in [`World::home`] and [`World::scratch`] only.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `$HOME` of the world's user.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.directory.join("home").join(&self.user.name)
    }

    /// A directory of the world's user for projects and whatever else a test makes.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// Makes `path` below [`World::scratch`] with this text, owned by the world's user.
    #[must_use]
    pub fn scratch_file(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch().join(path);
        let parent = path.parent().expect("a file below scratch has a parent");
        std::fs::create_dir_all(parent).expect("scratch is writable");
        std::fs::write(&path, text).expect("scratch is writable");
        self.give_to_user(&self.scratch());
        path
    }

    /// Makes a directory below [`World::scratch`], owned by the world's user.
    #[must_use]
    pub fn scratch_directory(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.scratch().join(path);
        std::fs::create_dir_all(&path).expect("scratch is writable");
        self.give_to_user(&self.scratch());
        path
    }

    /// Copies a program to where the world's user can run it, once, and gives the copy's path.
    ///
    /// A checkout may lie in root's home, which an ordinary user cannot even look into.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn install(&self, program: &Path) -> PathBuf {
        self.install_in(program, &self.directory.join("bin"))
    }

    /// Copies a program into a directory, for example a project, so that it is there inside a sandbox.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn install_in(&self, program: &Path, directory: &Path) -> PathBuf {
        let target = directory.join(program.file_name().expect("a program has a name"));
        if !target.exists() {
            // By another name first: a test that runs at the same time must not see half a program.
            let new = directory.join(format!(
                ".new-{}",
                self.next_job.fetch_add(1, Ordering::Relaxed)
            ));
            crate::copy_program(program, &new);
            std::fs::rename(&new, &target).expect("the directory is writable");
        }
        target
    }

    /// Hands a tree to the world's user; does nothing where the caller is that user.
    pub fn give_to_user(&self, path: &Path) {
        if self.is_root && self.user.uid != 0 {
            config::chown_tree(path, &self.user);
        }
    }

    /// Who the commands of [`World::host_command`] run as.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Process id of the world's first process, as the test sees it; its namespaces are the host's.
    #[must_use]
    pub fn init_pid(&self) -> u32 {
        self.ready.init
    }

    /// The certificate of the authority that signs what the world's HTTPS servers show, as PEM.
    #[must_use]
    pub fn ca_pem_path(&self) -> PathBuf {
        self.directory.join("public/ca.pem")
    }

    /// Private key that `git@git.example` accepts, mode 0600 and owned by the world's user.
    #[must_use]
    pub fn ssh_key_path(&self) -> PathBuf {
        self.directory.join("user/ssh_key")
    }

    /// `known_hosts` line file for `git.example`.
    #[must_use]
    pub fn ssh_known_hosts_path(&self) -> PathBuf {
        self.directory.join("public/known_hosts")
    }

    /// The directory that `https://git.example/NAME` and `ssh://git@git.example/NAME` serve.
    #[must_use]
    pub fn git_root(&self) -> PathBuf {
        self.directory.join("git")
    }

    /// Makes a bare repository `NAME.git` with one commit of these files on branch `main`, served over https and ssh.
    ///
    /// # Panics
    /// When git is missing or fails.
    pub fn make_git_repository(&self, name: &str, files: &[(&str, &str)]) {
        let bare = self.git_root().join(format!("{name}.git"));
        let work = self.directory.join(format!("{name}.work"));
        let git = |arguments: &[&str]| {
            let mut command = Command::new(system_tool("git").expect("git is installed"));
            command.args([
                "-c",
                "user.name=Tester",
                "-c",
                "user.email=tester@example.com",
                "-c",
                "init.defaultBranch=main",
            ]);
            command
                .args(arguments)
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("HOME", "/nonexistent")
                .stdout(Stdio::null());
            let output = command.output().expect("git can be started");
            assert!(
                output.status.success(),
                "git {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let (bare_text, work_text) = (bare.to_string_lossy(), work.to_string_lossy());
        git(&["init", "--quiet", &work_text]);
        for (path, text) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().expect("a file has a parent"))
                .expect("the world's directory is writable");
            std::fs::write(path, text).expect("the world's directory is writable");
        }
        git(&["-C", &work_text, "add", "."]);
        git(&[
            "-C",
            &work_text,
            "commit",
            "--quiet",
            "--message",
            "first commit",
        ]);
        git(&["clone", "--quiet", "--bare", &work_text, &bare_text]);
        std::fs::remove_dir_all(&work).expect("the world's directory is writable");
        if self.is_root {
            config::chown_tree(&bare, &config::service_user(true));
        }
    }

    /// The value for `GIT_SSH_COMMAND` that uses the world's key and knows its host key.
    #[must_use]
    pub fn ssh_command(&self) -> String {
        format!(
            "ssh -F none -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={} -i {}",
            self.ssh_known_hosts_path().display(),
            self.ssh_key_path().display()
        )
    }

    /// Says what one listener saw; `listener` is `ADDRESS:PORT` (TCP) or `udp ADDRESS:PORT`.
    ///
    /// Everything that had connected before the call is counted. A listener that saw nothing gives zeros.
    #[must_use]
    pub fn seen_by(&self, listener: &str) -> Seen {
        let key = if listener.contains(' ') {
            listener.to_owned()
        } else {
            format!("tcp {listener}")
        };
        let address = key
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse::<SocketAddr>().ok());
        assert!(address.is_some(), "`{listener}` is not ADDRESS:PORT");
        self.seen().remove(&key).unwrap_or_default()
    }

    /// Says what all listeners saw, on the host's side and in inet; listeners that saw nothing are not in it.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        let mut all = BTreeMap::new();
        for socket in ["inet", "host"] {
            let Answer::Seen(part) = self.ask(socket, &Question::Seen) else {
                panic!("an answer of another kind")
            };
            all.extend(part);
        }
        all
    }

    /// Says which listeners on `address` saw anything at all, whatever the port.
    #[must_use]
    pub fn seen_at(&self, address: IpAddr) -> BTreeMap<String, Seen> {
        let is_there = |key: &str| {
            key.rsplit(' ')
                .next()
                .and_then(|text| text.parse::<SocketAddr>().ok())
                .is_some_and(|it| it.ip() == address)
        };
        self.seen()
            .into_iter()
            .filter(|(key, _)| is_there(key))
            .collect()
    }

    /// Gives every HTTP request that was served, by the host's listeners too.
    #[must_use]
    pub fn http_requests(&self) -> Vec<HttpRequest> {
        let mut all = Vec::new();
        for socket in ["inet", "host"] {
            let Answer::Requests(part) = self.ask(socket, &Question::Requests) else {
                panic!("an answer of another kind")
            };
            all.extend(part);
        }
        all
    }

    /// Gives every question that the resolver (dnsmasq) has seen, in order.
    ///
    /// What was on its way before the call is in it: a question of our own over UDP and one over TCP go last and are
    /// waited for. Names that dnsmasq cannot print appear as `<name unprintable>`; [`World::packets`] has their bytes.
    #[must_use]
    pub fn dns_queries(&self) -> Vec<DnsQuery> {
        static MARK: AtomicU64 = AtomicU64::new(0);
        let mark = format!(
            "mark-{}-{}.testkit.invalid",
            std::process::id(),
            MARK.fetch_add(1, Ordering::Relaxed)
        );
        for transport in ["udp", "tcp"] {
            let program = binary(Binary::World);
            self.inet_command(program)
                .args(["ask", transport, &mark])
                .timeout(Duration::from_secs(20))
                .output()
                .assert_success();
        }
        let log = std::fs::read_to_string(self.directory.join("service/dnsmasq.log"))
            .expect("dnsmasq's log is readable");
        let queries: Vec<DnsQuery> = log.lines().filter_map(parse_dnsmasq_line).collect();
        assert_eq!(
            queries.iter().filter(|query| query.name == mark).count(),
            2,
            "dnsmasq did not log both marks"
        );
        queries
            .into_iter()
            .filter(|query| !query.name.ends_with(".testkit.invalid"))
            .collect()
    }

    /// Gives every question that the strange name server has seen, all names below `attacker.example` included.
    #[must_use]
    pub fn strange_queries(&self) -> Vec<DnsQuery> {
        let Answer::StrangeQueries(queries) = self.ask("inet", &Question::StrangeQueries) else {
            panic!("an answer of another kind")
        };
        queries
    }

    /// Gives every packet that left the host, in order.
    ///
    /// # Panics
    /// When packets were lost, which only bulk transfers can cause: [`World::forget`] first.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        match self.ask("inet", &Question::Packets) {
            Answer::Packets(packets) => packets,
            Answer::Failed(reason) => panic!("no packet record: {reason}"),
            _ => panic!("an answer of another kind"),
        }
    }

    /// Gives every request that the stand-in of the Messages API got, as recorded.
    #[must_use]
    pub fn messages_requests(&self) -> Vec<serde_json::Value> {
        let Answer::Messages(messages) = self.ask("inet", &Question::Messages) else {
            panic!("an answer of another kind")
        };
        messages
    }

    /// Gives all processes in the world, those of commands and of sandboxes included.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let Answer::Processes(processes) = self.ask("init", &Question::Processes) else {
            panic!("an answer of another kind")
        };
        processes
    }

    /// Waits until a process of the world has ended: it is reaped or waits for its parent to do so.
    ///
    /// # Panics
    /// When it is still there after a minute.
    pub fn wait_for_end_of(&self, pid: u32) {
        let deadline = Instant::now() + crate::patience(Duration::from_secs(60));
        let lives = |process: &Process| process.pid == pid && process.state != 'Z';
        while self.processes().iter().any(lives) {
            assert!(Instant::now() < deadline, "process {pid} does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resets counters, requests, packets and recorded messages (not dnsmasq's log).
    pub fn forget(&self) {
        for socket in ["inet", "host"] {
            let answer = self.ask(socket, &Question::Forget);
            assert!(matches!(answer, Answer::Done), "{answer:?}");
        }
    }

    /// Everything that the world's own processes have printed, for a failing test's message.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn ask(&self, who: &str, question: &Question) -> Answer {
        let path = self.directory.join(format!("{who}.sock"));
        let mut stream = UnixStream::connect(&path).unwrap_or_else(|error| {
            panic!(
                "{} does not answer: {error}\n{}",
                path.display(),
                self.log()
            )
        });
        let mut line = serde_json::to_string(question).expect("questions are plain data");
        line.push('\n');
        stream
            .write_all(line.as_bytes())
            .expect("the world reads questions");
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .expect("the world answers questions");
        serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("not an answer: {error}: {answer}\n{}", self.log()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // End of file on its stdin ends init, which ends everything else and removes the directory.
        drop(self.outer.stdin.take());
        let _ = self.outer.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Reads one line of dnsmasq's log: `… 7 203.0.113.1/4242 query[A] name from 203.0.113.1`.
fn parse_dnsmasq_line(line: &str) -> Option<DnsQuery> {
    let (_, rest) = line.split_once(" query[")?;
    let (record_type, rest) = rest.split_once("] ")?;
    let (name, from) = rest.rsplit_once(" from ")?;
    Some(DnsQuery {
        name: name.to_owned(),
        record_type: record_type.to_owned(),
        from: from.to_owned(),
    })
}

fn tool_path(tool: &'static str) -> Result<PathBuf, WorldError> {
    system_tool(tool).ok_or(WorldError::ToolMissing { tool })
}

/// The caller's search path with the `sbin` directories, so that the world's user finds what the test found.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsmasq_lines_are_read() {
        let line = "Nov 22 16:05:29 dnsmasq[6]: 1 203.0.113.1/49726 query[AAAA] a.example from 203.0.113.1";
        let query = parse_dnsmasq_line(line).unwrap();
        assert_eq!(
            (query.name.as_str(), query.record_type.as_str()),
            ("a.example", "AAAA")
        );
        assert_eq!(
            parse_dnsmasq_line("Nov 22 16:05:29 dnsmasq[6]: config a.example is 1.2.3.4"),
            None
        );
    }
}
