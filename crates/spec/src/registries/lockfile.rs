//! URLs of lock files, for suggestions only: whoever wrote the repository chose them.
//!
//! Must not parse the formats: a lock file has megabytes, and the few keys that name a place of download are enough.

use std::collections::BTreeMap;

use super::url::{Endpoint, endpoint};

/// Most hosts that are taken from one file.
const HOSTS_LIMIT: usize = 50;

/// A kind of lock file, by the keys in it that stand before a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFile {
    /// `package-lock.json`, `npm-shrinkwrap.json`.
    Npm,
    /// `yarn.lock` of the first version.
    Yarn,
    /// `pnpm-lock.yaml`.
    Pnpm,
    /// `Cargo.lock`.
    Cargo,
    /// `uv.lock`.
    Uv,
}

impl LockFile {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["\"resolved\""],
            Self::Yarn => &["resolved "],
            Self::Pnpm => &["tarball:"],
            // A plain `registry+` names an index by an old address that is not asked any more.
            Self::Cargo => &["source = \"sparse+", "source = \"git+"],
            Self::Uv => &["registry = ", "url = ", "git = "],
        }
    }
}

/// Finds the hosts of a lock file, each with the line where it stands first.
#[must_use]
pub fn lock_file_urls(kind: LockFile, text: &str) -> BTreeMap<Endpoint, usize> {
    let mut found = BTreeMap::new();
    for key in kind.keys() {
        for (at, _) in text.match_indices(key) {
            let rest = text.get(at + key.len()..).unwrap_or_default();
            let rest = rest.trim_start_matches([' ', '\t', ':', '=', '"', '\'']);
            let end = rest
                .find(|c: char| c.is_whitespace() || "\"',})".contains(c))
                .unwrap_or(rest.len());
            let url = rest.get(..end).unwrap_or_default();
            if let Ok(endpoint) = endpoint(url)
                && !found.contains_key(&endpoint)
            {
                if found.len() >= HOSTS_LIMIT {
                    return found;
                }
                found.insert(endpoint, super::cargo::line_of(text, at));
            }
        }
    }
    found
}
