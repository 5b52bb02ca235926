//! Goes on with every `rcc discard` that was interrupted. Must not throw away what nobody discarded.

use std::path::PathBuf;

use rcc_host::cow::{Held, finish_removal, held, remove_snapshot};

use super::lock;
use crate::cli::ChangesChoice;
use crate::context::Context;
use crate::error::CliError;
use crate::runs;

/// A run whose removal is complete now.
#[derive(Debug)]
struct Discarded {
    id: String,
    name: Option<String>,
    project: PathBuf,
    /// It was a layer, and no snapshot.
    is_layer: bool,
}

/// Completes what was interrupted; whether that was what the caller asks for, so that nothing else may be thrown away.
pub(crate) fn finish_discards(
    context: &Context,
    choice: &ChangesChoice,
    word: Option<&str>,
) -> Result<bool, CliError> {
    let mut finished = Vec::new();
    for run in runs::all(&context.directories.state) {
        let (id, record) = (run.description.id, run.record);
        // A snapshot is removed from its index on; one without was never finished, or is half gone.
        let is_snapshot =
            matches!(held(&record), Ok(Some(Held::Part))) || record.join("undo-removed").is_dir();
        let is_layer = record.join("cow-removed").is_dir();
        if run.is_live || !(is_snapshot || is_layer) {
            continue;
        }
        let Ok(_held) = lock(&id, &record) else {
            continue;
        };
        finish_removal(&record)?;
        if is_snapshot {
            remove_snapshot(&record)?;
        }
        finished.push(Discarded {
            id,
            name: run.description.name,
            project: run.description.project.as_path().to_owned(),
            is_layer,
        });
    }
    if finished.is_empty() {
        return Ok(false);
    }
    if let Some(word) = choice.run.as_deref().or(word) {
        return Ok(finished
            .iter()
            .any(|run| run.id.starts_with(word) || run.name.as_deref() == Some(word)));
    }
    let project = rcc_host::discover(
        choice.project.as_deref(),
        &context.account,
        &context.directories,
    )?
    .root;
    Ok(finished
        .iter()
        .any(|run| run.is_layer && run.project == project))
}
