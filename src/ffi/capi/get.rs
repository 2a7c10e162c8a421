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

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get(context: *mut c_void, size: usize) -> *mut c_void {
    match door::get(ContextHandle(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        None => get_slow(context, size),
    }
}

// Not unwinding, and of the same signature: so it is a tail call.
#[cold]
#[inline(never)]
extern "C" fn get_slow(context: *mut c_void, size: usize) -> *mut c_void {
    get_for(context, &Request::raw(size, SOMEWHERE))
}

/// See the header.
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
/// - as [`bytepool_get_at`]
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

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_timeout(context: *mut c_void, size: usize, timeout_ns: u64) -> *mut c_void {
    let timeout = timeout_of(timeout_ns);
    get_for(context, &Request { timeout, ..Request::raw(size, SOMEWHERE) })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_calloc(context: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => get_for(context, &Request { fill: Fill::Zeros, ..Request::raw(bytes, SOMEWHERE) }),
        None => refuse_too_much(context),
    }
}

/// More than a number can say was asked for.
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

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_aligned(context: *mut c_void, alignment: usize, size: usize) -> *mut c_void {
    get_for(context, &Request { alignment: Some(alignment), ..Request::raw(size, SOMEWHERE) })
}

/// See the header.
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
    let copy = get_for(context, &Request::raw(size, SOMEWHERE));
    if !copy.is_null() && size > 0 {
        // SAFETY:
        // - `data` is readable for `size` bytes (caller), the new buffer has at least as many, and is
        //   another
        unsafe { copy.copy_from_nonoverlapping(data, size) };
    }
    copy
}

/// A buffer of the context's pool; NULL if it is refused.
fn get_for(context: *mut c_void, request: &Request) -> *mut c_void {
    match door::get_slow(ContextHandle(context), request) {
        Ok(buffer) => buffer.data.as_ptr().cast(),
        Err(refused) => {
            refuse_get(context, request.size, refused);
            ptr::null_mut()
        }
    }
}
