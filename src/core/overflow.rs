//! Overflow that is no slot. The class fits, but all its slots are out, those of the room beyond the capacity too. The
//! system allocator serves.

use crate::sync::atomic::Ordering::Relaxed;

use super::Core;
use super::get::Request;
use super::reclaim::Reserved;
use super::registry::{Role, SystemBuffer};
use crate::class::Class;
use crate::class::location::Buffer;
use crate::error::GetError;
use crate::os::fork::ForkGuard;

impl Core {
    /// The class fits, but all its slots are out.
    #[cold]
    pub(super) fn get_overflow(
        &self,
        guard: &mut ForkGuard,
        class: &Class,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        if let Reserved::Idle(slot) = self.reserve(guard, class.slot_size(), Some(class))? {
            let taken = self.keep_idle(guard, class, slot)?;
            return self.hand_out(guard, class, taken, request);
        }
        self.get_reserved_overflow(guard, class, request)
    }

    /// A buffer from the system allocator. Its bytes are reserved.
    pub(super) fn get_reserved_overflow(
        &self,
        guard: &mut ForkGuard,
        class: &Class,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let (source, capacity) = self.source_and_capacity(request.size, class.buffer_size());
        let role = Role::Overflow { class: class.number() };
        let (alignment, holder) = (self.alignment_for(request), request.holder);
        let buffer = SystemBuffer { role, source, capacity, alignment, holder };
        let got = self.get_system(guard, buffer, request);
        let buffer = got.inspect_err(|_| self.unreserve(guard, class.slot_size()))?;
        class.counters.overflow.fetch_add(1, Relaxed);
        class.counters.overflow_gets.fetch_add(1, Relaxed);
        Ok(buffer)
    }
}
