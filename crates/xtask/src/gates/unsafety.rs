//! `unsafe` stands only under `crates/sys`, and its extent is printed at every check.
//!
//! The compiler holds `forbid(unsafe_code)`; this gate holds that the line is there, that no code outside says
//! `unsafe` even where the compiler is not asked (another configuration, an example), and that no SAFETY comment is
//! a formula.

use std::path::Path;

use anyhow::Result;

use super::Report;
use crate::{rust_source, workspace::Workspace};

/// The one directory with unsafe code.
const UNSAFE_HOME: &str = "crates/sys";

/// Texts that argue nothing. Compared in lower case.
const FORMULAS: [&str; 5] = [
    "valid parameters",
    "valid arguments",
    "this is safe",
    "trust the caller",
    "arguments are valid",
];

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let mut surface = Vec::new();
    for path in workspace.rust_files()? {
        let Some(source) = workspace.read(&path)? else {
            report.problem(format!("{}: not UTF-8", path.display()));
            continue;
        };
        let code = rust_source::code_only(&source);
        let lines = rust_source::lines_with_word(&code, "unsafe");
        if !path.starts_with(UNSAFE_HOME) {
            for line in lines {
                report.problem(format!(
                    "{}:{line}: unsafe outside {UNSAFE_HOME}",
                    path.display()
                ));
            }
            continue;
        }
        for (index, line) in source.lines().enumerate() {
            if let Some(formula) = formula_in(line) {
                report.problem(format!(
                    "{}:{}: \"{formula}\" is no argument",
                    path.display(),
                    index + 1
                ));
            }
        }
        let blocks = blocks(&code);
        if !lines.is_empty() {
            surface.push((path, blocks, lines.len() - blocks.min(lines.len())));
        }
    }
    let total: usize = surface.iter().map(|(_, blocks, _)| blocks).sum();
    report.note(format!(
        "unsafe surface: {total} blocks in {} files",
        surface.len()
    ));
    for (path, blocks, other) in surface {
        let more = if other == 0 {
            String::new()
        } else {
            format!(" and {other} declarations")
        };
        report.note(format!("  {blocks:>3}  {}{more}", path.display()));
    }
    roots(workspace, &mut report)?;
    Ok(report)
}

/// Every crate root but those of `sys` forbids unsafe code; the roots of `sys` deny what hides it.
fn roots(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let metadata = workspace.metadata()?;
    for target in metadata
        .members()
        .values()
        .flat_map(|package| &package.targets)
    {
        let path = target
            .src_path
            .strip_prefix(&workspace.root)
            .unwrap_or(&target.src_path);
        if path.starts_with(UNSAFE_HOME) {
            continue;
        }
        let code = rust_source::code_only(&workspace.read(path)?.unwrap_or_default());
        if !code.contains("#![forbid(unsafe_code)]") {
            report.problem(format!(
                "{}: a crate root without #![forbid(unsafe_code)]",
                path.display()
            ));
        }
    }
    if !workspace.root.join(Path::new(UNSAFE_HOME)).is_dir() {
        report.problem(format!(
            "{UNSAFE_HOME} does not exist: this gate checks nothing"
        ));
    }
    Ok(())
}

/// Counts `unsafe { … }` blocks.
fn blocks(code: &str) -> usize {
    code.match_indices("unsafe")
        .filter(|(at, word)| {
            let part = |character: char| character.is_alphanumeric() || character == '_';
            !code[..*at].chars().next_back().is_some_and(part)
                && code[at + word.len()..].trim_start().starts_with('{')
        })
        .count()
}

/// The banned text on a comment line, if there is one.
fn formula_in(line: &str) -> Option<&'static str> {
    let comment = line.trim_start().strip_prefix("//")?.to_lowercase();
    FORMULAS
        .into_iter()
        .find(|formula| comment.contains(formula))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_and_declarations_are_not() {
        let code = "unsafe fn f() {} fn g() { unsafe { f() }; unsafe\n{ f() } } unsafe impl Send for X {} not_unsafe {}";
        assert_eq!(blocks(code), 2);
    }

    #[test]
    fn a_formula_is_found_in_comments_only() {
        assert_eq!(
            formula_in("    // SAFETY: we pass Valid Parameters"),
            Some("valid parameters")
        );
        assert_eq!(formula_in("let text = \"valid parameters\";"), None);
    }
}
