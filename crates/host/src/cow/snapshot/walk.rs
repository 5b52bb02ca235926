//! Looks at everything in a project once, before anything is copied: what there is, how much, what cannot be kept.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use super::{ENTRIES, Kept, path_of};
use crate::cow::attributes::Attributes;
use crate::cow::changes::names;
use crate::cow::{CowError, Meta, Tree, on};

/// How many entries pass between two looks at whether the user wants to stop.
pub(super) const PATIENCE: usize = 64;

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Kept>,
    /// FIFOs, sockets and devices.
    pub(super) special: Vec<PathBuf>,
    /// What the caller cannot read.
    pub(super) unreadable: Vec<PathBuf>,
    /// Regular files by content: names of one file count once.
    pub(super) files: usize,
    /// Bytes that they take on the disk.
    pub(super) bytes: u64,
}

/// Looks at the project, leaving out what is to be skipped.
pub(super) fn walk(
    tree: &Tree,
    skipped: &BTreeSet<PathBuf>,
    interrupted: &dyn Fn() -> bool,
) -> Result<Found, CowError> {
    let top = rustix::fs::fstat(tree.root()).map_err(on("look at", tree.shown(Path::new(""))))?;
    let mut walk = Walk {
        tree,
        skipped,
        found: Found::default(),
        seen: HashMap::new(),
    };
    walk.found.entries.push(Kept {
        parent: 0,
        name: "".into(),
        meta: Meta::from(&top),
        link: None,
        attributes: Attributes::default(),
        data: None,
    });
    let mut stack = vec![0];
    let mut rounds = 0_usize;
    while let Some(index) = stack.pop() {
        if rounds.is_multiple_of(PATIENCE) && interrupted() {
            return Err(CowError::Interrupted);
        }
        rounds += 1;
        walk.directory(index, &mut stack)?;
        if walk.found.entries.len() > ENTRIES {
            let path = tree.shown(Path::new(""));
            return Err(CowError::TooMany {
                path,
                limit: ENTRIES,
            });
        }
    }
    Ok(walk.found)
}

struct Walk<'a> {
    tree: &'a Tree,
    skipped: &'a BTreeSet<PathBuf>,
    found: Found,
    /// Files with several names, by device and inode.
    seen: HashMap<(u64, u64), usize>,
}

impl Walk<'_> {
    fn directory(&mut self, index: usize, stack: &mut Vec<usize>) -> Result<(), CowError> {
        let path = path_of(&self.found.entries, index);
        let fail = |action, errno| on(action, self.tree.shown(&path))(errno);
        let listing = match self.tree.listing(&path) {
            Ok(listing) => listing,
            Err(Errno::ACCESS) => {
                self.found.unreadable.push(path);
                return Ok(());
            }
            // Gone, or something else, since its name was seen.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(fail("open", errno)),
        };
        let attributes =
            Attributes::read(listing.as_fd()).map_err(|errno| fail("look at", errno))?;
        if let Some(kept) = self.found.entries.get_mut(index) {
            kept.attributes = attributes;
        }
        for name in names(&listing).map_err(|errno| fail("list", errno))? {
            let path = path.join(&name);
            if self.skipped.contains(&path) {
                continue;
            }
            self.entry(index, &listing, &name, path, stack)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: usize,
        listing: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        stack: &mut Vec<usize>,
    ) -> Result<(), CowError> {
        let status = match rustix::fs::statat(listing, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ACCESS) => {
                self.found.unreadable.push(path);
                return Ok(());
            }
            Err(errno) => return Err(on("look at", self.tree.shown(&path))(errno)),
        };
        let meta = Meta::from(&status);
        if meta.is_special() {
            self.found.special.push(path);
            return Ok(());
        }
        let index = self.found.entries.len();
        let mut kept = Kept {
            parent,
            name: name.into(),
            meta,
            link: None,
            attributes: Attributes::default(),
            data: None,
        };
        if meta.is_directory() {
            stack.push(index);
        } else if meta.is_file() {
            if is_closed(listing.as_fd(), name, &meta) {
                self.found.unreadable.push(path);
                return Ok(());
            }
            let known = (meta.links > 1)
                .then(|| *self.seen.entry((meta.device, meta.inode)).or_insert(index));
            kept.data = Some(known.unwrap_or(index));
            if kept.data == Some(index) {
                self.found.files += 1;
                let blocks = u64::try_from(status.st_blocks).unwrap_or(0);
                // Sparse files take less than their size, small ones a block.
                self.found.bytes = self.found.bytes.saturating_add(blocks.saturating_mul(512));
            }
        } else {
            match rustix::fs::readlinkat(listing, name, Vec::new()) {
                Ok(text) => kept.link = Some(OsStr::from_bytes(text.as_bytes()).into()),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(errno) => return Err(on("look at", self.tree.shown(&path))(errno)),
            }
        }
        self.found.entries.push(kept);
        Ok(())
    }
}

/// Whether the content of a file is closed to the caller; asked only where its mode or owner suggests so.
fn is_closed(directory: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> bool {
    let own = rustix::process::geteuid().as_raw();
    (meta.uid != own || meta.mode & 0o400 == 0)
        && rustix::fs::accessat(directory, name, Access::READ_OK, AtFlags::EACCESS).is_err()
}
