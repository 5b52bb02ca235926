//! `rcc net learn`: runs a command and writes the list of hosts that it needed, with the evidence as comments.
//!
//! What the command prints must never get into the list: its standard output is moved to standard error when the list
//! goes to standard output, and a file is written after the command has ended, never through a link in the project.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rcc_plan::learn::{Format, Lesson, Lines, Wildcards};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::cli::{LearnArgs, LearnFormat, NetworkArg};
use crate::commands::run::start;
use crate::context::Context;
use crate::detach::Begun;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::session::{What, prepare};

/// Most of a log that is read, in bytes; the gateway's own limit for a run is below it.
const LOG_LIMIT_BYTES: u64 = 256 << 20;

/// A list that cannot be made.
#[derive(Debug, thiserror::Error)]
enum LearnError {
    /// No such run.
    #[error("no run is called {}", rcc_plan::escape(run))]
    NoRun { run: PathBuf },
    /// The log cannot be read.
    #[error("cannot read the log {}", rcc_plan::escape(path))]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The log is something else.
    #[error("the log {} is not a regular file", rcc_plan::escape(path))]
    NotRegular { path: PathBuf },
    /// The list cannot be written.
    #[error("cannot write the list to {}", rcc_plan::escape(path))]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The log would not be rcc's own.
    #[error("--audit cannot be used here: the list is made from the record of the run")]
    Audit,
}

impl From<LearnFormat> for Format {
    fn from(word: LearnFormat) -> Self {
        match word {
            LearnFormat::Toml => Self::Toml,
            LearnFormat::Conf => Self::Conf,
            LearnFormat::Yaml => Self::Yaml,
        }
    }
}

pub(crate) fn run(mut args: LearnArgs) -> Result<u8, CliError> {
    if let Some(from) = &args.from {
        let context = Context::load()?;
        let place = args
            .output
            .as_deref()
            .map(|path| Place::open(path, None))
            .transpose()?;
        let (log, run) = find(&context, from)?;
        let lesson = read(&log, run.as_deref(), wildcards(&args))?;
        return deliver(&args, &lesson, &from.display().to_string(), place, None)
            .map(|()| Exit::Success.into());
    }
    if args.flags.audit.is_some() {
        return Err(CliError::new(Kind::User, LearnError::Audit)
            .hint("a file of --audit can be read afterwards with --from FILE"));
    }
    if args.flags.detach {
        let text = "the list is made when the command has ended: --detach cannot be used here";
        return Err(CliError::new(Kind::User, text));
    }
    if args.flags.network.is_none() && !args.flags.no_internet {
        args.flags.network = Some(NetworkArg::Internet);
    }
    // Before anything is forked: whatever the command prints must not be taken for a part of the list.
    let stdout = if args.output.is_none() {
        Some(set_stdout_aside().map_err(|errno| {
            CliError::new(Kind::Host, std::io::Error::from(errno))
                .hint("name a file for the list with -o")
        })?)
    } else {
        None
    };
    let begun = Begun {
        early: crate::commands::run::early(&args.flags),
        detached: None,
    };
    let mut session = prepare(
        &args.flags,
        None,
        What::Command(std::mem::take(&mut args.command)),
    )?;
    let project = (session.project.root.as_path(), &session.project.directory);
    let place = args
        .output
        .as_deref()
        .map(|path| Place::open(path, Some(project)))
        .transpose();
    let place = match place {
        Ok(place) => place,
        Err(error) => {
            // Nothing was run.
            if let Some(record) = session.record.take() {
                record.discard();
            }
            return Err(error);
        }
    };
    let run = session.plan.run_id.clone();
    let result = start(begun, session);
    let context = Context::load()?;
    let log = log_of(&context, &run);
    // A run that failed before anything was logged has no record; its own error says why.
    if result.is_err() && !log.exists() {
        return result;
    }
    let lesson = if log.exists() {
        read(&log, Some(&run), wildcards(&args))?
    } else {
        Lesson::default()
    };
    deliver(&args, &lesson, &run, place, stdout)?;
    result
}

fn wildcards(args: &LearnArgs) -> Wildcards {
    if args.wildcards {
        Wildcards::FromThreeSiblings
    } else {
        Wildcards::Never
    }
}

/// Keeps the standard output for the list, and lets the command write to standard error instead.
fn set_stdout_aside() -> rustix::io::Result<OwnedFd> {
    let kept = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(kept)
}

fn log_of(context: &Context, run: &str) -> PathBuf {
    context
        .directories
        .state
        .join("runs")
        .join(run)
        .join("audit.jsonl")
}

/// The log that `--from` means, and the run whose lines count; a file may hold several, all of which count.
fn find(context: &Context, from: &Path) -> Result<(PathBuf, Option<String>), CliError> {
    let is_id = |text: &&str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if let Some(id) = from.to_str().filter(is_id) {
        let log = log_of(context, id);
        if log.exists() {
            return Ok((log, Some(id.to_owned())));
        }
    }
    if from.is_file() {
        return Ok((from.to_owned(), None));
    }
    let error = LearnError::NoRun {
        run: from.to_owned(),
    };
    Err(CliError::new(Kind::User, error)
        .hint("the records of runs are below $XDG_STATE_HOME/rcc/runs; the last 50 are kept"))
}

fn read(path: &Path, run: Option<&str>, wildcards: Wildcards) -> Result<Lesson, CliError> {
    let fail = |source| {
        let path = path.to_owned();
        CliError::new(Kind::Host, LearnError::Read { path, source })
    };
    // Not blocking: a FIFO in its place must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
    let status = rustix::fs::fstat(&file).map_err(|errno| fail(errno.into()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        let path = path.to_owned();
        return Err(CliError::new(Kind::User, LearnError::NotRegular { path }));
    }
    let mut lines = Lines::default();
    let mut reader = BufReader::new(File::from(file).take(LOG_LIMIT_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(fail)? == 0 {
            break;
        }
        if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
            // What is no text is no line of the log; the replacement characters make it one that is counted.
            lines.read(String::from_utf8_lossy(&line).trim_end(), run);
        }
    }
    if u64::try_from(status.st_size).unwrap_or(0) > LOG_LIMIT_BYTES {
        lines.was_cut();
    }
    Ok(lines.finish(wildcards))
}

fn deliver(
    args: &LearnArgs,
    lesson: &Lesson,
    source: &str,
    place: Option<Place>,
    stdout: Option<OwnedFd>,
) -> Result<(), CliError> {
    let heading = format!(
        "Learned by `rcc net learn` from {}. Read it before you use it: it lists what the\ncommand wanted, and nothing tells whether it should have.",
        rcc_plan::escape(source)
    );
    let text = lesson.render(args.format.into(), &heading);
    if lesson.gaps.any() {
        output::warn("the log is incomplete, so the list may be, too; its first lines say why");
    }
    match (place, stdout) {
        (Some(place), _) => place.write(&text),
        (None, Some(stdout)) => match File::from(stdout).write_all(text.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(CliError::new(Kind::Host, error))
            }
            _ => Ok(()),
        },
        (None, None) => output::result(&text).map_err(|error| CliError::new(Kind::Host, error)),
    }
}

/// Where the list will be: a name in a directory that was opened before the command could change the way to it.
struct Place {
    directory: OwnedFd,
    name: PathBuf,
    path: PathBuf,
}

impl Place {
    /// Opens the directory. Below the project no link is followed: an earlier agent could have made it.
    fn open(path: &Path, project: Option<(&Path, &OwnedFd)>) -> Result<Self, CliError> {
        let fail = |source: std::io::Error| {
            let path = path.to_owned();
            CliError::new(Kind::User, LearnError::Write { path, source }).hint(
                "-o makes a new file and replaces none; below the project no link is followed",
            )
        };
        let absolute = std::path::absolute(path).map_err(fail)?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(fail(Errno::ISDIR.into()));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let below = project
            .and_then(|(root, directory)| Some((parent.strip_prefix(root).ok()?, directory)));
        let directory = match below {
            Some((relative, directory)) if !relative.as_os_str().is_empty() => {
                let resolve =
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(directory, relative, flags, Mode::empty(), resolve)
            }
            _ => rustix::fs::openat(CWD, parent, flags, Mode::empty()),
        }
        .map_err(|errno| fail(errno.into()))?;
        // Asked first, so that nothing is run for nothing.
        if rustix::fs::statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(fail(Errno::EXIST.into()));
        }
        Ok(Self {
            directory,
            name: name.into(),
            path: absolute,
        })
    }

    fn write(self, text: &str) -> Result<(), CliError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::openat(&self.directory, &self.name, flags, mode)
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).write_all(text.as_bytes()))
            .map_err(|source| {
                let path = self.path;
                CliError::new(Kind::Host, LearnError::Write { path, source })
            })
    }
}
