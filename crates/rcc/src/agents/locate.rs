//! From a command name to the program on this host and the directories it needs inside.
//!
//! A program below `/usr`, `/opt`, `/nix` … is visible already. Of one below the real home `rcc_host` knows what it needs;
//! of one elsewhere (a package manager with its own root, another disk) the smallest directory that holds all of it is
//! mounted read-only. Must not grant the home, a directory above it, or rcc's own directories.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rcc_host::{Surroundings, Toolchains, resolve_without, toolchain_of};
use rcc_plan::PathToolchain;

use super::is_below;
use crate::context::Context;
use crate::install::Installed;

/// Where every sandbox sees the host's programs.
pub(crate) const VISIBLE: [&str; 9] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/nix", "/gnu", "/lib32",
];

/// A program and what has to be mounted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// Absolute path that is executed inside.
    pub(crate) program: PathBuf,
    /// What has to be mounted read-only.
    pub(crate) toolchains: Vec<PathToolchain>,
    /// Directories that have to be on `PATH` inside.
    pub(crate) path: Vec<PathBuf>,
}

/// Finds the first executable of that name on the caller's `PATH`, never one in the project.
pub(crate) fn find_on_path(context: &Context, project: &Path, name: &str) -> Option<PathBuf> {
    let path = context.environment.get(OsStr::new("PATH"))?;
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .filter(|candidate| is_executable(candidate))
        .find(|candidate| {
            // Nor one that a link in the project leads to.
            !candidate.starts_with(project)
                && resolve_without(candidate, &[project])
                    .is_some_and(|real| !real.starts_with(project))
        })
}

/// Finds a program on `PATH` with what it needs.
pub(crate) fn located(context: &Context, project: &Path, name: &str) -> Option<Located> {
    let found = find_on_path(context, project, name)?;
    let real = std::fs::canonicalize(&found).ok()?;
    let mut out = Located {
        program: found.clone(),
        toolchains: Vec::new(),
        path: Vec::new(),
    };
    if is_below(&found, &VISIBLE.map(Path::new)) && is_below(&real, &VISIBLE.map(Path::new)) {
        return Some(out);
    }
    // Links above the mounted directory do not exist inside, so the program is called by its real name.
    out.program = real.clone();
    mount_with_needs(context, project, &real, &mut out);
    out.toolchains = Toolchains::default().joined_with(out.toolchains);
    Some(out)
}

/// The program of an agent that rcc installed.
pub(super) fn in_data(
    context: &Context,
    project: &Path,
    found: &Installed,
    command: &str,
) -> Located {
    let mut out = Located {
        program: found.bin.join(command),
        toolchains: vec![toolchain(&found.root)],
        path: vec![found.bin.clone()],
    };
    if let Ok(real) = std::fs::canonicalize(&out.program) {
        interpreter(context, project, &real, &mut out);
    }
    out
}

/// Mounts what a program consists of, and its interpreter's directory.
fn mount_with_needs(context: &Context, project: &Path, real: &Path, out: &mut Located) {
    if is_below(real, &VISIBLE.map(Path::new)) {
        return;
    }
    let home = &context.account.home;
    // Packages that a package needs may lie beside it.
    if let Some(modules) = node_modules(real) {
        out.toolchains.push(toolchain(modules));
    }
    if real.starts_with(home) {
        out.toolchains.extend(toolchain_of(
            real,
            Surroundings {
                home,
                writable: &[project],
                guarded: &context.directories.guarded(),
                environment: &context.environment,
            },
        ));
    } else {
        let unit = unit(real);
        let too_much = home.starts_with(&unit) || project.starts_with(&unit);
        out.toolchains
            .push(toolchain(if too_much { real } else { &unit }));
    }
    interpreter(context, project, real, out);
}

/// The directory that holds everything a program outside of the home consists of, or the program itself.
fn unit(real: &Path) -> PathBuf {
    if let Some(modules) = node_modules(real) {
        return modules.to_owned();
    }
    let directory = real.parent().unwrap_or(real);
    let prefix = directory
        .parent()
        .filter(|_| directory.file_name() == Some(OsStr::new("bin")));
    match prefix {
        // A Python environment (PEP 405), or a tool with its libraries beside it.
        Some(prefix) if prefix.join("pyvenv.cfg").exists() => prefix.to_owned(),
        Some(prefix)
            if prefix.join("lib").is_dir() && prefix.file_name() != Some(OsStr::new(".local")) =>
        {
            prefix.to_owned()
        }
        _ => real.to_owned(),
    }
}

/// The outermost `node_modules` that a file lies in.
fn node_modules(file: &Path) -> Option<&Path> {
    file.ancestors()
        .filter(|path| path.file_name() == Some(OsStr::new("node_modules")))
        .last()
}

/// Mounts the interpreter that the first line of a script names.
fn interpreter(context: &Context, project: &Path, script: &Path, out: &mut Located) {
    let mut head = Vec::new();
    if File::open(script)
        .and_then(|file| file.take(256).read_to_end(&mut head))
        .is_err()
    {
        return;
    }
    let Some(line) = head
        .strip_prefix(b"#!")
        .and_then(|rest| rest.split(|byte| *byte == b'\n').next())
    else {
        return;
    };
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_ascii_whitespace();
    let Some(program) = words.next() else { return };
    let found = if Path::new(program).file_name() == Some(OsStr::new("env")) {
        words
            .find(|word| !word.starts_with('-') && !word.contains('='))
            .and_then(|name| find_on_path(context, project, name))
    } else {
        Some(PathBuf::from(program)).filter(|path| path.is_absolute())
    };
    let Some(found) = found else { return };
    if let Ok(real) = std::fs::canonicalize(&found)
        && !is_below(&real, &VISIBLE.map(Path::new))
        && real != script
    {
        let before = out.toolchains.len();
        mount_with_needs(context, project, &real, out);
        // `env` searches PATH for the name, which the real file may not have.
        let directory = real
            .parent()
            .filter(|_| real.file_name() == found.file_name());
        if let Some(directory) = directory
            && (out.toolchains.len() > before
                || out
                    .toolchains
                    .iter()
                    .any(|have| directory.starts_with(&have.path)))
        {
            out.path.push(directory.to_owned());
        }
    }
}

fn toolchain(path: &Path) -> PathToolchain {
    PathToolchain {
        path: path.to_owned(),
        directory: path.is_dir(),
        env: Vec::new(),
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file())
        && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests;
