//! `rcc redo`: brings again what the last `rcc undo` took back.

use std::path::PathBuf;

use rcc_host::cow::{Direction, redo};

use super::undo::tell;
use crate::cli::RedoArgs;
use crate::context::Context;
use crate::cow;
use crate::error::CliError;

pub(crate) fn run(args: &RedoArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let undone = cow::applied(&context, &args.choice, args.id.as_deref(), Direction::Redo)?;
    let _held = undone.lock()?;
    let _alone = cow::alone_in(&context, undone.roots.iter().map(PathBuf::as_path))?;
    let Some(redone) = redo(&undone.record)? else {
        return Err(undone.nothing(Direction::Redo));
    };
    Ok(tell(&redone, "brought", "; rcc undo takes them away again"))
}
