//! Documentation that a machine can hold: every named path, command, flag and test exists.
//!
//! Looked at: the pages in the root and in `docs/`. A line that says "not yet", or stands under a heading that does,
//! may name what is still to come. The prose itself is nobody's but its readers' to judge.

mod cli;
mod markdown;
mod policy_keys;
mod variables;

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use anyhow::Result;

use super::Report;
use crate::{rust_source, workspace::Workspace};
use markdown::{Line, Page};

/// Endings that make a code span without a slash the name of a file of this tree.
const FILE_ENDINGS: [&str; 3] = [".rs", ".md", ".sh"];

/// Pages that must exist.
const PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "THREAT-MODEL.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "AGENTS.md",
];

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let files: BTreeSet<PathBuf> = workspace.files()?.into_iter().collect();
    for page in PAGES {
        if !files.contains(Path::new(page)) {
            report.problem(format!("{page} does not exist"));
        }
    }
    let binary = cli::Rcc::build(workspace)?;
    let (mut paths, mut commands) = (0_usize, 0_usize);
    let is_page = |path: &Path| {
        path.extension().is_some_and(|end| end == "md")
            && (path.components().count() == 1 || path.starts_with("docs"))
    };
    for path in files.iter().filter(|path| is_page(path)) {
        let page = Page::parse(&workspace.read(path)?.unwrap_or_default());
        for line in page.lines.iter().filter(|line| !line.not_yet) {
            let mut complain = |text: String| {
                report.problem(format!("{}:{}: {text}", path.display(), line.number))
            };
            for link in &line.links {
                paths += 1;
                if !resolves(&files, path, link) {
                    complain(format!("link to `{link}`, which does not exist"));
                }
            }
            for span in &line.code {
                if let Some(name) = tree_path(workspace, span) {
                    paths += 1;
                    if !names_something(&files, &name) {
                        complain(format!("`{span}` does not exist"));
                    }
                } else if let Some(result) = cli::check(&binary, span) {
                    commands += 1;
                    result.err().into_iter().for_each(&mut complain);
                }
            }
            if let Some(command) = &line.command
                && let Some(result) = cli::check(&binary, command)
            {
                commands += 1;
                result.err().into_iter().for_each(&mut complain);
            }
        }
        if path == Path::new("ARCHITECTURE.md") {
            crates_named(workspace, &page, &mut report)?;
        }
        if path == Path::new("THREAT-MODEL.md") {
            barriers(workspace, &page, &mut report)?;
        }
    }
    policy_keys::check(workspace, &mut report)?;
    variables::check(workspace, &mut report)?;
    report.note(format!("{paths} paths and {commands} commands named"));
    Ok(report)
}

/// The code span as a path of this tree, if it is written as one.
fn tree_path(workspace: &Workspace, span: &str) -> Option<PathBuf> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
    if span.is_empty() || !span.chars().all(plain) || span.starts_with('/') || span.contains("..") {
        return None;
    }
    let path = Path::new(span);
    let Some(Component::Normal(first)) = path.components().next() else {
        return None;
    };
    // What a repository or a build makes is not part of the tree.
    let made = first == ".git" || first == "target";
    let in_tree = span.contains('/') && !made && workspace.root.join(first).is_dir();
    let source = FILE_ENDINGS.iter().any(|end| span.ends_with(end)) && !span.starts_with('.');
    (in_tree || source).then(|| path.components().collect())
}

/// True for a file, and for a directory with a file in it.
fn names_something(files: &BTreeSet<PathBuf>, name: &Path) -> bool {
    files
        .range(name.to_path_buf()..)
        .next()
        .is_some_and(|found| found.starts_with(name))
}

/// True when a link of the page leads to something in the tree, or out of it by address.
fn resolves(files: &BTreeSet<PathBuf>, page: &Path, link: &str) -> bool {
    let target = link.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") {
        return true;
    }
    let mut name = page.parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                name.pop();
            }
            Component::Normal(word) => name.push(word),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    names_something(files, &name)
}

/// Every crate is in the architecture page (that every named one exists is held above).
fn crates_named(workspace: &Workspace, page: &Page, report: &mut Report) -> Result<()> {
    let metadata = workspace.metadata()?;
    let members = metadata.members();
    let directories = members.values().filter_map(|package| {
        let manifest = package.manifest_path.parent()?;
        manifest
            .strip_prefix(&workspace.root)
            .ok()
            .map(Path::to_path_buf)
    });
    for directory in directories {
        let name = directory.display().to_string();
        if !page
            .lines
            .iter()
            .any(|line| rust_source::has_word(&line.text, &name))
        {
            report.problem(format!("ARCHITECTURE.md: does not name {name}"));
        }
    }
    Ok(())
}

/// Every row of the barrier table names at least one test, and every named test exists.
fn barriers(workspace: &Workspace, page: &Page, report: &mut Report) -> Result<()> {
    let tests = Tests::read(workspace)?;
    let (mut rows, mut pending) = (0_usize, 0_usize);
    for line in &page.lines {
        let Some(cell) = barrier_cell(page, line) else {
            continue;
        };
        rows += 1;
        if line.not_yet {
            pending += 1;
            continue;
        }
        let named = markdown::code_spans(cell);
        if named.is_empty() {
            report.problem(format!(
                "THREAT-MODEL.md:{}: a barrier without a test",
                line.number
            ));
        }
        for name in named.iter().filter(|name| !tests.has(name)) {
            report.problem(format!(
                "THREAT-MODEL.md:{}: there is no test `{name}`",
                line.number
            ));
        }
    }
    if rows == 0 {
        report.problem("THREAT-MODEL.md: no table whose last column is headed `Test`");
    }
    report.note(format!(
        "{rows} barriers, {pending} of them marked as not yet there; {} tests in the tree",
        tests.0.len()
    ));
    Ok(())
}

/// Every test function, with the names of the file and directories that it stands in.
struct Tests(Vec<(String, BTreeSet<String>)>);

impl Tests {
    fn read(workspace: &Workspace) -> Result<Self> {
        let mut tests = Vec::new();
        for path in workspace.rust_files()? {
            let places: BTreeSet<String> = path
                .with_extension("")
                .components()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect();
            let code = rust_source::code_only(&workspace.read(&path)?.unwrap_or_default());
            tests.extend(
                rust_source::test_functions(&code)
                    .into_iter()
                    .map(|name| (name, places.clone())),
            );
        }
        Ok(Self(tests))
    }

    /// True for `name`, and for `file::name` when the test stands in a file or directory of that name.
    fn has(&self, path: &str) -> bool {
        let mut parts: Vec<&str> = path.split("::").collect();
        let function = parts.pop().unwrap_or_default();
        self.0.iter().any(|(name, places)| {
            name == function && parts.iter().all(|part| places.contains(*part))
        })
    }
}

/// The last cell of a body row of a table whose last column is headed `Test`.
fn barrier_cell<'a>(page: &Page, line: &'a Line) -> Option<&'a str> {
    let last = |text: &'a str| {
        text.trim()
            .strip_prefix('|')?
            .strip_suffix('|')?
            .rsplit('|')
            .next()
            .map(str::trim)
    };
    let cell = last(&line.text)?;
    let head = page.table_head(line.number)?;
    let is_rule = cell.chars().all(|character| "-: ".contains(character));
    (head.number != line.number
        && !is_rule
        && head
            .text
            .trim()
            .trim_end_matches('|')
            .trim()
            .ends_with("Test"))
    .then_some(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_where_the_page_stands() {
        let files: BTreeSet<PathBuf> = ["README.md", "docs/a.md", "crates/x/src/lib.rs"]
            .map(PathBuf::from)
            .into();
        let from = |page: &str, link: &str| resolves(&files, Path::new(page), link);
        assert!(
            from("docs/a.md", "../README.md#top")
                && from("README.md", "docs/a.md")
                && from("docs/a.md", "#here")
        );
        assert!(from("README.md", "crates/x") && from("README.md", "https://example.com/"));
        assert!(
            !from("docs/a.md", "README.md")
                && !from("README.md", "crates/y")
                && !from("README.md", "crates/x/s")
        );
    }

    #[test]
    fn the_test_column_is_found() {
        let page = Page::parse(
            "| Barrier | Test |\n|---|---|\n| a | `t::one` |\n\n| A | B |\n|---|---|\n| c | `d` |\n",
        );
        let cells: Vec<&str> = page
            .lines
            .iter()
            .filter_map(|line| barrier_cell(&page, line))
            .collect();
        assert_eq!(cells, ["`t::one`"]);
    }

    #[test]
    fn a_test_is_known_by_its_name_and_place() {
        let places = ["crates", "rcc", "tests", "attacks", "reading"].map(str::to_owned);
        let tests = Tests(vec![("by_dotdot".to_owned(), places.into())]);
        assert!(
            tests.has("by_dotdot")
                && tests.has("reading::by_dotdot")
                && tests.has("attacks::reading::by_dotdot")
        );
        assert!(!tests.has("writing::by_dotdot") && !tests.has("by_dot"));
    }
}
