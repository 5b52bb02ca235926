//! `.npmrc` (npm-config(1), npmrc(5)): `registry`, `@scope:registry`, with `${NAME}` replaced.
//!
//! Must not look at the keys that hold tokens (`//host/:_authToken`): a token is no permission to connect.

use super::{Finder, Found, PackageManager, Variables, expand};

/// Reads an `.npmrc`.
#[must_use]
pub fn read_npmrc(text: &str, place: &str, variables: Variables<'_>) -> Found {
    let mut finder = Finder::new(PackageManager::Npm, place);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            // Keys of a section are none of npm's own.
            break;
        }
        if line.starts_with([';', '#']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let key = unquote(key);
        let value = expand(unquote(value), variables);
        if key == "registry" {
            finder.main(index + 1, &value);
        } else if key.starts_with('@') && key.ends_with(":registry") {
            finder.other(index + 1, &value);
        }
    }
    finder.finish()
}

/// Takes quotes away, or the comment behind a value that has none.
fn unquote(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return inner;
        }
    }
    text.split([';', '#']).next().unwrap_or(text).trim()
}
