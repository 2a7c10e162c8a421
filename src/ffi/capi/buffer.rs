//! What else is done with an outstanding buffer: it gets another size, or is asked how much fits.

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

/// Gives the buffer at `data` another size, `new_size` bytes, and keeps the bytes that both sizes have room for.
///
/// Returns the same pointer, or another; then the old buffer was put. NULL `data` makes it a plain get.
///
/// On failure it returns NULL, and the old buffer is as it was and still the caller's. The errors are those of a get
/// and those of a put. A shrink does not fail in an open pool: then the old buffer may stay, to be put with exactly
/// `new_size`.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody else uses it
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_realloc(
    context: *mut c_void,
    data: *mut c_void,
    new_size: usize,
) -> *mut c_void {
    // At once: so Lua and others make each of their objects.
    let Some(old) = NonNull::new(data.cast()) else { return bytepool_get(context, new_size) };
    if door::resize(ContextHandle(context), old, PutSize::Unsized, new_size) {
        return data;
    }
    // SAFETY:
    // - as the caller promised
    unsafe { realloc_slow(context, old, new_size) }
}

/// Gives the buffer at `data` another size, and checks the size that it has.
///
/// `old_size` is the one asked for, or another of the same class. Any other is misuse, a size mismatch, and the buffer
/// is as it was.
///
/// Returns the same pointer, or another; then the old buffer was put. NULL `data` makes it a plain get, whatever
/// `old_size` is. On failure it returns NULL, and the old buffer is still the caller's.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody else uses it
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_realloc_sized(
    context: *mut c_void,
    data: *mut c_void,
    old_size: usize,
    new_size: usize,
) -> *mut c_void {
    // As in `bytepool_realloc`.
    let Some(old) = NonNull::new(data.cast()) else { return bytepool_get(context, new_size) };
    if door::resize(ContextHandle(context), old, PutSize::Sized(old_size), new_size) {
        return data;
    }
    // SAFETY:
    // - as the caller promised
    unsafe { realloc_sized_slow(context, old, old_size, new_size) }
}

/// # Safety
/// - if `old` is an outstanding buffer of the context's pool, the caller owns it, and nobody else uses it
// It does not unwind and has its caller's signature, so the call is a tail call.
#[cold]
#[inline(never)]
unsafe extern "C" fn realloc_slow(context: *mut c_void, old: NonNull<u8>, new_size: usize) -> *mut c_void {
    // SAFETY:
    // - as the caller promised
    unsafe { realloc(context, old, PutSize::Unsized, new_size) }
}

/// # Safety
/// - as for [`realloc_slow`]
#[cold]
#[inline(never)]
unsafe extern "C" fn realloc_sized_slow(
    context: *mut c_void,
    old: NonNull<u8>,
    old_size: usize,
    new_size: usize,
) -> *mut c_void {
    // SAFETY:
    // - as the caller promised
    unsafe { realloc(context, old, PutSize::Sized(old_size), new_size) }
}

/// # Safety
/// - as for [`realloc_slow`]
unsafe fn realloc(context: *mut c_void, old: NonNull<u8>, old_size: PutSize, new_size: usize) -> *mut c_void {
    // SAFETY:
    // - the caller owns the buffer
    if let Some(new) = unsafe { door::resize_slow(ContextHandle(context), old, old_size, new_size) } {
        return new.as_ptr().cast();
    }
    let data = old.as_ptr().cast();
    let given = if let PutSize::Sized(size) = old_size { size } else { new_size };
    boundary(ptr::null_mut(), |guard| {
        let Some(resolved) = resolve(guard, context) else {
            refuse_context(guard, context, data, given);
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
                refuse_pointer(guard, &misuse, context, data, given);
            }
        }
        ptr::null_mut()
    })
}

/// How many bytes an outstanding buffer has room for.
///
/// It is 0 for NULL, and for any pointer that is not an outstanding buffer of this pool: to ask is no misuse. For an
/// invalid context it is 0, and an error.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_usable_size(context: *mut c_void, data: *const c_void) -> usize {
    let given = NonNull::new(data.cast_mut().cast::<u8>());
    let cached = given.and_then(|data| door::usable_size(ContextHandle(context), data));
    cached.unwrap_or_else(|| usable_size_slow(context, data))
}

#[cold]
#[inline(never)]
extern "C" fn usable_size_slow(context: *mut c_void, data: *const c_void) -> usize {
    boundary(0, |guard| {
        let Some(resolved) = resolve(guard, context) else {
            refuse_context(guard, context, data, 0);
            return 0;
        };
        let given = NonNull::new(data.cast_mut().cast());
        given.map_or(0, |data| resolved.pool.usable_size(guard, data))
    })
}

/// How many bytes a get of `size` bytes has room for.
///
/// A buffer that will grow can ask for that many at once. Returns 0 on failure: an invalid context, or a panic of the
/// rounding function.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_good_size(context: *mut c_void, size: usize) -> usize {
    door::good_size(ContextHandle(context), size).unwrap_or_else(|| good_size_slow(context, size))
}

#[cold]
#[inline(never)]
extern "C" fn good_size_slow(context: *mut c_void, size: usize) -> usize {
    number_of(|guard| Ok(resolve_or_refuse(guard, context, size)?.pool.good_size(guard, size)))
}
