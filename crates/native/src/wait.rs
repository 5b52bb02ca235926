//! Time limits of `poll(2)`, and looks that do not wait.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A time limit as the kernel takes it; the longest there is where it does not fit.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Whether a descriptor is ready now.
pub(crate) fn ready_now(descriptor: &impl AsFd, flags: PollFlags) -> bool {
    let mut events = [PollFd::new(descriptor, flags)];
    matches!(poll(&mut events, Some(&timespec(Duration::ZERO))), Ok(1))
}
