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

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use crate::core::testing::TestPool;

    /// Of a pool that is not pinned: it takes addresses only.
    #[test]
    fn a_region_has_whole_slots_and_a_gibibyte_at_most_unless_one_slot_is_larger() {
        const MIB: usize = 1 << 20;
        let pool = TestPool::new(&[(320 * MIB, 4), (1088 * MIB, 2)], usize::MAX);
        for (class, lens) in pool.classes.iter().zip([&[960, 320], &[1088, 1088]]) {
            let pieces: Vec<_> = pool.pieces_of(class).collect();
            assert_eq!(pieces.iter().map(|piece| piece.len / MIB).collect::<Vec<_>>(), lens);
            assert!(pieces.iter().all(|piece| piece.len % piece.slot_size == 0));
            // Side by side, from the first slot to the last.
            let mut next = pool.classes.address_of(class, 0).addr().get();
            for piece in &pieces {
                assert_eq!((piece.start.addr().get(), piece.slot_size), (next, class.slot_size()));
                next += piece.len;
            }
        }
    }
}
