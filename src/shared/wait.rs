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
use super::get::{Buffer, Fill, check_oversize};
use super::reclaim::Discard;
use crate::error::GetError;
use crate::ledger::Holder;
use crate::sync::Instant;
use crate::waiting::{Given, Queue, Wanted};

impl Shared {
    /// As [`get`](Self::get), but where that fails at the limit, waits for memory up to `timeout`. Zero does not wait;
    /// a timeout beyond what clocks can say has no end. What can never fit fails at once.
    pub(crate) fn get_timeout(
        &self,
        size: usize,
        timeout: Duration,
        holder: Holder,
        fill: Fill,
    ) -> Result<Buffer, GetError> {
        if timeout.is_zero() {
            return self.get(size, holder, fill);
        }
        let deadline = Instant::now().checked_add(timeout);
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let rounded = self.rounded(size);
        // Who comes while others wait queues behind them.
        if !self.waiting.has_waiters() {
            match self.get_at_once(rounded, size, holder, fill) {
                Err(GetError::Limit { limit, requested, .. }) if requested <= limit => {}
                outcome => return self.counting_failures(outcome),
            }
        }
        let given = self.wanted(rounded).and_then(|wanted| self.wait(wanted, timeout, deadline));
        self.counting_failures(given.and_then(|given| self.get_given(given, rounded, size, holder, fill)))
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

    /// Waits in the queue.
    fn wait(&self, wanted: Wanted, timeout: Duration, deadline: Option<Instant>) -> Result<Given, GetError> {
        let requested = wanted.bytes;
        let mut queue = self.lock_reclaiming();
        let entered = self.waiting.enter(&mut queue, wanted);
        let ticket = entered.map_err(|error| GetError::OutOfMemory { requested: error.bytes })?;
        // Counted from now on: what is put after this comes to the shelf, and to `serve`.
        self.caches.revoke();
        self.serve(&mut queue);
        let mut queue = self.waiting.sleep(queue, ticket, deadline, || self.counters.count_wait());
        let given = self.waiting.leave(&mut queue, ticket);
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
