//! Memory that is given back: for a get at the limit, by trim, and by close.

use crate::sync::atomic::Ordering::SeqCst;

use super::Core;
use super::wait_queue::Queue;
use crate::class::Class;
use crate::debug::tracking;
use crate::error::GetError;
use crate::os::fork::ForkGuard;
use crate::os::lock::Locked;
use crate::os::thread_state::ThreadState;

/// What [`Core::reserve`] got.
pub(super) enum Reserved {
    /// The bytes asked for.
    Bytes,
    /// An idle slot of the wanted class turned up and was taken instead.
    Idle(u32),
}

/// How much [`Core::discard_idle`] gives back, in bytes.
#[derive(Clone, Copy)]
pub(super) enum Discard {
    AtLeast(usize),
    AtMost(usize),
}

/// The limit.
impl Core {
    /// Reserves bytes below the limit, and gives up idle memory for them if need be. It may take an idle slot of
    /// `class` instead.
    #[inline]
    pub(super) fn reserve(
        &self,
        guard: &ForkGuard,
        bytes: usize,
        class: Option<&Class>,
    ) -> Result<Reserved, GetError> {
        if self.classes.mapped().try_reserve(bytes) {
            return Ok(Reserved::Bytes);
        }
        self.reserve_at_limit(guard, bytes, class)
    }

    #[cold]
    fn reserve_at_limit(
        &self,
        guard: &ForkGuard,
        bytes: usize,
        class: Option<&Class>,
    ) -> Result<Reserved, GetError> {
        let mut queue = self.lock_reclaiming(guard);
        let reserved = self.search(guard, bytes, class);
        // More may have been given up than was needed.
        self.serve(guard, &mut queue);
        reserved
    }

    /// Takes an idle slot of the wanted class, or gives up idle slots of others, or fails. The caller holds the
    /// reclaiming lock.
    fn search(&self, guard: &ForkGuard, bytes: usize, class: Option<&Class>) -> Result<Reserved, GetError> {
        let mut pause = None;
        loop {
            if self.is_closed() {
                return Err(GetError::Closed);
            }
            let puts = self.times_put();
            if let Some(slot) = class.and_then(|class| class.shelf.take_idle()) {
                return Ok(Reserved::Idle(slot));
            }
            let limit = self.classes.mapped().limit();
            // Nothing is given up for a request that can never fit.
            if bytes > limit {
                return Err(self.limit_error(bytes));
            }
            if pause.is_none() {
                if self.classes.mapped().try_reserve(bytes) {
                    return Ok(Reserved::Bytes);
                }
                pause = Some(self.caches.drain_and_pause(guard));
            } else if self.reserve_or_discard(bytes) {
                return Ok(Reserved::Bytes);
            } else if self.times_put() == puts {
                // No slot became idle since the search began. So none was idle when there were too few bytes.
                return Err(self.limit_error(bytes));
            }
        }
    }

    /// Why a get of so many more bytes fails at the limit.
    pub(super) fn limit_error(&self, requested: usize) -> GetError {
        let (limit, mapped) = (self.classes.mapped().limit(), self.classes.mapped().get());
        match self.pinned_bytes() {
            0 => GetError::Limit { limit, mapped, requested },
            pinned => GetError::Pinned { pinned, limit, mapped, requested },
        }
    }

    /// How often slots became idle; wraps.
    fn times_put(&self) -> u32 {
        self.classes.iter().fold(0, |times, class| times.wrapping_add(class.shelf.times_put()))
    }

    /// Reserves bytes, giving up idle slots for them. The caller holds the reclaiming lock, and no thread caches any.
    pub(super) fn reserve_or_discard(&self, bytes: usize) -> bool {
        loop {
            if self.classes.mapped().try_reserve(bytes) {
                return true;
            }
            let missing = self
                .classes
                .mapped()
                .get()
                .saturating_add(bytes)
                .saturating_sub(self.classes.mapped().limit());
            // At least one byte: other threads may have released some since, and reserved them again.
            if self.discard_idle(Discard::AtLeast(missing.max(1))) == 0 {
                // A system buffer may have been freed meanwhile.
                return self.classes.mapped().try_reserve(bytes);
            }
        }
    }

    /// Gives bytes back that were reserved in vain.
    pub(super) fn unreserve(&self, guard: &ForkGuard, bytes: usize) {
        self.classes.mapped().release(bytes);
        self.serve_waiters(guard);
    }

    /// Gives idle slots back to the system, largest classes first. Returns the bytes by which `mapped` fell. The caller
    /// holds the reclaiming lock.
    pub(super) fn discard_idle(&self, wanted: Discard) -> usize {
        if self.pinned_bytes() > 0 {
            return 0;
        }
        let mut discarded = 0;
        for class in self.classes.iter().rev() {
            let slots = match wanted {
                Discard::AtLeast(bytes) if discarded >= bytes => break,
                // Not limited to what is missing, because small slots go only with all others on their page.
                Discard::AtLeast(_) => class.shelf.idle() as usize,
                Discard::AtMost(bytes) => (bytes - discarded) / class.slot_size(),
            };
            let bytes = class.discard_idle(self.classes.region(), slots) * class.slot_size();
            self.classes.mapped().release(bytes);
            discarded += bytes;
        }
        discarded
    }

    /// The lock of all code that gives idle slots back to the system or serves waiters. So no two such searches hide
    /// slots from each other.
    pub(super) fn lock_reclaiming<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, Queue> {
        self.waiting.lock(guard)
    }
}

/// Trim and close.
impl Core {
    /// Gives idle slots of a class beyond its capacity back to the system.
    #[cold]
    pub(super) fn give_back_excess(&self, guard: &ForkGuard, class: &Class) {
        let mut queue = self.lock_reclaiming(guard);
        // Another thread may have done it, or closed the pool.
        if class.has_excess() && !self.is_closed() {
            let discarded = class.discard_excess(self.classes.region(), self.classes.books());
            self.classes.mapped().release(discarded * class.slot_size());
        }
        self.serve(guard, &mut queue);
    }

    /// Ends the cache that the calling thread has of this pool, when its thread-locals are torn down or the cache was
    /// evicted.
    pub(super) fn give_up_cache(&self, guard: &ForkGuard, state: &'static ThreadState) {
        self.caches.give_up(guard, state);
        for class in self.classes.iter().filter(|class| class.has_excess()) {
            self.give_back_excess(guard, class);
        }
    }

    /// Gives idle slots back to the system, and keeps at least `keep_idle_bytes` if there are as many. Returns the
    /// bytes by which `mapped_bytes` fell.
    pub(crate) fn trim(&self, guard: &ForkGuard, keep_idle_bytes: usize) -> usize {
        let mut queue = self.lock_reclaiming(guard);
        self.caches.drain(guard);
        let idle: usize =
            self.classes.iter().map(|class| class.shelf.idle() as usize * class.slot_size()).sum();
        let discarded = self.discard_idle(Discard::AtMost(idle.saturating_sub(keep_idle_bytes)));
        for class in self.classes.iter() {
            class.discard_books(self.classes.books());
        }
        self.registry.shrink(guard);
        self.serve(guard, &mut queue);
        discarded
    }

    /// Refuses gets from now on and gives idle memory back. Outstanding buffers stay good and may be put. A second call
    /// has no effect.
    pub(crate) fn close(&self, guard: &mut ForkGuard) {
        if self.close_memory(guard) {
            if let Some(tracker) = self.tracker() {
                tracking::report_at_close(guard, self.number(), tracker);
            }
        }
    }

    /// Closes the pool. Returns whether this call did.
    fn close_memory(&self, guard: &ForkGuard) -> bool {
        // Done under the lock: a thread that sees the pool closed and then takes the lock comes after all of this. So
        // does a second close. SeqCst: the order against puts is told in `Shelf::put`.
        let mut queue = self.lock_reclaiming(guard);
        if self.closed.swap(true, SeqCst) {
            return false;
        }
        self.caches.drain(guard);
        self.serve(guard, &mut queue);
        self.discard_idle(Discard::AtMost(usize::MAX));
        self.unmap_if_unused(&queue);
        true
    }

    /// Gives back the memory of a slot that was put to the closed pool. With the last slot the region goes.
    #[cold]
    pub(super) fn discard_after_close(&self, guard: &ForkGuard, class: &Class, slot: u32) {
        let reclaiming = self.lock_reclaiming(guard);
        // A get that lost against the closing may bring a slot back after the region went.
        let discarded = match self.classes.region().is_unmapped() {
            true => class.forget_idle(),
            false => class.discard_around(self.classes.region(), slot),
        };
        self.classes.mapped().release(discarded * class.slot_size());
        self.unmap_if_unused(&reclaiming);
    }

    /// Unmaps the region of a closed pool whose slots all came back.
    ///
    /// A get that saw the pool open may still take a slot. It takes the permit and then looks whether the pool is
    /// closed. This thread closed the pool and then counts permits. All four are SeqCst. So either the slot is missing
    /// here, and the region stays until it comes back; or that get sees the closing and touches nothing.
    pub(super) fn unmap_if_unused(&self, _reclaiming: &Queue) {
        if self.classes.region().is_unmapped() || !self.classes.iter().all(Class::is_whole) {
            return;
        }
        for class in self.classes.iter() {
            // The system may have refused to take some pages back before.
            self.classes.mapped().release(class.forget_idle() * class.slot_size());
        }
        // SAFETY:
        // - no slot is out, and none can be got any more: thread caches were drained under this lock when the
        //   pool closed
        // - pages are opened by gets that see the pool open, and discarded under this lock, unless the region
        //   is unmapped
        unsafe { self.classes.region().unmap() };
    }

    /// In a child of a fork: takes back what waiters of other threads had been granted. What those threads cached comes
    /// back when the pool is used.
    pub(super) fn forget_waiters_of_parent(&self, guard: &ForkGuard) {
        if !self.waiting.has_waiters() {
            return;
        }
        self.forget_waiters(guard);
        if self.is_closed() {
            let queue = self.lock_reclaiming(guard);
            self.discard_idle(Discard::AtMost(usize::MAX));
            self.unmap_if_unused(&queue);
        }
    }
}
