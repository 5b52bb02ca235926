//! `rcc undo`: takes the last `rcc apply` back, or what a direct run with a snapshot changed.

use std::io::ErrorKind;
use std::path::PathBuf;

use rcc_host::cow::{Afterwards, CowError, Direction, Held, Undone, close, held, undo};

use crate::cli::UndoArgs;
use crate::context::Context;
use crate::cow::{self, Applied};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &UndoArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let applied = cow::applied(&context, &args.choice, args.id.as_deref(), Direction::Undo)?;
    let _held = applied.lock()?;
    let _alone = cow::alone_in(&context, applied.roots.iter().map(PathBuf::as_path))?;
    if held(&applied.record)? == Some(Held::Snapshot) {
        return killed(&applied);
    }
    let afterwards = match args.forget {
        true => Afterwards::Nothing,
        false => Afterwards::Redo,
    };
    let undone = undo(&applied.record, afterwards).map_err(|error| {
        let is_full = is_full(&error);
        let error = CliError::from(error);
        match is_full {
            true => error.hint("make room, or keep nothing of what goes: rcc undo --forget"),
            false => error,
        }
    })?;
    let Some(undone) = undone else {
        return Err(applied.nothing(Direction::Undo));
    };
    let next = match afterwards {
        Afterwards::Redo => "; rcc redo brings them again",
        Afterwards::Nothing => "",
    };
    Ok(tell(&undone, "took", next))
}

/// Whether there was no room to keep what goes.
fn is_full(error: &CowError) -> bool {
    matches!(error, CowError::Call { source, .. }
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// Says what became of the entries; the exit code.
pub(super) fn tell(undone: &Undone, what: &str, next: &str) -> u8 {
    for path in &undone.conflicts {
        output::note(&format!(
            "left alone: {} was changed since",
            rcc_plan::escape(path)
        ));
    }
    for path in &undone.lost {
        output::note(&format!(
            "not kept: {}, which is no file, or cannot be read",
            rcc_plan::escape(path)
        ));
    }
    let entries = match undone.restored {
        1 => "entry",
        _ => "entries",
    };
    output::note(&format!("{what} {} {entries} back{next}", undone.restored));
    match undone.conflicts.is_empty() {
        true => Exit::Success.into(),
        false => Exit::Denied.into(),
    }
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
