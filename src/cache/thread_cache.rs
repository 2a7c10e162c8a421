//! One thread's cache of one pool: a bin of idle slots for each size class.
//!
//! Only the owning thread changes a cache, while its state is active. A thread that drained it has it alone afterwards.
//! What statistics read meanwhile is atomic. No two threads change it at once, so loads and stores do.
//!
//! Every cached slot holds a reference to the pool, as an outstanding one does. So a get or put of a cached slot writes
//! nothing that other threads write.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::plain_memory;
use std::alloc::Layout;
use std::mem::offset_of;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::bin::{Bin, CachedSlot};
use super::caches::Caches;
use crate::class::Class;
use crate::class::index::{MAX_CLASSES, STEPS, SizeClassIndex};
use crate::class::ledger::{Mark, bias_to};
use crate::class::location::CLASS_SHIFT;
use crate::class::table::Classes;
use crate::os::memory::{self, OutOfMemory};
use crate::os::thread_state::{AnyCache, EMPTY, ThreadState};

/// Where a bin is, in bytes from the start of its cache.
pub(super) type BinOffset = u16;

pub(super) const fn bin_offset(class: u8) -> BinOffset {
    (size_of::<ThreadCache>() + class as usize * size_of::<Bin>()) as BinOffset
}
const _: () =
    assert!(size_of::<ThreadCache>() + (MAX_CLASSES + 1) * size_of::<Bin>() <= BinOffset::MAX as usize);

/// The bin of each chunk, the same for all caches of a pool.
pub(super) fn bins_of_chunks(class_of_chunk: &[u8]) -> Result<Box<[BinOffset]>, OutOfMemory> {
    memory::boxed_slice(class_of_chunk.len(), |chunk| Ok(bin_offset(class_of_chunk[chunk])))
}

/// The bin of each step of sizes, the same for all caches of a pool.
pub(super) fn bins_of_steps(index: &SizeClassIndex, rounds: bool) -> [BinOffset; STEPS] {
    index.table().map(|class| if rounds { NO_BIN } else { bin_offset(class) })
}

/// One thread's cache of one pool. Its bins follow it in memory, and one more that fits every size and has nothing.
#[repr(C, align(128))] // apart from other threads' caches
pub(super) struct ThreadCache {
    /// At offset 0. In a pool that rounds all sizes lead here. It holds nothing and takes nothing.
    none: Bin,
    /// The address of the region, and its length in bytes; 0 for no pool.
    pub(super) base: usize,
    pub(super) region_len: usize,
    /// What is added to the marks of slots that are biased to the owning thread. 0 if the fast path never finds this
    /// cache: then no slot is.
    pub(super) bias: Mark,
    pub(super) bin_of_chunk: *const BinOffset,
    pub(super) chunk_shift: u32,
    /// Of the bins of all classes, in bytes; 0 for no pool.
    pub(super) bins_len: u32,
    classes: *const Classes,
    caches: *const Caches,
    pub(super) state: &'static ThreadState,
    /// [`NO_BIN`] if the pool rounds.
    pub(super) bin_of_step: [BinOffset; STEPS],
}

pub(super) const NO_BIN: BinOffset = 0;
const _: () = assert!(offset_of!(ThreadCache, none) == NO_BIN as usize);

// SAFETY:
// - its pointers lead to parts of the pool, which outlives it, and to its own bins
// - only one thread at a time changes it (module documentation), and what others read meanwhile is atomic
unsafe impl Send for ThreadCache {}
// SAFETY: as for Send.
unsafe impl Sync for ThreadCache {}

/// What an entry leads to after its cache was detached: a cache that serves nothing.
static NOWHERE: ThreadCache = ThreadCache {
    none: Bin::none(),
    base: 0,
    region_len: 0,
    bias: 0,
    bin_of_chunk: ptr::null(),
    chunk_shift: 0,
    bins_len: 0,
    classes: ptr::null(),
    caches: ptr::null(),
    state: &EMPTY,
    bin_of_step: [NO_BIN; STEPS],
};

/// A pointer to a cache and to the bins behind it. Valid as long as the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheRef(pub(super) NonNull<ThreadCache>);

// SAFETY:
// - ThreadCache is Send and Sync
unsafe impl Send for CacheRef {}

impl Deref for CacheRef {
    type Target = ThreadCache;
    #[inline(always)]
    fn deref(&self) -> &ThreadCache {
        // SAFETY:
        // - it is good: a CacheRef comes from a thread's entry while active or under its lock, from the pool's list
        //   under its lock, or from whoever made it
        unsafe { self.0.as_ref() }
    }
}

impl CacheRef {
    /// The cache that serves nothing.
    pub(super) fn nowhere() -> Self {
        Self(NonNull::from(&NOWHERE))
    }

    /// Whether this is [`nowhere`](Self::nowhere).
    pub(super) fn is_nowhere(&self) -> bool {
        self.bins_len == 0
    }

    /// A cache as a thread's entry has it.
    #[inline(always)]
    pub(super) fn from_any(cache: NonNull<AnyCache>) -> Self {
        Self(cache.cast())
    }

    /// For a thread's entries.
    pub(super) fn as_any(self) -> NonNull<AnyCache> {
        self.0.cast()
    }

    /// Whether the fast path may find it.
    pub(super) fn is_fast(&self) -> bool {
        self.bias != 0
    }

    pub(super) fn classes(&self) -> &Classes {
        debug_assert!(!self.is_nowhere());
        // SAFETY:
        // - a cache is freed before its pool
        unsafe { &*self.classes }
    }

    pub(super) fn class_of(&self, bin: &Bin) -> &Class {
        let (class, _) = bin.first_location.halves();
        &self.classes()[(class >> CLASS_SHIFT) as usize]
    }

    /// The list that has this cache.
    pub(super) fn caches(&self) -> &Caches {
        debug_assert!(!self.is_nowhere());
        // SAFETY: as in `classes`
        unsafe { &*self.caches }
    }
}

/// The layout of a cache, its bins, and the slots of each bin; and where the slots start.
fn layout(classes: &[Class]) -> Option<(Layout, usize)> {
    let bins = Layout::array::<Bin>(classes.len() + 1).ok()?;
    let (layout, bins_start) = Layout::new::<ThreadCache>().extend(bins).ok()?;
    debug_assert_eq!(bins_start, usize::from(bin_offset(0)));
    let slots: usize = classes.iter().map(Bin::needed).sum();
    let (layout, slots_start) = layout.extend(Layout::array::<CachedSlot>(slots).ok()?).ok()?;
    Some((layout.pad_to_align(), slots_start))
}

/// Making and ending; statistics.
impl CacheRef {
    /// An empty cache for the thread of `state`, to go into the list `caches`; `fast` says whether the fast path may
    /// find it. `None` without memory.
    pub(super) fn new(
        classes: &Classes,
        caches: &Caches,
        state: &'static ThreadState,
        fast: bool,
    ) -> Option<Self> {
        let (layout, slots_start) = layout(classes)?;
        let cache = memory::allocate_zeroed(layout).ok()?.cast::<ThreadCache>();
        // SAFETY:
        // - allocated above for a cache, one bin per class, and the slots of each
        unsafe {
            cache.write(ThreadCache {
                none: Bin::none(),
                base: classes.region().base(),
                region_len: classes.region().len(),
                bias: if fast { bias_to(state.number()) } else { 0 },
                bin_of_chunk: caches.bin_of_chunk.as_ptr(),
                chunk_shift: classes.chunk_shift(),
                bins_len: (classes.len() * size_of::<Bin>()) as u32,
                classes,
                caches,
                state,
                bin_of_step: *caches.bin_of_step,
            });
            let bins = cache.add(1).cast::<Bin>();
            let mut slots = cache.byte_add(slots_start).cast::<CachedSlot>();
            for (number, class) in classes.iter().enumerate() {
                bins.add(number).write(Bin::new(class, slots.as_ptr()));
                slots = slots.add(Bin::needed(class));
            }
            bins.add(classes.len()).write(Bin::none());
        }
        Some(Self(cache))
    }

    /// Empties a cache that nobody can reach any more, and frees it.
    ///
    /// # Safety
    /// - it came from [`new`](Self::new), and was detached from all entries; its thread is not using it
    pub(super) unsafe fn end(self) {
        for class in self.classes().iter() {
            let bin = self.bin(class.number());
            self.move_all_to_shelf(bin);
            class.counters.puts.fetch_add(bin.puts.load(Relaxed), Relaxed);
            class.quota.give(bin.quota());
        }
        if let Some((layout, _)) = layout(self.classes()) {
            plain_memory::ends(self.0.cast(), layout.size());
            // SAFETY:
            // - allocated by `new` with this layout, and used no more; neither cache nor bins need a drop
            unsafe { memory::deallocate(self.0.cast(), layout) };
        }
    }

    /// What it has of a class. Any thread, at a quiet moment.
    pub(super) fn count(&self, class: u8) -> Count {
        let bin = self.bin(class);
        Count { held: bin.len() as u32, puts: bin.puts.load(Relaxed) }
    }
}

/// What a cache has of a class.
pub(crate) struct Count {
    /// Idle slots.
    pub(crate) held: u32,
    /// Puts it took.
    pub(crate) puts: u64,
}
