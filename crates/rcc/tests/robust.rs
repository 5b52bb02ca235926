//! What rcc does on a host that is out of something: room on a disk, descriptors, processes, memory; and that a run that cannot be
//! protected whole is not started.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

#[path = "robust/clock.rs"]
mod clock;
#[path = "robust/disk.rs"]
mod disk;
#[path = "robust/limits.rs"]
mod limits;

use std::path::{Path, PathBuf};

use rcc_testkit::run_again_as_ordinary_user;

/// The program under test: a copy that everybody can read in the second run.
fn program() -> PathBuf {
    let copy = std::env::var_os("RCC_TESTKIT_BIN_DIR").map(|all| Path::new(&all).join("rcc"));
    copy.unwrap_or_else(|| scene::RCC.into())
}

/// Limits that do not bind root, and file systems that an ordinary user mounts.
#[test]
fn an_ordinary_user_is_refused_or_has_whole_runs_too() {
    run_again_as_ordinary_user(&[Path::new(scene::RCC)]);
}
