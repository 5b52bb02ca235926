//! Real agents from their npm packages, for tests that need one.
//!
//! Looked for in this order: beside the program that `RCC_TEST_CLAUDE` names; in a cache directory of this user; in the
//! registry, by rcc's own installer, which fills the cache. Must not put anything into the repository, and must not take
//! what the installer left behind half done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rcc_testkit::{require, require_that};

/// One install at a time: tests are threads.
static LOCK: Mutex<()> = Mutex::new(());
/// Set after the first failure: the others need not wait for theirs.
static UNREACHABLE: AtomicBool = AtomicBool::new(false);

/// Gives the program of an agent, or `None` after a counted skip where it is neither here nor to be had.
///
/// # Panics
/// When the registry can be reached and rcc still does not install the agent.
pub(crate) fn program(name: &str, package: &str) -> Option<PathBuf> {
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let given = std::env::var_os("RCC_TEST_CLAUDE").map(PathBuf::from);
    let beside = given.and_then(|claude| Some(claude.parent()?.join(name)));
    if let Some(program) = beside
        .filter(|program| program.is_file())
        .or_else(|| cached(name))
    {
        return Some(program);
    }
    if !require("npm") {
        return None;
    }
    if UNREACHABLE.load(Ordering::Relaxed) {
        let _ = require_that("npm-registry", false);
        return None;
    }
    let scratch = Scratch::make();
    let output = install(name, &scratch);
    if !worked(&output, &scratch, package) {
        return None;
    }
    scratch.keep(name);
    Some(cached(name).unwrap())
}

/// Tells whether an install worked; a counted skip where the registry cannot be reached.
///
/// # Panics
/// When it can be reached and the install still failed.
pub(crate) fn worked(output: &Output, scratch: &Scratch, package: &str) -> bool {
    if output.status.success() {
        return true;
    }
    // The control: does the client itself get an answer? With the same home, or its cache would answer.
    let control = Command::new("npm")
        .args([
            "view",
            package,
            "version",
            "--prefer-online",
            "--fetch-retries=0",
            "--fetch-timeout=20000",
        ])
        .current_dir(scratch.project())
        .env("HOME", scratch.home())
        .output()
        .unwrap();
    assert!(
        !require_that("npm-registry", control.status.success()),
        "npm gets an answer about {package}, but rcc cannot install it: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    UNREACHABLE.store(true, Ordering::Relaxed);
    false
}

/// Has rcc install an agent from the registry and run it once, without network, on the machine itself.
pub(crate) fn install(name: &str, scratch: &Scratch) -> Output {
    let mut command = Command::new(super::program());
    command
        .args(["-n", "--yes", "agent", name, "--version"])
        .current_dir(scratch.project())
        .env("HOME", scratch.home())
        // The client's own pauses between attempts add up to more than a minute.
        .env("npm_config_fetch_retries", "1")
        .env("npm_config_fetch_retry_mintimeout", "1000");
    for variable in [
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
    ] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

/// A home of its own for an install; removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn make() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = cache().join(format!("installing-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let scratch = Self(path);
        std::fs::create_dir_all(scratch.project()).unwrap();
        scratch
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.home().join("project")
    }

    /// Moves what was installed into the cache, readable for everybody, unless it is there.
    pub(crate) fn keep(&self, name: &str) {
        let target = cache().join("agents").join(name);
        if cached(name).is_none() {
            let installed = self.home().join(".local/share/rcc/agents").join(name);
            open_to_all(&installed);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            let _ = std::fs::remove_dir_all(&target);
            std::fs::rename(&installed, &target).unwrap();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where agents are kept between runs of the tests: root's can be read by the ordinary users of the worlds.
fn cache() -> PathBuf {
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/cache")
    } else {
        let home = std::env::var_os("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_dir());
        home.map_or_else(std::env::temp_dir, |home| home.join(".cache"))
    };
    base.join("rcc-test")
}

fn cached(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(cache().join("agents").join(name)).ok()?;
    let programs = versions.map(|entry| entry.unwrap().path().join("bin").join(name));
    programs.filter(|program| program.is_file()).max()
}

/// Lets everybody read a tree and run what its owner may run; links are left alone.
fn open_to_all(path: &Path) {
    let data = path.symlink_metadata().unwrap();
    if data.is_symlink() {
        return;
    }
    let mode = data.permissions().mode() & 0o7777;
    let more = if data.is_dir() || mode & 0o100 != 0 {
        0o555
    } else {
        0o444
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | more)).unwrap();
    if data.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            open_to_all(&entry.unwrap().path());
        }
    }
}
