//! Patterns of `files.hidden`: like gitignore's, relative to the project, and never narrower than they look.
//!
//! A name without a slash counts in every directory; with a slash the pattern begins at the project's top; `**` stands for
//! any number of directories, `*` and `?` never for a slash, `[a-z]` and `[!a-z]` for one character. Letters of ASCII count
//! in both cases, so that `*.pem` hides `KEY.PEM`. Must not touch the file system.

use crate::path::{PathBase, PathSpec};

/// Steps that matching one name may take; more is a match, because hiding too much is the safe side.
const STEP_LIMIT: usize = 100_000;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<String>,
}

impl Pattern {
    /// The pattern of a `hidden` path that has wildcards or is a bare name; none for a plain path, and for patterns outside
    /// the project, whose absolute path is `root`.
    #[must_use]
    pub fn of(path: &PathSpec, root: &str) -> Option<Self> {
        let text = match path.base() {
            PathBase::Project if path.has_wildcard() || !path.relative().contains('/') => {
                path.relative()
            }
            // Flags name paths from the top.
            PathBase::Root if path.has_wildcard() => path
                .as_str()
                .strip_prefix(root)
                .filter(|rest| rest.starts_with('/'))?,
            _ => return None,
        };
        (!text.is_empty()).then(|| match text.strip_prefix("/") {
            // `--hide 'x*'` means that directory.
            Some(below) if !below.contains('/') => Self {
                parts: vec![below.to_ascii_lowercase()],
            },
            _ => Self::parse(text),
        })
    }

    /// Reads the text of a pattern: no empty parts, no `..`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts: Vec<String> = text
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        if parts.len() == 1 {
            parts.insert(0, "**".to_owned());
        }
        parts.dedup_by(|a, b| a == "**" && b == "**");
        Self { parts }
    }

    /// Does it match everything in the project?
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.parts.iter().all(|part| part.chars().all(|c| c == '*'))
    }

    /// Does it match this path, relative to the project, in bytes? What lies below a match is not asked for.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<Vec<u8>> = path
            .split(|byte| *byte == b'/')
            .map(<[u8]>::to_ascii_lowercase)
            .collect();
        let mut steps = STEP_LIMIT;
        // `dir/**` is what is in it, so hiding the directory is enough; `matches` is asked for that directory first.
        match self.parts.split_last() {
            Some((last, rest)) if last == "**" && !rest.is_empty() => {
                parts_match(rest, &names, &mut steps)
                    || parts_match(&self.parts, &names, &mut steps)
            }
            _ => parts_match(&self.parts, &names, &mut steps),
        }
    }

    /// Could something below this path match, by its first parts alone? Only patterns that begin at the project's top
    /// are asked; one that begins with `**` matches the place that a link leads to anyway.
    #[must_use]
    pub fn leads_through(&self, path: &[u8]) -> bool {
        let mut parts = self.parts.iter();
        let mut steps = STEP_LIMIT;
        let fits = path.split(|byte| *byte == b'/').all(|name| {
            parts.next().is_some_and(|part| {
                part != "**"
                    && name_matches(part.as_bytes(), &name.to_ascii_lowercase(), &mut steps)
            })
        });
        fits && parts.next().is_some()
    }
}

fn parts_match(parts: &[String], names: &[Vec<u8>], steps: &mut usize) -> bool {
    if *steps == 0 {
        return true;
    }
    *steps -= 1;
    match (parts.split_first(), names.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((part, rest)), _) if part == "**" => (0..=names.len())
            .any(|skip| parts_match(rest, names.get(skip..).unwrap_or_default(), steps)),
        (Some(_), None) => false,
        (Some((part, parts)), Some((name, names))) => {
            name_matches(part.as_bytes(), name, steps) && parts_match(parts, names, steps)
        }
    }
}

/// One name against one part, both in lower case.
fn name_matches(part: &[u8], name: &[u8], steps: &mut usize) -> bool {
    // The usual loop with one place to come back to: linear for each star.
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        if *steps == 0 {
            return true;
        }
        *steps -= 1;
        let here = name.get(n).copied().unwrap_or_default();
        let next = match part.get(p) {
            Some(b'*') => {
                back = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => class(part.get(p..).unwrap_or_default(), here)
                .and_then(|(matched, length)| matched.then_some(p + length)),
            Some(byte) if *byte == here => Some(p + 1),
            _ => None,
        };
        match (next, back) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((star, at))) => {
                (p, n) = (star, at + 1);
                back = Some((star, at + 1));
            }
            (None, None) => return false,
        }
    }
    part.get(p..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

/// `[…]` at the start of `part`: whether it holds the byte, and its length. A `[` without an end is itself.
fn class(part: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(part.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    let Some(length) = part
        .iter()
        .skip(start + 1)
        .position(|byte| *byte == b']')
        .map(|position| position + start + 1)
    else {
        return Some((byte == b'[', 1));
    };
    let members = part.get(start..length).unwrap_or_default();
    let mut found = false;
    let mut at = 0;
    while let Some(low) = members.get(at).copied() {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some(b'-'), Some(high)) => {
                found |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
    Some((found != negated, length + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).matches(path.as_bytes())
    }

    #[test]
    fn patterns_mean_what_gitignores_do() {
        for (pattern, path) in [
            (".env", ".env"),
            (".env", "a/b/.env"),
            (".ENV", "a/.env"),
            (".env", "A/.Env"),
            ("**/.env.*", ".env.local"),
            ("**/.env.*", "a/b/.env.x"),
            ("secrets/", "secrets"),
            ("secrets/", "a/secrets"),
            ("*.pem", "a/KEY.PEM"),
            ("a/*.pem", "a/x.pem"),
            ("a/**/x", "a/x"),
            ("a/**/x", "a/b/c/x"),
            ("a/**", "a"),
            ("a/**", "a/b"),
            ("k[0-9]", "k7"),
            ("k[!0-9]", "kx"),
            ("a?c", "abc"),
            ("x[", "x["),
            ("*a*b*", "xxaxxbxx"),
            ("[]]x", "]x"),
            ("a/b", "a/b"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            (".env", ".envrc"),
            (".env", "x.env"),
            ("a/*.pem", "a/b/x.pem"),
            ("a/*.pem", "b/a/x.pem"),
            ("a/**/x", "b/a/x"),
            ("k[!0-9]", "k7"),
            ("a?c", "ac"),
            ("*a", "ab"),
            ("**/.env.*", ".env"),
            ("a/b", "c/a/b"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn the_project_itself_is_told_apart() {
        for text in ["*", "**", "**/*", "**/**", "***"] {
            assert!(Pattern::parse(text).is_everything(), "{text}");
        }
        assert!(!Pattern::parse("*.x").is_everything());
        let of = |text: &str| Pattern::of(&PathSpec::parse(text).unwrap(), "/p");
        assert!(
            of("/p/*.pem").unwrap().matches(b"x.pem")
                && !of("/p/*.pem").unwrap().matches(b"a/x.pem")
        );
        assert!(of(".env").is_some() && of("a/*.pem").is_some() && of("secrets/").is_some());
        assert!(
            of("a/b").is_none()
                && of("~/x").is_none()
                && of("/pq/*.pem").is_none()
                && of("/p/x").is_none()
                && of(".").is_none()
        );
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = format!("{}/x", vec!["**/a*a*a*a*a*"; 20].join("/"));
        let path = vec!["a".repeat(200); 30].join("/");
        let started = std::time::Instant::now();
        let _ = matches(&pattern, &path);
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn a_plain_name_matches_itself(name in "[a-z.0-9]{1,8}", directory in "[a-z]{0,4}") {
            let path = format!("{directory}/{name}");
            prop_assert!(matches(&name, path.trim_start_matches('/')));
        }
        #[test]
        fn never_panics(pattern in "[a\\[\\]!^*?/-]{1,12}", path in "[a\\[/-]{0,12}") {
            let _ = matches(&pattern, &path);
        }
    }
}
