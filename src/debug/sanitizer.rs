//! The compilers' sanitizers: AddressSanitizer, MemorySanitizer, ThreadSanitizer and LeakSanitizer.
//!
//! A program that is compiled with one carries its runtime, which replaces `malloc`. This library is compiled without,
//! and finds the runtime by the names of its functions.

use std::ffi::{CStr, c_void};

#[cfg(feature = "capi")]
use crate::os::fork::ForkGuard;
#[cfg(feature = "capi")]
use crate::os::lock::Once;

/// A function that each runtime exports. The last is that of the AddressSanitizer that uses the processor's tags.
const RUNTIMES: [&CStr; 5] =
    [c"__asan_init", c"__msan_init", c"__tsan_init", c"__lsan_init", c"__hwasan_init"];

/// Whether this process has such a runtime.
pub(super) fn is_there() -> bool {
    RUNTIMES.into_iter().any(|name| !find(name).is_null())
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
pub(crate) fn written<T: ?Sized>(guard: &ForkGuard, place: &mut T) {
    type Unpoison = unsafe extern "C" fn(*const c_void, usize);
    static UNPOISON: Once<Option<Unpoison>> = Once::new();
    let unpoison = UNPOISON.get_or_init(guard, || {
        // SAFETY:
        // - the runtime's function has this type; a null pointer is None
        unsafe { std::mem::transmute::<*mut c_void, Option<Unpoison>>(find(c"__msan_unpoison")) }
    });
    if let Some(unpoison) = unpoison {
        // SAFETY:
        // - it only notes that the bytes are initialised, which they are
        unsafe { unpoison((&raw const *place).cast(), size_of_val(place)) };
    }
}
