//! What the agent must not change: names in the project that the host executes later, and rcc's own directories.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rcc_host::{Project, Survey, git_layout, git_named, git_named_by_user, is_dependency};
use rcc_plan::{EntryKind, HostFacts};
use rcc_spec::{AgentPreset, PROTECTED_NAMES, Pattern, Policy, ProtectedClass, ProtectedPlace};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};

use crate::cli::RunFlags;
use crate::error::{CliError, Kind};
use crate::output;

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

/// Most protected names that are mounted; each costs a few mounts. More are looked at when the run has ended.
const NAME_LIMIT: usize = 2048;
/// Most git directories whose configuration is read for paths that it names.
const CONFIGURATION_LIMIT: usize = 256;

/// Names in the project that the host would execute or trust later and that are made read-only, parents before children.
pub(crate) fn protected_names(
    project: &Project,
    preset: Option<&AgentPreset>,
    survey: &Survey,
    configurations: &UserGit<'_>,
) -> Vec<PathBuf> {
    let layout = git_layout(project.directory.as_fd());
    let mut names = layout.pointers;
    names.extend(
        survey
            .pointers
            .iter()
            .filter(|path| !is_dependency(path))
            .cloned(),
    );
    let found = survey.git.iter().filter(|path| !is_dependency(path));
    let directories: BTreeSet<&PathBuf> = layout.directories.iter().chain(found).collect();
    let git_names = || {
        let names = PROTECTED_NAMES.iter();
        names.filter(|name| name.place == ProtectedPlace::GitDirectory)
    };
    for directory in &directories {
        names.extend(git_names().map(|name| directory.join(name.path.trim_end_matches('/'))));
    }
    names.extend(host_names(project, preset, survey, configurations));
    if names.len() > NAME_LIMIT {
        output::warn(&format!(
            "the project has {} names that your programs would execute or obey; only {NAME_LIMIT} are protected, the others are looked at when the run ends",
            names.len()
        ));
        // Those near the top first: they are what one opens and starts.
        names.sort_by_key(|path| path.components().count());
        names.truncate(NAME_LIMIT);
    }
    names.sort();
    names.dedup();
    names
}

/// Those of them that are not parts of a git directory.
pub(crate) fn host_names(
    project: &Project,
    preset: Option<&AgentPreset>,
    survey: &Survey,
    user: &UserGit<'_>,
) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = RULE_FILES.map(PathBuf::from).into();
    names.extend(configured_names(project, survey, user));
    let found = survey.names.iter();
    names.extend(
        found
            .filter(|(_, name)| name.class == ProtectedClass::ReadOnly)
            .map(|(path, _)| path.clone()),
    );
    if survey.stopped {
        // What stands at the top is protected in any case.
        let top = PROTECTED_NAMES.iter().filter(|name| {
            name.class == ProtectedClass::ReadOnly && name.place != ProtectedPlace::GitDirectory
        });
        names.extend(top.map(|name| PathBuf::from(name.path.trim_end_matches('/'))));
    }
    let own = preset
        .into_iter()
        .flat_map(|preset| &preset.project_protected);
    names.extend(own.map(|path| PathBuf::from(path.path.relative())));
    names.sort();
    names.dedup();
    names
}

/// Hooks and configuration in the project that configurations of git name.
pub(crate) fn configured_names(
    project: &Project,
    survey: &Survey,
    user: &UserGit<'_>,
) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut directories = git_layout(project.directory.as_fd()).directories;
    directories.extend(
        survey
            .git
            .iter()
            .filter(|path| !is_dependency(path))
            .cloned(),
    );
    directories.sort_by_key(|path| path.components().count());
    directories.dedup();
    directories.truncate(CONFIGURATION_LIMIT);
    for directory in &directories {
        names.extend(git_named(
            project.directory.as_fd(),
            &project.root,
            directory,
        ));
    }
    names.extend(git_named_by_user(
        project.directory.as_fd(),
        &project.root,
        user.home,
        &directories,
        &user.configurations(),
    ));
    names
}

/// Where the user's own configuration of git is.
pub(crate) struct UserGit<'a> {
    /// The real home.
    pub(crate) home: &'a Path,
    /// The caller's environment.
    pub(crate) environment: &'a BTreeMap<OsString, OsString>,
}

impl UserGit<'_> {
    fn configurations(&self) -> Vec<PathBuf> {
        let variable = |name: &str| {
            let value = self.environment.get(OsStr::new(name));
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let own = match variable("GIT_CONFIG_GLOBAL") {
            Some(file) => vec![file],
            None => vec![
                self.home.join(".gitconfig"),
                variable("XDG_CONFIG_HOME")
                    .unwrap_or_else(|| self.home.join(".config"))
                    .join("git/config"),
            ],
        };
        own.into_iter().chain(["/etc/gitconfig".into()]).collect()
    }
}

/// The patterns of what is hidden.
pub(super) fn patterns(policy: &Policy, project: &Project) -> Vec<Pattern> {
    let root = project.root.to_string_lossy();
    let hidden = policy.files.hidden.iter();
    hidden
        .filter_map(|path| Pattern::of(&path.value, &root))
        .collect()
}

/// Most files and directories that patterns hide.
const HIDDEN_LIMIT: usize = 1024;

/// Refuses to hide a part of what the patterns match, and tells about files that can be read under another name.
pub(super) fn check_hidden(project: &Project, survey: &Survey) -> Result<(), CliError> {
    if survey.moving {
        return Err(CliError::new(Kind::Denied, TooMuchToHide::Moving)
            .hint("something moves directories of the project, perhaps another run; try again"));
    }
    if survey.stopped || survey.hidden.len() > HIDDEN_LIMIT {
        let error = if survey.stopped {
            TooMuchToHide::Entries {
                looked_at: survey.entries,
            }
        } else {
            TooMuchToHide::Matches {
                count: survey.hidden.len(),
                limit: HIDDEN_LIMIT,
            }
        };
        return Err(CliError::new(Kind::Denied, error)
            .hint("name the directories that hold them, or their paths, without wildcards"));
    }
    for path in &survey.hidden {
        let names = open_beneath(project, path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(rustix::fs::fstat)
            .map_or(1, |status| match FileType::from_raw_mode(status.st_mode) {
                FileType::RegularFile => status.st_nlink,
                _ => 1,
            });
        if names > 1 {
            output::warn(&format!(
                "{} is hidden, but the same file has another name (a hard link), under which it can be read if that lies in the project",
                rcc_plan::escape(path)
            ));
        }
    }
    Ok(())
}

/// Patterns that cannot be applied to all of the project.
#[derive(Debug, thiserror::Error)]
enum TooMuchToHide {
    #[error(
        "cannot hide by patterns: the project has more than the {looked_at} entries that were looked at"
    )]
    Entries { looked_at: usize },
    #[error("cannot hide by patterns: directories of the project move while it is looked at")]
    Moving,
    #[error("cannot hide by patterns: they match {count} files, at most {limit} can be hidden")]
    Matches { count: usize, limit: usize },
}
