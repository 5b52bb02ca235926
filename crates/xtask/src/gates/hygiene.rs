//! No tracked file may name a package registry's host or a path of the machine it was written on.
//!
//! A registry is the user's own setting (company mirrors), and a path of one machine is wrong on every other. The
//! fixed names below are spelled in pieces, or this file would break its own rule; the machine's own settings are
//! read at run time.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Result;

use super::Report;
use crate::workspace::Workspace;

/// Hosts of the common registries, in two pieces each.
const REGISTRIES: [(&str, &str); 9] = [
    ("registry.npm", "js.org"),
    ("py", "pi.org"),
    ("files.python", "hosted.org"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("deb.de", "bian.org"),
    ("security.de", "bian.org"),
    ("proxy.go", "lang.org"),
    ("static.rust", "-lang.org"),
];

/// Path beginnings that only ever exist on one machine, in two pieces each.
const MACHINE_PATHS: [(&str, &str); 3] = [("/wo", "rk/"), ("/ro", "ot/."), ("/ro", "ot/git")];

/// Written by cargo, not by hand: it names the registry's index, which is a name and not a host that is contacted.
const EXEMPT: [&str; 1] = ["Cargo.lock"];

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let banned = banned(workspace);
    for path in workspace.files()? {
        if EXEMPT.iter().any(|name| path == Path::new(name)) {
            continue;
        }
        let Some(text) = workspace.read(&path)? else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = banned.iter().find(|word| names(line, word)) {
                report.problem(format!("{}:{}: names `{word}`", path.display(), index + 1));
            }
        }
    }
    report.note(format!("{} words looked for", banned.len()));
    Ok(report)
}

/// True when the line has the word; a path counts only from the root, not as the tail of a longer one.
fn names(line: &str, word: &str) -> bool {
    let longer = |before: char| before.is_alphanumeric() || "._-}~".contains(before);
    line.match_indices(word).any(|(at, _)| {
        !(word.starts_with('/') && line[..at].chars().next_back().is_some_and(longer))
    })
}

/// The fixed words, and those read from this machine's own settings.
fn banned(workspace: &Workspace) -> BTreeSet<String> {
    let mut words: BTreeSet<String> = REGISTRIES
        .iter()
        .chain(&MACHINE_PATHS)
        .map(|(start, end)| format!("{start}{end}"))
        .collect();
    // The tree's own place, when it is long enough to be no ordinary word.
    if workspace.root.components().count() > 2 {
        words.insert(workspace.root.display().to_string());
    }
    let mut settings: Vec<std::path::PathBuf> =
        vec!["/etc/apt/sources.list".into(), "/etc/pip.conf".into()];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        settings.extend(entries.flatten().map(|entry| entry.path()));
    }
    if let Some(home) = std::env::home_dir() {
        settings.extend(
            [".npmrc", ".cargo/config.toml", ".config/pip/pip.conf"].map(|name| home.join(name)),
        );
    }
    for path in settings {
        words.extend(hosts_in(&fs::read_to_string(path).unwrap_or_default()));
    }
    words
}

/// Host names in `http://…` and `https://…` addresses.
fn hosts_in(text: &str) -> impl Iterator<Item = String> {
    text.split("http").skip(1).filter_map(|rest| {
        let rest = rest.strip_prefix('s').unwrap_or(rest).strip_prefix("://")?;
        let host: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c))
            .collect();
        // A single label (localhost, a container's name) is no registry.
        host.contains('.').then_some(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_settings() {
        let text = "deb https://mirror.example.com/x a\nregistry=http://198.51.100.7:80/\nhttps://localhost/\n";
        assert_eq!(
            hosts_in(text).collect::<Vec<_>>(),
            ["mirror.example.com", "198.51.100.7"]
        );
    }

    #[test]
    fn a_path_counts_from_the_root_only() {
        assert!(names("see /some/place/x", "/some/") && names("(\"/some/x\")", "/some/"));
        assert!(!names("{outside}/some/x", "/some/") && !names("a/some/x", "/some/"));
        assert!(names("at www.mirror.example.com", "mirror.example.com"));
    }
}
