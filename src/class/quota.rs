//! How many idle slots threads may keep: of each class a thread, and all threads together.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// A thread keeps at most this many slots of a class, and at most this many bytes.
const MAX_BIN_SLOTS: usize = 128;
const MAX_BIN_BYTES: usize = 2 << 20;
/// Slots larger than this, in bytes, are *large*: a thread keeps two of them, and none strands there, as whoever misses
/// one looks into all caches.
pub(crate) const LARGE: usize = 128 << 10;
/// Slots larger than this are not cached, in bytes.
const MAX_CACHED_SIZE: usize = 16 << 20;
/// A bin's quota is at least this many slots, or none.
pub(crate) const MIN_SHARE: u32 = 2;
/// The quota that a bin starts with, in slots.
pub(crate) const FIRST_QUOTA: u32 = 4;

/// How many slots of a class a thread keeps at most.
pub(crate) fn most_slots(slot_size: usize) -> u32 {
    if slot_size > MAX_CACHED_SIZE {
        0
    } else if slot_size > LARGE {
        MIN_SHARE
    } else {
        (MAX_BIN_BYTES / slot_size).min(MAX_BIN_SLOTS) as u32
    }
}

/// How much of a class may be in thread caches: at most half of it, whatever the number of threads.
pub(crate) struct Quota {
    left: AtomicU32,
}

impl Quota {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { left: AtomicU32::new(capacity / 2) }
    }

    /// A share for one bin, up to `wanted` slots: at most half of what is left, so that others get some, unless `last`
    /// may be taken, too. 0 or at least 2.
    pub(crate) fn take(&self, wanted: u32, last: bool) -> u32 {
        let most = |left: u32| if last { left } else { left.div_ceil(2) };
        let share = |left: u32| Some(wanted.min(most(left))).filter(|&share| share >= MIN_SHARE);
        // Relaxed: only the number itself decides.
        let before = self.left.fetch_update(Relaxed, Relaxed, |left| share(left).map(|share| left - share));
        before.ok().and_then(share).unwrap_or(0)
    }

    pub(crate) fn give(&self, slots: usize) {
        self.left.fetch_add(slots as u32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bins_together_have_at_most_half_of_a_class() {
        for capacity in [1, 3, 4, 10, 1000] {
            let quota = Quota::new(capacity);
            let bins: Vec<u32> = (0..100).map(|_| quota.take(MAX_BIN_SLOTS as u32, false)).collect();
            assert!(bins.iter().sum::<u32>() <= capacity / 2, "{bins:?}");
            assert!(bins.iter().all(|&slots| slots != 1 && slots <= MAX_BIN_SLOTS as u32));
            bins.iter().for_each(|&slots| quota.give(slots as usize));
            assert_eq!(quota.left.load(Relaxed), capacity / 2);
        }
    }

    #[test]
    fn huge_slots_are_not_cached() {
        assert_eq!([17 << 20, 16 << 20, 129 << 10, 128 << 10, 16 << 10].map(most_slots), [0, 2, 2, 16, 128]);
        assert_eq!(Quota::new(1000).take(1, false), 0);
        assert_eq!(Quota::new(1000).take(2, false), 2);
        assert_eq!([4, 3].map(|capacity| Quota::new(capacity).take(2, false)), [0, 0]);
        assert_eq!([4, 3].map(|capacity| Quota::new(capacity).take(2, true)), [2, 0]);
    }
}
