//! Toolchains on the caller's `PATH` that live below the real home, and the least that has to be mounted for them.
//!
//! Theory of operation. Every `PATH` entry below the home is looked at. If it is the `bin` of a prefix (a directory that
//! also has `lib`, `share` …) or lies in the root of a known version manager, that whole directory is needed; otherwise
//! the entry itself is. Then the links in it are followed: each hop that leaves what is already mounted adds the package
//! it leads to (a Node.js package, a Python environment, a prefix, or the single file). Mounts appear at the same path,
//! so links keep working as they are.
//!
//! Must not offer the home, a directory above it, one in which several programs keep their data (`~/.local/share`), or one
//! that holds credentials; must not look deeper than the first level of a `bin` directory, or start anything.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use rcc_plan::PathToolchain;
use rustix::fs::{AtFlags, Mode, OFlags};

mod places;

use places::{MANAGERS, SECRETS, SECRETS_INSIDE, SHARED, VARIABLES};

/// Most links looked at, so that a huge directory on `PATH` cannot hold up the start.
const LINK_LIMIT: usize = 2_000;
/// Most mounts offered.
const MOUNT_LIMIT: usize = 64;
/// Most links in one chain, as in the kernel (`path_resolution(7)`).
const HOP_LIMIT: usize = 40;

/// What is known about the caller when toolchains are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The real home, canonical.
    pub home: &'a Path,
    /// Where agents write, canonical: the project and what is granted read-write. What lies there is visible anyway, and
    /// no link there is followed: an agent of an earlier run would choose what is shown to the next.
    pub writable: &'a [&'a Path],
    /// Directories that must never be shown: rcc's own.
    pub guarded: &'a [&'a Path],
    /// The caller's environment.
    pub environment: &'a BTreeMap<OsString, OsString>,
}

/// The toolchains found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolchains {
    /// What to mount read-only, none inside another.
    pub mounts: Vec<PathToolchain>,
    /// The absolute entries of `PATH` in order; those below the home without symbolic links in them.
    pub path: Vec<PathBuf>,
    /// `PATH` entries below the home that are not mounted, with the reason.
    pub skipped: Vec<(PathBuf, Skipped)>,
}

impl Toolchains {
    /// Joins the mounts with others, which win where both name the same place; none ends up inside another.
    #[must_use]
    pub fn joined_with(&self, others: Vec<PathToolchain>) -> Vec<PathToolchain> {
        let mut all = others;
        all.extend(self.mounts.iter().cloned());
        // Stable: of two at the same place the first stays.
        all.sort_by(|a, b| a.path.cmp(&b.path));
        let mut joined: Vec<PathToolchain> = Vec::with_capacity(all.len());
        for toolchain in all {
            match joined.last_mut() {
                // A parent sorts before everything below it, component by component.
                Some(above) if toolchain.path.starts_with(&above.path) => {
                    for (name, value) in toolchain.env {
                        if !above.env.iter().any(|(known, _)| *known == name) {
                            above.env.push((name, value));
                        }
                    }
                }
                _ => joined.push(toolchain),
            }
        }
        joined
    }
}

/// Why a `PATH` entry below the home is not mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// It is the home, lies above it, or is shared by programs that keep their data there.
    TooMuch,
    /// It is, or holds, a place for credentials.
    Credentials,
    /// It belongs to rcc.
    Guarded,
    /// There are more toolchains than are mounted.
    Limit,
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooMuch => "it holds more than programs",
            Self::Credentials => "it holds credentials",
            Self::Guarded => "it belongs to rcc",
            Self::Limit => "there are too many toolchains",
        })
    }
}

/// Finds the toolchains on `PATH`.
#[must_use]
pub fn toolchains_on_path(surroundings: Surroundings<'_>) -> Toolchains {
    let mut search = Search::new(surroundings);
    let mut found = Toolchains::default();
    let value = surroundings.environment.get(OsStr::new("PATH"));
    for entry in value.iter().flat_map(std::env::split_paths) {
        if !entry.is_absolute() {
            continue;
        }
        // What does not exist outside does not have to exist inside, and what the agent chose is not looked for.
        let Some(directory) = resolve_without(&entry, surroundings.writable) else {
            continue;
        };
        let below_home = directory.starts_with(surroundings.home);
        let kept = if below_home { &directory } else { &entry };
        if found.path.contains(kept) {
            continue;
        }
        found.path.push(kept.clone());
        // A link from outside the home (`/opt/node -> ~/node`) exists inside, but its target has to be mounted.
        if below_home
            && !is_within(&directory, surroundings.writable)
            && let Err(reason) = search.add_directory(&directory)
        {
            found.skipped.push((directory, reason));
        }
    }
    found.mounts = search.finish();
    found
}

/// The mounts that one program below the home needs: its package and what its links lead to.
#[must_use]
pub fn toolchain_of(program: &Path, surroundings: Surroundings<'_>) -> Vec<PathToolchain> {
    let mut search = Search::new(surroundings);
    search.follow(program);
    search.finish()
}

/// Whether a path lies in one of the directories.
fn is_within(path: &Path, directories: &[&Path]) -> bool {
    directories
        .iter()
        .any(|directory| path.starts_with(directory))
}

/// The canonical form of an absolute path, unless a link on the way to it lies in one of the directories.
#[must_use]
pub fn resolve_without(path: &Path, writable: &[&Path]) -> Option<PathBuf> {
    let mut is_trusted = true;
    let real = walk(path, |link| is_trusted &= !is_within(link, writable)).ok()?;
    is_trusted.then_some(real)
}

/// Resolves an absolute path as the kernel does (`path_resolution(7)`), and shows every link on the way by its own
/// canonical path. One walk gives both: asked for one after the other, they could be answers about two different trees.
///
/// # Errors
/// As `realpath(3)`: something on the way is missing, is no directory, or cannot be looked at.
pub(crate) fn walk(path: &Path, mut link: impl FnMut(&Path)) -> std::io::Result<PathBuf> {
    let mut reached = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = path.iter().map(OsStr::to_owned).collect();
    let mut hops = 0;
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => reached = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                reached.pop();
            }
            Some(Component::Normal(_)) => {
                let next = reached.join(&part);
                match std::fs::read_link(&next) {
                    Ok(target) => {
                        hops += 1;
                        if hops > HOP_LIMIT {
                            return Err(rustix::io::Errno::LOOP.into());
                        }
                        link(&next);
                        for part in target.iter().rev() {
                            rest.push_front(part.to_owned());
                        }
                    }
                    // EINVAL: it is there and no link.
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                        reached = next
                    }
                    Err(error) => return Err(error),
                }
            }
            _ => {}
        }
    }
    Ok(reached)
}

struct Search<'a> {
    surroundings: Surroundings<'a>,
    mounts: Vec<PathBuf>,
    links_left: usize,
    /// Roots of version managers, by their usual names and by the caller's variables.
    managers: Vec<PathBuf>,
    /// Answers of [`Search::check`], which looks for many names.
    checked: BTreeMap<PathBuf, Result<(), Skipped>>,
}

impl<'a> Search<'a> {
    fn new(surroundings: Surroundings<'a>) -> Self {
        let by_default = MANAGERS.iter().map(|name| surroundings.home.join(name));
        let by_variable = VARIABLES
            .iter()
            .filter(|variable| variable.is_root)
            .filter_map(|variable| surroundings.environment.get(OsStr::new(variable.name)))
            .filter_map(|value| resolve_without(Path::new(value), surroundings.writable));
        Self {
            surroundings,
            mounts: Vec::new(),
            links_left: LINK_LIMIT,
            managers: by_default.chain(by_variable).collect(),
            checked: BTreeMap::new(),
        }
    }

    /// Adds a `PATH` entry.
    fn add_directory(&mut self, directory: &Path) -> Result<(), Skipped> {
        let needed = self.whole(directory);
        let needed = if self.check(&needed).is_ok() {
            needed
        } else {
            directory.to_owned()
        };
        self.add(needed)?;
        if is_cargo_bin(directory) {
            self.add_rustup();
        }
        self.follow_links_in(directory);
        Ok(())
    }

    /// The directory that makes up the toolchain which `bin` belongs to.
    fn whole(&mut self, bin: &Path) -> PathBuf {
        if let Some(manager) = self.manager(bin) {
            return manager;
        }
        match bin.parent() {
            Some(prefix) if is_bin(bin) && is_prefix(prefix) => prefix.to_owned(),
            _ => bin.to_owned(),
        }
    }

    /// The root of the version manager that a path lies in.
    fn manager(&mut self, path: &Path) -> Option<PathBuf> {
        let mut roots = self.managers.iter();
        let root = roots.find(|root| path.starts_with(root))?.clone();
        self.check(&root).is_ok().then_some(root)
    }

    /// `rustup` and the programs it stands for read the toolchains beside it, never cargo's credentials.
    fn add_rustup(&mut self) {
        let root = match self.surroundings.environment.get(OsStr::new("RUSTUP_HOME")) {
            Some(value) => PathBuf::from(value),
            None => self.surroundings.home.join(".rustup"),
        };
        if let Some(root) = resolve_without(&root, self.surroundings.writable)
            && root.starts_with(self.surroundings.home)
            && root.is_dir()
        {
            let _ = self.add(root);
        }
    }

    /// Follows the links of a directory of programs.
    fn follow_links_in(&mut self, directory: &Path) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if self.links_left == 0 {
                return;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.links_left -= 1;
                let link = entry.path();
                // A link to a neighbour adds nothing: if that is a link itself, its turn comes.
                let neighbour =
                    std::fs::read_link(&link).is_ok_and(|target| is_plain_name(&target));
                if !neighbour {
                    self.follow(&link);
                }
            }
        }
    }

    /// Follows a program's links and adds what each of them leads to.
    fn follow(&mut self, program: &Path) {
        let Some(end) = resolve_without(program, self.surroundings.writable) else {
            return; // a dangling link is not a program
        };
        let mut at = program.to_owned();
        for _ in 0..HOP_LIMIT {
            let Ok(target) = std::fs::read_link(&at) else {
                break;
            };
            let Some(next) = at.parent().map(|parent| without_dots(&parent.join(target))) else {
                break;
            };
            // A link on the way is needed as well as its end; it can only be mounted with the directory it is in.
            if next != end
                && !self.is_covered(&next)
                && next.starts_with(self.surroundings.home)
                && let Some(parent) = next
                    .parent()
                    .and_then(|parent| std::fs::canonicalize(parent).ok())
            {
                let _ = self.add(parent);
            }
            at = next;
        }
        if self.is_covered(&end) || !end.starts_with(self.surroundings.home) {
            return;
        }
        let package = self.package(&end);
        let package = if self.check(&package).is_ok() {
            package
        } else {
            end
        };
        let bin = package.join("bin");
        if self.add(package).is_ok() && bin.is_dir() {
            self.follow_interpreters_in(&bin);
        }
    }

    /// A Python environment (PEP 405) links its interpreter to another installation.
    fn follow_interpreters_in(&mut self, bin: &Path) {
        for name in ["python", "python3"] {
            let interpreter = bin.join(name);
            if self.links_left > 0 && interpreter.is_symlink() {
                self.links_left -= 1;
                self.follow(&interpreter);
            }
        }
    }

    /// What a program file belongs to.
    fn package(&mut self, program: &Path) -> PathBuf {
        if let Some(manager) = self.manager(program) {
            return manager;
        }
        if let Some(package) = node_package(program) {
            return package;
        }
        match program.parent().map(|bin| (bin, bin.parent())) {
            Some((bin, Some(prefix))) if is_bin(bin) && is_prefix(prefix) => prefix.to_owned(),
            _ => program.to_owned(),
        }
    }

    fn is_covered(&self, path: &Path) -> bool {
        is_within(path, self.surroundings.writable)
            || self.mounts.iter().any(|mount| path.starts_with(mount))
    }

    fn add(&mut self, path: PathBuf) -> Result<(), Skipped> {
        if self.is_covered(&path) {
            return Ok(());
        }
        self.check(&path)?;
        if self.mounts.len() >= MOUNT_LIMIT {
            return Err(Skipped::Limit);
        }
        self.mounts.retain(|mount| !mount.starts_with(&path));
        self.mounts.push(path);
        Ok(())
    }

    /// Refuses what must not be shown to an agent.
    fn check(&mut self, path: &Path) -> Result<(), Skipped> {
        if let Some(known) = self.checked.get(path) {
            return *known;
        }
        let answer = self.look(path);
        self.checked.insert(path.to_owned(), answer);
        answer
    }

    fn look(&self, path: &Path) -> Result<(), Skipped> {
        let home = self.surroundings.home;
        if home.starts_with(path) || SHARED.iter().any(|name| home.join(name) == path) {
            return Err(Skipped::TooMuch);
        }
        for guarded in self.surroundings.guarded {
            if guarded.starts_with(path) || path.starts_with(guarded) {
                return Err(Skipped::Guarded);
            }
        }
        let secret = SECRETS.iter().map(|name| home.join(name));
        if secret.into_iter().any(|secret| {
            path.starts_with(&secret) || (secret.starts_with(path) && exists(&secret))
        }) {
            return Err(Skipped::Credentials);
        }
        if contains_any(path, SECRETS_INSIDE) {
            return Err(Skipped::Credentials);
        }
        Ok(())
    }

    fn finish(self) -> Vec<PathToolchain> {
        let mut mounts = self.mounts;
        mounts.sort();
        mounts
            .iter()
            .map(|path| PathToolchain {
                directory: path.is_dir(),
                env: variables(path, self.surroundings.environment),
                path: path.clone(),
            })
            .collect()
    }
}

/// The caller's variables that name a directory in `mount`.
fn variables(mount: &Path, environment: &BTreeMap<OsString, OsString>) -> Vec<(String, OsString)> {
    let mut found: Vec<(String, OsString)> = VARIABLES
        .iter()
        .filter_map(|variable| {
            let value = environment.get(OsStr::new(variable.name))?;
            let real = std::fs::canonicalize(value).ok()?;
            real.starts_with(mount)
                .then(|| (variable.name.to_owned(), real.into_os_string()))
        })
        .collect();
    let rustup = "RUSTUP_HOME";
    if mount.file_name() == Some(OsStr::new(".rustup"))
        && !found.iter().any(|(name, _)| name == rustup)
    {
        found.push((rustup.to_owned(), mount.into()));
    }
    found
}

/// `…/node_modules/NAME` or `…/node_modules/@SCOPE/NAME`, the outermost one.
fn node_package(program: &Path) -> Option<PathBuf> {
    let mut package = PathBuf::new();
    let mut components = program.components();
    components
        .by_ref()
        .inspect(|component| package.push(component))
        .find(|component| component.as_os_str() == "node_modules")?;
    let name = components.next()?;
    package.push(name);
    if name.as_os_str().as_encoded_bytes().starts_with(b"@") {
        package.push(components.next()?);
    }
    // A program directly in `node_modules` is not in a package.
    components.next().map(|_| package)
}

fn is_plain_name(target: &Path) -> bool {
    let mut components = target.components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(_)), None)
    )
}

fn is_bin(directory: &Path) -> bool {
    matches!(
        directory.file_name().and_then(OsStr::to_str),
        Some("bin" | "sbin")
    )
}

/// Whether a directory is laid out like `/usr/local`.
fn is_prefix(directory: &Path) -> bool {
    const NAMES: &[&str] = &["lib", "lib64", "libexec", "share", "include", "pyvenv.cfg"];
    contains_any(directory, NAMES)
}

/// Whether a directory has one of the entries. What is no directory has none.
fn contains_any(directory: &Path, names: &[&str]) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // One look-up of the directory for all names: this is on the way of every start.
    let Ok(directory) = rustix::fs::open(directory, flags, Mode::empty()) else {
        return false;
    };
    names
        .iter()
        .any(|name| rustix::fs::statat(&directory, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

fn is_cargo_bin(directory: &Path) -> bool {
    exists(&directory.join("rustup"))
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Removes `.` and `..` from a path by its text, as far as the name of a link is concerned.
fn without_dots(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => out.push(component),
        }
    }
    out
}

#[cfg(test)]
mod tests;
