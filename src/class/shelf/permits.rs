//! Permits: a thread takes one before it takes a slot. So there are never more takers than slots, and each search ends.

use crate::sync::atomic::Ordering::SeqCst;
use crate::sync::atomic::{AtomicU32, AtomicU64};

/// Permits, how often some were given, and how many reservations have. On a cache line of its own.
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

    /// Takes up to `wanted` permits. Returns how many.
    ///
    /// Acquire pairs with the Release in [`give`](Self::give): a thread with a permit sees the bits that were set
    /// before it was given. SeqCst adds the order against a pool's closing, which [`Shelf::put`](super::Shelf::put)
    /// explains.
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

    /// Adds permits. SeqCst: partner in [`take`](Self::take).
    #[inline]
    pub(super) fn give(&self, permits: u32) {
        self.word.fetch_add(GIVEN + u64::from(permits), SeqCst);
    }

    /// Takes up to `wanted` permits for a reservation. Returns how many. The orderings are those of
    /// [`take`](Self::take).
    pub(super) fn reserve(&self, wanted: u32) -> u32 {
        // Counted before they are taken, so that `counted` finds no fewer.
        self.reserved.fetch_add(wanted, SeqCst);
        let taken = self.take(wanted);
        self.reserved.fetch_sub(wanted - taken, SeqCst);
        taken
    }

    /// Gives `permits` back for a reservation that took `taken`. This is not counted as given, since a search must not
    /// start again because of its own reservations.
    pub(super) fn return_reserved(&self, permits: u32, taken: u32) {
        self.word.fetch_add(permits.into(), SeqCst);
        self.reserved.fetch_sub(taken, SeqCst);
    }

    pub(super) fn times_given(&self) -> u32 {
        // SeqCst, in one order with what `take` finds: see `Shelf::times_put`.
        (self.word.load(SeqCst) >> GIVEN.trailing_zeros()) as u32
    }

    pub(super) fn available(&self) -> u32 {
        // SeqCst for `unmap_if_unused`, which unmaps a closed pool when no permit is missing. For others it is a
        // figure.
        self.word.load(SeqCst) as u32
    }

    /// The permits available and those of reservations. A figure: a reservation that begins or ends meanwhile may be
    /// counted twice.
    pub(super) fn counted(&self) -> u32 {
        let before = self.reserved.load(SeqCst);
        let available = self.available();
        available + before.max(self.reserved.load(SeqCst))
    }
}
