//! `rcc net …`: the network of runs. One file for each subcommand.

mod ask;
mod change;
mod client;
mod learn;
mod log;
mod rules;
mod runs;
mod test;

use crate::cli::{NetArgs, NetCommand, RunFlags};
use crate::error::CliError;

pub(crate) fn run(flags: RunFlags, args: NetArgs) -> Result<u8, CliError> {
    match args.command {
        NetCommand::Learn(mut args) => {
            args.flags = flags.join(args.flags);
            learn::run(*args)
        }
        NetCommand::Runs(args) => runs::run(&args),
        NetCommand::Rules(args) => rules::run(&args),
        NetCommand::Allow(args) => change::run(&args, change::Direction::Allow),
        NetCommand::Deny(args) => change::run(&args, change::Direction::Deny),
        NetCommand::Log(args) => log::run(&args),
        NetCommand::Test(args) => test::run(&flags, &args),
        NetCommand::Ask(args) => ask::run(&args),
    }
}
