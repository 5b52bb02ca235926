//! `pip.conf` (pip's "Configuration" page), options of a requirements file, and `uv.toml`.

use toml::de::{DeTable, DeValue};

use super::cargo::line_of;
use super::{Finder, Found, PackageManager};

/// Reads a `pip.conf`: `index-url`, `extra-index-url` and `find-links` of any section.
#[must_use]
pub fn read_pip_conf(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Pip, place);
    let mut key = String::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with(['#', ';', '[']) {
            continue;
        }
        // A line that is indented continues the value before.
        let values = if line.starts_with([' ', '\t']) {
            line
        } else {
            let Some(at) = line.find(['=', ':']) else {
                key.clear();
                continue;
            };
            let (name, value) = line.split_at(at);
            key = name.trim().to_ascii_lowercase().replace('_', "-");
            value.get(1..).unwrap_or_default()
        };
        for value in values.split_whitespace() {
            match key.as_str() {
                "index-url" => finder.main(index + 1, value),
                "extra-index-url" | "find-links" => finder.other(index + 1, value),
                _ => {}
            }
        }
    }
    finder.finish()
}

/// Reads the options of a requirements file that name an index, and requirements that are URLs.
#[must_use]
pub fn read_requirements(text: &str, place: &str) -> Found {
    const OPTIONS: [&str; 5] = [
        "--index-url",
        "-i",
        "--extra-index-url",
        "--find-links",
        "-f",
    ];
    let mut finder = Finder::new(PackageManager::Pip, place);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        if OPTIONS.contains(&first) {
            if let Some(url) = words.next() {
                finder.other(index + 1, url);
            }
        } else if let Some(url) = line
            .split_whitespace()
            .find(|word| word.contains("://") && !line.starts_with('#'))
        {
            finder.other(index + 1, url);
        }
    }
    finder.finish()
}

/// Reads a `uv.toml`: `index-url`, `default-index`, `extra-index-url`, `find-links`, and the tables of `index`.
#[must_use]
pub fn read_uv_toml(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Pip, place);
    let parsed = match DeTable::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            return finder.broken(line, "it is no valid TOML");
        }
    };
    let top = parsed.get_ref();
    let pip = match top.get("pip").map(|value| value.get_ref()) {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    };
    for table in std::iter::once(top).chain(pip) {
        for key in [
            "index-url",
            "default-index",
            "extra-index-url",
            "find-links",
            "index",
        ] {
            let Some(value) = table.get(key) else {
                continue;
            };
            let line = line_of(text, value.span().start);
            let is_main = matches!(key, "index-url" | "default-index");
            match value.get_ref() {
                DeValue::String(url) if is_main => finder.main(line, url),
                DeValue::String(url) => finder.other(line, url),
                DeValue::Array(items) => {
                    for item in items {
                        let line = line_of(text, item.span().start);
                        match item.get_ref() {
                            DeValue::String(url) => finder.other(line, url),
                            DeValue::Table(index) => read_index(&mut finder, line, index),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    finder.finish()
}

fn read_index(finder: &mut Finder<'_>, line: usize, index: &DeTable<'_>) {
    let Some(DeValue::String(url)) = index.get("url").map(|value| value.get_ref()) else {
        return;
    };
    match index.get("default").map(|value| value.get_ref()) {
        Some(DeValue::Boolean(true)) => finder.main(line, url),
        _ => finder.other(line, url),
    }
}
