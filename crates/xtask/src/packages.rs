//! The list of Debian packages that rcc's build and tests use: `ci/packages.txt`, read by CI too.

use anyhow::{Context, Result, bail};

use crate::{process, workspace::Workspace};

/// One package of the list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Debian's name.
    pub(crate) name: String,
    /// Its programs that matter; none where the package is judged by itself. The first shows that it is here.
    pub(crate) programs: Vec<String>,
    /// What it is used for.
    pub(crate) reason: String,
    /// Whether it is on the disk of ci/vm.sh only, and no matter of this machine.
    pub(crate) only_vm: bool,
}

impl Package {
    /// True when its program is not on PATH.
    pub(crate) fn is_missing(&self) -> bool {
        let program = self.programs.first().filter(|_| !self.only_vm);
        program.is_some_and(|name| process::find_program(name).is_none())
    }
}

/// Reads the list.
pub(crate) fn read(workspace: &Workspace) -> Result<Vec<Package>> {
    let path = std::path::Path::new("ci/packages.txt");
    parse(&workspace.read(path)?.unwrap_or_default())
        .with_context(|| format!("cannot read {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (entry, reason) = line.split_once('#').unwrap_or((line, ""));
        let words: Vec<&str> = entry.split_whitespace().collect();
        match words[..] {
            [] => {}
            [set @ ("build" | "test" | "vm"), name, program] => packages.push(Package {
                name: name.to_owned(),
                programs: program
                    .split(',')
                    .filter(|name| *name != "-")
                    .map(str::to_owned)
                    .collect(),
                reason: reason.trim().to_owned(),
                only_vm: set == "vm",
            }),
            _ => bail!(
                "line {}: not `build|test|vm PACKAGE COMMAND # why`",
                index + 1
            ),
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_faults_are_told() {
        let packages =
            parse("# head\n\nbuild gcc cc,ld # links\ntest python3-venv -   # venv\n").unwrap();
        assert_eq!(
            packages[0],
            Package {
                name: "gcc".into(),
                programs: vec!["cc".into(), "ld".into()],
                reason: "links".into(),
                only_vm: false,
            }
        );
        let vm = parse("vm some-package not-a-program # there\n").unwrap();
        assert!(!vm[0].is_missing());
        assert!(packages[1].programs.is_empty());
        assert!(
            parse("tset curl curl # typo")
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }
}
