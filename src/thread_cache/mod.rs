//! Thread caches: each thread keeps idle slots of the pools it uses, and gets and puts them without writing a
//! line that another thread reads.
//!
//! - [`way`]: one thread-local pointer leads to the thread's block
//! - [`block`]: the block leads from a key (a context, or a pool) to a cache
//! - [`cache`]: slot numbers by class, and the fast path
//! - [`barrier`]: the fence that lets the fast path do without one
//!
//! Here is the pool's side: the list of its caches, making one, and taking all away again (**revoke**). Locks
//! are taken in this order: a pool's list, then a block's table. Neither is taken on the fast path, nor while
//! a block is active.

mod barrier;
mod block;
mod cache;
mod way;

use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::block::{Block, own_block};
use self::cache::Cache;
pub(crate) use self::cache::CachingRoom;
use crate::ledger::Mark;
use crate::shared::{Buffer, PutSize, Shared};

/// After a revoke at the limit, this many operations go to the shelf before threads may cache again, lest
/// each get revoke anew.
const SCARCE_OPERATIONS: u32 = 4096;

/// The caches that threads have of one pool.
pub(crate) struct Caches {
    list: Mutex<Vec<CachePointer>>,
    allowed: bool,
    /// Operations left without caching.
    scarce: AtomicU32,
}

#[derive(Clone, Copy)]
struct CachePointer(NonNull<Cache>);

// SAFETY:
// - a cache is Send and Sync
unsafe impl Send for CachePointer {}

impl CachePointer {
    fn get(&self) -> &Cache {
        // SAFETY:
        // - a cache is freed only when it leaves the list, under the list's lock, which callers hold
        unsafe { self.0.as_ref() }
    }
}

/// The fast path: no lock, no shared write. `key` is [`Shared::cache_key`] or a context.
#[inline(always)]
pub(crate) fn get(key: u64, size: usize, mark: Mark) -> Option<Buffer> {
    let (cache, _active) = way::block().find_first(key)?;
    cache.get(size, mark)
}

/// As [`get`], wherever the key is in the table, and with a batch from the shelf if the bin is empty.
#[cold]
pub(crate) fn get_or_fill(key: u64, size: usize, mark: Mark) -> Option<Buffer> {
    let (cache, _active) = way::block().find(key)?;
    cache.get_or_fill(size, mark)
}

/// Puts a raw buffer that was asked for with exactly this size. `false`: nothing was done, the pool must
/// look.
#[inline(always)]
pub(crate) fn put_exact(key: u64, data: NonNull<u8>, size: usize) -> bool {
    let Some((cache, _active)) = way::block().find_first(key) else { return false };
    cache.put_exact(data.addr().get(), size)
}

/// Puts a raw buffer of any size that fits. `false`: nothing was done, the pool must look.
#[inline]
pub(crate) fn put_inexact(key: u64, data: NonNull<u8>, size: PutSize) -> bool {
    let Some((cache, _active)) = way::block().find(key) else { return false };
    cache.put_inexact(data.addr().get(), size)
}

/// Puts the slot of a `PooledBuffer`. `false`: nothing was done, the pool must look.
#[inline(always)]
pub(crate) fn put_owned(key: u64, class: u8, slot: u32) -> bool {
    let Some((cache, _active)) = way::block().find_first(key) else { return false };
    cache.put_owned(usize::from(class), slot)
}

/// As [`put_owned`], wherever the key is in the table, and with a batch to the shelf if the bin is full.
pub(crate) fn put_owned_or_flush(key: u64, class: usize, slot: u32) -> bool {
    let Some((cache, _active)) = way::block().find(key) else { return false };
    cache.put_owned_or_flush(class, slot)
}

/// As [`get_or_fill`], for a class that is known.
pub(crate) fn get_of_class(key: u64, class: usize, mark: Mark) -> Option<Buffer> {
    let (cache, _active) = way::block().find(key)?;
    cache.get_of_class_or_fill(class, mark)
}

/// A fresh slot of a class for this thread. `None`: this thread has no cache, or there is none.
pub(crate) fn take_fresh(key: u64, class: usize) -> Option<u32> {
    let (cache, _active) = way::block().find(key)?;
    if cache.is_none() { None } else { cache.take_fresh(class) }
}

/// Whether `key` leads this thread to a cache.
fn is_attached(key: u64) -> bool {
    way::block().find(key).is_some_and(|(cache, _active)| !cache.is_none())
}

impl Caches {
    pub(crate) fn new(allowed: bool) -> Self {
        // Registering for the fence takes the kernel milliseconds once a process has threads: rather now than in the
        // first get.
        let allowed = allowed && barrier::is_available();
        Self { list: Mutex::new(Vec::new()), allowed, scarce: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CachePointer>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads `key` to this thread's cache of `pool`, made if it has none. Where none can be made, the shelf
    /// serves.
    ///
    /// `is_valid` is asked under the lock that [`detach`](Self::detach) takes too: a key that is given up is
    /// not led anywhere afterwards.
    #[cold]
    pub(crate) fn attach(&self, pool: &Shared, key: u64, is_valid: impl FnOnce() -> bool) {
        if !self.allowed || is_attached(key) {
            return;
        }
        // Relaxed: a rough count of operations.
        if self.scarce.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return;
        }
        let Some(block) = own_block() else { return };
        let mut list = self.lock();
        // The closing thread closes first and then takes this lock to revoke: no cache is made behind its
        // back.
        if pool.is_closed() || !is_valid() {
            return;
        }
        let of_this_thread = list.iter().find(|cache| ptr::eq(cache.get().block(), block)).copied();
        let cache = match of_this_thread {
            Some(cache) => cache,
            None => {
                if list.try_reserve(1).is_err() {
                    return;
                }
                let Some(cache) = Cache::new(pool, block) else { return };
                list.push(CachePointer(cache));
                CachePointer(cache)
            }
        };
        block.set(key, cache.0);
    }

    /// Makes `key` lead nowhere, on all threads, before this returns.
    #[cfg(feature = "capi")]
    pub(crate) fn detach(&self, key: u64) {
        for cache in self.lock().iter() {
            cache.get().block().take_away(cache.0, Some(key));
        }
    }

    /// Takes all caches away and lays what they held on the shelf. The caller has a reference to the pool.
    pub(crate) fn revoke(&self) {
        let mut list = self.lock();
        if list.is_empty() {
            return;
        }
        for cache in list.iter() {
            cache.get().block().take_away(cache.0, None);
        }
        barrier::fence_all_threads();
        for cache in list.drain(..) {
            cache.get().block().wait_until_inactive();
            // SAFETY:
            // - made by Cache::new, out of all entries, and its thread is not using it: it was inactive after
            //   the fence, and any later use finds the entry without it
            unsafe { Cache::end(cache.0) };
        }
    }

    /// As [`revoke`](Self::revoke), and the next operations do without caches. Whether there were any.
    pub(crate) fn revoke_at_limit(&self) -> bool {
        // Relaxed: a rough count of operations.
        self.scarce.store(SCARCE_OPERATIONS, Relaxed);
        let had_some = !self.lock().is_empty();
        self.revoke();
        had_some
    }

    /// Ends the cache of a thread whose thread-locals are torn down; called on that thread.
    fn give_up(&self, block: &'static Block) {
        let mut list = self.lock();
        let Some(place) = list.iter().position(|cache| ptr::eq(cache.get().block(), block)) else { return };
        let cache = list.swap_remove(place);
        block.take_away(cache.0, None);
        // SAFETY:
        // - made by Cache::new and out of all entries; its thread is this one, here
        unsafe { Cache::end(cache.0) };
    }

    /// What the caches hold of each class, and the puts they counted, added to `add(class, held, puts)`.
    ///
    /// Exact at a quiet moment: then no thread is inside a call, and what each wrote last is visible to
    /// whoever knows that.
    pub(crate) fn count(&self, classes: usize, mut add: impl FnMut(usize, u32, u64)) {
        for cache in self.lock().iter() {
            for class in 0..classes {
                add(class, cache.get().held(class), cache.get().puts(class));
            }
        }
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        debug_assert!(self.lock().is_empty(), "a pool ends closed, and closing takes all caches away");
    }
}
