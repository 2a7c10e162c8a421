//! Getting and putting many buffers in one call.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

use super::{SOMEWHERE, code_of, refuse_get, refuse_put, resolve_live, resolve_or_refuse, status_of};
use crate::core::door::{Handle, many};
use crate::debug::written;
use crate::error::Misuse;
use crate::ffi::context::ContextHandle;
use crate::ffi::misuse::refuse_pointer;
use crate::ffi::status::Status;
use crate::os::fork::ForkGuard;

/// Gets `count` buffers of `size` bytes each into `out`: all of them, or none.
///
/// They are the caller's until they are put. On failure every `out[i]` is NULL, and the status is an error of a get, or
/// an invalid argument for a NULL `out`.
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
    if !is_array(out, count) {
        return status_of(|guard| {
            resolve_live(guard, context, size)?;
            if count == 0 { Ok(()) } else { Err(Status::InvalidArgument.into()) }
        });
    }
    // SAFETY:
    // - `out` is writable for `count` pointers (caller), whatever it holds
    let unwritten = unsafe { std::slice::from_raw_parts_mut(out.cast::<MaybeUninit<_>>(), count) };
    let fast = many::get_fast(ContextHandle(context), size, unwritten);
    if fast == count && count > 0 {
        return Status::Ok as i32;
    }
    unwritten[fast..].fill(MaybeUninit::new(ptr::null_mut()));
    // SAFETY:
    // - all of it was written
    let out = unsafe { std::slice::from_raw_parts_mut(out, count) };
    let got = ContextHandle::enter(|guard| {
        let got = many::get(ContextHandle(context), guard, size, out, fast, SOMEWHERE);
        written(out);
        got
    });
    got.map_or_else(|refused| refuse_get(context, size, refused) as i32, |()| Status::Ok as i32)
}

/// Puts every valid one of the `count` buffers at `data`, of `size` bytes each, and skips NULLs.
///
/// A wrong one changes nothing, and does not keep the others. The status is the first error of a put, or the panic that
/// ended it, or an invalid argument for a NULL `data`.
///
/// # Safety
/// - `data` is readable for `count` pointers
/// - the caller owns each of these that is an outstanding buffer of the context's pool, and nobody uses it any more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_many(
    context: *mut c_void,
    data: *const *mut c_void,
    count: usize,
    size: usize,
) -> i32 {
    if !is_array(data, count) {
        return status_of(|guard| {
            if count > 0 {
                return Err(Status::InvalidArgument.into());
            }
            resolve_or_refuse(guard, context, size)?;
            Ok(())
        });
    }
    // SAFETY:
    // - readable for `count` pointers (caller)
    let mut data = unsafe { std::slice::from_raw_parts(data, count) };
    let fast = many::put_fast(ContextHandle(context), data, size);
    if fast == count && count > 0 {
        return Status::Ok as i32;
    }
    data = &data[fast..];
    let mut first: Option<Misuse> = None;
    let put = ContextHandle::enter(|guard| {
        let refuse = |guard: &mut ForkGuard, misuse: &Misuse, refused: *mut c_void| {
            refuse_pointer(guard, misuse, context, refused, size);
            first.get_or_insert(*misuse);
        };
        // SAFETY:
        // - the caller owns the buffers
        unsafe { many::put(ContextHandle(context), guard, data, size, refuse) }
    });
    match put {
        Err(refused) => refuse_put(context, ptr::null_mut(), size, refused) as i32,
        Ok(()) => first.map_or(Status::Ok as i32, |misuse| code_of(misuse.into())),
    }
}

/// Whether a slice can be made of a pointer and a count.
fn is_array<T>(start: *const T, count: usize) -> bool {
    !start.is_null() && count <= isize::MAX as usize / size_of::<T>()
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::super::{bytepool_close, bytepool_free};
    use super::*;
    use crate::core::door::Refused;
    use crate::error::GetError;
    use crate::pool::Pool;
    use std::ptr;

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
            let (handle, mut guard) = (ContextHandle(context), ForkGuard::new());
            let rest = many::get_rest(handle, &mut guard, 64, &mut out[5..], SOMEWHERE);
            assert!(matches!(rest, Err(Refused::Error(GetError::Closed))), "{rest:?}");
            many::undo(handle, &mut guard, 64, &mut out);
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
