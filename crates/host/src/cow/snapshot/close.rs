//! Writes down what a run changed when it ended: the steps, and the old content of what differs, as if it were an apply.
//! The rest of the snapshot goes. Interrupted anywhere, the same call again goes on.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::compare::{Closed as Directories, compare};
use super::{DIRECTORY, Held, NAME, Snapshot, held};
use crate::cow::beneath::open_file;
use crate::cow::journal::{CLOSED, Ended, JOURNAL, Journal, PathRoom, UNDO, write_durably};
use crate::cow::{CowError, on, place, remove_tree};

const CLOSING: &str = "closing";

/// What a run changed.
#[derive(Debug, Default)]
pub struct Closed {
    /// How many names differ from the snapshot.
    pub changed: usize,
    /// Directories that could not be looked into.
    pub closed: Vec<PathBuf>,
}

/// Closes the snapshot in a record; none when there is none that is finished and not closed.
///
/// # Errors
/// Something cannot be read or written; the snapshot stays then, and the same call may be made again.
pub fn close(record: &Path) -> Result<Option<Closed>, CowError> {
    close_within(PathRoom::new(), record)
}

/// As [`close`], with so much room for the journal's paths.
pub(in crate::cow) fn close_within(
    room: PathRoom,
    record: &Path,
) -> Result<Option<Closed>, CowError> {
    let directory =
        rustix::fs::openat(CWD, record, DIRECTORY, Mode::empty()).map_err(on("open", record))?;
    if matches!(held(record)?, Some(Held::Changes | Held::Undone)) {
        // It was closed, and the rest was not taken away any more.
        remove_tree(directory.as_fd(), NAME)?;
        return Ok(None);
    }
    let Some(snapshot) = Snapshot::open(record)? else {
        return Ok(None);
    };
    let compared = compare(&snapshot, Directories::Open, room)?;
    let closed = Closed {
        changed: compared.differences.len(),
        closed: compared.closed,
    };
    // The times of directories alone tell of nothing that stayed.
    if compared.differences.is_empty() {
        super::remove(record)?;
        return Ok(Some(closed));
    }
    let path = snapshot.path.join(CLOSING);
    let fail = || on("write", &path);
    remove_tree(snapshot.directory.as_fd(), CLOSING)?;
    rustix::fs::mkdirat(&snapshot.directory, CLOSING, Mode::RWXU).map_err(fail())?;
    let store = rustix::fs::openat(&snapshot.directory, CLOSING, DIRECTORY, Mode::empty())
        .map_err(fail())?;
    let data = snapshot.data()?;
    let mut steps = Vec::with_capacity(compared.differences.len());
    let mut ended = Vec::with_capacity(compared.differences.len());
    for (index, difference) in compared.differences.into_iter().enumerate() {
        if let Some(kept) = difference.data {
            let (from, to) = (kept.to_string(), index.to_string());
            let linked = rustix::fs::linkat(&data, &from, &store, &to, AtFlags::empty());
            if let Err(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) = linked {
                let file = open_file(data.as_fd(), from.as_ref()).map_err(fail())?;
                place::keep(&file, store.as_fd(), &to, true).map_err(fail())?;
            } else {
                linked.map_err(fail())?;
            }
        }
        steps.push(difference.step);
        ended.push(Ended {
            skipped: false,
            after: difference.after,
        });
    }
    let base = snapshot.index.base.clone();
    let journal = Journal {
        tag: format!("{:x}{:x}-1", base.since.0, base.since.1),
        base,
        steps,
        touched: compared.touched,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(&store, "direct", flags, Mode::RUSR | Mode::WUSR).map_err(fail())?;
    write_durably(store.as_fd(), &path, CLOSED, &ended)?;
    write_durably(store.as_fd(), &path, JOURNAL, &journal)?;
    let undo = record.join(UNDO);
    match rustix::fs::mkdirat(&directory, UNDO, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(on("make", &undo)(errno)),
    }
    let target = rustix::fs::openat(&directory, UNDO, DIRECTORY, Mode::empty())
        .map_err(on("open", &undo))?;
    rustix::fs::renameat_with(
        &snapshot.directory,
        CLOSING,
        &target,
        "1",
        RenameFlags::NOREPLACE,
    )
    .and_then(|()| rustix::fs::fsync(&target))
    .map_err(on("write", &undo))?;
    remove_tree(directory.as_fd(), NAME)?;
    Ok(Some(closed))
}
