//! What to do when the host is out of something: one sentence for each errno that says so.
//!
//! Must not be asked about an errno whose call means something else by it: `clone3(2)` says `ENOSPC` of namespaces.

use rcc_sys::SysError;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Calls that make a process or thread.
const MAKING: [&str; 5] = [
    "clone(2)",
    "clone3(2)",
    "fork(2)",
    "posix_spawn(3)",
    "pthread_create(3)",
];
/// Calls that make a namespace.
const NAMESPACES: [&str; 3] = ["clone3(2)", "unshare(2)", "setns(2)"];

/// What the host is out of, when this errno says so, and what gives more of it.
#[must_use]
pub fn shortage(errno: Errno) -> Option<String> {
    let of = |resource| match getrlimit(resource).current {
        Some(limit) => limit.to_string(),
        None => "unlimited".to_owned(),
    };
    let text = match errno {
        Errno::MFILE => format!(
            "rcc is out of descriptors: RLIMIT_NOFILE is {}; raise it with ulimit -n 1024",
            of(Resource::Nofile)
        ),
        Errno::NFILE => {
            "the machine is out of open files: raise fs.file-max with sysctl(8), or end something"
                .to_owned()
        }
        Errno::AGAIN => format!(
            "out of processes: RLIMIT_NPROC is {}, and a control group may allow fewer (pids.max); end something, or raise it with ulimit -u",
            of(Resource::Nproc)
        ),
        Errno::NOMEM => {
            let limit = getrlimit(Resource::As).current;
            let limit = limit.map(|limit| {
                format!("; RLIMIT_AS is {} KiB, raise it with ulimit -v unlimited", limit / 1024)
            });
            format!("out of memory{}", limit.unwrap_or_default())
        }
        Errno::NOSPC => "the disk is full: free space on the file system named above".to_owned(),
        Errno::DQUOT => {
            "your disk quota is used up: free space on the file system named above".to_owned()
        }
        Errno::ROFS => {
            "that file system is mounted read-only; let XDG_STATE_HOME name a directory on one that is not"
                .to_owned()
        }
        Errno::FBIG => format!(
            "files may not grow that large: RLIMIT_FSIZE is {} bytes; raise it with ulimit -f unlimited",
            of(Resource::Fsize)
        ),
        _ => return None,
    };
    Some(text)
}

/// The same for a failed call, as far as the call means that by it.
pub(crate) fn shortage_of(error: &SysError) -> Option<String> {
    match error.errno {
        Errno::AGAIN if !MAKING.contains(&error.call) => None,
        Errno::NOSPC if NAMESPACES.contains(&error.call) => Some(
            "out of namespaces: raise user.max_user_namespaces and its neighbours with sysctl(8), or end other sandboxes".to_owned(),
        ),
        // Of a tree that is read-only on purpose, too.
        Errno::ROFS => None,
        errno => shortage(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_a_shortage_only_where_the_call_means_that() {
        let of = |call, errno| shortage_of(&SysError::new(call, "", errno));
        assert!(
            of("fork(2)", Errno::AGAIN)
                .unwrap()
                .contains("RLIMIT_NPROC")
        );
        assert_eq!(of("recvmsg(2)", Errno::AGAIN), None);
        assert!(
            of("clone3(2)", Errno::NOSPC)
                .unwrap()
                .contains("max_user_namespaces")
        );
        assert!(of("mkdirat(2)", Errno::NOSPC).unwrap().contains("disk"));
        assert_eq!(of("openat(2)", Errno::ACCESS), None);
        assert_eq!(of("mkdirat(2)", Errno::ROFS), None);
        assert!(shortage(Errno::ROFS).is_some());
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::DQUOT,
            Errno::FBIG,
        ] {
            assert!(of("openat(2)", errno).is_some(), "{errno:?}");
        }
    }
}
