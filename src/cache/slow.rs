//! The slow half of a cache: batches from and to the shelf, and whatever is not this thread's own. It takes no lock, but
//! the shelf's pops may spin and a settling of claims waits, so it asks for a fork guard.

use crate::sync::atomic::Ordering::Relaxed;
use std::ptr;

use super::bin::{Bin, MAX_BATCH};
use super::fast::{self, Unfinished};
use super::thread_cache::CacheRef;
use crate::class::ledger::{self, Holder, Mark};
use crate::class::location::{Buffer, PutSize};
use crate::os::fork::ForkGuard;
use crate::os::thread_pointer;
use crate::os::thread_state::{SLOW, wait_for_fast_paths};

/// When a put of what is biased to another thread is decided. One that is decided now costs a heavy fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    #[cfg_attr(not(feature = "capi"), expect(dead_code, reason = "only C's checked put asks for it"))]
    Now,
    /// If the bias owner puts it at the same moment, one of the two puts is found out later, and only counted.
    Later,
}

/// What `using` makes of this thread's cache, wherever the key is in the table.
pub(super) fn with_cache<R>(_: &ForkGuard, key: u64, using: impl FnOnce(CacheRef) -> R) -> Option<R> {
    let state = thread_pointer::get();
    let (cache, _active) = state.enter::<SLOW>(state.find(key)?);
    let cache = CacheRef::from_any(cache);
    (!cache.is_nowhere()).then(|| using(cache))
}

/// A cached slot of the smallest class that fits `size`, after a batch from the shelf if the bin is empty. From the pool's
/// spare if the class is used up.
pub(crate) fn get_slow(guard: &ForkGuard, key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    match with_cache(guard, key, |cache| cache.get_or_fill(size, holder))? {
        Ok(buffer) => Some(buffer),
        Err(spare) => {
            let from_spare = |cache: CacheRef| cache.get_or_fill(size, holder).ok();
            let buffer = match fast::get(spare?, size, holder) {
                Some(buffer) => buffer,
                None => with_cache(guard, spare?, from_spare)??,
            };
            Some(Buffer { location: buffer.location.of_spare(), ..buffer })
        }
    }
}

/// A cached slot of a class, after a batch from the shelf if the bin is empty.
pub(crate) fn get_of_class(guard: &ForkGuard, key: u64, class: u8, holder: Holder) -> Option<Buffer> {
    with_cache(guard, key, |cache| cache.take_or_fill(cache.bin(class), holder))?
}

/// A fresh slot of a class for this thread, from a slot group that it has for itself. `None`: this thread has no cache, or
/// there is none.
pub(crate) fn take_fresh(guard: &ForkGuard, key: u64, class: u8) -> Option<u32> {
    with_cache(guard, key, |cache| {
        let bin = cache.bin(class);
        cache.class_of(bin).shelf.take_fresh(Some(&bin.fresh_group))
    })?
}

/// Puts a raw buffer, whoever got it, wherever the key is, and although the bin is full. One of the pool's spare too, while
/// there is room. `false`: nothing was done, the pool must look.
pub(crate) fn put_slow(guard: &ForkGuard, key: u64, address: usize, size: PutSize, verdict: Verdict) -> bool {
    let put = |cache: CacheRef| match cache.put(address, size, verdict, CacheRef::has_room_or_flush) {
        true => Ok(()),
        false => Err(cache.caches().spare_key()),
    };
    match with_cache(guard, key, put) {
        Some(Err(Some(spare))) => put_to_spare(guard, spare, address, size, verdict),
        other => matches!(other, Some(Ok(()))),
    }
}

/// Not with a batch to the shelf: the shelf of a spare is to keep little.
fn put_to_spare(guard: &ForkGuard, key: u64, address: usize, size: PutSize, verdict: Verdict) -> bool {
    let tried = match size {
        PutSize::Sized(size) => fast::put(key, address, size),
        PutSize::Unsized => Err(Unfinished::NOTHING),
    };
    let Err(unfinished) = tried else { return true };
    // SAFETY:
    // - the fast path just gave this
    if unsafe { unfinished.put_unbiased(address) } {
        return true;
    }
    let has_room = |_: &CacheRef, bin: &Bin| bin.has_room();
    with_cache(guard, key, |cache| cache.put(address, size, verdict, has_room)) == Some(true)
}

/// Puts the slot of a `PooledBuffer`, wherever the key is, after a batch to the shelf if the bin is full. `false`: nothing
/// was done. A slot of the spare has the spare's key.
pub(crate) fn put_owned_slow(guard: &ForkGuard, key: u64, address: usize, class: u8, slot: u32) -> bool {
    let put = |cache: CacheRef| {
        let bin = cache.bin(class);
        cache.has_room_or_flush(bin) && bin.put(address, slot as usize)
    };
    with_cache(guard, key, put).unwrap_or(false)
}

/// Makes a raw buffer one of another size of its class, in place. `false`: nothing was done, the pool must look.
pub(crate) fn resize(guard: &ForkGuard, key: u64, address: usize, size: usize) -> bool {
    let resize = |cache: CacheRef| {
        let (bin, slot) = cache.slot_of(address)?;
        let is_its = cache.bin_for(size).is_some_and(|other| ptr::eq(other, bin));
        let ledger = &cache.class_of(bin).ledger;
        let found = ledger.mark(slot as u32);
        let to = Some(Holder::Raw(size));
        let is_raw = is_its && ledger::raw_size(found).is_some();
        // A buffer that stays raw keeps its bias: nobody is waited for.
        Some(is_raw && ledger.pass(slot as u32, found, to, cache.bias, || ()))
    };
    with_cache(guard, key, resize).flatten().unwrap_or(false)
}

/// Callers have made the state `SLOW`, or drained the cache.
impl CacheRef {
    /// The bin of the smallest class that fits a size. `None`: no class does, or the pool rounds.
    pub(super) fn bin_for(&self, size: usize) -> Option<&Bin> {
        if size >= self.size_end {
            return None;
        }
        self.classes().index().class_of(size).map(|class| self.bin(class as u8))
    }

    /// A slot for this size. If the class has no slot left, not even a fresh one: the key of the pool's spare, if there is
    /// one.
    fn get_or_fill(&self, size: usize, holder: Holder) -> Result<Buffer, Option<u64>> {
        let bin = self.bin_for(size).ok_or(None)?;
        if let Some(spare) = self.caches().spare_key() {
            if self.is_used_up(bin) {
                return Err(Some(spare));
            }
        }
        self.take_or_fill(bin, holder).ok_or(None)
    }

    /// Whether neither this cache nor the shelf has a slot of a bin's class.
    fn is_used_up(&self, bin: &Bin) -> bool {
        let shelf = &self.class_of(bin).shelf;
        bin.len() == 0 && !bin.has_claims() && shelf.idle() == 0 && shelf.fresh() == 0
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

    /// Puts a raw buffer, whoever got it and wherever it is, with the size it was asked for or another of its class.
    /// `false`: nothing was done, the pool must look.
    fn put(
        &self,
        address: usize,
        size: PutSize,
        verdict: Verdict,
        has_room: impl FnOnce(&Self, &Bin) -> bool,
    ) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let found = bin.entry(slot).load(Relaxed);
        let Some(requested) = ledger::raw_size(found) else { return false };
        let fits = match size {
            PutSize::Unsized => true,
            // A pool that rounds has to ask.
            PutSize::Sized(size) => {
                size == requested || self.bin_for(size).is_some_and(|other| ptr::eq(other, bin))
            }
        };
        if !fits || !has_room(self, bin) {
            return false;
        }
        if ledger::is_unbiased(found) || ledger::is_biased(found, self.bias) {
            return self.put_by_exchange(bin, address, slot, found);
        }
        match verdict {
            Verdict::Later => self.claim(bin, address, slot, found),
            Verdict::Now => {
                let ledger = &self.class_of(bin).ledger;
                ledger.pass(slot as u32, found, None, self.bias, wait_for_fast_paths)
                    && bin.put(address, slot)
            }
        }
    }

    /// Puts a slot that whoever exchanges its entry may put, where there is room.
    fn put_by_exchange(&self, bin: &Bin, address: usize, slot: usize, found: Mark) -> bool {
        let taken = bin.exchange(address, slot, found);
        // A thread that neither fills nor flushes looks at times, too.
        if taken && bin.puts.load(Relaxed) % MAX_BATCH as u64 == 0 {
            self.choose_bias(bin);
        }
        taken
    }

    fn claim(&self, bin: &Bin, address: usize, slot: usize, found: Mark) -> bool {
        // Relaxed: only this thread changes it.
        let number = self.claims.load(Relaxed);
        self.claims.store(number.wrapping_add(1), Relaxed);
        bin.claim(address, slot, found, self.bias, number)
    }

    pub(super) fn fill(&self, bin: &Bin) {
        debug_assert_eq!(bin.len(), 0);
        self.choose_bias(bin);
        if !bin.has_claims() {
            bin.grow(self.class_of(bin));
        }
        if bin.quota() > 0 && !self.take_batch(bin) && bin.has_claims() {
            self.settle();
            self.take_batch(bin);
        }
    }

    /// Once in a batch: whether the class is biased is looked at on no faster path.
    fn choose_bias(&self, bin: &Bin) {
        bin.set_bias(if self.class_of(bin).bias.tick() { self.bias } else { 0 });
    }

    /// Takes a batch from the shelf, if there is any.
    fn take_batch(&self, bin: &Bin) -> bool {
        let mut batch = [0; MAX_BATCH];
        let batch = &mut batch[..bin.batch().min(bin.free_room())];
        let class = self.class_of(bin);
        let got = class.shelf.take_idle_batch(batch, &bin.shelf_group);
        if got > 0 {
            self.caches().references().retain(got as u64);
            class.counters.moves.fetch_add(1, Relaxed);
            bin.push(&batch[..got]);
        }
        got > 0
    }

    /// Whether a bin has room, made if need be: by settling claims, and by giving the slots that were put
    /// first back to the shelf, half of the bin and at most [`MAX_BATCH`].
    pub(super) fn has_room_or_flush(&self, bin: &Bin) -> bool {
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
        wait_for_fast_paths();
        for class in 0..self.class_count as u8 {
            let bin = self.bin(class);
            if bin.has_claims() {
                // The bias owner put the others at the same moment.
                self.class_of(bin).bias.cool_down();
                let lost = bin.settle(self.bias, |batch| self.put_batch(bin, batch)) as u32;
                self.caches().count_double_puts(lost);
                self.lost_claims.store(self.lost_claims.load(Relaxed) + lost, Relaxed);
            }
        }
    }

    pub(super) fn has_claims(&self) -> bool {
        (0..self.class_count as u8).any(|class| self.bin(class).has_claims())
    }

    /// Puts slots, with their references, to the shelf.
    fn put_batch(&self, bin: &Bin, slots: &[u32]) {
        let class = self.class_of(bin);
        class.shelf.put_batch(slots, &bin.shelf_group);
        class.counters.moves.fetch_add(1, Relaxed);
        self.caches().references().release_some(slots.len() as u64);
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
