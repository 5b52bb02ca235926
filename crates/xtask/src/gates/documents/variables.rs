//! Every environment variable of ours is explained in one place, and every explained one exists.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::{gates::Report, workspace::Workspace};

const PAGE: &str = "docs/testing.md";

/// Marks between a test and its own children; nobody sets them by hand.
const INTERNAL: [&str; 4] = [
    "RCC_TEST_AS_ORDINARY_USER",
    "RCC_TEST_DOCTOR_INSIDE",
    "RCC_TEST_INSIDE_NAMESPACES",
    "RCC_TESTKIT_HOLD_A_WORLD",
];

/// Compares the page with the words of the sources and scripts.
pub(super) fn check(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut used = BTreeSet::new();
    for path in workspace.files()? {
        let source = path
            .extension()
            .is_some_and(|end| end == "rs" || end == "sh")
            || path == Path::new(".ci/run");
        // This gate's own sources speak about variables without using them.
        if source && !path.starts_with("crates/xtask/src/gates") {
            used.extend(variables(&workspace.read(&path)?.unwrap_or_default()));
        }
    }
    for internal in INTERNAL {
        used.remove(internal);
    }
    let explained = variables(&workspace.read(Path::new(PAGE))?.unwrap_or_default());
    for name in used.difference(&explained) {
        report.problem(format!("{PAGE}: does not explain {name}"));
    }
    for name in explained.difference(&used) {
        report.problem(format!("{PAGE}: explains {name}, which nothing reads"));
    }
    report.note(format!("{} variables", explained.len()));
    Ok(())
}

/// Words that begin with the project's prefix.
fn variables(text: &str) -> BTreeSet<String> {
    let part = |character: char| {
        character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_'
    };
    text.split(|character| !part(character))
        .filter(|word| word.starts_with("RCC_") && word.len() > 5 && !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        let found = variables("env(\"RCC_ONE\"), ${RCC_TWO:-x}, MY_RCC_THREE, `rcc_plan`");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["RCC_ONE", "RCC_TWO"]
        );
    }
}
