//! What else is done with an outstanding buffer: another size for it, and how much fits.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::{SOMEWHERE, bytepool_get, number_of, resolve_or_refuse};
use crate::class::location::PutSize;
use crate::core::door;
use crate::error::{GetError, ReallocError};
use crate::ffi::context::{ContextHandle, resolve};
use crate::ffi::last_error::set_last_error;
use crate::ffi::misuse::{refuse_context, refuse_pointer};
use crate::ffi::status::boundary;

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`](super::bytepool_put)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_realloc(
    context: *mut c_void,
    data: *mut c_void,
    new_size: usize,
) -> *mut c_void {
    // SAFETY:
    // - as the caller promised
    unsafe { realloc(context, data, PutSize::Unsized, new_size) }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`](super::bytepool_put)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_realloc_sized(
    context: *mut c_void,
    data: *mut c_void,
    old_size: usize,
    new_size: usize,
) -> *mut c_void {
    // SAFETY:
    // - as the caller promised
    unsafe { realloc(context, data, PutSize::Sized(old_size), new_size) }
}

/// # Safety
/// - as [`bytepool_put`](super::bytepool_put)
#[inline(always)]
unsafe fn realloc(
    context: *mut c_void,
    data: *mut c_void,
    old_size: PutSize,
    new_size: usize,
) -> *mut c_void {
    let Some(old) = NonNull::new(data.cast::<u8>()) else { return bytepool_get(context, new_size) };
    if door::resize(ContextHandle(context), old, old_size, new_size) {
        return data;
    }
    boundary(ptr::null_mut(), |guard| {
        let Some(resolved) = resolve(guard, context) else {
            refuse_context(guard, context, data, new_size);
            return ptr::null_mut();
        };
        let outcome = match resolved.is_live {
            // SAFETY:
            // - the caller owns the buffer
            true => unsafe { resolved.pool.realloc(guard, old, old_size, new_size, SOMEWHERE) },
            false => Err(GetError::Closed.into()),
        };
        match outcome {
            Ok(moved) => return moved.address(old).as_ptr().cast(),
            Err(ReallocError::Get(error)) => set_last_error(error),
            Err(ReallocError::Misuse(misuse)) => {
                refuse_pointer(guard, &misuse, context, data, new_size);
            }
        }
        ptr::null_mut()
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_usable_size(context: *mut c_void, data: *const c_void) -> usize {
    boundary(0, |guard| {
        let Some(resolved) = resolve(guard, context) else {
            refuse_context(guard, context, data, 0);
            return 0;
        };
        let data = NonNull::new(data.cast_mut().cast::<u8>());
        data.map_or(0, |data| resolved.pool.usable_size(guard, data))
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_good_size(context: *mut c_void, size: usize) -> usize {
    number_of(|guard| Ok(resolve_or_refuse(guard, context, size)?.pool.good_size(guard, size)))
}
