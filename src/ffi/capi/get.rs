//! Getting one buffer.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use super::{SOMEWHERE, refuse_get};
use crate::class::ledger::Holder;
use crate::core::door::{self, Handle};
use crate::core::get::{Fill, Request};
use crate::debug::tracking::{Caller, Language};
use crate::error::GetError;
use crate::ffi::context::ContextHandle;
use crate::ffi::last_error::set_last_error;
use crate::ffi::status::Status;
use crate::ffi::types::timeout_of;

/// Gets a buffer of at least `size` bytes, which hold anything.
///
/// It is the caller's until it is put. A size of 0 gives a buffer, too.
///
/// Returns NULL on failure: an invalid context, a closed pool or freed context, the limit, no memory, or a panic of the
/// rounding function.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get(context: *mut c_void, size: usize) -> *mut c_void {
    match door::get(ContextHandle(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        None => get_slow(context, size),
    }
}

// It does not unwind and has its caller's signature, so the call is a tail call.
#[cold]
#[inline(never)]
extern "C" fn get_slow(context: *mut c_void, size: usize) -> *mut c_void {
    get_for(context, &Request::raw(size, SOMEWHERE))
}

/// Gets a buffer of at least `size` bytes, and says where it is called.
///
/// A pool that tracks remembers that, with a copy of `file` that is kept for ever. NULL stands for an unknown file, and
/// a line below 1 for an unknown line. The buffer is the caller's until it is put.
///
/// Returns NULL on failure: an invalid context, a closed pool or freed context, the limit, no memory, or a panic of the
/// rounding function.
///
/// # Safety
/// - `file` is NULL or a string
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_get_at(
    context: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    match door::get(ContextHandle(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        // SAFETY:
        // - as the caller promised
        None => unsafe { get_at_slow(context, size, file, line) },
    }
}

/// # Safety
/// - `file` is NULL or a string
#[cold]
#[inline(never)]
unsafe extern "C" fn get_at_slow(
    context: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    // SAFETY:
    // - not NULL, so a string (caller)
    let file = (!file.is_null()).then(|| unsafe { CStr::from_ptr(file) });
    let line = u32::try_from(line).unwrap_or(0);
    let caller = Caller::Native { language: Language::C, file, line, column: 0 };
    get_for(context, &Request::raw(size, caller))
}

/// Gets a buffer of at least `size` bytes, and waits for it where the pool is at its limit.
///
/// The thread sleeps until memory is put or given back, up to `timeout_ns` nanoseconds; `u64::MAX` means without
/// end. Waiters are served first come first served.
///
/// Returns NULL on failure: the timeout, the limit at once for what could never fit and with a timeout of 0, a pool
/// that closes, an invalid context, no memory, or a panic of the rounding function. The buffer is the caller's until it
/// is put.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_timeout(context: *mut c_void, size: usize, timeout_ns: u64) -> *mut c_void {
    get_for(context, &Request::raw(size, SOMEWHERE).waiting(timeout_of(timeout_ns)))
}

/// Gets a buffer of `count * size` bytes, all zero.
///
/// It is the caller's until it is put, with that product as its size.
///
/// Returns NULL on failure: no memory if the product overflows, and the errors of a get.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_calloc(context: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else { return refuse_too_much(context) };
    match door::get(ContextHandle(context), bytes, Holder::Raw(bytes)) {
        Some(buffer) => {
            // SAFETY:
            // - just got: the caller's, and of at least as many bytes
            unsafe { buffer.data.as_ptr().write_bytes(0, bytes) };
            buffer.data.as_ptr().cast()
        }
        None => calloc_slow(context, bytes),
    }
}

#[cold]
#[inline(never)]
fn calloc_slow(context: *mut c_void, bytes: usize) -> *mut c_void {
    get_for(context, &Request { fill: Fill::Zeros, ..Request::raw(bytes, SOMEWHERE) })
}

/// Refuses a size that overflows.
#[cold]
fn refuse_too_much(context: *mut c_void) -> *mut c_void {
    let handle = ContextHandle(context);
    let refused = ContextHandle::enter(|guard| {
        door::with_live_pool(handle, guard, |pool, _| match pool.is_closed() {
            true => Err::<(), _>(GetError::Closed),
            false => Err(GetError::OutOfMemory { requested: usize::MAX }),
        })
    });
    if let Err(refused) = refused {
        refuse_get(context, usize::MAX, refused);
    }
    ptr::null_mut()
}

/// Gets a buffer of at least `size` bytes that starts at a multiple of `alignment` bytes, a power of two.
///
/// It is the caller's until it is put, with `size`. A reallocation that moves it gives the pool's own alignment, unless
/// the buffer is oversize and stays so.
///
/// Returns NULL on failure: an invalid argument for any other alignment, and the errors of a get.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_aligned(context: *mut c_void, alignment: usize, size: usize) -> *mut c_void {
    get_for(context, &Request { alignment: Some(alignment), ..Request::raw(size, SOMEWHERE) })
}

/// Gets a buffer with a copy of the `size` bytes at `data`, which may be NULL if `size` is 0.
///
/// It is the caller's until it is put.
///
/// Returns NULL on failure: an invalid argument for NULL with a size, and the errors of a get.
///
/// # Safety
/// - `data` is readable for `size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_copy(
    context: *mut c_void,
    data: *const c_void,
    size: usize,
) -> *mut c_void {
    if data.is_null() && size > 0 {
        set_last_error(Status::InvalidArgument);
        return ptr::null_mut();
    }
    let copy = bytepool_get(context, size);
    if !copy.is_null() && size > 0 {
        // SAFETY:
        // - `data` is readable for `size` bytes (caller), the new buffer has at least as many, and is
        //   another
        unsafe { copy.copy_from_nonoverlapping(data, size) };
    }
    copy
}

/// A buffer of the context's pool. NULL if it is refused.
fn get_for(context: *mut c_void, request: &Request) -> *mut c_void {
    match door::get_slow(ContextHandle(context), request) {
        Ok(buffer) => buffer.data.as_ptr().cast(),
        Err(refused) => {
            refuse_get(context, request.size, refused);
            ptr::null_mut()
        }
    }
}
