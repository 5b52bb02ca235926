//! `rcc inspect`: everything known about runs, as JSON.
//!
//! The plan is told while the run lasts only: it holds the agent's environment, which is not written down.

use crate::cli::InspectArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::runs::named;
use crate::{desk, output};

pub(crate) fn run(args: &InspectArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let mut all = Vec::new();
    for word in &args.runs {
        let run = named(&context, word)?;
        let mut told = super::ps::json(&run);
        told["record"] = serde_json::json!(rcc_plan::SafeBytes::from(run.record.as_path()));
        if run.is_live {
            let status = desk::reach(&run)?
                .status()
                .map_err(|error| desk::failed(&run, error))?;
            told["init_pid"] = status.init.into();
            told["plan"] = serde_json::to_value(status.plan)
                .map_err(|error| CliError::new(Kind::Internal, error))?;
        }
        all.push(told);
    }
    let text =
        serde_json::to_string_pretty(&all).map_err(|error| CliError::new(Kind::Internal, error))?;
    output::result(&(text + "\n")).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}
