//! `cargo xtask bench`: rcc and its peers, side by side, in one run on one machine.
//!
//! Contestants take turns, so that whatever else the machine does hits all of them; medians are compared, and ratios
//! are what counts. A missing peer is a printed line, never a silent gap. It must not judge by absolute numbers.

mod connections;
mod datagrams;
mod files;
mod measure;
mod memory;
mod startup;
mod stream;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{process, workspace::Workspace};

pub(crate) use connections::{CLIENT, client};
pub(crate) use world::{INSIDE, inside};

/// One bench by name.
struct Bench {
    name: &'static str,
    run: fn(&Setting) -> Result<()>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "startup",
        run: startup::run,
    },
    Bench {
        name: "memory",
        run: memory::run,
    },
    Bench {
        name: "files",
        run: files::run,
    },
    Bench {
        name: "tcp",
        run: stream::run,
    },
    Bench {
        name: "udp",
        run: datagrams::run,
    },
    Bench {
        name: "connections",
        run: connections::run,
    },
];

/// What all benches are given.
struct Setting {
    /// The release build of rcc.
    rcc: PathBuf,
    /// An empty directory, removed afterwards: `home` and `project` are in it.
    scratch: PathBuf,
    /// How often each contestant runs.
    rounds: usize,
}

impl Setting {
    /// `rcc` with the flags, in an empty project and home of its own.
    fn rcc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.rcc);
        command
            .args(arguments)
            .current_dir(self.scratch.join("project"))
            .env("HOME", self.scratch.join("home"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_STATE_HOME");
        command
    }
}

/// Runs the named benches, or all.
///
/// Arguments: names of benches, `--rounds N`, `--rcc PATH` (default: a fresh release build).
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let (mut chosen, mut rounds, mut binary) = (Vec::new(), 21, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => {
                rounds = words
                    .next()
                    .context("--rounds needs a number")?
                    .parse()
                    .context("--rounds")?
            }
            "--rcc" => binary = Some(PathBuf::from(words.next().context("--rcc needs a path")?)),
            name if BENCHES.iter().any(|bench| bench.name == name) => chosen.push(name),
            other => {
                let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
                bail!("no such bench: {other} (there are: {})", names.join(", "));
            }
        }
    }
    let rcc = match binary {
        Some(path) => path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?,
        None => build(workspace)?,
    };
    let scratch = std::env::temp_dir().join(format!("rcc-bench-{}", std::process::id()));
    for name in ["home", "project"] {
        fs::create_dir_all(scratch.join(name))
            .with_context(|| format!("cannot create {}", scratch.display()))?;
    }
    versions();
    let setting = Setting {
        rcc,
        scratch,
        rounds,
    };
    let outcome = BENCHES
        .iter()
        .filter(|bench| chosen.is_empty() || chosen.contains(&bench.name))
        .try_for_each(|bench| {
            (bench.run)(&setting).with_context(|| format!("bench {}", bench.name))
        });
    let removed = remove(&setting.scratch);
    outcome.and(removed)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what is compared: a peer's age decides much of its speed.
fn versions() {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!("kernel {}, {processors} processors", kernel.trim());
    for peer in ["bwrap", "pasta", "slirp4netns", "iperf3"] {
        let output = process::find_program(peer)
            .map(|path| process::capture(Command::new(path).arg("--version")));
        let line = match &output {
            Some(Ok(output)) => String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .unwrap_or("")
                .to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "not installed".to_owned(),
        };
        println!("{peer}: {line}");
    }
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    if !process::passes(&mut workspace.cargo(&[
        "build",
        "--locked",
        "--release",
        "--package",
        "rcc",
    ]))? {
        bail!("rcc does not build");
    }
    Ok(workspace.programs("release").join("rcc"))
}

fn remove(scratch: &Path) -> Result<()> {
    fs::remove_dir_all(scratch).with_context(|| format!("cannot remove {}", scratch.display()))
}
