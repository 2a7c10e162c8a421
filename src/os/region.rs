//! The region: one reserved range of addresses that holds every slot of a pool. This file maps it,
//! opens and discards its pages, and unmaps it.
//!
//! ```text
//! reserved, no access  |----------------------------------------------------------------|
//! opened by span       |#####------|##------------|#########-----------|----------------|
//!                        class 0     class 1         class 2              (tail)
//! ```
//!
//! - Reserving costs addresses, not memory. Pages are opened in growing steps, since under strict overcommit or
//!   `RLIMIT_AS` opened pages are not free.
//! - Where the process locks all its memory, reserved addresses are unlocked, and opened pages are locked as they are
//!   touched.
//! - Opened pages hold zeros until they are first written, and again after [`Region::discard`].
//! - Any thread may open and discard. The callers make sure that nobody uses what is discarded.
//!
//! Unix maps with the system's calls. Other targets take the whole region from the global allocator, and cannot
//! discard. `--cfg bytepool_portable` selects that path anywhere.

#[cfg(not(all(unix, not(bytepool_portable))))]
mod allocated;
#[cfg(all(unix, not(bytepool_portable)))]
mod mapped;

#[cfg(not(all(unix, not(bytepool_portable))))]
use self::allocated as system;
#[cfg(all(unix, not(bytepool_portable)))]
use self::mapped as system;
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
    /// Reserves `len` bytes without access. They start at a multiple of `alignment`, a power of two.
    pub(crate) fn reserve(len: usize, alignment: usize) -> io::Result<Self> {
        let (mapping, base) = system::Mapping::reserve(len, alignment)?;
        Ok(Self::at_base(mapping, base, len, alignment))
    }

    /// Reserves two regions of whole pages, where possible by one request of the system. The first has `len` bytes from
    /// a multiple of `alignment`, the second has `second` bytes from the start of a page.
    pub(crate) fn reserve_two(len: usize, alignment: usize, second: usize) -> io::Result<(Self, Self)> {
        let [(first, base), (rest, second_base)] = system::Mapping::reserve_two(len, alignment, second)?;
        let first = Self::at_base(first, base, len, alignment);
        Ok((first, Self::at_base(rest, second_base, second, page_size())))
    }

    fn at_base(mapping: system::Mapping, base: NonNull<u8>, len: usize, alignment: usize) -> Self {
        debug_assert!(base.as_ptr().addr() % alignment == 0);
        Self { unmapped: AtomicBool::new(false), base, len, mapping }
    }

    /// Whether the process locks its memory: opened pages count against its limit on locked memory.
    pub(crate) fn is_locked(&self) -> bool {
        self.mapping.is_locked()
    }

    /// The first address. It is exposed, because the memory is also reached through pointers that are made from
    /// addresses.
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
        // - callers pass offsets that lie inside the region, as those of slots, pages and books do
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

    /// Makes whole opened pages memory. Nobody uses them yet.
    pub(crate) fn touch(&self, offset: usize, len: usize) -> io::Result<()> {
        self.check_pages(offset, len);
        self.mapping.touch(self.at(offset), len)
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
        // Relaxed: callers hold the lock under which the region is unmapped. Or the system gave them memory there,
        // after it was.
        self.unmapped.load(Relaxed)
    }

    /// Gives the memory and the addresses back to the system now, not only in drop. Only the first call does.
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

    /// Asks for huge pages in an open range of whole [`HUGE_PAGE`]s. With `now` what the range holds is moved at once;
    /// otherwise pages are huge when they are first touched. A system without huge pages ignores it.
    pub(crate) fn make_huge(&self, offset: usize, len: usize, now: bool) {
        self.check_pages(offset, len);
        self.mapping.advise(self.at(offset), len, system::HUGE);
        if now {
            self.mapping.advise(self.at(offset), len, system::COLLAPSE);
        }
    }

    /// Asks for small pages. A huge page is resident as a whole when a part of it is touched. And if the system put
    /// small pages together, what was given back would be memory again.
    pub(crate) fn keep_small(&self, offset: usize, len: usize) {
        if len > 0 {
            self.mapping.advise(self.at(offset), len, system::SMALL);
        }
    }

    fn check_pages(&self, offset: usize, len: usize) {
        let page = page_size();
        assert!(
            offset % page == 0 && len % page == 0 && offset + len <= self.len,
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

/// How many bytes of addresses a pool may reserve beyond the `asked` bytes: an eighth of what the limit on the
/// process's addresses leaves then, but at most `most`. None where a reservation would be memory.
pub(crate) fn addresses_to_spare(asked: usize, most: usize) -> usize {
    let spare = |left: usize| most.min(left.saturating_sub(asked) / 8);
    if CAN_SEAL { system::addresses_left().map_or(most, spare) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_aligned_zeroed_and_usable_where_opened() {
        for alignment in [64, 4096, 64 << 10, 2 << 20] {
            let region = Region::reserve(4 << 20, alignment).unwrap();
            assert!(region.base.as_ptr().addr() % alignment == 0);
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
    fn of_two_regions_each_goes_alone() {
        let page = page_size();
        // Repeated, because nothing is skipped where the system maps an aligned address by chance.
        for alignment in [page, 16 * page, 2 << 20].repeat(4) {
            let (first, second) = Region::reserve_two(4 * page, alignment, 3 * page).unwrap();
            assert_eq!(first.base.as_ptr().addr() % alignment, 0);
            first.open(0, 4 * page).unwrap();
            second.open(0, 3 * page).unwrap();
            let end = first.base() + first.len();
            assert!(end <= second.base() || second.base() + second.len() <= first.base());
            // SAFETY:
            // - these pages were just opened; nobody uses the first region once it is unmapped
            unsafe {
                second.at(0).as_ptr().write_bytes(7, 3 * page);
                first.at(0).as_ptr().write_bytes(1, 4 * page);
                first.unmap();
                assert!((0..3 * page).all(|byte| *second.at(0).as_ptr().add(byte) == 7));
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
