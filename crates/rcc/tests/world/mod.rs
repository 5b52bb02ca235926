//! A hermetic place to call rcc in: own home, own XDG directories, own project, nothing of the caller's environment.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    reason = "shared by test programs, each of which uses a part"
)]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One world; removed when dropped.
pub struct World {
    base: PathBuf,
}

impl World {
    /// Makes a home and an empty project in it.
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("rcc-world-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("home/project")).unwrap();
        Self {
            base: std::fs::canonicalize(base).unwrap(),
        }
    }

    /// The home.
    pub fn home(&self) -> PathBuf {
        self.base.join("home")
    }

    /// The project.
    pub fn project(&self) -> PathBuf {
        self.base.join("home/project")
    }

    /// Writes a file below the home, with its parents.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes the project's policy.
    pub fn policy(&self, content: impl AsRef<[u8]>) -> PathBuf {
        self.file("project/rcc.toml", content)
    }

    /// Prepares a call in the project, without a terminal.
    pub fn rcc<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rcc"));
        command
            .args(arguments)
            .current_dir(self.project())
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Calls it and renders everything it said, with this world's paths replaced.
    #[must_use]
    pub fn transcript(&self, command: &mut Command) -> String {
        let shown: Vec<String> = command
            .get_args()
            .map(|word| {
                self.filter(&word.to_string_lossy())
                    .escape_debug()
                    .to_string()
            })
            .collect();
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let mut text = String::new();
        writeln!(text, "$ rcc {}", shown.join(" ")).unwrap();
        match status.code() {
            Some(code) => writeln!(text, "exit code: {code}").unwrap(),
            None => writeln!(text, "killed: {status}").unwrap(),
        }
        for (name, bytes) in [("stdout", stdout), ("stderr", stderr)] {
            if !bytes.is_empty() {
                write!(
                    text,
                    "--- {name}\n{}",
                    self.filter(&String::from_utf8_lossy(&bytes))
                )
                .unwrap();
            }
        }
        text
    }

    fn filter(&self, text: &str) -> String {
        let text = text.replace(self.base.to_str().unwrap(), "[WORLD]");
        // The random part of a run's id.
        let mut parts = text.split("/runs/project-");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str("/runs/project-[ID]");
            out.push_str(part.get(4..).unwrap_or_default());
        }
        out
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// Compares a transcript with the recorded one; `RCC_UPDATE_SNAPSHOTS=1` records it.
pub fn assert_snapshot(group: &str, name: &str, transcript: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(group)
        .join(format!("{name}.txt"));
    if std::env::var_os("RCC_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, transcript).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        recorded == transcript,
        "{group}/{name} differs (RCC_UPDATE_SNAPSHOTS=1 records it)\n--- recorded\n{recorded}--- now\n{transcript}"
    );
}
