//! Outstanding buffers that change hands: between raw pointers and `PooledBuffer`s, and from one size to
//! another.

use std::ptr::NonNull;

use super::{Buffer, Place, PutSize, Request, Shared};
use crate::class::Class;
use crate::error::{GetError, Misuse, ReallocError};
use crate::fork;
use crate::instrument::tracking::Caller;
use crate::ledger::Holder;
use crate::registry::{Role, SystemBuffer};

impl Shared {
    /// Passes an outstanding raw buffer to a `PooledBuffer`, which takes over its reference too.
    ///
    /// # Safety
    /// As [`put`](Self::put).
    pub(crate) unsafe fn adopt(&self, data: NonNull<u8>, size: usize) -> Result<Buffer, Misuse> {
        self.adopt_unchecked(data, PutSize::Sized(size)).inspect_err(|misuse| self.counters.count(misuse))
    }

    fn adopt_unchecked(&self, data: NonNull<u8>, size: PutSize) -> Result<Buffer, Misuse> {
        let address = data.as_ptr().addr();
        if let Some(found) = self.slot_of(data) {
            let (class, slot) = found?;
            self.pass_inexact(class, slot, data, size, Some(Holder::Owned))?;
            return Ok(Buffer { data, capacity: class.buffer_size(), place: self.place_of(class, slot) });
        }
        // The rounding function is the user's: it runs without our lock.
        let classes = self.classes_of(size);
        let check = |buffer: &SystemBuffer| {
            self.check_system_put(buffer, data, size, classes).map(|()| Holder::Owned)
        };
        let outcome = self.registry.update(address, check);
        let buffer = outcome.unwrap_or_else(|| Err(self.not_in_registry(address)))?;
        Ok(Buffer { data, capacity: buffer.capacity, place: Place::System })
    }

    /// The number of one of this pool's classes.
    #[inline]
    pub(super) fn number_of(&self, class: &Class) -> usize {
        usize::from(self.class_of_chunk[class.offset_of(0) >> self.chunk_shift])
    }

    fn place_of(&self, class: &Class, slot: u32) -> Place {
        Place::Slot { class: self.number_of(class) as u8, slot }
    }

    /// Passes the buffer of a `PooledBuffer` to the owner of a raw pointer, as if asked for with `size` bytes
    /// (at most its capacity).
    ///
    /// # Safety
    /// As [`put_owned`](Self::put_owned).
    pub(crate) unsafe fn release_owned(&self, data: NonNull<u8>, place: Place, size: usize) {
        match place {
            Place::Slot { class, slot } => {
                self.classes[usize::from(class)].ledger.set(slot, Some(Holder::Raw(size)));
            }
            Place::System => {
                let _section = fork::section();
                self.registry.update(data.as_ptr().addr(), |_| Ok::<_, Misuse>(Holder::Raw(size)));
            }
        }
    }

    /// Who holds the buffer that starts at `data`, and its capacity in bytes; `None` if it is not outstanding
    /// here.
    pub(crate) fn find(&self, data: NonNull<u8>) -> Option<(Holder, usize)> {
        match self.slot_of(data) {
            Some(Ok((class, slot))) => Some((class.ledger.holder(slot)?, class.buffer_size())),
            Some(Err(_)) => None,
            None => self.registry.find(data.as_ptr().addr()).map(|buffer| (buffer.holder, buffer.capacity)),
        }
    }

    /// Makes an outstanding raw buffer one of `new_size` bytes: in place within its class, else in a new
    /// buffer with the old one's bytes, as many as both have. The outcome says whether a new buffer, with a
    /// reference of its own, took the place of the old, whose reference the caller takes over.
    ///
    /// # Safety
    /// As [`put`](Self::put).
    pub(crate) unsafe fn realloc(
        &self,
        data: NonNull<u8>,
        new_size: usize,
        caller: Caller,
    ) -> Result<Realloc, ReallocError> {
        let (old_size, capacity) = self.find_raw(data).inspect_err(|misuse| self.counters.count(misuse))?;
        if self.is_closed() {
            return Err(GetError::Closed.into());
        }
        // Before anything is done: it is the user's function.
        let rounded = self.rounded(new_size);
        if let Some(Ok((class, slot))) = self.slot_of(data)
            && self.index.class_of(rounded) == Some(self.number_of(class))
            && class.ledger.resize(slot, old_size, new_size)
        {
            if let Some(tracker) = self.tracker() {
                tracker.resized(data, new_size);
            }
            return Ok(Realloc::InPlace);
        }
        if let Some(stand_in) = self.registry.find(data.as_ptr().addr())
            && let Role::StandIn { class, .. } = stand_in.role
            && self.index.class_of(rounded) == Some(usize::from(class))
        {
            // SAFETY:
            // - the caller owns the buffer
            return unsafe { self.replace_stand_in(data, stand_in, &Request::raw(new_size, caller)) }
                .map(Realloc::Moved);
        }
        let new = self.get_rounded(rounded, &Request::raw(new_size, caller))?;
        let bytes = old_size.min(capacity).min(new_size);
        // SAFETY:
        // - the old buffer is outstanding and the caller's, with at least `old_size` bytes
        // - the new one has at least `new_size`, and is another
        unsafe { new.data.copy_from_nonoverlapping(data, bytes) };
        // SAFETY:
        // - the caller owns the old buffer
        match unsafe { self.put(data, PutSize::Sized(old_size)) } {
            Ok(()) => Ok(Realloc::Moved(new.data)),
            Err(misuse) => {
                // Another thread put the old buffer meanwhile: give the new one back as well.
                // SAFETY:
                // - got above and handed to nobody
                let undone = unsafe { self.put(new.data, PutSize::Sized(new_size)) };
                debug_assert!(undone.is_ok());
                Err(misuse.into())
            }
        }
    }

    fn find_raw(&self, data: NonNull<u8>) -> Result<(usize, usize), Misuse> {
        let address = data.as_ptr().addr();
        match self.find(data) {
            Some((Holder::Raw(size), capacity)) => Ok((size, capacity)),
            Some((Holder::Owned, buffer_size)) => Err(Misuse::DoublePut { address, buffer_size }),
            None => Err(match self.slot_of(data) {
                Some(Ok((class, _))) => Misuse::DoublePut { address, buffer_size: class.buffer_size() },
                Some(Err(misuse)) => misuse,
                None => self.not_in_registry(address),
            }),
        }
    }
}

/// What [`Shared::realloc`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realloc {
    InPlace,
    Moved(NonNull<u8>),
}
