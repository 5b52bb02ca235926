//! `rcc trust`: approve, list and revoke the policies of projects.

use std::path::{Path, PathBuf};

use rcc_host::{Approval, TrustError, discover};

use crate::cli::TrustArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::layers::{PROJECT_FILE, approved_layer, project_policy};
use crate::output::{self, Style};
use crate::registries::Presets;
use crate::render;

/// A policy that cannot be approved or revoked.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// The project has no policy file.
    #[error("there is no {PROJECT_FILE} in {}", rcc_plan::escape(project))]
    NoPolicy { project: PathBuf },
    /// The user said no, or could not be asked.
    #[error("the policy of {} was not approved", rcc_plan::escape(project))]
    NotApproved { project: PathBuf },
    /// There was no approval.
    #[error("no policy was approved for {}", rcc_plan::escape(project))]
    NothingToRevoke { project: PathBuf },
}

pub(crate) fn run(args: TrustArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    if args.list {
        return list(&context, args.json);
    }
    // The policy file itself may be named instead of its directory.
    let named = args.path.map(|path| match path.file_name() {
        Some(name) if name == PROJECT_FILE => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        },
        _ => path,
    });
    if args.revoke {
        return revoke(&context, named.as_deref());
    }
    let project = discover(named.as_deref(), &context.account, &context.directories)?;
    let Some(mut policy) = project_policy(&context, &project)? else {
        return Err(CliError::new(
            Kind::User,
            Refusal::NoPolicy {
                project: project.root,
            },
        )
        .hint("rcc init writes one"));
    };
    let presets = Presets::new(&context, &project, [&policy.layer]);
    presets.expand(&mut policy.layer);
    let store = context.trust();
    let before = match store.check(&project.root, &policy.text).map_err(failed)? {
        Approval::Approved => {
            output::note(&format!(
                "{} is approved already",
                rcc_plan::escape(&policy.path)
            ));
            return Ok(Exit::Success.into());
        }
        Approval::Changed { approved } => approved_layer(&approved, &presets),
        Approval::Unknown => None,
    };
    output::note(&format!("{} lets an agent", rcc_plan::escape(&policy.path)));
    output::say(&render::sentences(&policy.layer, before.as_ref(), None));
    for note in presets.notes() {
        output::note(&rcc_plan::escape(note));
    }
    let agreed =
        args.yes || (output::can_ask() && output::confirm("Approve this policy for this project?"));
    if !agreed {
        let error = CliError::new(
            Kind::Denied,
            Refusal::NotApproved {
                project: project.root,
            },
        );
        return Err(if output::can_ask() {
            error
        } else {
            error.hint("without a terminal approve it with: rcc trust --yes")
        });
    }
    store.approve(&project.root, &policy.text).map_err(failed)?;
    output::note(&format!("approved {}", rcc_plan::escape(&policy.path)));
    Ok(Exit::Success.into())
}

fn revoke(context: &Context, named: Option<&Path>) -> Result<u8, CliError> {
    // A project that is gone can still be revoked.
    let project = match named.map(std::path::absolute) {
        Some(Ok(path)) => std::fs::canonicalize(&path).unwrap_or(path),
        Some(Err(error)) => return Err(CliError::new(Kind::User, error)),
        None => discover(None, &context.account, &context.directories)?.root,
    };
    if context.trust().revoke(&project).map_err(failed)? {
        output::note(&format!(
            "the policy of {} is not approved any more",
            rcc_plan::escape(&project)
        ));
        Ok(Exit::Success.into())
    } else {
        Err(
            CliError::new(Kind::User, Refusal::NothingToRevoke { project })
                .hint("rcc trust --list"),
        )
    }
}

fn list(context: &Context, json: bool) -> Result<u8, CliError> {
    let approvals = context.trust().list().map_err(failed)?;
    let text = if json {
        let values: Vec<_> = approvals
            .iter()
            .map(|approval| {
                serde_json::json!({
                    "project": approval.project,
                    "sha256": approval.sha256,
                    "approved_at_s": approval.approved_at_s,
                })
            })
            .collect();
        format!("{:#}\n", serde_json::Value::from(values))
    } else {
        let style = Style::stdout();
        approvals
            .iter()
            .map(|approval| {
                format!(
                    "{} {}\n",
                    style.dim(&approval.sha256[..12.min(approval.sha256.len())]),
                    approval.project
                )
            })
            .collect()
    };
    output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

fn failed(error: TrustError) -> CliError {
    CliError::new(Kind::Host, error)
        .hint("the store is below $XDG_STATE_HOME/rcc/trust; a damaged record can be removed")
}
