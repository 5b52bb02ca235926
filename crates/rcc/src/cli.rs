//! The command line: every command and flag once. Help, man pages and completions come from here.
//!
//! What follows an agent's name belongs to the agent: `rcc [FLAGS] claude ARGS…` hands every argument on unread, `-n`,
//! `--help` and `--` included. rcc's own flags stand before the name. Must not read or write anything.

mod changes;
mod home;
mod limits;
mod net;
mod run;
mod runs;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

pub(crate) use changes::{ApplyArgs, ChangesChoice, DiffArgs, DiscardArgs, RedoArgs, UndoArgs};
pub(crate) use home::{HomeArgs, HomeCommand, HomeListArgs, HomeResetArgs, HomeShowArgs};
pub(crate) use limits::LimitFlags;
pub(crate) use net::{
    LearnArgs, LearnFormat, NetArgs, NetAskArgs, NetChangeArgs, NetCommand, NetLogArgs,
    NetRulesArgs, NetRunsArgs, NetTestArgs, RunChoice,
};
pub(crate) use run::{AgentArgs, NetworkArg, PlanArgs, RunArgs, RunFlags, ShellArgs};
pub(crate) use runs::{
    AttachArgs, ExecArgs, InspectArgs, KillArgs, LogsArgs, PruneArgs, PsArgs, RmArgs, StatsArgs,
    StopArgs, WaitArgs,
};

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
