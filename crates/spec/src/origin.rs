//! Where a value of the policy came from, so that `rcc plan` can name it.
//!
//! Must not open or resolve the names it carries: they are labels for people.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What kind of thing said something, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// rcc's own default.
    Default,
    /// A command line flag, with its dashes: `--allow`.
    Flag(Box<str>),
    /// A file, as the user would name it: `rcc.toml`, `/etc/rcc/config.toml`.
    File(Box<str>),
    /// The agent preset of this name.
    Preset(Box<str>),
}

/// The thing that said something: a file, a flag, a preset, or rcc itself.
///
/// One pointer wide and cheap to clone, because each of a million rules has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "SourceKind", into = "SourceKind")]
pub struct SourceName(Option<Arc<SourceKind>>);

impl SourceName {
    /// rcc's own defaults.
    pub const DEFAULT: Self = Self(None);

    /// Names a file.
    #[must_use]
    pub fn file(name: &str) -> Self {
        SourceKind::File(name.into()).into()
    }

    /// Names a command line flag.
    #[must_use]
    pub fn flag(name: &str) -> Self {
        SourceKind::Flag(name.into()).into()
    }

    /// Names an agent preset.
    #[must_use]
    pub fn preset(name: &str) -> Self {
        SourceKind::Preset(name.into()).into()
    }

    /// The kind and the name.
    #[must_use]
    pub fn kind(&self) -> &SourceKind {
        self.0.as_deref().unwrap_or(&SourceKind::Default)
    }

    /// Tells, by looking at the pointer only, whether both are certainly the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Makes the origin of line `line` (counted from 1; 0 means "no line") of this source.
    #[must_use]
    pub fn line(&self, line: usize) -> Origin {
        Origin {
            source: self.clone(),
            line: u32::try_from(line).ok().and_then(NonZeroU32::new),
        }
    }
}

impl From<SourceKind> for SourceName {
    fn from(kind: SourceKind) -> Self {
        // One form for each value, so that comparing works.
        Self((kind != SourceKind::Default).then(|| Arc::new(kind)))
    }
}

impl From<SourceName> for SourceKind {
    fn from(name: SourceName) -> Self {
        name.kind().clone()
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            SourceKind::Default => f.write_str("default"),
            SourceKind::Flag(name) => write!(f, "flag {name}"),
            SourceKind::File(name) => f.write_str(name),
            SourceKind::Preset(name) => write!(f, "preset {name}"),
        }
    }
}

/// A source and, for files, the line in it.
///
/// Displays as `flag --allow`, `rcc.toml:12`, `preset claude`, `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Who said it.
    pub source: SourceName,
    /// Line counted from 1; none where lines mean nothing.
    pub line: Option<NonZeroU32>,
}

impl Origin {
    /// The origin of rcc's own defaults.
    pub const DEFAULT: Self = Self {
        source: SourceName::DEFAULT,
        line: None,
    };

    /// Makes the origin of a command line flag.
    #[must_use]
    pub fn flag(name: &str) -> Self {
        SourceName::flag(name).line(0)
    }

    /// Makes the origin of line `line` of a file; line 0 means the file as a whole.
    #[must_use]
    pub fn file(name: &str, line: usize) -> Self {
        SourceName::file(name).line(line)
    }

    /// Makes the origin of an agent preset.
    #[must_use]
    pub fn preset(name: &str) -> Self {
        SourceName::preset(name).line(0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source.kind(), self.line) {
            (SourceKind::File(name), Some(line)) => write!(f, "{name}:{line}"),
            _ => self.source.fmt(f),
        }
    }
}

/// A value together with the place that set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The place that set it.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Joins a value and its origin.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// Marks a value as rcc's own default.
    pub fn default_of(value: T) -> Self {
        Self::new(value, Origin::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_the_user_knows_it() {
        assert_eq!(Origin::flag("--allow").to_string(), "flag --allow");
        assert_eq!(Origin::file("rcc.toml", 12).to_string(), "rcc.toml:12");
        assert_eq!(Origin::file("rcc.toml", 0).to_string(), "rcc.toml");
        assert_eq!(Origin::preset("claude").to_string(), "preset claude");
        assert_eq!(Origin::DEFAULT.to_string(), "default");
    }
}
