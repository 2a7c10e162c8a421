//! What a thread's entries lead to: caches are attached, displaced, evicted and detached. All of it happens under the
//! state's lock. Only the owner attaches; any thread may detach.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::ptr::{self, NonNull};

use super::lifetime::all;
use super::{AnyCache, ThreadState, fence_all_threads, first_position, positions, unused_key};
use crate::os::barrier;
use crate::os::bits::bits_of;
use crate::os::fork::ForkGuard;
use crate::os::lock::Locked;

/// The owner's side.
impl ThreadState {
    /// Leads `key` to `cache` from now on. The key leads to no other cache, and the state is not active.
    ///
    /// `fast` says whether the fast path may find it, as the heavy fence allows. Nothing happens if that has changed.
    /// `own_key` tells a cache's own key, which is no context. If another cache has to be evicted, `keep` is called
    /// with it while it is sure to exist, and its result is returned.
    pub(crate) fn attach<R>(
        &self,
        guard: &ForkGuard,
        key: u64,
        cache: NonNull<AnyCache>,
        fast: bool,
        own_key: impl Fn(NonNull<AnyCache>) -> u64,
        keep: impl FnOnce(NonNull<AnyCache>) -> R,
    ) -> Option<R> {
        let _changing = self.lock(guard);
        // Under the lock: so the thread that gives up detaches this cache, or is seen here.
        if fast != barrier::is_in_use() {
            return None;
        }
        if !fast {
            self.forget_first(key);
        }
        let positions = || positions(key).skip(usize::from(!fast));
        // Reuse the key's entry; else take the first free position; else evict.
        let same = positions().find(|&at| self.entries[at].key.load(Relaxed) == key);
        if fast && same.is_none() {
            self.displace(key, own_key);
        }
        let free = || positions().find(|&at| self.cache_at(at).is_none());
        let at = same.or_else(free).or_else(|| positions().next())?;
        let evicted = self.cache_at(at).filter(|&other| other != cache).map(keep);
        self.lead(at, cache.as_ptr());
        self.entries[at].key.store(key, Relaxed);
        evicted
    }

    /// Makes the entry at the first position of `key` unused if it is the key's, from before the heavy fence was
    /// refused. It leads nowhere since. Under the lock.
    fn forget_first(&self, key: u64) {
        let at = first_position(key);
        if self.entries[at].key.load(Relaxed) == key {
            debug_assert!(self.cache_at(at).is_none());
            self.entries[at].key.store(unused_key(at), Relaxed);
            self.lead(at, ptr::null_mut());
        }
    }

    /// Moves a cache's own key off the first position of `key`, which is more in demand. Under the lock.
    fn displace(&self, key: u64, own_key: impl Fn(NonNull<AnyCache>) -> u64) {
        let at = first_position(key);
        let entry = &self.entries[at];
        let other = entry.key.load(Relaxed);
        let is_own = self.cache_at(at).is_some_and(|cache| own_key(cache) == other && other != key);
        if let Some(to) = is_own.then(|| self.free_position(other)).flatten() {
            self.lead(to, entry.cache.load(Relaxed));
            self.entries[to].key.store(other, Relaxed);
            entry.key.store(unused_key(at), Relaxed);
            self.lead(at, ptr::null_mut());
        }
    }

    fn free_position(&self, key: u64) -> Option<usize> {
        positions(key).find(|&at| self.cache_at(at).is_none())
    }
}

/// Any thread's side.
impl ThreadState {
    /// The cache of an entry. Under the lock a cache that is still in an entry was not detached. So it exists, and so
    /// does its pool: a pool ends only after it detached all its caches, and keeps a reference meanwhile.
    fn cache_at(&self, at: usize) -> Option<NonNull<AnyCache>> {
        let cache = NonNull::new(self.entries[at].cache.load(Relaxed))?;
        (cache.as_ptr() != self.nowhere.load(Relaxed)).then_some(cache)
    }

    /// Makes an entry lead to a cache, or to none. Under the lock.
    fn lead(&self, at: usize, cache: *mut AnyCache) {
        // Relaxed: where a cache is detached, the heavy fence that follows orders it against `enter`.
        self.entries[at].cache.store(cache, Relaxed);
        let (word, bit) = (&self.occupied[at / u64::BITS as usize], 1 << (at % u64::BITS as usize));
        let others = word.load(Relaxed) & !bit;
        word.store(if self.cache_at(at).is_some() { others | bit } else { others }, Relaxed);
    }

    /// The positions of the entries that lead to a cache. Under the lock.
    fn occupied(&self) -> impl Iterator<Item = usize> {
        let of_word = |(index, word): (usize, &AtomicU64)| {
            bits_of(word.load(Relaxed)).map(move |bit| index * u64::BITS as usize + bit as usize)
        };
        self.occupied.iter().enumerate().flat_map(of_word)
    }

    fn lock<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, ()> {
        self.changing.lock(guard)
    }

    /// Detaches a cache from all its keys, or only from `key`.
    pub(crate) fn detach(&self, guard: &ForkGuard, cache: NonNull<AnyCache>, key: Option<u64>) {
        let _changing = self.lock(guard);
        for at in self.occupied() {
            let entry = &self.entries[at];
            if entry.cache.load(Relaxed) == cache.as_ptr()
                && key.is_none_or(|key| entry.key.load(Relaxed) == key)
            {
                self.lead(at, self.nowhere.load(Relaxed));
            }
        }
    }

    /// What `keep` makes of some cache that an entry leads to, while it is sure to exist.
    pub(crate) fn some_cache<R>(
        &self,
        guard: &ForkGuard,
        keep: impl FnOnce(NonNull<AnyCache>) -> R,
    ) -> Option<R> {
        let _changing = self.lock(guard);
        self.occupied().find_map(|at| self.cache_at(at)).map(keep)
    }

    /// Whether a fork, or the loss of the heavy fence, detached caches since this was asked last. Then the pools' lists
    /// may still have some of this thread.
    pub(crate) fn take_was_detached(&self) -> bool {
        // Relaxed: the asking thread took the lock since.
        self.was_detached.swap(false, Relaxed)
    }
}

/// Detaches every thread's caches, and waits until no thread uses one. No other thread has a guard, so no cache is
/// attached meanwhile. The caches stay in their pools' lists.
pub(in crate::os) fn detach_all(guard: &ForkGuard) {
    detach_from_all(guard);
    fence_all_threads(guard);
    all().for_each(ThreadState::wait_until_inactive);
}

pub(super) fn detach_from_all(guard: &ForkGuard) {
    for state in all() {
        let _changing = state.lock(guard);
        for at in state.occupied() {
            state.lead(at, state.nowhere.load(Relaxed));
            // Relaxed: the owner takes the lock before it asks.
            state.was_detached.store(true, Relaxed);
        }
    }
}
