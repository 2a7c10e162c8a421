//! Get: an idle slot, else a fresh one, else the system allocator.

use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::ptr::NonNull;

use super::reclaim::Room;
use super::{Place, Shared};
use crate::class::Class;
use crate::error::GetError;
use crate::instrument::Source;
use crate::instrument::tracking::Caller;
use crate::ledger::Holder;
use crate::memory::Content;
use crate::registry::{Role, SystemBuffer};
use crate::thread_cache;
use crate::waiting::Given;

/// A buffer just got. It holds a reference to the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) data: NonNull<u8>,
    pub(crate) capacity: usize,
    pub(crate) place: Place,
}

/// What a buffer must hold when it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Whatever was there, for C.
    Anything,
    /// Whatever was there, but initialised: safe Rust may read it.
    Initialised,
    /// Zeros in the first bytes, as many as asked for.
    Zeros,
}

/// What a get asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Bytes, before rounding.
    pub(crate) size: usize,
    pub(crate) holder: Holder,
    pub(crate) fill: Fill,
    pub(crate) caller: Caller,
}

impl Request {
    /// For a raw buffer, as C asks for it.
    pub(crate) fn raw(size: usize, caller: Caller) -> Self {
        Self { size, holder: Holder::Raw(size), fill: Fill::Anything, caller }
    }
}

/// A slot taken from a shelf.
pub(super) struct Taken {
    slot: u32,
    /// It reads as zeros.
    fresh: bool,
}

impl Shared {
    /// A buffer as asked for.
    #[inline]
    pub(crate) fn get(&self, request: &Request) -> Result<Buffer, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        self.get_rounded(self.rounded(request.size), request)
    }

    /// As [`get`](Self::get), for a size that was rounded already. Runs nothing of the user's.
    pub(crate) fn get_rounded(&self, rounded: usize, request: &Request) -> Result<Buffer, GetError> {
        self.counting_failures(self.get_at_once(rounded, request))
    }

    /// Counts a get that failed at the limit.
    #[inline]
    pub(super) fn counting_failures(&self, outcome: Result<Buffer, GetError>) -> Result<Buffer, GetError> {
        outcome.inspect_err(|error| {
            if matches!(error, GetError::Limit { .. } | GetError::Timeout { .. }) {
                self.counters.count_limit_failure();
            }
        })
    }

    /// As [`get_rounded`](Self::get_rounded), not counting.
    pub(super) fn get_at_once(&self, rounded: usize, request: &Request) -> Result<Buffer, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let Some(class) = self.index.class_of(rounded) else {
            self.make_room_for_oversize(rounded, self.alignment)?;
            return self.get_oversize(rounded, self.alignment, request);
        };
        if let Some(buffer) = self.get_cached(class, request) {
            return Ok(buffer);
        }
        match self.take_slot(&self.classes[class])? {
            Some(taken) => self.hand_out(class, taken, request),
            None => self.get_overflow(class, request),
        }
    }

    /// As [`get`](Self::get), at a multiple of `alignment` bytes. Above the pool's own alignment it is
    /// oversize.
    pub(crate) fn get_aligned(&self, alignment: usize, request: &Request) -> Result<Buffer, GetError> {
        if !alignment.is_power_of_two() {
            return Err(GetError::Alignment { alignment });
        }
        if alignment <= self.alignment {
            return self.get(request);
        }
        let rounded = self.rounded(request.size);
        let room = self.make_room_for_oversize(rounded, alignment);
        self.counting_failures(room.and_then(|()| self.get_oversize(rounded, alignment, request)))
    }

    /// With what a waiter was given.
    pub(super) fn get_given(
        &self,
        given: Given,
        rounded: usize,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let class = self.index.class_of(rounded);
        match (given, class) {
            (Given::Slot(slot), Some(class)) => {
                let taken = self.keep_idle(&self.classes[class], slot)?;
                self.hand_out(class, taken, request)
            }
            (Given::Room, Some(class)) => match self.classes[class].shelf.take_fresh() {
                Some(slot) => {
                    let taken = self.open_fresh(&self.classes[class], slot)?;
                    self.hand_out(class, taken, request)
                }
                None => self.get_overflow_in_room(class, request),
            },
            (Given::Room, None) => self.get_oversize(rounded, self.alignment, request),
            (Given::Closed, _) | (Given::Slot(_), None) => Err(GetError::Closed),
        }
    }

    /// From this thread's cache, if it has one, with a batch from the shelf if that is needed.
    pub(super) fn get_cached(&self, class: usize, request: &Request) -> Option<Buffer> {
        let buffer = thread_cache::get_of_class(self.cache_key(), class, request.holder)?;
        if request.fill == Fill::Zeros {
            // SAFETY:
            // - just got: this thread's, and of at least as many bytes as asked for
            unsafe { buffer.data.as_ptr().write_bytes(0, request.size) };
        }
        Some(buffer)
    }

    #[inline]
    pub(super) fn take_slot(&self, class: &Class) -> Result<Option<Taken>, GetError> {
        match class.shelf.take_idle() {
            Some(slot) => self.keep_idle(class, slot).map(Some),
            None => self.take_absent(class),
        }
    }

    /// A slot of a class that has none on its shelf; `None` if all are out, or in other threads' caches.
    #[cold]
    fn take_absent(&self, class: &Class) -> Result<Option<Taken>, GetError> {
        self.caches.recover_large(self.number_of(class), class.slot_size());
        match class.shelf.take_idle() {
            Some(slot) => self.keep_idle(class, slot).map(Some),
            None => self.take_fresh(class),
        }
    }

    /// Keeps an idle slot that was taken, unless the pool closed meanwhile.
    #[inline]
    pub(super) fn keep_idle(&self, class: &Class, slot: u32) -> Result<Taken, GetError> {
        // SeqCst: the order against the closing thread is told in `unmap_if_unused`.
        if self.closed.load(SeqCst) {
            class.shelf.put(slot);
            self.discard_after_close(class, slot);
            return Err(GetError::Closed);
        }
        Ok(Taken { slot, fresh: false })
    }

    /// A slot that was never handed out; `None` if all were.
    fn take_fresh(&self, class: &Class) -> Result<Option<Taken>, GetError> {
        let bytes = class.slot_size();
        while class.shelf.fresh() > 0 {
            let own_line = thread_cache::take_fresh(self.cache_key(), self.number_of(class));
            let Some(slot) = own_line.or_else(|| class.shelf.take_fresh()) else { continue };
            // Room is made for a slot that is there: bytes reserved in vain could fail another get.
            match self.make_room(bytes, Some(class)) {
                Ok(Room::Reserved) => {}
                Ok(Room::Idle(idle)) => {
                    class.shelf.untake_fresh(slot);
                    return self.keep_idle(class, idle).map(Some);
                }
                Err(error) => {
                    self.untake_fresh(class, slot);
                    return Err(error);
                }
            }
            return self.open_fresh(class, slot).map(Some);
        }
        // Another thread may have put one since.
        class.shelf.take_idle().map(|slot| self.keep_idle(class, slot)).transpose()
    }

    /// Makes a fresh slot usable that was taken, and whose bytes are reserved.
    fn open_fresh(&self, class: &Class, slot: u32) -> Result<Taken, GetError> {
        let bytes = class.slot_size();
        // SeqCst: as in `keep_idle`.
        let failure = if self.closed.load(SeqCst) {
            GetError::Closed
        } else if !self.instrument.replaces_all() && class.open(&self.region, slot).is_err() {
            GetError::OutOfMemory { requested: bytes }
        } else {
            return Ok(Taken { slot, fresh: true });
        };
        self.untake_fresh(class, slot);
        self.release_room(bytes);
        Err(failure)
    }

    /// Brings a fresh slot back that was not handed out. The region of a closed pool may have waited for it.
    fn untake_fresh(&self, class: &Class, slot: u32) {
        class.shelf.untake_fresh(slot);
        // SeqCst: as in `keep_idle`.
        if self.closed.load(SeqCst) {
            self.discard_after_close(class, slot);
        }
    }

    /// Gives bytes back that were reserved in vain.
    pub(super) fn release_room(&self, bytes: usize) {
        self.mapped.release(bytes);
        self.serve_waiters();
    }

    #[inline]
    pub(super) fn hand_out(
        &self,
        class_number: usize,
        taken: Taken,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let class = &self.classes[class_number];
        let Taken { slot, fresh } = taken;
        if let Some(source) = self.instrument.source() {
            return self.stand_in(class_number, slot, source, request);
        }
        let data = self.region.at(class.offset_of(slot));
        // Before the ledger says that it can be put.
        self.instrument.got(data, class.buffer_size(), request);
        class.ledger.set(slot, Some(request.holder));
        self.home.retain(1);
        if !fresh && (request.fill == Fill::Zeros || self.flags.zero_on_get) {
            let bytes = if self.flags.zero_on_get { class.buffer_size() } else { request.size };
            // SAFETY:
            // - the slot was just taken, so nobody else uses it; it is open and has at least `bytes` bytes
            unsafe { data.as_ptr().write_bytes(0, bytes) };
        }
        let place = Place::Slot { class: class_number as u8, slot };
        Ok(Buffer { data, capacity: class.buffer_size(), place })
    }

    #[cold]
    fn make_room_for_oversize(&self, capacity: usize, alignment: usize) -> Result<(), GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        check_oversize(capacity, alignment)?;
        self.make_room(capacity, None).map(|_| ())
    }

    /// Larger than the largest class, or aligned more strictly than the pool; its bytes are reserved.
    #[cold]
    fn get_oversize(&self, bytes: usize, alignment: usize, request: &Request) -> Result<Buffer, GetError> {
        debug_assert!(bytes >= request.size);
        let (source, capacity) = self.source_and_capacity(request.size, bytes);
        let (role, holder) = (Role::Oversize { bytes }, request.holder);
        let buffer = SystemBuffer { role, source, capacity, alignment, holder };
        let buffer = self.get_system(buffer, request).inspect_err(|_| self.release_room(bytes))?;
        self.counters.oversize_bytes.fetch_add(bytes, Relaxed);
        self.counters.oversize_buffers.fetch_add(1, Relaxed);
        self.counters.oversize_gets.fetch_add(1, Relaxed);
        Ok(buffer)
    }

    /// Where a buffer that is no slot comes from, and its capacity, which usually is `usual`.
    pub(super) fn source_and_capacity(&self, size: usize, usual: usize) -> (Source, usize) {
        self.instrument.source().map_or((Source::Allocator, usual), |source| (source, size))
    }

    /// Allocates a buffer outside the region, with a reference.
    pub(super) fn get_system(&self, buffer: SystemBuffer, request: &Request) -> Result<Buffer, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let zeros = request.fill != Fill::Anything || self.flags.zero_on_get;
        let content = if zeros { Content::Zeros } else { Content::Anything };
        let data = self
            .registry
            .allocate(buffer, content)
            .map_err(|_| GetError::OutOfMemory { requested: buffer.capacity })?;
        self.instrument.got_outside(data, &buffer, request);
        self.home.retain(1);
        Ok(Buffer { data, capacity: buffer.capacity, place: Place::System })
    }
}

/// Whether a system could have so much memory.
pub(super) fn check_oversize(capacity: usize, alignment: usize) -> Result<(), GetError> {
    match capacity <= (isize::MAX as usize).saturating_sub(alignment) {
        true => Ok(()),
        false => Err(GetError::OutOfMemory { requested: capacity }),
    }
}
