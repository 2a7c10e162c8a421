//! Putting one buffer.

use std::ffi::c_void;

use super::refuse_put;
use crate::class::location::PutSize;
use crate::core::door::{self, Unfinished};
use crate::ffi::context::ContextHandle;
use crate::ffi::status::Status;

/// Puts a buffer back, whichever thread and language got it.
///
/// `size` is the one asked for, in bytes, or another of the same class. NULL `data` does nothing.
///
/// A wrong put changes nothing. It is counted, reported to the misuse handler, and becomes the thread's last error.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put(context: *mut c_void, data: *mut c_void, size: usize) {
    if let Err(unfinished) = door::put(ContextHandle(context), data.cast(), size) {
        // SAFETY:
        // - as the caller promised; the fast path just gave this
        unsafe { finish_put(context, data, unfinished, size) };
    }
}

/// Puts a buffer back, and returns how it went.
///
/// `size` is the one asked for, in bytes, or another of the same class. NULL `data` does nothing, and is a success.
///
/// A wrong put changes nothing, and is reported to the misuse handler. The errors are an invalid context, a foreign
/// pointer, a double put, a size mismatch, and a panic of the rounding function.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_checked(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
    match door::put(ContextHandle(context), data.cast(), size) {
        Ok(()) => Status::Ok as i32,
        // SAFETY:
        // - as the caller promised; the fast path just gave this
        Err(unfinished) => unsafe { finish_put(context, data, unfinished, size) },
    }
}

/// Puts a buffer back whose size the caller does not know.
///
/// NULL `data` does nothing. A wrong put changes nothing. It is counted, reported to the misuse handler, and becomes
/// the thread's last error.
///
/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any more
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_put_unsized(context: *mut c_void, data: *mut c_void) {
    if !door::put_unsized(ContextHandle(context), data.cast()) {
        // SAFETY:
        // - as the caller promised
        unsafe { put_unless_null(context, data, PutSize::Unsized) };
    }
}

// These are out of line. They do not unwind, and take the first arguments in the order of their callers. So the calls
// are tail calls.

/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any more
/// - the fast path just gave `unfinished`
#[cold]
#[inline(never)]
unsafe extern "C" fn finish_put(
    context: *mut c_void,
    data: *mut c_void,
    unfinished: Unfinished,
    size: usize,
) -> i32 {
    // SAFETY:
    // - as the caller promised
    unsafe {
        match door::finish_put(unfinished, data.cast()) {
            true => Status::Ok as i32,
            false => put_unless_null(context, data, PutSize::Sized(size)),
        }
    }
}

/// # Safety
/// - if `data` is an outstanding buffer of the context's pool, the caller owns it, and nobody uses it any more
#[cold]
#[inline(never)]
#[expect(improper_ctypes_definitions, reason = "only called from here")]
unsafe extern "C" fn put_unless_null(context: *mut c_void, data: *mut c_void, size: PutSize) -> i32 {
    // At once, before registers are saved: Lua and Duktape put NULL for every third buffer.
    if data.is_null() {
        return Status::Ok as i32;
    }
    // SAFETY:
    // - as the caller promised
    unsafe { put_slow(context, data, size) }
}

/// # Safety
/// - as for [`put_unless_null`]
#[cold]
#[inline(never)]
#[expect(improper_ctypes_definitions, reason = "only called from here")]
unsafe extern "C" fn put_slow(context: *mut c_void, data: *mut c_void, size: PutSize) -> i32 {
    // SAFETY:
    // - as the caller promised
    match unsafe { door::put_slow(ContextHandle(context), data.cast(), size) } {
        Ok(()) => Status::Ok as i32,
        Err(refused) => refuse_put(context, data, size.bytes(), refused) as i32,
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::super::{bytepool_close, bytepool_free, bytepool_get, bytepool_trim};
    use super::*;
    use crate::cache::reached;
    use crate::os::barrier;
    use crate::os::thread_state::looks;
    use crate::pool::Pool;
    use crate::pool::buffer::PooledBuffer;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::ptr;

    const SIZE: usize = 1000;
    const CLASS: usize = 1024;

    type Put = unsafe fn(*mut c_void, *mut c_void, usize);

    // SAFETY:
    // - as for the functions that are called
    /// The functions that put one raw buffer: with the size it was asked for, with another, and without.
    const PUTS: [(&str, Put); 5] = [
        ("put", |context, data, size| unsafe { bytepool_put(context, data, size) }),
        ("put with another size", |context, data, size| unsafe { bytepool_put(context, data, size + 20) }),
        ("checked put", |context, data, size| unsafe { _ = bytepool_put_checked(context, data, size) }),
        ("checked put with another size", |context, data, size| unsafe {
            _ = bytepool_put_checked(context, data, size + 20);
        }),
        ("put without size", |context, data, _| unsafe { bytepool_put_unsized(context, data) }),
    ];

    /// Runs a put, which must look at most so often for a cache.
    fn check_looks(what: &str, most: u32, put: impl FnOnce()) {
        looks::take();
        put();
        let looks = looks::take();
        assert!(looks <= most, "{what}: {looks} looks");
    }

    fn get_many(context: *mut c_void, size: usize, count: usize) -> Vec<usize> {
        (0..count).map(|_| bytepool_get(context, size).expose_provenance()).collect()
    }

    fn on_another_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    /// Puts buffers that this thread got, and that another did, for each function; some more than a bin holds. The
    /// puts.
    fn put_all_kinds(what: &str, pool: &Pool, size: usize, count: usize, most: u32) -> u64 {
        let before = pool.stats().puts;
        let context = pool.context();
        let address = context.as_ptr().expose_provenance();
        for (function, put) in PUTS {
            for got_by in ["itself", "another thread"] {
                let get = || get_many(ptr::with_exposed_provenance_mut(address), size, count);
                let got = if got_by == "itself" { get() } else { on_another_thread(get) };
                for data in got {
                    assert_ne!(data, 0);
                    let data = ptr::with_exposed_provenance_mut(data);
                    // SAFETY:
                    // - just got, and put once
                    check_looks(&format!("{function} of {what}, got by {got_by}"), most, || unsafe {
                        put(context.as_ptr(), data, size)
                    });
                }
            }
            // The first of a thread, which has no cache before.
            let data = bytepool_get(context.as_ptr(), size).expose_provenance();
            on_another_thread(|| {
                let context = ptr::with_exposed_provenance_mut(address);
                // SAFETY: as above
                check_looks(&format!("{function} of {what}, a thread's first"), most, || unsafe {
                    put(context, ptr::with_exposed_provenance_mut(data), size);
                });
            });
        }
        let buffers = || -> Vec<PooledBuffer> { (0..count).map(|_| pool.get(size).unwrap()).collect() };
        for buffer in buffers().into_iter().chain(on_another_thread(buffers)) {
            check_looks(&format!("drop of {what}"), most, || drop(buffer));
        }
        pool.stats().puts - before
    }

    #[test]
    fn a_put_of_a_thread_s_own_buffer_looks_its_cache_up_once() {
        let pool = Pool::builder().size_class(CLASS, 100).build().unwrap();
        let context = pool.context();
        for _ in 0..2 {
            for (function, put) in PUTS {
                let data = bytepool_get(context.as_ptr(), SIZE);
                looks::take();
                // SAFETY:
                // - just got
                unsafe { put(context.as_ptr(), data, SIZE) };
                // Without the fast path the slow half looks, too.
                assert_eq!(looks::take(), if barrier::is_in_use() { 1 } else { 2 }, "{function}");
            }
        }
    }

    /// The files of this library in a stack.
    fn files(stack: &std::backtrace::Backtrace) -> BTreeSet<String> {
        let stack = stack.to_string();
        let places = stack.lines().filter_map(|line| line.trim().strip_prefix("at "));
        let own = places.filter_map(|place| place.split_once("src/").filter(|(at, _)| is_own(at)));
        own.filter_map(|(_, place)| place.split(':').next()).map(str::to_owned).collect()
    }

    /// Whether a folder is the one of this library, as debug information may name it.
    fn is_own(folder: &str) -> bool {
        folder == "./" || Path::new(folder) == Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn a_put_enters_at_most_four_files_up_to_the_slot() {
        let pool = Pool::builder().size_class(CLASS, 1000).build().unwrap();
        let context = pool.context();
        let address = context.as_ptr().expose_provenance();
        let get = || get_many(ptr::with_exposed_provenance_mut(address), SIZE, 200);
        let mut entered = BTreeSet::new();
        for (function, put) in PUTS {
            // By the fast path and its second step, and by the slow half where a bin is full.
            let got = [get(), on_another_thread(get)].concat();
            let stacks = reached::while_running(|| {
                for data in got {
                    // SAFETY:
                    // - just got, and put once
                    unsafe { put(context.as_ptr(), ptr::with_exposed_provenance_mut(data), SIZE) };
                }
            });
            assert!(stacks.len() > 100, "{function}: {}", stacks.len());
            for stack in &stacks {
                let files = files(stack);
                assert!(files.contains("ffi/capi/put.rs") && files.contains("cache/bin.rs"), "{stack}");
                assert!(files.len() <= 4, "{function}: {files:?}");
                entered.extend(files);
            }
        }
        assert!(entered.contains("cache/slow.rs"), "{entered:?}");
        assert_eq!(entered.contains("cache/fast.rs"), barrier::is_in_use(), "{entered:?}");
    }

    #[test]
    fn a_put_looks_its_cache_up_at_most_twice() {
        if cfg!(bytepool_sanitized) {
            eprintln!(
                "left out: oversize buffers whose puts are refused stay out, and LeakSanitizer says so"
            );
            return;
        }
        let all = |count: usize| (PUTS.len() * (2 * count + 1) + 2 * count) as u64;
        let pool = || Pool::builder().size_class(CLASS, 10_000);
        assert_eq!(put_all_kinds("a slot", &pool().build().unwrap(), SIZE, 400, 2), all(400));
        let small = || Pool::builder().size_class(CLASS, 8);
        assert_eq!(put_all_kinds("overflow", &small().build().unwrap(), SIZE, 300, 2), all(300));
        let limited = small().max_bytes(1 << 20).build().unwrap();
        assert_eq!(put_all_kinds("overflow with a limit", &limited, SIZE, 100, 2), all(100));
        let rounds = pool().round(|size| size.next_multiple_of(100)).build().unwrap();
        assert_eq!(put_all_kinds("a slot of a pool that rounds", &rounds, SIZE, 400, 2), all(400));
        let uncached = pool().thread_cache(false).build().unwrap();
        assert_eq!(put_all_kinds("a slot without cache", &uncached, SIZE, 20, 2), all(20));
        let tracked = pool().track_every(1).build().unwrap();
        assert_eq!(put_all_kinds("a tracked slot", &tracked, SIZE, 20, 2), all(20));
        // Every size but the one asked for is refused.
        let oversize = Pool::builder().size_class(64, 8).build().unwrap();
        assert_eq!(put_all_kinds("oversize", &oversize, SIZE, 20, 2), all(20) - 2 * (2 * 20 + 1));
        let huge = Pool::builder().size_class(32 << 20, 20).build().unwrap();
        assert_eq!(put_all_kinds("a slot too large for caches", &huge, SIZE, 10, 2), all(10));
    }

    #[test]
    fn a_put_that_is_refused_or_late_looks_its_cache_up_at_most_twice() {
        let pool = Pool::builder().size_class(CLASS, 100).build().unwrap();
        let context = pool.context().into_raw();
        let data = get_many(context, SIZE, 40).into_iter().map(ptr::with_exposed_provenance_mut::<c_void>);
        let mut data = data.collect::<Vec<_>>();
        let double = data.pop().unwrap();
        // SAFETY:
        // - just got
        unsafe { bytepool_put(context, double, SIZE) };
        let mut elsewhere = 0u64;
        let foreign: *mut c_void = (&raw mut elsewhere).cast();
        let stale = ptr::without_provenance_mut(1 << 40);
        for (function, put) in PUTS {
            for (what, context, data) in [
                ("nothing", context, ptr::null_mut()),
                ("what is put already", context, double),
                ("a foreign pointer", context, foreign),
                ("an interior pointer", context, data[0].wrapping_byte_add(64)),
                ("a buffer by a stale context", stale, data[0]),
            ] {
                // SAFETY:
                // - no buffer of the context's pool
                check_looks(&format!("{function} of {what}"), 2, || unsafe { put(context, data, SIZE) });
            }
        }
        let mut put_one = |what: &str| {
            for (function, put) in PUTS {
                // SAFETY:
                // - got above, and put once
                check_looks(&format!("{function} of {what}"), 2, || unsafe {
                    put(context, data.pop().unwrap(), SIZE)
                });
            }
        };
        bytepool_trim(context, 0);
        put_one("a slot after a trim");
        let keeps_it = pool.context();
        bytepool_free(context);
        put_one("a slot by a freed context");
        assert_eq!(bytepool_close(keeps_it.as_ptr()), 0);
        put_one("a slot of a closed pool");
        assert_eq!(pool.stats().puts, 1 + 3 * PUTS.len() as u64);
    }

    /// Also what only the pool could decide, by the user's function.
    #[test]
    fn what_a_pool_that_rounds_takes_back_is_cached() {
        let round = |size: usize| size.next_multiple_of(100);
        let pool = Pool::builder().size_class(CLASS, 100).round(round).build().unwrap();
        let context = pool.context();
        let keeps_a_cache = pool.get(SIZE).unwrap();
        let cached = || pool.stats().classes[0].cached;
        for (function, put) in PUTS {
            let data = bytepool_get(context.as_ptr(), SIZE);
            let before = cached();
            // SAFETY:
            // - just got
            unsafe { put(context.as_ptr(), data, SIZE) };
            assert_eq!(cached(), before + 1, "{function}");
        }
        drop(keeps_a_cache);
    }
}
