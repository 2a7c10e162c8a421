//! Memory back: room for a get at the limit, trim, and close.

use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering::SeqCst;

use super::Shared;
use crate::class::Class;
use crate::error::GetError;
use crate::instrument::tracking;
use crate::waiting::Queue;

/// How [`Shared::make_room`] found a way.
pub(super) enum Room {
    /// The bytes are reserved.
    Reserved,
    /// An idle slot of the wanted class turned up and was taken instead.
    Idle(u32),
}

impl Shared {
    #[inline]
    pub(super) fn make_room(&self, bytes: usize, class: Option<&Class>) -> Result<Room, GetError> {
        if self.mapped.try_reserve(bytes) { Ok(Room::Reserved) } else { self.reclaim_room(bytes, class) }
    }

    #[cold]
    fn reclaim_room(&self, bytes: usize, class: Option<&Class>) -> Result<Room, GetError> {
        let mut queue = self.lock_reclaiming();
        let room = self.search_room(bytes, class);
        // More may have been given up than was needed.
        self.serve(&mut queue);
        room
    }

    /// Takes an idle slot of the wanted class, or gives up idle slots of others, or fails. The caller holds the
    /// reclaiming lock.
    fn search_room(&self, bytes: usize, class: Option<&Class>) -> Result<Room, GetError> {
        let mut pause = None;
        loop {
            if self.is_closed() {
                return Err(GetError::Closed);
            }
            let puts = self.times_put();
            if let Some(slot) = class.and_then(|class| class.shelf.take_idle()) {
                return Ok(Room::Idle(slot));
            }
            if self.mapped.try_reserve(bytes) {
                return Ok(Room::Reserved);
            }
            let (limit, mapped) = (self.mapped.limit(), self.mapped.get());
            let missing = mapped.saturating_add(bytes).saturating_sub(limit);
            // Nothing is given up for a request that can never fit.
            if bytes <= limit && pause.is_none() {
                pause = Some(self.caches.revoke_and_pause());
                continue;
            }
            // At least one: another thread may have released some since, and a third reserved them.
            if bytes <= limit && self.discard_idle(Discard::AtLeast(missing.max(1))) > 0 {
                continue;
            }
            // A system buffer may have been freed meanwhile.
            if self.mapped.try_reserve(bytes) {
                return Ok(Room::Reserved);
            }
            // Or a slot put behind the search. Else none was idle when there was no room.
            if bytes <= limit && self.times_put() != puts {
                continue;
            }
            return Err(GetError::Limit { limit, mapped, requested: bytes });
        }
    }

    /// How often slots became idle; wraps.
    fn times_put(&self) -> u32 {
        self.classes.iter().fold(0, |times, class| times.wrapping_add(class.shelf.times_put()))
    }

    /// Gives idle slots back to the system, largest classes first; the bytes by which `mapped` fell. The
    /// caller holds the reclaiming lock.
    pub(super) fn discard_idle(&self, wanted: Discard) -> usize {
        let mut discarded = 0;
        for class in self.classes.iter().rev() {
            let slots = match wanted {
                Discard::AtLeast(bytes) if discarded >= bytes => break,
                // Not limited to what is missing: small slots only go with all others on their page.
                Discard::AtLeast(_) => class.shelf.idle() as usize,
                Discard::AtMost(bytes) => (bytes - discarded) / class.slot_size(),
            };
            let bytes = class.discard_idle(&self.region, slots) * class.slot_size();
            self.mapped.release(bytes);
            discarded += bytes;
        }
        discarded
    }
}

/// How much [`Shared::discard_idle`] gives back, in bytes.
#[derive(Clone, Copy)]
pub(super) enum Discard {
    AtLeast(usize),
    AtMost(usize),
}

impl Shared {
    /// Refuses gets from now on and gives idle memory back. Outstanding buffers stay good and may be put.
    /// Again has no effect.
    pub(crate) fn close(&self) {
        // Under the lock: who sees the pool closed and then takes the lock comes after all of this, and so
        // does a second close. SeqCst: the order against puts is told in `Shelf::put`.
        let mut queue = self.lock_reclaiming();
        if !self.closed.swap(true, SeqCst) {
            self.caches.revoke();
            self.serve(&mut queue);
            self.discard_idle(Discard::AtMost(usize::MAX));
            self.unmap_if_unused(&queue);
            if let Some(spare) = self.spare() {
                spare.pool().close();
            }
            drop(queue);
            if let Some(tracker) = self.tracker() {
                tracking::report_at_close(self.number(), tracker);
            }
        }
    }

    /// After a slot was put to the closed pool: gives its memory back, and the region with the last one.
    #[cold]
    pub(super) fn discard_after_close(&self, class: &Class, slot: u32) {
        let reclaiming = self.lock_reclaiming();
        // A get that lost against the closing may bring a slot back after the region went.
        let discarded = match self.region.is_unmapped() {
            true => class.forget_idle(),
            false => class.discard_around(&self.region, slot),
        };
        self.mapped.release(discarded * class.slot_size());
        self.unmap_if_unused(&reclaiming);
    }

    /// Unmaps the region of a closed pool whose slots all came back.
    ///
    /// A get that saw the pool open may take a slot still. It takes the permit first (SeqCst), and then looks
    /// whether the pool closed; this thread closed it first, and then counts permits (SeqCst). So either the
    /// slot is missing here, and the region stays until it comes back, or that get sees the closing and
    /// touches nothing. A slot goes back to the count it came from, and `fresh` is read first, lest one be
    /// counted twice for another that is out.
    pub(super) fn unmap_if_unused(&self, _reclaiming: &Queue) {
        let is_whole = |class: &Class| class.shelf.fresh() + class.shelf.idle() == class.capacity();
        if self.region.is_unmapped() || !self.classes.iter().all(is_whole) {
            return;
        }
        for class in &self.classes {
            // The system may have refused to take some pages back before.
            self.mapped.release(class.forget_idle() * class.slot_size());
        }
        // SAFETY:
        // - no slot is out, and none can be got any more: thread caches were revoked under this lock when the
        //   pool closed
        // - pages are opened by gets that see the pool open, and discarded under this lock, unless the region
        //   is unmapped
        unsafe { self.region.unmap() };
    }

    /// Held by whoever gives idle slots back to the system or serves waiters: what one of them looks for, no other
    /// has in its hands.
    pub(super) fn lock_reclaiming(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock()
    }

    /// Gives idle slots back to the system until at most `keep_idle_bytes` are left; the bytes by which
    /// `mapped_bytes` fell.
    pub(crate) fn trim(&self, keep_idle_bytes: usize) -> usize {
        let mut queue = self.lock_reclaiming();
        self.caches.revoke();
        let idle: usize =
            self.classes.iter().map(|class| class.shelf.idle() as usize * class.slot_size()).sum();
        let discarded = self.discard_idle(Discard::AtMost(idle.saturating_sub(keep_idle_bytes)));
        self.serve(&mut queue);
        drop(queue);
        if let Some(spare) = self.spare() {
            // Not counted: what a spare keeps is no part of `mapped_bytes`.
            spare.pool().trim(0);
        }
        discarded
    }
}
