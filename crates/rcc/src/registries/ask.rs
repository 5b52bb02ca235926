//! Asks a tool for its own default registry, away from any project: in `/`, with an empty environment and a home of
//! rcc's own. The answer is kept with the tool's path, size and time, because asking takes half a second.
//!
//! Must not run a program that lies where an agent can write, and must not trust the answer: it is parsed like a file.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcc_host::{Links, open_private, read_below, read_text, replace, resolve_without};
use rcc_spec::PackageManager;
use serde::{Deserialize, Serialize};

use crate::context::Context;

/// Longest time that a tool may take.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Most of an answer that is read, in bytes.
const ANSWER_LIMIT_BYTES: u64 = 64 << 10;
/// Largest program that is searched, in bytes.
const PROGRAM_LIMIT_BYTES: u64 = 256 << 20;
/// Name of the directory below the state directory.
const DIRECTORY: &str = "registries";

/// A kept answer and the program that gave it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    program: PathBuf,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
    /// URLs, or for go its settings.
    urls: Vec<String>,
}

/// The registries that a tool uses when nothing is configured, and what to call them in an origin.
pub(super) fn default_of(
    context: &Context,
    writable: &[&Path],
    manager: PackageManager,
) -> Option<(String, Vec<String>)> {
    let name = match manager {
        PackageManager::Npm => "npm",
        PackageManager::Cargo => "cargo",
        PackageManager::Pip => "pip",
        PackageManager::Go => "go",
        PackageManager::Maven => "mvn",
        // What they use is in files that are read anyway.
        PackageManager::Apt | PackageManager::Git => return None,
    };
    let program = match manager {
        PackageManager::Cargo => cargo_program(context, writable),
        _ => find(context, writable, name),
    };
    let program = match (program, manager) {
        (None, PackageManager::Pip) => find(context, writable, "pip3")?,
        (program, _) => program?,
    };
    let status = std::fs::metadata(&program).ok()?;
    let mut kept = Kept {
        program: program.clone(),
        size: status.size(),
        modified_s: status.mtime(),
        modified_ns: status.mtime_nsec(),
        urls: Vec::new(),
    };
    let place = format!("default of {}", rcc_plan::escape(&program));
    let directory = context.directories.state.join(DIRECTORY);
    let parent = open_private(&directory).ok()?;
    let file = format!("{name}.json");
    let before = read_below(
        parent.as_fd(),
        &directory,
        Path::new(&file),
        64 << 10,
        Links::Refuse,
    )
    .ok()
    .flatten()
    .and_then(|content| serde_json::from_str::<Kept>(&content.text).ok());
    if let Some(before) = before {
        kept.urls.clone_from(&before.urls);
        if before == kept {
            return Some((place, before.urls));
        }
    }
    let home = directory.join("home");
    open_private(&home).ok()?;
    let ask = |arguments: &[&str], more: &[(&str, &str)]| {
        answer(context, writable, &program, &home, arguments, more)
    };
    kept.urls = match manager {
        PackageManager::Npm => npm(&ask),
        PackageManager::Pip => pip(&ask, writable),
        PackageManager::Go => go(&ask),
        PackageManager::Maven => super::maven::model_repositories(&program, writable),
        _ => cargo(&program),
    };
    if kept.urls.is_empty() {
        return None;
    }
    if let Ok(json) = serde_json::to_vec(&kept) {
        // Asked again the next time when it cannot be kept.
        let _ = replace(parent.as_fd(), &directory, &file, &json);
    }
    Some((place, kept.urls))
}

type Ask<'a> = &'a dyn Fn(&[&str], &[(&str, &str)]) -> Option<String>;

fn npm(ask: Ask<'_>) -> Vec<String> {
    let options = [
        "config",
        "get",
        "registry",
        "--no-update-notifier",
        "--offline",
        "--loglevel=silent",
    ];
    let answer = ask(&options, &[]).unwrap_or_default();
    let url = answer
        .lines()
        .map(str::trim)
        .find(|line| line.contains("://"));
    url.map(str::to_owned).into_iter().collect()
}

/// pip tells where it lies, and its own module there names its index and the host of its files.
fn pip(ask: Ask<'_>, writable: &[&Path]) -> Vec<String> {
    let quiet = [
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PYTHONNOUSERSITE", "1"),
    ];
    let said = ask(&["--version"], &quiet).unwrap_or_default();
    let place = said
        .split_once(" from ")
        .and_then(|(_, rest)| rest.rsplit_once(" (python "))
        .map(|(place, _)| Path::new(place).join("_internal/models/index.py"));
    let module = place
        .and_then(|place| resolve_without(&place, writable))
        .and_then(|place| read_text(&place, 64 << 10).ok().flatten());
    module.map_or_else(Vec::new, |module| pip_module(&module.text))
}

/// `PyPI = PackageIndex("URL", file_storage_domain="HOST")`: the first such line.
fn pip_module(text: &str) -> Vec<String> {
    let quoted = |text: &str, before: &str| {
        let (_, rest) = text.split_once(before)?;
        let (_, rest) = rest.split_once('"')?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let Some((_, rest)) = text.split_once("PyPI = PackageIndex(") else {
        return Vec::new();
    };
    let call = rest.split(')').next().unwrap_or_default();
    let index = quoted(call, "");
    let files = quoted(call, "file_storage_domain=").map(|host| format!("https://{host}/"));
    index.into_iter().chain(files).collect()
}

/// The lines `NAME=VALUE` of both settings.
fn go(ask: Ask<'_>) -> Vec<String> {
    const NAMES: [&str; 2] = ["GOPROXY", "GOSUMDB"];
    let quiet = [("GOENV", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "")];
    let answer = ask(&["env", NAMES[0], NAMES[1]], &quiet).unwrap_or_default();
    let lines = NAMES.iter().zip(answer.lines());
    lines
        .map(|(name, value)| format!("{name}={}", value.trim()))
        .collect()
}

/// cargo cannot be asked for its default, but its program holds it as a text: `sparse+https://HOST/`.
fn cargo(program: &Path) -> Vec<String> {
    const MARK: &[u8] = b"sparse+https://";
    let mut bytes = Vec::new();
    let read = std::fs::File::open(program)
        .and_then(|file| file.take(PROGRAM_LIMIT_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.iter().position(|&byte| byte == b'+') {
        let start = at.saturating_sub(MARK.len() - "+https://".len());
        let here = rest.get(start..).unwrap_or_default();
        if let Some(behind) = here.strip_prefix(MARK) {
            let host: Vec<u8> = behind
                .iter()
                .copied()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte))
                .take(254)
                .collect();
            let ends = behind.get(host.len()) == Some(&b'/');
            if ends && host.contains(&b'.') {
                let host = String::from_utf8_lossy(&host).into_owned();
                return vec![format!("sparse+https://{host}/")];
            }
        }
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    Vec::new()
}

/// The program behind `cargo`: rustup's stand-in is not it, its default toolchain's is.
fn cargo_program(context: &Context, writable: &[&Path]) -> Option<PathBuf> {
    let home = context
        .environment
        .get(&OsString::from("RUSTUP_HOME"))
        .map_or_else(|| context.account.home.join(".rustup"), PathBuf::from);
    let settings = resolve_without(&home.join("settings.toml"), writable)
        .and_then(|path| read_text(&path, 64 << 10).ok().flatten());
    let default = settings.and_then(|settings| {
        let line = settings
            .text
            .lines()
            .find_map(|line| line.trim().strip_prefix("default_toolchain"))?;
        Some(line.trim_matches([' ', '=', '"', '\'']).to_owned())
    });
    if let Some(default) = default.filter(|name| !name.contains('/')) {
        let mut names: Vec<PathBuf> = std::fs::read_dir(home.join("toolchains"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .and_then(|name| name.strip_prefix(&default))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
            .collect();
        names.sort();
        let program = names.first().map(|path| path.join("bin/cargo"));
        if let Some(program) = program.and_then(|path| outside(&path, writable)) {
            return Some(program);
        }
    }
    find(context, writable, "cargo")
}

/// The first executable of that name on `PATH` that no agent could have put there.
fn find(context: &Context, writable: &[&Path], name: &str) -> Option<PathBuf> {
    directories(context, writable)
        .into_iter()
        .map(|directory| directory.join(name))
        .filter(|path| {
            std::fs::metadata(path)
                .is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
        })
        .find(|path| outside(path, writable).is_some())
}

/// The directories of `PATH` in which no agent can write.
fn directories(context: &Context, writable: &[&Path]) -> Vec<PathBuf> {
    let path = context.environment.get(&OsString::from("PATH"));
    path.map(|path| std::env::split_paths(path).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .filter(|directory| directory.is_absolute() && outside(directory, writable).is_some())
        .collect()
}

/// The real path, if neither it nor a link on the way to it lies where an agent can write.
fn outside(path: &Path, writable: &[&Path]) -> Option<PathBuf> {
    let is_within = |path: &Path| writable.iter().any(|root| path.starts_with(root));
    resolve_without(path, writable).filter(|real| !is_within(real) && !is_within(path))
}

/// Runs the tool and returns what it says; nothing when it fails or takes too long.
fn answer(
    context: &Context,
    writable: &[&Path],
    program: &Path,
    home: &Path,
    arguments: &[&str],
    more: &[(&str, &str)],
) -> Option<String> {
    let path = std::env::join_paths(directories(context, writable)).ok()?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < TIME_LIMIT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => {
                // It has not answered; whether it could be killed changes nothing about that.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut text = Vec::new();
    // Its answer fits the pipe, so it is all there. What a child of it still holds open is not waited for.
    let mut stdout = child.stdout.take()?;
    rustix::io::ioctl_fionbio(&stdout, true).ok()?;
    let _ = stdout
        .by_ref()
        .take(ANSWER_LIMIT_BYTES)
        .read_to_end(&mut text);
    status
        .success()
        .then(|| String::from_utf8(text).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pips_own_module_names_index_and_files() {
        let text = "class PackageIndex:\n    pass\nPyPI = PackageIndex(\"https://pypi.example.com/\", file_storage_domain=\"files.example.com\")\nTest = PackageIndex(\"https://no.example.com/\")\n";
        assert_eq!(
            pip_module(text),
            ["https://pypi.example.com/", "https://files.example.com/"]
        );
        assert!(pip_module("nothing").is_empty());
        assert!(pip_module("PyPI = PackageIndex(").is_empty());
    }

    #[test]
    fn the_default_is_found_in_a_program_among_other_texts() {
        let path = std::env::temp_dir().join(format!("rcc-cargo-{}", std::process::id()));
        std::fs::write(
            &path,
            b"++\0sparse+https://nodots:\0sparse+https://index.example.com/sparse+x\xff",
        )
        .unwrap();
        assert_eq!(cargo(&path), ["sparse+https://index.example.com/"]);
        std::fs::write(&path, b"sparse+https://index.example.com").unwrap();
        assert!(cargo(&path).is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(cargo(&path).is_empty());
    }

    #[test]
    fn answers_of_go_are_split() {
        let said = "https://proxy.example.com,direct\nsum.example.com\n";
        assert_eq!(
            go(&|_, _| Some(said.to_owned())),
            [
                "GOPROXY=https://proxy.example.com,direct",
                "GOSUMDB=sum.example.com"
            ]
        );
        assert!(go(&|_, _| None).is_empty());
    }
}
