//! Rules about names: hosts and parents of wildcards in one index.
//!
//! A name is looked at from its last label to its first. At every dot the hash of what was seen so far is the hash of
//! a parent, so one pass over the name asks for all its parents: the time depends on the number of labels, not on the
//! number of rules.

use crate::host::HostName;
use crate::rule::Target;

use super::buckets::Buckets;
use super::hash::Hash;
use super::record::{Reach, Record};

/// The index.
#[derive(Debug, Clone)]
pub(super) struct Names {
    seed: u64,
    buckets: Buckets,
}

/// A rule that covers the name asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameMatch<'q> {
    pub(super) record: Record,
    /// The rule's name, which is the end of the name asked for.
    name: &'q str,
}

impl NameMatch<'_> {
    /// Tells whether this rule speaks of the name more closely than another that covers it.
    pub(super) fn is_closer_than(&self, other: &Self) -> bool {
        self.name.len() > other.name.len()
    }

    pub(super) fn target(&self) -> Target {
        let name = HostName::from_canonical(self.name);
        match self.record.reach {
            Reach::Itself => Target::Host(name),
            Reach::Below => Target::Subdomains(name),
        }
    }
}

impl Names {
    /// Makes the index of the rules about names among the rules that `each` gives, twice the same.
    pub(super) fn build(
        count: usize,
        mut each: impl FnMut(&mut dyn FnMut(&Record, &Target)),
    ) -> Self {
        let seed = Hash::new_seed();
        let buckets = Buckets::build(count, |put| {
            each(&mut |record, target| {
                if let Target::Host(name) | Target::Subdomains(name) = target {
                    let labels = name.as_str().rsplit('.');
                    let hash = labels.fold(Hash::seeded(seed), |hash, label| {
                        hash.label(label.as_bytes())
                    });
                    put(hash, name.as_str().as_bytes(), record);
                }
            });
        });
        Self { seed, buckets }
    }

    /// Calls `found` with every rule that covers the name: wider ones first, those of one name in order of writing.
    pub(super) fn visit<'q>(&self, name: &'q HostName, mut found: impl FnMut(NameMatch<'q>)) {
        let text = name.as_str();
        let mut hash = Hash::seeded(self.seed);
        let mut end = text.len();
        for (at, byte) in text.bytes().enumerate().rev() {
            if byte != b'.' {
                continue;
            }
            hash = hash.label(text.get(at + 1..end).unwrap_or_default().as_bytes());
            self.visit_one(
                hash,
                text.get(at + 1..).unwrap_or_default(),
                Reach::Below,
                &mut found,
            );
            end = at;
        }
        hash = hash.label(text.get(..end).unwrap_or_default().as_bytes());
        self.visit_one(hash, text, Reach::Itself, &mut found);
    }

    fn visit_one<'q>(
        &self,
        hash: Hash,
        name: &'q str,
        wanted: Reach,
        found: &mut impl FnMut(NameMatch<'q>),
    ) {
        self.buckets.visit(hash, name.as_bytes(), |record| {
            if record.reach == wanted {
                found(NameMatch { record, name });
            }
        });
    }
}
