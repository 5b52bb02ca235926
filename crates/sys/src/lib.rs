//! The only unsafe code: system calls behind a safe interface. No policy.

pub mod cgroup;
mod error;
pub mod landlock;
pub mod lease;
pub mod mount;
pub mod netlink;
pub mod peer;
#[cfg(feature = "probe")]
pub mod probe;
pub mod process;
pub mod socket;
mod sockopt;

pub use error::{SysError, describe_errno, errno_name};
