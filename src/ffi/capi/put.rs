//! Putting one buffer.

use std::ffi::c_void;

use super::refuse_put;
use crate::class::location::PutSize;
use crate::core::door::{self, Unfinished};
use crate::ffi::context::ContextHandle;
use crate::ffi::status::Status;

/// See the header.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any
///   more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put(context: *mut c_void, data: *mut c_void, size: usize) {
    if let Err(unfinished) = door::put(ContextHandle(context), data.cast(), size) {
        // SAFETY:
        // - as the caller promised; the fast path just gave this
        unsafe { finish_put(context, data, unfinished, size) };
    }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_checked(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    match door::put(ContextHandle(context), data.cast(), size) {
        Ok(()) => Status::Ok as i32,
        // SAFETY:
        // - as the caller promised; the fast path just gave this
        Err(unfinished) => unsafe { finish_put(context, data, unfinished, size) },
    }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_unsized(context: *mut c_void, data: *mut c_void) {
    if !door::put_unsized(ContextHandle(context), data.cast()) {
        // SAFETY:
        // - as the caller promised
        unsafe { put_unsized_slow(context, data) };
    }
}

// Out of line from here on. Not unwinding, each argument where its caller has it: so they are tail calls.

/// # Safety
/// - as [`put_slow`]; the fast path just gave `unfinished`
#[cold]
#[inline(never)]
unsafe extern "C" fn finish_put(
    context: *mut c_void,
    data: *mut c_void,
    unfinished: Unfinished,
    size: usize,
) -> i32 {
    // SAFETY:
    // - as the caller promised
    unsafe {
        match door::finish_put(unfinished, data.cast()) {
            true => Status::Ok as i32,
            false => put_sized_slow(context, data, size),
        }
    }
}

/// # Safety
/// - as [`put_slow`]
#[inline(never)]
unsafe extern "C" fn put_sized_slow(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    // SAFETY:
    // - as the caller promised
    unsafe { put_slow(context, data, PutSize::Sized(size)) }
}

/// # Safety
/// - as [`put_slow`]
#[cold]
#[inline(never)]
unsafe extern "C" fn put_unsized_slow(context: *mut c_void, data: *mut c_void) -> i32 {
    // SAFETY:
    // - as the caller promised
    unsafe { put_slow(context, data, PutSize::Unsized) }
}

/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any more
unsafe fn put_slow(context: *mut c_void, data: *mut c_void, size: PutSize) -> i32 {
    // SAFETY:
    // - as the caller promised
    match unsafe { door::put_slow(ContextHandle(context), data.cast(), size) } {
        Ok(()) => Status::Ok as i32,
        Err(refused) => refuse_put(context, data, size.bytes(), refused) as i32,
    }
}
