//! `rcc net …`: the network of runs. One file for each subcommand.

mod learn;

use crate::cli::{NetArgs, NetCommand, RunFlags};
use crate::error::CliError;

pub(crate) fn run(flags: RunFlags, args: NetArgs) -> Result<u8, CliError> {
    match args.command {
        NetCommand::Learn(mut args) => {
            args.flags = flags.join(args.flags);
            learn::run(args)
        }
    }
}
