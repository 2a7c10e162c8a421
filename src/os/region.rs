//! The region: one reserved range of addresses that holds every slot of a pool. The only file that maps,
//! opens, discards and unmaps memory.
//!
//! ```text
//! reserved, no access  |----------------------------------------------------------------|
//! opened by span       |#####------|##------------|#########-----------|----------------|
//!                        class 0     class 1         class 2              (tail)
//! ```
//!
//! - Reserving costs addresses, not memory. Pages are opened in growing steps, since under strict overcommit,
//!   `RLIMIT_AS` or `mlockall` opened pages are not free.
//! - Opened pages hold zeros until they are first written, and again after [`Region::discard`].
//! - Any thread may open and discard; the callers make sure that nobody uses what is discarded.
//!
//! Unix maps with the system's calls; other targets take the whole region from the global allocator and
//! cannot discard. `--cfg bytepool_portable` selects that path anywhere.

use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::plain_memory;
use std::io;
use std::ptr::NonNull;

/// Opened address space grows by at least this many bytes, and by at most [`MAX_OPEN_STEP`].
pub(crate) const MIN_OPEN_STEP: usize = 64 << 10;
/// See [`MIN_OPEN_STEP`].
pub(crate) const MAX_OPEN_STEP: usize = 64 << 20;
/// The size of a transparent huge page on the targets that have them, in bytes.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Whether pages that are not open cannot be read on this target.
pub(crate) const CAN_SEAL: bool = cfg!(all(unix, not(bytepool_portable)));

/// A reserved range of addresses. Unmapped when dropped, if it was not before.
pub(crate) struct Region {
    unmapped: AtomicBool,
    base: NonNull<u8>,
    len: usize,
    mapping: system::Mapping,
}

// SAFETY:
// - a Region is a range of addresses; its methods are system calls, which any thread may make
unsafe impl Send for Region {}
// SAFETY: as for Send.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes that start at a multiple of `alignment` (a power of two), without access.
    pub(crate) fn reserve(len: usize, alignment: usize) -> io::Result<Self> {
        let (mapping, base) = system::Mapping::reserve(len, alignment)?;
        debug_assert!(base.as_ptr().addr().is_multiple_of(alignment));
        Ok(Self { unmapped: AtomicBool::new(false), base, len, mapping })
    }

    /// The first address. The memory is reached through pointers made from addresses, too.
    pub(crate) fn base(&self) -> usize {
        self.base.as_ptr().expose_provenance()
    }

    /// The size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The address `offset` bytes into the region.
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.len);
        // SAFETY:
        // - callers pass offsets of slots, which lie inside the region
        unsafe { self.base.add(offset) }
    }

    /// Where `address` lies in the region, in bytes from its start; `None` if outside.
    #[inline]
    pub(crate) fn offset_of(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.base.as_ptr().addr());
        (offset < self.len).then_some(offset)
    }

    /// Makes whole pages readable and writable.
    pub(crate) fn open(&self, offset: usize, len: usize) -> io::Result<()> {
        self.check_pages(offset, len);
        self.mapping.open(self.at(offset), len)
    }

    /// Gives the memory of whole opened pages back to the system; they read as zeros afterwards. `false` if
    /// the system refused, or this target cannot: then nothing changed.
    ///
    /// # Safety
    /// - nobody uses these pages, or expects their content to stay
    /// - nobody calls [`unmap`](Self::unmap) at the same time
    pub(crate) unsafe fn discard(&self, offset: usize, len: usize) -> bool {
        self.check_pages(offset, len);
        if self.is_unmapped() {
            return false;
        }
        plain_memory::is_cleared(self.at(offset), len);
        // SAFETY:
        // - the pages lie in this mapping (checked above)
        // - nobody needs their content (caller)
        unsafe { self.mapping.discard(self.at(offset), len) }
    }

    /// Makes whole pages unreadable, as they were before they were opened, and gives their memory back. `false`
    /// if the system refused: then nothing changed. Only where [`CAN_SEAL`].
    ///
    /// # Safety
    /// - whatever still uses these pages is to fault, and nobody expects their content to stay
    pub(crate) unsafe fn seal(&self, offset: usize, len: usize) -> bool {
        self.check_pages(offset, len);
        // SAFETY:
        // - the pages lie in this mapping (checked above)
        // - nobody needs their content (caller)
        len == 0 || unsafe { self.mapping.seal(self.at(offset), len) }
    }

    /// Whether [`unmap`](Self::unmap) was called.
    pub(crate) fn is_unmapped(&self) -> bool {
        // Relaxed: callers hold the lock under which it is unmapped, or ask because of what the system gave them after it
        // was.
        self.unmapped.load(Relaxed)
    }

    /// Gives the memory and the addresses back to the system, now rather than in drop. Only the first call
    /// does.
    ///
    /// # Safety
    /// - nobody uses the region's memory from now on, or opens or discards pages of it
    pub(crate) unsafe fn unmap(&self) {
        if !self.unmapped.swap(true, Relaxed) {
            plain_memory::ends(self.base, self.len);
            // SAFETY:
            // - once, and nobody uses it from now on (caller)
            unsafe { self.mapping.unmap() };
        }
    }

    /// Asks for transparent huge pages; a system without them ignores it.
    pub(crate) fn advise_huge_pages(&self) {
        if self.len > 0 {
            self.mapping.advise_huge_pages(self.base, self.len);
        }
    }

    fn check_pages(&self, offset: usize, len: usize) {
        let page = page_size();
        assert!(
            offset.is_multiple_of(page) && len.is_multiple_of(page) && offset + len <= self.len,
            "pages {offset}+{len} leave the region of {} bytes or split a page of {page}",
            self.len
        );
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY:
        // - the pool is gone, so no buffer of it is outstanding
        unsafe { self.unmap() };
    }
}

/// The system's page size in bytes.
pub(crate) fn page_size() -> usize {
    system::page_size()
}

/// Mapped by the system's calls.
#[cfg(all(unix, not(bytepool_portable)))]
mod system {
    use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::io;
    use std::ptr::{self, NonNull};

    pub(super) struct Mapping {
        base: NonNull<u8>,
        len: usize,
    }

    // FreeBSD and DragonFly reserve no swap for what is mapped, and have no flag that says so.
    #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
    const NO_RESERVE: libc::c_int = 0;
    #[cfg(not(any(target_os = "freebsd", target_os = "dragonfly")))]
    const NO_RESERVE: libc::c_int = libc::MAP_NORESERVE;
    const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | NO_RESERVE;

    impl Mapping {
        /// The mapping is longer than asked for by what alignment may cost; the aligned start comes with it.
        pub(super) fn reserve(len: usize, alignment: usize) -> io::Result<(Self, NonNull<u8>)> {
            if len == 0 {
                // An aligned address that is never dereferenced: no mapping has no slots.
                let base =
                    NonNull::new(ptr::without_provenance_mut(alignment)).expect("alignment is not zero");
                return Ok((Self { base, len: 0 }, base));
            }
            let slack = alignment.saturating_sub(page_size());
            let mapped = len.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
            // SAFETY:
            // - a new anonymous mapping at an address of the kernel's choice affects no existing memory
            let base = unsafe { libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, FLAGS, -1, 0) };
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let base = NonNull::new(base.cast::<u8>()).expect("mmap does not map address zero by itself");
            let aligned = base.as_ptr().addr().next_multiple_of(alignment) - base.as_ptr().addr();
            // SAFETY:
            // - `aligned` is at most `slack`, so the sum stays inside the mapping
            Ok((Self { base, len: mapped }, unsafe { base.add(aligned) }))
        }

        /// # Safety
        /// As [`Region::unmap`](super::Region::unmap); once.
        pub(super) unsafe fn unmap(&self) {
            if self.len > 0 {
                // SAFETY:
                // - this is the whole mapping made by `reserve`, and nobody uses it any more (caller)
                unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
            }
        }

        pub(super) fn open(&self, at: NonNull<u8>, len: usize) -> io::Result<()> {
            if len == 0 {
                return Ok(()); // not every system takes that: qemu's emulation refuses it
            }
            // SAFETY:
            // - the pages belong to this mapping (Region::check_pages)
            // - access is only widened
            let refused =
                unsafe { libc::mprotect(at.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE) } != 0;
            if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
        }

        /// # Safety
        /// As [`Region::discard`](super::Region::discard).
        #[cfg(target_os = "linux")]
        pub(super) unsafe fn discard(&self, at: NonNull<u8>, len: usize) -> bool {
            // SAFETY:
            // - the pages belong to this mapping, and nobody needs their content (caller)
            unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED) == 0 }
        }

        /// # Safety
        /// As [`Region::discard`](super::Region::discard).
        #[cfg(not(target_os = "linux"))]
        pub(super) unsafe fn discard(&self, at: NonNull<u8>, len: usize) -> bool {
            // MADV_DONTNEED does not promise zeros outside Linux; a new mapping over the old one does.
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY:
            // - the replaced pages belong to this mapping, and nobody needs their content (caller)
            let new = unsafe { libc::mmap(at.as_ptr().cast(), len, access, FLAGS | libc::MAP_FIXED, -1, 0) };
            new != libc::MAP_FAILED
        }

        /// # Safety
        /// As [`Region::seal`](super::Region::seal).
        pub(super) unsafe fn seal(&self, at: NonNull<u8>, len: usize) -> bool {
            let flags = FLAGS | libc::MAP_FIXED;
            // SAFETY:
            // - the replaced pages belong to this mapping, and nobody needs their content (caller)
            let new = unsafe { libc::mmap(at.as_ptr().cast(), len, libc::PROT_NONE, flags, -1, 0) };
            new != libc::MAP_FAILED
        }

        pub(super) fn advise_huge_pages(&self, _at: NonNull<u8>, _len: usize) {
            // SAFETY:
            // - the advice changes no content and no access
            #[cfg(target_os = "linux")]
            unsafe {
                libc::madvise(_at.as_ptr().cast(), _len, libc::MADV_HUGEPAGE);
            }
        }
    }

    pub(super) fn page_size() -> usize {
        static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: all threads find the same.
        match PAGE_SIZE.load(Relaxed) {
            0 => {
                // SAFETY:
                // - sysconf only reads
                let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
                let size = usize::try_from(size).ok().filter(|size| size.is_power_of_two());
                let size = size.unwrap_or(4096);
                PAGE_SIZE.store(size, Relaxed);
                size
            }
            size => size,
        }
    }
}

/// Taken whole from the global allocator.
#[cfg(not(all(unix, not(bytepool_portable))))]
mod system {
    use super::super::memory::{Content, allocate_buffer, free_buffer};
    use std::io;
    use std::ptr::NonNull;

    pub(super) struct Mapping {
        base: NonNull<u8>,
        len: usize,
        alignment: usize,
    }

    impl Mapping {
        pub(super) fn reserve(len: usize, alignment: usize) -> io::Result<(Self, NonNull<u8>)> {
            let base =
                allocate_buffer(len, alignment, Content::Zeros).map_err(|_| io::ErrorKind::OutOfMemory)?;
            Ok((Self { base, len, alignment }, base))
        }

        /// # Safety
        /// As [`Region::unmap`](super::Region::unmap); once.
        pub(super) unsafe fn unmap(&self) {
            // SAFETY:
            // - allocated by `reserve` with the same figures, and nobody uses it any more (caller)
            unsafe { free_buffer(self.base, self.len, self.alignment) }
        }

        pub(super) fn open(&self, _at: NonNull<u8>, _len: usize) -> io::Result<()> {
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

        pub(super) fn advise_huge_pages(&self, _at: NonNull<u8>, _len: usize) {}
    }

    pub(super) fn page_size() -> usize {
        4096
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_aligned_zeroed_and_usable_where_opened() {
        for alignment in [64, 4096, 64 << 10, 2 << 20] {
            let region = Region::reserve(4 << 20, alignment).unwrap();
            assert!(region.base.as_ptr().addr().is_multiple_of(alignment));
            region.open(1 << 20, 64 << 10).unwrap();
            let data = region.at(1 << 20).as_ptr();
            // SAFETY:
            // - these 64 KiB were just opened
            unsafe {
                assert!((0..64 << 10).all(|i| *data.add(i) == 0));
                data.write_bytes(7, 64 << 10);
            }
        }
    }

    #[test]
    fn discarded_pages_read_as_zeros() {
        let len = 3 * page_size();
        let region = Region::reserve(len, 64).unwrap();
        region.open(0, len).unwrap();
        // SAFETY:
        // - all three pages are open, and only this test uses them
        unsafe {
            region.at(0).as_ptr().write_bytes(7, len);
            let discarded = region.discard(page_size(), page_size());
            assert_eq!(discarded, cfg!(all(unix, not(bytepool_portable))));
            let after = if discarded { 0 } else { 7 };
            assert_eq!(*region.at(page_size() - 1).as_ptr(), 7);
            assert_eq!(*region.at(page_size()).as_ptr(), after);
            assert_eq!(*region.at(2 * page_size()).as_ptr(), 7);
        }
    }

    #[test]
    fn offsets_outside_are_refused() {
        let region = Region::reserve(64 << 10, 64).unwrap();
        let base = region.base.as_ptr().addr();
        assert_eq!(region.offset_of(base), Some(0));
        assert_eq!(region.offset_of(base + 65_535), Some(65_535));
        assert_eq!(region.offset_of(base + 65_536), None);
        assert_eq!(region.offset_of(base - 1), None);
        assert_eq!(region.offset_of(0), None);
    }

    #[test]
    fn an_impossible_reservation_is_an_error() {
        assert!(Region::reserve(usize::MAX - (4 << 20), 2 << 20).is_err());
    }
}
