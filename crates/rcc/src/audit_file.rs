//! Opens the file that `--audit FILE` names.
//!
//! It may lie where agents write: in the project, or in a path granted read-write. A link that an earlier agent put in
//! its place would have rcc, on the host, append to any file of the caller. Must not follow a link in such a place;
//! links anywhere else are the user's own choice.

use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use rcc_plan::HostFacts;
use rcc_spec::Policy;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens the file for appending, made when it is missing.
///
/// # Errors
/// `ELOOP` when a link would have to be followed among the agent's files; `EINVAL` when it is no regular file.
pub(crate) fn open(path: &Path, policy: &Policy, facts: &HostFacts) -> Result<File> {
    let granted = policy
        .files
        .rw
        .iter()
        .filter_map(|path| facts.resolved.get(Path::new(path.value.as_str())));
    let mut roots: Vec<&Path> = granted.map(|(path, _)| path.as_path()).collect();
    roots.push(&facts.project.root);
    let place = beneath(path, &roots)?;
    let is_the_agents = place.is_some();
    let file: File = match place {
        Some((root, relative)) => {
            let root =
                rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
            // Not blocking: a FIFO has no reader to wait for.
            let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(root, relative, flags, Mode::RUSR | Mode::WUSR, resolve)?.into()
        }
        None => File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?,
    };
    // A pipe to a log collector is a good place too, where it is not the agent's.
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if is_the_agents && kind != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    Ok(file)
}

/// Which of the agent's places the path lies in, by its name or by where its directory really is, and the rest of it.
fn beneath<'a>(path: &Path, roots: &[&'a Path]) -> Result<Option<(&'a Path, PathBuf)>> {
    let below = |path: &Path| {
        let root = roots.iter().filter(|root| path.starts_with(root));
        let root = root.max_by_key(|root| root.components().count())?;
        Some((*root, path.strip_prefix(root).ok()?.to_owned()))
    };
    let named = std::path::absolute(path)?;
    if !named.components().any(|part| part == Component::ParentDir)
        && let Some(found) = below(&named)
    {
        return Ok(Some(found));
    }
    let (Some(parent), Some(name)) = (named.parent(), named.file_name()) else {
        return Err(Error::from(Errno::ISDIR));
    };
    Ok(below(&parent.canonicalize()?.join(name)))
}
