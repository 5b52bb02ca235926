//! The state directory: whether layers of copy-on-write runs can lie there, how much room they have, what copies cost.
//!
//! Tried with files that have no name (`O_TMPFILE`), so that nothing is left behind.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::{Check, Finding, Fix, Need, Status};
use crate::directories::Directories;

/// Less room than this, in bytes, is said: a layer holds a copy of every file that an agent changes.
const LITTLE_ROOM: u64 = 1 << 30;

const LAYERS: Check = Check {
    name: "state directory",
    need: Need::Optional,
    protects: "copy-on-write runs keep the agent's changes there, and rcc undo its copies",
};
const CLONES: Check = Check {
    name: "shared blocks (reflink)",
    need: Need::Optional,
    protects: "nothing; where copies of files share their blocks, they cost neither time nor room",
};

/// What is known of the file system below the state directory.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// `f_type` of statfs(2).
    kind: i64,
    /// Bytes that this user can still write.
    free: u64,
    attributes: Result<(), Errno>,
    clones: Result<(), Errno>,
}

/// Looks at the state directory of the caller, or at the nearest directory above it that exists.
pub(super) fn findings(environment: &BTreeMap<OsString, OsString>) -> Vec<Finding> {
    let home = environment
        .get(OsStr::new("HOME"))
        .map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let state = Directories::from_environment(environment, &home).state;
    let looked = state.ancestors().find_map(|path| match look(path) {
        Err(Errno::NOENT) => None,
        other => Some((path, other)),
    });
    match looked {
        Some((_, Ok(place))) => judge(&place),
        Some((path, Err(errno))) => {
            let detail = format!(
                "{} cannot be looked at: {}",
                rcc_plan::escape(path),
                rcc_sys::describe_errno(errno)
            );
            vec![LAYERS.found(Status::Degraded, detail, Some(elsewhere()))]
        }
        None => Vec::new(),
    }
}

fn look(path: &Path) -> Result<Place, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let system = rustix::fs::fstatfs(&directory)?;
    let unit = u64::try_from(system.f_bsize).unwrap_or(0);
    let unnamed = || -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::openat(&directory, ".", flags, Mode::RUSR | Mode::WUSR)
    };
    let attributes = unnamed()
        .and_then(|file| rustix::fs::fsetxattr(file, "user.rcc.probe", b"y", XattrFlags::empty()));
    let clones = unnamed().and_then(|from| {
        let to = unnamed()?;
        rustix::io::write(&from, &[1; 4096])?;
        rustix::fs::ioctl_ficlone(to, from)
    });
    Ok(Place {
        path: path.to_owned(),
        kind: system.f_type,
        free: unit.saturating_mul(system.f_bavail),
        attributes,
        clones,
    })
}

fn judge(place: &Place) -> Vec<Finding> {
    let system = name_of(place.kind);
    let whole = format!("{} on {system}", rcc_plan::escape(&place.path));
    let room = format!("{} MiB free", place.free >> 20);
    let layers = match place.attributes {
        _ if matches!(system, "NFS" | "an overlay" | "FUSE" | "FAT") => LAYERS.found(
            Status::Degraded,
            format!("{whole}, on which the kernel lays no changes of an overlay"),
            Some(elsewhere()),
        ),
        Err(Errno::OPNOTSUPP) => LAYERS.found(
            Status::Degraded,
            format!("{whole}, which has no user extended attributes"),
            Some(elsewhere()),
        ),
        Err(errno) => LAYERS.found(
            Status::Degraded,
            format!(
                "{whole}, which could not be tried: {}",
                rcc_sys::describe_errno(errno)
            ),
            Some(elsewhere()),
        ),
        Ok(()) if place.free < LITTLE_ROOM => LAYERS.found(
            Status::Degraded,
            format!("{whole}, {room}"),
            Some(Fix::new(
                "make room; changes of earlier runs that you do not want can be thrown away",
                ["rcc diff --list".to_owned(), "rcc discard <run>".to_owned()],
            )),
        ),
        Ok(()) => LAYERS.ok(format!("{whole}, user extended attributes, {room}")),
    };
    let clones = match place.clones {
        Ok(()) => CLONES.ok("copies of files below the state directory share their blocks"),
        Err(_) => CLONES.found(
            Status::Degraded,
            format!("not on {system}: every copy is a whole one"),
            Some(Fix::new(
                "put the state directory and your projects on one file system that can: btrfs, xfs or bcachefs",
                [],
            )),
        ),
    };
    vec![layers, clones]
}

fn elsewhere() -> Fix {
    Fix::new(
        "let XDG_STATE_HOME name a directory of yours on ext4, xfs, btrfs, or tmpfs of Linux 6.6 or newer",
        ["export XDG_STATE_HOME=<directory>".to_owned()],
    )
}

/// Names of `f_type`, statfs(2); only what matters here or is common.
fn name_of(kind: i64) -> &'static str {
    match kind {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xca45_1a4e => "bcachefs",
        0xf2f5_2010 => "f2fs",
        0x2fc1_2fc1 => "zfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "NFS",
        0x794c_7630 => "an overlay",
        0x6573_5546 => "FUSE",
        0x4d44 => "FAT",
        _ => "a file system that rcc does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: i64) -> Place {
        Place {
            path: "/s".into(),
            kind,
            free: 5 << 30,
            attributes: Ok(()),
            clones: Ok(()),
        }
    }

    #[test]
    fn what_a_layer_needs_decides() {
        let good = judge(&place(0x9123_683e));
        assert!(good.iter().all(|finding| finding.status == Status::Ok));
        assert_eq!(
            good[0].detail,
            "/s on btrfs, user extended attributes, 5120 MiB free"
        );
        for (bad, detail) in [
            (
                Place {
                    attributes: Err(Errno::OPNOTSUPP),
                    ..place(0x0102_1994)
                },
                "/s on tmpfs, which has no user extended attributes",
            ),
            (
                place(0x6969),
                "/s on NFS, on which the kernel lays no changes of an overlay",
            ),
            (
                Place {
                    free: 100 << 20,
                    ..place(0xef53)
                },
                "/s on ext4, 100 MiB free",
            ),
        ] {
            let found = judge(&bad);
            assert_eq!(found[0].status, Status::Degraded, "{bad:?}");
            assert_eq!(found[0].detail, detail);
            assert!(found[0].fix.is_some());
        }
        let whole = judge(&Place {
            clones: Err(Errno::OPNOTSUPP),
            ..place(0xef53)
        });
        assert_eq!(
            (whole[0].status, whole[1].status),
            (Status::Ok, Status::Degraded)
        );
    }

    #[test]
    fn a_look_leaves_nothing_and_finds_the_nearest_directory() {
        let base = std::env::temp_dir().join(format!("rcc-doctor-state-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let state = base.join("not/there");
        let environment = BTreeMap::from([("XDG_STATE_HOME".into(), state.into_os_string())]);
        let found = findings(&environment);
        assert_eq!(found.len(), 2);
        let shown = rcc_plan::escape(&base).to_string();
        assert!(found[0].detail.starts_with(&shown), "{found:?}");
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
        std::fs::remove_dir_all(base).unwrap();
    }
}
