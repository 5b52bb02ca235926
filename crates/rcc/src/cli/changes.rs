//! Arguments of `rcc diff`, `apply`, `undo`, `redo` and `discard`, and how they choose the changes of a run.
//!
//! Must not do anything: the commands do.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Which copy-on-write run is meant, and which part of its changes.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangesChoice {
    /// The run's id, its beginning, or the run's name (default: the only one of this project that has changes)
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Use DIR as the project instead of searching upwards from here
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) project: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) choice: ChangesChoice,
    /// List the runs that have changes
    #[arg(long, conflicts_with_all = ["stat", "name_status", "run", "words"])]
    pub(crate) list: bool,
    /// Print a line for each file with how much it changed
    #[arg(long, conflicts_with = "name_status")]
    pub(crate) stat: bool,
    /// Print a letter and a name for each file: A added, M modified, D removed, T another type, X never applied
    #[arg(long)]
    pub(crate) name_status: bool,
    /// Print JSON, one object a line
    #[arg(long, conflicts_with = "stat")]
    pub(crate) json: bool,
    /// A run's id or name, then paths in the project; only what is at or below them
    #[arg(value_name = "RUN|PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) choice: ChangesChoice,
    /// Ask about each change, and about each hunk of a text
    #[arg(short = 'p', long)]
    pub(crate) patch: bool,
    /// Replace what you changed meanwhile at or below PATH, too
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) overwrite: Vec<PathBuf>,
    /// A run's id or name, then paths in the project; only what is at or below them
    #[arg(value_name = "RUN|PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) choice: ChangesChoice,
    /// The run's id or name (default: the one that was applied last)
    #[arg(value_name = "RUN", conflicts_with = "run")]
    pub(crate) id: Option<String>,
    /// Keep nothing of what goes: it takes no room, and rcc redo cannot bring it again
    #[arg(long)]
    pub(crate) forget: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RedoArgs {
    #[command(flatten)]
    pub(crate) choice: ChangesChoice,
    /// The run's id or name (default: the one that was undone last)
    #[arg(value_name = "RUN", conflicts_with = "run")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    pub(crate) choice: ChangesChoice,
    /// The run's id or name
    #[arg(value_name = "RUN", conflicts_with = "run")]
    pub(crate) id: Option<String>,
}
