//! The table of synthetic addresses: which address stands for which name inside of the sandbox.
//!
//! Number `n` is the `n`th address of the IPv4 range and of the IPv6 prefix. Numbers are given out in order and never taken
//! back during a run: an address that meant another name later would send a connection to the wrong host. So a full table refuses
//! new names.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcc_spec::HostName;

/// Ranges of the addresses that stand for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntheticRanges {
    /// First IPv4 address.
    pub v4_first: Ipv4Addr,
    /// Last IPv4 address.
    pub v4_last: Ipv4Addr,
    /// A /64 whose low 64 bits number the names.
    pub v6_prefix: Ipv6Addr,
}

impl Default for SyntheticRanges {
    fn default() -> Self {
        use rcc_plan::network::{SYNTHETIC_V4_FIRST, SYNTHETIC_V4_LAST, SYNTHETIC_V6};
        Self {
            v4_first: SYNTHETIC_V4_FIRST,
            v4_last: SYNTHETIC_V4_LAST,
            v6_prefix: SYNTHETIC_V6,
        }
    }
}

/// Bits of an IPv6 address that name the prefix.
const PREFIX_MASK: u128 = !(u64::MAX as u128);

impl SyntheticRanges {
    /// How many names fit.
    fn size(&self) -> u32 {
        self.v4_last
            .to_bits()
            .saturating_sub(self.v4_first.to_bits())
            .saturating_add(1)
    }

    /// The number of an address in the ranges; `Some(None)` is one that is in a range and never given out.
    fn number(&self, address: IpAddr) -> Option<Option<u32>> {
        match address {
            IpAddr::V4(address) => {
                let inside = (self.v4_first..=self.v4_last).contains(&address);
                inside.then(|| Some(address.to_bits() - self.v4_first.to_bits()))
            }
            IpAddr::V6(address) => {
                let (bits, prefix) = (address.to_bits(), self.v6_prefix.to_bits());
                let inside = bits & PREFIX_MASK == prefix & PREFIX_MASK;
                inside.then(|| u32::try_from(bits & !PREFIX_MASK).ok())
            }
        }
    }

    fn addresses(&self, number: u32) -> SyntheticPair {
        SyntheticPair {
            v4: Ipv4Addr::from_bits(self.v4_first.to_bits().saturating_add(number)),
            v6: Ipv6Addr::from_bits(self.v6_prefix.to_bits() & PREFIX_MASK | u128::from(number)),
        }
    }
}

/// The two addresses of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntheticPair {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// This name.
    Name(HostName),
    /// It is in the ranges, but was never given out.
    Nothing,
    /// It is outside of the ranges: an address of the real world.
    Literal(IpAddr),
}

/// Names in the order of their numbers.
#[derive(Debug)]
pub(crate) struct SyntheticTable {
    ranges: SyntheticRanges,
    limit: u32,
    names: Vec<HostName>,
    numbers: HashMap<HostName, u32>,
}

impl SyntheticTable {
    /// Creates an empty table for at most `limit` names.
    pub(crate) fn new(ranges: SyntheticRanges, limit: u32) -> Self {
        Self {
            ranges,
            limit: limit.min(ranges.size()),
            names: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// The addresses that a name has or gets; none when the table is full.
    pub(crate) fn assign(&mut self, name: &HostName) -> Option<SyntheticPair> {
        if let Some(&number) = self.numbers.get(name) {
            return Some(self.ranges.addresses(number));
        }
        let number = u32::try_from(self.names.len())
            .ok()
            .filter(|&number| number < self.limit)?;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        Some(self.ranges.addresses(number))
    }

    /// What a destination stands for. IPv4-mapped addresses are to be unwrapped before.
    pub(crate) fn meaning(&self, address: IpAddr) -> Meaning {
        let Some(number) = self.ranges.number(address) else {
            return Meaning::Literal(address);
        };
        number
            .and_then(|number| self.names.get(usize::try_from(number).ok()?))
            .map_or(Meaning::Nothing, |name| Meaning::Name(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_stable_and_lead_back() {
        let mut table = SyntheticTable::new(SyntheticRanges::default(), 100);
        let first = table.assign(&name("a.example.com")).unwrap();
        let second = table.assign(&name("b.example.com")).unwrap();
        assert_eq!(first.v4, Ipv4Addr::new(198, 18, 1, 0));
        assert_eq!(second.v6, "fd72:6363:0:1::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(table.assign(&name("A.example.com")), Some(first));
        for address in [IpAddr::V4(second.v4), IpAddr::V6(second.v6)] {
            assert_eq!(table.meaning(address), Meaning::Name(name("b.example.com")));
        }
    }

    #[test]
    fn what_was_not_given_out_means_nothing() {
        let mut table = SyntheticTable::new(SyntheticRanges::default(), 100);
        table.assign(&name("a.example.com"));
        for address in [
            "198.18.1.1",
            "198.19.255.254",
            "fd72:6363:0:1::1",
            "fd72:6363:0:1:1::",
            "fd72:6363:0:1:ffff::0",
        ] {
            assert_eq!(
                table.meaning(address.parse().unwrap()),
                Meaning::Nothing,
                "{address}"
            );
        }
        for address in [
            "198.18.0.1",
            "198.19.255.255",
            "198.20.0.0",
            "fd72:6363::1",
            "fd72:6363:0:2::",
            "203.0.113.1",
        ] {
            let address = address.parse().unwrap();
            assert_eq!(table.meaning(address), Meaning::Literal(address));
        }
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let ranges = SyntheticRanges {
            v4_first: Ipv4Addr::new(198, 18, 1, 0),
            v4_last: Ipv4Addr::new(198, 18, 1, 1),
            ..SyntheticRanges::default()
        };
        let mut table = SyntheticTable::new(ranges, 100);
        let first = table.assign(&name("a.example.com")).unwrap();
        table.assign(&name("b.example.com")).unwrap();
        assert_eq!(table.assign(&name("c.example.com")), None);
        assert_eq!(table.assign(&name("a.example.com")), Some(first));
    }
}
