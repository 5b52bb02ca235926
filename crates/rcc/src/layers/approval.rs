//! Whether the project's policy counts: it does with the text that was approved, or with less than that.

use rcc_host::{Approval, Project};
use rcc_spec::{LayerKind, Layers, PolicyLayer, SourceName, merge, parse_rule_file, parse_toml};

use super::{LayerError, PROJECT_FILE, ProjectPolicy, SEPARATOR};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::registries::Presets;
use crate::{output, render};

/// Most pairs of rules that are compared to tell a widening; beyond it every change is one.
const COMPARED_PAIRS_LIMIT: usize = 20_000_000;
/// Most widenings that a refusal without a terminal names.
const WIDENINGS_SHOWN: usize = 5;
/// What to do with a project policy that was not approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unapproved {
    /// Ask on a terminal, refuse without one.
    Ask,
    /// Refuse, terminal or not.
    Refuse,
    /// Use it with a warning: nothing is run.
    Warn,
}

/// Makes sure that the project's policy was approved, asking if that is possible.
pub(super) fn approve(
    context: &Context,
    project: &Project,
    policy: &ProjectPolicy,
    others: &Layers,
    presets: &Presets<'_>,
    unapproved: Unapproved,
) -> Result<(), CliError> {
    let store = context.trust();
    let trust = |source| {
        CliError::new(
            Kind::Denied,
            LayerError::Trust {
                path: policy.path.clone(),
                source,
            },
        )
    };
    let mut before = None;
    let error = match store.check(&project.root, &policy.text).map_err(trust)? {
        Approval::Approved => return Ok(()),
        Approval::Changed { approved } => {
            before = approved_layer(&approved, presets);
            let narrower = |before| widenings(others, &policy.layer, before).is_empty();
            if before.as_ref().is_some_and(narrower) {
                return Ok(());
            }
            LayerError::Changed {
                path: policy.path.clone(),
            }
        }
        Approval::Unknown => LayerError::Unapproved {
            path: policy.path.clone(),
        },
    };
    let wider = before
        .as_ref()
        .map(|before| widenings(others, &policy.layer, before));
    match unapproved {
        Unapproved::Warn => {
            output::warn(&format!("{error}; no run uses it before `rcc trust`"));
            Ok(())
        }
        Unapproved::Ask if output::can_ask() => {
            output::note(&error.to_string());
            let sentences = render::sentences(&policy.layer, before.as_ref(), wider.as_deref());
            output::say(&sentences);
            if output::confirm("Approve this policy for this project?") {
                store.approve(&project.root, &policy.text).map_err(trust)
            } else {
                Err(CliError::new(Kind::Denied, error).hint("nothing was run"))
            }
        }
        Unapproved::Ask | Unapproved::Refuse => {
            let mut error = CliError::new(Kind::Denied, error);
            if let Some(wider) = wider {
                let more = wider.len().saturating_sub(WIDENINGS_SHOWN);
                let more = if more == 0 {
                    String::new()
                } else {
                    format!("; and {more} more")
                };
                let shown = wider
                    .get(..WIDENINGS_SHOWN.min(wider.len()))
                    .unwrap_or_default();
                error = error.hint(format!(
                    "it would also let an agent {}{more}",
                    shown.join("; ")
                ));
            }
            Err(error.hint("read it, then approve it with: rcc trust"))
        }
    }
}

/// What an approved text said, rule files of the project included. `None` when this version cannot read it any more.
/// Its presets mean what they mean now, so that only a change of the project's policy is compared.
pub(crate) fn approved_layer(text: &str, presets: &Presets<'_>) -> Option<PolicyLayer> {
    let mut parts = text.split(SEPARATOR);
    let mut layer = parse_toml(
        parts.next()?,
        &SourceName::file(PROJECT_FILE),
        LayerKind::Project,
    )
    .ok()?;
    layer.allow_files.clear();
    while let (Some(name), Some(content)) = (parts.next(), parts.next()) {
        let source = SourceName::file(name);
        layer.add_rules(parse_rule_file(name, content, &source).ok()?, &source);
    }
    presets.expand(&mut layer);
    Some(layer)
}

/// What the new layer allows that the approved one did not, with the other layers as they are. The flags may be others
/// next time, so it counts with them and without them.
fn widenings(others: &Layers, new: &PolicyLayer, approved: &PolicyLayer) -> Vec<String> {
    if new.allow.len().saturating_mul(approved.allow.len()) > COMPARED_PAIRS_LIMIT {
        return vec!["do what cannot be compared, because the rules are too many".to_owned()];
    }
    let with = |project: &PolicyLayer, flags: &PolicyLayer| {
        merge(Layers {
            project: project.clone(),
            flags: flags.clone(),
            ..others.clone()
        })
    };
    let mut found = Vec::new();
    for flags in [&PolicyLayer::default(), &others.flags] {
        for sentence in with(new, flags).widenings(&with(approved, flags)) {
            if !found.contains(&sentence) {
                found.push(sentence);
            }
        }
    }
    found
}
