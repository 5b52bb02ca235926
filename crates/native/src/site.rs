//! Builds the tree of a plan, step by step, and moves this process into it.
//!
//! The order: (1) the scratch file system in memory, attached over the host's `/proc` (the one directory that exists
//! everywhere and is never a source), and on a directory of it the new root; (2) the plan's steps; (3) pivot; (4) the old
//! root detached, and with it the scratch file system; (5) the new root read-only.
//!
//! Whoever detaches a mount, or closes the descriptor of one that is attached nowhere, waits until every processor has
//! passed through the scheduler (`namespace_unlock()` in fs/namespace.c): 0.02 to 1 ms. So whatever is in the way is put into
//! the scratch file system and goes with the old root, in one wait.
//!
//! Should: run as pid 1 in its own user and mount namespace, before any capability is dropped.
//! Mustn't: run anywhere else; touch a path of the host other than to open it for mounting.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rcc_plan::{Access, BindKind, FileIdentity, MountStep, SafeBytes};
use rcc_sys::SysError;
use rcc_sys::mount::{Resolve, open_location};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::error::NativeError;
use crate::tree::{Tree, at, call, memory_file_system, open_source, relative, write_file};

/// Where the scratch file system is attached, which holds material for overlays and covers, and the new root while it is built.
const BUILD_SITE: &str = "/proc";
/// Directory of the scratch file system on which the new root is attached.
const NEW_ROOT: &str = "root";
/// File of the scratch file system on which mounts are put that are in the way.
const UNWANTED: &str = "unwanted";
/// Size of the root file system and of the scratch one: directories, links and the small files of the plan.
const SIZE: &str = "8m";

/// What is tried when a layer for changes is mounted; its failure has its own hint.
pub(crate) const LAY_OVER: &str = "mount a layer for the agent's changes over";

/// Builds the tree and moves this process into it. `unwanted` are mounts of files that are attached nowhere and not needed
/// any more.
pub(crate) fn build(steps: &[MountStep], unwanted: Vec<OwnedFd>) -> Result<(), NativeError> {
    let site = Site::prepare()?;
    site.remove_later(unwanted)?;
    for step in steps {
        site.apply(step)?;
    }
    site.tree.enter()
}

/// The new tree while it is built, and the scratch file system around it.
struct Site {
    tree: Tree,
    scratch: Tree,
    /// How many layers are mounted.
    overlays: Cell<u32>,
}

impl Site {
    /// Makes both file systems in memory and attaches them where the new root can be pivoted to.
    fn prepare() -> Result<Self, NativeError> {
        let scratch = Tree {
            root: memory_file_system("the build site", SIZE, 0o755)?,
        };
        let place = open_location(CWD, Path::new(BUILD_SITE), Resolve::NoSymlinks)
            .map_err(at("open", BUILD_SITE))?;
        scratch.attach(&scratch.root, &place, &SafeBytes::from(BUILD_SITE))?;
        let tree = Tree {
            root: memory_file_system("/", SIZE, 0o755)?,
        };
        let place = scratch.directory(Path::new(NEW_ROOT), 0o755)?;
        scratch.attach(&tree.root, &place, &SafeBytes::from("/"))?;
        scratch.directory(Path::new("empty-directory"), 0o000)?;
        scratch.file(Path::new("empty-file"), "", 0o000)?;
        Ok(Self {
            tree,
            scratch,
            overlays: Cell::new(0),
        })
    }

    /// Attaches mounts where they vanish together with the old root. One that cannot be, or is no mount, is only closed.
    fn remove_later(&self, mounts: Vec<OwnedFd>) -> Result<(), NativeError> {
        if mounts.is_empty() {
            return Ok(());
        }
        let place = self
            .scratch
            .mount_point(Path::new(UNWANTED), BindKind::File)?;
        for mount in mounts {
            let _ = self
                .scratch
                .attach(&mount, &place, &SafeBytes::from(UNWANTED));
        }
        Ok(())
    }

    fn apply(&self, step: &MountStep) -> Result<(), NativeError> {
        match step {
            MountStep::Directory { at, mode } => self.tree.directory(relative(at), *mode).map(drop),
            MountStep::File { at, content, mode } => self.tree.file(relative(at), content, *mode),
            MountStep::Symlink { at, target } => self.tree.symlink(relative(at), target.as_path()),
            MountStep::Bind {
                from,
                at,
                kind,
                access,
                identity,
            } => {
                let source = open_source(from, *kind, *identity)?;
                let target = self.tree.mount_point(relative(at), *kind)?;
                self.tree.bind(&source, &target, at, *kind, *access)
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
                let target = self.tree.directory(relative(at), 0o755)?;
                self.tree.attach(&mount, &target, at)
            }
            MountStep::Proc => self.tree.proc(),
            MountStep::Devpts => self.tree.devpts(),
            MountStep::Hide { at } => self.hide(at),
            MountStep::Freeze { at } => self.tree.freeze(at),
            MountStep::Pin { at, access } => match self.tree.existing(at)? {
                Some((target, kind)) => self.tree.bind(&target, &target, at, kind, *access),
                None => Err(NativeError::Replaced { path: at.clone() }),
            },
        }
    }

    /// Mounts the layer over the directory. The kernel takes names, not descriptors (before Linux 6.13): what was
    /// opened and checked is bound into the scratch file system, whose names nobody else can change.
    fn overlay(
        &self,
        lower: &SafeBytes,
        layer: &SafeBytes,
        at_path: &SafeBytes,
        identity: FileIdentity,
    ) -> Result<(), NativeError> {
        let source = open_source(lower, BindKind::Directory, Some(identity))?;
        let changes = open_source(layer, BindKind::Directory, None)?;
        let number = self.overlays.replace(self.overlays.get() + 1);
        let (below, above) = (format!("lower-{number}"), format!("layer-{number}"));
        let (below, above) = (Path::new(&below), Path::new(&above));
        self.bind_alone(&source, below, lower)?;
        self.bind_alone(&changes, above, layer)?;
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
            ("lowerdir", below),
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
        // The overlay has its own references to both; what is bound here goes with the scratch file system.
        let target = self
            .tree
            .mount_point(relative(at_path), BindKind::Directory)?;
        self.tree.attach(&mount, &target, at_path)
    }

    /// Binds a directory without what is mounted below it to a new directory of the scratch file system.
    fn bind_alone(&self, source: &OwnedFd, to: &Path, path: &SafeBytes) -> Result<(), NativeError> {
        let mount = open_tree(
            source,
            "",
            OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .map_err(call(LAY_OVER, "open_tree(2)", path.as_path()))?;
        let target = self.scratch.directory(to, 0o700)?;
        self.scratch.attach(&mount, &target, path)
    }

    /// Shows the host's `/etc` with some files replaced and others absent.
    fn etc(
        &self,
        synthetic: &[(SafeBytes, String)],
        absent: &[SafeBytes],
    ) -> Result<(), NativeError> {
        let layer = Path::new("etc");
        let directory = self.scratch.directory(layer, 0o755)?;
        for (name, content) in synthetic {
            let path = Path::new("/etc").join(name.as_path());
            write_file(&directory, name.as_path(), content.as_bytes(), 0o644, &path)?;
        }
        match self.etc_overlay(layer, absent) {
            // Something is mounted below /etc (in containers, resolv.conf and hosts), and this namespace may not look
            // below it: the overlay refuses such a layer.
            Err(NativeError::Tree { source, .. }) if source.errno == Errno::INVAL => {
                self.etc_binds(layer, synthetic, absent)
            }
            done => done,
        }
    }

    /// A read-only overlay: our files first, then the host's `/etc`. Character devices 0:0 in the upper of the two
    /// layers are whiteouts: the name below them does not exist (kernel `Documentation/filesystems/overlayfs.rst`).
    fn etc_overlay(&self, layer: &Path, absent: &[SafeBytes]) -> Result<(), NativeError> {
        let whiteouts = Path::new("absent");
        let directory = self.scratch.directory(whiteouts, 0o755)?;
        for name in absent {
            let name = name.as_path();
            if let Some(parent) = name
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                self.scratch.directory(&whiteouts.join(parent), 0o755)?;
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
        let target = self.tree.directory(Path::new("etc"), 0o755)?;
        self.tree.attach(&mount, &target, &SafeBytes::from("/etc"))
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
        let target = self.tree.directory(Path::new("etc"), 0o755)?;
        self.tree.bind(
            &source,
            &target,
            &SafeBytes::from(etc),
            BindKind::Directory,
            Access::ReadOnly,
        )?;
        for (name, content) in synthetic {
            let path = SafeBytes::from(etc.join(name.as_path()));
            let ours = open_location(
                self.scratch.root.as_fd(),
                &layer.join(name.as_path()),
                Resolve::Beneath,
            )
            .map_err(at("open", path.clone()))?;
            match open_location(self.tree.root.as_fd(), relative(&path), Resolve::Beneath) {
                Ok(target) => {
                    self.tree
                        .bind(&ours, &target, &path, BindKind::File, Access::ReadOnly)?
                }
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
        let text = rustix::fs::readlinkat(&self.tree.root, relative(link), Vec::new())
            .map_err(call("follow", "readlinkat(2)", link.as_path()))?;
        let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
        let target = text
            .strip_prefix("/run")
            .or_else(|_| text.strip_prefix("../run"));
        match target {
            Ok(below) => self
                .tree
                .file(&Path::new("run").join(below), content, 0o644),
            Err(_) => Err(at("replace", link.clone())(SysError::new(
                "openat2(2)",
                text.to_string_lossy(),
                Errno::LOOP,
            ))),
        }
    }

    /// Covers a path with the scratch file system's empty file or directory.
    fn hide(&self, path: &SafeBytes) -> Result<(), NativeError> {
        let Some((target, kind)) = self.tree.existing(path)? else {
            return Ok(());
        };
        let cover = match kind {
            BindKind::Directory => "empty-directory",
            BindKind::File | BindKind::Device => "empty-file",
        };
        let source = open_location(
            self.scratch.root.as_fd(),
            Path::new(cover),
            Resolve::Beneath,
        )
        .map_err(at("open", cover))?;
        self.tree
            .bind(&source, &target, path, kind, Access::ReadOnly)
    }
}
