//! Single buffers in pages of their own. They are so large that an allocator would map them anew each time. Only this
//! file and the region map and unmap.
//!
//! - The pages are the system's zeros until they are written. So nobody needs to write zeros there.
//! - Growing moves pages, not bytes.
//!
//! Only Linux moves pages. Elsewhere, and with `--cfg bytepool_portable`, the global allocator serves whatever the
//! size.

pub(crate) use self::system::{map, remap, unmap};

/// From this size on a buffer is mapped, in bytes. glibc's allocator keeps no freed memory above it, so a buffer that
/// is got and put again and again loses nothing by it.
pub(crate) const MIN_MAPPED: usize = if CAN_MAP { 32 << 20 } else { usize::MAX };

const CAN_MAP: bool = cfg!(all(target_os = "linux", not(any(bytepool_portable, bytepool_shuttle))));

#[cfg(all(target_os = "linux", not(any(bytepool_portable, bytepool_shuttle))))]
mod system {
    use std::ptr::{self, NonNull};

    use super::super::memory::OutOfMemory;
    use super::super::region::page_size;

    /// Whole pages for so many bytes, one at least.
    fn pages(len: usize) -> Option<usize> {
        len.max(1).checked_next_multiple_of(page_size())
    }

    /// A zeroed buffer of `len` bytes; give it back with [`unmap`].
    pub(crate) fn map(len: usize, alignment: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let slack = alignment.saturating_sub(page_size());
        let refused = OutOfMemory { bytes: len };
        let pages = pages(len).ok_or(refused)?;
        let mapped = pages.checked_add(slack).ok_or(refused)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY:
        // - a new anonymous mapping at an address of the kernel's choice affects no existing memory
        let base = unsafe { libc::mmap(ptr::null_mut(), mapped, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(refused);
        }
        let base = NonNull::new(base.cast::<u8>()).expect("mmap does not map address zero by itself");
        let before = base.as_ptr().addr().next_multiple_of(alignment.max(1)) - base.as_ptr().addr();
        // SAFETY:
        // - all inside the new mapping, of which nobody knows yet: what lies before the buffer, and what lies behind it
        unsafe {
            let data = base.add(before);
            give_back(base, before);
            give_back(data.add(pages), slack - before);
            Ok(data)
        }
    }

    /// Gives a buffer another length, in place or elsewhere. Its bytes move with their pages. New bytes are zeros from
    /// the first whole page on. `None` if the system refuses: then nothing changed.
    ///
    /// # Safety
    /// - `data` came from [`map`] or from here with this length and alignment, and was not given back since
    /// - if another address comes back, nobody uses the old one any more
    pub(crate) unsafe fn remap(
        data: NonNull<u8>,
        len: usize,
        new_len: usize,
        alignment: usize,
    ) -> Option<NonNull<u8>> {
        let (old_pages, new_pages) = (pages(len)?, pages(new_len)?);
        if old_pages == new_pages {
            return Some(data);
        }
        // A new address is aligned to a page, and no more.
        let flags = if alignment <= page_size() { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY:
        // - these are the pages of a mapping of ours (caller)
        let moved = unsafe { libc::mremap(data.as_ptr().cast(), old_pages, new_pages, flags) };
        if moved == libc::MAP_FAILED { None } else { NonNull::new(moved.cast()) }
    }

    /// Gives a buffer back.
    ///
    /// # Safety
    /// - `data` came from [`map`] or [`remap`] with this length, and was not given back since
    /// - nobody uses it any more
    pub(crate) unsafe fn unmap(data: NonNull<u8>, len: usize) {
        // SAFETY:
        // - as the caller promised
        unsafe { give_back(data, pages(len).expect("it was mapped")) };
    }

    /// # Safety
    /// - whole pages of a mapping of ours that nobody uses any more
    unsafe fn give_back(at: NonNull<u8>, len: usize) {
        // SAFETY:
        // - as the caller promised
        unsafe {
            // A process that has all mappings it may have cannot make a hole in one. Then only the memory goes back.
            if len > 0 && libc::munmap(at.as_ptr().cast(), len) != 0 {
                libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED);
            }
        }
    }
}

/// Nothing is [`MIN_MAPPED`] bytes here.
#[cfg(not(all(target_os = "linux", not(any(bytepool_portable, bytepool_shuttle)))))]
mod system {
    use std::ptr::NonNull;

    use super::super::memory::OutOfMemory;

    pub(crate) fn map(len: usize, _alignment: usize) -> Result<NonNull<u8>, OutOfMemory> {
        Err(OutOfMemory { bytes: len })
    }

    /// # Safety
    /// - none: nothing was mapped
    pub(crate) unsafe fn remap(
        _data: NonNull<u8>,
        _len: usize,
        _new_len: usize,
        _alignment: usize,
    ) -> Option<NonNull<u8>> {
        None
    }

    /// # Safety
    /// - none: nothing was mapped
    pub(crate) unsafe fn unmap(_data: NonNull<u8>, _len: usize) {}
}

#[cfg(all(test, target_os = "linux", not(any(bytepool_portable, bytepool_shuttle))))]
mod tests {
    use super::*;
    use crate::os::region::page_size;

    #[test]
    fn pages_keep_their_bytes_and_new_ones_are_zeros() {
        let page = page_size();
        for alignment in [64, page, 2 << 20] {
            let mut len = 3 * page - 100;
            let mut data = map(len, alignment).unwrap();
            // SAFETY:
            // - this test's buffer, inside its length
            unsafe {
                assert!((0..len).all(|at| data.add(at).read() == 0));
                data.write_bytes(7, len);
                for new_len in [3 * page, 40 * page, 5 * page + 1, 2 * page, 100 * page] {
                    // A stricter alignment may have no room to grow in place.
                    let Some(moved) = remap(data, len, new_len, alignment) else {
                        assert!(alignment > page && new_len > len);
                        continue;
                    };
                    assert!(moved.as_ptr().addr() % alignment == 0);
                    let kept = len.min(new_len);
                    assert!((0..kept).all(|at| moved.add(at).read() == 7), "{new_len}");
                    let fresh = kept.next_multiple_of(page).min(new_len);
                    assert!((fresh..new_len).all(|at| moved.add(at).read() == 0), "{new_len}");
                    moved.write_bytes(7, new_len);
                    (data, len) = (moved, new_len);
                }
                unmap(data, len);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(map(usize::MAX, 64).is_err());
        assert!(map(1 << 60, 64).is_err());
        assert!(map(usize::MAX - (1 << 20), 2 << 20).is_err());
    }
}
