//! The three standard streams on their way into the sandbox.
//!
//! A descriptor is more than bytes: it carries the mount that it was opened through, which is the host's and writable.
//! So `fchmod(2)` on `< FILE` would change the host's file, on `< /dev/null` (for a root caller) the host's device, and
//! from `< DIRECTORY` the whole host lies at `0/..`; Landlock covers none of these calls. Each stream with a name on the
//! host is therefore opened anew through a read-only mount of its own. A read-only mount does not stop writing to
//! devices and pipes.
//!
//! What stays: a regular file that was opened for writing (`> FILE`) must keep its mount, so the agent may change the
//! mode and the times of that file, as it may change its content.
//!
//! Should: run while the host's file tree is in view, in the sandbox's own mount namespace.
//! Mustn't: pass a stream on that could not be judged.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rcc_plan::Streams;
use rcc_sys::SysError;
use rcc_sys::mount::{Depth, MountAttributes, Resolve, open_location, set_mount_attributes};
use rcc_sys::process::place_descriptor;
use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::NativeError;

/// The bits of a mode that tell what a file is, `S_IFMT` of `inode(7)`.
const FILE_TYPE: u32 = 0o170_000;

/// Opens the streams of this process anew, but for the terminals, in whose place the agent gets one of its own. The result
/// are the mounts that they were opened through, which are attached nowhere and not needed any more.
pub(crate) fn open_anew(streams: Streams) -> Result<Vec<OwnedFd>, NativeError> {
    let mut mounts = Vec::new();
    let all = [
        (
            0,
            "standard input",
            rustix::stdio::stdin(),
            streams.stdin_terminal,
        ),
        (
            1,
            "standard output",
            rustix::stdio::stdout(),
            streams.stdout_terminal,
        ),
        (
            2,
            "standard error",
            rustix::stdio::stderr(),
            streams.stderr_terminal,
        ),
    ];
    for (number, name, stream, is_terminal) in all {
        if is_terminal {
            continue;
        }
        if let Some(Anew { stream, mount }) = open_one(name, stream)? {
            place_descriptor(stream.as_fd(), number).map_err(failed(name))?;
            mounts.push(mount);
        }
    }
    Ok(mounts)
}

fn failed(name: &'static str) -> impl FnOnce(SysError) -> NativeError {
    move |source| NativeError::StreamAnew { name, source }
}

fn failed_call(name: &'static str, call: &'static str) -> impl FnOnce(Errno) -> NativeError {
    move |errno| NativeError::StreamAnew {
        name,
        source: SysError::new(call, "", errno),
    }
}

/// A stream that was opened anew, and the mount of its file.
struct Anew {
    stream: OwnedFd,
    mount: OwnedFd,
}

/// Opens one stream anew; `None` when it can stay as it is.
fn open_one(name: &'static str, stream: BorrowedFd<'_>) -> Result<Option<Anew>, NativeError> {
    let refused = |problem| NativeError::Stream { name, problem };
    let status = rustix::fs::fstat(stream).map_err(failed_call(name, "fstat(2)"))?;
    let flags = rustix::fs::fcntl_getfl(stream).map_err(failed_call(name, "fcntl(2)"))?;
    if flags.contains(OFlags::PATH) {
        return Err(refused("it is a location (O_PATH), not an open file"));
    }
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => return Err(refused("it is a directory of the host")),
        // These are no part of any file tree, whatever name they were reached by.
        FileType::Socket => return Ok(None),
        FileType::RegularFile if flags.intersects(OFlags::WRONLY | OFlags::RDWR) => {
            return Ok(None);
        }
        FileType::RegularFile
        | FileType::Fifo
        | FileType::CharacterDevice
        | FileType::BlockDevice => {}
        FileType::Symlink | FileType::Unknown => {
            return Err(refused("it is no file that can be read or written"));
        }
    }
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&stream));
    let link = rustix::fs::readlinkat(CWD, link.as_str(), Vec::new())
        .map_err(failed_call(name, "readlinkat(2)"))?;
    let path = PathBuf::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(link.to_bytes()),
    );
    // A pipe, or a file without a name such as a shell's here-document: nothing on the host could be found changed.
    if !path.is_absolute() || status.st_nlink == 0 {
        return Ok(None);
    }
    let location = open_location(CWD, &path, Resolve::NoSymlinks).map_err(failed(name))?;
    let found = rustix::fs::fstat(&location).map_err(failed_call(name, "fstat(2)"))?;
    let is_device = matches!(
        FileType::from_raw_mode(status.st_mode),
        FileType::CharacterDevice | FileType::BlockDevice
    );
    let is_same = if is_device {
        // `/dev/null` may have been opened before a container runtime made the `/dev` that is in view now.
        (found.st_mode & FILE_TYPE, found.st_rdev) == (status.st_mode & FILE_TYPE, status.st_rdev)
    } else {
        (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)
    };
    if !is_same {
        return Err(refused("its name belongs to another file by now"));
    }
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(&location, "", clone).map_err(failed_call(name, "open_tree(2)"))?;
    set_mount_attributes(
        mount.as_fd(),
        MountAttributes::READ_ONLY.and(MountAttributes::NO_EXECUTE),
        Depth::One,
    )
    .map_err(failed(name))?;
    // Not blocking: the other end of a FIFO must not be waited for a second time.
    let kept = flags & (OFlags::RWMODE | OFlags::APPEND);
    let magic_link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
    let anew = rustix::fs::open(
        magic_link.as_str(),
        kept | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed_call(name, "openat(2)"))?;
    rustix::fs::fcntl_setfl(&anew, flags & (OFlags::APPEND | OFlags::NONBLOCK))
        .map_err(failed_call(name, "fcntl(2)"))?;
    if let Ok(offset) = rustix::fs::tell(stream) {
        rustix::fs::seek(&anew, SeekFrom::Start(offset)).map_err(failed_call(name, "lseek(2)"))?;
    }
    Ok(Some(Anew {
        stream: anew,
        mount,
    }))
}
