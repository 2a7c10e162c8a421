//! The functions of `include/bytepool/bytepool.h`, which documents them. Each runs inside `boundary`,
//! resolves its context, and calls the pool.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use crate::config::round_original;
use crate::error::{GetError, ReallocError};
use crate::ffi::context::{self, Context, Resolved, cache_key, resolve};
use crate::ffi::misuse::{self, Handler, refuse_context, refuse_pointer};
use crate::ffi::status::{Status, boundary, last_error, set_last_error};
pub use crate::ffi::types::{CClassStats, COutstanding, CStats, Config, OutstandingHandler, SizeClass};
use crate::ffi::types::{read_config, timeout_of, write_struct};
use crate::fork;
use crate::instrument::tracking::{self, Caller, Language};
use crate::instrument::written;
use crate::ledger::Holder;
use crate::pool::Pool;
use crate::shared::{Buffer, Fill, PutSize, Realloc, Request, Shared};
use crate::thread_cache::{self, Verdict};

/// Remembers the status if it is a failure; its code.
fn code(status: Status) -> i32 {
    if status != Status::Ok {
        set_last_error(status);
    }
    status as i32
}

/// Runs a body that gives a status, inside the boundary.
fn status_of(body: impl FnOnce() -> Result<(), Status>) -> i32 {
    boundary(Status::Panic as i32, || code(body().err().unwrap_or(Status::Ok)))
}

/// The pool of a context for a call without a pointer; `size` as given, 0 if the call has none. An invalid
/// one is reported.
fn resolve_or_refuse(context: *mut c_void, size: usize) -> Result<Resolved, Status> {
    resolve(context).ok_or_else(|| refuse_context(context, ptr::null(), size))
}

/// As [`resolve_or_refuse`], for what a freed context may not do.
fn resolve_live(context: *mut c_void, size: usize) -> Result<Resolved, Status> {
    let resolved = resolve_or_refuse(context, size)?;
    if resolved.is_live { Ok(resolved) } else { Err(Status::Closed) }
}

// ---- status ----

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_last_error() -> i32 {
    last_error() as i32
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_status_message(status: i32) -> *const c_char {
    Status::from_code(status).map_or(c"unknown status", Status::message).as_ptr()
}

// ---- making and closing a pool ----

/// See the header.
///
/// # Safety
/// - `config` is NULL or points to a config of at least its `struct_size` bytes, whose `size_classes` has
///   `size_class_count` entries
/// - `out_context` is NULL or writable
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_new(config: *const Config, out_context: *mut *mut c_void) -> i32 {
    status_of(|| {
        // SAFETY:
        // - NULL or writable (caller)
        let out = unsafe { out_context.as_mut() }.ok_or(Status::InvalidArgument)?;
        *out = ptr::null_mut();
        written(out);
        // SAFETY:
        // - as the caller promised
        let builder = unsafe { read_config(config) }?;
        let pool = builder.build().map_err(|error| Status::from(&error))?;
        *out = pool.try_context().map_err(|error| Status::from(&error))?.into_raw();
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// - `out_context` is NULL or writable
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_clone(context: *mut c_void, out_context: *mut *mut c_void) -> i32 {
    status_of(|| {
        // SAFETY:
        // - NULL or writable (caller)
        let out = unsafe { out_context.as_mut() }.ok_or(Status::InvalidArgument)?;
        *out = ptr::null_mut();
        written(out);
        let resolved = resolve_live(context, 0)?;
        let clone =
            Context::new(Pool::from_reference(resolved.pool)).map_err(|error| Status::from(&error))?;
        *out = clone.into_raw();
        Ok(())
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_close(context: *mut c_void) -> i32 {
    status_of(|| {
        resolve_live(context, 0)?.pool.close();
        Ok(())
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_free(context: *mut c_void) {
    boundary((), || {
        if !context::free(context) {
            refuse_context(context, ptr::null(), 0);
        }
    });
}

// ---- get ----

/// Most functions do not ask where they are called.
const SOMEWHERE: Caller = Caller::somewhere(Language::C);

/// Gets a buffer from the context's pool.
fn hand_out(
    context: *mut c_void,
    size: usize,
    get: impl FnOnce(&Shared) -> Result<Buffer, GetError>,
) -> *mut c_void {
    let Some(resolved) = resolve(context) else {
        refuse_context(context, ptr::null(), size);
        return ptr::null_mut();
    };
    let got = if resolved.is_live {
        // First: a slot for this thread then comes from a ledger line of its own.
        resolved.attach(context);
        get(&resolved.pool)
    } else {
        Err(GetError::Closed)
    };
    match got {
        Ok(buffer) => buffer.data.as_ptr().cast(),
        Err(error) => {
            set_last_error((&error).into());
            ptr::null_mut()
        }
    }
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get(context: *mut c_void, size: usize) -> *mut c_void {
    match thread_cache::get(cache_key(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        None => get_slowly(context, size),
    }
}

// Not unwinding, and of the same signature: so it is a tail call.
#[cold]
#[inline(never)]
extern "C" fn get_slowly(context: *mut c_void, size: usize) -> *mut c_void {
    if let Some(buffer) = thread_cache::get_or_fill(cache_key(context), size, Holder::Raw(size)) {
        return buffer.data.as_ptr().cast();
    }
    boundary(ptr::null_mut(), || hand_out(context, size, |pool| pool.get(&Request::raw(size, SOMEWHERE))))
}

/// See the header.
///
/// # Safety
/// - `file` is NULL or a string
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_get_at(
    context: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    match thread_cache::get(cache_key(context), size, Holder::Raw(size)) {
        Some(buffer) => buffer.data.as_ptr().cast(),
        // SAFETY:
        // - as the caller promised
        None => unsafe { get_at_slowly(context, size, file, line) },
    }
}

/// # Safety
/// - as [`bytepool_get_at`]
#[cold]
#[inline(never)]
unsafe extern "C" fn get_at_slowly(
    context: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    if let Some(buffer) = thread_cache::get_or_fill(cache_key(context), size, Holder::Raw(size)) {
        return buffer.data.as_ptr().cast();
    }
    let line = u32::try_from(line).unwrap_or(0);
    let caller = Caller::Native { language: Language::C, file, line, column: 0 };
    boundary(ptr::null_mut(), || hand_out(context, size, |pool| pool.get(&Request::raw(size, caller))))
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_timeout(context: *mut c_void, size: usize, timeout_ns: u64) -> *mut c_void {
    if let Some(buffer) = thread_cache::get_or_fill(cache_key(context), size, Holder::Raw(size)) {
        return buffer.data.as_ptr().cast();
    }
    let timeout = timeout_of(timeout_ns);
    boundary(ptr::null_mut(), || {
        hand_out(context, size, |pool| pool.get_timeout(&Request::raw(size, SOMEWHERE), timeout))
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_calloc(context: *mut c_void, count: usize, size: usize) -> *mut c_void {
    boundary(ptr::null_mut(), || {
        let bytes = count.checked_mul(size);
        hand_out(context, bytes.unwrap_or(usize::MAX), |pool| match bytes {
            Some(bytes) => pool.get(&Request { fill: Fill::Zeros, ..Request::raw(bytes, SOMEWHERE) }),
            None => Err(GetError::OutOfMemory { requested: usize::MAX }),
        })
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_get_aligned(context: *mut c_void, alignment: usize, size: usize) -> *mut c_void {
    boundary(ptr::null_mut(), || {
        hand_out(context, size, |pool| pool.get_aligned(alignment, &Request::raw(size, SOMEWHERE)))
    })
}

/// See the header.
///
/// # Safety
/// - `data` is readable for `size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_copy(
    context: *mut c_void,
    data: *const c_void,
    size: usize,
) -> *mut c_void {
    boundary(ptr::null_mut(), || {
        if data.is_null() && size > 0 {
            set_last_error(Status::InvalidArgument);
            return ptr::null_mut();
        }
        let copy = hand_out(context, size, |pool| pool.get(&Request::raw(size, SOMEWHERE)));
        if !copy.is_null() && size > 0 {
            // SAFETY:
            // - `data` is readable for `size` bytes (caller), the new buffer has at least as many, and is
            //   another
            unsafe { copy.copy_from_nonoverlapping(data, size) };
        }
        copy
    })
}

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

// ---- put ----

/// # Safety
/// - as [`Shared::put`]
unsafe fn put_slowly(context: *mut c_void, data: *mut c_void, size: PutSize, verdict: Verdict) -> i32 {
    if thread_cache::put_anywhere(cache_key(context), data.addr(), size, verdict) {
        return Status::Ok as i32;
    }
    let Some(buffer) = NonNull::new(data.cast::<u8>()) else { return Status::Ok as i32 };
    boundary(Status::Panic as i32, || {
        let given = match size {
            PutSize::Sized(size) => size,
            PutSize::Unsized => 0,
        };
        let Some(resolved) = resolve(context) else {
            return refuse_context(context, data, given) as i32;
        };
        // SAFETY:
        // - the caller owns the buffer
        match unsafe { resolved.pool.put(buffer, size) } {
            Ok(()) => {
                if resolved.is_live {
                    resolved.attach(context);
                }
                Status::Ok as i32
            }
            Err(misuse) => refuse_pointer(&misuse, context, data, given) as i32,
        }
    })
}

/// # Safety
/// - as [`Shared::put`]
#[cold]
#[inline(never)]
unsafe extern "C" fn put_sized_slowly(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    if thread_cache::put_any_getters(cache_key(context), data.addr(), size) {
        return Status::Ok as i32;
    }
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_slowly(context, data, PutSize::Sized(size), Verdict::Later) }
}

/// # Safety
/// - as [`Shared::put`]
#[cold]
#[inline(never)]
unsafe extern "C" fn put_unsized_slowly(context: *mut c_void, data: *mut c_void) -> i32 {
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_slowly(context, data, PutSize::Unsized, Verdict::Later) }
}

/// See the header.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any
///   more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put(context: *mut c_void, data: *mut c_void, size: usize) {
    if !thread_cache::put(cache_key(context), data.addr(), size) {
        // SAFETY:
        // - the caller owns the buffer
        unsafe { put_sized_slowly(context, data, size) };
    }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_checked(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    if thread_cache::put(cache_key(context), data.addr(), size) {
        return Status::Ok as i32;
    }
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_slowly(context, data, PutSize::Sized(size), Verdict::Now) }
}

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_unsized(context: *mut c_void, data: *mut c_void) {
    if !thread_cache::put_unsized(cache_key(context), data.addr()) {
        // SAFETY:
        // - the caller owns the buffer
        unsafe { put_unsized_slowly(context, data) };
    }
}

/// See the header.
///
/// # Safety
/// - `data` is readable for `count` pointers, each as for [`bytepool_put`]
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

// ---- others on buffers ----

/// See the header.
///
/// # Safety
/// - as [`bytepool_put`]
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

// ---- memory and statistics ----

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_trim(context: *mut c_void, keep_idle_bytes: usize) -> usize {
    boundary(0, || match resolve_live(context, 0) {
        Ok(resolved) => resolved.pool.trim(keep_idle_bytes),
        Err(status) => {
            set_last_error(status);
            0
        }
    })
}

/// See the header.
///
/// # Safety
/// - `out` is NULL or points to a `bytepool_stats` of its `struct_size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_read_stats(context: *mut c_void, out: *mut CStats) -> i32 {
    status_of(|| {
        let resolved = resolve_or_refuse(context, 0)?;
        // SAFETY:
        // - as the caller promised; CStats has no padding: all fields have eight bytes
        unsafe { write_struct(out, CStats::from(&resolved.pool.stats())) }
    })
}

/// See the header.
///
/// # Safety
/// - `out` is NULL or points to a `bytepool_class_stats` of its `struct_size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_read_class_stats(
    context: *mut c_void,
    index: usize,
    out: *mut CClassStats,
) -> i32 {
    status_of(|| {
        let resolved = resolve_or_refuse(context, 0)?;
        let stats = resolved.pool.stats();
        let class = stats.classes.get(index).ok_or(Status::InvalidArgument)?;
        // SAFETY:
        // - as the caller promised; CClassStats has no padding: all fields have eight bytes
        unsafe { write_struct(out, CClassStats::from(class)) }
    })
}

/// See the header.
///
/// # Safety
/// - `handler` is NULL or may be called with `user_data`, and does not throw
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_dump_outstanding(
    context: *mut c_void,
    handler: Option<OutstandingHandler>,
    user_data: *mut c_void,
) -> usize {
    boundary(0, || {
        // SAFETY:
        // - as the caller promised
        let dumped = resolve_or_refuse(context, 0)
            .and_then(|resolved| unsafe { dump_outstanding(&resolved.pool, handler, user_data) });
        dumped.unwrap_or_else(|status| {
            set_last_error(status);
            0
        })
    })
}

/// # Safety
/// - as [`bytepool_dump_outstanding`]
pub(super) unsafe fn dump_outstanding(
    pool: &Shared,
    handler: Option<OutstandingHandler>,
    user_data: *mut c_void,
) -> Result<usize, Status> {
    let Some(tracker) = pool.tracker() else { return Ok(0) };
    let all = tracker.dump().map_err(|_| Status::OutOfMemory)?;
    match handler {
        None => fork::outside(|| tracking::print(&all)),
        Some(handler) => {
            for buffer in &all {
                let mut buffer = COutstanding::from(buffer);
                written(&mut buffer);
                // SAFETY:
                // - may be called so (caller); no lock of ours is held
                fork::outside(|| unsafe { handler(&buffer, user_data) });
            }
        }
    }
    Ok(all.len())
}

// ---- misuse ----

/// See the header.
///
/// # Safety
/// - `handler` may be called with `user_data` on any thread, and does not throw
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_set_misuse_handler(handler: Option<Handler>, user_data: *mut c_void) {
    boundary((), || misuse::set_handler(handler, user_data));
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_invalid_context_count() -> u64 {
    misuse::invalid_context_count()
}

// ---- small things ----

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_round_original(size: usize) -> usize {
    round_original(size)
}

/// A decimal number, read at build time.
const fn number(digits: &str) -> u32 {
    let digits = digits.as_bytes();
    let mut value = 0;
    let mut index = 0;
    while index < digits.len() {
        assert!(digits[index].is_ascii_digit());
        value = value * 10 + (digits[index] - b'0') as u32;
        index += 1;
    }
    value
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn bytepool_version() -> u32 {
    const VERSION: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    VERSION
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;

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
