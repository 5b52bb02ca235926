//! `rcc discard`: throws away what a copy-on-write run changed.

use crate::cli::DiscardArgs;
use crate::context::Context;
use crate::cow;
use crate::error::CliError;
use crate::exit::Exit;

pub(crate) fn run(args: &DiscardArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let run = cow::choose(&context, &args.choice, args.id.as_deref())?;
    let _held = run.lock()?;
    cow::refuse_open(&run)?;
    run.layer.remove()?;
    Ok(Exit::Success.into())
}
