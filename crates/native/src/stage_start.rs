//! Turns a freshly cloned process into pid 1: identity, sealed program, two descriptors, empty environment.
//!
//! Should: run in the cloned process, whose memory is still a copy of the supervisor's.
//! Mustn't: leave anything of that copy: it ends in an exec or an exit.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rcc_sys::SysError;
use rcc_sys::mount::{Depth, MountAttributes, set_mount_attributes};
use rcc_sys::process::{
    CloneFlags, close_on_exec_from, enter_new_network_namespace, execute_descriptor,
    place_descriptor,
};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::NativeError;
use crate::error::{on_step, on_step_call};
use crate::protocol::{Control, Message};
use crate::stage::{CONTROL_DESCRIPTOR, PROGRAM_DESCRIPTOR, STAGE_NAME};

/// The namespaces of the agent that are made with its first process. The network namespace, by far the slowest to make,
/// follows in the process itself, while the helper makes the router's.
pub(crate) const AGENT_NAMESPACES: CloneFlags = CloneFlags::USER
    .and(CloneFlags::MOUNT)
    .and(CloneFlags::PID)
    .and(CloneFlags::IPC)
    .and(CloneFlags::UTS)
    .and(CloneFlags::CGROUP)
    .and(CloneFlags::TIME);

/// Everything that the cloned process needs.
#[derive(Debug)]
pub(crate) struct Stage {
    control: Control,
    /// Where the helper waits for the agent's network namespace.
    pub(crate) helper: Option<Control>,
    program: CString,
    uid: u32,
    gid: u32,
}

impl Stage {
    /// Prepares the start while still in the supervisor.
    pub(crate) fn new(control: Control, uid: u32, gid: u32) -> Result<Self, NativeError> {
        let program = rustix::fs::readlinkat(CWD, "/proc/self/exe", Vec::new())
            .map_err(on_step_call("find rcc's own program", "readlinkat(2)"))?;
        // Out of the way of the numbers that pid 1 is started with: failures are told over it to the end.
        let control = rustix::io::fcntl_dupfd_cloexec(&control, PROGRAM_DESCRIPTOR + 1)
            .map_err(on_step_call("move a descriptor", "fcntl(2)"))?;
        Ok(Self {
            control: Control::from_descriptor(control),
            helper: None,
            program,
            uid,
            gid,
        })
    }

    /// Maps the ids of the calling process as those of pid 1 will be.
    pub(crate) fn map_own_identity(&self) -> Result<(), NativeError> {
        map_identity(self.uid, self.gid)
    }

    /// Becomes pid 1's program. Returns only on failure, with the exit code.
    pub(crate) fn execute(&self) -> i32 {
        let error = match self.try_execute() {
            Ok(source) => NativeError::Supervisor {
                step: "execute pid 1's program",
                source,
            },
            Err(error) => error,
        };
        // Without a listener nobody can be told; the exit code says the rest.
        let _ = self.control.send(
            &Message::Failed {
                chain: error.chain(),
                hint: error.hint(),
            },
            &[],
        );
        125
    }

    fn try_execute(&self) -> Result<SysError, NativeError> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(
            on_step_call("tie pid 1's life to the supervisor", "prctl(2)"),
        )?;
        self.map_own_identity()?;
        enter_new_network_namespace().map_err(on_step("make the agent's network namespace"))?;
        if let Some(helper) = &self.helper {
            let step = "hand the agent's network namespace to the helper";
            let namespace = rustix::fs::open(
                "/proc/self/ns/net",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(on_step_call(step, "openat(2)"))?;
            helper
                .send(&Message::AgentNamespace, &[namespace.as_fd()])
                .map_err(on_step(step))?;
        }
        let program = self.sealed_program()?;
        keep_capabilities_over_exec()?;
        let program = rustix::io::fcntl_dupfd_cloexec(&program, PROGRAM_DESCRIPTOR + 1)
            .map_err(on_step_call("move a descriptor", "fcntl(2)"))?;
        close_on_exec_from(3).map_err(on_step("close descriptors"))?;
        place_descriptor(self.control.as_fd(), CONTROL_DESCRIPTOR)
            .map_err(on_step("hand the control connection over"))?;
        place_descriptor(program.as_fd(), PROGRAM_DESCRIPTOR)
            .map_err(on_step("hand the program over"))?;
        let name = CString::new(STAGE_NAME)
            .map_err(|_| on_step_call("name pid 1", "execveat(2)")(Errno::INVAL))?;
        Ok(execute_descriptor(program.as_fd(), &[name], &[]))
    }

    /// Opens rcc's own program so that `/proc/1/exe` cannot be opened for writing (CVE-2019-5736): through a read-only
    /// mount of its own, or, when the file was replaced since this process started, as a sealed copy in memory.
    fn sealed_program(&self) -> Result<OwnedFd, NativeError> {
        let step = "seal rcc's own program";
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if let Ok(mount) = open_tree(CWD, self.program.as_c_str(), flags) {
            let running =
                rustix::fs::stat("/proc/self/exe").map_err(on_step_call(step, "stat(2)"))?;
            let found = rustix::fs::fstat(&mount).map_err(on_step_call(step, "fstat(2)"))?;
            if (running.st_dev, running.st_ino) == (found.st_dev, found.st_ino) {
                set_mount_attributes(mount.as_fd(), MountAttributes::READ_ONLY, Depth::One)
                    .map_err(on_step(step))?;
                return Ok(mount);
            }
        }
        sealed_copy()
    }
}

/// Makes a copy of rcc's own program in memory that nobody can change any more.
pub(crate) fn sealed_copy() -> Result<OwnedFd, NativeError> {
    let step = "seal rcc's own program";
    let running = rustix::fs::open(
        "/proc/self/exe",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(on_step_call(step, "openat(2)"))?;
    let copy = rustix::fs::memfd_create("rcc", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(on_step_call(step, "memfd_create(2)"))?;
    std::io::copy(
        &mut std::fs::File::from(running),
        &mut std::fs::File::from(
            copy.try_clone()
                .map_err(|_| on_step_call(step, "dup(2)")(Errno::MFILE))?,
        ),
    )
    .map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        on_step_call(step, "write(2)")(errno)
    })?;
    // `F_SEAL_WRITE` fails with EBUSY while anybody in the kernel holds one of the pages, as its scan of memory does at times.
    // The other one forbids the same where nothing is mapped for writing yet (`memfd_create(2)`, since Linux 5.1).
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE,
    )
    .map_err(on_step_call(step, "fcntl(2)"))?;
    Ok(copy)
}

/// Maps the caller's ids one to one; nothing else exists inside (`user_namespaces(7)`). A single-id map needs no
/// privilege, but `setgroups(2)` must be given up for good first.
fn map_identity(uid: u32, gid: u32) -> Result<(), NativeError> {
    let step = "map the caller's ids";
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ] {
        let file = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(on_step_call(step, "openat(2)"))?;
        rustix::io::write(&file, text.as_bytes()).map_err(on_step_call(step, "write(2)"))?;
    }
    Ok(())
}

/// An exec drops the capabilities of every user but root (`capabilities(7)`), and pid 1 still has to mount, to bring its
/// loopback up and to empty its bounding set; ambient capabilities survive. They are over the new user namespace only.
///
/// An overlay acts on its layers with the rights of whoever mounted it, and needs those of a file's owner over modes: its
/// own work directory has none. Of the host's files they reach the caller's own, no others are mapped.
fn keep_capabilities_over_exec() -> Result<(), NativeError> {
    let step = "keep pid 1's capabilities";
    let needed = CapabilitySet::SYS_ADMIN
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::SETPCAP
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::CHOWN
        | CapabilitySet::FSETID;
    let sets = CapabilitySets {
        effective: needed,
        permitted: needed,
        inheritable: needed,
    };
    rustix::thread::set_capabilities(None, sets).map_err(on_step_call(step, "capset(2)"))?;
    for capability in needed.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .map_err(on_step_call(step, "prctl(2)"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_sealed_copy_is_whole_and_cannot_be_changed() {
        let copy = sealed_copy().unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, std::fs::read("/proc/self/exe").unwrap());
        // It can be opened for writing, as the owner's file: it is the seals that refuse.
        let mut again = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(
            again.write(b"x").unwrap_err().raw_os_error(),
            Some(Errno::PERM.raw_os_error())
        );
        assert_eq!(rustix::fs::ftruncate(&copy, 0), Err(Errno::PERM));
        assert_eq!(
            rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE),
            Err(Errno::PERM)
        );
        let place = rustix::fs::fallocate(
            &copy,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            0,
            4096,
        );
        assert_eq!(place, Err(Errno::PERM));
    }
}
