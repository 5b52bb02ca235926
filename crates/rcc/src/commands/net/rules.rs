//! `rcc net rules`: the rules in force in a run, with their origins.

use std::fmt::Write as _;

use rcc_gateway::{Request, Response};

use super::client::Client;
use crate::cli::NetRulesArgs;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;
use crate::runs::one_live;

pub(super) fn run(args: &NetRulesArgs) -> Result<u8, CliError> {
    let mut client = Client::connect(&one_live(&args.run)?)?;
    let mut from = 0;
    loop {
        let Response::Rules {
            mode,
            ask_seconds,
            total,
            rules,
        } = client.ask(&Request::Rules { from })?
        else {
            return Err(client.confused());
        };
        let mut text = String::new();
        if from == 0 && !args.json {
            let asking = ask_seconds.map_or_else(String::new, |seconds| {
                format!(", asks and waits {seconds} s for the answer")
            });
            // Writing to a text cannot fail.
            let _ = writeln!(text, "mode {mode}{asking}");
        }
        for line in &rules {
            let effect = if line.allow { "allow" } else { "deny" };
            let (rule, origin) = (rcc_plan::escape(&line.rule), rcc_plan::escape(&line.origin));
            let _ = match args.json {
                true => {
                    let json = serde_json::json!({"effect": effect, "rule": line.rule, "origin": line.origin});
                    writeln!(text, "{json}")
                }
                false => writeln!(text, "{effect:5} {rule}  ({origin})"),
            };
        }
        output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
        from += rules.len();
        if rules.is_empty() || from >= total {
            return Ok(Exit::Success.into());
        }
    }
}
