//! Names of environment variables and patterns of them.
//!
//! Must not read the environment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::shorten;

/// Fewest characters in front of the star of a pattern: a shorter one passes what nobody thought of.
const PREFIX_MIN: usize = 3;

/// Why a text names no environment variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// Not letters, digits and underscores, or a digit first (POSIX XBD chapter 8).
    #[error("`{name}` is no name of an environment variable")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// A star in the wrong place or with too little in front.
    #[error(
        "`{pattern}` is too wide; a pattern is a prefix of at least 3 characters and a `*`, such as `EXAMPLE_*`"
    )]
    Pattern {
        /// The pattern, escaped.
        pattern: String,
    },
    /// A value with a NUL byte, which no environment can hold.
    #[error("value of environment variable `{name}` contains a NUL byte")]
    Value {
        /// The variable.
        name: String,
    },
}

/// The name of an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvName(String);

impl EnvName {
    /// Parses a name.
    ///
    /// # Errors
    /// When the text is no portable name.
    pub fn parse(text: &str) -> Result<Self, EnvError> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EnvError::Name {
                name: shorten(text, 60),
            })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A variable, or all with a prefix: `EDITOR`, `CLAUDE_CODE_*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvPattern(String);

impl EnvPattern {
    /// Parses a name or a prefix with a star.
    ///
    /// # Errors
    /// When the text is neither, or the prefix is shorter than three characters.
    pub fn parse(text: &str) -> Result<Self, EnvError> {
        if !text.contains('*') {
            return EnvName::parse(text).map(|name| Self(name.0));
        }
        match text.strip_suffix('*') {
            Some(prefix) if prefix.len() >= PREFIX_MIN && is_name(prefix) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(EnvError::Pattern {
                pattern: shorten(text, 60),
            }),
        }
    }

    /// Tells whether the pattern covers a variable of this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }

    /// Tells whether this pattern covers everything that `other` covers.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self.0.strip_suffix('*'), other.0.strip_suffix('*')) {
            (Some(prefix), other_prefix) => other_prefix.unwrap_or(&other.0).starts_with(prefix),
            (None, _) => self == other,
        }
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Checks that a value fits into an environment.
///
/// # Errors
/// When the value contains a NUL byte.
pub fn check_env_value(name: &EnvName, value: &str) -> Result<(), EnvError> {
    if value.contains('\0') {
        Err(EnvError::Value {
            name: name.0.clone(),
        })
    } else {
        Ok(())
    }
}

macro_rules! text_conversions {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = EnvError;

            fn try_from(text: String) -> Result<Self, EnvError> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    };
}

text_conversions!(EnvName);
text_conversions!(EnvPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["A", "_", "PATH", "a_1"] {
            assert!(EnvName::parse(good).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "1A", "A-B", "A=B", "A B", "Ä", "A\0", "A*", "A\n"] {
            assert!(EnvName::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn patterns() {
        let pattern = EnvPattern::parse("CLAUDE_CODE_*").unwrap();
        assert!(pattern.matches("CLAUDE_CODE_USE_BEDROCK") && pattern.matches("CLAUDE_CODE_"));
        assert!(!pattern.matches("CLAUDE_CODEX") && !pattern.matches("XCLAUDE_CODE_A"));
        assert!(EnvPattern::parse("EDITOR").unwrap().matches("EDITOR"));
        assert!(!EnvPattern::parse("EDITOR").unwrap().matches("EDITOR2"));
        for bad in [
            "*", "A*", "AB*", "A*B", "**", "ABC**", "*ABC", "1BC*", "A-C_*",
        ] {
            assert!(EnvPattern::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
