//! The slow half of a cache, still without a lock: batches from and to the shelf, and whatever is not this thread's own.

use crate::sync::atomic::Ordering::Relaxed;
#[cfg(feature = "capi")]
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::CacheRef;
use crate::anchor::Reference;
use crate::class::Class;
use crate::ledger::{self, Holder, Mark};
use crate::shared::{Buffer, PutSize, Shared};
use crate::thread_cache::Verdict;
use crate::thread_cache::bin::{Bin, MAX_BATCH};
use crate::thread_cache::block::{Block, wait_for_getters};

/// Callers hold the block's `Active`, with the block `SLOW`, or revoked the cache.
impl CacheRef {
    pub(in crate::thread_cache) fn pool(&self) -> &Shared {
        // SAFETY:
        // - a cache is freed before its pool
        unsafe { &*self.pool }
    }

    /// Whether this is [`NO_CACHE`](super::NO_CACHE).
    pub(in crate::thread_cache) fn is_none(&self) -> bool {
        self.class_count == 0
    }

    pub(in crate::thread_cache) fn block(&self) -> &'static Block {
        self.block
    }

    /// # Safety
    /// - the cache is not NO_CACHE, and was not taken away yet: its pool exists
    pub(in crate::thread_cache) unsafe fn pool_reference(&self) -> Reference {
        // SAFETY:
        // - the pool exists (caller)
        unsafe { Reference::to_existing(NonNull::from(self.pool())) }
    }

    /// Puts a raw buffer, whoever got it and wherever it is, with the size it was asked for or another of its
    /// class. `false`: nothing was done, the pool must look.
    pub(in crate::thread_cache) fn put_anyhow(
        &self,
        address: usize,
        size: PutSize,
        verdict: Verdict,
    ) -> bool {
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
    pub(in crate::thread_cache) fn put_any_getters(&self, address: usize, size: usize) -> bool {
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
    pub(in crate::thread_cache) fn get_many(&self, size: usize, out: &mut [*mut c_void]) -> usize {
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
    pub(in crate::thread_cache) fn put_many(&self, data: &[*mut c_void], size: usize) -> usize {
        self.bin_for(size).map_or(0, |bin| bin.put_many(data, self.getter))
    }

    /// Makes room in the bin for a size if it is full. `false`: it was not, or there is none.
    #[cfg(feature = "capi")]
    pub(in crate::thread_cache) fn flush_full(&self, size: usize) -> bool {
        self.bin_for(size).is_some_and(|bin| !bin.has_room() && self.has_room_or_flush(bin))
    }

    /// As [`get`](Self::get), after taking a batch from the shelf if the bin is empty. If the class has no slot left,
    /// not even a fresh one: the key of the pool's spare, if there is one.
    pub(in crate::thread_cache) fn get_or_fill(
        &self,
        size: usize,
        holder: Holder,
    ) -> Result<Buffer, Option<u64>> {
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
    pub(in crate::thread_cache) fn spare_key(&self) -> Option<u64> {
        self.pool().spare_key()
    }

    /// As [`get_or_fill`](Self::get_or_fill), for a class that is known.
    pub(in crate::thread_cache) fn get_of_class(&self, class: usize, holder: Holder) -> Option<Buffer> {
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
    pub(in crate::thread_cache) fn put_owned_or_flush(&self, address: usize, class: u8, slot: u32) -> bool {
        let bin = self.bin(class);
        self.has_room_or_flush(bin) && bin.put(address, slot as usize)
    }

    /// A fresh slot, from a line that this thread has for itself. `None` if there is none.
    pub(in crate::thread_cache) fn take_fresh(&self, class: usize) -> Option<u32> {
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
    pub(in crate::thread_cache) fn settle(&self) {
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
    pub(in crate::thread_cache) fn count_lost_claims(&self) -> u32 {
        if self.has_claims() {
            self.settle();
        }
        self.lost_claims.load(Relaxed)
    }

    pub(super) fn has_claims(&self) -> bool {
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

    /// Empties a bin.
    pub(super) fn move_all_to_shelf(&self, bin: &Bin) {
        while bin.len() > 0 {
            self.move_to_shelf(bin, bin.len().min(MAX_BATCH));
        }
    }
}
