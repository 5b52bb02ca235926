//! How the tests call the real `rcc` inside a test world: one project, one audit log, one agent home each.
//!
//! Must stay small, and must not judge: what a refusal looks like is each test's own business.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses its own part; a broken fixture must fail the test"
)]

pub(crate) mod agents;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rcc_testkit::patience_ms;
use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::{HostCommand, Output, World};
use serde_json::Value;

/// The program under test: cargo's, or the copy beside the testkit's programs where the checkout cannot be read.
pub(crate) fn program() -> PathBuf {
    let copy =
        std::env::var_os("RCC_TESTKIT_BIN_DIR").map(|directory| Path::new(&directory).join("rcc"));
    copy.filter(|copy| copy.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_rcc").into())
}

/// A place to call `rcc` from: a project of its own in the home of the world's user.
#[derive(Debug)]
pub(crate) struct Place<'world> {
    /// The world it lies in.
    pub(crate) world: &'world World,
    /// The project, which is the working directory of every call.
    pub(crate) project: PathBuf,
    /// Where `--audit` of [`Place::run`] writes.
    pub(crate) audit: PathBuf,
}

impl<'world> Place<'world> {
    /// Makes the project `name`; names must differ within a world.
    pub(crate) fn new(world: &'world World, name: &str) -> Self {
        let project = world.home().join(name);
        std::fs::create_dir(&project).unwrap();
        world.give_to_user(&world.home());
        // Beside the home: the log must lie where the sandbox has nothing.
        let audit = world
            .scratch_directory("audit")
            .join(format!("{name}.jsonl"));
        Self {
            world,
            project,
            audit,
        }
    }

    /// Writes a file of the project, owned by the world's user.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        self.world.give_to_user(&self.project);
        path
    }

    /// Begins `rcc` with these arguments and nothing else.
    pub(crate) fn rcc(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> HostCommand<'world> {
        self.world
            .host_command(program())
            .args(arguments)
            .current_dir(&self.project)
    }

    /// Begins `rcc run` with these flags and the audit log, up to the command.
    pub(crate) fn run(&self, flags: &[&str]) -> HostCommand<'world> {
        self.rcc(["run"])
            .args(flags)
            .arg("--audit")
            .arg(&self.audit)
            .arg("--")
    }

    /// Runs `sh -c SCRIPT` in the sandbox.
    pub(crate) fn sh(&self, flags: &[&str], script: &str) -> Output {
        self.run(flags).args(["sh", "-c", script]).output()
    }

    /// Begins `rcc run` with the probe in reach; its words follow.
    pub(crate) fn probe_command(&self, flags: &[&str]) -> HostCommand<'world> {
        let program = probe::path();
        self.rcc(["run"])
            .args(flags)
            .arg("--audit")
            .arg(&self.audit)
            .arg("--ro")
            .arg(&program)
            .arg("--")
            .arg(program)
    }

    /// Runs one probe in a sandbox of its own.
    #[track_caller]
    pub(crate) fn probe(&self, flags: &[&str], words: &[&str]) -> Record {
        Record::of(&self.probe_command(flags).args(words).output())
    }

    /// Runs many probes one after the other in one sandbox; a record for each, in order.
    #[track_caller]
    pub(crate) fn probes(&self, flags: &[&str], lines: &[Vec<String>]) -> (Vec<Record>, Output) {
        let program = probe::path();
        let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
        let script: String = lines
            .iter()
            .map(|words| {
                format!(
                    "\"$0\" {}\n",
                    words.iter().map(quote).collect::<Vec<_>>().join(" ")
                )
            })
            .collect();
        let path = self.file("probes.sh", script);
        let output = self
            .rcc(["run"])
            .args(flags)
            .arg("--audit")
            .arg(&self.audit)
            .arg("--ro")
            .arg(&program)
            // `. FILE` keeps the shell's `$0`, which is the probe here.
            .args(["--", "sh", "-c", ". ./probes.sh"])
            .arg(&program)
            .output();
        assert!(path.exists());
        let text = output.assert_success().stdout_text();
        let records: Vec<Record> = text.lines().map(Record::from_text).collect();
        assert_eq!(
            records.len(),
            lines.len(),
            "a record for every probe\n{output}"
        );
        (records, output)
    }

    /// The audit log of all runs so far, one value a line.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap_or_default();
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// The audit log in short lines, in order: see [`brief`].
    pub(crate) fn briefs(&self) -> Vec<String> {
        self.events().iter().map(brief).collect()
    }

    /// Empties the audit log between two parts of a test.
    pub(crate) fn forget_events(&self) {
        if self.audit.exists() {
            std::fs::write(&self.audit, "").unwrap();
        }
    }
}

/// One event without what differs from run to run: `EVENT NAME ADDRESS:PORT QUESTION RCODE VERDICT REASON`, absent
/// parts left out.
pub(crate) fn brief(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().map(str::to_owned);
    let port = event["port"].as_u64().map(|port| format!("port={port}"));
    ["event", "name", "address"]
        .into_iter()
        .map(text)
        .chain([port])
        .chain(
            ["question", "rcode", "verdict", "reason"]
                .into_iter()
                .map(text),
        )
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Words of a probe.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Fails when refusals are not immediate: the median of this test's so far is below 100 ms, and none comes near a time-out.
///
/// Not each single one, which would measure how busy the machine is.
#[track_caller]
pub(crate) fn assert_soon(milliseconds: f64, what: &str) {
    thread_local! {
        static SEEN: std::cell::RefCell<Vec<f64>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    assert!(
        milliseconds < patience_ms(2000),
        "{what} took {milliseconds} ms"
    );
    let median = SEEN.with_borrow_mut(|seen| {
        let place = seen.partition_point(|known| *known < milliseconds);
        seen.insert(place, milliseconds);
        seen[(seen.len() - 1) / 2]
    });
    assert!(
        median < patience_ms(100),
        "{what}: the median of refusals is {median} ms"
    );
}
