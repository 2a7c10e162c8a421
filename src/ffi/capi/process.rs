//! What is not one pool's: the thread's last error, the process's misuse handler, and what never changes.

use std::ffi::{c_char, c_void};

use crate::class::general::general_classes;
use crate::ffi::misuse::{self, Handler};
use crate::ffi::status::{Status, boundary, last_error, set_last_error};
use crate::ffi::types::{SizeClass, write_array};
use crate::pool::builder::round_original;

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_last_error() -> i32 {
    last_error() as i32
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_status_message(status: i32) -> *const c_char {
    Status::from_code(status).map_or(c"unknown status", Status::message).as_ptr()
}

/// See the header.
///
/// # Safety
/// - `handler` may be called with `user_data` on any thread, and does not throw
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_set_misuse_handler(handler: Option<Handler>, user_data: *mut c_void) {
    boundary((), |guard| misuse::set_handler(guard, handler, user_data));
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_invalid_context_count() -> u64 {
    misuse::invalid_context_count()
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_round_original(size: usize) -> usize {
    round_original(size)
}

/// See the header.
///
/// # Safety
/// - `out` has room for `max` classes, unless it is NULL
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_general_classes(
    out: *mut SizeClass,
    max: usize,
    smallest: usize,
    largest: usize,
) -> usize {
    boundary(0, |guard| match general_classes(smallest, largest) {
        // SAFETY:
        // - as the caller promised; SizeClass is two numbers of eight bytes
        Ok(classes) => unsafe { write_array(guard, classes, out, max) },
        Err(error) => {
            set_last_error((&error).into());
            0
        }
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_version() -> u32 {
    const fn number(digits: &str) -> u32 {
        match u32::from_str_radix(digits, 10) {
            Ok(number) => number,
            Err(_) => panic!("Cargo gives numbers"),
        }
    }
    const VERSION: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    VERSION
}
