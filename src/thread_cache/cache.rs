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
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::block::Block;
use crate::anchor::Reference;
use crate::class::Class;
use crate::ledger::{self, Mark, NOBODY, OWNED};
use crate::shared::{Buffer, Place, Shared};
use crate::size_class::{GRANULE, NO_STEPS, Reciprocal, SizeClassIndex, StepTable};

/// The idle slots of one class that a thread keeps, and what the fast path needs to know of the class: one
/// cache line, and a second one that the fast path does not read.
#[repr(C, align(64))]
pub(super) struct Bin {
    len: AtomicU32,
    /// 0 until the bin is made, and for ever if the class is not cached.
    max: AtomicU32,
    /// Room for `max` slot numbers.
    slots: *mut u32,
    /// Fits: classes are below 4 GiB.
    buffer_size: u32,
    capacity: u32,
    slot_size: usize,
    /// The address of slot 0.
    start: usize,
    /// The class's ledger: `capacity` entries.
    ledger: *const AtomicU32,
    reciprocal: Reciprocal,
    puts: AtomicU64,

    /// The line this thread takes fresh slots from.
    fresh_line: AtomicU32,
    class: u8,
}

const _: () = assert!(std::mem::offset_of!(Bin, fresh_line) == 64);

/// One thread's cache of one pool. Its bins follow it in memory.
#[repr(C, align(64))]
pub(crate) struct Cache {
    /// The address of the region, and its length in bytes; 0 bytes for no pool.
    base: usize,
    region_len: usize,
    /// Sizes below this may be got here without asking the pool, in bytes: 0 if the pool rounds.
    size_end: usize,
    class_of_chunk: *const u8,
    chunk_shift: u32,
    class_count: u32,
    pool: *const Shared,
    block: &'static Block,
    /// The pool's, copied.
    first_class: StepTable,
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
    size_end: 0,
    class_of_chunk: ptr::null(),
    chunk_shift: 0,
    class_count: 0,
    pool: ptr::null(),
    block: &super::block::EMPTY,
    first_class: NO_STEPS,
};

/// A cache where it is: its bins are reached from here, too. Good as long as the cache is.
#[derive(Clone, Copy)]
pub(super) struct CacheRef(pub(super) NonNull<Cache>);

// SAFETY:
// - Cache is Send and Sync
unsafe impl Send for CacheRef {}

impl Deref for CacheRef {
    type Target = Cache;
    #[inline(always)]
    fn deref(&self) -> &Cache {
        // SAFETY:
        // - it is good: who has a CacheRef got it from `Block::enter`, from the pool's list under its lock,
        //   or made it
        unsafe { self.0.as_ref() }
    }
}

/// The fast path. Callers are inside [`Block::enter`].
impl CacheRef {
    #[inline(always)]
    fn bin(&self, class: usize) -> &Bin {
        debug_assert!(class < self.class_count as usize);
        // SAFETY:
        // - class numbers come from the pool's own tables, and a bin for each class follows the cache in
        //   memory
        unsafe { self.0.add(1).cast::<Bin>().add(class).as_ref() }
    }

    /// The first class that may fit a size below `size_end`.
    #[inline(always)]
    fn first_class_for(&self, size: usize) -> usize {
        // SAFETY:
        // - `size_end` is one above the largest class of this table, or 0
        usize::from(unsafe { SizeClassIndex::first_class(&self.first_class, size) })
    }

    /// The bin of the smallest class that fits a size below `size_end`. `None` if the size's step has several
    /// class bounds: then [`bin_for`](Self::bin_for) must look.
    #[inline(always)]
    fn bin_near(&self, size: usize) -> Option<&Bin> {
        let first = self.first_class_for(size);
        let bin = self.bin(first);
        // Usually the bound is no smaller than the size; else it lies inside the size's step.
        if size <= bin.buffer_size() {
            return Some(bin);
        }
        // There is a next class, as the largest one fits.
        let next = self.bin(first + 1);
        if size <= next.buffer_size() { Some(next) } else { None }
    }

    /// The bin of the smallest class that fits a size below `size_end`.
    fn bin_for(&self, size: usize) -> &Bin {
        let mut class = self.first_class_for(size);
        while self.bin(class).buffer_size() < size {
            class += 1;
        }
        self.bin(class)
    }

    /// A cached slot of the smallest class that fits `size`, marked in the ledger.
    #[inline(always)]
    pub(super) fn get(&self, size: usize, mark: Mark) -> Option<Buffer> {
        if size < self.size_end { self.bin_near(size)?.take(mark) } else { None }
    }

    /// Puts a raw buffer with exactly the size it was asked for. `false`: nothing was done, the pool must
    /// look.
    #[inline(always)]
    pub(super) fn put_exact(&self, address: usize, size: usize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        size <= bin.buffer_size() && bin.put(slot, ledger::raw(size))
    }

    /// As [`put_exact`](Self::put_exact), with that size or another of its class.
    #[inline]
    pub(super) fn put_sized(&self, address: usize, size: usize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let found = bin.entry(slot).load(Relaxed);
        let exact = size <= bin.buffer_size() && found == ledger::raw(size);
        (exact || self.is_other_size_of(bin, size, found)) && bin.put(slot, found)
    }

    /// Puts a raw buffer of whatever size. `false`: nothing was done, the pool must look.
    #[inline(always)]
    pub(super) fn put_unsized(&self, address: usize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let found = bin.entry(slot).load(Relaxed);
        found != NOBODY && found != OWNED && bin.put(slot, found)
    }

    /// Puts a slot that its caller alone has. `false`: nothing was done.
    #[inline(always)]
    pub(super) fn put_owned(&self, class: u8, slot: u32) -> bool {
        if self.class_count == 0 {
            return false;
        }
        let bin = self.bin(usize::from(class));
        let has_room = bin.len.load(Relaxed) != bin.max.load(Relaxed);
        if has_room {
            bin.entry(slot).store(NOBODY, Relaxed);
            bin.lay(slot);
        }
        has_room
    }

    /// The bin and slot that an address is the start of.
    #[inline(always)]
    fn slot_of(&self, address: usize) -> Option<(&Bin, u32)> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.region_len || !offset.is_multiple_of(GRANULE) {
            return None;
        }
        // SAFETY:
        // - the table has an entry for each chunk of the region
        let class = unsafe { *self.class_of_chunk.add(offset >> self.chunk_shift) };
        let bin = self.bin(usize::from(class));
        let next = (address + GRANULE - bin.start) / GRANULE;
        let slot = bin.reciprocal.slot_starting_before(next as u64)?;
        if slot < u64::from(bin.capacity) { Some((bin, slot as u32)) } else { None }
    }

    /// Whether a slot that somebody holds raw may be put with a size that is not the one asked for.
    #[inline(always)]
    fn is_other_size_of(&self, bin: &Bin, size: usize, found: Mark) -> bool {
        // A pool that rounds has to ask.
        let is_raw = found != NOBODY && found != OWNED;
        is_raw && size < self.size_end && self.bin_near(size).is_some_and(|near| ptr::eq(near, bin))
    }
}

impl Bin {
    #[inline(always)]
    fn buffer_size(&self) -> usize {
        self.buffer_size as usize
    }

    #[inline(always)]
    fn entry(&self, slot: u32) -> &AtomicU32 {
        // SAFETY:
        // - the ledger lives as long as the pool, and `slot` is below the class's capacity: callers looked,
        //   or it was taken from the shelf
        unsafe { &*self.ledger.add(slot as usize) }
    }

    /// The slot put last, marked in the ledger.
    #[inline(always)]
    fn take(&self, mark: Mark) -> Option<Buffer> {
        let len = self.len.load(Relaxed).checked_sub(1)?;
        self.len.store(len, Relaxed);
        // SAFETY:
        // - `len` numbers and this one were written
        let slot = unsafe { self.slots.add(len as usize).read() };
        self.entry(slot).store(mark, Relaxed);
        let address = self.start + slot as usize * self.slot_size;
        // SAFETY:
        // - the address of a slot is not 0
        let data = unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) };
        let place = Place::Slot { class: self.class, slot };
        Some(Buffer { data, capacity: self.buffer_size(), place })
    }

    /// Takes a slot from the holder that was found, if it is still that one and there is room.
    #[inline(always)]
    fn put(&self, slot: u32, found: Mark) -> bool {
        let has_room = self.len.load(Relaxed) != self.max.load(Relaxed);
        // Relaxed: see the ledger.
        let taken = has_room && self.entry(slot).compare_exchange(found, NOBODY, Relaxed, Relaxed).is_ok();
        if taken {
            self.lay(slot);
        }
        taken
    }

    /// Adds a slot at the end, where there is room, and counts the put.
    #[inline(always)]
    fn lay(&self, slot: u32) {
        let len = self.len.load(Relaxed);
        debug_assert!(len < self.max.load(Relaxed));
        // SAFETY:
        // - there is room for `max` numbers
        unsafe { self.slots.add(len as usize).write(slot) };
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
impl CacheRef {
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
        if size < self.size_end { self.take_or_fill(self.bin_for(size), mark) } else { None }
    }

    /// As [`get_or_fill`](Self::get_or_fill), for a class that is known.
    pub(super) fn get_of_class(&self, class: usize, mark: Mark) -> Option<Buffer> {
        self.take_or_fill(self.bin(class), mark)
    }

    fn take_or_fill(&self, bin: &Bin, mark: Mark) -> Option<Buffer> {
        bin.take(mark).or_else(|| {
            self.fill(usize::from(bin.class));
            bin.take(mark)
        })
    }

    /// As [`put_owned`](Self::put_owned), after giving a batch to the shelf if the bin is full.
    pub(super) fn put_owned_or_flush(&self, class: u8, slot: u32) -> bool {
        self.put_owned(class, slot) || {
            self.flush(usize::from(class));
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
        unsafe { bin.slots.copy_from_nonoverlapping(batch.as_ptr(), got) };
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
            let slots = bin.slots;
            self.pool().class(class).shelf.put_batch(std::slice::from_raw_parts(slots, count as usize));
            slots.copy_from(slots.add(count as usize), (len - count) as usize);
        }
        bin.len.store(len - count, Relaxed);
        self.pool().home().release_some(u64::from(count));
    }

    /// Gives the bin of a class its room, as much as the class has left for caches; none for classes that are
    /// not cached. The memory is there already: nothing is allocated while the block is active, as the
    /// allocator may be one that uses a pool.
    fn make_bin(&self, class: usize) {
        let bin = self.bin(class);
        if bin.max.load(Relaxed) == 0 {
            let class = self.pool().class(class);
            bin.max.store(class.caching.take_room(class.slot_size()), Relaxed);
        }
    }
}

/// Room for a cache, its bins, and the slot numbers of each; where the numbers start.
fn layout(classes: &[Class]) -> Option<(Layout, usize)> {
    let bins = Layout::array::<Bin>(classes.len()).ok()?;
    let (layout, bins_start) = Layout::new::<Cache>().extend(bins).ok()?;
    debug_assert_eq!(bins_start, size_of::<Cache>());
    let numbers: usize = classes.iter().map(|class| most_slots(class.slot_size()) as usize).sum();
    layout.extend(Layout::array::<u32>(numbers).ok()?).ok()
}

/// Making and ending; statistics.
impl CacheRef {
    /// An empty cache of `pool` for the thread of `block`. `None` without memory.
    pub(super) fn new(pool: &Shared, block: &'static Block) -> Option<Self> {
        let classes = pool.classes();
        let (layout, mut numbers) = layout(classes)?;
        // SAFETY:
        // - the layout's size is not zero
        let cache = NonNull::new(unsafe { alloc(layout) }.cast::<Cache>())?;
        let value = Cache {
            base: pool.region().base(),
            region_len: pool.region().len(),
            size_end: if pool.rounds() { 0 } else { pool.index().largest() + 1 },
            class_of_chunk: pool.class_of_chunk().as_ptr(),
            chunk_shift: pool.chunk_shift(),
            class_count: classes.len() as u32,
            pool,
            block,
            first_class: *pool.index().table(),
        };
        // SAFETY:
        // - allocated above for a cache, one bin per class, and the most slot numbers of each
        unsafe {
            cache.write(value);
            let bins = cache.add(1).cast::<Bin>();
            for (number, class) in classes.iter().enumerate() {
                let slots = cache.cast::<u8>().add(numbers).cast::<u32>().as_ptr();
                bins.add(number).write(Bin::of(class, number as u8, slots, pool));
                numbers += most_slots(class.slot_size()) as usize * size_of::<u32>();
            }
        }
        Some(Self(cache))
    }

    /// Empties a cache that nobody can reach any more, and frees it.
    ///
    /// # Safety
    /// - it came from [`new`](Self::new), and was taken out of all entries; its thread is not using it
    pub(super) unsafe fn end(self) {
        for (number, class) in self.pool().classes().iter().enumerate() {
            let bin = self.bin(number);
            let len = bin.len.load(Relaxed);
            if len > 0 {
                self.move_to_shelf(number, len);
            }
            class.counters.puts.fetch_add(bin.puts.load(Relaxed), Relaxed);
            class.caching.give_room(bin.max.load(Relaxed));
        }
        if let Some((layout, _)) = layout(self.pool().classes()) {
            // SAFETY:
            // - allocated by `new` with this layout, and used no more; neither cache nor bins need a drop
            unsafe { dealloc(self.0.as_ptr().cast(), layout) };
        }
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
    fn of(class: &Class, number: u8, slots: *mut u32, pool: &Shared) -> Self {
        Self {
            len: AtomicU32::new(0),
            max: AtomicU32::new(0),
            slots,
            buffer_size: class.buffer_size() as u32,
            capacity: class.capacity(),
            slot_size: class.slot_size(),
            start: pool.region().base() + class.offset_of(0),
            ledger: class.ledger.first_entry(),
            reciprocal: class.reciprocal(),
            puts: AtomicU64::new(0),
            fresh_line: AtomicU32::new(u32::MAX),
            class: number,
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

/// How many slots of a class a thread keeps at most.
fn most_slots(slot_size: usize) -> u32 {
    (MAX_BIN_BYTES / slot_size).min(MAX_BIN_SLOTS) as u32
}

impl CachingRoom {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { left: AtomicU32::new(capacity / 2) }
    }

    /// Room for one bin, in slots: at most half of what is left, so that later threads get some. 0 or at
    /// least 2.
    fn take_room(&self, slot_size: usize) -> u32 {
        let most = most_slots(slot_size);
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
