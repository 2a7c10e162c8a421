//! Where an outstanding buffer is, and who holds it. Put, adopt, release and a reallocation in place are all one
//! transition: from the holder that the caller expects to another one, or to nobody.
//!
//! ```text
//! put       raw, with this size      -> nobody          release   PooledBuffer          -> raw
//! drop      PooledBuffer             -> nobody          realloc   raw, of any size      -> raw, of another: in place
//! adopt     raw, with this size      -> PooledBuffer              raw -> PooledBuffer -> nobody: copied to a new one
//! ```
//!
//! What is shared is passed in [`sharing`](super::sharing): from a `PooledBuffer`, and back to one.

use std::ptr::NonNull;

use super::Core;
use super::get::Request;
use super::registry::{Role, SystemBuffer};
use crate::cache;
use crate::class::Class;
use crate::class::ledger::{self, Holder, Mark};
use crate::class::location::{Buffer, Location, PutSize};
use crate::class::table::Spot;
use crate::debug::tracking::Caller;
use crate::error::{GetError, Misuse, ReallocError};
use crate::os::fork::ForkGuard;
use crate::os::thread_pointer;

/// Whom a transition takes a buffer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A `PooledBuffer`, which the caller owns.
    Owned,
    /// The owner of a raw pointer, who says this of its size.
    Raw(PutSize),
}

/// What a transition found.
pub(super) struct Found {
    pub(super) holder: Holder,
    /// What the buffer has room for, in bytes.
    pub(super) capacity: usize,
    /// What the registry knows of the buffer; `None` for a slot.
    pub(super) system: Option<SystemBuffer>,
}

impl Core {
    /// Where the buffer that starts at `data` is kept track of. Inside the region it is an error if no slot starts
    /// there. Outside, this does not look whether the registry has it.
    pub(super) fn locate(&self, guard: &ForkGuard, data: NonNull<u8>) -> Result<Location, Misuse> {
        let address = data.addr().get();
        match self.classes.locate(address) {
            Spot::Outside => Ok(Location::SYSTEM),
            // A realloc may have moved a buffer to where the region of a pool was that closed meanwhile.
            Spot::Inside | Spot::Slot { .. }
                if self.classes.region().is_unmapped() && self.registry.find(guard, address).is_some() =>
            {
                Ok(Location::SYSTEM)
            }
            Spot::Slot { class, slot } => Ok(Location::first_of(class).with_slot(slot)),
            Spot::Inside => Err(Misuse::ForeignPointer { address }),
        }
    }

    /// The class that has a slot; `None` for what the registry has.
    pub(super) fn slot_at(&self, location: Location) -> Option<(&Class, u32)> {
        location.as_slot().map(|(class, slot)| (&self.classes[usize::from(class)], slot))
    }

    /// Passes the buffer at `data`, which is at `location`, to another holder, or to nobody. Of racing callers one
    /// succeeds. On misuse nothing changed.
    ///
    /// A buffer that passes to nobody is the caller's: it is neither idle nor freed yet.
    pub(super) fn transfer(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        location: Location,
        from: From,
        to: Option<Holder>,
    ) -> Result<Found, Misuse> {
        match self.slot_at(location) {
            Some((class, slot)) => self.transfer_slot(guard, data, class, slot, from, to),
            None => self.transfer_system(guard, data, from, to),
        }
    }

    fn transfer_slot(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        class: &Class,
        slot: u32,
        from: From,
        to: Option<Holder>,
    ) -> Result<Found, Misuse> {
        let found = |holder| Found { holder, capacity: class.buffer_size(), system: None };
        let size = match from {
            From::Raw(size) => size,
            From::Owned => {
                debug_assert_eq!(class.ledger.holder(slot), Some(Holder::Owned));
                class.ledger.set(slot, to);
                return Ok(found(Holder::Owned));
            }
        };
        loop {
            let mark = class.ledger.mark(slot);
            let holder = ledger::decode(mark);
            let is_of_class = |size| self.is_of_class(guard, class.buffer_size(), size);
            check_put(holder, data, size, class.buffer_size(), is_of_class)?;
            let stays_raw = matches!(to, Some(Holder::Raw(_)));
            if !stays_raw && ledger::is_biased_to_another(mark, own_bias()) {
                class.end_bias(guard, slot, mark);
            } else if class.ledger.pass(slot, mark, to) {
                if let Some(holder) = holder {
                    return Ok(found(holder));
                }
            }
        }
    }

    fn transfer_system(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        from: From,
        to: Option<Holder>,
    ) -> Result<Found, Misuse> {
        let address = data.addr().get();
        let pass = |guard: &ForkGuard, same_class: Option<usize>| {
            let check = |buffer: &SystemBuffer| match from {
                From::Owned => Ok(()),
                From::Raw(size) => {
                    let buffer_size = self.buffer_size_of(buffer);
                    let is_of_class = |_| buffer.role.class().is_some() && same_class == Some(buffer_size);
                    check_put(Some(buffer.holder), data, size, buffer_size, is_of_class)
                }
            };
            self.registry.pass(guard, address, check, to)
        };
        let outcome = match (pass(guard, None), from) {
            // It may be another size of its class. The rounding function is the user's, so it runs without our lock.
            (Some(Err(Misuse::SizeMismatch { .. })), From::Raw(PutSize::Sized(size))) => {
                let rounded = self.rounded(guard, size);
                pass(guard, self.classes.for_size(rounded).map(Class::buffer_size))
            }
            (outcome, _) => outcome,
        };
        let buffer = outcome.unwrap_or_else(|| Err(self.not_in_registry(guard, address)))?;
        Ok(Found { holder: buffer.holder, capacity: buffer.capacity, system: Some(buffer) })
    }

    /// Whether a get of this size would come from the class with this buffer size. Runs the user's rounding.
    fn is_of_class(&self, guard: &mut ForkGuard, buffer_size: usize, size: usize) -> bool {
        let rounded = self.rounded(guard, size);
        self.classes.for_size(rounded).is_some_and(|class| class.buffer_size() == buffer_size)
    }

    /// What a buffer of the registry counts as: its class's buffer size, or for oversize the rounded request.
    fn buffer_size_of(&self, buffer: &SystemBuffer) -> usize {
        match buffer.role {
            Role::Oversize { bytes } => bytes,
            Role::Overflow { class } | Role::Replacement { class, .. } => {
                self.classes[usize::from(class)].buffer_size()
            }
        }
    }

    /// The misuse of putting a pointer that neither the region nor the registry has.
    #[cold]
    fn not_in_registry(&self, guard: &ForkGuard, address: usize) -> Misuse {
        match self.registry.find_put(guard, address) {
            Some(class) => {
                Misuse::DoublePut { address, buffer_size: self.classes[usize::from(class)].buffer_size() }
            }
            None => Misuse::ForeignPointer { address },
        }
    }

    /// Who holds the buffer at `location`, and what it has room for, in bytes; `None` if nobody does.
    fn holder(&self, guard: &ForkGuard, data: NonNull<u8>, location: Location) -> Option<(Holder, usize)> {
        match self.slot_at(location) {
            Some((class, slot)) => Some((class.ledger.holder(slot)?, class.buffer_size())),
            None => {
                let found = self.registry.find(guard, data.addr().get());
                found.map(|buffer| (buffer.holder, buffer.capacity))
            }
        }
    }

    /// What the buffer that starts at `data` has room for, in bytes; 0 if none that is outstanding here does.
    pub(crate) fn usable_size(&self, guard: &ForkGuard, data: NonNull<u8>) -> usize {
        let location = self.locate(guard, data).ok();
        location.and_then(|location| self.holder(guard, data, location)).map_or(0, |(_, capacity)| capacity)
    }

    /// Passes an outstanding raw buffer to a `PooledBuffer`, which takes over its reference too. On misuse nothing
    /// changed but its count.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it
    pub(crate) unsafe fn adopt(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        size: usize,
    ) -> Result<Buffer, Misuse> {
        let from = From::Raw(PutSize::Sized(size));
        let adopted = self.locate(guard, data).and_then(|location| {
            let found = self.transfer(guard, data, location, from, Some(Holder::Owned))?;
            Ok(Buffer { data, capacity: found.capacity, location })
        });
        adopted.inspect_err(|misuse| self.counters.count(misuse))
    }

    /// Passes the buffer of a `PooledBuffer` to the owner of a raw pointer, as if asked for with `size` bytes, at most
    /// its capacity.
    ///
    /// # Safety
    /// - `data` and `location` are of an outstanding buffer of this pool held as [`Holder::Owned`], which the caller
    ///   owns
    pub(crate) unsafe fn release(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        location: Location,
        size: usize,
    ) {
        let released = self.transfer(guard, data, location, From::Owned, Some(Holder::Raw(size)));
        debug_assert!(released.is_ok());
    }

    /// Gives an outstanding raw buffer the size `new_size`. In a slot, within its class, this happens in place. A
    /// buffer that stays oversize is left to the system. Any other gets a new buffer, with as many of its bytes as fit.
    /// A shrink fails only if the pool is closed. The outcome says whether the buffer moved. `old_size` is as for a
    /// put.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it
    pub(crate) unsafe fn realloc(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        old_size: PutSize,
        new_size: usize,
        caller: Caller,
    ) -> Result<Realloc, ReallocError> {
        let counted = |misuse: Misuse| {
            self.counters.count(&misuse);
            ReallocError::from(misuse)
        };
        let from = From::Raw(old_size);
        let location = self.locate(guard, data).map_err(counted)?;
        // Called before anything is done: it is the user's function.
        let rounded = self.rounded(guard, new_size);
        let buffer_size = self.classes.for_size(rounded).map(Class::buffer_size);
        if location == Location::SYSTEM && buffer_size.is_none() && self.may_resize() {
            // SAFETY:
            // - the caller owns the buffer
            if let Some(outcome) = unsafe { self.resize_oversize(guard, data, old_size, new_size, rounded) } {
                return outcome;
            }
        }
        self.check_raw(guard, data, location).map_err(counted)?;
        if self.is_closed() {
            return Err(GetError::Closed.into());
        }
        if self.slot_at(location).is_some_and(|(class, _)| Some(class.buffer_size()) == buffer_size) {
            let to = Some(Holder::Raw(new_size));
            self.transfer(guard, data, location, from, to).map_err(counted)?;
            self.note_resized(guard, data, new_size);
            return Ok(Realloc::InPlace);
        }
        // As a `PooledBuffer`'s it cannot be put by others while it is copied.
        let old = self.transfer(guard, data, location, from, Some(Holder::Owned)).map_err(counted)?;
        // What stays oversize keeps an alignment above the pool's.
        let alignment = old.system.filter(|_| buffer_size.is_none()).map(|system| system.alignment);
        let request = Request { alignment, ..Request::raw(new_size, caller) };
        let replaced = old.system.filter(|system| {
            matches!(system.role, Role::Replacement { .. })
                && Some(self.buffer_size_of(system)) == buffer_size
        });
        let moved = match replaced {
            // SAFETY:
            // - just taken from its owner, the caller
            Some(system) => unsafe { self.replace_again(guard, data, system, &request) },
            // SAFETY: as above
            None => unsafe { self.move_to_new(guard, data, location, old.capacity, rounded, &request) },
        };
        if let (Err(_), Holder::Raw(old_size)) = (&moved, old.holder) {
            // A smaller size fits where the buffer is, whatever the system refuses.
            let shrinks = new_size <= old_size;
            // SAFETY:
            // - taken above, and still here
            unsafe { self.release(guard, data, location, if shrinks { new_size } else { old_size }) };
            if shrinks {
                self.note_resized(guard, data, new_size);
                return Ok(Realloc::InPlace);
            }
        }
        self.counting_failures(moved).map(Realloc::Moved).map_err(ReallocError::from)
    }

    fn note_resized(&self, guard: &ForkGuard, data: NonNull<u8>, new_size: usize) {
        if let Some(tracker) = self.tracker() {
            tracker.resized(guard, data, new_size);
        }
    }

    /// Whether the buffer at `location` is a raw one, as it looks now.
    fn check_raw(&self, guard: &ForkGuard, data: NonNull<u8>, location: Location) -> Result<(), Misuse> {
        let address = data.addr().get();
        let (holder, buffer_size) = match self.slot_at(location) {
            Some((class, slot)) => (class.ledger.holder(slot), class.buffer_size()),
            None => {
                let found = self.registry.find(guard, address);
                let buffer = found.ok_or_else(|| self.not_in_registry(guard, address))?;
                (Some(buffer.holder), self.buffer_size_of(&buffer))
            }
        };
        check_put(holder, data, PutSize::Unsized, buffer_size, |_| false)
    }

    /// Gets a new buffer, copies the old one's bytes there, and puts the old one.
    ///
    /// # Safety
    /// - `data` and `location` are of an outstanding buffer of this pool held as [`Holder::Owned`], which the caller
    ///   owns, with room for `capacity` bytes
    unsafe fn move_to_new(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        location: Location,
        capacity: usize,
        rounded: usize,
        request: &Request,
    ) -> Result<NonNull<u8>, GetError> {
        let new = self.get_at_once(guard, rounded, request)?;
        // SAFETY:
        // - the old buffer is this thread's, and has this capacity (caller)
        // - the new one has at least as many bytes as asked for, and is another
        // - the old one is put with what it was taken with
        unsafe {
            new.data.copy_from_nonoverlapping(data, capacity.min(request.size));
            self.put_owned(guard, data, location, cache::position(self.own_key()));
        }
        Ok(new.data)
    }
}

/// The calling thread's bias; 0 if it has none.
fn own_bias() -> Mark {
    ledger::bias_to(thread_pointer::get().number())
}

/// Whether a put with this size may take a buffer from the holder that was found. `is_of_class` says whether a size is
/// of the buffer's class; it is asked only where the size is not the one asked for.
pub(super) fn check_put(
    found: Option<Holder>,
    data: NonNull<u8>,
    size: PutSize,
    buffer_size: usize,
    is_of_class: impl FnOnce(usize) -> bool,
) -> Result<(), Misuse> {
    let address = data.addr().get();
    match (found, size) {
        (None | Some(Holder::Owned | Holder::Shared(_)), _) => {
            Err(Misuse::DoublePut { address, buffer_size })
        }
        (Some(Holder::Raw(_)), PutSize::Unsized) => Ok(()),
        (Some(Holder::Raw(requested)), PutSize::Sized(size)) => {
            match size == requested || is_of_class(size) {
                true => Ok(()),
                false => Err(Misuse::SizeMismatch { address, size, requested, buffer_size }),
            }
        }
    }
}

/// What [`Core::realloc`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realloc {
    InPlace,
    Moved(NonNull<u8>),
}

impl Realloc {
    /// Where the buffer that was at `old` is now.
    pub(crate) fn address(self, old: NonNull<u8>) -> NonNull<u8> {
        match self {
            Self::InPlace => old,
            Self::Moved(new) => new,
        }
    }
}
