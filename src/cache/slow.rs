//! The slow half of a cache: batches from and to the shelf, and puts of what is not biased to this thread. It takes no
//! lock of a pool. But the shelf's pops may spin and an end of bias waits, so it asks for a fork guard.

use crate::sync::atomic::Ordering::Relaxed;
use std::ptr;

use super::bin::{Bin, MAX_BATCH};
use super::thread_cache::CacheRef;
use crate::class::ledger::{self, Holder, Mark};
use crate::class::location::{Buffer, PutSize};
use crate::class::quota::LARGE;
use crate::class::shelf::{GROUP_SLOTS, NO_GROUP};
use crate::os::fork::ForkGuard;
use crate::os::thread_pointer;
use crate::os::thread_state::{Entry, Position, SLOW};

/// Runs `using` on the cache that a key leads this thread to, at any position. `None`: there is none.
pub(super) fn with_cache<R>(guard: &ForkGuard, key: u64, using: impl FnOnce(CacheRef) -> R) -> Option<R> {
    with_cache_of(guard, thread_pointer::get().find(key)?, using)
}

fn with_cache_of<R>(_: &ForkGuard, entry: &Entry, using: impl FnOnce(CacheRef) -> R) -> Option<R> {
    let (cache, _active) = thread_pointer::get().enter::<SLOW>(entry);
    let cache = CacheRef::from_any(cache);
    (!cache.is_nowhere()).then(|| using(cache))
}

/// Where a key may lead to this thread's cache. `None`: it leads to none.
pub(crate) fn position(key: u64) -> Option<Position> {
    let state = thread_pointer::get();
    state.find(key).map(|entry| state.position(entry))
}

/// A cached slot of the smallest class that fits `size`, after a batch from the shelf if the bin is empty.
pub(crate) fn get_slow(guard: &ForkGuard, key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    with_cache(guard, key, |cache| cache.take_or_fill(cache.bin_for(size), holder))?
}

/// A cached slot of a class, after a batch from the shelf if the bin is empty.
pub(crate) fn get_of_class(guard: &ForkGuard, key: u64, class: u8, holder: Holder) -> Option<Buffer> {
    with_cache(guard, key, |cache| cache.take_or_fill(cache.bin(class), holder))?
}

/// A fresh slot of a class, from a slot group that this thread has for itself. `None`: the thread has no cache, or the
/// class has no fresh slot.
pub(crate) fn take_fresh(guard: &ForkGuard, key: u64, class: u8) -> Option<u32> {
    with_cache(guard, key, |cache| {
        let bin = cache.bin(class);
        cache.class_of(bin).shelf.take_fresh(Some(&bin.fresh_group))
    })?
}

/// Puts a raw buffer that any thread got. The key may be at any position, and the bin may be full. `Err`: nothing was
/// done, the pool must look. What the pool takes, it offers to the cache at the position by [`put_taken`].
pub(crate) fn put_slow(
    guard: &ForkGuard,
    key: u64,
    address: usize,
    size: PutSize,
) -> Result<(), Option<Position>> {
    let state = thread_pointer::get();
    let entry = state.find(key).ok_or(None)?;
    match with_cache_of(guard, entry, |cache| cache.put(guard, address, size)) {
        Some(true) => Ok(()),
        Some(false) => Err(Some(state.position(entry))),
        None => Err(None),
    }
}

/// Whether a key leads to a cache of this thread.
pub(crate) fn is_attached(guard: &ForkGuard, key: u64) -> bool {
    with_cache(guard, key, |_| ()).is_some()
}

/// Puts a slot that is this thread's alone to the cache at `position`. A full bin first gives a batch to the shelf.
/// `Some(false)`: nothing was done. `None`: there is no cache, and nothing was done.
pub(crate) fn put_taken(guard: &ForkGuard, position: Position, address: usize) -> Option<bool> {
    let put = |cache: CacheRef| match cache.slot_of(address) {
        Some((bin, slot)) => cache.has_room_or_flush(bin) && bin.put(address, slot),
        None => false,
    };
    with_cache_of(guard, thread_pointer::get().entry(position)?, put)
}

/// Makes a raw buffer one of another size of its class, in place; `old_size` is as for a put. `false`: nothing was
/// done, the pool must look.
#[cold]
pub(crate) fn resize_slow(
    guard: &ForkGuard,
    key: u64,
    address: usize,
    old_size: PutSize,
    size: usize,
) -> bool {
    let resize = |cache: CacheRef| {
        let (bin, slot) = cache.slot_of(address)?;
        let ledger = &cache.class_of(bin).ledger;
        let found = ledger.mark(slot as u32);
        // A buffer that stays raw keeps its bias: nobody is waited for.
        let is_raw = cache.may_resize(bin, found, old_size, size);
        Some(is_raw && ledger.pass(slot as u32, found, Some(Holder::Raw(size))))
    };
    with_cache(guard, key, resize).flatten().unwrap_or(false)
}

/// Callers have made the state `SLOW`, or drained the cache.
impl CacheRef {
    /// Whether the mark is of a raw buffer of the old size, or another of its class, and the new size is of its class,
    /// too.
    #[inline]
    pub(super) fn may_resize(&self, bin: &Bin, found: Mark, old_size: PutSize, size: usize) -> bool {
        let is_raw = ledger::raw_size(found).is_some();
        is_raw && self.is_of_size(bin, found, old_size) && ptr::eq(self.bin_for(size), bin)
    }

    /// Whether a raw buffer's mark is of this size, or another of its class.
    #[inline]
    pub(super) fn is_of_size(&self, bin: &Bin, found: Mark, size: PutSize) -> bool {
        match size {
            PutSize::Unsized => true,
            PutSize::Sized(size) => ledger::raw_size(found) == Some(size) || ptr::eq(self.bin_for(size), bin),
        }
    }

    fn take_or_fill(&self, bin: &Bin, holder: Holder) -> Option<Buffer> {
        if !bin.may_cache() {
            return None;
        }
        bin.take(holder).or_else(|| {
            if self.has_only_fresh(bin) {
                return self.get_fresh(bin, holder);
            }
            self.fill(bin);
            bin.take(holder).or_else(|| self.get_fresh(bin, holder))
        })
    }

    /// Whether the shelf seems to have no idle slot, so that a look for a batch would be in vain.
    fn has_only_fresh(&self, bin: &Bin) -> bool {
        bin.quota() > 0 && self.class_of(bin).shelf.idle() == 0
    }

    /// A slot that was never handed out, if its memory is open and its bytes fit the limit. Otherwise the pool must
    /// look.
    ///
    /// A thread that closes the pool waits until this thread's state is inactive. By then a slot that is taken here is
    /// out, or back.
    pub(super) fn get_fresh(&self, bin: &Bin, holder: Holder) -> Option<Buffer> {
        let class = self.class_of(bin);
        // The pool first drains the caches for large slots, and makes pages huge.
        if class.slot_size() > LARGE || class.has_huge_pages() {
            return None;
        }
        // A bin without a quota took no batch, so there may be idle slots.
        if class.shelf.idle() > 0 {
            return None;
        }
        let slot = class.shelf.take_fresh(Some(&bin.fresh_group))?;
        if !class.is_open(slot) || !self.classes().mapped().try_reserve(class.slot_size()) {
            class.shelf.untake_fresh(slot);
            return None;
        }
        if slot % GROUP_SLOTS == 0 {
            class.sample_peak();
            self.choose_bias(bin, GROUP_SLOTS as usize);
        }
        class.ledger.use_first(slot);
        self.caches().references().retain(1);
        Some(bin.hand_out(slot, holder))
    }

    /// Puts a raw buffer of any class that any thread got. The size is the one asked for, or another of the class.
    /// `false`: nothing was done, the pool must look.
    fn put(&self, guard: &ForkGuard, address: usize, size: PutSize) -> bool {
        let Some((bin, slot)) = self.slot_of(address) else { return false };
        let found = bin.mark(slot).load(Relaxed);
        let Some(requested) = ledger::raw_size(found) else { return false };
        let fits = match size {
            PutSize::Unsized => true,
            // In a pool that rounds no bin is found, so the pool must look.
            PutSize::Sized(size) => size == requested || ptr::eq(self.bin_for(size), bin),
        };
        if !fits {
            return false;
        }
        if bin.is_mixed(found) {
            let class = self.class_of(bin);
            if class.bias.is_cooling() {
                bin.cool_down();
            } else if !class.has_excess() {
                return self.put_mixed(bin, slot, found);
            }
        }
        if !self.has_room_or_flush(bin) {
            return false;
        }
        let found = if ledger::is_biased_to_another(found, self.bias) {
            self.class_of(bin).end_bias(guard, slot as u32, found);
            bin.cool_down();
            ledger::without_bias(found)
        } else {
            found
        };
        let taken = bin.exchange(address, slot, found);
        // A thread that does not fill looks once in a batch, too.
        if taken && bin.is_look_due() {
            self.choose_bias(bin, MAX_BATCH);
        }
        taken
    }

    pub(super) fn fill(&self, bin: &Bin) {
        debug_assert_eq!(bin.len(), 0);
        bin.grow(self.class_of(bin));
        if bin.quota() > 0 {
            self.choose_bias(bin, bin.batch());
            self.take_batch(bin);
        }
    }

    /// Looks whether the class is biased. Called once for each batch, of so many slots.
    ///
    /// While a class cools down, threads mix its slots: then they write marks of one cache line. When the cooldown is
    /// over, each gives what it has to the shelf, and takes neighbours from there. What is out follows as it is put.
    fn choose_bias(&self, bin: &Bin, slots: usize) {
        let class = self.class_of(bin);
        let Some(cooldowns_over) = class.bias.tick(slots as u32) else { return bin.cool_down() };
        bin.warm_up(self.bias);
        if !class.has_excess() && bin.note_cooldowns(cooldowns_over) {
            self.move_all_to_shelf(bin);
            // The next batch does not begin with what these share with others.
            bin.shelf_group.store(NO_GROUP, Relaxed);
        }
    }

    /// Puts a [mixed](Bin::is_mixed) slot to the shelf, with its reference. `false`: nothing was done.
    fn put_mixed(&self, bin: &Bin, slot: usize, found: Mark) -> bool {
        let taken = bin.take_mixed(slot, found);
        if taken {
            self.class_of(bin).shelf.put(slot as u32);
            self.caches().references().release_some(1);
        }
        taken
    }

    /// Takes a batch from the shelf, if there is any.
    fn take_batch(&self, bin: &Bin) {
        let mut batch = [0; MAX_BATCH];
        let batch = &mut batch[..bin.batch().min(bin.free_room())];
        let class = self.class_of(bin);
        class.sample_peak();
        let got = class.shelf.take_idle_batch(batch, &bin.shelf_group);
        if got > 0 {
            self.caches().references().retain(got as u64);
            class.counters.moves.fetch_add(1, Relaxed);
            bin.push(&batch[..got]);
        }
    }

    /// Whether a bin has room. If it has none, it grows, or gives the slots that were put first back to the shelf: half
    /// of the bin, at most [`MAX_BATCH`]. It does neither while the shelf has an excess: then the pool gives some back
    /// to the system.
    pub(super) fn has_room_or_flush(&self, bin: &Bin) -> bool {
        if bin.has_room() || !bin.may_cache() || self.class_of(bin).has_excess() {
            return bin.has_room();
        }
        bin.grow(self.class_of(bin));
        if !bin.has_room() {
            self.move_to_shelf(bin, bin.batch().min(bin.len()));
        }
        bin.has_room()
    }

    /// Puts slots, with their references, to the shelf.
    fn put_batch(&self, bin: &Bin, slots: &[u32]) {
        let class = self.class_of(bin);
        class.shelf.put_batch(slots, &bin.shelf_group);
        class.counters.moves.fetch_add(1, Relaxed);
        self.caches().references().release_some(slots.len() as u64);
    }

    /// Moves the first `count` slots of a bin to the shelf, with their references. At most [`MAX_BATCH`].
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
