//! Making processes in new namespaces, executing a sealed program, signals as descriptors.
//!
//! Must not: decide which namespaces or programs; that is the native engine's part.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::SysError;

/// Namespaces that a new process gets of its own (`namespaces(7)`), and how it hangs in the process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// New user namespace, `user_namespaces(7)`.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// New network namespace, `network_namespaces(7)`.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);
    /// New mount namespace, `mount_namespaces(7)`.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// New pid namespace, `pid_namespaces(7)`.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// New System V IPC and POSIX message queue namespace, `ipc_namespaces(7)`.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// New hostname namespace, `uts_namespaces(7)`.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// New cgroup namespace, `cgroup_namespaces(7)`.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// New clock-offset namespace, `time_namespaces(7)`; since Linux 5.6.
    pub const TIME: Self = Self(libc::CLONE_NEWTIME as u64);
    /// The caller's parent becomes the new process's parent, `clone(2)`.
    pub const PARENT: Self = Self(libc::CLONE_PARENT as u64);

    /// Joins two sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The calling process, with the new process's id and pidfd.
    Parent(Pid, OwnedFd),
    /// The new process.
    Child,
}

/// `struct clone_args` of `clone3(2)`, first published version plus `set_tid` (kernel `include/uapi/linux/sched.h`).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Forks with `clone3(2)` (since Linux 5.3) into the given new namespaces; the copy shares nothing with its maker.
///
/// # Errors
/// `EPERM`: user namespaces are forbidden to this caller. `ENOSPC`/`EUSERS`: `user.max_*_namespaces` is used up.
/// `EBUSY`: the process has more than one thread, which this function refuses because the copy would inherit
/// locks held by threads that it does not have.
pub fn clone_process(flags: CloneFlags) -> Result<Forked, SysError> {
    if thread_count() != Some(1) {
        return Err(SysError::new(
            "clone3(2)",
            "a process with several threads",
            Errno::BUSY,
        ));
    }
    let mut pidfd: libc::c_int = -1;
    let inherits_exit_signal = flags.0 & CloneFlags::PARENT.0 != 0;
    let arguments = CloneArgs {
        flags: flags.0 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: if inherits_exit_signal {
            0
        } else {
            libc::SIGCHLD as u64
        },
        ..CloneArgs::default()
    };
    // SAFETY:
    // - `arguments` is a live, initialised `clone_args` of exactly the size passed; the kernel only reads it;
    // - the kernel writes one `int` to `pidfd`, a live local of that type, before returning in the parent;
    // - no CLONE_VM, CLONE_THREAD or stack is given, so the child runs on its own copy of this stack;
    // - this process has one thread (checked above), so no lock can be held by a thread the child lacks.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArgs>(),
        )
    };
    match result {
        -1 => Err(SysError::new("clone3(2)", "", last_errno())),
        0 => Ok(Forked::Child),
        pid => {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or_else(|| {
                    SysError::new("clone3(2)", "an impossible process id", Errno::RANGE)
                })?;
            // SAFETY: the kernel just made this descriptor for this process; nothing else knows its number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent(pid, pidfd))
        }
    }
}

/// The process had one thread when this was made. Whoever keeps it promises to start none.
#[derive(Debug)]
pub struct Alone(());

impl Alone {
    /// Counts the threads in `/proc`, which must be that of this process's own pid namespace: after `setns(2)` into another
    /// mount namespace it is too late.
    ///
    /// # Errors
    /// `EBUSY` with more than one thread.
    pub fn prove() -> Result<Self, SysError> {
        if thread_count() == Some(1) {
            Ok(Self(()))
        } else {
            let on = "a process with several threads";
            Err(SysError::new("fork(2)", on, Errno::BUSY))
        }
    }
}

/// Forks with the plain `clone(2)`, which a system-call filter that forbids `clone3(2)` still allows. `None` is the child.
///
/// # Errors
/// `EAGAIN`/`ENOMEM`: out of processes or memory.
pub fn fork(_: &Alone) -> Result<Option<Pid>, SysError> {
    // SAFETY: by its argument this process has one thread, so the child cannot miss a lock that another thread held; no memory is shared.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(SysError::new("fork(2)", "", last_errno())),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Counts the threads of this process from `/proc/self/status`'s cheap sibling, the task directory's link count.
fn thread_count() -> Option<u64> {
    // `/proc/self/task` has two links of its own and one for each thread (`proc_pid_task(5)`).
    let links = rustix::fs::stat("/proc/self/task").ok()?.st_nlink;
    links.checked_sub(2)
}

/// Executes the program that `program` refers to (`execveat(2)` with `AT_EMPTY_PATH`, since Linux 3.19).
/// Returns only on failure.
pub fn execute_descriptor(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> SysError {
    let argument_pointers = null_terminated(arguments);
    let environment_pointers = null_terminated(environment);
    // SAFETY:
    // - both arrays end with a null pointer and every other element points to a C string that outlives the call;
    // - the path is the static empty C string; `program` is open for the whole call;
    // - on success this process image is gone, on failure nothing was changed.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argument_pointers.as_ptr(),
            environment_pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    SysError::new("execveat(2)", "", last_errno())
}

/// Executes a program by path (`execve(2)`). Returns only on failure.
pub fn execute_path(path: &CStr, arguments: &[CString], environment: &[CString]) -> SysError {
    let argument_pointers = null_terminated(arguments);
    let environment_pointers = null_terminated(environment);
    // SAFETY:
    // - `path` is a C string; both arrays end with a null pointer and point to C strings that outlive the call;
    // - on success this process image is gone, on failure nothing was changed.
    unsafe {
        libc::execve(
            path.as_ptr(),
            argument_pointers.as_ptr(),
            environment_pointers.as_ptr(),
        )
    };
    SysError::new("execve(2)", path.to_string_lossy(), last_errno())
}

fn null_terminated(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Makes `descriptor` the descriptor with number `number`, without close-on-exec (`dup3(2)`), whatever that was before.
/// For use just before an exec, where the numbers of descriptors are a contract with the new program.
///
/// # Errors
/// `EINVAL` when it already has that number.
pub fn place_descriptor(descriptor: BorrowedFd<'_>, number: i32) -> Result<(), SysError> {
    if descriptor.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())
            .map_err(SysError::at("fcntl(2)", "FD_CLOEXEC"));
    }
    // SAFETY: both are plain numbers; whatever had `number` is closed, which the caller asked for: it is called in a
    // process that is about to execute another program and owns all its descriptors.
    let result = unsafe { libc::dup3(descriptor.as_raw_fd(), number, 0) };
    if result == -1 {
        Err(SysError::new("dup3(2)", "", last_errno()))
    } else {
        Ok(())
    }
}

/// Takes ownership of a descriptor that the program was started with, by number.
///
/// # Errors
/// `EBADF` when it is not open, `EINVAL` for the standard streams, which have owners already.
pub fn take_descriptor(number: i32) -> Result<OwnedFd, SysError> {
    if number < 3 {
        return Err(SysError::new(
            "fcntl(2)",
            format!("descriptor {number}"),
            Errno::INVAL,
        ));
    }
    // SAFETY: F_SETFD only changes a flag of the descriptor table entry, and fails with EBADF for a closed one.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 {
        return Err(SysError::new(
            "fcntl(2)",
            format!("descriptor {number}"),
            last_errno(),
        ));
    }
    // SAFETY: the descriptor is open (checked above); by the contract of this function the program was started with
    // it and calls this once for each number, before anything else could own it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Marks every descriptor from `first` on close-on-exec (`close_range(2)`, `CLOSE_RANGE_CLOEXEC` since Linux 5.11).
///
/// # Errors
/// `ENOSYS`/`EINVAL` on kernels before that.
pub fn close_on_exec_from(first: u32) -> Result<(), SysError> {
    // SAFETY: numbers only; the call changes flags of descriptors and closes nothing now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == -1 {
        Err(SysError::new("close_range(2)", "", last_errno()))
    } else {
        Ok(())
    }
}

/// Closes every descriptor of this process but one (`close_range(2)`, Linux 5.9), hands that one to `then`, and ends with the
/// exit code that it returns. Returns only when closing fails.
///
/// For a forked process that goes on with nothing of its parent's. `then` is a function and captures nothing, and nothing
/// of the frames above runs again, so no owner of a closed descriptor is ever used or dropped.
pub fn keep_only(kept: OwnedFd, then: fn(OwnedFd) -> i32) -> SysError {
    let number = kept.as_raw_fd().unsigned_abs();
    let ranges = [
        (0, number.checked_sub(1)),
        (number + 1, Some(libc::c_uint::MAX)),
    ];
    for (first, last) in ranges {
        let Some(last) = last else { continue };
        // SAFETY: numbers only. The descriptors closed here have owners in the frames above, none of which runs again:
        // this function ends the process.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if result == -1 {
            return SysError::new("close_range(2)", "", last_errno());
        }
    }
    exit_now(then(kept))
}

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// Every signal.
    #[must_use]
    pub fn all() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigfillset(3) initialises the set it is given and cannot fail for a writable pointer.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: initialised on the line above.
        Self(unsafe { set.assume_init() })
    }

    /// No signal.
    #[must_use]
    pub fn none() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset(3) initialises the set it is given and cannot fail for a writable pointer.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised on the line above.
        Self(unsafe { set.assume_init() })
    }

    /// The signals with these numbers (`signal(7)`); numbers that do not exist are left out.
    #[must_use]
    pub fn of(numbers: &[i32]) -> Self {
        let mut set = Self::none();
        for &number in numbers {
            // SAFETY: `set.0` is an initialised signal set; an invalid number only makes the call fail.
            unsafe { libc::sigaddset(&raw mut set.0, number) };
        }
        set
    }

    /// Makes this the calling thread's mask (`sigprocmask(2)`) and returns the former one.
    ///
    /// # Errors
    /// None that the kernel documents for valid sets; passed on all the same.
    pub fn block_only_these(&self) -> Result<Self, SysError> {
        let mut old = Self::none();
        // SAFETY: reads the initialised set `self.0`, writes the live local `old.0`.
        let result =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, &raw mut old.0) };
        if result == 0 {
            Ok(old)
        } else {
            Err(SysError::new(
                "sigprocmask(2)",
                "",
                Errno::from_raw_os_error(result),
            ))
        }
    }

    /// Opens a non-blocking descriptor that delivers these signals (`signalfd(2)`); they must be blocked.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn descriptor(&self) -> Result<SignalDescriptor, SysError> {
        // SAFETY: reads the initialised set; -1 asks for a new descriptor.
        let fd = unsafe {
            libc::signalfd(
                -1,
                &raw const self.0,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            )
        };
        if fd == -1 {
            return Err(SysError::new("signalfd(2)", "", last_errno()));
        }
        // SAFETY: the kernel just made this descriptor; nothing else knows its number.
        Ok(SignalDescriptor(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// Has a file that grows over `RLIMIT_FSIZE` fail with `EFBIG` instead of ending the process by `SIGXFSZ` (`setrlimit(2)`).
pub fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is always a valid handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Restores the default action of `SIGPIPE`, which the Rust runtime ignores, and of `SIGXFSZ`, which [`ignore_file_size_signal`]
/// does: a program executed next would inherit both so (`signal(7)`). What the caller itself ignores, as with `nohup(1)`, stays
/// ignored.
pub fn restore_default_signals() {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_DFL is always a valid handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Signals readable as data.
#[derive(Debug)]
pub struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    /// Takes the number of the next pending signal, if there is one.
    ///
    /// # Errors
    /// Any but `EAGAIN`, which is `None`.
    pub fn next(&self) -> Result<Option<i32>, SysError> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => Ok(None),
            // `ssi_signo` is the first field, in native byte order (`signalfd(2)`).
            Ok(_) => Ok(Some(i32::from_ne_bytes([
                record[0], record[1], record[2], record[3],
            ]))),
            Err(errno) => Err(SysError::new("read(2)", "signalfd", errno)),
        }
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Moves this process into a new, empty, anonymous session keyring (`keyctl(2)` `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// `ENOSYS` when the kernel has no keyrings: nothing to leave then. `EDQUOT` when the user's key quota is used up.
pub fn join_new_session_keyring() -> Result<(), SysError> {
    // SAFETY: a null name asks for a new anonymous keyring; nothing is read or written.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    if result == -1 {
        Err(SysError::new(
            "keyctl(2)",
            "the session keyring",
            last_errno(),
        ))
    } else {
        Ok(())
    }
}

/// Moves this process into a new network namespace owned by its user namespace (`unshare(2)`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the user namespace; `ENOSPC` when `user.max_net_namespaces` is used up.
pub fn enter_new_network_namespace() -> Result<(), SysError> {
    // SAFETY: a flag only; the network namespace is a property of the task that no memory of this program refers to.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if result == -1 {
        Err(SysError::new(
            "unshare(2)",
            "the network namespace",
            last_errno(),
        ))
    } else {
        Ok(())
    }
}

/// Makes the group in which this process is the root of all that it can see of control groups (`cgroup_namespaces(7)`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the user namespace; `ENOSPC` when `user.max_cgroup_namespaces` is used up.
pub fn enter_new_cgroup_namespace() -> Result<(), SysError> {
    // SAFETY: a flag only; the cgroup namespace is a property of the task that no memory of this program refers to.
    let result = unsafe { libc::unshare(libc::CLONE_NEWCGROUP) };
    if result == -1 {
        Err(SysError::new(
            "unshare(2)",
            "the cgroup namespace",
            last_errno(),
        ))
    } else {
        Ok(())
    }
}

/// The number of the process that a pidfd stands for, in this process's pid namespace (`pidfd_open(2)`, `proc_pid_fdinfo(5)`).
///
/// The number stays right for as long as the process has not been collected, which only its parent can do.
///
/// # Errors
/// `ESRCH` when the process has been collected.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Pid, SysError> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|error| {
        SysError::new(
            "read(2)",
            path,
            Errno::from_io_error(&error).unwrap_or(Errno::IO),
        )
    })?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| SysError::new("read(2)", "the number of a process", Errno::SRCH))
}

/// What the children of this process that have ended and were collected used, and theirs (`getrusage(2)`, `RUSAGE_CHILDREN`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildrenUsage {
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Memory of the largest one at its largest, in bytes.
    pub largest_bytes: u64,
}

impl ChildrenUsage {
    /// What has come since an earlier reading: a shell that was replaced by this program leaves it the account of its own children.
    /// The largest one is zero when an earlier one was larger.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            largest_bytes: if self.largest_bytes > earlier.largest_bytes {
                self.largest_bytes
            } else {
                0
            },
        }
    }

    /// Reads it; all zero should the kernel refuse, which it has no reason to.
    #[must_use]
    pub fn now() -> Self {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel writes one `rusage` to the live local that the pointer leads to.
        unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
        // SAFETY: a `rusage` is numbers only, for which the zeroes above are valid, too.
        let usage = unsafe { usage.assume_init() };
        let us = |time: libc::timeval| {
            let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
            seconds.unwrap_or(0) * 1_000_000 + rest.unwrap_or(0)
        };
        Self {
            cpu_us: us(usage.ru_utime) + us(usage.ru_stime),
            largest_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        }
    }
}

/// Drops every supplementary group (`setgroups(2)`); needs `CAP_SETGID` in the current user namespace.
///
/// # Errors
/// `EPERM` for ordinary users.
pub fn drop_supplementary_groups() -> Result<(), SysError> {
    // SAFETY: a length of zero with a null list; nothing is read.
    let result = unsafe { libc::setgroups(0, std::ptr::null()) };
    if result == -1 {
        Err(SysError::new("setgroups(2)", "", last_errno()))
    } else {
        Ok(())
    }
}

/// Ends this process at once with `code`, running no destructors (`_exit(2)`): for forked copies of the supervisor,
/// which must not flush the supervisor's buffers a second time.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory of this program.
    unsafe { libc::_exit(code) }
}

/// Reads errno of the call just made.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_before_does_not_count() {
        let usage = |cpu_us, largest_bytes| ChildrenUsage {
            cpu_us,
            largest_bytes,
        };
        assert_eq!(usage(50, 300).since(usage(20, 300)), usage(30, 0));
        assert_eq!(usage(50, 400).since(usage(20, 300)), usage(30, 400));
    }
}
