//! The process's default pool, for libraries whose hooks have no context.
//!
//! [`bytepool_set_default`] makes one context, which is kept in two places. The first is for gets, and is cleared when
//! the default is unset. The second is for puts. It stays until another pool is set, because buffers may still be out.

use crate::sync::atomic::AtomicPtr;
use crate::sync::atomic::Ordering::Relaxed;
use std::ffi::c_void;
use std::ptr;

use super::{
    bytepool_calloc, bytepool_get, bytepool_good_size, bytepool_put_unsized, bytepool_realloc,
    bytepool_usable_size, resolve_live, status_of,
};
use crate::ffi::context::{self, Context, resolve};
use crate::ffi::last_error::{Failure, set_last_error};
use crate::ffi::status::Status;
use crate::os::fork::ForkGuard;
use crate::os::lock::{Lock, Locked};
use crate::pool::Pool;

// All accesses are Relaxed: a context is a number, and whoever uses it sees what its pool is.
static GETS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static PUTS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Held while both change.
static SETTING: Lock<()> = Lock::new(());

/// Makes the context's pool the default pool of the process, for libraries whose hooks have no context.
///
/// It takes a handle of its own, which keeps the pool open, so the context may be freed. NULL gives that handle up: no
/// more memory is handed out, and buffers that are out can still be freed, until another pool is set.
///
/// The same pool again has no effect. Another pool is refused as an invalid argument. The other errors are an invalid
/// context, a freed one, too many contexts, and no memory.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_set_default(context: *mut c_void) -> i32 {
    status_of(|guard| {
        // Declared before the lock is taken: it may be the pool's last handle by the end, and a pool that ends calls
        // the user's code.
        let given = match context.is_null() {
            true => None,
            false => Some(Pool::from_reference(resolve_live(guard, context, 0)?.pool)),
        };
        let former = change(guard, &SETTING.lock(guard), given.as_ref())?;
        // Without the lock, for the same reason.
        if let Some(former) = former {
            context::free(guard, former);
        }
        Ok(())
    })
}

/// Makes the given pool the default, or none. Returns the context of the one that was, for the caller to free. It drops
/// no pool's last handle.
fn change(
    guard: &ForkGuard,
    _setting: &Locked<'_, ()>,
    given: Option<&Pool>,
) -> Result<Option<*mut c_void>, Failure> {
    let former = GETS.load(Relaxed);
    match given {
        None => GETS.store(ptr::null_mut(), Relaxed),
        Some(pool) if former.is_null() => {
            let default = Context::new(pool.clone())?.into_raw();
            PUTS.store(default, Relaxed);
            GETS.store(default, Relaxed);
        }
        Some(pool) => {
            let same = resolve(guard, former)
                .is_some_and(|former| former.pool.as_pointer() == pool.reference().as_pointer());
            return if same { Ok(None) } else { Err(Status::InvalidArgument.into()) };
        }
    }
    Ok((!former.is_null()).then_some(former))
}

/// Runs `get` with the context that hands out memory. Returns `failed` if there is no default pool.
#[inline]
fn with_default<T>(failed: T, get: impl FnOnce(*mut c_void) -> T) -> T {
    let context = GETS.load(Relaxed);
    if context.is_null() {
        // No misuse: a library may ask before the program has a pool. A call that read the context before another
        // thread unset it may find that pool gone. That is misuse, and reported: the unset came too early.
        set_last_error(Status::InvalidContext);
        return failed;
    }
    get(context)
}

/// `malloc` from the default pool: a buffer of `size` bytes, the caller's until it is freed.
///
/// A size of 0 gives a buffer, too. Returns NULL on failure, and where there is no default pool: that is an invalid
/// context.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_malloc(size: usize) -> *mut c_void {
    with_default(ptr::null_mut(), |context| bytepool_get(context, size))
}

/// `calloc` from the default pool: a buffer of `count * size` bytes, all zero, the caller's until it is freed.
///
/// Returns NULL on failure, if the product overflows, and where there is no default pool: that is an invalid context.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_calloc(count: usize, size: usize) -> *mut c_void {
    with_default(ptr::null_mut(), |context| bytepool_calloc(context, count, size))
}

/// `realloc` in the default pool: the same buffer or another, of `new_size` bytes, with the bytes that both sizes have
/// room for.
///
/// On failure it returns NULL, and the old buffer is still the caller's. So it does where there is no default pool:
/// that is an invalid context.
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
/// NULL does nothing. It takes buffers that are out also after the default pool was unset or closed, until another pool
/// is set. Any other pointer is misuse, and changes nothing.
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
/// It is 0 for any other pointer. Where no default pool was ever set, it is 0 as well.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_usable_size(data: *const c_void) -> usize {
    let context = PUTS.load(Relaxed);
    if context.is_null() || data.is_null() { 0 } else { bytepool_usable_size(context, data) }
}

/// How many bytes a get of `size` bytes from the default pool has room for.
///
/// It is 0 where there is no default pool: that is an invalid context.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_default_good_size(size: usize) -> usize {
    with_default(0, |context| bytepool_good_size(context, size))
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::super::bytepool_free;
    use super::*;
    use std::thread;

    /// The context of a new pool, of which dropping the rounding function unsets the default pool.
    fn pool_that_unsets_at_its_end() -> Context {
        struct Unsets;
        impl Drop for Unsets {
            fn drop(&mut self) {
                assert_eq!(bytepool_set_default(ptr::null_mut()), Status::Ok as i32);
            }
        }
        let unsets = Unsets;
        let round = move |size| {
            let _ = &unsets;
            size
        };
        Pool::builder().size_class(64, 4).round(round).build().unwrap().context()
    }

    #[test]
    fn a_pool_that_ends_while_it_is_set_ends_without_the_lock() {
        let default = Pool::builder().size_class(64, 4).build().unwrap().context();
        assert_eq!(bytepool_set_default(default.as_ptr()), Status::Ok as i32);
        let given = pool_that_unsets_at_its_end();
        let address = given.as_ptr().expose_provenance();
        let mut guard = ForkGuard::new();
        let setter = {
            let setting = SETTING.lock(&guard);
            let setter =
                thread::spawn(move || bytepool_set_default(ptr::with_exposed_provenance_mut(address)));
            // It found the pool, and waits for the lock.
            let references = resolve(&guard, given.as_ptr()).unwrap().pool.registration().references();
            while references.count() < 2 {
                thread::yield_now();
            }
            bytepool_free(given.into_raw());
            drop(setting);
            setter
        };
        let status = guard.unguarded(|| setter.join().unwrap());
        assert_eq!(status, Status::InvalidArgument as i32);
        assert!(GETS.load(Relaxed).is_null(), "the pool ended, and unset it");
    }
}
