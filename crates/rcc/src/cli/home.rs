//! Arguments of `rcc home`.
//!
//! Must not do anything: the commands do.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct HomeArgs {
    /// Print JSON, one home a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<HomeCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HomeCommand {
    /// List the agent homes, with their last use (the default)
    List(HomeListArgs),
    /// Show where an agent home is, how much it holds, and what was imported into it
    Show(HomeShowArgs),
    /// Remove an agent home: state, login, history and caches; the next run makes a fresh one
    Reset(HomeResetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HomeListArgs {
    /// Print JSON, one home a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HomeShowArgs {
    /// Name of the home: the preset's, or what --home said
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HomeResetArgs {
    /// Name of the home: the preset's, or what --home said
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
