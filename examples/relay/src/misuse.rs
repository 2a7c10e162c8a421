//! The way to `misuse.c`.

use std::ffi::c_void;

use bytepool::Context;
use bytepool::ffi::status::Status;

unsafe extern "C" {
    fn relay_put_twice(context: *mut c_void) -> i32;
}

/// Has C put one buffer twice, while nobody else uses the pool; the pool's verdict on the second put. `None` if it is
/// none that this version of the library knows.
pub fn put_twice(context: &Context) -> Option<Status> {
    // SAFETY:
    // - the function takes any context, and no memory but a buffer of its own
    let verdict = unsafe { relay_put_twice(context.as_ptr()) };
    Status::from_code(verdict)
}
