//! `rcc doctor`: what works on this host, what is missing, and the fix.

use std::fmt::Write as _;

use rcc_host::doctor::{Finding, Need, Status, examine, usable};

use crate::cli::DoctorArgs;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output::{self, Style};

pub(crate) fn run(args: &DoctorArgs) -> Result<u8, CliError> {
    let findings = examine(&std::env::vars_os().collect());
    let works = usable(&findings);
    let text = if args.json {
        let value = serde_json::json!({ "usable": works, "findings": findings });
        format!("{value:#}\n")
    } else {
        table(&findings, works, Style::stdout())
    };
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(if works { Exit::Success } else { Exit::Failed }.into())
}

fn table(findings: &[Finding], works: bool, style: Style) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.name.len())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for finding in findings {
        let word = match (finding.status, finding.need) {
            (Status::Ok, _) => style.good("ok      "),
            (Status::Degraded, _) => style.warning("weaker  "),
            (Status::Missing, Need::Required) => style.error("MISSING "),
            (Status::Missing, Need::Optional) => style.warning("absent  "),
        };
        let _ = writeln!(
            out,
            "{word} {:width$}  {}",
            finding.name,
            rcc_plan::escape(&finding.detail)
        );
    }
    let wrong: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.status != Status::Ok)
        .collect();
    for finding in &wrong {
        let _ = writeln!(out, "\n{}: {}", style.title(finding.name), finding.protects);
        if let Some(fix) = &finding.fix {
            let _ = writeln!(
                out,
                "  {} {}",
                style.hint("fix:"),
                rcc_plan::escape(&fix.text)
            );
            for command in &fix.commands {
                let _ = writeln!(out, "    {}", rcc_plan::escape(command));
            }
        }
    }
    let verdict = if works {
        style.good("The native engine can run here.")
    } else {
        style.error("The native engine cannot run here.")
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_host::doctor::Fix;

    fn finding(name: &'static str, status: Status, need: Need, fix: Option<Fix>) -> Finding {
        Finding {
            name,
            status,
            need,
            protects: "something",
            detail: "found \u{1b}[2J".into(),
            fix,
        }
    }

    #[test]
    fn what_is_missing_is_shown_with_its_fix_and_escaped() {
        let fix = Fix {
            text: "switch it on".into(),
            commands: vec!["sysctl x=1".into()],
        };
        let findings = [
            finding("kernel", Status::Ok, Need::Required, None),
            finding(
                "user namespaces",
                Status::Missing,
                Need::Required,
                Some(fix),
            ),
        ];
        assert_eq!(
            table(&findings, usable(&findings), Style::Plain),
            "ok       kernel           found \\u{1b}[2J\n\
             MISSING  user namespaces  found \\u{1b}[2J\n\
             \nuser namespaces: something\n  fix: switch it on\n    sysctl x=1\n\
             \nThe native engine cannot run here.\n"
        );
    }
}
