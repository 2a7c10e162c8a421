//! Where the memory of buffers outside the region comes from.

use std::ptr::NonNull;

use super::{checker, guard};
use crate::os::block::Block;
use crate::os::fork::ForkGuard;
use crate::os::memory::{Content, OutOfMemory};

/// Where the memory of a buffer outside the region comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The system.
    System(Block),
    /// The `malloc` that a checker watches.
    Checker,
    /// The buffer has pages of its own between unreadable ones. Where there are none, the system serves.
    Guard,
}

impl Source {
    /// The system, in the way that suits the buffer.
    pub(crate) const SYSTEM: Self = Self::System(Block::Aligned);

    /// Allocates a buffer of `size` bytes. Returns its address and the source that served. `free` takes that source,
    /// with the same `size` and `alignment`.
    #[inline(always)]
    pub(crate) fn allocate(
        self,
        guard: &ForkGuard,
        size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<(NonNull<u8>, Self), OutOfMemory> {
        if self == Self::Checker {
            return checker::allocate(size, alignment, content).map(|data| (data, self));
        }
        if self == Self::Guard {
            if let Ok(data) = guard::allocate(guard, size, alignment) {
                return Ok((data, self));
            }
        }
        Block::allocate(size, alignment, content).map(|(data, block)| (data, Self::System(block)))
    }

    /// Gives a buffer back.
    ///
    /// # Safety
    /// - `data` came from [`allocate`](Self::allocate) with this source, `size` and `alignment`, and was not
    ///   freed since
    /// - nobody uses it any more
    pub(crate) unsafe fn free(self, guard: &mut ForkGuard, data: NonNull<u8>, size: usize, alignment: usize) {
        match self {
            // SAFETY:
            // - as the caller promised
            Self::System(block) => unsafe { block.free(data, size, alignment) },
            // SAFETY: as above
            Self::Checker => unsafe { checker::free(data) },
            // SAFETY: as above
            Self::Guard => unsafe { guard::free(guard, data, size) },
        }
    }
}
