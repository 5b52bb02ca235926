//! Where the programs are that tests start: our own (built when needed) and the system's.
//!
//! Must not fall back to an old build of our own programs: a test against a stale probe proves nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One of this package's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `rcc-world`: the inside of a [`crate::world::World`].
    World,
    /// `rcc-probe`: tries one thing and says how it ended.
    Probe,
}

impl Binary {
    fn name(self) -> &'static str {
        match self {
            Self::World => "rcc-world",
            Self::Probe => "rcc-probe",
        }
    }
}

/// Names the directory that holds ready-made `rcc-world` and `rcc-probe`; then nothing is built.
const DIRECTORY_VARIABLE: &str = "RCC_TESTKIT_BIN_DIR";

/// Gives the path of one of our own programs, after building it once per test process.
///
/// Cargo builds no binaries of a development dependency, so below `cargo test` this runs cargo itself (its lock is
/// free while tests run). A test binary that is started without cargo, as another user for example, uses what lies in
/// its own target directory; `RCC_TESTKIT_BIN_DIR` overrides both.
///
/// # Panics
/// When the build fails or the program is not there.
#[must_use]
pub fn binary(which: Binary) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(build).join(which.name());
    assert!(
        path.is_file(),
        "{} is not there: run the test through cargo, or set {DIRECTORY_VARIABLE}",
        path.display()
    );
    path
}

fn build() -> PathBuf {
    if let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) {
        return PathBuf::from(directory);
    }
    let own = std::env::current_exe().expect("/proc/self/exe is readable");
    // Tests lie in <target>/<profile>/deps, examples and programs in <target>/<profile>.
    let parent = own.parent().expect("a program lies in a directory");
    let profile_directory = match parent.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => parent
            .parent()
            .expect("deps lies in the profile's directory"),
        _ => parent,
    };
    if let Some(cargo) = std::env::var_os("CARGO") {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let mut command = Command::new(cargo);
        // The test's own package is no business of this build. Build scripts (ring's) watch these variables, and would make cargo
        // compile everything behind them anew, twice for each run of a test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_")
                || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
            {
                command.env_remove(name);
            }
        }
        let output = command
            .args([
                "build",
                "--quiet",
                "--bins",
                "--features",
                "servers,probe",
                "--profile",
                profile,
                "--manifest-path",
            ])
            .arg(manifest)
            .arg("--target-dir")
            .arg(
                profile_directory
                    .parent()
                    .expect("a profile's directory lies in the target directory"),
            )
            .output()
            .expect("cargo can be started");
        assert!(
            output.status.success(),
            "cannot build the testkit's programs:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    profile_directory.to_owned()
}

/// Copies a program, so that it can be executed at once (mode 755).
///
/// Another process does the writing: a thread of this one that forks meanwhile would take the open file along, and executing
/// what somebody holds open for writing fails with `ETXTBSY` (`execve(2)`).
///
/// # Panics
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("install")
        .args(["-m", "755", "--"])
        .args([from, to])
        .status()
        .expect("install(1) can be started");
    assert!(status.success(), "cannot copy {}", from.display());
}

/// Finds a program of the system on `PATH`, and in the `sbin` directories that an ordinary user's `PATH` lacks.
#[must_use]
pub fn system_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(extra)
        .map(|directory| directory.join(name))
        .find(|candidate| {
            candidate
                .metadata()
                .is_ok_and(|data| data.is_file() && is_executable(&data))
        })
}

fn is_executable(data: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    data.permissions().mode() & 0o111 != 0
}
