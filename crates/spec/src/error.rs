//! What is wrong with a policy file, at which place, and what to write instead.
//!
//! Must not repeat the text of a source error, and must not let control characters of the file through.

use std::fmt;

use crate::environment::EnvError;
use crate::limits::LimitError;
use crate::network::NetworkMode;
use crate::origin::SourceName;
use crate::path::PathError;
use crate::publish::PublishError;
use crate::rule::RuleError;
use crate::upstream_proxy::ProxyError;

/// A place in a text, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file or flag.
    pub source: SourceName,
    /// Line, counted from 1; 0 means the file as a whole.
    pub line: usize,
    /// Column in characters, counted from 1; 0 means the line as a whole.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        match (self.line, self.column) {
            (0, _) => Ok(()),
            (line, 0) => write!(f, ":{line}"),
            (line, column) => write!(f, ":{line}:{column}"),
        }
    }
}

/// A fault of a policy file, rule file, whitelist or preset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// Where.
    pub at: Position,
    /// What; boxed because errors are rare and results are many.
    pub problem: Box<Problem>,
}

impl PolicyError {
    pub(crate) fn new(at: Position, problem: Problem) -> Self {
        Self {
            at,
            problem: Box::new(problem),
        }
    }

    /// What to do about it, one sentence, if the fault itself does not say so.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.problem)
    }
}

/// The fault itself, without its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Bytes that are no UTF-8.
    #[error("file is not UTF-8")]
    NotUtf8,
    /// A file far beyond what people write.
    #[error("file has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The text does not follow the grammar of its format.
    #[error("{format} is broken: {message}")]
    Syntax {
        /// `TOML` or `YAML`.
        format: &'static str,
        /// What the parser says, escaped.
        message: String,
        /// What was probably meant, if it is certain enough.
        meant: Option<&'static str>,
    },
    /// The `version` key is missing.
    #[error("key `version` is missing")]
    NoVersion,
    /// A version that this rcc does not know.
    #[error("version {found} of the format is unknown")]
    UnknownVersion {
        /// The version found, escaped.
        found: String,
    },
    /// A key that does not exist there.
    #[error("unknown key `{key}`{}", in_table(.table))]
    UnknownKey {
        /// The key, escaped.
        key: String,
        /// The table it stands in; empty at the top.
        table: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
        /// The table to which a key of this name belongs.
        belongs_to: Option<&'static str>,
        /// Every key of the table.
        known: &'static [&'static str],
    },
    /// A key that exists, but not in this file.
    #[error("`{key}` is only possible in the administrator's file")]
    AdminOnly {
        /// The key.
        key: &'static str,
    },
    /// A key that a project's file must not have.
    #[error("`{key}` is not possible in a project's file")]
    NotForProjects {
        /// The key.
        key: &'static str,
    },
    /// A bad port to publish.
    #[error("`{key}` has a bad port")]
    Publish {
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        #[source]
        source: PublishError,
    },
    /// A bad proxy.
    #[error("`{key}` has a bad proxy")]
    Proxy {
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        #[source]
        source: ProxyError,
    },
    /// A key that must be there.
    #[error("key `{key}` is missing{}", in_table(.table))]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The table; empty at the top.
        table: String,
    },
    /// A key that is there twice.
    #[error("key `{key}` is there twice")]
    DuplicateKey {
        /// The key, escaped.
        key: String,
    },
    /// Two keys that exclude each other.
    #[error("`{one}` and `{other}` exclude each other")]
    Exclusive {
        /// The first key.
        one: &'static str,
        /// The second key.
        other: &'static str,
    },
    /// A value of another type.
    #[error("`{key}` is {found}, expected {expected}")]
    WrongType {
        /// The key with its tables.
        key: String,
        /// Type found, with an article.
        found: String,
        /// Type expected, with an article.
        expected: &'static str,
    },
    /// A word that is none of the possible ones.
    #[error("`{key}` cannot be `{found}`")]
    UnknownWord {
        /// The key with its tables.
        key: String,
        /// The word, escaped.
        found: String,
        /// The word that was probably meant.
        nearest: Option<&'static str>,
        /// Every word.
        known: &'static [&'static str],
    },
    /// A control character in a value.
    #[error("`{key}` contains a control character")]
    Control {
        /// The key with its tables.
        key: String,
    },
    /// A number out of its range, or a text out of its form.
    #[error("`{key}` must be {expected}")]
    Form {
        /// The key with its tables.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A bad rule.
    #[error("`{key}` has a bad rule")]
    Rule {
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        #[source]
        source: RuleError,
    },
    /// A bad line of a rule file.
    #[error("bad rule")]
    RuleLine {
        /// What is wrong with it.
        #[source]
        source: RuleError,
    },
    /// A bad path.
    #[error("`{key}` has a bad path")]
    Path {
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// A bad limit.
    #[error("`{key}` has a bad value")]
    Limit {
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        #[source]
        source: LimitError,
    },
    /// A bad environment variable.
    #[error("`{key}` has a bad variable")]
    Env {
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        #[source]
        source: EnvError,
    },
    /// A feature of YAML that is not read.
    #[error("{what} {verb} not read in a whitelist", verb = if .what.ends_with('s') { "are" } else { "is" })]
    YamlFeature {
        /// The feature.
        what: &'static str,
    },
}

fn in_table(table: &str) -> String {
    if table.is_empty() {
        String::new()
    } else {
        format!(" in [{table}]")
    }
}

impl Problem {
    /// See [`PolicyError::hint`].
    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey {
                nearest,
                belongs_to,
                known,
                ..
            } => Some(match (nearest, belongs_to) {
                (Some(nearest), _) => format!("did you mean `{nearest}`?"),
                (None, Some(table)) => format!("it belongs in [{table}]"),
                (None, None) => format!("possible here: {}", quoted(known)),
            }),
            Self::UnknownWord { nearest, known, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("possible here: {}", quoted(known)),
            }),
            Self::NoVersion => {
                Some("write `version = 1` (in YAML `version: 1`) at the top".to_owned())
            }
            Self::UnknownVersion { .. } => {
                Some("this rcc reads version 1; a newer one may be needed".to_owned())
            }
            Self::Syntax { meant, .. } => meant.map(str::to_owned),
            Self::WrongType {
                found, expected, ..
            } => hint_of_types(found, expected).map(str::to_owned),
            Self::NotForProjects { .. } => Some(
                "it belongs in your own file, $XDG_CONFIG_HOME/rcc/config.toml, or the administrator's".to_owned(),
            ),
            Self::Path {
                source: PathError::Parent { .. },
                ..
            } => Some("outside the project, write a path that starts with `/` or `~/`".to_owned()),
            _ => None,
        }
    }
}

fn hint_of_types(found: &str, expected: &str) -> Option<&'static str> {
    match (found, expected) {
        ("nothing", _) => Some("to keep the default, leave the key out"),
        ("a string", "a list of strings") => Some("put it into brackets: [\"…\"]"),
        ("a string", "true or false" | "the number 1") => Some("write it without quotes"),
        ("a number", "a string") => Some("write it in quotes"),
        _ => None,
    }
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Words of [`NetworkMode`], for messages.
pub(crate) const MODE_WORDS: &[&str] = &[
    NetworkMode::None.as_str(),
    NetworkMode::Allowlist.as_str(),
    NetworkMode::Internet.as_str(),
];

/// Finds the known word that was probably meant.
pub(crate) fn nearest(found: &str, known: &[&'static str]) -> Option<&'static str> {
    // Hyphens, underscores and case are what people mix up most.
    let plain = |text: &str| {
        text.chars()
            .filter(|c| !matches!(c, '-' | '_'))
            .collect::<String>()
            .to_lowercase()
    };
    let wanted = plain(&found.chars().take(64).collect::<String>());
    known
        .iter()
        .map(|&word| (strsim::damerau_levenshtein(&wanted, &plain(word)), word))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, word)| distance <= (word.len() / 3).clamp(1, 3))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word() {
        let known: &[&'static str] = &["readonly", "rw", "hidden", "share_state"];
        assert_eq!(nearest("read-only", known), Some("readonly"));
        assert_eq!(nearest("Hiden", known), Some("hidden"));
        assert_eq!(nearest("sharestate", known), Some("share_state"));
        assert_eq!(nearest("network", known), None);
        assert_eq!(nearest("", &[]), None);
    }

    #[test]
    fn positions() {
        let at = |line, column| {
            Position {
                source: SourceName::file("rcc.toml"),
                line,
                column,
            }
            .to_string()
        };
        assert_eq!(at(3, 4), "rcc.toml:3:4");
        assert_eq!(at(3, 0), "rcc.toml:3");
        assert_eq!(at(0, 0), "rcc.toml");
    }
}
