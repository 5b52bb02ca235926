//! A project, a home and a state directory of their own, for tests that need no network and no other users.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program under test: cargo's, or the copy beside the testkit's programs where the checkout cannot be read.
pub(crate) fn program() -> PathBuf {
    let copy =
        std::env::var_os("RCC_TESTKIT_BIN_DIR").map(|directory| Path::new(&directory).join("rcc"));
    copy.filter(|copy| copy.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_rcc").into())
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One user's small machine, removed at the end.
#[derive(Debug)]
pub(crate) struct Bench(PathBuf);

impl Bench {
    /// Makes it; names must differ within a test program.
    pub(crate) fn new(name: &str) -> Self {
        Self::new_in(&std::env::temp_dir(), name)
    }

    /// Makes it below a directory.
    pub(crate) fn new_in(directory: &Path, name: &str) -> Self {
        let base = directory.join(format!(
            "rcc-cow-{}-{name}-{}",
            rustix::process::geteuid().as_raw(),
            std::process::id()
        ));
        for directory in ["home", "project", "state"] {
            std::fs::create_dir_all(base.join(directory)).unwrap();
        }
        Self(base)
    }

    pub(crate) fn base(&self) -> &Path {
        &self.0
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.0.join("project")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Writes a file of the project; a new one has mode 0644, whatever the umask.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_new = !path.exists();
        std::fs::write(&path, content).unwrap();
        if is_new {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        path
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.project().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A command of the user, in the project.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.project())
            .env("HOME", self.0.join("home"))
            .env("XDG_STATE_HOME", self.state())
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn host(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Said {
        said(self.command(program).args(arguments))
    }

    pub(crate) fn rcc(&self, arguments: &[&str]) -> Said {
        self.host(program(), arguments)
    }

    /// What `rcc ps` tells about the last run.
    pub(crate) fn last_run(&self) -> serde_json::Value {
        let listed = self.rcc(&["ps", "--all", "--json"]);
        let last = listed.stdout.lines().next();
        serde_json::from_str(last.unwrap_or_else(|| panic!("{listed:?}"))).unwrap()
    }

    /// Runs `bash -c SCRIPT` in a copy-on-write sandbox.
    pub(crate) fn cow(&self, script: &str) -> Said {
        self.rcc(&["run", "-n", "--cow", "--", "bash", "-c", script])
    }

    /// The layers in the state directory.
    pub(crate) fn all_layers(&self) -> Vec<PathBuf> {
        let runs = std::fs::read_dir(self.state().join("rcc/runs"));
        runs.into_iter()
            .flatten()
            .map(|run| run.unwrap().path().join("cow"))
            .filter(|layer| layer.exists())
            .collect()
    }

    pub(crate) fn layers(&self) -> usize {
        self.all_layers().len()
    }

    pub(crate) fn only_layer(&self) -> PathBuf {
        let mut layers = self.all_layers();
        assert_eq!(layers.len(), 1);
        layers.pop().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The kernel keeps its part of a layer closed to everybody, and a test's tree may be deep.
        let _ = Command::new("chmod")
            .arg("-R")
            .arg("u+rwx")
            .arg(&self.0)
            .output();
        let _ = Command::new("rm").arg("-rf").arg(&self.0).output();
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Extended attributes, access lists among them, by name.
fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 64 << 10];
    // A file that is closed to its owner does not tell.
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0);
    let mut found = BTreeMap::new();
    for name in names.filter(|name| !name.is_empty()) {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, &name, value.as_mut_slice()).unwrap_or(0);
        found.insert(name, value[..length].to_vec());
    }
    found
}

/// Everything that can be told of a tree: type, mode, size, times, attributes, content, link text, by path.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let data = path.symlink_metadata().unwrap();
        let kind = data.file_type();
        let what = if kind.is_dir() {
            stack.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link {:?}", std::fs::read_link(&path).unwrap())
        } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() {
            "special".to_owned()
        } else if data.len() > 1 << 20 || data.mode() & 0o400 == 0 {
            format!("file of {} bytes", data.len())
        } else {
            format!("file {:?}", std::fs::read(&path).unwrap())
        };
        let times = format!("{}.{:09}", data.mtime(), data.mtime_nsec());
        found.insert(
            Path::new(std::ffi::OsStr::from_bytes(path.as_os_str().as_bytes())).to_owned(),
            format!(
                "{what} mode {:o} at {times} links {} owner {}:{} attributes {:?}",
                data.mode(),
                if kind.is_dir() { 0 } else { data.nlink() },
                data.uid(),
                data.gid(),
                attributes(&path)
            ),
        );
    }
    found
}
