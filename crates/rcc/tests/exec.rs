//! `rcc exec`: a process that joins a running sandbox is confined as its agent, and nothing of the host comes in with it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod record;
mod scene;

#[path = "exec/attacks.rs"]
mod attacks;
#[path = "exec/use.rs"]
mod everyday;
#[path = "exec/posture.rs"]
mod posture;

use rcc_testkit::world::Running;
use scene::Scene;

/// Starts a run called `name`, with these flags and the probe in reach, that lasts until it is dropped.
fn lasting(scene: &Scene, name: &str, flags: &[&str]) -> Running {
    let program = record::program(scene);
    let run = scene
        .rcc(["run", "--name", name])
        .args(flags)
        .arg("--ro")
        .arg(program)
        .args(["--", "sh", "-c", "echo up; exec sleep 600"])
        .spawn();
    run.wait_for_text("up");
    run
}
