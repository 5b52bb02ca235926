//! What is recorded of a directory entry.

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl EntryType {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }
}

/// Seconds and nanoseconds since 1970, as the file system keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(pub i64, pub i64);

/// An entry's inode (`stat(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// What it is.
    pub kind: EntryType,
    /// Permission bits, set-user-id and its kin included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Number of names.
    pub links: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of anything; no program can choose it.
    pub changed: Time,
    /// A character device 0:0: in a layer, "the name does not exist".
    pub whiteout: bool,
}

impl Meta {
    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == EntryType::File
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == EntryType::Directory
    }

    /// Whether it is a FIFO, socket or device, which is never opened.
    #[must_use]
    pub fn is_special(&self) -> bool {
        matches!(
            self.kind,
            EntryType::Fifo | EntryType::Socket | EntryType::Device
        )
    }

    /// Whether the entry is what an apply left there, or a copy of it that a later undo brought back: same type, mode, size
    /// and time of the content to the nanosecond.
    #[must_use]
    pub fn is_as_left(&self, other: &Self) -> bool {
        let same = self.kind == other.kind && self.mode == other.mode;
        same && (self.is_directory() || (self.size, self.modified) == (other.size, other.modified))
    }

    /// Whether the content of both was changed last at the same time, as far as a file system that keeps whole seconds tells.
    #[must_use]
    pub fn is_of_time(&self, other: &Self) -> bool {
        let (Time(seconds, part), Time(other_seconds, other_part)) =
            (self.modified, other.modified);
        seconds == other_seconds && (part == other_part || part == 0 || other_part == 0)
    }

    /// Whether its mode means anything: a link has none of its own.
    #[must_use]
    pub fn has_mode(&self) -> bool {
        self.kind != EntryType::Symlink
    }

    /// Whether this is the very entry that was looked at before, with the same content as far as its inode tells; not its
    /// mode, nor the time of its last change, which moving it changes.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        let same = self.kind == other.kind && self.inode == other.inode;
        // The times of a directory change with the names in it.
        same && (self.is_directory() || (self.size, self.modified) == (other.size, other.modified))
    }

    /// Whether nothing at all happened to the entry since it was looked at before.
    #[must_use]
    pub fn is_untouched(&self, other: &Self) -> bool {
        // Taking another name of a file away changes the file.
        let shared = self.links > 1 || other.links > 1;
        self.is_same_object(other)
            && self.mode == other.mode
            && (self.is_directory() || shared || self.changed == other.changed)
    }

    /// Whether it runs with another's rights: set-user-id or set-group-id on a file.
    #[must_use]
    pub fn sets_ids(&self) -> bool {
        self.is_file() && self.mode & 0o6000 != 0
    }

    /// Permission bits as they may be applied: never set-user-id or set-group-id.
    #[must_use]
    pub fn plain_mode(&self) -> u32 {
        self.mode & 0o1777
    }
}

impl From<&Stat> for Meta {
    fn from(status: &Stat) -> Self {
        let time =
            |seconds, nanoseconds: u64| Time(seconds, i64::try_from(nanoseconds).unwrap_or(0));
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => EntryType::File,
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::Socket => EntryType::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                EntryType::Device
            }
        };
        Self {
            kind,
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            size: u64::try_from(status.st_size).unwrap_or(0),
            device: status.st_dev,
            inode: status.st_ino,
            #[allow(clippy::useless_conversion, reason = "32 bits on other machines")]
            links: u64::from(status.st_nlink),
            accessed: time(status.st_atime, status.st_atime_nsec),
            modified: time(status.st_mtime, status.st_mtime_nsec),
            changed: time(status.st_ctime, status.st_ctime_nsec),
            whiteout: FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
                && status.st_rdev == 0,
        }
    }
}
