//! The list as a file: `rcc.toml`, `allowed-hosts.conf`, or the YAML whitelist.
//!
//! Must not write anything but validated names, addresses, numbers and its own words: the file becomes policy.

use std::fmt::Write as _;
use std::str::FromStr;

use rcc_spec::{Rule, Target, Transport};

use super::{Evidence, Learned, Lesson};
use crate::escape;

/// Most names of look-ups that are listed.
const LOOKED_UP_LISTED: usize = 200;

/// The format of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A policy file, `rcc.toml`.
    Toml,
    /// A rule file, `allowed-hosts.conf`.
    Conf,
    /// The YAML whitelist.
    Yaml,
}

/// A word that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no format is called `{}`; there are toml, conf and yaml", escape(.0))]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "toml" => Ok(Self::Toml),
            "conf" => Ok(Self::Conf),
            "yaml" => Ok(Self::Yaml),
            _ => Err(UnknownFormat(word.to_owned())),
        }
    }
}

impl Lesson {
    /// Writes the list. `heading` says where it comes from; one line of the file for each of its lines.
    #[must_use]
    pub fn render(&self, format: Format, heading: &str) -> String {
        let mut out = Writer {
            format,
            text: String::new(),
        };
        for line in heading.lines() {
            out.comment(0, line);
        }
        self.render_gaps(&mut out);
        match format {
            Format::Toml => out
                .text
                .push_str("version = 1\n\n[network]\nmode = \"allowlist\"\nallow = [\n"),
            Format::Conf => {}
            Format::Yaml => {
                out.text.push_str(
                    "version: 1\ndefaults:\n  block_rfc1918: true\n  allow_public: false\n",
                );
                let is_empty = !self
                    .learned
                    .iter()
                    .any(|one| is_expressible(format, &one.rule));
                out.text.push_str(if is_empty {
                    "whitelist: []\n"
                } else {
                    "whitelist:\n"
                });
            }
        }
        for learned in &self.learned {
            out.learned(learned);
        }
        if format == Format::Toml {
            out.text.push_str("]\n");
        }
        self.render_rest(&mut out);
        out.text
    }

    fn render_gaps(&self, out: &mut Writer) {
        let gaps = &self.gaps;
        if !gaps.any() {
            return;
        }
        out.comment(
            0,
            "WARNING: the log is incomplete, so this list may be, too:",
        );
        for (count, what) in [
            (
                gaps.suppressed,
                "lines were counted instead of written (limit of the log)",
            ),
            (gaps.lost, "lines could not be written"),
            (gaps.unreadable, "lines could not be understood"),
            (
                gaps.beyond_limit,
                "lines are about more destinations than are kept",
            ),
        ] {
            if count > 0 {
                out.comment(0, &format!("  {count} {what}"));
            }
        }
        if gaps.cut {
            out.comment(0, "  the file is longer than what is read of it");
        }
    }

    fn render_rest(&self, out: &mut Writer) {
        if !self.withheld.is_empty() {
            out.comment(0, "");
            out.comment(
                0,
                "Refused, and not in the list, because more than a rule was missing:",
            );
            for withheld in &self.withheld {
                out.comment(
                    0,
                    &format!(
                        "  {}  ({}; {})",
                        withheld.rule,
                        withheld.reason,
                        in_words(&withheld.evidence)
                    ),
                );
            }
        }
        if !self.looked_up.is_empty() {
            out.comment(0, "");
            out.comment(0, "Only looked up, never connected to:");
            for one in self.looked_up.iter().take(LOOKED_UP_LISTED) {
                let refused = if one.refused {
                    ", refused, so its ports are not known"
                } else {
                    ""
                };
                out.comment(
                    0,
                    &format!("  {}  ({} times{refused})", one.name, one.times),
                );
            }
            if let Some(more) = self.looked_up.len().checked_sub(LOOKED_UP_LISTED)
                && more > 0
            {
                out.comment(0, &format!("  and {more} more"));
            }
        }
    }
}

struct Writer {
    format: Format,
    text: String,
}

impl Writer {
    fn comment(&mut self, indent: usize, text: &str) {
        let line = format!("{:indent$}# {}", "", escape(text));
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn learned(&mut self, learned: &Learned) {
        let indent = match self.format {
            Format::Conf => 0,
            Format::Toml | Format::Yaml => 2,
        };
        self.comment(indent, &in_words(&learned.evidence));
        if !learned.siblings.is_empty() {
            let names: Vec<&str> = learned.siblings.iter().map(|name| name.as_str()).collect();
            self.comment(indent, &format!("stands for {}", names.join(", ")));
        }
        if matches!(learned.rule.target, Target::Network(_)) {
            self.comment(
                indent,
                "WARNING: an address without a name: it may belong to somebody else tomorrow",
            );
        }
        if !is_expressible(self.format, &learned.rule) {
            self.comment(
                indent,
                &format!("this format cannot say it: {}", learned.rule),
            );
            return;
        }
        let rule = &learned.rule;
        let _ = match self.format {
            Format::Conf => writeln!(self.text, "{rule}"),
            Format::Toml => writeln!(self.text, "  \"{rule}\","),
            Format::Yaml => {
                let key = match rule.target {
                    Target::Network(_) => "ip",
                    Target::Host(_) | Target::Subdomains(_) => "host",
                };
                let ports: Vec<String> = rule
                    .ports
                    .ranges()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                // Quoted: `*` begins an alias, and a name may look like a number.
                writeln!(
                    self.text,
                    "  - {key}: \"{}\"\n    ports: [{}]",
                    rule.target,
                    ports.join(", ")
                )
            }
        };
    }
}

/// The whitelist knows no transport: its rules are TCP.
fn is_expressible(format: Format, rule: &Rule) -> bool {
    format != Format::Yaml || rule.transport == Transport::Tcp
}

fn in_words(evidence: &Evidence) -> String {
    let mut words = Vec::new();
    if !evidence.first_seen.is_empty() {
        words.push(format!("first seen {}", evidence.first_seen));
    }
    words.push(match evidence.connections {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    });
    if evidence.connections > 0 {
        words.push(format!(
            "{} bytes sent, {} received",
            evidence.bytes_sent, evidence.bytes_received
        ));
    }
    if evidence.refused > 0 {
        words.push(format!("REFUSED {} times", evidence.refused));
    }
    if evidence.failed > 0 {
        words.push(format!("failed {} times", evidence.failed));
    }
    words.join(", ")
}
