//! The process's default pool, for libraries whose hooks have no context.
//!
//! Two contexts, both of the handle that [`bytepool_set_default`] made: one for what hands out memory, until it is
//! unset; one for puts, which outlasts that, since buffers may still be out.

use crate::sync::atomic::AtomicPtr;
use crate::sync::atomic::Ordering::Relaxed;
use std::ffi::c_void;
use std::ptr;

use super::{
    bytepool_calloc, bytepool_get, bytepool_good_size, bytepool_put_unsized, bytepool_realloc,
    bytepool_usable_size, resolve_live, status_of,
};
use crate::ffi::context::{self, Context, resolve};
use crate::ffi::last_error::set_last_error;
use crate::ffi::status::Status;
use crate::os::lock::Lock;
use crate::pool::Pool;

// All accesses are Relaxed: a context is a number, and whoever uses it sees what its pool is.
static GETS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static PUTS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Held while both change.
static SETTING: Lock<()> = Lock::new(());

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_set_default(context: *mut c_void) -> i32 {
    status_of(|guard| {
        let given = match context.is_null() {
            true => None,
            false => Some(resolve_live(guard, context, 0)?.pool),
        };
        let former = {
            let _setting = SETTING.lock(guard);
            let former = GETS.load(Relaxed);
            match given {
                None => {
                    GETS.store(ptr::null_mut(), Relaxed);
                    former
                }
                Some(pool) if former.is_null() => {
                    let default = Context::new(Pool::from_reference(pool))?.into_raw();
                    PUTS.store(default, Relaxed);
                    GETS.store(default, Relaxed);
                    former
                }
                Some(pool) => {
                    let is_same = resolve(guard, former)
                        .is_some_and(|former| former.pool.as_pointer() == pool.as_pointer());
                    return if is_same { Ok(()) } else { Err(Status::InvalidArgument.into()) };
                }
            }
        };
        // Without the lock: it may be the pool's last handle.
        if !former.is_null() {
            context::free(guard, former);
        }
        Ok(())
    })
}

/// What `get` says, with the context that hands out memory.
#[inline]
fn with_default<T>(failed: T, get: impl FnOnce(*mut c_void) -> T) -> T {
    let context = GETS.load(Relaxed);
    if context.is_null() {
        // No misuse: a library may ask before the program has a pool.
        set_last_error(Status::InvalidContext);
        return failed;
    }
    get(context)
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_malloc(size: usize) -> *mut c_void {
    with_default(ptr::null_mut(), |context| bytepool_get(context, size))
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_calloc(count: usize, size: usize) -> *mut c_void {
    with_default(ptr::null_mut(), |context| bytepool_calloc(context, count, size))
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_realloc`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_default_realloc(data: *mut c_void, new_size: usize) -> *mut c_void {
    // SAFETY:
    // - as the caller promised
    with_default(ptr::null_mut(), |context| unsafe { bytepool_realloc(context, data, new_size) })
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put_unsized`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_default_free(data: *mut c_void) {
    // SAFETY:
    // - as the caller promised
    unsafe { bytepool_put_unsized(PUTS.load(Relaxed), data) }
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_usable_size(data: *const c_void) -> usize {
    let context = PUTS.load(Relaxed);
    if context.is_null() || data.is_null() { 0 } else { bytepool_usable_size(context, data) }
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_good_size(size: usize) -> usize {
    with_default(0, |context| bytepool_good_size(context, size))
}
