//! The layer of a run on disk: `cow/upper` and `cow/work` in the run's record, and `cow/base.json`, which says over what
//! and since when.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::meta::Time;
use super::{CowError, Tree, on};
use crate::Project;
use crate::files::{Links, read_below, replace};

/// Name of the layer in a record.
const NAME: &str = "cow";
/// Its name while it is removed: a part of a layer must not pass for one.
const REMOVED: &str = "cow-removed";
const BASE: &str = "base.json";
/// Largest description that is read, in bytes.
const BASE_LIMIT: usize = 64 << 10;

/// What a layer lies over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The project.
    pub project: rcc_plan::SafeBytes,
    /// Its inode number. The device number is not kept: it may change when the machine starts anew.
    pub inode: u64,
    /// A moment before the agent could see anything, by the clock that stamps files.
    pub since: Time,
    /// Whether everything in it was applied.
    #[serde(default)]
    pub settled: bool,
}

/// The layer of one run.
#[derive(Debug)]
pub struct Layer {
    path: PathBuf,
    base: Base,
}

impl Layer {
    /// Makes an empty layer in the record of a run.
    ///
    /// # Errors
    /// It cannot be made, or the file system has no user extended attributes, which an overlay needs to remember that a
    /// directory was replaced.
    pub fn create(
        record: BorrowedFd<'_>,
        shown: &Path,
        project: &Project,
    ) -> Result<Self, CowError> {
        if let Some(mount) = mount_inside(&project.root)? {
            let path = project.root.clone();
            return Err(CowError::MountInside { path, mount });
        }
        let path = shown.join(NAME);
        let fail = || on("make the layer for the agent's changes", &path);
        rustix::fs::mkdirat(record, NAME, Mode::RWXU).map_err(fail())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(record, NAME, flags, Mode::empty()).map_err(fail())?;
        for name in ["upper", "work"] {
            rustix::fs::mkdirat(&directory, name, Mode::RWXU).map_err(fail())?;
        }
        let upper = rustix::fs::openat(&directory, "upper", flags, Mode::empty()).map_err(fail())?;
        let probe = "user.rcc.probe";
        match rustix::fs::fsetxattr(&upper, probe, b"y", XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(CowError::NoAttributes { path }),
            set => set
                .and_then(|()| rustix::fs::fremovexattr(&upper, probe))
                .map_err(fail())?,
        }
        // The top of the overlay shows the mode of the layer's own top.
        let status = rustix::fs::fstat(&project.directory).map_err(fail())?;
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(status.st_mode & 0o777)).map_err(fail())?;
        let now = clock_gettime(ClockId::Realtime);
        let layer = Self {
            base: Base {
                project: project.root.as_path().into(),
                inode: project.identity.inode,
                since: Time(now.tv_sec, now.tv_nsec),
                settled: false,
            },
            path,
        };
        layer.write(directory.as_fd())?;
        Ok(layer)
    }

    /// Opens the layer in the record of a run; `None` when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(record: &Path) -> Result<Option<Self>, CowError> {
        let path = record.join(NAME);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(on("open", &path)(errno)),
        };
        let description = path.join(BASE);
        let content = read_below(
            directory.as_fd(),
            &path,
            Path::new(BASE),
            BASE_LIMIT,
            Links::Refuse,
        )
        .map_err(|error| CowError::Call {
            action: "read",
            path: description.clone(),
            source: std::io::Error::other(error),
        })?;
        let Some(content) = content else {
            return Ok(None);
        };
        let base = serde_json::from_str(&content.text).map_err(|source| CowError::Description {
            path: description,
            source,
        })?;
        Ok(Some(Self { path, base }))
    }

    /// The directory to hand to the plan.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it lies over.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The changes.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn upper(&self) -> Result<Tree, CowError> {
        let path = self.path.join("upper");
        Tree::open(&path).map_err(on("open", &path))
    }

    /// The project, if it is still the directory that the layer was made over.
    ///
    /// # Errors
    /// It is gone, or another directory has its name.
    pub fn lower(&self) -> Result<Tree, CowError> {
        self.base.lower()
    }

    /// Notes whether everything in it was applied.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn settle(&mut self, settled: bool) -> Result<(), CowError> {
        self.base.settled = settled;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, &self.path, flags, Mode::empty())
            .map_err(on("open", &self.path))?;
        self.write(directory.as_fd())
    }

    fn write(&self, directory: BorrowedFd<'_>) -> Result<(), CowError> {
        let path = self.path.join(BASE);
        let json =
            serde_json::to_vec_pretty(&self.base).map_err(|source| CowError::Description {
                path: path.clone(),
                source,
            })?;
        replace(directory, &self.path, BASE, &json).map_err(|error| CowError::Call {
            action: "write",
            path,
            source: std::io::Error::other(error),
        })
    }

    /// Removes it. Interrupted, [`finish_removal`] goes on.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn remove(self) -> Result<(), CowError> {
        let record = self.path.parent().unwrap_or(Path::new("/"));
        let parent = open_record(record)?;
        super::remove_tree(parent.as_fd(), REMOVED)?;
        rustix::fs::renameat(&parent, NAME, &parent, REMOVED).map_err(on("remove", &self.path))?;
        super::remove_tree(parent.as_fd(), REMOVED)
    }

    /// Moves it into the record of another run, which goes on with it.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn move_to(self, record: &Path) -> Result<Self, CowError> {
        let path = record.join(NAME);
        rustix::fs::renameat(CWD, &self.path, CWD, &path).map_err(on("move", &self.path))?;
        Ok(Self {
            path,
            base: self.base,
        })
    }
}

/// Goes on with the removal of a layer that was interrupted; whether there was one.
///
/// # Errors
/// Something in it cannot be removed.
pub fn finish_removal(record: &Path) -> Result<bool, CowError> {
    let parent = open_record(record)?;
    match rustix::fs::statat(&parent, REMOVED, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(on("look at", record.join(REMOVED))(errno)),
        Ok(_) => {}
    }
    super::remove_tree(parent.as_fd(), REMOVED).map(|()| true)
}

fn open_record(record: &Path) -> Result<OwnedFd, CowError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, record, flags, Mode::empty()).map_err(on("open", record))
}

/// The first mount point below a directory (proc_pid_mountinfo(5)).
pub(crate) fn mount_inside(directory: &Path) -> Result<Option<PathBuf>, CowError> {
    let path = Path::new("/proc/self/mountinfo");
    let table = std::fs::read(path).map_err(|source| CowError::Call {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let mut points = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescaped(point))))
    });
    Ok(points.find(|point| point != directory && point.starts_with(directory)))
}

/// Undoes the kernel's `\ooo`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, length) = code.map_or((first, 1), |code| (code, 4));
        out.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescaped(b"/plain\\9"), b"/plain\\9");
    }
}
