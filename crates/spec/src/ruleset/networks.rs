//! Rules about addresses: one look-up for each length of prefix that occurs.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::rule::Target;

use super::buckets::Buckets;
use super::hash::Hash;
use super::record::Record;

/// The index.
#[derive(Debug, Clone)]
pub(super) struct Networks {
    seed: u64,
    buckets: Buckets,
    /// Lengths of prefixes that occur, shortest first.
    lengths_v4: Box<[u8]>,
    lengths_v6: Box<[u8]>,
}

/// A rule that covers the address asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct NetworkMatch {
    pub(super) record: Record,
    pub(super) network: IpNet,
}

impl NetworkMatch {
    pub(super) fn target(&self) -> Target {
        Target::Network(self.network)
    }
}

impl Networks {
    /// Makes the index of the rules about networks among the rules that `each` gives, twice the same.
    pub(super) fn build(
        count: usize,
        mut each: impl FnMut(&mut dyn FnMut(&Record, &Target)),
    ) -> Self {
        let seed = Hash::new_seed();
        let (mut lengths_v4, mut lengths_v6) = ([false; 129], [false; 129]);
        let buckets = Buckets::build(count, |put| {
            each(&mut |record, target| {
                let Target::Network(network) = target else {
                    return;
                };
                let network = network.trunc();
                let lengths = if network.addr().is_ipv4() {
                    &mut lengths_v4
                } else {
                    &mut lengths_v6
                };
                if let Some(occurs) = lengths.get_mut(usize::from(network.prefix_len())) {
                    *occurs = true;
                }
                let (key, hash) = key_of(seed, network);
                put(hash, key.as_bytes(), record);
            });
        });
        let occurring = |lengths: [bool; 129]| {
            (0..=128)
                .zip(lengths)
                .filter(|(_, occurs)| *occurs)
                .map(|(n, _)| n)
                .collect()
        };
        Self {
            seed,
            buckets,
            lengths_v4: occurring(lengths_v4),
            lengths_v6: occurring(lengths_v6),
        }
    }

    /// Calls `found` with every rule that covers the address: wider ones first, those of one network in order of
    /// writing.
    pub(super) fn visit(&self, address: IpAddr, mut found: impl FnMut(NetworkMatch)) {
        let lengths = if address.is_ipv4() {
            &self.lengths_v4
        } else {
            &self.lengths_v6
        };
        for &length in lengths {
            let Ok(network) = IpNet::new(address, length).map(|network| network.trunc()) else {
                continue;
            };
            let (key, hash) = key_of(self.seed, network);
            self.buckets.visit(hash, key.as_bytes(), |record| {
                found(NetworkMatch { record, network })
            });
        }
    }
}

/// The bytes that stand for a network: its address and the length of its prefix; the number of bytes tells the family.
struct Key {
    bytes: [u8; 17],
    length: usize,
}

impl Key {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

fn key_of(seed: u64, network: IpNet) -> (Key, Hash) {
    let mut bytes = [0; 17];
    let prefix = network.prefix_len();
    let (length, hash) = match network.addr() {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            let [a, b, c, d] = bits.to_be_bytes();
            for (to, from) in bytes.iter_mut().zip([a, b, c, d, prefix]) {
                *to = from;
            }
            (
                5,
                Hash::seeded(seed).word(u64::from(bits) << 8 | u64::from(prefix)),
            )
        }
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            for (to, from) in bytes.iter_mut().zip(octets.into_iter().chain([prefix])) {
                *to = from;
            }
            (17, Hash::seeded(seed).label(&octets).word(prefix.into()))
        }
    };
    (Key { bytes, length }, hash)
}
