//! Mapped by the system's calls, on Unix.

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
            let base = NonNull::new(ptr::without_provenance_mut(alignment)).expect("alignment is not zero");
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
            // Other errors are of systems, and of sandboxes, that do not know or allow the advice.
            let error = io::Error::last_os_error();
            if let Some(libc::ENOMEM | libc::EFAULT) = error.raw_os_error() {
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
        // EINVAL: some of them are locked. Another error is a sandbox's, which allows no advice.
        let may_be_locked = || io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
        // SAFETY: as above
        discarded || may_be_locked() && unsafe { locked::discard(at, len) }
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
        let refused = unsafe { libc::madvise(base.as_ptr().cast(), page_size(), libc::MADV_DONTNEED) } != 0;
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
