//! The plan: everything that will be done for one run, as a value.

use std::collections::BTreeSet;

use rcc_spec::Publish;
use serde::{Deserialize, Serialize};

use crate::SafeBytes;
use crate::facts::FileIdentity;
use crate::limits::LimitsPlan;
use crate::oci::ProfileError;
use crate::request::Streams;

/// Oldest kernel the native engine works on: `mount_setattr(2)`, overlay in user namespaces, `reject` in prerouting,
/// `close_range(2)` with `CLOSE_RANGE_CLOEXEC` and Landlock are all there.
pub const MINIMUM_KERNEL: (u32, u32) = (5, 14);

/// What may be done below a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Look and execute.
    ReadOnly,
    /// Change as well.
    ReadWrite,
}

/// What a bind mount's source must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindKind {
    /// A directory with everything mounted below it.
    Directory,
    /// A single file.
    File,
    /// A character device of the minimal `/dev`.
    Device,
}

/// One step in building the sandbox's file tree. Steps are applied in order; `at` is a path inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum MountStep {
    /// Makes a directory (and its parents) on the sandbox's own root file system.
    Directory {
        /// Where.
        at: SafeBytes,
        /// Permission bits.
        mode: u32,
    },
    /// Writes a small file.
    File {
        /// Where.
        at: SafeBytes,
        /// What is in it.
        content: String,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        at: SafeBytes,
        /// The link's text.
        target: SafeBytes,
    },
    /// Shows a path of the host.
    Bind {
        /// Canonical path on the host; a symbolic link anywhere in it is an error.
        from: SafeBytes,
        /// Where.
        at: SafeBytes,
        /// What the source must be.
        kind: BindKind,
        /// Read-only or read-write.
        access: Access,
        /// The source must still be this very directory or file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<FileIdentity>,
    },
    /// Shows a directory of the host with a writable layer over it: it stays as it is, changes go to the layer.
    Overlay {
        /// Canonical path of the directory; a symbolic link anywhere in it is an error, and it is shown without what is
        /// mounted below it.
        lower: SafeBytes,
        /// Directory with the layer: `upper` for the changes, `work` for the kernel.
        layer: SafeBytes,
        /// Where.
        at: SafeBytes,
        /// The directory must still be this very one.
        identity: FileIdentity,
    },
    /// Mounts the host's `/etc` read-only with some files replaced and others absent (a read-only overlay).
    Etc {
        /// Replaced or added files: path relative to `/etc`, content.
        synthetic: Vec<(SafeBytes, String)>,
        /// Absent paths, relative to `/etc`.
        absent: Vec<SafeBytes>,
    },
    /// Mounts an empty private file system in memory.
    Tmpfs {
        /// Where.
        at: SafeBytes,
        /// Upper bound of its content, in bytes.
        size_bytes: u64,
        /// Permission bits of its root.
        mode: u32,
    },
    /// Mounts the pid namespace's own `/proc`.
    Proc,
    /// Mounts an own instance of the terminal file system on `/dev/pts`.
    Devpts,
    /// Makes a path a mount of itself, so that it can be neither renamed nor removed. It must exist.
    Pin {
        /// Where.
        at: SafeBytes,
        /// Read-only or read-write.
        access: Access,
    },
    /// Covers an existing path with an empty, unreadable file or directory; a path that does not exist is left alone.
    Hide {
        /// Where.
        at: SafeBytes,
    },
    /// Makes an existing path a read-only mount of itself; a path that does not exist is left alone.
    Freeze {
        /// Where.
        at: SafeBytes,
    },
}

/// A path that Landlock lets the agent change; everything else below `/` can only be looked at and executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRule {
    /// Path inside the sandbox. One that does not exist when the rules are made is left out.
    pub path: SafeBytes,
    /// What the path is for, decides the rights given.
    pub grant: Grant,
}

/// Rights of a [`LandlockRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Everything on files and directories, but no device control.
    Files,
    /// Reading, writing and controlling devices (terminals, `/dev/null`).
    Devices,
}

/// Which system-call filter the agent gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompProfile {
    /// rcc's allow-list for development work.
    Default,
    /// The short allow-list.
    Strict,
    /// The part of the default list that the user's own profile allows too.
    Own {
        /// Names of the calls in that profile.
        allowed: BTreeSet<String>,
    },
}

/// Hardening of the agent's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// System-call filter.
    pub seccomp: SeccompProfile,
    /// Landlock ABI that will be used; 0 only when the user gave it up by a `dangerously_` word.
    pub landlock_abi: u32,
    /// Landlock rules.
    pub landlock: Vec<LandlockRule>,
}

/// The network of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Loopback only; no gateway runs.
    None,
    /// Two namespaces and the gateway.
    Gateway {
        /// Whether the link has IPv6 addresses.
        ipv6: bool,
    },
}

/// Everything that will be done for one run. `rcc plan` prints it, the native engine applies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Identifier of the run.
    pub run_id: String,
    /// Program and arguments.
    pub argv: Vec<SafeBytes>,
    /// The complete environment of the agent.
    pub environment: Vec<(SafeBytes, SafeBytes)>,
    /// Directory the agent starts in.
    pub cwd: SafeBytes,
    /// Hostname inside.
    pub hostname: String,
    /// The only user id inside.
    pub uid: u32,
    /// The only group id inside.
    pub gid: u32,
    /// Which standard streams become a pseudo-terminal.
    pub streams: Streams,
    /// How the file tree is built.
    pub mounts: Vec<MountStep>,
    /// How the processes are confined.
    pub hardening: Hardening,
    /// The network.
    pub network: Network,
    /// Ports of the sandbox that the host listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// What the run is limited to.
    #[serde(default, skip_serializing_if = "LimitsPlan::is_empty")]
    pub limits: LimitsPlan,
    /// Protection that the user gave up or that the host lacks; printed at every start.
    pub warnings: Vec<String>,
}

/// Why no plan can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The kernel is too old.
    #[error("the kernel is {major}.{minor}, but the native engine needs {}.{} or newer", MINIMUM_KERNEL.0, MINIMUM_KERNEL.1)]
    KernelTooOld {
        /// Major version found.
        major: u32,
        /// Minor version found.
        minor: u32,
    },
    /// Landlock is missing and the policy did not give it up.
    #[error("the kernel offers no Landlock, the second layer of file protection")]
    LandlockMissing,
    /// A path of the policy does not exist.
    #[error("the path {path} named by {setting} does not exist")]
    PathMissing {
        /// The path as the policy has it.
        path: SafeBytes,
        /// Which setting named it.
        setting: &'static str,
    },
    /// A path of the policy is a socket, FIFO or device.
    #[error("the path {path} named by {setting} is neither a directory nor a regular file")]
    PathKind {
        /// The path as the policy has it.
        path: SafeBytes,
        /// Which setting named it.
        setting: &'static str,
    },
    /// A path of the policy would undo the sandbox.
    #[error("the path {path} named by {setting} cannot be granted: {reason}")]
    PathForbidden {
        /// The path as the policy has it.
        path: SafeBytes,
        /// Which setting named it.
        setting: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The user's own seccomp profile cannot be used.
    #[error("cannot use the seccomp profile {path}")]
    Profile {
        /// The path as the policy has it.
        path: SafeBytes,
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// A limit that somebody named and that nothing here can enforce.
    #[error("the limit {limit} ({origin}) cannot be enforced: {reason}")]
    LimitNotEnforceable {
        /// The limit.
        limit: String,
        /// Who named it.
        origin: String,
        /// Why not.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// A copy-on-write run without a layer.
    #[error("no layer was made for a copy-on-write run")]
    NoLayer,
    /// The command is empty.
    #[error("no command was given")]
    NoCommand,
    /// A string for the kernel contains a NUL byte.
    #[error("{what} contains a NUL byte")]
    NulByte {
        /// Which string.
        what: &'static str,
    },
}
