//! What is kept of a rule besides its target: small numbers that point into tables of ports and sources.
//!
//! Must not lose anything: the text of the rule and its origin are made from it again for each verdict.

use std::collections::HashMap;

use crate::origin::SourceName;
use crate::ports::{Ports, Protocol, Transport};
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
}

/// Ports and sources, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    ports: Vec<Ports>,
    sources: Vec<SourceName>,
}

/// Fills [`Tables`].
#[derive(Default)]
pub(super) struct TablesBuilder<'r> {
    tables: Tables,
    ports: HashMap<&'r Ports, u32>,
    sources: HashMap<&'r SourceName, u32>,
    /// Neighbours mostly share both; remembering them saves two look-ups for each rule.
    last: Option<(&'r Rule, u32, u32)>,
}

impl<'r> TablesBuilder<'r> {
    pub(super) fn record(&mut self, effect: Effect, rule: &'r Rule) -> Record {
        let ports = match self.last {
            Some((last, ports, _)) if last.ports == rule.ports => ports,
            _ => intern(&mut self.ports, &mut self.tables.ports, &rule.ports),
        };
        let source = match self.last {
            Some((last, _, source)) if last.origin.source == rule.origin.source => source,
            _ => intern(
                &mut self.sources,
                &mut self.tables.sources,
                &rule.origin.source,
            ),
        };
        self.last = Some((rule, ports, source));
        let line = rule.origin.line.map_or(0, std::num::NonZeroU32::get);
        Record {
            ports,
            source,
            line,
            effect,
            transport: rule.transport,
        }
    }

    pub(super) fn finish(self) -> Tables {
        self.tables
    }
}

fn intern<'r, T: Clone + Eq + std::hash::Hash>(
    known: &mut HashMap<&'r T, u32>,
    list: &mut Vec<T>,
    item: &'r T,
) -> u32 {
    *known.entry(item).or_insert_with(|| {
        list.push(item.clone());
        position(list.len() - 1)
    })
}

/// Narrows a position in a list of rules.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a rule takes 64 bytes, so 2^32 of them do not fit into a machine"
)]
pub(super) fn position(index: usize) -> u32 {
    index as u32
}

impl Tables {
    pub(super) fn ports(&self, record: &Record) -> &Ports {
        static NO_PORT: Ports = Ports::NONE;
        self.ports.get(record.ports as usize).unwrap_or(&NO_PORT)
    }

    pub(super) fn covers(&self, record: &Record, port: u16, protocol: Protocol) -> bool {
        record.transport.includes(protocol) && self.ports(record).contains(port)
    }

    /// Makes the rule again.
    pub(super) fn rule(&self, record: &Record, target: Target) -> Rule {
        let source = self
            .sources
            .get(record.source as usize)
            .unwrap_or(&SourceName::DEFAULT);
        Rule {
            effect: record.effect,
            target,
            ports: self.ports(record).clone(),
            transport: record.transport,
            origin: source.line(record.line as usize),
        }
    }
}

impl Record {
    pub(super) fn includes(&self, protocol: Protocol) -> bool {
        self.transport.includes(protocol)
    }
}
