//! git-config(1): the hosts that a configuration names. Of the user's own file, those that git is sent to; of a
//! project's file, its remotes, which are only ever suggested.

use super::{Finder, Found, PackageManager};

/// Reads a configuration of git: `url "BASE"`, `credential "URL"`, `http "URL"` by their names, and `remote` by its `url`.
#[must_use]
pub fn read_git_config(text: &str, place: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Git, place);
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = match line.strip_prefix('[') {
            Some(head) => {
                let Some((name, rest)) = section_of(head) else {
                    finder.note(index + 1, "is not understood");
                    section.clear();
                    continue;
                };
                section = name.0.to_ascii_lowercase();
                if matches!(section.as_str(), "url" | "credential" | "http") && !name.1.is_empty() {
                    finder.other(index + 1, &name.1);
                }
                rest.trim()
            }
            None => line,
        };
        if line.starts_with(['#', ';']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let key = key.trim().to_ascii_lowercase();
        let value = value.trim().trim_matches('"');
        match (section.as_str(), key.as_str()) {
            ("remote", "url" | "pushurl") => finder.other(index + 1, value),
            ("include" | "includeif", "path") => {
                finder.note(index + 1, "includes another file, which is not read");
            }
            _ => {}
        }
    }
    finder.finish()
}

/// Splits `name "sub\"section"] rest` behind the bracket.
fn section_of(head: &str) -> Option<((String, String), &str)> {
    let (name, rest) = match head.find(['"', ']']) {
        Some(at) if head.get(at..)?.starts_with(']') => {
            return Some((
                (head.get(..at)?.trim().to_owned(), String::new()),
                head.get(at + 1..)?,
            ));
        }
        Some(at) => (head.get(..at)?.trim(), head.get(at + 1..)?),
        None => return None,
    };
    let mut subsection = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => subsection.push(characters.next()?.1),
            '"' => {
                let rest = rest.get(at + 1..)?.trim_start().strip_prefix(']')?;
                return Some(((name.to_owned(), subsection), rest));
            }
            _ => subsection.push(character),
        }
    }
    None
}
