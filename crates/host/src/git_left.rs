//! What a run left in the project's git directories that git on the host would run or be led by, and putting it aside.
//!
//! A repository that existed is read-only where it matters; a name that did not exist, and a repository that the agent
//! made, are judged here after the agent ended. Putting aside is a rename in the same directory: nothing is lost, and git
//! does not look there. Must not run git, follow a link, or write anything.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rcc_spec::{GIT_CONFIG_LIMIT_BYTES, PROTECTED_NAMES, ProtectedPlace, parse_git_config};
use rustix::fs::{Mode, OFlags, RawDir, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::files::{Links, read_below};
use crate::git::joined;
use crate::survey::{Mark, Survey, mark};

/// Largest `.git` file and `commondir`, in bytes.
const POINTER_LIMIT_BYTES: usize = 8192;
/// Most files of a hooks directory that are looked at.
const HOOK_LIMIT: usize = 256;
/// Most names of files put aside that are tried.
const ASIDE_LIMIT: usize = 1000;
/// Behind the name of what was put aside.
const ASIDE: &str = ".rcc-aside";

/// How the git directories were before the run.
#[derive(Debug, Default, Clone)]
pub struct GitBefore {
    marks: BTreeMap<PathBuf, Mark>,
    /// Settings of configurations that were dangerous then already: the user's own.
    known: BTreeMap<PathBuf, Vec<String>>,
}

/// One thing that git would run or be led by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFinding {
    /// Relative to the project.
    pub path: PathBuf,
    /// What git would do with it.
    pub reasons: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has another name now, relative to the project.
    Aside(PathBuf),
    /// It was there before and could only be changed from outside, or it runs nothing by itself.
    Left,
    /// It could not be renamed.
    Failed(Errno),
}

/// Notes how the git directories are before a run, and the hooks and configuration that they name.
#[must_use]
pub fn git_before(project: BorrowedFd<'_>, survey: &Survey, configured: &[PathBuf]) -> GitBefore {
    let mut before = GitBefore::default();
    let files = survey.git.iter().flat_map(|directory| git_files(directory));
    let files = files.chain(survey.pointers.iter().cloned());
    for path in files.chain(configured.iter().cloned()) {
        if let Some(mark) = mark(project, &path) {
            if is_config(&path) || configured.contains(&path) {
                before.known.insert(path.clone(), dangers(project, &path));
            }
            before.marks.insert(path, mark);
        }
    }
    before
}

/// Judges what is new or changed in the project's git directories, and puts aside what git would run.
///
/// `guarded` are the paths that were read-only during the run: a change of them came from outside, from the user.
#[must_use]
pub fn git_left(
    project: BorrowedFd<'_>,
    root: &Path,
    before: &GitBefore,
    now: &Survey,
    configured: &[PathBuf],
    guarded: &dyn Fn(&Path) -> bool,
) -> Vec<GitFinding> {
    let mut found = Vec::new();
    let changed = |path: &Path| {
        let now = mark(project, path);
        now.is_some() && now.as_ref() != before.marks.get(path)
    };
    let news = |path: &Path| {
        let known = before.known.get(path);
        let dangers = dangers(project, path).into_iter();
        dangers
            .filter(|danger| known.is_none_or(|known| !known.contains(danger)))
            .collect::<Vec<String>>()
    };
    for path in now.git.iter().flat_map(|directory| git_files(directory)) {
        if !changed(&path) {
            continue;
        }
        let reasons = match path.file_name().map(OsStr::as_bytes) {
            Some(b"config" | b"config.worktree") => news(&path),
            Some(b"hooks") => hooks(project, &path),
            Some(b"commondir") => common(project, root, &path, now),
            // They run nothing by themselves: a worktree's own place, objects of another repository, and programs that a
            // configuration would have to name.
            Some(b"alternates") => {
                vec!["git takes objects from where it says".to_owned()]
            }
            Some(b"attributes") => {
                vec!["it attaches filter programs of your configuration to files".to_owned()]
            }
            _ => continue,
        };
        if !reasons.is_empty() {
            let leave = guarded(&path) || !moves(&path);
            found.push(finding(project, path, reasons, leave));
        }
    }
    for path in configured.iter().filter(|path| changed(path)) {
        // Which of the two it is, is the configuration's word: a directory holds hooks, all else is configuration.
        let reasons = match is_directory(project, path) {
            true => hooks(project, path),
            false => news(path),
        };
        if !reasons.is_empty() {
            found.push(finding(project, path.clone(), reasons, guarded(path)));
        }
    }
    for path in &now.pointers {
        if changed(path)
            && let Some(reason) = pointer(project, root, path, now)
        {
            found.push(finding(project, path.clone(), vec![reason], guarded(path)));
        }
    }
    found
}

fn finding(
    project: BorrowedFd<'_>,
    path: PathBuf,
    reasons: Vec<String>,
    leave: bool,
) -> GitFinding {
    let outcome = if leave {
        Outcome::Left
    } else {
        match put_aside(project, &path) {
            Ok(to) => Outcome::Aside(to),
            Err(errno) => Outcome::Failed(errno),
        }
    };
    GitFinding {
        path,
        reasons,
        outcome,
    }
}

fn git_files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let names = PROTECTED_NAMES
        .iter()
        .filter(|name| name.place == ProtectedPlace::GitDirectory);
    names.map(move |name| directory.join(name.path.trim_end_matches('/')))
}

fn is_config(path: &Path) -> bool {
    path.ends_with("config") || path.ends_with("config.worktree")
}

fn moves(path: &Path) -> bool {
    !path.ends_with("alternates") && !path.ends_with("attributes")
}

/// What a configuration would make git run, one sentence a setting. A file that cannot be read is one.
fn dangers(project: BorrowedFd<'_>, path: &Path) -> Vec<String> {
    let read = read_below(
        project,
        Path::new(""),
        path,
        GIT_CONFIG_LIMIT_BYTES,
        Links::Refuse,
    );
    let settings = match read {
        Ok(None) => return Vec::new(),
        Ok(Some(content)) => match parse_git_config(&content.text) {
            Ok(settings) => settings,
            Err(error) => return vec![format!("it {error}")],
        },
        Err(_) => return vec!["it is no plain file that could be read".to_owned()],
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let settings = settings.iter().filter(|setting| {
        // A submodule's configuration says where its files are; git writes nothing else as long as that is inside.
        !(setting.name() == "core.worktree"
            && setting
                .value
                .as_deref()
                .is_some_and(|value| joined(directory, Path::new(value)).is_some()))
    });
    settings
        .filter_map(|setting| {
            let reason = setting.danger()?;
            let value = setting.value.as_deref().unwrap_or("true");
            Some(format!("{} = {value}: {reason}", setting.name()))
        })
        .collect()
}

/// The hooks of a hooks directory; the samples that git puts there are none.
fn hooks(project: BorrowedFd<'_>, path: &Path) -> Vec<String> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat2(project, path, flags, Mode::empty(), resolve) else {
        return vec!["git runs the hooks that it leads to".to_owned()];
    };
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut listing = RawDir::new(&directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(Ok(entry)) = listing.next() {
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !name.ends_with(b".sample") && names.len() < HOOK_LIMIT
        {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    names.sort();
    names
        .into_iter()
        .map(|name| format!("git runs its hook {name}"))
        .collect()
}

fn is_directory(project: BorrowedFd<'_>, path: &Path) -> bool {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(project, path, flags, Mode::empty(), resolve).is_ok()
}

/// A `commondir` must lead to a git directory of the project.
fn common(project: BorrowedFd<'_>, root: &Path, path: &Path, now: &Survey) -> Vec<String> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let read = read_below(
        project,
        Path::new(""),
        path,
        POINTER_LIMIT_BYTES,
        Links::Refuse,
    );
    let target = read.ok().flatten().and_then(|content| {
        let text = content.text.trim_end_matches(['\n', '\r']).to_owned();
        within(root, directory, Path::new(&text))
    });
    // A repository's own directory needs no such file; those of worktrees lie in another repository.
    let worktree = directory
        .parent()
        .is_some_and(|parent| parent.ends_with("worktrees"));
    match target {
        Some(target) if worktree && target != *directory && now.git.contains(&target) => Vec::new(),
        _ => vec!["git takes hooks and configuration from where it says".to_owned()],
    }
}

/// A `.git` file or link must lead to a git directory of the project.
fn pointer(project: BorrowedFd<'_>, root: &Path, path: &Path, now: &Survey) -> Option<String> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let read = read_below(
        project,
        Path::new(""),
        path,
        POINTER_LIMIT_BYTES,
        Links::Refuse,
    );
    let target = read.ok().flatten().and_then(|content| {
        let text = content
            .text
            .strip_prefix("gitdir: ")?
            .trim_end_matches(['\n', '\r']);
        within(root, directory, Path::new(text))
    });
    match target {
        Some(target) if now.git.contains(&target) => None,
        _ => Some("it leads git to a directory that could not be looked at".to_owned()),
    }
}

/// A path as git reads it, relative to the project; none when it leaves it.
fn within(root: &Path, directory: &Path, path: &Path) -> Option<PathBuf> {
    match path.strip_prefix(root) {
        Ok(below) => joined(Path::new(""), below),
        Err(_) => joined(directory, path),
    }
}

/// Gives the last component of a path another name, in the same directory.
fn put_aside(project: BorrowedFd<'_>, path: &Path) -> Result<PathBuf, Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = rustix::fs::openat2(
        project,
        parent.unwrap_or(Path::new(".")),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    for number in 0..ASIDE_LIMIT {
        let mut to = name.to_owned();
        to.push(ASIDE);
        if number > 0 {
            to.push(number.to_string());
        }
        let renamed = rustix::fs::renameat_with(
            directory.as_fd(),
            name,
            directory.as_fd(),
            &to,
            RenameFlags::NOREPLACE,
        );
        match renamed {
            Ok(()) => return Ok(path.with_file_name(to)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::{Wanted, survey};
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (PathBuf, std::fs::File) {
        let path = std::env::temp_dir().join(format!("rcc-left-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        let directory = std::fs::File::open(&path).unwrap();
        (path, directory)
    }

    fn write(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn repository(root: &Path, at: &str, config: &str) {
        write(root, &format!("{at}/HEAD"), "ref: refs/heads/main\n");
        write(root, &format!("{at}/config"), config);
        write(root, &format!("{at}/objects/x"), "");
        write(root, &format!("{at}/refs/x"), "");
    }

    #[test]
    fn only_what_git_would_run_is_put_aside() {
        let (root, fd) = scratch("aside");
        repository(&root, ".git", "[core]\n\tbare = false\n\tpager = less\n");
        let look = || survey(fd.as_fd(), &Wanted::default());
        let before = git_before(fd.as_fd(), &look(), &[]);
        assert!(git_left(fd.as_fd(), &root, &before, &look(), &[], &|_| false).is_empty());

        repository(
            &root,
            "fine/.git",
            "[remote \"o\"]\n\turl = https://example.com/x\n",
        );
        write(&root, "fine/.git/hooks/x.sample", "");
        repository(&root, "bad/.git", "[core]\n\tfsmonitor = ./x\n");
        write(&root, "bad/.git/hooks/pre-commit", "");
        write(&root, ".git/commondir", ".");
        write(&root, "w/.git", "gitdir: ../.git/worktrees/w\n");
        repository(&root, ".git/worktrees/w", "");
        write(&root, ".git/worktrees/w/commondir", "../..\n");
        write(&root, "x/.git", "gitdir: /elsewhere\n");
        std::fs::create_dir(root.join("y")).unwrap();
        symlink("/elsewhere", root.join("y/.git")).unwrap();
        symlink("/dev/zero", root.join("fine/.git/config.worktree")).unwrap();
        let mut found = git_left(fd.as_fd(), &root, &before, &look(), &[], &|_| false);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<&str> = found.iter().map(|one| one.path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                ".git/commondir",
                "bad/.git/config",
                "bad/.git/hooks",
                "fine/.git/config.worktree",
                "x/.git",
                "y/.git"
            ]
        );
        for one in &found {
            let Outcome::Aside(to) = &one.outcome else {
                panic!("{one:?}")
            };
            assert!(root.join(to).symlink_metadata().is_ok());
            assert!(root.join(&one.path).symlink_metadata().is_err());
        }
        // The user's own setting was there before.
        write(
            &root,
            ".git/config",
            "[core]\n\tpager = less\n[branch \"x\"]\n\tremote = o\n",
        );
        assert!(git_left(fd.as_fd(), &root, &before, &look(), &[], &|_| false).is_empty());
        write(&root, ".git/config", "[core]\n\tpager = more\n");
        let found = git_left(fd.as_fd(), &root, &before, &look(), &[], &|path| {
            path == Path::new(".git/config")
        });
        assert_eq!(found[0].outcome, Outcome::Left);
        assert!(
            found[0].reasons[0].contains("core.pager = more"),
            "{found:?}"
        );
        std::fs::remove_dir_all(root).unwrap();
    }
}
