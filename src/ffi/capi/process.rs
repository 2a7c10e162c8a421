//! What is not one pool's: the thread's last error, the process's misuse handler, and what never changes.

use std::ffi::{c_char, c_void};
use std::slice;

use super::number_of;
use crate::class::general::general_classes;
use crate::debug::written;
use crate::ffi::last_error::{last_error, write_last_error};
use crate::ffi::misuse::{self, Handler};
use crate::ffi::status::{Status, boundary};
use crate::ffi::types::{SizeClass, write_array};
use crate::pool::builder::round_original;

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_last_error() -> i32 {
    last_error() as i32
}

/// See the header.
///
/// # Safety
/// - `out` is NULL or writable for `size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_error_text(out: *mut c_char, size: usize) -> usize {
    let out = match size {
        _ if out.is_null() => &mut [],
        // SAFETY:
        // - not NULL, and writable for so many (caller); no slice is longer than memory
        size => unsafe { slice::from_raw_parts_mut(out.cast::<u8>(), size.min(isize::MAX as usize)) },
    };
    let room = out.len().saturating_sub(1);
    boundary(0, |guard| {
        let len = write_last_error(&mut out[..room]);
        if let Some(end) = out.get_mut(len.min(room)) {
            *end = 0;
            written(guard, &mut out[..=len.min(room)]);
        }
        len
    })
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
    number_of(|guard| {
        let classes = general_classes(smallest, largest)?;
        // SAFETY:
        // - as the caller promised; SizeClass is two numbers of eight bytes
        Ok(unsafe { write_array(guard, classes, out, max) })
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
