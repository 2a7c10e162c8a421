//! Claims: idle and fresh slots of neighbouring lines that a trim takes off the shelf together, and returns.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{LINE_SLOTS, Line, QUEUED, Shelf, TOUCHED_SHIFT, lowest_bits};

/// The lines that [`Shelf::held_slots`] looks at: as many as have a bit for each slot.
pub(crate) const LINES_SEEN: u32 = u64::BITS / LINE_SLOTS;

/// The most lines a [`Claim`] may span.
pub(crate) const MAX_CLAIM_LINES: u32 = 64;

/// Idle and fresh slots of neighbouring lines, taken off the shelf together for a trim.
pub(crate) struct Claim {
    first_line: u32,
    line_count: u32,
    idle: [u16; MAX_CLAIM_LINES as usize],
    fresh: [u16; MAX_CLAIM_LINES as usize],
}

impl Claim {
    /// The first slot of the first line.
    pub(crate) fn first_slot(&self) -> u32 {
        self.first_line * LINE_SLOTS
    }

    /// One past the last slot of the last line (which may lack some).
    pub(crate) fn end_slot(&self) -> u32 {
        (self.first_line + self.line_count) * LINE_SLOTS
    }

    pub(crate) fn is_idle(&self, slot: u32) -> bool {
        Self::bit(&self.idle, slot - self.first_slot())
    }

    /// Idle or fresh: nobody uses it, and nobody can get it before the claim is settled.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.is_idle(slot) || Self::bit(&self.fresh, slot - self.first_slot())
    }

    /// The slot's memory was discarded: it will be fresh.
    pub(crate) fn make_fresh(&mut self, slot: u32) {
        let (line, bit) = Self::place(slot - self.first_slot());
        self.idle[line] &= !bit;
        self.fresh[line] |= bit;
    }

    fn place(index: u32) -> (usize, u16) {
        ((index / LINE_SLOTS) as usize, 1 << (index % LINE_SLOTS))
    }

    fn bit(bits: &[u16], index: u32) -> bool {
        let (line, bit) = Self::place(index);
        bits[line] & bit != 0
    }
}

impl Shelf {
    /// A bit for each slot of the lines from `first_line` on, [`LINES_SEEN`] of them, that is idle or fresh: so a
    /// [`claim`](Self::claim) would get no other, as it looks now.
    pub(crate) fn held_slots(&self, first_line: u32) -> u64 {
        let lines = &self.lines[first_line as usize..(first_line + LINES_SEEN) as usize];
        // Relaxed: a hint.
        let held = lines.iter().map(|word| Line(word.load(Relaxed))).map(|line| line.idle() | line.fresh());
        held.rev().fold(0, |bits, held| bits << LINE_SLOTS | held)
    }

    /// Takes up to `max_idle` idle slots, and the fresh ones, of lines `first_line` to `first_line +
    /// line_count`. `None` if none is idle there.
    ///
    /// Gets that run meanwhile do not see these slots: keep the claim short, and [`settle`](Self::settle) it.
    pub(crate) fn claim(&self, first_line: u32, line_count: u32, max_idle: u32) -> Option<Claim> {
        let lines = first_line as usize..(first_line + line_count) as usize;
        let idle_here: u32 =
            self.lines[lines.clone()].iter().map(|word| Line(word.load(Relaxed)).idle().count_ones()).sum();
        let mut idle_permits = self.idle.take(idle_here.min(max_idle));
        if idle_permits == 0 {
            return None;
        }
        let mut fresh_permits = self.fresh.take(line_count * LINE_SLOTS);
        let mut claim = Claim {
            first_line,
            line_count,
            idle: [0; MAX_CLAIM_LINES as usize],
            fresh: [0; MAX_CLAIM_LINES as usize],
        };
        for (index, word) in self.lines[lines].iter().enumerate() {
            let (idle, fresh) = Self::claim_line(word, idle_permits, fresh_permits);
            idle_permits -= idle.count_ones();
            fresh_permits -= fresh.count_ones();
            claim.idle[index] = idle;
            claim.fresh[index] = fresh;
        }
        self.idle.return_claimed(idle_permits);
        self.fresh.return_claimed(fresh_permits);
        Some(claim)
    }

    fn claim_line(word: &AtomicU64, max_idle: u32, max_fresh: u32) -> (u16, u16) {
        let mut seen = Line(word.load(Relaxed));
        loop {
            let idle = lowest_bits(seen.idle(), max_idle);
            let fresh = lowest_bits(seen.fresh(), max_fresh);
            let after = (seen.0 & !idle) | fresh << TOUCHED_SHIFT;
            // Acquire: as in `take_from`.
            match word.compare_exchange_weak(seen.0, after, Acquire, Relaxed) {
                Ok(_) => return (idle as u16, fresh as u16),
                Err(found) => seen = Line(found),
            }
        }
    }

    /// Returns the slots of a claim as what they are now.
    pub(crate) fn settle(&self, claim: Claim) {
        let mut idle_permits = 0;
        let mut fresh_permits = 0;
        for index in 0..claim.line_count {
            let word = &self.lines[(claim.first_line + index) as usize];
            let idle = u64::from(claim.idle[index as usize]);
            let fresh = u64::from(claim.fresh[index as usize]);
            if fresh != 0 {
                // Release: partner in `take_fresh_from`.
                word.fetch_and(!(fresh << TOUCHED_SHIFT), Release);
                fresh_permits += fresh.count_ones();
            }
            if idle != 0 {
                // Release: partner in `take_from`; what the last owner wrote passes on through this thread.
                let before = Line(word.fetch_or(idle | QUEUED, AcqRel));
                if !before.is_queued() {
                    self.enqueue(claim.first_line + index);
                }
                idle_permits += idle.count_ones();
            }
        }
        self.idle.return_claimed(idle_permits);
        self.fresh.return_claimed(fresh_permits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_claim_takes_slots_off_the_shelf_and_settles_them() {
        let shelf = Shelf::new(40).unwrap();
        let taken: Vec<u32> = (0..20).map(|_| shelf.take_fresh().unwrap()).collect();
        taken[..10].iter().for_each(|&slot| shelf.put(slot));

        let mut claim = shelf.claim(0, 2, u32::MAX).unwrap();
        assert_eq!((shelf.idle(), shelf.fresh()), (0, 8));
        assert!((0..10).all(|slot| claim.is_idle(slot)));
        assert!((10..20).all(|slot| !claim.holds(slot)), "slots 10 to 19 are out");
        assert!((20..32).all(|slot| claim.holds(slot) && !claim.is_idle(slot)));
        claim.make_fresh(3);
        shelf.settle(claim);

        assert_eq!((shelf.idle(), shelf.fresh()), (9, 21));
        let idle: HashSet<u32> = std::iter::from_fn(|| shelf.take_idle()).collect();
        assert_eq!(idle, (0..10).filter(|&slot| slot != 3).collect());
        let fresh: HashSet<u32> = std::iter::from_fn(|| shelf.take_fresh()).collect();
        assert_eq!(fresh, (20..40).chain([3]).collect());
    }

    #[test]
    fn a_claim_respects_its_limit() {
        let shelf = Shelf::new(32).unwrap();
        let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh()).collect();
        taken.iter().for_each(|&slot| shelf.put(slot));
        let claim = shelf.claim(0, 2, 5).unwrap();
        assert_eq!(shelf.idle(), 27);
        shelf.settle(claim);
        assert_eq!(shelf.idle(), 32);
        assert!(shelf.claim(0, 2, 0).is_none());
    }
}
