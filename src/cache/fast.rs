//! The fast path: from a key to the thread's cache, to a bin, to a slot. No lock, no shared write, nothing to wait for.
//!
//! ```text
//! get   key -> cache; size -> step -> bin -> last slot -> mark := holder -> its address
//! put   key -> cache; size -> step -> bin; address -> slot -> mark: holder -> nobody -> bin
//! ```
//!
//! A key is a context, or the one that a pool has of its own. That it leads to a cache validates it. Each function says
//! whether it is done. What is not done goes through the slow half, once.

use crate::sync::atomic::Ordering::Relaxed;
use std::ptr::{self, NonNull};

use super::bin::Bin;
use super::thread_cache::{BinOffset, CacheRef, NO_BIN, bin_offset};
use crate::class::index::step_of;
use crate::class::ledger::{self, Holder};
use crate::class::location::{Buffer, CLASS_SHIFT, Location, PutSize};
use crate::os::thread_pointer;
use crate::os::thread_state::{Active, FAST};

/// A put that the fast path did not finish, and what it found out, so that the caller can go on at once.
#[derive(Clone, Copy)]
#[repr(C)] // in two registers
pub(crate) struct Unfinished {
    slot: usize,
    /// Null if nothing was found out. Else the bin of `slot`, and the thread's state stayed `FAST`.
    bin: *const Bin,
}

impl Unfinished {
    const NOTHING: Self = Self { slot: 0, bin: ptr::null() };

    /// Puts a buffer that anybody may put, if that is what it is and there is room; whether it did. Else nothing was
    /// done. The state is inactive afterwards.
    ///
    /// # Safety
    /// - the fast path just gave this for this address, on this thread, which has used no cache since
    #[inline(always)]
    pub(crate) unsafe fn put_unbiased(self, address: usize) -> bool {
        if self.bin.is_null() {
            return false;
        }
        // SAFETY:
        // - the state stayed `FAST` (caller), so the bin is there
        let (_active, bin) = unsafe { (thread_pointer::get().still_active(), &*self.bin) };
        bin.put_unbiased(address, self.slot)
    }
}

/// The cache that a key leads to, if the key is at its first position.
#[inline(always)]
pub(super) fn enter(key: u64) -> Option<(CacheRef, Active)> {
    let state = thread_pointer::get();
    let (cache, active) = state.enter::<FAST>(state.first(key)?);
    Some((CacheRef::from_any(cache), active))
}

/// A cached slot of the smallest class that fits `size`, marked in the ledger.
#[inline(always)]
pub(crate) fn get(key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    let (cache, _active) = enter(key)?;
    cache.bin_for(size).take(holder)
}

/// Puts a raw buffer with the size it was asked for or another of its class, if it is biased to this thread.
#[inline(always)]
pub(crate) fn put(key: u64, address: usize, size: usize) -> Result<(), Unfinished> {
    let (cache, active) = enter(key).ok_or(Unfinished::NOTHING)?;
    // The size's class, so only a buffer of that class is found.
    let bin = cache.bin_for(size);
    let slot = bin.slot_at(address).ok_or(Unfinished::NOTHING)?;
    if !ledger::is_biased(bin.mark(slot).load(Relaxed), cache.bias) {
        active.stay();
        return Err(Unfinished { slot, bin });
    }
    if bin.put(address, slot) { Ok(()) } else { Err(Unfinished::NOTHING) }
}

/// Puts a raw buffer of whatever size, if it is biased to this thread. `false`: nothing was done.
#[inline(always)]
pub(crate) fn put_unsized(key: u64, address: usize) -> bool {
    let Some((cache, _active)) = enter(key) else { return false };
    let Some((bin, slot)) = cache.slot_of(address) else { return false };
    ledger::is_biased(bin.mark(slot).load(Relaxed), cache.bias) && bin.put(address, slot)
}

/// Makes a raw buffer that is biased to this thread one of another size of its class, in place; `old_size` is as for a
/// put. `false`: nothing was done.
#[inline(always)]
pub(crate) fn resize(key: u64, address: usize, old_size: PutSize, size: usize) -> bool {
    let Some((cache, _active)) = enter(key) else { return false };
    // The new size's class, so only a buffer of that class is found.
    let bin = cache.bin_for(size);
    let Some(slot) = bin.slot_at(address) else { return false };
    let found = bin.mark(slot).load(Relaxed);
    let is_its = ledger::is_biased(found, cache.bias) && cache.is_of_size(bin, found, old_size);
    if is_its {
        // Relaxed, and at most over an end of the bias, as a put's: see `Bin::put`.
        bin.mark(slot).store(ledger::with_size(found, size), Relaxed);
    }
    is_its
}

/// What a raw buffer in a slot has room for. `None`: the pool must look.
#[inline(always)]
pub(crate) fn usable_size(key: u64, address: usize) -> Option<usize> {
    let (cache, _active) = enter(key)?;
    let (bin, slot) = cache.slot_of(address)?;
    // Relaxed: whoever asks for a buffer of theirs has seen its get.
    ledger::raw_size(bin.mark(slot).load(Relaxed)).map(|_| bin.buffer_size)
}

/// What a raw buffer has room for that this thread's cache would take, if `old_size` is right, as for a put. `None`:
/// the pool must look.
#[inline]
pub(crate) fn room_of_own(key: u64, address: usize, old_size: PutSize) -> Option<usize> {
    let (cache, _active) = enter(key)?;
    let (bin, slot) = cache.slot_of(address)?;
    let found = bin.mark(slot).load(Relaxed);
    let is_its = ledger::is_biased(found, cache.bias) && cache.is_of_size(bin, found, old_size);
    (is_its && bin.has_room()).then_some(bin.buffer_size)
}

/// The buffer size of the class that serves a get of `size` bytes. `None`: the pool must look.
#[inline]
pub(crate) fn good_size(key: u64, size: usize) -> Option<usize> {
    let (cache, _active) = enter(key)?;
    Some(cache.bin_for(size).buffer_size).filter(|&good| good != usize::MAX)
}

/// Puts the slot of a `PooledBuffer`. `false`: nothing was done, as also for a location that is no slot.
///
/// # Safety
/// - if `location` is a slot, it is one of the key's pool, and starts at `address`
/// - the slot is held as [`Holder::Owned`], and the caller owns it
#[inline(always)]
pub(crate) unsafe fn put_owned(key: u64, address: usize, location: Location) -> bool {
    let Some((cache, _active)) = enter(key) else { return false };
    let (bin, slot) = location.halves();
    if bin >= cache.bins_len {
        return false;
    }
    // SAFETY:
    // - the bins of all classes follow the cache, each as long as a location's high half says
    let bin = unsafe { in_one_register(cache.0.add(1).byte_add(bin as usize).cast::<Bin>()).as_ref() };
    bin.put(address, slot as usize)
}
const _: () = assert!(size_of::<Bin>() == 1 << CLASS_SHIFT);

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

/// Tells compilers that a branch is seldom taken, so that its code is laid apart: a jump over it takes time.
#[cold]
fn seldom() {}

/// Where things are in a cache. Callers have made the thread's state active, or drained the cache.
impl CacheRef {
    #[inline(always)]
    fn bin_at(&self, offset: BinOffset) -> &Bin {
        debug_assert!(offset == NO_BIN || usize::from(offset - bin_offset(0)) <= self.bins_len as usize);
        // SAFETY:
        // - offsets come from the tables of this pool, and a bin for each class follows the cache in memory
        unsafe { self.pointer_at(offset).as_ref() }
    }

    /// # Safety
    /// - `offset` is at most that of the bin which follows those of all classes
    #[inline(always)]
    unsafe fn pointer_at(&self, offset: BinOffset) -> NonNull<Bin> {
        // SAFETY:
        // - still in the cache's memory (caller)
        unsafe { in_one_register(self.0.byte_add(usize::from(offset)).cast()) }
    }

    #[inline(always)]
    pub(super) fn bin(&self, class: u8) -> &Bin {
        self.bin_at(bin_offset(class))
    }

    /// The bin of the smallest class that fits a size. Where none does, and in a pool that rounds, a bin that holds
    /// nothing and takes nothing.
    #[inline(always)]
    pub(super) fn bin_for(&self, size: usize) -> &Bin {
        // SAFETY:
        // - the offset is that of a class's bin, or of a bin that fits all sizes. There are two of these: one is first
        //   in the cache, one follows the classes' bins
        unsafe {
            let mut bin = self.pointer_at(self.bin_of_step[step_of(size)]);
            if size > bin.as_ref().buffer_size {
                seldom();
                loop {
                    bin = in_one_register(bin.add(1));
                    if size <= bin.as_ref().buffer_size {
                        break;
                    }
                }
            }
            bin.as_ref()
        }
    }

    /// The bin and slot that an address is the start of.
    #[inline(always)]
    pub(super) fn slot_of(&self, address: usize) -> Option<(&Bin, usize)> {
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
