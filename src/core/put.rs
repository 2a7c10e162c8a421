//! Put: locate the buffer, pass it to nobody, and take it back: to the shelf, or to the system.

use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::ptr::NonNull;

use super::Core;
use super::ownership::{Found, From};
use super::registry::{Role, SystemBuffer};
use crate::cache::{self, Position};
use crate::class::Class;
use crate::class::location::{Location, PutSize};
use crate::error::Misuse;
use crate::os::fork::ForkGuard;
use crate::os::memory;

impl Core {
    /// Takes back an outstanding raw buffer and its reference. The caller has another reference. On misuse only its
    /// count changes. A slot goes to the thread's cache at `position` if that is given, else to the shelf.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it and nobody uses it any more
    pub(crate) unsafe fn put(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        size: PutSize,
        position: Option<Position>,
    ) -> Result<(), Misuse> {
        let taken = self.locate(guard, data).and_then(|location| {
            let found = self.transfer(guard, data, location, From::Raw(size), None)?;
            Ok((location, found))
        });
        let (location, found) = taken.inspect_err(|misuse| self.counters.count(misuse))?;
        // SAFETY:
        // - just passed to nobody, so it is this thread's
        unsafe { self.take_back(guard, data, location, found, position) };
        Ok(())
    }

    /// Takes back the buffer of a `PooledBuffer` and its reference. The caller has another reference. A slot goes to
    /// the thread's cache at `position` if that is given, else to the shelf.
    ///
    /// # Safety
    /// - `data` and `location` are of an outstanding buffer of this pool held as
    ///   [`Holder::Owned`](crate::class::ledger::Holder::Owned), which the caller owns
    pub(crate) unsafe fn put_owned(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        location: Location,
        position: Option<Position>,
    ) {
        let taken = self.transfer(guard, data, location, From::Owned, None);
        debug_assert!(taken.is_ok());
        if let Ok(found) = taken {
            // SAFETY:
            // - just passed to nobody, so it is this thread's
            unsafe { self.take_back(guard, data, location, found, position) };
        }
    }

    /// # Safety
    /// - the buffer at `data` was just passed to nobody by this thread
    unsafe fn take_back(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        location: Location,
        found: Found,
        position: Option<Position>,
    ) {
        match (self.slot_at(location), found.system) {
            (Some((class, slot)), _) => {
                // SAFETY:
                // - as the caller promised
                unsafe { self.put_slot(guard, class, slot, data, position) };
            }
            (None, Some(system)) => {
                // SAFETY:
                // - as the caller promised
                unsafe { self.free_system(guard, data, &system) };
            }
            (None, None) => unreachable!("the registry had it"),
        }
    }

    /// Puts a slot to this thread's cache at a position, or on the shelf.
    ///
    /// # Safety
    /// - the slot at `data` was taken from its holder by this thread
    pub(super) unsafe fn put_slot(
        &self,
        guard: &ForkGuard,
        class: &Class,
        slot: u32,
        data: NonNull<u8>,
        position: Option<Position>,
    ) {
        self.instrument.put(guard, data);
        if self.flags.zero_on_put {
            // SAFETY:
            // - the slot is open, of at least this size, and this thread's (caller)
            unsafe { memory::wipe(data, class.buffer_size()) };
        }
        let cached = position.and_then(|position| cache::put_taken(guard, position, data.addr().get()));
        if cached != Some(true) {
            self.put_on_shelf(guard, class, slot);
        }
    }

    /// Counts the put of a slot that this thread took from its holder, gives up its reference, and puts it on the
    /// shelf.
    pub(super) fn put_on_shelf(&self, guard: &ForkGuard, class: &Class, slot: u32) {
        class.counters.puts.fetch_add(1, Relaxed);
        self.registration.references().release_some(1);
        self.shelve(guard, class, slot);
    }

    /// Puts a slot that nobody holds on the shelf, and does what the shelf then asks for.
    pub(super) fn shelve(&self, guard: &ForkGuard, class: &Class, slot: u32) {
        class.shelf.put(slot);
        // SeqCst: the order against `close_memory` is told in `Shelf::put`.
        if self.closed.load(SeqCst) {
            self.discard_after_close(guard, class, slot);
        } else if class.has_excess() {
            self.give_back_excess(guard, class);
        } else {
            self.serve_waiters(guard);
        }
    }

    /// Gives the memory of a buffer outside the region back.
    ///
    /// # Safety
    /// - `data` is a system buffer that this thread just removed from the registry
    pub(super) unsafe fn free_memory(&self, guard: &mut ForkGuard, data: NonNull<u8>, buffer: &SystemBuffer) {
        let SystemBuffer { source, capacity, alignment, .. } = *buffer;
        self.instrument.put(guard, data);
        if self.flags.zero_on_put {
            // SAFETY:
            // - the buffer has this capacity, and is this thread's
            unsafe { memory::wipe(data, capacity) };
        }
        // SAFETY:
        // - allocated with these figures, which the registry keeps; and out of the registry, so freed once
        unsafe { source.free(guard, data, capacity, alignment) };
    }

    /// # Safety
    /// - `data` is a system buffer that this thread just removed from the registry
    unsafe fn free_system(&self, guard: &mut ForkGuard, data: NonNull<u8>, buffer: &SystemBuffer) {
        // SAFETY:
        // - just removed from the registry (caller)
        unsafe { self.free_memory(guard, data, buffer) };
        match buffer.role {
            Role::Replacement { class, slot } => return self.put_replaced(guard, class, slot),
            Role::Overflow { class } => {
                let class = &self.classes[usize::from(class)];
                class.counters.puts.fetch_add(1, Relaxed);
                class.counters.overflow.fetch_sub(1, Relaxed);
                self.classes.mapped().release(class.slot_size());
            }
            Role::Oversize { bytes } => {
                self.counters.oversize_bytes.fetch_sub(bytes, Relaxed);
                self.counters.oversize_buffers.fetch_sub(1, Relaxed);
                self.classes.mapped().release(bytes);
            }
        }
        self.registration.references().release_some(1);
        self.serve_waiters(guard);
    }
}
