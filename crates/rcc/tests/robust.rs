//! What rcc does on a host that is out of something: room on a disk, descriptors, processes, memory; and that a run that cannot be
//! protected whole is not started.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

#[path = "robust/disk.rs"]
mod disk;
