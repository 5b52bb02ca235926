//! The shape of the sources: every file says what it is for, and none is too long.

use std::path::Path;

use anyhow::Result;

use super::Report;
use crate::{rust_source, workspace::Workspace};

/// The length at which a file must be split, in lines without tests.
const LONGEST: usize = 800;

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let files = workspace.rust_files()?;
    let mut longest = (0, String::new());
    for path in &files {
        let Some(source) = workspace.read(path)? else {
            report.problem(format!("{}: not UTF-8", path.display()));
            continue;
        };
        if !source.starts_with("//!") {
            report.problem(format!(
                "{}: does not start with //! and what the file is for",
                path.display()
            ));
        }
        if is_test(path) {
            continue;
        }
        let lines = length_without_tests(&source);
        if lines > LONGEST {
            report.problem(format!(
                "{}: {lines} lines without tests, split at {LONGEST}",
                path.display()
            ));
        }
        longest = longest.max((lines, path.display().to_string()));
    }
    report.note(format!(
        "{} files, the longest has {} lines without tests: {}",
        files.len(),
        longest.0,
        longest.1
    ));
    Ok(report)
}

/// True for files that hold nothing but tests.
fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches")
}

/// Lines of the file, comments counted, unit test modules not.
fn length_without_tests(source: &str) -> usize {
    let code = rust_source::code_only(source);
    let tests = code.lines().count() - rust_source::without_test_modules(&code).lines().count();
    source.lines().count() - tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_tests_do_not_count() {
        let source = "//! Head.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(length_without_tests(source), 3);
        assert_eq!(length_without_tests("//! Head.\nfn a() {}\n"), 2);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        assert!(is_test(Path::new("crates/a/tests/b.rs")));
        assert!(is_test(Path::new("crates/a/src/b/tests.rs")));
        assert!(!is_test(Path::new("crates/a/src/b.rs")));
    }
}
