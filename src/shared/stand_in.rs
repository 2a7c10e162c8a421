//! Stand-ins: what an instrumented pool hands out in place of slots.
//!
//! The slot is taken and put as ever, so every figure and limit is as ever. While its stand-in is out the
//! slot's ledger entry is that of a `PooledBuffer`, which no put by the slot's own address matches; the
//! registry holds the stand-in's holder, and its lock decides between racing puts.

use crate::sync::atomic::Ordering::SeqCst;
use std::ptr::NonNull;

use super::{Buffer, Request, Shared};
use crate::class::Class;
use crate::error::{GetError, Misuse, ReallocError};
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

    /// Makes an outstanding raw stand-in one as asked for, of the same slot: always another one, so that a
    /// checker knows the size.
    ///
    /// # Safety
    /// As [`put`](Self::put).
    #[cold]
    pub(super) unsafe fn replace_stand_in(
        &self,
        data: NonNull<u8>,
        old: SystemBuffer,
        request: &Request,
    ) -> Result<NonNull<u8>, ReallocError> {
        let new_size = request.size;
        let new = SystemBuffer { capacity: new_size, holder: request.holder, ..old };
        let moved = self
            .registry
            .allocate(new, Content::Anything)
            .map_err(|_| GetError::OutOfMemory { requested: new_size })?;
        self.instrument.got_outside(moved, &new, request);
        // SAFETY:
        // - the caller owns the old buffer; the new one is another; both have at least this size
        unsafe { moved.copy_from_nonoverlapping(data, old.capacity.min(new_size)) };
        let address = data.as_ptr().addr();
        let same = |found: &SystemBuffer| match found.holder == old.holder {
            true => Ok(()),
            false => Err(Misuse::DoublePut { address, buffer_size: found.capacity }),
        };
        let removed = self.registry.remove(address, same);
        let (freed, figures, outcome) = match removed.unwrap_or_else(|| Err(self.not_in_registry(address))) {
            Ok(found) => (data, Some(Ok(found)), Ok(moved)),
            // Another thread put the old one meanwhile, against the contract.
            Err(misuse) => {
                self.counters.count(&misuse);
                let undone = self.registry.remove(moved.as_ptr().addr(), |_| Ok::<_, Misuse>(()));
                (moved, undone, Err(misuse.into()))
            }
        };
        if let Some(Ok(figures)) = figures {
            // SAFETY:
            // - just removed from the registry, so this thread alone has it
            unsafe { self.give_back(freed, &figures) };
        }
        outcome
    }
}
