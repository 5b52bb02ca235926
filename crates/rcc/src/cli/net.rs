//! Arguments of `rcc net`, and how its commands choose a run.
//!
//! Must not do anything: the commands do.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::RunFlags;

#[derive(Debug, Args)]
pub(crate) struct NetArgs {
    #[command(subcommand)]
    pub(crate) command: NetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetCommand {
    /// Run a command and write the list of hosts it needed, with the evidence as comments
    Learn(Box<LearnArgs>),
    /// List the runs that are under way
    Runs(NetRunsArgs),
    /// List the rules in force in a run, with their origins
    Rules(NetRulesArgs),
    /// Allow hosts for a run that is under way
    Allow(NetChangeArgs),
    /// Refuse hosts for a run that is under way; open connections to them are cut
    Deny(NetChangeArgs),
    /// Print the audit log of a run
    Log(NetLogArgs),
    /// Tell what would become of a connection now, and whether it can be made; exit code 0 if allowed, 1 if refused
    Test(NetTestArgs),
    /// List the questions of a run, or answer them
    Ask(NetAskArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetRunsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which run is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunChoice {
    /// The run's id, its beginning, or the run's name (default: the one of this project)
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetRulesArgs {
    #[command(flatten)]
    pub(crate) run: RunChoice,
    /// Print JSON, one rule a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetChangeArgs {
    #[command(flatten)]
    pub(crate) run: RunChoice,
    /// Write the rules into the project's rcc.toml, too, and approve that
    #[arg(long = "project")]
    pub(crate) in_project: bool,
    /// Rules as --allow and --deny take them
    #[arg(required = true, value_name = "RULE")]
    pub(crate) rules: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetLogArgs {
    #[command(flatten)]
    pub(crate) run: RunChoice,
    /// Print the lines as they are, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on until the run ends
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetTestArgs {
    #[command(flatten)]
    pub(crate) run: RunChoice,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Host and port (default: 443), with /udp for UDP
    #[arg(value_name = "HOST:PORT")]
    pub(crate) target: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct NetAskArgs {
    #[command(flatten)]
    pub(crate) run: RunChoice,
    /// Wait for questions and ask them here, one after the other
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LearnArgs {
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    /// Read the log of this run, or a file that --audit wrote, instead of running a command
    #[arg(long, value_name = "RUN|FILE", conflicts_with = "command")]
    pub(crate) from: Option<PathBuf>,
    /// Write the list to FILE, which must not exist, instead of standard output
    #[arg(short = 'o', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Format of the list
    #[arg(long, value_name = "FORMAT", default_value = "toml")]
    pub(crate) format: LearnFormat,
    /// Join three or more names with the same ports below a parent of at least three labels into *.PARENT
    #[arg(long)]
    pub(crate) wildcards: bool,
    /// Command and its arguments; its standard output goes to standard error, unless -o is given
    #[arg(required_unless_present = "from", trailing_var_arg = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// The formats of a learned list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LearnFormat {
    /// A policy file, rcc.toml
    Toml,
    /// Lines for --allow-hosts
    Conf,
    /// The YAML whitelist for --allow-hosts
    Yaml,
}
