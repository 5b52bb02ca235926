//! Room that a run leaves on the file systems that its agent can fill: the project's, those of layers, home and granted paths.
//!
//! A guard of the machine against a runaway, and no quota: the kernel has none for an ordinary user. Whoever takes room all at
//! once (`fallocate(2)`) is found out at the next look.
//!
//! Should: look the oftener the less room there is. Mustn't: ask a server, whose silence would hold back every other limit.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rcc_plan::{Access, DiskFree, MountStep, Plan, SafeBytes};
use rustix::fs::{CWD, Mode, OFlags};

use crate::error::NativeError;

/// Bytes in a second that nobody's disk is faster than: until the next look not more is written.
const FASTEST: u64 = 2 << 30;
/// Shortest and longest time between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// By default a file system keeps one fiftieth of its size, if that is less than the default in bytes.
const SHARE: u64 = 50;
/// By default smaller ones are nobody's machine.
const SMALL: u64 = 1 << 30;
/// File systems of servers: NFS, CIFS, SMB 2, 9p, Ceph, FUSE (statfs(2)).
const OF_SERVERS: [u64; 6] = [
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x00c3_6400,
    0x6573_5546,
];

/// The file systems that a run's agent can fill.
#[derive(Debug, Default)]
pub struct DiskRoom {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    path: SafeBytes,
    file: OwnedFd,
    floor: u64,
}

/// A file system with little room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// A path on it, of those that the agent can write to.
    pub path: SafeBytes,
    /// Bytes that the user can still use.
    pub free: u64,
    /// Bytes that the run has to leave.
    pub floor: u64,
}

impl Shortage {
    /// Whether half of what should have been left is gone, too, so that nobody waits for a good end any more.
    pub(crate) const fn is_grave(&self) -> bool {
        self.free < self.floor / 2
    }
}

/// Size and free bytes.
struct Room {
    size: u64,
    free: u64,
}

impl DiskRoom {
    /// Finds the file systems and looks for the first time. The second value are those that have less than rcc's own
    /// default already: the run has to leave half of what is there.
    ///
    /// # Errors
    /// A limit that somebody named is exceeded already.
    pub fn open(plan: &Plan) -> Result<(Self, Vec<Shortage>), NativeError> {
        let mut found = Self::default();
        let mut short = Vec::new();
        let Some(limit) = plan.limits.disk_free else {
            return Ok((found, short));
        };
        let mut seen = Vec::new();
        for path in plan.mounts.iter().filter_map(filled_by_the_agent) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // What is missing or not to be looked at is told by who mounts it.
            let Ok(file) = rustix::fs::openat(CWD, path.as_path(), flags, Mode::empty()) else {
                continue;
            };
            let Ok(device) = rustix::fs::fstat(&file).map(|stat| stat.st_dev) else {
                continue;
            };
            if seen.contains(&device) {
                continue;
            }
            seen.push(device);
            let Some(room) = room(&file) else {
                continue;
            };
            let Some(wanted) = floor(&room, limit) else {
                continue;
            };
            let is_short = room.free < wanted;
            let floor = if is_short && limit.is_default {
                room.free / 2
            } else {
                wanted
            };
            let path = path.clone();
            let place = Place { path, file, floor };
            if is_short {
                let shortage = place.shortage(&room);
                if !limit.is_default {
                    return Err(NativeError::DiskShort { shortage });
                }
                short.push(shortage);
            }
            found.places.push(place);
        }
        Ok((found, short))
    }

    /// Whether there is nothing to look at.
    pub(crate) const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Looks: the first file system with too little room, and the time until the next look.
    pub(crate) fn look(&self) -> (Option<Shortage>, Duration) {
        let mut next = LOOK.1;
        let mut worst: Option<Shortage> = None;
        for place in &self.places {
            let Some(room) = room(&place.file) else {
                continue;
            };
            next = next.min(until(room.free.saturating_sub(place.floor)));
            let is_worse = worst.as_ref().is_none_or(|worst| !worst.is_grave());
            if room.free < place.floor && is_worse {
                worst = Some(place.shortage(&room));
            }
        }
        (worst, next)
    }
}

impl Place {
    fn shortage(&self, room: &Room) -> Shortage {
        Shortage {
            path: self.path.clone(),
            free: room.free,
            floor: self.floor,
        }
    }
}

/// The path on the host that a mount lets the agent write to. What is in memory has a size of its own.
fn filled_by_the_agent(step: &MountStep) -> Option<&SafeBytes> {
    match step {
        MountStep::Bind {
            from,
            access: Access::ReadWrite,
            ..
        } => Some(from),
        MountStep::Overlay { layer, .. } => Some(layer),
        _ => None,
    }
}

/// None for servers, and for file systems without a size.
fn room(file: &OwnedFd) -> Option<Room> {
    let kind = rustix::fs::fstatfs(file).ok()?.f_type;
    // The type's width and sign depend on the machine; the numbers have 32 bits.
    let kind = u64::try_from(kind).unwrap_or(u64::MAX) & 0xffff_ffff;
    let room = rustix::fs::fstatvfs(file).ok()?;
    let block = room.f_frsize;
    (room.f_blocks > 0 && !OF_SERVERS.contains(&kind)).then(|| Room {
        size: room.f_blocks.saturating_mul(block),
        free: room.f_bavail.saturating_mul(block),
    })
}

/// Bytes that stay free; none when the file system is left alone.
fn floor(room: &Room, limit: DiskFree) -> Option<u64> {
    if !limit.is_default {
        return Some(limit.bytes);
    }
    (room.size >= SMALL).then(|| limit.bytes.min(room.size / SHARE))
}

/// How long so many bytes last at the least.
fn until(bytes: u64) -> Duration {
    let milliseconds = bytes.saturating_mul(1000) / FASTEST;
    Duration::from_millis(milliseconds).clamp(LOOK.0, LOOK.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: DiskFree = DiskFree {
        bytes: 1 << 30,
        is_default: true,
    };

    #[test]
    fn the_default_is_a_fiftieth_of_small_disks_and_leaves_the_smallest_alone() {
        let of = |size: u64| floor(&Room { size, free: size }, DEFAULT);
        assert_eq!(of(500 << 30), Some(1 << 30));
        assert_eq!(of(50 << 30), Some(1 << 30));
        assert_eq!(of(10 << 30), Some((10 << 30) / 50));
        assert_eq!(of((1 << 30) - 1), None);
    }

    #[test]
    fn a_named_limit_is_what_it_says_whatever_the_size() {
        let named = DiskFree {
            bytes: 5 << 30,
            is_default: false,
        };
        let small = Room {
            size: 1 << 20,
            free: 0,
        };
        assert_eq!(floor(&small, named), Some(5 << 30));
    }

    #[test]
    fn looks_are_as_often_as_the_fastest_disk_asks_for() {
        assert_eq!(until(0), Duration::from_millis(100));
        assert_eq!(until(4 << 30), Duration::from_secs(2));
        assert_eq!(until(u64::MAX), Duration::from_secs(5));
    }

    #[test]
    fn half_of_what_should_be_left_is_grave() {
        let at = |free| Shortage {
            path: "/project".into(),
            free,
            floor: 1000,
        };
        assert!(!at(999).is_grave() && !at(500).is_grave() && at(499).is_grave());
    }
}
