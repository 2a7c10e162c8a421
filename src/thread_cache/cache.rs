//! One thread's cache of one pool: a bin of idle slot numbers per size class, and the whole fast path of get
//! and put.
//!
//! ```text
//! get   size -> step -> class -> bin -> last slot number -> ledger entry := holder -> address
//! put   address -> offset -> chunk -> class -> bin; offset * reciprocal -> slot -> ledger: holder -> 0 -> bin
//! ```
//!
//! Only the owning thread changes a cache, while its block is `active`; whoever revoked it has it alone
//! afterwards. `len` and `puts` are atomics so that statistics may read them meanwhile; they are never
//! changed by two threads, so plain loads and stores do.
//!
//! Every cached slot holds a reference to the pool, as an outstanding one does: between a cache and its
//! thread nothing shared is written.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use super::block::Block;
use crate::anchor::Reference;
use crate::class::Class;
use crate::ledger::{Ledger, Mark, NOBODY};
use crate::shared::{Buffer, Place, PutSize, Shared};
use crate::size_class::{GRANULE, Reciprocal, SizeClassIndex, StepTable};

/// The idle slots of one class that a thread keeps, and what the fast path needs to know of the class: one
/// cache line.
#[repr(C, align(64))]
pub(super) struct Bin {
    len: AtomicU32,
    /// 0 until the bin is made, and for ever if the class is not cached.
    max: AtomicU32,
    /// Room for `max` slot numbers.
    slots: AtomicPtr<u32>,
    /// Fits: classes are below 4 GiB.
    buffer_size: u32,
    /// The line this thread takes fresh slots from.
    fresh_line: AtomicU32,
    slot_size: usize,
    /// The address of slot 0.
    start: usize,
    ledger: *const Ledger,
    reciprocal: Reciprocal,
    puts: AtomicU64,
}

const _: () = assert!(size_of::<Bin>() == 64);

/// One thread's cache of one pool.
#[repr(C, align(64))]
pub(crate) struct Cache {
    /// The address of the region, and its length in bytes; 0 bytes for no pool.
    base: usize,
    region_len: usize,
    /// The largest size that may be got here without asking the pool, in bytes; 0 if the pool rounds.
    largest: usize,
    chunk_shift: u32,
    class_count: u32,
    class_of_chunk: *const u8,
    first_class: *const StepTable,
    bins: *mut Bin,
    pool: *const Shared,
    block: &'static Block,
}

// SAFETY:
// - its pointers lead to the pool, which outlives it, and to its own bins
// - only one thread at a time changes it (module documentation), and what others read meanwhile is atomic
unsafe impl Send for Cache {}
// SAFETY: as for Send.
unsafe impl Sync for Cache {}

/// Where entries lead whose cache was taken away: it serves nothing.
pub(super) static NO_CACHE: Cache = Cache {
    base: 0,
    region_len: 0,
    largest: 0,
    chunk_shift: 0,
    class_count: 0,
    class_of_chunk: ptr::null(),
    first_class: ptr::null(),
    bins: ptr::null_mut(),
    pool: ptr::null(),
    block: &super::block::EMPTY,
};

/// The fast path. Callers hold the block's `Active`.
impl Cache {
    #[inline(always)]
    fn bin(&self, class: usize) -> &Bin {
        debug_assert!(class < self.class_count as usize);
        // SAFETY:
        // - class numbers come from the pool's own tables, and there is a bin for each class
        unsafe { &*self.bins.add(class) }
    }

    /// The class for a size of at most `largest`, which is above 0.
    #[inline(always)]
    fn class_of(&self, size: usize) -> usize {
        // SAFETY:
        // - `largest` is above 0 only with a pool's table, which lives as long as the pool
        let first = usize::from(unsafe { SizeClassIndex::first_class(&*self.first_class, size) });
        // Usually the bound is no smaller than the size; else it lies inside the size's step.
        if self.bin(first).buffer_size() >= size { first } else { self.next_class_of(first, size) }
    }

    #[cold]
    fn next_class_of(&self, first: usize, size: usize) -> usize {
        let mut class = first + 1;
        while self.bin(class).buffer_size() < size {
            class += 1;
        }
        class
    }

    /// A cached slot of the smallest class that fits `size`, for the holder that `mark` stands for in the
    /// ledger.
    #[inline(always)]
    pub(super) fn get(&self, size: usize, mark: Mark) -> Option<Buffer> {
        if size > self.largest || self.largest == 0 {
            return None;
        }
        self.get_of_class(self.class_of(size), mark)
    }

    #[inline(always)]
    fn get_of_class(&self, class: usize, mark: Mark) -> Option<Buffer> {
        let bin = self.bin(class);
        let len = bin.len.load(Relaxed);
        if len == 0 {
            return None;
        }
        bin.len.store(len - 1, Relaxed);
        // SAFETY:
        // - slots below `len` are numbers of this class's slots, put there by this cache
        // - the ledger lives as long as the pool
        let slot = unsafe {
            let slot = bin.slots.load(Relaxed).add(len as usize - 1).read();
            (*bin.ledger).set_mark(slot, mark);
            slot
        };
        let address = bin.start + slot as usize * bin.slot_size;
        // SAFETY:
        // - the address of a slot is not 0
        let data = unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) };
        let place = Place::Slot { class: class as u8, slot };
        Some(Buffer { data, capacity: bin.buffer_size(), place })
    }

    /// The class and slot that start at an address.
    #[inline(always)]
    fn slot_of(&self, address: usize) -> Option<(&Bin, u32)> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.region_len || !offset.is_multiple_of(GRANULE) {
            return None;
        }
        // SAFETY:
        // - the table has an entry for each chunk of the region
        let class = usize::from(unsafe { *self.class_of_chunk.add(offset >> self.chunk_shift) });
        let bin = self.bin(class);
        let slot = bin.reciprocal.slot_starting_at(((address - bin.start) / GRANULE) as u64)?;
        // At most the span's length over the slot size, and the ledger has as many entries.
        Some((bin, slot as u32))
    }

    /// Puts a raw buffer that was asked for with exactly `size` bytes. `false`: nothing was done, the pool
    /// must look.
    #[inline(always)]
    pub(super) fn put_exact(&self, address: usize, size: usize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let len = bin.len.load(Relaxed);
        if size > bin.buffer_size() || len == bin.max.load(Relaxed) {
            return false;
        }
        // SAFETY:
        // - the ledger lives as long as the pool, and has an entry for every slot that fits the span
        if !unsafe { (*bin.ledger).pass_raw_to_none(slot, size) } {
            return false;
        }
        bin.lay(len, slot);
        true
    }

    /// Puts a raw buffer whose size is not given, or is another of its class. `false`: nothing was done, the
    /// pool must look.
    pub(super) fn put_inexact(&self, address: usize, size: PutSize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let len = bin.len.load(Relaxed);
        if len == bin.max.load(Relaxed) {
            return false;
        }
        if let PutSize::Sized(size) = size {
            // A pool that rounds has to ask.
            if size > self.largest || self.largest == 0 || !ptr::eq(self.bin(self.class_of(size)), bin) {
                return false;
            }
        }
        // SAFETY: as in `put_exact`.
        if !unsafe { (*bin.ledger).pass_any_raw_to_none(slot) } {
            return false;
        }
        bin.lay(len, slot);
        true
    }

    /// Puts a slot that its caller alone has, whose ledger entry it clears. `false`: nothing was done.
    #[inline(always)]
    pub(super) fn put_owned(&self, class: usize, slot: u32) -> bool {
        if self.class_count == 0 {
            return false;
        }
        let bin = self.bin(class);
        let len = bin.len.load(Relaxed);
        if len == bin.max.load(Relaxed) {
            return false;
        }
        // SAFETY:
        // - the ledger lives as long as the pool, and `slot` is one of this class (caller)
        unsafe { (*bin.ledger).set_mark(slot, NOBODY) };
        bin.lay(len, slot);
        true
    }
}

impl Bin {
    #[inline(always)]
    fn buffer_size(&self) -> usize {
        self.buffer_size as usize
    }

    /// Adds a slot at the end and counts the put. `len` is below `max`.
    #[inline(always)]
    fn lay(&self, len: u32, slot: u32) {
        debug_assert!(len < self.max.load(Relaxed));
        // SAFETY:
        // - there is room for `max` numbers
        unsafe { self.slots.load(Relaxed).add(len as usize).write(slot) };
        self.len.store(len + 1, Relaxed);
        self.puts.store(self.puts.load(Relaxed) + 1, Relaxed);
    }

    /// How many slots move between a bin and the shelf at a time.
    fn batch(&self) -> u32 {
        self.max.load(Relaxed).div_ceil(2).min(MAX_BATCH)
    }
}

/// The most slots that move at a time.
const MAX_BATCH: u32 = 32;

/// The slow half, still without a lock: batches from and to the shelf. Callers hold the block's `Active`, or
/// revoked the cache.
impl Cache {
    pub(super) fn pool(&self) -> &Shared {
        // SAFETY:
        // - a cache is freed before its pool
        unsafe { &*self.pool }
    }

    /// Whether this is [`NO_CACHE`].
    pub(super) fn is_none(&self) -> bool {
        self.class_count == 0
    }

    pub(super) fn block(&self) -> &'static Block {
        self.block
    }

    /// # Safety
    /// - the cache is not NO_CACHE, and was not taken away yet: its pool exists
    pub(super) unsafe fn pool_reference(&self) -> Reference {
        // SAFETY:
        // - the pool exists (caller)
        unsafe { Reference::to_existing(NonNull::from(self.pool())) }
    }

    /// As [`get`](Self::get), after taking a batch from the shelf if the bin is empty.
    pub(super) fn get_or_fill(&self, size: usize, mark: Mark) -> Option<Buffer> {
        if size > self.largest || self.largest == 0 {
            return None;
        }
        self.get_of_class_or_fill(self.class_of(size), mark)
    }

    /// As [`get_or_fill`](Self::get_or_fill), for a class that is known.
    pub(super) fn get_of_class_or_fill(&self, class: usize, mark: Mark) -> Option<Buffer> {
        if self.class_count == 0 {
            return None;
        }
        self.get_of_class(class, mark).or_else(|| {
            self.fill(class);
            self.get_of_class(class, mark)
        })
    }

    /// As [`put_owned`](Self::put_owned), after giving a batch to the shelf if the bin is full.
    pub(super) fn put_owned_or_flush(&self, class: usize, slot: u32) -> bool {
        if self.class_count == 0 {
            return false;
        }
        self.put_owned(class, slot) || {
            self.flush(class);
            self.put_owned(class, slot)
        }
    }

    /// A fresh slot, from a line that this thread has for itself. `None` if there is none.
    pub(super) fn take_fresh(&self, class: usize) -> Option<u32> {
        self.pool().class(class).shelf.take_fresh_near(&self.bin(class).fresh_line)
    }

    fn fill(&self, class: usize) {
        let bin = self.bin(class);
        debug_assert_eq!(bin.len.load(Relaxed), 0);
        self.make_bin(class);
        let mut batch = [0; MAX_BATCH as usize];
        let class = self.pool().class(class);
        let got = class.shelf.take_idle_batch(&mut batch[..bin.batch() as usize]);
        if got == 0 {
            return;
        }
        self.pool().home().retain(got as u64);
        class.counters.moves.fetch_add(1, Relaxed);
        // SAFETY:
        // - a batch is at most `max` numbers
        unsafe { bin.slots.load(Relaxed).copy_from_nonoverlapping(batch.as_ptr(), got) };
        bin.len.store(got as u32, Relaxed);
    }

    /// Gives the slots that were put first back to the shelf: half of a full bin, at most [`MAX_BATCH`].
    fn flush(&self, class: usize) {
        let bin = self.bin(class);
        self.make_bin(class);
        let len = bin.len.load(Relaxed);
        if len < bin.max.load(Relaxed) || len == 0 {
            return;
        }
        self.move_to_shelf(class, bin.batch());
        self.pool().class(class).counters.moves.fetch_add(1, Relaxed);
    }

    /// Moves the first `count` slots of a bin, with their references, to the shelf.
    fn move_to_shelf(&self, class: usize, count: u32) {
        let bin = self.bin(class);
        let len = bin.len.load(Relaxed);
        debug_assert!(count <= len);
        // SAFETY:
        // - `len` numbers were written, and `count` is at most that
        unsafe {
            let slots = bin.slots.load(Relaxed);
            self.pool().class(class).shelf.put_batch(std::slice::from_raw_parts(slots, count as usize));
            slots.copy_from(slots.add(count as usize), (len - count) as usize);
        }
        bin.len.store(len - count, Relaxed);
        self.pool().home().release_some(u64::from(count));
    }

    /// Gives the bin of a class its room, as much as the class has left for caches; none for classes that are
    /// not cached.
    fn make_bin(&self, class: usize) {
        let bin = self.bin(class);
        if bin.max.load(Relaxed) > 0 {
            return;
        }
        let class = self.pool().class(class);
        let max = class.caching.take_room(class.slot_size());
        let Ok(layout) = Layout::array::<u32>(max as usize) else { return };
        if max == 0 {
            return;
        }
        // SAFETY:
        // - the layout's size is not zero
        let slots = unsafe { alloc(layout) }.cast::<u32>();
        if slots.is_null() {
            class.caching.give_room(max);
            return;
        }
        // Relaxed: only the owner reads them, or who revoked the cache.
        bin.slots.store(slots, Relaxed);
        bin.max.store(max, Relaxed);
    }
}

/// Making and ending; statistics.
impl Cache {
    /// An empty cache of `pool` for the thread of `block`. `None` without memory.
    pub(super) fn new(pool: &Shared, block: &'static Block) -> Option<NonNull<Self>> {
        let classes = pool.classes();
        let bins = Layout::array::<Bin>(classes.len()).ok()?;
        // SAFETY:
        // - the layout's size is not zero: a pool without classes is never cached
        let bins = NonNull::new(unsafe { alloc(bins) }.cast::<Bin>())?;
        for (index, class) in classes.iter().enumerate() {
            // SAFETY:
            // - there is room for one bin per class
            unsafe { bins.add(index).write(Bin::of(class, pool)) };
        }
        let layout = Layout::new::<Self>();
        // SAFETY:
        // - the layout's size is not zero
        let Some(cache) = NonNull::new(unsafe { alloc(layout) }.cast::<Self>()) else {
            // SAFETY:
            // - allocated above with this layout
            unsafe { dealloc(bins.as_ptr().cast(), Layout::array::<Bin>(classes.len()).ok()?) };
            return None;
        };
        let cache_value = Self {
            base: pool.region().base(),
            region_len: pool.region().len(),
            largest: if pool.rounds() { 0 } else { pool.index().largest() },
            chunk_shift: pool.chunk_shift(),
            class_count: classes.len() as u32,
            class_of_chunk: pool.class_of_chunk().as_ptr(),
            first_class: pool.index().table(),
            bins: bins.as_ptr(),
            pool,
            block,
        };
        // SAFETY:
        // - allocated above for this type
        unsafe { cache.write(cache_value) };
        Some(cache)
    }

    /// Empties a cache that nobody can reach any more, and frees it.
    ///
    /// # Safety
    /// - `cache` came from [`new`](Self::new) and was taken out of all entries; its thread is not using it
    pub(super) unsafe fn end(cache: NonNull<Self>) {
        // SAFETY:
        // - not freed yet (caller)
        let this = unsafe { cache.as_ref() };
        for (number, class) in this.pool().classes().iter().enumerate() {
            let bin = this.bin(number);
            let len = bin.len.load(Relaxed);
            if len > 0 {
                this.move_to_shelf(number, len);
            }
            class.counters.puts.fetch_add(bin.puts.load(Relaxed), Relaxed);
            let max = bin.max.load(Relaxed);
            if max > 0 {
                class.caching.give_room(max);
                if let Ok(layout) = Layout::array::<u32>(max as usize) {
                    // SAFETY:
                    // - allocated by `make_bin` with this layout
                    unsafe { dealloc(bin.slots.load(Relaxed).cast(), layout) };
                }
            }
        }
        if let Ok(layout) = Layout::array::<Bin>(this.class_count as usize) {
            // SAFETY:
            // - allocated by `new` with this layout; bins need no drop
            unsafe { dealloc(this.bins.cast(), layout) };
        }
        // SAFETY:
        // - allocated by `new` with this layout, and used no more; it needs no drop
        unsafe { dealloc(cache.as_ptr().cast(), Layout::new::<Self>()) };
    }

    /// How many slots of a class it holds.
    pub(super) fn held(&self, class: usize) -> u32 {
        self.bin(class).len.load(Relaxed)
    }

    /// How many puts of a class it took.
    pub(super) fn puts(&self, class: usize) -> u64 {
        self.bin(class).puts.load(Relaxed)
    }
}

impl Bin {
    fn of(class: &Class, pool: &Shared) -> Self {
        Self {
            len: AtomicU32::new(0),
            max: AtomicU32::new(0),
            slots: AtomicPtr::new(ptr::null_mut()),
            buffer_size: class.buffer_size() as u32,
            fresh_line: AtomicU32::new(u32::MAX),
            slot_size: class.slot_size(),
            start: pool.region().base() + class.offset_of(0),
            ledger: &raw const class.ledger,
            reciprocal: class.reciprocal(),
            puts: AtomicU64::new(0),
        }
    }
}

/// How much of a class may be in thread caches: at most half of it, whatever the number of threads.
pub(crate) struct CachingRoom {
    left: AtomicU32,
}

/// A thread keeps at most this many slots of a class, and at most this many bytes.
const MAX_BIN_SLOTS: usize = 128;
const MAX_BIN_BYTES: usize = 256 << 10;

impl CachingRoom {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { left: AtomicU32::new(capacity / 2) }
    }

    /// Room for one bin, in slots: at most half of what is left, so that later threads get some. 0 or at
    /// least 2.
    fn take_room(&self, slot_size: usize) -> u32 {
        let most = (MAX_BIN_BYTES / slot_size).min(MAX_BIN_SLOTS) as u32;
        let share = |left: u32| Some(most.min(left.div_ceil(2))).filter(|&share| share >= 2);
        // Relaxed: only the number itself decides.
        let before = self.left.fetch_update(Relaxed, Relaxed, |left| share(left).map(|share| left - share));
        before.ok().and_then(share).unwrap_or(0)
    }

    fn give_room(&self, slots: u32) {
        self.left.fetch_add(slots, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bins_together_have_at_most_half_of_a_class() {
        for capacity in [1, 3, 4, 10, 1000] {
            let room = CachingRoom::new(capacity);
            let bins: Vec<u32> = (0..100).map(|_| room.take_room(64)).collect();
            assert!(bins.iter().sum::<u32>() <= capacity / 2, "{bins:?}");
            assert!(bins.iter().all(|&slots| slots != 1 && slots <= MAX_BIN_SLOTS as u32));
            bins.iter().for_each(|&slots| room.give_room(slots));
            assert_eq!(room.left.load(Relaxed), capacity / 2);
        }
    }

    #[test]
    fn huge_slots_are_not_cached() {
        assert_eq!(CachingRoom::new(1000).take_room(256 << 10), 0);
        assert_eq!(CachingRoom::new(1000).take_room(128 << 10), 2);
        assert_eq!(CachingRoom::new(1000).take_room(4 << 10), 64);
    }
}
