//! `max_bytes`: exact under any number of threads, and no idle slot makes a get fail.
//!
//! Slot sizes here are multiples of 64 KiB, so that every idle slot is whole pages, whatever the system's
//! page size.

use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use bytepool::{GetError, Pool, PooledBuffer};

use crate::valgrind;

const UNIT: usize = 64 << 10;
const THREADS: usize = 16;

/// Whether idle slots can be given up for other classes: the portable region cannot give pages back.
const GIVES_UP: bool = cfg!(all(unix, not(bytepool_portable)));

fn limit_failures(pool: &Pool) -> u64 {
    let stats = pool.stats();
    stats.assert_consistent();
    stats.limit_failures
}

/// The failure of a get that must fail at the limit and change nothing but its count.
fn refused(pool: &Pool, size: usize) -> GetError {
    let mut expected = pool.stats();
    let error = pool.get(size).expect_err("a get beyond the limit succeeded");
    let after = pool.stats();
    expected.limit_failures += 1;
    // The books of a slot that was looked at in vain.
    assert!(after.bookkeeping_bytes - expected.bookkeeping_bytes <= 2 * (64 << 10));
    expected.bookkeeping_bytes = after.bookkeeping_bytes;
    assert_eq!(after, expected);
    error
}

#[test]
fn the_error_names_limit_mapped_and_requested_bytes() {
    let pool = Pool::builder().size_class(UNIT - 7, 10).max_bytes(3 * UNIT + 123).build().unwrap();
    let _held: Vec<_> = (0..3).map(|_| pool.get(1).unwrap()).collect();
    let expected = |requested| GetError::Limit { limit: 3 * UNIT + 123, mapped: 3 * UNIT, requested };
    for (size, requested) in [(1, UNIT), (UNIT - 7, UNIT), (UNIT, UNIT), (124 + UNIT, 124 + UNIT)] {
        let error = refused(&pool, size);
        assert_eq!(error, expected(requested));
        let message = error.to_string();
        for figure in [3 * UNIT + 123, 3 * UNIT, requested] {
            assert!(
                message.split(|c: char| !c.is_ascii_digit()).any(|n| n == figure.to_string()),
                "{message}"
            );
        }
    }
    assert_eq!(limit_failures(&pool), 4);
}

#[test]
fn the_limit_is_exact_to_the_byte() {
    let of = |max_bytes| Pool::builder().size_class(UNIT, 10).max_bytes(max_bytes).build().unwrap();
    let gets = |pool: &Pool| std::iter::from_fn(|| pool.get(UNIT).ok()).collect::<Vec<_>>();
    assert_eq!(gets(&of(3 * UNIT - 1)).len(), 2);
    assert_eq!(gets(&of(3 * UNIT)).len(), 3);
    assert_eq!(gets(&of(3 * UNIT + 1)).len(), 3);
    // What is left serves oversize; slots count as slots, not as what was asked for.
    let pool = Pool::builder().size_class(100, 10).max_bytes(3 * 128 + 50).build().unwrap();
    let _held: Vec<_> = (0..3).map(|_| pool.get(1).unwrap()).collect();
    assert_eq!(pool.stats().mapped_bytes, 3 * 128);
    refused(&pool, 1);
    let pool = Pool::builder().max_bytes(50).build().unwrap();
    refused(&pool, 51);
    let _held = pool.get(50).unwrap();
    refused(&pool, 1);
    assert_eq!(pool.get(0).unwrap().len(), 0, "no byte more is no byte too many");
}

#[test]
fn no_limit_is_no_limit_and_is_shown_as_zero() {
    let pool = Pool::builder().size_class(UNIT, 2).build().unwrap();
    let _held: Vec<_> = (0..20).map(|_| pool.get(UNIT).unwrap()).collect();
    assert_eq!((pool.stats().max_bytes, limit_failures(&pool)), (0, 0));
    let pool = Pool::builder().size_class(UNIT, 2).max_bytes(5 * UNIT).build().unwrap();
    assert_eq!(pool.stats().max_bytes, 5 * UNIT);
}

#[test]
fn overflow_and_oversize_count_and_are_freed_for_others() {
    let pool = Pool::builder().size_class(UNIT, 1).max_bytes(4 * UNIT).build().unwrap();
    let pooled = pool.get(UNIT).unwrap();
    let overflow = pool.get(UNIT).unwrap();
    let oversize = pool.get(2 * UNIT).unwrap();
    assert_eq!(pool.stats().mapped_bytes, 4 * UNIT);
    refused(&pool, UNIT);
    refused(&pool, UNIT + 1);
    drop(overflow);
    let one_more = pool.get(UNIT).unwrap();
    refused(&pool, UNIT);
    drop(oversize);
    let two_more = [pool.get(UNIT).unwrap(), pool.get(UNIT).unwrap()];
    refused(&pool, UNIT);
    drop((pooled, one_more, two_more));
    // What overflowed as slots may be kept a while.
    let most = if GIVES_UP { 4 } else { 1 };
    let idle = pool.stats().classes[0].idle;
    assert_eq!(pool.stats().mapped_bytes, idle * UNIT);
    assert!((1..=most).contains(&idle), "the slot is kept");
    assert_eq!(limit_failures(&pool), 4);
}

#[test]
fn a_rounded_request_counts_as_rounded() {
    let pool = Pool::builder().max_bytes(1000).round(|size| size.next_multiple_of(600)).build().unwrap();
    let held = pool.get(1).unwrap();
    assert_eq!(pool.stats().mapped_bytes, 600);
    assert_eq!(refused(&pool, 1), GetError::Limit { limit: 1000, mapped: 600, requested: 600 });
    drop(held);
    pool.get(600).unwrap();
}

#[test]
fn an_idle_slot_of_the_own_class_is_used_at_the_limit() {
    let pool = Pool::builder().size_class(UNIT, 5).max_bytes(2 * UNIT).build().unwrap();
    let (a, b) = (pool.get(UNIT).unwrap(), pool.get(UNIT).unwrap());
    let address = a.as_ptr();
    drop(a);
    for _ in 0..10 {
        assert!(pool.get(UNIT).unwrap().as_ptr() == address || valgrind::replacements());
    }
    drop(b);
    assert_eq!((limit_failures(&pool), pool.stats().mapped_bytes), (0, 2 * UNIT));
}

#[test]
fn idle_slots_of_other_classes_are_given_up_for_a_get_and_come_back_as_zeros() {
    let builder = Pool::builder().size_class(UNIT, 8).size_class(4 * UNIT, 2);
    let pool = builder.max_bytes(8 * UNIT).build().unwrap();
    let mut small: Vec<_> = (0..8).map(|_| pool.get(UNIT).unwrap()).collect();
    small.iter_mut().for_each(|buffer| buffer.fill(0xEE));
    small.truncate(3);
    let error = if GIVES_UP { None } else { pool.get(4 * UNIT).err() };
    if let Some(error) = error {
        return assert_eq!(error, GetError::Limit { limit: 8 * UNIT, mapped: 8 * UNIT, requested: 4 * UNIT });
    }

    let large = pool.get(4 * UNIT).unwrap();
    let stats = pool.stats();
    stats.assert_consistent();
    assert!(stats.mapped_bytes <= 8 * UNIT);
    assert_eq!((stats.classes[0].outstanding, stats.classes[1].outstanding), (3, 1));
    assert!(stats.classes[0].idle <= 1, "5 were idle, 4 had to go");
    assert!(small.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0xEE)), "nobody's bytes changed");
    refused(&pool, 4 * UNIT + 1);

    drop(large);
    // The other way: the large slot is given up for small ones.
    let more: Vec<_> = (0..5).map(|_| pool.get(UNIT).unwrap()).collect();
    assert!(more.iter().filter(|buffer| buffer.iter().all(|&byte| byte == 0)).count() >= 4);
    assert_eq!(pool.stats().classes[1].idle, 0);
    assert_eq!(limit_failures(&pool), 1);
}

#[test]
fn idle_slots_of_every_class_are_given_up_for_oversize() {
    let builder = Pool::builder().size_class(UNIT, 3).size_class(2 * UNIT, 2).size_class(3 * UNIT, 1);
    let pool = builder.max_bytes(10 * UNIT).build().unwrap();
    let fill = || {
        let sizes = [UNIT, UNIT, UNIT, 2 * UNIT, 2 * UNIT, 3 * UNIT];
        drop(sizes.map(|size| pool.get(size).unwrap()));
        assert_eq!(pool.stats().mapped_bytes, 10 * UNIT);
    };
    fill();
    if !GIVES_UP {
        return assert!(matches!(pool.get(10 * UNIT), Err(GetError::Limit { .. })));
    }
    let all = pool.get(10 * UNIT).unwrap();
    assert_eq!((pool.stats().mapped_bytes, pool.stats().oversize_buffers), (10 * UNIT, 1));
    drop(all);
    fill();
    assert_eq!(limit_failures(&pool), 0);
}

#[test]
fn idle_slots_that_sleeping_threads_keep_are_recovered() {
    let pool =
        Pool::builder().size_class(UNIT, 32).size_class(4 * UNIT, 8).max_bytes(24 * UNIT).build().unwrap();
    let (kept, done) = (Barrier::new(5), Barrier::new(5));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    drop([0; 6].map(|_| pool.get(UNIT).unwrap()));
                }
                kept.wait();
                // Whatever this thread keeps, it sleeps on it.
                done.wait();
            });
        }
        kept.wait();
        let stop_sleeping = WaitOnDrop(&done);
        let idle = pool.stats().classes[0].idle;
        assert!((1..=24).contains(&idle));
        // All of its own class first, then the rest of the limit.
        let held: Vec<_> = (0..24).map(|_| pool.get(UNIT).unwrap()).collect();
        assert_eq!(pool.stats().mapped_bytes, 24 * UNIT);
        refused(&pool, UNIT);
        drop(held);
        if GIVES_UP {
            // And for another class.
            drop([0; 6].map(|_| pool.get(4 * UNIT).unwrap()));
        }
        drop(stop_sleeping);
    });
    assert_eq!(limit_failures(&pool), 1);
}

/// Runs `body` while another thread sleeps that did `first`.
fn beside_a_sleeper(first: impl FnOnce() + Send, body: impl FnOnce()) {
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            first();
            ready.wait();
            done.wait();
        });
        ready.wait();
        let _stop_sleeping = WaitOnDrop(&done);
        body();
    });
}

#[test]
fn slots_of_the_own_class_come_first_and_then_those_of_others() {
    let pool =
        Pool::builder().size_class(UNIT, 32).size_class(2 * UNIT, 8).max_bytes(10 * UNIT).build().unwrap();
    let use_and_put = || {
        (0..20).for_each(|_| drop([0; 4].map(|_| pool.get(UNIT).unwrap())));
        drop([0; 3].map(|_| pool.get(2 * UNIT).unwrap()));
    };
    beside_a_sleeper(use_and_put, || {
        let idle = || pool.stats().classes.iter().map(|class| class.idle).collect::<Vec<_>>();
        assert_eq!((idle(), pool.stats().mapped_bytes), (vec![4, 3], 10 * UNIT));
        let held = [0; 4].map(|_| pool.get(UNIT).unwrap());
        assert_eq!(idle(), [0, 3], "slots of another class went although the own one had some");
        let more = GIVES_UP.then(|| pool.get(UNIT).unwrap());
        assert!(!GIVES_UP || idle()[1] < 3);
        drop((held, more));
    });
    assert_eq!(limit_failures(&pool), 0);
}

#[test]
fn oversize_recovers_what_sleeping_threads_keep() {
    let pool = Pool::builder().size_class(UNIT, 32).max_bytes(8 * UNIT).build().unwrap();
    let use_and_put = || (0..20).for_each(|_| drop([0; 8].map(|_| pool.get(UNIT).unwrap())));
    beside_a_sleeper(use_and_put, || {
        assert_eq!(pool.stats().classes[0].idle, 8);
        assert_eq!(pool.get(8 * UNIT).is_ok(), GIVES_UP);
    });
}

/// Slots that a thread put for another are in its cache: a get at the limit finds them.
#[test]
fn what_a_sleeping_thread_put_for_another_is_recovered() {
    const COUNT: usize = 40;
    let pool = Pool::builder().size_class(4096, COUNT).max_bytes(COUNT << 12).build().unwrap();
    // So that they come from this thread's cache, biased to this thread.
    (0..200).for_each(|_| drop((0..COUNT).map(|_| pool.get(4096).unwrap()).collect::<Vec<_>>()));
    let raw: Vec<usize> =
        (0..COUNT).map(|_| pool.get_raw(4096).unwrap().as_ptr().expose_provenance()).collect();
    let put_all = || {
        (0..200).for_each(|_| drop(pool.get(100).ok()));
        for &address in &raw {
            let data = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
            // SAFETY:
            // - this test's buffer, put once
            unsafe { pool.put_raw(data, 4096) }.unwrap();
        }
    };
    beside_a_sleeper(put_all, || {
        let again: Vec<_> = (0..COUNT).map(|_| pool.get(4096)).collect();
        assert!(again.iter().all(Result::is_ok), "{:?}", pool.stats());
    });
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.double_puts, stats.gets), (0, stats.puts));
}

/// What DESIGN.md names: an idle slot that shares a page with an outstanding one is of use to its own class only,
/// until its neighbours are put.
#[test]
fn a_slot_that_shares_a_page_is_of_use_to_its_own_class_until_it_has_the_page_alone() {
    if !GIVES_UP {
        return;
    }
    // A class each for a page and for slots of 64 bytes, 64 KiB of them.
    let pool = Pool::builder().size_class(64, UNIT / 64).size_class(UNIT, 1).max_bytes(UNIT).build().unwrap();
    let mut small: Vec<_> = (0..UNIT / 64).map(|_| pool.get(64).unwrap()).collect();
    let one_of_each_page = |index: usize| index % 16 == 0;
    let mut kept = Vec::new();
    for (index, buffer) in small.drain(..).enumerate() {
        if one_of_each_page(index) {
            kept.push(buffer);
        }
    }
    assert!(matches!(pool.get(UNIT), Err(GetError::Limit { .. })));
    let idle = pool.stats().classes[0].idle;
    assert_eq!(idle, UNIT / 64 - kept.len());
    let again: Vec<_> = (0..idle).map(|_| pool.get(64).unwrap()).collect();
    refused(&pool, 64);
    drop((kept, again));
    pool.get(UNIT).unwrap();
    assert_eq!(limit_failures(&pool), 2);
}

/// Lets threads that wait go on, also when the test fails.
struct WaitOnDrop<'a>(&'a Barrier);

impl Drop for WaitOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[test]
fn a_request_that_can_never_fit_gives_up_nothing() {
    let pool = Pool::builder().size_class(UNIT, 4).max_bytes(4 * UNIT).build().unwrap();
    drop([0; 4].map(|_| pool.get(UNIT).unwrap()));
    refused(&pool, 4 * UNIT + 1);
    assert_eq!(pool.stats().classes[0].idle, 4);
    assert!(matches!(pool.get(usize::MAX), Err(GetError::OutOfMemory { requested: usize::MAX })));
    assert!(matches!(pool.get(isize::MAX as usize - 100), Err(GetError::Limit { .. })) || !GIVES_UP);
    assert_eq!(pool.stats().classes[0].idle, 4);
}

#[test]
fn the_pool_works_on_after_failures() {
    let pool = Pool::builder().size_class(UNIT, 2).max_bytes(3 * UNIT).build().unwrap();
    for round in 0..100 {
        let held = [0; 3].map(|_| pool.get(UNIT).unwrap());
        for size in [UNIT, 1, UNIT + 1, 3 * UNIT, 1 << 40] {
            refused(&pool, size);
        }
        assert!(held.iter().all(|buffer| buffer.len() == UNIT));
        assert_eq!(limit_failures(&pool), 5 * (round + 1));
    }
    let stats = pool.stats();
    // Of three that were out, the one beyond the capacity is kept a while where it is a slot.
    let kept = if GIVES_UP { 3 } else { 2 };
    assert_eq!((stats.gets, stats.puts, stats.mapped_bytes), (300, 300, kept * UNIT));
}

#[test]
fn raw_zeroed_and_copying_gets_fail_alike() {
    let pool = Pool::builder().size_class(UNIT, 2).max_bytes(UNIT).build().unwrap();
    let _held = pool.get(UNIT).unwrap();
    let expected = GetError::Limit { limit: UNIT, mapped: UNIT, requested: UNIT };
    assert_eq!(pool.get_raw(1).unwrap_err(), expected);
    assert_eq!(pool.get_zeroed(1).unwrap_err(), expected);
    assert_eq!(pool.copy(b"x").unwrap_err(), expected);
    assert_eq!(limit_failures(&pool), 3);
}

/// Sixteen threads that start together.
fn in_sixteen_threads<T: Send>(body: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS);
    let body = |thread| {
        start.wait();
        body(thread)
    };
    let body = &body;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || body(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sixteen_threads_get_exactly_as_many_buffers_as_fit() {
    for round in 0..50 {
        // Slots first, then overflow; the odd byte serves nobody.
        let pool = Pool::builder().size_class(UNIT, 20).max_bytes(45 * UNIT + 1).build().unwrap();
        let held = in_sixteen_threads(|_| {
            let mut held: Vec<PooledBuffer> = Vec::new();
            loop {
                match pool.get(UNIT - round) {
                    Ok(buffer) => held.push(buffer),
                    Err(GetError::Limit { limit, requested, .. }) => {
                        assert_eq!((limit, requested), (45 * UNIT + 1, UNIT));
                        return held;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 45);
        let stats = pool.stats();
        assert_eq!((stats.mapped_bytes, limit_failures(&pool)), (45 * UNIT, THREADS as u64));
        // A get that fails may keep a fresh slot from another for a moment.
        let class = stats.classes[0];
        assert_eq!(class.outstanding + class.overflow, 45);
        assert!((1..=20).contains(&class.outstanding));
    }
}

/// Ends the watcher, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// Runs sixteen threads that get and put at random with these sizes, while a seventeenth watches the limit.
fn storm(pool: &Pool, sizes: &[usize], gets: usize) -> usize {
    let gets = valgrind::rounds(gets);
    let (running, failures) = (AtomicBool::new(true), AtomicUsize::new(0));
    let limit = pool.stats().max_bytes;
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut highest = 0;
            while running.load(SeqCst) {
                highest = highest.max(pool.stats().mapped_bytes);
            }
            highest
        });
        let stop = Stop(&running);
        in_sixteen_threads(|thread| {
            let mut random = (thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            for _ in 0..gets {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let size = sizes[(random >> 33) as usize % sizes.len()];
                match pool.get(size) {
                    Ok(mut buffer) => {
                        let mark = thread as u8 + 1;
                        (buffer[0], buffer[size - 1]) = (mark, mark);
                        // On few cores others would hardly ever run while this thread holds a buffer.
                        std::thread::yield_now();
                        assert_eq!((buffer[0], buffer[size - 1]), (mark, mark), "a buffer with two owners");
                    }
                    Err(GetError::Limit { .. }) => drop(failures.fetch_add(1, SeqCst)),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        drop(stop);
        let highest = watcher.join().unwrap();
        assert!(highest <= limit, "{highest} bytes were mapped, the limit is {limit}");
    });
    let failures = failures.into_inner();
    assert_eq!(limit_failures(pool), failures as u64, "every failure is counted");
    let stats = pool.stats();
    assert_eq!(stats.gets + failures as u64, (THREADS * gets) as u64);
    assert_eq!(stats.gets, stats.puts);
    failures
}

#[test]
fn the_limit_holds_at_every_moment_whatever_sixteen_threads_do() {
    let builder = Pool::builder().size_class(UNIT, 3).size_class(2 * UNIT, 3);
    let pool = builder.max_bytes(11 * UNIT).build().unwrap();
    storm(&pool, &[1, UNIT, 2 * UNIT, 3 * UNIT, UNIT + 1], 700);
    if GIVES_UP {
        // And all of it can be had afterwards, in one piece or in slots.
        drop(pool.get(11 * UNIT).unwrap());
        drop([0; 5].map(|_| pool.get(2 * UNIT).unwrap()));
    }
}

#[test]
fn with_room_for_a_buffer_of_each_thread_no_get_of_one_class_fails() {
    // Each of 16 threads holds one buffer at most, and 16 fit: 12 slots, and 4 of overflow.
    let pool = Pool::builder().size_class(UNIT, 12).max_bytes(16 * UNIT).build().unwrap();
    let failures = storm(&pool, &[UNIT], 1000);
    assert_eq!(failures, 0, "gets failed although there was room or an idle slot at every moment");
}

#[test]
fn with_room_for_a_buffer_of_each_thread_no_get_of_two_classes_fails() {
    if !GIVES_UP {
        return; // idle slots of the other class cannot be given up
    }
    // Slots of both classes have one size, by their alignment.
    let sizes: Vec<usize> = (0..8).map(|n| UNIT - n).collect();
    let builder = sizes.iter().fold(Pool::builder(), |b, &size| b.size_class(size, 20)).alignment(UNIT);
    let pool = builder.max_bytes(16 * UNIT).build().unwrap();
    let failures = storm(&pool, &sizes, 2000);
    assert_eq!(failures, 0, "gets failed although there was room or an idle slot at every moment");
}

#[test]
fn raw_buffers_count_as_others_do() {
    let pool = Pool::builder().size_class(UNIT, 1).max_bytes(2 * UNIT).build().unwrap();
    let raw: Vec<NonNull<u8>> = (0..2).map(|_| pool.get_raw(UNIT).unwrap()).collect();
    refused(&pool, UNIT);
    for data in raw {
        // SAFETY:
        // - this test's buffer, put once
        unsafe { pool.put_raw(data, UNIT) }.unwrap();
    }
    drop([0; 2].map(|_| pool.get(UNIT).unwrap()));
}
