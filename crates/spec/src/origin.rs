//! Where a value of the policy came from, so that `rcc plan` can name it.
//!
//! Must not open or resolve the names it carries: they are labels for people.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The thing that said something: a file, a flag, a preset, or rcc itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// rcc's own default.
    Default,
    /// A command line flag, with its dashes: `--allow`.
    Flag(Arc<str>),
    /// A file, as the user would name it: `rcc.toml`, `/etc/rcc/config.toml`.
    File(Arc<str>),
    /// The agent preset of this name.
    Preset(Arc<str>),
}

impl SourceName {
    /// Names a file.
    #[must_use]
    pub fn file(name: &str) -> Self {
        Self::File(Arc::from(name))
    }

    /// Names a command line flag.
    #[must_use]
    pub fn flag(name: &str) -> Self {
        Self::Flag(Arc::from(name))
    }

    /// Names an agent preset.
    #[must_use]
    pub fn preset(name: &str) -> Self {
        Self::Preset(Arc::from(name))
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

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::File(name) => f.write_str(name),
            Self::Preset(name) => write!(f, "preset {name}"),
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
        source: SourceName::Default,
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
        match (&self.source, self.line) {
            (SourceName::File(name), Some(line)) => write!(f, "{name}:{line}"),
            (source, _) => source.fmt(f),
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
