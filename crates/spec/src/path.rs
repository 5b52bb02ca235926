//! Paths as a policy writes them: absolute, below the home, or below the project.
//!
//! Must not touch the file system: links and existence are the host's business.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::shorten;

/// Longest path of a policy in bytes (PATH_MAX of limits.h, with its NUL).
const PATH_MAX_BYTES: usize = 4095;

/// Where a path of a policy starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathBase {
    /// `/…`
    Root,
    /// `~` or `~/…`: the caller's real home.
    Home,
    /// Anything else: below the project directory.
    Project,
}

/// A path of a policy: no `..`, no `.` inside, no doubled or trailing slash, no control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathSpec {
    text: String,
}

/// Why a text is no path of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An empty text.
    #[error("path is empty")]
    Empty,
    /// More bytes than the kernel takes.
    #[error("path has {length} bytes, at most 4095 are allowed")]
    TooLong {
        /// Bytes found.
        length: usize,
    },
    /// A control character or NUL.
    #[error("path `{path}` contains a control character")]
    Control {
        /// The path, escaped.
        path: String,
    },
    /// A `..` somewhere.
    #[error("path `{path}` contains `..`; write the path it means")]
    Parent {
        /// The path, escaped.
        path: String,
    },
    /// `~name`.
    #[error("path `{path}` speaks of another user's home; write it as an absolute path")]
    OtherHome {
        /// The path, escaped.
        path: String,
    },
    /// A wildcard where only one path can stand.
    #[error("path `{path}` contains a wildcard, which only `hidden` can have")]
    Wildcard {
        /// The path, escaped.
        path: String,
    },
    /// Too much at once, or a directory that the sandbox makes itself.
    #[error("path `{path}` cannot be granted: {why}")]
    TooMuch {
        /// The path.
        path: String,
        /// What is wrong with granting it.
        why: &'static str,
    },
}

impl PathSpec {
    /// Parses a path; repeated and trailing slashes and `.` components are removed.
    ///
    /// # Errors
    /// Says why the text is no path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > PATH_MAX_BYTES {
            return Err(PathError::TooLong { length: text.len() });
        }
        let shown = || shorten(text, 80);
        if text.chars().any(char::is_control) {
            return Err(PathError::Control { path: shown() });
        }
        let (prefix, rest) = match text.strip_prefix('/') {
            Some(rest) => ("/", rest),
            None => match text.strip_prefix('~') {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => ("~/", rest),
                Some(_) => return Err(PathError::OtherHome { path: shown() }),
                None => ("", text),
            },
        };
        let mut parts = Vec::new();
        for part in rest.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(PathError::Parent { path: shown() }),
                // A name that begins with `~` below the project keeps its `./`, or it would read back as the home.
                part => parts.push(part),
            }
        }
        let joined = parts.join("/");
        let text = match (prefix, joined.as_str()) {
            ("", "") => ".".to_owned(),
            ("", rest) if rest.starts_with('~') => format!("./{rest}"),
            ("~/", "") => "~".to_owned(),
            (prefix, rest) => format!("{prefix}{rest}"),
        };
        Ok(Self { text })
    }

    /// Parses a path that will be mounted: no wildcards.
    ///
    /// # Errors
    /// As [`PathSpec::parse`].
    pub fn parse_plain(text: &str) -> Result<Self, PathError> {
        let path = Self::parse(text)?;
        if path.has_wildcard() {
            return Err(PathError::Wildcard {
                path: shorten(text, 80),
            });
        }
        Ok(path)
    }

    /// Parses a path that will be granted to the agent: no wildcards, and not so much that the sandbox would be none.
    ///
    /// # Errors
    /// As [`PathSpec::parse_plain`], and [`PathError::TooMuch`].
    pub fn parse_grant(text: &str) -> Result<Self, PathError> {
        let path = Self::parse_plain(text)?;
        let why = match (path.base(), path.relative()) {
            (PathBase::Root, "") => "it is the whole file system",
            (PathBase::Root, "home" | "root") | (PathBase::Home, "") => {
                "whole home directories stay outside; name the directories in it"
            }
            (PathBase::Root, "tmp" | "run") => {
                "the sandbox has its own; name what is wanted below it"
            }
            (PathBase::Root, rest)
                if rest
                    .split('/')
                    .next()
                    .is_some_and(|top| KERNEL_MADE.contains(&top)) =>
            {
                "the sandbox has its own"
            }
            _ => return Ok(path),
        };
        Err(PathError::TooMuch {
            path: path.text,
            why,
        })
    }

    /// Where the path starts.
    #[must_use]
    pub fn base(&self) -> PathBase {
        match self.text.as_bytes() {
            [b'/', ..] => PathBase::Root,
            [b'~'] | [b'~', b'/', ..] => PathBase::Home,
            _ => PathBase::Project,
        }
    }

    /// The part below the base, without a leading slash; empty for the base itself.
    #[must_use]
    pub fn relative(&self) -> &str {
        let text = self.text.as_str();
        match self.base() {
            PathBase::Root => text.strip_prefix('/').unwrap_or(text),
            PathBase::Home => text.strip_prefix("~/").unwrap_or(""),
            PathBase::Project if text == "." => "",
            PathBase::Project => text.strip_prefix("./").unwrap_or(text),
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether the path has `*`, `?` or `[`, which mean sets of names in `hidden`.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.text.contains(['*', '?', '['])
    }
}

/// Top directories whose content the kernel makes, so that mounting parts of them opens the host.
const KERNEL_MADE: [&str; 3] = ["proc", "sys", "dev"];

impl fmt::Display for PathSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for PathSpec {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<PathSpec> for String {
    fn from(path: PathSpec) -> Self {
        path.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bases_and_canonical_form() {
        for (text, base, relative, shown) in [
            ("/", PathBase::Root, "", "/"),
            ("/usr//lib/./x/", PathBase::Root, "usr/lib/x", "/usr/lib/x"),
            ("~", PathBase::Home, "", "~"),
            ("~/", PathBase::Home, "", "~"),
            ("~/git/", PathBase::Home, "git", "~/git"),
            ("data", PathBase::Project, "data", "data"),
            ("./data", PathBase::Project, "data", "data"),
            (".", PathBase::Project, "", "."),
            (".env", PathBase::Project, ".env", ".env"),
            ("./~", PathBase::Project, "~", "./~"),
            ("./~x/y", PathBase::Project, "~x/y", "./~x/y"),
            ("a b/ü", PathBase::Project, "a b/ü", "a b/ü"),
        ] {
            let path = PathSpec::parse(text).unwrap();
            assert_eq!(
                (path.base(), path.relative(), path.as_str()),
                (base, relative, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        for bad in [
            "",
            "..",
            "a/../b",
            "/..",
            "~/..",
            "~user/x",
            "~user",
            "a\0b",
            "a\nb",
            "a\u{1b}[0m",
            "a\u{85}b",
        ] {
            assert!(PathSpec::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(
            PathSpec::parse(&"a".repeat(4096)),
            Err(PathError::TooLong { length: 4096 })
        );
    }

    #[test]
    fn grants_have_limits() {
        for bad in [
            "/",
            "//",
            "/.",
            "~",
            "~/",
            "/home",
            "/root",
            "/proc",
            "/proc/self",
            "/sys/fs",
            "/dev",
            "/dev/shm",
            "/tmp",
            "/run",
            "*",
            "/data/*.x",
        ] {
            assert!(PathSpec::parse_grant(bad).is_err(), "{bad:?} was accepted");
        }
        for good in [
            "~/git",
            "/opt/data",
            "/home/user/data",
            "/tmp/x",
            "/run/x",
            "vendor",
            "/processed",
            "/root/x",
        ] {
            assert!(PathSpec::parse_grant(good).is_ok(), "{good:?} was refused");
        }
        assert!(PathSpec::parse("**/*.key").is_ok_and(|path| path.has_wildcard()));
    }

    proptest! {
        #[test]
        fn parsing_is_stable(text in "[~./a-b]{1,12}") {
            if let Ok(path) = PathSpec::parse(&text) {
                prop_assert_eq!(PathSpec::parse(path.as_str()), Ok(path.clone()));
                prop_assert!(!path.relative().split('/').any(|part| part == ".."));
                prop_assert!(!path.relative().starts_with('/'));
            }
        }
    }
}
