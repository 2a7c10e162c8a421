//! `fork`, whatever other threads are in the middle of: the child uses the pools it finds, nothing is lost but
//! what only the other threads knew, and the parent notices nothing.

#![cfg(unix)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytepool::{ClassStats, GetAsync, Misuse, Pool, PooledBuffer, Stats};

/// A child that takes longer hangs, in seconds.
const TIME_LIMIT: libc::c_uint = 60;

/// Forks, and runs `child` in the child, which must come to its end.
#[track_caller]
fn fork(child: impl FnOnce()) {
    // SAFETY:
    // - the child runs what this library promises to be fit for it, and ends without destructors of others
    match unsafe { libc::fork() } {
        -1 => panic!("no fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: as above
            unsafe { libc::alarm(TIME_LIMIT) };
            let failed = catch_unwind(AssertUnwindSafe(child)).is_err();
            // SAFETY: as above
            unsafe { libc::_exit(i32::from(failed)) }
        }
        pid => {
            let mut status = 0;
            // SAFETY:
            // - our own child
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status), "the child was ended by signal {}", libc::WTERMSIG(status));
            assert_eq!(libc::WEXITSTATUS(status), 0, "the child failed");
        }
    }
}

/// Runs `child` in a child whose parent has `others` running in other threads, which end when they are told to.
fn fork_among(count: usize, forks: usize, other: impl Fn(usize, &AtomicBool) + Sync, child: impl Fn(usize)) {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(count + 1);
    thread::scope(|scope| {
        for number in 0..count {
            let (other, stop, start) = (&other, &stop, &start);
            scope.spawn(move || {
                start.wait();
                other(number, stop);
            });
        }
        start.wait();
        let forked = catch_unwind(AssertUnwindSafe(|| (0..forks).for_each(|number| fork(|| child(number)))));
        stop.store(true, Relaxed);
        forked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

// ---- everything at once ----

/// Cached, cached and often full, not cached; larger sizes are oversize.
const CLASSES: [(usize, usize); 3] = [(512, 256), (4096, 12), (256 << 10, 8)];
const SIZES: [usize; 6] = [1, 300, 512, 4000, 200 << 10, 300 << 10];
const THREADS: usize = 6;
/// A worker has at most this many buffers in its hands.
const IN_HAND: usize = 2;
/// Of all threads together, before the figures are looked at.
const ENOUGH_GETS: u64 = 10_000;

fn pool_of_all_kinds(max_bytes: usize) -> Pool {
    let builder =
        CLASSES.iter().fold(Pool::builder(), |builder, &(size, count)| builder.size_class(size, count));
    builder.max_bytes(max_bytes).build().unwrap()
}

/// Raw buffers on their way from one thread to another; their size stands in their first bytes.
struct Mailboxes([AtomicPtr<u8>; 32]);

impl Mailboxes {
    fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; 32])
    }

    /// Leaves a buffer, or nothing, and takes what was there.
    fn swap(&self, place: usize, buffer: *mut u8) -> Option<NonNull<u8>> {
        NonNull::new(self.0[place % self.0.len()].swap(buffer, AcqRel))
    }

    fn take_all(&self) -> impl Iterator<Item = NonNull<u8>> {
        (0..self.0.len()).filter_map(|place| self.swap(place, ptr::null_mut()))
    }
}

fn put_letter(pool: &Pool, letter: NonNull<u8>) {
    // SAFETY:
    // - taken out of a mailbox, so it is this thread's; whoever left it wrote the size
    unsafe {
        let size = letter.cast::<usize>().read_unaligned();
        assert_eq!(pool.put_raw(letter, size), Ok(()));
    }
}

struct Work {
    pool: Pool,
    mailboxes: Mailboxes,
    gets: AtomicU64,
}

impl Work {
    fn new(max_bytes: usize) -> Self {
        let pool = pool_of_all_kinds(max_bytes);
        Self { pool, mailboxes: Mailboxes::new(), gets: AtomicU64::new(0) }
    }

    /// One of everything that may be under way when another thread forks.
    fn step(&self, dice: u64) {
        let size = SIZES[(dice >> 8) as usize % SIZES.len()].max(size_of::<usize>());
        match dice % 64 {
            // Fresh slots come last: what is touched is out, or was in some cache.
            0 => self.pool.stats().classes.iter().for_each(|class| {
                assert!(class.touched <= class.capacity.max(64) + 128, "slots were lost: {class:#?}");
            }),
            1 => drop(self.pool.trim(dice as usize % 100_000)),
            2 => {
                let other = Pool::builder().size_class(size, 2).build().unwrap();
                drop(other.get(size));
            }
            3 => self.come_and_go(size),
            4..32 => self.send(size, dice),
            32..40 => {
                let Ok(data) = self.pool.get_raw(size) else { return };
                self.gets.fetch_add(1, Relaxed);
                // SAFETY:
                // - just got
                assert_eq!(unsafe { self.pool.put_raw(data, size) }, Ok(()));
            }
            40..48 => {
                let timeout = Duration::from_micros(dice >> 16 & 511);
                let Ok(_buffer) = self.pool.get_timeout(size, timeout) else { return };
                self.gets.fetch_add(1, Relaxed);
            }
            _ => {
                let Ok(mut buffer) = self.pool.get(size) else { return };
                self.gets.fetch_add(1, Relaxed);
                buffer[size - 1] = 7;
            }
        }
    }

    /// At the limit a letter goes back: those that wait may be all that the limit allows.
    fn send(&self, size: usize, dice: u64) {
        let Ok(data) = self.pool.get_raw(size) else {
            let letter = self.mailboxes.swap((dice >> 32) as usize, ptr::null_mut());
            return letter.into_iter().for_each(|letter| put_letter(&self.pool, letter));
        };
        self.gets.fetch_add(1, Relaxed);
        // SAFETY:
        // - just got, with room for a size
        unsafe { data.cast::<usize>().write_unaligned(size) };
        if let Some(letter) = self.mailboxes.swap((dice >> 32) as usize, data.as_ptr()) {
            put_letter(&self.pool, letter);
        }
    }

    /// A context that is made, used and freed.
    #[cfg(feature = "capi")]
    fn come_and_go(&self, size: usize) {
        use bytepool::ffi::capi::{bytepool_get, bytepool_put};
        let context = self.pool.context();
        let data = bytepool_get(context.as_ptr(), size);
        self.gets.fetch_add(u64::from(!data.is_null()), Relaxed);
        // SAFETY:
        // - just got, or NULL
        unsafe { bytepool_put(context.as_ptr(), data, size) };
    }

    #[cfg(not(feature = "capi"))]
    fn come_and_go(&self, _size: usize) {
        drop(self.pool.clone());
    }

    /// Until told to stop, and until there was work enough, which takes a loaded machine longer.
    fn go_on(&self, number: usize, stop: &AtomicBool) {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number as u64 + 1);
        while !stop.load(Relaxed) || self.gets.load(Relaxed) < ENOUGH_GETS {
            self.step(next(&mut random));
        }
    }

    /// Once the workers ended: all that was got was put.
    fn check_end(&self) {
        self.mailboxes.take_all().for_each(|letter| put_letter(&self.pool, letter));
        let stats = self.pool.stats();
        stats.assert_consistent();
        let gets = self.gets.load(Relaxed);
        assert_eq!((stats.gets, stats.puts), (gets, gets));
        assert_eq!((outstanding(&stats), stats.oversize_buffers), (0, 0), "{stats:#?}");
        assert_eq!((stats.double_puts, stats.size_mismatches, stats.foreign_pointers), (0, 0, 0));
    }
}

fn outstanding(stats: &Stats) -> usize {
    stats.classes.iter().map(|class| class.outstanding + class.overflow).sum()
}

/// Gets all idle slots of a class, each once: fresh ones come last, and none is needed.
fn get_all_that_is_left(pool: &Pool, class: &ClassStats) {
    let buffers: Vec<_> = (0..class.idle).map(|_| pool.get(class.buffer_size).unwrap()).collect();
    let stats = pool.stats();
    let now = stats.classes.iter().find(|now| now.buffer_size == class.buffer_size).unwrap();
    assert_eq!((now.touched, now.idle), (class.touched, 0), "slots of {} bytes were lost", class.buffer_size);
    drop(buffers);
}

/// Joined, so that the destructors of their thread-locals are through.
fn in_threads_of_its_own(run: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        let threads = [1, 2, 3].map(|number| {
            let run = &run;
            scope.spawn(move || run(number))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// What a child does with the pool of its parent's threads.
fn live_on(work: &Work, number: usize) {
    let pool = &work.pool;
    if number % 4 == 1 {
        // Another thread is the first to use it.
        thread::scope(|scope| drop(scope.spawn(|| pool.get(100)).join().unwrap()));
    }
    work.mailboxes.take_all().for_each(|letter| put_letter(pool, letter));
    let stats = pool.stats();
    stats.assert_consistent();
    let lost = outstanding(&stats) + stats.oversize_buffers;
    assert!(lost <= THREADS * IN_HAND, "{lost} buffers were lost: {stats:#?}");
    assert_eq!((stats.double_puts, stats.size_mismatches, stats.foreign_pointers), (0, 0, 0));

    let mut random = number as u64 + 1;
    (0..100).for_each(|_| work.step(next(&mut random)));
    if number % 4 == 2 {
        in_threads_of_its_own(|thread| (0..100).for_each(|step| work.step(thread * step)));
    }
    work.mailboxes.take_all().for_each(|letter| put_letter(pool, letter));
    let stats = pool.stats();
    assert_eq!(outstanding(&stats) + stats.oversize_buffers, lost, "{stats:#?}");
    if stats.max_bytes == 0 {
        stats.classes.iter().for_each(|class| get_all_that_is_left(pool, class));
    }
    if number % 4 == 3 {
        fork(|| drop(pool.get(100).unwrap()));
    }

    let new = pool_of_all_kinds(0);
    drop(SIZES.map(|size| new.get(size).unwrap()));
    drop(new);
    pool.close();
    assert!(pool.get(1).is_err());
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(outstanding(&stats) + stats.oversize_buffers, lost, "{stats:#?}");
}

/// `tests/c/fork.c` does it a thousand times.
#[test]
fn forks_among_threads_inside_get_and_put() {
    let work = Work::new(0);
    fork_among(THREADS, 300, |number, stop| work.go_on(number, stop), |number| live_on(&work, number));
    work.check_end();
}

#[test]
fn forks_among_threads_at_the_limit() {
    let work = Work::new(600 << 10);
    fork_among(THREADS, 100, |number, stop| work.go_on(number, stop), |number| live_on(&work, number));
    work.check_end();
    assert!(work.pool.stats().limit_failures > 0);
}

#[test]
fn forks_of_many_threads_at_once() {
    let work = Work::new(0);
    let forks = AtomicUsize::new(0);
    let fork_and_work = |number: usize, stop: &AtomicBool| {
        let mut random = number as u64 + 99;
        while !stop.load(Relaxed) || forks.load(Relaxed) < 3 {
            (0..50).for_each(|_| work.step(next(&mut random)));
            if number < 3 {
                fork(|| drop(work.pool.get(100).unwrap()));
                forks.fetch_add(1, Relaxed);
            }
        }
    };
    fork_among(THREADS, 100, fork_and_work, |_| drop(work.pool.get(100).unwrap()));
    work.check_end();
}

// ---- what is where afterwards ----

/// Leaves idle slots in the calling thread's cache.
fn fill_cache(pool: &Pool) {
    let buffers: Vec<_> = (0..8).map(|_| pool.get(100).unwrap()).collect();
    drop(buffers);
    drop(pool.get(100).unwrap());
}

fn class(pool: &Pool) -> ClassStats {
    pool.stats().classes[0]
}

/// Whether this build has thread caches, which one under a checker of memory does not.
fn has_caches(pool: &Pool) -> bool {
    fill_cache(pool);
    class(pool).cached > 0
}

/// Runs `run` while other threads keep what `before` gave them; then they do `after` and end.
fn beside<T>(others: usize, before: impl Fn() -> T + Sync, after: impl Fn(T) + Sync, run: impl FnOnce()) {
    let (ready, done) = (Barrier::new(others + 1), Barrier::new(others + 1));
    thread::scope(|scope| {
        let other = || {
            let kept = before();
            ready.wait();
            done.wait();
            after(kept);
        };
        let threads: Vec<_> = (0..others).map(|_| scope.spawn(other)).collect();
        ready.wait();
        let outcome = catch_unwind(AssertUnwindSafe(run));
        done.wait();
        // Joined, so that the destructors of their thread-locals are through.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_child_lays_on_the_shelf_what_other_threads_cached() {
    let pool = Pool::builder().size_class(512, 2048).build().unwrap();
    if !has_caches(&pool) {
        return;
    }
    let own = class(&pool).cached;
    let cache_is_still_there = |()| {
        // Nothing is got from the shelf.
        let moves = class(&pool).moves;
        drop(pool.get(100).unwrap());
        assert_eq!(class(&pool).moves, moves);
    };
    beside(
        1,
        || fill_cache(&pool),
        cache_is_still_there,
        || {
            let before = class(&pool);
            assert!(before.cached > own, "{own} of {before:?}");
            fork(|| {
                let in_child = class(&pool);
                assert_eq!(
                    (in_child.idle, in_child.cached),
                    (before.idle, own),
                    "the forking thread's stays"
                );
                assert_eq!(in_child.outstanding, 0);
            });
            assert_eq!(class(&pool), before, "the parent notices nothing");
        },
    );
}

#[test]
fn a_thread_that_ends_after_a_fork_leaves_its_idle_slots_to_others() {
    let pool = Pool::builder().size_class(512, 2048).build().unwrap();
    beside(1, || fill_cache(&pool), |()| (), || fork(|| ()));
    assert_eq!((class(&pool).cached, class(&pool).idle), (0, class(&pool).touched));
}

/// A child's figures count what only other threads knew, exactly.
#[test]
fn what_other_threads_held_stays_outstanding_in_the_child() {
    let pool = Pool::builder().size_class(512, 2048).size_class(256 << 10, 4).build().unwrap();
    let hold = || {
        fill_cache(&pool);
        [100, 200 << 10, 300 << 10].map(|size| pool.get(size).unwrap())
    };
    beside(3, hold, drop, || {
        fork(|| {
            let stats = pool.stats();
            stats.assert_consistent();
            assert_eq!((stats.classes[0].outstanding, stats.classes[1].outstanding), (3, 3));
            assert_eq!(stats.oversize_buffers, 3);
            stats.classes.iter().for_each(|class| get_all_that_is_left(&pool, class));
            pool.close();
            assert_eq!(outstanding(&pool.stats()), 6);
        });
    });
    assert_eq!(outstanding(&pool.stats()), 0);
}

/// What overflows is slots, too, and threads cache them.
fn pool_that_overflows() -> (Pool, Vec<PooledBuffer>) {
    let pool = Pool::builder().size_class(512, 4).build().unwrap();
    let slots: Vec<_> = (0..4).map(|_| pool.get(512).unwrap()).collect();
    (pool, slots)
}

/// Leaves idle overflow in the calling thread's cache.
fn cache_overflow(pool: &Pool) {
    drop((0..100).map(|_| pool.get(512).unwrap()).collect::<Vec<_>>());
}

/// Gets all that is idle: no slot is opened for it, and each comes once.
fn get_all_that_is_idle(pool: &Pool) {
    let before = class(pool);
    assert!(before.idle > 0, "{before:?}");
    let all: Vec<_> = (0..before.idle).map(|_| pool.get_raw(512).unwrap()).collect();
    let now = class(pool);
    assert_eq!((now.touched, now.idle, now.system_overflow), (before.touched, 0, 0), "slots were lost");
    for data in all {
        // SAFETY:
        // - got above, and used no more; the second put is refused
        let (first, second) = unsafe { (pool.put_raw(data, 512), pool.put_raw(data, 512)) };
        assert_eq!(first, Ok(()));
        assert!(matches!(second, Err(Misuse::DoublePut { .. })), "{second:?}");
    }
    pool.stats().assert_consistent();
}

fn overflow_is_cached() -> bool {
    !cfg!(bytepool_portable) && has_caches(&Pool::builder().size_class(512, 2048).build().unwrap())
}

#[test]
fn a_child_finds_the_overflow_that_other_threads_cached() {
    let (pool, slots) = pool_that_overflows();
    if !overflow_is_cached() {
        return;
    }
    let hold = || {
        cache_overflow(&pool);
        pool.get(512).unwrap()
    };
    beside(3, hold, drop, || {
        fork(|| {
            assert_eq!(class(&pool).overflow, 3);
            get_all_that_is_idle(&pool);
            assert_eq!(class(&pool).overflow, 3);
        });
    });
    drop(slots);
    assert_eq!(outstanding(&pool.stats()), 0);
}

#[test]
fn a_thread_that_ends_after_a_fork_leaves_its_overflow_to_others() {
    let (pool, _slots) = pool_that_overflows();
    if !overflow_is_cached() {
        return;
    }
    beside(2, || cache_overflow(&pool), |()| (), || fork(|| ()));
    get_all_that_is_idle(&pool);
}

/// The child is the only one to know the last handle: it ends the pool.
#[test]
fn a_child_ends_a_pool_that_other_threads_cached_slots_of() {
    let closure = Arc::new(());
    let witness = Arc::clone(&closure);
    let keep = move |size| {
        let _ = &closure;
        size
    };
    let pool = Pool::builder().size_class(512, 2048).round(keep).build().unwrap();
    fill_cache(&pool);
    beside(
        1,
        || fill_cache(&pool),
        |()| (),
        || {
            fork(|| {
                // SAFETY:
                // - the parent's is another copy
                drop(unsafe { ptr::read(&raw const pool) });
                assert_eq!(Arc::strong_count(&witness), 1, "the pool was not destroyed");
            });
        },
    );
    assert_eq!(Arc::strong_count(&witness), 2);
}

/// A future is memory, of which the child has a copy: it stays in the queue, and so does what it was granted.
#[test]
fn a_child_s_futures_stay_in_the_queue() {
    let pool = Pool::builder().size_class(4096, 2).max_bytes(2 * 4096).build().unwrap();
    let [first, second] = [(); 2].map(|()| pool.get(4096).unwrap());
    let mut futures = [(); 2].map(|()| pool.get_async(4096));
    let poll = |future: &mut GetAsync<'_>| Pin::new(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(futures.iter_mut().all(|future| poll(future).is_pending()));
    thread::scope(|scope| {
        // Long, and not for ever: a child that failed ends the test.
        let waiter = scope.spawn(|| pool.get_timeout(4096, Duration::from_secs(60)).map(drop));
        while pool.stats().waits < 3 {
            thread::yield_now();
        }
        drop(first);
        assert_eq!(pool.stats().outstanding(), 2);
        fork(|| {
            // The thread that waited between them and anything later is not here.
            assert_eq!(pool.stats().outstanding(), 2);
            let [granted, waiting] = &mut futures;
            assert!(matches!(poll(granted), Poll::Ready(Ok(_))));
            assert!(matches!(poll(waiting), Poll::Ready(Ok(_))), "what the first had is the second's");
            let held = pool.get_timeout(4096, Duration::MAX).unwrap();
            assert!(pool.get_timeout(4096, Duration::from_millis(1)).is_err());
            drop(held);
            pool.stats().assert_consistent();
        });
        let ended = futures.iter_mut().map(poll);
        assert_eq!(ended.filter(Poll::is_ready).count(), 2, "also in the parent");
        drop(second);
        waiter.join().unwrap().unwrap();
    });
}

/// Runs until it is told to end, and says when it began.
struct Stays(Mutex<(Sender<()>, Receiver<()>)>);

impl Wake for Stays {
    fn wake(self: Arc<Self>) {
        let (began, ends) = &*self.0.lock().unwrap();
        began.send(()).unwrap();
        ends.recv().unwrap();
    }
}

struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Another thread is calling the first of two wakers. The child calls the second, as nobody else would.
#[test]
fn a_child_calls_the_wakers_of_its_parent_s_other_threads() {
    let pool = Pool::builder().size_class(4096, 1).max_bytes(4096).build().unwrap();
    let held = pool.get(4096).unwrap();
    let ((began, is_waking), (end, ends)) = (channel(), channel());
    let calls = Arc::new(Calls(AtomicUsize::new(0)));
    let wakers = [Waker::from(Arc::new(Stays(Mutex::new((began, ends))))), Waker::from(calls.clone())];
    let mut futures = [(); 2].map(|()| pool.get_async(4096));
    for (future, waker) in futures.iter_mut().zip(&wakers) {
        assert!(Pin::new(future).poll(&mut Context::from_waker(waker)).is_pending());
    }
    let called = || calls.0.load(Relaxed);
    thread::scope(|scope| {
        let closer = scope.spawn(|| pool.close());
        is_waking.recv().unwrap();
        let forked = catch_unwind(AssertUnwindSafe(|| {
            fork(|| {
                assert_eq!(called(), 0);
                pool.stats().assert_consistent();
                assert_eq!(called(), 1);
            });
        }));
        end.send(()).unwrap();
        forked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        closer.join().unwrap();
    });
    assert_eq!(called(), 1, "in the parent that thread calls it");
    drop(held);
}

/// Waiters keep nobody from forking, and do not wait in the child.
#[test]
fn a_child_has_no_waiters() {
    let pool = Pool::builder().size_class(4096, 1).max_bytes(4096).build().unwrap();
    let held = pool.get_raw(4096).unwrap();
    let put = || {
        // SAFETY:
        // - got above, and used by nobody
        assert_eq!(unsafe { pool.put_raw(held, 4096) }, Ok(()));
    };
    thread::scope(|scope| {
        let waiters = [(); 3].map(|()| scope.spawn(|| pool.get_timeout(4096, Duration::MAX).map(drop)));
        while pool.stats().waits < 3 {
            thread::yield_now();
        }
        fork(|| {
            put();
            let class = class(&pool);
            assert_eq!((class.outstanding, class.idle), (0, 1), "it was given to nobody");
            let again = pool.get_timeout(4096, Duration::MAX).unwrap();
            assert!(pool.get_timeout(4096, Duration::from_millis(1)).is_err());
            drop(again);
            pool.stats().assert_consistent();
        });
        put();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap().unwrap());
    });
    assert_eq!(outstanding(&pool.stats()), 0);
}

// ---- the user's functions ----

#[test]
fn a_rounding_function_may_fork() {
    static FORKING: AtomicBool = AtomicBool::new(false);
    fn round(size: usize) -> usize {
        if FORKING.swap(false, Relaxed) {
            fork(|| drop(Pool::builder().size_class(64, 1).build().unwrap().get(1).unwrap()));
        }
        size.next_multiple_of(8)
    }
    let pool = Pool::builder().size_class(512, 2048).round(round).build().unwrap();
    let other = |_: usize, stop: &AtomicBool| {
        while !stop.load(Relaxed) {
            drop(pool.get(600).unwrap());
        }
    };
    fork_among(3, 20, other, |_| {
        FORKING.store(true, Relaxed);
        drop(pool.get(500).unwrap());
        assert!(!FORKING.load(Relaxed));
    });
    FORKING.store(true, Relaxed);
    drop(pool.get(500).unwrap());
    assert!(!FORKING.load(Relaxed));
}

/// A thread that stays in the user's function for long does not keep others from forking.
#[test]
fn a_fork_does_not_wait_for_the_user_s_functions() {
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    static LEAVE: AtomicBool = AtomicBool::new(false);
    fn round(size: usize) -> usize {
        if size == 333 {
            INSIDE.fetch_add(1, Relaxed);
            while !LEAVE.load(Relaxed) {
                thread::yield_now();
            }
        }
        size
    }
    let pool = Pool::builder().size_class(512, 2048).round(round).build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(pool.get(333).unwrap()));
        while INSIDE.load(Relaxed) == 0 {
            thread::yield_now();
        }
        fork(|| {
            drop(pool.get(100).unwrap());
            pool.close();
            assert_eq!(pool.stats().mapped_bytes, 0);
        });
        LEAVE.store(true, Relaxed);
    });
}

/// Puts of strangers, one of which the default handler reports in the child.
#[cfg(feature = "capi")]
#[test]
fn a_child_reports_misuse() {
    use bytepool::ffi::capi::{bytepool_put, bytepool_set_misuse_handler};
    use bytepool::ffi::misuse::Report;
    use std::ffi::c_void;

    unsafe extern "C" fn count(_: *const Report, calls: *mut c_void) {
        // SAFETY:
        // - the test's counter
        unsafe { &*calls.cast::<AtomicUsize>() }.fetch_add(1, Relaxed);
    }
    let calls = AtomicUsize::new(0);
    let pool = Pool::builder().size_class(512, 2048).build().unwrap();
    let context = pool.context();
    let misuse = |of: *mut c_void| {
        let stray = ptr::without_provenance_mut(64);
        // SAFETY:
        // - it is refused
        unsafe { bytepool_put(of, stray, 1) };
    };
    let set = |handler, data: &AtomicUsize| {
        // SAFETY:
        // - the counter outlives the handler: it is taken away again below
        unsafe { bytepool_set_misuse_handler(handler, ptr::from_ref(data).cast_mut().cast()) };
    };
    set(Some(count as _), &calls);
    let other = |_: usize, stop: &AtomicBool| {
        while !stop.load(Relaxed) {
            misuse(context.as_ptr());
            misuse(ptr::null_mut());
        }
    };
    fork_among(3, 100, other, |_| {
        let before = calls.load(Relaxed);
        misuse(context.as_ptr());
        assert_eq!(calls.load(Relaxed), before + 1);
        set(None, &calls);
        let lines = stderr_of(|| misuse(context.as_ptr()));
        assert!(lines.contains("misuse refused"), "{lines}");
    });
    set(None, &calls);
    assert!(calls.load(Relaxed) > 0);
}

/// What `run` writes to stderr, in a child.
#[cfg(feature = "capi")]
fn stderr_of(run: impl FnOnce()) -> String {
    use std::io::{Read, Seek};
    use std::os::fd::FromRawFd;
    // SAFETY:
    // - the name is a C string; the descriptor is ours
    let mut file = unsafe {
        let file = libc::memfd_create(c"stderr".as_ptr(), 0);
        assert!(file >= 0 && libc::dup2(file, libc::STDERR_FILENO) >= 0);
        std::fs::File::from_raw_fd(file)
    };
    run();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

// ---- a child's child, of a parent that never used the pool ----

/// Gets and puts, so that this thread's cache has idle slots of every class.
fn fill_the_cache(pool: &Pool) {
    let buffers: Vec<_> = [100, 512, 4096].into_iter().map(|size| pool.get(size).unwrap()).collect();
    drop(buffers);
}

/// Nobody holds anything, and whatever was cached by threads that are gone is there to be got.
fn assert_all_is_there(pool: &Pool) {
    fill_the_cache(pool);
    pool.stats().assert_consistent();
    assert_eq!(pool.stats().outstanding(), 0);
    for (class, (size, count)) in CLASSES.into_iter().enumerate() {
        let idle = pool.stats().classes[class].idle;
        let all: Vec<_> = (0..count).map(|_| pool.get(size).unwrap()).collect();
        assert!(pool.stats().classes[class].idle <= idle.saturating_sub(count));
        drop(all);
    }
    pool.trim(0);
    if !cfg!(bytepool_portable) {
        assert_eq!(pool.stats().mapped_bytes, 0); // else its region cannot give idle pages back
    }
    fill_the_cache(pool);
}

#[test]
fn the_forking_thread_keeps_its_cache_through_two_forks() {
    let pool = pool_of_all_kinds(usize::MAX);
    fill_the_cache(&pool);
    let cached = |pool: &Pool| pool.stats().classes.iter().map(|class| class.cached).sum::<usize>();
    let before = cached(&pool);
    fork(|| {
        assert_eq!(cached(&pool), before);
        fork(|| assert_all_is_there(&pool));
        assert_all_is_there(&pool);
    });
    fork(|| fork(|| assert_all_is_there(&pool)));
    assert_eq!(cached(&pool), before);
    assert_all_is_there(&pool);
}

/// A thread of the child has the state of a thread that only the parent has, whose cache the child never ended.
#[test]
fn a_new_thread_of_a_child_forks_with_the_state_of_a_thread_that_is_gone() {
    let (pool, other) = (pool_of_all_kinds(usize::MAX), pool_of_all_kinds(usize::MAX));
    fill_the_cache(&pool);
    let forking = || {
        fill_the_cache(&other); // takes over a state
        fork(|| {
            assert_all_is_there(&pool);
            assert_all_is_there(&other);
        });
    };
    let child = || {
        thread::scope(|scope| scope.spawn(forking).join().unwrap());
        assert_all_is_there(&pool);
    };
    beside(1, || fill_the_cache(&pool), |()| {}, || fork(child));
    assert_all_is_there(&pool);
}
