//! Attacks on a sandbox, each named after what an agent would try.
//!
//! Every attack has a positive control: the same probe works outside, in namespaces of its own, or in a sandbox that was
//! deliberately granted it. Inside, its errno is asserted, so that a broken probe can never pass for a denial. The same
//! tests run for root and for an ordinary user.
//!
//! Must not reach out of the test world: every process, socket and file aimed at was made by the test itself.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

#[path = "attacks/agent_config.rs"]
mod agent_config;
#[path = "attacks/descriptors.rs"]
mod descriptors;
#[path = "attacks/destruction.rs"]
mod destruction;
#[path = "attacks/environment.rs"]
mod environment;
#[path = "attacks/git_work.rs"]
mod git_work;
#[path = "attacks/hidden.rs"]
mod hidden;
#[path = "attacks/kernel_files.rs"]
mod kernel_files;
#[path = "attacks/kernel_surface.rs"]
mod kernel_surface;
#[path = "attacks/mounts.rs"]
mod mounts;
#[path = "attacks/privileges.rs"]
mod privileges;
#[path = "attacks/processes.rs"]
mod processes;
#[path = "attacks/protected.rs"]
mod protected;
#[path = "attacks/reading.rs"]
mod reading;
#[path = "attacks/replaced.rs"]
mod replaced;
#[path = "attacks/sockets.rs"]
mod sockets;
#[path = "attacks/spellings.rs"]
mod spellings;
#[path = "attacks/terminal.rs"]
mod terminal;
#[path = "attacks/writing.rs"]
mod writing;
