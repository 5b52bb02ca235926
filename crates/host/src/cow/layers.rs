//! The layers of one run: `cow` in its record over the project, and `cow/rw/N` over each further directory that its agent
//! may change. They are in one another so that one rename hands all of them to the run that goes on with them, and so
//! that they are there, and gone, together. Must not look at what an agent left.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode};
use rustix::io::Errno;

use super::layer::{DIRECTORY, mount_inside};
use super::{CowError, Layer, Root, on};

/// Name of the project's layer in a record.
const NAME: &str = "cow";
/// Its name while it is removed: a part of a layer must not pass for one.
const REMOVED: &str = "cow-removed";
/// Name of the directory of the others in it, and of what an apply keeps for them.
pub(crate) const FURTHER: &str = "rw";

/// All layers of a run.
#[derive(Debug)]
pub struct Layers {
    project: Layer,
    /// In the order of their numbers.
    further: Vec<Layer>,
}

impl Layers {
    /// Makes an empty layer over the project in the record of a run.
    ///
    /// # Errors
    /// As of [`Layers::add`].
    pub fn create(
        record: BorrowedFd<'_>,
        shown: &Path,
        project: Root<'_>,
    ) -> Result<Self, CowError> {
        refuse_mount(project.path)?;
        let path = shown.join(NAME);
        let fail = || on("make the layer for the agent's changes", &path);
        rustix::fs::mkdirat(record, NAME, Mode::RWXU).map_err(fail())?;
        let directory = rustix::fs::openat(record, NAME, DIRECTORY, Mode::empty());
        let directory = directory.map_err(fail())?;
        Ok(Self {
            project: Layer::create(directory.as_fd(), path, 0, project)?,
            further: Vec::new(),
        })
    }

    /// Opens the layers in the record of a run; `None` when there are none.
    ///
    /// # Errors
    /// One is there and cannot be read.
    pub fn open(record: &Path) -> Result<Option<Self>, CowError> {
        let path = record.join(NAME);
        let Some(project) = Layer::open(path.clone(), 0)? else {
            return Ok(None);
        };
        let path = path.join(FURTHER);
        let mut further = Vec::new();
        for number in numbers(&path)? {
            // One without a description is of a run that never began.
            further.extend(Layer::open(path.join(number.to_string()), number)?);
        }
        Ok(Some(Self { project, further }))
    }

    /// Makes an empty layer over one more directory.
    ///
    /// # Errors
    /// It cannot be made, its file system has no user extended attributes, or another file system is mounted in the
    /// directory.
    pub fn add(&mut self, root: Root<'_>) -> Result<&Layer, CowError> {
        refuse_mount(root.path)?;
        let path = self.project.path().join(FURTHER);
        let fail = |errno| on("make the layer for the agent's changes", &path)(errno);
        match rustix::fs::mkdirat(CWD, &path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let number = numbers(&path)?.last().map_or(1, |last| last + 1);
        let path = path.join(number.to_string());
        rustix::fs::mkdirat(CWD, &path, Mode::RWXU).map_err(fail)?;
        let directory = rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()).map_err(fail)?;
        let layer = Layer::create(directory.as_fd(), path.clone(), number, root)?;
        self.further.push(layer);
        self.further.last().ok_or_else(|| fail(Errno::NOENT))
    }

    /// The layer over the project.
    #[must_use]
    pub fn project(&self) -> &Layer {
        &self.project
    }

    /// The layers over further directories.
    #[must_use]
    pub fn further(&self) -> &[Layer] {
        &self.further
    }

    /// All layers, the project's first.
    pub fn all(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.project).chain(&self.further)
    }

    /// Whether nothing is in any of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().all(Layer::is_empty)
    }

    /// What an absolute path means: for each layer in the order of [`Layers::all`], the path in it, where there is one. A
    /// directory around others means all of them.
    #[must_use]
    pub fn find(&self, path: &Path) -> Vec<Option<PathBuf>> {
        let roots: Vec<&Path> = self
            .all()
            .map(|layer| layer.base().project.as_path())
            .collect();
        let around = roots.iter().filter(|root| path.starts_with(root));
        let nearest = around.max_by_key(|root| root.components().count());
        let found = roots.iter().map(|root| match path.strip_prefix(root) {
            Ok(below) if nearest == Some(root) => Some(below.to_owned()),
            _ => root.starts_with(path).then(PathBuf::new),
        });
        found.collect()
    }

    /// Notes whether everything in them was applied.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn settle(&mut self, settled: bool) -> Result<(), CowError> {
        self.project.settle(settled)
    }

    /// Removes all of them. Interrupted, [`finish_removal`] goes on.
    ///
    /// # Errors
    /// Something in them cannot be removed.
    pub fn remove(self) -> Result<(), CowError> {
        let path = self.project.path();
        let parent = open(path.parent().unwrap_or(Path::new("/")))?;
        super::remove_tree(parent.as_fd(), REMOVED)?;
        rustix::fs::renameat(&parent, NAME, &parent, REMOVED).map_err(on("remove", path))?;
        super::remove_tree(parent.as_fd(), REMOVED)
    }

    /// Removes those further ones for which `is_unwanted` says so.
    ///
    /// # Errors
    /// Something in them cannot be removed.
    pub fn remove_further(&mut self, is_unwanted: impl Fn(&Layer) -> bool) -> Result<(), CowError> {
        let path = self.project.path().join(FURTHER);
        let (unwanted, kept) = std::mem::take(&mut self.further)
            .into_iter()
            .partition(is_unwanted);
        self.further = kept;
        for layer in Vec::<Layer>::into_iter(unwanted) {
            let (parent, number) = (open(&path)?, layer.number());
            // A part of a layer must not pass for one; what stays of it goes with the rest.
            let removed = format!("removed-{number}");
            rustix::fs::renameat(&parent, number.to_string(), &parent, &removed)
                .map_err(on("remove", &layer.path))?;
            super::remove_tree(parent.as_fd(), &removed)?;
        }
        Ok(())
    }

    /// Moves them into the record of another run, which goes on with them.
    ///
    /// # Errors
    /// They cannot be moved.
    pub fn move_to(mut self, record: &Path) -> Result<Self, CowError> {
        let path = record.join(NAME);
        let from = self.project.path.clone();
        rustix::fs::renameat(CWD, &from, CWD, &path).map_err(on("move", &from))?;
        for layer in &mut self.further {
            layer.path = path.join(FURTHER).join(layer.number().to_string());
        }
        self.project.path = path;
        Ok(self)
    }
}

/// Goes on with the removal of layers that was interrupted; whether there was one.
///
/// # Errors
/// Something in them cannot be removed.
pub fn finish_removal(record: &Path) -> Result<bool, CowError> {
    let parent = open(record)?;
    match rustix::fs::statat(&parent, REMOVED, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(on("look at", record.join(REMOVED))(errno)),
        Ok(_) => {}
    }
    super::remove_tree(parent.as_fd(), REMOVED).map(|()| true)
}

fn open(directory: &Path) -> Result<OwnedFd, CowError> {
    rustix::fs::openat(CWD, directory, DIRECTORY, Mode::empty()).map_err(on("open", directory))
}

/// The numbers that are names in a directory, in order; none where it is not there.
pub(crate) fn numbers(path: &Path) -> Result<Vec<u32>, CowError> {
    let directory = match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(on("open", path)(errno)),
    };
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory).map_err(on("list", path))? {
        let entry = entry.map_err(on("list", path))?;
        let name = entry.file_name().to_str().ok();
        found.extend(name.and_then(|name| name.parse::<u32>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The kernel lays nothing over a directory with a mount in it that it keeps closed in user namespaces.
fn refuse_mount(path: &Path) -> Result<(), CowError> {
    match mount_inside(path)? {
        None => Ok(()),
        Some(mount) => {
            let path = path.to_owned();
            Err(CowError::MountInside { path, mount })
        }
    }
}
