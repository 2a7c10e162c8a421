//! How many idle slots of a class threads may keep: one thread, and all threads together.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

use super::layout::Span;

/// A thread keeps at most this many slots of a class, and at most this many bytes.
const MAX_BIN_SLOTS: usize = 128;
const MAX_BIN_BYTES: usize = 2 << 20;
/// Slots larger than this, in bytes, are *large*. A thread keeps two of them. No such slot is lost in a sleeping
/// thread's cache, because a thread that misses one drains all caches.
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

/// The least quota of a class of little capacity, in slots and in bytes: many more of its buffers may be out.
const LEAST_SLOTS: usize = 64;
const LEAST_BYTES: usize = 1 << 20;

/// How much of a class may be in thread caches, whatever the number of threads: half of its capacity. Where that is
/// less than [`LEAST_SLOTS`] and [`LEAST_BYTES`], it is up to these, but at most half of the room beyond the capacity.
/// A class that keeps ten buffers may have a thousand out, which must not move one by one.
pub(crate) struct Quota {
    left: AtomicU32,
}

impl Quota {
    pub(crate) fn new(span: &Span) -> Self {
        Self { left: AtomicU32::new(Self::total(span.capacity, span.slots, span.slot_size)) }
    }

    fn total(capacity: u32, slots: u32, slot_size: usize) -> u32 {
        let least = LEAST_SLOTS.min(LEAST_BYTES / slot_size) as u32;
        (capacity / 2).max(least.min((slots - capacity) / 2))
    }

    /// A share for one bin, up to `wanted` slots. It is at most half of what is left, so that other bins get some; with
    /// `last` it may be all. Returns 0 or at least [`MIN_SHARE`].
    pub(crate) fn take(&self, wanted: u32, last: bool) -> u32 {
        let most = |left: u32| if last { left } else { left.div_ceil(2) };
        let share = |left: u32| Some(wanted.min(most(left))).filter(|&share| share >= MIN_SHARE);
        // Relaxed: only the number itself decides.
        let before = self.left.fetch_update(Relaxed, Relaxed, |left| share(left).map(|share| left - share));
        before.ok().and_then(share).unwrap_or(0)
    }

    pub(crate) fn give(&self, slots: usize) {
        // Relaxed: nothing but the count depends on it.
        self.left.fetch_add(slots as u32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(capacity: u32) -> Quota {
        Quota { left: AtomicU32::new(Quota::total(capacity, capacity, 64)) }
    }

    #[test]
    fn all_bins_together_have_at_most_half_of_a_class() {
        for capacity in [1, 3, 4, 10, 1000] {
            let quota = quota(capacity);
            let bins: Vec<u32> = (0..100).map(|_| quota.take(MAX_BIN_SLOTS as u32, false)).collect();
            assert!(bins.iter().sum::<u32>() <= capacity / 2, "{bins:?}");
            assert!(bins.iter().all(|&slots| slots != 1 && slots <= MAX_BIN_SLOTS as u32));
            bins.iter().for_each(|&slots| quota.give(slots as usize));
            assert_eq!(quota.left.load(Relaxed), capacity / 2);
        }
    }

    #[test]
    fn a_class_of_little_capacity_has_a_quota_by_the_room_beyond_it() {
        assert_eq!(Quota::total(10, 10 + (1 << 20), 64), 64);
        assert_eq!(Quota::total(1000, 1000 + (1 << 20), 64), 500);
        assert_eq!(Quota::total(10, 10 + 1024, 64 << 10), 16);
        assert_eq!(Quota::total(10, 10 + 32, 2 << 20), 5);
        assert_eq!(Quota::total(2, 12, 64), 5);
    }

    #[test]
    fn huge_slots_are_not_cached() {
        assert_eq!([17 << 20, 16 << 20, 129 << 10, 128 << 10, 16 << 10].map(most_slots), [0, 2, 2, 16, 128]);
        assert_eq!(quota(1000).take(1, false), 0);
        assert_eq!(quota(1000).take(2, false), 2);
        assert_eq!([4, 3].map(|capacity| quota(capacity).take(2, false)), [0, 0]);
        assert_eq!([4, 3].map(|capacity| quota(capacity).take(2, true)), [2, 0]);
    }
}
