//! `settings.xml` and `pom.xml` of Maven: mirrors and repositories.
//!
//! A reader for just this: elements, comments, CDATA and the five entities. Must not know a document type (no entity of
//! one's own, nothing is included), and must not recurse: depth is a counter.

use super::{Finder, Found, PackageManager, Variables, expand};

/// Deepest element that is followed.
const DEPTH_LIMIT: usize = 64;
/// The repository that everything comes from unless something else is said; Maven's own words.
const DEFAULT_REPOSITORY: [&str; 3] = ["central", "external:*", "*"];

/// Reads `url` of every `mirror`, `repository` and `pluginRepository`. A mirror of everything is the main registry.
#[must_use]
pub fn read_maven(text: &str, place: &str, variables: Variables<'_>) -> Found {
    let mut finder = Finder::new(PackageManager::Maven, place);
    let mut path: Vec<&str> = Vec::new();
    let mut entry = Entry::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        entry.text(&path, before);
        if let Some(comment) = after.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, rest)| rest);
        } else if let Some(data) = after.strip_prefix("![CDATA[") {
            let (data, behind) = data.split_once("]]>").unwrap_or((data, ""));
            entry.raw(&path, data);
            rest = behind;
        } else if after.starts_with('!') {
            return finder.broken(0, "it has a document type");
        } else {
            let Some((tag, behind)) = after.split_once('>') else {
                return finder.broken(0, "an element does not end");
            };
            rest = behind;
            if let Some(name) = tag.strip_prefix('/') {
                let name = name.trim();
                if path.last() == Some(&name) {
                    path.pop();
                }
                if matches!(name, "mirror" | "repository" | "pluginRepository") {
                    let line = super::cargo::line_of(text, text.len() - behind.len());
                    std::mem::take(&mut entry).finish(&mut finder, line, name, variables);
                }
            } else if !tag.starts_with('?') && !tag.ends_with('/') {
                if path.len() >= DEPTH_LIMIT {
                    return finder.broken(0, "its elements are too deep");
                }
                let name = tag.split_whitespace().next().unwrap_or_default();
                if matches!(name, "mirror" | "repository" | "pluginRepository") {
                    entry = Entry::default();
                }
                path.push(name);
            }
        }
    }
    finder.finish()
}

/// One mirror or repository.
#[derive(Default)]
struct Entry {
    url: String,
    mirror_of: String,
    blocked: String,
}

impl Entry {
    fn slot(&mut self, path: &[&str]) -> Option<&mut String> {
        let parent = path.len().checked_sub(2).and_then(|at| path.get(at))?;
        if !matches!(*parent, "mirror" | "repository" | "pluginRepository") {
            return None;
        }
        match *path.last()? {
            "url" => Some(&mut self.url),
            "mirrorOf" => Some(&mut self.mirror_of),
            "blocked" => Some(&mut self.blocked),
            _ => None,
        }
    }

    fn text(&mut self, path: &[&str], text: &str) {
        if let Some(slot) = self.slot(path) {
            let text = text
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&apos;", "'")
                .replace("&amp;", "&");
            slot.push_str(&text);
        }
    }

    fn raw(&mut self, path: &[&str], text: &str) {
        if let Some(slot) = self.slot(path) {
            slot.push_str(text);
        }
    }

    fn finish(self, finder: &mut Finder<'_>, line: usize, name: &str, variables: Variables<'_>) {
        if self.blocked.trim() == "true" || self.url.trim().is_empty() {
            return;
        }
        // `${env.NAME}` is a variable, any other is a property of Maven.
        let url = expand(&self.url, &|name| variables(name.strip_prefix("env.")?));
        let everything = self
            .mirror_of
            .split(',')
            .any(|part| DEFAULT_REPOSITORY.contains(&part.trim()));
        if name == "mirror" && everything {
            finder.also_main(line, &url);
        } else {
            finder.other(line, &url);
        }
    }
}
