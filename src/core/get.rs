//! Get: an idle slot, else a fresh one, else overflow. What fits no class is oversize.

use crate::sync::Instant;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::ptr::NonNull;
use std::time::Duration;

use super::Core;
use super::reclaim::Reserved;
use super::registry::{Role, SystemBuffer};
use super::wait_queue::Grant;
use crate::cache;
use crate::class::Class;
use crate::class::ledger::Holder;
use crate::class::location::{Buffer, Location};
use crate::debug::Source;
use crate::debug::tracking::{Caller, Got};
use crate::error::GetError;
use crate::os::fork::ForkGuard;
use crate::os::memory::Content;

/// What a buffer must hold when it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Whatever was there, for C.
    Anything,
    /// Whatever was there, but initialised, so that safe Rust may read it.
    Initialised,
    /// Zeros in the first bytes, as many as asked for.
    Zeros,
}

/// What a get asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Bytes, before rounding.
    pub(crate) size: usize,
    pub(crate) holder: Holder,
    pub(crate) fill: Fill,
    pub(crate) caller: Caller<'a>,
    /// In bytes; `None` for the pool's own.
    pub(crate) alignment: Option<usize>,
    /// How long to wait for memory where the pool is at its limit. `None`: such a get fails by the limit. With zero it
    /// fails as soon, but by the timeout if it could fit at another time.
    pub(crate) timeout: Option<Duration>,
}

impl<'a> Request<'a> {
    /// For a raw buffer, as C asks for it.
    pub(crate) fn raw(size: usize, caller: Caller<'a>) -> Self {
        let holder = Holder::Raw(size);
        Self { size, holder, fill: Fill::Anything, caller, alignment: None, timeout: None }
    }

    /// For a `PooledBuffer`.
    pub(crate) fn owned(size: usize, caller: Caller<'a>) -> Self {
        Self { holder: Holder::Owned, fill: Fill::Initialised, ..Self::raw(size, caller) }
    }

    /// One that waits, as Rust and C understand it: a timeout of zero is none.
    pub(crate) fn waiting(self, timeout: Duration) -> Self {
        Self { timeout: (!timeout.is_zero()).then_some(timeout), ..self }
    }

    /// Whether the thread's cache can serve it by size alone.
    pub(super) fn is_plain(&self) -> bool {
        self.fill != Fill::Zeros && self.alignment.is_none()
    }
}

/// A slot taken from a shelf.
pub(super) struct Taken {
    slot: u32,
    /// It reads as zeros.
    fresh: bool,
}

impl Core {
    /// A buffer as asked for.
    pub(crate) fn get(&self, guard: &mut ForkGuard, request: &Request) -> Result<Buffer, GetError> {
        if let Some(alignment) = request.alignment.filter(|alignment| !alignment.is_power_of_two()) {
            return Err(GetError::Alignment { alignment });
        }
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let Some(timeout) = request.timeout else {
            let rounded = self.rounded(guard, request.size);
            return self.get_rounded(guard, rounded, request);
        };
        let deadline = Instant::now().checked_add(timeout);
        let rounded = self.rounded(guard, request.size);
        let outcome = self.get_by(guard, rounded, request, timeout, deadline);
        self.counting_failures(outcome)
    }

    /// A buffer for a size that was rounded already, without waiting.
    #[inline]
    pub(crate) fn get_rounded(
        &self,
        guard: &mut ForkGuard,
        rounded: usize,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let outcome = self.get_at_once(guard, rounded, request);
        self.counting_failures(outcome)
    }

    /// Counts a get that failed at the limit.
    #[inline]
    pub(super) fn counting_failures<T>(&self, outcome: Result<T, GetError>) -> Result<T, GetError> {
        outcome.inspect_err(|error| {
            if matches!(error, GetError::Limit { .. } | GetError::Pinned { .. } | GetError::Timeout { .. }) {
                self.counters.count_limit_failure();
            }
        })
    }

    pub(super) fn get_at_once(
        &self,
        guard: &mut ForkGuard,
        rounded: usize,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let Some(class) = self.class_for(rounded, request) else {
            check_oversize(rounded, self.alignment_for(request))?;
            self.reserve(guard, rounded, None)?;
            return self.get_oversize(guard, rounded, request);
        };
        if let Some(buffer) = self.get_cached(guard, class, request) {
            return Ok(buffer);
        }
        match self.take_slot(guard, class)? {
            Some(taken) => self.hand_out(guard, class, taken, request),
            None => self.get_overflow(guard, class, request),
        }
    }

    /// What a get of `size` bytes has room for, at least.
    pub(crate) fn good_size(&self, guard: &mut ForkGuard, size: usize) -> usize {
        let rounded = self.rounded(guard, size);
        match self.classes.for_size(rounded) {
            _ if self.instrument.may_replace() => size,
            Some(class) => class.buffer_size(),
            None => rounded,
        }
    }

    /// The class that serves a request; `None`: it is oversize.
    pub(super) fn class_for(&self, rounded: usize, request: &Request) -> Option<&Class> {
        match request.alignment {
            Some(alignment) if alignment > self.alignment => self.classes.for_aligned(rounded, alignment),
            _ => self.classes.for_size(rounded),
        }
    }

    pub(super) fn alignment_for(&self, request: &Request) -> usize {
        request.alignment.map_or(self.alignment, |alignment| alignment.max(self.alignment))
    }

    /// A buffer made of what a waiter was granted.
    pub(super) fn get_granted(
        &self,
        guard: &mut ForkGuard,
        grant: Grant,
        rounded: usize,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        match (grant, self.class_for(rounded, request)) {
            (Grant::Slot(slot), Some(class)) => {
                let taken = self.keep_idle(guard, class, slot)?;
                self.hand_out(guard, class, taken, request)
            }
            (Grant::Bytes, Some(class)) => match class.shelf.take_fresh(None) {
                Some(slot) => {
                    let taken = self.open_fresh(guard, class, slot)?;
                    self.hand_out(guard, class, taken, request)
                }
                None => self.get_reserved_overflow(guard, class, request),
            },
            (Grant::Bytes, None) => self.get_oversize(guard, rounded, request),
            (Grant::Closed, _) | (Grant::Slot(_), None) => Err(GetError::Closed),
        }
    }

    /// A buffer from this thread's cache, if it has one. An empty bin takes a batch from the shelf first.
    pub(super) fn get_cached(&self, guard: &ForkGuard, class: &Class, request: &Request) -> Option<Buffer> {
        let buffer = cache::get_of_class(guard, self.own_key(), class.number(), request.holder)?;
        if request.fill == Fill::Zeros {
            // SAFETY:
            // - just got: this thread's, and of at least as many bytes as asked for
            unsafe { buffer.data.as_ptr().write_bytes(0, request.size) };
        }
        Some(buffer)
    }

    /// A slot of a class; `None` if all are out, or in other threads' caches.
    pub(super) fn take_slot(&self, guard: &ForkGuard, class: &Class) -> Result<Option<Taken>, GetError> {
        class.sample_peak();
        let mut idle = class.shelf.take_idle();
        if idle.is_none() {
            self.caches.recover_large(guard, class);
            idle = class.shelf.take_idle();
        }
        match idle {
            Some(slot) => self.keep_idle(guard, class, slot).map(Some),
            None => self.take_fresh(guard, class),
        }
    }

    /// Keeps an idle slot that was taken, unless the pool closed meanwhile.
    #[inline]
    pub(super) fn keep_idle(&self, guard: &ForkGuard, class: &Class, slot: u32) -> Result<Taken, GetError> {
        // SeqCst: the order against the closing thread is told in `unmap_if_unused`.
        if self.closed.load(SeqCst) {
            self.shelve(guard, class, slot);
            return Err(GetError::Closed);
        }
        Ok(Taken { slot, fresh: false })
    }

    /// A slot that was never handed out; `None` if all were.
    fn take_fresh(&self, guard: &ForkGuard, class: &Class) -> Result<Option<Taken>, GetError> {
        while class.shelf.fresh() > 0 {
            let of_own_group = cache::take_fresh(guard, self.own_key(), class.number());
            let Some(slot) = of_own_group.or_else(|| class.shelf.take_fresh(None)) else { continue };
            // The slot is taken before its bytes are reserved: bytes reserved in vain could fail another get.
            match self.reserve(guard, class.slot_size(), Some(class)) {
                Ok(Reserved::Bytes) => {}
                Ok(Reserved::Idle(idle)) => {
                    class.shelf.untake_fresh(slot);
                    return self.keep_idle(guard, class, idle).map(Some);
                }
                Err(error) => {
                    self.untake_fresh(guard, class, slot);
                    return Err(error);
                }
            }
            return self.open_fresh(guard, class, slot).map(Some);
        }
        // Another thread may have put one since.
        class.shelf.take_idle().map(|slot| self.keep_idle(guard, class, slot)).transpose()
    }

    /// Opens a fresh slot that was taken, and whose bytes are reserved.
    fn open_fresh(&self, guard: &ForkGuard, class: &Class, slot: u32) -> Result<Taken, GetError> {
        let bytes = class.slot_size();
        // SeqCst: as in `keep_idle`.
        let failure = if self.closed.load(SeqCst) {
            GetError::Closed
        } else if !self.instrument.replaces_all() && class.open(guard, self.classes.region(), slot).is_err() {
            GetError::OutOfMemory { requested: bytes }
        } else {
            class.ledger.use_first(slot);
            class.fill_huge_pages(self.classes.region(), slot);
            return Ok(Taken { slot, fresh: true });
        };
        self.untake_fresh(guard, class, slot);
        self.unreserve(guard, bytes);
        Err(failure)
    }

    /// Returns a fresh slot that was not handed out. The region of a closed pool may have waited for it.
    fn untake_fresh(&self, guard: &ForkGuard, class: &Class, slot: u32) {
        class.shelf.untake_fresh(slot);
        // SeqCst: as in `keep_idle`.
        if self.closed.load(SeqCst) {
            self.discard_after_close(guard, class, slot);
        }
    }

    /// Hands a slot out, or what replaces it.
    #[inline]
    pub(super) fn hand_out(
        &self,
        guard: &mut ForkGuard,
        class: &Class,
        taken: Taken,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let Taken { slot, fresh } = taken;
        if let Some(source) = self.instrument.source() {
            return self.replace(guard, class, slot, source, request);
        }
        let (data, capacity) = (self.classes.address_of(class, slot), class.buffer_size());
        // Noted before the ledger says that the buffer can be put.
        let Request { size, caller, .. } = *request;
        self.instrument.got(guard, None, &Got { data, buffer_size: capacity, size, caller });
        class.ledger.set(slot, Some(request.holder));
        self.registration.references().retain(1);
        if !fresh && (request.fill == Fill::Zeros || self.flags.zero_on_get) {
            let bytes = if self.flags.zero_on_get { capacity } else { request.size };
            // SAFETY:
            // - the slot was just taken, so nobody else uses it; it is open and has at least `bytes` bytes
            unsafe { data.as_ptr().write_bytes(0, bytes) };
        }
        Ok(Buffer { data, capacity, location: Location::first_of(class.number()).with_slot(slot) })
    }

    /// Larger than the largest class, or aligned more strictly than any that fits; its bytes are reserved.
    #[cold]
    fn get_oversize(
        &self,
        guard: &mut ForkGuard,
        bytes: usize,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        debug_assert!(bytes >= request.size);
        let (source, capacity) = self.source_and_capacity(request.size, bytes);
        let (role, holder, alignment) =
            (Role::Oversize { bytes }, request.holder, self.alignment_for(request));
        let buffer = SystemBuffer { role, source, capacity, alignment, holder };
        let got = self.get_system(guard, buffer, request);
        let buffer = got.inspect_err(|_| self.unreserve(guard, bytes))?;
        self.counters.oversize_bytes.fetch_add(bytes, Relaxed);
        self.counters.oversize_buffers.fetch_add(1, Relaxed);
        self.counters.oversize_gets.fetch_add(1, Relaxed);
        Ok(buffer)
    }

    /// Where a buffer that is no slot comes from, and its capacity: `usual`, or in an instrumented pool `size`.
    pub(super) fn source_and_capacity(&self, size: usize, usual: usize) -> (Source, usize) {
        self.instrument.source().map_or((Source::SYSTEM, usual), |source| (source, size))
    }

    /// Allocates a buffer outside the region, with a reference.
    pub(super) fn get_system(
        &self,
        guard: &mut ForkGuard,
        buffer: SystemBuffer,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let zeros = request.fill != Fill::Anything || self.flags.zero_on_get;
        let content = if zeros { Content::Zeros } else { Content::Anything };
        let data = self.allocate(guard, buffer, content)?;
        // If the pool closed meanwhile, its region may be gone, and this buffer may lie there. A put would take it for
        // a slot.
        if self.is_closed() {
            self.undo_get_system(guard, data);
            return Err(GetError::Closed);
        }
        self.note_got_outside(guard, data, &buffer, request);
        self.registration.references().retain(1);
        Ok(Buffer { data, capacity: buffer.capacity, location: Location::SYSTEM })
    }

    /// Memory for a buffer outside the region, entered in the registry.
    #[inline(always)]
    pub(super) fn allocate(
        &self,
        guard: &mut ForkGuard,
        buffer: SystemBuffer,
        content: Content,
    ) -> Result<NonNull<u8>, GetError> {
        let allocated = self.registry.allocate(guard, buffer, content);
        allocated.map_err(|_| GetError::OutOfMemory { requested: buffer.capacity })
    }

    pub(super) fn note_got_outside(
        &self,
        guard: &ForkGuard,
        data: NonNull<u8>,
        buffer: &SystemBuffer,
        request: &Request,
    ) {
        let Request { size, caller, .. } = *request;
        let got = Got { data, buffer_size: buffer.capacity, size, caller };
        self.instrument.got(guard, Some(buffer.source), &got);
    }

    /// Frees a buffer that was allocated outside the region and handed to nobody.
    #[cold]
    fn undo_get_system(&self, guard: &mut ForkGuard, data: NonNull<u8>) {
        let removed = self.registry.pass(guard, data.as_ptr().addr(), |_| Ok::<_, GetError>(()), None);
        if let Some(Ok(buffer)) = removed {
            // SAFETY:
            // - allocated with these figures (the registry keeps them), and out of the registry: freed once
            unsafe { buffer.source.free(guard, data, buffer.capacity, buffer.alignment) };
        }
    }
}

/// Whether a system could have so much memory.
pub(super) fn check_oversize(capacity: usize, alignment: usize) -> Result<(), GetError> {
    match capacity <= (isize::MAX as usize).saturating_sub(alignment) {
        true => Ok(()),
        false => Err(GetError::OutOfMemory { requested: capacity }),
    }
}
