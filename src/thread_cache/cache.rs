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

mod batches;

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::plain_memory;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::mem::offset_of;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::bin::{Bin, Place};
use super::block::Block;
use crate::class::Class;
use crate::ledger::{self, Holder, Mark, getter};
use crate::memory::{self, OutOfMemory};
use crate::shared::{Buffer, Shared};
use crate::size_class::{FINE_STEPS, MAX_CLASSES, SizeClassIndex, fine_step_of};

/// Where a bin is, in bytes from the start of its cache.
pub(crate) type BinOffset = u16;

const fn bin_offset(class: u8) -> BinOffset {
    (size_of::<Cache>() + class as usize * size_of::<Bin>()) as BinOffset
}
const _: () = assert!(size_of::<Cache>() + MAX_CLASSES * size_of::<Bin>() <= BinOffset::MAX as usize);

/// From chunk to bin, for all caches of a pool.
pub(super) fn bins_of_chunks(class_of_chunk: &[u8]) -> Result<Box<[BinOffset]>, OutOfMemory> {
    memory::boxed_slice(class_of_chunk.len(), |chunk| Ok(bin_offset(class_of_chunk[chunk])))
}

/// From the step of a size to bin, for all caches of a pool of so many classes.
pub(crate) fn bins_of_steps(index: &SizeClassIndex, classes: usize, rounds: bool) -> [BinOffset; FINE_STEPS] {
    let has_bin = |class: u8| !rounds && usize::from(class) < classes;
    index.table().map(|class| if has_bin(class) { bin_offset(class) } else { NO_BIN })
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
    bin_of_step: [BinOffset; FINE_STEPS],
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
    bin_of_step: [NO_BIN; FINE_STEPS],
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

    /// The bin of the smallest class that fits a size, in the common case; else [`bin_for`](Self::bin_for)
    /// must look.
    #[inline(always)]
    fn fine_bin(&self, size: usize) -> Option<&Bin> {
        let bin = self.bin_at(self.bin_of_step[fine_step_of(size)]);
        // Else a class bound lies inside the size's step, or it is larger than those in the table.
        if size <= bin.buffer_size { Some(bin) } else { None }
    }

    /// The bin of the smallest class that fits a size. `None`: no class does, or the pool rounds.
    #[inline]
    fn bin_for(&self, size: usize) -> Option<&Bin> {
        if size >= self.size_end {
            return None;
        }
        self.pool().index().class_of(size).map(|class| self.bin(class as u8))
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
                bin_of_step: pool.caches().bin_of_step,
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
            self.move_all_to_shelf(bin);
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
