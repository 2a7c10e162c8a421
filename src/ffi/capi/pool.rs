//! A pool's life: it is made, shared, trimmed and closed, and its contexts are given up.

use std::ffi::c_void;
use std::ptr;

use super::{number_of, resolve_live, status_of};
use crate::debug::written;
use crate::ffi::context::{self, Context};
use crate::ffi::misuse::refuse_context;
use crate::ffi::status::{Status, boundary};
use crate::ffi::types::{Config, read_config};
use crate::pool::Pool;

/// Makes a pool.
///
/// Its first context is written to `out_context`, and is the caller's to free. On failure NULL is written there.
///
/// The pool reserves addresses; memory is taken as buffers are handed out. The errors are an invalid argument, a limit
/// of the library or of the config, and no memory.
///
/// # Safety
/// - `config` is NULL or points to a config of at least its `struct_size` bytes, whose `size_classes` has
///   `size_class_count` entries
/// - `out_context` is NULL or writable
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_new(config: *const Config, out_context: *mut *mut c_void) -> i32 {
    status_of(|_| {
        // SAFETY:
        // - NULL or writable (caller)
        let out = unsafe { out_context.as_mut() }.ok_or(Status::InvalidArgument)?;
        *out = ptr::null_mut();
        written(out);
        // SAFETY:
        // - as the caller promised
        let builder = unsafe { read_config(config) }?;
        let pool = builder.build()?;
        *out = pool.try_context()?.into_raw();
        Ok(())
    })
}

/// Makes another context of the same pool, which is the caller's to free.
///
/// On failure NULL is written to `out_context`.
///
/// The errors are a NULL `out_context`, an invalid context, a freed one, 16,384 live contexts of one pool, and no
/// memory.
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
        written(out);
        let resolved = resolve_live(guard, context, 0)?;
        *out = Context::new(Pool::from_reference(resolved.pool))?.into_raw();
        Ok(())
    })
}

/// Gives idle memory back to the system, and keeps at least `keep_idle_bytes` bytes of idle slots if there are as many.
///
/// Only whole pages go, and none of a pinned pool or on Windows. It drains the thread caches. Returns how many bytes of
/// slots went back. It is 0 if there was nothing to give, and on failure: an invalid or a freed context.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_trim(context: *mut c_void, keep_idle_bytes: usize) -> usize {
    number_of(|guard| Ok(resolve_live(guard, context, 0)?.pool.trim(guard, keep_idle_bytes)))
}

/// Closes the pool for every context and handle.
///
/// Gets fail from now on, waiting ones included. Idle memory goes back to the system at once, and the rest as
/// outstanding buffers are put.
///
/// Contexts stay to be freed. A second close has no effect. The errors are an invalid context and a freed one.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_close(context: *mut c_void) -> i32 {
    status_of(|guard| {
        resolve_live(guard, context, 0)?.pool.close(guard);
        Ok(())
    })
}

/// Gives a context up.
///
/// When it was the pool's last handle, the pool closes. NULL, and a second free of one context, are refused and
/// reported as an invalid context.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_free(context: *mut c_void) {
    boundary((), |guard| {
        if !context::free(guard, context) {
            refuse_context(guard, context, ptr::null(), 0);
        }
    });
}
