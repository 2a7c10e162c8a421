//! The caches that threads have of one pool: the list of them, making one, and draining them all.
//!
//! Locks are taken in this order: a pool's list, then a thread's state. Neither is taken on the fast path. A list is
//! never locked while the thread's state is active.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32};
use std::ptr::{self, NonNull};

use super::thread_cache::{BinOffset, CacheRef, Count, bins_of_chunks, bins_of_steps};
use crate::class::Class;
use crate::class::index::STEPS;
use crate::class::quota::LARGE;
use crate::class::table::Classes;
use crate::os::anchor::References;
use crate::os::barrier;
use crate::os::fork::{self, ForkGuard};
use crate::os::lock::{Lock, Locked};
use crate::os::memory::{self, OutOfMemory};
use crate::os::thread_state::{self, AnyCache, ThreadState};

/// After a drain at the limit or for a waiter, this many operations go to the shelf. Otherwise each get at the limit
/// would drain anew.
const PAUSE_OPERATIONS: u32 = if cfg!(bytepool_shuttle) { 2 } else { 4096 };

/// The caches that threads have of one pool.
pub(crate) struct Caches {
    list: Lock<Vec<CacheRef>>,
    /// The process whose caches the list has. In a child of a fork that is the parent, until the child uses the list.
    /// Changed under the list's lock.
    generation: AtomicU32,
    /// The key of the pool's own, besides contexts. Never 0.
    own_key: u64,
    references: References,
    /// What the layers above know the pool by. Set with the first cache.
    owner: AtomicPtr<()>,
    allowed: bool,
    /// No cache is made while a get at the limit looks for idle slots. Changed under the list's lock.
    paused: AtomicBool,
    /// Operations left of the pause.
    pause_left: AtomicU32,
    pub(super) bin_of_chunk: Box<[BinOffset]>,
    /// In a box, as it is large.
    pub(super) bin_of_step: Box<[BinOffset; STEPS]>,
}

/// The owner of a cache that had to go, with a reference to it: the pool, as the layers above know it.
pub(crate) type Evicted = NonNull<()>;

impl Caches {
    /// The caches of a pool with these classes. `rounds`: the user's function rounds its requests.
    pub(crate) fn new(
        allowed: bool,
        classes: &Classes,
        rounds: bool,
        own_key: u64,
        references: References,
    ) -> Result<Self, OutOfMemory> {
        // Registering for the heavy fence takes the kernel milliseconds once a process has threads. So it is done here,
        // not in the first get.
        if allowed {
            barrier::prepare();
        }
        Ok(Self {
            list: Lock::new(Vec::new()),
            generation: AtomicU32::new(fork::generation()),
            own_key,
            references,
            owner: AtomicPtr::new(ptr::null_mut()),
            allowed,
            paused: AtomicBool::new(false),
            pause_left: AtomicU32::new(0),
            bin_of_chunk: bins_of_chunks(classes.class_of_chunk())?,
            bin_of_step: memory::boxed(|| Ok::<_, OutOfMemory>(bins_of_steps(classes.index(), rounds)))?,
        })
    }

    pub(super) fn references(&self) -> References {
        self.references
    }

    /// Locks the list. In a child of a fork it first ends the caches of threads that only the parent has.
    fn lock<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, Vec<CacheRef>> {
        let mut list = self.list.lock(guard);
        // Relaxed: changed under this lock.
        if self.generation.load(Relaxed) != fork::generation() {
            self.end_all_of_other_threads(&mut list);
        }
        list
    }

    /// In a child of a fork, at the pool's first use: ends the caches of threads that the child does not have. All
    /// caches in the list are older than the fork. The forking thread keeps its own, unless two forks lie between.
    #[cold]
    fn end_all_of_other_threads(&self, list: &mut Vec<CacheRef>) {
        let generation = fork::generation();
        let before = self.generation.swap(generation, Relaxed);
        list.retain(|cache| {
            let is_left =
                thread_state::is_of_other_thread(cache.state) || generation.wrapping_sub(before) != 1;
            if is_left {
                // SAFETY:
                // - made by CacheRef::new; the forking thread detached it from all entries and waited until
                //   nobody used it
                unsafe { cache.end() };
            }
            !is_left
        });
    }

    /// Does now what the first use of the list in a child of a fork would do.
    fn settle_fork(&self, guard: &ForkGuard) {
        // Relaxed: a thread that sees an old value looks again under the lock. One that sees a new value needs nothing
        // else of it.
        if self.generation.load(Relaxed) != fork::generation() {
            drop(self.lock(guard));
        }
    }

    /// Leads `key` and the pool's own key to this thread's cache, which is made if there is none. `key` leads to no
    /// cache yet. Calls without a context use the own key. Where no cache can be made, the shelf serves. Returns the
    /// owners of the caches that had to be evicted.
    ///
    /// `owner` is what the layers above know the pool by. `may_cache` says whether the pool is open and nobody waits
    /// for its memory. `is_valid` says whether the key is still valid. Both are asked under the lock of
    /// [`drain`](Self::drain) and [`detach`](Self::detach), so no cache is made and no key attached after these.
    #[cold]
    pub(crate) fn attach(
        &self,
        guard: &mut ForkGuard,
        classes: &Classes,
        owner: NonNull<()>,
        key: u64,
        may_cache: impl Fn() -> bool,
        is_valid: impl FnOnce(&ForkGuard) -> bool,
    ) -> [Option<Evicted>; 2] {
        self.settle_fork(guard);
        if !self.allowed || !may_cache() {
            return [None; 2];
        }
        // Relaxed: a rough count of operations.
        if self.pause_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return [None; 2];
        }
        let Some(state) = thread_state::own(guard, CacheRef::nowhere().as_any()) else { return [None; 2] };
        let mut list = self.lock(guard);
        // Relaxed: changed under this lock.
        if !may_cache() || self.paused.load(Relaxed) || !is_valid(guard) {
            return [None; 2];
        }
        let fast = barrier::is_in_use();
        let of_this_thread = list.iter().position(|cache| ptr::eq(cache.state, state));
        let cache = match of_this_thread {
            Some(at) if list[at].is_fast() == fast => list[at],
            other => {
                if let Some(at) = other {
                    // From before the heavy fence was refused.
                    end_own(guard, &mut list, at);
                }
                if list.try_reserve(1).is_err() {
                    return [None; 2];
                }
                let Some(cache) = CacheRef::new(classes, self, state, fast) else { return [None; 2] };
                // Relaxed: others find the cache in a thread's state, under the state's lock, which is taken after
                // this.
                self.owner.store(owner.as_ptr(), Relaxed);
                list.push(cache);
                cache
            }
        };
        // `key` comes last: it is more in demand, and the own key could evict it.
        [self.own_key, key].map(|key| {
            let own_key = |other| CacheRef::from_any(other).caches().own_key;
            state.attach(guard, key, cache.as_any(), fast, own_key, keep).flatten()
        })
    }

    /// Makes `key` lead nowhere, on all threads, before this returns.
    #[cfg(feature = "capi")]
    pub(crate) fn detach(&self, guard: &ForkGuard, key: u64) {
        for cache in self.lock(guard).iter() {
            cache.state.detach(guard, cache.as_any(), Some(key));
        }
    }

    /// Drains all caches: takes them away from their threads, and puts what they held on the shelf. The caller has a
    /// reference to the pool.
    pub(crate) fn drain(&self, guard: &ForkGuard) {
        let mut list = self.lock(guard);
        if list.is_empty() {
            return;
        }
        for cache in list.iter() {
            cache.state.detach(guard, cache.as_any(), None);
        }
        thread_state::fence_all_threads(guard);
        for cache in list.drain(..) {
            cache.state.wait_until_inactive();
            // SAFETY:
            // - made by CacheRef::new, detached from all entries, and its thread is not using it: it was inactive after
            //   the fence, and any later use finds the entry without it
            unsafe { cache.end() };
        }
    }

    /// Drains all caches if the class's slots are *large* and some cache holds one. That is cheaper than fresh memory
    /// of that size.
    pub(crate) fn recover_large(&self, guard: &ForkGuard, class: &Class) {
        // The calling thread's own bin is empty.
        let is_held = |cache: &CacheRef| cache.count(class.number()).held > 0;
        if class.slot_size() > LARGE && self.lock(guard).iter().any(is_held) {
            self.drain(guard);
        }
    }

    /// Drains all caches. No cache is made until the pause is dropped, nor by the next [`PAUSE_OPERATIONS`] operations.
    pub(crate) fn drain_and_pause<'a>(&'a self, guard: &'a ForkGuard) -> Pause<'a> {
        self.set_paused(guard, true);
        self.drain(guard);
        Pause { caches: self, guard }
    }

    /// Lets the next [`PAUSE_OPERATIONS`] operations go to the shelf.
    pub(crate) fn prolong_pause(&self) {
        // Relaxed: a rough count of operations.
        self.pause_left.store(PAUSE_OPERATIONS, Relaxed);
    }

    fn set_paused(&self, guard: &ForkGuard, paused: bool) {
        let _list = self.lock(guard);
        self.paused.store(paused, Relaxed);
    }

    /// Ends the calling thread's cache, when its thread-locals are torn down or the cache was evicted.
    pub(crate) fn give_up(&self, guard: &ForkGuard, state: &'static ThreadState) {
        // Locked without a look for a fork: the end of a thread is no use of the pool.
        let mut list = self.list.lock(guard);
        if let Some(at) = list.iter().position(|cache| ptr::eq(cache.state, state)) {
            end_own(guard, &mut list, at);
        }
    }

    /// Gives `add` what each cache has of each class.
    ///
    /// Exact at a quiet moment, when no thread is inside a call. A caller that knows of the quiet sees what each thread
    /// wrote last.
    pub(crate) fn count(&self, guard: &ForkGuard, classes: usize, mut add: impl FnMut(usize, Count)) {
        for cache in self.lock(guard).iter() {
            for class in 0..classes {
                add(class, cache.count(class as u8));
            }
        }
    }
}

/// Ends the cache at a position of a pool's list: one of the calling thread, whose state is not active.
fn end_own(guard: &ForkGuard, list: &mut Vec<CacheRef>, at: usize) {
    let cache = list.swap_remove(at);
    cache.state.detach(guard, cache.as_any(), None);
    // SAFETY:
    // - made by CacheRef::new and detached from all entries; its thread is this one, here
    unsafe { cache.end() };
}

/// The owner of a cache that is sure to exist, with a reference to it.
fn keep(cache: NonNull<AnyCache>) -> Option<Evicted> {
    let cache = CacheRef::from_any(cache);
    let caches = cache.caches();
    caches.references.retain(1);
    // Relaxed: written before the caches could be reached.
    NonNull::new(caches.owner.load(Relaxed))
}

/// How many caches a pool's list has, without a look for a fork.
#[cfg(all(test, unix, not(bytepool_shuttle)))]
pub(crate) fn count_as_they_are(guard: &ForkGuard, caches: &Caches) -> usize {
    caches.list.lock(guard).len()
}

/// Gives the calling thread a state that leads to no cache, for models.
#[cfg(bytepool_shuttle)]
pub(crate) fn make_state(guard: &mut ForkGuard) {
    thread_state::own(guard, CacheRef::nowhere().as_any());
}

/// The owner of some cache that a thread's state leads to, with a reference to it.
pub(crate) fn some_owner(guard: &ForkGuard, state: &ThreadState) -> Option<Evicted> {
    state.some_cache(guard, keep)?
}

/// A get at the limit is looking for idle slots; see [`Caches::drain_and_pause`].
pub(crate) struct Pause<'a> {
    caches: &'a Caches,
    guard: &'a ForkGuard,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.caches.prolong_pause();
        self.caches.set_paused(self.guard, false);
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        debug_assert!(
            self.lock(&ForkGuard::new()).is_empty(),
            "a pool ends closed, and closing drains all caches"
        );
    }
}
