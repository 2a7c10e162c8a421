//! One thread's cache of one pool: a bin of idle slots per size class, and the whole fast path of get and
//! put.
//!
//! ```text
//! get   size -> step -> bin -> last slot -> ledger entry := holder -> its address
//! put   address -> granule -> chunk -> bin; granule * reciprocal -> slot -> ledger: holder -> 0 -> bin
//! ```
//!
//! Only the owning thread changes a cache, while its block is `active`; whoever revoked it has it alone
//! afterwards. What statistics read meanwhile is atomic and never changed by two threads, so plain loads and
//! stores do.
//!
//! Every cached slot holds a reference to the pool, as an outstanding one does: between a cache and its
//! thread nothing shared is written.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::plain_memory;
use std::alloc::{Layout, alloc_zeroed, dealloc};
#[cfg(feature = "capi")]
use std::ffi::c_void;
use std::mem::offset_of;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::Verdict;
use super::bin::{Bin, MAX_BATCH, Place};
use super::block::{Block, wait_for_getters};
use crate::anchor::Reference;
use crate::class::Class;
use crate::ledger::{self, Holder, Mark, getter};
use crate::memory::{self, OutOfMemory};
use crate::shared::{Buffer, PutSize, Shared};
use crate::size_class::{FINE_LIMIT, MAX_CLASSES, STEPS, fine_step_of, step_of};

/// Where a bin is, in bytes from the start of its cache.
pub(super) type BinOffset = u16;

const fn bin_offset(class: u8) -> BinOffset {
    (size_of::<Cache>() + class as usize * size_of::<Bin>()) as BinOffset
}
const _: () = assert!(size_of::<Cache>() + MAX_CLASSES * size_of::<Bin>() <= BinOffset::MAX as usize);

/// From chunk to bin, for all caches of a pool.
pub(super) fn bins_of_chunks(class_of_chunk: &[u8]) -> Result<Box<[BinOffset]>, OutOfMemory> {
    memory::boxed_slice(class_of_chunk.len(), |chunk| Ok(bin_offset(class_of_chunk[chunk])))
}

/// One thread's cache of one pool. Its bins follow it in memory.
#[repr(C, align(128))] // apart from other threads' caches
pub(crate) struct Cache {
    /// Where sizes lead that have no class: the offset 0. It holds nothing and takes nothing.
    none: Bin,
    /// The address of the region, and its length in bytes; 0 for no pool.
    base: usize,
    region_len: usize,
    /// What the owning thread adds to the marks of slots it gets, while their class leans.
    getter: Mark,
    /// Sizes below this fit a class, in bytes: 0 if the pool rounds.
    size_end: usize,
    bin_of_chunk: *const BinOffset,
    chunk_shift: u32,
    class_count: u32,
    pool: *const Shared,
    block: &'static Block,
    /// Numbers this thread's claims.
    claims: AtomicU32,
    lost_claims: AtomicU32,
    /// [`NO_BIN`] if the pool rounds.
    bin_of_step: [BinOffset; STEPS],
}

const NO_BIN: BinOffset = 0;
const _: () = assert!(offset_of!(Cache, none) == NO_BIN as usize);

// SAFETY:
// - its pointers lead to the pool, which outlives it, and to its own bins
// - only one thread at a time changes it (module documentation), and what others read meanwhile is atomic
unsafe impl Send for Cache {}
// SAFETY: as for Send.
unsafe impl Sync for Cache {}

/// How far [`CacheRef::put`] came.
pub(crate) enum Tried {
    Put,
    /// Another thread may put it, too, if it is outstanding: [`Bin::put_not_own`] decides.
    NotOwn {
        bin: *const Bin,
        slot: usize,
    },
    /// Nothing was done, [`CacheRef::put_anyhow`] must look.
    Nothing,
}

/// Where entries lead whose cache was taken away: it serves nothing.
pub(super) static NO_CACHE: Cache = Cache {
    none: Bin::none(),
    base: 0,
    region_len: 0,
    getter: 0,
    size_end: 0,
    bin_of_chunk: ptr::null(),
    chunk_shift: 0,
    class_count: 0,
    pool: ptr::null(),
    block: &super::block::EMPTY,
    claims: AtomicU32::new(0),
    lost_claims: AtomicU32::new(0),
    bin_of_step: [NO_BIN; STEPS],
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

/// Keeps compilers from carrying a sum as its parts: the fast path has no register to spare.
#[inline(always)]
fn in_one_register<T>(pointer: NonNull<T>) -> NonNull<T> {
    let mut address = pointer.as_ptr();
    #[allow(clippy::pointers_in_nomem_asm_block)] // it reads nothing
    // SAFETY:
    // - does nothing
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
        NonNull::new_unchecked(address)
    }
}

/// The fast path. Callers are inside [`Block::enter`], with the block `FAST`: getters write entries here that
/// they have read.
impl CacheRef {
    #[inline(always)]
    fn bin_at(&self, offset: BinOffset) -> &Bin {
        debug_assert!(
            offset == NO_BIN || (0..self.class_count).any(|class| bin_offset(class as u8) == offset)
        );
        // SAFETY:
        // - offsets come from the tables of this pool, and a bin for each class follows the cache in memory
        unsafe { in_one_register(self.0.byte_add(usize::from(offset)).cast::<Bin>()).as_ref() }
    }

    #[inline(always)]
    fn bin(&self, class: u8) -> &Bin {
        self.bin_at(bin_offset(class))
    }

    /// The bin of the next larger class than `bin`'s. There is one.
    #[inline(always)]
    fn next<'a>(&'a self, bin: &'a Bin) -> &'a Bin {
        debug_assert!(u32::from(bin.class) + 1 < self.class_count);
        // SAFETY:
        // - there is a next class (caller), and the bins lie one after another
        unsafe { NonNull::from(bin).add(1).as_ref() }
    }

    /// The bin of the first class that may fit a size.
    #[inline(always)]
    fn bin_of_step(&self, step: usize) -> &Bin {
        // SAFETY:
        // - steps of sizes below `size_end`, or up to FINE_LIMIT, are in the table
        self.bin_at(unsafe { *self.bin_of_step.get_unchecked(step) })
    }

    /// The bin of the smallest class that fits a size, in the common case; else [`bin_for`](Self::bin_for)
    /// must look.
    #[inline(always)]
    fn fine_bin(&self, size: usize) -> Option<&Bin> {
        if size > FINE_LIMIT {
            return None;
        }
        let bin = self.bin_of_step(fine_step_of(size));
        // Else a class bound lies inside the size's step.
        if size <= bin.buffer_size { Some(bin) } else { None }
    }

    /// The bin of the smallest class that fits a size. `None`: no class does, or the pool rounds.
    #[inline]
    fn bin_for(&self, size: usize) -> Option<&Bin> {
        if size >= self.size_end {
            return None;
        }
        let mut bin = self.bin_of_step(step_of(size));
        while bin.buffer_size < size {
            // The largest class fits.
            bin = self.next(bin);
        }
        Some(bin)
    }

    /// A cached slot of the smallest class that fits `size`, marked in the ledger.
    #[inline(always)]
    pub(super) fn get(&self, size: usize, holder: Holder) -> Option<Buffer> {
        self.fine_bin(size)?.take(holder)
    }

    /// Puts a raw buffer with a size of its class, if this thread got it.
    #[inline(always)]
    pub(super) fn put(&self, address: usize, size: usize) -> Tried {
        // The size's class, so only a buffer of that class is found.
        let Some(bin) = self.fine_bin(size) else { return Tried::Nothing };
        let Some(slot) = bin.slot_at(address) else { return Tried::Nothing };
        if !ledger::is_raw_of(bin.entry(slot).load(Relaxed), self.getter) {
            return Tried::NotOwn { bin, slot };
        }
        if bin.put(address, slot) { Tried::Put } else { Tried::Nothing }
    }

    /// Puts a raw buffer of whatever size, if this thread got it. `false`: nothing was done,
    /// [`put_anyhow`](Self::put_anyhow) must look.
    #[inline(always)]
    pub(super) fn put_unsized(&self, address: usize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        ledger::is_raw_of(bin.entry(slot).load(Relaxed), self.getter) && bin.put(address, slot)
    }

    /// Puts a slot that its caller alone has. `false`: nothing was done, as also for a number that no class has.
    #[inline(always)]
    pub(super) fn put_owned(&self, address: usize, class: u32, slot: u32) -> bool {
        class < self.class_count && self.bin(class as u8).put(address, slot as usize)
    }

    /// The bin and slot that an address is the start of.
    #[inline(always)]
    fn slot_of(&self, address: usize) -> Option<(&Bin, usize)> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.region_len {
            return None;
        }
        // SAFETY:
        // - the table has an entry for each chunk of the region
        let bin = self.bin_at(unsafe { *self.bin_of_chunk.add(offset >> self.chunk_shift) });
        bin.slot_at(address).map(|slot| (bin, slot))
    }
}

/// The slow half, still without a lock: batches from and to the shelf. Callers hold the block's `Active`, with
/// the block `SLOW`, or revoked the cache.
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

    /// Puts a raw buffer, whoever got it and wherever it is, with the size it was asked for or another of its
    /// class. `false`: nothing was done, the pool must look.
    pub(super) fn put_anyhow(&self, address: usize, size: PutSize, verdict: Verdict) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let entry = bin.entry(slot);
        let found = entry.load(Relaxed);
        let Some(requested) = ledger::raw_size(found) else { return false };
        let fits = match size {
            PutSize::Unsized => true,
            // A pool that rounds has to ask.
            PutSize::Sized(size) => {
                size == requested || self.bin_for(size).is_some_and(|other| ptr::eq(other, bin))
            }
        };
        if !fits || !self.has_room_or_flush(bin) {
            return false;
        }
        if !ledger::has_no_getter(found) && !ledger::is_raw_of(found, self.getter) {
            if verdict == Verdict::Now {
                return false;
            }
            return self.claim(bin, address, slot, found);
        }
        self.put_shared(bin, address, slot, found)
    }

    /// Puts a raw buffer with a size of its class, whoever got it; while there is room. `false`: nothing was done,
    /// [`put_anyhow`](Self::put_anyhow) must look.
    pub(super) fn put_any_getters(&self, address: usize, size: usize) -> bool {
        let Some(bin) = self.fine_bin(size).or_else(|| self.bin_for(size)) else { return false };
        let Some(slot) = bin.slot_at(address) else { return false };
        let found = bin.entry(slot).load(Relaxed);
        if ledger::raw_size(found).is_none() || !bin.has_room() {
            return false;
        }
        if ledger::has_no_getter(found) {
            self.put_shared(bin, address, slot, found)
        } else if ledger::is_raw_of(found, self.getter) {
            bin.put(address, slot)
        } else {
            self.claim(bin, address, slot, found)
        }
    }

    /// Puts a slot that whoever exchanges its entry may put, where there is room.
    fn put_shared(&self, bin: &Bin, address: usize, slot: usize, found: Mark) -> bool {
        let taken = bin.exchange(address, slot, found);
        // A thread that neither fills nor flushes looks at times, too.
        if taken && bin.puts.load(Relaxed).is_multiple_of(MAX_BATCH as u64) {
            self.lean_or_not(bin);
        }
        taken
    }

    fn claim(&self, bin: &Bin, address: usize, slot: usize, found: Mark) -> bool {
        // Relaxed: only this thread changes it.
        let number = self.claims.load(Relaxed);
        self.claims.store(number.wrapping_add(1), Relaxed);
        bin.claim(address, slot, found, self.getter, number)
    }

    /// Gets raw buffers into `out`, with batches from the shelf, until it is full or the class has no idle
    /// slot; how many.
    #[cfg(feature = "capi")]
    pub(super) fn get_many(&self, size: usize, out: &mut [*mut c_void]) -> usize {
        let Some(bin) = self.bin_for(size) else { return 0 };
        let mut got = 0;
        loop {
            got += bin.take_many(Holder::Raw(size), &mut out[got..]);
            if got == out.len() {
                return got;
            }
            self.fill(bin);
            if bin.len() == 0 {
                return got;
            }
        }
    }

    /// Puts raw buffers that this thread got, all with a size of the same class, while there is room, up to the
    /// first that is not such a one; how many.
    #[cfg(feature = "capi")]
    pub(super) fn put_many(&self, data: &[*mut c_void], size: usize) -> usize {
        self.bin_for(size).map_or(0, |bin| bin.put_many(data, self.getter))
    }

    /// Makes room in the bin for a size if it is full. `false`: it was not, or there is none.
    #[cfg(feature = "capi")]
    pub(super) fn flush_full(&self, size: usize) -> bool {
        self.bin_for(size).is_some_and(|bin| !bin.has_room() && self.has_room_or_flush(bin))
    }

    /// As [`get`](Self::get), after taking a batch from the shelf if the bin is empty. If the class has no slot left,
    /// not even a fresh one: the key of the pool's spare, if there is one.
    pub(super) fn get_or_fill(&self, size: usize, holder: Holder) -> Result<Buffer, Option<u64>> {
        let bin = self.bin_for(size).ok_or(None)?;
        if let Some(spare) = self.spare_key()
            && self.is_used_up(bin)
        {
            return Err(Some(spare));
        }
        self.take_or_fill(bin, holder).ok_or(None)
    }

    /// Whether neither this cache nor the shelf has a slot of a bin's class.
    fn is_used_up(&self, bin: &Bin) -> bool {
        let shelf = &self.class_of(bin).shelf;
        bin.len() == 0 && !bin.has_claims() && shelf.idle() == 0 && shelf.fresh() == 0
    }

    /// What leads this thread to its cache of the pool's spare.
    pub(super) fn spare_key(&self) -> Option<u64> {
        self.pool().spare_key()
    }

    /// As [`get_or_fill`](Self::get_or_fill), for a class that is known.
    pub(super) fn get_of_class(&self, class: usize, holder: Holder) -> Option<Buffer> {
        self.take_or_fill(self.bin(class as u8), holder)
    }

    fn take_or_fill(&self, bin: &Bin, holder: Holder) -> Option<Buffer> {
        if !bin.may_cache() {
            return None;
        }
        bin.take(holder).or_else(|| {
            self.fill(bin);
            bin.take(holder)
        })
    }

    /// As [`put_owned`](Self::put_owned), after giving a batch to the shelf if the bin is full.
    pub(super) fn put_owned_or_flush(&self, address: usize, class: u8, slot: u32) -> bool {
        let bin = self.bin(class);
        self.has_room_or_flush(bin) && bin.put(address, slot as usize)
    }

    /// A fresh slot, from a line that this thread has for itself. `None` if there is none.
    pub(super) fn take_fresh(&self, class: usize) -> Option<u32> {
        self.pool().class(class).shelf.take_fresh_near(&self.bin(class as u8).fresh_line)
    }

    fn class_of(&self, bin: &Bin) -> &Class {
        self.pool().class(usize::from(bin.class))
    }

    fn fill(&self, bin: &Bin) {
        debug_assert_eq!(bin.len(), 0);
        self.lean_or_not(bin);
        if !bin.has_claims() {
            bin.grow(self.class_of(bin));
        }
        if bin.room() > 0 && !self.take_batch(bin) && bin.has_claims() {
            self.settle();
            self.take_batch(bin);
        }
    }

    /// Once in a batch: whether the class leans is looked at on no faster path.
    fn lean_or_not(&self, bin: &Bin) {
        bin.lean(if self.class_of(bin).leaning.tick() { self.getter } else { 0 });
    }

    /// Takes a batch from the shelf, if there is any.
    fn take_batch(&self, bin: &Bin) -> bool {
        let mut batch = [0; MAX_BATCH];
        let batch = &mut batch[..bin.batch().min(bin.free_room())];
        let class = self.class_of(bin);
        let got = class.shelf.take_idle_batch(batch, &bin.shelf_line);
        if got > 0 {
            self.pool().home().retain(got as u64);
            class.counters.moves.fetch_add(1, Relaxed);
            bin.push(&batch[..got]);
        }
        got > 0
    }

    /// Whether a bin has room, made if need be: by settling claims, and by giving the slots that were put
    /// first back to the shelf, half of the bin and at most [`MAX_BATCH`].
    fn has_room_or_flush(&self, bin: &Bin) -> bool {
        if bin.has_room() || !bin.may_cache() {
            return bin.has_room();
        }
        // Where other threads' slots fill the bin, idle ones are in the way.
        let had_claims = bin.has_claims();
        if had_claims {
            self.settle();
        }
        bin.grow(self.class_of(bin));
        if had_claims || !bin.has_room() {
            self.move_to_shelf(bin, bin.batch().min(bin.len()));
        }
        bin.has_room()
    }

    /// Decides all claims of this thread; the slots of those that stand go to the shelf.
    pub(super) fn settle(&self) {
        wait_for_getters();
        for class in 0..self.class_count as u8 {
            let bin = self.bin(class);
            if bin.has_claims() {
                // The getter put the others at the same moment.
                self.class_of(bin).leaning.rest();
                let lost = bin.settle(self.getter, |batch| self.put_batch(bin, batch)) as u32;
                self.pool().counters().double_puts.fetch_add(u64::from(lost), Relaxed);
                self.lost_claims.store(self.lost_claims.load(Relaxed) + lost, Relaxed);
            }
        }
    }

    /// Settles all claims; how many did not stand since the cache was made.
    #[cfg(feature = "capi")]
    pub(super) fn count_lost_claims(&self) -> u32 {
        if self.has_claims() {
            self.settle();
        }
        self.lost_claims.load(Relaxed)
    }

    fn has_claims(&self) -> bool {
        (0..self.class_count as u8).any(|class| self.bin(class).has_claims())
    }

    /// Puts slots, with their references, to the shelf.
    fn put_batch(&self, bin: &Bin, slots: &[u32]) {
        let class = self.class_of(bin);
        class.shelf.put_batch(slots, &bin.shelf_line);
        class.counters.moves.fetch_add(1, Relaxed);
        self.pool().home().release_some(slots.len() as u64);
    }

    /// Moves the first `count` slots of a bin, at most [`MAX_BATCH`], with their references, to the shelf.
    fn move_to_shelf(&self, bin: &Bin, count: usize) {
        if count > 0 {
            let mut batch = [0; MAX_BATCH];
            bin.remove_first(&mut batch[..count]);
            self.put_batch(bin, &batch[..count]);
        }
    }
}

/// Room for a cache, its bins, and the slots of each; where the slots start.
fn layout(classes: &[Class]) -> Option<(Layout, usize)> {
    let bins = Layout::array::<Bin>(classes.len()).ok()?;
    let (layout, bins_start) = Layout::new::<Cache>().extend(bins).ok()?;
    debug_assert_eq!(bins_start, usize::from(bin_offset(0)));
    let slots: usize = classes.iter().map(Bin::needed).sum();
    let (layout, slots_start) = layout.extend(Layout::array::<Place>(slots).ok()?).ok()?;
    Some((layout.pad_to_align(), slots_start))
}

/// Making and ending; statistics.
impl CacheRef {
    /// An empty cache of `pool` for the thread of `block`. `None` without memory.
    pub(super) fn new(pool: &Shared, block: &'static Block) -> Option<Self> {
        let classes = pool.classes();
        let (layout, slots_start) = layout(classes)?;
        // SAFETY:
        // - the layout's size is not zero
        let cache = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<Cache>())?;
        let base = pool.region().base();
        let has_bin = |class: u8| !pool.rounds() && usize::from(class) < classes.len();
        let bin_of_class = |class| if has_bin(class) { bin_offset(class) } else { NO_BIN };
        let size_end = if pool.rounds() { 0 } else { pool.index().largest() + 1 };
        // SAFETY:
        // - allocated above for a cache, one bin per class, and the slots of each
        unsafe {
            cache.write(Cache {
                none: Bin::none(),
                base,
                region_len: pool.region().len(),
                getter: getter(block.number()),
                size_end,
                bin_of_chunk: pool.caches().bin_of_chunk.as_ptr(),
                chunk_shift: pool.chunk_shift(),
                class_count: classes.len() as u32,
                pool,
                block,
                claims: AtomicU32::new(0),
                lost_claims: AtomicU32::new(0),
                bin_of_step: pool.index().table().map(bin_of_class),
            });
            let bins = cache.add(1).cast::<Bin>();
            let mut slots = cache.byte_add(slots_start).cast::<Place>();
            for (number, class) in classes.iter().enumerate() {
                bins.add(number).write(Bin::new(class, number as u8, base, slots.as_ptr()));
                slots = slots.add(Bin::needed(class));
            }
        }
        Some(Self(cache))
    }

    /// Empties a cache that nobody can reach any more, and frees it.
    ///
    /// # Safety
    /// - it came from [`new`](Self::new), and was taken out of all entries; its thread is not using it
    pub(super) unsafe fn end(self) {
        let classes = self.pool().classes();
        if self.has_claims() {
            self.settle();
        }
        for (number, class) in classes.iter().enumerate() {
            let bin = self.bin(number as u8);
            while bin.len() > 0 {
                self.move_to_shelf(bin, bin.len().min(MAX_BATCH));
            }
            class.counters.puts.fetch_add(bin.puts.load(Relaxed), Relaxed);
            class.caching.give(bin.room());
        }
        if let Some((layout, _)) = layout(classes) {
            plain_memory::ends(self.0.cast(), layout.size());
            // SAFETY:
            // - allocated by `new` with this layout, and used no more; neither cache nor bins need a drop
            unsafe { dealloc(self.0.as_ptr().cast(), layout) };
        }
    }

    /// What it has of a class. Any thread, at a quiet moment.
    pub(super) fn count(&self, class: usize) -> Count {
        let bin = self.bin(class as u8);
        let (claims, double_puts) = bin.count_claims(self.getter);
        Count {
            held: bin.len() as u32 + claims,
            puts: bin.puts.load(Relaxed) + u64::from(claims),
            double_puts: u64::from(double_puts),
        }
    }
}

/// What a cache has of a class.
pub(crate) struct Count {
    /// Idle slots.
    pub(crate) held: u32,
    /// Puts it took.
    pub(crate) puts: u64,
    /// Double puts it has not counted yet.
    pub(crate) double_puts: u64,
}
