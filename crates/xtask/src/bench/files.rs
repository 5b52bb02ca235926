//! Work on the files of a large project: in a direct run, in a copy-on-write run and on the host, each on a copy of its own.
//!
//! Three shells last for the whole bench, one outside and two in sandboxes, and get the same commands in turn: starting a
//! sandbox is another bench's matter. Measured is the time from handing the command over to its word that it is done.

mod project;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::{
    Setting,
    measure::{Bar, Better, Contestant, Sample, interleave, table},
};
use crate::process;

/// The rounds take seconds each: more than this say nothing new.
const MOST_ROUNDS: usize = 11;
/// What a command says when it has ended.
const DONE: &str = "bench-done";
/// The most that working in a copy-on-write run may take, as a multiple of the host.
const COW: f64 = 1.1;
/// The same for a direct run: nothing, within what one machine measures twice.
const DIRECT: f64 = 1.02;
/// The most that `rcc diff` may take, as a multiple of a walk over the project.
const DIFF: f64 = 1.5;

/// The names of the three contestants, each with its project.
const PLACES: [&str; 3] = ["cow", "direct", "host"];

pub(super) fn run(setting: &Setting) -> Result<()> {
    let toolchain = toolchain()?;
    println!(
        "\nload {}",
        std::fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .trim()
    );
    let first = setting.scratch.join("big-host");
    project::make(&first)?;
    for place in PLACES.iter().filter(|place| **place != "host") {
        project::copy(&first, &directory(setting, place))?;
    }
    let mut cow = Shell::sandboxed(setting, "cow", &toolchain)?;
    let mut direct = Shell::sandboxed(setting, "direct", &toolchain)?;
    let mut host = Shell::on_host(&first, &toolchain)?;
    let rounds = setting.rounds.min(MOST_ROUNDS);
    for (title, command) in works() {
        let samples = {
            let mut contestants = [
                Contestant::new("cow", || cow.time(&command)),
                Contestant::new("direct", || direct.time(&command)),
                Contestant::new("host", || host.time(&command)),
            ];
            interleave(&mut contestants, rounds)?
        };
        let [cow, direct, host] = samples.try_into().map_err(|_| too_few())?;
        let title = format!("{title}, {} files", project::FILES);
        compare(&title, cow, &host, COW);
        compare(&title, direct, &host, DIRECT);
    }
    cow.time("for d in tree/*/; do echo changed >> $d/file-1.txt; done")?;
    diff(setting, rounds, "with a changed file in every directory")?;
    // An overlay copies each file that changes, and waits for the disk each time.
    cow.time("find tree/directory-? tree/directory-?? -type f -exec chmod g-w,o-r {} +")?;
    diff(setting, rounds, "with 10,000 changed files")?;
    for shell in [cow, direct, host] {
        shell.end()?;
    }
    starts(setting, rounds)
}

/// What is done, by name.
fn works() -> Vec<(&'static str, String)> {
    let search = match process::find_program("rg") {
        Some(_) => ("ripgrep", "rg --count needle tree | wc -l"),
        None => {
            println!("ripgrep: not installed; grep -r instead");
            ("grep -r", "grep -rc needle tree | wc -l")
        }
    };
    vec![
        ("git status", "git status --short".to_owned()),
        (search.0, search.1.to_owned()),
        (
            "cargo build of a small crate",
            "cd crate && rm -rf target && cargo build --quiet --offline && cd ..".to_owned(),
        ),
        (
            "a tree of 5,000 files made and removed",
            format!("tar -xf {} && rm -rf node_modules", project::ARCHIVE),
        ),
    ]
}

/// One subject against the host.
fn compare(title: &str, subject: Sample, host: &Sample, bar: f64) {
    let title = format!("{title}: {}", subject.name);
    let bars = [Bar {
        against: "host",
        ratio: bar,
    }];
    let samples = [subject, host.clone()];
    table(&title, "ms", Better::Lower, &samples, &bars);
}

/// `rcc diff` from outside, against a walk over the project that looks at every name.
fn diff(setting: &Setting, rounds: usize, what: &str) -> Result<()> {
    let project = directory(setting, "cow");
    let shown = |form: &'static str| {
        let project = project.clone();
        move || {
            let mut command = setting.rcc(&["diff", form]);
            command.current_dir(&project);
            milliseconds(command)
        }
    };
    let walked = project.clone();
    let mut contestants = [
        Contestant::new("rcc diff --name-status", shown("--name-status")),
        Contestant::new("rcc diff --stat", shown("--stat")),
        Contestant::new("find -printf", move || {
            let mut command = Command::new("find");
            command
                .args([".", "-printf", "%s %T@ %m\n"])
                .current_dir(&walked);
            milliseconds(command)
        }),
    ];
    let samples = interleave(&mut contestants, rounds)?;
    let bars = [Bar {
        against: "find -printf",
        ratio: DIFF,
    }];
    let title = format!("rcc diff {what}, {} files", project::FILES);
    table(&title, "ms", Better::Lower, &samples, &bars);
    Ok(())
}

/// What the size of a project costs at the start and end of a run: the looks for what the host would execute.
fn starts(setting: &Setting, rounds: usize) -> Result<()> {
    let begin = |project: PathBuf| {
        move || {
            let mut command = setting.rcc(&["-n", "run", "--", "true"]);
            command.current_dir(&project);
            milliseconds(command)
        }
    };
    let mut contestants = [
        Contestant::new("large project", begin(directory(setting, "direct"))),
        Contestant::new("empty project", begin(setting.scratch.join("project"))),
    ];
    let samples = interleave(&mut contestants, rounds)?;
    let title = format!("Start and end of `true`, {} files", project::FILES);
    table(&title, "ms", Better::Lower, &samples, &[]);
    Ok(())
}

fn directory(setting: &Setting, place: &str) -> PathBuf {
    setting.scratch.join(format!("big-{place}"))
}

/// The directory of the compiler itself: rustup's own programs look for settings in a home that the sandbox lacks.
fn toolchain() -> Result<PathBuf> {
    let output = process::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    if !path.join("bin/cargo").is_file() {
        bail!("{} has no cargo", path.display());
    }
    Ok(path)
}

fn milliseconds(mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let passed = process::passes(&mut command)?;
    let elapsed = start.elapsed();
    if !passed {
        bail!("`{}` failed", process::describe(&command));
    }
    Ok(elapsed.as_secs_f64() * 1000.0)
}

fn too_few() -> anyhow::Error {
    anyhow::anyhow!("a contestant gave no sample")
}

/// A shell that takes one command after the other.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn on_host(project: &Path, toolchain: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command.current_dir(project);
        Self::start(command, toolchain)
    }

    fn sandboxed(setting: &Setting, place: &str, toolchain: &Path) -> Result<Self> {
        let toolchain_word = toolchain
            .to_str()
            .context("a toolchain of a strange name")?;
        let mut words = vec!["-n", "--ro", toolchain_word];
        if place == "cow" {
            words.push("--cow");
        }
        words.extend(["run", "--", "sh"]);
        let mut command = setting.rcc(&words);
        command.current_dir(directory(setting, place));
        Self::start(command, toolchain)
    }

    fn start(mut command: Command, toolchain: &Path) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", process::describe(&command)))?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut shell = Self {
            child,
            input,
            output,
        };
        let bin = toolchain.join("bin");
        // The same home for everybody, which holds nothing: no configuration of git or cargo makes a difference.
        shell.time(&format!(
            "PATH={}:/usr/local/bin:/usr/bin:/bin HOME=/tmp CARGO_HOME=$PWD/crate/.cargo-home; export PATH HOME CARGO_HOME; unset CARGO RUSTC RUSTFLAGS RUSTUP_HOME RUSTUP_TOOLCHAIN CARGO_TARGET_DIR",
            bin.display()
        ))?;
        Ok(shell)
    }

    /// Runs one command in the shell itself; its time in milliseconds.
    fn time(&mut self, command: &str) -> Result<f64> {
        let start = Instant::now();
        writeln!(self.input, "{{ {command}; }} > /dev/null; echo {DONE} $?")
            .context("the shell is gone")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let elapsed = start.elapsed();
        if line.trim() != format!("{DONE} 0") {
            bail!("`{command}` failed: {line:?}");
        }
        Ok(elapsed.as_secs_f64() * 1000.0)
    }

    fn end(self) -> Result<()> {
        let Self {
            mut child,
            input,
            output: _output,
        } = self;
        drop(input);
        child.wait().context("cannot wait for a shell")?;
        Ok(())
    }
}
