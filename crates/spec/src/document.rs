//! Strict reading of TOML: every key is expected, every value has its type, every fault has its place.
//!
//! Must not know any key: the readers of policies and presets bring them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{PolicyError, Position, Problem, nearest};
use crate::origin::{Origin, SourceKind, SourceName, Sourced};
use crate::text::shorten;

/// Largest file that is read, in bytes; long lists of rules belong in rule files.
const FILE_MAX_BYTES: usize = 1 << 20;

/// Turns bytes of a file into text.
///
/// # Errors
/// Names the line of the first byte that is no UTF-8.
pub fn decode<'b>(bytes: &'b [u8], source: &SourceName) -> Result<&'b str, PolicyError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        PolicyError::new(
            Position {
                source: source.clone(),
                line,
                column: 0,
            },
            Problem::NotUtf8,
        )
    })
}

/// One file: its name and where its lines begin.
pub(crate) struct Document<'t> {
    source: &'t SourceName,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Document<'t> {
    pub(crate) fn new(text: &'t str, source: &'t SourceName) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            source,
            text,
            line_starts,
        }
    }

    /// Parses the text into a table.
    pub(crate) fn parse(&self) -> Result<Spanned<DeTable<'t>>, PolicyError> {
        if self.text.len() > FILE_MAX_BYTES {
            let problem = Problem::TooLarge {
                bytes: self.text.len(),
                limit: FILE_MAX_BYTES,
            };
            return Err(PolicyError::new(
                Position {
                    source: self.source.clone(),
                    line: 0,
                    column: 0,
                },
                problem,
            ));
        }
        DeTable::parse(self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = shorten(error.message(), 200);
            let problem = if error.message() == "duplicate key" {
                Problem::DuplicateKey {
                    key: shorten(self.text.get(span.clone()).unwrap_or_default(), 40),
                }
            } else {
                let meant = meant_by(self.text.get(span.start..).unwrap_or_default());
                Problem::Syntax {
                    format: "TOML",
                    message,
                    meant,
                }
            };
            PolicyError::new(self.position(span), problem)
        })
    }

    fn position(&self, span: Range<usize>) -> Position {
        let line = self.line_of(span.start);
        let start = self
            .line_starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let column = 1 + self
            .text
            .get(start..span.start)
            .map_or(0, |before| before.chars().count());
        Position {
            source: self.source.clone(),
            line,
            column,
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }
}

/// Guesses from the text at a broken place what was meant.
fn meant_by(there: &str) -> Option<&'static str> {
    let word: String = there
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    match word.to_ascii_lowercase().as_str() {
        "" => None,
        "null" | "nil" | "undefined" => {
            Some("TOML has no empty value; to keep the default, leave the key out")
        }
        "true" | "false" | "yes" | "no" | "on" | "off" => Some("write `true` or `false`"),
        _ => Some("put texts into quotes"),
    }
}

/// A table whose keys were all checked.
pub(crate) struct Table<'d, 't> {
    document: &'d Document<'t>,
    path: String,
    entries: &'d DeTable<'t>,
    span: Range<usize>,
}

/// A value with its key and place.
pub(crate) struct Value<'d, 't> {
    document: &'d Document<'t>,
    /// The key with its tables, for messages.
    pub(crate) path: String,
    value: &'d Spanned<DeValue<'t>>,
}

/// Where keys of a name live, for the hint when one stands in the wrong table.
pub(crate) type KeyHomes = &'static [(&'static str, &'static [&'static str])];

impl<'d, 't> Table<'d, 't> {
    /// Opens the top table.
    pub(crate) fn top(
        document: &'d Document<'t>,
        table: &'d Spanned<DeTable<'t>>,
        known: &'static [&'static str],
        homes: KeyHomes,
    ) -> Result<Self, PolicyError> {
        Self::open(document, String::new(), table.get_ref(), 0..0, known, homes)
    }

    fn open(
        document: &'d Document<'t>,
        path: String,
        entries: &'d DeTable<'t>,
        span: Range<usize>,
        known: &'static [&'static str],
        homes: KeyHomes,
    ) -> Result<Self, PolicyError> {
        let unknown = entries
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        if let Some(key) = unknown {
            let name = key.get_ref().as_ref();
            let belongs_to = homes
                .iter()
                .find(|(_, keys)| keys.contains(&name))
                .map(|&(table, _)| table);
            let problem = Problem::UnknownKey {
                key: shorten(name, 40),
                table: path,
                // An exact match elsewhere is a better guess than a similar key here.
                nearest: if belongs_to.is_some() {
                    None
                } else {
                    nearest(name, known)
                },
                belongs_to,
                known,
            };
            return Err(PolicyError::new(document.position(key.span()), problem));
        }
        Ok(Self {
            document,
            path,
            entries,
            span,
        })
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of a key, if it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'d, 't>> {
        self.entries.get(key).map(|value| Value {
            document: self.document,
            path: self.key_path(key),
            value,
        })
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&self, key: &'static str) -> Result<Value<'d, 't>, PolicyError> {
        self.get(key).ok_or_else(|| {
            self.error(Problem::MissingKey {
                key,
                table: self.path.clone(),
            })
        })
    }

    /// The table of a key, if it is there.
    pub(crate) fn table(
        &self,
        key: &'static str,
        known: &'static [&'static str],
        homes: KeyHomes,
    ) -> Result<Option<Self>, PolicyError> {
        self.get(key)
            .map(|value| value.table(known, homes))
            .transpose()
    }

    /// Makes a fault of the table as a whole.
    pub(crate) fn error(&self, problem: Problem) -> PolicyError {
        let at = if self.path.is_empty() {
            Position {
                source: self.document.source.clone(),
                line: 0,
                column: 0,
            }
        } else {
            self.document.position(self.span.clone())
        };
        PolicyError::new(at, problem)
    }

    /// Checks `version = 1`.
    pub(crate) fn check_version(&self) -> Result<(), PolicyError> {
        let Some(value) = self.get("version") else {
            return Err(self.error(Problem::NoVersion));
        };
        let DeValue::Integer(number) = value.value.get_ref() else {
            return Err(value.wrong_type("the number 1"));
        };
        if number.radix() == 10 && number.as_str() == "1" {
            return Ok(());
        }
        Err(value.error(Problem::UnknownVersion {
            found: shorten(&number.to_string(), 20),
        }))
    }
}

impl<'d, 't> Value<'d, 't> {
    /// The place of the value.
    pub(crate) fn origin(&self) -> Origin {
        self.document
            .source
            .line(self.document.line_of(self.value.span().start))
    }

    /// The place of the value, for a file that is itself a preset: the preset is what the user knows.
    pub(crate) fn preset_origin(&self, name: &str) -> Origin {
        match self.document.source.kind() {
            SourceKind::Preset(_) => Origin::preset(name),
            _ => self.origin(),
        }
    }

    /// Makes a fault of this value.
    pub(crate) fn error(&self, problem: Problem) -> PolicyError {
        PolicyError::new(self.document.position(self.value.span()), problem)
    }

    /// Makes the fault of a wrong type.
    pub(crate) fn wrong_type(&self, expected: &'static str) -> PolicyError {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(Problem::WrongType {
            key: self.path.clone(),
            found: found.to_owned(),
            expected,
        })
    }

    /// Joins a value with the place of this one.
    pub(crate) fn sourced<T>(&self, value: T) -> Sourced<T> {
        Sourced::new(value, self.origin())
    }

    /// The text of a string without control characters.
    pub(crate) fn text(&self) -> Result<&'d str, PolicyError> {
        let text = self.any_text("a string")?;
        if text.chars().any(char::is_control) {
            return Err(self.error(Problem::Control {
                key: self.path.clone(),
            }));
        }
        Ok(text)
    }

    /// The text of a string that may have line breaks and tabs, but no other control character.
    pub(crate) fn multiline_text(&self) -> Result<&'d str, PolicyError> {
        let text = self.any_text("a string")?;
        if text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
        {
            return Err(self.error(Problem::Control {
                key: self.path.clone(),
            }));
        }
        Ok(text)
    }

    fn any_text(&self, expected: &'static str) -> Result<&'d str, PolicyError> {
        self.value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.wrong_type(expected))
    }

    /// The text of a string, none for another type.
    pub(crate) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Tells whether it is a whole number, of any size and sign.
    pub(crate) fn is_whole_number(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    /// The whole number, none for another type or one that is negative or too large.
    pub(crate) fn whole_number(&self) -> Option<u64> {
        let number = self.value.get_ref().as_integer()?;
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// The decimal text of a number, whole or with a fraction; none for another type.
    pub(crate) fn number_text(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            DeValue::Integer(_) => self.whole_number().map(|number| number.to_string()),
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            _ => None,
        }
    }

    /// True or false.
    pub(crate) fn boolean(&self) -> Result<bool, PolicyError> {
        self.value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.wrong_type("true or false"))
    }

    /// The values of a list.
    pub(crate) fn list(&self) -> Result<Vec<Self>, PolicyError> {
        let DeValue::Array(items) = self.value.get_ref() else {
            return Err(self.wrong_type("a list of strings"));
        };
        Ok(items
            .iter()
            .map(|value| Value {
                document: self.document,
                path: self.path.clone(),
                value,
            })
            .collect())
    }

    /// The table with exactly these keys possible.
    pub(crate) fn table(
        &self,
        known: &'static [&'static str],
        homes: KeyHomes,
    ) -> Result<Table<'d, 't>, PolicyError> {
        let DeValue::Table(entries) = self.value.get_ref() else {
            return Err(self.wrong_type("a table"));
        };
        Table::open(
            self.document,
            self.path.clone(),
            entries,
            self.value.span(),
            known,
            homes,
        )
    }

    /// The keys and values of a table whose keys are the user's.
    pub(crate) fn pairs(&self) -> Result<Vec<(&'d str, Self)>, PolicyError> {
        let DeValue::Table(entries) = self.value.get_ref() else {
            return Err(self.wrong_type("a table"));
        };
        let mut pairs: Vec<_> = entries.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        Ok(pairs
            .into_iter()
            .map(|(key, value)| {
                let key = key.get_ref().as_ref();
                let path = format!("{}.{}", self.path, shorten(key, 40));
                (
                    key,
                    Value {
                        document: self.document,
                        path,
                        value,
                    },
                )
            })
            .collect())
    }

    /// One of a fixed set of words.
    pub(crate) fn word(&self, known: &'static [&'static str]) -> Result<&'static str, PolicyError> {
        let text = self.text()?;
        known
            .iter()
            .copied()
            .find(|&word| word == text)
            .ok_or_else(|| {
                self.error(Problem::UnknownWord {
                    key: self.path.clone(),
                    found: shorten(text, 40),
                    nearest: nearest(text, known),
                    known,
                })
            })
    }
}
