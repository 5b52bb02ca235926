//! `rcc undo`: takes the last `rcc apply` back.

use rcc_host::cow::undo;

use crate::cli::UndoArgs;
use crate::context::Context;
use crate::cow;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &UndoArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let applied = cow::applied(&context, &args.choice, args.id.as_deref())?;
    let _held = applied.lock()?;
    let _alone = cow::alone(&context, &applied.project)?;
    let Some(undone) = undo(&applied.record)? else {
        return Err(applied.nothing());
    };
    for path in &undone.conflicts {
        output::note(&format!(
            "left alone: {} was changed since",
            rcc_plan::escape(path)
        ));
    }
    let entries = if undone.restored == 1 {
        "entry"
    } else {
        "entries"
    };
    output::note(&format!("took {} {entries} back", undone.restored));
    Ok(if undone.conflicts.is_empty() {
        Exit::Success.into()
    } else {
        Exit::Denied.into()
    })
}
