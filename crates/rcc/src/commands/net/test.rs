//! `rcc net test HOST:PORT`: the verdict of the running policy, and whether the connection can be made.

use rcc_gateway::{Reached, Request, Response};
use rcc_spec::{Protocol, RuleSet, Verdict};

use super::client::Client;
use crate::cli::{NetTestArgs, RunFlags};
use crate::commands::plan::{Peer, explain, parse};
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output::{self, Style};
use crate::runs::live;
use crate::session;

pub(super) fn run(flags: &RunFlags, args: &NetTestArgs) -> Result<u8, CliError> {
    let hint = "examples: example.com:443, 203.0.113.7:22, [2001:db8::1]:443, example.com:53/udp";
    let (peer, port, protocol) =
        parse(&args.target).map_err(|error| CliError::new(Kind::User, error).hint(hint))?;
    let host = match &peer {
        Peer::Name(name) => name.to_string(),
        Peer::Address(address) => address.to_string(),
    };
    let (verdict, reached, run, mode) = match live(&args.run)? {
        Some(run) => {
            let mut client = Client::connect(&run)?;
            let request = Request::Test {
                host: host.clone(),
                port,
                protocol,
            };
            let Response::Tested { verdict, reached } = client.ask(&request)? else {
                return Err(client.confused());
            };
            let Response::Rules { mode, .. } = client.ask(&Request::Rules { from: usize::MAX })?
            else {
                return Err(client.confused());
            };
            let id = run.description.id;
            (
                verdict,
                reached,
                Some(id.clone()),
                (mode, format!("run {id}")),
            )
        }
        None => {
            let policy = session::policy(flags, None)?;
            let rules = RuleSet::compile(&policy.network);
            let verdict = match &peer {
                Peer::Name(name) => rules.decide_name(name, port, protocol),
                Peer::Address(address) => rules.decide_address(*address, port, protocol),
            };
            let origin = policy.mode_origin.to_string();
            (verdict, None, None, (policy.network.mode, origin))
        }
    };
    let is_allowed = is_allowed(&verdict, reached.as_ref());
    let text = if args.json {
        let json = serde_json::json!({"host": host, "port": port, "protocol": protocol, "run": run,
            "allowed": is_allowed, "verdict": verdict, "reached": reached});
        format!("{json}\n")
    } else {
        let mut text = explain(&peer, &verdict, mode.0, &mode.1, Style::stdout());
        text.push_str(&tell(reached.as_ref(), protocol, run.as_deref(), &verdict));
        text
    };
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(if is_allowed {
        Exit::Success
    } else {
        Exit::Denied
    }
    .into())
}

/// Codes of a [`Reached`] that are the world's fault and no refusal.
const WORLD: [&str; 10] = [
    "proxy_unreachable",
    "proxy_refused",
    "proxy_garbled",
    "proxy_closed",
    "proxy_timeout",
    "no_address",
    "no_such_name",
    "lookup_failed",
    "connect_failed",
    "route_unknown",
];

/// Whether policy lets the connection through, the address behind the name included.
fn is_allowed(verdict: &Verdict, reached: Option<&Reached>) -> bool {
    let code = reached.and_then(|reached| reached.code.as_deref());
    verdict.is_allow() && code.is_none_or(|code| WORLD.contains(&code))
}

fn tell(
    reached: Option<&Reached>,
    protocol: Protocol,
    run: Option<&str>,
    verdict: &Verdict,
) -> String {
    let Some(reached) = reached else {
        return match run {
            None if verdict.is_allow() => {
                "  tried: nothing, because no run is under way here\n".to_owned()
            }
            _ => String::new(),
        };
    };
    let address = reached
        .address
        .map_or_else(String::new, |address| format!(" {address}"));
    match (&reached.code, &reached.reason) {
        (Some(code), reason) => {
            let reason = rcc_plan::escape(reason.as_deref().unwrap_or_default());
            format!("  tried:{address} {reason} ({})\n", rcc_plan::escape(code))
        }
        (None, _) => match protocol {
            Protocol::Tcp => format!("  tried:{address} accepts connections\n"),
            Protocol::Udp => "  tried: nothing, because datagrams have no handshake\n".to_owned(),
        },
    }
}
