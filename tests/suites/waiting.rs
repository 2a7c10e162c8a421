//! `get_timeout`: first come first served, and no wake-up is lost.
//!
//! A test knows that a get waits by `Stats::waits`, which counts it before it sleeps. Nothing here depends on
//! how long something takes, but for limits against hangs.

use std::ptr::NonNull;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytepool::{Builder, GetError, Pool, PooledBuffer};

use crate::valgrind;

/// A multiple of every page size: each idle slot can be given up on its own.
const UNIT: usize = 64 << 10;
const LONG: Duration = Duration::from_secs(60);

/// Whether idle slots can be given up for other classes: the portable region cannot give pages back.
const GIVES_UP: bool = cfg!(all(unix, not(bytepool_portable)));

/// Classes of one and of two units, and overflow and oversize besides.
fn builder() -> Builder {
    Pool::builder().size_class(UNIT, 8).size_class(2 * UNIT, 2)
}

fn pool(units: usize) -> Pool {
    builder().max_bytes(units * UNIT).build().unwrap()
}

fn hold(pool: &Pool, buffers: usize) -> Vec<PooledBuffer> {
    (0..buffers).map(|_| pool.get(UNIT).unwrap()).collect()
}

/// Returns when so many gets have begun to wait since the pool was made.
fn until_waiting(pool: &Pool, waits: u64) {
    let start = Instant::now();
    while pool.stats().waits < waits {
        assert!(start.elapsed() < LONG, "{} gets wait, not {waits}", pool.stats().waits);
        thread::yield_now();
    }
    assert_eq!(pool.stats().waits, waits);
}

/// A thread that gets with a timeout; it ends with its buffer, or why it got none.
type Waiter = JoinHandle<Result<PooledBuffer, GetError>>;

/// A get that waits from now on.
fn waiter(pool: &Pool, size: usize, timeout: Duration) -> Waiter {
    let waits = pool.stats().waits;
    let of_thread = pool.clone();
    let waiter = thread::spawn(move || of_thread.get_timeout(size, timeout));
    until_waiting(pool, waits + 1);
    waiter
}

/// What a thread ends with, if it does.
fn joined<T>(thread: JoinHandle<T>) -> T {
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < LONG, "a waiter was not woken");
        thread::yield_now();
    }
    thread.join().unwrap()
}

fn assert_quiet(pool: &Pool, gets: u64) {
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.gets, stats.puts), (gets, gets), "{stats:#?}");
}

// ---- what does not wait ----

#[test]
fn where_there_is_memory_nothing_waits() {
    let pool = pool(3);
    let a = pool.get_timeout(UNIT, LONG).unwrap();
    let b = pool.get_timeout(2 * UNIT, Duration::ZERO).unwrap();
    drop((a, b));
    // An idle slot of its own class, of another, and in oversize.
    drop(pool.get_timeout(UNIT, LONG).unwrap());
    if GIVES_UP {
        drop(pool.get_timeout(3 * UNIT, LONG).unwrap());
    }
    let raw = pool.get_raw_timeout(100, LONG).unwrap();
    // SAFETY:
    // - this test's buffer, put once
    unsafe { pool.put_raw(raw, 100) }.unwrap();
    assert_eq!((pool.stats().waits, pool.stats().limit_failures), (0, 0));
    let unlimited = builder().build().unwrap();
    let _held: Vec<_> = (0..20).map(|_| unlimited.get_timeout(UNIT, Duration::MAX).unwrap()).collect();
    assert_eq!(unlimited.stats().waits, 0);
}

#[test]
fn a_timeout_of_zero_is_a_try() {
    let pool = pool(2);
    let held = hold(&pool, 2);
    let expected = GetError::Limit { limit: 2 * UNIT, mapped: 2 * UNIT, requested: UNIT };
    assert_eq!(pool.get_timeout(UNIT, Duration::ZERO).unwrap_err(), expected);
    assert_eq!(pool.get_raw_timeout(1, Duration::ZERO).unwrap_err(), expected);
    assert_eq!((pool.stats().waits, pool.stats().limit_failures), (0, 2));
    drop(held);
    assert_quiet(&pool, 2);
}

#[test]
fn what_can_never_fit_fails_at_once() {
    let pool = pool(2);
    let _held = hold(&pool, 2);
    let hopeless = |size| pool.get_timeout(size, Duration::MAX).unwrap_err();
    let expected = GetError::Limit { limit: 2 * UNIT, mapped: 2 * UNIT, requested: 2 * UNIT + 1 };
    assert_eq!(hopeless(2 * UNIT + 1), expected);
    assert_eq!(hopeless(usize::MAX), GetError::OutOfMemory { requested: usize::MAX });
    // Also while another waits, behind whom a get would queue.
    let waiter = waiter(&pool, UNIT, Duration::MAX);
    assert_eq!(hopeless(2 * UNIT + 1), expected);
    assert_eq!(hopeless(usize::MAX), GetError::OutOfMemory { requested: usize::MAX });
    assert_eq!((pool.stats().waits, pool.stats().limit_failures), (1, 2));
    pool.close();
    assert_eq!(joined(waiter).unwrap_err(), GetError::Closed);
    assert_eq!(hopeless(1), GetError::Closed);
}

#[test]
fn idle_slots_that_a_sleeping_thread_keeps_are_used_before_anybody_waits() {
    let pool = pool(4);
    let (kept, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..20).for_each(|_| drop(hold(&pool, 4)));
            kept.wait();
            done.wait();
        });
        kept.wait();
        let got: Vec<_> = (0..4).map(|_| pool.get_timeout(UNIT, LONG)).collect();
        let waits = pool.stats().waits;
        done.wait();
        assert!(got.iter().all(Result::is_ok) && waits == 0, "{waits} waits, {got:?}");
    });
}

// ---- the deadline ----

#[test]
fn the_deadline_ends_a_wait_with_an_error_that_names_the_figures() {
    let pool = pool(2);
    let held = hold(&pool, 2);
    for (round, timeout) in [Duration::from_nanos(1), Duration::from_millis(30)].into_iter().enumerate() {
        let start = Instant::now();
        let error = pool.get_timeout(2 * UNIT, timeout).unwrap_err();
        assert!(start.elapsed() >= timeout);
        let (limit, requested) = (2 * UNIT, 2 * UNIT);
        assert_eq!(error, GetError::Timeout { timeout, limit, mapped: limit, requested });
        assert!(error.to_string().contains("131072 more bytes"), "{error}");
        let round = round as u64 + 1;
        assert_eq!((pool.stats().waits, pool.stats().limit_failures), (round, round));
    }
    drop(held);
    assert_quiet(&pool, 2);
    drop(pool.get_timeout(if GIVES_UP { 2 * UNIT } else { UNIT }, LONG).unwrap());
}

#[test]
fn timeouts_that_no_clock_can_count_have_no_end() {
    for timeout in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_secs(u64::MAX / 2)] {
        let pool = pool(2);
        let mut held = hold(&pool, 2);
        let waiter = waiter(&pool, UNIT, timeout);
        held.pop();
        assert!(joined(waiter).is_ok());
    }
}

// ---- what wakes ----

/// Makes a get wait for a unit of `pool`, whose every unit is in use, and frees one by `put` on a third thread.
fn wakes(name: &str, pool: &Pool, put: impl FnOnce() + Send) {
    let waiter = waiter(pool, UNIT, Duration::MAX);
    thread::scope(|scope| drop(scope.spawn(put)));
    let got = joined(waiter);
    assert!(got.is_ok(), "{name}: {got:?}");
    assert_eq!(pool.stats().limit_failures, 0, "{name}");
}

/// A raw pointer that may be put on another thread.
struct Raw(NonNull<u8>);

// SAFETY:
// - a buffer has no thread
unsafe impl Send for Raw {}

impl Raw {
    fn take(self) -> NonNull<u8> {
        self.0
    }
}

#[test]
fn every_put_of_rust_wakes() {
    for way in ["put_raw", "put_raw of another size of the class", "put_raw_unsized", "drop"] {
        for cached in [true, false] {
            let pool = builder().max_bytes(3 * UNIT).thread_cache(cached).build().unwrap();
            let _held = hold(&pool, 2);
            let raw = Raw(pool.get_raw(UNIT).unwrap());
            wakes(way, &pool, || {
                let data = raw.take();
                // SAFETY:
                // - the buffer is this closure's, put once, and from the pool's own slots: initialised
                unsafe {
                    match way {
                        "put_raw" => pool.put_raw(data, UNIT).unwrap(),
                        "put_raw_unsized" => pool.put_raw_unsized(data).unwrap(),
                        "drop" => drop(PooledBuffer::from_raw(&pool, data, UNIT).unwrap()),
                        _ => pool.put_raw(data, 5).unwrap(),
                    }
                }
            });
        }
    }
}

#[test]
fn overflow_oversize_and_slots_of_other_classes_wake() {
    let pool = Pool::builder().size_class(UNIT, 1).max_bytes(2 * UNIT).build().unwrap();
    let mut held = hold(&pool, 2);
    assert_eq!(pool.stats().classes[0].overflow, 1);
    let overflow = held.pop();
    wakes("overflow", &pool, || drop(overflow));

    let pool = self::pool(4);
    let _held = hold(&pool, 1);
    let oversize = pool.get(3 * UNIT).unwrap();
    wakes("oversize", &pool, || drop(oversize));

    if GIVES_UP {
        let pool = self::pool(3);
        let _held = hold(&pool, 1);
        let other = pool.get(2 * UNIT).unwrap();
        wakes("a slot of another class", &pool, || drop(other));
        assert_eq!(pool.stats().classes[1].touched, 0, "it was given up");
    }
}

#[test]
fn a_reallocation_wakes() {
    // The new buffer fits beside the old one.
    let pool = Pool::builder().size_class(100, 8).size_class(UNIT, 8);
    let pool = pool.max_bytes(2 * UNIT + 128).build().unwrap();
    let _held = hold(&pool, 1);
    let raw = Raw(pool.get_raw(UNIT).unwrap());
    wakes("realloc_raw", &pool, || {
        // SAFETY:
        // - the buffer is this closure's
        let new = unsafe { pool.realloc_raw(raw.take(), 100) }.unwrap();
        // SAFETY: as above
        unsafe { pool.put_raw(new, 100) }.unwrap();
    });
}

#[test]
fn a_put_by_a_thread_with_a_full_cache_wakes() {
    let pool = Pool::builder().size_class(1024, 600).max_bytes(600 << 10).build().unwrap();
    let pool = &pool;
    thread::scope(|scope| {
        let (to_putter, orders) = channel::<PooledBuffer>();
        let (full, is_full) = channel();
        scope.spawn(move || {
            // More than its bin has room for.
            (0..10).for_each(|_| drop((0..300).map(|_| pool.get(1024).unwrap()).collect::<Vec<_>>()));
            full.send(pool.stats().classes[0].cached).unwrap();
            orders.into_iter().for_each(drop);
        });
        assert!(is_full.recv().unwrap() > 30 || valgrind::replacements(), "the thread caches nothing");
        let mut held: Vec<_> = (0..600).map(|_| pool.get(1024).unwrap()).collect();
        for _ in 0..5 {
            let waiter = waiter(pool, 1024, Duration::MAX);
            to_putter.send(held.pop().unwrap()).unwrap();
            held.push(joined(waiter).unwrap());
        }
        assert_eq!(pool.stats().classes[0].cached, 0);
    });
}

#[test]
fn threads_cache_again_when_nobody_waits() {
    let pool = Pool::builder().size_class(1024, 100).max_bytes(100 << 10).build().unwrap();
    let cached = |pool: &Pool| {
        (0..10_000).for_each(|_| drop(pool.get(1024).unwrap()));
        pool.stats().classes[0].cached
    };
    assert_eq!(cached(&pool) > 0, !valgrind::replacements());
    let mut held: Vec<_> = (0..100).map(|_| pool.get(1024).unwrap()).collect();
    let waiter = waiter(&pool, 1024, Duration::MAX);
    held.pop();
    assert!(joined(waiter).is_ok());
    held.clear();
    assert_eq!(cached(&pool) > 0, !valgrind::replacements(), "threads cache nothing any more");
}

// ---- the order ----

/// Waiters that tell who was served, in the order in which they say so.
struct Line {
    pool: Pool,
    tell: Sender<(usize, Result<PooledBuffer, GetError>)>,
    told: Receiver<(usize, Result<PooledBuffer, GetError>)>,
    waiters: usize,
}

impl Line {
    fn new(pool: &Pool) -> Self {
        let (tell, told) = channel();
        Self { pool: pool.clone(), tell, told, waiters: 0 }
    }

    /// Returns when it waits.
    fn add(&mut self, size: usize, timeout: Duration) {
        let (pool, tell, number) = (self.pool.clone(), self.tell.clone(), self.waiters);
        let waits = pool.stats().waits;
        thread::spawn(move || tell.send((number, pool.get_timeout(size, timeout))));
        until_waiting(&self.pool, waits + 1);
        self.waiters += 1;
    }

    /// Who is served next.
    fn next(&self) -> (usize, Result<PooledBuffer, GetError>) {
        self.told.recv_timeout(LONG).expect("a waiter was not woken")
    }

    /// The number of who is served next, and its buffer.
    fn next_served(&self) -> (usize, PooledBuffer) {
        let (number, got) = self.next();
        (number, got.unwrap_or_else(|error| panic!("waiter {number}: {error}")))
    }
}

#[test]
fn first_come_first_served() {
    const WAITERS: usize = 70;
    let pool = pool(2);
    let mut held = hold(&pool, 2);
    let mut line = Line::new(&pool);
    (0..WAITERS).for_each(|_| line.add(UNIT, Duration::MAX));
    for expected in 0..WAITERS {
        // The oldest buffer goes back: each put serves one, and that is the next.
        drop(held.remove(0));
        let (number, buffer) = line.next_served();
        assert_eq!(number, expected);
        held.push(buffer);
    }
    drop(held);
    assert_quiet(&pool, 2 + WAITERS as u64);
}

#[test]
fn who_comes_while_others_wait_queues_behind_them() {
    let pool = pool(3);
    let mut held = hold(&pool, 2);
    let mut line = Line::new(&pool);
    line.add(2 * UNIT, Duration::MAX);
    // There is room for this one, but it came later.
    line.add(UNIT, Duration::MAX);
    drop(held.pop());
    if GIVES_UP {
        let (first, two_units) = line.next_served();
        assert_eq!((first, two_units.len()), (0, 2 * UNIT));
        drop(held.pop());
        let (second, one_unit) = line.next_served();
        assert_eq!((second, one_unit.len()), (1, UNIT));
    } else {
        // What cannot be made room for the first is the second's.
        assert_eq!(line.next_served().0, 1);
    }
}

#[test]
fn memory_gathers_for_the_first_however_small_those_behind_are() {
    let pool = pool(4);
    // No class has slots that are so aligned.
    let mut oversize: Vec<_> = (0..4)
        .map(|n| pool.get_raw_aligned(4 * UNIT, UNIT - n).map(|data| (data, UNIT - n)).unwrap())
        .collect();
    let put = |(data, size)| {
        // SAFETY:
        // - this test's buffer, put once
        unsafe { pool.put_raw(data, size) }.unwrap();
    };
    let mut line = Line::new(&pool);
    line.add(3 * UNIT, Duration::MAX);
    line.add(1, Duration::MAX);
    line.add(UNIT, Duration::MAX);
    (0..3).for_each(|_| put(oversize.pop().unwrap()));
    let (first, three_units) = line.next_served();
    assert_eq!((first, three_units.len()), (0, 3 * UNIT));
    put(oversize.pop().unwrap());
    assert_eq!(line.next_served().0, 1, "dropped: the third is served with what it had");
    assert_eq!(line.next_served().0, 2);
    drop(three_units);
}

#[test]
fn who_gives_up_lets_those_behind_go_on() {
    let pool = pool(3);
    let mut held = hold(&pool, 3);
    let mut line = Line::new(&pool);
    line.add(3 * UNIT, Duration::from_millis(200));
    line.add(UNIT, Duration::MAX);
    held.pop();
    // In either order, as the first may have given up before the put.
    let mut told = [line.next(), line.next()];
    told.sort_by_key(|(number, _)| *number);
    assert!(
        matches!(told[0].1, Err(GetError::Timeout { requested, .. }) if requested == 3 * UNIT),
        "{told:?}"
    );
    assert!(told[1].1.is_ok(), "{told:?}");
}

#[test]
fn a_slot_that_cannot_be_given_up_serves_its_class_past_who_could_not_use_it() {
    // Two small slots on one page, which stays while one of them is out.
    let pool = Pool::builder().size_class(64, 2).size_class(UNIT, 2).max_bytes(UNIT + 128).build().unwrap();
    let _large = pool.get(UNIT).unwrap();
    let small = [pool.get(64).unwrap(), pool.get(64).unwrap()];
    let mut line = Line::new(&pool);
    line.add(UNIT, LONG);
    line.add(64, LONG);
    let [_kept, put] = small;
    drop(put);
    assert_eq!(line.next_served().0, 1);
    pool.close();
    assert!(matches!(line.next(), (0, Err(GetError::Closed))));
}

// ---- the end ----

#[test]
fn closing_wakes_all_who_wait_with_closed() {
    let pool = pool(4);
    let held = hold(&pool, 4);
    let mut line = Line::new(&pool);
    for number in 0..16 {
        line.add([UNIT, 2 * UNIT, 3 * UNIT][number % 3], if number % 2 == 0 { LONG } else { Duration::MAX });
    }
    pool.close();
    for _ in 0..16 {
        assert!(matches!(line.next(), (_, Err(GetError::Closed))));
    }
    assert_eq!(pool.get_timeout(1, LONG).unwrap_err(), GetError::Closed);
    drop(held);
    assert_quiet(&pool, 4);
    assert_eq!((pool.stats().mapped_bytes, pool.stats().limit_failures), (0, 0));
}

/// Closing at any moment of gets that wait, are served, and give up.
#[test]
fn closing_races_with_waiting() {
    for round in 0..200 {
        let pool = pool(2);
        let held = hold(&pool, 2);
        let start = Arc::new(Barrier::new(4));
        let waiters: Vec<_> = (0..3)
            .map(|thread| {
                let (pool, start) = (pool.clone(), Arc::clone(&start));
                let timeout = Duration::from_micros([round, 50, 1 << 40][thread]);
                thread::spawn(move || {
                    start.wait();
                    pool.get_timeout(UNIT, timeout).map(drop)
                })
            })
            .collect();
        start.wait();
        if round % 2 == 0 {
            drop(held);
            pool.close();
        } else {
            pool.close();
            drop(held);
        }
        for waiter in waiters {
            let end = joined(waiter);
            assert!(matches!(
                end,
                Ok(()) | Err(GetError::Closed | GetError::Timeout { .. } | GetError::Limit { .. })
            ));
        }
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.gets, stats.mapped_bytes), (stats.puts, 0), "{stats:#?}");
    }
}

// ---- races ----

/// Deadlines that pass while memory is handed over: whoever loses, no buffer is lost, and the threads without a
/// deadline are all served.
#[test]
fn deadlines_race_with_hand_overs() {
    let pool = pool(3);
    let timeouts = storm(&pool, 8, 3000, |thread, random| {
        Turn::Get(match thread % 3 {
            0 => Duration::MAX,
            1 => Duration::from_micros(random % 60),
            _ => Duration::from_nanos(random % 2000 + 1),
        })
    });
    assert!(timeouts > 0, "no deadline passed");
    drop(hold(&pool, 3));
}

/// Whose idle slots can serve each other's gets.
const SIZES: [usize; 3] = if GIVES_UP { [UNIT, 2 * UNIT, 100] } else { [UNIT, UNIT - 1, 100] };

/// What a thread does next.
enum Turn {
    Get(Duration),
    Trim,
}

/// `threads` threads take `turns` turns each, as `turn` says for thread and random number, and write their own mark
/// over what they get; how many gets failed for want of room.
fn storm(pool: &Pool, threads: usize, turns: usize, turn: fn(usize, u64) -> Turn) -> u64 {
    let run = move |thread: usize, pool: Pool| {
        let mut random = (thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (mut gets, mut failures) = (0, 0);
        for _ in 0..turns {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let size = SIZES[(random >> 40) as usize % 3];
            let Turn::Get(timeout) = turn(thread, random >> 20) else {
                pool.trim(0);
                continue;
            };
            gets += 1;
            match pool.get_timeout(size, timeout) {
                Ok(mut buffer) => use_alone(&mut buffer, thread as u8 + 1),
                Err(GetError::Timeout { .. } | GetError::Limit { .. }) if timeout < LONG => failures += 1,
                Err(error) => panic!("{error}"),
            }
        }
        (gets, failures)
    };
    let (done, ends) = channel();
    for thread in 0..threads {
        let (pool, done) = (pool.clone(), done.clone());
        thread::spawn(move || done.send(run(thread, pool)));
    }
    // Not joined: a thread that hangs fails the test.
    let ends = (0..threads).map(|_| ends.recv_timeout(2 * LONG).expect("a thread hangs or failed"));
    let (gets, failures) = ends.fold((0, 0), |sum, end: (u64, u64)| (sum.0 + end.0, sum.1 + end.1));
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.gets, stats.puts, stats.limit_failures), (gets - failures, gets - failures, failures));
    assert!(stats.waits > 0);
    failures
}

/// Nobody else writes to a buffer meanwhile.
fn use_alone(buffer: &mut [u8], mark: u8) {
    let ends = [0, buffer.len() / 2, buffer.len() - 1];
    ends.iter().for_each(|&at| buffer[at] = mark);
    thread::yield_now();
    assert!(ends.iter().all(|&at| buffer[at] == mark), "a buffer with two owners");
}

#[test]
fn plain_gets_among_waiters_lose_nothing() {
    let pool = pool(3);
    storm(&pool, 8, 3000, |thread, _| {
        Turn::Get(if thread % 2 == 0 { Duration::MAX } else { Duration::ZERO })
    });
    drop(hold(&pool, 3));
}

#[test]
fn trims_among_waiters_lose_nothing() {
    storm(&pool(3), 6, 2000, |_, random| if random % 4 == 0 { Turn::Trim } else { Turn::Get(Duration::MAX) });
}

/// Eight threads, three buffers, and a million waits if `BYTEPOOL_WAITS=1000000` says so.
#[test]
fn soak() {
    const THREADS: usize = 8;
    let usual = valgrind::rounds(50_000) as u64;
    let waits = std::env::var("BYTEPOOL_WAITS").map_or(usual, |waits| waits.parse().expect("a number"));
    let pool = Pool::builder().size_class(UNIT, 3).max_bytes(3 * UNIT).build().unwrap();
    let start = Instant::now();
    let (done, ends) = channel();
    for thread in 0..THREADS {
        let (pool, done) = (pool.clone(), done.clone());
        thread::spawn(move || {
            let mut gets = 0;
            // What others wait for is put by this thread, until all have waited enough.
            while gets % 64 != 0 || pool.stats().waits < waits {
                let timeout = if thread % 2 == 0 { Duration::MAX } else { LONG };
                let mut buffer = pool.get_timeout(UNIT, timeout).unwrap();
                use_alone(&mut buffer, thread as u8 + 1);
                gets += 1;
            }
            done.send(gets)
        });
    }
    let limit = LONG + Duration::from_micros(200) * waits as u32;
    let gets: u64 = (0..THREADS)
        .map(|_| {
            let left = limit.saturating_sub(start.elapsed());
            ends.recv_timeout(left)
                .unwrap_or_else(|_| panic!("a thread hangs or failed: {:#?}", pool.stats()))
        })
        .sum();
    let stats = pool.stats();
    assert_quiet(&pool, gets);
    assert!(stats.waits >= waits && stats.limit_failures == 0, "{stats:#?}");
    drop(hold(&pool, 3));
    println!("{} waits of {gets} gets in {:?}", stats.waits, start.elapsed());
}

// ---- C ----

#[cfg(feature = "capi")]
mod c {
    use super::*;
    use bytepool::ffi::capi::*;
    use bytepool::ffi::status::Status;
    use std::ffi::c_void;

    /// What C holds, on whatever thread.
    #[derive(Clone, Copy)]
    struct C(*mut c_void);

    // SAFETY:
    // - contexts and buffers have no thread
    unsafe impl Send for C {}

    impl C {
        fn get(self) -> *mut c_void {
            self.0
        }
    }

    #[test]
    fn every_put_of_c_wakes() {
        for way in ["put", "put_checked", "put_unsized", "put_many", "realloc", "put by a freed context"] {
            let pool = Pool::builder().size_class(100, 8).size_class(UNIT, 8);
            let pool = pool.max_bytes(2 * UNIT + 128).build().unwrap();
            let context = pool.context();
            let _held = hold(&pool, 1);
            let arguments = [C(context.as_ptr()), C(bytepool_get(context.as_ptr(), UNIT))];
            wakes(way, &pool, move || {
                let [context, data] = arguments.map(C::get);
                // SAFETY:
                // - the buffer is this closure's, put once
                unsafe { put(way, context, data) }
            });
        }
    }

    /// # Safety
    /// - `data` is the caller's, an outstanding buffer of `UNIT` bytes, and used by nobody any more
    unsafe fn put(way: &str, context: *mut c_void, data: *mut c_void) {
        // SAFETY:
        // - the caller gives the buffer up, and it is put once
        unsafe {
            match way {
                "put" => bytepool_put(context, data, UNIT),
                "put_checked" => assert_eq!(bytepool_put_checked(context, data, 200), 0),
                "put_unsized" => bytepool_put_unsized(context, data),
                "put_many" => assert_eq!(bytepool_put_many(context, [data].as_ptr(), 1, UNIT), 0),
                "realloc" => {
                    // It fits beside the old one.
                    let new = bytepool_realloc(context, data, 100);
                    assert!(!new.is_null());
                    bytepool_put(context, new, 100);
                }
                _ => {
                    let mut other = std::ptr::null_mut();
                    assert_eq!(bytepool_clone(context, &raw mut other), 0);
                    bytepool_free(other);
                    bytepool_put(other, data, UNIT);
                }
            }
        }
    }

    #[test]
    fn the_free_of_the_last_handle_wakes_with_closed() {
        let pool = pool(1);
        let context = C(pool.context().into_raw());
        let held = bytepool_get(context.get(), UNIT);
        assert!(!held.is_null());
        let waiter = thread::spawn(move || {
            let data = bytepool_get_timeout(context.get(), UNIT, u64::MAX);
            (C(data), bytepool_last_error())
        });
        until_waiting(&pool, 1);
        // The Rust handle first: then the context is the last, and its pool waits for it alone.
        drop(pool);
        bytepool_free(context.get());
        let (data, error) = joined(waiter);
        assert!(data.get().is_null());
        assert_eq!(error, Status::Closed as i32);
        // SAFETY:
        // - this test's buffer
        unsafe { bytepool_put(context.get(), held, UNIT) };
    }
}
