//! The directory of a world: its unpredictable name, its lock, and what killed worlds have left.
//!
//! Must not remove a directory whose test still runs: the lock says so, and is taken before it has its name.

use std::path::{Path, PathBuf};

use super::WorldError;

/// Makes the file that all processes of the world print to.
pub(super) fn log_file(directory: &Path) -> Result<std::fs::File, WorldError> {
    let path = directory.join("log");
    std::fs::File::create(&path).map_err(|source| WorldError::Directory { path, source })
}

/// Makes a directory with an unpredictable name; refuses whatever is already there.
pub(crate) fn make_directory() -> Result<PathBuf, WorldError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let mut random = [0u8; 8];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let name = format!("rcc-world-{:016x}", u64::from_ne_bytes(random));
    let path = std::env::temp_dir().join(name);
    filled
        .map_err(std::io::Error::from)
        .and_then(|_| std::fs::DirBuilder::new().mode(0o755).create(&path))
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|source| WorldError::Directory {
            path: path.clone(),
            source,
        })?;
    Ok(path)
}

/// Locks a new directory, before anybody can see the lock's file under its name.
pub(super) fn lock_directory(directory: &Path) -> Result<std::fs::File, WorldError> {
    let (new, path) = (directory.join("lock.new"), directory.join("lock"));
    let error = |source| WorldError::Directory {
        path: path.clone(),
        source,
    };
    let file = std::fs::File::create(&new).map_err(error)?;
    file.try_lock().map_err(|failed| error(failed.into()))?;
    std::fs::rename(&new, &path).map_err(error)?;
    Ok(file)
}

/// Removes what worlds have left whose init was killed too: directories of ours whose lock nobody holds.
pub(super) fn remove_stale_directories() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let is_world = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with("rcc-world-"));
        let is_stale = || {
            std::fs::File::open(entry.path().join("lock")).is_ok_and(|file| file.try_lock().is_ok())
        };
        if is_world && is_stale() {
            // Somebody else's directory cannot be removed, which is right.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
