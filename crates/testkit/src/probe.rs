//! What `rcc-probe` prints, for tests to read and judge.
//!
//! Must not turn a broken probe into a denial: no line, or a usage error, fails the test.
//!
//! `rcc-probe list` prints all probes. A denial test runs the same words outside first:
//! ```no_run
//! use rcc_testkit::probe;
//! # fn inside(words: &[&str]) -> rcc_testkit::world::Output { unimplemented!() }
//! # let world = rcc_testkit::world::World::start_or_skip().unwrap();
//! let words = ["read", "/etc/hostname"];
//! world.probe(words).assert_ok();
//! let output = inside(&words); // rcc run -- rcc-probe read /etc/hostname
//! probe::Record::of(&output).assert_denied("EACCES");
//! ```

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::binaries::{Binary, binary};
use crate::world::Output;

/// Gives the path of the probe; mount or copy it where the sandbox can execute it.
///
/// It needs libc only, and no file of its own.
#[must_use]
pub fn path() -> PathBuf {
    binary(Binary::Probe)
}

/// One line of the probe.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[must_use]
pub struct Record {
    /// The probe's name.
    pub probe: String,
    /// Did it do what it tried?
    pub ok: bool,
    /// The errno of the call that the probe is about; `None` when it was no call that failed, or nothing failed.
    pub errno: Option<String>,
    /// What it found, or where it failed.
    pub detail: Value,
}

impl Record {
    /// Reads the last line of an output.
    ///
    /// # Panics
    /// When the program did not exit with 0 or printed no record: that is a broken test, not a denial.
    #[track_caller]
    pub fn of(output: &Output) -> Self {
        assert!(
            output.is_success(),
            "the probe itself did not run\n{output}"
        );
        serde_json::from_value(output.json())
            .unwrap_or_else(|error| panic!("no record: {error}\n{output}"))
    }

    /// Reads the last record in a text that may hold other output around it, as a terminal's does.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn from_text(text: &str) -> Self {
        // serde_json writes the keys sorted, so every record begins like this.
        let start = text.rfind("{\"detail\":").unwrap_or(text.len());
        let line = text[start..].lines().next().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no record: {error}\n{text}"))
    }

    /// Fails the test unless the probe did what it tried.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        assert!(self.ok, "should have worked: {self:?}");
        self
    }

    /// Fails the test unless the probe was refused with exactly this errno.
    #[track_caller]
    pub fn assert_denied(&self, errno: &str) -> &Self {
        assert!(
            !self.ok && self.errno.as_deref() == Some(errno),
            "should have been {errno}: {self:?}"
        );
        self
    }

    /// Fails the test unless the probe was refused with one of these.
    #[track_caller]
    pub fn assert_denied_with_any(&self, errnos: &[&str]) -> &Self {
        let is_one = self
            .errno
            .as_deref()
            .is_some_and(|errno| errnos.contains(&errno));
        assert!(
            !self.ok && is_one,
            "should have been one of {errnos:?}: {self:?}"
        );
        self
    }
}
