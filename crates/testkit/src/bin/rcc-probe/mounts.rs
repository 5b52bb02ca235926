//! Probes of the mount calls, old and new.
//!
//! Must be run in throw-away mount namespaces when they are expected to succeed.

use rcc_sys::probe::{Argument, raw_syscall};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsmount, fsopen, mount, mount_bind, mount_remount, move_mount,
    open_tree, unmount,
};
use serde_json::Value;

use crate::files::{at_fdcwd, c_string, number};
use crate::{Arguments, Attempt, Probe, Step as _};

pub(crate) const PROBES: &[Probe] = &[
    (
        "mount-fs",
        "TYPE TARGET   (mount(2) of a new file system)",
        mount_fs,
    ),
    ("mount-bind", "SOURCE TARGET", bind),
    (
        "remount-writable",
        "TARGET   (bind remount without MS_RDONLY)",
        remount_writable,
    ),
    ("make-shared", "TARGET", make_shared),
    ("umount", "TARGET   (lazily)", umount),
    ("open-tree", "SOURCE   (a detached copy)", open_tree_clone),
    (
        "move-mount",
        "SOURCE TARGET   (open_tree, move_mount)",
        move_mount_clone,
    ),
    ("fsopen", "TYPE", fs_open),
    (
        "fsmount",
        "TYPE TARGET   (fsopen, fsconfig, fsmount, move_mount)",
        fs_mount,
    ),
    (
        "mount-setattr-writable",
        "TARGET   (clears MOUNT_ATTR_RDONLY)",
        setattr_writable,
    ),
    ("pivot-root", "NEW_ROOT PUT_OLD", pivot_root),
    ("chroot", "PATH", chroot),
];

fn mount_fs(arguments: &Arguments) -> Attempt {
    mount(
        "rcc-probe",
        arguments.path(1)?,
        arguments.text(0)?,
        MountFlags::empty(),
        None::<&std::ffi::CStr>,
    )?;
    Ok(Value::Null)
}

fn bind(arguments: &Arguments) -> Attempt {
    mount_bind(arguments.path(0)?, arguments.path(1)?)?;
    Ok(Value::Null)
}

fn remount_writable(arguments: &Arguments) -> Attempt {
    mount_remount(arguments.path(0)?, MountFlags::BIND, c"")?;
    Ok(Value::Null)
}

fn make_shared(arguments: &Arguments) -> Attempt {
    rustix::mount::mount_change(
        arguments.path(0)?,
        rustix::mount::MountPropagationFlags::SHARED,
    )?;
    Ok(Value::Null)
}

fn umount(arguments: &Arguments) -> Attempt {
    unmount(arguments.path(0)?, UnmountFlags::DETACH)?;
    Ok(Value::Null)
}

fn open_tree_clone(arguments: &Arguments) -> Attempt {
    open_tree(
        rustix::fs::CWD,
        arguments.path(0)?,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    Ok(Value::Null)
}

fn move_mount_clone(arguments: &Arguments) -> Attempt {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, arguments.path(0)?, flags).step("open_tree")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", rustix::fs::CWD, arguments.path(1)?, flags).step("move_mount")?;
    Ok(Value::Null)
}

fn fs_open(arguments: &Arguments) -> Attempt {
    fsopen(arguments.text(0)?, FsOpenFlags::FSOPEN_CLOEXEC)?;
    Ok(Value::Null)
}

fn fs_mount(arguments: &Arguments) -> Attempt {
    let context = fsopen(arguments.text(0)?, FsOpenFlags::FSOPEN_CLOEXEC).step("fsopen")?;
    fsconfig_create(&context).step("fsconfig")?;
    let mounted = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .step("fsmount")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mounted, "", rustix::fs::CWD, arguments.path(1)?, flags).step("move_mount")?;
    Ok(Value::Null)
}

fn setattr_writable(arguments: &Arguments) -> Attempt {
    // struct mount_attr of linux/mount.h: attr_set, attr_clr, propagation, userns_fd. MOUNT_ATTR_RDONLY is 1.
    let mut attributes = [0u8; 32];
    attributes[8] = 1;
    let path = c_string(arguments.path(0)?)?;
    let mut words = [
        Argument::Number(at_fdcwd()),
        Argument::Text(&path),
        Argument::Number(0),
        Argument::Bytes(&attributes),
        Argument::Number(32),
    ];
    raw_syscall(number("mount_setattr")?, &mut words)?;
    Ok(Value::Null)
}

fn pivot_root(arguments: &Arguments) -> Attempt {
    rustix::process::pivot_root(arguments.path(0)?, arguments.path(1)?)?;
    Ok(Value::Null)
}

fn chroot(arguments: &Arguments) -> Attempt {
    rustix::process::chroot(arguments.path(0)?)?;
    Ok(Value::Null)
}
