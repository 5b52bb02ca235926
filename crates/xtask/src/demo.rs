//! The demo in README.md is real: its commands are typed into a fresh project, and what they print is what is shown.
//!
//! `cargo xtask demo` writes the block anew, the gate `generated` compares it. It must not contain a command that
//! sends a packet to an outside address, or whose output differs between machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{process, workspace::Workspace};

const PAGE: &str = "README.md";
const BEGIN: &str = "<!-- demo: begin";
const END: &str = "<!-- demo: end -->";
/// How the scratch home is shown.
const SHOWN_HOME: &str = "/home/you";

/// `cargo xtask demo`: writes the block anew.
pub(crate) fn run(workspace: &Workspace, _arguments: &[String]) -> Result<ExitCode> {
    let (old, new) = pages(workspace)?;
    if old == new {
        println!("{PAGE} is up to date");
    } else {
        fs::write(workspace.root.join(PAGE), new)
            .with_context(|| format!("cannot write {PAGE}"))?;
        println!("{PAGE} is written");
    }
    Ok(ExitCode::SUCCESS)
}

/// The page as it is, and as it should be.
pub(crate) fn pages(workspace: &Workspace) -> Result<(String, String)> {
    if !process::passes(&mut workspace.cargo(&[
        "build",
        "--quiet",
        "--locked",
        "--package",
        "rcc",
    ]))? {
        bail!("rcc does not build");
    }
    let page = workspace.read(Path::new(PAGE))?.unwrap_or_default();
    let (head, block, tail) = split(&page)?;
    let commands: Vec<&str> = block
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    let scratch = Scratch::new()?;
    let mut shown = String::new();
    for command in commands {
        shown.push_str(&format!(
            "$ {command}\n{}",
            scratch.type_in(workspace, command)?
        ));
    }
    let new = format!("{head}```console\n{shown}```\n{tail}");
    Ok((page, new))
}

/// What stands before the block, in it, and after it.
fn split(page: &str) -> Result<(&str, &str, &str)> {
    let begin = page
        .find(BEGIN)
        .with_context(|| format!("{PAGE} has no demo"))?;
    let start = begin
        + page[begin..]
            .find('\n')
            .context("the demo's mark is the last line")?
        + 1;
    let end = start
        + page[start..]
            .find(END)
            .with_context(|| format!("the demo of {PAGE} has no end"))?;
    Ok((&page[..start], &page[start..end], &page[end..]))
}

/// A home with a project in it, removed at the end.
struct Scratch {
    home: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let home = std::env::temp_dir().join(format!("rcc-demo-{}", std::process::id()));
        let project = home.join("hello");
        fs::create_dir_all(&project)
            .with_context(|| format!("cannot create {}", project.display()))?;
        let scratch = Self { home };
        // Something worth stealing, and something worth keeping.
        fs::create_dir(scratch.home.join(".ssh")).context("cannot create .ssh")?;
        fs::write(scratch.home.join(".ssh/id_ed25519"), "secret\n")
            .context("cannot write the key")?;
        fs::write(project.join("README"), "hello\n").context("cannot write the project")?;
        for words in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "."],
            &[
                "-c",
                "user.name=You",
                "-c",
                "user.email=you@example.com",
                "commit",
                "--quiet",
                "-m",
                "First commit",
            ],
        ] {
            let mut git = Command::new("git");
            git.args(words)
                .current_dir(&project)
                .env("HOME", &scratch.home)
                .env("GIT_CONFIG_NOSYSTEM", "1");
            if !process::passes(&mut git)? {
                bail!("`{}` failed", process::describe(&git));
            }
        }
        Ok(scratch)
    }

    /// Runs a command line in the project and gives what a terminal would show.
    fn type_in(&self, workspace: &Workspace, line: &str) -> Result<String> {
        let binaries = workspace.programs("debug");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec 2>&1; {line}")])
            .current_dir(self.home.join("hello"))
            .env_clear()
            .env("HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", format!("{}:{path}", binaries.display()));
        let output = process::capture(&mut command)?;
        let text = String::from_utf8(output.stdout)
            .with_context(|| format!("`{line}` printed something odd"))?;
        Ok(text.replace(&self.home.display().to_string(), SHOWN_HOME))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_found() {
        let page = "a\n<!-- demo: begin (x) -->\n$ b\n<!-- demo: end -->\nc\n";
        let (head, block, tail) = split(page).unwrap();
        assert_eq!(
            (head, block, tail),
            (
                "a\n<!-- demo: begin (x) -->\n",
                "$ b\n",
                "<!-- demo: end -->\nc\n"
            )
        );
        assert!(split("nothing").is_err());
    }
}
