//! Puts the program of an unpacked package in its place, without running the package's own install script.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{InstallError, at};

/// The parts of `package.json` that matter.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    bin: Bin,
    #[serde(default)]
    scripts: BTreeMap<String, String>,
}

/// `bin` is a path, or a table of commands and paths.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bin {
    One(String),
    Many(BTreeMap<String, String>),
}

impl Default for Bin {
    fn default() -> Self {
        Self::Many(BTreeMap::new())
    }
}

/// Making the program reachable as `bin/<command>`.
pub(super) struct Place<'a> {
    pub(super) tree: &'a Path,
    pub(super) modules: &'a Path,
    pub(super) package: &'a str,
    pub(super) command: &'a str,
}

impl Place<'_> {
    /// Finds the program, native or script, and makes it executable.
    pub(super) fn program(&self, native: &[String], platform: &str) -> Result<(), InstallError> {
        let root = self.modules.join(self.package);
        let path = root.join("package.json");
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(1 << 20).read_to_end(&mut text))
            .map_err(at(&path))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| InstallError::Manifest {
                package: self.package.to_owned(),
                source,
            })?;
        let missing = || InstallError::Program {
            package: self.package.to_owned(),
            command: self.command.to_owned(),
        };
        let entry = match &manifest.bin {
            Bin::One(path) => Some(path),
            Bin::Many(table) => table.get(self.command),
        };
        let entry = entry
            .and_then(|entry| inside(Path::new(entry)))
            .ok_or_else(missing)?;
        let program = root.join(&entry);
        // A package with an install script ships a placeholder and lets the script link the native program over it.
        if manifest.scripts.contains_key("postinstall") {
            let found = native
                .iter()
                .flat_map(|package| {
                    ["", "bin"]
                        .map(|below| self.modules.join(package).join(below).join(self.command))
                })
                .find(|candidate| is_elf(candidate))
                .ok_or_else(|| InstallError::Platform {
                    package: self.package.to_owned(),
                    platform: platform.trim_start_matches('-').to_owned(),
                })?;
            if program.symlink_metadata().is_ok() {
                std::fs::remove_file(&program).map_err(at(&program))?;
            }
            std::fs::hard_link(&found, &program).map_err(at(&program))?;
        }
        if !program.is_file() {
            return Err(missing());
        }
        make_executable(&program)?;
        let bin = self.tree.join("bin");
        std::fs::create_dir(&bin).map_err(at(&bin))?;
        let link = bin.join(self.command);
        let text = Path::new("..")
            .join("node_modules")
            .join(self.package)
            .join(&entry);
        std::os::unix::fs::symlink(text, &link).map_err(at(&link))
    }
}

fn make_executable(path: &Path) -> Result<(), InstallError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)
        .map_err(at(path))?
        .permissions()
        .mode();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o555)).map_err(at(path))
}

/// The relative path of a manifest if it stays inside the package.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => clean.push(part),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0_u8; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == *b"\x7fELF"
}
