//! Rules by key, laid out so that a question touches as little memory as possible.
//!
//! With a million rules the time of a verdict is the time of fetching memory, not of computing. So:
//! 1. A directory of one word for each bucket of about four rules: where the bucket begins, and a small Bloom filter.
//!    It fits into the second-level cache, and ends most questions about keys that are not there.
//! 2. The rules of a bucket one after the other in one run of bytes, each with its key: the one place in memory that a
//!    question about a key that is there has to fetch.
//!
//! Must not answer by hash alone: the key itself is compared.

use super::hash::Hash;
use super::record::Record;

/// Buckets begin at multiples of this, so that 32 bits reach 64 GiB: more keys do not fit into a machine beside the
/// policy that they come from.
const UNIT: usize = 16;

/// Bytes in front of each key: its length, then the record.
const HEAD: usize = 1 + Record::BYTES;

/// Rules for each bucket, on average at most.
const LOAD: usize = 4;

/// The rules.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    /// Low half: beginning of the bucket in units. High half: filter. One more than there are buckets.
    directory: Box<[u64]>,
    bytes: Box<[u8]>,
}

/// A bucket while it is laid out.
#[derive(Debug, Clone, Default)]
struct BucketPlan {
    /// First the bytes needed, then where the next rule goes.
    at: usize,
    filter: u32,
}

impl Buckets {
    /// Lays out rules; `each` is called twice and gives every key (not empty, at most 255 bytes) with hash and record,
    /// in order of writing.
    pub(super) fn build(
        count: usize,
        mut each: impl FnMut(&mut dyn FnMut(Hash, &[u8], &Record)),
    ) -> Self {
        let buckets = count.div_ceil(LOAD).next_power_of_two();
        // First the sizes, so that every rule can be written to its final place.
        let mut plans = vec![BucketPlan::default(); buckets];
        each(&mut |hash, key, _| {
            if let Some(plan) = plans.get_mut(bucket_of(hash, buckets)) {
                plan.at += HEAD + key.len();
                plan.filter |= filter_of(hash);
            }
        });
        let mut next = 0usize;
        let mut directory = Vec::with_capacity(buckets + 1);
        for plan in &mut plans {
            directory.push(u64::from(plan.filter) << 32 | in_units(next));
            next += std::mem::replace(&mut plan.at, next).next_multiple_of(UNIT);
        }
        directory.push(in_units(next));
        let mut bytes = vec![0u8; next];
        each(&mut |hash, key, record| {
            let Some(plan) = plans.get_mut(bucket_of(hash, buckets)) else {
                return;
            };
            let Some(room) = bytes.get_mut(plan.at..plan.at + HEAD + key.len()) else {
                return;
            };
            let (length, rest) = room.split_at_mut(1);
            let (head, name) = rest.split_at_mut(Record::BYTES);
            length.fill(u8::try_from(key.len()).unwrap_or(0));
            head.copy_from_slice(&record.to_bytes());
            name.copy_from_slice(key);
            plan.at += HEAD + key.len();
        });
        Self {
            directory: directory.into_boxed_slice(),
            bytes: bytes.into_boxed_slice(),
        }
    }

    /// Calls `found` with every rule of this key, in order of writing.
    pub(super) fn visit(&self, hash: Hash, key: &[u8], mut found: impl FnMut(Record)) {
        let bucket = bucket_of(hash, self.directory.len() - 1);
        let Some(&[word, after]) = self.directory.get(bucket..bucket + 2) else {
            return;
        };
        let filter = filter_of(hash);
        if high_half(word) & filter != filter {
            return;
        }
        let (start, end) = (
            low_half(word) as usize * UNIT,
            low_half(after) as usize * UNIT,
        );
        let mut rest = self.bytes.get(start..end).unwrap_or_default();
        while let Some((&length, tail)) = rest.split_first() {
            // The padding behind the last rule.
            if length == 0 {
                return;
            }
            let Some((head, tail)) = tail.split_first_chunk::<{ Record::BYTES }>() else {
                return;
            };
            let Some((name, tail)) = tail.split_at_checked(usize::from(length)) else {
                return;
            };
            if name == key {
                found(Record::from_bytes(head));
            }
            rest = tail;
        }
    }
}

/// The low bits choose the bucket; the number of buckets is a power of two.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is asked for"
)]
fn bucket_of(hash: Hash, buckets: usize) -> usize {
    hash.value() as usize & (buckets - 1)
}

/// Two of 32 bits, chosen by the high bits.
fn filter_of(hash: Hash) -> u32 {
    1 << (hash.value() >> 59) | 1 << (hash.value() >> 54 & 31)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
fn low_half(word: u64) -> u32 {
    word as u32
}

fn high_half(word: u64) -> u32 {
    low_half(word >> 32)
}

fn in_units(bytes: usize) -> u64 {
    (bytes / UNIT) as u64
}

#[cfg(test)]
mod tests {
    use super::super::record::TablesBuilder;
    use super::*;
    use crate::origin::Origin;
    use crate::rule::{Effect, Rule};

    fn hash(key: &[u8]) -> Hash {
        Hash::seeded(3).label(key)
    }

    fn lines(buckets: &Buckets, key: &[u8]) -> Vec<u32> {
        let mut lines = Vec::new();
        buckets.visit(hash(key), key, |record| lines.push(record.line()));
        lines
    }

    #[test]
    fn finds_what_was_put_in_its_order() {
        let keys: Vec<Vec<u8>> = (0..3000u32)
            .map(|n| format!("key-{}", n / 3).into_bytes())
            .collect();
        let rules: Vec<Rule> = (0..keys.len())
            .map(|n| Rule::parse("example.com", Origin::file("x", n + 1)).unwrap())
            .collect();
        let mut builder = TablesBuilder::default();
        let records: Vec<Record> = rules
            .iter()
            .map(|rule| builder.record(Effect::Allow, rule))
            .collect();
        let buckets = Buckets::build(keys.len(), |put| {
            for (key, record) in keys.iter().zip(&records) {
                put(hash(key), key, record);
            }
        });
        for n in 0..1000u32 {
            let first = n * 3 + 1;
            assert_eq!(
                lines(&buckets, format!("key-{n}").as_bytes()),
                [first, first + 1, first + 2]
            );
        }
        assert_eq!(lines(&buckets, b"key-1000"), [0u32; 0]);
        assert_eq!(lines(&buckets, b""), [0u32; 0]);
    }

    #[test]
    fn the_longest_key_fits() {
        let rule = Rule::parse("example.com", Origin::DEFAULT).unwrap();
        let record = TablesBuilder::default().record(Effect::Allow, &rule);
        let key = [7u8; 255];
        let buckets = Buckets::build(1, |put| put(hash(&key), &key, &record));
        assert_eq!(lines(&buckets, &key), [0]);
        assert_eq!(lines(&buckets, &key[..254]), [0u32; 0]);
    }

    #[test]
    fn no_rules_answer_nothing() {
        assert_eq!(lines(&Buckets::build(0, |_| {}), b"key"), [0u32; 0]);
    }
}
