//! A pool as the allocator of collections: those of the crate `allocator-api2`, and others that take its trait.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use super::Pool;

/// A collection's memory is a raw buffer of the pool. It stays good after the pool was closed. A get that fails is the
/// collection's `AllocError`, at which most collections abort. An allocation of no bytes is no buffer.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use allocator_api2::vec::Vec;
/// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let mut numbers = Vec::new_in(&pool);
/// numbers.extend(0..100_u64);
/// assert_eq!(pool.stats().outstanding(), 1);
/// drop(numbers);
/// assert_eq!(pool.stats().outstanding(), 0);
/// # Ok(())
/// # }
/// ```
// SAFETY:
// - a buffer stays good until it is put, whatever becomes of the pool's handles
// - it has room for what was asked for, aligned as asked for
unsafe impl Allocator for &Pool {
    #[inline]
    #[track_caller]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        let got = match layout.align() <= self.alignment() {
            true => self.get_raw(layout.size()),
            false => self.get_raw_aligned(layout.align(), layout.size()),
        };
        Ok(NonNull::slice_from_raw_parts(got.map_err(|_| AllocError)?, layout.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, data: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // SAFETY:
        // - allocated here, and given up (caller)
        let put = unsafe { self.put_raw_unsized(data) };
        debug_assert!(put.is_ok(), "{put:?}");
    }

    #[track_caller]
    unsafe fn grow(&self, data: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as the caller promised
        unsafe { reallocate(self, data, old, new) }
    }

    #[track_caller]
    unsafe fn shrink(
        &self,
        data: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as the caller promised
        let moved = unsafe { reallocate(self, data, old, new) };
        // A buffer that cannot move, as in a closed pool, may stay where it is.
        let stays = new.align() <= old.align();
        moved.or(if stays { Ok(NonNull::slice_from_raw_parts(data, old.size())) } else { Err(AllocError) })
    }
}

/// What an allocation of no bytes is: no buffer.
fn nothing(layout: Layout) -> NonNull<[u8]> {
    let data = NonNull::new(ptr::without_provenance_mut(layout.align())).expect("an alignment is not 0");
    NonNull::slice_from_raw_parts(data, 0)
}

/// # Safety
/// - `data` was allocated from the pool with the old layout, and is the caller's
#[track_caller]
unsafe fn reallocate(
    pool: &Pool,
    data: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    if new.size() > 0 && old.size() > 0 && new.align() <= pool.alignment() {
        // SAFETY:
        // - the caller's buffer
        let moved = unsafe { pool.realloc_raw(data, new.size()) }.map_err(|_| AllocError)?;
        return Ok(NonNull::slice_from_raw_parts(moved, new.size()));
    }
    let moved = pool.allocate(new)?;
    // SAFETY:
    // - the old buffer is the caller's and the new one is another; both have room for so many bytes
    // - the old one is given up
    unsafe {
        moved.cast::<u8>().copy_from_nonoverlapping(data, old.size().min(new.size()));
        pool.deallocate(data, old);
    }
    Ok(moved)
}
