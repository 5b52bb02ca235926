//! One look at the whole project: its git directories, the names of the table of protected names, and what patterns hide.
//!
//! Runs before the agent starts and after it ended, on a tree that agents made: names are looked up below the project's
//! descriptor, no link is followed, nothing but directories is opened, and the walk is bounded in entries and time. Near
//! the top comes first, so that what is left out is what lies deep. Must not judge what it finds.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcc_spec::{DEPENDENCY_DIRECTORIES, PROTECTED_NAMES, Pattern, ProtectedName, ProtectedPlace};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::facts::look_up;

/// Most directory entries looked at.
const ENTRY_LIMIT: usize = 300_000;
/// Longest time of one look.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// How often the look begins again when directories were moved between listing and opening them.
const PASSES: usize = 8;
/// Most links that patterns of hidden files are followed through.
const LINK_LIMIT: usize = 256;
/// Entries of one protected directory that its mark is made of.
const MARK_LIMIT: usize = 512;
/// Parts of a git directory that hold data by the thousand, and no git directory that git would find by itself.
const GIT_DATA: [&[u8]; 3] = [b"objects", b"refs", b"logs"];

/// What is looked for besides git directories and protected names.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// Patterns of files to hide.
    pub hidden: &'a [Pattern],
    /// Directories that are not looked into.
    pub skipped: &'a [PathBuf],
}

/// What was found; every path is relative to the project, the empty one is the project itself.
#[derive(Debug, Default, Clone)]
pub struct Survey {
    /// Directories that git takes for a repository or for a part of one, near the top first.
    pub git: Vec<PathBuf>,
    /// `.git` files and links.
    pub pointers: Vec<PathBuf>,
    /// Protected names that exist, outside of git directories and dependencies.
    pub names: Vec<(PathBuf, &'static ProtectedName)>,
    /// What the patterns match; links are replaced by what they lead to in the project.
    pub hidden: Vec<PathBuf>,
    /// Entries looked at.
    pub entries: usize,
    /// A bound was hit: there is more.
    pub stopped: bool,
    /// Directories went from under their names in every pass: somebody moves them, and what is in them may be missing here.
    pub moving: bool,
}

/// Whether a path lies in a directory of other people's projects.
#[must_use]
pub fn is_dependency(path: &Path) -> bool {
    path.iter()
        .any(|part| DEPENDENCY_DIRECTORIES.iter().any(|name| part == *name))
}

/// Looks at the project.
///
/// An agent of another run could exchange a directory with a link whenever it is about to be opened, so that what is in it is
/// neither protected nor hidden: then the look begins again.
#[must_use]
pub fn survey(project: BorrowedFd<'_>, wanted: &Wanted<'_>) -> Survey {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut found = pass(project, wanted, deadline);
    for _ in 1..PASSES {
        if !found.moving || found.stopped {
            break;
        }
        found = pass(project, wanted, deadline);
    }
    found
}

/// One look from the top.
fn pass(project: BorrowedFd<'_>, wanted: &Wanted<'_>, deadline: Instant) -> Survey {
    let mut names: HashMap<&[u8], Vec<&'static ProtectedName>> = HashMap::new();
    for name in PROTECTED_NAMES {
        let first = name.path.split('/').next().unwrap_or_default();
        if name.place != ProtectedPlace::GitDirectory {
            names.entry(first.as_bytes()).or_default().push(name);
        }
    }
    let mut walk = Walk {
        project,
        wanted,
        names,
        skipped: wanted.skipped.iter().map(PathBuf::as_path).collect(),
        queue: VecDeque::from([Step {
            path: PathBuf::new(),
            shown: None,
            place: Place::Project,
        }]),
        links: 0,
        deadline,
        found: Survey::default(),
    };
    // 32 KiB, as the C library's.
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 << 10];
    while let Some(step) = walk.queue.pop_front() {
        if walk.found.entries > ENTRY_LIMIT || Instant::now() > walk.deadline {
            walk.found.stopped = true;
            break;
        }
        walk.directory(&step, &mut buffer);
    }
    walk.found.hidden.sort();
    walk.found.hidden.dedup();
    walk.found
}

/// What kind of place a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Project,
    Dependency,
    Git,
    /// Seen through a link, for the patterns alone.
    Linked,
}

struct Step {
    path: PathBuf,
    /// The path as the patterns see it, where that differs.
    shown: Option<PathBuf>,
    place: Place,
}

struct Walk<'a> {
    project: BorrowedFd<'a>,
    wanted: &'a Wanted<'a>,
    names: HashMap<&'static [u8], Vec<&'static ProtectedName>>,
    skipped: HashSet<&'a Path>,
    queue: VecDeque<Step>,
    links: usize,
    deadline: Instant,
    found: Survey,
}

impl Walk<'_> {
    fn directory(&mut self, step: &Step, buffer: &mut [MaybeUninit<u8>]) {
        let directory = match open_directory(self.project, &step.path) {
            Ok(directory) => directory,
            // It was a directory when its name was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.found.moving = true;
                return;
            }
            // Deeper than a path can name, or closed to the user: nothing that his programs could use either.
            Err(_) => return,
        };
        let (mut head, mut objects, mut refs, mut common) = (false, false, false, false);
        let mut below: Vec<(Vec<u8>, PathBuf)> = Vec::new();
        let mut listing = RawDir::new(&directory, buffer);
        while let Some(Ok(entry)) = listing.next() {
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.found.entries += 1;
            match name {
                b"HEAD" => head = true,
                b"objects" => objects = true,
                b"refs" => refs = true,
                b"commondir" => common = true,
                _ => {}
            }
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(directory.as_fd(), name),
                known => known,
            };
            if !self.wanted.hidden.is_empty() && self.hide(step, name, kind) {
                continue;
            }
            if step.place == Place::Linked {
                if kind == FileType::Directory {
                    below.push((name.to_vec(), step.path.join(OsStr::from_bytes(name))));
                }
                continue;
            }
            if name == b".git" && kind != FileType::Directory {
                self.found.pointers.push(step.path.join(".git"));
            }
            if step.place == Place::Project {
                self.named(step, directory.as_fd(), name, kind);
            }
            if kind == FileType::Directory {
                below.push((name.to_vec(), step.path.join(OsStr::from_bytes(name))));
            }
        }
        let git = step.place != Place::Linked
            && ((objects && refs) || (head && common) || step.path.ends_with(".git"));
        if git {
            self.found.git.push(step.path.clone());
        }
        for (name, path) in below {
            if git && GIT_DATA.contains(&name.as_slice()) || self.skipped.contains(path.as_path()) {
                continue;
            }
            let place = match step.place {
                // A bare repository at the project's top has a project's names beside its own.
                _ if git && !step.path.as_os_str().is_empty() => Place::Git,
                Place::Project
                    if DEPENDENCY_DIRECTORIES
                        .iter()
                        .any(|known| name == known.as_bytes()) =>
                {
                    Place::Dependency
                }
                place => place,
            };
            let shown = step
                .shown
                .as_ref()
                .map(|shown| shown.join(OsStr::from_bytes(&name)));
            self.queue.push_back(Step { path, shown, place });
        }
    }

    /// Adds the entry to what is hidden if a pattern matches it.
    fn hide(&mut self, step: &Step, name: &[u8], kind: FileType) -> bool {
        let name = OsStr::from_bytes(name);
        let path = step.path.join(name);
        let shown = step
            .shown
            .as_ref()
            .map_or_else(|| path.clone(), |shown| shown.join(name));
        let shown = shown.as_os_str().as_bytes();
        let patterns = self.wanted.hidden;
        let matched = patterns.iter().any(|pattern| pattern.matches(shown));
        if kind != FileType::Symlink {
            if matched {
                self.found.hidden.push(path);
            }
            return matched;
        }
        let through = step.place != Place::Linked
            && patterns.iter().any(|pattern| pattern.leads_through(shown));
        if !matched && !through {
            return false;
        }
        self.links += 1;
        if self.links > LINK_LIMIT {
            self.found.stopped = true;
            return false;
        }
        let target = look_up(self.project, &path)
            .ok()
            .and_then(|mut entries| entries.pop());
        let Some(target) = target.filter(|target| target.path != path) else {
            return false;
        };
        if matched {
            self.found.hidden.push(target.path);
        } else if target.kind == rcc_plan::EntryKind::Directory {
            self.queue.push_back(Step {
                path: target.path,
                shown: Some(path),
                place: Place::Linked,
            });
        }
        false
    }

    /// Adds the protected names that begin with this entry.
    fn named(&mut self, step: &Step, directory: BorrowedFd<'_>, name: &[u8], kind: FileType) {
        let Some(candidates) = self.names.get(name) else {
            return;
        };
        for candidate in candidates {
            let path = Path::new(candidate.path.trim_end_matches('/'));
            let is_there = path.components().count() == 1
                || kind == FileType::Symlink
                || (kind == FileType::Directory && exists(directory, path));
            if is_there
                && (candidate.place != ProtectedPlace::Top || step.path.as_os_str().is_empty())
            {
                self.found.names.push((step.path.join(path), candidate));
            }
        }
    }
}

fn resolve() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn open_directory(project: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(project, path, flags, Mode::empty(), resolve())
}

fn kind_of(directory: BorrowedFd<'_>, name: &[u8]) -> FileType {
    rustix::fs::statat(
        directory,
        OsStr::from_bytes(name),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_or(FileType::Unknown, |status| {
        FileType::from_raw_mode(status.st_mode)
    })
}

/// Whether something is there, or a link on the way to it.
fn exists(directory: BorrowedFd<'_>, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve()) {
        Ok(_) | Err(Errno::LOOP) => true,
        Err(_) => false,
    }
}

/// How a file or directory was, to tell whether it changed. The time is the inode's, which no user can set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    mode: u32,
    inode: u64,
    changed: (i64, u64),
    content: u64,
}

/// Takes the mark of what is at a path below the project, a link itself; none when there is nothing.
#[must_use]
pub fn mark(project: BorrowedFd<'_>, path: &Path) -> Option<Mark> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let at = rustix::fs::openat2(project, path, flags, Mode::empty(), resolve()).ok()?;
    let status = rustix::fs::fstat(at).ok()?;
    let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    let mut hasher = DefaultHasher::new();
    if directory {
        let mut left = MARK_LIMIT;
        hash_tree(project, path, 4, &mut left, &mut hasher);
    } else {
        status.st_size.hash(&mut hasher);
    }
    Some(Mark {
        mode: status.st_mode,
        inode: status.st_ino,
        // A directory's own time changes with the temporary files of editors; what is in it is hashed.
        changed: if directory {
            (0, 0)
        } else {
            (status.st_ctime, status.st_ctime_nsec)
        },
        content: hasher.finish(),
    })
}

fn hash_tree(
    project: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    left: &mut usize,
    hasher: &mut DefaultHasher,
) {
    let Ok(directory) = open_directory(project, path) else {
        return;
    };
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut listing = RawDir::new(&directory, &mut buffer);
    while let Some(Ok(entry)) = listing.next() {
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && *left > 0 {
            *left -= 1;
            names.push(name.to_vec());
        }
    }
    names.sort();
    for name in names {
        let text = OsStr::from_bytes(&name);
        let Ok(status) = rustix::fs::statat(&directory, text, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        name.hash(hasher);
        (status.st_mode, status.st_ino).hash(hasher);
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            if depth > 0 {
                hash_tree(project, &path.join(text), depth - 1, left, hasher);
            }
        } else {
            (status.st_size, status.st_ctime, status.st_ctime_nsec).hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn project(name: &str, files: &[&str]) -> (PathBuf, std::fs::File) {
        let path = std::env::temp_dir().join(format!("rcc-survey-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        for file in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let directory = std::fs::File::open(&path).unwrap();
        (path, directory)
    }

    fn texts<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<&'a str> {
        let mut texts: Vec<&str> = paths
            .into_iter()
            .map(|path| path.to_str().unwrap())
            .collect();
        texts.sort_unstable();
        texts
    }

    #[test]
    fn repositories_of_every_shape_are_found() {
        let (path, directory) = project(
            "git",
            &[
                ".git/HEAD",
                ".git/objects/x/.git/config",
                ".git/worktrees/w/HEAD",
                ".git/worktrees/w/commondir",
                "a/b/c/d/e/f/g/h/i/j/k/l/.git/HEAD",
                "bare/HEAD",
                "bare/objects/x",
                "bare/refs/x",
                "headless/objects/x",
                "headless/refs/x",
                "node_modules/x/.git/config",
                "node_modules/x/.envrc",
                "linked/.git",
                "ordinary/HEAD",
                "ordinary/objects/x",
            ],
        );
        symlink("a", path.join("alias")).unwrap();
        let found = survey(directory.as_fd(), &Wanted::default());
        assert_eq!(
            texts(&found.git),
            [
                ".git",
                ".git/worktrees/w",
                "a/b/c/d/e/f/g/h/i/j/k/l/.git",
                "bare",
                "headless",
                "node_modules/x/.git"
            ]
        );
        assert_eq!(texts(&found.pointers), ["linked/.git"]);
        assert!(found.names.is_empty() && !found.stopped, "{found:?}");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn names_and_patterns_are_found_everywhere() {
        let (path, directory) = project(
            "names",
            &[
                "rcc.toml",
                "a/rcc.toml",
                "a/.envrc",
                ".claude/settings.json",
                "a/.claude/other",
                "b/Makefile",
                ".env",
                "a/b/.ENV",
                "a/.env.local",
                "keys/x.pem",
                "keys/y",
                "secrets/deep/x",
                "link-target/k.pem",
            ],
        );
        symlink("link-target", path.join("certs")).unwrap();
        symlink("keys/y", path.join("y.hide")).unwrap();
        symlink("/etc/passwd", path.join("z.hide")).unwrap();
        let patterns: Vec<Pattern> = [".env", "**/.env.*", "secrets/", "certs/*.pem", "*.hide"]
            .map(Pattern::parse)
            .into();
        let wanted = Wanted {
            hidden: &patterns,
            skipped: &[],
        };
        let found = survey(directory.as_fd(), &wanted);
        assert_eq!(
            texts(&found.hidden),
            [
                ".env",
                "a/.env.local",
                "a/b/.ENV",
                "keys/y",
                "link-target/k.pem",
                "secrets"
            ]
        );
        let names: Vec<&PathBuf> = found.names.iter().map(|(path, _)| path).collect();
        assert_eq!(
            texts(names),
            [
                ".claude/settings.json",
                "a/.envrc",
                "b/Makefile",
                "rcc.toml"
            ]
        );
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_mark_changes_with_content_and_not_with_reading() {
        let (path, directory) = project("mark", &["d/e/f", "g"]);
        let marks = || [Path::new("d"), Path::new("g")].map(|path| mark(directory.as_fd(), path));
        let before = marks();
        assert_eq!(before, marks());
        std::fs::write(path.join("d/e/f"), "x").unwrap();
        std::fs::write(path.join("g"), "x").unwrap();
        let after = marks();
        assert!(before[0] != after[0] && before[1] != after[1] && after[0].is_some());
        assert_eq!(mark(directory.as_fd(), Path::new("absent")), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
