//! Agents in rcc's own data directory: `<data>/agents/<name>/<version>/`, mounted read-only into the sandbox.
//!
//! Order of an install: 1. ask the registry for the newest version and its hash, 2. download main package and the
//! package for this platform, 3. verify both, 4. unpack both, 5. put the native program in its place, 6. rename the
//! finished directory. Until 6 everything is in a temporary directory, which the next install removes.
//! No code of a package runs on the host.

mod archive;
mod integrity;
mod names;
mod npm;
mod place;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rcc_host::{DirectoryError, open_private};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use archive::ArchiveError;
use integrity::IntegrityError;
use names::{alias_target, is_exact, is_package, is_version, order, platform};
use npm::{Announcement, Npm, NpmError};
use place::Place;

use crate::output;

/// Prefix of temporary directories.
const TEMPORARY: &str = ".install-";

/// What is to be installed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Name of the agent's preset.
    pub(crate) name: &'a str,
    /// Its npm package.
    pub(crate) package: &'a str,
    /// The program in it.
    pub(crate) command: &'a str,
}

/// An agent in the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    /// Its version.
    pub(crate) version: String,
    /// Directory with everything that belongs to it.
    pub(crate) root: PathBuf,
    /// Directory for `PATH`.
    pub(crate) bin: PathBuf,
}

/// An install that did not happen. Nothing is left of it but a temporary directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The preset names something that is no package.
    #[error("{text:?} is not the name of an npm package")]
    Name { text: String },
    /// The registry's answer names something that cannot be a version.
    #[error("the registry announced {text:?} as the version of {package}")]
    Version { package: String, text: String },
    /// The package needs others, which this installer does not resolve.
    #[error("the package {package} needs other packages ({}), which rcc does not install", names.join(", "))]
    Dependencies { package: String, names: Vec<String> },
    /// The package has no program of that name.
    #[error("the package {package} holds no program {command}")]
    Program { package: String, command: String },
    /// The native program for this platform is missing.
    #[error("the package {package} has no native program for this platform ({platform})")]
    Platform { package: String, platform: String },
    /// The client failed.
    #[error("cannot download {package}")]
    Download {
        package: String,
        #[source]
        source: NpmError,
    },
    /// The archive is not the announced one.
    #[error("refused to install {package}")]
    Integrity {
        package: String,
        #[source]
        source: IntegrityError,
    },
    /// The archive cannot be unpacked.
    #[error("cannot unpack {package}")]
    Archive {
        package: String,
        #[source]
        source: ArchiveError,
    },
    /// The data directory is unusable.
    #[error("cannot use the directory of installed agents")]
    Directory(#[source] DirectoryError),
    /// A file cannot be changed.
    #[error("cannot put {} in its place", rcc_plan::escape(path))]
    Place {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A package description is damaged.
    #[error("cannot read the description of the package {package}")]
    Manifest {
        package: String,
        #[source]
        source: serde_json::Error,
    },
}

/// Finds the newest installed version of an agent.
pub(crate) fn installed(data: &Path, name: &str, command: &str) -> Option<Installed> {
    let directory = data.join("agents").join(name);
    let mut versions: Vec<String> = std::fs::read_dir(&directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|version| is_version(version))
        .filter(|version| directory.join(version).join("bin").join(command).exists())
        .collect();
    versions.sort_by_key(|version| order(version));
    let version = versions.pop()?;
    let root = std::fs::canonicalize(directory.join(&version)).ok()?;
    Some(Installed {
        bin: root.join("bin"),
        root,
        version,
    })
}

/// Downloads, verifies and unpacks an agent with the npm client `program`.
pub(crate) fn install(
    data: &Path,
    wanted: Wanted<'_>,
    program: PathBuf,
) -> Result<Installed, InstallError> {
    let Wanted {
        name,
        package,
        command,
    } = wanted;
    if !is_package(package) {
        return Err(InstallError::Name {
            text: package.to_owned(),
        });
    }
    let agents = data.join("agents");
    open_private(&agents).map_err(InstallError::Directory)?;
    // Declared before the temporary directory, so that it is given up after that is gone.
    let _lock = lock(&agents)?;
    remove_leftovers(&agents)?;
    let work = Work::make(agents.join(format!("{TEMPORARY}{}", std::process::id())))?;
    let work = work.path.as_path();
    // The nearest package.json upwards decides which .npmrc counts: make it this one.
    write(&work.join("package.json"), b"{}")?;

    // 1.
    let npm = Npm::new(program, work.to_owned());
    let download = |source| InstallError::Download {
        package: package.to_owned(),
        source,
    };
    output::note(&format!("asking for the newest version of {package}"));
    let main = npm.view(&format!("{package}@latest")).map_err(download)?;
    if !is_version(&main.version) {
        return Err(InstallError::Version {
            package: package.to_owned(),
            text: main.version,
        });
    }
    if !main.dependencies.is_empty() {
        let names = main.dependencies.into_keys().take(5).collect();
        return Err(InstallError::Dependencies {
            package: package.to_owned(),
            names,
        });
    }
    let target = agents.join(name).join(&main.version);
    if let Some(found) =
        installed(data, name, command).filter(|found| found.version == main.version)
    {
        output::note(&format!("{package} {} is installed already", main.version));
        return Ok(found);
    }

    // 2., 3., 4.
    let tree = work.join("tree");
    let modules = tree.join("node_modules");
    let fetch = Fetch {
        npm: &npm,
        work,
        modules: &modules,
    };
    fetch.one(1, package, &format!("{package}@{}", main.version), &main)?;
    let platform = platform();
    let mut native = Vec::new();
    for (dependency, requirement) in &main.optional_dependencies {
        // A wrapper without a platform in its name is of use only with the package for this one.
        let with_platform = format!("{dependency}{platform}");
        let is_wrapper = main.optional_dependencies.contains_key(&with_platform);
        if !dependency.ends_with(&platform) && !is_wrapper {
            continue;
        }
        let exact = alias_target(dependency, requirement);
        if !is_package(dependency) || !is_exact(&exact) {
            return Err(InstallError::Name { text: exact });
        }
        let announced = npm.view(&exact).map_err(download)?;
        fetch.one(native.len() + 2, dependency, &exact, &announced)?;
        native.push(dependency.clone());
    }

    // 5.
    let place = Place {
        tree: &tree,
        modules: &modules,
        package,
        command,
    };
    place.program(&native, &platform)?;

    // 6.
    let parent = agents.join(name);
    open_private(&parent).map_err(InstallError::Directory)?;
    if target.exists() {
        // A damaged version of the same number: `installed` did not accept it.
        std::fs::remove_dir_all(&target).map_err(at(&target))?;
    }
    std::fs::rename(&tree, &target).map_err(at(&target))?;
    output::note(&format!(
        "installed {package} {} (sha512 verified)",
        main.version
    ));
    installed(data, name, command).ok_or_else(|| InstallError::Program {
        package: package.to_owned(),
        command: command.to_owned(),
    })
}

/// The temporary directory of one install.
struct Work {
    path: PathBuf,
}

impl Work {
    fn make(path: PathBuf) -> Result<Self, InstallError> {
        open_private(&path).map_err(InstallError::Directory)?;
        Ok(Self { path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays behind is removed by the next install.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Downloading, verifying and unpacking one package.
struct Fetch<'a> {
    npm: &'a Npm,
    work: &'a Path,
    modules: &'a Path,
}

impl Fetch<'_> {
    fn one(
        &self,
        number: usize,
        name: &str,
        exact: &str,
        announced: &Announcement,
    ) -> Result<(), InstallError> {
        let package = || name.to_owned();
        let size = announced.unpacked_bytes.map_or_else(String::new, |bytes| {
            format!(" ({} MiB unpacked)", bytes.div_ceil(1 << 20))
        });
        let progress = output::Progress::start(format!("downloading {exact}{size}"));
        let archive = self
            .npm
            .pack(exact, &self.work.join(format!("archive-{number}")))
            .map_err(|source| InstallError::Download {
                package: package(),
                source,
            })?;
        drop(progress);
        let mut file = File::open(&archive).map_err(at(&archive))?;
        output::note(&format!("verifying {exact}"));
        integrity::verify(exact, &announced.integrity, &mut file).map_err(|source| {
            InstallError::Integrity {
                package: package(),
                source,
            }
        })?;
        // The very descriptor that was verified is unpacked.
        std::io::Seek::rewind(&mut file).map_err(at(&archive))?;
        output::note(&format!("unpacking {exact}"));
        archive::unpack(file, &self.modules.join(name)).map_err(|source| {
            InstallError::Archive {
                package: package(),
                source,
            }
        })?;
        std::fs::remove_file(&archive).map_err(at(&archive))
    }
}

/// Holds off a second install until this one is done.
fn lock(agents: &Path) -> Result<OwnedFd, InstallError> {
    let path = agents.join(".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = |errno: rustix::io::Errno| InstallError::Place {
        path: path.clone(),
        source: errno.into(),
    };
    let lock = rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR).map_err(place)?;
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        output::note("waiting for another install to end");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(place)?;
    }
    Ok(lock)
}

/// Removes what interrupted installs left; the lock is held, so none of it is in use.
fn remove_leftovers(agents: &Path) -> Result<(), InstallError> {
    for entry in std::fs::read_dir(agents).map_err(at(agents))? {
        let entry = entry.map_err(at(agents))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            std::fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<(), InstallError> {
    std::fs::write(path, content).map_err(at(path))
}

/// Adds the path to an error of the operating system.
fn at(path: &Path) -> impl FnOnce(std::io::Error) -> InstallError + use<> {
    let path = path.to_owned();
    move |source| InstallError::Place { path, source }
}

#[cfg(test)]
mod tests;
