//! The hash of names and networks.
//!
//! Seeded at random for each rule set: rules can come from a repository, and a file of names that all fall into one
//! bucket would make every verdict slow.

use std::hash::{BuildHasher, RandomState};

/// Multipliers with random-looking bits (the golden ratio and the square root of 5, scaled to 64 bits).
const MULTIPLIERS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x3c6e_f372_fe94_f82b];

/// A hash that takes words one after the other; each state on the way is a good hash of what was taken.
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

    /// Takes a word: both halves of a 128-bit product, so that every bit of the word reaches every bit of the hash.
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

    /// The hash of what was taken so far.
    pub(super) fn value(self) -> u64 {
        self.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 64 bits are what is asked for"
)]
fn low(product: u128) -> u64 {
    product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

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
            hash(&["com", "a-label-of-more-than-eight-bytes"]),
            hash(&["com", "a-label-of-more-than-eight-bytez"]),
        ];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn low_and_high_bits_spread() {
        // 4096 hashes of neighbours into 256 places: 16 expected, 45 would be far beyond chance.
        for shift in [0, 56] {
            let mut places = [0u32; 256];
            for n in 0..4096u64 {
                let value = Hash::seeded(7).word(n).value();
                places[usize::try_from(value >> shift & 0xff).unwrap()] += 1;
            }
            assert!(places.iter().all(|&count| count < 45), "{places:?}");
        }
    }
}
