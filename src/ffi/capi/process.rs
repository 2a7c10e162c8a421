//! What belongs to no pool: the thread's last error, the process's misuse handler, and what never changes.

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

/// The status of the calling thread's last failed call.
///
/// It is success if none failed yet. A call that succeeds leaves it.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_last_error() -> i32 {
    last_error() as i32
}

/// Writes the text of the calling thread's last error, with its figures.
///
/// At most `size` bytes are written to `out`, the last of them a zero byte. `out` may be NULL if `size` is 0.
///
/// Returns the length of the whole text in bytes, without the zero byte. It allocates nothing and sets no error.
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
    boundary(0, |_| {
        let len = write_last_error(&mut out[..room]);
        if let Some(end) = out.get_mut(len.min(room)) {
            *end = 0;
            written(&mut out[..=len.min(room)]);
        }
        len
    })
}

/// What a status means, in English.
///
/// The string is constant, and never NULL or freed.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_status_message(status: i32) -> *const c_char {
    Status::from_code(status).map_or(c"unknown status", Status::message).as_ptr()
}

/// Sets what is called for every misuse of the C functions in this process, and of C++'s allocator, memory_resource and
/// functions of contexts. Rust's methods return misuse as an error.
///
/// It is called on the thread that misused, with no lock held, before the call returns. It may still run on another
/// thread when this function returns.
///
/// NULL brings the default back: it writes one line to stderr, at most 10 a second, and before the next one how many
/// more there were.
///
/// # Safety
/// - `handler` may be called with `user_data` on any thread, and does not throw
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_set_misuse_handler(handler: Option<Handler>, user_data: *mut c_void) {
    boundary((), |guard| misuse::set_handler(guard, handler, user_data));
}

/// How many calls of this process were refused for an invalid context.
///
/// No pool's figures can count them.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_invalid_context_count() -> u64 {
    misuse::invalid_context_count()
}

/// The original library's default rounding: `((size + 256) >> 3) << 3` bytes, and `size` itself where that overflows.
///
/// It fits [`Config::round`](crate::ffi::types::Config::round).
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_round_original(size: usize) -> usize {
    round_original(size)
}

/// Makes size classes for sizes of all kinds: from the first that holds `smallest` bytes to the first that holds
/// `largest`.
///
/// The first `max` of them are written to `out`, which may be NULL.
///
/// Returns how many classes there are, at most 64. It is 0 on failure, an invalid argument: a `largest` of 0, below
/// `smallest` or above 3 GiB, and what takes more than 64 classes.
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
    number_of(|_| {
        let classes = general_classes(smallest, largest)?;
        // SAFETY:
        // - as the caller promised; SizeClass is two numbers of eight bytes
        Ok(unsafe { write_array(classes, out, max) })
    })
}

/// The library's version, as `major * 1000000 + minor * 1000 + patch`.
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
