//! Rules about addresses: one look-up for each length of prefix that occurs.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::rule::Target;

use super::record::{Record, position};
use super::slots::{Hash, Slots};

/// No further rule about this network.
const END: u32 = u32::MAX;

/// A rule about a network.
#[derive(Debug, Clone)]
struct Entry {
    network: IpNet,
    record: Record,
    /// The next rule about the same network, in the order of writing.
    next: u32,
}

/// The index.
#[derive(Debug, Clone)]
pub(super) struct Networks {
    seed: u64,
    entries: Box<[Entry]>,
    slots: Slots,
    /// Lengths of prefixes that occur, shortest first.
    lengths_v4: Box<[u8]>,
    lengths_v6: Box<[u8]>,
}

/// A rule that covers the address asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct NetworkMatch<'s> {
    pub(super) record: &'s Record,
    pub(super) network: IpNet,
}

impl NetworkMatch<'_> {
    pub(super) fn target(&self) -> Target {
        Target::Network(self.network)
    }
}

impl Networks {
    /// Makes the index of all rules about networks.
    pub(super) fn build<'r>(rules: impl Iterator<Item = (Record, &'r Target)>) -> Self {
        let mut entries: Box<[Entry]> = rules
            .filter_map(|(record, target)| match target {
                Target::Network(network) => Some(Entry {
                    network: network.trunc(),
                    record,
                    next: END,
                }),
                Target::Host(_) | Target::Subdomains(_) => None,
            })
            .collect();
        let seed = Hash::new_seed();
        let mut slots = Slots::with_room_for(entries.len());
        for index in (0..entries.len()).rev() {
            let Some(network) = entries.get(index).map(|entry| entry.network) else {
                continue;
            };
            let is_same = |other: u32| {
                entries
                    .get(other as usize)
                    .is_some_and(|entry| entry.network == network)
            };
            let next = slots.put(hash_of(seed, network), position(index), is_same);
            if let Some(entry) = entries.get_mut(index) {
                entry.next = next.unwrap_or(END);
            }
        }
        let lengths = |is_v4: bool| {
            let mut lengths: Vec<u8> = Vec::new();
            for network in entries.iter().map(|entry| entry.network) {
                if matches!(network, IpNet::V4(_)) == is_v4
                    && !lengths.contains(&network.prefix_len())
                {
                    lengths.push(network.prefix_len());
                }
            }
            lengths.sort_unstable();
            lengths.into_boxed_slice()
        };
        let (lengths_v4, lengths_v6) = (lengths(true), lengths(false));
        Self {
            seed,
            entries,
            slots,
            lengths_v4,
            lengths_v6,
        }
    }

    /// Calls `found` with every rule that covers the address: wider ones first, those of one network in order of
    /// writing.
    pub(super) fn visit<'s>(&'s self, address: IpAddr, mut found: impl FnMut(NetworkMatch<'s>)) {
        let lengths = match address {
            IpAddr::V4(_) => &self.lengths_v4,
            IpAddr::V6(_) => &self.lengths_v6,
        };
        for &length in lengths {
            let Ok(network) = IpNet::new(address, length).map(|network| network.trunc()) else {
                continue;
            };
            let is_wanted = |at: u32| {
                self.entries
                    .get(at as usize)
                    .is_some_and(|entry| entry.network == network)
            };
            let mut at = self.slots.find(hash_of(self.seed, network), is_wanted);
            while let Some(entry) = at.and_then(|at| self.entries.get(at as usize)) {
                found(NetworkMatch {
                    record: &entry.record,
                    network: entry.network,
                });
                at = Some(entry.next);
            }
        }
    }
}

fn hash_of(seed: u64, network: IpNet) -> Hash {
    let length = u64::from(network.prefix_len());
    match network.addr() {
        IpAddr::V4(v4) => Hash::seeded(seed).word(u64::from(v4.to_bits()) << 8 | length),
        IpAddr::V6(v6) => {
            let (high, low) = halves(v6.to_bits());
            // The top bit keeps the families apart.
            Hash::seeded(seed)
                .word(high)
                .word(low)
                .word(length | 1 << 63)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each half is taken by itself"
)]
fn halves(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}
