//! A user's machine in small, for tests that attack the sandbox: a home with secrets, a project, and things beside it.
//!
//! One test world (`rcc_testkit::world`) serves a whole test program: its own mount and pid namespaces, its own `/run`,
//! no way to the machine's processes. Each test has a scene of its own in it and shares nothing with the others.
//!
//! Must not judge: it runs probes outside and inside and gives their records; what a refusal looks like is the test's.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod guard;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::{HostCommand, Output, Running, World};

/// The program under test.
pub(crate) const RCC: &str = env!("CARGO_BIN_EXE_rcc");

/// What every secret of a scene says; a test that finds it inside has found a hole.
pub(crate) const SECRET: &str = "secret of the host";

/// Gives the world of this test program, made by the first test that asks.
pub(crate) fn world() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    WORLD.get_or_init(World::start_or_skip).as_ref()
}

/// One user's machine.
///
/// ```text
/// BASE/home                  $HOME
/// BASE/home/.ssh/id          secret
/// BASE/home/git/library      a repository that is granted read-only
/// BASE/home/work/project     the project, a repository; where everything is started
/// BASE/home/work/other       another project
/// BASE/outside/secret        not granted
/// ```
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) world: &'static World,
    pub(crate) base: PathBuf,
}

impl Scene {
    /// Makes the scene called `name`; names must differ within a test program.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let world = world()?;
        let base = world.scratch().join(name);
        std::fs::create_dir(&base).unwrap();
        let scene = Self { world, base };
        for path in [
            "home/.ssh/id",
            "home/.aws/credentials",
            "home/git/library/secret-of-library",
            "home/work/other/file",
            "outside/secret",
        ] {
            scene.file(path, SECRET);
        }
        scene.file("home/work/project/file", "of the project\n");
        for repository in ["home/git/library", "home/work/other", "home/work/project"] {
            scene.repository(repository);
        }
        Some(scene)
    }

    /// `$HOME` of the caller.
    pub(crate) fn home(&self) -> PathBuf {
        self.base.join("home")
    }

    /// The project.
    pub(crate) fn project(&self) -> PathBuf {
        self.base.join("home/work/project")
    }

    /// A path below the scene, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.base.join(name).to_str().unwrap().to_owned()
    }

    /// The agent home of runs without an agent, on the host.
    pub(crate) fn agent_home(&self) -> PathBuf {
        self.home().join(".local/share/rcc/homes/default")
    }

    /// Writes a file of the user's below the scene, with its parents.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.base.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        self.world.give_to_user(&self.base);
        path
    }

    /// Writes the least that git takes for a repository: no program of the machine is needed for it.
    pub(crate) fn repository(&self, name: &str) {
        for (file, text) in [
            ("HEAD", "ref: refs/heads/main\n"),
            (
                "config",
                "[core]\n\trepositoryformatversion = 0\n\tbare = false\n",
            ),
            ("hooks/pre-commit.sample", "#!/bin/sh\n"),
            ("info/exclude", ""),
            ("objects/info/.keep", ""),
            ("refs/heads/.keep", ""),
        ] {
            self.file(&format!("{name}/.git/{file}"), text);
        }
    }

    /// Reads a file of the scene from the host.
    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.base.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Begins a command of the user, in the project, outside the sandbox.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> HostCommand<'static> {
        self.world
            .host_command(program)
            .current_dir(self.project())
            .env("HOME", self.home())
    }

    /// Begins `rcc` with these arguments.
    pub(crate) fn rcc(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> HostCommand<'static> {
        self.command(RCC).args(arguments)
    }

    /// Begins `rcc run` with these flags and the probe in reach, up to the command.
    pub(crate) fn run(&self, flags: &[&str]) -> HostCommand<'static> {
        self.rcc(["run"])
            .args(flags)
            .arg("--ro")
            .arg(probe::path())
            .arg("--")
    }

    /// Runs `sh -c SCRIPT` in the sandbox, with the probe as `$0`.
    pub(crate) fn sh(&self, flags: &[&str], script: &str) -> Output {
        self.run(flags)
            .args(["sh", "-c", script])
            .arg(probe::path())
            .output()
    }

    /// Runs one probe outside, as the user: the positive control.
    #[track_caller]
    pub(crate) fn outside(&self, words: &[&str]) -> Record {
        Record::of(&self.command(probe::path()).args(words).output())
    }

    /// Runs one probe in a sandbox of its own, without a network.
    #[track_caller]
    pub(crate) fn inside(&self, words: &[&str]) -> Record {
        self.inside_with(&["-n"], words)
    }

    /// Runs one probe in a sandbox of its own with these flags.
    #[track_caller]
    pub(crate) fn inside_with(&self, flags: &[&str], words: &[&str]) -> Record {
        Record::of(&self.run(flags).arg(probe::path()).args(words).output())
    }

    /// Runs many probes one after the other in one sandbox; a record for each, in order.
    #[track_caller]
    pub(crate) fn inside_all(&self, flags: &[&str], lines: &[Vec<&str>]) -> Vec<Record> {
        let output = self.sh(flags, &script(lines));
        records(&output, lines.len())
    }

    /// Runs many probes outside.
    #[track_caller]
    pub(crate) fn outside_all(&self, lines: &[Vec<&str>]) -> Vec<Record> {
        let output = self
            .command("sh")
            .args(["-c", &script(lines)])
            .arg(probe::path())
            .output();
        records(&output, lines.len())
    }

    /// Runs one probe with every capability over new user, mount, network, pid, IPC and UTS namespaces: the positive
    /// control of calls for which an ordinary user has no right on the host.
    #[track_caller]
    pub(crate) fn privileged(&self, words: &[&str]) -> Record {
        let output = self
            .command("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "--net",
                "--pid",
                "--ipc",
                "--uts",
                "--fork",
                "--mount-proc",
                "--",
            ])
            .arg(probe::path())
            .args(words)
            .output();
        Record::of(&output)
    }

    /// Fails unless each of these works outside and is refused inside with the errno beside it.
    #[track_caller]
    pub(crate) fn assert_stopped(&self, attacks: &[(Vec<&str>, &[&str])]) {
        self.assert_stopped_with(&["-n"], attacks);
    }

    /// The same, in a sandbox with these flags.
    #[track_caller]
    pub(crate) fn assert_stopped_with(&self, flags: &[&str], attacks: &[(Vec<&str>, &[&str])]) {
        let lines: Vec<Vec<&str>> = attacks.iter().map(|(words, _)| words.clone()).collect();
        // Inside first: what works outside may change what is there.
        let inside = self.inside_all(flags, &lines);
        for ((words, errnos), record) in attacks.iter().zip(&inside) {
            let errno = record.errno.as_deref().unwrap_or("no errno");
            assert!(
                !record.ok && errnos.contains(&errno),
                "inside, {words:?} should have been {errnos:?}: {record:?}"
            );
        }
        for (words, record) in lines.iter().zip(self.outside_all(&lines)) {
            assert!(
                record.ok,
                "the positive control {words:?} failed outside: {record:?}"
            );
        }
    }

    /// What the sandbox's filter decides about these calls (`CALL[:ARGUMENT…]`), without making them.
    #[track_caller]
    pub(crate) fn filter(
        &self,
        flags: &[&str],
        calls: &[&str],
    ) -> serde_json::Map<String, serde_json::Value> {
        let watch = self
            .command(probe::path())
            .args(["filter-watch", RCC, "run"]);
        let output = watch
            .args(flags)
            .arg("--ro")
            .arg(probe::path())
            .arg("--")
            .arg(probe::path())
            .arg("filter-ask")
            .args(calls)
            .output();
        answers(&output)
    }

    /// What is decided about these calls without a sandbox.
    #[track_caller]
    pub(crate) fn filter_outside(
        &self,
        calls: &[&str],
    ) -> serde_json::Map<String, serde_json::Value> {
        let output = self
            .command(probe::path())
            .arg("filter-watch")
            .arg(probe::path())
            .arg("filter-ask")
            .args(calls)
            .output();
        answers(&output)
    }

    /// Starts a process of the user outside, to aim at. It holds a secret in its environment and in a descriptor.
    pub(crate) fn victim(&self) -> Running {
        let victim = self
            .command("sh")
            .args([
                "-c",
                "exec 7<\"$1\"; echo up; exec sleep 600",
                "sh",
                &self.path("outside/secret"),
            ])
            .env("VICTIM_SECRET", SECRET)
            .spawn();
        victim.wait_for_text("up");
        victim
    }

    /// Starts a service of the user outside, on these addresses (see the probe `unix-serve`).
    pub(crate) fn serve(&self, addresses: &[&str]) -> Running {
        let service = self
            .command(probe::path())
            .arg("unix-serve")
            .args(addresses)
            .spawn();
        service.wait_for_text("ready");
        service
    }

    /// Is the caller of rcc root?
    pub(crate) fn is_root(&self) -> bool {
        self.world.user().uid == 0
    }
}

/// The words as a shell script that runs the probe `$0` once for each line.
fn script(lines: &[Vec<&str>]) -> String {
    let quote = |word: &&str| format!("'{}'", word.replace('\'', r"'\''"));
    lines
        .iter()
        .map(|words| {
            format!(
                "\"$0\" {}\n",
                words.iter().map(quote).collect::<Vec<_>>().join(" ")
            )
        })
        .collect()
}

#[track_caller]
fn records(output: &Output, expected: usize) -> Vec<Record> {
    let text = output.assert_success().stdout_text();
    let records: Vec<Record> = text.lines().map(Record::from_text).collect();
    assert_eq!(
        records.len(),
        expected,
        "a record for every probe\n{output}"
    );
    records
}

/// The record of `filter-ask`, which is followed by that of `filter-watch`.
#[track_caller]
fn answers(output: &Output) -> serde_json::Map<String, serde_json::Value> {
    let text = output.assert_success().stdout_text();
    let line = text.lines().next().unwrap_or_default();
    let record = Record::from_text(line);
    assert_eq!(
        (record.probe.as_str(), record.ok),
        ("filter-ask", true),
        "{output}"
    );
    record.detail.as_object().unwrap().clone()
}

/// Whether something is there, a dangling link included.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
