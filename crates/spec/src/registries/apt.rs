//! sources.list(5): one-line entries and deb822 stanzas.

use super::{Finder, Found, PackageManager};

/// Reads one-line entries: `deb [options] URI suite component…`.
#[must_use]
pub fn read_sources_list(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Apt, place);
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let rest = ["deb-src", "deb"]
            .iter()
            .find_map(|kind| line.strip_prefix(kind));
        let Some(rest) = rest.filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        if let Some(uri) = rest.split_whitespace().next() {
            source(&mut finder, index + 1, uri);
        }
    }
    finder.finish()
}

/// Reads stanzas of a `.sources` file: `URIs:` of those that are not `Enabled: no`.
#[must_use]
pub fn read_deb822(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Apt, place);
    let mut uris: Vec<(usize, &str)> = Vec::new();
    let mut enabled = true;
    let mut field = String::new();
    // An empty line at the end closes the last stanza.
    for (index, line) in text.lines().chain([""]).enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            for (line, uri) in uris.drain(..) {
                if enabled {
                    source(&mut finder, line, uri);
                }
            }
            enabled = true;
            field.clear();
            continue;
        }
        let value = if line.starts_with([' ', '\t']) {
            line
        } else {
            let Some((name, value)) = line.split_once(':') else {
                field.clear();
                continue;
            };
            field = name.trim().to_ascii_lowercase();
            value
        };
        match field.as_str() {
            "uris" => uris.extend(value.split_whitespace().map(|uri| (index + 1, uri))),
            "enabled" => {
                let word = value.trim().to_ascii_lowercase();
                enabled = !matches!(
                    word.as_str(),
                    "no" | "false" | "without" | "off" | "disable" | "0"
                );
            }
            _ => {}
        }
    }
    finder.finish()
}

fn source(finder: &mut Finder<'_>, line: usize, uri: &str) {
    let lower = uri
        .get(..uri.len().min(8))
        .unwrap_or(uri)
        .to_ascii_lowercase();
    if lower.starts_with("mirror") {
        finder.note(
            line,
            "is a list of mirrors: the host of the list is allowed, the mirrors on it are not known",
        );
    }
    finder.other(line, uri);
}
