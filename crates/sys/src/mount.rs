//! The mount calls that rustix does not wrap, and descriptor-relative opening.
//!
//! Must not: know the layout of the sandbox.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::SysError;
use crate::process::last_errno;

/// Attributes of a mount (`MOUNT_ATTR_*`, `mount_setattr(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttributes(u64);

impl MountAttributes {
    /// No write through this mount.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NO_SETUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device files cannot be opened.
    pub const NO_DEVICES: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Programs cannot be executed.
    pub const NO_EXECUTE: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    /// Joins two sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether a call concerns one mount or everything below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The mount itself.
    One,
    /// The mount and all mounts below it (`AT_RECURSIVE`).
    Tree,
}

/// `struct mount_attr`, `MOUNT_ATTR_SIZE_VER0`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes on the mount that `mount` refers to and makes it private (`mount_setattr(2)`, since Linux 5.12).
///
/// # Errors
/// `EPERM` when the caller lacks `CAP_SYS_ADMIN` over the mount namespace.
pub fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttributes,
    depth: Depth,
) -> Result<(), SysError> {
    let attributes = MountAttr {
        attr_set: set.0,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let recursive = match depth {
        Depth::One => 0,
        Depth::Tree => libc::AT_RECURSIVE,
    };
    // SAFETY: the path is the static empty C string; `attributes` is a live `mount_attr` of exactly the size passed,
    // which the kernel only reads; `mount` is open for the whole call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == -1 {
        Err(SysError::new("mount_setattr(2)", "", last_errno()))
    } else {
        Ok(())
    }
}

/// How a path may be resolved below a directory (`openat2(2)`, since Linux 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// No symbolic link is followed. One at the end of the path is opened itself.
    NoSymlinks,
    /// As above, and never above the directory.
    Beneath,
}

/// Opens `path` relative to `directory` as a location only (`O_PATH`), following no symbolic or magic link.
///
/// A link at the end of the path is not followed but opened: the caller looks at what it got.
///
/// # Errors
/// `ELOOP` when a component before the last is a link, `EXDEV` when the path would leave the directory, `ENOENT`, `ENOTDIR`, `EACCES`.
pub fn open_location(
    directory: BorrowedFd<'_>,
    path: &Path,
    resolve: Resolve,
) -> Result<OwnedFd, SysError> {
    let flags = match resolve {
        Resolve::NoSymlinks => ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        Resolve::Beneath => {
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH
        }
    };
    rustix::fs::openat2(
        directory.as_fd(),
        path,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        flags,
    )
    .map_err(SysError::at("openat2(2)", path.to_string_lossy()))
}
