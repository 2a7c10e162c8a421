//! From an address to the slot that starts there, and to its mark: what the fast path knows of a class.

use crate::sync::atomic::AtomicU64;
use std::ptr;

use super::index::{Reciprocal, UNIT};
use super::layout::Span;
use super::ledger::Ledger;

/// Where a class's slots and their marks are. Valid as long as the class.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Slots {
    ledger: *const AtomicU64,
    /// The address of slot 0.
    start: usize,
    /// The length of all slots together, in units.
    units: usize,
    reciprocal: Reciprocal,
}

// SAFETY:
// - its pointer leads to a ledger, whose marks are atomic
unsafe impl Send for Slots {}
// SAFETY: as for Send.
unsafe impl Sync for Slots {}

impl Slots {
    /// The slots of a span in a region that starts at address `base`.
    pub(super) fn new(span: &Span, base: usize, ledger: &Ledger) -> Self {
        Self {
            ledger: ledger.first_entry(),
            start: base + span.start,
            units: span.slots as usize * (span.slot_size / UNIT),
            reciprocal: span.reciprocal,
        }
    }

    /// Finds no slot at any address.
    pub(crate) const fn none() -> Self {
        Self { ledger: ptr::null(), start: 0, units: 0, reciprocal: Reciprocal::none() }
    }

    /// The address of slot 0.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The slot that starts at an address.
    #[inline(always)]
    pub(crate) fn at(&self, address: usize) -> Option<usize> {
        // A rotation moves the low bits to the top. So an address inside a unit gives a unit past the end.
        let unit = address.wrapping_sub(self.start).rotate_right(UNIT.trailing_zeros());
        if unit >= self.units {
            return None;
        }
        self.reciprocal.slot_starting_at(unit as u64).map(|slot| slot as usize)
    }

    /// Whether there is a slot of this number, where each has so many bytes.
    pub(crate) fn has(&self, slot: usize, slot_size: usize) -> bool {
        slot * slot_size < self.units * UNIT
    }

    /// The mark of a slot that came from [`at`](Self::at) or from the shelf.
    #[inline(always)]
    pub(crate) fn mark(&self, slot: usize) -> &AtomicU64 {
        // SAFETY:
        // - the ledger lives as long as the pool, and `slot` is one of the class's (caller)
        unsafe { &*self.ledger.add(slot) }
    }
}
