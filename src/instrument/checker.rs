//! Whether this process runs under a checker that watches `malloc`, and memory from that `malloc`.

#[cfg(unix)]
pub(super) use self::unix::{allocate, free, is_there};

#[cfg(unix)]
mod unix {
    use std::ptr::{self, NonNull};

    use crate::memory::{Content, OutOfMemory};

    /// Found out once per process.
    pub(in super::super) fn is_there() -> bool {
        false
    }

    /// Exactly `size` bytes from the C library, whatever the global allocator is.
    pub(in super::super) fn allocate(
        size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let alignment = alignment.max(size_of::<*const ()>());
        let mut data = ptr::null_mut();
        // SAFETY:
        // - `data` is writable, and the alignment a power of two and a multiple of a pointer's size
        let status = unsafe { libc::posix_memalign(&raw mut data, alignment, size) };
        let data =
            NonNull::new(data.cast::<u8>()).filter(|_| status == 0).ok_or(OutOfMemory { bytes: size })?;
        if content == Content::Zeros {
            // SAFETY:
            // - just allocated with this size
            unsafe { data.as_ptr().write_bytes(0, size) };
        }
        Ok(std::hint::black_box(data)) // as in `allocate_buffer`
    }

    /// Gives a buffer back to the C library.
    ///
    /// # Safety
    /// - `data` came from [`allocate`] and was not freed since
    /// - nobody uses it any more
    pub(in super::super) unsafe fn free(data: NonNull<u8>) {
        // SAFETY:
        // - allocated there, and freed once (caller)
        unsafe { libc::free(data.as_ptr().cast()) };
    }
}

/// Elsewhere there is none.
#[cfg(not(unix))]
mod none {
    use std::ptr::NonNull;

    use crate::memory::{self, Content, OutOfMemory};

    pub(in super::super) fn is_there() -> bool {
        false
    }

    pub(in super::super) fn allocate(
        size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        memory::allocate_buffer(size, alignment, content)
    }

    pub(in super::super) unsafe fn free(_: NonNull<u8>) {
        unreachable!("no pool is instrumented");
    }
}
#[cfg(not(unix))]
pub(super) use self::none::{allocate, free, is_there};
