//! The limits that rcc itself was started with (`setrlimit(2)`, `umask(2)`): looked at once, before anything is opened or started.
//!
//! With too little of something a run would fail half-way, and some step that fails would be one that protects. So there is a
//! floor, below which nothing is tried. Must not change a limit: the agent gets the caller's.

use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit};

use crate::error::{CliError, Kind};

/// Descriptors that have to be free. A run takes up to thirty, connections come on top.
const DESCRIPTORS: u64 = 64;
/// Smallest stack of the first thread, in bytes.
const STACK: u64 = 1 << 20;
/// Rights of an owner in a mode.
const OWNERS: Mode = Mode::RWXU;

/// Too little to begin with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LimitError {
    #[error(
        "rcc needs {DESCRIPTORS} free descriptors, and RLIMIT_NOFILE is {limit} with {open} in use"
    )]
    Descriptors { limit: u64, open: u64 },
    #[error(
        "rcc needs a stack of {} KiB, and RLIMIT_STACK is {} KiB",
        STACK / 1024,
        limit / 1024
    )]
    Stack { limit: u64 },
    #[error("the umask {umask:04o} takes your own rights on what rcc writes for you")]
    Umask { umask: u32 },
}

/// What was found.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// None where there is no limit.
    descriptors: Option<u64>,
    open: u64,
    stack: Option<u64>,
    umask: Mode,
}

/// Refuses to begin with too little, and has a file that may not grow fail instead of ending rcc by a signal.
///
/// # Errors
/// Names the limit, its value, and the command that raises it.
pub(crate) fn check() -> Result<(), CliError> {
    rcc_sys::process::ignore_file_size_signal();
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    judge(Found {
        descriptors: getrlimit(Resource::Nofile).current,
        open: open_descriptors(),
        stack: getrlimit(Resource::Stack).current,
        umask,
    })
    .map_err(|error| {
        let hint = match error {
            LimitError::Descriptors { .. } => "raise it for this shell: ulimit -n 1024",
            LimitError::Stack { .. } => "raise it for this shell: ulimit -s 8192",
            LimitError::Umask { .. } => "set another for this shell: umask 077",
        };
        CliError::new(Kind::Host, error).hint(hint)
    })
}

fn judge(found: Found) -> Result<(), LimitError> {
    let open = found.open;
    if let Some(limit) = found.descriptors
        && limit.saturating_sub(open) < DESCRIPTORS
    {
        return Err(LimitError::Descriptors { limit, open });
    }
    if let Some(limit) = found.stack
        && limit < STACK
    {
        return Err(LimitError::Stack { limit });
    }
    if found.umask.intersects(OWNERS) {
        let umask = found.umask.bits();
        return Err(LimitError::Umask { umask });
    }
    Ok(())
}

/// Descriptors in use; what cannot be counted counts as the three that every program has.
fn open_descriptors() -> u64 {
    let entries = std::fs::read_dir("/proc/self/fd");
    // One of them is that of the listing.
    entries.map_or(3, |entries| (entries.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_where_it_is_said_to_be() {
        let good = Found {
            descriptors: Some(DESCRIPTORS + 3),
            open: 3,
            stack: Some(STACK),
            umask: Mode::RWXG | Mode::RWXO,
        };
        assert_eq!(judge(good), Ok(()));
        let unlimited = Found {
            descriptors: None,
            stack: None,
            ..good
        };
        assert_eq!(judge(unlimited), Ok(()));
        for (bad, told) in [
            (
                Found { open: 4, ..good },
                "RLIMIT_NOFILE is 67 with 4 in use",
            ),
            (
                Found {
                    descriptors: Some(3),
                    open: 40,
                    ..good
                },
                "RLIMIT_NOFILE is 3 with 40 in use",
            ),
            (
                Found {
                    stack: Some(STACK - 1),
                    ..good
                },
                "RLIMIT_STACK is 1023 KiB",
            ),
            (
                Found {
                    umask: Mode::WUSR,
                    ..good
                },
                "the umask 0200 takes",
            ),
        ] {
            let refused = judge(bad).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
        assert!((3..1000).contains(&open_descriptors()));
    }
}
