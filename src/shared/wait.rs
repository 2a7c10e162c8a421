//! Waiting for memory: a get that would fail at the limit queues, and whoever frees memory serves the queue.
//!
//! ```text
//! get_timeout -> as get -> (limit) enter the queue -> revoke -> serve -> sleep -> leave with a slot or with room
//! put, trim   -> idle slot on the shelf, or bytes released -> (somebody waits) serve
//! ```
//!
//! While somebody waits no thread caches idle slots, so whatever is put comes past
//! [`serve_waiters`](Shared::serve_waiters). And while somebody waits there is no idle slot that could serve a waiter:
//! it is handed over as it comes. A plain get does not queue, it takes what it finds.

use std::time::Duration;

use super::Shared;
use super::get::{Buffer, Request, check_oversize};
use super::reclaim::Discard;
use crate::error::GetError;
use crate::fork;
use crate::sync::Instant;
use crate::waiting::{Bell, Given, Place, Queue, Wanted};

impl Shared {
    /// As [`get`](Self::get), but where that fails at the limit, waits for memory up to `timeout`. Zero does not wait;
    /// a timeout beyond what clocks can say has no end. What can never fit fails at once.
    pub(crate) fn get_timeout(&self, request: &Request, timeout: Duration) -> Result<Buffer, GetError> {
        if timeout.is_zero() {
            return self.get(request);
        }
        let deadline = Instant::now().checked_add(timeout);
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let rounded = self.rounded(request.size);
        // Who comes while others wait queues behind them.
        if !self.waiting.has_waiters() {
            match self.get_at_once(rounded, request) {
                Err(GetError::Limit { limit, requested, .. }) if requested <= limit => {}
                outcome => return self.counting_failures(outcome),
            }
        }
        let given = self.wanted(rounded).and_then(|wanted| self.wait(wanted, timeout, deadline));
        self.counting_failures(given.and_then(|given| self.get_given(given, rounded, request)))
    }

    /// What a get of this size waits for, if it can ever fit.
    fn wanted(&self, rounded: usize) -> Result<Wanted, GetError> {
        let class = self.index.class_of(rounded);
        let bytes = class.map_or(rounded, |class| self.classes[class].slot_size());
        check_oversize(bytes, self.alignment)?;
        let limit = self.mapped.limit();
        match bytes <= limit {
            true => Ok(Wanted { class, bytes }),
            false => Err(GetError::Limit { limit, mapped: self.mapped.get(), requested: bytes }),
        }
    }

    /// Waits in the queue, asleep and without a lock.
    fn wait(&self, wanted: Wanted, timeout: Duration, deadline: Option<Instant>) -> Result<Given, GetError> {
        let requested = wanted.bytes;
        let bell = Bell::new();
        let place = self.enter_queue(wanted, &bell)?;
        fork::outside(|| bell.sleep(deadline));
        let mut queue = self.lock_reclaiming();
        let given = place.leave(&mut queue);
        if given.is_none() {
            // It stood before others.
            self.serve(&mut queue);
        }
        self.caches.stay_scarce();
        given.ok_or_else(|| GetError::Timeout {
            timeout,
            limit: self.mapped.limit(),
            mapped: self.mapped.get(),
            requested,
        })
    }

    /// Queues, and looks a last time whether there is what is wanted.
    fn enter_queue<'a>(&'a self, wanted: Wanted, bell: &'a Bell) -> Result<Place<'a>, GetError> {
        // Declared first: should this unwind, the lock goes before the place, which takes it to leave the queue.
        let place;
        let mut queue = self.lock_reclaiming();
        let entered = self.waiting.enter(&mut queue, wanted, bell);
        place = entered.map_err(|error| GetError::OutOfMemory { requested: error.bytes })?;
        // Counted from now on: what is put after this comes to the shelf, and to `serve`.
        self.caches.revoke();
        self.serve(&mut queue);
        if !place.is_served(&queue) {
            self.counters.count_wait();
        }
        Ok(place)
    }

    /// To be called when a slot was laid on the shelf or bytes were released: hands them over if anybody waits.
    #[inline]
    pub(super) fn serve_waiters(&self) {
        if self.has_waiters() {
            self.serve_slowly();
        }
    }

    #[cold]
    fn serve_slowly(&self) {
        self.serve(&mut self.lock_reclaiming());
    }

    /// Gives every waiter what it wants, first come first served.
    ///
    /// All waiters compete for room, so who cannot get enough keeps those behind from taking any; idle slots are made
    /// room for it. What idle slots are left then are of no use to it: those behind may have the ones of their class.
    pub(super) fn serve(&self, queue: &mut Queue) {
        let closed = self.is_closed();
        let mut room_is_taken = false;
        self.waiting.serve(queue, |wanted| {
            if closed {
                return Some(Given::Closed);
            }
            if let Some(slot) = wanted.class.and_then(|class| self.classes[class].shelf.take_idle()) {
                return Some(Given::Slot(slot));
            }
            room_is_taken = room_is_taken || !self.reserve_or_reclaim(wanted.bytes);
            (!room_is_taken).then_some(Given::Room)
        });
    }

    /// In a child of a fork: what threads had cached that it does not have comes back.
    pub(crate) fn forget_other_threads(&self) {
        self.forget_waiters();
        self.caches.end_all_of_other_threads();
        if self.is_closed() {
            // What a waiter had been given before.
            let queue = self.lock_reclaiming();
            self.discard_idle(Discard::AtMost(usize::MAX));
            self.unmap_if_unused(&queue);
        }
        if let Some(spare) = self.spare() {
            spare.pool().forget_other_threads();
        }
    }

    /// Waiters of threads that a child does not have are gone, and what they were given comes back.
    fn forget_waiters(&self) {
        self.waiting.after_fork_in_child(|wanted, given| match given {
            Given::Slot(slot) => {
                let class = wanted.class.expect("who was given a slot wanted one of a class");
                self.classes[class].shelf.put(slot);
            }
            Given::Room => self.mapped.release(wanted.bytes),
            Given::Closed => {}
        });
    }

    /// Reserves bytes, giving up idle slots for them. The caller holds the reclaiming lock, and no thread caches any.
    fn reserve_or_reclaim(&self, bytes: usize) -> bool {
        loop {
            if self.mapped.try_reserve(bytes) {
                return true;
            }
            let missing = self.mapped.get().saturating_add(bytes).saturating_sub(self.mapped.limit());
            // At least one: another thread may have released some since.
            if self.discard_idle(Discard::AtLeast(missing.max(1))) == 0 {
                return self.mapped.try_reserve(bytes);
            }
        }
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use crate::Pool;
    use std::sync::Barrier;

    const WANTED: Wanted = Wanted { class: Some(0), bytes: 1024 };

    fn pool() -> Pool {
        Pool::builder().size_class(1024, 100).max_bytes(100 << 10).build().unwrap()
    }

    fn use_and_put(pool: &Pool, buffers: usize) {
        drop((0..buffers).map(|_| pool.get(1024).unwrap()).collect::<Vec<_>>());
    }

    /// Between a get's search and its entry into the queue, threads may have begun to cache again.
    #[test]
    fn who_enters_finds_what_sleeping_threads_cache() {
        let pool = pool();
        let (kept, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use_and_put(&pool, 100);
                kept.wait();
                done.wait();
            });
            kept.wait();
            let _section = fork::section();
            let shared = pool.reference();
            let shelf = &shared.class(0).shelf;
            let on_shelf: Vec<u32> = std::iter::from_fn(|| shelf.take_idle()).collect();
            let cached = pool.stats().classes[0].cached;
            let timeout = Duration::from_secs(5);
            let given = shared.wait(WANTED, timeout, Some(Instant::now() + timeout));
            done.wait();
            assert!(cached > 0);
            let Ok(Given::Slot(slot)) = given else { panic!("{given:?}") };
            on_shelf.into_iter().chain([slot]).for_each(|slot| shelf.put(slot));
        });
        assert_eq!(pool.stats().waits, 0);
    }

    #[test]
    fn nothing_is_cached_while_somebody_waits() {
        let pool = pool();
        let _section = fork::section();
        let shared = pool.reference();
        use_and_put(&pool, 50);
        assert!(pool.stats().classes[0].cached > 0);
        let bell = Bell::new();
        let place = shared.waiting.enter(&mut shared.lock_reclaiming(), WANTED, &bell).unwrap();
        shared.caches.revoke();
        // More than the operations that go to the shelf after any revoke.
        (0..10_000).for_each(|_| use_and_put(&pool, 1));
        assert_eq!(pool.stats().classes[0].cached, 0);
        // The first of the puts was for the waiter.
        let given = place.leave(&mut shared.lock_reclaiming());
        let Some(Given::Slot(slot)) = given else { panic!("{given:?}") };
        shared.class(0).shelf.put(slot);
        (0..10_000).for_each(|_| use_and_put(&pool, 1));
        assert!(pool.stats().classes[0].cached > 0);
    }

    /// A waiter of another thread was given the last slot, then the pool closed, then a thread forked.
    #[cfg(unix)]
    #[test]
    fn a_child_unmaps_a_closed_pool_whose_last_slot_a_waiter_had() {
        let pool = pool();
        let buffer = pool.get(1024).unwrap();
        let shared = pool.reference();
        let bell = Bell::new();
        {
            let _section = fork::section();
            let mut queue = shared.lock_reclaiming();
            let place = shared.waiting.enter(&mut queue, WANTED, &bell).unwrap();
            drop(queue);
            shared.caches.revoke();
            drop(buffer);
            std::mem::forget(place);
        }
        pool.close();
        let is_unmapped = || {
            let _section = fork::section();
            shared.region().is_unmapped()
        };
        assert!(!is_unmapped());
        // SAFETY:
        // - the child does what it may, and ends without destructors
        unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(30);
                    libc::_exit(i32::from(!is_unmapped() || pool.stats().mapped_bytes != 0));
                }
                pid => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
                    assert_eq!(status, 0, "its region stays");
                }
            }
        }
        shared.forget_waiters();
    }
}
