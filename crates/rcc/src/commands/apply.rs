//! `rcc apply`: carries what a copy-on-write run changed over into the project.

use rcc_host::cow::{Choice, apply, has_open};
use rcc_spec::is_host_executed;

use crate::cli::ApplyArgs;
use crate::context::Context;
use crate::cow;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &ApplyArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let (id, paths) = cow::split(&context, &args.words);
    let mut run = cow::choose(&context, &args.choice, id.as_deref())?;
    let _held = run.lock()?;
    let _alone = cow::alone_in(&context, run.roots())?;
    let mut choices = run.choices(&paths, &args.overwrite)?;
    if args.patch {
        cow::require_terminal()?;
        if has_open(&run.record)? {
            // What was chosen then is finished first, and nothing else.
            let nothing: Vec<Option<Choice>> = vec![None; choices.len()];
            let outcome = apply(&mut run.layers, &run.record, &nothing, &is_host_executed)?;
            let count = outcome.applied;
            output::note(&format!(
                "finished the rcc apply that was interrupted: {count} entries"
            ));
        }
        cow::pick(&run, &mut choices, &is_host_executed)?;
    }
    let outcome = apply(&mut run.layers, &run.record, &choices, &is_host_executed)?;
    for (path, why) in &outcome.held {
        output::note(&format!("held back: {} ({why})", rcc_plan::escape(path)));
    }
    for (path, what) in &outcome.remarks {
        output::note(&format!("applied {what}: {}", rcc_plan::escape(path)));
    }
    for path in &outcome.conflicts {
        output::note(&format!(
            "conflict: {} was changed by you after the run began",
            rcc_plan::escape(path)
        ));
    }
    if outcome.conflicts.is_empty() {
        let files = if outcome.applied == 1 {
            "entry"
        } else {
            "entries"
        };
        output::note(&format!(
            "applied {} {files}; rcc undo takes them back",
            outcome.applied
        ));
        return Ok(Exit::Success.into());
    }
    let what = if outcome.applied == 0 {
        "nothing was applied"
    } else {
        "they were left as they are"
    };
    output::note(&format!(
        "{what}; apply other paths, or take the agent's version with --overwrite PATH"
    ));
    Ok(Exit::Denied.into())
}
