//! The system calls of each profile, by group, each group with its reason. Data only.
//!
//! A call that is in no table fails with `ENOSYS`, so that programs fall back as on an older kernel.
#![expect(
    clippy::cast_possible_truncation,
    reason = "call numbers are small and positive"
)]

/// A system call by name and number.
pub(super) type Call = (&'static str, u32);

macro_rules! calls {
    ($($name:ident $number:ident),* $(,)?) => { &[$((stringify!($name), libc::$number as u32)),*] };
}

/// What nearly every program needs: memory, files that are already open, time, its own threads and signals.
/// Together with [`STRICT_FILES`] this is the `strict` profile.
pub(super) const CORE: &[Call] = calls![
    brk SYS_brk, mmap SYS_mmap, munmap SYS_munmap, mremap SYS_mremap, mprotect SYS_mprotect, madvise SYS_madvise,
    read SYS_read, write SYS_write, readv SYS_readv, writev SYS_writev, pread64 SYS_pread64, pwrite64 SYS_pwrite64,
    close SYS_close, close_range SYS_close_range, lseek SYS_lseek, dup SYS_dup, dup3 SYS_dup3, fcntl SYS_fcntl, ioctl SYS_ioctl,
    pipe2 SYS_pipe2, ppoll SYS_ppoll, fstat SYS_fstat, getrandom SYS_getrandom,
    futex SYS_futex, set_robust_list SYS_set_robust_list, rseq SYS_rseq, set_tid_address SYS_set_tid_address,
    rt_sigaction SYS_rt_sigaction, rt_sigprocmask SYS_rt_sigprocmask, rt_sigreturn SYS_rt_sigreturn,
    rt_sigsuspend SYS_rt_sigsuspend, sigaltstack SYS_sigaltstack, kill SYS_kill, tgkill SYS_tgkill,
    clock_gettime SYS_clock_gettime, clock_nanosleep SYS_clock_nanosleep, gettimeofday SYS_gettimeofday, nanosleep SYS_nanosleep,
    getpid SYS_getpid, getppid SYS_getppid, gettid SYS_gettid, getuid SYS_getuid, geteuid SYS_geteuid, getgid SYS_getgid,
    getegid SYS_getegid, getgroups SYS_getgroups, getpgid SYS_getpgid, setpgid SYS_setpgid, getsid SYS_getsid,
    clone SYS_clone, execve SYS_execve, wait4 SYS_wait4, waitid SYS_waitid, exit SYS_exit, exit_group SYS_exit_group,
    restart_syscall SYS_restart_syscall, prlimit64 SYS_prlimit64, uname SYS_uname, prctl SYS_prctl,
    sched_getaffinity SYS_sched_getaffinity, sched_yield SYS_sched_yield, umask SYS_umask, sysinfo SYS_sysinfo,
];

/// What it takes to answer requests for sockets; `socket` itself is allowed by argument.
pub(super) const SOCKET_MAKER: &[Call] = calls![
    recvmsg SYS_recvmsg, sendmsg SYS_sendmsg, close SYS_close, exit_group SYS_exit_group, rt_sigreturn SYS_rt_sigreturn,
    restart_syscall SYS_restart_syscall, brk SYS_brk, mmap SYS_mmap, munmap SYS_munmap, mremap SYS_mremap, madvise SYS_madvise,
    futex SYS_futex,
];

/// Files by name, for the `strict` profile.
pub(super) const STRICT_FILES: &[Call] = calls![
    openat SYS_openat, newfstatat SYS_newfstatat, statx SYS_statx, faccessat2 SYS_faccessat2, faccessat SYS_faccessat,
    readlinkat SYS_readlinkat, getdents64 SYS_getdents64, getcwd SYS_getcwd, chdir SYS_chdir, unlinkat SYS_unlinkat,
    mkdirat SYS_mkdirat, renameat2 SYS_renameat2, ftruncate SYS_ftruncate, fsync SYS_fsync,
];

/// Old spellings that x86-64 programs still use; other architectures never had them.
#[cfg(target_arch = "x86_64")]
pub(super) const LEGACY: &[Call] = calls![
    open SYS_open, creat SYS_creat, stat SYS_stat, lstat SYS_lstat, access SYS_access, readlink SYS_readlink, poll SYS_poll,
    select SYS_select, pipe SYS_pipe, dup2 SYS_dup2, getdents SYS_getdents, rename SYS_rename, mkdir SYS_mkdir, rmdir SYS_rmdir,
    link SYS_link, unlink SYS_unlink, symlink SYS_symlink, chmod SYS_chmod, chown SYS_chown, lchown SYS_lchown,
    utime SYS_utime, utimes SYS_utimes, futimesat SYS_futimesat, mknod SYS_mknod, fork SYS_fork, vfork SYS_vfork, pause SYS_pause,
    alarm SYS_alarm, time SYS_time, getpgrp SYS_getpgrp, epoll_create SYS_epoll_create, epoll_wait SYS_epoll_wait,
    epoll_ctl_old SYS_epoll_ctl_old, epoll_wait_old SYS_epoll_wait_old, eventfd SYS_eventfd, signalfd SYS_signalfd,
    inotify_init SYS_inotify_init, arch_prctl SYS_arch_prctl, sendfile SYS_sendfile, fadvise64 SYS_fadvise64, getrlimit SYS_getrlimit,
    set_thread_area SYS_set_thread_area, get_thread_area SYS_get_thread_area,
];
/// Spellings that only other architectures have.
#[cfg(target_arch = "aarch64")]
pub(super) const LEGACY: &[Call] = calls![
    sendfile SYS_sendfile, fadvise64 SYS_fadvise64, getrlimit SYS_getrlimit, renameat SYS_renameat,
];

/// The calls of [`LEGACY`] that the `strict` profile keeps: the same work as their `…at` forms, and starting programs.
#[cfg(target_arch = "x86_64")]
pub(super) const STRICT_LEGACY: &[Call] = calls![
    open SYS_open, stat SYS_stat, lstat SYS_lstat, access SYS_access, readlink SYS_readlink, poll SYS_poll, pipe SYS_pipe,
    dup2 SYS_dup2, fork SYS_fork, vfork SYS_vfork, arch_prctl SYS_arch_prctl, getpgrp SYS_getpgrp,
];
#[cfg(target_arch = "aarch64")]
pub(super) const STRICT_LEGACY: &[Call] = &[];

/// Everything about files.
pub(super) const FILES: &[Call] = calls![
    openat2 SYS_openat2, fchdir SYS_fchdir, fchmod SYS_fchmod, fchmodat SYS_fchmodat, fchown SYS_fchown, fchownat SYS_fchownat,
    linkat SYS_linkat, symlinkat SYS_symlinkat, renameat SYS_renameat, mknodat SYS_mknodat, truncate SYS_truncate,
    fallocate SYS_fallocate, fdatasync SYS_fdatasync, sync SYS_sync, syncfs SYS_syncfs, sync_file_range SYS_sync_file_range,
    statfs SYS_statfs, fstatfs SYS_fstatfs, utimensat SYS_utimensat, flock SYS_flock, copy_file_range SYS_copy_file_range,
    splice SYS_splice, tee SYS_tee, preadv SYS_preadv, pwritev SYS_pwritev, preadv2 SYS_preadv2, pwritev2 SYS_pwritev2,
    readahead SYS_readahead, memfd_create SYS_memfd_create,
    getxattr SYS_getxattr, lgetxattr SYS_lgetxattr, fgetxattr SYS_fgetxattr, setxattr SYS_setxattr, lsetxattr SYS_lsetxattr,
    fsetxattr SYS_fsetxattr, listxattr SYS_listxattr, llistxattr SYS_llistxattr, flistxattr SYS_flistxattr,
    removexattr SYS_removexattr, lremovexattr SYS_lremovexattr, fremovexattr SYS_fremovexattr,
    inotify_init1 SYS_inotify_init1, inotify_add_watch SYS_inotify_add_watch, inotify_rm_watch SYS_inotify_rm_watch,
    fchmodat2 SYS_fchmodat2,
];

/// Waiting for several things, timers, asynchronous reads of the older kind.
pub(super) const EVENTS: &[Call] = calls![
    pselect6 SYS_pselect6, epoll_create1 SYS_epoll_create1, epoll_ctl SYS_epoll_ctl, epoll_pwait SYS_epoll_pwait,
    epoll_pwait2 SYS_epoll_pwait2, eventfd2 SYS_eventfd2, signalfd4 SYS_signalfd4, timerfd_create SYS_timerfd_create,
    timerfd_settime SYS_timerfd_settime, timerfd_gettime SYS_timerfd_gettime, timer_create SYS_timer_create,
    timer_settime SYS_timer_settime, timer_gettime SYS_timer_gettime, timer_getoverrun SYS_timer_getoverrun,
    timer_delete SYS_timer_delete, getitimer SYS_getitimer, setitimer SYS_setitimer, clock_getres SYS_clock_getres,
    io_setup SYS_io_setup, io_destroy SYS_io_destroy, io_submit SYS_io_submit, io_getevents SYS_io_getevents,
    io_cancel SYS_io_cancel, futex_waitv SYS_futex_waitv,
];

/// Processes, threads, scheduling of one's own, limits, debugging of one's own children.
pub(super) const PROCESSES: &[Call] = calls![
    execveat SYS_execveat, tkill SYS_tkill, rt_sigpending SYS_rt_sigpending, rt_sigqueueinfo SYS_rt_sigqueueinfo,
    rt_sigtimedwait SYS_rt_sigtimedwait, rt_tgsigqueueinfo SYS_rt_tgsigqueueinfo, pidfd_open SYS_pidfd_open,
    pidfd_send_signal SYS_pidfd_send_signal, setsid SYS_setsid, getpriority SYS_getpriority, setpriority SYS_setpriority,
    setrlimit SYS_setrlimit, getrusage SYS_getrusage, times SYS_times, getcpu SYS_getcpu,
    sched_getparam SYS_sched_getparam, sched_setparam SYS_sched_setparam, sched_getscheduler SYS_sched_getscheduler,
    sched_setscheduler SYS_sched_setscheduler, sched_getattr SYS_sched_getattr, sched_setattr SYS_sched_setattr,
    sched_get_priority_max SYS_sched_get_priority_max, sched_get_priority_min SYS_sched_get_priority_min,
    sched_rr_get_interval SYS_sched_rr_get_interval, sched_setaffinity SYS_sched_setaffinity,
    ioprio_get SYS_ioprio_get, ioprio_set SYS_ioprio_set, get_robust_list SYS_get_robust_list, membarrier SYS_membarrier,
    ptrace SYS_ptrace, process_vm_readv SYS_process_vm_readv, process_vm_writev SYS_process_vm_writev,
    seccomp SYS_seccomp, capget SYS_capget, capset SYS_capset, personality SYS_personality,
    setuid SYS_setuid, setgid SYS_setgid, setreuid SYS_setreuid, setregid SYS_setregid, setresuid SYS_setresuid,
    setresgid SYS_setresgid, setfsuid SYS_setfsuid, setfsgid SYS_setfsgid, setgroups SYS_setgroups,
    getresuid SYS_getresuid, getresgid SYS_getresgid,
    landlock_create_ruleset SYS_landlock_create_ruleset, landlock_add_rule SYS_landlock_add_rule,
    landlock_restrict_self SYS_landlock_restrict_self, unshare SYS_unshare,
];

/// Memory beyond the core.
pub(super) const MEMORY: &[Call] = calls![
    mincore SYS_mincore, msync SYS_msync, mlock SYS_mlock, mlock2 SYS_mlock2, munlock SYS_munlock, mlockall SYS_mlockall,
    munlockall SYS_munlockall, remap_file_pages SYS_remap_file_pages, process_madvise SYS_process_madvise,
    pkey_alloc SYS_pkey_alloc, pkey_free SYS_pkey_free, pkey_mprotect SYS_pkey_mprotect, get_mempolicy SYS_get_mempolicy,
    shmget SYS_shmget, shmat SYS_shmat, shmdt SYS_shmdt, shmctl SYS_shmctl, semget SYS_semget, semop SYS_semop,
    semtimedop SYS_semtimedop, semctl SYS_semctl, msgget SYS_msgget, msgsnd SYS_msgsnd, msgrcv SYS_msgrcv, msgctl SYS_msgctl,
    mq_open SYS_mq_open, mq_unlink SYS_mq_unlink, mq_timedsend SYS_mq_timedsend, mq_timedreceive SYS_mq_timedreceive,
    mq_notify SYS_mq_notify, mq_getsetattr SYS_mq_getsetattr,
];

/// Sockets; `socket` and `socketpair` are further narrowed by argument.
pub(super) const SOCKETS: &[Call] = calls![
    socket SYS_socket, socketpair SYS_socketpair, bind SYS_bind, listen SYS_listen, accept SYS_accept, accept4 SYS_accept4,
    connect SYS_connect, getsockname SYS_getsockname, getpeername SYS_getpeername, setsockopt SYS_setsockopt,
    getsockopt SYS_getsockopt, sendto SYS_sendto, recvfrom SYS_recvfrom, sendmsg SYS_sendmsg, recvmsg SYS_recvmsg,
    sendmmsg SYS_sendmmsg, recvmmsg SYS_recvmmsg, shutdown SYS_shutdown,
];

/// Calls that fail with `EPERM` instead of `ENOSYS`, because programs take "not permitted" as the plain answer that it
/// is: changing namespaces and mounts, other processes' descriptors, keys, kernel tracing, modules, clocks, the machine.
pub(super) const REFUSED: &[Call] = calls![
    mount SYS_mount, umount2 SYS_umount2, pivot_root SYS_pivot_root, chroot SYS_chroot, fsopen SYS_fsopen, fsmount SYS_fsmount,
    fsconfig SYS_fsconfig, fspick SYS_fspick, open_tree SYS_open_tree, move_mount SYS_move_mount,
    mount_setattr SYS_mount_setattr, setns SYS_setns,
    pidfd_getfd SYS_pidfd_getfd, kcmp SYS_kcmp, name_to_handle_at SYS_name_to_handle_at, open_by_handle_at SYS_open_by_handle_at,
    keyctl SYS_keyctl, add_key SYS_add_key, request_key SYS_request_key, bpf SYS_bpf, perf_event_open SYS_perf_event_open,
    userfaultfd SYS_userfaultfd, io_uring_setup SYS_io_uring_setup, io_uring_enter SYS_io_uring_enter,
    io_uring_register SYS_io_uring_register, init_module SYS_init_module, finit_module SYS_finit_module,
    delete_module SYS_delete_module, kexec_load SYS_kexec_load, reboot SYS_reboot, swapon SYS_swapon, swapoff SYS_swapoff,
    syslog SYS_syslog, settimeofday SYS_settimeofday, clock_settime SYS_clock_settime, clock_adjtime SYS_clock_adjtime,
    adjtimex SYS_adjtimex, acct SYS_acct, quotactl SYS_quotactl, sethostname SYS_sethostname, setdomainname SYS_setdomainname,
    vhangup SYS_vhangup, fanotify_init SYS_fanotify_init, fanotify_mark SYS_fanotify_mark, vmsplice SYS_vmsplice,
];
