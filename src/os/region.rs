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

/// Mapped by the system's calls.
#[cfg(all(unix, not(bytepool_portable)))]
mod system {
    use crate::os::caller::Uncancelled;
    use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::io::{self, Read};
    use std::ptr::{self, NonNull};

    pub(super) struct Mapping {
        base: NonNull<u8>,
        len: usize,
        is_locked: bool,
    }

    // FreeBSD and DragonFly reserve no swap for what is mapped, and have no flag that says so.
    #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
    const NO_RESERVE: libc::c_int = 0;
    #[cfg(not(any(target_os = "freebsd", target_os = "dragonfly")))]
    const NO_RESERVE: libc::c_int = libc::MAP_NORESERVE;
    const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | NO_RESERVE;

    impl Mapping {
        /// Both from one mapping.
        pub(super) fn reserve_two(
            len: usize,
            alignment: usize,
            second: usize,
        ) -> io::Result<[(Self, NonNull<u8>); 2]> {
            let both = len.checked_add(second).ok_or(io::ErrorKind::OutOfMemory)?;
            let (Self { base, len: mapped, is_locked }, aligned) = Self::reserve(both, alignment)?;
            // The second has the end, so that the first has all that alignment skipped. SAFETY:
            // - as much was reserved
            let second_base = unsafe { base.add(mapped - second) };
            let first = Self { base, len: mapped - second, is_locked };
            Ok([(first, aligned), (Self { base: second_base, len: second, is_locked }, second_base)])
        }

        /// Reserves `len` bytes, and as many more as alignment may cost. Returns the aligned start, too.
        pub(super) fn reserve(len: usize, alignment: usize) -> io::Result<(Self, NonNull<u8>)> {
            if len == 0 {
                // An aligned address that is never dereferenced: no mapping has no slots.
                let base =
                    NonNull::new(ptr::without_provenance_mut(alignment)).expect("alignment is not zero");
                return Ok((Self { base, len: 0, is_locked: false }, base));
            }
            let slack = alignment.saturating_sub(page_size());
            let mapped = len.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
            let (base, is_locked) = match map(mapped) {
                Ok(base) => (base, locked::unlock(base, mapped)),
                // Reserved addresses count as locked, and exceed that limit. Unlocked ones may fit.
                Err(error) if locked::is_limit(&error) => (locked::map_unlocked(mapped).ok_or(error)?, true),
                Err(error) => return Err(error),
            };
            let mapping = Self { base, len: mapped, is_locked };
            mapping.advise(base, mapped, SMALL);
            let aligned = base.as_ptr().addr().next_multiple_of(alignment) - base.as_ptr().addr();
            // SAFETY:
            // - `aligned` is at most `slack`, so the sum stays inside the mapping
            Ok((mapping, unsafe { base.add(aligned) }))
        }

        pub(super) fn is_locked(&self) -> bool {
            self.is_locked
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
            if refused {
                return Err(io::Error::last_os_error());
            }
            if self.is_locked {
                locked::lock(at, len);
            }
            Ok(())
        }

        pub(super) fn touch(&self, at: NonNull<u8>, len: usize) -> io::Result<()> {
            // On Linux since 5.14. It reports an error where there is not so much memory.
            const POPULATE_WRITE: libc::c_int = 23;
            if cfg!(target_os = "linux") {
                // SAFETY:
                // - the pages belong to this mapping (Region::check_pages); their content does not change
                if unsafe { libc::madvise(at.as_ptr().cast(), len, POPULATE_WRITE) } == 0 {
                    return Ok(());
                }
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINVAL) {
                    return Err(error);
                }
            }
            for page in (0..len).step_by(page_size()) {
                // SAFETY:
                // - open, and used by nobody yet (caller)
                unsafe { at.add(page).write_volatile(0) };
            }
            Ok(())
        }

        /// # Safety
        /// As [`Region::discard`](super::Region::discard).
        #[cfg(target_os = "linux")]
        pub(super) unsafe fn discard(&self, at: NonNull<u8>, len: usize) -> bool {
            // SAFETY:
            // - the pages belong to this mapping, and nobody needs their content (caller)
            let discarded = unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED) == 0 };
            // SAFETY: as above
            discarded || unsafe { locked::discard(at, len) }
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

        /// Only with one of the advices below.
        pub(super) fn advise(&self, at: NonNull<u8>, len: usize, advice: libc::c_int) {
            if cfg!(target_os = "linux") {
                // SAFETY:
                // - these advices change no content and no access
                unsafe { libc::madvise(at.as_ptr().cast(), len, advice) };
            }
        }
    }

    // Linux's; COLLAPSE since 6.1.
    pub(super) const HUGE: libc::c_int = 14;
    pub(super) const SMALL: libc::c_int = 15;
    pub(super) const COLLAPSE: libc::c_int = 25;

    /// Reserves addresses.
    fn map(len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY:
        // - a new anonymous mapping at an address of the kernel's choice affects no existing memory
        let base = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, FLAGS, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(NonNull::new(base.cast()).expect("mmap does not map address zero by itself"))
    }

    /// What `mlockall` changes: new mappings are locked, and count against a limit when they are reserved. The usual
    /// advice does not give them back.
    #[cfg(target_os = "linux")]
    mod locked {
        use super::{map, page_size};
        use std::io;
        use std::ptr::NonNull;

        /// Whether the limit on locked memory refused a mapping.
        pub(super) fn is_limit(error: &io::Error) -> bool {
            error.raw_os_error() == Some(libc::EAGAIN)
        }

        /// Reserves addresses that do not count as locked. One page is mapped, unlocked and then grown, which keeps it
        /// unlocked.
        pub(super) fn map_unlocked(len: usize) -> Option<NonNull<u8>> {
            let page = map(page_size()).ok()?;
            // SAFETY:
            // - the page was just mapped, for this alone; it may move
            let grown = unsafe {
                libc::munlock(page.as_ptr().cast(), page_size());
                libc::mremap(page.as_ptr().cast(), page_size(), len, libc::MREMAP_MAYMOVE)
            };
            if grown == libc::MAP_FAILED {
                // SAFETY:
                // - mapped above, and used by nobody
                unsafe { libc::munmap(page.as_ptr().cast(), page_size()) };
                return None;
            }
            NonNull::new(grown.cast())
        }

        /// Unlocks a new mapping if it is locked; whether it was.
        pub(super) fn unlock(base: NonNull<u8>, len: usize) -> bool {
            // SAFETY:
            // - the mapping was just made, and holds nothing that could be lost
            let refused =
                unsafe { libc::madvise(base.as_ptr().cast(), page_size(), libc::MADV_DONTNEED) } != 0;
            let is_locked = refused && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
            if is_locked {
                // SAFETY:
                // - the mapping was just made; its content does not change
                unsafe { libc::munlock(base.as_ptr().cast(), len) };
            }
            is_locked
        }

        /// Lets pages be locked as they are touched. Where the limit refuses, they stay unlocked.
        pub(super) fn lock(at: NonNull<u8>, len: usize) {
            // SAFETY:
            // - the content of the pages does not change
            unsafe { libc::syscall(libc::SYS_mlock2, at.as_ptr(), len, libc::MLOCK_ONFAULT) };
        }

        /// Discards pages that are locked.
        ///
        /// # Safety
        /// As [`Region::discard`](super::super::Region::discard).
        pub(super) unsafe fn discard(at: NonNull<u8>, len: usize) -> bool {
            // Since Linux 5.18.
            const DONTNEED_LOCKED: libc::c_int = 24;
            // SAFETY:
            // - the pages belong to the mapping, and nobody needs their content (caller)
            unsafe {
                if libc::madvise(at.as_ptr().cast(), len, DONTNEED_LOCKED) == 0 {
                    return true;
                }
                libc::munlock(at.as_ptr().cast(), len);
                let discarded = libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED) == 0;
                lock(at, len);
                discarded
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    mod locked {
        use std::io;
        use std::ptr::NonNull;

        pub(super) fn is_limit(_error: &io::Error) -> bool {
            false
        }

        pub(super) fn map_unlocked(_len: usize) -> Option<NonNull<u8>> {
            None
        }

        pub(super) fn unlock(_base: NonNull<u8>, _len: usize) -> bool {
            false
        }

        pub(super) fn lock(_at: NonNull<u8>, _len: usize) {}
    }

    /// What the limit on the process's addresses leaves, in bytes; `None` without one.
    pub(super) fn addresses_left() -> Option<usize> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY:
        // - it writes to `limit` only
        if unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } != 0
            || limit.rlim_cur == libc::RLIM_INFINITY
        {
            return None;
        }
        let limit = usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX);
        Some(limit.saturating_sub(addresses_taken()))
    }

    /// The bytes of addresses that the process has; 0 where the system does not tell.
    fn addresses_taken() -> usize {
        // Opening and reading a file are points of cancellation.
        let _uncancelled = Uncancelled::new();
        let mut text = [0; 32];
        let read = std::fs::File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text));
        let pages = text[..read.unwrap_or(0)].split(|byte| *byte == b' ').next();
        let pages = pages.and_then(|pages| std::str::from_utf8(pages).ok()?.parse::<usize>().ok());
        pages.unwrap_or(0).saturating_mul(page_size())
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
