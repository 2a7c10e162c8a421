//! Taken whole from the global allocator: nothing can be discarded or sealed.

use crate::os::memory::{Content, allocate_buffer, free_buffer};
use std::io;
use std::ptr::NonNull;

pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    alignment: usize,
}

impl Mapping {
    pub(super) fn reserve_two(
        len: usize,
        alignment: usize,
        second: usize,
    ) -> io::Result<[(Self, NonNull<u8>); 2]> {
        let first = Self::reserve(len, alignment)?;
        match Self::reserve(second, super::page_size()) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                // SAFETY:
                // - just reserved, and used by nobody
                unsafe { first.0.unmap() };
                Err(error)
            }
        }
    }

    pub(super) fn reserve(len: usize, alignment: usize) -> io::Result<(Self, NonNull<u8>)> {
        let base = allocate_buffer(len, alignment, Content::Zeros).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok((Self { base, len, alignment }, base))
    }

    /// # Safety
    /// As [`Region::unmap`](super::Region::unmap); once.
    pub(super) unsafe fn unmap(&self) {
        // SAFETY:
        // - allocated by `reserve` with the same figures, and nobody uses it any more (caller)
        unsafe { free_buffer(self.base, self.len, self.alignment) }
    }

    pub(super) fn is_locked(&self) -> bool {
        false
    }

    pub(super) fn open(&self, _at: NonNull<u8>, _len: usize) -> io::Result<()> {
        Ok(())
    }

    /// All of it is, since it was reserved.
    pub(super) fn touch(&self, _at: NonNull<u8>, _len: usize) -> io::Result<()> {
        Ok(())
    }

    /// # Safety
    /// As [`Region::discard`](super::Region::discard).
    pub(super) unsafe fn discard(&self, _at: NonNull<u8>, _len: usize) -> bool {
        false
    }

    /// # Safety
    /// As [`Region::seal`](super::Region::seal).
    pub(super) unsafe fn seal(&self, _at: NonNull<u8>, _len: usize) -> bool {
        false
    }

    pub(super) fn advise(&self, _at: NonNull<u8>, _len: usize, _advice: ()) {}
}

pub(super) const HUGE: () = ();
pub(super) const SMALL: () = ();
pub(super) const COLLAPSE: () = ();

pub(super) fn addresses_left() -> Option<usize> {
    Some(0)
}

pub(super) fn page_size() -> usize {
    4096
}
