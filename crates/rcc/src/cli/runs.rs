//! Arguments of the commands about runs: `rcc ps`, `stop`, `exec`, `attach`, `stats` and so on.
//!
//! Must not do anything: the commands do.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// List the runs that have ended, too
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Print ids only
    #[arg(short = 'q', long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Print JSON, one run a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// How long an agent may take to end before it is killed
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) time: u32,
    /// Ids, their beginnings, or names of runs
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal, by name or number
    #[arg(short = 's', long, value_name = "SIGNAL", default_value = "KILL")]
    pub(crate) signal: String,
    /// Ids, their beginnings, or names of runs
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Remove a record, too, whose changes nobody has applied, undone or discarded: they are lost
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
    /// Print JSON, one removed run a line, instead of ids
    #[arg(long)]
    pub(crate) json: bool,
    /// Ids, their beginnings, or names of runs
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON, one removed run a line, instead of ids
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Pass standard input on; rcc does so anyway
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal; rcc does so anyway for every standard stream that is one here
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Pass a variable of the caller, or set one; the others are those of the run
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Start in DIR of the sandbox instead of the run's directory
    #[arg(short = 'w', long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// The run's id, its beginning, or the run's name
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Keys that leave the run again: letters and ctrl-LETTER with commas between; empty: none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Only look: pass no keys on
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// The run's id, its beginning, or the run's name
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on until the run ends
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Leave what drives a terminal in, on a terminal too
    #[arg(long)]
    pub(crate) raw: bool,
    /// The run's id, its beginning, or the run's name
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Ids, their beginnings, or names of runs
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Ids, their beginnings, or names of runs
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Print JSON, one run a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on, once a second, until nothing runs
    #[arg(short = 'w', long)]
    pub(crate) watch: bool,
    /// A run's id, the beginning of it, or its name (default: every run under way)
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
}
