//! The compilers' sanitizers: AddressSanitizer, MemorySanitizer, ThreadSanitizer and LeakSanitizer.
//!
//! A program that is compiled with one carries its runtime, which replaces `malloc`. This library is compiled without,
//! and finds the runtime by the names of its functions.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU8};
use std::ffi::{CStr, c_void};
use std::ptr;

/// A function that each runtime exports. The last is that of the AddressSanitizer that uses the processor's tags.
const RUNTIMES: [&CStr; 5] =
    [c"__asan_init", c"__msan_init", c"__tsan_init", c"__lsan_init", c"__hwasan_init"];

/// What a look found: no runtime, or one.
static FOUND: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const NONE: u8 = 1;
const ONE: u8 = 2;

/// MemorySanitizer's function that is told what was written, if that one is there.
static UNPOISON: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// On Linux it looks when the library is loaded. A look takes the lock of the C library's loader. A thread that loads
/// another library holds it until that one's constructors have run, and these may use pools or fork. So no look may
/// come under a lock or a fork guard of ours.
#[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        look();
    }
    at_load
};

/// Whether this process has the runtime of a sanitizer.
pub(super) fn is_there() -> bool {
    // Acquire: partner in `look`.
    match FOUND.load(Acquire) {
        UNKNOWN => look(),
        found => found == ONE,
    }
}

/// Any thread may look, also several at once: all find the same.
#[cold]
fn look() -> bool {
    // So that a linker that takes this function takes `AT_LOAD`, too.
    #[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
    std::hint::black_box(&AT_LOAD);
    let is_there = RUNTIMES.into_iter().any(|name| !find(name).is_null());
    UNPOISON.store(find(c"__msan_unpoison"), Relaxed);
    // What was not found is no error of the user's. SAFETY:
    // - forgets the calling thread's last error
    unsafe { libc::dlerror() };
    // Release: partner in `is_there`. Whoever sees what was found sees `UNPOISON`.
    FOUND.store(if is_there { ONE } else { NONE }, Release);
    is_there
}

/// The function of this name anywhere in the process. It is null if there is none.
fn find(name: &CStr) -> *mut c_void {
    // SAFETY:
    // - the name ends with a zero byte
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// Tells MemorySanitizer, if it is there, that these bytes were written. This library is compiled without it, so it
/// does not see what the library writes into the user's memory.
#[cfg(feature = "capi")]
pub(crate) fn written<T: ?Sized>(place: &mut T) {
    type Unpoison = unsafe extern "C" fn(*const c_void, usize);
    if !is_there() {
        return;
    }
    // SAFETY:
    // - the runtime's function has this type; a null pointer is None
    let unpoison = unsafe { std::mem::transmute::<*mut c_void, Option<Unpoison>>(UNPOISON.load(Relaxed)) };
    if let Some(unpoison) = unpoison {
        // SAFETY:
        // - it only notes that the bytes are initialised, which they are
        unsafe { unpoison((&raw const *place).cast(), size_of_val(place)) };
    }
}
