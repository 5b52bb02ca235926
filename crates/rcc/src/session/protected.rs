//! What the agent must not change: names in the project that the host executes later, and rcc's own directories.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rcc_host::{Project, git_layout, git_named};
use rcc_plan::{EntryKind, HostFacts};
use rcc_spec::{AgentPreset, PROTECTED_NAMES, Policy, ProtectedClass, ProtectedPlace};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};

use crate::cli::RunFlags;
use crate::error::{CliError, Kind};

/// Names that rule files usually have; in a project they are as telling as `rcc.toml`.
const RULE_FILES: [&str; 2] = ["allowed-hosts.conf", "network-whitelist.yaml"];

/// Rule files of flags that lie in the project: named again by the next run, one that the agent had changed would be the
/// agent's policy.
pub(super) fn rule_files(project: &Project, flags: &RunFlags) -> Vec<PathBuf> {
    let real = flags
        .allow_hosts
        .iter()
        .filter_map(|path| std::fs::canonicalize(path).ok());
    real.filter_map(|path| path.strip_prefix(&project.root).ok().map(Path::to_owned))
        .collect()
}

/// Refuses grants of rcc's own directories: the agent would write its own policy, approvals and audit log.
pub(super) fn refuse_own(
    own: &[PathBuf],
    policy: &Policy,
    facts: &HostFacts,
) -> Result<(), CliError> {
    let mut named = policy
        .files
        .readonly
        .iter()
        .chain(&policy.files.rw)
        .map(|path| Path::new(path.value.as_str()));
    let granted = named.find_map(|named| {
        let (real, _) = facts.resolved.get(named)?;
        let own = own
            .iter()
            .find(|own| own.starts_with(real) || real.starts_with(own))?;
        Some((named, own))
    });
    match granted {
        None => Ok(()),
        Some((named, own)) => {
            let error = OwnDirectory {
                path: named.to_owned(),
                own: own.clone(),
            };
            Err(CliError::new(Kind::Denied, error)
                .hint("grant what the agent needs in it, path by path"))
        }
    }
}

/// Refuses protected files that have a second name (`link(2)`): read-only under the one, the agent could change them
/// under the other, which may lie anywhere in the project.
pub(super) fn refuse_second_names(project: &Project, facts: &HostFacts) -> Result<(), CliError> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in &facts.project.protected {
        match entry.kind {
            EntryKind::File => files.push(entry.path.clone()),
            // Of directories, the one with programs that git runs; in others (plugins with their packages) package
            // managers make such links by the thousand.
            EntryKind::Directory if entry.path.ends_with("hooks") => {
                files.extend(names_in(project, &entry.path).into_iter().take(HOOK_LIMIT));
            }
            EntryKind::Directory | EntryKind::Symlink(_) | EntryKind::Other => {}
        }
    }
    let linked = files.into_iter().find(|path| {
        open_beneath(project, path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(rustix::fs::fstat)
            .is_ok_and(|status| {
                FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
                    && status.st_nlink > 1
            })
    });
    match linked {
        None => Ok(()),
        Some(path) => Err(
            CliError::new(Kind::Denied, SecondName { path: path.clone() }).hint(format!(
                "give it a file of its own: cp -p {0} {0}.new && mv {0}.new {0}",
                rcc_plan::escape(&path)
            )),
        ),
    }
}

/// Most files of a hooks directory that are looked at; git knows some thirty hooks.
const HOOK_LIMIT: usize = 256;

fn names_in(project: &Project, directory: &Path) -> Vec<PathBuf> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let listing = open_beneath(project, directory, flags).and_then(Dir::new);
    let entries = listing.into_iter().flatten().flatten();
    entries
        .map(|entry| directory.join(OsStr::from_bytes(entry.file_name().to_bytes())))
        .collect()
}

fn open_beneath(project: &Project, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat2(&project.directory, path, flags, Mode::empty(), resolve)
}

/// A protected file that can be changed under another name.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot protect {}: the same file has a second name (a hard link), under which it could be changed",
    rcc_plan::escape(path)
)]
struct SecondName {
    path: PathBuf,
}

/// A grant that holds rcc's own files.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot grant {}: rcc keeps its own files in {}",
    rcc_plan::escape(path),
    rcc_plan::escape(own)
)]
struct OwnDirectory {
    path: PathBuf,
    own: PathBuf,
}

/// Names in the project that the host would execute or trust later, parents before children.
pub(crate) fn protected_names(project: &Project, preset: Option<&AgentPreset>) -> Vec<PathBuf> {
    let git = git_layout(project.directory.as_fd());
    let mut names = git.pointers;
    names.extend(git_named(project.directory.as_fd(), &project.root));
    names.extend(RULE_FILES.map(PathBuf::from));
    for name in PROTECTED_NAMES
        .iter()
        .filter(|name| name.class == ProtectedClass::ReadOnly)
    {
        let path = name.path.trim_end_matches('/');
        match name.place {
            ProtectedPlace::Top | ProtectedPlace::Anywhere => names.push(path.into()),
            ProtectedPlace::GitDirectory => {
                names.extend(git.directories.iter().map(|directory| directory.join(path)))
            }
        }
    }
    let own = preset
        .into_iter()
        .flat_map(|preset| &preset.project_protected);
    names.extend(own.map(|path| PathBuf::from(path.path.relative())));
    names.sort();
    names.dedup();
    names
}
