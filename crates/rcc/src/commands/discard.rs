//! `rcc discard`: throws away what a copy-on-write run changed.

use rcc_host::cow::remove_snapshot;

use crate::cli::DiscardArgs;
use crate::context::Context;
use crate::cow;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &DiscardArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    if cow::finish_discards(&context, &args.choice, args.id.as_deref())? {
        output::note("finished the rcc discard that was interrupted");
        return Ok(Exit::Success.into());
    }
    // A snapshot goes only when its run is named: it is the one thing that leads back.
    if let Some(word) = args.choice.run.as_deref().or(args.id.as_deref())
        && let Some(run) = cow::direct::kept(&context, word)?
    {
        let _held = cow::lock(&run.id, &run.record)?;
        let _alone = cow::alone(&context, &run.project)?;
        remove_snapshot(&run.record)?;
        return Ok(Exit::Success.into());
    }
    let run = cow::choose(&context, &args.choice, args.id.as_deref())?;
    let _held = run.lock()?;
    cow::refuse_open(&run)?;
    run.layers.remove()?;
    Ok(Exit::Success.into())
}
