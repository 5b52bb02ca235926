//! Copy-on-write runs as commands see them: which runs have changes, which one is meant, how a run begins and ends with a
//! layer. Must not change a project.

mod applied;
mod begin;
mod brings;
pub(crate) mod direct;
mod discarded;
mod hunks;
mod pick;
mod show;
mod text;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rcc_host::cow::{Changes, Choice, CowError, Layer, Layers, Tree, changes, has_open};

use crate::cli::ChangesChoice;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output;
use crate::record::{Record, is_foreign};
use crate::runs::{is_locked, one_of};

pub(crate) use applied::{Applied, alone, alone_in, applied};
pub(crate) use begin::{Earlier, begin, earlier, shown};
pub(crate) use discarded::finish_discards;
pub(crate) use pick::{pick, require_terminal};
pub(crate) use show::{Form, json, name_status, stat};
pub(crate) use text::unified;

/// Why no run was found.
#[derive(Debug, thiserror::Error)]
enum ChoiceError {
    #[error("no copy-on-write run is called {}", rcc_plan::escape(id))]
    Unknown { id: String },
    #[error("no run has changes for the project {}", rcc_plan::escape(project))]
    None { project: PathBuf },
    #[error("several runs have changes for the project {}: {}", rcc_plan::escape(project), found.join(", "))]
    Several {
        project: PathBuf,
        found: Vec<String>,
    },
    #[error("an rcc apply of the run {} was interrupted", rcc_plan::escape(id))]
    Open { id: String },
    #[error(
        "the run {} has changes in {}, which this run may not change",
        rcc_plan::escape(id),
        rcc_plan::escape(root)
    )]
    NotGranted { id: String, root: PathBuf },
    #[error("the run {} is still under way", rcc_plan::escape(id))]
    Live { id: String },
    #[error(
        "the run {} worked on another project, {}",
        rcc_plan::escape(id),
        rcc_plan::escape(project)
    )]
    OtherProject { id: String, project: PathBuf },
}

/// A run with layers.
#[derive(Debug)]
pub(crate) struct CowRun {
    pub(crate) id: String,
    pub(crate) record: PathBuf,
    pub(crate) layers: Layers,
}

/// A layer, what is below it, and how they differ now.
#[derive(Debug)]
pub(crate) struct Compared<'a> {
    pub(crate) layer: &'a Layer,
    pub(crate) upper: Tree,
    pub(crate) lower: Tree,
    pub(crate) changes: Changes,
}

impl<'a> Compared<'a> {
    pub(crate) fn new(layer: &'a Layer) -> Result<Self, CowError> {
        let (upper, lower) = (layer.upper()?, layer.lower()?);
        Ok(Self {
            changes: changes(&upper, &lower)?,
            layer,
            upper,
            lower,
        })
    }
}

impl CowRun {
    /// The project.
    pub(crate) fn project(&self) -> &Path {
        self.layers.project().base().project.as_path()
    }

    /// The directories that its layers lie over.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.layers
            .all()
            .map(|layer| layer.base().project.as_path())
    }

    /// Whether everything was applied.
    pub(crate) fn is_settled(&self) -> bool {
        self.layers.project().base().settled
    }

    /// What a caller means with these paths, for each layer; none named means everything in all of them.
    pub(crate) fn choose(&self, paths: &[PathBuf]) -> Result<Vec<Option<Vec<PathBuf>>>, CliError> {
        let mut chosen: Vec<Option<Vec<PathBuf>>> = self
            .layers
            .all()
            .map(|_| paths.is_empty().then(Vec::new))
            .collect();
        for path in paths {
            let found = absolute(path).map(|path| self.layers.find(&path));
            let found = found.filter(|found| found.iter().any(Option::is_some));
            let found = found.ok_or_else(|| outside(path, self.project(), &self.layers))?;
            for (chosen, found) in chosen.iter_mut().zip(found) {
                if let Some(path) = found {
                    chosen.get_or_insert_default().push(path);
                }
            }
        }
        Ok(chosen)
    }

    /// The same as choices for an apply.
    pub(crate) fn choices(
        &self,
        paths: &[PathBuf],
        overwrite: &[PathBuf],
    ) -> Result<Vec<Option<Choice>>, CliError> {
        let paths = self.choose(paths)?;
        // None named means none.
        let overwrite = match overwrite {
            [] => vec![None; paths.len()],
            named => self.choose(named)?,
        };
        let choices = paths.into_iter().zip(overwrite).map(|(paths, overwrite)| {
            Some(Choice {
                paths: paths?,
                overwrite: overwrite.unwrap_or_default(),
                picks: None,
            })
        });
        Ok(choices.collect())
    }

    /// Keeps the run to this process: it is not under way, and no other command decides about it.
    pub(crate) fn lock(&self) -> Result<OwnedFd, CliError> {
        lock(&self.id, &self.record)
    }

    /// Whether the run is under way.
    pub(crate) fn is_live(&self) -> bool {
        is_locked(&self.record)
    }
}

/// Keeps a run to this process.
pub(crate) fn lock(id: &str, record: &Path) -> Result<OwnedFd, CliError> {
    let live = || {
        let id = id.to_owned();
        CliError::new(Kind::User, ChoiceError::Live { id })
            .hint("wait for its end; rcc diff shows what it changed so far")
    };
    let directory = applied::open_record(record).map_err(|_| live())?;
    match crate::record::lock_patiently(&directory) {
        true => Ok(directory),
        false => Err(live()),
    }
}

/// Refuses what must not happen between the two halves of an apply.
pub(crate) fn refuse_open(run: &CowRun) -> Result<(), CliError> {
    if has_open(&run.record)? {
        let id = run.id.clone();
        return Err(CliError::new(Kind::User, ChoiceError::Open { id })
            .hint("rcc apply goes on with it, rcc undo takes it back"));
    }
    Ok(())
}

/// Every run with a layer, newest first. A record that cannot be read is no run.
pub(crate) fn all(context: &Context) -> Vec<CowRun> {
    let runs = context.directories.state.join("runs");
    let entries = std::fs::read_dir(&runs).into_iter().flatten().flatten();
    let mut found: Vec<CowRun> = entries
        .filter_map(|entry| {
            let record = entry.path();
            let layers = Layers::open(&record).ok()??;
            if is_foreign(&record) {
                return None;
            }
            let id = entry.file_name().into_string().ok()?;
            Some(CowRun { id, record, layers })
        })
        .collect();
    found.sort_by_key(|run| std::cmp::Reverse(run.layers.project().base().since));
    found
}

/// The run that is meant: named, or the only one of the project whose changes wait.
pub(crate) fn choose(
    context: &Context,
    choice: &ChangesChoice,
    word: Option<&str>,
) -> Result<CowRun, CliError> {
    let runs = all(context);
    if let Some(word) = choice.run.as_deref().or(word) {
        let id = named(context, &runs, word);
        return by_id(runs, id.as_deref().unwrap_or(word));
    }
    let project = rcc_host::discover(
        choice.project.as_deref(),
        &context.account,
        &context.directories,
    )?
    .root;
    let mut here: Vec<CowRun> = runs
        .into_iter()
        .filter(|run| run.project() == project && !run.is_settled())
        .collect();
    if here.len() > 1 {
        let found = here.into_iter().map(|run| run.id).collect();
        return Err(
            CliError::new(Kind::User, ChoiceError::Several { project, found })
                .hint("say which one; rcc diff --list tells them apart"),
        );
    }
    here.pop().ok_or_else(|| {
        CliError::new(Kind::User, ChoiceError::None { project })
            .hint("rcc --cow AGENT keeps an agent's changes apart")
    })
}

/// The id of the run that was given this name, unless the word is an id.
fn named(context: &Context, runs: &[CowRun], word: &str) -> Option<String> {
    if runs.iter().any(|run| run.id == word) {
        return None;
    }
    crate::runs::id_of_name(context, word)
}

fn by_id(runs: Vec<CowRun>, id: &str) -> Result<CowRun, CliError> {
    one_of(runs, |run| &run.id, id)?.ok_or_else(|| {
        CliError::new(Kind::User, ChoiceError::Unknown { id: id.to_owned() })
            .hint("rcc diff --list lists the runs that have changes")
    })
}

/// Takes a run's id or name off the front of the words of a command; what is left are paths. A file that is there is meant
/// rather than a run of that name.
pub(crate) fn split(context: &Context, words: &[OsString]) -> (Option<String>, Vec<PathBuf>) {
    let first = words.first().and_then(|word| word.to_str());
    let id = first.and_then(|word| {
        let runs = all(context);
        if runs.iter().any(|run| run.id == word) || direct::is_id(context, word) {
            return Some(word.to_owned());
        }
        let id = named(context, &runs, word).filter(|id| runs.iter().any(|run| run.id == *id));
        id.filter(|_| Path::new(word).symlink_metadata().is_err())
    });
    let paths = words.iter().skip(usize::from(id.is_some()));
    (id, paths.map(PathBuf::from).collect())
}

/// The paths that a caller named, relative to the project: `.` and names below the current directory.
pub(crate) fn inside(project: &Path, paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let below = |path: &PathBuf| {
        let below = absolute(path)?.strip_prefix(project).ok()?.to_owned();
        Some(below)
    };
    let inside = paths
        .iter()
        .map(|path| below(path).ok_or_else(|| not_inside(path, project)));
    inside.collect()
}

/// What a caller names from the current directory; none with `..` in it, which may lead through a link.
fn absolute(path: &Path) -> Option<PathBuf> {
    let mut components = path.components();
    let has_parent = components.any(|part| part == std::path::Component::ParentDir);
    std::path::absolute(path).ok().filter(|_| !has_parent)
}

/// The path lies in none of the directories of a run.
fn outside(path: &Path, project: &Path, layers: &Layers) -> CliError {
    let roots = layers.further().iter();
    let roots: Vec<String> = roots
        .map(|layer| layer.base().project.to_string())
        .collect();
    if roots.is_empty() {
        return not_inside(path, project);
    }
    let text = format!(
        "{} is neither in the project {} nor in {}",
        rcc_plan::escape(path),
        rcc_plan::escape(project),
        roots.join(", ")
    );
    CliError::new(Kind::User, text).hint("name paths below these, without ..")
}

fn not_inside(path: &Path, project: &Path) -> CliError {
    let text = format!(
        "{} is not in the project {}",
        rcc_plan::escape(path),
        rcc_plan::escape(project)
    );
    CliError::new(Kind::User, text).hint("name paths below the project, without ..")
}

/// Whether a path is at or below one of those named; none named means all.
pub(crate) fn is_chosen(path: &Path, chosen: &[PathBuf]) -> bool {
    chosen.is_empty() || chosen.iter().any(|chosen| path.starts_with(chosen))
}

/// Says what a run changed; layers without changes are removed without a word.
pub(crate) fn end(record: &Record) {
    let told = Layers::open(record.path()).and_then(|layers| {
        let Some(layers) = layers else { return Ok(()) };
        let compared = layers.all().map(Compared::new);
        let compared: Vec<Compared<'_>> = compared.collect::<Result<_, _>>()?;
        let counts = compared.iter().map(|one| one.changes.listed().count());
        match counts.sum() {
            0 => {
                drop(compared);
                layers.remove()
            }
            count => {
                brings::tell(&compared);
                let files = if count == 1 { "file" } else { "files" };
                output::note(&format!(
                    "{count} {files} changed; rcc diff, rcc apply or rcc discard (run {})",
                    record.id()
                ));
                Ok(())
            }
        }
    });
    if let Err(error) = told {
        output::warn(&format!(
            "cannot tell what the agent changed: {}",
            rcc_plan::escape(error.to_string())
        ));
    }
}

impl From<CowError> for CliError {
    fn from(error: CowError) -> Self {
        let hint = match &error {
            CowError::NoAttributes { .. } => Some(
                "let XDG_STATE_HOME name a directory on ext4, xfs, btrfs, or tmpfs of Linux 6.6 or newer",
            ),
            CowError::MountInside { .. } => Some(
                "unmount it, work on a copy of the project, or run without --cow and --snapshot",
            ),
            CowError::OtherProject { .. } => {
                Some("rcc diff --list tells which directory a run worked on")
            }
            CowError::UnreadableFiles { .. } => Some(
                "make them readable for yourself, or run with --cow, which copies nothing beforehand",
            ),
            CowError::SnapshotTooLarge { .. } => Some(
                "raise snapshot_limit in [files], or run with --cow, which copies nothing beforehand",
            ),
            CowError::LongPaths { .. } => Some(
                "nothing was changed; rcc apply PATH carries a part over; of a run with --snapshot, remove that directory yourself and try again",
            ),
            CowError::TooMany { .. } => Some("run with --cow, which copies nothing beforehand"),
            CowError::NoRoom { .. } => Some(
                "make room, let XDG_STATE_HOME name a directory on another file system, or run with --cow",
            ),
            _ => None,
        };
        let error = Self::new(Kind::Host, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
