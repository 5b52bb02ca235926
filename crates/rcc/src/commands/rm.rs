//! `rcc rm` and `rcc prune`: remove the records of runs that have ended.
//!
//! What a run's agent changed and nobody has decided about goes only when the run is named and `--force` is said. A run under
//! way is never removed, with `--force` neither.

use crate::cli::{PruneArgs, RmArgs};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::record::{Held, RemoveError, remove_ended};
use crate::runs::{Found, all, named, unreadable};

use super::stop::Outcome;

/// Why a record stays.
#[derive(Debug, thiserror::Error)]
enum RmError {
    #[error("the run {} is under way", rcc_plan::escape(id))]
    Live { id: String },
    #[error("the records of {count} runs were not removed")]
    Unconfirmed { count: usize },
}

/// Removes the records of these runs.
pub(crate) fn rm(args: &RmArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let undecided = match args.force {
        true => Held::Removed,
        false => Held::Kept,
    };
    let mut outcome = Outcome::default();
    for word in &args.runs {
        let removed = named(&context, word).and_then(|run| {
            if run.is_live {
                let id = run.description.id;
                return Err(CliError::new(Kind::User, RmError::Live { id })
                    .hint("end it first, with rcc stop"));
            }
            remove_ended(&run.record, undecided)?;
            tell(&run, args.json)
        });
        if let Err(error) = removed {
            outcome.note(error);
        }
    }
    outcome.result()
}

/// Removes the records of all runs that have ended, but of those with changes that wait.
pub(crate) fn prune(args: &PruneArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let mut ended = all(&context.directories.state);
    ended.retain(|run| !run.is_live);
    let (foreign, ended): (Vec<Found>, Vec<Found>) = ended
        .into_iter()
        .partition(|run| run.description.is_foreign());
    let unreadable = unreadable(&context.directories.state).into_iter();
    let unreadable = unreadable.filter_map(|record| record.file_name().map(rcc_plan::escape));
    let foreign = foreign
        .iter()
        .map(|run| rcc_plan::escape(&run.description.id));
    let foreign: Vec<String> = foreign.chain(unreadable).collect();
    if !foreign.is_empty() {
        output::note(&format!(
            "kept, because a newer rcc wrote them or they are damaged: {}",
            foreign.join(", ")
        ));
    }
    let (waiting, ended): (Vec<Found>, Vec<Found>) =
        ended.into_iter().partition(|run| run.holds_undecided());
    if !ended.is_empty() && !args.yes {
        let count = ended.len();
        let refused = CliError::new(Kind::User, RmError::Unconfirmed { count });
        if !output::can_ask() {
            return Err(refused.hint("without a terminal confirm it with: --yes"));
        }
        let question = format!(
            "Remove the records of {count} runs that have ended, with their logs, recordings and what rcc undo needs?"
        );
        if !output::confirm(&question) {
            return Err(refused);
        }
    }
    let mut outcome = Outcome::default();
    for run in ended {
        let removed = match remove_ended(&run.record, Held::Kept) {
            // Another command has it, removed it first, or made it wait: it is that one's business.
            Err(RemoveError::Busy { .. } | RemoveError::Undecided { .. }) => continue,
            Err(error) => Err(error.into()),
            Ok(()) => tell(&run, args.json),
        };
        if let Err(error) = removed {
            outcome.note(error);
        }
    }
    if !waiting.is_empty() {
        let ids = waiting
            .iter()
            .map(|run| rcc_plan::escape(&run.description.id));
        let ids: Vec<String> = ids.collect();
        output::note(&format!(
            "kept, because their changes wait for rcc apply, rcc undo or rcc discard: {}",
            ids.join(", ")
        ));
    }
    outcome.result()
}

/// Prints what was removed, at once: what follows may fail.
fn tell(run: &Found, as_json: bool) -> Result<u8, CliError> {
    let told = &run.description;
    let text = match as_json {
        true => serde_json::json!({"id": told.id, "name": told.name}).to_string(),
        false => rcc_plan::escape(&told.id),
    };
    output::result(&(text + "\n")).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}
