//! Gets that wait as tasks: nothing that is handed over is lost, no wake-up is, and wakers run without a lock.
//!
//! Fork guards count here: when the last one of a thread ends, it calls the wakers.

use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use super::sync::{plain_memory, thread};
use super::{check_forking, hold};
use crate::{GetAsync, GetError, Pool, PooledBuffer};

const SIZE: usize = 4096;

/// A pool that may have `buffers` buffers at once.
fn pool(buffers: usize) -> Pool {
    Pool::builder().size_class(SIZE, 16).max_bytes(buffers * SIZE).build().unwrap()
}

/// At a quiet moment: all room is there to be got.
fn assert_whole(pool: &Pool, buffers: usize) {
    pool.stats().assert_consistent();
    let all: Result<Vec<_>, _> = (0..buffers).map(|_| pool.get(SIZE)).collect();
    assert!(all.is_ok(), "room was lost: {:#?}", pool.stats());
}

/// How often a task was woken.
#[derive(Default)]
struct Woken(AtomicU32);

/// Never freed: the standard library's count of an `Arc` is none that the models know, so they would miss its order.
fn woken() -> Arc<Woken> {
    let woken = Arc::new(Woken::default());
    std::mem::forget(woken.clone());
    woken
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Release);
    }
}

type Polled = Poll<Result<PooledBuffer, GetError>>;

fn poll(future: &mut GetAsync<'_>, woken: &Arc<Woken>) -> Polled {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(woken.clone())))
}

/// Polls again whenever it was woken. Who is not woken never ends, which the model finds.
fn block_on(future: &mut GetAsync<'_>) -> Result<PooledBuffer, GetError> {
    let woken = woken();
    let mut seen = 0;
    loop {
        if let Poll::Ready(got) = poll(future, &woken) {
            return got;
        }
        while woken.0.load(Acquire) == seen {
            thread::yield_now();
        }
        seen = woken.0.load(Acquire);
    }
}

fn use_and_put(held: &AtomicU32, most: u32, buffer: PooledBuffer) {
    hold(held, most);
    plain_memory::is_used(NonNull::from(&buffer[0]));
}

/// Runs `body` on so many threads.
fn on_threads<const THREADS: usize>(
    pool: &Pool,
    body: impl Fn(usize, &Pool, &AtomicU32) + Clone + Send + 'static,
) {
    let held = Arc::new(AtomicU32::new(0));
    let threads: [_; THREADS] = std::array::from_fn(|number| {
        let (pool, held, body) = (pool.clone(), held.clone(), body.clone());
        thread::spawn(move || body(number, &pool, &held))
    });
    threads.into_iter().for_each(thread::JoinHandle::join);
}

#[test]
fn every_task_is_woken_in_the_end() {
    check_forking(500, || {
        let pool = pool(1);
        on_threads::<3>(&pool, |_, pool, held| {
            for _ in 0..2 {
                use_and_put(held, 1, block_on(&mut pool.get_async(SIZE)).unwrap());
            }
        });
        assert_whole(&pool, 1);
    });
}

#[test]
fn tasks_and_threads_wait_in_one_queue() {
    check_forking(500, || {
        let pool = pool(1);
        on_threads::<3>(&pool, |number, pool, held| {
            for _ in 0..2 {
                let got = match number {
                    0 => pool.get_timeout(SIZE, Duration::MAX),
                    _ => block_on(&mut pool.get_async(SIZE)),
                };
                use_and_put(held, 1, got.unwrap());
            }
        });
        assert_whole(&pool, 1);
    });
}

#[test]
fn a_drop_that_races_with_a_hand_over_loses_nothing() {
    check_forking(800, || {
        let pool = pool(1);
        on_threads::<3>(&pool, |number, pool, held| {
            for _ in 0..2 {
                let mut future = pool.get_async(SIZE);
                if number == 0 {
                    match poll(&mut future, &woken()) {
                        Poll::Ready(got) => use_and_put(held, 1, got.unwrap()),
                        Poll::Pending => drop(future),
                    }
                } else {
                    use_and_put(held, 1, block_on(&mut future).unwrap());
                }
            }
        });
        assert_whole(&pool, 1);
    });
}

#[test]
fn tasks_for_more_than_a_slot_get_their_room() {
    check_forking(500, || {
        let pool = pool(2);
        on_threads::<2>(&pool, |_, pool, _| {
            drop(block_on(&mut pool.get_async(SIZE)).unwrap());
            drop(block_on(&mut pool.get_async(2 * SIZE)).unwrap());
        });
        assert_whole(&pool, 2);
    });
}

#[test]
fn closing_and_putting_at_once_leave_no_task_waiting() {
    check_forking(500, || {
        let pool = pool(1);
        let buffer = pool.get(SIZE).unwrap();
        let putter = thread::spawn(move || drop(buffer));
        let closer = {
            let pool = pool.clone();
            thread::spawn(move || pool.close())
        };
        on_threads::<2>(&pool, |_, pool, held| match block_on(&mut pool.get_async(SIZE)) {
            Ok(buffer) => use_and_put(held, 1, buffer),
            Err(error) => assert_eq!(error, GetError::Closed),
        });
        putter.join();
        closer.join();
        assert_eq!(pool.stats().mapped_bytes, 0);
        assert!(pool.reference().classes().region().is_unmapped());
    });
}

#[test]
fn first_come_is_first_served() {
    check_forking(500, || {
        let pool = pool(1);
        let served = Arc::new(AtomicU32::new(0));
        let buffer = pool.get(SIZE).unwrap();
        let waiters: [_; 3] = std::array::from_fn(|place| {
            let (own, served) = (pool.clone(), served.clone());
            let waiter = thread::spawn(move || {
                let buffer = match place {
                    1 => own.get_timeout(SIZE, Duration::MAX),
                    _ => block_on(&mut own.get_async(SIZE)),
                };
                assert_eq!(served.fetch_add(1, AcqRel), place as u32);
                drop(buffer);
            });
            // It waits before the next one comes.
            while pool.stats().waits <= place as u64 {
                thread::yield_now();
            }
            waiter
        });
        drop(buffer);
        waiters.into_iter().for_each(thread::JoinHandle::join);
        assert_whole(&pool, 1);
    });
}
