//! What planning must know about the host. `rcc-host` fills these values; nothing here reads anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

/// The caller of rcc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Effective user id; the only id mapped into the sandbox.
    pub uid: u32,
    /// Effective group id; the only group id mapped into the sandbox.
    pub gid: u32,
    /// Login name from the password database, or `user` when there is none.
    pub name: String,
    /// Login shell when it exists and is executable, else `/bin/sh`.
    pub shell: PathBuf,
}

/// Device and inode of a directory or file, to notice that it was replaced between looking and mounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileIdentity {
    /// `st_dev` as the kernel encodes it for user space.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What a directory entry is, without following symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link with its text.
    Symlink(PathBuf),
    /// A FIFO, socket or device: never mounted.
    Other,
}

/// One entry of the host's root directory that belongs to the operating system (`/usr`, `/bin`, `/nix` …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootEntry {
    /// Absolute path, one component below `/`.
    pub path: PathBuf,
    /// Directory (mounted read-only) or symbolic link (recreated).
    pub kind: EntryKind,
}

/// What is special about the host's `/etc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcFacts {
    /// Paths relative to `/etc` that must not be seen inside: the known secret files that exist, and for a root
    /// caller every file or directory that "others" may not read.
    pub secrets: Vec<PathBuf>,
    /// Lines of the host's `/etc/hosts` are not passed on; this is the host's name, for `/etc/hosts` inside.
    pub hostname: String,
}

/// A toolchain on the caller's `PATH` that lives under the real home and is mounted read-only at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathToolchain {
    /// Directory or file to mount, canonical (no symbolic links in it).
    pub path: PathBuf,
    /// Whether it is a directory.
    pub directory: bool,
    /// Variables the toolchain needs to be found inside, e.g. `RUSTUP_HOME`.
    pub env: Vec<(String, OsString)>,
}

/// One protected name (from `rcc_spec`'s table and the agent preset) that exists in the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedEntry {
    /// Path relative to the project root, no `..`, no symbolic link in any parent.
    pub path: PathBuf,
    /// What it is now.
    pub kind: EntryKind,
}

/// The project directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFacts {
    /// Canonical absolute path; never `/`, the home, or an ancestor of the home.
    pub root: PathBuf,
    /// Identity when it was looked at.
    pub identity: FileIdentity,
    /// Existing read-only-class protected names, parents before children.
    pub protected: Vec<ProtectedEntry>,
}

/// What lies over a directory outside of the project that the agent of a copy-on-write run may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RwLayer {
    /// Directory with `upper` and `work`: private, outside every grant.
    pub layer: PathBuf,
    /// Identity of what it lies over when it was looked at.
    pub identity: FileIdentity,
}

/// Everything `plan()` needs to know about the machine and the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The caller.
    pub user: User,
    /// The caller's real home directory, canonical. It does not exist inside; `$HOME` inside has the same path.
    pub home: PathBuf,
    /// The persistent agent home on the host, canonical, existing, mode 0700, owned by the caller.
    pub agent_home: PathBuf,
    /// The project.
    pub project: ProjectFacts,
    /// Directory to start in: canonical, the project root or below it.
    pub cwd: PathBuf,
    /// Existing entries among `/usr /bin /sbin /lib /lib32 /lib64 /libx32 /opt /nix /gnu`.
    pub root_entries: Vec<RootEntry>,
    /// `/etc`.
    pub etc: EtcFacts,
    /// Existing paths among the few of `/sys` that programs read (CPU and NUMA topology, huge-page settings).
    pub sys_entries: Vec<PathBuf>,
    /// `~/git` when it is an existing directory.
    pub git_directory: Option<PathBuf>,
    /// Toolchains under the real home found through `PATH`.
    pub toolchains: Vec<PathToolchain>,
    /// The caller's `PATH` entries that are absolute, in order.
    pub path: Vec<PathBuf>,
    /// The caller's environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Existing `readonly`/`rw`/`hidden`/share_state paths of the policy after `~` expansion and canonicalisation:
    /// requested path -> (canonical path, kind). A requested path that does not exist is absent here.
    pub resolved: BTreeMap<PathBuf, (PathBuf, EntryKind)>,
    /// Directory with `upper` and `work` for a copy-on-write run: private, outside every grant.
    pub cow_layer: Option<PathBuf>,
    /// The same for the directories of [`crate::layered`], by their canonical paths.
    pub rw_layers: BTreeMap<PathBuf, RwLayer>,
    /// What the patterns of `hidden` match in the project: canonical paths of files and directories.
    pub hidden: Vec<PathBuf>,
    /// Text of the user's own seccomp profile, when the policy names one and the file exists.
    pub seccomp_profile: Option<String>,
    /// Landlock ABI of the running kernel, 0 when it is missing or switched off (`landlock_create_ruleset(2)`).
    pub landlock_abi: u32,
    /// Kernel release as (major, minor).
    pub kernel: (u32, u32),
    /// Addresses of every interface of the host, loopback included.
    pub addresses: Vec<IpAddr>,
    /// What limits can be enforced with.
    pub groups: crate::limits::GroupFacts,
    /// Whether IPv6 is enabled in the kernel (`/proc/net/if_inet6` exists).
    pub ipv6: bool,
}
