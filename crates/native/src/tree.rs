//! Builds the sandbox's file tree from the plan's mount steps and makes it the root.
//!
//! Theory of operation. The new root is a file system in memory that nobody else has seen, so names below it are ours.
//! Sources are named by canonical host paths and opened without following any link. Targets are opened relative to the
//! new root with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`: as soon as a target lies inside a tree that an agent could
//! write to in an earlier run (the project, the agent home), a planted link is an error, not a way out.
//! The order: (1) the root in memory, attached over the host's `/proc` (the one directory that exists everywhere and is
//! never a source); (2) the plan's steps; (3) pivot; (4) the old root detached; (5) the new root read-only.
//!
//! Should: run as pid 1 in its own user and mount namespace, before any capability is dropped.
//! Mustn't: run anywhere else; touch a path of the host other than to open it for mounting.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rcc_plan::{Access, BindKind, FileIdentity, MountStep, SafeBytes};
use rcc_sys::SysError;
use rcc_sys::mount::{Depth, MountAttributes, Resolve, open_location, set_mount_attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use crate::error::NativeError;

/// Where the new root is attached while it is built.
const BUILD_SITE: &str = "/proc";
/// Directory of the new root that holds material for overlays and covers; it is detached at the end.
const SCRATCH: &str = ".rcc";
/// Size of the root file system itself: it holds directories, links and the small files of the plan.
const ROOT_SIZE: &str = "8m";

/// What is tried when a layer for changes is mounted; its failure has its own hint.
pub(crate) const LAY_OVER: &str = "mount a layer for the agent's changes over";

/// Builds the tree and moves this process into it.
pub(crate) fn build(steps: &[MountStep]) -> Result<(), NativeError> {
    let root = memory_file_system("/", ROOT_SIZE, 0o755)?;
    attach_root(&root)?;
    let tree = Tree { root };
    tree.prepare_scratch()?;
    for step in steps {
        tree.apply(step)?;
    }
    tree.drop_scratch()?;
    tree.enter()
}

pub(crate) struct Tree {
    pub(crate) root: OwnedFd,
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

/// Attaches the new root where it can be pivoted to.
fn attach_root(root: &OwnedFd) -> Result<(), NativeError> {
    let site = open_location(CWD, Path::new(BUILD_SITE), Resolve::NoSymlinks)
        .map_err(at("open", BUILD_SITE))?;
    move_mount(
        root,
        "",
        &site,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(call(
        "attach the new root at",
        "move_mount(2)",
        Path::new(BUILD_SITE),
    ))
}

/// The path of a plan step relative to the new root.
pub(crate) fn relative(path: &SafeBytes) -> &Path {
    path.as_path().strip_prefix("/").unwrap_or(path.as_path())
}

impl Tree {
    fn apply(&self, step: &MountStep) -> Result<(), NativeError> {
        match step {
            MountStep::Directory { at, mode } => self.directory(relative(at), *mode).map(drop),
            MountStep::File { at, content, mode } => self.file(relative(at), content, *mode),
            MountStep::Symlink { at, target } => self.symlink(relative(at), target.as_path()),
            MountStep::Bind {
                from,
                at,
                kind,
                access,
                identity,
            } => {
                let source = open_source(from, *kind, *identity)?;
                let target = self.mount_point(relative(at), *kind)?;
                self.bind(&source, &target, at, *kind, *access)
            }
            MountStep::Overlay {
                lower,
                layer,
                at,
                identity,
            } => self.overlay(lower, layer, at, *identity),
            MountStep::Etc { synthetic, absent } => self.etc(synthetic, absent),
            MountStep::Tmpfs {
                at,
                size_bytes,
                mode,
            } => {
                let mount = memory_file_system(
                    &at.as_path().to_string_lossy(),
                    &size_bytes.to_string(),
                    *mode,
                )?;
                let target = self.directory(relative(at), 0o755)?;
                self.attach(&mount, &target, at)
            }
            MountStep::Proc => self.proc(),
            MountStep::Devpts => self.devpts(),
            MountStep::Hide { at } => self.hide(at),
            MountStep::Freeze { at } => self.freeze(at),
            MountStep::Pin { at, access } => match self.existing(at)? {
                Some((target, kind)) => self.bind(&target, &target, at, kind, *access),
                None => Err(NativeError::Replaced { path: at.clone() }),
            },
        }
    }

    /// Makes a directory and its missing parents, then opens it. A link anywhere in the path is an error.
    fn directory(&self, path: &Path, mode: u32) -> Result<OwnedFd, NativeError> {
        match open_location(self.root.as_fd(), dot_if_empty(path), Resolve::Beneath) {
            Ok(directory) => return no_link(directory, path),
            Err(error) if error.errno == Errno::NOENT => {}
            Err(source) => return Err(at("open", absolute(path))(source)),
        }
        let (parent, name) = self.parent_of(path)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)).map_err(call(
            "make the directory",
            "mkdirat(2)",
            &absolute(path),
        ))?;
        open_location(parent.as_fd(), Path::new(name), Resolve::Beneath)
            .map_err(at("open", absolute(path)))
    }

    /// Opens the parent directory of `path` (making it when it is missing) and names the last component.
    fn parent_of<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a std::ffi::OsStr), NativeError> {
        let invalid = || at("use", absolute(path))(SysError::new("openat2(2)", "", Errno::INVAL));
        let name = path.file_name().ok_or_else(invalid)?;
        let parent = self.directory(path.parent().unwrap_or(Path::new("")), 0o755)?;
        Ok((parent, name))
    }

    fn file(&self, path: &Path, content: &str, mode: u32) -> Result<(), NativeError> {
        let (parent, name) = self.parent_of(path)?;
        write_file(
            &parent,
            Path::new(name),
            content.as_bytes(),
            mode,
            &absolute(path),
        )
    }

    fn symlink(&self, path: &Path, target: &Path) -> Result<(), NativeError> {
        let (parent, name) = self.parent_of(path)?;
        rustix::fs::symlinkat(target, &parent, name).map_err(call(
            "make the link",
            "symlinkat(2)",
            &absolute(path),
        ))
    }

    /// Opens the place where something will be mounted, making an empty file or directory when it is missing.
    fn mount_point(&self, path: &Path, kind: BindKind) -> Result<OwnedFd, NativeError> {
        match kind {
            BindKind::Directory => self.directory(path, 0o755),
            BindKind::File | BindKind::Device => {
                match open_location(self.root.as_fd(), path, Resolve::Beneath) {
                    Ok(file) => return no_link(file, path),
                    Err(error) if error.errno == Errno::NOENT => {}
                    Err(source) => return Err(at("open", absolute(path))(source)),
                }
                let (parent, name) = self.parent_of(path)?;
                write_file(&parent, Path::new(name), b"", 0o644, &absolute(path))?;
                open_location(parent.as_fd(), Path::new(name), Resolve::Beneath)
                    .map_err(at("open", absolute(path)))
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

    /// Mounts the layer over the directory. The kernel takes names, not descriptors (before Linux 6.13): what was
    /// opened and checked is bound into the scratch directory, whose names nobody else can change.
    fn overlay(
        &self,
        lower: &SafeBytes,
        layer: &SafeBytes,
        at_path: &SafeBytes,
        identity: FileIdentity,
    ) -> Result<(), NativeError> {
        let source = open_source(lower, BindKind::Directory, Some(identity))?;
        let changes = open_source(layer, BindKind::Directory, None)?;
        let (below, above) = (
            Path::new(SCRATCH).join("lower"),
            Path::new(SCRATCH).join("layer"),
        );
        self.bind_alone(&source, &below, lower)?;
        self.bind_alone(&changes, &above, layer)?;
        let shown = at_path.as_path();
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(call(
            "mount",
            "fsopen(2)",
            shown,
        ))?;
        let (below, above) = (
            Path::new(BUILD_SITE).join(below),
            Path::new(BUILD_SITE).join(above),
        );
        // No `volatile`: what the agent wrote survives a crash of the machine like any other file.
        let options = [
            ("lowerdir", below.clone()),
            ("upperdir", above.join("upper")),
            ("workdir", above.join("work")),
            ("index", PathBuf::from("off")),
            ("metacopy", PathBuf::from("off")),
        ];
        options
            .iter()
            .try_for_each(|(key, value)| fsconfig_set_string(&overlay, *key, value.as_path()))
            .and_then(|()| fsconfig_set_flag(&overlay, "userxattr"))
            .and_then(|()| fsconfig_create(&overlay))
            .map_err(call(LAY_OVER, "fsconfig(2)", shown))?;
        let mount = fsmount(
            &overlay,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
        )
        .map_err(call("mount", "fsmount(2)", shown))?;
        // The overlay has its own references to both.
        for path in [below, above] {
            unmount(&path, UnmountFlags::DETACH).map_err(call("detach", "umount2(2)", &path))?;
        }
        let target = self.mount_point(relative(at_path), BindKind::Directory)?;
        self.attach(&mount, &target, at_path)
    }

    /// Binds a directory without what is mounted below it to a new directory of the scratch mount.
    fn bind_alone(&self, source: &OwnedFd, to: &Path, path: &SafeBytes) -> Result<(), NativeError> {
        let mount = open_tree(
            source,
            "",
            OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .map_err(call(LAY_OVER, "open_tree(2)", path.as_path()))?;
        let target = self.directory(to, 0o700)?;
        self.attach(&mount, &target, path)
    }

    /// Shows the host's `/etc` with some files replaced and others absent.
    fn etc(
        &self,
        synthetic: &[(SafeBytes, String)],
        absent: &[SafeBytes],
    ) -> Result<(), NativeError> {
        let layer = Path::new(SCRATCH).join("etc");
        let directory = self.directory(&layer, 0o755)?;
        for (name, content) in synthetic {
            let path = Path::new("/etc").join(name.as_path());
            write_file(&directory, name.as_path(), content.as_bytes(), 0o644, &path)?;
        }
        match self.etc_overlay(&layer, absent) {
            // Something is mounted below /etc (in containers, resolv.conf and hosts), and this namespace may not look
            // below it: the overlay refuses such a layer.
            Err(NativeError::Tree { source, .. }) if source.errno == Errno::INVAL => {
                self.etc_binds(&layer, synthetic, absent)
            }
            done => done,
        }
    }

    /// A read-only overlay: our files first, then the host's `/etc`. Character devices 0:0 in the upper of the two
    /// layers are whiteouts: the name below them does not exist (kernel `Documentation/filesystems/overlayfs.rst`).
    fn etc_overlay(&self, layer: &Path, absent: &[SafeBytes]) -> Result<(), NativeError> {
        let whiteouts = Path::new(SCRATCH).join("absent");
        let directory = self.directory(&whiteouts, 0o755)?;
        for name in absent {
            let name = name.as_path();
            if let Some(parent) = name
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                self.directory(&whiteouts.join(parent), 0o755)?;
            }
            rustix::fs::mknodat(
                &directory,
                name,
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .map_err(call("hide", "mknodat(2)", &Path::new("/etc").join(name)))?;
        }
        let etc = Path::new("/etc");
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(call(
            "mount",
            "fsopen(2)",
            etc,
        ))?;
        let layers = format!(
            "{BUILD_SITE}/{}:{BUILD_SITE}/{}:/etc",
            layer.display(),
            whiteouts.display()
        );
        fsconfig_set_string(&overlay, "lowerdir", layers.as_str())
            .and_then(|()| fsconfig_set_flag(&overlay, "ro"))
            .and_then(|()| fsconfig_create(&overlay))
            .map_err(call("mount", "fsconfig(2)", etc))?;
        let mount = fsmount(
            &overlay,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV,
        )
        .map_err(call("mount", "fsmount(2)", etc))?;
        let target = self.directory(Path::new("etc"), 0o755)?;
        self.attach(&mount, &target, &SafeBytes::from("/etc"))
    }

    /// The same without an overlay: the host's `/etc`, with our files mounted over its own one by one.
    fn etc_binds(
        &self,
        layer: &Path,
        synthetic: &[(SafeBytes, String)],
        absent: &[SafeBytes],
    ) -> Result<(), NativeError> {
        let etc = Path::new("/etc");
        let source = open_location(CWD, etc, Resolve::NoSymlinks).map_err(at("open", etc))?;
        let target = self.directory(Path::new("etc"), 0o755)?;
        self.bind(
            &source,
            &target,
            &SafeBytes::from(etc),
            BindKind::Directory,
            Access::ReadOnly,
        )?;
        for (name, content) in synthetic {
            let path = SafeBytes::from(etc.join(name.as_path()));
            let ours = open_location(
                self.root.as_fd(),
                &layer.join(name.as_path()),
                Resolve::Beneath,
            )
            .map_err(at("open", path.clone()))?;
            match open_location(self.root.as_fd(), relative(&path), Resolve::Beneath) {
                Ok(target) => self.bind(&ours, &target, &path, BindKind::File, Access::ReadOnly)?,
                // A link, such as resolv.conf to a file of the host's resolver: its target is ours to make if it is
                // in a directory that the sandbox has of its own.
                Err(error) if error.errno == Errno::LOOP => self.etc_link_target(&path, content)?,
                // A name that the host's own /etc lacks cannot be added, and programs live without it.
                Err(error)
                    if error.errno == Errno::NOENT
                        && name.as_path() != Path::new("resolv.conf") => {}
                Err(source) => return Err(at("replace", path)(source)),
            }
        }
        absent
            .iter()
            .try_for_each(|name| self.hide(&SafeBytes::from(etc.join(name.as_path()))))
    }

    fn etc_link_target(&self, link: &SafeBytes, content: &str) -> Result<(), NativeError> {
        let text = rustix::fs::readlinkat(&self.root, relative(link), Vec::new()).map_err(call(
            "follow",
            "readlinkat(2)",
            link.as_path(),
        ))?;
        let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
        let target = text
            .strip_prefix("/run")
            .or_else(|_| text.strip_prefix("../run"));
        match target {
            Ok(below) => self.file(&Path::new("run").join(below), content, 0o644),
            Err(_) => Err(at("replace", link.clone())(SysError::new(
                "openat2(2)",
                text.to_string_lossy(),
                Errno::LOOP,
            ))),
        }
    }

    fn proc(&self) -> Result<(), NativeError> {
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

    fn devpts(&self) -> Result<(), NativeError> {
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

    /// Covers a path with the scratch directory's empty file or directory.
    fn hide(&self, path: &SafeBytes) -> Result<(), NativeError> {
        let Some((target, kind)) = self.existing(path)? else {
            return Ok(());
        };
        let cover = match kind {
            BindKind::Directory => "empty-directory",
            BindKind::File | BindKind::Device => "empty-file",
        };
        let source = open_location(
            self.root.as_fd(),
            &Path::new(SCRATCH).join(cover),
            Resolve::Beneath,
        )
        .map_err(at("open", cover))?;
        self.bind(&source, &target, path, kind, Access::ReadOnly)
    }

    /// Mounts a path read-only on itself.
    fn freeze(&self, path: &SafeBytes) -> Result<(), NativeError> {
        let Some((target, kind)) = self.existing(path)? else {
            return Ok(());
        };
        self.bind(&target, &target, path, kind, Access::ReadOnly)
    }

    /// Opens a path of the sandbox; `None` when there is nothing.
    fn existing(&self, path: &SafeBytes) -> Result<Option<(OwnedFd, BindKind)>, NativeError> {
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

    fn prepare_scratch(&self) -> Result<(), NativeError> {
        let mount = memory_file_system(SCRATCH, ROOT_SIZE, 0o755)?;
        let target = self.directory(Path::new(SCRATCH), 0o700)?;
        self.attach(&mount, &target, &SafeBytes::from(SCRATCH))?;
        self.directory(&Path::new(SCRATCH).join("empty-directory"), 0o000)?;
        self.file(&Path::new(SCRATCH).join("empty-file"), "", 0o000)
    }

    /// Takes the scratch mount out of the tree; the overlay and the covers keep their own references to it.
    fn drop_scratch(&self) -> Result<(), NativeError> {
        let path = Path::new(BUILD_SITE).join(SCRATCH);
        unmount(&path, UnmountFlags::DETACH).map_err(call("detach", "umount2(2)", &path))?;
        rustix::fs::unlinkat(&self.root, SCRATCH, rustix::fs::AtFlags::REMOVEDIR).map_err(call(
            "remove",
            "unlinkat(2)",
            &path,
        ))
    }

    /// Makes the tree this process's root, detaches the old one, and closes the new root for writing.
    fn enter(self) -> Result<(), NativeError> {
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
fn open_source(
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

fn write_file(
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
