//! Where the memory of buffers outside the region comes from.

use std::ptr::NonNull;

use super::{checker, guard};
use crate::os::fork::ForkGuard;
use crate::os::memory::{self, Content, OutOfMemory};

/// Where a buffer outside the region has its memory from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The global allocator.
    Allocator,
    /// The `malloc` that a checker watches.
    Checker,
    /// Pages of its own between unreadable ones. Where they cannot be had, the global allocator serves.
    Guard,
}

impl Source {
    /// A buffer of `size` bytes; give it back with [`free`](Self::free) and the same figures.
    #[inline(always)]
    pub(crate) fn allocate(
        self,
        guard: &ForkGuard,
        size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        match self {
            Self::Allocator => memory::allocate_buffer(size, alignment, content),
            Self::Checker => checker::allocate(guard, size, alignment, content),
            Self::Guard => guard::allocate(guard, size, alignment),
        }
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
            Self::Allocator => unsafe { memory::free_buffer(data, size, alignment) },
            // SAFETY: as above
            Self::Checker => unsafe { checker::free(guard, data) },
            // SAFETY: as above
            Self::Guard => unsafe { guard::free(guard, data, size) },
        }
    }
}
