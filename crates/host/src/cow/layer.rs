//! One layer on disk: `upper` and `work` for the kernel, and `base.json`, which says over what and since when. Where the
//! layers of a run are is said in `layers.rs`.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::changes::changes;
use super::meta::Time;
use super::{CowError, Tree, on};
use crate::files::{Links, read_below, replace};

const BASE: &str = "base.json";
/// Largest description that is read, in bytes.
const BASE_LIMIT: usize = 64 << 10;

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What a layer lies over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The project, or the further directory that the layer lies over.
    pub project: rcc_plan::SafeBytes,
    /// Its inode number. The device number is not kept: it may change when the machine starts anew.
    pub inode: u64,
    /// A moment before the agent could see anything, by the clock that stamps files.
    pub since: Time,
    /// Whether everything in it was applied; in that of the project for all layers of the run.
    #[serde(default)]
    pub settled: bool,
}

/// A directory that gets a layer.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a> {
    /// Canonical path.
    pub path: &'a Path,
    /// The directory itself.
    pub directory: BorrowedFd<'a>,
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    pub(super) path: PathBuf,
    /// 0 over the project; the others count from 1.
    number: u32,
    base: Base,
}

impl Layer {
    /// Makes an empty layer in a directory that holds it alone.
    ///
    /// # Errors
    /// It cannot be made, or the file system has no user extended attributes, which an overlay needs to remember that a
    /// directory was replaced.
    pub(super) fn create(
        directory: BorrowedFd<'_>,
        path: PathBuf,
        number: u32,
        root: Root<'_>,
    ) -> Result<Self, CowError> {
        let fail = || on("make the layer for the agent's changes", &path);
        for name in ["upper", "work"] {
            rustix::fs::mkdirat(directory, name, Mode::RWXU).map_err(fail())?;
        }
        let upper = rustix::fs::openat(directory, "upper", DIRECTORY, Mode::empty());
        let upper = upper.map_err(fail())?;
        let probe = "user.rcc.probe";
        match rustix::fs::fsetxattr(&upper, probe, b"y", XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(CowError::NoAttributes { path }),
            set => set
                .and_then(|()| rustix::fs::fremovexattr(&upper, probe))
                .map_err(fail())?,
        }
        // The top of the overlay shows the mode of the layer's own top.
        let status = rustix::fs::fstat(root.directory).map_err(fail())?;
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(status.st_mode & 0o777)).map_err(fail())?;
        let now = clock_gettime(ClockId::Realtime);
        let layer = Self {
            base: Base {
                project: root.path.into(),
                inode: status.st_ino,
                since: Time(now.tv_sec, now.tv_nsec),
                settled: false,
            },
            number,
            path,
        };
        layer.write(directory)?;
        Ok(layer)
    }

    /// Opens the layer in a directory; `None` when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(super) fn open(path: PathBuf, number: u32) -> Result<Option<Self>, CowError> {
        let directory = match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
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
        Ok(Some(Self { path, number, base }))
    }

    /// The directory to hand to the plan.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number among the layers of the run, 0 over the project.
    pub(crate) fn number(&self) -> u32 {
        self.number
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

    /// What it lies over, if that is still the directory that the layer was made for.
    ///
    /// # Errors
    /// It is gone, or another directory has its name.
    pub fn lower(&self) -> Result<Tree, CowError> {
        self.base.lower()
    }

    /// The name of a path in it as people read it: relative in the project, absolute elsewhere.
    #[must_use]
    pub fn name(&self, path: &Path) -> PathBuf {
        match self.number {
            0 => path.to_owned(),
            // Of the top itself, without a slash at the end.
            _ if path.as_os_str().is_empty() => self.base.project.as_path().to_owned(),
            _ => self.base.project.as_path().join(path),
        }
    }

    /// Notes whether everything in it was applied.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn settle(&mut self, settled: bool) -> Result<(), CowError> {
        self.base.settled = settled;
        let directory = rustix::fs::openat(CWD, &self.path, DIRECTORY, Mode::empty())
            .map_err(on("open", &self.path))?;
        self.write(directory.as_fd())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let upper = std::fs::read_dir(self.path.join("upper"));
        upper.is_ok_and(|mut names| names.next().is_none())
    }

    /// Whether nothing in it differs from what it lies over.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn is_same(&self) -> Result<bool, CowError> {
        let changes = changes(&self.upper()?, &self.lower()?)?;
        Ok(changes.listed().next().is_none())
    }

    /// Whether nothing in it waits for anybody. What lies over a directory that is gone does, until somebody decides about it.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_empty() || self.is_same().unwrap_or(false)
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
