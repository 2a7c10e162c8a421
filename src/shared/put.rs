//! Put: find the owner from the address, pass the ledger, lay the slot on the shelf.

use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::ptr::NonNull;

use super::{Place, Shared};
use crate::class::Class;
use crate::error::Misuse;
use crate::ledger::Holder;
use crate::memory;
use crate::registry::{Role, SystemBuffer};
use crate::thread_cache;

/// The size given with a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutSize {
    Sized(usize),
    /// The caller does not know; the ledger does.
    Unsized,
}

impl Shared {
    /// Takes an outstanding raw buffer back, and its reference: the caller has another. On misuse nothing
    /// changed but its count.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it and nobody uses it any more
    #[inline]
    pub(crate) unsafe fn put(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        match self.slot_of(data) {
            // SAFETY:
            // - the caller owns the buffer
            Some(Ok((class, slot))) => unsafe { self.put_slot(class, slot, data, size) },
            Some(Err(misuse)) => Err(misuse),
            // SAFETY: as above
            None => unsafe { self.put_outside(data, size) },
        }
        .inspect_err(|misuse| self.counters.count(misuse))
    }

    /// Takes the buffer of a `PooledBuffer` back, and its reference: the caller has another.
    ///
    /// # Safety
    /// - `data` and `place` are of an outstanding buffer of this pool held as [`Holder::Owned`], which the
    ///   caller owns
    #[inline]
    pub(crate) unsafe fn put_owned(&self, data: NonNull<u8>, place: Place) {
        match place {
            Place::Slot { class: number, slot } => {
                let class = &self.classes[usize::from(number)];
                debug_assert_eq!(class.ledger.holder(slot), Some(Holder::Owned));
                class.ledger.set(slot, None);
                // SAFETY:
                // - the ledger says idle now, and nobody else could have changed it: the slot is this
                //   thread's
                unsafe { self.shelve(class, slot, data) };
            }
            Place::Spare { class, slot } => {
                let spare = self.spare().expect("it holds this buffer");
                // SAFETY:
                // - as the caller promised
                unsafe { spare.put_owned(data, class, slot) };
            }
            Place::System => {
                let removed = self.registry.remove(data.as_ptr().addr(), |_| Ok::<_, Misuse>(()));
                if let Some(Ok(buffer)) = removed {
                    // SAFETY:
                    // - just removed from the registry, so this thread alone has it
                    unsafe { self.free_system(data, buffer) };
                }
            }
        }
    }

    /// The class and slot that start at `data`: `None` outside the region, an error inside it where no slot
    /// starts.
    #[inline]
    pub(super) fn slot_of(&self, data: NonNull<u8>) -> Option<Result<(&Class, u32), Misuse>> {
        let address = data.as_ptr().addr();
        let offset = self.region.offset_of(address)?;
        let class = &self.classes[usize::from(self.class_of_chunk[offset >> self.chunk_shift])];
        Some(class.slot_at(offset).map(|slot| (class, slot)).ok_or(Misuse::ForeignPointer { address }))
    }

    /// # Safety
    /// As [`put`](Self::put), for the buffer at this slot.
    #[inline]
    pub(super) unsafe fn put_slot(
        &self,
        class: &Class,
        slot: u32,
        data: NonNull<u8>,
        size: PutSize,
    ) -> Result<(), Misuse> {
        match size {
            PutSize::Sized(size)
                if size <= class.buffer_size() && self.pass(class, slot, Holder::Raw(size), None) => {}
            _ => self.pass_inexact(class, slot, data, size, None)?,
        }
        // SAFETY:
        // - this thread's exchange took the slot from its holder: it is this thread's
        unsafe { self.shelve(class, slot, data) };
        Ok(())
    }

    /// As [`Ledger::pass`](crate::ledger::Ledger::pass), for this thread.
    pub(super) fn pass(&self, class: &Class, slot: u32, from: Holder, to: Option<Holder>) -> bool {
        class.ledger.pass(slot, from, to, thread_cache::own_getter(), thread_cache::wait_for_getters)
    }

    /// Passes a slot whose size was not given, or was not the one asked for, to another holder.
    #[cold]
    pub(super) fn pass_inexact(
        &self,
        class: &Class,
        slot: u32,
        data: NonNull<u8>,
        size: PutSize,
        to: Option<Holder>,
    ) -> Result<(), Misuse> {
        let same_class = self.is_of_class(class, size);
        loop {
            let found = class.ledger.holder(slot);
            check_put(found, data, size, same_class, class.buffer_size())?;
            if found.is_some_and(|found| self.pass(class, slot, found, to)) {
                return Ok(());
            }
        }
    }

    /// Whether a get of this size would come from `class`. Runs the user's rounding.
    pub(super) fn is_of_class(&self, class: &Class, size: PutSize) -> bool {
        match size {
            PutSize::Sized(size) => self
                .index
                .class_of(self.rounded(size))
                .is_some_and(|number| self.classes[number].buffer_size() == class.buffer_size()),
            PutSize::Unsized => true,
        }
    }

    /// Counts a put and lays the slot in this thread's cache, or on the shelf.
    ///
    /// # Safety
    /// - the slot at `data` was taken from its holder by this thread
    #[inline]
    unsafe fn shelve(&self, class: &Class, slot: u32, data: NonNull<u8>) {
        self.instrument.put(data);
        if self.flags.zero_on_put {
            // SAFETY:
            // - the slot is open, of at least this size, and this thread's (caller)
            unsafe { memory::wipe(data, class.buffer_size()) };
        }
        let (address, number) = (data.addr().get(), self.number_of(class) as u8);
        if !thread_cache::put_owned_or_flush(self.cache_key(), address, number, slot) {
            self.put_on_shelf(class, slot);
        }
    }

    /// Puts a slot that this thread took from its holder.
    #[inline]
    pub(super) fn put_on_shelf(&self, class: &Class, slot: u32) {
        class.counters.puts.fetch_add(1, Relaxed);
        class.shelf.put(slot);
        self.home.release_some(1);
        // SeqCst: the order against `close` is told in `Shelf::put`.
        if self.closed.load(SeqCst) {
            self.discard_after_close(class, slot);
        } else {
            self.serve_waiters();
        }
    }

    /// # Safety
    /// As [`put`](Self::put).
    #[cold]
    unsafe fn put_outside(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        match self.spare_at(data) {
            // SAFETY:
            // - the caller owns the buffer
            Some(spare) => unsafe { spare.put(data, size) },
            // SAFETY: as above
            None => unsafe { self.put_system(data, size) },
        }
    }

    /// # Safety
    /// As [`put`](Self::put).
    unsafe fn put_system(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        let address = data.as_ptr().addr();
        let remove = |classes: u64| {
            self.registry.remove(address, |buffer| self.check_system_put(buffer, data, size, classes))
        };
        let outcome = match remove(0) {
            // Perhaps another size of its class. The rounding function is the user's: it runs without our
            // lock.
            Some(Err(Misuse::SizeMismatch { .. })) => remove(self.classes_of(size)),
            other => other,
        };
        let buffer = outcome.unwrap_or_else(|| Err(self.not_in_registry(address)))?;
        // SAFETY:
        // - just removed from the registry, so this thread alone has it
        unsafe { self.free_system(data, buffer) };
        Ok(())
    }

    /// A bit for each class that a put of this size may be for.
    pub(super) fn classes_of(&self, size: PutSize) -> u64 {
        match size {
            PutSize::Sized(size) => self.index.class_of(self.rounded(size)).map_or(0, |class| 1 << class),
            PutSize::Unsized => u64::MAX,
        }
    }

    /// What a pointer outside the region is that the registry does not have.
    #[cold]
    pub(super) fn not_in_registry(&self, address: usize) -> Misuse {
        match self.registry.find_put(address) {
            Some(class) => {
                Misuse::DoublePut { address, buffer_size: self.classes[usize::from(class)].buffer_size() }
            }
            None => Misuse::ForeignPointer { address },
        }
    }

    /// As [`check_put`], for a system buffer; `classes` has a bit for each class that `size` is of.
    pub(super) fn check_system_put(
        &self,
        buffer: &SystemBuffer,
        data: NonNull<u8>,
        size: PutSize,
        classes: u64,
    ) -> Result<(), Misuse> {
        let same_class = buffer.role.class().is_some_and(|class| classes & 1 << class != 0);
        let buffer_size = match buffer.role {
            Role::Oversize { bytes } => bytes,
            Role::Overflow { class } | Role::StandIn { class, .. } => {
                self.classes[usize::from(class)].buffer_size()
            }
        };
        check_put(Some(buffer.holder), data, size, same_class, buffer_size)
    }

    /// Gives the memory of a buffer outside the region back.
    ///
    /// # Safety
    /// - `data` is a system buffer that this thread just removed from the registry
    pub(super) unsafe fn give_back(&self, data: NonNull<u8>, buffer: &SystemBuffer) {
        let SystemBuffer { source, capacity, alignment, .. } = *buffer;
        self.instrument.put(data);
        if self.flags.zero_on_put {
            // SAFETY:
            // - the buffer has this capacity, and is this thread's
            unsafe { memory::wipe(data, capacity) };
        }
        // SAFETY:
        // - allocated with these figures (the registry keeps them), and out of the registry: freed once
        unsafe { source.free(data, capacity, alignment) };
    }

    /// # Safety
    /// - `data` is a system buffer that this thread just removed from the registry
    unsafe fn free_system(&self, data: NonNull<u8>, buffer: SystemBuffer) {
        // SAFETY:
        // - just removed from the registry (caller)
        unsafe { self.give_back(data, &buffer) };
        match buffer.role {
            Role::StandIn { class, slot } => return self.put_stood_in(class, slot),
            Role::Overflow { class } => {
                let class = &self.classes[usize::from(class)];
                class.counters.puts.fetch_add(1, Relaxed);
                class.counters.overflow.fetch_sub(1, Relaxed);
                self.mapped.release(class.slot_size());
            }
            Role::Oversize { bytes } => {
                self.counters.oversize_bytes.fetch_sub(bytes, Relaxed);
                self.counters.oversize_buffers.fetch_sub(1, Relaxed);
                self.mapped.release(bytes);
            }
        }
        self.home.release_some(1);
        self.serve_waiters();
    }
}

/// Whether a put of `size` may take a buffer from the holder that was found.
pub(super) fn check_put(
    found: Option<Holder>,
    data: NonNull<u8>,
    size: PutSize,
    same_class: bool,
    buffer_size: usize,
) -> Result<(), Misuse> {
    let address = data.as_ptr().addr();
    match (found, size) {
        (None | Some(Holder::Owned), _) => Err(Misuse::DoublePut { address, buffer_size }),
        (Some(Holder::Raw(_)), PutSize::Unsized) => Ok(()),
        (Some(Holder::Raw(requested)), PutSize::Sized(size)) if size == requested || same_class => Ok(()),
        (Some(Holder::Raw(requested)), PutSize::Sized(size)) => {
            Err(Misuse::SizeMismatch { address, size, requested, buffer_size })
        }
    }
}
