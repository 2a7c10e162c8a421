//! Contexts by the C functions: given up while other threads call.

use std::ffi::c_void;
use std::sync::Arc;

use super::check;
use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{Acquire, Release};
use super::sync::thread;
use crate::Pool;
use crate::ffi::capi::{bytepool_free, bytepool_get, bytepool_put, bytepool_put_checked, bytepool_put_many};
use crate::ffi::context::free;
use crate::ffi::status::Status;
use crate::os::fork::ForkGuard;

const SIZE: usize = 512;

/// A C pointer that several threads have.
#[derive(Clone, Copy)]
struct Pointer(*mut c_void);
// SAFETY:
// - the models use it as their threads may
unsafe impl Send for Pointer {}

fn context(pool: &Pool) -> Pointer {
    Pointer(pool.context().into_raw())
}

fn pool() -> Pool {
    Pool::builder().size_class(SIZE, 16).build().unwrap()
}

fn spawn<T: Send + 'static>(
    context: Pointer,
    body: impl FnOnce(*mut c_void) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || body({ context }.0))
}

fn get_and_put(context: *mut c_void) -> bool {
    let data = bytepool_get(context, SIZE);
    if data.is_null() {
        return false;
    }
    // SAFETY:
    // - just got
    unsafe { bytepool_put(context, data, SIZE) };
    true
}

fn give_up(context: *mut c_void) -> bool {
    free(&ForkGuard::new(), context)
}

#[test]
fn a_context_is_freed_once() {
    check(1000, || {
        let pool = pool();
        let context = context(&pool);
        let user = spawn(context, get_and_put);
        let freers = [(); 2].map(|()| spawn(context, give_up));
        let [first, second] = freers.map(thread::JoinHandle::join);
        assert!(first != second);
        user.join();
        assert!(bytepool_get(context.0, SIZE).is_null());
        assert_eq!(pool.stats().classes[0].outstanding, 0);
    });
}

#[test]
fn once_freed_a_context_hands_out_nothing_on_any_thread() {
    check(1000, || {
        let pool = pool();
        let context = context(&pool);
        let freed = Arc::new(AtomicU32::new(0));
        let seen = freed.clone();
        let user = spawn(context, move |context| {
            for _ in 0..4 {
                let was_freed = seen.load(Acquire) == 1;
                assert!(!(get_and_put(context) && was_freed), "a freed context hands out buffers");
            }
        });
        bytepool_free(context.0);
        freed.store(1, Release);
        user.join();
    });
}

#[test]
fn of_racing_puts_with_a_verdict_exactly_one_is_told_ok() {
    check(1500, || {
        let pool = pool();
        let context = context(&pool);
        // A class is biased to the threads that get its slots, from a thread's first batch on.
        (0..3).for_each(|_| assert!(get_and_put(context.0)));
        let data = Pointer(bytepool_get(context.0, SIZE));
        let put = move |context| {
            // SAFETY:
            // - got above; nobody uses it any more
            unsafe { bytepool_put_checked(context, { data }.0, SIZE) }
        };
        let others = [(); 2].map(|()| spawn(context, put));
        let own = put(context.0);
        let verdicts = [own].into_iter().chain(others.into_iter().map(thread::JoinHandle::join));
        assert_eq!(verdicts.filter(|&verdict| verdict == Status::Ok as i32).count(), 1);
        pool.stats().assert_consistent();
        assert_eq!((pool.stats().double_puts, pool.stats().classes[0].outstanding), (2, 0));
        bytepool_free(context.0);
    });
}

#[test]
fn a_stale_context_never_reaches_another_pool() {
    check(1000, || {
        let pool = pool();
        let context = context(&pool);
        let data = Pointer(bytepool_get(context.0, SIZE));
        let putter = spawn(context, move |context| {
            // SAFETY:
            // - got above, and put once
            unsafe { bytepool_put_checked(context, { data }.0, SIZE) }
        });
        let freer = spawn(context, |context| {
            drop(pool);
            bytepool_free(context);
        });
        // Often in the same anchor, or at the same address.
        let other = Pool::builder().size_class(SIZE, 16).build().unwrap();
        assert_eq!(putter.join(), Status::Ok as i32, "a put is good as long as the buffer keeps the pool");
        freer.join();
        assert!(!get_and_put(context.0));
        assert_eq!(other.stats().gets, 0);
    });
}

/// A put by a thread that did not get the buffer, which tells what came of it.
#[derive(Clone, Copy)]
enum Telling {
    Checked,
    Many,
}

impl Telling {
    fn put(self, context: *mut c_void, data: *mut c_void) -> bool {
        // SAFETY:
        // - nobody uses the buffer any more
        let status = unsafe {
            match self {
                Self::Checked => bytepool_put_checked(context, data, SIZE),
                Self::Many => bytepool_put_many(context, &raw const data, 1, SIZE),
            }
        };
        status == Status::Ok as i32
    }
}

/// Of a slot, or of overflow, of which there is some at 2 slots.
fn race_with_the_getter(telling: Telling, slots: usize) {
    check(800, move || {
        let pool = Pool::builder().size_class(SIZE, slots).build().unwrap();
        let context = context(&pool);
        let held: Vec<_> = (slots..4).map(|_| bytepool_get(context.0, SIZE)).collect();
        // So that the thread has a cache, and the class is biased.
        (0..6).for_each(|_| assert!(get_and_put(context.0)));
        let data = Pointer(bytepool_get(context.0, SIZE));
        let other = spawn(context, move |context| {
            assert!(get_and_put(context) && get_and_put(context));
            telling.put(context, { data }.0)
        });
        let own = Telling::Checked.put(context.0, data.0);
        assert!(own != other.join());
        assert_eq!(pool.stats().double_puts, 1);
        for data in held {
            // SAFETY:
            // - got above
            unsafe { bytepool_put(context.0, data, SIZE) };
        }
        bytepool_free(context.0);
        assert_eq!((pool.stats().gets, pool.stats().classes[0].overflow), (pool.stats().puts, 0));
    });
}

#[test]
fn a_checked_put_that_races_with_the_getters_tells_who_won() {
    race_with_the_getter(Telling::Checked, 16);
}

#[test]
fn a_put_of_many_that_races_with_the_getters_tells_who_won() {
    race_with_the_getter(Telling::Many, 16);
}

#[test]
fn a_checked_put_of_overflow_tells_who_won() {
    race_with_the_getter(Telling::Checked, 2);
}

#[test]
fn a_put_of_many_with_overflow_tells_who_won() {
    race_with_the_getter(Telling::Many, 2);
}
