//! Gets that wait: a queue, first come first served.
//!
//! ```text
//! get at the limit -> enter -> [ 7 | 8 | 9 ] -> sleep -> given a slot, or room, or the closing -> leave
//!                                ^ whoever frees memory serves, from the front, under the same lock
//! ```
//!
//! - Memory is handed over under the queue's lock, to a waiter that is in the queue. A waiter whose deadline passed
//!   looks under that lock whether it was given something before it leaves: nothing handed over is lost.
//! - No wake-up is lost: a waiter is counted before the pool is searched for it once more, and whoever frees memory
//!   does so before it looks at the count. So one of the two sees the other.
//! - A waiter sleeps on a bell of its own and holds no lock of the pool meanwhile.
//!
//! Any thread may call anything at any time. The queue knows nothing of slots and limits: who serves says what
//! a waiter can be given.

use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, PoisonError};
use std::collections::VecDeque;
use std::ptr::NonNull;

use crate::memory::OutOfMemory;

/// What a get waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The class whose slots serve it; `None` if it is oversize.
    pub(crate) class: Option<usize>,
    /// What it would add to the mapped bytes.
    pub(crate) bytes: usize,
}

/// What a waiter wakes up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// An idle slot of its class, taken off the shelf.
    Slot(u32),
    /// Its bytes are reserved.
    Room,
    /// The pool is closed.
    Closed,
}

/// Wakes one waiter.
pub(crate) struct Bell {
    rung: Mutex<bool>,
    condvar: Condvar,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { rung: Mutex::new(false), condvar: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.lock() = true;
        self.condvar.notify_one();
    }

    /// Sleeps until the bell rings, or rang before, or the deadline has passed (never, if there is none).
    pub(crate) fn sleep(&self, deadline: Option<Instant>) {
        let mut rung = self.lock();
        while !*rung {
            rung = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.condvar.wait(rung).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return,
                Some(left) => self.condvar.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

struct Waiter {
    ticket: u64,
    wanted: Wanted,
    given: Option<Given>,
    /// Its [`Place`] borrows it, and takes the waiter out of the queue before that ends.
    bell: NonNull<Bell>,
}

// SAFETY:
// - a bell may be rung by any thread
unsafe impl Send for Waiter {}

/// The waiters, ascending by ticket. One that was given something stays until it wakes up and leaves.
#[derive(Default)]
pub(crate) struct Queue {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

impl Queue {
    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

pub(crate) struct Waiting {
    /// How many are in the queue. Changed under its lock.
    count: AtomicUsize,
    queue: Mutex<Queue>,
}

/// A waiter's place in the queue, until it leaves.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    ticket: u64,
    _bell: &'a Bell,
}

impl Place<'_> {
    pub(crate) fn is_served(&self, queue: &Queue) -> bool {
        queue.position(self.ticket).is_some_and(|at| queue.waiters[at].given.is_some())
    }

    /// Takes the waiter out of the queue; what it was given. `None`: nothing, and those behind it may now be served.
    pub(crate) fn leave(self, queue: &mut Queue) -> Option<Given> {
        let given = self.waiting.take_out(queue, self.ticket);
        std::mem::forget(self);
        given
    }
}

/// Only by unwinding, without the lock: the bell must not be rung any more.
impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.take_out(&mut self.waiting.lock(), self.ticket);
    }
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self { count: AtomicUsize::new(0), queue: Mutex::new(Queue::default()) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody waits. Asked after memory was freed, by a SeqCst operation.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        // SeqCst: the partner is in `enter`.
        self.count.load(SeqCst) != 0
    }

    /// Adds a waiter. The caller then searches once more what it wants, and serves the queue.
    ///
    /// SeqCst, and so is that search: it finds what was freed before, or who frees later finds the waiter counted.
    pub(crate) fn enter<'a>(
        &'a self,
        queue: &mut Queue,
        wanted: Wanted,
        bell: &'a Bell,
    ) -> Result<Place<'a>, OutOfMemory> {
        queue.waiters.try_reserve(1).map_err(|_| OutOfMemory { bytes: size_of::<Waiter>() })?;
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiters.push_back(Waiter { ticket, wanted, given: None, bell: NonNull::from(bell) });
        self.count.fetch_add(1, SeqCst);
        Ok(Place { waiting: self, ticket, _bell: bell })
    }

    fn take_out(&self, queue: &mut Queue, ticket: u64) -> Option<Given> {
        let waiter = queue.waiters.remove(queue.position(ticket)?);
        self.count.fetch_sub(1, SeqCst);
        waiter?.given
    }

    /// Offers every waiter that has nothing yet to `give`, first come first; what it gives is that waiter's.
    pub(crate) fn serve(&self, queue: &mut Queue, mut give: impl FnMut(Wanted) -> Option<Given>) {
        for waiter in queue.waiters.iter_mut().filter(|waiter| waiter.given.is_none()) {
            waiter.given = give(waiter.wanted);
            if waiter.given.is_some() {
                // SAFETY:
                // - the waiter is in the queue, and leaves it under the lock, which is held, before its bell goes
                unsafe { waiter.bell.as_ref() }.ring();
            }
        }
    }

    /// Forgets all waiters: the child of a fork has none of their threads. What they were given and did not take yet is
    /// `take_back`'s. Nobody was in the queue's lock when the process forked; waiters that sleep are not.
    pub(crate) fn after_fork_in_child(&self, mut take_back: impl FnMut(Wanted, Given)) {
        let mut queue = self.lock();
        for waiter in queue.waiters.drain(..) {
            if let Some(given) = waiter.given {
                take_back(waiter.wanted, given);
            }
        }
        self.count.store(0, SeqCst);
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use std::time::Duration;

    const WANTED: Wanted = Wanted { class: None, bytes: 1 };
    const LONG: Duration = Duration::from_secs(30);

    /// Room for so many, as mapped bytes are for a pool.
    struct Room(AtomicUsize);

    impl Room {
        fn take(&self) -> bool {
            self.0.fetch_update(SeqCst, SeqCst, |room| room.checked_sub(1)).is_ok()
        }

        fn serve(&self, waiting: &Waiting, queue: &mut Queue) {
            waiting.serve(queue, |_| self.take().then_some(Given::Room));
        }

        fn give(&self, waiting: &Waiting) {
            self.0.fetch_add(1, SeqCst);
            if waiting.has_waiters() {
                self.serve(waiting, &mut waiting.lock());
            }
        }

        fn wait(&self, waiting: &Waiting, deadline: Option<Instant>) -> Option<Given> {
            let bell = Bell::new();
            let mut queue = waiting.lock();
            let place = waiting.enter(&mut queue, WANTED, &bell).unwrap();
            self.serve(waiting, &mut queue);
            drop(queue);
            bell.sleep(deadline);
            let mut queue = waiting.lock();
            let given = place.leave(&mut queue);
            if given.is_none() {
                self.serve(waiting, &mut queue);
            }
            given
        }
    }

    #[test]
    fn waiters_are_served_in_order_and_keep_what_they_were_given() {
        let (waiting, bell) = (Waiting::new(), Bell::new());
        let mut queue = waiting.lock();
        let [first, second, third] = [0; 3].map(|_| waiting.enter(&mut queue, WANTED, &bell).unwrap());
        let mut slots = [2, 1].into_iter();
        waiting.serve(&mut queue, |_| slots.next().map(Given::Slot));
        waiting.serve(&mut queue, |_| None);
        assert!(first.is_served(&queue) && second.is_served(&queue) && !third.is_served(&queue));
        assert_eq!(second.leave(&mut queue), Some(Given::Slot(1)));
        assert_eq!(first.leave(&mut queue), Some(Given::Slot(2)));
        assert!(waiting.has_waiters());
        assert_eq!(third.leave(&mut queue), None);
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn what_was_given_before_the_deadline_passed_is_not_lost() {
        let (waiting, bell) = (Waiting::new(), Bell::new());
        let place = waiting.enter(&mut waiting.lock(), WANTED, &bell).unwrap();
        bell.sleep(Some(Instant::now()));
        // Between the deadline and the look under the lock.
        waiting.serve(&mut waiting.lock(), |_| Some(Given::Room));
        assert_eq!(place.leave(&mut waiting.lock()), Some(Given::Room));
        // It has rung: nobody sleeps any more.
        let start = Instant::now();
        bell.sleep(Some(start + LONG));
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn a_deadline_ends_the_sleep() {
        let (waiting, room) = (Waiting::new(), Room(AtomicUsize::new(0)));
        for timeout in [Duration::ZERO, Duration::from_millis(20)] {
            let start = Instant::now();
            assert_eq!(room.wait(&waiting, Some(start + timeout)), None);
            assert!(start.elapsed() >= timeout);
        }
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn a_place_that_is_dropped_rings_no_bell() {
        let waiting = Waiting::new();
        {
            let bell = Bell::new();
            let _place = waiting.enter(&mut waiting.lock(), WANTED, &bell).unwrap();
        }
        waiting.serve(&mut waiting.lock(), |_| panic!("nobody waits"));
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn a_forked_child_has_no_waiters() {
        let (waiting, bell) = (Waiting::new(), Bell::new());
        let place = waiting.enter(&mut waiting.lock(), WANTED, &bell).unwrap();
        waiting.serve(&mut waiting.lock(), |_| Some(Given::Room));
        let mut taken_back = Vec::new();
        waiting.after_fork_in_child(|wanted, given| taken_back.push((wanted, given)));
        assert_eq!(taken_back, [(WANTED, Given::Room)]);
        assert!(!waiting.has_waiters());
        waiting.serve(&mut waiting.lock(), |_| panic!("nobody waits"));
        assert_eq!(place.leave(&mut waiting.lock()), None);
        assert!(!waiting.has_waiters());
    }

    /// Room for three, eight threads, deadlines that pass at the moment of a hand-over: all room comes back,
    /// and no thread with a far deadline meets it.
    #[test]
    fn nothing_is_lost_between_giving_sleeping_and_deadlines() {
        let (waiting, room) = (Waiting::new(), Room(AtomicUsize::new(3)));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (waiting, room) = (&waiting, &room);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let patience = Duration::from_micros((round * 7 + thread * 13) % 50);
                        let patience = if thread % 2 == 0 { patience } else { LONG };
                        match room.wait(waiting, Some(Instant::now() + patience)) {
                            Some(given) => {
                                assert_eq!(given, Given::Room);
                                std::thread::yield_now();
                                room.give(waiting);
                            }
                            None => assert!(patience < LONG, "it was not woken"),
                        }
                    }
                });
            }
        });
        assert_eq!(room.0.into_inner(), 3);
        assert!(!waiting.has_waiters());
    }
}
