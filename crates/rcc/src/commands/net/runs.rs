//! `rcc net runs`: lists the runs under way with their networks.

use crate::cli::NetRunsArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::runs::all;

pub(super) fn run(args: &NetRunsArgs) -> Result<u8, CliError> {
    let mut text = String::new();
    let state = Context::load()?.directories.state;
    for found in all(&state).into_iter().filter(|run| run.is_live) {
        let run = found.description;
        if args.json {
            let json = serde_json::json!({"id": run.id, "project": run.project, "agent": run.agent,
                "network": run.network, "started_at_ms": run.started_at_ms});
            text.push_str(&format!("{json}\n"));
        } else {
            let project = rcc_plan::escape(run.project.as_os_str());
            let network = rcc_plan::escape(&run.network);
            text.push_str(&format!(
                "{}  {network}  {project}\n",
                rcc_plan::escape(&run.id)
            ));
        }
    }
    if text.is_empty() && !args.json {
        output::note("nothing runs");
    }
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}
