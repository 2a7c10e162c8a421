//! The caches that threads have of one pool: the list of them, making one, and taking all away again (**revoke**).
//!
//! Locks are taken in this order: a pool's list, then a block's table. Neither is taken on the fast path, nor while a
//! block is active.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::ptr;

use super::block::forks::is_of_other_thread;
use super::block::{Block, own_block};
use super::cache::{BinOffset, CacheRef, Count, bins_of_chunks};
use super::is_attached;
use super::room::LARGE;
use crate::barrier;
use crate::fork;
use crate::memory::OutOfMemory;
use crate::shared::Shared;
use crate::size_class::FINE_STEPS;

/// After a revoke at the limit or for a waiter, this many operations go to the shelf before threads may cache again, lest
/// each get revoke anew.
const SCARCE_OPERATIONS: u32 = if cfg!(bytepool_shuttle) { 2 } else { 4096 };

/// The caches that threads have of one pool.
pub(crate) struct Caches {
    list: Mutex<Vec<CacheRef>>,
    pub(super) bin_of_chunk: Box<[BinOffset]>,
    pub(super) bin_of_step: [BinOffset; FINE_STEPS],
    allowed: bool,
    /// No cache is made while a get at the limit looks for idle slots. Changed under the list's lock.
    paused: AtomicBool,
    /// Operations left without caching.
    scarce: AtomicU32,
}

impl Caches {
    pub(crate) fn new(
        allowed: bool,
        class_of_chunk: &[u8],
        bin_of_step: [BinOffset; FINE_STEPS],
    ) -> Result<Self, OutOfMemory> {
        // Registering for the fence takes the kernel milliseconds once a process has threads: rather now than
        // in the first get.
        let allowed = allowed && barrier::is_available();
        Ok(Self {
            list: Mutex::new(Vec::new()),
            bin_of_chunk: bins_of_chunks(class_of_chunk)?,
            bin_of_step,
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
            other.give_up_cache(block);
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
