//! Gets that wait: a queue, first come first served.
//!
//! ```text
//! get at the limit -> enter -> [ 7 | 8 | 9 ] -> sleep -> granted a slot, or bytes, or the closing -> leave
//!                                ^ whoever frees memory serves, from the front, under the same lock
//! ```
//!
//! - Memory is handed over under the queue's lock, to a waiter that is in the queue. A waiter whose deadline passed
//!   looks under that lock whether it was granted something before it leaves: nothing handed over is lost.
//! - No wake-up is lost: a waiter is counted before the pool is searched for it once more, and whoever frees memory
//!   does so before it looks at the count. So one of the two sees the other.
//! - A waiter sleeps on a parker of its own and holds no lock of the pool meanwhile.
//!
//! A task waits in the same queue. It does not sleep: its place has its waker. The place goes when a poll takes the
//! grant, or the future is dropped.
//!
//! Any thread may call anything at any time. The queue knows nothing of slots and limits: who serves says what
//! a waiter can be granted.

use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, PoisonError};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::task::Waker;

use crate::os::fork::ForkGuard;
use crate::os::lock::{Lock, Locked};
use crate::os::memory::OutOfMemory;
use crate::os::wakes;

/// What a get waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The class whose slots serve it; `None` if it is oversize.
    pub(crate) class: Option<usize>,
    /// What it would add to the mapped bytes.
    pub(crate) bytes: usize,
}

/// What a waiter wakes up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// An idle slot of its class, taken off the shelf.
    Slot(u32),
    /// Its bytes are reserved.
    Bytes,
    /// The pool is closed.
    Closed,
}

/// What one waiter sleeps on, and is woken by. Its lock takes no fork guard, because the waiter sleeps with it. A
/// forked child has neither the waiter nor the parker.
pub(crate) struct Parker {
    unparked: Mutex<bool>,
    condvar: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self { unparked: Mutex::new(false), condvar: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.unparked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpark(&self, _guard: &ForkGuard) {
        *self.lock() = true;
        self.condvar.notify_one();
    }

    /// Sleeps until it is unparked, or was before, or the deadline has passed. Without a deadline only the first two
    /// end the sleep. The process may fork meanwhile.
    pub(crate) fn park(&self, guard: &mut ForkGuard, deadline: Option<Instant>) {
        guard.unguarded(|| {
            let mut unparked = self.lock();
            while !*unparked {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                unparked = match left {
                    None => self.condvar.wait(unparked).unwrap_or_else(PoisonError::into_inner),
                    Some(left) if left.is_zero() => return,
                    Some(left) => {
                        let woken = self.condvar.wait_timeout(unparked, left);
                        woken.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        });
    }
}

/// What is to be woken.
enum Sleeper {
    /// Its [`WaiterGuard`] borrows the parker, and takes the waiter out of the queue before that ends.
    Thread(NonNull<Parker>),
    /// `None` until the first poll ends, and after the waker was called.
    Task(Option<Waker>),
}

struct Waiter {
    ticket: u64,
    demand: Demand,
    granted: Option<Grant>,
    sleeper: Sleeper,
}

/// A task that left.
pub(crate) struct LeftTask {
    pub(crate) demand: Demand,
    pub(crate) granted: Option<Grant>,
    /// To be dropped without a lock: it is the user's code.
    pub(crate) waker: Option<Waker>,
}

// SAFETY:
// - a parker may be unparked by any thread
unsafe impl Send for Waiter {}

/// The waiters, ascending by ticket. One that was granted something stays until it wakes up and leaves.
#[derive(Default)]
pub(crate) struct Queue {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

impl Queue {
    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }

    /// What was granted and not taken yet.
    pub(crate) fn granted(&self) -> impl Iterator<Item = (Demand, Grant)> {
        self.waiters.iter().filter_map(|waiter| Some((waiter.demand, waiter.granted?)))
    }
}

/// The queue of one pool.
pub(crate) struct WaitQueue {
    /// How many are in the queue. Changed under its lock.
    count: AtomicUsize,
    queue: Lock<Queue>,
}

/// A waiter that is in the queue, until it leaves.
pub(crate) struct WaiterGuard<'a> {
    waiting: &'a WaitQueue,
    ticket: u64,
    _parker: &'a Parker,
}

impl WaiterGuard<'_> {
    pub(crate) fn is_served(&self, queue: &Queue) -> bool {
        queue.position(self.ticket).is_some_and(|at| queue.waiters[at].granted.is_some())
    }

    /// Takes the waiter out of the queue; what it was granted. `None`: nothing, and those behind it may now be served.
    pub(crate) fn leave(self, queue: &mut Queue) -> Option<Grant> {
        let waiter = self.waiting.take_out(queue, self.ticket);
        std::mem::forget(self);
        waiter?.granted
    }
}

/// Only by unwinding, without the lock: the parker must not be unparked any more.
impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        let guard = ForkGuard::new();
        self.waiting.take_out(&mut self.waiting.lock(&guard), self.ticket);
    }
}

impl WaitQueue {
    pub(crate) fn new() -> Self {
        Self { count: AtomicUsize::new(0), queue: Lock::new(Queue::default()) }
    }

    pub(crate) fn lock<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, Queue> {
        self.queue.lock(guard)
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
        demand: Demand,
        parker: &'a Parker,
    ) -> Result<WaiterGuard<'a>, OutOfMemory> {
        let ticket = self.add(queue, demand, Sleeper::Thread(NonNull::from(parker)))?;
        Ok(WaiterGuard { waiting: self, ticket, _parker: parker })
    }

    fn add(&self, queue: &mut Queue, demand: Demand, sleeper: Sleeper) -> Result<u64, OutOfMemory> {
        queue.waiters.try_reserve(1).map_err(|_| OutOfMemory { bytes: size_of::<Waiter>() })?;
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiters.push_back(Waiter { ticket, demand, granted: None, sleeper });
        self.count.fetch_add(1, SeqCst);
        Ok(ticket)
    }

    fn take_out(&self, queue: &mut Queue, ticket: u64) -> Option<Waiter> {
        let waiter = queue.waiters.remove(queue.position(ticket)?);
        self.count.fetch_sub(1, SeqCst);
        waiter
    }

    /// Adds a task, without a waker yet, as [`enter`](Self::enter) adds a thread; its ticket. It stays until
    /// [`take_or_leave`](Self::take_or_leave) takes a grant, or it [leaves](Self::leave_task).
    pub(crate) fn enter_task(
        &self,
        guard: &ForkGuard,
        queue: &mut Queue,
        demand: Demand,
    ) -> Result<u64, OutOfMemory> {
        wakes::reserve(guard)?;
        self.add(queue, demand, Sleeper::Task(None)).inspect_err(|_| wakes::release(guard))
    }

    /// Takes a task out of the queue, and returns what it was granted. Without a grant it stays, and the new waker
    /// takes the place of the old one.
    pub(crate) fn take_or_leave(
        &self,
        guard: &ForkGuard,
        queue: &mut Queue,
        ticket: u64,
        waker: &mut Option<Waker>,
    ) -> Option<Grant> {
        let at = queue.position(ticket).expect("a task stays in the queue until it leaves");
        let waiter = &mut queue.waiters[at];
        if waiter.granted.is_none() {
            let Sleeper::Task(left) = &mut waiter.sleeper else { unreachable!("a thread is not polled") };
            std::mem::swap(left, waker);
            return None;
        }
        let left = self.leave_task(guard, queue, ticket)?;
        debug_assert!(left.waker.is_none());
        left.granted
    }

    /// Takes a task out of the queue; those behind it may now be served.
    pub(crate) fn leave_task(&self, guard: &ForkGuard, queue: &mut Queue, ticket: u64) -> Option<LeftTask> {
        let Waiter { demand, granted, sleeper, .. } = self.take_out(queue, ticket)?;
        wakes::release(guard);
        let Sleeper::Task(waker) = sleeper else { unreachable!("a thread leaves by its guard") };
        Some(LeftTask { demand, granted, waker })
    }

    /// Some waker of a task whose future was forgotten, of a pool that ends.
    pub(crate) fn take_forgotten(&self, guard: &ForkGuard) -> Option<LeftTask> {
        let mut queue = self.lock(guard);
        let ticket = queue.waiters.front()?.ticket;
        self.leave_task(guard, &mut queue, ticket)
    }

    /// Offers every waiter that has nothing yet to `give`, first come first; what it gives is that waiter's.
    pub(crate) fn serve(
        &self,
        guard: &ForkGuard,
        queue: &mut Queue,
        mut give: impl FnMut(Demand) -> Option<Grant>,
    ) {
        for waiter in queue.waiters.iter_mut().filter(|waiter| waiter.granted.is_none()) {
            waiter.granted = give(waiter.demand);
            match &mut waiter.sleeper {
                _ if waiter.granted.is_none() => {}
                // SAFETY:
                // - the waiter is in the queue, and leaves it under the lock, which is held, before its parker goes
                Sleeper::Thread(parker) => unsafe { parker.as_ref() }.unpark(guard),
                Sleeper::Task(waker) => {
                    if let Some(waker) = waker.take() {
                        wakes::push(guard, waker);
                    }
                }
            }
        }
    }

    /// Forgets all threads that wait: the child of a fork has none of them. What they were granted and did not take yet
    /// is `take_back`'s. Tasks stay, with what they were granted: the child has a copy of their futures. Nobody was in
    /// the queue's lock when the process forked; waiters that sleep are not.
    pub(crate) fn after_fork_in_child(&self, guard: &ForkGuard, mut take_back: impl FnMut(Demand, Grant)) {
        let mut queue = self.lock(guard);
        queue.waiters.retain(|waiter| {
            let is_thread = matches!(waiter.sleeper, Sleeper::Thread(_));
            if let (true, Some(granted)) = (is_thread, waiter.granted) {
                take_back(waiter.demand, granted);
            }
            !is_thread
        });
        self.count.store(queue.waiters.len(), SeqCst);
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use std::time::Duration;

    const DEMAND: Demand = Demand { class: None, bytes: 1 };
    const LONG: Duration = Duration::from_secs(30);

    /// Room for so many, as mapped bytes are for a pool.
    struct Room(AtomicUsize);

    impl Room {
        fn take(&self) -> bool {
            self.0.fetch_update(SeqCst, SeqCst, |room| room.checked_sub(1)).is_ok()
        }

        fn serve(&self, guard: &ForkGuard, waiting: &WaitQueue, queue: &mut Queue) {
            waiting.serve(guard, queue, |_| self.take().then_some(Grant::Bytes));
        }

        fn give(&self, waiting: &WaitQueue) {
            self.0.fetch_add(1, SeqCst);
            if waiting.has_waiters() {
                let guard = ForkGuard::new();
                self.serve(&guard, waiting, &mut waiting.lock(&guard));
            }
        }

        fn wait(&self, waiting: &WaitQueue, deadline: Option<Instant>) -> Option<Grant> {
            let (parker, mut guard) = (Parker::new(), ForkGuard::new());
            let mut queue = waiting.lock(&guard);
            let waiter = waiting.enter(&mut queue, DEMAND, &parker).unwrap();
            self.serve(&guard, waiting, &mut queue);
            drop(queue);
            parker.park(&mut guard, deadline);
            let mut queue = waiting.lock(&guard);
            let granted = waiter.leave(&mut queue);
            if granted.is_none() {
                self.serve(&guard, waiting, &mut queue);
            }
            granted
        }
    }

    #[test]
    fn waiters_are_served_in_order_and_keep_what_they_were_given() {
        let (waiting, parker, guard) = (WaitQueue::new(), Parker::new(), ForkGuard::new());
        let mut queue = waiting.lock(&guard);
        let [first, second, third] = [0; 3].map(|_| waiting.enter(&mut queue, DEMAND, &parker).unwrap());
        let mut slots = [2, 1].into_iter();
        waiting.serve(&guard, &mut queue, |_| slots.next().map(Grant::Slot));
        waiting.serve(&guard, &mut queue, |_| None);
        assert!(first.is_served(&queue) && second.is_served(&queue) && !third.is_served(&queue));
        assert_eq!(second.leave(&mut queue), Some(Grant::Slot(1)));
        assert_eq!(first.leave(&mut queue), Some(Grant::Slot(2)));
        assert!(waiting.has_waiters());
        assert_eq!(third.leave(&mut queue), None);
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn what_was_given_before_the_deadline_passed_is_not_lost() {
        let (waiting, parker, mut guard) = (WaitQueue::new(), Parker::new(), ForkGuard::new());
        let waiter = waiting.enter(&mut waiting.lock(&guard), DEMAND, &parker).unwrap();
        parker.park(&mut guard, Some(Instant::now()));
        // Between the deadline and the look under the lock.
        waiting.serve(&guard, &mut waiting.lock(&guard), |_| Some(Grant::Bytes));
        assert_eq!(waiter.leave(&mut waiting.lock(&guard)), Some(Grant::Bytes));
        // It was unparked: nobody sleeps any more.
        let start = Instant::now();
        parker.park(&mut guard, Some(start + LONG));
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn a_deadline_ends_the_sleep() {
        let (waiting, room) = (WaitQueue::new(), Room(AtomicUsize::new(0)));
        for timeout in [Duration::ZERO, Duration::from_millis(20)] {
            let start = Instant::now();
            assert_eq!(room.wait(&waiting, Some(start + timeout)), None);
            assert!(start.elapsed() >= timeout);
        }
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn a_waiter_that_is_dropped_is_not_woken() {
        let (waiting, guard) = (WaitQueue::new(), ForkGuard::new());
        {
            let parker = Parker::new();
            let _waiter = waiting.enter(&mut waiting.lock(&guard), DEMAND, &parker).unwrap();
        }
        waiting.serve(&guard, &mut waiting.lock(&guard), |_| panic!("nobody waits"));
        assert!(!waiting.has_waiters());
    }

    #[test]
    fn a_forked_child_has_no_waiters() {
        let (waiting, parker, guard) = (WaitQueue::new(), Parker::new(), ForkGuard::new());
        let waiter = waiting.enter(&mut waiting.lock(&guard), DEMAND, &parker).unwrap();
        waiting.serve(&guard, &mut waiting.lock(&guard), |_| Some(Grant::Bytes));
        let mut taken_back = Vec::new();
        waiting.after_fork_in_child(&guard, |demand, granted| taken_back.push((demand, granted)));
        assert_eq!(taken_back, [(DEMAND, Grant::Bytes)]);
        assert!(!waiting.has_waiters());
        waiting.serve(&guard, &mut waiting.lock(&guard), |_| panic!("nobody waits"));
        assert_eq!(waiter.leave(&mut waiting.lock(&guard)), None);
        assert!(!waiting.has_waiters());
    }

    /// Room for three, eight threads, deadlines that pass at the moment of a hand-over: all room comes back,
    /// and no thread with a far deadline meets it.
    #[test]
    fn nothing_is_lost_between_giving_sleeping_and_deadlines() {
        let (waiting, room) = (WaitQueue::new(), Room(AtomicUsize::new(3)));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (waiting, room) = (&waiting, &room);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let patience = Duration::from_micros((round * 7 + thread * 13) % 50);
                        let patience = if thread % 2 == 0 { patience } else { LONG };
                        match room.wait(waiting, Some(Instant::now() + patience)) {
                            Some(granted) => {
                                assert_eq!(granted, Grant::Bytes);
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
