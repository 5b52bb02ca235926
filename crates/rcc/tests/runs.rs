//! Runs that are under way and runs that have ended, as the commands about runs show and address them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

use rcc_testkit::world::Running;

/// Starts a run called `name`, without a network, whose shell script says `up` and then lasts.
fn start(scene: &scene::Scene, name: &str, script: &str) -> Running {
    let run = scene.run(&["-n", "--name", name]);
    let run = run.args(["bash", "-c", script]).spawn();
    run.wait_for_text("up");
    run
}

/// Starts a run called `name` that does nothing.
fn idle(scene: &scene::Scene, name: &str) -> Running {
    start(scene, name, "echo up; exec sleep 600")
}

#[path = "runs/codes.rs"]
mod codes;
#[path = "runs/detached.rs"]
mod detached;
#[path = "runs/ending.rs"]
mod ending;
#[path = "runs/hangup.rs"]
mod hangup;
#[path = "runs/listing.rs"]
mod listing;
#[path = "runs/removing.rs"]
mod removing;
#[path = "runs/stats.rs"]
mod stats;
#[path = "runs/streams.rs"]
mod streams;
#[path = "runs/versions.rs"]
mod versions;
