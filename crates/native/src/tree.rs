//! A file tree that is being made of mounts, and how its places are reached: [`crate::site`] builds the sandbox's with it,
//! the guard puts lost mounts back.
//!
//! Theory of operation. The new root is a file system in memory that nobody else has seen, so names below it are ours.
//! Sources are named by canonical host paths and opened without following any link. Targets are opened relative to the
//! new root with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`: as soon as a target lies inside a tree that an agent could
//! write to in an earlier run (the project, the agent home), a planted link is an error, not a way out.
//!
//! Mustn't: touch a path of the host other than to open it for mounting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rcc_plan::{Access, BindKind, FileIdentity, SafeBytes};
use rcc_sys::SysError;
use rcc_sys::mount::{Depth, MountAttributes, Resolve, open_location, set_mount_attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use crate::error::NativeError;

/// A tree by its root.
pub(crate) struct Tree {
    pub(crate) root: OwnedFd,
}

/// The directory that something is made in.
enum Parent<'tree> {
    Root(BorrowedFd<'tree>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(root) => *root,
            Self::Below(directory) => directory.as_fd(),
        }
    }
}

pub(crate) fn at(
    action: &'static str,
    path: impl Into<SafeBytes>,
) -> impl FnOnce(SysError) -> NativeError {
    let path = path.into();
    move |source| NativeError::Tree {
        action,
        path,
        source,
    }
}

pub(crate) fn call(
    action: &'static str,
    call: &'static str,
    path: &Path,
) -> impl FnOnce(Errno) -> NativeError {
    let path = SafeBytes::from(path);
    move |errno| NativeError::Tree {
        action,
        path,
        source: SysError::new(call, "", errno),
    }
}

/// Makes a detached file system in memory.
pub(crate) fn memory_file_system(
    purpose: &str,
    size: &str,
    mode: u32,
) -> Result<OwnedFd, NativeError> {
    let purpose = Path::new(purpose);
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(call(
        "make a file system in memory for",
        "fsopen(2)",
        purpose,
    ))?;
    fsconfig_set_string(&context, "size", size)
        .and_then(|()| fsconfig_set_string(&context, "mode", format!("{mode:o}")))
        .and_then(|()| fsconfig_create(&context))
        .map_err(call(
            "make a file system in memory for",
            "fsconfig(2)",
            purpose,
        ))?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(call(
        "make a file system in memory for",
        "fsmount(2)",
        purpose,
    ))
}

/// The path of a plan step relative to the new root.
pub(crate) fn relative(path: &SafeBytes) -> &Path {
    path.as_path().strip_prefix("/").unwrap_or(path.as_path())
}

impl Tree {
    /// Makes a directory and its missing parents, then opens it. A link anywhere in the path is an error.
    pub(crate) fn directory(&self, path: &Path, mode: u32) -> Result<OwnedFd, NativeError> {
        let mode = Mode::from_raw_mode(mode);
        // A name of the root itself leads through nothing, and most are missing.
        let is_top = path.components().count() == 1 && path.file_name().is_some();
        if is_top && rustix::fs::mkdirat(&self.root, path, mode).is_ok() {
            return open_location(self.root.as_fd(), path, Resolve::Beneath)
                .map_err(at("open", absolute(path)));
        }
        match open_location(self.root.as_fd(), dot_if_empty(path), Resolve::Beneath) {
            Ok(directory) => return no_link(directory, path),
            Err(error) if error.errno == Errno::NOENT => {}
            Err(source) => return Err(at("open", absolute(path))(source)),
        }
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::mkdirat(&parent, name, mode) {
            // Another run of the same agent home was quicker.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(call("make the directory", "mkdirat(2)", &absolute(path))(
                    errno,
                ));
            }
        }
        open_made(&parent, name, path)
    }

    /// Opens the parent directory of `path` (making it when it is missing) and names the last component.
    fn parent_of<'a>(
        &self,
        path: &'a Path,
    ) -> Result<(Parent<'_>, &'a std::ffi::OsStr), NativeError> {
        let invalid = || at("use", absolute(path))(SysError::new("openat2(2)", "", Errno::INVAL));
        let name = path.file_name().ok_or_else(invalid)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let parent = if above.as_os_str().is_empty() {
            Parent::Root(self.root.as_fd())
        } else {
            Parent::Below(self.directory(above, 0o755)?)
        };
        Ok((parent, name))
    }

    pub(crate) fn file(&self, path: &Path, content: &str, mode: u32) -> Result<(), NativeError> {
        let (parent, name) = self.parent_of(path)?;
        write_file(
            &parent,
            Path::new(name),
            content.as_bytes(),
            mode,
            &absolute(path),
        )
    }

    pub(crate) fn symlink(&self, path: &Path, target: &Path) -> Result<(), NativeError> {
        let (parent, name) = self.parent_of(path)?;
        rustix::fs::symlinkat(target, &parent, name).map_err(call(
            "make the link",
            "symlinkat(2)",
            &absolute(path),
        ))
    }

    /// Opens the place where something will be mounted, making an empty file or directory when it is missing.
    pub(crate) fn mount_point(&self, path: &Path, kind: BindKind) -> Result<OwnedFd, NativeError> {
        match kind {
            BindKind::Directory => self.directory(path, 0o755),
            BindKind::File | BindKind::Device => {
                match open_location(self.root.as_fd(), path, Resolve::Beneath) {
                    Ok(file) => return no_link(file, path),
                    Err(error) if error.errno == Errno::NOENT => {}
                    Err(source) => return Err(at("open", absolute(path))(source)),
                }
                let (parent, name) = self.parent_of(path)?;
                match write_file(&parent, Path::new(name), b"", 0o644, &absolute(path)) {
                    // As with a directory.
                    Err(NativeError::Tree { source, .. }) if source.errno == Errno::EXIST => {}
                    other => other?,
                }
                open_made(&parent, name, path)
            }
        }
    }

    pub(crate) fn bind(
        &self,
        source: &OwnedFd,
        target: &OwnedFd,
        path: &SafeBytes,
        kind: BindKind,
        access: Access,
    ) -> Result<(), NativeError> {
        let (recursive, depth) = match kind {
            BindKind::Directory => (OpenTreeFlags::AT_RECURSIVE, Depth::Tree),
            BindKind::File | BindKind::Device => (OpenTreeFlags::empty(), Depth::One),
        };
        let mount = open_tree(
            source,
            "",
            OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | recursive,
        )
        .map_err(call("mount", "open_tree(2)", path.as_path()))?;
        let mut attributes = MountAttributes::NO_SETUID;
        if kind != BindKind::Device {
            attributes = attributes.and(MountAttributes::NO_DEVICES);
        }
        if kind == BindKind::Device {
            attributes = attributes.and(MountAttributes::NO_EXECUTE);
        }
        if access == Access::ReadOnly {
            attributes = attributes.and(MountAttributes::READ_ONLY);
        }
        set_mount_attributes(mount.as_fd(), attributes, depth)
            .map_err(at("protect", path.clone()))?;
        self.attach(&mount, target, path)
    }

    pub(crate) fn attach(
        &self,
        mount: &OwnedFd,
        target: &OwnedFd,
        path: &SafeBytes,
    ) -> Result<(), NativeError> {
        move_mount(
            mount,
            "",
            target,
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )
        .map_err(call("mount", "move_mount(2)", path.as_path()))
    }

    pub(crate) fn proc(&self) -> Result<(), NativeError> {
        let path = Path::new("/proc");
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(call(
            "mount",
            "fsopen(2)",
            path,
        ))?;
        fsconfig_create(&context).map_err(call("mount", "fsconfig(2)", path))?;
        let mount = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )
        .map_err(call("mount", "fsmount(2)", path))?;
        let target = self.directory(Path::new("proc"), 0o755)?;
        self.attach(&mount, &target, &SafeBytes::from("/proc"))
    }

    pub(crate) fn devpts(&self) -> Result<(), NativeError> {
        let path = Path::new("/dev/pts");
        let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC).map_err(call(
            "mount",
            "fsopen(2)",
            path,
        ))?;
        fsconfig_set_string(&context, "ptmxmode", "0666")
            .and_then(|()| fsconfig_set_string(&context, "mode", "0620"))
            .and_then(|()| fsconfig_create(&context))
            .map_err(call("mount", "fsconfig(2)", path))?;
        let mount = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )
        .map_err(call("mount", "fsmount(2)", path))?;
        let target = self.directory(Path::new("dev/pts"), 0o755)?;
        self.attach(&mount, &target, &SafeBytes::from("/dev/pts"))
    }

    /// Mounts a path read-only on itself.
    pub(crate) fn freeze(&self, path: &SafeBytes) -> Result<(), NativeError> {
        let Some((target, kind)) = self.existing(path)? else {
            return Ok(());
        };
        self.bind(&target, &target, path, kind, Access::ReadOnly)
    }

    /// Opens a path of the sandbox; `None` when there is nothing.
    pub(crate) fn existing(
        &self,
        path: &SafeBytes,
    ) -> Result<Option<(OwnedFd, BindKind)>, NativeError> {
        let target = match open_location(self.root.as_fd(), relative(path), Resolve::Beneath) {
            Ok(target) => target,
            Err(error) if error.errno == Errno::NOENT || error.errno == Errno::NOTDIR => {
                return Ok(None);
            }
            Err(source) => return Err(at("open", path.clone())(source)),
        };
        let kind = file_type(&target, path)?;
        Ok(Some((
            target,
            if kind == FileType::Directory {
                BindKind::Directory
            } else {
                BindKind::File
            },
        )))
    }

    /// Makes the tree this process's root, detaches the old one, and closes the new root for writing.
    pub(crate) fn enter(self) -> Result<(), NativeError> {
        let root = Path::new("/");
        rustix::process::fchdir(&self.root).map_err(call("enter", "fchdir(2)", root))?;
        // With the same directory twice the old root ends up on top of the new one and can be detached there without
        // a directory to put it in (`pivot_root(2)`, notes).
        rustix::process::pivot_root(".", ".").map_err(call("pivot to", "pivot_root(2)", root))?;
        unmount(".", UnmountFlags::DETACH).map_err(call(
            "detach the old root from",
            "umount2(2)",
            root,
        ))?;
        rustix::process::chdir("/").map_err(call("enter", "chdir(2)", root))?;
        set_mount_attributes(
            self.root.as_fd(),
            MountAttributes::READ_ONLY
                .and(MountAttributes::NO_SETUID)
                .and(MountAttributes::NO_DEVICES),
            Depth::One,
        )
        .map_err(at("close for writing", "/"))
    }
}

/// Opens a host path for mounting and checks that it is what the plan saw.
pub(crate) fn open_source(
    from: &SafeBytes,
    kind: BindKind,
    identity: Option<FileIdentity>,
) -> Result<OwnedFd, NativeError> {
    let source = open_location(CWD, from.as_path(), Resolve::NoSymlinks)
        .map_err(at("open", from.clone()))?;
    let found = file_type(&source, from)?;
    let fits = match kind {
        BindKind::Directory => found == FileType::Directory,
        BindKind::File => found == FileType::RegularFile,
        BindKind::Device => found == FileType::CharacterDevice,
    };
    if !fits {
        return Err(NativeError::Replaced { path: from.clone() });
    }
    if let Some(expected) = identity {
        let stat =
            rustix::fs::fstat(&source).map_err(call("look at", "fstat(2)", from.as_path()))?;
        if (FileIdentity {
            device: stat.st_dev,
            inode: stat.st_ino,
        }) != expected
        {
            return Err(NativeError::Replaced { path: from.clone() });
        }
    }
    Ok(source)
}

/// Gives the location back unless it is a symbolic link: a location may be one (`open(2)`, `O_PATH | O_NOFOLLOW`), and
/// an earlier run may have planted it where something is to be mounted.
/// Opens what was missing a moment ago; whoever made it, it is no link.
fn open_made(
    parent: &impl AsFd,
    name: &std::ffi::OsStr,
    path: &Path,
) -> Result<OwnedFd, NativeError> {
    let made = open_location(parent.as_fd(), Path::new(name), Resolve::Beneath)
        .map_err(at("open", absolute(path)))?;
    no_link(made, path)
}

fn no_link(location: OwnedFd, path: &Path) -> Result<OwnedFd, NativeError> {
    match file_type(&location, &absolute(path).into())? {
        FileType::Symlink => Err(at("mount over", absolute(path))(SysError::new(
            "openat2(2)",
            "",
            Errno::LOOP,
        ))),
        _ => Ok(location),
    }
}

fn file_type(file: &OwnedFd, path: &SafeBytes) -> Result<FileType, NativeError> {
    let stat = rustix::fs::fstat(file).map_err(call("look at", "fstat(2)", path.as_path()))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

pub(crate) fn write_file(
    parent: &impl AsFd,
    name: &Path,
    content: &[u8],
    mode: u32,
    path: &Path,
) -> Result<(), NativeError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode)).map_err(call(
        "write",
        "openat(2)",
        path,
    ))?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).map_err(call("write", "write(2)", path))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn dot_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// The agent home is one directory for all runs that use it, and their first starts may coincide.
    #[test]
    fn two_runs_make_the_same_mount_points_at_once() {
        let top = std::env::temp_dir().join(format!("rcc-tree-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let together = Barrier::new(2);
        let make = || {
            let tree = Tree {
                root: std::fs::File::open(&top).unwrap().into(),
            };
            // Nobody may leave the other one waiting.
            let mut made = Vec::new();
            for round in 0..300 {
                let directory = PathBuf::from(format!("d{round}/work/project"));
                let file = PathBuf::from(format!("d{round}/file"));
                together.wait();
                made.push(tree.mount_point(&directory, BindKind::Directory));
                together.wait();
                made.push(tree.mount_point(&file, BindKind::File));
            }
            made
        };
        let made = std::thread::scope(|scope| {
            let threads = [scope.spawn(make), scope.spawn(make)];
            threads.map(|thread| thread.join().unwrap())
        });
        std::fs::remove_dir_all(&top).unwrap();
        for mount_point in made.into_iter().flatten() {
            mount_point.unwrap();
        }
    }
}
