//! Rule files: `allowed-hosts.conf`, one rule per line.
//!
//! Must not skip a line that it does not understand: a typing error in a deny rule would open what it should close.
//!
//! ```text
//! # comment
//! example.com            # ports 80 and 443
//! *.example.org:443
//! example.net:8080/raw   # what is said there is not checked
//! !bad.example.org       # deny, every port
//! deny 203.0.113.0/24
//! ```

use crate::error::{PolicyError, Position, Problem};
use crate::network::NetworkMode;
use crate::origin::{SourceName, Sourced};
use crate::rule::{Effect, Rule};

/// Largest rule file in bytes: room for a million rules.
const FILE_MAX_BYTES: usize = 64 << 20;

/// The content of a rule file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleFile {
    /// The mode the file asks for; only YAML whitelists can.
    pub mode: Option<Sourced<NetworkMode>>,
    /// Rules that let through.
    pub allow: Vec<Rule>,
    /// Rules that hold back.
    pub deny: Vec<Rule>,
}

impl RuleFile {
    pub(crate) fn push(&mut self, rule: Rule) {
        match rule.effect {
            Effect::Allow => self.allow.push(rule),
            Effect::Deny => self.deny.push(rule),
        }
    }
}

/// Parses a rule file of either format: YAML when its name ends in `.yaml` or `.yml`, lines otherwise.
///
/// # Errors
/// The first fault with its line.
pub fn parse_rule_file(
    file_name: &str,
    text: &str,
    source: &SourceName,
) -> Result<RuleFile, PolicyError> {
    if file_name.ends_with(".yaml") || file_name.ends_with(".yml") {
        crate::parse_whitelist(text, source)
    } else {
        parse_conf(text, source)
    }
}

/// Parses the lines of a rule file.
///
/// # Errors
/// The first bad line.
pub fn parse_conf(text: &str, source: &SourceName) -> Result<RuleFile, PolicyError> {
    let fault = |line, problem| {
        Err(PolicyError::new(
            Position {
                source: source.clone(),
                line,
                column: 0,
            },
            problem,
        ))
    };
    if text.len() > FILE_MAX_BYTES {
        return fault(
            0,
            Problem::TooLarge {
                bytes: text.len(),
                limit: FILE_MAX_BYTES,
            },
        );
    }
    let mut file = RuleFile::default();
    for (index, line) in text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .lines()
        .enumerate()
    {
        let rule = line.split_once('#').map_or(line, |(rule, _)| rule);
        let rule = rule.trim_matches([' ', '\t', '\r']);
        if rule.is_empty() {
            continue;
        }
        let (effect, rule) = split_effect(rule);
        match Rule::parse_as(effect, rule, source.line(index + 1)) {
            Ok(rule) => file.push(rule),
            Err(source) => return fault(index + 1, Problem::RuleLine { source }),
        }
    }
    Ok(file)
}

fn split_effect(line: &str) -> (Effect, &str) {
    let words = |word| {
        line.strip_prefix(word)
            .filter(|rest: &&str| rest.starts_with([' ', '\t']))
            .map(str::trim_start)
    };
    if let Some(rule) = line.strip_prefix('!') {
        (Effect::Deny, rule.trim_start_matches([' ', '\t']))
    } else if let Some(rule) = words("deny") {
        (Effect::Deny, rule)
    } else if let Some(rule) = words("allow") {
        (Effect::Allow, rule)
    } else {
        (Effect::Allow, line)
    }
}

#[cfg(test)]
mod tests;
