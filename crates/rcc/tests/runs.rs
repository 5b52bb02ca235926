//! Runs that are under way and runs that have ended, as the commands about runs show and address them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

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
#[path = "runs/streams.rs"]
mod streams;
#[path = "runs/versions.rs"]
mod versions;
