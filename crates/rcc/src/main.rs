//! The rcc binary: parses the command line, calls one command, turns its result into text and an exit code.
#![forbid(unsafe_code)]

mod agents;
mod audit_file;
mod cli;
mod commands;
mod context;
mod control;
mod cow;
mod desk;
mod detach;
#[cfg(test)]
mod documentation;
mod error;
mod exit;
mod growth;
mod handed;
mod install;
mod layers;
mod leftovers;
mod limits;
mod output;
mod own_limits;
mod publish;
mod record;
mod registries;
mod render;
mod run;
mod runs;
mod session;
mod shared_state;
mod unprotected;
mod upstream_proxy;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use rcc_native::Early;

use crate::cli::{Cli, Command};
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output::Style;

fn main() -> ExitCode {
    // pid 1 of a sandbox, its guard and what joins it are this program under other names.
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == rcc_native::STAGE_NAME)
    {
        return ExitCode::from(u8::try_from(rcc_native::stage_main()).unwrap_or(u8::MAX));
    }
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == rcc_native::GUARD_NAME)
    {
        return ExitCode::from(u8::try_from(rcc_native::guard_main()).unwrap_or(u8::MAX));
    }
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == rcc_native::EXEC_NAME)
    {
        return ExitCode::from(u8::try_from(rcc_native::exec_main()).unwrap_or(u8::MAX));
    }
    if let Err(error) = own_limits::check() {
        output::say(&error.render(Style::stderr()));
        return error.exit().into();
    }
    let early = commands::run::foresee(std::env::args_os().skip(1));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(cli, early) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::say(&error.render(Style::stderr()));
            error.exit().into()
        }
    }
}

/// Calls the command; the result is the exit code of rcc. `early` is for `rcc run` alone.
fn dispatch(cli: Cli, early: Option<Early>) -> Result<u8, CliError> {
    let Cli { flags, command } = cli;
    let early = early.filter(|_| matches!(command, Some(Command::Run(_))));
    match command {
        Some(Command::Init(args)) => commands::init::run(args),
        Some(Command::Run(args)) => commands::run::run(flags.join(args.flags), args.command, early),
        Some(Command::Shell(args)) => commands::shell::run(flags.join(args.flags), args.arguments),
        Some(Command::Agent(args)) => agent(flags.join(args.flags), args.command),
        Some(Command::Named(words)) => agent(flags, words),
        Some(Command::Plan(mut args)) => {
            args.flags = flags.join(args.flags);
            commands::plan::run(args)
        }
        Some(Command::Diff(args)) => commands::diff::run(&args),
        Some(Command::Apply(args)) => commands::apply::run(&args),
        Some(Command::Undo(args)) => commands::undo::run(&args),
        Some(Command::Redo(args)) => commands::redo::run(&args),
        Some(Command::Discard(args)) => commands::discard::run(&args),
        Some(Command::Ps(args)) => commands::ps::run(&args),
        Some(Command::Home(args)) => commands::home::run(args),
        Some(Command::Stop(args)) => commands::stop::stop(&args),
        Some(Command::Kill(args)) => commands::stop::kill(&args),
        Some(Command::Rm(args)) => commands::rm::rm(&args),
        Some(Command::Prune(args)) => commands::rm::prune(&args),
        Some(Command::Exec(args)) => commands::exec::run(args),
        Some(Command::Attach(args)) => commands::attach::run(&args),
        Some(Command::Logs(args)) => commands::logs::run(&args),
        Some(Command::Wait(args)) => commands::attach::wait(&args),
        Some(Command::Inspect(args)) => commands::inspect::run(&args),
        Some(Command::Stats(args)) => commands::stats::run(&args),
        Some(Command::Doctor(args)) => commands::doctor::run(&args),
        Some(Command::Trust(args)) => commands::trust::run(args),
        Some(Command::Net(args)) => commands::net::run(flags, args),
        Some(Command::Completions(args)) => commands::completions::run(&args),
        Some(Command::Man(args)) => commands::man::run(args),
        None if flags.shell => commands::shell::run(flags, Vec::new()),
        None => {
            output::say(&Cli::command().render_help().to_string());
            Ok(Exit::Failed.into())
        }
    }
}

/// Splits `NAME ARGS…` and runs the agent of that name.
fn agent(flags: cli::RunFlags, words: Vec<OsString>) -> Result<u8, CliError> {
    let mut words = words.into_iter();
    match words.next() {
        Some(name) => commands::agent::run(flags, name, words.collect()),
        None => Err(CliError::new(Kind::User, "no agent was named").hint("rcc agent NAME [ARGS]")),
    }
}

/// Shows help, the version, or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        // Arguments are repeated in it.
        let lines: Vec<String> = text.trim_end().lines().map(rcc_plan::escape).collect();
        output::say(&(lines.join("\n") + "\n"));
        Exit::Failed.into()
    } else {
        match output::result(&text) {
            Ok(()) => Exit::Success.into(),
            Err(_) => Exit::Failed.into(),
        }
    }
}
