//! The YAML whitelist, a format that some users already have.
//!
//! ```yaml
//! version: 1
//! defaults:
//!   block_rfc1918: true
//!   allow_public: false
//! whitelist:
//!   - host: example.com
//!     ports: [443, 8000-8100]
//!   - ip: 203.0.113.0/24
//!     ports: [22]
//!   - host: example.net
//!     raw: true
//! ```
//!
//! Must not build a document: the events of the parser are read as they come, so an alias is refused before it could
//! expand, and depth and size are bounded by this file's own structure. `saphyr-parser` was chosen because it is
//! pure Rust without `unsafe` of its own use here, maintained, has no serde layer that would coerce `no` to false or
//! `0o17` to 15 behind our back, and gives a place with every event.

use ipnet::{IpNet, Ipv4Net};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use crate::conf::RuleFile;
use crate::error::{PolicyError, Position, Problem, nearest};
use crate::network::NetworkMode;
use crate::origin::{SourceName, Sourced};
use crate::ports::{Checks, Ports, Transport};
use crate::rule::{Effect, Rule, RuleError, Target};
use crate::text::shorten;

/// Largest whitelist in bytes.
const FILE_MAX_BYTES: usize = 16 << 20;

const TOP: &[&str] = &["version", "defaults", "whitelist"];
const DEFAULTS: &[&str] = &["block_rfc1918", "allow_public"];
const ENTRY: &[&str] = &["host", "ip", "ports", "raw"];

/// Parses a YAML whitelist, version 1.
///
/// Left out, `block_rfc1918` is true and `allow_public` is false.
///
/// # Errors
/// The first fault, with line, column, key, and what was probably meant.
pub fn parse_whitelist(text: &str, source: &SourceName) -> Result<RuleFile, PolicyError> {
    if text.len() > FILE_MAX_BYTES {
        let problem = Problem::TooLarge {
            bytes: text.len(),
            limit: FILE_MAX_BYTES,
        };
        return Err(PolicyError::new(
            Position {
                source: source.clone(),
                line: 0,
                column: 0,
            },
            problem,
        ));
    }
    Reader {
        parser: Parser::new_from_str(text),
        source,
        at: (0, 0),
    }
    .read()
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    source: &'t SourceName,
    /// Line and column of the event read last, both from 1.
    at: (usize, usize),
}

/// The events that a whitelist consists of.
enum Node {
    Scalar { text: String, quoted: bool },
    Sequence,
    SequenceEnd,
    Mapping,
    MappingEnd,
    DocumentEnd,
}

impl Node {
    fn describe(&self) -> String {
        match self {
            Self::Scalar {
                text,
                quoted: false,
            } if matches!(text.as_str(), "" | "~" | "null") => "nothing".to_owned(),
            Self::Scalar { text, .. } => format!("`{}`", shorten(text, 40)),
            Self::Sequence => "a list".to_owned(),
            Self::Mapping => "a mapping".to_owned(),
            Self::SequenceEnd | Self::MappingEnd | Self::DocumentEnd => "nothing".to_owned(),
        }
    }
}

impl Reader<'_> {
    fn fault(&self, problem: Problem) -> PolicyError {
        let (line, column) = self.at;
        PolicyError::new(
            Position {
                source: self.source.clone(),
                line,
                column,
            },
            problem,
        )
    }

    fn wrong_type(&self, key: &str, found: &Node, expected: &'static str) -> PolicyError {
        self.fault(Problem::WrongType {
            key: key.to_owned(),
            found: found.describe(),
            expected,
        })
    }

    fn next(&mut self) -> Result<Node, PolicyError> {
        loop {
            let (event, span) = match self.parser.next_event() {
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    self.at = (error.marker().line(), error.marker().col() + 1);
                    let message = shorten(error.info(), 200);
                    return Err(self.fault(Problem::Syntax {
                        format: "YAML",
                        message,
                        meant: None,
                    }));
                }
                None => return Ok(Node::DocumentEnd),
            };
            self.move_to(span);
            let (anchor, tagged, node) = match event {
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
                Event::Alias(_) => return Err(self.fault(Problem::YamlFeature { what: "aliases" })),
                Event::Scalar(text, style, anchor, tag) => {
                    let quoted = style != ScalarStyle::Plain;
                    (
                        anchor,
                        tag.is_some(),
                        Node::Scalar {
                            text: text.into_owned(),
                            quoted,
                        },
                    )
                }
                Event::SequenceStart(anchor, tag) => (anchor, tag.is_some(), Node::Sequence),
                Event::MappingStart(anchor, tag) => (anchor, tag.is_some(), Node::Mapping),
                Event::SequenceEnd => (0, false, Node::SequenceEnd),
                Event::MappingEnd => (0, false, Node::MappingEnd),
                Event::DocumentEnd | Event::StreamEnd => (0, false, Node::DocumentEnd),
            };
            if anchor != 0 {
                return Err(self.fault(Problem::YamlFeature { what: "anchors" }));
            }
            if tagged {
                return Err(self.fault(Problem::YamlFeature { what: "tags" }));
            }
            return Ok(node);
        }
    }

    fn move_to(&mut self, span: Span) {
        self.at = (span.start.line(), span.start.col() + 1);
    }

    fn read(mut self) -> Result<RuleFile, PolicyError> {
        let first = self.next()?;
        match first {
            Node::Mapping => {}
            Node::DocumentEnd => {
                self.at = (0, 0);
                return Err(self.fault(Problem::NoVersion));
            }
            other => return Err(self.wrong_type("whitelist file", &other, "a mapping")),
        }
        let mut seen = Keys::new("", TOP);
        let mut file = RuleFile::default();
        let mut defaults = Defaults::default();
        while let Some(key) = self.key(&mut seen)? {
            match key {
                "version" => self.version()?,
                "defaults" => defaults = self.defaults()?,
                _ => self.entries(&mut file)?,
            }
        }
        if !seen.has("version") {
            self.at = (0, 0);
            return Err(self.fault(Problem::NoVersion));
        }
        self.end()?;
        defaults.apply(&mut file, self.source);
        Ok(file)
    }

    /// Refuses a second document behind the first.
    fn end(&mut self) -> Result<(), PolicyError> {
        match self.next()? {
            Node::DocumentEnd => {}
            other => return Err(self.wrong_type("end of file", &other, "nothing")),
        }
        match self.parser.next_event() {
            None | Some(Ok((Event::StreamEnd | Event::Nothing, _))) => Ok(()),
            Some(Ok((_, span))) => {
                self.move_to(span);
                Err(self.fault(Problem::YamlFeature {
                    what: "a second document",
                }))
            }
            Some(Err(error)) => {
                self.at = (error.marker().line(), error.marker().col() + 1);
                let message = shorten(error.info(), 200);
                Err(self.fault(Problem::Syntax {
                    format: "YAML",
                    message,
                    meant: None,
                }))
            }
        }
    }

    /// Reads the next key of a mapping; none at its end.
    fn key(&mut self, keys: &mut Keys) -> Result<Option<&'static str>, PolicyError> {
        let text = match self.next()? {
            Node::MappingEnd => return Ok(None),
            Node::Scalar { text, .. } => text,
            other => return Err(self.wrong_type("key", &other, "a word")),
        };
        let Some(&key) = keys.known.iter().find(|&&known| known == text) else {
            let (table, known) = (keys.table.to_owned(), keys.known);
            let nearest = nearest(&text, known);
            return Err(self.fault(Problem::UnknownKey {
                key: shorten(&text, 40),
                table,
                nearest,
                belongs_to: None,
                known,
            }));
        };
        if keys.has(key) {
            return Err(self.fault(Problem::DuplicateKey {
                key: key.to_owned(),
            }));
        }
        keys.seen.push(key);
        Ok(Some(key))
    }

    fn version(&mut self) -> Result<(), PolicyError> {
        match self.next()? {
            Node::Scalar {
                text,
                quoted: false,
            } if text == "1" => Ok(()),
            Node::Scalar {
                text,
                quoted: false,
            } if text.parse::<u64>().is_ok() => Err(self.fault(Problem::UnknownVersion {
                found: shorten(&text, 20),
            })),
            other => Err(self.wrong_type("version", &other, "the number 1")),
        }
    }

    fn defaults(&mut self) -> Result<Defaults, PolicyError> {
        let mut defaults = Defaults::default();
        match self.next()? {
            Node::Mapping => {}
            other => return Err(self.wrong_type("defaults", &other, "a mapping")),
        }
        let mut keys = Keys::new("defaults", DEFAULTS);
        while let Some(key) = self.key(&mut keys)? {
            let value = self.truth(&format!("defaults.{key}"))?;
            let value = Some((value, self.at.0));
            match key {
                "block_rfc1918" => defaults.block_rfc1918 = value,
                _ => defaults.allow_public = value,
            }
        }
        Ok(defaults)
    }

    fn truth(&mut self, key: &str) -> Result<bool, PolicyError> {
        match self.next()? {
            Node::Scalar {
                text,
                quoted: false,
            } if text == "true" => Ok(true),
            Node::Scalar {
                text,
                quoted: false,
            } if text == "false" => Ok(false),
            other => Err(self.wrong_type(key, &other, "true or false")),
        }
    }

    fn entries(&mut self, file: &mut RuleFile) -> Result<(), PolicyError> {
        match self.next()? {
            Node::Sequence => {}
            other => return Err(self.wrong_type("whitelist", &other, "a list")),
        }
        loop {
            match self.next()? {
                Node::SequenceEnd => return Ok(()),
                Node::Mapping => file.push(self.entry()?),
                other => {
                    return Err(self.wrong_type(
                        "whitelist",
                        &other,
                        "a list of mappings with `host` or `ip`",
                    ));
                }
            }
        }
    }

    fn entry(&mut self) -> Result<Rule, PolicyError> {
        let start = self.at;
        let mut keys = Keys::new("whitelist", ENTRY);
        let (mut target, mut ports, mut checks) = (None, None, Checks::ByName);
        while let Some(key) = self.key(&mut keys)? {
            match key {
                "ports" => ports = Some(self.ports()?),
                "raw" if self.truth("whitelist.raw")? => checks = Checks::Raw,
                "raw" => {}
                _ if target.is_some() => {
                    return Err(self.fault(Problem::Exclusive {
                        one: "host",
                        other: "ip",
                    }));
                }
                key => target = Some(self.target(key)?),
            }
        }
        self.at = start;
        let Some(target) = target else {
            return Err(self.fault(Problem::MissingKey {
                key: "host",
                table: "whitelist".to_owned(),
            }));
        };
        Ok(Rule::new(
            Effect::Allow,
            target,
            ports,
            None,
            self.source.line(start.0),
        )
        .with_checks(checks))
    }

    fn target(&mut self, key: &'static str) -> Result<Target, PolicyError> {
        let path = format!("whitelist.{key}");
        let expected = if key == "host" {
            "a host name"
        } else {
            "an address or network"
        };
        let node = self.next()?;
        let text = match &node {
            Node::Scalar { text, .. } if !text.is_empty() && text != "~" && text != "null" => text,
            _ => return Err(self.wrong_type(&path, &node, expected)),
        };
        let target = Target::parse(text).map_err(|source| {
            self.fault(Problem::Rule {
                key: path.clone(),
                source,
            })
        })?;
        if matches!(target, Target::Network(_)) != (key == "ip") {
            return Err(self.wrong_type(&path, &node, expected));
        }
        Ok(target)
    }

    fn ports(&mut self) -> Result<Ports, PolicyError> {
        match self.next()? {
            Node::Sequence => {}
            other => return Err(self.wrong_type("whitelist.ports", &other, "a list of ports")),
        }
        let mut ports = Ports::NONE;
        loop {
            match self.next()? {
                // No port at all is what an empty list says; it must not become "the default ports".
                Node::SequenceEnd => return Ok(ports),
                Node::Scalar { text, .. } => {
                    let more = Ports::parse(&text).map_err(|source| {
                        let rule = format!("ports: {}", shorten(&text, 40));
                        self.fault(Problem::Rule {
                            key: "whitelist.ports".to_owned(),
                            source: RuleError::Ports { rule, source },
                        })
                    })?;
                    ports = ports.union(&more);
                }
                other => return Err(self.wrong_type("whitelist.ports", &other, "a list of ports")),
            }
        }
    }
}

/// The keys of one mapping: which are possible, which were there.
struct Keys {
    table: &'static str,
    known: &'static [&'static str],
    seen: Vec<&'static str>,
}

impl Keys {
    fn new(table: &'static str, known: &'static [&'static str]) -> Self {
        Self {
            table,
            known,
            seen: Vec::new(),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.seen.contains(&key)
    }
}

/// The `defaults`, each with its line.
#[derive(Default)]
struct Defaults {
    block_rfc1918: Option<(bool, usize)>,
    allow_public: Option<(bool, usize)>,
}

/// RFC 1918.
const RFC1918: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(192, 168, 0, 0), 16),
];

impl Defaults {
    fn apply(&self, file: &mut RuleFile, source: &SourceName) {
        let (public, line) = self.allow_public.unwrap_or((false, 0));
        let mode = if public {
            NetworkMode::Internet
        } else {
            NetworkMode::Allowlist
        };
        file.mode = Some(Sourced::new(mode, source.line(line)));
        if let Some((false, line)) = self.block_rfc1918 {
            file.allow.extend(RFC1918.into_iter().map(|net| {
                let target = Target::Network(IpNet::V4(net));
                Rule::new(
                    Effect::Allow,
                    target,
                    Some(Ports::all()),
                    Some(Transport::Any),
                    source.line(line),
                )
            }));
        }
    }
}

#[cfg(test)]
mod tests;
