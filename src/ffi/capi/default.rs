//! The process's default pool, for libraries whose hooks have no context.
//!
//! There are two contexts, both of the handle that [`bytepool_set_default`] made. One is for what hands out memory,
//! until it is unset. The other is for puts, and stays after that, because buffers may still be out.

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

/// Makes the context's pool the default pool of the process, for libraries whose hooks have no context.
///
/// It takes a handle of its own, which keeps the pool open, so the context may be freed. NULL gives that handle up: no
/// more memory is handed out, and buffers that are out can still be freed.
///
/// The same pool again has no effect. Another pool is refused as an invalid argument. The other errors are an invalid
/// context, a freed one, too many contexts, and no memory.
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

/// Runs `get` with the context that hands out memory. Returns `failed` if there is no default pool.
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

/// `malloc` from the default pool: a buffer of `size` bytes, the caller's until it is freed.
///
/// A size of 0 gives a buffer, too. Returns NULL on failure, and where there is no default pool.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_malloc(size: usize) -> *mut c_void {
    with_default(ptr::null_mut(), |context| bytepool_get(context, size))
}

/// `calloc` from the default pool: a buffer of `count * size` bytes, all zero, the caller's until it is freed.
///
/// Returns NULL on failure, if the product overflows, and where there is no default pool.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_calloc(count: usize, size: usize) -> *mut c_void {
    with_default(ptr::null_mut(), |context| bytepool_calloc(context, count, size))
}

/// `realloc` in the default pool: the same buffer or another, of `new_size` bytes, with the bytes that both sizes have
/// room for.
///
/// On failure, and where there is no default pool, it returns NULL, and the old buffer is still the caller's.
///
/// # Safety
/// - if `data` is an outstanding buffer of the default pool, the caller owns it, and nobody else uses it
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_default_realloc(data: *mut c_void, new_size: usize) -> *mut c_void {
    // SAFETY:
    // - as the caller promised
    with_default(ptr::null_mut(), |context| unsafe { bytepool_realloc(context, data, new_size) })
}

/// `free` to the default pool.
///
/// NULL does nothing. It takes buffers that are out also after the default pool was unset or closed. Any other pointer
/// is misuse, and changes nothing.
///
/// # Safety
/// - if `data` is an outstanding buffer of the default pool, the caller owns it, and nobody uses it any more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_default_free(data: *mut c_void) {
    // SAFETY:
    // - as the caller promised
    unsafe { bytepool_put_unsized(PUTS.load(Relaxed), data) }
}

/// How many bytes a buffer of the default pool has room for.
///
/// It is 0 for any other pointer, and where no default pool was ever set.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_usable_size(data: *const c_void) -> usize {
    let context = PUTS.load(Relaxed);
    if context.is_null() || data.is_null() { 0 } else { bytepool_usable_size(context, data) }
}

/// How many bytes a get of `size` bytes from the default pool has room for.
///
/// It is 0 where there is no default pool.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_good_size(size: usize) -> usize {
    with_default(0, |context| bytepool_good_size(context, size))
}
