//! `CARGO_HOME/config.toml`: replaced sources and registries; and `config.json` of an index, which names where archives are.

use toml::de::{DeTable, DeValue};

use super::{Finder, Found, PackageManager};

/// The source that everything comes from unless something else is said; cargo's own word.
const DEFAULT_SOURCE: &str = "crates-io";

/// Reads a configuration file of cargo.
#[must_use]
pub fn read_cargo_config(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Cargo, place);
    let parsed = match DeTable::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            return finder.broken(line, "it is no valid TOML");
        }
    };
    let top = parsed.get_ref();
    for (name, source) in tables(top, "source") {
        let replaced = source.get("replace-with").is_some();
        if name == DEFAULT_SOURCE && replaced {
            finder.found.main.get_or_insert_default();
        }
        for key in ["registry", "git"] {
            // The URL of a source that is replaced is the one that is not used.
            if let (false, Some((line, url))) = (replaced, string(text, source, key)) {
                finder.other(line, url);
            }
        }
    }
    for (_, registry) in tables(top, "registries") {
        if let Some((line, url)) = string(text, registry, "index") {
            finder.other(line, url);
        }
    }
    finder.finish()
}

/// Reads `config.json` of an index: the host of its archives. `{crate}` and its like stand behind the host.
#[must_use]
pub fn read_index_config(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Cargo, place);
    // One key of one flat object: the value of `"dl"`.
    let url = text
        .split_once("\"dl\"")
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .and_then(|rest| rest.trim_start().strip_prefix('"'))
        .and_then(|rest| rest.split_once('"'));
    match url {
        Some((url, _)) => finder.other(0, url),
        None => finder.note(0, "names no place of its archives"),
    }
    finder.finish()
}

fn tables<'d, 't>(
    top: &'d DeTable<'t>,
    key: &str,
) -> impl Iterator<Item = (&'d str, &'d DeTable<'t>)> {
    let table = match top.get(key).map(|value| value.get_ref()) {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    };
    table
        .into_iter()
        .flat_map(|table| table.iter())
        .filter_map(|(name, value)| match value.get_ref() {
            DeValue::Table(table) => Some((name.get_ref().as_ref(), table)),
            _ => None,
        })
}

fn string<'d>(text: &str, table: &'d DeTable<'_>, key: &str) -> Option<(usize, &'d str)> {
    let value = table.get(key)?;
    match value.get_ref() {
        DeValue::String(url) => Some((line_of(text, value.span().start), url)),
        _ => None,
    }
}

/// The line of an offset, counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
}
