//! Raw system calls for the attack probes of the test kit. Feature `probe`: no shipped crate enables it.
//!
//! A test of a sandbox must make the calls that no safe wrapper offers, with arguments that no sane program passes.
//! Pointers can only be made from borrows here, but a number can still ask the kernel to unmap the caller's own
//! memory: callers are probes, single-threaded programs whose whole purpose is to try this, and what they must survive
//! runs in a forked child ([`in_child`]).
//!
//! Must not: be enabled outside the test kit, or be used where a wrapper of this crate exists.

use std::ffi::CStr;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// One argument of a raw system call.
#[derive(Debug)]
pub enum Argument<'a> {
    /// A number, a flag word, a descriptor, or a deliberately bad pointer.
    Number(u64),
    /// A pointer to text that ends in a zero byte.
    Text(&'a CStr),
    /// A pointer to bytes that the kernel only reads.
    Bytes(&'a [u8]),
    /// A pointer to bytes that the kernel may write.
    Buffer(&'a mut [u8]),
}

impl Argument<'_> {
    fn word(&mut self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.as_ptr().addr() as u64,
            Self::Bytes(bytes) => bytes.as_ptr().addr() as u64,
            Self::Buffer(bytes) => bytes.as_mut_ptr().addr() as u64,
        }
    }
}

/// Makes a system call with up to six arguments; the rest are zero.
///
/// # Errors
/// What the kernel answered, `-4095..=-1` of the return value (`syscall(2)`).
pub fn raw_syscall(number: i64, arguments: &mut [Argument<'_>]) -> Result<i64, Errno> {
    let mut words = [0u64; 6];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = argument.word();
    }
    raw_words(number, words)
}

fn raw_words(number: i64, words: [u64; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = words;
    // SAFETY:
    // - words made from borrows point to memory that lives and is exclusive (Buffer) or shared (Bytes, Text) until
    //   this function returns, because the caller's slice of arguments holds the borrows;
    // - that the kernel stays inside their length is the caller's claim in the other arguments, as for every program
    //   that calls syscall(2): this feature exists to make wrong calls, and its callers are throw-away processes;
    // - libc::syscall itself only moves registers, and sets errno, which is thread-local.
    let returned = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if returned == -1 {
        Err(last_errno())
    } else {
        Ok(returned)
    }
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(
        std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or_default(),
    )
}

/// How something that was tried in a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this.
    Returned(i64),
    /// The kernel refused.
    Failed(Errno),
    /// The child was killed by this signal; 31 (SIGSYS) is a seccomp filter, 11 a missing entry point.
    Killed(i32),
    /// It neither returned nor died in time, and was killed.
    TimedOut,
    /// No child could be made.
    NoChild(Errno),
}

/// Tries something in a forked child, so that the caller survives it; the child is killed after `limit`.
///
/// # Panics
/// When this process has more than one thread: a forked child may then use locks that nobody will open.
#[must_use]
pub fn in_child(limit: Duration, attempt: impl FnOnce() -> Result<i64, Errno>) -> Outcome {
    assert_eq!(
        thread_count(),
        1,
        "only a single-threaded program may fork here"
    );
    let (reader, writer) = match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
        Ok(pipe) => pipe,
        Err(errno) => return Outcome::NoChild(errno),
    };
    // SAFETY:
    // - the process has one thread (asserted above), so the child's copy of every lock is free and its heap consistent;
    // - the child never returns from this function: it ends in `end_child` below.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Outcome::NoChild(last_errno()),
        0 => {
            drop(reader);
            let answer = match attempt() {
                Ok(value) => [0i64, value],
                Err(errno) => [1i64, i64::from(errno.raw_os_error())],
            };
            let mut bytes = [0u8; 16];
            bytes[..8].copy_from_slice(&answer[0].to_ne_bytes());
            bytes[8..].copy_from_slice(&answer[1].to_ne_bytes());
            // One write of 16 bytes into an empty pipe is atomic (pipe(7)).
            let _ = rustix::io::write(&writer, &bytes);
            end_child()
        }
        child => {
            drop(writer);
            collect(child, reader, limit)
        }
    }
}

fn end_child() -> ! {
    // SAFETY: _exit(2) takes a number and does not return; no destructor of the parent's copies must run here.
    unsafe { libc::_exit(0) }
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Reads the child's answer, or learns why there is none.
fn collect(child: i32, reader: OwnedFd, limit: Duration) -> Outcome {
    let Some(pid) = rustix::process::Pid::from_raw(child) else {
        return Outcome::TimedOut;
    };
    let deadline = Instant::now() + limit;
    let left = deadline.saturating_duration_since(Instant::now());
    let timespec = Timespec::try_from(left).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    });
    let ready = poll(
        &mut [PollFd::new(&reader.as_fd(), PollFlags::IN)],
        Some(&timespec),
    );
    let is_late = !matches!(ready, Ok(1..));
    if is_late {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let mut bytes = Vec::new();
    let _ = std::fs::File::from(reader).read_to_end(&mut bytes);
    let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    let signal = status
        .ok()
        .flatten()
        .and_then(|(_, status)| status.terminating_signal());
    let answer = |at: usize| {
        bytes
            .get(at..at + 8)
            .and_then(|part| part.try_into().ok())
            .map(i64::from_ne_bytes)
    };
    match (answer(0), answer(8), signal) {
        (Some(0), Some(value), _) => Outcome::Returned(value),
        (Some(_), Some(value), _) => Outcome::Failed(Errno::from_raw_os_error(
            i32::try_from(value).unwrap_or_default(),
        )),
        (_, _, _) if is_late => Outcome::TimedOut,
        (_, _, signal) => Outcome::Killed(signal.unwrap_or_default()),
    }
}

/// Makes a child by `clone(2)` with these namespace flags; the child ends at once. Gives the child's id.
///
/// Flags that share memory with the child are refused with EINVAL before the call.
///
/// # Errors
/// What the kernel answered.
pub fn clone_with_flags(flags: u64) -> Result<i64, Errno> {
    let shares = libc::CLONE_VM
        | libc::CLONE_VFORK
        | libc::CLONE_THREAD
        | libc::CLONE_SIGHAND
        | libc::CLONE_SETTLS;
    if flags & u64::from(shares.unsigned_abs()) != 0 {
        return Err(Errno::INVAL);
    }
    let returned = raw_words(
        libc::SYS_clone,
        [
            flags | u64::from(libc::SIGCHLD.unsigned_abs()),
            0,
            0,
            0,
            0,
            0,
        ],
    )?;
    finish_clone(returned)
}

/// The same by `clone3(2)`.
///
/// # Errors
/// What the kernel answered; ENOSYS is what filters give so that libraries fall back to `clone(2)`.
pub fn clone3_with_flags(flags: u64) -> Result<i64, Errno> {
    // struct clone_args of linux/sched.h, version 0: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
    // stack_size, tls.
    let mut bytes = [0u8; 64];
    bytes[..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[32..40].copy_from_slice(&u64::from(libc::SIGCHLD.unsigned_abs()).to_ne_bytes());
    let returned = raw_syscall(
        libc::SYS_clone3,
        &mut [Argument::Bytes(&bytes), Argument::Number(64)],
    )?;
    finish_clone(returned)
}

fn finish_clone(returned: i64) -> Result<i64, Errno> {
    if returned == 0 {
        end_child();
    }
    if let Some(pid) = i32::try_from(returned)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    Ok(returned)
}

/// Makes a system call through the 32-bit entry `int 0x80` of x86-64; call it in a child, it may be fatal.
///
/// Numbers are those of 32-bit x86 (20 is `getpid`).
///
/// # Errors
/// What the kernel answered; ENOSYS on other machines.
pub fn int80(number: u32, argument: u32) -> Result<i64, Errno> {
    #[cfg(target_arch = "x86_64")]
    {
        let returned: i64;
        // SAFETY:
        // - rbx is reserved by the compiler, so it is saved and restored around the call;
        // - int 0x80 clobbers r8 to r11 on some kernels (arch/x86/entry/entry_64_compat.S), declared below;
        // - the callers pass numbers of calls that take no pointer.
        unsafe {
            std::arch::asm!(
                "xchg rbx, {argument}",
                "int 0x80",
                "xchg rbx, {argument}",
                argument = inout(reg) u64::from(argument) => _,
                inlateout("rax") u64::from(number) => returned,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        if (-4095..0).contains(&returned) {
            return Err(Errno::from_raw_os_error(
                i32::try_from(-returned).unwrap_or_default(),
            ));
        }
        Ok(returned)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (number, argument);
        Err(Errno::NOSYS)
    }
}

/// Duplicates a descriptor number that this process has inherited, whatever it is.
///
/// # Errors
/// EBADF when it is not open.
pub fn duplicate_number(number: i32) -> Result<OwnedFd, Errno> {
    use std::os::fd::FromRawFd as _;
    let minimum = 3;
    let duplicated = raw_words(
        libc::SYS_fcntl,
        [
            u64::from(number.unsigned_abs()),
            u64::from(libc::F_DUPFD_CLOEXEC.unsigned_abs()),
            minimum,
            0,
            0,
            0,
        ],
    )?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(duplicated).unwrap_or(-1)) })
}

/// Gives the raw number of a descriptor, for [`Argument::Number`].
#[must_use]
pub fn number_of(fd: &impl std::os::fd::AsFd) -> Argument<'static> {
    Argument::Number(u64::from(fd.as_fd().as_raw_fd().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_an_errno() {
        let mut arguments = [Argument::Number(u64::MAX)];
        assert_eq!(
            raw_syscall(libc::SYS_close, &mut arguments),
            Err(Errno::BADF)
        );
    }

    #[test]
    fn a_pointer_reaches_the_kernel() {
        let mut buffer = [0u8; 390];
        assert_eq!(
            raw_syscall(libc::SYS_uname, &mut [Argument::Buffer(&mut buffer)]),
            Ok(0)
        );
        assert!(buffer.starts_with(b"Linux\0"));
    }
}
