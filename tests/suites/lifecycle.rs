//! The life of a pool: handles, closing, buffers that outlive it, contexts, and panics of the user's rounding
//! function.
//!
//! Whether a pool still exists is seen from outside by its rounding function, which the pool owns and drops
//! with itself.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};

use bytepool::{BuildError, Builder, GetError, Misuse, Pool, PooledBuffer, ReallocError, ResizeError, Stats};

use crate::valgrind;

const THREADS: usize = 16;

// What may cross threads, checked by the compiler.
const _: () = {
    const fn anywhere<T: Send + Sync + 'static>() {}
    anywhere::<Pool>();
    anywhere::<PooledBuffer>();
    anywhere::<Builder>();
    anywhere::<Stats>();
    anywhere::<BuildError>();
    anywhere::<GetError>();
    anywhere::<Misuse>();
    anywhere::<ReallocError>();
    anywhere::<ResizeError>();
    // After a panic they are as good as before.
    const fn through_panics<T: UnwindSafe + RefUnwindSafe>() {}
    through_panics::<Pool>();
    through_panics::<PooledBuffer>();
    const fn cloneable<T: Clone>() {}
    cloneable::<Pool>();
    cloneable::<Builder>();
};

/// Tells whether its pool exists, if it has one.
#[derive(Default)]
struct Witness(Arc<()>);

impl Witness {
    fn pool_exists(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

const SMALL: usize = 1000;
const LARGE: usize = 5000;

fn witnessed() -> (Pool, Witness) {
    let token = Arc::new(());
    let in_pool = token.clone();
    let round = move |size| {
        let _owned = &in_pool;
        size
    };
    let builder = Pool::builder().size_class(SMALL, 4).size_class(LARGE, 4).round(round);
    (builder.build().unwrap(), Witness(token))
}

fn put(pool: &Pool, data: NonNull<u8>, size: usize) -> Result<(), Misuse> {
    // SAFETY:
    // - callers put buffers of theirs, or what the pool refuses
    unsafe { pool.put_raw(data, size) }
}

fn outstanding(stats: &Stats) -> usize {
    let in_classes: usize = stats.classes.iter().map(|class| class.outstanding + class.overflow).sum();
    in_classes + stats.oversize_buffers
}

/// Sixteen threads that start together, and have ended, destructors of their thread-locals included, when
/// this returns.
fn in_sixteen_threads(body: impl Fn(usize) + Sync) {
    let start = Barrier::new(THREADS);
    let body = |thread| {
        start.wait();
        body(thread);
    };
    let body = &body;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || body(thread))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

// ---- close ----

#[test]
fn a_closed_pool_refuses_every_get_through_every_handle() {
    let (pool, _) = witnessed();
    let clone = pool.clone();
    let raw = pool.get_raw(10).unwrap();
    pool.close();
    for handle in [&pool, &clone] {
        assert!(handle.is_closed());
        let before = handle.stats();
        for size in [0, SMALL, LARGE, LARGE + 1, usize::MAX] {
            assert_eq!(handle.get(size).unwrap_err(), GetError::Closed);
            assert_eq!(handle.get_zeroed(size).unwrap_err(), GetError::Closed);
            assert_eq!(handle.get_raw(size).unwrap_err(), GetError::Closed);
            assert_eq!(handle.get_raw_aligned(4096, size).unwrap_err(), GetError::Closed);
            // SAFETY:
            // - this test's buffer, and it stays so when the call fails
            let error = unsafe { handle.realloc_raw(raw, size) }.unwrap_err();
            assert_eq!(error, ReallocError::Get(GetError::Closed));
        }
        assert_eq!(handle.copy(b"hello").unwrap_err(), GetError::Closed);
        assert_eq!(handle.stats(), before);
    }
    assert_eq!(GetError::Closed.to_string(), "the pool is closed, or this context was freed");
    put(&clone, raw, 10).unwrap();
}

/// Classes so large that every thread caches slots, and no rounding, which would go around the caches.
fn cached() -> Pool {
    Pool::builder().size_class(SMALL, 4096).size_class(LARGE, 1024).build().unwrap()
}

/// Leaves the calling thread's cache with slots to hand out.
fn warm_up(pool: &Pool) {
    for size in [SMALL, LARGE].repeat(3) {
        drop((0..20).map(|_| pool.get(size).unwrap()).collect::<Vec<_>>());
    }
}

#[test]
fn a_closed_pool_refuses_every_get_of_threads_with_full_caches() {
    let pool = cached();
    let (warm, closed) = (Barrier::new(5), Barrier::new(5));
    let other_thread = || {
        warm_up(&pool);
        let held = [pool.get(SMALL).unwrap(), pool.get(LARGE).unwrap()];
        warm.wait();
        closed.wait();
        for _ in 0..10 {
            assert_eq!(pool.get(SMALL).unwrap_err(), GetError::Closed);
            assert_eq!(pool.get_raw(LARGE).unwrap_err(), GetError::Closed);
        }
        drop(held);
        assert_eq!(pool.get(SMALL).unwrap_err(), GetError::Closed);
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(other_thread)).collect();
        warm_up(&pool);
        warm.wait();
        pool.close();
        let (own, stats) = (pool.get(SMALL).map(drop), pool.stats());
        // Before anything may panic: the others wait for it.
        closed.wait();
        assert_eq!((own, outstanding(&stats)), (Err(GetError::Closed), 8));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((outstanding(&stats), stats.classes[0].cached, stats.classes[1].cached), (0, 0, 0));
}

#[test]
fn a_thread_that_ends_leaves_its_idle_slots_to_others() {
    let pool = Pool::builder().size_class(SMALL, 64).build().unwrap();
    let fill = || drop((0..64).map(|_| pool.get(SMALL).unwrap()).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        // Joined, so that the destructors of its thread-locals are through.
        (0..3).for_each(|_| scope.spawn(fill).join().unwrap());
    });
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.classes[0].idle, stats.classes[0].cached), (64, 0));
    let _all: Vec<_> = (0..64).map(|_| pool.get(SMALL).unwrap()).collect();
    assert_eq!(pool.stats().system_allocations, 0);
}

#[test]
fn closing_again_has_no_effect() {
    let (pool, _) = witnessed();
    let held = pool.get(10).unwrap();
    pool.close();
    let before = pool.stats();
    pool.clone().close();
    pool.close();
    assert_eq!(pool.stats(), before);
    assert_eq!(pool.trim(0), 0);
    drop(held);
    assert_eq!(outstanding(&pool.stats()), 0);
}

#[test]
fn outstanding_buffers_of_a_closed_pool_stay_good_and_can_be_put() {
    let (pool, _) = witnessed();
    let sizes = [10, SMALL, SMALL, SMALL, SMALL, LARGE, LARGE + 1, 60_000];
    let mut owned: Vec<_> = sizes.map(|size| pool.get(size).unwrap()).into();
    let raw = sizes.map(|size| (pool.get_raw(size).unwrap(), size));
    owned.iter_mut().for_each(|buffer| buffer.fill(1));
    pool.close();
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(outstanding(&stats), 16);

    assert!(owned.iter().all(|buffer| buffer.iter().all(|&byte| byte == 1)));
    owned.iter_mut().for_each(|buffer| buffer.fill(2));
    for (data, size) in raw {
        assert!(pool.usable_size(data) >= size);
        put(&pool, data, size).unwrap();
    }
    // Changing hands needs no get.
    let (data, size) = owned.pop().unwrap().into_raw();
    // SAFETY:
    // - just released, all of it initialised
    owned.push(unsafe { PooledBuffer::from_raw(&pool, data, size) }.unwrap());
    assert!(owned.iter().all(|buffer| buffer.iter().all(|&byte| byte == 2)));
    drop(owned);
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((outstanding(&stats), stats.gets, stats.puts), (0, 16, 16));
    let kept = stats.classes.iter().map(|class| class.idle).sum::<usize>();
    assert_eq!(kept, 0, "the region went as a whole");
}

// ---- handles ----

#[test]
fn a_pool_stays_open_until_its_last_handle_is_dropped() {
    let (pool, witness) = witnessed();
    let mut handles = vec![pool];
    for _ in 0..10 {
        handles.push(handles[0].clone());
    }
    while handles.len() > 1 {
        handles.swap_remove(handles.len() / 2);
        assert!(!handles[0].is_closed());
        handles[0].get(10).unwrap();
    }
    assert!(witness.pool_exists());
    handles.clear();
    assert!(!witness.pool_exists());
}

#[test]
fn a_pooled_buffer_outlives_every_handle_and_works() {
    for size in [10, SMALL, LARGE, LARGE + 1] {
        let (pool, witness) = witnessed();
        let mut buffer = pool.get(size).unwrap();
        buffer.fill(7);
        drop(pool);
        assert!(witness.pool_exists(), "the buffer keeps its memory");
        assert!(buffer.iter().all(|&byte| byte == 7));
        buffer.resize(buffer.capacity()).unwrap();
        buffer.fill(8);
        assert!(buffer.iter().all(|&byte| byte == 8));
        std::thread::spawn(move || drop(buffer)).join().unwrap();
        assert!(!witness.pool_exists(), "the last put was the end of it");
    }
}

#[test]
fn a_raw_buffer_keeps_the_pool_until_it_is_put() {
    let (pool, witness) = witnessed();
    let others = pool.clone();
    let data = pool.get_raw(SMALL).unwrap();
    drop(pool);
    // SAFETY:
    // - this test's buffer; a slot, so it is initialised
    let buffer = unsafe { PooledBuffer::from_raw(&others, data, SMALL) }.unwrap();
    drop(others);
    assert!(witness.pool_exists());
    drop(buffer);
    assert!(!witness.pool_exists());
}

#[test]
fn a_pool_ends_once_whatever_threads_drop_its_handles_and_buffers() {
    for _ in 0..valgrind::rounds(200) {
        let (pool, witness) = witnessed();
        let shares: Vec<_> = (0..THREADS)
            .map(|thread| {
                let handle = (thread % 3 != 0).then(|| pool.clone());
                let buffer = pool.get([SMALL, LARGE, LARGE + 1][thread % 3]).unwrap();
                Mutex::new(Some((handle, buffer)))
            })
            .collect();
        drop(pool);
        in_sixteen_threads(|thread| {
            let (handle, buffer) = shares[thread].lock().unwrap().take().unwrap();
            if thread % 2 == 0 {
                drop(handle);
                drop(buffer);
            } else {
                drop(buffer);
                drop(handle);
            }
        });
        assert!(!witness.pool_exists());
    }
}

// ---- concurrency ----

/// What a thread of the storm below does next; a generator of its own keeps the order repeatable per thread.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 20
}

/// One thread's share: gets, puts, clones, drops, trims and figures until its program ends; one thread closes
/// on the way.
fn live_with_a_closing_pool(pool: Pool, thread: usize, seed: u64, closed: &AtomicBool) {
    let mut random = (seed * 31 + thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mark = thread as u8 + 1;
    let mut handles = vec![pool];
    let mut buffers: Vec<PooledBuffer> = Vec::new();
    for step in 0..60 {
        let pool = &handles[handles.len() - 1];
        match next(&mut random) % 8 {
            0..=2 => {
                let was_closed = closed.load(SeqCst);
                let size = [1, SMALL, LARGE, LARGE + 100][next(&mut random) as usize % 4];
                match pool.get(size) {
                    Ok(mut buffer) => {
                        assert!(!was_closed, "a get after close succeeded");
                        buffer.fill(mark);
                        buffers.push(buffer);
                    }
                    Err(error) => {
                        assert_eq!(error, GetError::Closed);
                        assert!(pool.is_closed());
                    }
                }
            }
            3 => drop(buffers.pop()),
            4 => handles.push(pool.clone()),
            5 if handles.len() > 1 => drop(handles.pop()),
            6 => drop(pool.trim(0)),
            _ => drop(pool.stats()),
        }
        if thread == 0 && step == 10 + seed % 40 {
            handles[0].close();
            closed.store(true, SeqCst);
        }
    }
    for buffer in &buffers {
        assert!(buffer.iter().all(|&byte| byte == mark), "another wrote to this thread's buffer");
    }
}

#[test]
fn close_may_come_in_the_middle_of_anything() {
    for seed in 0..valgrind::rounds(120) as u64 {
        let (pool, witness) = if seed % 2 == 0 { witnessed() } else { (cached(), Witness::default()) };
        let closed = AtomicBool::new(false);
        in_sixteen_threads(|thread| live_with_a_closing_pool(pool.clone(), thread, seed, &closed));
        assert!(pool.is_closed());
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((outstanding(&stats), stats.gets), (0, stats.puts));
        if cfg!(all(unix, not(bytepool_portable))) {
            // That region cannot give pages back.
            assert_eq!(stats.mapped_bytes, 0, "idle memory stayed with a closed pool: {stats:#?}");
        }
        drop(pool);
        assert!(!witness.pool_exists());
    }
}

/// One slot that threads take from each other, and a close in between: whatever the order, nothing stays.
fn close_under_fire(thread_cache: bool, slots: usize) {
    let (pool, witness) = {
        let token = Arc::new(());
        let in_pool = token.clone();
        let round = move |size| {
            let _owned = &in_pool;
            size
        };
        let builder = Pool::builder().size_class(64 << 10, slots).round(round).thread_cache(thread_cache);
        (builder.build().unwrap(), Witness(token))
    };
    let started = Barrier::new(5);
    std::thread::scope(|scope| {
        let cycle = || {
            started.wait();
            let mut gets = 0u64;
            loop {
                match pool.get(1) {
                    Ok(buffer) => drop(buffer),
                    Err(error) => {
                        assert_eq!(error, GetError::Closed);
                        return gets;
                    }
                }
                gets += 1;
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(cycle)).collect();
        started.wait();
        // Some get and put before it closes, by their own progress.
        while pool.stats().puts < 5 {
            std::thread::yield_now();
        }
        pool.close();
        let gets: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((outstanding(&stats), stats.gets, stats.puts), (0, gets, gets));
        assert_eq!((stats.mapped_bytes, stats.classes[0].touched), (0, 0), "stayed: {stats:#?}");
    });
    drop(pool);
    assert!(!witness.pool_exists());
}

#[test]
fn a_close_among_gets_and_puts_of_the_same_slots_leaves_nothing_mapped() {
    for round in 0..valgrind::rounds(150) {
        close_under_fire(round % 2 == 0, 1 + round % 3);
    }
}

// ---- rounding that panics, or comes back ----

/// What panics on purpose carry.
const PURPOSE: &str = "rounding panics on purpose";

/// A pool whose rounding panics at its `n`th call from when it is armed with `n`.
struct Armed {
    pool: Pool,
    left: Arc<AtomicUsize>,
}

impl Armed {
    fn new() -> Self {
        let left = Arc::new(AtomicUsize::new(0));
        let counter = left.clone();
        let round = move |size: usize| {
            let before = counter.load(SeqCst);
            if before > 0 {
                counter.store(before - 1, SeqCst);
            }
            if before == 1 {
                // As `panic!`, without a message on stderr for each of many.
                resume_unwind(Box::new(PURPOSE));
            }
            size
        };
        let pool = Pool::builder().size_class(SMALL, 2).size_class(LARGE, 2).round(round).build().unwrap();
        Self { pool, left }
    }

    /// Runs `body` with a panic in the first rounding, then the second, and so on until it comes through;
    /// what it gave then, and how many panics there were.
    ///
    /// After each panic the pool must be as it was.
    fn interrupt<T>(&self, what: &str, body: impl Fn() -> T) -> (T, usize) {
        for call in 1.. {
            let before = self.pool.stats();
            before.assert_consistent();
            self.left.store(call, SeqCst);
            let outcome = catch_unwind(AssertUnwindSafe(&body));
            self.left.store(0, SeqCst);
            match outcome {
                Ok(value) => return (value, call - 1),
                Err(payload) => {
                    assert_eq!(payload.downcast_ref(), Some(&PURPOSE));
                    assert_eq!(self.pool.stats(), before, "{what}, rounding {call} panicked: half done");
                }
            }
        }
        unreachable!("some call comes through")
    }

    /// A raw buffer full of 0x42.
    fn get_filled(&self, size: usize) -> NonNull<u8> {
        let data = self.pool.get_raw(size).unwrap();
        // SAFETY:
        // - this test's buffer, of at least this size
        unsafe { data.as_ptr().write_bytes(0x42, self.pool.usable_size(data)) };
        data
    }
}

/// One of each way a buffer is kept track of, and an empty one.
const SIZES: [usize; 4] = [0, SMALL, LARGE, LARGE + 1];

#[test]
fn a_panic_of_rounding_while_building_reaches_the_caller() {
    let builder = Pool::builder().size_class(SMALL, 2).round(|_| resume_unwind(Box::new(PURPOSE)));
    let outcome = catch_unwind(AssertUnwindSafe(|| builder.build().map(drop)));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&PURPOSE));
}

#[test]
fn a_panic_of_rounding_in_a_get_reaches_the_caller_and_nothing_is_half_done() {
    let armed = Armed::new();
    for _ in 0..4 {
        for size in SIZES {
            let (buffer, panics) = armed.interrupt("get", || armed.pool.get(size).unwrap());
            assert_eq!((buffer.len(), panics), (size, 1));
            armed.interrupt("get_zeroed", || armed.pool.get_zeroed(size).unwrap());
            armed.interrupt("copy", || armed.pool.copy(&vec![1; size]).unwrap());
            let (data, _) = armed.interrupt("get_raw", || armed.pool.get_raw(size).unwrap());
            put(&armed.pool, data, size).unwrap();
            let (data, _) = armed.interrupt("aligned", || armed.pool.get_raw_aligned(4096, size).unwrap());
            put(&armed.pool, data, size).unwrap();
        }
    }
    assert_eq!(outstanding(&armed.pool.stats()), 0);
}

#[test]
fn a_panic_of_rounding_in_a_put_leaves_the_buffer_outstanding_and_as_it_was() {
    let armed = Armed::new();
    // Overflow as well as slots and oversize.
    let _held = [armed.pool.get(LARGE).unwrap(), armed.pool.get(LARGE).unwrap()];
    for size in SIZES {
        let other = if size > LARGE { size } else { size.saturating_sub(1) };
        let data = armed.get_filled(size);
        let (result, _) = armed.interrupt("put_raw", || put(&armed.pool, data, other));
        result.unwrap();

        let data = armed.get_filled(size);
        // SAFETY:
        // - this test's buffer, filled all over; adopted by the one call that does not panic
        let adopt = || unsafe { PooledBuffer::from_raw(&armed.pool, data, other) };
        let (buffer, _) = armed.interrupt("from_raw", adopt);
        assert!(buffer.unwrap().iter().all(|&byte| byte == 0x42));
    }
    assert_eq!(outstanding(&armed.pool.stats()), 2);
}

#[test]
fn a_panic_of_rounding_in_a_drop_cannot_happen() {
    let armed = Armed::new();
    for size in SIZES {
        let buffers: Vec<_> = (0..4).map(|_| armed.pool.get(size).unwrap()).collect();
        armed.left.store(1, SeqCst);
        drop(buffers);
        assert_eq!(armed.left.swap(0, SeqCst), 1, "a drop rounded");
    }
    assert_eq!(outstanding(&armed.pool.stats()), 0);
}

#[test]
fn a_panic_of_rounding_in_a_reallocation_keeps_the_old_buffer_and_no_other() {
    let armed = Armed::new();
    for overflow in [false, true] {
        let _held: Vec<_> =
            (0..if overflow { 2 } else { 0 }).map(|_| armed.pool.get(LARGE).unwrap()).collect();
        for old_size in SIZES {
            for new_size in SIZES {
                let old = armed.get_filled(old_size);
                let what = format!("realloc_raw from {old_size} to {new_size}");
                let (new, _) = armed.interrupt(&what, || {
                    // SAFETY:
                    // - this test's buffer until the one call that does not panic
                    unsafe { armed.pool.realloc_raw(old, new_size) }.unwrap()
                });
                let kept = old_size.min(new_size);
                // SAFETY:
                // - this test's buffer; so many bytes were kept
                let bytes = unsafe { std::slice::from_raw_parts(new.as_ptr(), kept) };
                assert!(bytes.iter().all(|&byte| byte == 0x42), "{what}");
                put(&armed.pool, new, new_size).unwrap();
            }
        }
    }
    assert_eq!(outstanding(&armed.pool.stats()), 0);
}

#[test]
fn rounding_may_use_the_pool_itself_since_nothing_is_locked_meanwhile() {
    thread_local!(static INSIDE: AtomicBool = const { AtomicBool::new(false) });
    let handle: Arc<Mutex<Option<Pool>>> = Arc::default();
    let (in_rounding, uses) = (handle.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = uses.clone();
    let round = move |size| {
        if INSIDE.with(|inside| inside.swap(true, SeqCst)) {
            return size;
        }
        let pool = in_rounding.lock().unwrap().clone();
        if let Some(pool) = pool {
            counter.fetch_add(1, SeqCst);
            for size in SIZES {
                drop(pool.get(size).unwrap());
                let data = pool.get_raw(size).unwrap();
                put(&pool, data, size).unwrap();
            }
            pool.trim(0);
            assert!(outstanding(&pool.stats()) <= 10);
        }
        INSIDE.with(|inside| inside.store(false, SeqCst));
        size
    };
    let builder = Pool::builder().size_class(SMALL, 2).size_class(LARGE, 2).round(round);
    let pool = builder.max_bytes(1 << 20).build().unwrap();
    *handle.lock().unwrap() = Some(pool.clone());
    let _held = [pool.get(LARGE).unwrap(), pool.get(LARGE).unwrap()];
    for size in SIZES {
        let data = pool.get_raw(size).unwrap();
        // SAFETY:
        // - this test's buffer
        let data = unsafe { pool.realloc_raw(data, LARGE - 1) }.unwrap();
        put(&pool, data, LARGE).unwrap();
        put(&pool, data, LARGE).unwrap_err();
    }
    assert!(uses.load(SeqCst) >= 12, "the rounding function was not called");
    *handle.lock().unwrap() = None; // or the pool would own itself
    pool.stats().assert_consistent();
}

#[cfg(feature = "capi")]
mod contexts {
    use super::*;
    use bytepool::ffi::capi::*;
    use bytepool::ffi::status::{Status, last_error};
    use bytepool::{Context, ContextError};
    use std::collections::HashSet;
    use std::ffi::c_void;
    use std::ptr;

    const _: () = {
        const fn anywhere<T: Send + Sync + 'static>() {}
        anywhere::<Context>();
        anywhere::<ContextError>();
    };

    fn put_checked(context: *mut c_void, data: *mut c_void, size: usize) -> i32 {
        // SAFETY:
        // - callers put buffers of theirs, or what is refused
        unsafe { bytepool_put_checked(context, data, size) }
    }

    /// A context that C would hold: nobody frees it but by `bytepool_free`.
    fn is_live(context: *mut c_void) -> bool {
        // SAFETY:
        // - the value is given up again at once: nobody frees the context
        unsafe { Context::from_raw(context) }.map(Context::into_raw).is_some()
    }

    #[test]
    fn a_context_is_a_handle_and_names_its_pool() {
        let (pool, witness) = witnessed();
        let context = pool.context();
        assert!(!context.as_ptr().is_null());
        drop(pool);
        assert!(witness.pool_exists(), "the context is a handle");
        let data = bytepool_get(context.as_ptr(), 100);
        assert!(!data.is_null());
        let pool = context.pool().unwrap();
        assert!(!pool.is_closed());
        put(&pool, NonNull::new(data.cast()).unwrap(), 100).unwrap();
        drop(pool);
        assert!(witness.pool_exists());
        drop(context);
        assert!(!witness.pool_exists(), "dropping it freed it");
    }

    #[test]
    fn a_context_given_to_c_lives_until_c_frees_it() {
        let (pool, witness) = witnessed();
        let context = pool.context().into_raw();
        drop(pool);
        assert!(witness.pool_exists() && is_live(context));
        bytepool_free(context);
        assert!(!witness.pool_exists() && !is_live(context));
    }

    #[test]
    fn a_context_comes_back_from_c_once() {
        let (pool, witness) = witnessed();
        let raw = pool.context().into_raw();
        drop(pool);
        // SAFETY:
        // - given up above; nobody else frees it
        let context = unsafe { Context::from_raw(raw) }.expect("a live context");
        assert_eq!(context.as_ptr(), raw);
        drop(context);
        assert!(!witness.pool_exists());
        for stale in [raw, ptr::null_mut(), ptr::without_provenance_mut(0x1234)] {
            // SAFETY:
            // - refused
            assert!(unsafe { Context::from_raw(stale) }.is_none());
        }
    }

    #[test]
    fn a_freed_context_hands_out_no_memory_but_takes_it_back_while_the_pool_exists() {
        let (pool, witness) = witnessed();
        let context = pool.context().into_raw();
        let [a, b, c] = [100, SMALL, LARGE + 1].map(|size| (bytepool_get(context, size), size));
        bytepool_free(context);
        assert!(!is_live(context));
        let before = pool.stats();
        assert!(bytepool_get(context, 100).is_null());
        assert_eq!(last_error(), Status::Closed);
        assert!(!pool.is_closed() && pool.stats() == before, "the pool has another handle");

        assert_eq!(bytepool_usable_size(context, a.0), valgrind::capacity(a.1, SMALL));
        assert_eq!(put_checked(context, a.0, a.1), 0);
        drop(pool);
        assert!(witness.pool_exists(), "two buffers are outstanding");
        assert_eq!(put_checked(context, b.0, b.1), 0);
        assert_eq!(put_checked(context, c.0, c.1), 0);
        assert!(!witness.pool_exists());
        assert_eq!(put_checked(context, c.0, c.1), Status::InvalidContext as i32);
    }

    #[test]
    fn a_freed_context_hands_out_nothing_to_threads_with_full_caches() {
        let pool = cached();
        let context = pool.context().into_raw().expose_provenance();
        let context = || ptr::with_exposed_provenance_mut::<c_void>(context);
        let warm_up_by_context = || {
            for _ in 0..3 {
                let many = [0; 20].map(|_| bytepool_get(context(), SMALL));
                let _: [i32; 20] = many.map(|data| put_checked(context(), data, SMALL));
            }
            bytepool_get(context(), SMALL)
        };
        let refuses = |held: *mut c_void| {
            for _ in 0..10 {
                assert!(bytepool_get(context(), SMALL).is_null());
                assert_eq!(last_error(), Status::Closed);
            }
            assert_eq!(put_checked(context(), held, SMALL), 0, "but takes back");
            assert!(bytepool_get(context(), SMALL).is_null());
        };
        let (warm, freed) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let held = warm_up_by_context();
                warm.wait();
                freed.wait();
                refuses(held);
            });
            let held = warm_up_by_context();
            warm.wait();
            bytepool_free(context());
            freed.wait();
            refuses(held);
            other.join().unwrap();
        });
        assert!(!pool.is_closed());
        assert_eq!(outstanding(&pool.stats()), 0);
        drop(pool.get(SMALL).unwrap());
    }

    #[test]
    fn a_buffer_released_after_the_last_handle_goes_back_through_a_freed_context() {
        let (pool, witness) = witnessed();
        let stale = pool.context().into_raw();
        bytepool_free(stale);
        let mut buffer = pool.get(SMALL).unwrap();
        buffer.fill(3);
        drop(pool);
        let (data, size) = buffer.into_raw();
        assert!(witness.pool_exists());
        assert_eq!(put_checked(stale, data.as_ptr().cast(), size), 0);
        assert!(!witness.pool_exists());
    }

    #[test]
    fn a_freed_context_takes_buffers_back_however_many_there_were_before() {
        // A context is 64 bits of numbers, and those of its pool are used again.
        let pool = Pool::builder().size_class(SMALL, 4).thread_cache(false).build().unwrap();
        let data = pool.get_raw(10).unwrap();
        for number in 0..valgrind::rounds(200_000) {
            let context = pool.context().into_raw();
            bytepool_free(context);
            let usable = bytepool_usable_size(context, data.as_ptr().cast());
            let expected = valgrind::capacity(10, SMALL);
            assert_eq!(usable, expected, "context {number} is unknown after its free, but the pool exists");
            assert!(!is_live(context));
        }
        put(&pool, data, 10).unwrap();
    }

    #[test]
    fn a_stale_context_never_reaches_a_newer_pool() {
        let stale: Vec<_> = (0..300)
            .map(|_| {
                let (pool, _) = witnessed();
                let context = pool.context().into_raw();
                bytepool_free(context);
                context
            })
            .collect();
        let newer: Vec<_> = (0..300).map(|_| witnessed().0).collect();
        let contexts: Vec<_> = newer.iter().map(Pool::context).collect();
        let before: Vec<_> = newer.iter().map(Pool::stats).collect();
        for &context in &stale {
            assert!(!is_live(context));
            assert!(bytepool_get(context, 10).is_null());
            assert_eq!(last_error(), Status::InvalidContext);
            assert!(contexts.iter().all(|live| live.as_ptr() != context));
        }
        assert_eq!(newer.iter().map(Pool::stats).collect::<Vec<_>>(), before);
    }

    #[test]
    fn contexts_of_all_pools_differ() {
        let pools: Vec<_> = (0..20).map(|_| witnessed().0).collect();
        let contexts: Vec<_> = (0..100).flat_map(|_| pools.iter().map(Pool::context)).collect();
        let distinct: HashSet<_> = contexts.iter().map(|context| context.as_ptr().addr()).collect();
        assert_eq!(distinct.len(), 2000);
        assert!(!distinct.contains(&0));
    }

    #[test]
    fn a_pool_has_at_most_16384_live_contexts() {
        let (pool, _) = witnessed();
        let mut contexts: Vec<_> = (0..16_384).map(|_| pool.try_context().unwrap()).collect();
        let error = pool.try_context().unwrap_err();
        assert_eq!(error, ContextError::TooMany { limit: 16_384 });
        assert!(error.to_string().contains("16384 live contexts"), "{error}");
        contexts.truncate(16_000);
        contexts.push(pool.try_context().unwrap());
        drop(contexts);
        drop(pool.context());
    }

    #[test]
    fn of_racing_frees_of_one_context_exactly_one_counts() {
        for _ in 0..50 {
            let (pool, witness) = witnessed();
            let context = pool.context().into_raw().expose_provenance();
            in_sixteen_threads(|_| bytepool_free(ptr::with_exposed_provenance_mut(context)));
            assert!(!pool.is_closed(), "the pool's own handle was given up by a second free");
            pool.get(10).unwrap();
            drop(pool);
            assert!(!witness.pool_exists());
        }
    }

    #[test]
    fn contexts_are_used_and_freed_from_sixteen_threads_while_the_pool_closes() {
        for round in 0..valgrind::rounds(100) {
            let (pool, witness) = if round % 2 == 0 { witnessed() } else { (cached(), Witness::default()) };
            let shared = pool.context();
            in_sixteen_threads(|thread| {
                let own = pool.context();
                for step in 0..20 {
                    let context = if step % 2 == 0 { own.as_ptr() } else { shared.as_ptr() };
                    let data = bytepool_get(context, SMALL);
                    if data.is_null() {
                        assert_eq!(last_error(), Status::Closed);
                    } else {
                        assert_eq!(put_checked(context, data, SMALL), 0);
                    }
                    if thread == round % THREADS && step == round % 20 {
                        assert_eq!(bytepool_close(context), 0);
                    }
                }
            });
            assert!(pool.is_closed());
            assert_eq!(outstanding(&pool.stats()), 0);
            drop((pool, shared));
            assert!(!witness.pool_exists());
        }
    }

    /// Sixteen threads make, use and free contexts of each other's, and read figures, trim and close.
    #[test]
    fn contexts_come_and_go_under_sixteen_threads_and_every_call_works_or_says_why() {
        use std::sync::atomic::AtomicUsize;
        for round in 0..valgrind::rounds(40) {
            let (pool, witness) = witnessed();
            let places: [AtomicUsize; 8] =
                std::array::from_fn(|_| AtomicUsize::new(pool.context().into_raw().expose_provenance()));
            in_sixteen_threads(|thread| {
                let mut random = (round * THREADS + thread + 1) as u64;
                for _ in 0..200 {
                    let dice = next(&mut random);
                    let place = &places[(dice >> 32) as usize % places.len()];
                    let context = ptr::with_exposed_provenance_mut(place.load(SeqCst));
                    step_on(context, place, dice);
                }
            });
            for place in &places {
                bytepool_free(ptr::with_exposed_provenance_mut(place.load(SeqCst)));
            }
            assert_eq!(outstanding(&pool.stats()), 0);
            drop(pool);
            assert!(!witness.pool_exists(), "a handle or buffer was lost");
        }
    }

    /// Any of these may find that another thread freed the context, or closed the pool.
    fn step_on(context: *mut c_void, place: &std::sync::atomic::AtomicUsize, dice: u64) {
        let may_be_gone = |status: i32| {
            assert!([0, Status::Closed as i32, Status::InvalidContext as i32].contains(&status), "{status}");
        };
        let mut clone = ptr::null_mut();
        let mut stats = std::mem::MaybeUninit::<CStats>::zeroed();
        // SAFETY:
        // - all out-pointers are locals; the stats are told their size first
        unsafe {
            match dice % 32 {
                0 => {
                    may_be_gone(bytepool_clone(context, &raw mut clone));
                    if !clone.is_null() {
                        let old = place.swap(clone.expose_provenance(), SeqCst);
                        bytepool_free(ptr::with_exposed_provenance_mut(old));
                    }
                }
                1..4 => {
                    stats.as_mut_ptr().cast::<usize>().write(size_of::<CStats>());
                    may_be_gone(bytepool_read_stats(context, stats.as_mut_ptr()));
                }
                4 => drop(bytepool_trim(context, 0)),
                5 if dice >> 40 & 31 == 0 => may_be_gone(bytepool_close(context)),
                _ => {
                    let data = bytepool_get(context, SMALL);
                    if data.is_null() {
                        may_be_gone(bytepool_last_error());
                    } else {
                        // The buffer keeps the pool, so a freed context still puts.
                        assert_eq!(put_checked(context, data, SMALL), 0);
                    }
                }
            }
        }
    }

    // ---- a panic of rounding becomes a status ----

    #[test]
    fn a_panic_of_rounding_becomes_a_status_and_nothing_is_half_done() {
        let armed = Armed::new();
        let context = armed.pool.context();
        let context = context.as_ptr();
        let panicking = |call: usize, body: &dyn Fn()| {
            let before = armed.pool.stats();
            armed.left.store(call, SeqCst);
            body();
            assert_eq!(armed.left.swap(0, SeqCst), 0, "rounding {call} was not reached");
            assert_eq!(last_error(), Status::Panic);
            assert_eq!(armed.pool.stats(), before, "half done");
        };
        for size in SIZES {
            panicking(1, &|| assert!(bytepool_get(context, size).is_null()));
            panicking(1, &|| assert!(bytepool_calloc(context, 1, size).is_null()));
            panicking(1, &|| assert!(bytepool_get_aligned(context, 4096, size).is_null()));
            panicking(1, &|| {
                let source = vec![1u8; size];
                // SAFETY:
                // - readable for `size` bytes
                assert!(unsafe { bytepool_copy(context, source.as_ptr().cast(), size) }.is_null());
            });
            // SAFETY:
            // - NULL data is a get
            panicking(1, &|| assert!(unsafe { bytepool_realloc(context, ptr::null_mut(), size) }.is_null()));
        }
        let data = bytepool_get(context, 100);
        panicking(1, &|| assert_eq!(put_checked(context, data, 99), Status::Panic as i32));
        // SAFETY:
        // - this test's buffer, and it stays so when the call fails
        panicking(1, &|| assert!(unsafe { bytepool_realloc(context, data, LARGE) }.is_null()));
        assert_eq!(put_checked(context, data, 99), 0, "once rounding works again");
        assert_eq!(outstanding(&armed.pool.stats()), 0);
    }

    #[test]
    fn a_panic_of_rounding_in_a_get_of_many_leaves_none() {
        let armed = Armed::new();
        let context = armed.pool.context();
        for size in SIZES {
            for call in 1.. {
                let before = outstanding(&armed.pool.stats());
                let mut out = [ptr::null_mut(); 4];
                armed.left.store(call, SeqCst);
                // SAFETY:
                // - writable for four pointers
                let status = unsafe { bytepool_get_many(context.as_ptr(), size, out.as_mut_ptr(), 4) };
                armed.left.store(0, SeqCst);
                let after = outstanding(&armed.pool.stats());
                if status == 0 {
                    assert!(call > 1 && after == before + 4, "rounding was not called");
                    out.into_iter().for_each(|data| assert_eq!(put_checked(context.as_ptr(), data, size), 0));
                    break;
                }
                assert_eq!((status, last_error()), (Status::Panic as i32, Status::Panic));
                assert_eq!(after, before, "rounding {call} panicked: not all, yet not nothing");
                assert_eq!(out, [ptr::null_mut(); 4]);
            }
        }
    }
}
