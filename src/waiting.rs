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
//! - A waiter sleeps on a bell (a condition variable), which leaves the lock free.
//!
//! Any thread may call anything at any time. The queue knows nothing of slots and limits: who serves says what
//! a waiter can be given.

use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, PoisonError};
use std::array;
use std::collections::VecDeque;

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

struct Waiter {
    ticket: u64,
    wanted: Wanted,
    given: Option<Given>,
}

/// The waiters, ascending by ticket. One that was given something stays until it wakes up and leaves.
#[derive(Default)]
pub(crate) struct Queue {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

/// Waiters whose tickets differ by a multiple of this share a bell, and wake up for each other.
const BELLS: usize = 64;

pub(crate) struct Waiting {
    /// How many are in the queue. Changed under its lock.
    count: AtomicUsize,
    queue: Mutex<Queue>,
    bells: [Condvar; BELLS],
}

impl Queue {
    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }

    fn is_served(&self, ticket: u64) -> bool {
        self.position(ticket).is_some_and(|at| self.waiters[at].given.is_some())
    }
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            queue: Mutex::new(Queue::default()),
            bells: array::from_fn(|_| Condvar::new()),
        }
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

    /// Adds a waiter; its ticket. The caller searches once more what it wants, and serves the queue.
    ///
    /// SeqCst, and so is that search: it finds what was freed before, or who frees later finds the waiter counted.
    pub(crate) fn enter(&self, queue: &mut Queue, wanted: Wanted) -> Result<u64, OutOfMemory> {
        queue.waiters.try_reserve(1).map_err(|_| OutOfMemory { bytes: size_of::<Waiter>() })?;
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiters.push_back(Waiter { ticket, wanted, given: None });
        self.count.fetch_add(1, SeqCst);
        Ok(ticket)
    }

    /// Takes a waiter out of the queue; what it was given. `None`: nothing, and those behind it may now be served.
    pub(crate) fn leave(&self, queue: &mut Queue, ticket: u64) -> Option<Given> {
        let waiter = queue.waiters.remove(queue.position(ticket)?);
        self.count.fetch_sub(1, SeqCst);
        waiter?.given
    }

    /// Sleeps until the waiter was given something, or its deadline has passed (never, if there is none). Calls
    /// `on_sleep` if it has to sleep at all.
    pub(crate) fn sleep<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        ticket: u64,
        deadline: Option<Instant>,
        on_sleep: impl FnOnce(),
    ) -> MutexGuard<'a, Queue> {
        let bell = self.bell(ticket);
        if !queue.is_served(ticket) {
            on_sleep();
        }
        while !queue.is_served(ticket) {
            queue = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => bell.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => bell.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        queue
    }

    /// Offers every waiter that has nothing yet to `give`, first come first; what it gives is that waiter's.
    pub(crate) fn serve(&self, queue: &mut Queue, mut give: impl FnMut(Wanted) -> Option<Given>) {
        for waiter in queue.waiters.iter_mut().filter(|waiter| waiter.given.is_none()) {
            waiter.given = give(waiter.wanted);
            if waiter.given.is_some() {
                self.bell(waiter.ticket).notify_all();
            }
        }
    }

    fn bell(&self, ticket: u64) -> &Condvar {
        &self.bells[(ticket % BELLS as u64) as usize]
    }

    /// Forgets all waiters: the child of a fork has none of their threads. The caller holds the lock since before
    /// the fork. What they were given and did not take yet is theirs to lose.
    #[cfg_attr(
        any(not(test), bytepool_shuttle),
        expect(dead_code, reason = "called where forks are handled")
    )]
    pub(crate) fn after_fork_in_child(&self, queue: &mut Queue) {
        queue.waiters.clear();
        self.count.store(0, SeqCst);
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use std::time::Duration;

    const WANTED: Wanted = Wanted { class: None, bytes: 1 };

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
            let mut queue = waiting.lock();
            let ticket = waiting.enter(&mut queue, WANTED).unwrap();
            self.serve(waiting, &mut queue);
            let mut queue = waiting.sleep(queue, ticket, deadline, || ());
            let given = waiting.leave(&mut queue, ticket);
            if given.is_none() {
                self.serve(waiting, &mut queue);
            }
            given
        }
    }

    #[test]
    fn waiters_are_served_in_order_and_keep_what_they_were_given() {
        let waiting = Waiting::new();
        let mut queue = waiting.lock();
        let tickets = [0; 3].map(|_| waiting.enter(&mut queue, WANTED).unwrap());
        let mut slots = [2, 1].into_iter();
        waiting.serve(&mut queue, |_| slots.next().map(Given::Slot));
        waiting.serve(&mut queue, |_| None);
        assert_eq!(waiting.leave(&mut queue, tickets[1]), Some(Given::Slot(1)));
        assert_eq!(waiting.leave(&mut queue, tickets[0]), Some(Given::Slot(2)));
        assert!(waiting.has_waiters());
        assert_eq!(waiting.leave(&mut queue, tickets[2]), None);
        assert_eq!(waiting.leave(&mut queue, tickets[2]), None, "again has no effect");
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn what_was_given_before_the_deadline_passed_is_not_lost() {
        let waiting = Waiting::new();
        let mut queue = waiting.lock();
        let ticket = waiting.enter(&mut queue, WANTED).unwrap();
        waiting.serve(&mut queue, |_| Some(Given::Room));
        let mut queue = waiting.sleep(queue, ticket, Some(Instant::now()), || panic!("it was served"));
        assert_eq!(waiting.leave(&mut queue, ticket), Some(Given::Room));
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
    fn a_forked_child_has_no_waiters() {
        let waiting = Waiting::new();
        let mut queue = waiting.lock();
        waiting.enter(&mut queue, WANTED).unwrap();
        waiting.after_fork_in_child(&mut queue);
        assert!(!waiting.has_waiters());
        waiting.serve(&mut queue, |_| panic!("nobody waits"));
    }

    /// Room for three, eight threads, deadlines that pass at the moment of a hand-over: all room comes back,
    /// and no thread without a deadline sleeps for ever.
    #[test]
    fn nothing_is_lost_between_giving_sleeping_and_deadlines() {
        let (waiting, room) = (Waiting::new(), Room(AtomicUsize::new(3)));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (waiting, room) = (&waiting, &room);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let patience = Duration::from_micros((round * 7 + thread * 13) % 50);
                        let deadline = (thread % 2 == 0).then(|| Instant::now() + patience);
                        match room.wait(waiting, deadline) {
                            Some(given) => {
                                assert_eq!(given, Given::Room);
                                std::thread::yield_now();
                                room.give(waiting);
                            }
                            None => assert!(deadline.is_some()),
                        }
                    }
                });
            }
        });
        assert_eq!(room.0.into_inner(), 3);
        assert!(!waiting.has_waiters());
    }
}
