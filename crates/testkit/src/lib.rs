//! The test world, the probe and the stand-ins that the project's tests use.
//!
//! Development only: no shipped crate may depend on it, and nothing here decides what the sandbox allows.
//!
//! - [`world`]: network namespaces with resolvers, servers and hostile addresses, made by the test itself.
//! - [`probe`]: what `rcc-probe` can be asked to try, and the records that it prints.
//! - [`messages_api`]: a stand-in of the Messages API that a real agent can talk to.
//! - [`require()`]: the one way for a test to be skipped.
//!
//! # Example
//! ```no_run
//! use rcc_testkit::world::World;
//!
//! let Some(world) = World::start_or_skip() else { return };
//! let output = world.host_command("curl").args(["-s", "http://allowed.example/"]).output();
//! output.assert_success();
//! assert_eq!(world.seen_by("203.0.113.10:80").connections, 1);
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "test support: a broken test world must fail the test loudly, there is nobody to hand an error to"
)]

mod binaries;
pub mod dns;
pub mod messages_api;
mod ordinary;
mod patience;
pub mod probe;
mod require;
pub mod syscalls;
pub mod world;

pub use binaries::{Binary, binary, copy_program, system_tool};
pub use ordinary::{is_second_run, run_again_as_ordinary_user};
pub use patience::{patience, patience_ms};
pub use require::{SKIP_LOG_VARIABLE, require, require_that, skipped};
