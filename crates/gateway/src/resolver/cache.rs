//! A bounded map whose entries expire.
//!
//! Must not grow beyond its weight, whatever the agent asks for.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Share of the entries that is thrown out when nothing has expired: one in this many.
const EVICT_ONE_IN: usize = 8;

/// A time on the clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`, `clock_gettime(2)`): an answer is not good
/// for longer because the lid was closed. `Instant` stands still meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanoseconds))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Moment,
    weight: usize,
}

/// Values with an expiry and a weight in bytes.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    weight: usize,
    weight_limit: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Creates an empty cache, which owns no memory yet.
    pub(crate) fn new(weight_limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            weight: 0,
            weight_limit,
        }
    }

    pub(crate) fn get(&self, key: &K, now: Moment) -> Option<V> {
        let entry = self.entries.get(key)?;
        (entry.expires > now).then(|| entry.value.clone())
    }

    /// Stores a value. One that weighs more than a sixteenth of the whole is not kept.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize, expires: Moment, now: Moment) {
        if weight > self.weight_limit / 16 || expires <= now {
            return;
        }
        self.remove(&key);
        if self.weight + weight > self.weight_limit {
            self.make_room(now);
        }
        self.weight += weight;
        self.entries.insert(
            key,
            Entry {
                value,
                expires,
                weight,
            },
        );
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.weight = 0;
    }

    fn remove(&mut self, key: &K) {
        if let Some(old) = self.entries.remove(key) {
            self.weight -= old.weight;
        }
    }

    /// Drops what expired, or else what would expire first.
    fn make_room(&mut self, now: Moment) {
        let mut order: Vec<(Moment, K)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.expires, key.clone()))
            .collect();
        order.sort_unstable_by_key(|(expires, _)| *expires);
        let share = order.len() / EVICT_ONE_IN + 1;
        for (position, (expires, key)) in order.into_iter().enumerate() {
            if position >= share && expires > now {
                break;
            }
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_is_bounded_and_the_oldest_goes_first() {
        let now = Moment::now();
        let mut cache = Cache::new(1600);
        for number in 0..1000_u64 {
            cache.insert(
                number,
                number,
                100,
                now + Duration::from_secs(number + 1),
                now,
            );
            assert!(cache.weight <= 1600 && cache.entries.len() <= 16);
        }
        assert_eq!(cache.get(&999, now), Some(999));
        assert_eq!(cache.get(&0, now), None);
        cache.insert(1000, 1, 101, now + Duration::from_secs(1), now);
        assert_eq!(cache.get(&1000, now), None);
    }

    #[test]
    fn the_clock_counts_sleep() {
        // Neither clock can be made to jump here, but the one that counts sleep is never behind the one that does not.
        let awake = clock_gettime(ClockId::Monotonic);
        let now = Moment::now();
        assert!(now.0.as_secs() >= u64::try_from(awake.tv_sec).unwrap());
    }

    #[test]
    fn entries_expire() {
        let now = Moment::now();
        let mut cache = Cache::new(1600);
        cache.insert(1, 1, 1, now + Duration::from_secs(5), now);
        assert_eq!(cache.get(&1, now + Duration::from_secs(4)), Some(1));
        assert_eq!(cache.get(&1, now + Duration::from_secs(5)), None);
        cache.insert(1, 2, 3, now + Duration::from_secs(5), now);
        assert_eq!((cache.weight, cache.get(&1, now)), (3, Some(2)));
    }
}
