//! Gathers everything that planning must know, in one pass before the run.
//!
//! On the path of every start: fixed lists of paths, one look each, no subprocess. Must not follow a link out of the
//! project, and must not decide anything: that is `rcc_plan`'s.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rcc_plan::{EntryKind, GroupFacts, HostFacts, PathToolchain, ProjectFacts, ProtectedEntry};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::toolchains::walk;
use crate::user::Account;
use crate::{
    Directories, Project, Surroundings, addresses, etc, project, root, toolchains_on_path,
};

/// What the caller wants facts about.
#[derive(Debug)]
pub struct Question<'a> {
    /// The caller.
    pub account: Account,
    /// The project.
    pub project: &'a Project,
    /// The agent home: existing, private, canonical.
    pub agent_home: PathBuf,
    /// The caller's environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Protected names relative to the project root, parents before children.
    pub protected: &'a [PathBuf],
    /// Paths that the policy names, as written: absolute, `~/…` below the real home, else below the project.
    pub named: &'a [PathBuf],
    /// Those of them that the agent may write to.
    pub writable: &'a [PathBuf],
    /// Toolchains that are needed whatever `PATH` says (the agent's own program).
    pub toolchains: Vec<PathToolchain>,
}

/// A fact that could not be established.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Without them the gateway could not keep the agent away from the host itself.
    #[error("cannot read the addresses of this host from /proc/net")]
    Addresses {
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A path of the policy exists but cannot be resolved.
    #[error("cannot resolve {}", rcc_plan::escape(path))]
    Resolve {
        /// As written in the policy.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// A path in the project leads out of it: the agent of an earlier run could have put a link there.
    #[error(
        "{} leads out of {}, by a link that an agent could have made, to {}",
        rcc_plan::escape(path),
        rcc_plan::escape(root),
        rcc_plan::escape(target)
    )]
    Escape {
        /// As written in the policy.
        path: PathBuf,
        /// The project, or the read-write grant, that holds the link.
        root: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A protected name exists but cannot be looked at, so it could not be protected.
    #[error(
        "cannot look at {} in the project, so it could not be protected",
        rcc_plan::escape(path)
    )]
    Protected {
        /// Relative to the project root.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

/// Gathers the facts for one run.
///
/// # Errors
/// When a fact that the protection depends on cannot be established.
pub fn gather(question: Question<'_>) -> Result<HostFacts, HostError> {
    let Question {
        account,
        project,
        agent_home,
        environment,
        protected,
        named,
        writable,
        toolchains,
    } = question;
    let resolved = resolve(named, writable, &account.home, &project.root)?;
    let granted = writable.iter().filter_map(|path| resolved.get(path));
    let mut writable: Vec<&Path> = granted.map(|(path, _)| path.as_path()).collect();
    writable.push(&project.root);
    let addresses = addresses::of_host().map_err(|source| HostError::Addresses { source })?;
    let directories = Directories::from_environment(&environment, &account.home);
    let on_path = toolchains_on_path(Surroundings {
        home: &account.home,
        writable: &writable,
        guarded: &directories.guarded(),
        environment: &environment,
    });
    Ok(HostFacts {
        etc: etc::facts(account.user.uid),
        git_directory: project::git_directory(&account.home),
        project: ProjectFacts {
            root: project.root.clone(),
            identity: project.identity,
            protected: protected_entries(project.directory.as_fd(), protected)?,
        },
        cwd: project.cwd.clone(),
        root_entries: root::entries(),
        sys_entries: root::sys_entries(),
        resolved,
        cow_layer: None,
        rw_layers: BTreeMap::new(),
        hidden: Vec::new(),
        seccomp_profile: None,
        landlock_abi: rcc_sys::landlock::abi(),
        kernel: root::kernel(),
        addresses: addresses.all,
        groups: GroupFacts::default(),
        ipv6: addresses.ipv6,
        user: account.user,
        home: account.home,
        agent_home,
        toolchains: on_path.joined_with(toolchains),
        path: on_path.path,
        environment,
    })
}

/// Expands a leading `~` to the real home.
#[must_use]
pub fn expand_home(path: &Path, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) if rest.as_os_str().is_empty() => home.to_owned(),
        Ok(rest) => home.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Follows the paths that the policy names to what they are now. A link in a place where agents write must not lead out
/// of it: the agent of an earlier run would choose what the next one is granted.
fn resolve(
    named: &[PathBuf],
    writable: &[PathBuf],
    home: &Path,
    project: &Path,
) -> Result<BTreeMap<PathBuf, (PathBuf, EntryKind)>, HostError> {
    let mut found = BTreeMap::new();
    // Writable places first, the outer before the inner: each is judged by those around it.
    let mut order: Vec<&PathBuf> = named.iter().collect();
    order.sort_by_key(|path| (!writable.contains(path), path.components().count()));
    let mut roots = vec![project.to_owned()];
    for path in order {
        let absolute = project.join(expand_home(path, home));
        let mut links = Vec::new();
        let walked = walk(&absolute, |link| links.push(link.to_owned()));
        let canonical = match walked {
            Ok(canonical) => canonical,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(source) => {
                return Err(HostError::Resolve {
                    path: path.clone(),
                    source,
                });
            }
        };
        let left = roots.iter().find(|root| {
            !canonical.starts_with(root) && links.iter().any(|link| link.starts_with(root))
        });
        if let Some(root) = left {
            return Err(HostError::Escape {
                path: path.clone(),
                root: root.clone(),
                target: canonical,
            });
        }
        if writable.contains(path) {
            roots.push(canonical.clone());
        }
        if let Some(kind) = root::kind(&canonical) {
            found.insert(path.clone(), (canonical, kind));
        }
    }
    Ok(found)
}

/// Lists the protected names that exist in the project, each link on the way to one, and what such links lead to.
///
/// The tree belongs to the agent of earlier runs, and programs of the host follow the links in it: `.claude -> x` makes
/// `x/settings.json` what the host obeys. So links are followed by hand, one component at a time below the project's
/// descriptor, and never out of the project.
///
/// # Errors
/// [`HostError::Protected`] when a name exists and cannot be looked at.
pub fn protected_entries(
    project: BorrowedFd<'_>,
    names: &[PathBuf],
) -> Result<Vec<ProtectedEntry>, HostError> {
    let mut found: Vec<ProtectedEntry> = Vec::new();
    // A name below an absent parent need not be asked for; most projects have none of the names. Parents come right
    // before their children, so the last one is enough.
    let mut absent: Option<&Path> = None;
    for name in names {
        if absent.is_some_and(|parent| name.starts_with(parent)) {
            continue;
        }
        let entries = look_up(project, name).map_err(|errno| HostError::Protected {
            path: name.clone(),
            source: errno.into(),
        })?;
        if entries.is_empty() && name.components().count() == 1 {
            absent = Some(name);
        }
        for entry in entries {
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// Most links followed to one name; the kernel's own bound is 40 (`path_resolution(7)`).
const LINK_LIMIT: usize = 40;

/// Looks one name up: the links on the way, then what is at its end. Nothing at the end, when there is nothing, or when
/// a link leads out of the project.
pub(crate) fn look_up(
    project: BorrowedFd<'_>,
    name: &Path,
) -> rustix::io::Result<Vec<ProtectedEntry>> {
    let mut entries = Vec::new();
    let mut reached = PathBuf::new();
    let mut kind = EntryKind::Directory;
    let mut rest: VecDeque<OsString> = name.iter().map(OsStr::to_owned).collect();
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(_)) => {}
            Some(Component::ParentDir) if reached.pop() => continue,
            Some(Component::CurDir) => continue,
            // Out of the project: what is there is no agent's.
            _ => return Ok(entries),
        }
        let path = reached.join(&part);
        let at = match open_beneath(project, &path) {
            Ok(at) => at,
            // ELOOP: a parent became a link since it was looked at, by a run that lasts.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(entries),
            Err(errno) => return Err(errno),
        };
        let status = rustix::fs::fstat(&at)?;
        kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => {
                // readlinkat(2) with an empty name reads the link that the descriptor stands for.
                let text = rustix::fs::readlinkat(&at, "", Vec::new())?;
                let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
                entries.push(ProtectedEntry {
                    path,
                    kind: EntryKind::Symlink(text.clone()),
                });
                if entries.len() > LINK_LIMIT {
                    return Ok(entries);
                }
                for part in text.iter().rev() {
                    rest.push_front(part.to_owned());
                }
                continue;
            }
            _ => EntryKind::Other,
        };
        reached = path;
    }
    // A link to the project itself would protect all of it from the work that it is there for.
    if reached.as_os_str().is_empty() {
        return Ok(entries);
    }
    entries.push(ProtectedEntry {
        path: reached,
        kind,
    });
    Ok(entries)
}

/// Opens what is at a path below the project as a location, a link at its end included.
fn open_beneath(project: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(
        project,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (PathBuf, std::fs::File) {
        let path = std::env::temp_dir().join(format!("rcc-facts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        let directory = std::fs::File::open(&path).unwrap();
        (path, directory)
    }

    fn names(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn protected_names_are_found_through_links_but_never_outside() {
        let (path, directory) = scratch("protected");
        std::fs::create_dir_all(path.join(".git/hooks")).unwrap();
        std::fs::create_dir(path.join("tools")).unwrap();
        std::fs::write(path.join("tools/settings.json"), "").unwrap();
        std::fs::write(path.join(".git/config"), "").unwrap();
        symlink("/etc", path.join(".vscode")).unwrap();
        symlink("target", path.join(".envrc")).unwrap();
        symlink("./tools/../tools", path.join(".claude")).unwrap();
        symlink("../x", path.join(".zed")).unwrap();
        symlink(".", path.join(".fleet")).unwrap();
        symlink(".idea", path.join(".idea")).unwrap();

        let list = names(&[
            ".git/hooks",
            ".git/config",
            ".git/absent",
            ".vscode",
            ".vscode/passwd",
            ".envrc",
            ".claude/settings.json",
            ".claude/hooks",
            ".zed",
            ".fleet",
            ".idea",
            ".absent",
            ".absent/x",
        ]);
        let mut found = protected_entries(directory.as_fd(), &list).unwrap();
        assert!(
            found
                .iter()
                .filter(|entry| entry.path == Path::new(".idea"))
                .count()
                == 1
        );
        found.retain(|entry| entry.path != Path::new(".idea"));

        let expected = [
            (".git/hooks", EntryKind::Directory),
            (".git/config", EntryKind::File),
            (".vscode", EntryKind::Symlink("/etc".into())),
            (".envrc", EntryKind::Symlink("target".into())),
            (".claude", EntryKind::Symlink("./tools/../tools".into())),
            ("tools/settings.json", EntryKind::File),
            (".zed", EntryKind::Symlink("../x".into())),
            (".fleet", EntryKind::Symlink(".".into())),
        ];
        let found: Vec<(&str, EntryKind)> = found
            .iter()
            .map(|entry| (entry.path.to_str().unwrap(), entry.kind.clone()))
            .collect();
        assert_eq!(found, expected);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn named_paths_are_canonical_and_missing_ones_absent() {
        let (path, _directory) = scratch("named");
        let home = std::fs::canonicalize(path).unwrap();
        let project = home.join("project");
        std::fs::create_dir_all(project.join("data")).unwrap();
        std::fs::create_dir(home.join("real")).unwrap();
        symlink("real", home.join("link")).unwrap();

        let list = names(&["~/link", "~/missing", "~", "~/real/", "data", "."]);
        let found = resolve(&list, &[], &home, &project).unwrap();

        assert_eq!(
            found[Path::new("~/link")],
            (home.join("real"), EntryKind::Directory)
        );
        assert_eq!(found[Path::new("~")].0, home);
        assert_eq!(found[Path::new("data")].0, project.join("data"));
        assert_eq!(found[Path::new(".")].0, project);
        assert!(!found.contains_key(Path::new("~/missing")));
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_link_in_the_project_does_not_widen_a_grant() {
        let (path, _directory) = scratch("escape");
        let home = std::fs::canonicalize(path).unwrap();
        let project = home.join("project");
        std::fs::create_dir_all(&project).unwrap();
        std::fs::create_dir(home.join("keys")).unwrap();
        symlink("../keys", project.join("data")).unwrap();
        for name in [
            PathBuf::from("data"),
            project.join("data"),
            "~/project/data".into(),
        ] {
            let error = resolve(&[name], &[], &home, &project).unwrap_err();
            assert!(
                matches!(error, HostError::Escape { target, .. } if target == home.join("keys"))
            );
        }
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn nor_does_a_link_in_a_writable_grant() {
        let (path, _directory) = scratch("grant-escape");
        let home = std::fs::canonicalize(path).unwrap();
        let project = home.join("project");
        std::fs::create_dir_all(&project).unwrap();
        std::fs::create_dir_all(home.join("keys/data")).unwrap();
        std::fs::create_dir(home.join("tools")).unwrap();
        symlink("../keys", home.join("tools/inner")).unwrap();
        symlink("tools", home.join("alias")).unwrap();
        let named = names(&["~/tools/inner/data", "~/tools"]);
        let error = resolve(&named, &named[1..], &home, &project).unwrap_err();
        assert!(matches!(error, HostError::Escape { root, .. } if root == home.join("tools")));
        // The user's own links lead where they lead.
        assert!(resolve(&named, &[], &home, &project).is_ok());
        let own = names(&["~/alias", "~/tools"]);
        assert_eq!(resolve(&own, &own, &home, &project).unwrap().len(), 2);
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_home_is_expanded_only_as_a_whole_component() {
        let home = Path::new("/home/ann");
        assert_eq!(
            expand_home(Path::new("~/x"), home),
            Path::new("/home/ann/x")
        );
        assert_eq!(expand_home(Path::new("~bob/x"), home), Path::new("~bob/x"));
        assert_eq!(expand_home(Path::new("/x/~"), home), Path::new("/x/~"));
    }
}
