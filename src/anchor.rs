//! Anchors: one never-freed cell per pool that counts references and tells a live pool from a gone one.
//!
//! A context from C may be stale, and must be refused without touching the pool. So what keeps a pool alive
//! is not in the pool: each pool has an anchor in a static table, and an anchor's memory is never given back,
//! only used again by a later pool under another generation.
//!
//! ```text
//! word of an anchor    63 ........ 46   45 .................. 0
//!                      generation       references
//! ```
//!
//! - A reference is held by every handle (a Rust `Pool`, a context), every outstanding buffer, every slot in a thread
//!   cache, and every C call that is running.
//! - Who gives up the last one owns the pool alone and destroys it; then the anchor takes its next
//!   generation.
//! - A generation is used once. An anchor that has used its last is retired: an id never names two pools.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use crate::sync::{Mutex, OnceLock, PoisonError};
use std::collections::VecDeque;
use std::ptr;

use crate::fork;
use crate::memory::{self, OutOfMemory, Zeroable};
use crate::shared::Shared;

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

impl PoolId {
    /// As one number, from 1.
    pub(crate) fn number(self) -> u64 {
        (u64::from(self.generation) << INDEX_BITS | u64::from(self.index)) + 1
    }
}

pub(crate) struct Anchor {
    word: AtomicU64,
    pool: AtomicPtr<Shared>,
}

// SAFETY:
// - zero is a valid value of both atomics: generation 0 without references, and a null pointer
// - they need no drop
unsafe impl Zeroable for Anchor {}

/// Chunk `n` holds `64 << n` anchors; together they hold all of [`MAX_POOLS`].
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = (INDEX_BITS - FIRST_CHUNK.trailing_zeros() + 1) as usize;
static TABLE: [OnceLock<Box<[Anchor]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];

/// Anchors without a pool, and how many were ever made. Longest unused first out.
struct Unused {
    anchors: VecDeque<u32>,
    made: usize,
}
static UNUSED: Mutex<Unused> = Mutex::new(Unused { anchors: VecDeque::new(), made: 0 });

fn place(index: u32) -> (usize, usize) {
    let shifted = index as usize + FIRST_CHUNK;
    let chunk = (shifted.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    (chunk, shifted - (FIRST_CHUNK << chunk))
}

fn anchor(index: u32) -> Option<&'static Anchor> {
    let (chunk, offset) = place(index);
    TABLE.get(chunk)?.get()?.get(offset)
}

/// All pools there are.
pub(crate) fn live_pools() -> impl Iterator<Item = Reference> {
    let made = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).made;
    (0..made as u32).filter_map(|index| {
        // Relaxed: only names the pool.
        let word = anchor(index)?.word.load(Relaxed);
        Reference::to_live_pool(PoolId { index, generation: (word >> REFERENCE_BITS) as u32 })
    })
}

/// Why an anchor was refused.
#[derive(Debug)]
pub(crate) enum NoAnchor {
    /// The process has [`MAX_POOLS`] pools.
    TooManyPools,
    OutOfMemory(OutOfMemory),
}

impl From<OutOfMemory> for NoAnchor {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

/// A pool's place in the table, from before it is made until it is gone.
pub(crate) struct Home {
    id: PoolId,
    anchor: &'static Anchor,
    /// This is a part's, whose references are the pool's.
    is_of_part: bool,
}

impl Home {
    /// A place for a pool that is being made; [`Reference::to_new_pool`] makes it live.
    pub(crate) fn allocate() -> Result<Self, NoAnchor> {
        let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match unused.anchors.pop_front() {
            Some(index) => index,
            None => unused.make_one()?,
        };
        let anchor = anchor(index).expect("this anchor was made");
        // Relaxed: ordered by the lock, which `drop` takes too.
        let generation = (anchor.word.load(Relaxed) >> REFERENCE_BITS) as u32;
        Ok(Self { id: PoolId { index, generation }, anchor, is_of_part: false })
    }

    /// For a part of this pool that is a pool itself, and ends with it.
    pub(crate) fn of_part(&self) -> Self {
        Self { is_of_part: true, ..*self }
    }

    #[cfg(any(feature = "capi", test))]
    pub(crate) fn id(&self) -> PoolId {
        self.id
    }

    /// A number that no other pool of this process gets, nor another part.
    pub(crate) fn number(&self) -> u64 {
        self.id.number() | u64::from(self.is_of_part) << 63
    }
}

/// References that are counted without a value.
impl Home {
    /// Adds references. The caller has one already.
    #[inline]
    pub(crate) fn retain(&self, references: u64) {
        // Relaxed: the caller's reference keeps the pool alive meanwhile, as in Arc.
        self.anchor.word.fetch_add(references, Relaxed);
    }

    /// Takes references off, but not the last: the caller keeps one.
    #[inline]
    pub(crate) fn release_some(&self, references: u64) {
        // Release: what was done with the pool comes before its end; partner: the load in `destroy`.
        let before = self.anchor.word.fetch_sub(references, Release);
        debug_assert!(before & REFERENCE_MASK > references, "the last reference went without a value");
    }
}

impl Unused {
    fn make_one(&mut self) -> Result<u32, NoAnchor> {
        if self.made == MAX_POOLS {
            return Err(NoAnchor::TooManyPools);
        }
        let index = self.made as u32;
        let (chunk, _) = place(index);
        if TABLE[chunk].get().is_none() {
            let anchors = memory::zeroed_slice(FIRST_CHUNK << chunk)?;
            TABLE[chunk].get_or_init(|| anchors);
        }
        // So that giving an anchor back never allocates.
        let made = self.made + 1;
        let refused = OutOfMemory { bytes: made * size_of::<u32>() };
        self.anchors.try_reserve(made).map_err(|_| refused)?;
        self.made = made;
        Ok(index)
    }
}

/// The pool is gone, or was never made: the anchor waits for another under its next generation.
impl Drop for Home {
    fn drop(&mut self) {
        if self.is_of_part || self.id.generation == MAX_GENERATION {
            return;
        }
        let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: no reference exists, and `allocate` reads it under this lock.
        self.anchor.word.store(u64::from(self.id.generation + 1) << REFERENCE_BITS, Relaxed);
        unused.anchors.push_back(self.id.index);
    }
}

/// One counted reference to a pool, or to a part of one: while it exists, the pool does.
///
/// Buffers, cached slots and contexts hold references that are counted without such a value: see
/// [`Home::retain`].
pub(crate) struct Reference {
    pool: ptr::NonNull<Shared>,
}

impl Reference {
    /// The first reference to a new pool.
    pub(crate) fn to_new_pool(pool: Box<Shared>) -> Self {
        let &Home { id, anchor, .. } = pool.home();
        let pool = Box::into_raw(pool);
        anchor.pool.store(pool, Relaxed);
        // Release pairs with the Acquire in `to_live_pool`: who sees a reference sees the pool.
        anchor.word.store(u64::from(id.generation) << REFERENCE_BITS | 1, Release);
        Self { pool: ptr::NonNull::new(pool).expect("a box is not null") }
    }

    /// Another reference to the pool named `id`, if it still exists. Touches the anchor only.
    pub(crate) fn to_live_pool(id: PoolId) -> Option<Self> {
        let anchor = anchor(id.index)?;
        let mut word = anchor.word.load(Relaxed);
        loop {
            if (word >> REFERENCE_BITS) as u32 != id.generation || word & REFERENCE_MASK == 0 {
                return None;
            }
            // Acquire: partner in `to_new_pool`.
            match anchor.word.compare_exchange_weak(word, word + 1, Acquire, Relaxed) {
                Ok(_) => return ptr::NonNull::new(anchor.pool.load(Relaxed)).map(|pool| Self { pool }),
                Err(found) => word = found,
            }
        }
    }

    /// Takes over a reference that is counted without a value.
    ///
    /// # Safety
    /// - there is one that nobody else takes over
    #[cfg(feature = "capi")]
    pub(crate) unsafe fn from_leaked(pool: ptr::NonNull<Shared>) -> Self {
        Self { pool }
    }

    /// Another reference to a pool that exists.
    ///
    /// # Safety
    /// - somebody has a reference to `pool` until this returns
    pub(crate) unsafe fn to_existing(pool: ptr::NonNull<Shared>) -> Self {
        // SAFETY:
        // - the pool exists (caller)
        unsafe { pool.as_ref() }.home().retain(1);
        Self { pool }
    }

    /// Where the pool is.
    #[inline]
    pub(crate) fn as_pointer(&self) -> ptr::NonNull<Shared> {
        self.pool
    }

    #[inline]
    fn anchor(&self) -> &'static Anchor {
        self.home().anchor
    }
}

impl Clone for Reference {
    fn clone(&self) -> Self {
        self.home().retain(1);
        Self { pool: self.pool }
    }
}

impl std::ops::Deref for Reference {
    type Target = Shared;
    #[inline]
    fn deref(&self) -> &Shared {
        // SAFETY:
        // - this reference is counted, so the pool exists
        unsafe { self.pool.as_ref() }
    }
}

impl Drop for Reference {
    #[inline]
    fn drop(&mut self) {
        let _section = fork::section();
        // Release: what this thread did with the pool comes before its end; partner: the load in `destroy`.
        let before = self.anchor().word.fetch_sub(1, Release);
        debug_assert!(before & REFERENCE_MASK != 0, "a reference was given up twice");
        if before & REFERENCE_MASK == 1 {
            self.destroy();
        }
    }
}

impl Reference {
    #[cold]
    fn destroy(&mut self) {
        // Acquire: partner in `drop`. A load instead of a fence, which ThreadSanitizer does not understand.
        self.anchor().word.load(Acquire);
        // Not `self.pool`: that may be a part.
        let pool = self.anchor().pool.load(Relaxed);
        // SAFETY:
        // - `pool` came from Box::into_raw in `to_new_pool`
        // - the last reference is gone, and `to_live_pool` makes none from zero: nobody else can reach the
        //   pool
        let mut pool = unsafe { Box::from_raw(pool) };
        let round = pool.take_round();
        drop(pool);
        // Its end is the user's code.
        fork::outside(|| drop(round));
    }
}

// SAFETY:
// - Shared is Sync, so it may be used from any thread
// - the last reference may drop it on any thread, as Shared is Send
unsafe impl Send for Reference {}
// SAFETY: as for Send.
unsafe impl Sync for Reference {}

const _: () = {
    const fn shared_is_send_and_sync<T: Send + Sync>() {}
    shared_is_send_and_sync::<Shared>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_one_place() {
        let mut expected = (0..CHUNKS).flat_map(|chunk| (0..FIRST_CHUNK << chunk).map(move |i| (chunk, i)));
        for index in 0..MAX_POOLS as u32 {
            assert_eq!(Some(place(index)), expected.next());
        }
    }

    #[test]
    fn an_id_names_one_pool_only() {
        let pool = crate::Pool::builder().size_class(64, 1).build().unwrap();
        let id = pool.reference().home().id();
        assert!(Reference::to_live_pool(id).is_some());
        let other = PoolId { generation: id.generation ^ 1, ..id };
        assert!(Reference::to_live_pool(other).is_none());
        drop(pool);
        assert!(Reference::to_live_pool(id).is_none());
        for _ in 0..200 {
            let pool = crate::Pool::builder().build().unwrap();
            assert_ne!(pool.reference().home().id(), id);
        }
        assert!(Reference::to_live_pool(id).is_none());
    }

    #[test]
    fn unknown_indexes_are_refused() {
        assert!(Reference::to_live_pool(PoolId { index: MAX_POOLS as u32, generation: 0 }).is_none());
        assert!(Reference::to_live_pool(PoolId { index: u32::MAX, generation: 0 }).is_none());
    }
}
