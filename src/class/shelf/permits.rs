//! Permits: who takes a slot takes one first, so there are never more takers than slots, and a search ends.

use crate::sync::atomic::Ordering::SeqCst;
use crate::sync::atomic::{AtomicU32, AtomicU64};

/// A counter on a cache line of its own, how often something was added to it, and how many permits reservations have.
///
/// ```text
/// word    63 ......... 32   31 ......... 0
///         times given       permits
/// ```
#[repr(align(128))]
pub(super) struct Permits {
    word: AtomicU64,
    reserved: AtomicU32,
}

const GIVEN: u64 = 1 << 32;

impl Permits {
    pub(super) fn new(permits: u32) -> Self {
        Self { word: AtomicU64::new(permits.into()), reserved: AtomicU32::new(0) }
    }

    /// Takes up to `wanted` permits; how many it got.
    ///
    /// Acquire pairs with the Release in [`give`](Self::give): who has a permit sees the bits set before it
    /// was given. SeqCst adds the order against a pool's closing, which [`Shelf::put`](super::Shelf::put) explains.
    #[inline]
    pub(super) fn take(&self, wanted: u32) -> u32 {
        let mut seen = self.word.load(SeqCst);
        loop {
            let taken = (seen as u32).min(wanted);
            if taken == 0 {
                return 0;
            }
            match self.word.compare_exchange_weak(seen, seen - u64::from(taken), SeqCst, SeqCst) {
                Ok(_) => return taken,
                Err(found) => seen = found,
            }
        }
    }

    /// Partner: [`take`](Self::take).
    #[inline]
    pub(super) fn give(&self, permits: u32) {
        self.word.fetch_add(GIVEN + u64::from(permits), SeqCst);
    }

    /// As [`take`](Self::take), for a reservation.
    pub(super) fn reserve(&self, wanted: u32) -> u32 {
        // Before they are taken, so that `counted` finds no fewer.
        self.reserved.fetch_add(wanted, SeqCst);
        let taken = self.take(wanted);
        self.reserved.fetch_sub(wanted - taken, SeqCst);
        taken
    }

    /// As [`give`](Self::give), for a reservation that took so many. Not one of the times given: who reserves does not
    /// wait for itself.
    pub(super) fn return_reserved(&self, permits: u32, taken: u32) {
        self.word.fetch_add(permits.into(), SeqCst);
        self.reserved.fetch_sub(taken, SeqCst);
    }

    pub(super) fn times_given(&self) -> u32 {
        // SeqCst, as all the others: see `Shelf::times_put`.
        (self.word.load(SeqCst) >> GIVEN.trailing_zeros()) as u32
    }

    pub(super) fn available(&self) -> u32 {
        // SeqCst: a figure only, but for a closed pool, which is unmapped when none is missing
        // (`unmap_if_unused`).
        self.word.load(SeqCst) as u32
    }

    /// Those available, and those that reservations have: a figure. One that begins or ends meanwhile may be counted
    /// twice.
    pub(super) fn counted(&self) -> u32 {
        let before = self.reserved.load(SeqCst);
        let available = self.available();
        available + before.max(self.reserved.load(SeqCst))
    }
}
