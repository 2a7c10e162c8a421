//! One allocator of a crate as a shared library. It exports only `allocator`, so that an allocator whose functions are
//! called `malloc` and `free` replaces nobody else's.

use std::ffi::c_void;

type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type FreeSized = unsafe extern "C" fn(*mut c_void, usize);
type Thread = unsafe extern "C" fn();

/// What a program calls. Pointers to the allocator's own functions where it has them, so that a call is one jump. One of
/// `free` and `free_sized` is there. `benches/peers/src/peers.rs` has this struct once more.
#[repr(C)]
pub struct Functions {
    pub malloc: Malloc,
    pub free: Option<Free>,
    pub free_sized: Option<FreeSized>,
    /// Before a thread's first call, and after its last.
    pub enter: Option<Thread>,
    pub leave: Option<Thread>,
}

#[unsafe(no_mangle)]
pub extern "C" fn allocator() -> Functions {
    chosen::functions()
}

/// Of an allocator that needs to know nothing but pointers.
#[cfg(any(feature = "hardened-malloc", feature = "mimalloc", feature = "snmalloc"))]
fn plain(malloc: Malloc, free: Free) -> Functions {
    Functions { malloc, free: Some(free), free_sized: None, enter: None, leave: None }
}

#[cfg(feature = "snmalloc")]
mod chosen {
    pub fn functions() -> crate::Functions {
        crate::plain(snmalloc_sys::sn_malloc, snmalloc_sys::sn_free)
    }
}

#[cfg(feature = "mimalloc")]
mod chosen {
    pub fn functions() -> crate::Functions {
        crate::plain(libmimalloc_sys::mi_malloc, libmimalloc_sys::mi_free)
    }
}

#[cfg(feature = "hardened-malloc")]
mod chosen {
    pub fn functions() -> crate::Functions {
        crate::plain(hardened_malloc_sys::malloc, hardened_malloc_sys::free)
    }
}

#[cfg(feature = "rpmalloc")]
mod chosen {
    use rpmalloc_sys::{
        rpfree, rpmalloc, rpmalloc_initialize, rpmalloc_thread_finalize, rpmalloc_thread_initialize,
    };

    pub fn functions() -> crate::Functions {
        // SAFETY:
        // - has no conditions; the first call counts
        let status = unsafe { rpmalloc_initialize() };
        assert_eq!(status, 0, "rpmalloc does not start");
        crate::Functions {
            malloc: rpmalloc,
            free: Some(rpfree),
            free_sized: None,
            enter: Some(rpmalloc_thread_initialize),
            leave: Some(leave),
        }
    }

    unsafe extern "C" fn leave() {
        // SAFETY:
        // - the thread entered, says the caller
        unsafe { rpmalloc_thread_finalize() }
    }
}

/// With the size at the free: by it tcmalloc need not look the class up.
#[cfg(feature = "tcmalloc")]
mod chosen {
    use std::ffi::c_void;

    // Links the library, whose own declarations leave out these two.
    use libtcmalloc_sys as _;

    unsafe extern "C" {
        fn TCMallocInternalMalloc(size: usize) -> *mut c_void;
        fn TCMallocInternalFreeSized(data: *mut c_void, size: usize);
    }

    pub fn functions() -> crate::Functions {
        crate::Functions {
            malloc: TCMallocInternalMalloc,
            free: None,
            free_sized: Some(TCMallocInternalFreeSized),
            enter: None,
            leave: None,
        }
    }
}

/// With the size at the free, which Scudo then checks.
#[cfg(feature = "scudo")]
mod chosen {
    use std::ffi::c_void;

    use scudo_sys::{scudo_allocate, scudo_deallocate};

    /// As `malloc` has it.
    const ALIGNMENT: usize = 16;

    pub fn functions() -> crate::Functions {
        crate::Functions { malloc, free: None, free_sized: Some(free), enter: None, leave: None }
    }

    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        // SAFETY:
        // - any size is allowed, and the alignment is a power of two
        unsafe { scudo_allocate(size, ALIGNMENT) }
    }

    unsafe extern "C" fn free(data: *mut c_void, size: usize) {
        // SAFETY:
        // - `malloc` returned it for this size, and it is not used again, says the caller
        unsafe { scudo_deallocate(data, size, ALIGNMENT) }
    }
}
