//! The difference of two files as people read it. Bounded: what is large or no text is only named.

use std::path::Path;
use std::time::Duration;

use rcc_host::cow::{AttributeChange, Change, Content, Meta, Status, Time};

use super::hunks::Texts;
use crate::output::Style;

/// The texts before and after, or why there are none to show.
#[derive(Debug)]
pub(super) enum Pair {
    Text { old: String, new: String },
    Other(&'static str),
}

/// Makes a pair; a side that does not exist is empty.
pub(super) fn pair(old: Option<Content>, new: Option<Content>) -> Pair {
    let text = |side: Option<Content>| match side {
        None => Ok(String::new()),
        Some(Content::Text(text)) => Ok(text),
        Some(Content::Binary) => Err("binary"),
        Some(Content::TooLarge) => Err("too large to show"),
        Some(Content::Unreadable) => Err("unreadable"),
    };
    match (text(old), text(new)) {
        (Ok(old), Ok(new)) => Pair::Text { old, new },
        (Err(why), _) | (_, Err(why)) => Pair::Other(why),
    }
}

/// One change in the unified format, as git writes it. What is not printable in it is escaped, so that no text of an
/// agent's reaches a terminal as a command.
pub(crate) fn unified(
    path: &Path,
    change: &Change,
    old: Option<Content>,
    new: Option<Content>,
    attributes: &[AttributeChange],
    style: Style,
) -> String {
    let mut out = heading(path, change, attributes, style);
    out.push_str(&body(path, change, &pair(old, new), style));
    out
}

/// What there is to say about a change before its content.
pub(super) fn heading(
    path: &Path,
    change: &Change,
    attributes: &[AttributeChange],
    style: Style,
) -> String {
    let shown = rcc_plan::escape(path);
    let mut out = String::new();
    let mut head = |text: String| {
        out.push_str(&style.title(&text));
        out.push('\n');
    };
    head(format!("diff --rcc a/{shown} b/{shown}"));
    let mode = |meta: Option<Meta>| meta.map(|meta| (meta.kind.as_str(), meta.plain_mode()));
    match (mode(change.lower), mode(change.upper)) {
        (None, Some((kind, mode))) => head(format!("new {kind} mode {mode:04o}")),
        (Some((kind, mode)), None) => head(format!("deleted {kind} mode {mode:04o}")),
        (Some(old), Some(new)) if old != new => {
            head(format!("old {} mode {:04o}", old.0, old.1));
            head(format!("new {} mode {:04o}", new.0, new.1));
        }
        _ => {}
    }
    if change.upper.is_some_and(|meta| meta.sets_ids()) {
        head("set-user-id and set-group-id bits, which are never applied".to_owned());
    }
    for attribute in attributes {
        let name = &attribute.name;
        if let Some(old) = &attribute.old {
            head(format!("old {name}: {old}"));
        }
        if let Some(new) = &attribute.new {
            head(format!("new {name}: {new}"));
        }
    }
    if let (Status::Modified(differs), Some(old), Some(new)) =
        (change.status, &change.lower, &change.upper)
        && differs.times
        && !differs.content
    {
        head(format!("old time {}", time(old)));
        head(format!("new time {}", time(new)));
    }
    match change.status {
        Status::Foreign => head("never applied".to_owned()),
        Status::Unreadable => head("cannot be read".to_owned()),
        _ => {}
    }
    out
}

/// The content of a change.
pub(super) fn body(path: &Path, change: &Change, pair: &Pair, style: Style) -> String {
    let shown = rcc_plan::escape(path);
    let mut out = String::new();
    let mut head = |text: String| {
        out.push_str(&style.title(&text));
        out.push('\n');
    };
    match pair {
        _ if matches!(change.status, Status::Foreign | Status::Unreadable) => {}
        Pair::Other(why) => {
            let size = |meta: Option<Meta>| meta.map_or(0, |meta| meta.size);
            head(format!(
                "{why}: {} bytes -> {} bytes",
                size(change.lower),
                size(change.upper)
            ));
        }
        Pair::Text { old, new } => {
            if old != new {
                let side = |letter, meta: Option<_>| match meta {
                    Some(_) => format!("{letter}/{shown}"),
                    None => "/dev/null".to_owned(),
                };
                head(format!("--- {}", side('a', change.lower)));
                head(format!("+++ {}", side('b', change.upper)));
            }
            let texts = Texts::compare(old, new);
            for hunk in texts.hunks() {
                out.push_str(&texts.show(&hunk, style));
            }
        }
    }
    out
}

/// When the content was changed last.
pub(super) fn time(meta: &Meta) -> String {
    let Time(seconds, nanoseconds) = meta.modified;
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let nanoseconds = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    // A file system's times end in 2^33 seconds, long before the clock's; an agent can choose them.
    match std::time::UNIX_EPOCH.checked_add(seconds.saturating_add(nanoseconds)) {
        Some(time) => rcc_gateway::rfc3339(time),
        None => "out of range".to_owned(),
    }
}
