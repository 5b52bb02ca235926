//! The policy reference lists every key that the parser knows, and no other.
//!
//! The parser's tables are read as text: a key is a string in a constant list of `toml_policy.rs`. It must not become a
//! second parser of the policy.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;

use super::markdown::{self, Page};
use crate::{gates::Report, workspace::Workspace};

const PAGE: &str = "docs/policy.md";
const PARSER: &str = "crates/spec/src/toml_policy.rs";

/// Compares the first column of the page's table with the parser's constants.
pub(super) fn check(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let known = keys(&workspace.read(Path::new(PARSER))?.unwrap_or_default());
    let page = Page::parse(&workspace.read(Path::new(PAGE))?.unwrap_or_default());
    let first_cell = |text: &str| {
        text.trim()
            .strip_prefix("| `")
            .map(|_| markdown::code_spans(text).remove(0))
    };
    let documented: BTreeSet<String> = page
        .lines
        .iter()
        .filter_map(|line| first_cell(&line.text))
        .collect();
    if known.is_empty() {
        report.problem(format!("{PARSER}: no key found, this check checks nothing"));
    }
    for key in known.difference(&documented) {
        report.problem(format!("{PAGE}: does not explain `{key}`"));
    }
    for key in documented.difference(&known) {
        report.problem(format!(
            "{PAGE}: explains `{key}`, which the parser does not know"
        ));
    }
    report.note(format!("{} policy keys", known.len()));
    Ok(())
}

/// `network.mode` for every string of `const NETWORK` whose name is in `const TOP`, and the plain entries of `TOP`.
fn keys(source: &str) -> BTreeSet<String> {
    let Some(top) = list(source, "TOP") else {
        return BTreeSet::new();
    };
    top.into_iter()
        .flat_map(|name| match list(source, &name.to_uppercase()) {
            Some(inner) => inner
                .into_iter()
                .map(|key| format!("{name}.{key}"))
                .collect(),
            None => vec![name],
        })
        .collect()
}

/// The strings of `const NAME: &[&str] = &[…];`.
fn list(source: &str, name: &str) -> Option<Vec<String>> {
    let start = source.find(&format!("const {name}: &[&str] = &["))?;
    let body = source[start..].split_once("= &[")?.1.split_once("];")?.0;
    Some(
        body.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_the_constants() {
        let source = "const TOP: &[&str] = &[\"version\", \"network\"];\nconst NETWORK: &[&str] = &[\n \"mode\",\n];";
        assert_eq!(
            keys(source).into_iter().collect::<Vec<_>>(),
            ["network.mode", "version"]
        );
    }
}
