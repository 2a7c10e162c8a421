//! Waiting for memory: a get that would fail at the limit queues, and whoever frees memory serves the queue.
//!
//! ```text
//! get_timeout -> as get -> (limit) enter the queue -> drain -> serve -> sleep -> leave with a slot or with bytes
//! put, trim   -> idle slot on the shelf, or bytes released -> (somebody waits) serve
//! ```
//!
//! While somebody waits no thread caches idle slots, so whatever is put comes past
//! [`serve_waiters`](Core::serve_waiters). And while somebody waits there is no idle slot that could serve a waiter:
//! it is handed over as it comes. A plain get does not queue, it takes what it finds.

use super::Core;
use super::get::{Request, check_oversize};
use super::wait_queue::{Demand, Grant, Parker, Queue, WaiterGuard};
use crate::class::location::Buffer;
use crate::error::GetError;
use crate::os::fork::ForkGuard;
use crate::sync::Instant;
use std::time::Duration;

impl Core {
    /// A buffer for a size that was rounded already; where that fails at the limit, waits for memory. No deadline means
    /// without end, and a timeout of zero does not queue. What can never fit fails at once.
    pub(super) fn get_by(
        &self,
        guard: &mut ForkGuard,
        rounded: usize,
        request: &Request,
        timeout: Duration,
        deadline: Option<Instant>,
    ) -> Result<Buffer, GetError> {
        let timed_out = |demand: Demand| GetError::Timeout {
            timeout,
            limit: self.classes.mapped().limit(),
            mapped: self.classes.mapped().get(),
            requested: demand.bytes,
        };
        if timeout.is_zero() {
            return self.get_at_once(guard, rounded, request).map_err(|error| match error {
                GetError::Limit { .. } | GetError::Pinned { .. } => {
                    self.demand(rounded, request).map_or_else(|hopeless| hopeless, timed_out)
                }
                other => other,
            });
        }
        if let Some(outcome) = self.get_before_waiting(guard, rounded, request) {
            return outcome;
        }
        let demand = self.demand(rounded, request)?;
        let grant = self.wait(guard, demand, deadline)?.ok_or_else(|| timed_out(demand))?;
        self.get_granted(guard, grant, rounded, request)
    }

    /// A get that does not wait; `None` if it has to.
    pub(super) fn get_before_waiting(
        &self,
        guard: &mut ForkGuard,
        rounded: usize,
        request: &Request,
    ) -> Option<Result<Buffer, GetError>> {
        // Who comes while others wait queues behind them.
        if self.waiting.has_waiters() {
            return None;
        }
        match self.get_at_once(guard, rounded, request) {
            Err(GetError::Limit { limit, requested, .. } | GetError::Pinned { limit, requested, .. })
                if requested <= limit =>
            {
                None
            }
            outcome => Some(outcome),
        }
    }

    /// What a request waits for, if it can ever fit.
    pub(super) fn demand(&self, rounded: usize, request: &Request) -> Result<Demand, GetError> {
        let class = self.class_for(rounded, request);
        let bytes = class.map_or(rounded, |class| class.slot_size());
        check_oversize(bytes, self.alignment_for(request))?;
        // Pinned slots stay, so bytes for anything else must come from the rest.
        let pinned = if class.is_some() { 0 } else { self.pinned_bytes() };
        match bytes <= self.classes.mapped().limit() - pinned {
            true => Ok(Demand { class: class.map(|class| class.number().into()), bytes }),
            false => Err(self.limit_error(bytes)),
        }
    }

    /// Waits in the queue, asleep and without a lock. `None`: the deadline passed.
    fn wait(
        &self,
        guard: &mut ForkGuard,
        demand: Demand,
        deadline: Option<Instant>,
    ) -> Result<Option<Grant>, GetError> {
        let parker = Parker::new();
        let waiter = self.enter_queue(guard, demand, &parker)?;
        parker.park(guard, deadline);
        let mut queue = self.lock_reclaiming(guard);
        let grant = waiter.leave(&mut queue);
        if grant.is_none() {
            // It stood before others.
            self.serve(guard, &mut queue);
        }
        self.caches.prolong_pause();
        Ok(grant)
    }

    /// Queues, and looks a last time whether there is what is demanded.
    fn enter_queue<'a>(
        &'a self,
        guard: &ForkGuard,
        demand: Demand,
        parker: &'a Parker,
    ) -> Result<WaiterGuard<'a>, GetError> {
        // Declared before the lock, so dropped after it: the waiter takes the lock to leave the queue.
        let waiter;
        let mut queue = self.lock_reclaiming(guard);
        let entered = self.waiting.enter(&mut queue, demand, parker);
        waiter = entered.map_err(|error| GetError::OutOfMemory { requested: error.bytes })?;
        // Counted from now on: what is put after this comes to the shelf, and to `serve`.
        self.caches.drain(guard);
        self.serve(guard, &mut queue);
        if !waiter.is_served(&queue) {
            self.counters.count_wait();
        }
        Ok(waiter)
    }

    /// To be called when a slot was laid on the shelf or bytes were released: hands them over if anybody waits.
    #[inline]
    pub(super) fn serve_waiters(&self, guard: &ForkGuard) {
        if self.waiting.has_waiters() {
            self.serve_slowly(guard);
        }
    }

    #[cold]
    fn serve_slowly(&self, guard: &ForkGuard) {
        self.serve(guard, &mut self.lock_reclaiming(guard));
    }

    /// Gives every waiter what it demands, first come first served.
    ///
    /// All waiters compete for bytes, so a waiter that lacks bytes keeps those behind it from taking any; idle slots
    /// are given up for it. What idle slots are left then are of no use to it: those behind may have the ones of their
    /// class.
    pub(super) fn serve(&self, guard: &ForkGuard, queue: &mut Queue) {
        let closed = self.is_closed();
        let mut bytes_are_taken = false;
        self.waiting.serve(guard, queue, |demand| {
            if closed {
                return Some(Grant::Closed);
            }
            if let Some(slot) = demand.class.and_then(|class| self.classes[class].shelf.take_idle()) {
                return Some(Grant::Slot(slot));
            }
            bytes_are_taken = bytes_are_taken || !self.reserve_or_discard(demand.bytes);
            (!bytes_are_taken).then_some(Grant::Bytes)
        });
    }

    /// In a child of a fork: waiting threads that it does not have are gone, and what they were granted comes back.
    pub(super) fn forget_waiters(&self, guard: &ForkGuard) {
        self.waiting.after_fork_in_child(guard, |demand, grant| match grant {
            Grant::Slot(slot) => {
                let class = demand.class.expect("who was granted a slot demanded one of a class");
                self.classes[class].shelf.put(slot);
            }
            Grant::Bytes => self.classes.mapped().release(demand.bytes),
            Grant::Closed => {}
        });
        // Tasks that stay may have what came back.
        self.serve(guard, &mut self.lock_reclaiming(guard));
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use crate::core::testing::TestPool;
    use std::sync::Barrier;
    use std::time::Duration;

    const SIZE: usize = 1024;
    const DEMAND: Demand = Demand { class: Some(0), bytes: SIZE };

    fn pool() -> TestPool {
        TestPool::new(&[(SIZE, 100)], 100 * SIZE)
    }

    fn cached(pool: &TestPool) -> usize {
        pool.figures().classes[0].cached
    }

    /// Between a get's search and its entry into the queue, threads may have begun to cache again.
    #[test]
    fn who_enters_finds_what_sleeping_threads_cache() {
        let pool = pool();
        let (kept, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pool.use_buffers(SIZE, 100);
                kept.wait();
                done.wait();
            });
            kept.wait();
            let shelf = &pool.classes[0].shelf;
            let on_shelf: Vec<u32> = std::iter::from_fn(|| shelf.take_idle()).collect();
            let cached = cached(&pool);
            let deadline = Some(Instant::now() + Duration::from_secs(5));
            let grant = pool.wait(&mut ForkGuard::new(), DEMAND, deadline);
            done.wait();
            assert!(cached > 0);
            let Ok(Some(Grant::Slot(slot))) = grant else { panic!("{grant:?}") };
            on_shelf.into_iter().chain([slot]).for_each(|slot| shelf.put(slot));
        });
        assert_eq!(pool.figures().waits, 0);
    }

    #[test]
    fn nothing_is_cached_while_somebody_waits() {
        let (pool, guard) = (pool(), ForkGuard::new());
        pool.use_buffers(SIZE, 50);
        assert!(cached(&pool) > 0);
        let parker = Parker::new();
        let waiter = pool.waiting.enter(&mut pool.lock_reclaiming(&guard), DEMAND, &parker).unwrap();
        pool.caches.drain(&guard);
        // More than the operations that go to the shelf after any pause.
        (0..10_000).for_each(|_| pool.use_buffers(SIZE, 1));
        assert_eq!(cached(&pool), 0);
        // The first of the puts was for the waiter.
        let grant = waiter.leave(&mut pool.lock_reclaiming(&guard));
        let Some(Grant::Slot(slot)) = grant else { panic!("{grant:?}") };
        pool.classes[0].shelf.put(slot);
        (0..10_000).for_each(|_| pool.use_buffers(SIZE, 1));
        assert!(cached(&pool) > 0);
    }

    /// A waiter of another thread was granted the last slot, then the pool closed, then a thread forked.
    #[cfg(unix)]
    #[test]
    fn a_child_unmaps_a_closed_pool_whose_last_slot_a_waiter_had() {
        let pool = pool();
        let buffer = pool.get(SIZE);
        let parker = Parker::new();
        {
            let guard = ForkGuard::new();
            let mut queue = pool.lock_reclaiming(&guard);
            let waiter = pool.waiting.enter(&mut queue, DEMAND, &parker).unwrap();
            drop(queue);
            pool.caches.drain(&guard);
            pool.put(buffer);
            std::mem::forget(waiter);
        }
        pool.close(&mut ForkGuard::new());
        let is_unmapped = || {
            let _guard = ForkGuard::new();
            pool.classes.region().is_unmapped()
        };
        assert!(!is_unmapped());
        // SAFETY:
        // - the child does what it may, and ends without destructors
        unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(30);
                    libc::_exit(i32::from(!is_unmapped() || pool.figures().mapped_bytes != 0));
                }
                pid => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
                    assert_eq!(status, 0, "its region stays");
                }
            }
        }
        pool.forget_waiters(&ForkGuard::new());
    }
}
