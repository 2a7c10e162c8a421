//! The checker of memory that this process runs under, if any, and memory from the `malloc` that it watches.
//!
//! Sanitizers and memcheck know each block of that `malloc`: its size, where it was allocated and freed, and whether
//! anybody still has a pointer to it. So a buffer that is such a block needs nothing else.

#[cfg(unix)]
pub(super) use self::unix::{allocate, free, is_there};

#[cfg(unix)]
mod unix {
    use std::ffi::c_void;
    use std::ptr::{self, NonNull};

    use super::super::{callers, memcheck, sanitizer};
    use crate::os::memory::{Content, OutOfMemory};

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Checker {
        /// Finds the callers of `malloc` by frame pointers, which `callers` lays out for it.
        Sanitizer,
        /// Finds the callers of `malloc` without help.
        Memcheck,
    }

    impl Checker {
        /// The least size and the least alignment, in bytes, for which the checker ends the program.
        fn too_much(self) -> (usize, usize) {
            match self {
                Self::Sanitizer => (1 << 39, 1 << 39),
                Self::Memcheck => (1 << 39, 1 << 25),
            }
        }
    }

    /// The checker that this process runs under.
    fn checker() -> Option<Checker> {
        if sanitizer::is_there() {
            Some(Checker::Sanitizer)
        } else {
            memcheck::is_there().then_some(Checker::Memcheck)
        }
    }

    pub(in super::super) fn is_there() -> bool {
        checker().is_some()
    }

    /// Exactly `size` bytes from the C library, whatever the global allocator is.
    pub(in super::super) fn allocate(
        size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let checker = checker();
        let alignment = alignment.max(size_of::<*const ()>());
        let too_much = checker.map_or((usize::MAX, usize::MAX), Checker::too_much);
        if size >= too_much.0 || alignment >= too_much.1 {
            return Err(OutOfMemory { bytes: size });
        }
        let mut data: *mut c_void = ptr::null_mut();
        // SAFETY:
        // - `data` is writable, and the alignment a power of two and a multiple of a pointer's size
        // - the function takes the three arguments that it is called with
        let status = unsafe {
            match checker {
                Some(Checker::Sanitizer) => {
                    let arguments = [(&raw mut data).expose_provenance(), alignment, size];
                    callers::call(libc::posix_memalign as callers::Function, arguments) as libc::c_int
                }
                _ => libc::posix_memalign(&raw mut data, alignment, size),
            }
        };
        let data = NonNull::new(data.cast::<u8>()).filter(|_| status == 0);
        let data = data.ok_or(OutOfMemory { bytes: size })?;
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
        let data = data.as_ptr().cast::<c_void>();
        // SAFETY:
        // - allocated there, and freed once (caller)
        // - the function takes one argument, and ignores the rest
        unsafe {
            match checker() {
                Some(Checker::Sanitizer) => {
                    callers::call(libc::free as callers::Function, [data.expose_provenance(), 0, 0]);
                }
                _ => libc::free(data),
            }
        }
    }
}

/// Without Unix there is no checker.
#[cfg(not(unix))]
mod none {
    use std::ptr::NonNull;

    use crate::os::memory::{self, Content, OutOfMemory};

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

    /// # Safety
    /// - none: nothing was allocated
    pub(in super::super) unsafe fn free(_: NonNull<u8>) {
        unreachable!("no pool is instrumented");
    }
}
#[cfg(not(unix))]
pub(super) use self::none::{allocate, free, is_there};
