//! Permits: who takes a slot takes one first, so there are never more takers than slots, and a search ends.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::SeqCst;

/// A counter on a cache line of its own, and how often something was added to it.
///
/// ```text
/// word    63 ......... 32   31 ......... 0
///         times given       permits
/// ```
#[repr(align(128))]
pub(super) struct Permits(AtomicU64);

const GIVEN: u64 = 1 << 32;

impl Permits {
    pub(super) fn new(permits: u32) -> Self {
        Self(AtomicU64::new(permits.into()))
    }

    /// Takes up to `wanted` permits; how many it got.
    ///
    /// Acquire pairs with the Release in [`give`](Self::give): who has a permit sees the bits set before it
    /// was given. SeqCst adds the order against a pool's closing, which [`Shelf::put`](super::Shelf::put) explains.
    #[inline]
    pub(super) fn take(&self, wanted: u32) -> u32 {
        let mut seen = self.0.load(SeqCst);
        loop {
            let taken = (seen as u32).min(wanted);
            if taken == 0 {
                return 0;
            }
            match self.0.compare_exchange_weak(seen, seen - u64::from(taken), SeqCst, SeqCst) {
                Ok(_) => return taken,
                Err(found) => seen = found,
            }
        }
    }

    /// Partner: [`take`](Self::take).
    #[inline]
    pub(super) fn give(&self, permits: u32) {
        self.0.fetch_add(GIVEN + u64::from(permits), SeqCst);
    }

    /// As [`give`](Self::give), what a reservation took. Not one of the times given: who reserves does not wait for
    /// itself.
    pub(super) fn return_reserved(&self, permits: u32) {
        self.0.fetch_add(permits.into(), SeqCst);
    }

    pub(super) fn times_given(&self) -> u32 {
        // SeqCst, as all the others: see `Shelf::times_put`.
        (self.0.load(SeqCst) >> GIVEN.trailing_zeros()) as u32
    }

    pub(super) fn available(&self) -> u32 {
        // SeqCst: a figure only, but for a closed pool, which is unmapped when none is missing
        // (`unmap_if_unused`).
        self.0.load(SeqCst) as u32
    }
}
