//! `rcc undo`: takes the last `rcc apply` back.

use rcc_host::cow::{Held, close, held, undo};

use crate::cli::UndoArgs;
use crate::context::Context;
use crate::cow::{self, Applied};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &UndoArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let applied = cow::applied(&context, &args.choice, args.id.as_deref())?;
    let _held = applied.lock()?;
    let _alone = cow::alone(&context, &applied.project)?;
    if held(&applied.record)? == Some(Held::Snapshot) {
        return killed(&applied);
    }
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

/// Of a run that was killed nobody knows when it ended: what differs from its snapshot may be the user's. That is written
/// down now and left for a second look.
fn killed(run: &Applied) -> Result<u8, CliError> {
    let changed = close(&run.record)?.map_or(0, |closed| closed.changed);
    if changed == 0 {
        output::note("nothing differs from the snapshot");
        return Ok(Exit::Success.into());
    }
    output::warn(&format!(
        "the run {} was killed, so what you changed afterwards cannot be told from what it changed; {changed} entries differ from its snapshot. rcc diff {} shows them, and rcc undo once more takes all of them back",
        run.id, run.id
    ));
    Ok(Exit::Denied.into())
}
