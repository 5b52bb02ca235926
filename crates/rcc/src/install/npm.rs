//! The host's own `npm` client, so that the user's registry, mirror and proxy settings hold and none is named here.
//!
//! It runs on the host, therefore: never with lifecycle scripts, never in a directory with somebody else's
//! configuration (a project's `.npmrc` could name another registry), and never a client that lies in the project.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

/// Most bytes of output that are read.
const OUTPUT_LIMIT: u64 = 8 << 20;

/// A call of the client that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NpmError {
    /// It cannot be started or its output not read.
    #[error("cannot run {}", rcc_plan::escape(program))]
    Start {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("npm {action} {package} failed ({status}){}", said(output))]
    Failed {
        action: &'static str,
        package: String,
        status: ExitStatus,
        output: String,
    },
    /// Its answer is not what it is documented to be.
    #[error("cannot understand the answer of npm {action} {package}")]
    Answer {
        action: &'static str,
        package: String,
        #[source]
        source: serde_json::Error,
    },
    /// It did not deliver exactly one archive.
    #[error("npm pack {package} left {count} archives instead of one")]
    Archives { package: String, count: usize },
}

/// The last lines of what a failed client said, for people.
fn said(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(4)..];
    if last.is_empty() {
        String::new()
    } else {
        format!(", it said:\n{}", last.join("\n"))
    }
}

/// What the registry says about one version of a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Announcement {
    /// The exact version.
    pub(crate) version: String,
    /// Subresource Integrity value of its archive.
    #[serde(rename = "dist.integrity")]
    pub(crate) integrity: String,
    /// Size of its files, if the registry says so.
    #[serde(default, rename = "dist.unpackedSize")]
    pub(crate) unpacked_bytes: Option<u64>,
    /// Packages it cannot do without.
    #[serde(default)]
    pub(crate) dependencies: BTreeMap<String, String>,
    /// Packages it uses when they exist for this platform.
    #[serde(default, rename = "optionalDependencies")]
    pub(crate) optional_dependencies: BTreeMap<String, String>,
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Npm {
    program: PathBuf,
    directory: PathBuf,
}

impl Npm {
    /// Uses `program` with `directory`, fresh and private, as the current directory.
    pub(crate) fn new(program: PathBuf, directory: PathBuf) -> Self {
        Self { program, directory }
    }

    /// Asks for the version and integrity of `NAME@VERSION`.
    pub(crate) fn view(&self, package: &str) -> Result<Announcement, NpmError> {
        let fields = [
            "version",
            "dist.integrity",
            "dist.unpackedSize",
            "dependencies",
            "optionalDependencies",
        ]
        .map(OsStr::new);
        let answer = self.call("view", &[], package, &fields)?;
        serde_json::from_slice(&answer).map_err(|source| NpmError::Answer {
            action: "view",
            package: package.to_owned(),
            source,
        })
    }

    /// Downloads the archive of `NAME@VERSION` into a new directory and returns its path.
    pub(crate) fn pack(&self, package: &str, directory: &Path) -> Result<PathBuf, NpmError> {
        let start = |source| NpmError::Start {
            program: self.program.clone(),
            source,
        };
        std::fs::create_dir(directory).map_err(start)?;
        self.call(
            "pack",
            &[OsStr::new("--pack-destination"), directory.as_os_str()],
            package,
            &[],
        )?;
        let mut archives = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(start)? {
            let path = entry.map_err(start)?.path();
            if path.extension().is_some_and(|extension| extension == "tgz") {
                archives.push(path);
            }
        }
        match archives.pop() {
            Some(archive) if archives.is_empty() => Ok(archive),
            last => Err(NpmError::Archives {
                package: package.to_owned(),
                count: archives.len() + usize::from(last.is_some()),
            }),
        }
    }

    fn call(
        &self,
        action: &'static str,
        options: &[&OsStr],
        package: &str,
        fields: &[&OsStr],
    ) -> Result<Vec<u8>, NpmError> {
        let start = |source| NpmError::Start {
            program: self.program.clone(),
            source,
        };
        let mut child = Command::new(&self.program)
            .arg(action)
            .args(options)
            .args([
                "--json",
                "--ignore-scripts",
                "--no-update-notifier",
                "--no-fund",
                "--no-audit",
                "--loglevel=error",
            ])
            // After `--` nothing is an option; the name was checked before as well.
            .args(["--", package])
            .args(fields)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let stderr = child.stderr.take();
        // Both pipes must be drained or a talkative client waits for ever.
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                // A client that dies while it complains has already been noticed by its status.
                let _ = stderr.take(OUTPUT_LIMIT).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(OUTPUT_LIMIT)
                .read_to_end(&mut answer)
                .map_err(start)?;
        }
        let status = child.wait().map_err(start)?;
        let output = complaints.join().unwrap_or_default();
        if status.success() {
            Ok(answer)
        } else {
            Err(NpmError::Failed {
                action,
                package: package.to_owned(),
                status,
                output,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_read_with_and_without_dependencies() {
        let text = r#"{"version":"1.2.3","dist.integrity":"sha512-x","optionalDependencies":{"a-linux-x64":"1.2.3"}}"#;
        let found: Announcement = serde_json::from_str(text).unwrap();
        assert_eq!(found.version, "1.2.3");
        assert_eq!(found.optional_dependencies["a-linux-x64"], "1.2.3");
        assert!(found.dependencies.is_empty());
        assert!(serde_json::from_str::<Announcement>(r#"{"version":"1.2.3"}"#).is_err());
    }

    #[test]
    fn only_the_last_lines_of_a_failure_are_shown() {
        assert_eq!(said(" \n"), "");
        assert_eq!(said("1\n2\n3\n4\n5\n"), ", it said:\n2\n3\n4\n5");
    }
}
