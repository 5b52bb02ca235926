//! Kills rcc at the moments of a command, one after the other. Shared by the tests of copy-on-write runs and of snapshots.
//!
//! A moment is a system call that changed something when the command ran undisturbed. A kill at a call that changes nothing
//! leaves the same as one at the next that does, so the moments stand for every system call of the command.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod fill;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rcc_testkit::probe;

use crate::bench::{Bench, Said, program};

/// Calls that change a file system, where they succeed. Of `openat` only those with `O_CREAT`.
const CHANGING: [&str; 24] = [
    "openat",
    "bind",
    "mkdir",
    "mkdirat",
    "mknodat",
    "renameat",
    "renameat2",
    "unlinkat",
    "symlinkat",
    "linkat",
    "write",
    "writev",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchown",
    "utimensat",
    "fsetxattr",
    "fremovexattr",
    "ioctl",
];

/// Calls that change no file. What is in neither list fails the test: somebody has to say which it is.
const HARMLESS: &str = " accept accept4 access arch_prctl brk capget clock_getres clock_gettime clock_nanosleep clone clone3 close close_range connect \
dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve exit exit_group faccessat faccessat2 \
fadvise64 fcntl fdatasync fgetxattr flistxattr flock fstat fstatfs fsync futex getcwd getdents64 getegid geteuid getgid \
getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname \
getsockopt gettid gettimeofday getuid getxattr kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lgetxattr \
listen listxattr llistxattr lseek lstat madvise membarrier memfd_create mincore mmap mprotect mremap munmap nanosleep newfstatat \
openat2 pidfd_open pidfd_send_signal pipe2 poll ppoll prctl pread64 preadv prlimit64 pselect6 read readahead readlink readlinkat \
readv recvfrom recvmsg restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait \
rt_tgsigqueueinfo sched_getaffinity sched_getparam sched_getscheduler sched_yield seccomp select sendmsg sendto set_robust_list \
set_tid_address setgroups setns setrlimit setsid setsockopt shutdown sigaltstack signalfd signalfd4 socket socketpair stat \
statfs statmount statx sync_file_range syncfs sysinfo tgkill time timerfd_create timerfd_settime umask uname unshare vfork wait4 \
waitid ";

/// A call by name, and for which time it is made.
pub(crate) type Moment = (String, u32);

/// What a command did when nobody disturbed it.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// All its system calls.
    pub(crate) calls: usize,
    /// Its moments, in order; the last one is its end.
    pub(crate) moments: Vec<Moment>,
}

impl Course {
    /// Runs a command of rcc to its end, below strace, in the supervisor alone.
    pub(crate) fn of(bench: &Bench, command: &[&str]) -> Self {
        let trace = bench.base().join("trace");
        let rcc = program();
        let mut all = vec![
            "-qq",
            "-s0",
            "-o",
            trace.to_str().unwrap(),
            "--",
            rcc.to_str().unwrap(),
        ];
        all.extend(command);
        let said = bench.host("strace", &all);
        assert_eq!(said.code, 0, "{said:?}");
        Self::read(&String::from_utf8_lossy(&std::fs::read(&trace).unwrap()))
    }

    fn read(trace: &str) -> Self {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let (mut calls, mut moments) = (0, Vec::new());
        for line in trace.lines() {
            let Some((name, rest)) = line.split_once('(').filter(|(name, _)| is_name(name)) else {
                continue;
            };
            calls += 1;
            let creates = rest.contains("O_CREAT");
            assert!(
                name == "openat" || !creates && !rest.contains("O_TRUNC"),
                "a file is made or emptied: {line}"
            );
            let is_moment = CHANGING.contains(&name) && (name != "openat" || creates);
            if !is_moment {
                let is_known = name == "openat" || HARMLESS.contains(&format!(" {name} "));
                assert!(
                    is_known,
                    "nobody said whether this call changes files: {line}"
                );
                assert!(!rest.contains("O_TRUNC"), "a file is emptied: {line}");
                continue;
            }
            let count = counts.entry(name).or_default();
            *count += 1;
            let (_, result) = rest.rsplit_once(" = ").unwrap_or_default();
            if !result.starts_with('-') {
                moments.push((name.to_owned(), *count));
            }
        }
        moments.push(("exit_group".to_owned(), 1));
        Self { calls, moments }
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.bytes().all(is_letter)
}

/// Runs a command of rcc and kills it at a moment; whether it came. What the command left running has ended.
pub(crate) fn try_kill(bench: &Bench, command: &[&str], (call, time): &Moment) -> (bool, Said) {
    let (time, rcc) = (time.to_string(), program());
    let mut all = vec!["kill-at", call, &time, rcc.to_str().unwrap()];
    all.extend(command);
    let said = bench.host(probe::path(), &all);
    assert!(
        said.code == 0 && said.stdout.contains("\"ok\":true"),
        "{command:?}, {call} {time}: {said:?}"
    );
    (said.stdout.contains("\"killed\":true"), said)
}

/// Runs a command of rcc and kills it at a moment.
///
/// # Panics
/// When the moment does not come.
pub(crate) fn kill(bench: &Bench, command: &[&str], moment: &Moment) {
    let (came, said) = try_kill(bench, command, moment);
    assert!(
        came,
        "{command:?}, {moment:?}: the moment never came: {said:?}"
    );
}

/// Which moments are a worker's: every so many of them, and of those his share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) every: usize,
    pub(crate) worker: usize,
    pub(crate) workers: usize,
}

impl Share {
    /// Every moment, one worker.
    pub(crate) const ALL: Self = Self {
        every: 1,
        worker: 0,
        workers: 1,
    };

    /// The worker's share of a command, which is told.
    pub(crate) fn of(self, command: &str, course: &Course) -> Vec<Moment> {
        let chosen = course.moments.iter().step_by(self.every);
        let own = chosen.skip(self.worker).step_by(self.workers);
        let own: Vec<Moment> = own.cloned().collect();
        println!(
            "{command}: {} system calls, {} moments, {} for worker {}",
            course.calls,
            course.moments.len(),
            own.len(),
            self.worker
        );
        own
    }
}

/// What was tried, and what went wrong.
#[derive(Debug)]
pub(crate) struct Tried {
    begun: Instant,
    /// Moments that came.
    pub(crate) moments: usize,
    /// Moments that did not come, where that can be.
    pub(crate) missed: usize,
    pub(crate) failures: Vec<String>,
}

impl Tried {
    pub(crate) fn nothing() -> Self {
        Self {
            begun: Instant::now(),
            moments: 0,
            missed: 0,
            failures: Vec::new(),
        }
    }

    /// Tells how far it is, now and then.
    pub(crate) fn progress(&self, what: &str, done: usize, of: usize) {
        if done.is_multiple_of(200) || done == of {
            let seconds = self.begun.elapsed().as_secs();
            println!("{what}: {done} of {of} after {seconds} s");
        }
    }

    pub(crate) fn failed(&mut self, failure: String) {
        println!("FAILED: {failure}");
        self.failures.push(failure);
    }

    /// Whether going on would tell nothing new.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.failures.len() > 20
    }

    pub(crate) fn check(&self, least: usize) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        println!("{} moments, {} did not come", self.moments, self.missed);
        assert!(self.moments > least, "{self:?}");
    }
}

/// A sample of the moments of something large, or all of them, by several workers.
pub(crate) fn large(name: &str, matrix: fn(&str, Share) -> Tried) -> Tried {
    let every = number("RCC_CRASH_EVERY", 997);
    let workers = number("RCC_CRASH_WORKERS", 1);
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            let name = format!("{name}{worker}");
            let share = Share {
                every,
                worker,
                workers,
            };
            std::thread::spawn(move || matrix(&name, share))
        })
        .collect();
    let mut all = Tried::nothing();
    for thread in threads {
        let tried = thread.join().unwrap();
        all.moments += tried.moments;
        all.missed += tried.missed;
        all.failures.extend(tried.failures);
    }
    all
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: usize) -> usize {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// Below the memory where there is one: nothing here survives the machine.
pub(crate) fn bench(name: &str) -> Bench {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        Bench::new_in(memory, name)
    } else {
        Bench::new(name)
    }
}

/// A script of the user in the project, which must not fail.
pub(crate) fn shell(bench: &Bench, script: &str) {
    let said = bench.host("bash", &["-ec", script]);
    assert_eq!(said.code, 0, "{script}: {said:?}");
}
