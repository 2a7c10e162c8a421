//! Of all puts of a buffer that race between two gets exactly one wins, the bias owner's fast one included; each other is
//! refused before it returns, by every function that puts.
//!
//! A process of its own: threads meet within nanoseconds only where each has a processor, so no other suite may run
//! beside them.

use std::collections::HashSet;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;

use bytepool::{Pool, PooledBuffer};

#[path = "support/valgrind.rs"]
mod valgrind;

const SIZE: usize = 512;
/// Each has a bias of its own, so that most rounds find one.
const CLASSES: usize = 32;
/// After so many rounds all biases are over, and there is a new pool.
const ROUNDS_OF_A_POOL: usize = CLASSES * 40;

/// Lets threads go on together, within nanoseconds where each has a processor.
struct Start {
    arrived: AtomicUsize,
    threads: usize,
}

impl Start {
    fn wait(&self, round: usize) {
        self.arrived.fetch_add(1, SeqCst);
        let mut tries = 0_u64;
        while self.arrived.load(SeqCst) < (round + 1) * self.threads {
            tries += 1;
            assert!(tries < 1 << 26, "another thread is gone");
            if tries % 1000 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

fn size_of_class(class: usize) -> usize {
    SIZE + 64 * class
}

/// What threads race for.
struct Raced {
    pool: Pool,
    #[cfg(feature = "capi")]
    context: bytepool::Context,
}

impl std::ops::Deref for Raced {
    type Target = Pool;
    fn deref(&self) -> &Pool {
        &self.pool
    }
}

fn new_pool() -> Raced {
    let with_class = |builder: bytepool::Builder, class| builder.size_class(size_of_class(class), 64);
    let pool = (0..CLASSES).fold(Pool::builder(), with_class).build().unwrap();
    Raced {
        #[cfg(feature = "capi")]
        context: pool.context(),
        pool,
    }
}

/// So that this thread has a cache, with room in each class, and a bias.
fn warm(pool: &Raced) {
    for class in 0..CLASSES {
        drop([0; 3].map(|_| pool.get(size_of_class(class)).unwrap()));
    }
    #[cfg(feature = "capi")]
    c::warm(pool);
}

/// Puts, and says whether that won, knowing it when the function returned.
type Put = fn(&Raced, NonNull<u8>, usize) -> bool;

fn put_sized(pool: &Raced, data: NonNull<u8>, size: usize) -> bool {
    // SAFETY:
    // - the threads share the buffer, which nobody uses, and at most one gets it
    unsafe { pool.put_raw(data, size) }.is_ok()
}

/// With a size that is not the one asked for.
fn put_inexact(pool: &Raced, data: NonNull<u8>, size: usize) -> bool {
    // SAFETY: as above
    unsafe { pool.put_raw(data, size - 1) }.is_ok()
}

fn put_unsized(pool: &Raced, data: NonNull<u8>, _: usize) -> bool {
    // SAFETY: as above
    unsafe { pool.put_raw_unsized(data) }.is_ok()
}

/// By an owner, who puts it when dropped.
fn adopt(pool: &Raced, data: NonNull<u8>, size: usize) -> bool {
    // SAFETY: as above
    unsafe { PooledBuffer::from_raw(pool, data, size) }.is_ok()
}

#[cfg(feature = "capi")]
mod c {
    use super::*;
    use bytepool::ffi::capi::*;
    use bytepool::ffi::misuse::Report;
    use std::ffi::c_void;

    thread_local! {
        static REPORTS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    unsafe extern "C" fn report(_: *const Report, _: *mut c_void) {
        REPORTS.set(REPORTS.get() + 1);
    }

    pub(super) fn count_reports() {
        // SAFETY:
        // - the handler takes any data
        unsafe { bytepool_set_misuse_handler(Some(report), ptr::null_mut()) };
    }

    /// So that the context leads to this thread's cache.
    pub(super) fn warm(pool: &Raced) {
        let data = bytepool_get(pool.context.as_ptr(), SIZE);
        // SAFETY:
        // - just got
        unsafe { bytepool_put(pool.context.as_ptr(), data, SIZE) };
    }

    /// Whether a put won that returns nothing: the handler is called on this thread before it returns.
    fn is_unreported(put: impl FnOnce()) -> bool {
        let before = REPORTS.get();
        put();
        assert!(REPORTS.get() <= before + 1);
        REPORTS.get() == before
    }

    /// What returns a status calls the handler as well.
    fn is_ok(put: impl FnOnce() -> i32) -> bool {
        let mut status = 0;
        let won = is_unreported(|| status = put());
        assert_eq!(won, status == 0, "status {status}");
        won
    }

    pub(super) fn put(pool: &Raced, data: NonNull<u8>, size: usize) -> bool {
        // SAFETY: as above
        is_unreported(|| unsafe { bytepool_put(pool.context.as_ptr(), data.as_ptr().cast(), size) })
    }

    pub(super) fn put_unsized(pool: &Raced, data: NonNull<u8>, _: usize) -> bool {
        // SAFETY: as above
        is_unreported(|| unsafe { bytepool_put_unsized(pool.context.as_ptr(), data.as_ptr().cast()) })
    }

    pub(super) fn put_checked(pool: &Raced, data: NonNull<u8>, size: usize) -> bool {
        // SAFETY: as above
        is_ok(|| unsafe { bytepool_put_checked(pool.context.as_ptr(), data.as_ptr().cast(), size) })
    }

    /// Among buffers of its own, so that the cache's run of many meets it in the middle.
    pub(super) fn put_many(pool: &Raced, data: NonNull<u8>, size: usize) -> bool {
        let [first, last] = [(); 2].map(|()| pool.get_raw(size).unwrap().as_ptr().cast());
        let all = [first, data.as_ptr().cast(), last];
        // SAFETY: as above; the array has three pointers
        is_ok(|| unsafe { bytepool_put_many(pool.context.as_ptr(), all.as_ptr(), all.len(), size) })
    }
}

const RUST: [(&str, Put); 4] =
    [("sized", put_sized), ("inexact", put_inexact), ("unsized", put_unsized), ("adopt", adopt)];
#[cfg(feature = "capi")]
const C: [(&str, Put); 4] =
    [("C", c::put), ("C, unsized", c::put_unsized), ("C, checked", c::put_checked), ("C, many", c::put_many)];

/// What a warm thread gets is biased to it, so that its put may be a fast one.
fn assert_that_rounds_begin_with_a_bias() {
    let pool = new_pool();
    warm(&pool);
    if pool.stats().classes[0].cached == 0 {
        return; // buffers are replacements
    }
    // Else the system may have no heavy fence, and nothing is biased.
    let ends = u64::from(cfg!(all(target_os = "linux", not(bytepool_portable))));
    for class in 0..CLASSES {
        let data = pool.get_raw(size_of_class(class)).unwrap().as_ptr().expose_provenance();
        let put = || {
            let data = NonNull::new(ptr::with_exposed_provenance_mut(data)).unwrap();
            put_sized(&pool, data, size_of_class(class))
        };
        assert!(thread::scope(|scope| scope.spawn(put).join().unwrap()));
        assert_eq!(pool.stats().classes[class].bias_ends, ends);
    }
}

/// The first thread gets; then it and the others put, each after a pause of its own, which varies.
fn race(name: &str, rounds: usize, others: usize, puts: &[Put]) {
    let threads = others + 1;
    let start = [(); 3].map(|()| Start { arrived: AtomicUsize::new(0), threads });
    let (address, pool) = (AtomicUsize::new(0), RwLock::new(new_pool()));
    let won = AtomicUsize::new(0);
    let finish = |pool: &Raced| {
        let stats = pool.stats();
        stats.assert_consistent();
        // No slot has two places among the idle ones.
        for class in 0..CLASSES {
            let all: Vec<_> = (0..64).map(|_| pool.get_raw(size_of_class(class)).unwrap()).collect();
            let different: HashSet<_> = all.iter().collect();
            assert_eq!(different.len(), all.len(), "{name}: a slot has two owners");
            for data in all {
                // SAFETY:
                // - this test's buffer
                unsafe { pool.put_raw(data, size_of_class(class)) }.unwrap();
            }
        }
    };
    let racer = |number: usize| {
        warm(&pool.read().unwrap());
        for round in 0..rounds {
            let size = size_of_class(round % CLASSES);
            start[0].wait(round);
            if number == 0 {
                if round % ROUNDS_OF_A_POOL == ROUNDS_OF_A_POOL - 1 {
                    let mut pool = pool.write().unwrap();
                    finish(&pool);
                    *pool = new_pool();
                    warm(&pool);
                }
                let pool = pool.read().unwrap();
                address.store(pool.get_raw(size).unwrap().as_ptr().expose_provenance(), SeqCst);
                won.store(0, SeqCst);
            }
            start[1].wait(round);
            let pool = pool.read().unwrap();
            let data = NonNull::new(ptr::with_exposed_provenance_mut(address.load(SeqCst))).unwrap();
            for _ in 0..(round * (number + 1)) % 23 {
                std::hint::spin_loop();
            }
            if puts[(round / CLASSES + number) % puts.len()](&pool, data, size) {
                won.fetch_add(1, SeqCst);
            }
            drop(pool);
            start[2].wait(round);
            // All have returned.
            assert_eq!(won.load(SeqCst), 1, "{name}: winners of round {round}");
        }
    };
    let racer = &racer;
    thread::scope(|scope| {
        let racers: Vec<_> = (0..threads).map(|number| scope.spawn(move || racer(number))).collect();
        // A scope does not wait for the ends of its threads' locals, a join does.
        racers.into_iter().for_each(|racer| racer.join().unwrap());
    });
    finish(&pool.read().unwrap());
}

/// One race at a time, and as many rounds of each: a million with `BYTEPOOL_RACES`, as `tests/long` has it, and less in
/// the gate, which runs other things beside.
fn race_all(others: usize, functions: &[(&str, Put)]) {
    static RACING: Mutex<()> = Mutex::new(());
    let _racing = RACING.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(feature = "capi")]
    c::count_reports();
    let asked_for = |name| std::env::var_os(name).is_some();
    let usual = if cfg!(bytepool_sanitized) { 1_000 } else { 6_000 };
    let rounds = match (asked_for("BYTEPOOL_RACES"), asked_for("CI")) {
        (true, _) => 1_000_000,
        (false, true) => valgrind::rounds(2 * usual),
        (false, false) => valgrind::rounds(usual),
    };
    // Where threads have no processor each, a round takes many times as long.
    let rounds = rounds / if others == 1 { 1 } else { 10 };
    assert_that_rounds_begin_with_a_bias();
    for (name, put) in functions {
        race(name, rounds, others, &[*put]);
    }
    let puts: Vec<Put> = functions.iter().map(|&(_, put)| put).collect();
    race("mixed", rounds, others, &puts);
}

#[test]
fn the_getter_against_one_other_thread() {
    race_all(1, &RUST);
}

#[test]
fn the_getter_against_three_other_threads() {
    race_all(3, &RUST);
}

#[cfg(feature = "capi")]
#[test]
fn the_getter_against_one_other_thread_in_c() {
    race_all(1, &C);
}
