//! Gets that wait at the limit: nothing handed over is lost, no wake-up is, and first come is first served.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::AcqRel;
use super::sync::{plain_memory, thread};
use super::{check, hold};
use crate::Pool;
use crate::class::mapped_bytes::MappedBytes;
use crate::class::shelf::TestShelf;
use crate::core::wait_queue::{Demand, Parker, WaitQueue};
use crate::error::GetError;
use crate::os::fork::ForkGuard;

const SIZE: usize = 4096;

/// A pool that may have `buffers` buffers at once.
fn pool(buffers: usize) -> Pool {
    Pool::builder().size_class(SIZE, 16).max_bytes(buffers * SIZE).build().unwrap()
}

/// Gets a buffer, uses it, and puts it.
fn wait_and_use(pool: &Pool, held: &AtomicU32, most: u32, timeout: Duration) -> Result<(), GetError> {
    let buffer = pool.get_timeout(SIZE, timeout)?;
    hold(held, most);
    plain_memory::is_used(NonNull::from(&buffer[0]));
    Ok(())
}

/// Runs `body` on so many threads.
fn on_threads<const THREADS: usize>(pool: &Pool, body: impl Fn(&Pool, &AtomicU32) + Clone + Send + 'static) {
    let held = Arc::new(AtomicU32::new(0));
    let threads = [(); THREADS].map(|()| {
        let (pool, held, body) = (pool.clone(), held.clone(), body.clone());
        thread::spawn(move || body(&pool, &held))
    });
    threads.into_iter().for_each(thread::JoinHandle::join);
}

/// At a quiet moment: all room is there to be got.
fn assert_whole(pool: &Pool, buffers: usize) {
    pool.stats().assert_consistent();
    let all: Result<Vec<_>, _> = (0..buffers).map(|_| pool.get(SIZE)).collect();
    assert!(all.is_ok(), "room was lost: {:#?}", pool.stats());
}

/// One frees what the other waits for: either it finds the other counted, or is found to have freed.
fn one_sees_the_other<T: Send + Sync + 'static>(
    make: impl Fn() -> T + Send + Sync + 'static,
    free: fn(&T),
    search: fn(&T) -> bool,
) {
    check(1500, move || {
        let both = Arc::new((WaitQueue::new(), make()));
        let freeing = both.clone();
        let freeing = thread::spawn(move || {
            free(&freeing.1);
            freeing.0.has_waiters()
        });
        let (waiting, parker, guard) = (&both.0, Parker::new(), ForkGuard::new());
        let demand = Demand { class: None, bytes: 1 };
        let waiter = waiting.enter(&mut waiting.lock(&guard), demand, &parker).unwrap();
        let is_found = search(&both.1);
        assert!(freeing.join() || is_found, "a wake-up is lost");
        waiter.leave(&mut waiting.lock(&guard));
    });
}

#[test]
fn who_releases_bytes_sees_who_waits_or_is_seen() {
    let full = || {
        let bytes = MappedBytes::new(1);
        assert!(bytes.try_reserve(1));
        bytes
    };
    one_sees_the_other(full, |bytes| bytes.release(1), |bytes| bytes.try_reserve(1));
}

#[test]
fn who_puts_a_slot_sees_who_waits_or_is_seen() {
    let with_one_out = || {
        let shelf = TestShelf::new(1);
        shelf.take_fresh(None).unwrap();
        shelf
    };
    one_sees_the_other(with_one_out, |shelf| shelf.put(0), |shelf| shelf.take_idle().is_some());
}

#[test]
fn every_waiter_is_served_in_the_end() {
    check(600, || {
        let pool = pool(1);
        on_threads::<3>(&pool, |pool, held| {
            for _ in 0..2 {
                wait_and_use(pool, held, 1, Duration::MAX).unwrap();
            }
        });
        assert_whole(&pool, 1);
    });
}

#[test]
fn timeouts_that_race_with_a_hand_over_lose_nothing() {
    check(600, || {
        let pool = pool(1);
        on_threads::<3>(&pool, |pool, held| {
            for timeout in [Duration::from_millis(1), Duration::MAX] {
                let outcome = wait_and_use(pool, held, 1, timeout);
                assert!(outcome.is_ok() || timeout != Duration::MAX);
            }
        });
        assert_whole(&pool, 1);
    });
}

#[test]
fn waiters_for_more_than_a_slot_get_their_room() {
    check(600, || {
        let pool = pool(2);
        on_threads::<2>(&pool, |pool, _| {
            drop(pool.get_timeout(SIZE, Duration::MAX).unwrap());
            drop(pool.get_timeout(2 * SIZE, Duration::MAX).unwrap());
        });
        assert_whole(&pool, 2);
    });
}

#[test]
fn what_a_thread_keeps_for_itself_is_found() {
    check(600, || {
        let pool = pool(1);
        let other = pool.clone();
        let waiter = thread::spawn(move || drop(other.get_timeout(SIZE, Duration::MAX).unwrap()));
        for _ in 0..4 {
            drop(pool.get_timeout(SIZE, Duration::MAX).unwrap());
        }
        // This thread lives on, with what it has cached.
        waiter.join();
        assert_whole(&pool, 1);
    });
}

#[test]
fn closing_wakes_all_who_wait() {
    check(600, || {
        let pool = pool(1);
        let buffer = pool.get(SIZE).unwrap();
        let threads = [(); 2].map(|()| {
            let pool = pool.clone();
            thread::spawn(move || {
                let outcome = pool.get_timeout(SIZE, Duration::MAX);
                assert!(matches!(outcome, Err(GetError::Closed)));
            })
        });
        pool.close();
        threads.into_iter().for_each(thread::JoinHandle::join);
        drop(buffer);
        assert_eq!(pool.stats().mapped_bytes, 0);
    });
}

#[test]
fn closing_and_putting_at_once_leave_nobody_waiting() {
    check(600, || {
        let pool = pool(1);
        let buffer = pool.get(SIZE).unwrap();
        let putter = thread::spawn(move || drop(buffer));
        let closer = {
            let pool = pool.clone();
            thread::spawn(move || pool.close())
        };
        on_threads::<2>(&pool, |pool, held| {
            let outcome = wait_and_use(pool, held, 1, Duration::MAX);
            assert!(matches!(outcome, Ok(()) | Err(GetError::Closed)));
        });
        putter.join();
        closer.join();
        assert_eq!(pool.stats().mapped_bytes, 0);
        assert!(pool.reference().classes().region().is_unmapped());
    });
}

#[test]
fn first_come_is_first_served() {
    check(600, || {
        let pool = pool(1);
        let served = Arc::new(AtomicU32::new(0));
        let buffer = pool.get(SIZE).unwrap();
        let waiters: [_; 3] = std::array::from_fn(|place| {
            let (own, served) = (pool.clone(), served.clone());
            let waiter = thread::spawn(move || {
                let buffer = own.get_timeout(SIZE, Duration::MAX).unwrap();
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

#[test]
fn who_gives_up_lets_those_behind_have_the_room() {
    check(600, || {
        let pool = pool(2);
        let held = pool.get(SIZE).unwrap();
        let other = pool.clone();
        let large = thread::spawn(move || {
            let outcome = other.get_timeout(2 * SIZE, Duration::from_millis(1));
            assert!(matches!(outcome, Err(GetError::Timeout { .. })));
        });
        // Behind it, if it waits still.
        while pool.stats().waits == 0 {
            thread::yield_now();
        }
        drop(pool.get_timeout(SIZE, Duration::MAX).unwrap());
        large.join();
        drop(held);
        assert_whole(&pool, 2);
    });
}

/// Who has room reserved and gets no memory for it keeps it from those who wait.
#[test]
fn room_that_was_reserved_in_vain_goes_to_who_waits() {
    check(1000, || {
        const MORE_THAN_THERE_IS: usize = 1 << 60;
        let pool = Pool::builder().size_class(SIZE, 16).max_bytes(MORE_THAN_THERE_IS).build().unwrap();
        let other = pool.clone();
        let refused = thread::spawn(move || {
            let outcome = other.get(MORE_THAN_THERE_IS);
            assert!(matches!(outcome, Err(GetError::OutOfMemory { .. } | GetError::Limit { .. })));
        });
        drop(pool.get_timeout(SIZE, Duration::MAX).unwrap());
        refused.join();
        assert_whole(&pool, 1);
    });
}
