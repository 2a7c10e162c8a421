//! Pinned pools: all slots are memory from the start, and stay until the pool closes. So their addresses can be
//! registered with the kernel or with a device.

use std::ptr::NonNull;

use super::Core;
use crate::class::Class;
use crate::error::BuildError;
use crate::os::fork::ForkGuard;

/// A part of a pinned pool's memory: whole slots of one class, side by side.
///
/// The pool owns it until it closes.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 100).pinned(true).build()?;
/// for region in pool.pinned_regions() {
///     // To be registered with io_uring, RDMA or a GPU: region.start and region.len.
///     assert_eq!(region.len, 100 * region.slot_size);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinnedRegion {
    /// Where its first slot starts.
    pub start: NonNull<u8>,
    /// Its length in bytes, a multiple of `slot_size`. At most 1 GiB, which io_uring accepts at a time, unless one slot
    /// is larger.
    pub len: usize,
    /// From the start of one buffer to that of the next, in bytes.
    pub slot_size: usize,
}

/// The most bytes of a region. A slot that is larger is a region of its own.
const MOST: usize = 1 << 30;

impl Core {
    /// The bytes that are pinned; 0 if none are, or the pool is closed.
    pub(super) fn pinned_bytes(&self) -> usize {
        if !self.flags.pinned || self.is_closed() {
            return 0;
        }
        self.classes.iter().map(|class| class.slot_count() as usize * class.slot_size()).sum()
    }

    /// Makes all slots of a pool that is to be pinned memory, before anybody knows the pool.
    pub(crate) fn pin(&self, guard: &ForkGuard) -> Result<(), BuildError> {
        let bytes = self.pinned_bytes();
        if bytes == 0 {
            return Ok(());
        }
        if !self.classes.mapped().try_reserve(bytes) {
            return Err(BuildError::PinnedBeyondLimit {
                pinned: bytes,
                limit: self.classes.mapped().limit(),
            });
        }
        for class in self.classes.iter() {
            class.pin(guard, self.classes.region()).map_err(|_| BuildError::Pin { bytes })?;
        }
        Ok(())
    }

    /// All slots of a pinned pool, in pieces of at most [`MOST`] bytes; none of another pool, or of a closed one.
    pub(crate) fn pinned_regions(&self) -> impl Iterator<Item = PinnedRegion> {
        let is_pinned = self.pinned_bytes() > 0;
        self.classes.iter().filter(move |_| is_pinned).flat_map(|class| self.pieces_of(class))
    }

    fn pieces_of(&self, class: &Class) -> impl Iterator<Item = PinnedRegion> {
        let slot_size = class.slot_size();
        let slots_of_piece = (MOST / slot_size).max(1);
        let count = class.slot_count() as usize;
        (0..count).step_by(slots_of_piece).map(move |slot| PinnedRegion {
            start: self.classes.address_of(class, slot as u32),
            len: slots_of_piece.min(count - slot) * slot_size,
            slot_size,
        })
    }
}
