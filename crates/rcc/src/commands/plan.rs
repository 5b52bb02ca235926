//! `rcc plan`: what a run would do, as text or JSON; `--why HOST:PORT`: which rule decides about a connection.

use std::ffi::OsStr;
use std::net::IpAddr;

use rcc_spec::{Checks, Decision, HOST_NAME, HostName, NetworkMode, Protocol, RuleSet, Verdict};

use crate::cli::PlanArgs;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output::{self, Style};
use crate::render;
use crate::session::{self, What};

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhyError {
    /// Not a host and a port.
    #[error("cannot read {} as HOST:PORT", rcc_plan::escape(text))]
    Form { text: std::ffi::OsString },
    /// Not a host.
    #[error("cannot read {} as a host", rcc_plan::escape(text))]
    Host {
        text: String,
        #[source]
        source: rcc_spec::HostError,
    },
}

/// What is asked about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Name(HostName),
    Address(IpAddr),
}

pub(crate) fn run(args: PlanArgs) -> Result<u8, CliError> {
    let agent = args.agent.as_deref().map(OsStr::new);
    if let Some(question) = &args.why {
        return why(&args, agent, question);
    }
    let what = match (args.command.is_empty(), agent) {
        (true, Some(_)) => What::Agent(Vec::new()),
        (true, None) => What::Shell(Vec::new()),
        (false, _) => What::Command(args.command.clone()),
    };
    let session = session::show(&args.flags, agent, what)?;
    let text = if args.json {
        serde_json::to_string_pretty(&session.plan)
            .map(|json| json + "\n")
            .map_err(|error| CliError::new(Kind::Internal, error))?
    } else {
        render::plan(&session, Style::stdout())
    };
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

fn why(args: &PlanArgs, agent: Option<&OsStr>, question: &OsStr) -> Result<u8, CliError> {
    let hint = "examples: example.com:443, 203.0.113.7:22, [2001:db8::1]:443, example.com:53/udp";
    let (peer, port, protocol) =
        parse(question).map_err(|error| CliError::new(Kind::User, error).hint(hint))?;
    let policy = session::policy(&args.flags, agent)?;
    let rules = RuleSet::compile(&policy.network);
    let verdict = match &peer {
        Peer::Name(name) => rules.decide_name(name, port, protocol),
        Peer::Address(address) => rules.decide_address(*address, port, protocol),
    };
    let allowed = verdict.is_allow();
    let text = if args.json {
        let json = serde_json::json!({
            "host": match &peer { Peer::Name(name) => name.to_string(), Peer::Address(address) => address.to_string() },
            "port": port,
            "protocol": protocol,
            "allowed": allowed,
            "verdict": verdict,
            "mode": policy.network.mode,
            "mode_origin": policy.mode_origin.to_string(),
        });
        format!("{json:#}\n")
    } else {
        explain(
            &peer,
            &verdict,
            policy.network.mode,
            &policy.mode_origin.to_string(),
            Style::stdout(),
        )
    };
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(if allowed { Exit::Success } else { Exit::Denied }.into())
}

pub(crate) fn explain(
    peer: &Peer,
    verdict: &Verdict,
    mode: NetworkMode,
    mode_origin: &str,
    style: Style,
) -> String {
    let mut text = match verdict.decision {
        Decision::Allow => style.good("allowed"),
        Decision::Deny(reason) => {
            format!("{} ({}): {reason}", style.error("refused"), reason.code())
        }
        Decision::Ask => style.warning("would ask"),
    };
    text.push('\n');
    text.push_str(&format!(
        "  mode: {mode} ({})\n",
        rcc_plan::escape(mode_origin)
    ));
    match &verdict.rule {
        Some(rule) => text.push_str(&format!("  rule: {}\n", rcc_plan::escape(rule.to_string()))),
        None => text.push_str("  rule: none, the mode decides\n"),
    }
    let is_host = matches!(peer, Peer::Name(name) if name.as_str() == HOST_NAME);
    if verdict.is_allow() && is_host {
        text.push_str("  then: it leads to this port of 127.0.0.1 on the host, else of ::1\n");
    } else if verdict.is_allow() && matches!(peer, Peer::Name(_)) {
        text.push_str(
            "  then: the name is resolved on the host, and its address must be public and not the host's own,\n        \
             unless a rule names that address\n",
        );
        text.push_str(match verdict.checks {
            Checks::ByName => "  checked: TLS and plain HTTP must be for that name\n",
            Checks::Raw => "  checked: nothing of what is said there (raw)\n",
        });
    }
    text
}

/// Reads `HOST:PORT`, with brackets around IPv6 and an optional `/udp` or `/tcp`; the port is 443 if it is left out.
pub(crate) fn parse(question: &OsStr) -> Result<(Peer, u16, Protocol), WhyError> {
    let form = || WhyError::Form {
        text: question.to_owned(),
    };
    let text = question.to_str().ok_or_else(form)?;
    let (text, protocol) = match text.rsplit_once('/') {
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some(_) => return Err(form()),
        None => (text, Protocol::Tcp),
    };
    if let Ok(address) = text.parse() {
        return Ok((Peer::Address(address), 443, protocol));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port
                .parse()
                .ok()
                .filter(|port: &u16| *port != 0)
                .ok_or_else(form)?;
            (host, port)
        }
        None => (text, 443),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>()
        && (address.is_ipv6() == bare.is_some())
    {
        return Ok((Peer::Address(address), port, protocol));
    }
    if bare.is_some() {
        return Err(form());
    }
    let name = HostName::parse(host).map_err(|source| WhyError::Host {
        text: host.to_owned(),
        source,
    })?;
    Ok((Peer::Name(name), port, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_in_every_form() {
        let name = |text: &str| Peer::Name(HostName::parse(text).unwrap());
        let address = |text: &str| Peer::Address(text.parse().unwrap());
        for (text, expected) in [
            ("example.com:22", (name("example.com"), 22, Protocol::Tcp)),
            ("Example.COM", (name("example.com"), 443, Protocol::Tcp)),
            (
                "example.com:53/udp",
                (name("example.com"), 53, Protocol::Udp),
            ),
            (
                "203.0.113.7:80",
                (address("203.0.113.7"), 80, Protocol::Tcp),
            ),
            ("2001:db8::1", (address("2001:db8::1"), 443, Protocol::Tcp)),
            (
                "[2001:db8::1]:80",
                (address("2001:db8::1"), 80, Protocol::Tcp),
            ),
        ] {
            assert_eq!(parse(OsStr::new(text)).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "example.com:",
            "example.com:0",
            "example.com:99999",
            "a b:1",
            "[203.0.113.7]:1",
            "[x]:1",
            "x:1/sctp",
        ] {
            assert!(parse(OsStr::new(bad)).is_err(), "{bad}");
        }
    }
}
