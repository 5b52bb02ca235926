//! Root's test run, once more as an ordinary user.
//!
//! Must not lose a skip of the second run: its skip log is added to the first one's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binaries::{Binary, binary, system_tool};
use crate::require::{SKIP_LOG_VARIABLE, require, require_that};
use crate::world::User;

/// Set in the second run, so that it does not start a third.
const MARK_VARIABLE: &str = "RCC_TEST_AS_ORDINARY_USER";

/// Set by who has run, or will run, everything as an ordinary user anyway.
const ONCE_VARIABLE: &str = "RCC_TEST_ONCE";

/// Says whether this is the second run, for a test of what only root's own files make possible (a toolchain in root's
/// home, for example) and that the first run has done.
#[must_use]
pub fn is_second_run() -> bool {
    std::env::var_os(MARK_VARIABLE).is_some()
}

/// Runs all tests of the calling test binary again as a user that owns nothing on this machine.
///
/// The test binary, the test kit's programs and `programs` are copied to a directory that everybody can read, since a
/// checkout may lie in root's home; the copies are found through `RCC_TESTKIT_BIN_DIR`. Does nothing when the caller is
/// not root, for then the first run was an ordinary user's, and skips itself where `RCC_TEST_ONCE` is set. Other tests of the binary run at the same time.
///
/// # Panics
/// When a test of the second run fails; the text holds its whole output.
pub fn run_again_as_ordinary_user(programs: &[&Path]) {
    if is_second_run() || !rustix::process::geteuid().is_root() {
        return;
    }
    let is_wanted = std::env::var_os(ONCE_VARIABLE).is_none();
    if !require("unprivileged-user") || !require_that("second-run", is_wanted) {
        return;
    }
    let directory = Scratch::make();
    let own = std::env::current_exe().expect("/proc/self/exe is readable");
    let copy = |source: &Path| -> PathBuf {
        let target = directory
            .0
            .join(source.file_name().expect("a program has a name"));
        crate::copy_program(source, &target);
        target
    };
    let test = copy(&own);
    for program in [binary(Binary::World), binary(Binary::Probe)]
        .iter()
        .map(PathBuf::as_path)
        .chain(programs.iter().copied())
    {
        copy(program);
    }
    let skip_log = directory.0.join("skips");
    std::fs::write(&skip_log, "").expect("the temporary directory is ours");
    std::fs::set_permissions(&skip_log, std::fs::Permissions::from_mode(0o666))
        .expect("the file is ours");
    let user = User::ordinary();
    let output = Command::new(system_tool("setpriv").expect("`unprivileged-user` needed setpriv"))
        .args([
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
        ])
        .args(["--clear-groups", "--inh-caps=-all", "--"])
        .arg(test)
        .env_remove("CARGO")
        .env("HOME", "/nonexistent")
        .env("RCC_TESTKIT_BIN_DIR", &directory.0)
        .env(MARK_VARIABLE, "1")
        .env(SKIP_LOG_VARIABLE, &skip_log)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv can be started");
    let skips = std::fs::read_to_string(&skip_log).expect("the file is ours");
    crate::require::repeat_skips(&skips);
    assert!(
        output.status.success(),
        "the tests failed as uid {}:\n{}\n{}",
        user.uid,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A directory that is removed at the end, also when the test panics.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Self {
        let path = crate::world::make_directory().expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
