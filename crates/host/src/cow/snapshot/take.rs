//! Takes a snapshot: looks at the project, refuses what cannot be kept or costs too much, copies the contents, and writes
//! the index last. What fails leaves nothing behind.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::copy::{Way, copy};
use super::walk::{Found, PATIENCE, walk};
use super::{DATA, DIRECTORY, INDEX, Index, Kept, NAME, path_of};
use crate::Project;
use crate::cow::attributes::Attributes;
use crate::cow::beneath::RESOLVE;
use crate::cow::journal::write_durably;
use crate::cow::layer::mount_inside;
use crate::cow::meta::Time;
use crate::cow::{Base, CowError, Meta, Tree, on, remove_tree};

/// How often a file that changes while it is copied is tried.
const TRIES: usize = 3;
/// What an entry takes beside its content, in bytes: inode and directory entry.
const ENTRY_BYTES: u64 = 512;

/// How a snapshot is to be taken.
pub struct Request<'a> {
    /// Paths below the project that the agent cannot change, and that are not copied therefore.
    pub skipped: &'a [PathBuf],
    /// Most bytes that are copied where the file system cannot share them.
    pub limit_bytes: u64,
    /// Asked now and then whether the user wants to stop.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// What was kept, and what it cost.
#[derive(Debug)]
pub struct Taken {
    /// Regular files.
    pub files: usize,
    /// Bytes that they take on the disk.
    pub bytes: u64,
    /// Whether the file system shares them between project and snapshot, which costs no room.
    pub shared: bool,
    /// How long it took.
    pub time: Duration,
    /// FIFOs, sockets and devices, which are not kept.
    pub special: Vec<PathBuf>,
    /// What changed again and again while it was copied, and is not kept.
    pub changing: Vec<PathBuf>,
}

/// Takes a snapshot of a project into the record of a run.
///
/// # Errors
/// Something cannot be read, is too much, or finds no room; nothing is left of the snapshot then.
pub fn take(
    record: BorrowedFd<'_>,
    shown: &Path,
    project: &Project,
    request: &Request<'_>,
) -> Result<Taken, CowError> {
    let path = shown.join(NAME);
    let begun = Instant::now();
    if let Some(mount) = mount_inside(&project.root)? {
        let path = project.root.clone();
        return Err(CowError::MountInside { path, mount });
    }
    let now = clock_gettime(ClockId::Realtime);
    let base = Base {
        project: project.root.as_path().into(),
        inode: project.identity.inode,
        since: Time(now.tv_sec, now.tv_nsec),
        settled: false,
    };
    let tree = base.lower()?;
    let skipped: BTreeSet<PathBuf> = request.skipped.iter().cloned().collect();
    let found = walk(&tree, &skipped, request.interrupted)?;
    if !found.unreadable.is_empty() {
        return Err(CowError::UnreadableFiles {
            path: project.root.clone(),
            files: found.unreadable,
        });
    }
    rustix::fs::mkdirat(record, NAME, Mode::RWXU).map_err(on("make", &path))?;
    let taken = fill(record, &path, &tree, base, skipped, found, request, begun);
    if taken.is_err() {
        // The first error is the one to report; what is left here is swept by the next snapshot.
        let _ = remove_tree(record, NAME);
    }
    taken
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call, every argument of another type"
)]
fn fill(
    record: BorrowedFd<'_>,
    path: &Path,
    tree: &Tree,
    base: Base,
    skipped: BTreeSet<PathBuf>,
    mut found: Found,
    request: &Request<'_>,
    begun: Instant,
) -> Result<Taken, CowError> {
    let open = |from: BorrowedFd<'_>, name: &str| {
        rustix::fs::openat(from, name, DIRECTORY, Mode::empty()).map_err(on("open", path))
    };
    let directory = open(record, NAME)?;
    rustix::fs::mkdirat(&directory, DATA, Mode::RWXU).map_err(on("make", path))?;
    let data = open(directory.as_fd(), DATA)?;
    let way = way(tree, &found.entries, &data);
    if way == Way::Copy {
        check_room(path, &data, &found, request.limit_bytes)?;
    }
    let changing = copy_all(tree, &mut found.entries, &data, way, request.interrupted)?;
    // On disk before the agent can change anything: what an undo gives back must not have been lost with the power.
    rustix::fs::syncfs(&data).map_err(on("write", path))?;
    let omitted = skipped
        .into_iter()
        .chain(found.special.iter().cloned())
        .chain(changing.iter().cloned())
        .map(Into::into)
        .collect();
    let index = Index {
        base,
        entries: found.entries,
        omitted,
    };
    write_durably(directory.as_fd(), path, INDEX, &index)?;
    Ok(Taken {
        files: found.files,
        bytes: found.bytes,
        shared: way == Way::Share,
        time: begun.elapsed(),
        special: found.special,
        changing,
    })
}

/// Whether the file system shares blocks between the project and the snapshot: tried with the first file that has any.
fn way(tree: &Tree, entries: &[Kept], data: &OwnedFd) -> Way {
    let has_content = |kept: &Kept| kept.meta.is_file() && kept.meta.size > 0;
    let Some(index) = entries.iter().position(has_content) else {
        return Way::Copy;
    };
    let path = path_of(entries, index);
    let shares = || -> rustix::io::Result<()> {
        let directory = tree.location(path.parent().unwrap_or(Path::new("")))?;
        let from = open(directory.as_fd(), &entries[index])?;
        let to = create(data, "probe")?;
        let shared = rustix::fs::ioctl_ficlone(&to, &from);
        rustix::fs::unlinkat(data, "probe", AtFlags::empty())?;
        shared
    };
    match shares() {
        Ok(()) => Way::Share,
        Err(_) => Way::Copy,
    }
}

/// Refuses what is more than the user wants to pay, or than there is room for.
fn check_room(
    path: &Path,
    data: &OwnedFd,
    found: &Found,
    limit_bytes: u64,
) -> Result<(), CowError> {
    if found.bytes > limit_bytes {
        return Err(CowError::SnapshotTooLarge {
            files: found.files,
            bytes: found.bytes,
            limit_bytes,
        });
    }
    let room = rustix::fs::fstatvfs(data).map_err(on("look at", path))?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    let entries = u64::try_from(found.entries.len()).unwrap_or(u64::MAX);
    let wanted_bytes = found
        .bytes
        .saturating_add(entries.saturating_mul(ENTRY_BYTES));
    if wanted_bytes > free_bytes {
        return Err(CowError::NoRoom {
            path: path.to_owned(),
            wanted_bytes,
            free_bytes,
        });
    }
    Ok(())
}

/// Copies the content of every file; what kept changing is told.
fn copy_all(
    tree: &Tree,
    entries: &mut [Kept],
    data: &OwnedFd,
    way: Way,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<PathBuf>, CowError> {
    let mut changing = Vec::new();
    let mut buffer = Vec::new();
    let mut last: Option<(usize, OwnedFd)> = None;
    for index in 1..entries.len() {
        if index.is_multiple_of(PATIENCE) && interrupted() {
            return Err(CowError::Interrupted);
        }
        let kept = &entries[index];
        let (parent, holder) = (kept.parent, kept.data);
        let Some(holder) = holder else { continue };
        if holder != index {
            // Another name of a file that was copied; one that kept changing has no attributes to share.
            entries[index].attributes = entries[holder].attributes.clone();
            if entries[holder].data.is_none() {
                entries[index].data = None;
                changing.push(path_of(entries, index));
            }
            continue;
        }
        let fail = |errno| {
            let path = tree.shown(&path_of(entries, index));
            on("copy", path)(errno)
        };
        let directory = match last.take().filter(|(at, _)| *at == parent) {
            Some((_, directory)) => Some(directory),
            None => match tree.location(&path_of(entries, parent)) {
                Ok(directory) => Some(directory),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(errno) => return Err(fail(errno)),
            },
        };
        let copied = match &directory {
            Some(directory) => one(directory, kept, data, index, way, &mut buffer, interrupted),
            None => Ok(None),
        };
        let copied = match copied {
            Err(Errno::CANCELED) => return Err(CowError::Interrupted),
            copied => copied.map_err(fail)?,
        };
        last = directory.map(|directory| (parent, directory));
        match copied {
            Some((meta, attributes)) => {
                let accessed = kept.meta.accessed;
                // What is read here counts as no access of the user's.
                entries[index].meta = Meta { accessed, ..meta };
                entries[index].attributes = attributes;
            }
            None => {
                entries[index].data = None;
                changing.push(path_of(entries, index));
            }
        }
    }
    Ok(changing)
}

/// Copies one file; none when it changed each time, or went.
fn one(
    directory: &OwnedFd,
    kept: &Kept,
    data: &OwnedFd,
    index: usize,
    way: Way,
    buffer: &mut Vec<u8>,
    interrupted: &dyn Fn() -> bool,
) -> rustix::io::Result<Option<(Meta, Attributes)>> {
    let name = index.to_string();
    for attempt in 0..TRIES {
        if attempt > 0 {
            rustix::fs::unlinkat(data, &name, AtFlags::empty())?;
        }
        let from = match open(directory.as_fd(), kept) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let before = Meta::from(&rustix::fs::fstat(&from)?);
        if !before.is_file() {
            return Ok(None);
        }
        let attributes = Attributes::read(from.as_fd())?;
        let to = create(data, &name)?;
        copy(&from, &to, before.size, way, buffer, interrupted)?;
        let after = Meta::from(&rustix::fs::fstat(&from)?);
        if (after.size, after.modified, after.changed)
            == (before.size, before.modified, before.changed)
        {
            return Ok(Some((before, attributes)));
        }
    }
    rustix::fs::unlinkat(data, &name, AtFlags::empty())?;
    Ok(None)
}

/// Opens a file whose type was looked at, without touching its time of access where it is the caller's own.
fn open(directory: BorrowedFd<'_>, kept: &Kept) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NOATIME;
    let name = kept.name.as_path();
    let open = |flags| rustix::fs::openat2(directory, name, flags, Mode::empty(), RESOLVE);
    match open(flags) {
        Err(Errno::PERM) => open(flags.difference(OFlags::NOATIME)),
        other => other,
    }
}

fn create(data: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(data, name, flags, Mode::RUSR | Mode::WUSR)
}
