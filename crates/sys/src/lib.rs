//! The only unsafe code: system calls behind a safe interface. No policy.

mod error;

pub use error::{SysError, describe_errno, errno_name};
