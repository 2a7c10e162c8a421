//! Getting and putting many buffers in one call.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::{SOMEWHERE, resolve_live, resolve_or_refuse, status_of};
use crate::ffi::context::{cache_key, resolve};
use crate::ffi::misuse::refuse_pointer;
use crate::ffi::status::{Status, boundary};
use crate::instrument::written;
use crate::shared::{PutSize, Request};
use crate::thread_cache::{self, Verdict};

/// See the header.
///
/// # Safety
/// - `out` is writable for `count` pointers
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_get_many(
    context: *mut c_void,
    size: usize,
    out: *mut *mut c_void,
    count: usize,
) -> i32 {
    if out.is_null() || count > isize::MAX as usize / size_of::<*mut c_void>() {
        return status_of(|| {
            resolve_live(context, size)?;
            if count == 0 { Ok(()) } else { Err(Status::InvalidArgument) }
        });
    }
    // SAFETY:
    // - `out` is writable for `count` pointers (caller), and NULL is a valid pointer
    let out = unsafe {
        out.write_bytes(0, count);
        std::slice::from_raw_parts_mut(out, count)
    };
    // Only a live context leads to a cache.
    let got = thread_cache::get_many(cache_key(context), size, out);
    if got == count && count > 0 { Status::Ok as i32 } else { get_rest(context, size, out, got) }
}

/// Gets the buffers from `got` on, or undoes those before.
#[cold]
fn get_rest(context: *mut c_void, size: usize, out: &mut [*mut c_void], got: usize) -> i32 {
    let status = status_of(|| {
        written(out);
        let resolved = resolve_live(context, size)?;
        resolved.attach(context);
        // Once, before any more are got: it is the user's function.
        let rounded = resolved.pool.rounded(size);
        for buffer in &mut out[got..] {
            let got = resolved.pool.get_rounded(rounded, &Request::raw(size, SOMEWHERE));
            *buffer = got.map_err(|error| Status::from(&error))?.data.as_ptr().cast();
        }
        Ok(())
    });
    if status != Status::Ok as i32 {
        boundary((), || undo_get_many(context, size, out));
    }
    status
}

/// Puts buffers back that were got with `size` by this thread, which alone knows of them, and makes them
/// NULL.
#[cold]
fn undo_get_many(context: *mut c_void, size: usize, got: &mut [*mut c_void]) {
    // They keep the pool, which a context that was freed meanwhile names still.
    let resolved = resolve(context);
    for data in got {
        let buffer = NonNull::new(std::mem::replace(data, ptr::null_mut()).cast());
        let Some(buffer) = buffer else { continue };
        // SAFETY:
        // - this thread's buffer
        let undone =
            resolved.as_ref().map(|resolved| unsafe { resolved.pool.put(buffer, PutSize::Sized(size)) });
        debug_assert!(undone == Some(Ok(())));
    }
}

/// See the header.
///
/// # Safety
/// - `data` is readable for `count` pointers, each as for [`bytepool_put`](super::bytepool_put)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_many(
    context: *mut c_void,
    data: *const *mut c_void,
    count: usize,
    size: usize,
) -> i32 {
    if data.is_null() || count > isize::MAX as usize / size_of::<*mut c_void>() {
        return status_of(|| {
            if count > 0 {
                return Err(Status::InvalidArgument);
            }
            resolve_or_refuse(context, size).map(|_| ())
        });
    }
    // SAFETY:
    // - readable for `count` pointers (caller)
    let data = unsafe { std::slice::from_raw_parts(data, count) };
    let put = thread_cache::put_many(cache_key(context), data, size);
    if put == count && count > 0 { Status::Ok as i32 } else { put_rest(context, &data[put..], size) }
}

/// Puts every valid one; the first error.
#[cold]
fn put_rest(context: *mut c_void, mut data: &[*mut c_void], size: usize) -> i32 {
    status_of(|| {
        // Held to the end: putting the last buffer of a closed pool must not end it before the rest were
        // looked at.
        let resolved = resolve_or_refuse(context, size)?;
        let mut first_error = Ok(());
        let key = cache_key(context);
        let lost_before = thread_cache::count_lost_claims(key);
        while let [next, rest @ ..] = data {
            data = rest;
            if let Some(buffer) = NonNull::new(next.cast::<u8>())
                && !thread_cache::put_anywhere(key, next.addr(), PutSize::Sized(size), Verdict::Later)
            {
                // SAFETY:
                // - the caller of `bytepool_put_many` owns the buffer
                if let Err(misuse) = unsafe { resolved.pool.put(buffer, PutSize::Sized(size)) } {
                    let status = refuse_pointer(&misuse, context, *next, size);
                    first_error = first_error.and(Err(status));
                }
            }
            data = &data[thread_cache::put_many(key, data, size)..];
        }
        if thread_cache::count_lost_claims(key) > lost_before {
            first_error = first_error.and(Err(Status::DoublePut));
        }
        if resolved.is_live {
            resolved.attach(context);
        }
        first_error
    })
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::super::{bytepool_close, bytepool_free};
    use super::*;
    use crate::ffi::status::last_error;
    use crate::pool::Pool;

    /// Another thread freed the context, or closed the pool, after the cache gave some.
    #[test]
    fn a_get_of_many_is_undone_whatever_became_of_its_context() {
        for is_freed in [true, false] {
            let pool = Pool::builder().size_class(64, 400).build().unwrap();
            let context = pool.context().into_raw();
            let mut out = [ptr::null_mut(); 8];
            // SAFETY:
            // - `out` is writable for so many
            assert_eq!(unsafe { bytepool_get_many(context, 64, out.as_mut_ptr(), 5) }, 0);
            if is_freed {
                bytepool_free(context);
            } else {
                assert_eq!(bytepool_close(context), 0);
            }
            assert_eq!(get_rest(context, 64, &mut out, 5), Status::Closed as i32);
            assert_eq!(last_error(), Status::Closed);
            assert_eq!(out, [ptr::null_mut(); 8]);
            let stats = pool.stats();
            stats.assert_consistent();
            assert_eq!((stats.gets, stats.puts), (5, 5));
            if !is_freed {
                bytepool_free(context);
            }
        }
    }
}
