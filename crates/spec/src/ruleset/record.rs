//! What is kept of a rule besides its target: small numbers that point into tables of ports and sources.
//!
//! Must not lose anything: the text of the rule and its origin are made from it again for each verdict.

use std::collections::HashMap;

use crate::origin::SourceName;
use crate::ports::{Checks, Ports, Protocol, Transport};
use crate::rule::{Effect, Rule, Target};

/// A rule without its target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    /// Index in [`Tables::ports`].
    ports: u32,
    /// Index in [`Tables::sources`].
    source: u32,
    /// Line, 0 for none.
    line: u32,
    pub(super) effect: Effect,
    transport: Transport,
    pub(super) checks: Checks,
    /// The rule is about what lies below its name; only rules about names tell it apart.
    pub(super) reach: Reach,
}

/// Which names a rule covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The target itself.
    Itself,
    /// Every name below it.
    Below,
}

impl Record {
    /// Length of the stored form.
    pub(super) const BYTES: usize = 13;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let effect = match self.effect {
            Effect::Allow => 0,
            Effect::Deny => 1,
        };
        let transport = match self.transport {
            Transport::Tcp => 0,
            Transport::Udp => 2,
            Transport::Any => 4,
        };
        let reach = match self.reach {
            Reach::Itself => 0,
            Reach::Below => 8,
        };
        let checks = match self.checks {
            Checks::ByName => 0,
            Checks::Raw => 16,
        };
        let [p0, p1, p2, p3] = self.ports.to_le_bytes();
        let [s0, s1, s2, s3] = self.source.to_le_bytes();
        let [l0, l1, l2, l3] = self.line.to_le_bytes();
        [
            effect | transport | reach | checks,
            p0,
            p1,
            p2,
            p3,
            s0,
            s1,
            s2,
            s3,
            l0,
            l1,
            l2,
            l3,
        ]
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let &[kind, p0, p1, p2, p3, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        Self {
            ports: u32::from_le_bytes([p0, p1, p2, p3]),
            source: u32::from_le_bytes([s0, s1, s2, s3]),
            line: u32::from_le_bytes([l0, l1, l2, l3]),
            effect: if kind & 1 == 0 {
                Effect::Allow
            } else {
                Effect::Deny
            },
            transport: match kind & 6 {
                0 => Transport::Tcp,
                2 => Transport::Udp,
                _ => Transport::Any,
            },
            reach: if kind & 8 == 0 {
                Reach::Itself
            } else {
                Reach::Below
            },
            checks: if kind & 16 == 0 {
                Checks::ByName
            } else {
                Checks::Raw
            },
        }
    }

    pub(super) fn includes(self, protocol: Protocol) -> bool {
        self.transport.includes(protocol)
    }

    #[cfg(test)]
    pub(super) fn line(self) -> u32 {
        self.line
    }
}

/// Ports and sources, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    ports: Box<[Ports]>,
    sources: Box<[SourceName]>,
}

/// Fills [`Tables`].
#[derive(Default)]
pub(super) struct TablesBuilder<'r> {
    ports: HashMap<&'r Ports, u32>,
    sources: HashMap<&'r SourceName, u32>,
    /// Neighbours mostly share both; remembering them saves two look-ups for each rule.
    last: Option<(&'r Rule, u32, u32)>,
}

impl<'r> TablesBuilder<'r> {
    pub(super) fn record(&mut self, effect: Effect, rule: &'r Rule) -> Record {
        let ports = match self.last {
            Some((last, ports, _)) if last.ports == rule.ports => ports,
            _ => intern(&mut self.ports, &rule.ports),
        };
        let source = match self.last {
            Some((last, _, source)) if last.origin.source.is_same(&rule.origin.source) => source,
            _ => intern(&mut self.sources, &rule.origin.source),
        };
        self.last = Some((rule, ports, source));
        Record {
            ports,
            source,
            line: rule.origin.line.map_or(0, std::num::NonZeroU32::get),
            effect,
            transport: rule.transport,
            checks: rule.checks,
            reach: match rule.target {
                Target::Subdomains(_) => Reach::Below,
                Target::Host(_) | Target::Network(_) => Reach::Itself,
            },
        }
    }

    pub(super) fn finish(self) -> Tables {
        Tables {
            ports: in_order(self.ports),
            sources: in_order(self.sources),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a rule takes 64 bytes, so 2^32 of them do not fit into a machine"
)]
fn intern<'r, T: Eq + std::hash::Hash>(known: &mut HashMap<&'r T, u32>, item: &'r T) -> u32 {
    let next = known.len() as u32;
    *known.entry(item).or_insert(next)
}

fn in_order<T: Clone>(known: HashMap<&T, u32>) -> Box<[T]> {
    let mut items: Vec<(u32, &T)> = known
        .into_iter()
        .map(|(item, index)| (index, item))
        .collect();
    items.sort_unstable_by_key(|&(index, _)| index);
    items.into_iter().map(|(_, item)| item.clone()).collect()
}

impl Tables {
    pub(super) fn ports(&self, record: Record) -> &Ports {
        static NO_PORT: Ports = Ports::NONE;
        self.ports.get(record.ports as usize).unwrap_or(&NO_PORT)
    }

    pub(super) fn covers(&self, record: Record, port: u16, protocol: Protocol) -> bool {
        record.includes(protocol) && self.ports(record).contains(port)
    }

    /// Makes the rule again.
    pub(super) fn rule(&self, record: Record, target: Target) -> Rule {
        let source = self
            .sources
            .get(record.source as usize)
            .unwrap_or(&SourceName::DEFAULT);
        Rule {
            effect: record.effect,
            target,
            ports: self.ports(record).clone(),
            transport: record.transport,
            checks: record.checks,
            origin: source.line(record.line as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    #[test]
    fn rules_come_back_as_they_were() {
        let texts = [
            "example.com",
            "*.example.com:443",
            "example.com:53/udp",
            "203.0.113.0/24:1-9/any",
            "example.org:443",
        ];
        let mut rules = Vec::new();
        for (line, text) in texts.iter().enumerate() {
            let rule = Rule::parse(text, Origin::file("hosts.conf", line)).unwrap();
            rules.push(rule.clone().with_checks(Checks::Raw));
            rules.push(rule);
            rules.push(Rule::parse_deny(text, Origin::flag("--deny")).unwrap());
        }
        let mut builder = TablesBuilder::default();
        let records: Vec<Record> = rules
            .iter()
            .map(|rule| builder.record(rule.effect, rule))
            .collect();
        let tables = builder.finish();
        for (rule, record) in rules.iter().zip(records) {
            let stored = Record::from_bytes(&record.to_bytes());
            assert_eq!(&tables.rule(stored, rule.target.clone()), rule);
            assert_eq!(
                stored.reach == Reach::Below,
                matches!(rule.target, Target::Subdomains(_))
            );
        }
    }
}
