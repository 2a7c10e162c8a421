//! What the C++ function `dump_outstanding` calls. The C function cannot serve it: 0 is also its answer where there is
//! no memory.

use std::ffi::c_void;

use crate::debug::written;
use crate::ffi::cpp_error::boundary;
use crate::ffi::types::{COutstanding, OutstandingHandler};
use crate::pool::Pool;

/// Calls `handler` for every tracked buffer that is outstanding, the oldest first. Returns how many there are, or
/// `usize::MAX` if there is no memory.
///
/// # Safety
/// - `handler` may be called with `user_data`, and does not throw
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_dump_outstanding(
    pool: &Pool,
    handler: OutstandingHandler,
    user_data: *mut c_void,
) -> usize {
    let Ok(all) = boundary((), |_| pool.dump_outstanding().map_err(drop)) else { return usize::MAX };
    for buffer in &all {
        let mut buffer = COutstanding::from(buffer);
        written(&mut buffer);
        // SAFETY:
        // - may be called so (caller); no lock of ours is held
        unsafe { handler(&buffer, user_data) };
    }
    all.len()
}
