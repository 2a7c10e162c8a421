//! Thread caches: each thread keeps idle slots of the pools it uses, and gets and puts them without writing a
//! line that another thread reads.
//!
//! - [`way`]: one thread-local pointer leads to the thread's block
//! - [`block`]: the block leads from a key (a context, or a pool) to a cache
//! - [`cache`]: a bin per class, and the fast path
//! - [`bin`]: idle slots of one class
//! - [`leaning`]: whether puts are to be cheap, or hand-overs
//!
//! Here is the pool's side: the list of its caches, making one, and taking all away again (**revoke**). Locks
//! are taken in this order: a pool's list, then a block's table. Neither is taken on the fast path, nor while
//! a block is active.

mod bin;
mod block;
mod cache;
mod leaning;
mod way;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "capi")]
use std::ffi::c_void;
use std::ptr;

pub(crate) use self::bin::CachingRoom;
pub(crate) use self::bin::{Bin, LARGE};
pub(crate) use self::block::Block;
pub(crate) use self::block::key_of;
#[cfg(feature = "capi")]
pub(crate) use self::block::product_of;
pub(crate) use self::block::wait_for_getters;
pub(crate) use self::block::{all_sections, cut_all_ways, forget_other_threads, note_forked, own_sections};
use self::block::{is_of_other_thread, own_block};
pub(crate) use self::cache::Tried;
use self::cache::{BinOffset, CacheRef, Count, bins_of_chunks};
pub(crate) use self::leaning::Leaning;
use crate::barrier;
use crate::fork;
use crate::ledger::{self, Holder, Mark};
use crate::memory::OutOfMemory;
use crate::shared::{Buffer, PutSize, Shared};

/// After a revoke at the limit or for a waiter, this many operations go to the shelf before threads may cache again, lest
/// each get revoke anew.
const SCARCE_OPERATIONS: u32 = if cfg!(bytepool_shuttle) { 2 } else { 4096 };

/// The caches that threads have of one pool.
pub(crate) struct Caches {
    list: Mutex<Vec<CacheRef>>,
    bin_of_chunk: Box<[BinOffset]>,
    allowed: bool,
    /// No cache is made while a get at the limit looks for idle slots. Changed under the list's lock.
    paused: AtomicBool,
    /// Operations left without caching.
    scarce: AtomicU32,
}

/// The fast path: no lock, no shared write. `key` is [`Shared::cache_key`] or a context.
#[inline(always)]
pub(crate) fn get(key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    let block = way::block();
    let (cache, _active) = block.enter(block.first(key)?);
    cache.get(size, holder)
}

/// Puts a raw buffer with the size it was asked for or another of its class, if this thread got it.
#[inline(always)]
pub(crate) fn try_put(key: u64, address: usize, size: usize) -> Tried {
    let block = way::block();
    let Some(entry) = block.first(key) else { return Tried::Nothing };
    let (cache, active) = block.enter(entry);
    let tried = cache.put(address, size);
    if let Tried::NotOwn { .. } = tried {
        active.stay();
    }
    tried
}

/// Goes on where [`try_put`] found a buffer that this thread did not get: puts it, unless another thread got it.
/// `false`: nothing was done, the pool must look.
///
/// # Safety
/// - `try_put` gave `bin` and `slot` for this address, and this thread has used no cache since
#[inline(always)]
pub(crate) unsafe fn put_not_own(bin: *const Bin, address: usize, slot: usize) -> bool {
    // SAFETY:
    // - it stayed active in `try_put` (caller), so the bin is there
    let (_active, bin) = unsafe { (way::block().still_active(), &*bin) };
    bin.put_not_own(address, slot)
}

/// [`try_put`], and [`put_not_own`] if need be. `false`: nothing was done, the pool must look.
#[inline(always)]
pub(crate) fn put(key: u64, address: usize, size: usize) -> bool {
    #[cold]
    #[inline(never)]
    fn decide(bin: *const Bin, address: usize, slot: usize) -> bool {
        // SAFETY:
        // - just given by `try_put`, below
        unsafe { put_not_own(bin, address, slot) }
    }
    match try_put(key, address, size) {
        Tried::Put => true,
        Tried::NotOwn { bin, slot } => decide(bin, address, slot),
        Tried::Nothing => false,
    }
}

/// As [`put`], whatever the size.
#[inline(always)]
pub(crate) fn put_unsized(key: u64, address: usize) -> bool {
    let block = way::block();
    let Some(entry) = block.first(key) else { return false };
    let (cache, _active) = block.enter(entry);
    cache.put_unsized(address)
}

/// Puts the slot of a `PooledBuffer`. `false`: nothing was done, the pool must look; as also for a number that no class
/// has.
#[inline(always)]
pub(crate) fn put_owned(key: u64, address: usize, class: u32, slot: u32) -> bool {
    let block = way::block();
    let Some(entry) = block.first(key) else { return false };
    let (cache, _active) = block.enter(entry);
    cache.put_owned(address, class, slot)
}

/// What `using` makes of this thread's cache, wherever the key is in the table.
fn with_cache<R>(key: u64, using: impl FnOnce(CacheRef) -> R) -> Option<R> {
    let block = way::block();
    let (cache, _active) = block.enter_slowly(block.find(key)?);
    (!cache.is_none()).then(|| using(cache))
}

/// As [`get`], wherever the key is, and with a batch from the shelf if the bin is empty; from the pool's spare if
/// the class is used up.
pub(crate) fn get_or_fill(key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    with_cache(key, |cache| cache.get_or_fill(size, holder))?
        .or_else(|spare| {
            let cached = with_cache(spare.ok_or(())?, |cache| cache.get_or_fill(size, holder));
            cached.and_then(Result::ok).map(Buffer::of_spare).ok_or(())
        })
        .ok()
}

/// As [`get_or_fill`], for a class that is known.
pub(crate) fn get_of_class(key: u64, class: usize, holder: Holder) -> Option<Buffer> {
    with_cache(key, |cache| cache.get_of_class(class, holder))?
}

/// When a put by another thread than the getter is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Now,
    /// If the getter puts it at the same moment, one of the two puts is found out later, and only counted.
    Later,
}

/// As [`put`] or [`put_unsized`], wherever the key is, and whoever got the buffer. One of the pool's spare, too, while
/// this thread's cache has room for it.
pub(crate) fn put_anywhere(key: u64, address: usize, size: PutSize, verdict: Verdict) -> bool {
    match with_cache(key, |cache| (cache.put_anyhow(address, size, verdict), cache.spare_key())) {
        Some((false, Some(spare))) => match size {
            PutSize::Sized(size) => {
                put(spare, address, size)
                    || verdict == Verdict::Later && put_any_getters(spare, address, size)
            }
            PutSize::Unsized => put_unsized(spare, address),
        },
        done => done.is_some_and(|(is_put, _)| is_put),
    }
}

/// At most this many buffers in one use of a cache, lest it keep a thread that revokes waiting.
#[cfg(feature = "capi")]
const MOST_AT_ONCE: usize = 64;

/// Gets raw buffers into `out` while the class has idle slots; how many.
#[cfg(feature = "capi")]
pub(crate) fn get_many(key: u64, size: usize, out: &mut [*mut c_void]) -> usize {
    let mut got = 0;
    for part in out.chunks_mut(MOST_AT_ONCE) {
        let of_part = with_cache(key, |cache| cache.get_many(size, part)).unwrap_or(0);
        got += of_part;
        if of_part < part.len() {
            break;
        }
    }
    got
}

/// Puts raw buffers that this thread got, up to the first that is not such a one; how many.
#[cfg(feature = "capi")]
pub(crate) fn put_many(key: u64, data: &[*mut c_void], size: usize) -> usize {
    let block = way::block();
    let Some(entry) = block.find(key) else { return 0 };
    let mut put = 0;
    loop {
        let part = &data[put..data.len().min(put + MOST_AT_ONCE)];
        let of_part = {
            let (cache, _active) = block.enter(entry);
            cache.put_many(part, size)
        };
        put += of_part;
        let goes_on = of_part == part.len() || with_cache(key, |cache| cache.flush_full(size)) == Some(true);
        if put == data.len() || !goes_on {
            return put;
        }
    }
}

/// As [`put`], whoever got the buffer and however large it is; if nothing stands in the way. The first part of
/// [`put_anywhere`], for hand-overs.
pub(crate) fn put_any_getters(key: u64, address: usize, size: usize) -> bool {
    let block = way::block();
    let Some(entry) = block.first(key) else { return false };
    let (cache, _active) = block.enter(entry);
    cache.put_any_getters(address, size)
}

/// Settles this thread's claims; how many did not stand since its cache was made.
#[cfg(feature = "capi")]
pub(crate) fn count_lost_claims(key: u64) -> u32 {
    let count = |key| with_cache(key, |cache| (cache.count_lost_claims(), cache.spare_key()));
    let (lost, spare) = count(key).unwrap_or((0, None));
    lost + spare.and_then(count).map_or(0, |(lost, _)| lost)
}

/// What this thread adds to the marks of slots it gets from a cache; 0 if it has none.
pub(crate) fn own_getter() -> Mark {
    ledger::getter(way::block().number())
}

/// As [`put_owned`], for a slot of the pool's spare.
pub(crate) fn put_owned_spare(key: u64, address: usize, class: u8, slot: u32) -> bool {
    let spare = with_cache(key, |cache| cache.spare_key()).flatten();
    spare.is_some_and(|spare| put_owned(spare, address, class.into(), slot))
}

/// As [`put_owned`], wherever the key is, and with a batch to the shelf if the bin is full.
pub(crate) fn put_owned_or_flush(key: u64, address: usize, class: u8, slot: u32) -> bool {
    with_cache(key, |cache| cache.put_owned_or_flush(address, class, slot)).unwrap_or(false)
}

/// A fresh slot of a class for this thread. `None`: this thread has no cache, or there is none.
pub(crate) fn take_fresh(key: u64, class: usize) -> Option<u32> {
    with_cache(key, |cache| cache.take_fresh(class))?
}

/// Whether `key` leads this thread to a cache.
fn is_attached(key: u64) -> bool {
    with_cache(key, |_| ()).is_some()
}

impl Caches {
    pub(crate) fn new(allowed: bool, class_of_chunk: &[u8]) -> Result<Self, OutOfMemory> {
        // Registering for the fence takes the kernel milliseconds once a process has threads: rather now than
        // in the first get.
        let allowed = allowed && barrier::is_available();
        Ok(Self {
            list: Mutex::new(Vec::new()),
            bin_of_chunk: bins_of_chunks(class_of_chunk)?,
            allowed,
            paused: AtomicBool::new(false),
            scarce: AtomicU32::new(0),
        })
    }

    /// Whether threads may have caches at all.
    pub(crate) fn are_allowed(&self) -> bool {
        self.allowed
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CacheRef>> {
        debug_assert!(fork::is_inside());
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads `key` to this thread's cache of `pool`, made if it has none. Where none can be made, the shelf
    /// serves.
    ///
    /// `is_valid` is asked under the lock that [`detach`](Self::detach) takes too: a key that is given up is
    /// not led anywhere afterwards.
    #[cold]
    pub(crate) fn attach(&self, pool: &Shared, key: u64, is_valid: impl FnOnce() -> bool) {
        if !self.allowed || pool.has_waiters() || is_attached(key) {
            return;
        }
        // The pool's own key too: what does not come through a context uses it.
        let keys = [pool.cache_key(), key];
        // Relaxed: a rough count of operations.
        if self.scarce.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return;
        }
        let Some(block) = own_block() else { return };
        let mut list = self.lock();
        // The closing thread closes first and then takes this lock to revoke: no cache is made behind its
        // back. So does a waiter: it counts itself, and then revokes.
        // Relaxed: changed under this lock.
        if pool.is_closed() || pool.has_waiters() || self.paused.load(Relaxed) || !is_valid() {
            return;
        }
        let of_this_thread = list.iter().find(|cache| ptr::eq(cache.block(), block)).copied();
        let cache = match of_this_thread {
            Some(cache) => cache,
            None => {
                if list.try_reserve(1).is_err() {
                    return;
                }
                let Some(cache) = CacheRef::new(pool, block) else { return };
                list.push(cache);
                cache
            }
        };
        // The one in demand last, lest the other take its place.
        let evicted = keys.map(|key| if is_attached(key) { None } else { block.set(key, cache) });
        drop(list);
        for other in evicted.into_iter().flatten() {
            other.caches().give_up(block);
        }
    }

    /// Makes `key` lead nowhere, on all threads, before this returns.
    #[cfg(feature = "capi")]
    pub(crate) fn detach(&self, key: u64) {
        for cache in self.lock().iter() {
            cache.block().take_away(*cache, Some(key));
        }
    }

    /// Takes all caches away and lays what they held on the shelf. The caller has a reference to the pool.
    pub(crate) fn revoke(&self) {
        let mut list = self.lock();
        if list.is_empty() {
            return;
        }
        for cache in list.iter() {
            cache.block().take_away(*cache, None);
        }
        barrier::fence_all_threads();
        for cache in list.drain(..) {
            cache.block().wait_until_inactive();
            // SAFETY:
            // - made by CacheRef::new, out of all entries, and its thread is not using it: it was inactive
            //   after the fence, and any later use finds the entry without it
            unsafe { cache.end() };
        }
    }

    /// Takes all caches away if they hold slots of a class that are *large*: rather than touch fresh memory of that size,
    /// or ask the system for it.
    pub(crate) fn recover_large(&self, class: usize, slot_size: usize) {
        // The calling thread's own bin is empty.
        if slot_size > LARGE && self.lock().iter().any(|cache| cache.count(class).held > 0) {
            self.revoke();
        }
    }

    /// As [`revoke`](Self::revoke), and no cache is made until the pause is dropped, nor by the next
    /// operations.
    pub(crate) fn revoke_and_pause(&self) -> Pause<'_> {
        self.set_paused(true);
        self.revoke();
        Pause(self)
    }

    /// The next operations go to the shelf.
    pub(crate) fn stay_scarce(&self) {
        // Relaxed: a rough count of operations.
        self.scarce.store(SCARCE_OPERATIONS, Relaxed);
    }

    fn set_paused(&self, paused: bool) {
        let _list = self.lock();
        self.paused.store(paused, Relaxed);
    }

    /// Ends the calling thread's cache, as its thread-locals are torn down or its block has no place for it.
    pub(crate) fn give_up(&self, block: &'static Block) {
        let mut list = self.lock();
        let Some(place) = list.iter().position(|cache| ptr::eq(cache.block(), block)) else { return };
        let cache = list.swap_remove(place);
        block.take_away(cache, None);
        // SAFETY:
        // - made by CacheRef::new and out of all entries; its thread is this one, here
        unsafe { cache.end() };
    }

    /// In a child of `fork`: ends the caches of threads that it does not have.
    pub(crate) fn end_all_of_other_threads(&self) {
        self.lock().retain(|cache| {
            let is_left = is_of_other_thread(cache.block());
            if is_left {
                // SAFETY:
                // - made by CacheRef::new; the forking thread took it out of all entries and waited until
                //   nobody used it
                unsafe { cache.end() };
            }
            !is_left
        });
    }

    /// What each cache has of each class, given to `add`.
    ///
    /// Exact at a quiet moment: then no thread is inside a call, and what each wrote last is visible to
    /// whoever knows that.
    pub(crate) fn count(&self, classes: usize, mut add: impl FnMut(usize, Count)) {
        for cache in self.lock().iter() {
            for class in 0..classes {
                add(class, cache.count(class));
            }
        }
    }
}

/// A get at the limit is looking for idle slots; see [`Caches::revoke_and_pause`].
pub(crate) struct Pause<'a>(&'a Caches);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.stay_scarce();
        self.0.set_paused(false);
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        debug_assert!(self.lock().is_empty(), "a pool ends closed, and closing takes all caches away");
    }
}
