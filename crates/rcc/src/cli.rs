//! The command line: every command and flag once. Help, man pages and completions come from here.
//!
//! What follows an agent's name belongs to the agent: `rcc [FLAGS] claude ARGS…` hands every argument on unread, `-n`,
//! `--help` and `--` included. rcc's own flags stand before the name. Must not read or write anything.

mod limits;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, ValueHint};
use rcc_spec::PackageManager;

pub(crate) use limits::LimitFlags;

/// Runs a coding agent so that it can change one project and nothing else, and reach only the hosts you name.
#[derive(Debug, Parser)]
#[command(name = "rcc", version, about, max_term_width = 100)]
#[command(
    subcommand_value_name = "COMMAND|AGENT",
    subcommand_help_heading = "Commands"
)]
#[command(
    override_usage = "rcc [FLAGS] COMMAND [ARGS]…\n       rcc [FLAGS] AGENT [AGENT'S OWN ARGS]…"
)]
#[command(after_help = AGENTS_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const AGENTS_HELP: &str = "\
Agents:
  claude, codex, gemini, opencode, aider, and those in $XDG_CONFIG_HOME/rcc/agents/*.toml
  Arguments after the agent's name go to the agent untouched; rcc's flags stand before it:
    rcc --allow example.com claude -p 'fix the tests'

Exit codes: 124 timed out, 125 rcc failed, 126 cannot execute, 127 not found, 128+n signal n, else the command's own.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented rcc.toml for this project and approve it
    Init(InitArgs),
    /// Run a command in the sandbox
    Run(RunArgs),
    /// Start a shell in the sandbox
    Shell(ShellArgs),
    /// Run an agent by its preset's name
    Agent(AgentArgs),
    /// Show what a run would do, or why a connection is allowed or refused
    Plan(PlanArgs),
    /// Show what copy-on-write runs, and direct runs with a snapshot, changed
    Diff(DiffArgs),
    /// Carry what a copy-on-write run changed over into the project
    Apply(ApplyArgs),
    /// Take the last rcc apply back, or what a direct run with --snapshot changed
    Undo(UndoArgs),
    /// Bring again what the last rcc undo took back
    Redo(RedoArgs),
    /// Throw away what a copy-on-write run changed, or the snapshot of a direct run
    Discard(DiscardArgs),
    /// List the runs that are under way
    Ps(PsArgs),
    /// Show the agent homes, or begin with a fresh one
    Home(HomeArgs),
    /// End runs: ask the agents to end, then kill those that do not
    Stop(StopArgs),
    /// Send a signal to the agents of runs, KILL ends them at once
    Kill(KillArgs),
    /// Remove the records of runs that have ended
    Rm(RmArgs),
    /// Remove the records of all runs that have ended, but not those with changes that wait
    Prune(PruneArgs),
    /// Run one more command in the sandbox of a run, confined as its agent
    Exec(ExecArgs),
    /// Show a detached run here and pass keys on; ctrl-p,ctrl-q leaves it again
    Attach(AttachArgs),
    /// Print what the agent of a detached run wrote
    Logs(LogsArgs),
    /// Wait until runs have ended, and print their exit codes
    Wait(WaitArgs),
    /// Print everything known about runs as JSON
    Inspect(InspectArgs),
    /// Show what runs use: memory, processor, processes, disk, network
    Stats(StatsArgs),
    /// Tell what works on this host, what is missing, and the fix
    Doctor(DoctorArgs),
    /// Approve, list or revoke the policies of projects
    Trust(TrustArgs),
    /// The network of runs: look at it, change it, answer its questions, learn a list of hosts
    Net(NetArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them to a directory
    Man(ManArgs),
    /// An agent's name with the agent's own arguments.
    #[command(external_subcommand)]
    Named(Vec<OsString>),
}

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
pub(crate) struct InitArgs {
    /// Directory of the project (default: the current one)
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Network mode to write instead of asking
    #[arg(long, value_name = "MODE")]
    pub(crate) network: Option<NetworkArg>,
    /// Agent to write instead of detecting it
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Ask nothing: take what was detected
    #[arg(long)]
    pub(crate) yes: bool,
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

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// List what is approved
    #[arg(long, conflicts_with_all = ["revoke", "path"])]
    pub(crate) list: bool,
    /// Withdraw the approval
    #[arg(long)]
    pub(crate) revoke: bool,
    /// With --list: print JSON
    #[arg(long, requires = "list")]
    pub(crate) json: bool,
    /// Approve without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Project directory or its rcc.toml (default: the project here)
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the page of every command into DIR
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// The agents that come with rcc, as the help names them.
pub(crate) const AGENTS: [(&str, &str); 5] = [
    ("claude", "Run Claude Code in the sandbox"),
    ("codex", "Run Codex in the sandbox"),
    ("gemini", "Run Gemini CLI in the sandbox"),
    ("opencode", "Run opencode in the sandbox"),
    ("aider", "Run aider in the sandbox"),
];

/// The definition for manual pages and completions, in which the agents appear as commands.
///
/// The parser itself must not know them: only what it does not know is handed on unread.
pub(crate) fn documented() -> clap::Command {
    AGENTS
        .iter()
        .fold(Cli::command(), |command, (name, about)| {
            let arguments = clap::Arg::new("ARGS")
                .help("The agent's own arguments, handed on untouched")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true);
            command.subcommand(
                clap::Command::new(*name)
                    .about(*about)
                    .arg(arguments)
                    .disable_help_flag(true),
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Cli {
        Cli::try_parse_from(line).unwrap()
    }

    fn named(line: &[&str]) -> Vec<String> {
        match parse(line).command {
            Some(Command::Named(words)) => words
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
        documented().debug_assert();
    }

    #[test]
    fn the_documentation_page_is_the_help() {
        use std::fmt::Write as _;
        let mut page = String::from(
            "# Command line\n\nGenerated from `crates/rcc/src/cli.rs` by its test (`RCC_UPDATE_DOCS=1 cargo test -p rcc`).\n",
        );
        let mut root = Cli::command().term_width(100);
        root.build();
        let mut commands = vec![("rcc".to_owned(), root.clone())];
        let own = root
            .get_subcommands()
            .filter(|command| command.get_name() != "help");
        for command in own {
            commands.push((format!("rcc {}", command.get_name()), command.clone()));
            let below = command
                .get_subcommands()
                .filter(|command| command.get_name() != "help");
            commands.extend(below.map(|below| {
                let name = format!("rcc {} {}", command.get_name(), below.get_name());
                (name, below.clone())
            }));
        }
        for (name, mut command) in commands {
            let help = command.render_long_help().to_string();
            let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
            write!(
                page,
                "\n## {name}\n\n```text\n{}\n```\n",
                lines.join("\n").trim_end()
            )
            .unwrap();
        }
        crate::documentation::check("cli.md", &page);
    }

    #[test]
    fn everything_after_the_name_of_an_agent_is_untouched() {
        for rest in [
            &["claude", "-p", "x", "--dangerously-skip-permissions"][..],
            &["claude", "-n"],
            &["claude", "--help"],
            &["claude", "--version"],
            &["claude", "--", "--", "-x"],
            &["claude", "--allow", "example.com"],
            &["claude", "run", "-"],
            &["claude"],
        ] {
            let line: Vec<&str> = ["rcc", "--allow", "example.com"]
                .iter()
                .chain(rest)
                .copied()
                .collect();
            assert_eq!(named(&line), rest);
            assert_eq!(parse(&line).flags.allow, ["example.com"]);
        }
    }

    #[test]
    fn the_long_form_of_an_agent_takes_flags_before_the_name_only() {
        let Some(Command::Agent(agent)) =
            parse(&["rcc", "agent", "-n", "codex", "-n", "--", "--help"]).command
        else {
            panic!("not an agent")
        };
        assert!(agent.flags.no_internet);
        assert_eq!(agent.command, ["codex", "-n", "--", "--help"]);
    }

    #[test]
    fn a_command_keeps_its_own_double_dash() {
        for line in [
            &["rcc", "run", "--", "sh", "-c", "x", "--", "y"][..],
            &["rcc", "run", "sh", "-c", "x", "--", "y"],
        ] {
            let Some(Command::Run(run)) = parse(line).command else {
                panic!("not a run")
            };
            assert_eq!(run.command, ["sh", "-c", "x", "--", "y"], "{line:?}");
        }
    }

    #[test]
    fn flags_before_and_after_the_command_are_joined() {
        let cli = parse(&[
            "rcc",
            "--allow",
            "a.example",
            "--network",
            "none",
            "run",
            "--allow",
            "b.example",
            "--network",
            "allowlist",
            "true",
        ]);
        let Some(Command::Run(run)) = cli.command else {
            panic!("not a run")
        };
        let flags = cli.flags.join(run.flags);
        assert_eq!(flags.allow, ["a.example", "b.example"]);
        assert_eq!(flags.network, Some(NetworkArg::Allowlist));
    }
}
