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
        if let Some(spare) = self.spare_at(data) {
            return spare.pool().adopt_unchecked(data, size).map(Buffer::of_spare);
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
            Place::Spare { class, slot } => {
                let spare = self.spare().expect("it holds this buffer");
                spare.pool().classes[usize::from(class)].ledger.set(slot, Some(Holder::Raw(size)));
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
        match self.owner_of(data).slot_of(data) {
            Some(Ok((class, slot))) => Some((class.ledger.holder(slot)?, class.buffer_size())),
            Some(Err(_)) => None,
            None => self.registry.find(data.as_ptr().addr()).map(|buffer| (buffer.holder, buffer.capacity)),
        }
    }

    /// Makes an outstanding raw buffer one of `new_size` bytes: in place within its class, else in a new
    /// buffer with the old one's bytes, as many as both have room for. The outcome says whether a new buffer, with a
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
        let old_size = self.raw_size_of(data).inspect_err(|misuse| self.counters.count(misuse))?;
        if self.is_closed() {
            return Err(GetError::Closed.into());
        }
        // Before anything is done: it is the user's function.
        let rounded = self.rounded(new_size);
        let owner = self.owner_of(data);
        if let Some(Ok((class, slot))) = owner.slot_of(data)
            && self.index.class_of(rounded) == Some(owner.number_of(class))
            && class.ledger.resize(slot, old_size, new_size)
        {
            if let Some(tracker) = self.tracker() {
                tracker.resized(data, new_size);
            }
            return Ok(Realloc::InPlace);
        }
        // Nobody else's put gets it while it is copied, and none did before.
        let old = self.take_raw(data, old_size).inspect_err(|misuse| self.counters.count(misuse))?;
        let request = Request::raw(new_size, caller);
        let moved = match self.stand_in_for(&old, rounded) {
            // SAFETY:
            // - just taken from its owner, the caller
            Some(stand_in) => unsafe { self.replace_stand_in(data, stand_in, &request) },
            // SAFETY: as above
            None => unsafe { self.move_to_new(&old, rounded, &request) },
        };
        if moved.is_err() {
            // SAFETY:
            // - taken above, and still here
            unsafe { self.release_owned(data, old.place, old_size) };
        }
        Ok(Realloc::Moved(moved?))
    }

    /// What stands in for a slot of the class that `rounded` is of, if `old` does.
    fn stand_in_for(&self, old: &Buffer, rounded: usize) -> Option<SystemBuffer> {
        let found = match old.place {
            Place::Slot { .. } | Place::Spare { .. } => None,
            Place::System => self.registry.find(old.data.as_ptr().addr()),
        };
        let class = self.index.class_of(rounded)?;
        found.filter(
            |found| matches!(found.role, Role::StandIn { class: its, .. } if usize::from(its) == class),
        )
    }

    /// A new buffer with the bytes of the old one, which is put.
    ///
    /// # Safety
    /// As [`put_owned`](Self::put_owned), for `old`.
    unsafe fn move_to_new(
        &self,
        old: &Buffer,
        rounded: usize,
        request: &Request,
    ) -> Result<NonNull<u8>, GetError> {
        let new = self.get_rounded(rounded, request)?;
        // SAFETY:
        // - the old buffer is this thread's (caller), and has this capacity
        // - the new one has at least as many bytes as asked for, and is another
        // - the old one is put with what it was taken with
        unsafe {
            new.data.copy_from_nonoverlapping(old.data, old.capacity.min(request.size));
            self.put_owned(old.data, old.place);
        }
        Ok(new.data)
    }

    /// Takes an outstanding raw buffer of this size from its owner: no raw put matches it from now on.
    fn take_raw(&self, data: NonNull<u8>, size: usize) -> Result<Buffer, Misuse> {
        let address = data.as_ptr().addr();
        let from = Holder::Raw(size);
        if let Some(found) = self.slot_of(data) {
            let (class, slot) = found?;
            let buffer_size = class.buffer_size();
            return match self.pass(class, slot, from, Some(Holder::Owned)) {
                true => Ok(Buffer { data, capacity: buffer_size, place: self.place_of(class, slot) }),
                false => Err(Misuse::DoublePut { address, buffer_size }),
            };
        }
        if let Some(spare) = self.spare_at(data) {
            return spare.pool().take_raw(data, size).map(Buffer::of_spare);
        }
        let check = |buffer: &SystemBuffer| match buffer.holder == from {
            true => Ok(Holder::Owned),
            false => Err(Misuse::DoublePut { address, buffer_size: buffer.capacity }),
        };
        let outcome = self.registry.update(address, check);
        let buffer = outcome.unwrap_or_else(|| Err(self.not_in_registry(address)))?;
        Ok(Buffer { data, capacity: buffer.capacity, place: Place::System })
    }

    /// What an outstanding raw buffer was asked for with, in bytes.
    fn raw_size_of(&self, data: NonNull<u8>) -> Result<usize, Misuse> {
        let address = data.as_ptr().addr();
        match self.find(data) {
            Some((Holder::Raw(size), _)) => Ok(size),
            Some((Holder::Owned, buffer_size)) => Err(Misuse::DoublePut { address, buffer_size }),
            None => Err(match self.owner_of(data).slot_of(data) {
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
