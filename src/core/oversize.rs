//! Another size for an oversize buffer: by the system's own realloc, or by moving its pages.
//!
//! ```text
//! realloc -> out of the registry -> bytes that it grows by -> the system's realloc -> registry: its new address
//! ```
//!
//! What counts is the buffer: a growth counts the difference before it is done, a shrink afterwards. Below
//! [`MIN_MAPPED`](crate::os::mapping::MIN_MAPPED) the old bytes and a copy may exist together for a moment. Above,
//! pages move, and there is never more than what counts.

use crate::sync::atomic::Ordering::Relaxed;
use std::ptr::NonNull;

use super::Core;
use super::get::check_oversize;
use super::ownership::{Realloc, check_put};
use super::registry::{Leaving, Role, SystemBuffer};
use crate::class::ledger::Holder;
use crate::class::location::PutSize;
use crate::debug::Source;
use crate::error::{GetError, Misuse, ReallocError};
use crate::os::fork::ForkGuard;
use crate::os::memory::Content;

/// Why an oversize buffer was not resized; it is as it was.
enum Unresized {
    /// It must be copied to a new buffer.
    Stays,
    Refused(ReallocError),
}

impl Core {
    /// Whether the system may resize a buffer of this pool. It may not where bytes must be wiped, nor in an
    /// instrumented pool, which keeps track of each address.
    pub(super) fn may_resize(&self) -> bool {
        !self.flags.zero_on_put && !self.instrument.is_on()
    }

    /// Resizes an outstanding raw oversize buffer to `bytes`: the size asked for, `new_size`, after rounding. `None`:
    /// it is no such buffer, or it must be copied.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it
    #[cold]
    pub(super) unsafe fn resize_oversize(
        &self,
        guard: &mut ForkGuard,
        data: NonNull<u8>,
        old_size: PutSize,
        new_size: usize,
        bytes: usize,
    ) -> Option<Result<Realloc, ReallocError>> {
        let left = match self.take_oversize(guard, data, old_size) {
            Ok(left) => left,
            Err(Unresized::Stays) => return None,
            Err(Unresized::Refused(error)) => return Some(Err(error)),
        };
        let (old, old_bytes) = (left.buffer, counted(&left.buffer));
        let grown = bytes.saturating_sub(old_bytes);
        if let Err(error) = self.reserve_growth(guard, bytes, grown, old.alignment) {
            self.registry.arrive(guard, left, data.addr().get(), old);
            return Some(Err(error.into()));
        }
        // SAFETY:
        // - the caller's buffer, with the figures that the registry kept
        let resized = unsafe { self.resize_memory(data, &old, bytes) };
        let Some((moved, source)) = resized else {
            self.registry.arrive(guard, left, data.addr().get(), old);
            if grown > 0 {
                self.unreserve(guard, grown);
            }
            return None;
        };
        let (role, holder) = (Role::Oversize { bytes }, Holder::Raw(new_size));
        let new = SystemBuffer { role, source, capacity: bytes, holder, ..old };
        self.registry.arrive(guard, left, moved.addr().get(), new);
        self.counters.oversize_bytes.fetch_add(bytes.wrapping_sub(old_bytes), Relaxed);
        if bytes < old_bytes {
            self.unreserve(guard, old_bytes - bytes);
        }
        Some(Ok(if moved == data { Realloc::InPlace } else { Realloc::Moved(moved) }))
    }

    /// Takes a raw oversize buffer out of the registry.
    fn take_oversize(
        &self,
        guard: &ForkGuard,
        data: NonNull<u8>,
        old_size: PutSize,
    ) -> Result<Leaving, Unresized> {
        let check = |buffer: &SystemBuffer| match buffer.role {
            Role::Oversize { bytes } => {
                check_put(Some(buffer.holder), data, old_size, bytes, |_| false).map_err(
                    |misuse: Misuse| {
                        self.counters.count(&misuse);
                        Unresized::Refused(misuse.into())
                    },
                )?;
                match self.is_closed() {
                    true => Err(Unresized::Refused(GetError::Closed.into())),
                    false => Ok(()),
                }
            }
            Role::Overflow { .. } | Role::Replacement { .. } => Err(Unresized::Stays),
        };
        self.registry.leave(guard, data.addr().get(), check).unwrap_or(Err(Unresized::Stays))
    }

    fn reserve_growth(
        &self,
        guard: &ForkGuard,
        bytes: usize,
        grown: usize,
        alignment: usize,
    ) -> Result<(), GetError> {
        check_oversize(bytes, alignment)?;
        if grown == 0 {
            return Ok(());
        }
        let reserved = match bytes > self.classes.mapped().limit() {
            // Nothing is given up for what can never fit.
            true => Err(self.limit_error(grown)),
            false => self.reserve(guard, grown, None).map(drop),
        };
        self.counting_failures(reserved)
    }

    /// # Safety
    /// - `data` and `old` are of an oversize buffer of the caller's
    unsafe fn resize_memory(
        &self,
        data: NonNull<u8>,
        old: &SystemBuffer,
        bytes: usize,
    ) -> Option<(NonNull<u8>, Source)> {
        let Source::System(block) = old.source else { return None };
        let content = if self.flags.zero_on_get { Content::Zeros } else { Content::Anything };
        // SAFETY:
        // - allocated with these figures, which the registry keeps
        let resized = unsafe { block.resize(data, old.capacity, bytes, old.alignment, content) };
        resized.ok().map(|(moved, block)| (moved, Source::System(block)))
    }
}

/// What an oversize buffer counts, in bytes.
fn counted(buffer: &SystemBuffer) -> usize {
    match buffer.role {
        Role::Oversize { bytes } => bytes,
        Role::Overflow { .. } | Role::Replacement { .. } => unreachable!("only oversize leaves"),
    }
}
