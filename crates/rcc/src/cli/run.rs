//! Flags and arguments of `rcc run`, `shell`, `agent` and `plan`: what a sandbox is started or planned with.
//!
//! Must not do anything: the commands do.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};
use rcc_spec::PackageManager;

use super::LimitFlags;

/// What a run is allowed, on top of the policy files.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Policy flags")]
pub(crate) struct RunFlags {
    /// No network at all, not even the agent's own service
    #[arg(short = 'n', long, conflicts_with = "network")]
    pub(crate) no_internet: bool,
    /// Allow the hosts listed in FILE (one rule a line, or the YAML whitelist) and no others
    #[arg(short = 'a', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) allow_hosts: Vec<PathBuf>,
    /// Allow a host: NAME, *.NAME, ADDRESS or CIDR, with :PORT or :PORT,PORT (default 80,443), /udp and /raw
    #[arg(long, value_name = "RULE")]
    pub(crate) allow: Vec<OsString>,
    /// Refuse a host; wins over every --allow
    #[arg(long, value_name = "RULE")]
    pub(crate) deny: Vec<OsString>,
    /// Allow the registries of a package manager, as your own configuration of it names them
    #[arg(long, value_name = "NAME", value_parser = package_manager())]
    pub(crate) preset: Vec<PackageManager>,
    /// What can be reached without a rule
    #[arg(long, value_name = "MODE")]
    pub(crate) network: Option<NetworkArg>,
    /// Ask about hosts that no rule names; answer with rcc net ask
    #[arg(long)]
    pub(crate) ask: bool,
    /// Let the sandbox reach this TCP port of the host's own loopback, as host.rcc.internal:PORT
    #[arg(long, value_name = "PORT")]
    pub(crate) host_port: Vec<OsString>,
    /// Listen on the host for a port of the sandbox (default address: 127.0.0.1; HOSTPORT 0: a free one)
    #[arg(short = 'p', long, value_name = "[ADDRESS:]HOSTPORT[:PORT]")]
    pub(crate) publish: Vec<OsString>,
    /// Show PATH read-only at the same place
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) ro: Vec<PathBuf>,
    /// Show PATH read-write at the same place
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) rw: Vec<PathBuf>,
    /// Hide PATH
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) hide: Vec<PathBuf>,
    /// Pass a variable of the caller, or set one
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Keep the agent's changes to the project in a layer of their own, until rcc apply or rcc discard
    #[arg(long)]
    pub(crate) cow: bool,
    /// Copy the project before the run, so that rcc undo can take back what the agent changes in it
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Like --cow, starting with the changes of an earlier run, which become this run's
    #[arg(long = "continue", value_name = "RUN")]
    pub(crate) resume: Option<String>,
    /// Use DIR as the project instead of searching upwards from here
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) project: Option<PathBuf>,
    /// Use the agent's real state (such as ~/.claude) instead of the agent home's copy
    #[arg(long)]
    pub(crate) share_state: bool,
    /// Start a shell in the agent's environment instead of the agent
    #[arg(short = 's', long)]
    pub(crate) shell: bool,
    /// Answer yes where rcc would ask to install an agent
    #[arg(long)]
    pub(crate) yes: bool,
    /// Append the audit log to FILE instead of the record of the run
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) audit: Option<PathBuf>,
    /// Use the agent home called NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) home: Option<String>,
    /// Call the run NAME, for commands that take a run; of the runs under way only one can have it
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Say at the end what the run used
    #[arg(long)]
    pub(crate) stats: bool,
    /// Print the run's id and leave the run to itself; rcc attach, logs and wait come back to it
    #[arg(short = 'd', long)]
    pub(crate) detach: bool,
    /// Remove the run's record when it ends, unless it holds changes that wait for rcc apply or rcc undo
    #[arg(long)]
    pub(crate) rm: bool,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
}

/// The words of the package managers.
fn package_manager() -> impl TypedValueParser<Value = PackageManager> {
    PossibleValuesParser::new(PackageManager::WORDS.iter().copied())
        .try_map(|word| PackageManager::from_word(&word).ok_or("no such package manager"))
}

/// The network modes as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// Nothing
    None,
    /// Public addresses, never the local network
    Internet,
    /// Only what a rule allows
    Allowlist,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    /// Arguments of the shell
    #[arg(trailing_var_arg = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    /// Name of the agent's preset, then the agent's own arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "NAME [ARGS]")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Tell whether HOST:PORT could be reached and which rule decides; exit code 0 if allowed, 1 if refused
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "command")]
    pub(crate) why: Option<OsString>,
    /// Plan for this agent's preset
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Command and its arguments (default: the shell)
    #[arg(trailing_var_arg = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

impl RunFlags {
    /// Joins the flags that stood before the command with those after it; the later single value wins.
    #[must_use]
    pub(crate) fn join(mut self, later: Self) -> Self {
        self.no_internet |= later.no_internet;
        self.allow_hosts.extend(later.allow_hosts);
        self.allow.extend(later.allow);
        self.deny.extend(later.deny);
        self.preset.extend(later.preset);
        self.network = later.network.or(self.network);
        self.ask |= later.ask;
        self.host_port.extend(later.host_port);
        self.publish.extend(later.publish);
        self.ro.extend(later.ro);
        self.rw.extend(later.rw);
        self.hide.extend(later.hide);
        self.env.extend(later.env);
        self.cow |= later.cow;
        self.snapshot |= later.snapshot;
        self.resume = later.resume.or(self.resume);
        self.project = later.project.or(self.project);
        self.share_state |= later.share_state;
        self.shell |= later.shell;
        self.yes |= later.yes;
        self.audit = later.audit.or(self.audit);
        self.home = later.home.or(self.home);
        self.name = later.name.or(self.name);
        self.stats |= later.stats;
        self.detach |= later.detach;
        self.rm |= later.rm;
        self.limits = self.limits.join(later.limits);
        self
    }
}
