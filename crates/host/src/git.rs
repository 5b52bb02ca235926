//! The git directories of a project: its own, those of its submodules and of its linked worktrees (gitrepository-layout(5)).
//!
//! Everything in them is hostile input: an earlier agent had them. Look-ups go below the project's descriptor, follow no
//! link, and are bounded. Must not run git, and must not interpret its configuration beyond the paths that lead to more
//! of what git executes.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use crate::files::{Links, read_below, read_text};

/// Most git directories looked at; a project with more is still protected at its top.
const DIRECTORY_LIMIT: usize = 256;
/// Most directory entries looked at while searching them.
const ENTRY_LIMIT: usize = 20_000;
/// Deepest submodule name, in components (`.git/modules/a/b`), nested submodules included.
const DEPTH_LIMIT: usize = 12;
/// Largest configuration of a submodule that is read, in bytes.
const CONFIG_LIMIT_BYTES: usize = 64 << 10;

/// Where the repositories of a project keep what git executes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitLayout {
    /// Git directories, relative to the project, `.git` first.
    pub directories: Vec<PathBuf>,
    /// `.git` files and links that point to a git directory: of a linked worktree, and of checked-out submodules.
    pub pointers: Vec<PathBuf>,
}

/// Finds the git directories of a project.
#[must_use]
pub fn git_layout(project: BorrowedFd<'_>) -> GitLayout {
    let mut layout = GitLayout::default();
    match kind(project, Path::new(".git")) {
        Some(FileType::RegularFile) => layout.pointers.push(".git".into()),
        Some(FileType::Directory) => {
            layout.directories.push(".git".into());
            let mut left = ENTRY_LIMIT;
            search(
                project,
                Path::new(".git/modules"),
                0,
                &mut left,
                &mut layout.directories,
            );
            search(
                project,
                Path::new(".git/worktrees"),
                0,
                &mut left,
                &mut layout.directories,
            );
            let modules = layout
                .directories
                .iter()
                .filter(|path| path.starts_with(".git/modules"));
            layout.pointers = modules
                .filter_map(|module| checkout(project, module))
                .collect();
        }
        // Git follows it; so does the look-up of protected names, as long as it stays in the project.
        Some(FileType::Symlink) => {
            layout.pointers.push(".git".into());
            layout.directories.push(".git".into());
        }
        _ => {}
    }
    layout
}

/// Paths in the project that a repository's own configuration names: where hooks are (`core.hooksPath`) and what else
/// is configuration (`include.path`, `includeIf.….path`), relative to the project. What lies outside is left out.
///
/// Must see what git sees or more: a line that only looks like such a setting protects one path too many.
#[must_use]
pub fn git_named(project: BorrowedFd<'_>, root: &Path, directory: &Path) -> Vec<PathBuf> {
    let worktree = worktree(project, directory);
    let mut found = Vec::new();
    for file in ["config", "config.worktree"] {
        let config = directory.join(file);
        let read = read_below(
            project,
            Path::new(""),
            &config,
            CONFIG_LIMIT_BYTES,
            Links::Refuse,
        );
        let Ok(Some(content)) = read else { continue };
        for (setting, value) in named(&content.text) {
            let base = match setting {
                Named::Hooks => worktree.as_path(),
                Named::Include => directory,
            };
            found.extend(in_project(root, base, Path::new(value)));
        }
    }
    found
}

/// Paths in the project that the user's own configuration makes git take hooks from, for each of these git directories.
///
/// `configurations` are the user's and the system's files, which no agent can write to.
#[must_use]
pub fn git_named_by_user(
    project: BorrowedFd<'_>,
    root: &Path,
    home: &Path,
    directories: &[PathBuf],
    configurations: &[PathBuf],
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in configurations {
        let Ok(Some(content)) = read_text(file, CONFIG_LIMIT_BYTES) else {
            continue;
        };
        for (setting, value) in named(&content.text) {
            if setting == Named::Hooks {
                let value = crate::expand_home(Path::new(value), home);
                let bases = directories.iter().map(|path| worktree(project, path));
                found.extend(bases.filter_map(|base| in_project(root, &base, &value)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What a setting names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Relative to where the hook runs, the top of the worktree (git-config(1)).
    Hooks,
    /// Relative to the file that includes.
    Include,
}

fn named(text: &str) -> Vec<(Named, &str)> {
    let mut found = Vec::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        // A section's head may have a setting behind it on the same line.
        let line = match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((head, rest)) => {
                section = head.to_ascii_lowercase();
                rest.trim()
            }
            None => line,
        };
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let setting = match key.trim().to_ascii_lowercase().as_str() {
            "hookspath" if section == "core" => Named::Hooks,
            "path" if section.starts_with("include") => Named::Include,
            _ => continue,
        };
        found.push((setting, plain(value)));
    }
    found
}

fn in_project(root: &Path, base: &Path, value: &Path) -> Option<PathBuf> {
    let relative = match value.strip_prefix(root) {
        Ok(below) => Some(below.to_owned()),
        Err(_) => joined(base, value),
    };
    relative.filter(|path| !path.as_os_str().is_empty())
}

/// Where the files of a repository are: beside its `.git`, where a submodule's configuration says, or, without a worktree,
/// the git directory itself.
fn worktree(project: BorrowedFd<'_>, directory: &Path) -> PathBuf {
    if directory.ends_with(".git") {
        return directory.parent().unwrap_or(Path::new("")).to_owned();
    }
    checkout(project, directory)
        .and_then(|pointer| pointer.parent().map(Path::to_owned))
        .unwrap_or_else(|| directory.to_owned())
}

/// A value without quotes, comment and space around it.
fn plain(value: &str) -> &str {
    let value = value.trim();
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => value.split(['#', ';']).next().unwrap_or_default().trim(),
    }
}

/// Joins without looking at anything; nothing when the result leaves the project.
pub(crate) fn joined(base: &Path, relative: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in base.join(relative).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Adds the git directories below one that only holds such.
fn search(
    project: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    left: &mut usize,
    found: &mut Vec<PathBuf>,
) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let Ok(directory) = rustix::fs::openat2(project, path, flags, Mode::empty(), resolve) else {
        return;
    };
    let Ok(listing) = Dir::read_from(&directory) else {
        return;
    };
    for entry in listing.flatten() {
        if *left == 0 || found.len() >= DIRECTORY_LIMIT {
            return;
        }
        *left -= 1;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || entry.file_type() == FileType::RegularFile {
            continue;
        }
        let below = path.join(OsStr::from_bytes(name.to_bytes()));
        if kind(
            directory.as_fd(),
            Path::new(OsStr::from_bytes(name.to_bytes())),
        ) != Some(FileType::Directory)
        {
            continue;
        }
        if kind(project, &below.join("HEAD")).is_some() {
            found.push(below.clone());
            // Submodules of a submodule.
            if depth < DEPTH_LIMIT {
                search(project, &below.join("modules"), depth + 1, left, found);
            }
        } else if depth < DEPTH_LIMIT {
            // A submodule's name may have slashes.
            search(project, &below, depth + 1, left, found);
        }
    }
}

/// The `.git` file in the checkout of a submodule, from the one path that its configuration holds.
fn checkout(project: BorrowedFd<'_>, module: &Path) -> Option<PathBuf> {
    let config = read_below(
        project,
        Path::new(""),
        &module.join("config"),
        CONFIG_LIMIT_BYTES,
        Links::Refuse,
    )
    .ok()??;
    let worktree = config.text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("worktree")
            .then(|| value.trim().trim_matches('"'))
    })?;
    let path = joined(module, Path::new(worktree))?;
    let pointer = path.join(".git");
    (kind(project, &pointer) == Some(FileType::RegularFile)).then_some(pointer)
}

/// What a path below the descriptor is, if no link has to be followed to it.
fn kind(directory: BorrowedFd<'_>, path: &Path) -> Option<FileType> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve).ok()?;
    let status = rustix::fs::statat(opened, "", AtFlags::EMPTY_PATH).ok()?;
    Some(FileType::from_raw_mode(status.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn project(name: &str, files: &[(&str, &str)]) -> (PathBuf, std::fs::File) {
        let path = std::env::temp_dir().join(format!("rcc-git-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        for (file, content) in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        let directory = std::fs::File::open(&path).unwrap();
        (path, directory)
    }

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn submodules_and_worktrees_are_found_with_their_checkouts() {
        let (path, directory) = project(
            "layout",
            &[
                (".git/HEAD", ""),
                (".git/modules/lib/HEAD", ""),
                (
                    ".git/modules/lib/config",
                    "[core]\n\tworktree = ../../../vendor/lib\n",
                ),
                (".git/modules/lib/modules/inner/HEAD", ""),
                (".git/modules/group/name/HEAD", ""),
                (".git/modules/escape/HEAD", ""),
                (
                    ".git/modules/escape/config",
                    "[core]\n\tworktree = ../../../../../etc\n",
                ),
                (".git/worktrees/side/HEAD", ""),
                ("vendor/lib/.git", "gitdir: ../../.git/modules/lib\n"),
            ],
        );
        let mut layout = git_layout(directory.as_fd());
        layout.directories.sort();
        assert_eq!(
            layout.directories,
            paths(&[
                ".git",
                ".git/modules/escape",
                ".git/modules/group/name",
                ".git/modules/lib",
                ".git/modules/lib/modules/inner",
                ".git/worktrees/side",
            ])
        );
        assert_eq!(layout.pointers, paths(&["vendor/lib/.git"]));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_linked_worktree_has_a_pointer_and_a_link_is_looked_through_by_name_only() {
        let (path, directory) = project("pointer", &[(".git", "gitdir: /elsewhere\n")]);
        assert_eq!(git_layout(directory.as_fd()).pointers, paths(&[".git"]));
        std::fs::remove_file(path.join(".git")).unwrap();
        symlink("/", path.join(".git")).unwrap();
        let layout = git_layout(directory.as_fd());
        assert_eq!(layout.pointers, paths(&[".git"]));
        assert_eq!(layout.directories, paths(&[".git"]));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn paths_that_the_configuration_names_are_found() {
        let config = "[core]\n\tbare = false\n\thooksPath = .githooks/ # ours\n[Include]\n path = ../.gitconfig\n\
            [includeIf \"gitdir:/x/\"] path = \"local.conf\"\n[core] HOOKSPATH=/home/ann/p/tools/hooks\n\
            [include]\npath=~/.gitconfig\npath = ../../outside\npath = /etc/gitconfig\n[other]\nhooksPath = no\n[core]\nhooksPath = .\n";
        let (path, directory) = project("named", &[(".git/config", config)]);
        let found = git_named(
            directory.as_fd(),
            Path::new("/home/ann/p"),
            Path::new(".git"),
        );
        let expected = [
            ".githooks",
            ".gitconfig",
            ".git/local.conf",
            "tools/hooks",
            ".git/~/.gitconfig",
        ];
        assert_eq!(found, paths(&expected));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn links_in_the_git_directory_are_not_followed() {
        let (path, directory) = project("links", &[(".git/HEAD", ""), ("outside/x/HEAD", "")]);
        symlink("../outside", path.join(".git/modules")).unwrap();
        std::fs::create_dir(path.join(".git/worktrees")).unwrap();
        symlink("../../outside/x", path.join(".git/worktrees/x")).unwrap();
        assert_eq!(git_layout(directory.as_fd()).directories, paths(&[".git"]));
        std::fs::remove_dir_all(path).unwrap();
    }
}
