//! Replacements: what an instrumented pool hands out in place of slots.
//!
//! The slot is taken and put as in any pool, so every figure and limit holds. While its replacement is out, the slot's
//! mark is that of a `PooledBuffer`, which no put by the slot's own address matches. The registry has the replacement's
//! holder, and its lock decides between racing puts.

use std::ptr::NonNull;

use super::Core;
use super::get::Request;
use super::registry::{Role, SystemBuffer};
use crate::class::Class;
use crate::class::ledger::Holder;
use crate::class::location::Buffer;
use crate::debug::Source;
use crate::error::{GetError, Misuse};
use crate::os::fork::ForkGuard;
use crate::os::memory::Content;

impl Core {
    /// Hands out memory from `source` in place of a slot that was taken. Inlined, because checkers note few callers.
    #[inline(always)]
    pub(super) fn replace(
        &self,
        guard: &mut ForkGuard,
        class: &Class,
        slot: u32,
        source: Source,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        class.ledger.set(slot, Some(Holder::Owned));
        let role = Role::Replacement { class: class.number(), slot };
        let Request { size: capacity, holder, .. } = *request;
        let alignment = self.alignment_for(request);
        let replacement = SystemBuffer { role, source, capacity, alignment, holder };
        let got = self.get_system(guard, replacement, request);
        got.inspect_err(|_| {
            class.ledger.set(slot, None);
            self.shelve(guard, class, slot);
        })
    }

    /// Puts the slot of a replacement that is freed and out of the registry, and its reference.
    #[cold]
    pub(super) fn put_replaced(&self, guard: &ForkGuard, class: u8, slot: u32) {
        let class = &self.classes[usize::from(class)];
        class.ledger.set(slot, None);
        self.put_on_shelf(guard, class, slot);
    }

    /// Moves a slot's bytes to another replacement, of the size asked for: so a checker knows that size.
    ///
    /// # Safety
    /// - `data` and `old` are of a replacement of this pool held as [`Holder::Owned`], which the caller owns
    #[cold]
    pub(super) unsafe fn replace_again(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        old: SystemBuffer,
        request: &Request,
    ) -> Result<NonNull<u8>, GetError> {
        let new_size = request.size;
        let new = SystemBuffer { capacity: new_size, holder: request.holder, ..old };
        let content = if self.flags.zero_on_get { Content::Zeros } else { Content::Anything };
        let moved = self.allocate(guard, new, content)?;
        self.note_got_outside(guard, moved, &new, request);
        // SAFETY:
        // - the caller owns the old buffer; the new one is another; both have at least this size
        unsafe { moved.copy_from_nonoverlapping(data, old.capacity.min(new_size)) };
        let removed = self.registry.pass(guard, data.addr().get(), |_| Ok::<_, Misuse>(()), None);
        debug_assert!(matches!(removed, Some(Ok(_))));
        // SAFETY:
        // - just removed from the registry, so this thread alone has it
        unsafe { self.free_memory(guard, data, &old) };
        Ok(moved)
    }
}
