//! Anchors: one cell for each pool, never freed. It counts references, and tells a live pool from one that is gone.
//!
//! A context from C may be stale, and must be refused without touching the pool. So the count of references is not in
//! the pool, but in a static table of anchors. An anchor's memory is never given back. A later pool uses it again,
//! under another generation.
//!
//! ```text
//! word of an anchor    63 ........ 46   45 .................. 0
//!                      generation       references
//! ```
//!
//! - A reference is held by every handle, every outstanding buffer, every slot in a thread cache, and every call that
//!   is past the caches.
//! - The thread that gives up the last one owns the pool alone, and destroys it. Then the anchor takes its next
//!   generation.
//! - A generation is used once. After its last one an anchor is used no more. So an id never names two pools.
//!
//! A pool is only a pointer here. The layers above know what it leads to.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use std::ptr::NonNull;

use super::cells::{Cells, NoCell, Prefer};
use super::fork::ForkGuard;
use super::memory::Zeroable;

/// Bits of an anchor's number.
pub(crate) const INDEX_BITS: u32 = 18;
/// Bits of a generation.
pub(crate) const GENERATION_BITS: u32 = 18;
/// The most pools a process can have at a time. One number stays unused: contexts need it.
pub(crate) const MAX_POOLS: usize = (1 << INDEX_BITS) - 1;

const REFERENCE_BITS: u32 = 64 - GENERATION_BITS;
const REFERENCE_MASK: u64 = (1 << REFERENCE_BITS) - 1;
const MAX_GENERATION: u32 = (1 << GENERATION_BITS) - 1;

/// Names one pool, for ever: no other pool of this process gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

struct Anchor {
    word: AtomicU64,
    pool: AtomicPtr<()>,
}

// SAFETY:
// - zero is a valid value of both atomics: generation 0 without references, and a null pointer
// - they need no drop
unsafe impl Zeroable for Anchor {}

const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = (INDEX_BITS - FIRST_CHUNK.trailing_zeros() + 1) as usize;
static ANCHORS: Cells<Anchor, FIRST_CHUNK, CHUNKS> = Cells::new();

/// The ids of all pools there are, or were a moment ago.
pub(crate) fn ids(guard: &ForkGuard) -> impl Iterator<Item = PoolId> {
    (0..ANCHORS.made(guard)).filter_map(|index| {
        // Relaxed: only names the pool.
        let word = ANCHORS.get(index)?.word.load(Relaxed);
        Some(PoolId { index, generation: (word >> REFERENCE_BITS) as u32 })
    })
}

/// Adds a reference for the caller to the pool named `id`, if it still exists. Touches the anchor only.
pub(crate) fn retain_live(id: PoolId) -> Option<NonNull<()>> {
    let anchor = ANCHORS.get(id.index)?;
    let mut word = anchor.word.load(Relaxed);
    loop {
        if (word >> REFERENCE_BITS) as u32 != id.generation || word & REFERENCE_MASK == 0 {
            return None;
        }
        // Acquire: partner in `publish`.
        match anchor.word.compare_exchange_weak(word, word + 1, Acquire, Relaxed) {
            Ok(_) => return NonNull::new(anchor.pool.load(Relaxed)),
            Err(found) => word = found,
        }
    }
}

/// The counter of references to one pool.
#[derive(Clone, Copy)]
pub(crate) struct References(&'static Anchor);

impl References {
    /// Adds references. The caller has one already.
    #[inline]
    pub(crate) fn retain(self, references: u64) {
        // Relaxed: the caller's reference keeps the pool alive meanwhile, as in Arc.
        self.0.word.fetch_add(references, Relaxed);
    }

    /// For tests: how many there are.
    #[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
    pub(crate) fn count(self) -> u64 {
        self.0.word.load(Relaxed) & REFERENCE_MASK
    }

    /// Takes references off, but not the last: the caller keeps one.
    #[inline]
    pub(crate) fn release_some(self, references: u64) {
        // Release: what was done with the pool comes before its end. Partner: the load in `release`.
        let before = self.0.word.fetch_sub(references, Release);
        debug_assert!(before & REFERENCE_MASK > references, "the last reference went without a value");
    }

    /// Takes the caller's reference off. If it was the last one, returns the pool, which nobody else can reach any
    /// more.
    #[inline]
    pub(crate) fn release(self) -> Option<NonNull<()>> {
        // Release: as in `release_some`.
        let before = self.0.word.fetch_sub(1, Release);
        debug_assert!(before & REFERENCE_MASK != 0, "a reference was given up twice");
        if before & REFERENCE_MASK != 1 {
            return None;
        }
        // Acquire: what others did with the pool before they gave their references up. A load instead of a fence, which
        // ThreadSanitizer does not understand.
        self.0.word.load(Acquire);
        NonNull::new(self.0.pool.load(Relaxed))
    }
}

/// A pool's registration, from before the pool is made until it is gone.
pub(crate) struct Registration {
    id: PoolId,
    references: References,
}

impl Registration {
    /// Registers a pool that is being made. [`publish`](Self::publish) makes it live.
    pub(crate) fn new(guard: &ForkGuard) -> Result<Self, NoCell> {
        let index = ANCHORS.take(guard, Prefer::Unused, MAX_POOLS)?;
        let anchor = ANCHORS.get(index).expect("this anchor was made");
        // Relaxed: `Cells` orders it after the `drop` that gave the anchor back.
        let generation = (anchor.word.load(Relaxed) >> REFERENCE_BITS) as u32;
        Ok(Self { id: PoolId { index, generation }, references: References(anchor) })
    }

    #[cfg(any(feature = "capi", test))]
    pub(crate) fn id(&self) -> PoolId {
        self.id
    }

    #[inline]
    pub(crate) fn references(&self) -> References {
        self.references
    }

    /// A number from 1 that no other pool of this process gets.
    pub(crate) fn number(&self) -> u64 {
        (u64::from(self.id.generation) << INDEX_BITS | u64::from(self.id.index)) + 1
    }

    /// Makes the pool live, with one reference: the caller's.
    pub(crate) fn publish(&self, pool: NonNull<()>) {
        let anchor = self.references.0;
        anchor.pool.store(pool.as_ptr(), Relaxed);
        // Release pairs with the Acquire in `retain_live`: a thread that sees a reference sees the pool.
        anchor.word.store(u64::from(self.id.generation) << REFERENCE_BITS | 1, Release);
    }
}

/// The pool is gone, or was never made: the anchor waits for another under its next generation.
impl Drop for Registration {
    fn drop(&mut self) {
        if self.id.generation == MAX_GENERATION {
            return;
        }
        // Relaxed: no reference exists, and `Cells` orders it before the next `new`.
        self.references.0.word.store(u64::from(self.id.generation + 1) << REFERENCE_BITS, Relaxed);
        ANCHORS.give_back(&ForkGuard::new(), self.id.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_indexes_are_refused() {
        assert!(retain_live(PoolId { index: MAX_POOLS as u32, generation: 0 }).is_none());
        assert!(retain_live(PoolId { index: u32::MAX, generation: 0 }).is_none());
    }

    #[test]
    fn the_last_reference_comes_with_the_pool() {
        let registration = Registration::new(&ForkGuard::new()).unwrap();
        let id = registration.id();
        assert_eq!(retain_live(id), None, "it is not live yet");
        let pool = NonNull::from(&registration).cast::<()>();
        registration.publish(pool);
        assert_eq!(retain_live(id), Some(pool));
        let references = registration.references();
        references.retain(2);
        references.release_some(2);
        assert_eq!([references.release(), references.release()], [None, Some(pool)]);
        assert_eq!(retain_live(id), None);
    }
}
