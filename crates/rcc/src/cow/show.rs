//! Changes as lists: names, amounts, JSON.

use std::fmt::Write as _;
use std::path::Path;

use rcc_host::cow::{Change, Content, Differences, Status};
use rcc_plan::SafeBytes;

use super::hunks::{Counts, Texts};
use super::text::{Pair, pair};
use crate::output::Style;

/// How changes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Unified text.
    Text,
    /// Letters and names.
    NameStatus,
    /// Amounts.
    Stat,
    /// One object a line.
    Json,
}

fn letter(change: &Change) -> char {
    match change.status {
        Status::Added => 'A',
        Status::Modified(_) | Status::Same => 'M',
        Status::Removed => 'D',
        Status::Retyped => 'T',
        Status::Foreign | Status::Unreadable => 'X',
    }
}

/// What else there is to say about a change.
fn remark(change: &Change) -> Option<String> {
    let upper = change.upper;
    match change.status {
        Status::Foreign => {
            let kind = upper.map_or("", |meta| meta.kind.as_str());
            Some(format!("{kind}, never applied"))
        }
        Status::Unreadable => Some("cannot be read".to_owned()),
        _ if upper.is_some_and(|meta| meta.sets_ids()) => {
            Some("set-user-id or set-group-id, which is never applied".to_owned())
        }
        Status::Modified(differs) => only(differs).map(str::to_owned),
        _ => None,
    }
}

/// What differs, where it is nothing that one expects.
fn only(differs: Differences) -> Option<&'static str> {
    match differs {
        Differences {
            content: false,
            mode: false,
            attributes,
            times,
        } => match (attributes, times) {
            (true, true) => Some("attributes and times only"),
            (true, false) => Some("attributes only"),
            (false, true) => Some("times only"),
            (false, false) => None,
        },
        _ => None,
    }
}

/// The name for a list: escaped, a directory with a slash.
fn shown(path: &Path, change: &Change) -> String {
    let directory = change
        .upper
        .or(change.lower)
        .is_some_and(|meta| meta.is_directory());
    let slash = if directory { "/" } else { "" };
    format!("{}{slash}", rcc_plan::escape(path))
}

pub(crate) fn name_status(path: &Path, change: &Change) -> String {
    let remark = remark(change).map_or_else(String::new, |text| format!("\t({text})"));
    format!("{}\t{}{remark}\n", letter(change), shown(path, change))
}

pub(crate) fn stat(
    path: &Path,
    change: &Change,
    old: Option<Content>,
    new: Option<Content>,
    style: Style,
) -> String {
    let size = |meta: Option<rcc_host::cow::Meta>| meta.map_or(0, |meta| meta.size);
    let amount = match (change.status, pair(old, new)) {
        (Status::Foreign | Status::Unreadable, _) => remark(change).unwrap_or_default(),
        (_, Pair::Text { old, new }) => {
            let Counts { added, removed } = Texts::compare(&old, &new).counts();
            format!(
                "{} {}",
                style.added(&format!("+{added}")),
                style.removed(&format!("-{removed}"))
            )
        }
        (_, Pair::Other(why)) => {
            format!(
                "{why}, {} -> {} bytes",
                size(change.lower),
                size(change.upper)
            )
        }
    };
    let mut line = format!(" {} {} | {amount}", letter(change), shown(path, change));
    if let (Some(old), Some(new)) = (change.lower, change.upper)
        && old.has_mode()
        && new.has_mode()
        && old.plain_mode() != new.plain_mode()
    {
        let _ = write!(
            line,
            ", mode {:04o} -> {:04o}",
            old.plain_mode(),
            new.plain_mode()
        );
    }
    if let Status::Modified(Differences {
        attributes, times, ..
    }) = change.status
    {
        for (is, what) in [(attributes, ", attributes"), (times, ", times")] {
            line.push_str(if is { what } else { "" });
        }
    }
    line.push('\n');
    line
}

/// `root` is the directory that the path is in, or is absolute in.
pub(crate) fn json(root: &Path, path: &Path, change: &Change) -> String {
    let side = |meta: Option<rcc_host::cow::Meta>| {
        meta.map(|meta| {
            serde_json::json!({
                "type": meta.kind,
                "mode": format!("{:04o}", meta.mode),
                "size": meta.size,
                "modified": super::text::time(&meta),
            })
        })
    };
    let differs = match change.status {
        Status::Modified(differs) => [
            (differs.content, "content"),
            (differs.mode, "mode"),
            (differs.attributes, "attributes"),
            (differs.times, "times"),
        ]
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, what)| *what)
        .collect(),
        _ => Vec::new(),
    };
    let object = serde_json::json!({
        "status": letter(change).to_string(),
        "path": SafeBytes::from(path),
        "root": SafeBytes::from(root),
        "differs": differs,
        "old": side(change.lower),
        "new": side(change.upper),
        "remark": remark(change),
    });
    format!("{}\n", printable(&object.to_string()))
}

/// JSON escapes only some of the characters that could drive a terminal; outside of its strings there are none.
fn printable(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if rcc_plan::escape(character.to_string())
            .chars()
            .eq([character])
        {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}
