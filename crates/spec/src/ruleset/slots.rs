//! A hash index from keys to positions in a list, and the hash itself.
//!
//! Must not own keys: they are in the list, and whoever asks compares them. A slot holds half of the hash, so that a
//! key that is not there costs one look into memory and no comparison.
//!
//! The hash is seeded at random: rules can come from a repository, and a file of names that all fall on one place
//! would make every verdict slow.

use std::hash::{BuildHasher, RandomState};

/// Multiplier with random-looking bits (the golden ratio and the square root of 5, scaled to 64 bits).
const MULTIPLIERS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x3c6e_f372_fe94_f82b];

/// A seeded hash that takes words one after the other; each state on the way is a good hash of what was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(u64);

impl Hash {
    /// Starts a hash with the seed of a rule set.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Makes a seed.
    pub(super) fn new_seed() -> u64 {
        RandomState::new().hash_one(0u8)
    }

    /// Takes a word.
    pub(super) fn word(self, word: u64) -> Self {
        let product = u128::from(self.0 ^ word ^ MULTIPLIERS[1])
            * u128::from(self.0.rotate_left(32) ^ MULTIPLIERS[0]);
        Self(low(product) ^ low(product >> 64))
    }

    /// Takes the bytes of one label and its length.
    pub(super) fn label(mut self, label: &[u8]) -> Self {
        let mut chunks = label.chunks_exact(8);
        for chunk in &mut chunks {
            self = self.word(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let tail = chunks
            .remainder()
            .iter()
            .fold(label.len() as u64, |word, &byte| {
                word << 8 | u64::from(byte)
            });
        self.word(tail)
    }

    fn value(self) -> u64 {
        // Neither half may be zero-biased: the low half chooses the slot, the high half is the fingerprint.
        self.0 ^ self.0 >> 29
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 64 bits are what is asked for"
)]
fn low(product: u128) -> u64 {
    product as u64
}

/// Positions by hash; open addressing with linear steps, at most half full.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    /// Upper half of the hash and position + 1; 0 is an empty slot.
    slots: Box<[u64]>,
    mask: usize,
}

impl Slots {
    /// Makes an index with room for `count` keys.
    pub(super) fn with_room_for(count: usize) -> Self {
        let size = (count.saturating_mul(2)).next_power_of_two().max(2);
        Self {
            slots: vec![0; size].into_boxed_slice(),
            mask: size - 1,
        }
    }

    /// Finds the position whose key is the wanted one.
    pub(super) fn find(&self, hash: Hash, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = start(hash);
        loop {
            match *self.slots.get(at & self.mask)? {
                0 => return None,
                slot if slot >> 32 == hash.value() >> 32 => {
                    let position = position_of(slot);
                    if is_wanted(position) {
                        return Some(position);
                    }
                }
                _ => {}
            }
            at = at.wrapping_add(1);
        }
    }

    /// Puts a position in; gives the one back that had the same key.
    pub(super) fn put(
        &mut self,
        hash: Hash,
        position: u32,
        is_same: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let entry = (hash.value() >> 32 << 32) | (u64::from(position) + 1);
        let mut at = start(hash);
        while let Some(slot) = self.slots.get_mut(at & self.mask) {
            if *slot == 0 {
                *slot = entry;
                return None;
            }
            if *slot >> 32 == entry >> 32 && is_same(position_of(*slot)) {
                return Some(position_of(std::mem::replace(slot, entry)));
            }
            at = at.wrapping_add(1);
        }
        None
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits choose the slot"
)]
fn start(hash: Hash) -> usize {
    hash.value() as usize
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 32 bits are the position + 1, never 0 in a used slot"
)]
fn position_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put() {
        let keys: Vec<u64> = (0..1000).map(|n| n * n).collect();
        let seed = Hash::new_seed();
        let mut slots = Slots::with_room_for(keys.len());
        for (position, &key) in (0u32..).zip(&keys) {
            assert_eq!(
                slots.put(Hash::seeded(seed).word(key), position, |p| keys[p as usize]
                    == key),
                None
            );
        }
        for (position, &key) in (0u32..).zip(&keys) {
            assert_eq!(
                slots.find(Hash::seeded(seed).word(key), |p| keys[p as usize] == key),
                Some(position)
            );
            assert_eq!(
                slots.put(Hash::seeded(seed).word(key), position, |p| keys[p as usize]
                    == key),
                Some(position)
            );
        }
        assert_eq!(
            slots.find(Hash::seeded(seed).word(2), |p| keys[p as usize] == 2),
            None
        );
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert_eq!(
            Slots::with_room_for(0).find(Hash::seeded(0), |_| true),
            None
        );
    }

    #[test]
    fn labels_and_their_order_change_the_hash() {
        let hash = |labels: &[&str]| {
            labels
                .iter()
                .fold(Hash::seeded(1), |hash, label| hash.label(label.as_bytes()))
                .value()
        };
        let all = [
            hash(&["com", "example"]),
            hash(&["example", "com"]),
            hash(&["comexample"]),
            hash(&["com", "exampl", "e"]),
            hash(&["com"]),
            hash(&[]),
            hash(&["com", "examplf"]),
        ];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
