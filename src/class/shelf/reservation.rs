//! Reservations: idle and fresh slots of neighbouring groups that leave the shelf together while their memory goes
//! back, and return.

use std::ops::Range;

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{GROUP_MASK, GROUP_SLOTS, Group, Shelf, TOUCHED_SHIFT, lowest_bits};

/// How many groups [`Shelf::held_slots`] looks at: a word has a bit for each of their slots.
pub(crate) const GROUPS_SEEN: u32 = u64::BITS / GROUP_SLOTS;

/// The most groups of a [`Reservation`]: those of a huge page of 512-byte slots.
pub(crate) const MAX_RESERVED_GROUPS: u32 = 256;

/// Idle and fresh slots of neighbouring groups, taken off the shelf together.
pub(crate) struct Reservation {
    first_group: u32,
    group_count: u32,
    idle: [u16; MAX_RESERVED_GROUPS as usize],
    fresh: [u16; MAX_RESERVED_GROUPS as usize],
    /// Permits that it has.
    idle_taken: u32,
    fresh_taken: u32,
}

impl Reservation {
    /// The first slot of the first group.
    pub(crate) fn first_slot(&self) -> u32 {
        self.first_group * GROUP_SLOTS
    }

    /// One past the last slot of the last group. The group may lack some slots.
    pub(crate) fn end_slot(&self) -> u32 {
        (self.first_group + self.group_count) * GROUP_SLOTS
    }

    pub(crate) fn is_idle(&self, slot: u32) -> bool {
        Self::bit(&self.idle, slot - self.first_slot())
    }

    /// Idle or fresh: nobody uses it, and nobody can get it before the reservation is given back.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.is_idle(slot) || Self::bit(&self.fresh, slot - self.first_slot())
    }

    /// The slot's memory was discarded: it will be fresh.
    pub(crate) fn make_fresh(&mut self, slot: u32) {
        let (group, bit) = Self::place(slot - self.first_slot());
        self.idle[group] &= !bit;
        self.fresh[group] |= bit;
    }

    fn place(index: u32) -> (usize, u16) {
        ((index / GROUP_SLOTS) as usize, 1 << (index % GROUP_SLOTS))
    }

    fn bit(bits: &[u16], index: u32) -> bool {
        let (group, bit) = Self::place(index);
        bits[group] & bit != 0
    }
}

impl Shelf {
    /// A bit for each idle or fresh slot of [`GROUPS_SEEN`] groups from `first_group` on. It previews what
    /// [`reserve`](Self::reserve) would take; other threads may change it.
    pub(crate) fn held_slots(&self, first_group: u32) -> u64 {
        let groups = &self.groups[first_group as usize..(first_group + GROUPS_SEEN) as usize];
        // Relaxed: a hint.
        let held =
            groups.iter().map(|word| Group(word.load(Relaxed))).map(|group| group.idle() | group.fresh());
        held.rev().fold(0, |bits, held| bits << GROUP_SLOTS | held)
    }

    /// Whether `count` of these groups, one after another, have all their slots on the shelf. A preview, too.
    pub(crate) fn has_held_groups(&self, groups: Range<u32>, count: usize) -> bool {
        let mut in_a_row = 0;
        let words = &self.groups[groups.start as usize..groups.end as usize];
        count == 0
            || words.iter().any(|word| {
                // Relaxed: a hint.
                let group = Group(word.load(Relaxed));
                let is_held = (group.idle() | group.fresh()) == GROUP_MASK;
                in_a_row = if is_held { in_a_row + 1 } else { 0 };
                in_a_row >= count
            })
    }

    /// Takes up to `max_idle` idle slots, and the fresh ones, of `group_count` groups from `first_group` on. `None` if
    /// none is idle there.
    ///
    /// Gets that run meanwhile do not see these slots: keep the reservation short, and [`give_back`](Self::give_back)
    /// it.
    pub(crate) fn reserve(&self, first_group: u32, group_count: u32, max_idle: u32) -> Option<Reservation> {
        let groups = first_group as usize..(first_group + group_count) as usize;
        let idle_here: u32 = self.groups[groups.clone()]
            .iter()
            .map(|word| Group(word.load(Relaxed)).idle().count_ones())
            .sum();
        let mut idle_permits = self.idle.reserve(idle_here.min(max_idle));
        if idle_permits == 0 {
            return None;
        }
        let mut fresh_permits = self.fresh.reserve(group_count * GROUP_SLOTS);
        let mut reservation = Reservation {
            first_group,
            group_count,
            idle: [0; MAX_RESERVED_GROUPS as usize],
            fresh: [0; MAX_RESERVED_GROUPS as usize],
            idle_taken: idle_permits,
            fresh_taken: fresh_permits,
        };
        for (index, word) in self.groups[groups].iter().enumerate() {
            let (idle, fresh) = Self::reserve_group(word, idle_permits, fresh_permits);
            idle_permits -= idle.count_ones();
            fresh_permits -= fresh.count_ones();
            reservation.idle[index] = idle;
            reservation.fresh[index] = fresh;
        }
        self.idle.return_reserved(idle_permits, idle_permits);
        self.fresh.return_reserved(fresh_permits, fresh_permits);
        reservation.idle_taken -= idle_permits;
        reservation.fresh_taken -= fresh_permits;
        Some(reservation)
    }

    fn reserve_group(word: &AtomicU64, max_idle: u32, max_fresh: u32) -> (u16, u16) {
        let mut seen = Group(word.load(Relaxed));
        loop {
            let idle = lowest_bits(seen.idle(), max_idle);
            let fresh = lowest_bits(seen.fresh(), max_fresh);
            let after = (seen.0 & !idle) | fresh << TOUCHED_SHIFT;
            // Acquire: as in `take_from`.
            match word.compare_exchange_weak(seen.0, after, Acquire, Relaxed) {
                Ok(_) => return (idle as u16, fresh as u16),
                Err(found) => seen = Group(found),
            }
        }
    }

    /// Returns the slots of a reservation as what they are now.
    pub(crate) fn give_back(&self, reservation: Reservation) {
        let mut idle_permits = 0;
        let mut fresh_permits = 0;
        for index in 0..reservation.group_count {
            let word = &self.groups[(reservation.first_group + index) as usize];
            let idle = u64::from(reservation.idle[index as usize]);
            let fresh = u64::from(reservation.fresh[index as usize]);
            if fresh != 0 {
                // Release: partner in `take_fresh_from`.
                word.fetch_and(!(fresh << TOUCHED_SHIFT), Release);
                fresh_permits += fresh.count_ones();
                self.prefer_fresh(reservation.first_group + index);
            }
            if idle != 0 {
                // What the last owner wrote passes on through this thread.
                self.put_bits(reservation.first_group + index, idle);
                idle_permits += idle.count_ones();
            }
        }
        // Fresh ones first: a slot that became fresh then counts as fresh before it is missing among the idle ones.
        self.fresh.return_reserved(fresh_permits, reservation.fresh_taken);
        self.idle.return_reserved(idle_permits, reservation.idle_taken);
    }
}

#[cfg(test)]
mod tests {
    use super::super::TestShelf;
    use std::collections::HashSet;

    #[test]
    fn a_reservation_takes_slots_off_the_shelf_and_returns_them() {
        let shelf = TestShelf::new(40);
        let taken: Vec<u32> = (0..20).map(|_| shelf.take_fresh(None).unwrap()).collect();
        taken[..10].iter().for_each(|&slot| shelf.put(slot));

        let mut reservation = shelf.reserve(0, 2, u32::MAX).unwrap();
        assert_eq!((shelf.idle(), shelf.fresh()), (0, 8));
        assert_eq!(shelf.counted(), (10, 20));
        assert!((0..10).all(|slot| reservation.is_idle(slot)));
        assert!((10..20).all(|slot| !reservation.holds(slot)), "slots 10 to 19 are out");
        assert!((20..32).all(|slot| reservation.holds(slot) && !reservation.is_idle(slot)));
        reservation.make_fresh(3);
        shelf.give_back(reservation);

        assert_eq!((shelf.idle(), shelf.fresh()), (9, 21));
        assert_eq!(shelf.counted(), (9, 21));
        let idle: HashSet<u32> = std::iter::from_fn(|| shelf.take_idle()).collect();
        assert_eq!(idle, (0..10).filter(|&slot| slot != 3).collect());
        let fresh: HashSet<u32> = std::iter::from_fn(|| shelf.take_fresh(None)).collect();
        assert_eq!(fresh, (20..40).chain([3]).collect());
    }

    #[test]
    fn groups_in_a_row_are_held_while_no_slot_of_them_is_out() {
        let shelf = TestShelf::new(80);
        assert!(shelf.has_held_groups(0..5, 5) && !shelf.has_held_groups(0..4, 5));
        let taken: Vec<u32> = (0..33).map(|_| shelf.take_fresh(None).unwrap()).collect();
        taken[..32].iter().for_each(|&slot| shelf.put(slot)); // one is out, of the third group
        let held = |count| shelf.has_held_groups(0..5, count);
        assert_eq!([0, 1, 2, 3].map(held), [true, true, true, false]);
    }

    #[test]
    fn slots_that_became_fresh_are_known_to_be() {
        let shelf = TestShelf::new(48);
        let all_are_fresh = |groups| {
            let mut ran = false;
            shelf.while_all_are_fresh(groups, || ran = true);
            ran
        };
        assert!(all_are_fresh(0..3));
        let taken: Vec<u32> = (0..20).map(|_| shelf.take_fresh(None).unwrap()).collect();
        assert!(!all_are_fresh(0..1) && !all_are_fresh(0..2) && all_are_fresh(2..3));
        taken.iter().for_each(|&slot| shelf.put(slot));
        assert!(!all_are_fresh(0..2));
        let mut reservation = shelf.reserve(0, 2, u32::MAX).unwrap();
        taken[1..].iter().for_each(|&slot| reservation.make_fresh(slot));
        shelf.give_back(reservation);
        assert!(!all_are_fresh(0..2) && all_are_fresh(1..2));
        let mut reservation = shelf.reserve(0, 2, u32::MAX).unwrap();
        reservation.make_fresh(taken[0]);
        shelf.give_back(reservation);
        assert!(all_are_fresh(0..2));
        assert_eq!((shelf.idle(), shelf.fresh()), (0, 48));
    }

    #[test]
    fn a_reservation_respects_its_limit() {
        let shelf = TestShelf::new(32);
        let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh(None)).collect();
        taken.iter().for_each(|&slot| shelf.put(slot));
        let reservation = shelf.reserve(0, 2, 5).unwrap();
        assert_eq!(shelf.idle(), 27);
        shelf.give_back(reservation);
        assert_eq!(shelf.idle(), 32);
        assert!(shelf.reserve(0, 2, 0).is_none());
    }
}
