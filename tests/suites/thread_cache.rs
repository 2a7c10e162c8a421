//! Threads keep idle slots of their own, and nothing of that is lost, stranded, or seen from outside but in
//! the figures.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use bytepool::{ClassStats, GetError, Pool, PooledBuffer};

use crate::valgrind;

const SIZE: usize = 4096;

fn pool(capacity: usize) -> Pool {
    Pool::builder().size_class(SIZE, capacity).build().unwrap()
}

/// The figures of the only class, after checking that they add up.
fn class(pool: &Pool) -> ClassStats {
    let stats = pool.stats();
    stats.assert_consistent();
    stats.classes[0]
}

/// Gets `count` buffers and puts them all, so that this thread caches what it may.
fn churn(pool: &Pool, count: usize) {
    let buffers: Vec<PooledBuffer> = (0..count).map(|_| pool.get(SIZE).unwrap()).collect();
    drop(buffers);
}

#[test]
fn shared_writes_are_at_most_one_batch_move_per_batch() {
    let pool = pool(1000);
    churn(&pool, 500);
    let before = class(&pool);
    assert!(before.cached > 0, "this test needs a thread cache: {before:?}");
    // One buffer at a time never leaves the cache.
    for _ in 0..10_000 {
        drop(pool.get(SIZE).unwrap());
    }
    assert_eq!(class(&pool).moves, before.moves);
    // Bursts above the 128 slots that the cache holds move batches of 64.
    let bursts = 100;
    for _ in 0..bursts {
        churn(&pool, 200);
    }
    let after = class(&pool);
    let operations = (after.gets - before.gets - 10_000) + (after.puts - before.puts - 10_000);
    let moves = after.moves - before.moves;
    assert!(moves > 0 && moves <= operations / 32, "{moves} moves for {operations} gets and puts");
}

#[test]
fn neighbours_on_the_shelf_are_got_in_ascending_order() {
    let pool = pool(1000);
    churn(&pool, 256);
    pool.trim(usize::MAX); // gives nothing back, but takes what this thread caches
    let buffers: Vec<PooledBuffer> = (0..64).map(|_| pool.get(SIZE).unwrap()).collect();
    let neighbours = |pair: &&[PooledBuffer]| pair[1].as_ptr().addr() == pair[0].as_ptr().addr() + SIZE;
    let in_order = buffers.windows(2).filter(neighbours).count();
    assert!(in_order >= 60 || valgrind::replacements(), "{in_order} of 63");
}

/// Hands slots over from threads that get to as many that put, with at most so many in flight; the puts that ended a bias.
fn ends_of_hand_overs(pairs: usize, in_flight: usize, slots: usize) -> u64 {
    let pool = pool(4 * in_flight + 64 * pairs);
    thread::scope(|scope| {
        for _ in 0..pairs {
            let (give, take) = sync_channel::<Vec<usize>>(0);
            let batch = (in_flight / pairs / 2).max(1);
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..slots / pairs / batch {
                    let get = |_| pool.get_raw(SIZE).unwrap().as_ptr().expose_provenance();
                    give.send((0..batch).map(get).collect()).unwrap();
                }
            });
            scope.spawn(move || {
                for data in take.into_iter().flatten() {
                    let data = NonNull::new(ptr::with_exposed_provenance_mut(data)).unwrap();
                    // SAFETY:
                    // - handed over to this thread
                    unsafe { pool.put_raw(data, SIZE) }.unwrap();
                }
            });
        }
    });
    class(&pool).bias_ends
}

/// Each end of a bias is a heavy fence.
#[test]
fn hand_overs_end_few_biases() {
    let slots = valgrind::rounds(200_000);
    for (pairs, in_flight) in [(1, 1000), (32, 1000)] {
        // At worst what is out, and what each getter's bin has, ends one by one.
        let ends = ends_of_hand_overs(pairs, in_flight, slots);
        assert!(ends <= (in_flight + 128 * pairs) as u64, "{ends} ends of bias, {pairs} pairs of threads");
    }
}

fn put(pool: &Pool, data: NonNull<u8>) {
    // SAFETY:
    // - callers have just got it, or it came out of the only place it was in: it is put once
    unsafe { pool.put_raw(data, SIZE) }.unwrap();
}

/// Raw buffers that a thread has at once: all put and got again, or one after the other replaced.
#[derive(Clone, Copy)]
enum Use {
    Burst,
    OneByOne,
}

/// Uses each of 64 buffers once, and returns the addresses of those that were got.
fn use_once(pool: &Pool, buffers: &mut VecDeque<NonNull<u8>>, how: Use) -> [usize; 64] {
    [(); 64].map(|()| {
        if let Use::OneByOne = how {
            put(pool, buffers.pop_front().expect("there are 64"));
        } else if buffers.len() == 64 {
            buffers.drain(..).for_each(|data| put(pool, data));
        }
        buffers.push_back(pool.get_raw(SIZE).unwrap());
        buffers.back().expect("just pushed").as_ptr().addr()
    })
}

/// How many slot groups two threads both have slots of.
fn shared_groups(threads: [&[usize; 64]; 2]) -> usize {
    // A span starts at a multiple of 64 KiB, which 16 slots take.
    let groups = threads.map(|slots| slots.iter().map(|address| address >> 16).collect::<HashSet<_>>());
    groups[0].intersection(&groups[1]).count()
}

/// Threads that write marks of one cache line wait for each other.
#[test]
fn threads_that_mixed_their_slots_have_groups_of_their_own_again() {
    if valgrind::under_memcheck() {
        println!("skipped: half a million gets take too long under memcheck");
        return;
    }
    for how in [Use::Burst, Use::OneByOne] {
        let pool = pool(1000);
        let places: Vec<AtomicPtr<u8>> = (0..256).map(|_| AtomicPtr::default()).collect();
        let turn = Barrier::new(2);
        let put_found = |found: *mut u8| _ = NonNull::new(found).map(|data| put(&pool, data));
        let run = |number: usize| {
            let mut random = number as u32;
            // Fewer than a cooldown has.
            for _ in 0..10_000 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let place = &places[(random >> 24) as usize];
                put_found(place.swap(pool.get_raw(SIZE).unwrap().as_ptr(), AcqRel));
            }
            turn.wait();
            places
                .iter()
                .skip(number)
                .step_by(2)
                .for_each(|place| put_found(place.swap(ptr::null_mut(), AcqRel)));
            turn.wait();
            let mut buffers: VecDeque<_> = (0..64).map(|_| pool.get_raw(SIZE).unwrap()).collect();
            let mixed = use_once(&pool, &mut buffers, how);
            turn.wait();
            // Twice the cooldown, which is 32,768 slots for each end: the other thread may wait meanwhile.
            let turns = pool.stats().classes[0].bias_ends * 1024;
            (0..turns).for_each(|_| _ = use_once(&pool, &mut buffers, how));
            let sorted = use_once(&pool, &mut buffers, how);
            buffers.into_iter().for_each(|data| put(&pool, data));
            (mixed, sorted)
        };
        let [first, second] = thread::scope(|scope| {
            [0, 1].map(|number| scope.spawn(move || run(number))).map(|thread| thread.join().unwrap())
        });
        if class(&pool).bias_ends == 0 {
            println!("skipped: without the heavy fence there is no bias, and no cooldown");
            return;
        }
        let (mixed, sorted) = (shared_groups([&first.0, &second.0]), shared_groups([&first.1, &second.1]));
        assert!(mixed >= 8 && sorted <= 2, "{mixed} groups were shared, and {sorted} are");
    }
}

#[test]
fn a_pool_without_thread_caches_has_none() {
    let builder = Pool::builder().size_class(SIZE, 100).thread_cache(false);
    let pool = builder.build().unwrap();
    churn(&pool, 50);
    let class = class(&pool);
    assert_eq!((class.cached, class.moves, class.idle), (0, 0, 50));
}

#[test]
fn huge_classes_are_not_cached() {
    let pool = Pool::builder().size_class(17 << 20, 100).build().unwrap();
    for _ in 0..10 {
        drop(pool.get(17 << 20).unwrap());
    }
    assert_eq!((class(&pool).cached, class(&pool).idle), (0, 1));
}

#[test]
fn large_slots_that_sleeping_threads_cache_are_used_before_fresh_ones_and_overflow() {
    let pool = Pool::builder().size_class(1 << 20, 4).build().unwrap();
    let (done, sleeping) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                drop([pool.get(1 << 20).unwrap(), pool.get(1 << 20).unwrap()]);
            }
            done.wait();
            sleeping.wait();
        });
        done.wait();
        let before = class(&pool);
        assert_eq!((before.cached, before.idle, before.touched), (2, 2, 2), "this test needs a thread cache");
        let buffers = [pool.get(1 << 20).unwrap(), pool.get(1 << 20).unwrap()];
        assert_eq!(
            (class(&pool).touched, class(&pool).idle),
            (2, 0),
            "the sleeping thread's slots were used"
        );
        let more = [pool.get(1 << 20).unwrap(), pool.get(1 << 20).unwrap()];
        assert_eq!((class(&pool).touched, pool.stats().system_allocations), (4, 0));
        drop((buffers, more));
        sleeping.wait();
    });
}

#[test]
fn all_threads_together_cache_at_most_half_of_a_class() {
    let pool = pool(400);
    let barrier = Barrier::new(17);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                churn(&pool, 20);
                churn(&pool, 20);
                barrier.wait();
                barrier.wait();
            });
        }
        barrier.wait();
        let class = class(&pool);
        assert!(class.cached > 0 && class.cached <= 200, "{class:?}");
        barrier.wait();
    });
}

/// What it puts lies on the shelf, and is got from there.
#[test]
fn a_thread_that_found_no_quota_gets_idle_slots_before_fresh_ones() {
    const THREADS: usize = 24;
    // Once in a while something is left.
    for _ in 0..8 {
        let pool = pool(10);
        let barrier = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    (0..20).for_each(|_| churn(&pool, 20));
                    barrier.wait();
                    barrier.wait();
                });
            }
            barrier.wait();
            // Whoever comes now finds no quota left.
            churn(&pool, 1);
            let before = class(&pool);
            let buffers = [pool.get(SIZE).unwrap(), pool.get(SIZE).unwrap()];
            let after = class(&pool);
            barrier.wait();
            assert!(before.idle >= before.cached + 2, "nothing is idle but in caches: {before:?}");
            assert_eq!(
                (after.touched, after.idle),
                (before.touched, before.idle - 2),
                "a fresh slot was got"
            );
            drop(buffers);
        });
    }
}

#[test]
fn a_threads_end_gives_its_cache_back() {
    let pool = pool(100);
    for _ in 0..300 {
        thread::scope(|scope| scope.spawn(|| churn(&pool, 40)).join().unwrap());
        let class = class(&pool);
        assert_eq!((class.cached, class.outstanding), (0, 0));
        assert_eq!(class.idle, 40, "slots were stranded, and fresh ones taken instead");
    }
}

#[test]
fn a_sleeping_threads_cache_is_taken_by_trim_and_by_close() {
    for closing in [false, true] {
        let pool = pool(100);
        let barrier = Arc::new(Barrier::new(2));
        let sleeper = thread::spawn({
            let (pool, barrier) = (pool.clone(), barrier.clone());
            move || {
                churn(&pool, 40);
                churn(&pool, 40);
                barrier.wait();
                barrier.wait();
                // And works on afterwards, without its cache or with a new one.
                pool.get(SIZE).map(drop)
            }
        });
        barrier.wait();
        assert!(class(&pool).cached > 0);
        if closing {
            pool.close();
        } else {
            assert_eq!(pool.trim(0), if cfg!(any(not(unix), bytepool_portable)) { 0 } else { 40 * SIZE });
        }
        assert_eq!(class(&pool).cached, 0);
        barrier.wait();
        assert_eq!(sleeper.join().unwrap(), if closing { Err(GetError::Closed) } else { Ok(()) });
    }
}

#[test]
fn at_the_limit_idle_slots_of_sleeping_threads_are_found() {
    let pool = Pool::builder().size_class(SIZE, 100).max_bytes(40 * SIZE).build().unwrap();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            churn(&pool, 40);
            churn(&pool, 40);
            barrier.wait();
            barrier.wait();
        });
        barrier.wait();
        assert!(class(&pool).cached > 0, "{:?}", class(&pool));
        let all: Vec<_> = (0..40).map(|_| pool.get(SIZE).unwrap()).collect();
        assert!(matches!(pool.get(SIZE), Err(GetError::Limit { .. })));
        drop(all);
        barrier.wait();
    });
    assert_eq!(class(&pool).outstanding, 0);
}

#[test]
fn buffers_handed_over_go_back_in_batches() {
    let pool = pool(1000);
    let (sender, receiver) = channel::<PooledBuffer>();
    let consumer =
        thread::spawn(move || receiver.into_iter().map(|buffer| u64::from(buffer[0])).sum::<u64>());
    for number in 0..20_000u32 {
        // The queue is not bounded, so neither is the number of buffers out.
        let mut buffer = pool.get(SIZE).unwrap();
        buffer[0] = number as u8;
        sender.send(buffer).unwrap();
    }
    drop(sender);
    let sum: u64 = (0..20_000u32).map(|number| u64::from(number as u8)).sum();
    assert_eq!(consumer.join().unwrap(), sum);
    let class = class(&pool);
    assert_eq!((class.outstanding, class.overflow, class.gets, class.puts), (0, 0, 20_000, 20_000));
}

#[test]
fn hundreds_of_pools_on_one_thread_serve_in_turn() {
    // More than the thread has places for: some caches lose their way, and are found again.
    let pools: Vec<Pool> = (0..1000).map(|_| pool(8)).collect();
    for round in 0..5u8 {
        for pool in &pools {
            let mut buffers: Vec<_> = (0..4).map(|_| pool.get(SIZE).unwrap()).collect();
            buffers.iter_mut().for_each(|buffer| buffer[0] = round);
        }
    }
    for pool in &pools {
        let class = class(pool);
        assert_eq!((class.gets, class.puts, class.outstanding, class.touched), (20, 20, 0, 4));
    }
    // Their ends leave dead keys behind, which must not get in the way of new pools.
    drop(pools);
    for _ in 0..2000 {
        churn(&pool(8), 4);
    }
}

thread_local! {
    static LATE: RefCell<Option<PooledBuffer>> = const { RefCell::new(None) };
    static LATER: RefCell<Option<(Pool, PooledBuffer)>> = const { RefCell::new(None) };
}

#[test]
fn buffers_in_thread_locals_are_put_whatever_the_order_of_teardown() {
    let pool = pool(100);
    for _ in 0..50 {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // Registered before the cache is made, so torn down after it, and the other way round.
                LATE.with_borrow_mut(|late| *late = None);
                churn(&pool, 10);
                LATE.set(Some(pool.get(SIZE).unwrap()));
                LATER.set(Some((pool.clone(), pool.get(SIZE).unwrap())));
            });
            thread.join().unwrap();
        });
        let class = class(&pool);
        assert_eq!((class.outstanding, class.cached), (0, 0));
    }
}

/// Gets and puts when it is made, and again when it ends.
struct Churning(Pool, Option<PooledBuffer>);

impl Churning {
    fn new() -> Self {
        let pool = CHURNED.lock().unwrap().clone().expect("the test made a pool");
        churn(&pool, 3);
        let kept = pool.get(SIZE).unwrap();
        Self(pool, Some(kept))
    }
}

impl Drop for Churning {
    fn drop(&mut self) {
        churn(&self.0, 3);
        self.1 = None;
        churn(&self.0, 3);
    }
}

static CHURNED: Mutex<Option<Pool>> = Mutex::new(None);
thread_local! {
    static FIRST: Churning = Churning::new();
    static SECOND: Churning = {
        FIRST.with(|_| ()); // one initialiser inside another
        Churning::new()
    };
}

#[test]
fn initialisers_and_destructors_of_thread_locals_get_and_put() {
    let pool = pool(100);
    *CHURNED.lock().unwrap() = Some(pool.clone());
    for turn in 0..50 {
        // With the thread's cache made inside an initialiser, or before.
        let used_before = turn % 2 == 0;
        let shared = pool.clone();
        let thread = thread::spawn(move || {
            if used_before {
                churn(&shared, 5);
            }
            SECOND.with(|_| ());
        });
        thread.join().unwrap();
        let class = class(&pool);
        assert_eq!((class.outstanding, class.cached), (0, 0));
        let of_each = 2 * (3 + 1 + 6);
        assert_eq!(
            class.puts,
            (0..=turn).map(|turn| of_each + if turn % 2 == 0 { 5 } else { 0 }).sum::<u64>()
        );
    }
    *CHURNED.lock().unwrap() = None;
}

#[cfg(feature = "capi")]
#[test]
fn a_freed_context_hands_out_nothing_on_threads_that_cached_through_it() {
    use bytepool::ffi::capi::{bytepool_free, bytepool_get, bytepool_last_error, bytepool_put_checked};
    use bytepool::ffi::status::Status;

    struct Shared(*mut std::ffi::c_void);
    // SAFETY:
    // - a context may be used on any thread
    unsafe impl Send for Shared {}
    // SAFETY: as for Send.
    unsafe impl Sync for Shared {}

    let pool = pool(100);
    for _ in 0..100 {
        let context = Shared(pool.context().into_raw());
        let barrier = Barrier::new(5);
        thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    let context = &context;
                    for _ in 0..20 {
                        let data = bytepool_get(context.0, SIZE);
                        // SAFETY:
                        // - got above, and not used again
                        assert_eq!(unsafe { bytepool_put_checked(context.0, data, SIZE) }, 0);
                    }
                    let kept = bytepool_get(context.0, SIZE);
                    barrier.wait();
                    barrier.wait();
                    assert!(bytepool_get(context.0, SIZE).is_null());
                    assert_eq!(bytepool_last_error(), Status::Closed as i32);
                    // SAFETY:
                    // - got above, and not used again
                    let status = unsafe { bytepool_put_checked(context.0, kept, SIZE) };
                    assert_eq!(status, 0, "a put still works");
                    assert!(bytepool_get(context.0, SIZE).is_null(), "and does not revive the context");
                })
            });
            barrier.wait();
            bytepool_free(context.0);
            barrier.wait();
            // A scope waits for what threads return, not for their thread-locals' ends.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(class(&pool).outstanding, 0);
    }
}

#[test]
fn closing_while_threads_get_and_put_from_their_caches_loses_nothing() {
    for _ in 0..200 {
        let pool = pool(64);
        let barrier = Barrier::new(5);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let mut held = Vec::new();
                    loop {
                        match pool.get(SIZE) {
                            Ok(mut buffer) => {
                                buffer.fill(7);
                                held.push(buffer);
                                if held.len() == 4 {
                                    held.clear();
                                }
                            }
                            Err(error) => return assert_eq!(error, GetError::Closed),
                        }
                    }
                });
            }
            barrier.wait();
            thread::yield_now();
            pool.close();
        });
        let stats = pool.stats();
        assert_eq!((stats.mapped_bytes, class(&pool).touched), (0, 0), "all came back and went");
    }
}

#[test]
fn a_thread_that_used_more_pools_than_it_has_places_strands_nothing() {
    let pools: Vec<Pool> = (0..1000).map(|_| pool(8)).collect();
    thread::scope(|scope| {
        let thread = scope.spawn(|| pools.iter().for_each(|pool| churn(pool, 4)));
        thread.join().unwrap();
    });
    for pool in &pools {
        assert_eq!((class(pool).cached, class(pool).idle), (0, 4));
    }
}
