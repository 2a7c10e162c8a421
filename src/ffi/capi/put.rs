//! Putting one buffer.

use std::ffi::c_void;
use std::ptr::NonNull;

use crate::ffi::context::{cache_key, resolve};
use crate::ffi::misuse::{refuse_context, refuse_pointer};
use crate::ffi::status::{Status, boundary};
use crate::shared::PutSize;
use crate::thread_cache::{self, Bin, Tried, Verdict};

/// See the header.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any
///   more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put(context: *mut c_void, data: *mut c_void, size: usize) {
    // SAFETY:
    // - the caller owns the buffer
    // - bin and slot were just given
    unsafe {
        match thread_cache::try_put(cache_key(context), data.addr(), size) {
            Tried::Put => {}
            Tried::NotOwn { bin, slot } => _ = put_not_own(context, data, slot, size, bin),
            Tried::Nothing => _ = put_sized_slowly(context, data, size),
        }
    }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_checked(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    if thread_cache::put(cache_key(context), data.addr(), size) {
        return Status::Ok as i32;
    }
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_slowly(context, data, PutSize::Sized(size), Verdict::Now) }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_unsized(context: *mut c_void, data: *mut c_void) {
    if !thread_cache::put_unsized(cache_key(context), data.addr()) {
        // SAFETY:
        // - the caller owns the buffer
        unsafe { put_unsized_slowly(context, data) };
    }
}

/// # Safety
/// - as [`Shared::put`](crate::shared::Shared::put), and as [`thread_cache::put_not_own`]
// Not unwinding, each argument where its caller has it: so it is a tail call.
#[cold]
#[inline(never)]
unsafe extern "C" fn put_not_own(
    context: *mut c_void,
    data: *mut c_void,
    slot: usize,
    size: usize,
    bin: *const Bin,
) -> i32 {
    // SAFETY:
    // - as the caller promised
    unsafe {
        match thread_cache::put_not_own(bin, data.addr(), slot) {
            true => Status::Ok as i32,
            false => put_sized_slowly(context, data, size),
        }
    }
}

/// # Safety
/// - as [`Shared::put`](crate::shared::Shared::put)
#[cold]
#[inline(never)]
unsafe extern "C" fn put_sized_slowly(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    if thread_cache::put_any_getters(cache_key(context), data.addr(), size) {
        return Status::Ok as i32;
    }
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_slowly(context, data, PutSize::Sized(size), Verdict::Later) }
}

/// # Safety
/// - as [`Shared::put`](crate::shared::Shared::put)
#[cold]
#[inline(never)]
unsafe extern "C" fn put_unsized_slowly(context: *mut c_void, data: *mut c_void) -> i32 {
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_slowly(context, data, PutSize::Unsized, Verdict::Later) }
}

/// # Safety
/// - as [`Shared::put`](crate::shared::Shared::put)
unsafe fn put_slowly(context: *mut c_void, data: *mut c_void, size: PutSize, verdict: Verdict) -> i32 {
    if thread_cache::put_anywhere(cache_key(context), data.addr(), size, verdict) {
        return Status::Ok as i32;
    }
    let Some(buffer) = NonNull::new(data.cast::<u8>()) else { return Status::Ok as i32 };
    boundary(Status::Panic as i32, || {
        let given = match size {
            PutSize::Sized(size) => size,
            PutSize::Unsized => 0,
        };
        let Some(resolved) = resolve(context) else {
            return refuse_context(context, data, given) as i32;
        };
        // SAFETY:
        // - the caller owns the buffer
        match unsafe { resolved.pool.put(buffer, size) } {
            Ok(()) => {
                if resolved.is_live {
                    resolved.attach(context);
                }
                Status::Ok as i32
            }
            Err(misuse) => refuse_pointer(&misuse, context, data, given) as i32,
        }
    })
}
