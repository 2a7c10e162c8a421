//! What else is done with an outstanding buffer: another size for it, and how much fits.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::{SOMEWHERE, bytepool_get};
use crate::error::{GetError, ReallocError};
use crate::ffi::context::resolve;
use crate::ffi::misuse::{refuse_context, refuse_pointer};
use crate::ffi::status::{boundary, set_last_error};
use crate::shared::Realloc;

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
    let Some(old) = NonNull::new(data.cast::<u8>()) else { return bytepool_get(context, new_size) };
    boundary(ptr::null_mut(), || {
        let Some(resolved) = resolve(context) else {
            refuse_context(context, data, new_size);
            return ptr::null_mut();
        };
        let outcome = if resolved.is_live {
            // SAFETY:
            // - the caller owns the buffer
            unsafe { resolved.pool.realloc(old, new_size, SOMEWHERE) }
        } else {
            Err(GetError::Closed.into())
        };
        match outcome {
            Ok(Realloc::InPlace) => data,
            Ok(Realloc::Moved(new)) => new.as_ptr().cast(),
            Err(ReallocError::Get(error)) => {
                set_last_error((&error).into());
                ptr::null_mut()
            }
            Err(ReallocError::Misuse(misuse)) => {
                refuse_pointer(&misuse, context, data, new_size);
                ptr::null_mut()
            }
        }
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_usable_size(context: *mut c_void, data: *const c_void) -> usize {
    boundary(0, || {
        let Some(resolved) = resolve(context) else {
            refuse_context(context, data, 0);
            return 0;
        };
        let data = NonNull::new(data.cast_mut().cast::<u8>());
        data.and_then(|data| resolved.pool.find(data)).map_or(0, |(_, capacity)| capacity)
    })
}
