//! A pool's life: made, shared, trimmed, closed, and its contexts given up.

use std::ffi::c_void;
use std::ptr;

use super::{number_of, resolve_live, status_of};
use crate::debug::written;
use crate::ffi::context::{self, Context};
use crate::ffi::misuse::refuse_context;
use crate::ffi::status::{Status, boundary};
use crate::ffi::types::{Config, read_config};
use crate::pool::Pool;

/// See the header.
///
/// # Safety
/// - `config` is NULL or points to a config of at least its `struct_size` bytes, whose `size_classes` has
///   `size_class_count` entries
/// - `out_context` is NULL or writable
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_new(config: *const Config, out_context: *mut *mut c_void) -> i32 {
    status_of(|guard| {
        // SAFETY:
        // - NULL or writable (caller)
        let out = unsafe { out_context.as_mut() }.ok_or(Status::InvalidArgument)?;
        *out = ptr::null_mut();
        written(guard, out);
        // SAFETY:
        // - as the caller promised
        let builder = unsafe { read_config(config) }?;
        let pool = builder.build()?;
        *out = pool.try_context()?.into_raw();
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// - `out_context` is NULL or writable
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_clone(context: *mut c_void, out_context: *mut *mut c_void) -> i32 {
    status_of(|guard| {
        // SAFETY:
        // - NULL or writable (caller)
        let out = unsafe { out_context.as_mut() }.ok_or(Status::InvalidArgument)?;
        *out = ptr::null_mut();
        written(guard, out);
        let resolved = resolve_live(guard, context, 0)?;
        *out = Context::new(Pool::from_reference(resolved.pool))?.into_raw();
        Ok(())
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_trim(context: *mut c_void, keep_idle_bytes: usize) -> usize {
    number_of(|guard| Ok(resolve_live(guard, context, 0)?.pool.trim(guard, keep_idle_bytes)))
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_close(context: *mut c_void) -> i32 {
    status_of(|guard| {
        resolve_live(guard, context, 0)?.pool.close(guard);
        Ok(())
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_free(context: *mut c_void) {
    boundary((), |guard| {
        if !context::free(guard, context) {
            refuse_context(guard, context, ptr::null(), 0);
        }
    });
}
