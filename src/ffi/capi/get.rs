//! Getting one buffer.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::SOMEWHERE;
use crate::error::GetError;
use crate::ffi::context::{cache_key, resolve};
use crate::ffi::misuse::refuse_context;
use crate::ffi::status::{Status, boundary, set_last_error};
use crate::ffi::types::timeout_of;
use crate::instrument::tracking::{Caller, Language};
use crate::ledger::Holder;
use crate::shared::{Buffer, Fill, Request, Shared};
use crate::thread_cache;

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get(context: *mut c_void, size: usize) -> *mut c_void {
    match thread_cache::get(cache_key(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        None => get_slowly(context, size),
    }
}

// Not unwinding, and of the same signature: so it is a tail call.
#[cold]
#[inline(never)]
extern "C" fn get_slowly(context: *mut c_void, size: usize) -> *mut c_void {
    if let Some(buffer) = thread_cache::get_or_fill(cache_key(context), size, Holder::Raw(size)) {
        return buffer.data.as_ptr().cast();
    }
    boundary(ptr::null_mut(), || hand_out(context, size, |pool| pool.get(&Request::raw(size, SOMEWHERE))))
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
    match thread_cache::get(cache_key(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        // SAFETY:
        // - as the caller promised
        None => unsafe { get_at_slowly(context, size, file, line) },
    }
}

/// # Safety
/// - as [`bytepool_get_at`]
#[cold]
#[inline(never)]
unsafe extern "C" fn get_at_slowly(
    context: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    if let Some(buffer) = thread_cache::get_or_fill(cache_key(context), size, Holder::Raw(size)) {
        return buffer.data.as_ptr().cast();
    }
    let line = u32::try_from(line).unwrap_or(0);
    let caller = Caller::Native { language: Language::C, file, line, column: 0 };
    boundary(ptr::null_mut(), || hand_out(context, size, |pool| pool.get(&Request::raw(size, caller))))
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_timeout(context: *mut c_void, size: usize, timeout_ns: u64) -> *mut c_void {
    if let Some(buffer) = thread_cache::get_or_fill(cache_key(context), size, Holder::Raw(size)) {
        return buffer.data.as_ptr().cast();
    }
    let timeout = timeout_of(timeout_ns);
    boundary(ptr::null_mut(), || {
        hand_out(context, size, |pool| pool.get_timeout(&Request::raw(size, SOMEWHERE), timeout))
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_calloc(context: *mut c_void, count: usize, size: usize) -> *mut c_void {
    boundary(ptr::null_mut(), || {
        let bytes = count.checked_mul(size);
        hand_out(context, bytes.unwrap_or(usize::MAX), |pool| match bytes {
            Some(bytes) => pool.get(&Request { fill: Fill::Zeros, ..Request::raw(bytes, SOMEWHERE) }),
            None if pool.is_closed() => Err(GetError::Closed),
            None => Err(GetError::OutOfMemory { requested: usize::MAX }),
        })
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_aligned(context: *mut c_void, alignment: usize, size: usize) -> *mut c_void {
    boundary(ptr::null_mut(), || {
        hand_out(context, size, |pool| pool.get_aligned(alignment, &Request::raw(size, SOMEWHERE)))
    })
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
    boundary(ptr::null_mut(), || {
        if data.is_null() && size > 0 {
            set_last_error(Status::InvalidArgument);
            return ptr::null_mut();
        }
        let copy = hand_out(context, size, |pool| pool.get(&Request::raw(size, SOMEWHERE)));
        if !copy.is_null() && size > 0 {
            // SAFETY:
            // - `data` is readable for `size` bytes (caller), the new buffer has at least as many, and is
            //   another
            unsafe { copy.copy_from_nonoverlapping(data, size) };
        }
        copy
    })
}

/// Gets a buffer from the context's pool.
fn hand_out(
    context: *mut c_void,
    size: usize,
    get: impl FnOnce(&Shared) -> Result<Buffer, GetError>,
) -> *mut c_void {
    let Some(resolved) = resolve(context) else {
        refuse_context(context, ptr::null(), size);
        return ptr::null_mut();
    };
    let got = if resolved.is_live {
        // First: a slot for this thread then comes from a ledger line of its own.
        resolved.attach(context);
        get(&resolved.pool)
    } else {
        Err(GetError::Closed)
    };
    match got {
        Ok(buffer) => buffer.data.as_ptr().cast(),
        Err(error) => {
            set_last_error((&error).into());
            ptr::null_mut()
        }
    }
}
