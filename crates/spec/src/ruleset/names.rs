//! Rules about names: one index for hosts and for parents of wildcards.
//!
//! A name is looked at from its last label to its first. At every dot the hash of what was seen so far is the hash of
//! a parent, so one pass over the name asks for all its parents: the time depends on the number of labels, not on the
//! number of rules.

use crate::host::HostName;
use crate::rule::Target;

use super::record::{Record, position};
use super::slots::{Hash, Slots};

/// No further rule about this name.
const END: u32 = u32::MAX;

/// Which names a rule covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The name itself.
    Host,
    /// Every name below it.
    Below,
}

/// A rule about a name.
#[derive(Debug, Clone)]
struct Entry {
    /// Where the name begins in the arena.
    start: usize,
    record: Record,
    /// The next rule about the same name, in the order of writing.
    next: u32,
    length: u8,
    reach: Reach,
}

/// The index.
#[derive(Debug, Clone)]
pub(super) struct Names {
    seed: u64,
    /// All names one after the other.
    arena: Box<str>,
    entries: Box<[Entry]>,
    slots: Slots,
}

/// A rule that covers the name asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameMatch<'s> {
    pub(super) record: &'s Record,
    name: &'s str,
    reach: Reach,
}

impl NameMatch<'_> {
    /// Tells whether this rule speaks of the name more closely than another that covers it.
    ///
    /// Of two rules that both cover a name, the one with the longer text is the more exact.
    pub(super) fn is_closer_than(&self, other: &Self) -> bool {
        self.name.len() > other.name.len()
    }

    pub(super) fn target(&self) -> Target {
        let name = HostName::from_canonical(self.name);
        match self.reach {
            Reach::Host => Target::Host(name),
            Reach::Below => Target::Subdomains(name),
        }
    }
}

impl Names {
    /// Makes the index of all rules about names.
    pub(super) fn build<'r>(rules: impl Iterator<Item = (Record, &'r Target)>) -> Self {
        let mut arena = String::new();
        let mut entries: Vec<Entry> = Vec::new();
        for (record, target) in rules {
            let (name, reach) = match target {
                Target::Host(name) => (name, Reach::Host),
                Target::Subdomains(name) => (name, Reach::Below),
                Target::Network(_) => continue,
            };
            let length = u8::try_from(name.as_str().len()).unwrap_or(u8::MAX);
            entries.push(Entry {
                start: arena.len(),
                record,
                next: END,
                length,
                reach,
            });
            arena.push_str(name.as_str());
        }
        let arena = arena.into_boxed_str();
        let mut entries = entries.into_boxed_slice();
        let seed = Hash::new_seed();
        let mut slots = Slots::with_room_for(entries.len());
        // From the last to the first, each in front of the one before: so the chains are in the order of writing.
        for index in (0..entries.len()).rev() {
            let Some(name) = entries.get(index).map(|entry| name_of(&arena, entry)) else {
                continue;
            };
            let mut hash = Hash::seeded(seed);
            for label in name.rsplit('.') {
                hash = hash.label(label.as_bytes());
            }
            let is_same = |other: u32| {
                entries
                    .get(other as usize)
                    .is_some_and(|entry| name_of(&arena, entry) == name)
            };
            let next = slots.put(hash, position(index), is_same);
            if let Some(entry) = entries.get_mut(index) {
                entry.next = next.unwrap_or(END);
            }
        }
        Self {
            seed,
            arena,
            entries,
            slots,
        }
    }

    /// Calls `found` with every rule that covers the name: wider ones first, those of one name in order of writing.
    pub(super) fn visit<'s>(&'s self, name: &HostName, mut found: impl FnMut(NameMatch<'s>)) {
        let name = name.as_str();
        let mut hash = Hash::seeded(self.seed);
        let mut end = name.len();
        loop {
            let head = name.get(..end).unwrap_or_default();
            let start = head.rfind('.').map_or(0, |dot| dot + 1);
            hash = hash.label(name.get(start..end).unwrap_or_default().as_bytes());
            let wanted = if start == 0 {
                Reach::Host
            } else {
                Reach::Below
            };
            self.visit_one(
                hash,
                name.get(start..).unwrap_or_default(),
                wanted,
                &mut found,
            );
            match start.checked_sub(1) {
                Some(dot) => end = dot,
                None => return,
            }
        }
    }

    fn visit_one<'s>(
        &'s self,
        hash: Hash,
        name: &str,
        wanted: Reach,
        found: &mut impl FnMut(NameMatch<'s>),
    ) {
        let is_wanted = |at: u32| {
            self.entries
                .get(at as usize)
                .is_some_and(|entry| name_of(&self.arena, entry) == name)
        };
        let mut at = self.slots.find(hash, is_wanted);
        while let Some(entry) = at.and_then(|at| self.entries.get(at as usize)) {
            if entry.reach == wanted {
                found(NameMatch {
                    record: &entry.record,
                    name: name_of(&self.arena, entry),
                    reach: entry.reach,
                });
            }
            at = Some(entry.next);
        }
    }
}

fn name_of<'a>(arena: &'a str, entry: &Entry) -> &'a str {
    arena
        .get(entry.start..entry.start + usize::from(entry.length))
        .unwrap_or_default()
}
