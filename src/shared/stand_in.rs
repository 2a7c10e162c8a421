//! Stand-ins: what an instrumented pool hands out in place of slots.
//!
//! The slot is taken and put as ever, so every figure and limit is as ever. While its stand-in is out the
//! slot's ledger entry is that of a `PooledBuffer`, which no put by the slot's own address matches; the
//! registry holds the stand-in's holder, and its lock decides between racing puts.

use crate::sync::atomic::Ordering::SeqCst;
use std::ptr::NonNull;

use super::{Buffer, Request, Shared};
use crate::class::Class;
use crate::error::{GetError, Misuse};
use crate::instrument::Source;
use crate::ledger::Holder;
use crate::memory::Content;
use crate::registry::{Role, SystemBuffer};

impl Shared {
    /// Hands memory from `source` out in place of a slot that was taken.
    #[cold]
    pub(super) fn stand_in(
        &self,
        class: usize,
        slot: u32,
        source: Source,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let ledger = &self.classes[class].ledger;
        ledger.set(slot, Some(Holder::Owned));
        let role = Role::StandIn { class: class as u8, slot };
        let Request { size: capacity, holder, .. } = *request;
        let stand_in = SystemBuffer { role, source, capacity, alignment: self.alignment, holder };
        self.get_system(stand_in, request).inspect_err(|_| {
            ledger.set(slot, None);
            self.lay_back(&self.classes[class], slot);
        })
    }

    /// Returns a slot that was taken and not handed out.
    fn lay_back(&self, class: &Class, slot: u32) {
        class.shelf.put(slot);
        // SeqCst: the order against `close` is told in `Shelf::put`.
        if self.closed.load(SeqCst) {
            self.discard_after_close(class, slot);
        } else {
            self.serve_waiters();
        }
    }

    /// Puts the slot of a stand-in that is freed and out of the registry, and its reference.
    #[cold]
    pub(super) fn put_stood_in(&self, class: u8, slot: u32) {
        let class = &self.classes[usize::from(class)];
        class.ledger.set(slot, None);
        self.put_on_shelf(class, slot);
    }

    /// A stand-in as asked for, with the bytes of the old one, in its place: always another one, so that a
    /// checker knows the size.
    ///
    /// # Safety
    /// - `data` and `old` are of a stand-in of this pool held as [`Holder::Owned`], which the caller owns
    #[cold]
    pub(super) unsafe fn replace_stand_in(
        &self,
        data: NonNull<u8>,
        old: SystemBuffer,
        request: &Request,
    ) -> Result<NonNull<u8>, GetError> {
        let new_size = request.size;
        let new = SystemBuffer { capacity: new_size, holder: request.holder, ..old };
        let content = if self.flags.zero_on_get { Content::Zeros } else { Content::Anything };
        let moved = self
            .registry
            .allocate(new, content)
            .map_err(|_| GetError::OutOfMemory { requested: new_size })?;
        self.instrument.got_outside(moved, &new, request);
        // SAFETY:
        // - the caller owns the old buffer; the new one is another; both have at least this size
        unsafe { moved.copy_from_nonoverlapping(data, old.capacity.min(new_size)) };
        let removed = self.registry.remove(data.as_ptr().addr(), |_| Ok::<_, Misuse>(()));
        debug_assert!(matches!(removed, Some(Ok(_))));
        // SAFETY:
        // - just removed from the registry, so this thread alone has it
        unsafe { self.give_back(data, &old) };
        Ok(moved)
    }
}
