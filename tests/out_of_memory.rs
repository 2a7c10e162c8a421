//! An allocator that fails: the first allocation, then only the second, and so on through a whole life of a
//! pool. Each failure is an error, nothing is lost, and the pool works on.
//!
//! Mappings that fail, and C's allocator, are `tests/c/out_of_memory.c`'s.

#![cfg(feature = "capi")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicIsize;
use std::sync::atomic::Ordering::Relaxed;

use bytepool::ffi::capi::*;
use bytepool::ffi::status::Status;
use bytepool::{BuildError, ContextError, GetError, Pool, PooledBuffer, ReallocError};

// ---- the allocator ----

/// Fails one allocation of a thread that asks for it. What a thread just freed it can have again: some
/// containers end the process when they get no memory, and the library asks for theirs before.
struct Failing;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Bytes allocated by threads while they ask for failures, less those they freed.
static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// Allocations until the one that fails; `None` outside the scenario.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    static FAILURES: Cell<usize> = const { Cell::new(0) };
    static JUST_FREED: Cell<usize> = const { Cell::new(0) };
}

fn fails(size: usize) -> bool {
    let Some(left) = LEFT.get() else { return false };
    if JUST_FREED.replace(0).checked_sub(size).is_some_and(|rest| rest <= 64) {
        return false;
    }
    LEFT.set(Some(left.wrapping_sub(1)));
    if left == 0 {
        FAILURES.set(FAILURES.get() + 1);
    }
    left == 0
}

fn count(bytes: isize) {
    if LEFT.get().is_some() {
        LIVE.fetch_add(bytes, Relaxed);
    }
}

// SAFETY:
// - the system's allocator, or nothing
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: as the caller promised
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        JUST_FREED.set(layout.size());
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised
        unsafe { System.dealloc(data, layout) }
    }
}

/// Runs with the allocation number `nth` (from 0) failing; whether it came to that.
fn failing<R>(nth: usize, run: impl FnOnce() -> R) -> (R, bool) {
    FAILURES.set(0);
    LEFT.set(Some(nth));
    let result = run();
    LEFT.set(None);
    (result, FAILURES.get() > 0)
}

/// Without failures inside the scenario.
fn undisturbed<R>(run: impl FnOnce() -> R) -> R {
    let left = LEFT.replace(Some(usize::MAX));
    let result = run();
    LEFT.set(left);
    result
}

// ---- a pool's life ----

const CLASSES: [(usize, usize); 3] = [(512, 64), (4096, 4), (256 << 10, 2)];

/// A pinned pool's overflow is the system allocator's.
fn build(pinned: bool) -> Option<Pool> {
    let builder =
        CLASSES.iter().fold(Pool::builder(), |builder, &(size, count)| builder.size_class(size, count));
    let offset = std::hint::black_box(0);
    match builder.round(move |size| size + offset).pinned(pinned).build() {
        Ok(pool) => Some(pool),
        Err(BuildError::OutOfMemory { bytes }) => {
            assert!(bytes > 0);
            None
        }
        // There the region is an allocation, too.
        Err(BuildError::Reserve { .. }) if cfg!(any(not(unix), bytepool_portable)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn got<T>(result: Result<T, GetError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(GetError::OutOfMemory { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// As many as are got, at most so many; for lack of a `Vec`, which needs memory.
fn get_some<const N: usize>(pool: &Pool, size: usize) -> [Option<PooledBuffer>; N] {
    std::array::from_fn(|_| got(pool.get(size)))
}

fn live(pool: &Pool) {
    // Slots and overflow, cached and not; oversize.
    let held: [_; 6] = get_some(pool, 4000);
    drop(get_some::<40>(pool, 100));
    drop(get_some::<4>(pool, 200 << 10));
    drop(get_some::<2>(pool, 300 << 10));
    drop(got(pool.get_zeroed(300)));
    drop(got(pool.copy(&[1; 100])));
    drop(pool.clone());
    if let Some(data) = got(pool.get_raw(100)) {
        // SAFETY:
        // - this function's buffer
        unsafe { reallocate(pool, data) };
    }
    pool.stats().assert_consistent();
    pool.trim(0);
    drop(held);
    through_c(pool);
}

/// # Safety
/// - `data` is a buffer of the caller's of 100 bytes
unsafe fn reallocate(pool: &Pool, data: NonNull<u8>) {
    // SAFETY:
    // - the caller's buffer
    unsafe {
        data.write_bytes(7, 100);
        let (data, size) = match pool.realloc_raw(data, 100_000) {
            Ok(data) => (data, 100_000),
            Err(ReallocError::Get(GetError::OutOfMemory { .. })) => (data, 100),
            Err(error) => panic!("{error}"),
        };
        assert!((0..100).all(|i| data.add(i).read() == 7));
        // One that is oversize moves, and is where it was if it cannot.
        let (data, size) = match pool.realloc_raw(data, 300_000) {
            Ok(data) => (data, 300_000),
            Err(ReallocError::Get(GetError::OutOfMemory { .. })) => (data, size),
            Err(error) => panic!("{error}"),
        };
        assert!((0..100).all(|i| data.add(i).read() == 7));
        assert_eq!(pool.put_raw(data, size), Ok(()));
    }
}

/// A NULL says why.
fn put_or_say_why(context: *mut c_void, data: *mut c_void, size: usize) {
    if data.is_null() {
        assert_eq!(bytepool_last_error(), Status::OutOfMemory as i32);
    }
    // SAFETY:
    // - this function's buffer, or NULL
    assert_eq!(unsafe { bytepool_put_checked(context, data, size) }, Status::Ok as i32);
}

fn through_c(pool: &Pool) {
    let context = match pool.try_context() {
        Ok(context) => context,
        Err(ContextError::OutOfMemory) => return,
        Err(error) => panic!("{error}"),
    };
    let raw = context.as_ptr();
    for size in [0, 100, 4000, 200 << 10, 300 << 10] {
        put_or_say_why(raw, bytepool_get(raw, size), size);
        put_or_say_why(raw, bytepool_calloc(raw, 1, size), size);
        put_or_say_why(raw, bytepool_get_aligned(raw, 8192, size), size);
    }
    let mut many = [ptr::null_mut(); 10];
    let mut clone = ptr::null_mut();
    let mut stats: CStats = CStats::from(&pool.stats());
    // SAFETY:
    // - all locals of this function
    unsafe {
        let status = bytepool_get_many(raw, 4000, many.as_mut_ptr(), many.len());
        assert!(status == Status::Ok as i32 || status == Status::OutOfMemory as i32);
        assert!((status == Status::Ok as i32) != many.contains(&ptr::null_mut()));
        assert_eq!(bytepool_put_many(raw, many.as_ptr(), many.len(), 4000), Status::Ok as i32);

        let status = bytepool_clone(raw, &raw mut clone);
        assert!(status == Status::Ok as i32 || (status == Status::OutOfMemory as i32 && clone.is_null()));
        assert_eq!(bytepool_read_stats(raw, &raw mut stats), Status::Ok as i32, "figures need no memory");
    }
    if !clone.is_null() {
        bytepool_free(clone);
    }
}

/// After a failure, with memory again: nothing was lost, and everything works.
fn check_works(pool: &Pool) {
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.gets, stats.oversize_buffers), (stats.puts, 0));
    let before = stats.system_allocations;
    for &(size, count) in &CLASSES {
        let held: Vec<_> = (0..count).map(|_| pool.get(size).unwrap()).collect();
        drop(held);
    }
    assert_eq!(pool.stats().system_allocations, before, "slots were lost");
    drop(pool.get(1 << 20).unwrap());
    drop(pool.try_context().unwrap());
}

/// A whole life, on a thread of its own, with one failure in it; whether there was one.
fn life(pinned: bool, nth: usize) -> bool {
    let whole_life = move || {
        let whole_life = || {
            let Some(pool) = build(pinned) else { return };
            live(&pool);
            undisturbed(|| check_works(&pool));
            live(&pool);
            undisturbed(|| check_works(&pool));
            let last = got(pool.get(100));
            pool.close();
            assert!(matches!(pool.get(100), Err(GetError::Closed)));
            drop(pool);
            drop(last);
        };
        failing(nth, whole_life).1
    };
    std::thread::spawn(whole_life).join().unwrap()
}

#[test]
fn the_nth_allocation_fails_for_every_n() {
    for pinned in [false, true] {
        // What is made once per process is made in the first round, and stays.
        let first_round = (0..).take_while(|&nth| life(pinned, nth)).count();
        let before = LIVE.load(Relaxed);
        let second_round = (0..).take_while(|&nth| {
            let failed = life(pinned, nth);
            assert_eq!(LIVE.load(Relaxed), before, "allocation {nth} failed, and memory was lost");
            failed
        });
        let second_round = second_round.count();
        assert!(
            second_round > 20 && first_round >= second_round,
            "{first_round} and {second_round} allocations"
        );
        println!("{first_round} allocations at first, then {second_round}");
    }
}
