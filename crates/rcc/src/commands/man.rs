//! `rcc man`: manual pages, generated from the command line's definition.

use std::path::{Path, PathBuf};

use crate::cli::{ManArgs, documented};
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::output;

/// A page that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", rcc_plan::escape(path))]
struct WriteError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

pub(crate) fn run(args: ManArgs) -> Result<u8, CliError> {
    match args.dir {
        Some(directory) => {
            for (name, page) in pages() {
                write(&directory, &name, &page)
                    .map_err(|error| CliError::new(Kind::Host, error))?;
            }
        }
        None => {
            let (_, page) = page(documented());
            output::result(&page).map_err(|error| CliError::new(Kind::Host, error))?;
        }
    }
    Ok(Exit::Success.into())
}

fn write(directory: &Path, name: &str, page: &str) -> Result<(), WriteError> {
    let path = directory.join(name);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|source| WriteError { path, source })
}

/// Every page: `rcc.1` and one for each command.
fn pages() -> Vec<(String, String)> {
    let mut root = documented();
    root.build();
    let mut pages = vec![page(root.clone())];
    for command in root
        .get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set())
    {
        // The display name of a subcommand is `rcc-run` once the tree is built.
        pages.push(page(command.clone()));
        let below = command
            .get_subcommands()
            .filter(|below| below.get_name() != "help");
        pages.extend(below.map(|below| page(below.clone())));
    }
    pages
}

fn page(command: clap::Command) -> (String, String) {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = clap_mangen::Man::new(command.disable_help_subcommand(true)).render(&mut text);
    (
        format!("{name}.1"),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let names: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
        for name in [
            "rcc.1",
            "rcc-run.1",
            "rcc-claude.1",
            "rcc-plan.1",
            "rcc-trust.1",
            "rcc-net-learn.1",
        ] {
            assert!(
                names.iter().any(|found| found == name),
                "{name} in {names:?}"
            );
        }
    }
}
