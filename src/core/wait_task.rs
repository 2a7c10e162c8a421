//! Tasks that wait for memory, in the same queue as threads: a future's get is polled, and its waker is called instead
//! of a thread being woken.
//!
//! ```text
//! first poll -> as get -> (limit) enter the queue -> drain -> serve -> granted: leave with a buffer
//!                                                                 \-> the waker stays in the queue
//! later poll -> granted: leave with a buffer; else another waker stays
//! drop       -> leave, and give back what was granted
//! ```
//!
//! A future may be forgotten, so its place in the queue owns all it needs. What it was granted and does not take counts
//! as outstanding. In the child of a fork it stays in the queue.

use std::task::{Poll, Waker};

use super::Core;
use super::get::Request;
use super::wait_queue::Grant;
use crate::class::location::Buffer;
use crate::error::GetError;
use crate::os::fork::ForkGuard;

/// How far a get of a task has come.
#[derive(Debug)]
pub(crate) enum Progress {
    New,
    Queued { ticket: u64, rounded: usize },
    Ended,
}

impl Core {
    /// A buffer as asked for, or a place in the queue, where the waker is left. If the task stays queued, `waker`
    /// becomes the earlier one, if any. Else it is unchanged. The caller drops what it has then: that is the user's
    /// code.
    pub(crate) fn poll_get(
        &self,
        guard: &mut ForkGuard,
        request: &Request,
        progress: &mut Progress,
        waker: &mut Option<Waker>,
    ) -> Result<Poll<Buffer>, GetError> {
        let outcome = match *progress {
            Progress::New => self.poll_first(guard, request, progress, waker),
            Progress::Queued { ticket, rounded } => self.poll_queued(guard, ticket, rounded, request, waker),
            Progress::Ended => panic!("a future was polled after it had ended"),
        };
        if !matches!(outcome, Ok(Poll::Pending)) {
            *progress = Progress::Ended;
        }
        self.counting_failures(outcome)
    }

    fn poll_first(
        &self,
        guard: &mut ForkGuard,
        request: &Request,
        progress: &mut Progress,
        waker: &mut Option<Waker>,
    ) -> Result<Poll<Buffer>, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let rounded = self.rounded(guard, request.size);
        if let Some(outcome) = self.get_before_waiting(guard, rounded, request) {
            return outcome.map(Poll::Ready);
        }
        let demand = self.demand(rounded, request)?;
        let mut queue = self.lock_reclaiming(guard);
        let entered = self.waiting.enter_task(guard, &mut queue, demand);
        let ticket = entered.map_err(|error| GetError::OutOfMemory { requested: error.bytes })?;
        *progress = Progress::Queued { ticket, rounded };
        // Counted from now on: what is put after this comes to the shelf, and to `serve`.
        self.caches.drain(guard);
        self.serve(guard, &mut queue);
        drop(queue);
        let polled = self.poll_queued(guard, ticket, rounded, request, waker);
        if matches!(polled, Ok(Poll::Pending)) {
            self.counters.count_wait();
        }
        polled
    }

    fn poll_queued(
        &self,
        guard: &mut ForkGuard,
        ticket: u64,
        rounded: usize,
        request: &Request,
        waker: &mut Option<Waker>,
    ) -> Result<Poll<Buffer>, GetError> {
        let taken = self.waiting.take_or_leave(guard, &mut self.lock_reclaiming(guard), ticket, waker);
        let Some(grant) = taken else { return Ok(Poll::Pending) };
        self.caches.prolong_pause();
        self.get_granted(guard, grant, rounded, request).map(Poll::Ready)
    }

    /// Takes a task out of the queue that waits no more, and what it was granted back. Its waker is the caller's to
    /// drop.
    pub(crate) fn leave_queue(&self, guard: &ForkGuard, ticket: u64) -> Option<Waker> {
        let mut queue = self.lock_reclaiming(guard);
        let left = self.waiting.leave_task(guard, &mut queue, ticket)?;
        match (left.granted, left.demand.class) {
            // It stood before others.
            (None, _) => self.serve(guard, &mut queue),
            (Some(Grant::Slot(slot)), Some(class)) => {
                drop(queue);
                self.shelve(guard, &self.classes[class], slot);
            }
            (Some(Grant::Bytes), _) => {
                drop(queue);
                self.unreserve(guard, left.demand.bytes);
            }
            (Some(Grant::Closed | Grant::Slot(_)), _) => {}
        }
        self.caches.prolong_pause();
        left.waker
    }
}
