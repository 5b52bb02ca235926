//! What directories get last: an undo changes names in them, and works in those that are closed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::Mode;

use super::restore::{OWN, Work};
use crate::cow::attributes::Attributes;
use crate::cow::journal::Action;
use crate::cow::place::{self, Looks};
use crate::cow::{CowError, Meta, on};

impl Work<'_> {
    /// Gives directories that are back, and those whose names changed, their modes, attributes and times again, innermost
    /// first.
    pub(super) fn directories(&self, restored: &BTreeSet<usize>) -> Result<(), CowError> {
        let mut all: BTreeMap<&OsStr, (&Meta, Option<&Attributes>)> = BTreeMap::new();
        for touched in &self.journal.touched {
            all.insert(touched.path.as_path().as_os_str(), (&touched.before, None));
        }
        for index in restored {
            let Some(step) = self.journal.steps.get(*index) else {
                continue;
            };
            if let Some(before) = step.before.as_ref().filter(|before| before.is_directory()) {
                let attributes = (step.action != Action::Mode).then_some(&step.attributes);
                all.insert(step.path.as_path().as_os_str(), (before, attributes));
            }
        }
        // What is in a directory comes after it in the order of the bytes.
        for (path, (before, attributes)) in all.into_iter().rev() {
            let path = Path::new(path);
            let fail = |errno| on("restore", self.lower.shown(path))(errno);
            let Ok(directory) = self.lower.listing(path) else {
                continue;
            };
            match attributes {
                Some(attributes) => {
                    let looks = Looks {
                        mode: before.mode,
                        owner: Some((before.uid, before.gid)),
                        attributes,
                        times: before,
                        synchronise: false,
                    };
                    place::dress(directory.as_fd(), &looks).map_err(fail)?;
                }
                None => {
                    let now = rustix::fs::fstat(&directory).map_err(fail)?.st_mode & 0o7777;
                    if now != before.mode && now == before.mode | OWN {
                        let mode = Mode::from_raw_mode(before.mode);
                        rustix::fs::fchmod(&directory, mode).map_err(fail)?;
                    }
                    rustix::fs::futimens(&directory, &place::times(before)).map_err(fail)?;
                }
            }
        }
        Ok(())
    }
}
