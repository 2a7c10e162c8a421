//! A pool's inside, and the story of get and put.
//!
//! ```text
//! get(size) -> door -> thread cache, else shelf, else fresh slot, else system allocator
//!                      no class fits: oversize
//! put(ptr)  -> door -> thread cache, else locate -> transfer to nobody -> bin, shelf, or the system
//! ```
//!
//! - [`door`]: the one way in, for handles of all languages
//! - [`get`] and [`put`]: one buffer out and back
//! - [`ownership`]: where a buffer is, and the one transition between its holders
//! - [`sharing`]: buffers with several holders, who count themselves
//! - [`overflow`]: what a class has no slot for
//! - [`oversize`]: another size for what is larger than the largest class
//! - [`replacement`]: what an instrumented pool hands out in place of slots
//! - [`reclaim`]: the limit, trim and close
//! - [`pinned`]: pools whose slots are memory from the start
//! - [`wait`] and [`wait_queue`]: gets that wait at the limit; [`wait_task`]: as tasks
//! - [`registry`], [`stats`]: what is counted and kept
//! - [`reference`] and [`hooks`]: how long a pool lives, threads that end, and forks
//!
//! Any thread may call anything at any time. Code that waits for users, or runs a function of theirs, takes the fork
//! guard as `&mut`, so that no lock is held then. References are the caller's affair: a caller has one. Each buffer
//! that it gets has one more, and each put gives the buffer's up.

pub(crate) mod config;
pub(crate) mod door;
pub(crate) mod get;
mod hooks;
mod overflow;
mod oversize;
pub(crate) mod ownership;
pub(crate) mod pinned;
mod put;
mod reclaim;
pub(crate) mod reference;
mod registry;
mod replacement;
pub(crate) mod sharing;
pub(crate) mod stats;
#[cfg(test)]
pub(crate) mod testing;
mod wait;
pub(crate) mod wait_queue;
pub(crate) mod wait_task;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use self::config::{Config, Flags, Rounding};
use self::registry::Registry;
use self::stats::{PoolCounters, Stats};
use self::wait_queue::WaitQueue;
use crate::cache::caches::Caches;
use crate::class::table::Classes;
use crate::debug::Instrument;
use crate::debug::tracking::Tracker;
use crate::error::BuildError;
use crate::os::anchor::Registration;
use crate::os::fork::ForkGuard;
#[cfg(feature = "capi")]
use crate::os::handle::Handles;
use crate::os::thread_pointer;
use crate::os::thread_state::key_of;

/// Every get and put of a `PooledBuffer` reads it, so it lies on a cache line that nobody writes.
#[repr(align(128))]
struct OwnKey(u64);

/// Everything a pool is, except its handles.
pub(crate) struct Core {
    own_key: OwnKey,
    classes: Classes,
    alignment: usize,
    flags: Flags,
    round: Option<Rounding>,
    closed: AtomicBool,

    instrument: Instrument,
    caches: Caches,
    registry: Registry,
    /// Its lock is also held while idle slots are given back to the system: by trim, by close, by a get at the limit,
    /// and by a put that makes idle more than the capacity and the slack, or comes back to a closed pool. See
    /// [`lock_reclaiming`](Self::lock_reclaiming).
    waiting: WaitQueue,
    counters: PoolCounters,

    /// Rust pools and live contexts; at zero the pool closes.
    open_handles: AtomicUsize,
    #[cfg(feature = "capi")]
    handles: Handles,
    registration: Registration,
}

impl Core {
    /// A pool that nobody reaches yet.
    pub(crate) fn write<'a>(
        place: &'a mut MaybeUninit<Self>,
        guard: &ForkGuard,
        config: Config,
        registration: Registration,
    ) -> Result<&'a mut Self, BuildError> {
        hooks::register(guard);
        let instrument = Instrument::new(guard, config.sampling);
        let Config { layout, alignment, max_bytes, round, flags, .. } = config;
        // Zeroing and instrumentation are done outside the fast path. A pool without classes has nothing to cache.
        let outside_fast_path = flags.zero_on_get || flags.zero_on_put || instrument.is_on();
        let may_cache = flags.thread_cache && !outside_fast_path && !layout.spans.is_empty();
        let classes = Classes::new(layout, max_bytes, flags.huge_pages)?;
        // No other pool of this process has the same.
        let own_key = key_of(registration.number().wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let caches = Caches::new(may_cache, &classes, round.is_some(), own_key, registration.references())?;
        let registry = Registry::new()?;
        // Written in place, as it is large and stacks are small.
        Ok(place.write(Self {
            own_key: OwnKey(own_key),
            classes,
            alignment,
            flags,
            round,
            closed: AtomicBool::new(false),
            instrument,
            caches,
            registry,
            waiting: WaitQueue::new(),
            counters: PoolCounters::default(),
            open_handles: AtomicUsize::new(1),
            #[cfg(feature = "capi")]
            handles: Handles::new(),
            registration,
        }))
    }

    #[cfg(any(feature = "capi", test))]
    pub(crate) fn registration(&self) -> &Registration {
        &self.registration
    }

    #[cfg(feature = "capi")]
    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    pub(crate) fn alignment(&self) -> usize {
        self.alignment
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Acquire pairs with the SeqCst swap in `close_memory`.
        self.closed.load(Acquire)
    }

    /// The pool's own key, which leads a thread to its cache without a context. Never 0.
    #[inline(always)]
    pub(crate) fn own_key(&self) -> u64 {
        self.own_key.0
    }

    /// Where outstanding buffers were got, if this pool tracks.
    pub(crate) fn tracker(&self) -> Option<&Tracker> {
        self.instrument.tracker()
    }

    /// The how many-th pool of the process this is.
    pub(crate) fn number(&self) -> u64 {
        self.instrument.number()
    }

    #[cfg(feature = "capi")]
    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    #[cfg(bytepool_shuttle)]
    pub(crate) fn classes(&self) -> &Classes {
        &self.classes
    }

    /// Attaches the calling thread: from now on `key` leads it to a cache of this pool, if the pool allows that and the
    /// key is valid. The key leads to no cache yet.
    pub(crate) fn attach(&self, guard: &mut ForkGuard, key: u64, is_valid: impl FnOnce(&ForkGuard) -> bool) {
        // No cache while a get waits: then each put must come to the shelf, and serve the waiter.
        let may_cache = || !self.is_closed() && !self.waiting.has_waiters();
        let owner = NonNull::from(self).cast();
        let evicted = self.caches.attach(guard, &self.classes, owner, key, may_cache, is_valid);
        for owner in evicted.into_iter().flatten() {
            hooks::give_up(guard, owner, thread_pointer::get());
        }
    }

    /// Takes the user's function out of a pool that ends.
    fn take_round(&mut self) -> Option<Rounding> {
        self.round.take()
    }

    /// `size` as the user's function rounds it; at least `size`.
    #[inline]
    fn rounded(&self, guard: &mut ForkGuard, size: usize) -> usize {
        match &self.round {
            None => size,
            Some(round) => guard.unguarded(|| round(size)).max(size),
        }
    }

    pub(crate) fn stats(&self, guard: &ForkGuard) -> Stats {
        let mut stats = Stats::NONE;
        self.read_stats(guard, &mut stats);
        stats
    }

    /// Reads the figures in place, for small stacks: those of 64 classes take 7.5 KiB.
    pub(crate) fn read_stats(&self, guard: &ForkGuard, stats: &mut Stats) {
        stats.fill(guard, self);
    }

    /// Counts one more handle.
    pub(crate) fn open_handle(&self) {
        // Relaxed: a handle that is copied keeps the pool open meanwhile. One made of a reference may be of a closed
        // pool, where the count no longer matters.
        self.open_handles.fetch_add(1, Relaxed);
    }

    /// Counts one handle less. The end of the last one closes the pool.
    pub(crate) fn close_handle(&self, guard: &mut ForkGuard) {
        // SeqCst: what other handles did comes before the closing.
        if self.open_handles.fetch_sub(1, SeqCst) == 1 {
            self.close(guard);
        }
    }
}
