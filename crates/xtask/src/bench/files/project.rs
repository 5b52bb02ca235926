//! The large project: a git repository with text files in directories, a small crate, and an archive of small files.
//!
//! The same in every run of the bench. Must not need anything but git and tar.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::process;

/// Files in the tree.
pub(super) const FILES: usize = 100_000;
/// The archive that is unpacked into `node_modules`, relative to the project.
pub(super) const ARCHIVE: &str = "packages.tar";

/// Files in one directory.
const IN_DIRECTORY: usize = 100;
/// Directories and files in each of the archive.
const PACKAGES: (usize, usize) = (500, 10);
/// Lines of the crate's functions.
const FUNCTIONS: usize = 400;

/// Makes the project.
pub(super) fn make(project: &Path) -> Result<()> {
    for directory in 0..FILES / IN_DIRECTORY {
        let path = project.join(format!("tree/directory-{directory}"));
        fs::create_dir_all(&path)?;
        for file in 0..IN_DIRECTORY {
            let number = directory * IN_DIRECTORY + file;
            let needle = if number.is_multiple_of(97) {
                "needle"
            } else {
                "hay"
            };
            let line = format!("{needle} {number} in a line of text as programs have it\n");
            fs::write(
                path.join(format!("file-{file}.txt")),
                line.repeat(4 + number % 13),
            )?;
        }
    }
    let source = project.join("crate/src");
    fs::create_dir_all(&source)?;
    fs::write(
        project.join("crate/Cargo.toml"),
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n",
    )?;
    let mut text = String::new();
    for number in 0..FUNCTIONS {
        writeln!(
            text,
            "pub fn function_{number}(x: u64) -> String {{ format!(\"{{}} {number}\", x.wrapping_mul({number})) }}"
        )?;
    }
    text.push_str("fn main() { println!(\"{}\", function_7(6)); }\n");
    fs::write(source.join("main.rs"), text)?;
    fs::write(
        project.join(".gitignore"),
        "target/\n.cargo-home/\nnode_modules/\n*.tar\nCargo.lock\n",
    )?;
    archive(project)?;
    for words in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@example.com",
            "-c",
            "gc.auto=0",
            "commit",
            "--quiet",
            "--message",
            "everything",
        ],
    ] {
        passes(Command::new("git").args(words).current_dir(project))?;
    }
    Ok(())
}

/// Copies the project with its times.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    passes(Command::new("cp").arg("-a").arg(from).arg(to))
}

fn archive(project: &Path) -> Result<()> {
    let modules = project.join("node_modules");
    for package in 0..PACKAGES.0 {
        let path = modules.join(format!("package-{package}/lib"));
        fs::create_dir_all(&path)?;
        for file in 0..PACKAGES.1 {
            let text = format!("module.exports = {package} + {file};\n").repeat(20);
            fs::write(path.join(format!("{file}.js")), text)?;
        }
    }
    passes(
        Command::new("tar")
            .args(["-cf", ARCHIVE, "node_modules"])
            .current_dir(project),
    )?;
    fs::remove_dir_all(&modules).with_context(|| format!("cannot remove {}", modules.display()))
}

fn passes(command: &mut Command) -> Result<()> {
    if process::passes(command)? {
        return Ok(());
    }
    bail!("`{}` failed", process::describe(command))
}
